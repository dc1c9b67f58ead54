//! What follows a verdict: the withheld operation is done and answered, or failed.
//!
//! Rule 7: everything that can fail came before the quorum (space was reserved, the pages were
//! read); what fails after it all the same stops the process, and the next start recovers.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use tokio::runtime::{Handle, RuntimeFlavor};

use super::counters::count;
use super::database::{Database, Later, State};
use super::door::{Errno, FileKind};
use super::files::gate_file;
use super::hold::{Follow, HEIR, Hold, LockOwner, Phase, Withheld};
use super::lock;
use super::propose::Event;
use super::stage::StagedPayload;
use super::stop::stop_to_recover;
use super::transaction::{Built, is_large};
use crate::cluster::{Command, Payload, Verdict};
use crate::core::ports::{ByteRange, KernelCache};
use crate::core::{EntryId, TransactionId};
use crate::sqlite::locks;
use crate::store::JournalMode;

impl Database {
    /// Asks the cluster for the withheld operation's transaction.
    pub(super) fn propose(
        self: &Arc<Self>,
        state: &mut State,
        withheld: Withheld,
        built: Result<Option<Built>, Errno>,
        later: &mut Later,
    ) {
        let built = match built {
            Ok(Some(built)) => built,
            // Nothing changed: the journal of a ROLLBACK, or the repeat of what is there (Rule 8).
            Ok(None) => {
                if let Some(hold) = state.hold.as_mut() {
                    hold.phase = Phase::Open;
                }
                return self.finish_unchanged(withheld, later);
            }
            Err(errno) => {
                if let Some(hold) = state.hold.as_mut() {
                    hold.phase = Phase::Doomed;
                }
                return withheld_failed(withheld, errno, later);
            }
        };
        let Some(hold) = state.hold.as_mut() else {
            return withheld_failed(withheld, Errno(libc::EIO), later);
        };
        let limit = match &withheld {
            Withheld::WalWrite { .. } => self.settings.now().commit_timeout,
            // A held unlink blocks every open in the folder.
            Withheld::Journal { .. } => self.settings.now().unlink_timeout,
        };
        hold.phase = Phase::Committing { withheld, change: built.change };
        let bytes = match &built.payload {
            Payload::Inline(bytes) => bytes.len() as u64,
            Payload::Staged { len, .. } => *len,
        };
        self.shared.counters.committed_bytes.fetch_add(bytes, Ordering::Relaxed);
        let staged = StagedPayload::of(&built.payload);
        let (database, incarnation) = (self.name.clone(), state.incarnation);
        let make = move |id| {
            Command::Commit(crate::cluster::Commit {
                id,
                database,
                incarnation,
                base: built.base,
                new: built.new,
                page_size: built.page_size,
                pages: built.pages,
                payload: built.payload,
            })
        };
        let database = Arc::clone(self);
        let since = Instant::now();
        let on_event = Box::new(move |id, event| {
            database.shared.counters.latency.add(since.elapsed());
            database.on_event(id, event);
        });
        self.shared.proposer.submit(staged, make, limit, on_event);
    }

    fn finish_unchanged(self: &Arc<Self>, withheld: Withheld, later: &mut Later) {
        match withheld {
            Withheld::WalWrite { offset, data, reply, .. } => {
                let len = data.len() as u32;
                let result = self.write_bytes(FileKind::Wal, offset, &data).map(|()| len);
                later.answer(reply, result);
            }
            Withheld::Journal { end, answer, .. } => {
                self.drop_and_end(end, answer, later);
            }
        }
    }

    fn on_event(self: &Arc<Self>, id: TransactionId, event: Event) {
        let mut later = Later::default();
        let mut state = lock(&self.state);
        match event {
            Event::TimedOut => self.outcome_open(&mut state, id, &mut later),
            Event::NotProposed => {
                count(&self.shared.counters.refused);
                tracing::info!(database = %self.name, "no leader took the transaction in time");
                self.refused(&mut state, &mut later);
            }
            Event::Verdict {
                verdict: Verdict::Accepted { incarnation, .. },
                entry,
                late: false,
            } => {
                state.incarnation = Some(incarnation);
                self.accepted(&mut state, entry, &mut later);
            }
            Event::Verdict { verdict: Verdict::Refused(reason), late: false, .. } => {
                count(&self.shared.counters.refused);
                tracing::info!(database = %self.name, %id, %reason, "transaction refused");
                self.refused(&mut state, &mut later);
            }
            // The application was told EIO; accepted, it is applied like another node's.
            Event::Verdict { verdict, late: true, .. } => {
                tracing::warn!(database = %self.name, %id, ?verdict, "indeterminate transaction settled");
                self.settled(&mut state, &mut later);
            }
        }
        drop(state);
        later.run(self);
    }

