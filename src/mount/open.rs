//! Opening, creating and closing files.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::sync::Arc;

use fuser::{BackingId, Errno, FileHandle, FopenFlags, LockOwner, OpenAccMode, OpenFlags};
use fuser::{ReplyCreate, ReplyEmpty, ReplyOpen};

use super::caching::{MADE_AT_READ, NEVER, OWN_SHM, open_flags};
use super::filesystem::Shared;
use super::inodes::{GENERATION, Inode};
use super::names::{Name, Part};
use super::tree::Known;
use super::{folder, names, process, shm, special};
use crate::commit::door::{FileKind, Handle, Owner};

/// A file to be created, as an application names it.
struct Created {
    known: Arc<Known>,
    part: Part,
    kind: FileKind,
}

impl Shared {
    /// `thread`: who asks.
    pub(super) fn open(
        self: &Arc<Self>,
        thread: u32,
        inode: Option<Inode>,
        flags: OpenFlags,
        reply: ReplyOpen,
    ) {
        let write = flags.acc_mode() != OpenAccMode::O_RDONLY;
        if let Some(Inode::Part { slot, part: Part::Shm }) = inode {
            return self.open_shm(thread, slot, write, reply);
        }
        match self.open_other(inode, write) {
            Ok((handle, flags)) => reply.opened(handle, flags),
            Err(error) => reply.error(error),
        }
    }

    fn open_other(
        &self,
        inode: Option<Inode>,
        write: bool,
    ) -> Result<(FileHandle, FopenFlags), Errno> {
        match inode.ok_or(Errno::ESTALE)? {
            Inode::Folder => Err(Errno::EISDIR),
            Inode::Special(which) => {
                special::content(which, self.tree.databases.as_ref()).ok_or(Errno::ENOENT)?;
                self.open_made(write)
            }
            Inode::Part { slot, part } => {
                let known = self.current(slot)?;
                let Some(kind) = part.file() else { return self.open_made(write) };
                if !known.files.exists(kind) {
                    return Err(Errno::ESTALE);
                }
                let handle = self.open_file(&known, kind, write)?;
                Ok((handle, open_flags(part)))
            }
        }
    }

    fn open_made(&self, write: bool) -> Result<(FileHandle, FopenFlags), Errno> {
        if write { Err(Errno::EACCES) } else { Ok((self.next_handle(), MADE_AT_READ)) }
    }

    /// On ESTALE the kernel walks the path once more and asks anew: a name that stands for
    /// another incarnation by now, or for a journal that is gone, is found or created then.
    fn current(&self, slot: u64) -> Result<Arc<Known>, Errno> {
        let known = self.tree.of(slot).ok_or(Errno::ESTALE)?;
        if self.tree.is_current(&known) { Ok(known) } else { Err(Errno::ESTALE) }
    }

    fn open_file(&self, known: &Known, kind: FileKind, write: bool) -> Result<FileHandle, Errno> {
        let handle = self.next_handle();
        known.files.open(kind, Handle(handle.0), write).map_err(|e| Errno::from_i32(e.0))?;
        Ok(handle)
    }

    fn open_shm(self: &Arc<Self>, thread: u32, slot: u64, write: bool, reply: ReplyOpen) {
        let known = match self.current(slot) {
            Ok(known) => known,
            Err(error) => return reply.error(error),
        };
        if self.passthrough() {
            return self.pass_shm_through(&known, write, reply);
        }
        if known.shm.is_opener(thread) {
            let handle = self.next_handle();
            known.shm.set_own(handle);
            return reply.opened(handle, OWN_SHM);
        }
        if !known.files.exists(FileKind::Shm)
            && let Err(error) = known.files.create_file(FileKind::Shm, process::of_thread(thread))
        {
            return reply.error(Errno::from_i32(error.0));
        }
        let (shared, opened) = (self.clone(), known.clone());
        let then = move |ready: Result<(), Errno>| match ready
            .and_then(|()| shared.open_file(&opened, FileKind::Shm, write))
        {
            Ok(handle) => reply.opened(handle, open_flags(Part::Shm)),
            Err(error) => reply.error(error),
        };
        shm::when_opened(self, &known, Box::new(then));
    }

    fn pass_shm_through(&self, known: &Known, write: bool, reply: ReplyOpen) {
        if !known.files.exists(FileKind::Shm) {
            return reply.error(Errno::ESTALE);
        }
        match self.back_shm(known, write, |file| reply.open_backing(file)) {
            Ok((handle, backing)) => {
                reply.opened_passthrough(handle, FopenFlags::empty(), &backing);
            }
            Err(error) => reply.error(error),
        }
    }

