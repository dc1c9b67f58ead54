//! The live wal-index: the shm file, mapped, shared with SQLite in other processes.
//!
//! `unsafe`: memory that other processes write can be reached only through pointers. Everything
//! here goes through atomics, and the file never gets shorter (Rule 3), so that no access faults.
#![allow(unsafe_code)]
// Mappings begin at a page, and words and slots are whole steps from there.
#![allow(clippy::cast_ptr_alignment)]

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU16, AtomicU32, Ordering, fence};
use std::sync::{Arc, Mutex, PoisonError};

use memmap2::{MmapOptions, MmapRaw};
use rustix::fs::{FallocateFlags, fallocate};

use crate::sqlite::IndexMemory;
use crate::sqlite::wal_index::{self, REGION_SIZE, SLOTS, slot_offset};

/// 32-bit words of a region.
const WORDS: usize = REGION_SIZE / 4;

/// Regions that a shm opened through the mount has from the beginning, mapped and in the page cache
/// before any application is there: enough for some 130,000 frames. Those beyond are mapped by
/// whoever needs them, perhaps a FUSE worker, which then waits for another one.
const AHEAD: usize = 32;

/// One shm file and its mappings.
pub(super) struct Shm {
    path: PathBuf,
    /// The file itself. Asking it is never a request to our own mount.
    backing: File,
    mapped: Mutex<Mapped>,
}

struct Mapped {
    /// The same file; opened through the mount where the kernel has no passthrough.
    file: File,
    regions: Vec<Arc<MmapRaw>>,
}

/// The regions that were there at one moment; they stay mapped while it lives.
#[derive(Clone)]
pub(super) struct View(Vec<Arc<MmapRaw>>);

