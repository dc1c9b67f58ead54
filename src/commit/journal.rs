//! The rollback journal: where a transaction in DELETE, TRUNCATE or PERSIST mode ends.
//!
//! The commit point is the unlink, the truncate or the zeroing of the journal. A journal finalised
//! with no page changed is no transaction (Rule 8): a ROLLBACK ends that way.

use std::sync::Arc;

use super::database::{Database, Later, State};
use super::door::{Errno, FileKind, Reply};
use super::hold::{Follow, Hold, JournalAnswer, JournalEnd, LockOwner, Phase, Withheld};
use super::lock;
use crate::capture::{JournalCapture, JournalEvent};
use crate::store::JournalMode;

impl Database {
    /// SQLite makes a journal when it is about to write, and a WAL when it finds none.
    pub(super) fn create_companion(&self, kind: FileKind, pid: u32) -> Result<(), Errno> {
        match kind {
            FileKind::Database | FileKind::Wal | FileKind::Shm => Ok(()),
            FileKind::Journal => {
                let mut state = lock(&self.state);
                if self.mode() == JournalMode::Wal && !self.journal_exists() {
                    self.notices.refuse(
                        self.name.as_str(),
                        "leave WAL mode",
                        pid,
                        "the database is in WAL mode, and stays there: a rollback journal beside \
                         it would be a second way to write",
                    );
                    return Err(Errno(libc::EACCES));
                }
                Self::app_hold(&mut state)?;
                self.store.journal(true).map(drop).map_err(|error| self.errno(&error))
            }
        }
    }

    /// The application's hold in rollback mode, if it is fit to go on.
    fn app_hold(state: &mut State) -> Result<&mut Hold, Errno> {
        let hold = state
            .hold
            .as_mut()
            .filter(|hold| hold.journal_mode() && matches!(hold.owner, LockOwner::App(_)));
        match hold {
            None => Err(Errno(libc::EACCES)),
            Some(hold) => match hold.phase {
                Phase::Open | Phase::Committed { .. } => Ok(hold),
                _ => Err(Errno(libc::EIO)),
            },
        }
    }

    pub(super) fn journal_write(self: &Arc<Self>, offset: u64, data: Vec<u8>, reply: Reply<u32>) {
        let len = data.len() as u32;
        let end = JournalEnd::Zero { offset, data };
        let answer = JournalAnswer::Written(reply, len);
        self.journal_event(end, answer, |capture, end| {
            let JournalEnd::Zero { offset, data } = end else { return JournalEvent::Pass };
            capture.journal_write(*offset, data)
        });
    }

    pub(super) fn journal_truncate(self: &Arc<Self>, len: u64, reply: Reply<()>) {
        self.journal_event(JournalEnd::Truncate(len), JournalAnswer::Done(reply), |capture, _| {
            capture.journal_truncate(len)
        });
    }

    pub(super) fn journal_unlink(self: &Arc<Self>, pid: u32, reply: Reply<()>) {
        if lock(&self.state).hold.is_none() {
            self.notices.refuse(
                self.name.as_str(),
                "unlink of the journal",
                pid,
                "a journal is SQLite's to remove, under the database's write lock",
            );
            return reply(Err(Errno(libc::EACCES)));
        }
        self.journal_event(JournalEnd::Unlink, JournalAnswer::Done(reply), |capture, _| {
            capture.journal_unlink()
        });
    }

    /// One operation on the journal: passed on, withheld as a commit point, or refused.
    fn journal_event(
        self: &Arc<Self>,
        end: JournalEnd,
        answer: JournalAnswer,
        event: impl FnOnce(&mut JournalCapture, &JournalEnd) -> JournalEvent,
    ) {
        let mut later = Later::default();
        let mut state = lock(&self.state);
        let event = Self::app_hold(&mut state).and_then(|hold| {
            // What follows the commit point in the same hold is no second one.
            if matches!(hold.phase, Phase::Committed { .. }) {
                return Ok((JournalEvent::Pass, hold.pid));
            }
            let Follow::Journal(follow) = &mut hold.follow else { return Err(Errno(libc::EIO)) };
            Ok((event(&mut follow.capture, &end), hold.pid))
        });
        match event {
            Err(errno) => later.reply(answer, Err(errno)),
            Ok((JournalEvent::Pass, _)) => {
                let result = self.end_journal(&end);
                later.reply(answer, result);
            }
            Ok((JournalEvent::Empty, _)) => {
                self.drop_and_end(end, answer, &mut later);
            }
            Ok((JournalEvent::CommitPoint(commit), _)) => {
                self.commit(&mut state, Withheld::Journal { end, commit, answer }, &mut later);
            }
            Ok((JournalEvent::Refuse(reason), pid)) => {
                later.reply(answer, Err(self.refused_by_capture(&mut state, pid, &reason)));
            }
        }
        drop(state);
        later.run(self);
    }

    /// Nothing was changed: the overlay goes, then the journal. Rule 16: what the kernel cached of
    /// the overlay is dropped on a thread that no reader waits for.
    pub(super) fn drop_and_end(
        self: &Arc<Self>,
        end: JournalEnd,
        answer: JournalAnswer,
        later: &mut Later,
    ) {
        let database = Arc::clone(self);
        later.tasks.push(Box::new(move || {
            database.store.overlay_drop();
            answer.give(database.end_journal(&end));
        }));
    }

    /// Does the operation on the journal.
    pub(super) fn end_journal(&self, end: &JournalEnd) -> Result<(), Errno> {
        match end {
            JournalEnd::Unlink => self.store.remove_journal().map_err(|error| self.errno(&error)),
            JournalEnd::Truncate(len) => self.set_len(FileKind::Journal, *len),
            JournalEnd::Zero { offset, data } => self.write_bytes(FileKind::Journal, *offset, data),
            JournalEnd::None => Ok(()),
        }
    }
}

impl Later {
    pub(super) fn reply(&mut self, answer: JournalAnswer, result: Result<(), Errno>) {
        match answer {
            JournalAnswer::Done(reply) => self.answer(reply, result),
            JournalAnswer::Written(reply, len) => self.answer(reply, result.map(|()| len)),
        }
    }
}
