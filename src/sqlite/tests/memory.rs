//! Two wal-indexes for tests: in memory, and a file that SQLite has mapped.

use std::cell::RefCell;
use std::fs::File;
use std::path::Path;

use memmap2::{MmapOptions, MmapRaw};

use crate::sqlite::IndexMemory;
use crate::sqlite::wal_index::{REGION_SIZE, slot_offset};

pub struct VecMemory(RefCell<Vec<u8>>);

impl VecMemory {
    pub fn new(regions: usize) -> Self {
        Self(RefCell::new(vec![0; regions * REGION_SIZE]))
    }
}

impl IndexMemory for VecMemory {
    fn regions(&self) -> usize {
        self.0.borrow().len() / REGION_SIZE
    }
    fn load(&self, region: usize, word: usize) -> u32 {
        let at = region * REGION_SIZE + word * 4;
        u32::from_ne_bytes(self.0.borrow()[at..at + 4].try_into().unwrap())
    }
    fn store(&self, region: usize, word: usize, value: u32) {
        let at = region * REGION_SIZE + word * 4;
        self.0.borrow_mut()[at..at + 4].copy_from_slice(&value.to_ne_bytes());
    }
    fn load_u16(&self, region: usize, slot: usize) -> u16 {
        let at = region * REGION_SIZE + slot_offset(slot);
        u16::from_ne_bytes(self.0.borrow()[at..at + 2].try_into().unwrap())
    }
    fn store_u16(&self, region: usize, slot: usize, value: u16) {
        let at = region * REGION_SIZE + slot_offset(slot);
        self.0.borrow_mut()[at..at + 2].copy_from_slice(&value.to_ne_bytes());
    }
    fn barrier(&self) {}
}

/// A live index, mapped as SQLite maps it.
pub struct LiveMemory {
    pub file: File,
    map: MmapRaw,
}

/// How many regions are mapped, whether the file has them yet or not.
const MAPPED: usize = 16;

impl LiveMemory {
    pub fn open(path: &Path) -> Self {
        let file = File::options().read(true).write(true).open(path).unwrap();
        let map = MmapOptions::new().len(MAPPED * REGION_SIZE).map_raw(&file).unwrap();
        Self { file, map }
    }

    pub fn grow(&self, regions: usize) {
        let len = (regions * REGION_SIZE) as u64;
        if self.file.metadata().unwrap().len() < len {
            self.file.set_len(len).unwrap();
        }
    }

    /// Where `bytes` bytes stand, which the file has.
    fn at<T>(&self, region: usize, byte: usize) -> *mut T {
        assert!(region < self.regions() && byte + size_of::<T>() <= REGION_SIZE);
        self.map.as_mut_ptr().wrapping_add(region * REGION_SIZE + byte).cast()
    }
}

// SAFETY: `at` checks that the bytes are mapped and in the file; the offsets that this room uses
// are aligned; volatile, since other processes and threads change them.
#[allow(unsafe_code)]
impl IndexMemory for LiveMemory {
    fn regions(&self) -> usize {
        (self.file.metadata().unwrap().len() as usize / REGION_SIZE).min(MAPPED)
    }
    fn load(&self, region: usize, word: usize) -> u32 {
        unsafe { self.at::<u32>(region, word * 4).read_volatile() }
    }
    fn store(&self, region: usize, word: usize, value: u32) {
        unsafe { self.at::<u32>(region, word * 4).write_volatile(value) }
    }
    fn load_u16(&self, region: usize, slot: usize) -> u16 {
        unsafe { self.at::<u16>(region, slot_offset(slot)).read_volatile() }
    }
    fn store_u16(&self, region: usize, slot: usize, value: u16) {
        unsafe { self.at::<u16>(region, slot_offset(slot)).write_volatile(value) }
    }
    fn barrier(&self) {
        std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
    }
}
