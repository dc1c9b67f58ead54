//! Reading, writing and truncating.
//!
//! A write and a truncate are answered when the write path says so: at the commit point that is
//! when the transaction is committed, or will not be.

use std::sync::Arc;

use fuser::{Errno, FileHandle, LockOwner, ReplyAttr, ReplyData, ReplyWrite};

use super::caching::{FOLDER, NEVER};
use super::filesystem::Shared;
use super::inodes::Inode;
use super::{process, special};
use crate::commit::door::{self, FileKind, Handle, Owner, Writer};

/// Who writes, as the kernel says it.
#[derive(Clone, Copy)]
pub(super) struct By {
    pub(super) owner: Option<LockOwner>,
    pub(super) thread: u32,
}

/// What `chmod`, `chown`, `truncate` and their like ask for. Times are not kept: setting them is
/// accepted and changes nothing.
pub(super) struct Change {
    pub(super) mode: Option<u32>,
    pub(super) owner: Option<u32>,
    pub(super) group: Option<u32>,
    pub(super) size: Option<u64>,
}

impl Shared {
    pub(super) fn read(
        &self,
        inode: Option<Inode>,
        handle: FileHandle,
        offset: u64,
        len: u32,
        reply: ReplyData,
    ) {
        match self.read_bytes(inode, handle, offset, len) {
            Ok(bytes) => reply.data(&bytes),
            Err(error) if error.code() == libc::EUCLEAN => {
                self.read_mended(inode, offset, len, reply);
            }
            Err(error) => reply.error(error),
        }
    }

    /// The disk changed what was read. Another thread waits for the right bytes.
    fn read_mended(&self, inode: Option<Inode>, offset: u64, len: u32, reply: ReplyData) {
        let Some((known, _)) = self.file(inode) else { return reply.error(Errno::EIO) };
        let answer = move |read: Result<Vec<u8>, door::Errno>| match read {
            Ok(bytes) => reply.data(&bytes),
            Err(error) => reply.error(Errno::from_i32(error.0)),
        };
        known.files.read_mended(offset, len, Box::new(answer));
    }

    fn read_bytes(
        &self,
        inode: Option<Inode>,
        handle: FileHandle,
        offset: u64,
        len: u32,
    ) -> Result<Vec<u8>, Errno> {
        match inode.ok_or(Errno::ESTALE)? {
            Inode::Folder => Err(Errno::EISDIR),
            Inode::Special(which) => Ok(self.texts.read(handle, offset, len, || {
                special::content(which, self.tree.databases.as_ref()).unwrap_or_default()
            })),
            Inode::Part { slot, part } => {
                let known = self.tree.of(slot).ok_or(Errno::ESTALE)?;
                match part.file() {
                    Some(kind) => known
                        .files
                        .read(kind, Handle(handle.0), offset, len)
                        .map_err(|e| Errno::from_i32(e.0)),
                    None => Ok(self.texts.read(handle, offset, len, || special::position(&known))),
                }
            }
        }
    }

    pub(super) fn write(
        &self,
        inode: Option<Inode>,
        handle: FileHandle,
        offset: u64,
        data: &[u8],
        by: By,
        reply: ReplyWrite,
    ) {
        let Some((known, kind)) = self.file(inode) else { return reply.error(Errno::EBADF) };
        known.files.write(
            kind,
            Handle(handle.0),
            Writer {
                owner: by.owner.map(|owner| Owner(owner.0)),
                pid: &|| process::of_thread(by.thread),
            },
            offset,
            data.to_vec(),
            Box::new(|result| match result {
                Ok(written) => reply.written(written),
                Err(error) => reply.error(Errno::from_i32(error.0)),
            }),
        );
    }

    pub(super) fn change(
        self: &Arc<Self>,
        inode: Option<Inode>,
        handle: Option<FileHandle>,
        change: &Change,
        reply: ReplyAttr,
    ) {
        let attributes = match self.attributes(inode) {
            Ok((attributes, _)) => attributes,
            Err(error) => return reply.error(error),
        };
        if !self.ownership.is_already(&attributes, change.mode, change.owner, change.group) {
            self.refusals.log(
                "chmod or chown",
                &inode,
                &"owner, group and mode of the mount come from the settings; change them there",
            );
            return reply.error(Errno::EPERM);
        }
        let Some(size) = change.size else {
            return self.answer_attributes(inode, reply);
        };
        let Some((known, kind)) = self.file(inode) else { return reply.error(Errno::EPERM) };
        let shared = self.clone();
        known.files.truncate(
            kind,
            handle.map(|h| Handle(h.0)),
            size,
            Box::new(move |result| match result {
                Ok(()) => shared.answer_attributes(inode, reply),
                Err(error) => reply.error(Errno::from_i32(error.0)),
            }),
        );
    }

    pub(super) fn answer_attributes(&self, inode: Option<Inode>, reply: ReplyAttr) {
        match self.attributes(inode) {
            Ok((attributes, ttl)) => reply.attr(&ttl, &attributes),
            Err(error) => reply.error(error),
        }
    }

    fn attributes(
        &self,
        inode: Option<Inode>,
    ) -> Result<(fuser::FileAttr, std::time::Duration), Errno> {
        match inode.ok_or(Errno::ESTALE)? {
            Inode::Folder => Ok((self.ownership.folder(), FOLDER)),
            Inode::Special(which) => {
                self.ownership.special(which, &self.tree).map(|attributes| (attributes, NEVER))
            }
            Inode::Part { slot, part } => {
                let known = self.tree.of(slot).ok_or(Errno::ESTALE)?;
                Ok((self.ownership.part(&known, part, &self.tree)?, NEVER))
            }
        }
    }

    /// The database's file behind an inode: none of those that are made at each read.
    pub(super) fn file(&self, inode: Option<Inode>) -> Option<(Arc<super::tree::Known>, FileKind)> {
        let Inode::Part { slot, part } = inode? else { return None };
        Some((self.tree.of(slot)?, part.file()?))
    }
}
