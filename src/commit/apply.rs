//! Applies to this node's files what other nodes committed.
//!
//! Rule 1: a database is changed here only while the daemon itself holds its write lock. An
//! application that holds it while another's commit arrives has lost the cluster's lock: it is
//! doomed, its own commit would be refused anyway, and nothing is applied beneath it.

use std::fs::File;
use std::io::{BufReader, Cursor, Read};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;

use super::cluster_lock::ClusterLock;
use super::counters::count;
use super::database::{Database, Later, SHARED_RANGE, State};
use super::hold::{APPLIER, Hold, Phase};
use super::lock;
use crate::cluster::Payload;
use crate::core::ports::{ByteRange, LockFile, LockKind};
use crate::core::{EntryId, Incarnation, Position};
use crate::sqlite::locks;
use crate::store::{JournalMode, StoreError};

/// How often it is said that an application keeps a snapshot waiting.
const TELL: Duration = Duration::from_secs(10);

/// A committed transaction that this node's files do not hold yet.
#[derive(Clone)]
pub struct Queued {
    pub entry: EntryId,
    pub incarnation: Incarnation,
    pub new: Position,
    pub payload: Payload,
    /// When the log had applied it.
    pub since: Instant,
}

/// The daemon's write lock is held for a snapshot.
pub struct Installing {
    /// Applications may have the database open.
    pub serving: bool,
}

impl Database {
    /// The next entry of the log for this database, another's. Never waits. False: it was deleted a
    /// moment ago, and the name stands for another, or for none.
    pub fn enqueue(self: &Arc<Self>, queued: &Queued) -> bool {
        let mut later = Later::default();
        let mut state = lock(&self.state);
        if state.deleted {
            return false;
        }
        // Somebody else committed after this node was granted the lock: it does not hold it. What
        // came before the grant is what it has to catch up with, and a grant that is still to come
        // says itself with what.
        if let ClusterLock::Held(held) = state.cluster
            && queued.entry.index > held.index
        {
            state.cluster = ClusterLock::None;
            self.tell_release(held.term, held.ticket);
        }
        state.wrote_here = false;
        if let Some(hold) = state.hold.as_mut()
            && matches!(hold.phase, Phase::Open)
        {
            self.doom_open(hold);
        }
        state.queue.push_back(queued.clone());
        later.pump = !state.pumping;
        drop(state);
        later.run(self);
        true
    }

    /// Rule 1: what it wrote will not be accepted, and nothing is applied beneath it.
    pub(super) fn doom_open(&self, hold: &mut Hold) {
        hold.phase = Phase::Doomed;
        count(&self.shared.counters.doomed);
        tracing::warn!(
            database = %self.name, pid = hold.pid,
            "another node committed while this application held the write lock; its \
             transaction will fail and can be repeated"
        );
    }

    /// Applies what is queued, if nobody is in the way. One thread at a time; whoever is in the way
    /// calls again when it is gone.
    pub(super) fn pump(self: &Arc<Self>) {
        loop {
            let queued = {
                let mut state = lock(&self.state);
                let stopped = self.shared.stopped.load(Ordering::Acquire);
                let closed = stopped || state.deleted || state.lost.is_some();
                if state.pumping || closed || !self.lock_to_apply(&mut state) {
                    return;
                }
                let Some(queued) = state.next_to_apply() else {
                    Self::unlock_applied(&mut state);
                    return;
                };
                state.pumping = true;
                state.applying = Some((queued.entry.index, queued.since));
                queued
            };
            if let Err(error) = self.apply_one(&queued) {
                return self.failed_to_apply(&queued, &error);
            }
            count(&self.shared.counters.applied);
            let mut later = Later::default();
            let mut state = lock(&self.state);
            state.pumping = false;
            state.incarnation = Some(queued.incarnation);
            state.visible = queued.entry.index;
            self.offer_read_mark(&state);
            Self::unlock_applied(&mut state);
            if !state.serving && state.is_replayed() {
                self.replayed.notify_all();
            }
            later.checkpoint = self.wants_checkpoint();
            self.after_release(&mut state, &mut later);
            later.pump = false;
            drop(state);
            later.run(self);
        }
    }

