//! Checkpoints, and turning new databases to WAL: what the daemon does to a database of its own.
//!
//! Rule 10: the committed mark is durable before pages of the WAL are written into a database: by the
//! daemon's SQLite (`store`), and by an application's, before its first write.
//! Rule 11: backfill, sync the database, sync the folder, write and sync the record; only then may
//! the log be purged. Rule 12: nothing that an application sets weakens this.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, TryLockError};
use std::time::{Duration, Instant};

use super::counters::count;
use super::database::{Database, Later, SHARED_RANGE};
use super::door::{Errno, LockRequest, Reply};
use super::hold::{
    Follow, JournalAnswer, JournalEnd, JournalFollow, LockOwner, Phase, TURNER, Withheld,
};
use super::lock;
use super::verdict::daemon_hold;
use crate::capture::JournalCommit;
use crate::core::EntryId;
use crate::core::ports::{ByteRange, LockFile, LockKind};
use crate::sqlite::locks;
use crate::store::{CheckpointMode, JournalMode, StoreError};

/// Up to so many bytes of frames that a long reader keeps out of the database file are made durable
/// beside it, so that the log can be purged. With more of them the log waits for the reader.
const PINNED_CAP: u64 = 1 << 30;

/// Between two looks whether another checkpoint has ended.
const LOOK: Duration = Duration::from_millis(1);

impl Database {
    /// Brings the WAL's pages into the database file, as far as readers let it.
    pub(super) fn checkpoint_now(self: &Arc<Self>) {
        // One at a time; whoever comes while one runs has nothing to add.
        let Ok(_one) = self.checkpointing.try_lock() else { return };
        if let Err(error) = self.checkpoint_locked() {
            self.checkpoint_failed(&error);
        }
    }

    fn checkpoint_failed(&self, error: &StoreError) {
        if matches!(error, StoreError::Busy { .. }) {
            tracing::debug!(database = %self.name, %error, "no checkpoint this time");
        } else {
            tracing::warn!(database = %self.name, %error, "checkpoint failed");
        }
    }

    fn checkpoint_locked(&self) -> Result<(), StoreError> {
        if self.mode() != JournalMode::Wal {
            return Ok(());
        }
        if self.store.checkpoint(CheckpointMode::Passive)?.busy {
            let what = "an application holds a lock that a checkpoint needs to begin";
            return Err(StoreError::Busy { name: self.name.clone(), what });
        }
        count(&self.shared.counters.checkpoints);
        let sizes = self.store.sizes()?;
        self.tried_frames.store(sizes.frames, Ordering::Release);
        let kept =
            sizes.backfilled < sizes.frames && sizes.wal > self.settings.now().wal_warn_bytes;
        if kept && self.notices.is_due("a WAL that is kept") {
            tracing::warn!(
                database = %self.name, bytes = sizes.wal, readers = ?self.reader_pids(),
                "the WAL is kept by a long read transaction; it cannot be reused until that ends"
            );
        }
        Ok(())
    }

    /// The processes that read from the WAL.
    fn reader_pids(&self) -> BTreeSet<u32> {
        let readers = locks::READ0 + 1..locks::READ0 + locks::READERS as u64;
        let state = lock(&self.state);
        let held = state.shm_locks.locks().filter(|held| {
            matches!(held.owner, LockOwner::App(_)) && readers.contains(&held.range.start)
        });
        held.map(|held| held.pid).collect()
    }

    /// Enough frames have gathered; and as many again since the last try, which a reader may have
    /// kept from getting far.
    pub(super) fn wants_checkpoint(&self) -> bool {
        self.mode() == JournalMode::Wal
            && self.store.backfill().is_ok_and(|(frames, backfilled)| {
                // More than there are: the WAL was begun anew since.
                let tried = self.tried_frames.load(Ordering::Acquire);
                let tried = if tried > frames { 0 } else { tried };
                frames.saturating_sub(backfilled.max(tried))
                    >= self.settings.now().checkpoint_frames
            })
    }