    fn accepted(self: &Arc<Self>, state: &mut State, entry: EntryId, later: &mut Later) {
        let Some(hold) = state.hold.as_mut() else { return };
        let Phase::Committing { withheld, change } =
            std::mem::replace(&mut hold.phase, Phase::Unknown)
        else {
            return;
        };
        count(&self.shared.counters.committed);
        let large = is_large(&withheld, &self.settings.now(), self.store.page_size());
        match withheld {
            Withheld::WalWrite { offset, data, transaction, reply } => {
                if self.write_bytes(FileKind::Wal, offset, &data).is_err() {
                    self.stop_after_quorum("writing the commit frame", &"see above");
                }
                if let Err(error) = self.store.adopt(&change, entry, transaction.tip) {
                    self.stop_after_quorum("taking over a commit", &error);
                }
                hold.phase = Phase::Committed { index: entry.index };
                later.answer(reply, Ok(data.len() as u32));
            }
            Withheld::Journal { end, answer, .. } => {
                let write = || {
                    self.store.overlay_commit(&change, entry)?;
                    self.mode_may_have_changed()
                };
                if let Err(error) = if large { beside_tasks(write) } else { write() } {
                    self.stop_after_quorum("writing the pages", &error);
                }
                if self.end_journal(&end).is_err() {
                    self.stop_after_quorum("ending the journal", &"see above");
                }
                hold.phase = Phase::Committed { index: entry.index };
                later.reply(answer, Ok(()));
            }
        }
        State::after_commit(state);
        self.end_if_orphaned(state, later);
    }

    fn refused(self: &Arc<Self>, state: &mut State, later: &mut Later) {
        let Some(hold) = state.hold.as_mut() else { return };
        if let Phase::Committing { withheld, .. } =
            std::mem::replace(&mut hold.phase, Phase::Doomed)
        {
            withheld_failed(withheld, Errno(libc::EIO), later);
        }
        self.end_if_orphaned(state, later);
    }

    /// No verdict in time: EIO with the outcome open. The lock stays until the log says.
    fn outcome_open(self: &Arc<Self>, state: &mut State, id: TransactionId, later: &mut Later) {
        let Some(hold) = state.hold.as_mut() else { return };
        if let Phase::Committing { withheld, .. } =
            std::mem::replace(&mut hold.phase, Phase::Unknown)
        {
            tracing::warn!(
                database = %self.name, pid = hold.pid, %id,
                "COMMIT was answered with an error, its outcome open (indeterminate)"
            );
            withheld_failed(withheld, Errno(libc::EIO), later);
        }
        let database = Arc::clone(self);
        later.tasks.push(Box::new(move || database.clean_unknown()));
    }

    /// A rollback-journal writer that was told EIO with the outcome open, and has let go (or died):
    /// nobody reads what it wrote (invisible-until-committed). Should it be committed after all, the
    /// log brings it. Readers may come then; writers when the outcome is known.
    fn clean_unknown(self: &Arc<Self>) {
        let is_its = |state: &State| {
            state.hold.as_ref().is_some_and(|hold| {
                hold.owner == HEIR
                    && hold.journal_mode()
                    && matches!(hold.phase, Phase::Unknown | Phase::Doomed)
            })
        };
        if !is_its(&lock(&self.state)) {
            return;
        }
        self.drop_uncommitted();
        let mut later = Later::default();
        let mut state = lock(&self.state);
        if is_its(&state) {
            let pending = ByteRange { start: locks::PENDING, end: locks::PENDING };
            state.db_locks.unlock(HEIR, pending);
            self.serve_waiters(&mut state, &mut later);
        }
        drop(state);
        later.run(self);
    }

    /// Rule 8: the overlay goes, the kernel forgets what it saw, and the journal goes, so that nobody
    /// plays it back. Rule 16: never from a FUSE worker.
    fn drop_uncommitted(&self) {
        self.store.overlay_drop();
        self.kernel_cache().invalidate(0, 0);
        if let Err(error) = self.store.remove_journal() {
            self.failed("removing a dead writer's journal", &error);
        }
    }

    fn settled(self: &Arc<Self>, state: &mut State, later: &mut Later) {
        let Some(hold) = state.hold.as_mut() else { return };
        hold.phase = Phase::Doomed;
        self.end_if_orphaned(state, later);
    }

    /// The application is gone and its transaction decided: the daemon ends the hold for it.
    fn end_if_orphaned(self: &Arc<Self>, state: &mut State, later: &mut Later) {
        let Some(hold) = &state.hold else { return };
        if hold.owner != HEIR {
            return;
        }
        let file = gate_file(hold);
        if !self.end_hold(state, later) {
            let all = ByteRange { start: 0, end: u64::MAX };
            state.table_mut(file).unlock(HEIR, all);
            self.after_release(state, later);
        }
    }

