//! One database, as the mount asks for it: who each question goes to.

use std::fs::File;
use std::sync::Arc;
use std::time::Duration;

use super::database::Database;
use super::door::{
    Conflict, DatabaseFiles, Errno, FileKind, Handle, LockRequest, Owner, Reply, Writer,
};
use super::hold::LockOwner;
use super::lock;
use crate::core::ports::{ByteRange, KernelCache, LockFile, LockKind};
use crate::core::{DatabaseName, Position};
use crate::store::JournalMode;

/// How long an application that is the first to open a wal-index waits for what is just being applied.
const SHM_PATIENCE: Duration = Duration::from_secs(10);

impl Database {
    /// The mount is gone: no application has anything open any more, though the kernel did not say so
    /// of each, as it does when files are closed.
    pub fn everybody_left(self: &Arc<Self>) {
        let owners: Vec<_> = {
            let mut state = lock(&self.state);
            state.open.clear();
            [LockFile::Database, LockFile::Shm]
                .into_iter()
                .flat_map(|file| state.table(file).locks().map(move |held| (file, held.owner)))
                .filter_map(|(file, owner)| match owner {
                    LockOwner::App(owner) => Some((file, owner)),
                    LockOwner::Daemon(_) => None,
                })
                .collect()
        };
        for (file, owner) in owners {
            self.unlock_all(file, Handle(0), owner);
        }
    }

    fn unlock_all(self: &Arc<Self>, file: LockFile, handle: Handle, owner: Owner) {
        let request = LockRequest {
            handle,
            owner,
            pid: 0,
            file,
            range: ByteRange { start: 0, end: u64::MAX },
            kind: LockKind::Unlock,
            wait: false,
        };
        self.lock_request(request, Box::new(|_| ()));
    }
}

impl DatabaseFiles for Database {
    fn name(&self) -> DatabaseName {
        self.name.clone()
    }

    fn slot(&self) -> u64 {
        self.slot
    }

    fn position(&self) -> Position {
        self.store.position()
    }

    fn exists(&self, kind: FileKind) -> bool {
        match kind {
            FileKind::Database => !lock(&self.state).deleted,
            FileKind::Journal => self.journal_exists(),
            FileKind::Wal | FileKind::Shm => self.mode() == JournalMode::Wal,
        }
    }

    fn size(&self, kind: FileKind) -> Result<u64, Errno> {
        // Nobody is to take a lost one for an empty one. Of the shm the daemon itself may ask,
        // through the mount, with the lock held.
        let lost = if kind == FileKind::Database { lock(&self.state).lost } else { None };
        lost.map_or_else(|| self.len_of(kind), Ok)
    }

    fn create_file(&self, kind: FileKind, pid: u32) -> Result<(), Errno> {
        self.refuse_if_closed(&lock(&self.state))?;
        self.create_companion(kind, pid)
    }

    fn open(&self, kind: FileKind, handle: Handle, write: bool) -> Result<(), Errno> {
        // SQLite opens it again to read, and answers SQLITE_READONLY to who wants to write.
        if write && kind == FileKind::Database && self.shared.is_read_only() {
            return Err(Errno(libc::EROFS));
        }
        let mut state = lock(&self.state);
        if state.deleted {
            return Err(Errno(libc::ENOENT));
        }
        self.refuse_if_closed(&state)?;
        state.open.insert(handle, Vec::new());
        Ok(())
    }

    fn release(&self, kind: FileKind, handle: Handle, owner: Option<Owner>) {
        // The kernel names an owner here for flock(2) only.
        let lockers = lock(&self.state).open.remove(&handle).unwrap_or_default();
        for owner in lockers.into_iter().chain(owner) {
            self.flush(kind, handle, owner);
        }
    }

