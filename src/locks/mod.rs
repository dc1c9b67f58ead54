//! POSIX byte-range locks of one file: what fcntl(2) promises, for locks that the kernel hands to
//! the daemon.
//!
//! [`LockTable`] holds the locks and the queue of those who wait. An owner is whatever the caller
//! says: a process, an open file description (`F_OFD_*`), or a part of the daemon itself.
//!
//! Promises: `F_SETLK` and `F_GETLK` are exact (SQLite's first opener decides by `F_GETLK` on the
//! DMS byte whether it may truncate the shm; ENGINE.md, Locks). bounded-answer: every waiter has a
//! deadline, so that a deadlock among waiters ends by itself; POSIX's EDEADLK is not needed.
//!
//! Knows of `core`. Pure: no I/O, no clock, no tokio.

mod range;
mod table;
mod waiters;

pub use table::{Conflict, Lock, LockTable};
pub use waiters::WaiterId;
