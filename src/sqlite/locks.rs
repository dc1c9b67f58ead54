//! The bytes that SQLite's connections lock.
//!
//! Sources: `os_unix.c` and `os.h` for the database file, `wal.c` ("`WALINDEX_LOCK_OFFSET`") and the
//! WAL-mode file format, section 2.3, for the shm.

/// On the database file: taken for a moment by everyone who wants SHARED, and kept by a writer
/// that waits for readers to end.
pub const PENDING: u64 = 0x4000_0000;

/// On the database file: its holder means to write.
pub const RESERVED: u64 = PENDING + 1;

/// On the database file: the first of [`SHARED_SIZE`] bytes that readers share and a writer of
/// the database takes alone.
pub const SHARED_FIRST: u64 = PENDING + 2;

/// How many bytes from [`SHARED_FIRST`].
pub const SHARED_SIZE: u64 = 510;

/// On the shm: the write lock of a WAL.
pub const WRITE: u64 = 120;

/// On the shm: held by the one who checkpoints.
pub const CKPT: u64 = 121;

/// On the shm: held by the one who recovers the wal-index.
pub const RECOVER: u64 = 122;

/// On the shm: the first of [`READERS`] read locks.
pub const READ0: u64 = 123;

/// How many read locks, and read marks, there are.
pub const READERS: usize = 5;

/// On the shm: shared by every connection, so that the first one notices that it is the first.
pub const DMS: u64 = 128;