    /// Rule 13: before anybody may open it, a database that an entry does not fit is lost, and
    /// fetched anew. Rule 7 otherwise.
    fn failed_to_apply(&self, queued: &Queued, error: &StoreError) {
        let mut state = lock(&self.state);
        if state.serving || !error.is_damage() {
            drop(state);
            self.stop_after_quorum("applying", error);
        }
        tracing::error!(database = %self.name, %error, "its files are not what the log says");
        // Also of one that this entry was to begin.
        state.incarnation = Some(queued.incarnation);
        state.lose(u64::from(self.store.pages()) * u64::from(self.store.page_size()));
        state.pumping = false;
        Self::unlock_applied(&mut state);
        self.applied.notify_waiters();
    }

    /// Takes the daemon's own write lock for applying.
    fn lock_to_apply(&self, state: &mut State) -> bool {
        !state.queue.is_empty() && state.hold.is_none() && self.take_apply_locks(state)
    }

    fn take_apply_locks(&self, state: &mut State) -> bool {
        let mut take = |file: LockFile, range: ByteRange| {
            state.table_mut(file).try_lock(APPLIER, 0, range, LockKind::Exclusive).is_ok()
        };
        match self.mode() {
            JournalMode::Wal => take(LockFile::Shm, byte(locks::WRITE)),
            // PENDING keeps new readers out until those there are gone; it stays when they are not.
            JournalMode::Rollback => {
                take(LockFile::Database, byte(locks::PENDING))
                    && take(LockFile::Database, byte(locks::RESERVED))
                    && take(LockFile::Database, SHARED_RANGE)
            }
        }
    }

    /// Spares the next reader two lock requests. With the state at hand nobody is granted a lock.
    pub(super) fn offer_read_mark(&self, state: &State) {
        if self.mode() != JournalMode::Wal {
            return;
        }
        let is_free = |mark| state.shm_locks.holder_of(byte(locks::READ0 + mark as u64)).is_none();
        if let Err(error) = self.store.offer_read_mark(is_free) {
            tracing::debug!(database = %self.name, %error, "no read mark was set");
        }
    }

    fn unlock_applied(state: &mut State) {
        let all = ByteRange { start: 0, end: u64::MAX };
        state.shm_locks.unlock(APPLIER, all);
        state.db_locks.unlock(APPLIER, all);
    }

    fn apply_one(&self, queued: &Queued) -> Result<(), StoreError> {
        let reader = self.open_payload(&queued.payload)?;
        let serving = lock(&self.state).serving;
        if serving && self.mode() == JournalMode::Wal {
            // An application's checkpoint is not let in while this goes on, so that one that is there
            // was there before. Its SQLite may have the WAL-reset bug: nothing is begun anew beneath
            // it. It may well be waiting for the very lock that this node has to catch up for.
            let may_restart = !lock(&self.state).app_checkpoints();
            self.store.append(reader, queued.entry, may_restart)?;
        } else {
            self.store.apply_in_place(reader, queued.entry)?;
            self.mode_may_have_changed()?;
        }
        let found = self.store.head();
        if found != queued.new {
            return Err(StoreError::Diverged {
                name: self.name.clone(),
                what: "what an entry of the log leads to",
                expected: queued.new,
                found,
            });
        }
        Ok(())
    }

    /// The LTX file of a transaction, wherever it travels.
    pub(super) fn open_payload(
        &self,
        payload: &Payload,
    ) -> Result<Box<dyn Read + Send>, StoreError> {
        match payload {
            Payload::Inline(bytes) => Ok(Box::new(Cursor::new(bytes.clone()))),
            Payload::Staged { sha256, .. } => {
                let path = self.shared.staged_path(sha256);
                let file = File::open(&path).map_err(|source| StoreError::Io {
                    what: "opening a staged transaction",
                    path,
                    source,
                })?;
                Ok(Box::new(BufReader::with_capacity(1 << 20, file)))
            }
        }
    }

