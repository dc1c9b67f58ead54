//! The wal-index (the `-shm` file): which frame of the WAL holds which page (WAL-mode file
//! format, section 2).
//!
//! The file is regions of 32 KiB. Each holds an array of page numbers, one a frame, and a hash
//! table from page numbers to entries of that array. In the first region the header takes the
//! place of the first 34 page numbers.

pub use super::index_header::{
    checkpoint_info, closed, initialise, read_header, repair_header, set_backfill,
    set_backfill_attempted, set_read_mark, write_header,
};

/// Bytes of a region.
pub const REGION_SIZE: usize = 32_768;

/// Frames of a region after the first.
const REGION_FRAMES: u32 = 4096;

/// Frames of the first region.
const REGION_0_FRAMES: u32 = REGION_FRAMES - HEADER_WORDS as u32;

/// 32-bit words that the header takes in the first region.
const HEADER_WORDS: usize = 34;

/// Where the hash table begins in a region, in 32-bit words.
const HASH_WORD: usize = REGION_FRAMES as usize;

/// Slots of a region's hash table, 16 bits each.
pub const SLOTS: usize = 8192;

/// What a page number is multiplied by to find its slot.
const HASH_FACTOR: u32 = 383;

/// Why a wal-index cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IndexError {
    #[error("the wal-index has no region {0}: the file has to grow first")]
    Region(usize),
    #[error("the wal-index is not initialised")]
    NotInitialised,
    #[error("the two headers of the wal-index differ: a writer is between them, or died there")]
    HeaderCopiesDiffer,
    #[error("the checksum of the wal-index header is wrong: it has to be built anew")]
    HeaderChecksum,
    #[error("the wal-index has format version {0}, which is not known")]
    Version(u32),
    #[error("a hash table of the wal-index (region {0}) is full of foreign entries: damaged")]
    HashFull(usize),
    #[error("there is no reader {0}: read marks are 0 to 4")]
    Reader(usize),
    #[error("frames are numbered from 1 to 4294967295")]
    Frame,
}

/// The bytes of a wal-index: a live one, shared with SQLite in other processes, or a test's.
///
/// All numbers are in the machine's byte order. Loads and stores are single, whole (not torn) and
/// not moved across [`barrier`](Self::barrier). Beyond the regions there are, loads give 0 and
/// stores do nothing; the functions of this room ask [`regions`](Self::regions) first.
pub trait IndexMemory {
    /// How many regions of [`REGION_SIZE`] bytes are mapped.
    fn regions(&self) -> usize;

    /// The 32-bit word at byte `4 * word` of the region.
    fn load(&self, region: usize, word: usize) -> u32;

    fn store(&self, region: usize, word: usize, value: u32);

    /// Slot `slot` (below [`SLOTS`]) of the region's hash table: the 16 bits at byte
    /// `16384 + 2 * slot` of the region ([`slot_offset`]).
    fn load_u16(&self, region: usize, slot: usize) -> u16;

    /// Stores into a slot, after all stores before it.
    fn store_u16(&self, region: usize, slot: usize, value: u16);

    /// A full memory barrier.
    fn barrier(&self);
}

/// Where a slot of a region's hash table stands, in bytes from the region's start.
pub fn slot_offset(slot: usize) -> usize {
    HASH_WORD * 4 + slot * 2
}

/// How many regions an index needs for frames up to `frame`. Even an empty one has the first.
pub fn regions_for(frame: u32) -> usize {
    region_of(frame.max(1)) + 1
}

/// Which region holds the entry of a frame (`walFramePage`). `frame` is not 0.
fn region_of(frame: u32) -> usize {
    match frame.checked_sub(REGION_0_FRAMES + 1) {
        None => 0,
        Some(beyond) => (beyond / REGION_FRAMES) as usize + 1,
    }
}

/// A region's arrays (`WalHashLoc`).
#[derive(Clone, Copy)]
struct Region {
    number: usize,
    /// The frame before its first (`iZero`).
    before: u32,
    /// The word of its first page number.
    first_word: usize,
}

impl Region {
    fn new(mem: &impl IndexMemory, number: usize) -> Result<Self, IndexError> {
        if number >= mem.regions() {
            return Err(IndexError::Region(number));
        }
        let (before, first_word) = match number.checked_sub(1) {
            None => (0, HEADER_WORDS),
            Some(n) => (REGION_0_FRAMES.saturating_add(n as u32 * REGION_FRAMES), 0),
        };
        Ok(Self { number, before, first_word })
    }

    fn of_frame(mem: &impl IndexMemory, frame: u32) -> Result<Self, IndexError> {
        if frame == 0 {
            return Err(IndexError::Frame);
        }
        Self::new(mem, region_of(frame))
    }

