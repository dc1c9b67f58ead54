//! What applications do to the WAL and the database file, and what becomes of it.
//!
//! invisible-until-committed: the operation that would make a transaction visible is withheld here
//! until its verdict is in this node's applied log.

use std::sync::Arc;

use super::bytes::Wal;
use super::database::{Database, Later, State};
use super::door::{Errno, FileKind, Handle, Reply, Writer};
use super::hold::{Follow, Hold, LockOwner, Phase, Withheld};
use super::lock;
use crate::capture::{JournalEvent, Refusal, WalEvent};
use crate::core::ports::{ByteRange, LockFile};
use crate::sqlite::locks;
use crate::store::JournalMode;

impl Database {
    /// A write to the WAL. Rule 1 and Rule 20 show here as EIO.
    pub(super) fn wal_write(
        self: &Arc<Self>,
        writer: Writer<'_>,
        offset: u64,
        data: Vec<u8>,
        reply: Reply<u32>,
    ) {
        let mut later = Later::default();
        let mut state = lock(&self.state);
        match self.follow_wal(&mut state, writer, offset, &data) {
            Ok(WalEvent::Pass | WalEvent::Repeat) => {
                let len = data.len() as u32;
                let result = self.write_bytes(FileKind::Wal, offset, &data).map(|()| len);
                later.answer(reply, result);
            }
            Ok(WalEvent::CommitPoint(transaction)) => {
                let withheld = Withheld::WalWrite { offset, data, transaction, reply };
                self.commit(&mut state, withheld, &mut later);
            }
            Err(errno) => later.answer(reply, Err(errno)),
        }
        drop(state);
        later.run(self);
    }

    fn follow_wal(
        &self,
        state: &mut State,
        writer: Writer<'_>,
        offset: u64,
        data: &[u8],
    ) -> Result<WalEvent, Errno> {
        let hold = state.hold.as_mut().filter(|hold| !hold.journal_mode());
        let hold = hold.and_then(|hold| hold.is_by(writer).then_some(hold));
        let Some(hold) = hold else {
            self.notices.refuse(
                self.name.as_str(),
                "write without the write lock",
                0,
                "only SQLite writes here, and it locks first; copy a database in with SQLite's \
                 .backup, .restore or VACUUM INTO",
            );
            return Err(Errno(libc::EPERM));
        };
        let Follow::Wal(capture) = &mut hold.follow else { return Err(Errno(libc::EIO)) };
        match hold.phase {
            Phase::Open | Phase::Committed { .. } => {}
            // The verdict is sticky for as long as the lock is held.
            Phase::Building | Phase::Committing { .. } | Phase::Doomed | Phase::Unknown => {
                return Err(Errno(libc::EIO));
            }
        }
        let committed = matches!(hold.phase, Phase::Committed { .. });
        let wal = Wal(self.store.wal());
        match capture.write(&wal, offset, data) {
            Ok(WalEvent::CommitPoint(_)) if committed => {
                // Rule 20: at most one transaction per hold of the write lock.
                tracing::warn!(database = %self.name, "a second transaction under one write lock");
                Err(Errno(libc::EIO))
            }
            Ok(event) => Ok(event),
            Err(error) => {
                tracing::warn!(
                    database = %self.name, pid = hold.pid, %error,
                    "a write to the WAL that is not SQLite's; refused, and the transaction with it"
                );
                hold.phase = Phase::Doomed;
                Err(Errno(libc::EIO))
            }
        }
    }

    /// SQLite cuts the WAL when it checkpoints with TRUNCATE, all readers shut out.
    pub(super) fn wal_truncate(self: &Arc<Self>, len: u64, reply: Reply<()>) {
        let state = lock(&self.state);
        let held = state.hold.as_ref().is_some_and(|hold| matches!(hold.phase, Phase::Open));
        let result = if held { self.set_len(FileKind::Wal, len) } else { Err(Errno(libc::EPERM)) };
        drop(state);
        reply(result);
    }

    /// The shm never shrinks (Rule 3); growing it is what SQLite does before it maps a new region.
    pub(super) fn shm_truncate(&self, len: u64) -> Result<(), Errno> {
        if len < self.len_of(FileKind::Shm)? {
            return Err(Errno(libc::EPERM));
        }
        self.set_len(FileKind::Shm, len)
    }

    /// A write to the database file: a checkpoint's (WAL), which is no transaction, or a rollback
    /// mode writer's, which goes to the overlay (Rule 8).
    pub(super) fn database_write(
        self: &Arc<Self>,
        handle: Handle,
        offset: u64,
        data: &[u8],
        reply: Reply<u32>,
    ) {
        let len = data.len() as u32;
        let mut state = lock(&self.state);
        let result = if self.mode() == JournalMode::Wal {
            if state.app_checkpoints() && !state.app_marked {
                drop(state);
                return self.mark_and_write(handle, offset, data.to_vec(), reply);
            }
            self.checkpoint_write(&state, offset, data)
        } else {
            self.rollback_hold(&mut state, Some(handle)).and_then(|hold| {
                let Follow::Journal(follow) = &mut hold.follow else {
                    return Err(Errno(libc::EIO));
                };
                if let JournalEvent::Refuse(reason) = follow.capture.db_write(offset, data) {
                    return Err(self.doom(hold, &reason));
                }
                follow.dirty = true;
                self.store.overlay_write(offset, data).map_err(|error| self.errno(&error))
            })
        };
        drop(state);
        reply(result.map(|()| len));
    }

