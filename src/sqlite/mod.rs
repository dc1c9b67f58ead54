//! The file formats of SQLite: WAL, wal-index, rollback journal, database header, and the bytes
//! its connections lock.
//!
//! Promises nothing by itself; `capture` and `store` keep theirs by it: Rule 3 (the daemon
//! initialises and repairs wal-indexes) and Rule 4 (the append position is read from the live
//! wal-index) are worked by [`wal_index`].
//!
//! Knows of `core` only. Pure: the live wal-index is reached through [`IndexMemory`]. Sources: the
//! "Database File Format" and "WAL-mode File Format" documents of SQLite, and its `wal.c` and
//! `pager.c`.

#[cfg(any(test, fuzzing))]
pub mod fuzzing;
pub mod header;
pub mod index_header;
pub mod journal;
pub mod locks;
pub mod wal;
pub mod wal_index;

pub use header::{DatabaseHeader, HeaderError};
pub use index_header::{CheckpointInfo, HeaderCopy, IndexHeader};
pub use journal::{JournalHeader, JournalRecord, SuperJournal};
pub use wal::{FrameHeader, Salts, WalError, WalHeader, WalTip};
pub use wal_index::{IndexError, IndexMemory};

/// The smallest page size of SQLite, bytes (file format 1.3.2).
pub const MIN_PAGE_SIZE: u32 = 512;

/// The largest page size of SQLite, bytes (file format 1.3.2).
pub const MAX_PAGE_SIZE: u32 = 65_536;

/// Whether SQLite knows this page size: a power of two from 512 to 65536 (file format 1.3.2).
pub fn is_page_size(bytes: u32) -> bool {
    bytes.is_power_of_two() && (MIN_PAGE_SIZE..=MAX_PAGE_SIZE).contains(&bytes)
}

/// The page that holds the lock bytes and is never read nor written (file format 1.5).
/// `page_size` 0, which no database has, gives 0.
pub fn lock_page(page_size: u32) -> u32 {
    (locks::PENDING as u32).checked_div(page_size).map_or(0, |before| before + 1)
}

/// Bytes `at..at + 4` as a big-endian number; 0 beyond the end.
fn be32(bytes: &[u8], at: usize) -> u32 {
    match bytes.get(at..at + 4) {
        Some([a, b, c, d]) => u32::from_be_bytes([*a, *b, *c, *d]),
        _ => 0,
    }
}

/// Bytes `at..at + 2` as a big-endian number; 0 beyond the end.
fn be16(bytes: &[u8], at: usize) -> u16 {
    match bytes.get(at..at + 2) {
        Some([a, b]) => u16::from_be_bytes([*a, *b]),
        _ => 0,
    }
}

#[cfg(test)]
mod tests;
