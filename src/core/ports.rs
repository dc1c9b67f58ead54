//! The traits by which a lower room calls a higher one. The `node` room wires them.

use std::fmt;
use std::io;

/// The two kinds of a POSIX lock, and its absence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LockKind {
    Shared,
    Exclusive,
    Unlock,
}

/// The files of one database that take locks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum LockFile {
    Database,
    Shm,
}

/// A range of bytes, both ends included, as FUSE gives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ByteRange {
    pub start: u64,
    pub end: u64,
}

/// The daemon's own place in a database's lock table: `store` asks here when it checkpoints,
/// never the kernel (a kernel lock on the backing file would not be seen by any application).
///
/// Implemented by `commit`.
pub trait DaemonLocks: Send + Sync {
    /// Takes or releases a lock for the owner `slot` (each of the daemon's SQLite connections,
    /// the applier and each snapshot reader has one of its own). Never waits.
    /// Returns whether it was granted; an unlock always is.
    fn lock(&self, slot: u64, file: LockFile, range: ByteRange, kind: LockKind) -> bool;

    /// Whether anyone holds an exclusive lock in the range (SQLite's `xCheckReservedLock`).
    fn is_locked_exclusively(&self, file: LockFile, range: ByteRange) -> bool;
}

/// The kernel's page cache of a database file in the mount.
///
/// Rule 16: the daemon's changes are invalidated here before they become reachable, never from a
/// FUSE worker, nor under a lock that a reader needs.
///
/// Implemented by `mount`.
pub trait KernelCache: Send + Sync {
    /// Drops the given bytes of the database file, and its cached attributes. `len` 0: to the end.
    fn invalidate(&self, offset: u64, len: u64);

    /// These bytes are in the database file, which may have grown: no reader believes any more that
    /// it ends before them. Called before the bytes can be reached, and before [`Self::invalidate`].
    fn grown(&self, offset: u64, bytes: &[u8]);
}

/// The mark of the Raft log: up to which entry it is committed.
///
/// Rule 10: durable before what an entry changed goes into a database file. Else the file could, after
/// a power loss, hold what the replay of the log does not reach.
///
/// Implemented by `commit`.
pub trait CommittedMark: Send + Sync {
    /// Blocks until the mark of all that was applied so far is on the disk.
    ///
    /// # Errors
    /// The log's disk failed, or the log is closed.
    fn sync(&self) -> io::Result<()>;

    /// Whether it is known to be, up to this entry.
    fn covers(&self, _index: u64) -> bool {
        false
    }
}

/// No log: while it is replayed, and in tests.
#[derive(Debug, Default, Clone, Copy)]
pub struct NoMark;

impl CommittedMark for NoMark {
    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}

/// A cache that is not there: before the mount is up, and in tests.
#[derive(Debug, Default, Clone, Copy)]
pub struct NoKernelCache;

impl KernelCache for NoKernelCache {
    fn invalidate(&self, _offset: u64, _len: u64) {}
    fn grown(&self, _offset: u64, _bytes: &[u8]) {}
}

impl fmt::Display for LockFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            LockFile::Database => "database",
            LockFile::Shm => "shm",
        })
    }
}