    fn back_shm(
        &self,
        known: &Known,
        write: bool,
        register: impl FnOnce(&File) -> io::Result<BackingId>,
    ) -> Result<(FileHandle, Arc<BackingId>), Errno> {
        let backing = known.shm.backing(known.files.as_ref(), register)?;
        Ok((self.open_file(known, FileKind::Shm, write)?, backing))
    }

    /// `open(O_CREAT)` of a name that was not there when the kernel looked.
    pub(super) fn create(&self, thread: u32, name: &OsStr, flags: OpenFlags, reply: ReplyCreate) {
        let write = flags.acc_mode() != OpenAccMode::O_RDONLY;
        let exclusive = flags.0 & libc::O_EXCL != 0;
        let made = match self.make(thread, name, exclusive) {
            Ok(made) => made,
            Err(error) => return reply.error(error),
        };
        let Created { known, part, kind } = made;
        let attributes = match self.ownership.part(&known, part, &self.tree) {
            Ok(attributes) => attributes,
            Err(error) => return reply.error(error),
        };
        let ttl = NEVER;
        if part == Part::Shm {
            match self.back_shm(&known, write, |file| reply.open_backing(file)) {
                Ok((handle, backing)) => {
                    known.refer();
                    let flags = FopenFlags::empty();
                    reply.created_passthrough(
                        &ttl,
                        &attributes,
                        GENERATION,
                        handle,
                        flags,
                        &backing,
                    );
                }
                Err(error) => reply.error(error),
            }
            return;
        }
        match self.open_file(&known, kind, write) {
            Ok(handle) => {
                known.refer();
                reply.created(&ttl, &attributes, GENERATION, handle, open_flags(part));
            }
            Err(error) => reply.error(error),
        }
    }

    fn make(&self, thread: u32, name: &OsStr, exclusive: bool) -> Result<Created, Errno> {
        let (base, part) = match names::parse(name) {
            Ok(Name::File(base, part)) => (base, part),
            Ok(Name::Special(_)) => return Err(Errno::EACCES),
            Err(why) => {
                self.refusals.log("create", &name, &why);
                return Err(folder::refusal(&why));
            }
        };
        let Some(kind) = part.file() else { return Err(Errno::EACCES) };
        let known = match self.tree.find(&base) {
            Some(_) if part == Part::Database && exclusive => return Err(Errno::EEXIST),
            Some(known) => known,
            None if part == Part::Database => {
                let created = self.tree.databases.create(&base);
                self.tree.know(created.map_err(|e| Errno::from_i32(e.0))?)
            }
            None => {
                let why = "it accompanies a database that does not exist; create that one first";
                self.refusals.log("create beside no database", &name, &why);
                return Err(Errno::ENOENT);
            }
        };
        if part == Part::Shm && !self.passthrough() {
            // CREATE holds the folder's lock, which the daemon's own open needs; asked again, the
            // kernel finds the name present, and asks for OPEN.
            return Err(Errno::ESTALE);
        }
        if part != Part::Database {
            if exclusive && known.files.exists(kind) {
                return Err(Errno::EEXIST);
            }
            known
                .files
                .create_file(kind, process::of_thread(thread))
                .map_err(|e| Errno::from_i32(e.0))?;
        }
        Ok(Created { known, part, kind })
    }

    /// Each close of a file: the owner's locks on it end.
    pub(super) fn flush(
        &self,
        inode: Option<Inode>,
        handle: FileHandle,
        owner: LockOwner,
        reply: ReplyEmpty,
    ) {
        if let Some((known, kind)) = self.file(inode)
            && !known.shm.is_own(handle)
        {
            known.files.flush(kind, Handle(handle.0), Owner(owner.0));
        }
        reply.ok();
    }

    /// The last close of an open file.
    pub(super) fn release(
        &self,
        inode: Option<Inode>,
        handle: FileHandle,
        owner: Option<LockOwner>,
        reply: ReplyEmpty,
    ) {
        match self.file(inode) {
            Some((known, kind)) if !known.shm.is_own(handle) => {
                known.files.release(kind, Handle(handle.0), owner.map(|o| Owner(o.0)));
            }
            Some(_) => {}
            None => self.texts.close(handle),
        }
        reply.ok();
    }
}
