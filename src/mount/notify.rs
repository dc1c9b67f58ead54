//! Telling the kernel to drop what it cached of a database.
//!
//! Rule 16: called before the daemon's change can be reached; never from a FUSE worker, nor under
//! a lock that a reader needs. The kernel waits for pages that are being read, and those reads
//! are answered by the workers.

use std::io;

use fuser::{INodeNo, Notifier};

use crate::core::ports::KernelCache;

/// The kernel's cache of one database file.
pub(super) struct DatabaseCache {
    pub(super) notifier: Notifier,
    pub(super) inode: INodeNo,
}

impl KernelCache for DatabaseCache {
    fn invalidate(&self, offset: u64, len: u64) {
        // The kernel's numbers are signed. A length of 0, or one that does not fit: to the end.
        // An offset that does not fit lies behind every page.
        let Ok(offset) = i64::try_from(offset) else { return };
        let len = i64::try_from(len).unwrap_or(0);
        if let Err(error) = self.notifier.inval_inode(self.inode, offset, len) {
            report(&error);
        }
    }

    /// Invalidating is not enough where a file grows. A reader past the size that the kernel knows
    /// asks for the size (GETATTR); but when attributes are invalidated while it asks, the kernel
    /// throws the answer away and reads up to the old size: SQLite takes what is missing for zeros,
    /// and the database for malformed. A page that is stored moves the size at once.
    fn grown(&self, offset: u64, bytes: &[u8]) {
        if let Err(error) = self.notifier.store(self.inode, offset, bytes) {
            report(&error);
        }
    }
}

/// After the mount has ended there is no cache, and nothing to say.
fn report(error: &io::Error) {
    let ended = matches!(error.raw_os_error(), Some(libc::ENODEV | libc::ENOTCONN | libc::EPERM));
    if !ended {
        tracing::error!(%error, "the kernel refused what it was told of its cache of a database");
    }
}
