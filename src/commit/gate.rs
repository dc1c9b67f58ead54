//! The write lock of one database: from an application's lock request to its answer, and to its
//! release.
//!
//! Rule 15: the local lock first, then the cluster's. The kernel's request is held at most
//! `lock_wait`, then answered EAGAIN while the wish stays with the leader; SQLite's busy timeout does
//! the waiting, also while there is no leader (bounded-answer).

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::cluster_lock::{ClusterLock, Held};
use super::counters::count;
use super::database::{Database, Later, Shared, State};
use super::door::{Conflict, Errno, FileKind, LockRequest, Reply};
use super::hold::{Follow, HEIR, Hold, JournalFollow, LockOwner, Phase};
use super::lock;
use super::propose::unless_changed;
use super::rpc::{Answer, Request};
use super::settings::{CALL_TIMEOUT, LOCK_CALL, RESERVATION, WISH};
use crate::capture::{DatabaseShape, JournalCapture, WalCapture};
use crate::cluster::Ticket;
use crate::core::ports::{ByteRange, LockFile, LockKind};
use crate::core::{DatabaseName, NodeId};
use crate::sqlite::locks;
use crate::store::JournalMode;

/// Between two tries when the leader of the day did not answer.
const ASK_AGAIN: Duration = Duration::from_millis(15);

/// How long a program that closes a database takes from its last lock to the end.
const CLOSES_WITHIN: Duration = Duration::from_millis(500);

/// A write lock request that waits for the cluster's lock.
pub struct Pending {
    pub id: u64,
    pub request: LockRequest,
    pub reply: Reply<()>,
}

/// A lock request that waits for the daemon itself to release something.
pub struct Waiter {
    pub id: u64,
    pub request: LockRequest,
    pub reply: Reply<()>,
}

/// The byte that is the write lock, by file.
pub fn gate_byte(file: LockFile) -> u64 {
    match file {
        LockFile::Database => locks::RESERVED,
        LockFile::Shm => locks::WRITE,
    }
}

fn covers(range: ByteRange, byte: u64) -> bool {
    range.start <= byte && byte <= range.end
}

impl Database {
    /// `F_GETLK`, exact: SQLite's first opener decides by it whether to wipe the shm.
    pub(super) fn lock_in_the_way(&self, request: LockRequest) -> Option<Conflict> {
        let state = lock(&self.state);
        state
            .table(request.file)
            .get_lock(LockOwner::App(request.owner), request.range, request.kind)
            .map(|conflict| Conflict {
                range: conflict.range,
                kind: conflict.kind,
                pid: conflict.pid,
            })
    }

    pub(super) fn lock_request(self: &Arc<Self>, request: LockRequest, reply: Reply<()>) {
        let mut later = Later::default();
        let mut state = lock(&self.state);
        if request.kind != LockKind::Unlock
            && let Some(lockers) = state.open.get_mut(&request.handle)
            && !lockers.contains(&request.owner)
        {
            lockers.push(request.owner);
        }
        if request.kind == LockKind::Unlock {
            self.unlock(&mut state, request, &mut later);
            later.answer(reply, Ok(()));
        } else if request.kind == LockKind::Exclusive
            && covers(request.range, gate_byte(request.file))
        {
            self.ask_to_write(&mut state, request, reply, &mut later);
        } else if request.kind == LockKind::Exclusive
            && request.file == LockFile::Shm
            && covers(request.range, locks::CKPT)
        {
            self.ask_to_checkpoint(&mut state, request, reply, &mut later);
        } else if request.kind == LockKind::Exclusive
            && request.file == LockFile::Shm
            && covers(request.range, locks::RECOVER)
        {
            // Rule 3: the daemon alone repairs a wal-index, when its writer's lock is released.
            later.answer(reply, Err(Errno(libc::EAGAIN)));
        } else {
            self.try_or_wait(&mut state, request, reply, &mut later);
        }
        drop(state);
        later.run(self);
    }

    /// A lock that nothing else hangs on.
    fn try_or_wait(
        self: &Arc<Self>,
        state: &mut State,
        request: LockRequest,
        reply: Reply<()>,
        later: &mut Later,
    ) {
        match state.try_lock(request) {
            Ok(()) => later.answer(reply, Ok(())),
            // The daemon is never long; an application may be.
            Err(LockOwner::Daemon(_)) if !self.is_kept(request) => {
                self.wait(state, request, reply);
            }
            Err(in_the_way) => {
                if matches!(in_the_way, LockOwner::Daemon(_)) {
                    self.refuse_exclusive_use(request);
                }
                later.answer(reply, Err(Errno(libc::EAGAIN)));
            }
        }
    }

