//! The daemon's locks as locks of the kernel, each slot an open file description of its own, so
//! that stock SQLite on the same files sees them.
//!
//! `unsafe`: the kernel's call has no safe form in the crates at hand.
#![allow(unsafe_code)]

use std::collections::HashMap;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::core::ports::{ByteRange, DaemonLocks, LockFile, LockKind};

pub struct KernelLocks {
    database: PathBuf,
    shm: PathBuf,
    open: Mutex<HashMap<(u64, LockFile), File>>,
}

impl KernelLocks {
    pub fn new(database: &Path, shm: &Path) -> Self {
        let (database, shm) = (database.to_owned(), shm.to_owned());
        Self { database, shm, open: Mutex::default() }
    }

    fn call(&self, slot: u64, file: LockFile, range: ByteRange, kind: i32, op: i32) -> (i32, i32) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let path = if file == LockFile::Shm { &self.shm } else { &self.database };
        let file = open
            .entry((slot, file))
            .or_insert_with(|| File::options().read(true).write(true).open(path).unwrap());
        // SAFETY: zeros are a valid flock; the call gets an open descriptor and a live struct.
        unsafe {
            let mut lock: libc::flock = std::mem::zeroed();
            lock.l_type = kind as i16;
            lock.l_whence = libc::SEEK_SET as i16;
            lock.l_start = range.start.cast_signed();
            lock.l_len = (range.end - range.start + 1).cast_signed();
            let rc = libc::fcntl(file.as_raw_fd(), op, &raw mut lock);
            (rc, i32::from(lock.l_type))
        }
    }
}

impl DaemonLocks for KernelLocks {
    fn lock(&self, slot: u64, file: LockFile, range: ByteRange, kind: LockKind) -> bool {
        let kind = match kind {
            LockKind::Shared => libc::F_RDLCK,
            LockKind::Exclusive => libc::F_WRLCK,
            LockKind::Unlock => libc::F_UNLCK,
        };
        self.call(slot, file, range, kind, libc::F_OFD_SETLK).0 == 0
    }

    fn is_locked_exclusively(&self, file: LockFile, range: ByteRange) -> bool {
        let (rc, kind) = self.call(u64::MAX, file, range, libc::F_RDLCK, libc::F_OFD_GETLK);
        rc == 0 && kind == libc::F_WRLCK
    }
}