    /// Takes the daemon's write lock for a snapshot, as soon as applications let go of theirs. However
    /// long they take: readers go on meanwhile, and the node is not ready. `meanwhile` settles what they
    /// wait for, as far as it is known. `None`: it was deleted meanwhile, or what was queued has begun
    /// another life of the name than the snapshot is of.
    pub(super) fn hold_to_apply(
        &self,
        incarnation: Incarnation,
        meanwhile: &dyn Fn(),
    ) -> Option<Installing> {
        let mut told = Instant::now();
        loop {
            meanwhile();
            let pid = {
                let mut state = lock(&self.state);
                let another =
                    state.incarnation.is_some_and(|life| life.is_another_than(incarnation));
                if state.deleted || (another && !state.pumping) {
                    return None;
                }
                if !state.pumping && state.hold.is_none() && self.take_apply_locks(&mut state) {
                    state.pumping = true;
                    state.applying = None;
                    return Some(Installing { serving: state.serving });
                }
                state.hold.as_ref().map(|hold| hold.pid)
            };
            if told.elapsed() >= TELL {
                told = Instant::now();
                tracing::warn!(
                    database = %self.name, pid,
                    "this node cannot catch up: an application keeps the database's lock; end it"
                );
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// A snapshot is in the files: what it holds is not applied again.
    pub(super) fn installed(
        self: &Arc<Self>,
        _held: Installing,
        incarnation: Incarnation,
        entry: EntryId,
    ) {
        let mut later = Later::default();
        let mut state = lock(&self.state);
        state.pumping = false;
        state.lost = None;
        state.incarnation = Some(incarnation);
        state.visible = state.visible.max(entry.index);
        state.queue.retain(|queued| queued.entry.index > entry.index);
        Self::unlock_applied(&mut state);
        self.after_release(&mut state, &mut later);
        drop(state);
        later.run(self);
    }

    /// Does something while nothing of the daemon's own is stored into the wal-index: no transaction is
    /// applied and no checkpoint runs. No application has the wal-index open yet.
    ///
    /// # Errors
    /// `Busy`: what runs does not end within `patience`; or as `work` says.
    pub(super) fn at_rest(
        self: &Arc<Self>,
        patience: Duration,
        work: impl FnOnce() -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let _no_checkpoint = lock(&self.checkpointing);
        let deadline = Instant::now() + patience;
        loop {
            {
                let mut state = lock(&self.state);
                // With a rollback journal the one who asks is a reader, beneath whom nothing is applied.
                let free = !state.pumping && state.hold.is_none();
                if free
                    && (self.mode() == JournalMode::Rollback || self.take_apply_locks(&mut state))
                {
                    state.pumping = true;
                    state.applying = None;
                    break;
                }
            }
            if Instant::now() >= deadline {
                let what = "what is being applied to it does not end";
                return Err(StoreError::Busy { name: self.name.clone(), what });
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        let done = work();
        let mut later = Later::default();
        let mut state = lock(&self.state);
        state.pumping = false;
        Self::unlock_applied(&mut state);
        self.after_release(&mut state, &mut later);
        drop(state);
        later.run(self);
        done
    }

    pub fn is_wal(&self) -> bool {
        self.mode() == JournalMode::Wal
    }

    /// Whether a new reader sees everything up to the entry of this index (Rule 18).
    pub fn shows(&self, index: u64) -> bool {
        let state = lock(&self.state);
        // A lost one is shown to nobody, until it is whole.
        if state.deleted || state.lost.is_some() {
            return true;
        }
        let queued = state.queue.front().is_some_and(|queued| queued.entry.index <= index);
        let unpublished = state.hold.as_ref().is_some_and(
            |hold| matches!(hold.phase, Phase::Committed { index: at, .. } if at <= index),
        );
        let applying = state.pumping && state.applying.is_none_or(|(at, _)| at <= index);
        !queued && !unpublished && !applying
    }

    /// For how long what the log has applied waits to be shown here.
    pub fn delay(&self) -> Duration {
        let state = lock(&self.state);
        let applying = state.applying.filter(|_| state.pumping).map(|(_, since)| since);
        let oldest = applying.or(state.queue.front().map(|next| next.since));
        oldest.map(|since| since.elapsed()).unwrap_or_default()
    }
}

impl State {
    /// What was queued when applications asked to be let in (or all, if they did not yet) is applied.
    pub fn is_replayed(&self) -> bool {
        let until = self.replay_until.unwrap_or(u64::MAX);
        !self.pumping && self.queue.front().is_none_or(|next| next.entry.index > until)
    }

    /// From the queue; none while it is asked to wait until applications may come.
    fn next_to_apply(&mut self) -> Option<Queued> {
        let waits = !self.serving && self.replay_until.is_some() && self.is_replayed();
        if waits { None } else { self.queue.pop_front() }
    }
}

fn byte(at: u64) -> ByteRange {
    ByteRange { start: at, end: at }
}