    /// SQLite asks for exclusive use at each close, too, and is content with the refusal: it is worth
    /// a line only if the file is still open some time later.
    fn refuse_exclusive_use(&self, request: LockRequest) {
        self.after(CLOSES_WITHIN, move |database| {
            if lock(&database.state).open.contains_key(&request.handle) {
                database.notices.refuse(
                    database.name.as_str(),
                    "exclusive use in WAL mode",
                    request.pid,
                    "a database in WAL mode is never one program's alone: locking_mode EXCLUSIVE \
                     and the way back to a rollback journal are refused",
                );
            }
        });
    }

    /// Whether the request runs into what the daemon keeps for ever: a WAL database's SHARED and
    /// DMS. An application that wants these exclusively leaves WAL mode, or sets exclusive locking.
    fn is_kept(&self, request: LockRequest) -> bool {
        let kept = request.kind == LockKind::Exclusive
            && match request.file {
                LockFile::Database => covers(request.range, locks::SHARED_FIRST),
                LockFile::Shm => covers(request.range, locks::DMS),
            };
        kept && self.mode() == JournalMode::Wal
    }

    fn wait(self: &Arc<Self>, state: &mut State, request: LockRequest, reply: Reply<()>) {
        let id = state.next_id();
        state.waiters.push(Waiter { id, request, reply });
        self.after(self.settings.now().lock_wait, move |database| {
            let waiter = {
                let mut state = lock(&database.state);
                let at = state.waiters.iter().position(|waiter| waiter.id == id);
                at.map(|at| state.waiters.remove(at))
            };
            if let Some(waiter) = waiter {
                (waiter.reply)(Err(Errno(libc::EAGAIN)));
            }
        });
    }

    /// Gives the waiters what became free, first come first served.
    pub(super) fn serve_waiters(self: &Arc<Self>, state: &mut State, later: &mut Later) {
        for waiter in std::mem::take(&mut state.waiters) {
            let gate = waiter.request.kind == LockKind::Exclusive
                && covers(waiter.request.range, gate_byte(waiter.request.file));
            let blocked = matches!(state.conflict(waiter.request), Some(LockOwner::Daemon(_)));
            if gate && blocked {
                // It keeps its place and its deadline.
                state.waiters.push(waiter);
            } else if gate {
                // Through the front door again.
                self.ask_to_write(state, waiter.request, waiter.reply, later);
            } else {
                match state.try_lock(waiter.request) {
                    Ok(()) => later.answer(waiter.reply, Ok(())),
                    Err(LockOwner::Daemon(_)) => state.waiters.push(waiter),
                    Err(LockOwner::App(_)) => {
                        later.answer(waiter.reply, Err(Errno(libc::EAGAIN)));
                    }
                }
            }
        }
    }

    /// The write lock: byte 120 of the shm, or RESERVED.
    fn ask_to_write(
        self: &Arc<Self>,
        state: &mut State,
        request: LockRequest,
        reply: Reply<()>,
        later: &mut Later,
    ) {
        let owner = LockOwner::App(request.owner);
        if state.deleted {
            return later.answer(reply, Err(Errno(libc::EIO)));
        }
        if let Some(hold) = &state.hold
            && hold.owner == owner
        {
            let result = state.try_lock(request).map_err(|_| Errno(libc::EAGAIN));
            return later.answer(reply, result);
        }
        let now = Instant::now();
        let is_taken = state.hold.is_some() || state.pending.is_some();
        if is_taken || !state.turns.may_go(request.owner, now) {
            state.turns.refuse(request.owner, now);
            return later.answer(reply, Err(Errno(libc::EAGAIN)));
        }
        if self.shared.is_closed_to_writers() {
            return later.answer(reply, Err(Errno(libc::EAGAIN)));
        }
        match state.conflict(request) {
            None => {}
            Some(LockOwner::Daemon(_)) => return self.wait(state, request, reply),
            Some(LockOwner::App(_)) => return later.answer(reply, Err(Errno(libc::EAGAIN))),
        }
        // An application's checkpoint and another's writer take turns: SQLite 3.7.0 to 3.51.2 can
        // lose a WAL reset between the two.
        if state.app_checkpoints_other_than(request) {
            return later.answer(reply, Err(Errno(libc::EAGAIN)));
        }
        state.wanted = Some(Instant::now());
        let id = state.next_id();
        state.pending = Some(Pending { id, request, reply });
        if self.advance(state, later) {
            return;
        }
        self.advance_when_applied(state);
        self.after(self.settings.now().lock_wait, move |database| {
            let mut state = lock(&database.state);
            let over = state.pending.take_if(|pending| pending.id == id);
            if let Some(pending) = &over {
                // It has waited for the cluster's lock, and comes back: it does not begin anew.
                state.turns.refuse(pending.request.owner, Instant::now());
            }
            drop(state);
            if let Some(pending) = over {
                count(&database.shared.counters.locks_busy);
                (pending.reply)(Err(Errno(libc::EAGAIN)));
            }
        });
        self.ask_cluster(state);
    }

