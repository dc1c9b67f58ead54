//! The header of the wal-index: two copies of what the WAL holds, then what checkpoints and
//! readers note (WAL-mode file format, sections 2.1 to 2.2).

use super::locks::READERS;
use super::wal::{Checksum, Salts, WalTip, checksum};
use super::wal_index::{IndexError, IndexMemory};

/// 32-bit words of one copy of the header.
const HEADER_WORDS: usize = 12;

/// Words that the header's checksum covers.
const CHECKED_WORDS: usize = 10;

/// Where `nBackfill` stands, in words; the read marks follow it.
const BACKFILL: usize = 24;

/// Where `nBackfillAttempted` stands, in words: after the lock bytes.
const BACKFILL_ATTEMPTED: usize = 32;

/// The only version of the wal-index there is.
const VERSION: u32 = 3_007_000;

/// A version that there will never be.
const CLOSED: u32 = u32::MAX;

/// A read mark that no reader uses.
pub const READ_MARK_NOT_USED: u32 = u32::MAX;

/// One copy of the header.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct IndexHeader {
    /// Raised by every transaction (`iChange`): readers see by it that their cache is stale.
    pub change: u32,
    /// Whether checksums in the WAL read 32-bit words big-endian.
    pub big_endian: bool,
    /// Bytes; 0 in an index that was initialised while the WAL was empty.
    pub page_size: u32,
    /// The last committed frame (`mxFrame`).
    pub max_frame: u32,
    /// The size of the database, in pages.
    pub pages: u32,
    /// Of the last committed frame. Means nothing while `max_frame` is 0.
    pub frame_checksum: Checksum,
    pub salts: Salts,
}

/// One of the two copies of the header. Writers write the second before the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeaderCopy {
    First,
    Second,
}

impl IndexHeader {
    /// Of an index whose WAL ends at `tip`.
    pub fn of_tip(tip: &WalTip, change: u32) -> Self {
        Self {
            change,
            big_endian: tip.big_endian,
            page_size: tip.page_size,
            max_frame: tip.frame,
            pages: tip.pages,
            frame_checksum: tip.checksum,
            salts: tip.salts,
        }
    }

    /// Where the WAL ends (Rule 4: this, read under byte 120, is the append position). `None`
    /// when it holds no committed frame: whoever writes next begins it with a new header.
    pub fn tip(&self) -> Option<WalTip> {
        (self.max_frame != 0).then_some(WalTip {
            page_size: self.page_size,
            frame: self.max_frame,
            checksum: self.frame_checksum,
            salts: self.salts,
            big_endian: self.big_endian,
            pages: self.pages,
        })
    }

    fn encode(&self) -> [u32; HEADER_WORDS] {
        // 65536 is stored as 1: its upper half moved down (`walFrames`, szPage).
        let [size_0, size_1] =
            (((self.page_size & 0xff00) | (self.page_size >> 16)) as u16).to_ne_bytes();
        let (salts, _) = self.salts.0.as_chunks::<4>();
        let salt = |n: usize| salts.get(n).copied().map_or(0, u32::from_ne_bytes);
        let mut words = [
            VERSION,
            0,
            self.change,
            u32::from_ne_bytes([1, u8::from(self.big_endian), size_0, size_1]),
            self.max_frame,
            self.pages,
            self.frame_checksum.0,
            self.frame_checksum.1,
            salt(0),
            salt(1),
            0,
            0,
        ];
        let (s0, s1) = words_checksum(&words);
        words[CHECKED_WORDS] = s0;
        words[CHECKED_WORDS + 1] = s1;
        words
    }