    fn flush(&self, kind: FileKind, handle: Handle, owner: Owner) {
        let (Some(file), Some(me)) = (Self::table_file(kind), self.me.upgrade()) else { return };
        if let Some(lockers) = lock(&self.state).open.get_mut(&handle) {
            lockers.retain(|locker| *locker != owner);
        }
        me.unlock_all(file, handle, owner);
    }

    fn read(
        &self,
        kind: FileKind,
        _handle: Handle,
        offset: u64,
        len: u32,
    ) -> Result<Vec<u8>, Errno> {
        self.read_bytes(kind, offset, len)
    }

    fn read_mended(&self, offset: u64, len: u32, reply: Reply<Vec<u8>>) {
        Database::read_mended(self, offset, len, reply);
    }

    fn write(
        &self,
        kind: FileKind,
        handle: Handle,
        writer: Writer<'_>,
        offset: u64,
        data: Vec<u8>,
        reply: Reply<u32>,
    ) {
        let Some(me) = self.me.upgrade() else { return reply(Err(Errno(libc::EIO))) };
        match kind {
            FileKind::Wal => me.wal_write(writer, offset, data, reply),
            FileKind::Database => me.database_write(handle, offset, &data, reply),
            FileKind::Journal => me.journal_write(offset, data, reply),
            // Without passthrough the kernel brings the applications' pages of the shm here.
            FileKind::Shm => {
                let len = data.len() as u32;
                reply(self.write_bytes(FileKind::Shm, offset, &data).map(|()| len));
            }
        }
    }

    fn truncate(&self, kind: FileKind, handle: Option<Handle>, len: u64, reply: Reply<()>) {
        let Some(me) = self.me.upgrade() else { return reply(Err(Errno(libc::EIO))) };
        // By name, without having it open.
        let closed = self.refuse_if_closed(&lock(&self.state));
        if let Err(errno) = closed {
            return reply(Err(errno));
        }
        match kind {
            FileKind::Wal => me.wal_truncate(len, reply),
            FileKind::Database => me.database_truncate(handle, len, reply),
            FileKind::Journal => me.journal_truncate(len, reply),
            FileKind::Shm => reply(self.shm_truncate(len)),
        }
    }

    fn unlink_file(&self, kind: FileKind, pid: u32, reply: Reply<()>) {
        let Some(me) = self.me.upgrade() else { return reply(Err(Errno(libc::EIO))) };
        match kind {
            FileKind::Journal => me.journal_unlink(pid, reply),
            FileKind::Wal | FileKind::Shm | FileKind::Database => {
                self.notices.refuse(
                    self.name.as_str(),
                    "unlink",
                    pid,
                    "the WAL and shm of a database are the daemon's; they are not removed by hand. \
                     To delete the database, remove its main file",
                );
                reply(Err(Errno(libc::EPERM)));
            }
        }
    }

    fn get_lock(&self, request: LockRequest) -> Option<Conflict> {
        self.lock_in_the_way(request)
    }

    fn set_lock(&self, request: LockRequest, reply: Reply<()>) {
        let Some(me) = self.me.upgrade() else { return reply(Err(Errno(libc::EIO))) };
        me.lock_request(request, reply);
    }

    fn shm_backing(&self) -> Result<File, Errno> {
        self.store.shm_backing().map_err(|error| self.errno(&error))
    }

    fn use_shm(&self, through_mount: File) -> Result<(), Errno> {
        let Some(me) = self.me.upgrade() else { return Err(Errno(libc::EIO)) };
        // one-history: what is stored into the old mapping after the new one was read would be seen by no
        // application here. Its next transaction would be made on older pages than its position says.
        let used = me.at_rest(SHM_PATIENCE, || self.store.use_shm(through_mount));
        used.map_err(|error| self.errno(&error))
    }

    fn use_cache(&self, cache: Arc<dyn KernelCache>) {
        *self.cache.write().unwrap_or_else(std::sync::PoisonError::into_inner) = Arc::clone(&cache);
        if let Some(me) = self.me.upgrade() {
            self.store.connect(me, cache);
        }
    }
}
