//! FUSE: the kernel's requests in, answers out. The databases are the files of one flat folder.
//!
//! What stands here is the kernel's side only: names, inode numbers, attributes, what the kernel
//! may cache, and how each request becomes a call of [`commit::door`](crate::commit::door).
//! What a write, a lock or an unlink *means* is decided behind that door.
//!
//! ```text
//! kernel -> filesystem (one method a request, panics caught)
//!             -> folder    lookup, readdir, unlink; what is refused
//!             -> open      open, create, flush, release
//!             -> shm       passthrough, or through the mount itself
//!             -> content   read, write, truncate
//!             -> locks     F_GETLK, F_SETLK, F_SETLKW
//! ```
//!
//! Two worker threads read requests. A call that takes long (the commit point, a lock, a truncate,
//! an unlink) is answered by whoever calls its [`Reply`](crate::commit::door::Reply), on any
//! thread; reads, opens and creations are answered by the worker itself.
//!
//! Keeps:
//! - **invisible-until-committed**, its kernel half: the WAL is never cached, nothing is written
//!   back later, so no reader sees a page that the write path has not let through ([`caching`]).
//! - **bounded-answer**, its kernel half: a handler that panics or loses its reply answers EIO;
//!   unmounting ends within [`session`]'s bounds.
//! - **Rule 3**: no application opens a shm before the daemon maps it ([`shm`]).
//! - **Rule 16**: the kernel's pages of a database are dropped only when asked for ([`caching`]),
//!   through `notify`, whose calls belong to no FUSE worker.
//! - **Rule 17**: inode numbers come from a database's slot and are never used again ([`inodes`]).
//!
//! For whoever stands behind the door, where the kernel has no passthrough: the file given to
//! `use_shm` is one of this daemon's own mount, so that each operation on it may be a request to
//! this daemon.
//! - Best read and written (pread, pwrite: the same page cache that the applications map). Mapped,
//!   it must not be unmapped before [`Mount::stop`] has returned: unmapping waits until the kernel
//!   has written the pages back, under the lock of the process's memory, which the worker that
//!   should answer wants as soon as it allocates. Run on 6.18, it hung, also after SIGKILL, until
//!   the connection was ended from outside, as the next start does. Older kernels, which are those
//!   without passthrough, copy the pages and do not wait (read, not run).
//! - Never from a FUSE worker, of which there are two, nor under a lock that `read` or `write` needs.
//! - Read and written only, it is to be closed before [`Mount::stop`], which otherwise waits for it
//!   and then ends the connection by force: a mapping is good for nothing from then on.
//!
//! May know: `core`, `commit::door`. Alone imports `fuser`.

mod attributes;
mod caching;
mod content;
mod filesystem;
mod folder;
mod inodes;
mod locks;
mod mountpoint;
mod names;
mod notify;
mod open;
mod process;
mod refusals;
mod session;
mod shm;
mod special;
mod tree;

#[cfg(test)]
mod tests;

pub use mountpoint::{MountError, clear as clear_mount, clear_litefs, end_by_force};
pub use session::{Mount, MountConfig};