    /// Rule 1: after a refusal nothing more of the hold is passed on.
    fn doom(&self, hold: &mut Hold, reason: &Refusal) -> Errno {
        self.notices.refuse(self.name.as_str(), "rollback journal", hold.pid, &reason.to_string());
        hold.phase = Phase::Doomed;
        Errno(libc::EIO)
    }

    pub(super) fn refused_by_capture(
        &self,
        state: &mut State,
        pid: u32,
        reason: &Refusal,
    ) -> Errno {
        if let Some(hold) = state.hold.as_mut() {
            self.doom(hold, reason)
        } else {
            self.notices.refuse(self.name.as_str(), "journal", pid, &reason.to_string());
            Errno(libc::EIO)
        }
    }

    /// "Checkpoint writes to the database (under 121) are no transaction."
    fn checkpoint_write(&self, state: &State, offset: u64, data: &[u8]) -> Result<(), Errno> {
        if !state.app_checkpoints() {
            self.notices.refuse(
                self.name.as_str(),
                "write beside the WAL",
                0,
                "a database in WAL mode is changed through its WAL only; copy a database in with \
                 SQLite's .backup, .restore or VACUUM INTO",
            );
            return Err(Errno(libc::EPERM));
        }
        self.write_bytes(FileKind::Database, offset, data)
    }

    /// The first page that an application's checkpoint writes. Rule 10: the log's mark is synced
    /// before, on a thread that may wait; what the checkpoint copies is settled by now.
    fn mark_and_write(
        self: &Arc<Self>,
        handle: Handle,
        offset: u64,
        data: Vec<u8>,
        reply: Reply<u32>,
    ) {
        let database = Arc::clone(self);
        self.runtime.spawn_blocking(move || match database.store.sync_mark() {
            Ok(()) => {
                lock(&database.state).app_marked = true;
                database.database_write(handle, offset, &data, reply);
            }
            Err(error) => reply(Err(database.errno(&error))),
        });
    }

    /// The hold under which the database file may be written in rollback mode.
    pub(super) fn rollback_hold<'a>(
        &self,
        state: &'a mut State,
        handle: Option<Handle>,
    ) -> Result<&'a mut Hold, Errno> {
        let exclusive = state
            .db_locks
            .is_locked_exclusively(ByteRange { start: locks::RESERVED, end: locks::RESERVED });
        let hold = state.hold.as_mut().filter(|hold| {
            exclusive
                && hold.journal_mode()
                && matches!(hold.owner, LockOwner::App(_))
                && handle == Some(hold.handle)
        });
        let Some(hold) = hold else {
            self.notices.refuse(
                self.name.as_str(),
                "write without the write lock",
                0,
                "only SQLite writes here, and it locks first; cp, dd and mv cannot be followed. \
                 Copy a database in with SQLite's .backup, .restore or VACUUM INTO",
            );
            return Err(Errno(libc::EPERM));
        };
        match hold.phase {
            Phase::Open | Phase::Committed { .. } => Ok(hold),
            Phase::Building | Phase::Committing { .. } | Phase::Doomed | Phase::Unknown => {
                Err(Errno(libc::EIO))
            }
        }
    }

    pub(super) fn database_truncate(
        self: &Arc<Self>,
        handle: Option<Handle>,
        len: u64,
        reply: Reply<()>,
    ) {
        let mut state = lock(&self.state);
        let wal = self.mode() == JournalMode::Wal;
        let size = self.len_of(FileKind::Database).unwrap_or(u64::MAX);
        let result = if len == size && len == 0 {
            // O_TRUNC on a file that nobody has written yet.
            Ok(())
        } else if wal {
            if state.app_checkpoints() {
                self.set_len(FileKind::Database, len)
            } else {
                self.notices.refuse(
                    self.name.as_str(),
                    "truncate",
                    0,
                    "a database is not emptied by truncation, and cp cannot be followed; put another \
                     in its place with SQLite's .restore, or remove the file to delete the database \
                     on all nodes",
                );
                Err(Errno(libc::EPERM))
            }
        } else {
            self.rollback_hold(&mut state, handle).and_then(|hold| {
                let committed = matches!(hold.phase, Phase::Committed { .. });
                let Follow::Journal(follow) = &mut hold.follow else {
                    return Err(Errno(libc::EIO));
                };
                // VACUUM cuts the file after its commit point: it has its size already.
                if committed {
                    return Ok(());
                }
                if let JournalEvent::Refuse(reason) = follow.capture.db_truncate(len) {
                    return Err(self.doom(hold, &reason));
                }
                follow.dirty = true;
                self.store.overlay_truncate(len).map_err(|error| self.errno(&error))
            })
        };
        drop(state);
        reply(result);
    }

    /// Puts a withheld operation's transaction to the cluster.
    pub(super) fn commit(
        self: &Arc<Self>,
        state: &mut State,
        withheld: Withheld,
        later: &mut Later,
    ) {
        let database = Arc::clone(self);
        let Some(hold) = state.hold.as_mut() else { return };
        // A large one is read and staged without the lock that readers need.
        if super::transaction::is_large(&withheld, &self.settings.now(), self.store.page_size()) {
            let base = hold.base;
            hold.phase = Phase::Building;
            later.tasks.push(Box::new(move || {
                let built = database.build(base, &withheld);
                let mut later = Later::default();
                let mut state = lock(&database.state);
                database.propose(&mut state, withheld, built, &mut later);
                drop(state);
                later.run(&database);
            }));
            return;
        }
        let built = self.build(hold.base, &withheld);
        self.propose(state, withheld, built, later);
    }
}

/// The file whose lock is a hold's.
pub(super) fn gate_file(hold: &Hold) -> LockFile {
    if hold.journal_mode() { LockFile::Database } else { LockFile::Shm }
}