    /// Waits for a checkpoint that runs, as long as a lock request may be held.
    fn checkpoint_in_turn(&self) -> Result<MutexGuard<'_, ()>, StoreError> {
        let deadline = Instant::now() + self.settings.now().lock_wait;
        loop {
            match self.checkpointing.try_lock() {
                Ok(one) => return Ok(one),
                Err(TryLockError::Poisoned(poisoned)) => return Ok(poisoned.into_inner()),
                Err(TryLockError::WouldBlock) if Instant::now() < deadline => {
                    std::thread::sleep(LOOK);
                }
                Err(TryLockError::WouldBlock) => {
                    let what = "another checkpoint is running";
                    return Err(StoreError::Busy { name: self.name.clone(), what });
                }
            }
        }
    }

    /// An application asked to checkpoint: done for it, and then it is let in.
    pub(super) fn checkpoint_for(self: &Arc<Self>, request: LockRequest, reply: Reply<()>) {
        // Rule 10: it may write what this one has brought, so it is let in after one that was done,
        // not after one that failed, nor beside one that runs.
        let done = self.checkpoint_in_turn().and_then(|_one| self.checkpoint_locked());
        if let Err(error) = done {
            self.checkpoint_failed(&error);
            return reply(Err(Errno(libc::EAGAIN)));
        }
        let mut state = lock(&self.state);
        let busy = state.pumping
            || state.hold.as_ref().is_some_and(|hold| hold.owner != LockOwner::App(request.owner));
        let result = if busy {
            Err(Errno(libc::EAGAIN))
        } else {
            state.try_lock(request).map_err(|_| Errno(libc::EAGAIN))
        };
        state.app_marked = false;
        drop(state);
        reply(result);
    }

    /// Everything up to the entry `up_to` is in the database file, synced, and recorded.
    pub fn make_durable(&self, up_to: EntryId) -> Result<(), StoreError> {
        let _one = lock(&self.checkpointing);
        match self.checkpoint_locked() {
            // An application that is frozen with a lock stops no purge: the pages are written beside.
            Err(StoreError::Busy { .. }) => {}
            done => done?,
        }
        self.store.make_durable(up_to, PINNED_CAP)
    }

    /// Turns a new database to WAL while nobody uses it; open connections notice at their next
    /// lock, by the change counter (SQLite file format, 1.3).
    pub(super) fn turn_to_wal(self: &Arc<Self>) {
        let mut later = Later::default();
        let mut state = lock(&self.state);
        let term = self.leadership().term;
        let usable = state.cluster.usable(term, tokio::time::Instant::now()).is_some();
        if !usable || !self.should_turn_to_wal(&state) {
            return;
        }
        let all = ByteRange { start: locks::PENDING, end: SHARED_RANGE.end };
        if state.db_locks.try_lock(TURNER, 0, all, LockKind::Exclusive).is_err() {
            return;
        }
        state.turning = true;
        let mut hold = daemon_hold(
            self.store.head(),
            super::hold::HEIR,
            Follow::Journal(JournalFollow { capture: self.begin_journal(), dirty: true }),
        );
        hold.phase = Phase::Building;
        state.hold = Some(hold);
        if let Err(error) = self.write_wal_version() {
            tracing::warn!(database = %self.name, %error, "cannot turn to WAL");
            self.store.overlay_drop();
            state.hold = None;
        } else {
            let me = Arc::clone(self);
            let answer = JournalAnswer::Done(Box::new(move |result| {
                let runtime = me.runtime.clone();
                runtime.spawn_blocking(move || me.turned(result));
            }));
            let commit = JournalCommit {
                page_size: self.store.page_size(),
                dirty: vec![1],
                truncated_from: None,
                pages_before: self.store.pages(),
            };
            let withheld = Withheld::Journal { end: JournalEnd::None, commit, answer };
            self.commit(&mut state, withheld, &mut later);
        }
        if state.hold.is_none() {
            state.db_locks.unlock(TURNER, all);
            state.turning = false;
        }
        drop(state);
        later.run(self);
    }

    /// Bytes 18 and 19 say WAL; the change counter (24) and its twin (92) move, so that caches go.
    fn write_wal_version(&self) -> Result<(), StoreError> {
        let mut head = [0; crate::sqlite::header::SIZE];
        self.store.read_with_overlay(0, &mut head)?;
        let counter = u32::from_be_bytes([head[24], head[25], head[26], head[27]]).wrapping_add(1);
        self.store.overlay_write(18, &[2, 2])?;
        self.store.overlay_write(24, &counter.to_be_bytes())?;
        self.store.overlay_write(92, &counter.to_be_bytes())
    }

    fn turned(self: &Arc<Self>, result: Result<(), Errno>) {
        if result.is_err() {
            // Its first page says WAL, which it is not (or not yet).
            self.store.overlay_drop();
        }
        // Rule 16: the kernel forgets the old first page before anybody may lock again.
        self.kernel_cache().invalidate(0, 0);
        let mut later = Later::default();
        let mut state = lock(&self.state);
        let all = ByteRange { start: locks::PENDING, end: SHARED_RANGE.end };
        state.db_locks.unlock(TURNER, all);
        state.turning = false;
        // Turned or refused: not tried again until somebody writes.
        state.wrote_here = false;
        self.after_release(&mut state, &mut later);
        drop(state);
        later.run(self);
        if let Ok(()) = result {
            tracing::info!(database = %self.name, "turned to WAL");
        } else {
            tracing::info!(database = %self.name, "not turned to WAL this time");
        }
    }

    /// Whether an application has the database's locks in any way.
    pub fn in_use(&self) -> bool {
        let state = lock(&self.state);
        state.hold.is_some() || state.table(LockFile::Database).locks().len() > 0
    }
}