impl Shm {
    /// Makes the file, which must not be there: each mount uses new ones (Rule 3). One region.
    pub fn create(path: &Path) -> io::Result<Self> {
        let file = File::options().read(true).write(true).create_new(true).open(path)?;
        let backing = file.try_clone()?;
        let mapped = Mutex::new(Mapped { file, regions: Vec::new() });
        let shm = Self { path: path.to_owned(), backing, mapped };
        shm.grow(1)?;
        Ok(shm)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Another handle of the file itself. Takes no lock: a FUSE worker asks, for somebody who may
    /// hold them.
    pub fn file(&self) -> io::Result<File> {
        self.backing.try_clone()
    }

    /// From now on maps this file instead: the same one, opened through the mount. Nobody uses
    /// the index yet. Not to be called from a FUSE worker, which has to answer meanwhile.
    pub fn replace(&self, file: File) -> io::Result<()> {
        let len = (AHEAD * REGION_SIZE) as u64;
        secure(&self.backing, self.backing.metadata()?.len(), len)?;
        // Asked through the mount, so that the kernel knows the length, too.
        let there = regions_of(file.metadata()?.len());
        let mut mapped = Mapped { file, regions: Vec::new() };
        mapped.map(there)?;
        *self.lock() = mapped;
        Ok(())
    }

    /// All regions there are. Applications add some, too: the file is asked.
    pub fn view(&self) -> io::Result<View> {
        let mut mapped = self.lock();
        mapped.map(regions_of(self.backing.metadata()?.len()))?;
        Ok(View(mapped.regions.clone()))
    }

    /// Makes the file at least so many regions long, with its space secured, so that no store into
    /// a mapping can fail afterwards (Rule 7). Never shortens it.
    pub fn grow(&self, regions: usize) -> io::Result<View> {
        {
            let mapped = self.lock();
            let (have, want) = (self.backing.metadata()?.len(), (regions * REGION_SIZE) as u64);
            secure(&mapped.file, have, want)?;
        }
        self.view()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Mapped> {
        self.mapped.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Mapped {
    fn map(&mut self, there: usize) -> io::Result<()> {
        while self.regions.len() < there {
            let offset = (self.regions.len() * REGION_SIZE) as u64;
            // Into the page cache first: where the file is opened through our own mount, a fault
            // that waits for one of our own threads must not hold what that thread needs.
            self.file.read_exact_at(&mut vec![0; REGION_SIZE], offset)?;
            let region = MmapOptions::new().offset(offset).len(REGION_SIZE).map_raw(&self.file)?;
            self.regions.push(Arc::new(region));
        }
        Ok(())
    }
}

/// Closes the wal-index of an earlier life of the daemon, which applications may still have mapped: the
/// mount beneath them is dead, and a connection that was reading when it died would go on for ever with
/// what it saw then, and be told that the database is busy when it writes (readers-go-on).
pub(super) fn close(path: &Path) -> io::Result<()> {
    let file = File::options().write(true).open(path)?;
    // Never made longer or shorter: it is mapped.
    let header = wal_index::closed();
    if file.metadata()?.len() >= header.len() as u64 {
        file.write_all_at(&header, 0)?;
    }
    Ok(())
}

/// Makes a file longer, with its space secured.
fn secure(file: &File, have: u64, want: u64) -> io::Result<()> {
    if have >= want {
        return Ok(());
    }
    match fallocate(file, FallocateFlags::empty(), 0, want) {
        Ok(()) => Ok(()),
        // Through the mount, or on a file system without: zeros, past the end only.
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => {
            let zeros = vec![0; usize::try_from(want - have).unwrap_or(REGION_SIZE)];
            file.write_all_at(&zeros, have)
        }
        Err(e) => Err(e.into()),
    }
}

fn regions_of(len: u64) -> usize {
    usize::try_from(len).unwrap_or(usize::MAX) / REGION_SIZE
}

impl View {
    /// Where a region is mapped, for SQLite's `xShmMap`. Good while this view lives.
    pub fn region(&self, region: usize) -> Option<*mut u8> {
        self.0.get(region).map(|map| map.as_mut_ptr())
    }

    fn word(&self, region: usize, word: usize) -> Option<&AtomicU32> {
        let map = self.0.get(region).filter(|_| word < WORDS)?;
        // SAFETY: the mapping is REGION_SIZE bytes, page-aligned, and lives as long as `self`;
        // `word` lies within it. Other processes use aligned 32-bit accesses, too.
        Some(unsafe { AtomicU32::from_ptr(map.as_mut_ptr().cast::<u32>().add(word)) })
    }

    fn slot(&self, region: usize, slot: usize) -> Option<&AtomicU16> {
        let map = self.0.get(region).filter(|_| slot < SLOTS)?;
        // SAFETY: as above: the hash table is the region's second half, so the slot lies within
        // it, at an even byte.
        Some(unsafe { AtomicU16::from_ptr(map.as_mut_ptr().add(slot_offset(slot)).cast::<u16>()) })
    }
}

impl IndexMemory for View {
    fn regions(&self) -> usize {
        self.0.len()
    }

    fn load(&self, region: usize, word: usize) -> u32 {
        self.word(region, word).map_or(0, |word| word.load(Ordering::Acquire))
    }

    fn store(&self, region: usize, word: usize, value: u32) {
        if let Some(word) = self.word(region, word) {
            word.store(value, Ordering::Release);
        }
    }

    fn load_u16(&self, region: usize, slot: usize) -> u16 {
        self.slot(region, slot).map_or(0, |slot| slot.load(Ordering::Acquire))
    }

    fn store_u16(&self, region: usize, slot: usize, value: u16) {
        if let Some(slot) = self.slot(region, slot) {
            slot.store(value, Ordering::Release);
        }
    }

    fn barrier(&self) {
        fence(Ordering::SeqCst);
    }
}

// A view may be used on any thread: `MmapRaw` is `Send` and `Sync`, and all access is atomic.

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_mapping_stores_another_loads() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("shm-1");
        let shm = Shm::create(&path).unwrap();
        let old = shm.view().unwrap();
        assert_eq!(old.regions(), 1);
        let view = shm.grow(3).unwrap();
        assert_eq!(view.regions(), 3);
        view.store(0, 5, 77);
        view.store_u16(2, SLOTS - 1, 9);
        view.store(3, 0, 1);
        view.store(2, WORDS, 1);
        let file = shm.file().unwrap();
        let mut bytes = [0; 4];
        file.read_exact_at(&mut bytes, 20).unwrap();
        assert_eq!(u32::from_ne_bytes(bytes), 77);
        assert_eq!(old.load(0, 5), 77);
        shm.replace(file).unwrap();
        assert_eq!(shm.view().unwrap().load_u16(2, SLOTS - 1), 9);
        assert_eq!(view.load(3, 0), 0);
        assert_eq!(shm.file().unwrap().metadata().unwrap().len(), (AHEAD * REGION_SIZE) as u64);
        assert!(Shm::create(&path).is_err());
    }
}