    fn decode(words: &[u32; HEADER_WORDS]) -> Result<Self, IndexError> {
        let [initialised, big_endian, size_0, size_1] = words[3].to_ne_bytes();
        if initialised == 0 {
            return Err(IndexError::NotInitialised);
        }
        if words_checksum(words) != (words[CHECKED_WORDS], words[CHECKED_WORDS + 1]) {
            return Err(IndexError::HeaderChecksum);
        }
        if words[0] != VERSION {
            return Err(IndexError::Version(words[0]));
        }
        let size = u32::from(u16::from_ne_bytes([size_0, size_1]));
        let mut salts = Salts::default();
        salts.0[..4].copy_from_slice(&words[8].to_ne_bytes());
        salts.0[4..].copy_from_slice(&words[9].to_ne_bytes());
        Ok(Self {
            change: words[2],
            big_endian: big_endian != 0,
            page_size: (size & 0xfe00) | ((size & 1) << 16),
            max_frame: words[4],
            pages: words[5],
            frame_checksum: (words[6], words[7]),
            salts,
        })
    }
}

/// Both copies of a header that closes a wal-index for good: whole, and of a version that no SQLite
/// knows. Whoever still has it mapped is told `SQLITE_CANTOPEN` when it next begins to read
/// (`walIndexReadHdr`), without asking for a lock.
#[must_use]
pub fn closed() -> Vec<u8> {
    let mut words = IndexHeader::default().encode();
    words[0] = CLOSED;
    let (s0, s1) = words_checksum(&words);
    words[CHECKED_WORDS] = s0;
    words[CHECKED_WORDS + 1] = s1;
    words.iter().chain(&words).flat_map(|word| word.to_ne_bytes()).collect()
}

/// The checksum of the words that it covers, in the machine's own byte order.
fn words_checksum(words: &[u32; HEADER_WORDS]) -> Checksum {
    let mut bytes = [0; CHECKED_WORDS * 4];
    for (to, word) in bytes.chunks_exact_mut(4).zip(words) {
        to.copy_from_slice(&word.to_ne_bytes());
    }
    checksum(&bytes, (0, 0), cfg!(target_endian = "big"))
}

fn words(mem: &impl IndexMemory, copy: HeaderCopy) -> [u32; HEADER_WORDS] {
    let first = match copy {
        HeaderCopy::First => 0,
        HeaderCopy::Second => HEADER_WORDS,
    };
    std::array::from_fn(|word| mem.load(0, first + word))
}

fn store(mem: &impl IndexMemory, copy: HeaderCopy, words: &[u32; HEADER_WORDS]) {
    let first = match copy {
        HeaderCopy::First => 0,
        HeaderCopy::Second => HEADER_WORDS,
    };
    for (at, word) in words.iter().enumerate() {
        mem.store(0, first + at, *word);
    }
}

/// Reads the header: both copies have to be equal and their checksum right, as readers of SQLite
/// want it (`walIndexTryHdr`). While a writer is between the two copies this fails for a moment.
pub fn read_header(mem: &impl IndexMemory) -> Result<IndexHeader, IndexError> {
    need_region_0(mem)?;
    let first = words(mem, HeaderCopy::First);
    mem.barrier();
    if first != words(mem, HeaderCopy::Second) {
        return Err(IndexError::HeaderCopiesDiffer);
    }
    IndexHeader::decode(&first)
}

/// Writes both copies of the header: the second, a barrier, the first (`walIndexWriteHdr`). The
/// caller holds byte 120. This is what makes a transaction visible (Rule 2).
pub fn write_header(mem: &impl IndexMemory, header: &IndexHeader) -> Result<(), IndexError> {
    need_region_0(mem)?;
    let words = header.encode();
    // What was appended must be there before the header that says so.
    mem.barrier();
    store(mem, HeaderCopy::Second, &words);
    mem.barrier();
    store(mem, HeaderCopy::First, &words);
    mem.barrier();
    Ok(())
}