    /// Grants the pending write lock if all it needs is there. Returns whether none is pending now.
    pub(super) fn advance(self: &Arc<Self>, state: &mut State, later: &mut Later) -> bool {
        if state.pending.is_none() {
            return true;
        }
        // Refused now it can be tried again, here or elsewhere; its COMMIT would have an open outcome.
        if !self.group.in_touch() {
            return false;
        }
        let term = self.leadership().term;
        let Some(held) = state.cluster.usable(term, Instant::now()) else { return false };
        // What the log has brought is queued first: with nothing queued, the database is as far as the log.
        let reached = state.visible.max(self.shared.applied.borrow().index);
        let caught_up = state.queue.is_empty() && !state.pumping && reached >= held.index;
        if !caught_up {
            // In rollback mode the asker's own SHARED lock stands in the way of catching up.
            let in_the_way = self.mode() == JournalMode::Rollback
                && state.pending.as_ref().is_some_and(|pending| {
                    let owner = LockOwner::App(pending.request.owner);
                    state
                        .db_locks
                        .locks()
                        .any(|held| held.owner == owner && held.range.end >= locks::SHARED_FIRST)
                });
            if in_the_way && let Some(pending) = state.pending.take() {
                later.answer(pending.reply, Err(Errno(libc::EAGAIN)));
                return true;
            }
            return false;
        }
        let Some(pending) = state.pending.take() else { return true };
        let result = match state.try_lock(pending.request) {
            Ok(()) => self.begin_hold(state, pending.request).inspect_err(|_| {
                state
                    .table_mut(pending.request.file)
                    .unlock(LockOwner::App(pending.request.owner), pending.request.range);
            }),
            Err(_) => Err(Errno(libc::EAGAIN)),
        };
        if result.is_ok() {
            state.turns.grant(pending.request.owner, Instant::now());
        }
        count(match result {
            Ok(()) => &self.shared.counters.locks_granted,
            Err(_) => &self.shared.counters.locks_busy,
        });
        later.answer(pending.reply, result);
        true
    }

    /// The lock is this node's, and its log is behind: if nothing of it is this database's, nothing
    /// wakes it.
    fn advance_when_applied(self: &Arc<Self>, state: &State) {
        let ClusterLock::Held(held) = state.cluster else { return };
        let mut applied = self.shared.applied.subscribe();
        if state.pending.is_none() || applied.borrow().index >= held.index {
            return;
        }
        let database = Arc::clone(self);
        self.runtime.spawn(async move {
            let reached = applied.wait_for(|entry| entry.index >= held.index);
            if let Ok(Ok(_)) = timeout(database.settings.now().lock_wait, reached).await {
                let mut later = Later::default();
                let mut state = lock(&database.state);
                database.advance(&mut state, &mut later);
                drop(state);
                later.run(&database);
            }
        });
    }

    /// Follows a rollback journal from the database as its writer finds it.
    pub(super) fn begin_journal(&self) -> JournalCapture {
        let page_size = Some(self.store.page_size()).filter(|size| *size != 0);
        let shape = DatabaseShape { page_size, pages: self.store.pages() };
        let head =
            self.read_bytes(FileKind::Journal, 0, crate::sqlite::journal::HEADER_SIZE as u32);
        JournalCapture::begin(shape, &head.unwrap_or_default())
    }

    fn begin_hold(&self, state: &mut State, request: LockRequest) -> Result<(), Errno> {
        let follow = match request.file {
            LockFile::Shm => {
                // Rule 4: from the live wal-index, never from memory.
                let tip = self.store.wal_tip().map_err(|error| self.errno(&error))?;
                Follow::Wal(WalCapture::begin(tip))
            }
            LockFile::Database => {
                Follow::Journal(JournalFollow { capture: self.begin_journal(), dirty: false })
            }
        };
        state.hold = Some(Hold {
            owner: LockOwner::App(request.owner),
            handle: request.handle,
            pid: request.pid,
            writes_as: None,
            base: self.store.head(),
            follow,
            phase: Phase::Open,
        });
        Ok(())
    }