    /// The page of the region's `entry`th frame, counted from 1.
    fn page(&self, mem: &impl IndexMemory, entry: u32) -> u32 {
        match entry.checked_sub(1) {
            Some(at) => mem.load(self.number, self.first_word + at as usize),
            None => 0,
        }
    }

    fn set_page(&self, mem: &impl IndexMemory, entry: u32, page: u32) {
        if let Some(at) = entry.checked_sub(1) {
            mem.store(self.number, self.first_word + at as usize, page);
        }
    }

    /// How many entries it can hold.
    fn capacity(&self) -> u32 {
        (HASH_WORD - self.first_word) as u32
    }

    /// Removes every entry beyond the first `keep` (`walCleanupHash`): what a writer left who
    /// died, or was refused, in the middle of a transaction. Readers never look at those.
    fn keep_only(&self, mem: &impl IndexMemory, keep: u32) {
        for slot in 0..SLOTS {
            if u32::from(mem.load_u16(self.number, slot)) > keep {
                mem.store_u16(self.number, slot, 0);
            }
        }
        for entry in keep + 1..=self.capacity() {
            self.set_page(mem, entry, 0);
        }
    }

    fn enter(&self, mem: &impl IndexMemory, frame: u32, page: u32) -> Result<(), IndexError> {
        let entry = frame - self.before;
        // SQLite removes only what lies beyond the last *commit* when it finds an entry in its
        // way. Here the entries of this very call stay: a writer killed within its own removal
        // leaves gaps, and the second find must not take what was entered after the first.
        if entry == 1 || self.page(mem, entry) != 0 {
            self.keep_only(mem, entry - 1);
        }
        let mut slot = hash(page);
        for _ in 0..entry {
            if mem.load_u16(self.number, slot) == 0 {
                self.set_page(mem, entry, page);
                mem.store_u16(self.number, slot, entry as u16);
                return Ok(());
            }
            slot = next(slot);
        }
        Err(IndexError::HashFull(self.number))
    }

    /// The last of the region's frames from `min` to `max` that holds the page.
    fn find(
        &self,
        mem: &impl IndexMemory,
        page: u32,
        min: u32,
        max: u32,
    ) -> Result<Option<u32>, IndexError> {
        let mut found = None;
        let mut slot = hash(page);
        for _ in 0..SLOTS {
            let entry = u32::from(mem.load_u16(self.number, slot));
            if entry == 0 {
                return Ok(found);
            }
            let frame = self.before.saturating_add(entry);
            let known = entry <= self.capacity() && (min..=max).contains(&frame);
            if known && self.page(mem, entry) == page {
                found = found.max(Some(frame));
            }
            slot = next(slot);
        }
        Err(IndexError::HashFull(self.number))
    }
}

/// The slot that a page's search begins at (`walHash`).
fn hash(page: u32) -> usize {
    page.wrapping_mul(HASH_FACTOR) as usize & (SLOTS - 1)
}

fn next(slot: usize) -> usize {
    (slot + 1) & (SLOTS - 1)
}

/// Enters frames, the first of which is `first_frame`, for these pages (`walIndexAppend`). What
/// lies beyond in the way is removed. Readers do not see it before [`write_header`]. The caller
/// holds byte 120, and the regions are there ([`regions_for`]).
pub fn append(mem: &impl IndexMemory, first_frame: u32, pages: &[u32]) -> Result<(), IndexError> {
    let count = u32::try_from(pages.len()).map_err(|_| IndexError::Frame)?;
    let Some(last) = count.checked_sub(1) else { return Ok(()) };
    let last_frame = first_frame.checked_add(last).ok_or(IndexError::Frame)?;
    // Nothing is entered if something is missing.
    Region::of_frame(mem, first_frame)?;
    Region::of_frame(mem, last_frame)?;
    for (frame, page) in (first_frame..=last_frame).zip(pages) {
        Region::of_frame(mem, frame)?.enter(mem, frame, *page)?;
    }
    Ok(())
}

/// The last frame of `min_frame` to `max_frame` that holds the page; `None`: it is in the database
/// file (`walFindFrame`). `max_frame` is the header's, or an open reader's.
pub fn lookup(
    mem: &impl IndexMemory,
    max_frame: u32,
    page: u32,
    min_frame: u32,
) -> Result<Option<u32>, IndexError> {
    if max_frame == 0 {
        return Ok(None);
    }
    let min_frame = min_frame.max(1);
    for number in (region_of(min_frame)..=region_of(max_frame)).rev() {
        let found = Region::new(mem, number)?.find(mem, page, min_frame, max_frame)?;
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

/// The page that a frame holds (`walFramePgno`); 0: nothing was entered for it.
pub fn frame_page(mem: &impl IndexMemory, frame: u32) -> Result<u32, IndexError> {
    let region = Region::of_frame(mem, frame)?;
    Ok(region.page(mem, frame - region.before))
}