    /// The write lock is being released, by its owner or by its death. Returns whether the daemon
    /// keeps it, because the fate of its transaction is still open or files are to be cleaned first.
    ///
    /// Rule 2: what was committed is made visible here, if its writer did not.
    pub(super) fn end_hold(self: &Arc<Self>, state: &mut State, later: &mut Later) -> bool {
        let Some(hold) = state.hold.as_mut() else { return false };
        if hold.must_outlive_owner() {
            hold.owner = HEIR;
            if matches!(hold.phase, Phase::Unknown) && hold.journal_mode() {
                let database = Arc::clone(self);
                later.tasks.push(Box::new(move || database.clean_unknown()));
            }
            return true;
        }
        if let Follow::Journal(_) = hold.follow {
            return self.end_rollback_hold(state, later);
        }
        // Also repairs a header that a dying writer left half-written (Rule 3).
        if let Err(error) = self.store.publish_if_needed() {
            self.stop_after_quorum("publishing a committed transaction", &error);
        }
        self.nothing_got_by(hold);
        if let Phase::Committed { index } = hold.phase {
            state.visible = index;
            later.checkpoint |= self.wants_checkpoint();
            self.offer_read_mark(state);
        }
        state.hold = None;
        false
    }

    /// invisible-until-committed: what the writer put into the wal-index is what was committed. Else it
    /// believes in a transaction that no other node will ever have; better that it hears of it.
    fn nothing_got_by(&self, hold: &Hold) {
        let Follow::Wal(capture) = &hold.follow else { return };
        let missed = self.store.wal_tip().map(|live| capture.missed(live));
        if !matches!(missed, Ok(false)) {
            tracing::error!(
                database = %self.name, pid = hold.pid, ?missed,
                "a transaction was made visible here that the cluster has not committed: please report \
                 this with the program's version of SQLite; stopping, the next start takes it back"
            );
            stop_to_recover();
        }
    }

    fn end_rollback_hold(self: &Arc<Self>, state: &mut State, later: &mut Later) -> bool {
        let Some(hold) = state.hold.as_mut() else { return false };
        if let Phase::Committed { index } = hold.phase {
            state.visible = index;
            state.hold = None;
            later.turn |= self.should_turn_to_wal(state);
            return false;
        }
        let dirty = matches!(&hold.follow, Follow::Journal(follow) if follow.dirty);
        if !dirty && !self.journal_is_hot() {
            state.hold = None;
            return false;
        }
        // Rule 8: killed, refused or rolled back half-way. The overlay and the journal go, the
        // kernel forgets what it saw, and only then the lock.
        hold.owner = HEIR;
        hold.phase = Phase::Unknown;
        let database = Arc::clone(self);
        later.tasks.push(Box::new(move || database.clean_after_writer()));
        true
    }

    fn clean_after_writer(self: &Arc<Self>) {
        self.drop_uncommitted();
        let mut later = Later::default();
        let mut state = lock(&self.state);
        state.hold = None;
        let all = ByteRange { start: 0, end: u64::MAX };
        state.db_locks.unlock(HEIR, all);
        self.after_release(&mut state, &mut later);
        drop(state);
        later.run(self);
    }

    pub(super) fn kernel_cache(&self) -> Arc<dyn KernelCache> {
        Arc::clone(&self.cache.read().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    /// A new database, in rollback mode because SQLite begins so, and nobody is using it now.
    pub(super) fn should_turn_to_wal(&self, state: &State) -> bool {
        self.settings.now().turn_to_wal
            && !state.turning
            && !state.deleted
            && state.incarnation.is_some()
            && state.hold.is_none()
            && state.pending.is_none()
            && state.queue.is_empty()
            && !state.pumping
            && state.wrote_here
            && self.mode() == JournalMode::Rollback
            && state.db_locks.locks().len() == 0
    }
}

impl State {
    /// The reservation has done its work, and this node is the one that last wrote.
    fn after_commit(state: &mut State) {
        Database::reservation_used(state);
        state.wrote_here = true;
    }
}

/// Does what takes long on a thread of the runtime: its other tasks go on elsewhere meanwhile.
fn beside_tasks<T>(work: impl FnOnce() -> T) -> T {
    let flavor = Handle::try_current().map(|runtime| runtime.runtime_flavor());
    match flavor {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(work),
        _ => work(),
    }
}

/// Fails the withheld operation: SQLite rolls back.
fn withheld_failed(withheld: Withheld, errno: Errno, later: &mut Later) {
    match withheld {
        Withheld::WalWrite { reply, .. } => later.answer(reply, Err(errno)),
        Withheld::Journal { answer, .. } => later.reply(answer, Err(errno)),
    }
}

/// A hold of the daemon's own, for a change that no application makes.
pub(super) fn daemon_hold(base: crate::core::Position, owner: LockOwner, follow: Follow) -> Hold {
    Hold {
        owner,
        handle: super::door::Handle(0),
        pid: std::process::id(),
        writes_as: None,
        base,
        follow,
        phase: Phase::Open,
    }
}