    /// An unlock, or what a close does (`F_UNLCK` of everything).
    pub(super) fn unlock(
        self: &Arc<Self>,
        state: &mut State,
        request: LockRequest,
        later: &mut Later,
    ) {
        let owner = LockOwner::App(request.owner);
        let gate = gate_byte(request.file);
        let ends_hold = covers(request.range, gate)
            && state.hold.as_ref().is_some_and(|hold| {
                hold.owner == owner && hold.journal_mode() == (request.file == LockFile::Database)
            });
        // Rule 2: what the hold committed becomes visible before the byte is free.
        let inherited = ends_hold && self.end_hold(state, later);
        state.table_mut(request.file).unlock(owner, request.range);
        if inherited {
            // With a rollback journal PENDING, too (it is the byte before): what the writer changed
            // lies in the overlay, and no reader comes in before that is gone or committed.
            let first = if request.file == LockFile::Database { locks::PENDING } else { gate };
            let bytes = ByteRange { start: first, end: gate };
            let _free = state.table_mut(request.file).try_lock(HEIR, 0, bytes, LockKind::Exclusive);
        }
        if let Some(pending) = state.pending.take_if(|pending| {
            LockOwner::App(pending.request.owner) == owner && request.range.end == u64::MAX
        }) {
            later.answer(pending.reply, Err(Errno(libc::EAGAIN)));
        }
        self.after_release(state, later);
    }

    /// Something became free, or was applied: whoever can go on does.
    pub(super) fn after_release(self: &Arc<Self>, state: &mut State, later: &mut Later) {
        self.keep_wal(state);
        self.serve_waiters(state, later);
        if state.hold.is_none() {
            self.give_back_if_recalled(state);
            if !state.queue.is_empty() {
                later.pump = true;
            }
            self.advance(state, later);
            if state.pending.is_some() && matches!(state.cluster, ClusterLock::None) {
                self.ask_cluster(state);
            }
        }
        later.turn |= self.should_turn_to_wal(state);
        self.applied.notify_waiters();
    }

    // ---- the cluster's lock -------------------------------------------------------------------

    /// Sees to it that the leader is being asked.
    pub(super) fn ask_cluster(self: &Arc<Self>, state: &mut State) {
        match state.cluster {
            ClusterLock::Asking { .. } => return,
            ClusterLock::Held(held) if held.term == self.leadership().term => return,
            ClusterLock::Held(_) | ClusterLock::None => {}
        }
        // Of all databases: one that was deleted and made anew asks with a later one than the old had.
        let number = self.shared.tickets.fetch_add(1, Ordering::Relaxed);
        let ticket = Ticket { boot: self.shared.proposer.boot(), number };
        state.cluster = ClusterLock::Asking { ticket };
        let database = Arc::clone(self);
        self.runtime.spawn(async move { database.ask_leader(ticket).await });
    }

    async fn ask_leader(self: Arc<Self>, ticket: Ticket) {
        let mut leadership = self.group.leadership();
        loop {
            let wanted = {
                let state = lock(&self.state);
                state.cluster == ClusterLock::Asking { ticket }
                    && (state.pending.is_some()
                        || state.wanted.is_some_and(|at| at.elapsed() < WISH))
            };
            let now = *leadership.borrow_and_update();
            if !wanted {
                let mut state = lock(&self.state);
                if state.cluster == (ClusterLock::Asking { ticket }) {
                    state.cluster = ClusterLock::None;
                }
                drop(state);
                self.tell_release(now.term, ticket);
                return;
            }
            let answer = match now.leader {
                Some(leader) if leader == self.group.me() => {
                    self.arbiter().request(now.term, self.name.clone(), leader, ticket).await
                }
                Some(leader) => {
                    let request =
                        Request::Lock { term: now.term, database: self.name.clone(), ticket };
                    let ask = self.shared.ask(leader, &request, LOCK_CALL + CALL_TIMEOUT);
                    let ask = async { Ok(ask.await) };
                    unless_changed(&mut leadership, ask).await.unwrap_or(Answer::NotLeader)
                }
                None => Answer::NotLeader,
            };
            match answer {
                Answer::Granted { index } => return self.granted(now.term, ticket, index),
                Answer::Waiting => {}
                _ => {
                    let changed = leadership.changed();
                    let _either = tokio::time::timeout(ASK_AGAIN, changed).await;
                }
            }
        }
    }