/// Makes the two copies equal after their writer died between them (Rule 3): the second is
/// written first, so it wins if it is whole; else the first stands. Returns which copy was taken,
/// `None` when they were equal. The caller holds byte 120.
///
/// # Errors
/// When neither copy is whole: the index has to be built anew.
pub fn repair_header(mem: &impl IndexMemory) -> Result<Option<HeaderCopy>, IndexError> {
    need_region_0(mem)?;
    let first = words(mem, HeaderCopy::First);
    let second = words(mem, HeaderCopy::Second);
    if first == second {
        return IndexHeader::decode(&first).map(|_| None);
    }
    if IndexHeader::decode(&second).is_ok() {
        store(mem, HeaderCopy::First, &second);
        mem.barrier();
        return Ok(Some(HeaderCopy::Second));
    }
    IndexHeader::decode(&first)?;
    store(mem, HeaderCopy::Second, &first);
    mem.barrier();
    Ok(Some(HeaderCopy::First))
}

/// What checkpoints and readers note, behind the two copies of the header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckpointInfo {
    /// Frames that are in the database file (`nBackfill`).
    pub backfill: u32,
    /// Frames that may be in it, if a checkpoint ended midway (`nBackfillAttempted`).
    pub backfill_attempted: u32,
    /// Up to which frame a reader of each read lock looks; [`READ_MARK_NOT_USED`]: no reader.
    /// The first is always 0.
    pub read_marks: [u32; READERS],
}

impl CheckpointInfo {
    /// As recovery leaves it (`walIndexRecover`).
    pub fn recovered(max_frame: u32) -> Self {
        let mut read_marks = [READ_MARK_NOT_USED; READERS];
        read_marks[0] = 0;
        if max_frame != 0 {
            read_marks[1] = max_frame;
        }
        Self { backfill: 0, backfill_attempted: max_frame, read_marks }
    }
}

/// Reads what checkpoints and readers noted. Each number is whole, but they need not be of one
/// moment.
pub fn checkpoint_info(mem: &impl IndexMemory) -> Result<CheckpointInfo, IndexError> {
    need_region_0(mem)?;
    Ok(CheckpointInfo {
        backfill: mem.load(0, BACKFILL),
        backfill_attempted: mem.load(0, BACKFILL_ATTEMPTED),
        read_marks: std::array::from_fn(|mark| mem.load(0, BACKFILL + 1 + mark)),
    })
}

/// Notes how many frames are in the database file. The caller holds byte 121 (or 120 and all
/// readers' bytes, for 0), and has synced the database (Rules 10 and 11).
pub fn set_backfill(mem: &impl IndexMemory, frames: u32) -> Result<(), IndexError> {
    need_region_0(mem)?;
    mem.store(0, BACKFILL, frames);
    Ok(())
}

/// Notes how many frames a checkpoint is about to write. The caller holds byte 121.
pub fn set_backfill_attempted(mem: &impl IndexMemory, frames: u32) -> Result<(), IndexError> {
    need_region_0(mem)?;
    mem.store(0, BACKFILL_ATTEMPTED, frames);
    Ok(())
}

/// Sets a read mark. The caller holds that reader's byte alone.
pub fn set_read_mark(mem: &impl IndexMemory, reader: usize, frame: u32) -> Result<(), IndexError> {
    need_region_0(mem)?;
    if reader >= READERS {
        return Err(IndexError::Reader(reader));
    }
    mem.store(0, BACKFILL + 1 + reader, frame);
    Ok(())
}

/// Initialises an index (Rule 3), as recovery ends (`walIndexRecover`): notes for checkpoints and
/// readers, then the header. Frames up to `header.max_frame` were entered before, by
/// [`append`](super::wal_index::append). No application may have the index open.
pub fn initialise(mem: &impl IndexMemory, header: &IndexHeader) -> Result<(), IndexError> {
    need_region_0(mem)?;
    let info = CheckpointInfo::recovered(header.max_frame);
    set_backfill(mem, info.backfill)?;
    set_backfill_attempted(mem, info.backfill_attempted)?;
    for (reader, mark) in info.read_marks.into_iter().enumerate() {
        set_read_mark(mem, reader, mark)?;
    }
    write_header(mem, header)
}

fn need_region_0(mem: &impl IndexMemory) -> Result<(), IndexError> {
    if mem.regions() == 0 { Err(IndexError::Region(0)) } else { Ok(()) }
}
