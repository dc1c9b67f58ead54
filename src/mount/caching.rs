//! What the kernel may cache of each file, and for how long it may believe its attributes.
//!
//! | file | data | attributes | because |
//! |---|---|---|---|
//! | database | page cache, kept over opens | never | readers share it; the daemon's own changes are dropped from it explicitly (Rule 16); believed attributes would show a size of before the last checkpoint |
//! | WAL | never | never | cached writes arrive split, and one that failed was answered COMMIT OK |
//! | journal | never | never | its deletion is a commit point, seen by other processes at once |
//! | shm | passthrough, or kept | never | a mapping shared with the daemon; a cached size makes SQLite zero a live hash |
//! | `-pos`, `.primary`, `.lag` | never | never | made at each read |
//!
//! Nowhere is anything written back later (`FUSE_WRITEBACK_CACHE`): COMMIT returned unseen.

use std::time::Duration;

use fuser::FopenFlags;

use super::names::Part;

/// How long the kernel believes the folder's attributes, which do not change.
pub(super) const FOLDER: Duration = Duration::from_secs(1);

/// For files that other processes, or this daemon, change at any time: all of them. Reads of what
/// the kernel has cached ask for no attributes.
pub(super) const NEVER: Duration = Duration::ZERO;

/// How a file made at each read is opened: it has no locks, so that no FLUSH is asked for.
pub(super) const MADE_AT_READ: FopenFlags =
    FopenFlags::FOPEN_DIRECT_IO.union(FopenFlags::FOPEN_NOFLUSH);

/// How a file is opened that is not the shm in passthrough.
pub(super) fn open_flags(part: Part) -> FopenFlags {
    match part {
        // FLUSH is wanted of both: POSIX locks end with it.
        Part::Database | Part::Shm => FopenFlags::FOPEN_KEEP_CACHE,
        // Without the parallel flag each write would wait for the one before it, which may be
        // withheld at its commit point.
        Part::Wal => {
            FopenFlags::FOPEN_DIRECT_IO
                | FopenFlags::FOPEN_PARALLEL_DIRECT_WRITES
                | FopenFlags::FOPEN_NOFLUSH
        }
        Part::Journal | Part::Position => MADE_AT_READ,
    }
}

/// How the daemon's own open of a shm through the mount is answered. Without FLUSH: closing would
/// otherwise ask this process for an answer, also when it was killed and cannot give one, and a
/// killed daemon would hang in the kernel for ever.
pub(super) const OWN_SHM: FopenFlags =
    FopenFlags::FOPEN_KEEP_CACHE.union(FopenFlags::FOPEN_NOFLUSH);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invisible_until_committed_neither_wal_nor_journal_is_cached() {
        for part in [Part::Wal, Part::Journal] {
            assert!(open_flags(part).contains(FopenFlags::FOPEN_DIRECT_IO));
            assert!(!open_flags(part).contains(FopenFlags::FOPEN_KEEP_CACHE));
        }
    }

    #[test]
    fn files_with_posix_locks_are_flushed() {
        for part in [Part::Database, Part::Shm] {
            assert!(!open_flags(part).contains(FopenFlags::FOPEN_NOFLUSH));
        }
    }
}