    fn granted(self: Arc<Self>, term: u64, ticket: Ticket, index: u64) {
        let mut later = Later::default();
        let mut state = lock(&self.state);
        if state.cluster != (ClusterLock::Asking { ticket }) {
            drop(state);
            self.tell_release(term, ticket);
            return;
        }
        let recalled = state.recalled_early.take() == Some(ticket);
        state.cluster = ClusterLock::Held(Held {
            ticket,
            term,
            index,
            reserved_until: Instant::now() + RESERVATION,
            recalled,
        });
        if !self.advance(&mut state, &mut later) {
            self.advance_when_applied(&state);
        }
        self.give_back_if_recalled(&mut state);
        drop(state);
        later.run(&self);
    }

    /// The leader of `term` wants the lock back.
    pub(super) fn recalled(self: &Arc<Self>, term: u64, ticket: Ticket) {
        let mut state = lock(&self.state);
        match state.cluster {
            ClusterLock::Held(held) if held.ticket == ticket => self.recall_held(&mut state),
            ClusterLock::Asking { ticket: asking } if asking == ticket => {
                state.recalled_early = Some(ticket);
            }
            _ => {
                drop(state);
                self.tell_release(term, ticket);
            }
        }
    }

    fn recall_held(self: &Arc<Self>, state: &mut State) {
        if let ClusterLock::Held(held) = &mut state.cluster {
            held.recalled = true;
        }
        self.give_back_if_recalled(state);
    }

    /// Rule 15: at once, unless an application is in the middle, or the reservation still runs.
    fn give_back_if_recalled(self: &Arc<Self>, state: &mut State) {
        let ClusterLock::Held(held) = state.cluster else { return };
        if !held.recalled || state.hold.is_some() {
            return;
        }
        let now = Instant::now();
        if now < held.reserved_until {
            self.after(held.reserved_until - now, |database| {
                database.give_back_if_recalled(&mut lock(&database.state));
            });
            return;
        }
        state.cluster = ClusterLock::None;
        self.tell_release(held.term, held.ticket);
        if state.pending.is_some() {
            self.ask_cluster(state);
        }
    }

    /// A commit was accepted: the reservation has done its work.
    pub(super) fn reservation_used(state: &mut State) {
        if let ClusterLock::Held(held) = &mut state.cluster {
            held.reserved_until = Instant::now();
        }
    }

    pub(super) fn tell_release(&self, term: u64, ticket: Ticket) {
        self.shared.tell_release(&self.name, term, ticket);
    }

    /// A new leader asks what this node holds (Rule 14). What is held is held from it now.
    pub(super) fn held_from(&self, term: u64) -> Option<Ticket> {
        let mut state = lock(&self.state);
        match &mut state.cluster {
            ClusterLock::Held(held) if held.term <= term => {
                held.term = term;
                held.recalled = false;
                Some(held.ticket)
            }
            _ => None,
        }
    }

    /// An application checkpoints: the daemon does it for it, with a SQLite that has no WAL-reset
    /// bug and with Rule 10 kept, and then lets it find nothing to do.
    fn ask_to_checkpoint(
        self: &Arc<Self>,
        state: &mut State,
        request: LockRequest,
        reply: Reply<()>,
        later: &mut Later,
    ) {
        let busy = state.conflict(request).is_some()
            || state.hold.as_ref().is_some_and(|hold| hold.owner != LockOwner::App(request.owner));
        if busy {
            return later.answer(reply, Err(Errno(libc::EAGAIN)));
        }
        let database = Arc::clone(self);
        later.tasks.push(Box::new(move || {
            database.checkpoint_for(request, reply);
        }));
    }
}

impl Shared {
    /// Tells the leader of `term`, if it still leads, that this node has done with a lock.
    pub(super) fn tell_release(self: &Arc<Self>, name: &DatabaseName, term: u64, ticket: Ticket) {
        let now = *self.group.leadership().borrow();
        let Some(leader) = now.leader.filter(|_| now.term == term) else { return };
        let (shared, database) = (Arc::clone(self), name.clone());
        self.runtime.spawn(async move {
            if leader == shared.group.me() {
                shared.arbiter().release(term, &database, leader, ticket);
            } else {
                let request = Request::Unlock { term, database, ticket };
                shared.ask(leader, &request, CALL_TIMEOUT).await;
            }
        });
    }

    async fn ask(&self, leader: NodeId, request: &Request, limit: Duration) -> Answer {
        let answer = match request.encode() {
            Ok(request) => self.group.call(leader, request, limit).await,
            Err(error) => Err(error.to_string()),
        };
        match answer.map(|bytes| Answer::decode(&bytes)) {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => {
                tracing::warn!(leader = leader.0, %error, "an answer that cannot be read");
                Answer::NotLeader
            }
            Err(error) => {
                tracing::debug!(leader = leader.0, error, "the lock request was not answered");
                Answer::NotLeader
            }
        }
    }
}
