//! POSIX locks: `F_GETLK`, `F_SETLK`, `F_SETLKW`.
//!
//! The kernel sends the locks of the database and of the shm here (`FUSE_POSIX_LOCKS`); flock(2)
//! stays with the kernel. Locks go with FLUSH of their owner, open-file-description locks with
//! RELEASE: `open` passes both on.

use fuser::{Errno, FileHandle, LockOwner, ReplyEmpty, ReplyLock};

use super::filesystem::Shared;
use super::inodes::Inode;
use super::names::Part;
use super::tree::Known;
use crate::commit::door::{Handle, LockRequest, Owner};
use crate::core::ports::{ByteRange, LockFile, LockKind};

/// A lock request as the kernel sends it.
pub(super) struct Asked {
    pub(super) handle: FileHandle,
    pub(super) owner: LockOwner,
    /// Both ends included.
    pub(super) start: u64,
    pub(super) end: u64,
    /// `F_RDLCK`, `F_WRLCK` or `F_UNLCK`.
    pub(super) kind: i32,
    pub(super) pid: u32,
    pub(super) wait: bool,
}

impl Asked {
    fn on(&self, part: Part) -> Result<LockRequest, Errno> {
        let file = match part {
            Part::Database => LockFile::Database,
            Part::Shm => LockFile::Shm,
            // SQLite locks no other file, and nobody is to think he holds one.
            Part::Journal | Part::Wal | Part::Position => return Err(Errno::ENOLCK),
        };
        if self.start > self.end {
            return Err(Errno::EINVAL);
        }
        Ok(LockRequest {
            handle: Handle(self.handle.0),
            owner: Owner(self.owner.0),
            pid: self.pid,
            file,
            range: ByteRange { start: self.start, end: self.end },
            kind: kind_of(self.kind)?,
            wait: self.wait,
        })
    }
}

impl Shared {
    /// The answer is exact: the first opener of a shm asks whether byte 128 is free and, when it
    /// is, truncates the file.
    pub(super) fn get_lock(&self, inode: Option<Inode>, asked: &Asked, reply: ReplyLock) {
        let (known, request) = match self.lockable(inode, asked) {
            Ok(found) => found,
            Err(error) => return reply.error(error),
        };
        match known.files.get_lock(request) {
            Some(held) => {
                reply.locked(held.range.start, held.range.end, type_of(held.kind), held.pid);
            }
            None => reply.locked(asked.start, asked.end, libc::F_UNLCK, 0),
        }
    }

    /// Answered when granted or refused: at most `lock_wait` later (bounded-answer).
    pub(super) fn set_lock(&self, inode: Option<Inode>, asked: &Asked, reply: ReplyEmpty) {
        match self.lockable(inode, asked) {
            Ok((known, request)) => known.files.set_lock(request, Box::new(|r| done(r, reply))),
            // Nothing is held that could be released.
            Err(Errno::ENOLCK) if asked.kind == libc::F_UNLCK => reply.ok(),
            Err(error) => reply.error(error),
        }
    }

    fn lockable(
        &self,
        inode: Option<Inode>,
        asked: &Asked,
    ) -> Result<(std::sync::Arc<Known>, LockRequest), Errno> {
        match inode {
            Some(Inode::Part { slot, part }) => {
                let known = self.tree.of(slot).ok_or(Errno::ESTALE)?;
                Ok((known, asked.on(part)?))
            }
            Some(_) => Err(Errno::ENOLCK),
            None => Err(Errno::ESTALE),
        }
    }
}

/// Gives an answer that holds nothing.
pub(super) fn done(result: Result<(), crate::commit::door::Errno>, reply: ReplyEmpty) {
    match result {
        Ok(()) => reply.ok(),
        Err(error) => reply.error(Errno::from_i32(error.0)),
    }
}

fn kind_of(kind: i32) -> Result<LockKind, Errno> {
    match kind {
        libc::F_RDLCK => Ok(LockKind::Shared),
        libc::F_WRLCK => Ok(LockKind::Exclusive),
        libc::F_UNLCK => Ok(LockKind::Unlock),
        _ => Err(Errno::EINVAL),
    }
}

fn type_of(kind: LockKind) -> i32 {
    match kind {
        LockKind::Shared => libc::F_RDLCK,
        LockKind::Exclusive => libc::F_WRLCK,
        LockKind::Unlock => libc::F_UNLCK,
    }
}
