//! What the mount asks of the write path: the files of the databases, as operations.
//!
//! Every call returns at once, or answers later through its [`Reply`]; a reply is always given,
//! within a configured time (bounded-answer).

use std::fs::File;
use std::sync::Arc;

use crate::core::ports::{ByteRange, KernelCache, LockFile, LockKind};
use crate::core::{DatabaseName, Position};

/// An errno as the kernel takes it (positive). The reason was logged where it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Errno(pub i32);

/// How a deferred answer is given. May be called on any thread, exactly once.
pub type Reply<T> = Box<dyn FnOnce(Result<T, Errno>) + Send>;

/// The four files that SQLite keeps of one database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FileKind {
    Database,
    Journal,
    Wal,
    Shm,
}

/// Who asks: the kernel's lock owner (one a process, or one an open file description).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Owner(pub u64);

/// Who writes. The kernel names the owner that the process's own locks have; a lock of an open file
/// description (`F_OFD_SETLK`) has another.
#[derive(Clone, Copy)]
pub struct Writer<'a> {
    pub owner: Option<Owner>,
    /// The process, as [`LockRequest::pid`] has it. Takes a look at /proc.
    pub pid: &'a dyn Fn() -> u32,
}

/// One open file of an application. Given by the mount, unique while the daemon lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Handle(pub u64);

/// A request for a lock, or for its release.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LockRequest {
    pub handle: Handle,
    pub owner: Owner,
    /// The process, for `F_GETLK`.
    pub pid: u32,
    pub file: LockFile,
    pub range: ByteRange,
    pub kind: LockKind,
    /// `F_SETLKW`: wait for it (within `lock_wait`).
    pub wait: bool,
}

/// The lock that stands in the way of one asked for (`F_GETLK`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conflict {
    pub range: ByteRange,
    pub kind: LockKind,
    pub pid: u32,
}

/// All databases of this node.
pub trait Databases: Send + Sync {
    /// In the order of their names. Those that nobody committed to yet are included.
    fn list(&self) -> Vec<Arc<dyn DatabaseFiles>>;

    fn get(&self, name: &DatabaseName) -> Option<Arc<dyn DatabaseFiles>>;

    /// Begins an empty database file, known to this node only until its first commit.
    /// Returns the one that is there when it exists already.
    fn create(&self, name: &DatabaseName) -> Result<Arc<dyn DatabaseFiles>, Errno>;

    /// Deletes a database on all nodes; answered when a majority holds the deletion.
    fn unlink(&self, name: &DatabaseName, reply: Reply<()>);

    /// The primary's name, when it is known and another node: what `.primary` holds.
    fn primary(&self) -> Option<String>;

    /// How far this node is behind, in milliseconds: what `.lag` holds. 0 on the primary.
    fn lag_ms(&self) -> i64;
}

/// One database, as the mount sees it.
pub trait DatabaseFiles: Send + Sync {
    fn name(&self) -> DatabaseName;

    /// A number that this incarnation of the name has alone, while the daemon lives (Rule 17):
    /// the mount derives the inode numbers from it.
    fn slot(&self) -> u64;

    /// Of the last transaction that a new reader sees: what `<db>-pos` holds.
    fn position(&self) -> Position;

    fn exists(&self, kind: FileKind) -> bool;

    /// Bytes.
    fn size(&self, kind: FileKind) -> Result<u64, Errno>;

    /// An application creates the journal, the WAL or the shm (which the daemon made already:
    /// then nothing happens).
    fn create_file(&self, kind: FileKind, pid: u32) -> Result<(), Errno>;

    /// An application opened a file; `write`: not read-only.
    fn open(&self, kind: FileKind, handle: Handle, write: bool) -> Result<(), Errno>;

    /// The last close of what `open` was called for.
    fn release(&self, kind: FileKind, handle: Handle, owner: Option<Owner>);

    /// Some close of it by `owner`, whose POSIX locks on this file end with it.
    fn flush(&self, kind: FileKind, handle: Handle, owner: Owner);

    /// Up to `len` bytes from `offset`; fewer only at the end of the file. `EUCLEAN`: the disk changed a
    /// page among them, and [`Self::read_mended`] may give the right one.
    fn read(&self, kind: FileKind, handle: Handle, offset: u64, len: u32)
    -> Result<Vec<u8>, Errno>;

    /// As [`Self::read`] of the database file, once what the disk changed is mended; else `EIO`.
    fn read_mended(&self, offset: u64, len: u32, reply: Reply<Vec<u8>>);

    /// Writes all of `data`; the answer is its length. Withheld at the commit point.
    fn write(
        &self,
        kind: FileKind,
        handle: Handle,
        writer: Writer<'_>,
        offset: u64,
        data: Vec<u8>,
        reply: Reply<u32>,
    );

    /// `handle`: absent for truncate(2) by name.
    fn truncate(&self, kind: FileKind, handle: Option<Handle>, len: u64, reply: Reply<()>);

    /// Removes the journal (a commit point in DELETE mode) or the WAL.
    fn unlink_file(&self, kind: FileKind, pid: u32, reply: Reply<()>);

    fn get_lock(&self, request: LockRequest) -> Option<Conflict>;

    fn set_lock(&self, request: LockRequest, reply: Reply<()>);

    /// The file behind the shm, for FUSE passthrough.
    fn shm_backing(&self) -> Result<File, Errno>;

    /// The shm as opened through the mount itself, where the kernel has no passthrough: from now
    /// on the daemon maps this one. Called once, before the first application opens it.
    fn use_shm(&self, through_mount: File) -> Result<(), Errno>;

    /// From now on the kernel may cache this database's file.
    fn use_cache(&self, cache: Arc<dyn KernelCache>);
}
