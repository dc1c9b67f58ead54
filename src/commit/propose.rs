//! Puts a command into the Raft log and waits for its verdict.
//!
//! Rule 6: the verdict is taken from this node's own applied log and from nowhere else. What the
//! leader answers says only that it heard. When the answer does not come, or the leader changes, the
//! same id is proposed again to the leader of the day, fenced to its term; the state machine knows
//! ids that it has judged and judges none twice (Rule 5), so that proposing again is always safe.
//! A proposer that gives up proposes [`Command::Abandon`] instead, until the log says which of the
//! two came first: an outcome is unknown for a while, never for ever.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout_at};

use super::arbiter::Arbiter;
use super::lock;
use super::peers::{Leadership, SharedGroup};
use super::rpc::{Answer, Request};
use super::settings::CALL_TIMEOUT;
use super::stage::{STAGING, StagedPayload};
use crate::cluster::{Command, KEPT_VERDICTS, Verdict};
use crate::core::clock::signed_unix_ms;
use crate::core::engine::{Indeterminate, Outcome};
use crate::core::{Boot, DatabaseName, EntryId, NodeId, TransactionId};

/// Between two tries when the leader of the day did not take it.
const BACK_OFF: Duration = Duration::from_millis(20);

/// A proposal that was heard but has no verdict after this long is proposed again.
const PROPOSE_AGAIN: Duration = Duration::from_secs(1);

/// How far the newest proposal may be ahead of the oldest that has no verdict: half of what is kept.
const WINDOW: u64 = KEPT_VERDICTS as u64 / 2;

/// How many transactions with an open outcome are listed.
const OUTCOMES: usize = 100;

/// What its proposer is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The log says so; final. `late`: after [`Event::TimedOut`].
    Verdict { verdict: Verdict, entry: EntryId, late: bool },
    /// Time is over and the outcome is open (*indeterminate*). The verdict follows some day.
    TimedOut,
    /// It could not be proposed in time, and never will be; final.
    NotProposed,
}

/// Told of each event of the transaction that it was proposed as.
pub type OnEvent = Box<dyn FnMut(TransactionId, Event) + Send>;

struct Waiting {
    /// Events of one proposal come one after the other, in order, without the lock of them all.
    on_event: Arc<Mutex<OnEvent>>,
    decided: Arc<Notify>,
    timed_out: bool,
    database: Option<DatabaseName>,
    /// It begins a database.
    begins: bool,
    /// Its pages are not in this node's files: they come from the log, as another node's do.
    from_outside: bool,
}

/// Asks a leader, for as long as it is the leader.
pub(super) async fn unless_changed<T>(
    leadership: &mut watch::Receiver<Leadership>,
    ask: impl Future<Output = Result<T, String>>,
) -> Result<T, String> {
    tokio::select! {
        answer = ask => answer,
        Ok(()) = leadership.changed() => {
            // Seen again by whoever asks anew.
            leadership.mark_changed();
            Err("another leader".to_owned())
        }
    }
}

/// Proposals of this node in this life of its process.
pub struct Proposer {
    group: SharedGroup,
    runtime: Handle,
    boot: Boot,
    sequence: AtomicU64,
    waiting: Mutex<HashMap<TransactionId, Waiting>>,
    indeterminate: AtomicU64,
    /// The last of them.
    open_outcomes: Mutex<VecDeque<Indeterminate>>,
    arbiter: OnceLock<Weak<Arbiter>>,
    /// A proposal got its verdict.
    settled: Notify,
}

impl Proposer {
    pub fn new(group: SharedGroup, runtime: Handle, boot: Boot) -> Self {
        Self {
            group,
            runtime,
            boot,
            sequence: AtomicU64::new(1),
            waiting: Mutex::default(),
            indeterminate: AtomicU64::new(0),
            open_outcomes: Mutex::default(),
            arbiter: OnceLock::new(),
            settled: Notify::new(),
        }
    }

    /// What this node proposes while it leads itself goes through its arbiter, like any node's.
    pub(super) fn set_arbiter(&self, arbiter: &Arc<Arbiter>) {
        let _already = self.arbiter.set(Arc::downgrade(arbiter));
    }

    pub fn boot(&self) -> Boot {
        self.boot
    }

    /// An id that was never used.
    fn next_id(&self) -> TransactionId {
        TransactionId {
            node: self.group.me(),
            boot: self.boot,
            sequence: self.sequence.fetch_add(1, Ordering::Relaxed),
        }
    }

    /// Proposes what `make` makes of a new id, until there is a verdict. `on_event` is called from
    /// the thread that applies the log, or, for the other events, from a timer's.
    pub fn submit(
        self: &Arc<Self>,
        staged: Option<StagedPayload>,
        make: impl FnOnce(TransactionId) -> Command + Send + 'static,
        limit: Duration,
        mut on_event: OnEvent,
    ) {
        let Some(staged) = staged else { return self.propose(make, limit, on_event, false) };
        let proposer = Arc::clone(self);
        self.runtime.spawn(async move {
            // Before it has an id: meanwhile this node may commit thousands of others, and a verdict
            // on an id so far behind would be refused as forgotten.
            if staged.to_leader(&proposer.group, limit).await {
                proposer.propose(make, limit, on_event, false);
            } else {
                on_event(proposer.next_id(), Event::NotProposed);
            }
        });
    }

    /// The same for a database that comes from outside: when it is accepted this node applies it like
    /// another node's. Its file is where it has to be.
    pub(super) fn submit_from_outside(
        self: &Arc<Self>,
        make: impl FnOnce(TransactionId) -> Command,
        limit: Duration,
        on_event: OnEvent,
    ) {
        self.propose(make, limit, on_event, true);
    }

    fn propose(
        self: &Arc<Self>,
        make: impl FnOnce(TransactionId) -> Command,
        limit: Duration,
        on_event: OnEvent,
        from_outside: bool,
    ) {
        let id = self.next_id();
        let command = make(id);
        let decided = Arc::new(Notify::new());
        let waiting = Waiting {
            on_event: Arc::new(Mutex::new(on_event)),
            decided: Arc::clone(&decided),
            timed_out: false,
            begins: matches!(&command, Command::Commit(commit) if commit.incarnation.is_none()),
            database: match &command {
                Command::Commit(commit) => Some(commit.database.clone()),
                Command::Delete { database, .. } => Some(database.clone()),
                Command::Abandon { .. } => None,
            },
            from_outside,
        };
        lock(&self.waiting).insert(id, waiting);
        let proposer = Arc::clone(self);
        self.runtime.spawn(async move {
            let deadline = Instant::now() + limit;
            if proposer.turn(id, deadline).await {
                proposer.drive(id, command, decided, deadline).await;
            }
        });
    }

    /// A verdict of the log. Returns whether a proposer that still waits took it: then the
    /// transaction's pages are in this node's files already.
    pub fn decide(&self, id: TransactionId, verdict: Verdict, entry: EntryId) -> bool {
        if id.node != self.group.me() || id.boot != self.boot {
            return false;
        }
        let Some(waiting) = lock(&self.waiting).remove(&id) else { return false };
        waiting.decided.notify_one();
        let late = waiting.timed_out;
        if late {
            self.settle(id, verdict);
        }
        self.settled.notify_waiters();
        (lock(&waiting.on_event))(id, Event::Verdict { verdict, entry, late });
        !late && !waiting.from_outside
    }

    /// How many proposals ended with their outcome open, since the start.
    pub fn indeterminate(&self) -> u64 {
        self.indeterminate.load(Ordering::Relaxed)
    }

    /// The last of them, and what became of each.
    pub fn open_outcomes(&self) -> Vec<Indeterminate> {
        lock(&self.open_outcomes).iter().cloned().collect()
    }

    fn keep_open(&self, id: TransactionId, database: DatabaseName) {
        let mut kept = lock(&self.open_outcomes);
        if kept.len() == OUTCOMES {
            kept.pop_front();
        }
        let (transaction, answered_ms) = (id.to_string(), signed_unix_ms());
        let outcome = Outcome::Open;
        kept.push_back(Indeterminate { transaction, database, answered_ms, outcome });
    }

    fn settle(&self, id: TransactionId, verdict: Verdict) {
        let transaction = id.to_string();
        let mut kept = lock(&self.open_outcomes);
        if let Some(open) = kept.iter_mut().find(|open| open.transaction == transaction) {
            open.outcome = match verdict {
                Verdict::Accepted { .. } => Outcome::Committed,
                Verdict::Refused(_) => Outcome::Refused,
            };
        }
    }

    /// Those that wait for a verdict, each with its database.
    pub fn open(&self) -> Vec<(TransactionId, Option<DatabaseName>)> {
        lock(&self.waiting).iter().map(|(id, waiting)| (*id, waiting.database.clone())).collect()
    }

    /// A database is served no longer. A transaction that was to begin one of this name may be accepted
    /// all the same, and be the first of the next: the log brings it then, and to its application the
    /// outcome is open. What was made on the one that is gone can only be refused.
    pub(super) fn leave_open(&self, database: &DatabaseName) {
        let ids: Vec<TransactionId> = lock(&self.waiting)
            .iter()
            .filter(|(_, waiting)| waiting.begins && waiting.database.as_ref() == Some(database))
            .map(|(id, _)| *id)
            .collect();
        for id in ids {
            self.time_out(id);
        }
    }

    /// How many wait for a verdict now.
    pub fn in_flight(&self) -> usize {
        lock(&self.waiting).len()
    }

    /// Waits until no older proposal is so far behind that its verdict would be dropped before it
    /// comes ([`KEPT_VERDICTS`], Rule 5). False: it did not come to that in time, and it is over.
    async fn turn(&self, id: TransactionId, deadline: Instant) -> bool {
        loop {
            let settled = self.settled.notified();
            let oldest = lock(&self.waiting).keys().map(|waiting| waiting.sequence).min();
            if oldest.is_none_or(|oldest| id.sequence - oldest.min(id.sequence) < WINDOW) {
                return true;
            }
            if timeout_at(deadline, settled).await.is_err() {
                let waiting = lock(&self.waiting).remove(&id);
                if let Some(waiting) = waiting {
                    (lock(&waiting.on_event))(id, Event::NotProposed);
                }
                return false;
            }
        }
    }

    async fn drive(
        &self,
        id: TransactionId,
        mut command: Command,
        decided: Arc<Notify>,
        mut deadline: Instant,
    ) {
        let mut leadership = self.group.leadership();
        while lock(&self.waiting).contains_key(&id) {
            let now = *leadership.borrow_and_update();
            // What ends this round: the verdict, another leader, or its own time.
            let round = match now.leader {
                None => deadline,
                Some(leader) => {
                    // A frozen leader does not answer; the one after it need not wait for that.
                    let send = unless_changed(&mut leadership, self.send(leader, now, &command));
                    match timeout_at(deadline, send).await {
                        Ok(Ok(())) => deadline.min(Instant::now() + PROPOSE_AGAIN),
                        Ok(Err(error)) => {
                            tracing::debug!(%id, leader = leader.0, error, "proposal not taken");
                            deadline.min(Instant::now() + BACK_OFF)
                        }
                        Err(_over) => deadline,
                    }
                }
            };
            let change = async {
                tokio::select! {
                    () = decided.notified() => {}
                    changed = leadership.changed() => if changed.is_err() {
                        // The group is stopping: only the verdict or the deadline can come.
                        std::future::pending::<()>().await;
                    },
                }
            };
            let _ended_by_time = timeout_at(round, change).await;
            if Instant::now() >= deadline {
                if !self.time_out(id) {
                    return;
                }
                command = Command::Abandon { id };
                deadline = Instant::now() + Duration::from_hours(1);
            }
        }
    }

    /// Tells the proposer that the outcome stays open. Returns whether it was still waiting.
    fn time_out(&self, id: TransactionId) -> bool {
        let mut waiting = lock(&self.waiting);
        let Some(entry) = waiting.get_mut(&id) else { return false };
        if entry.timed_out {
            return true;
        }
        entry.timed_out = true;
        if let Some(database) = entry.database.clone() {
            self.keep_open(id, database);
        }
        let on_event = Arc::clone(&entry.on_event);
        // Taken before the map is let go, so that a verdict that comes now waits its turn.
        let mut on_event = lock(&on_event);
        drop(waiting);
        self.indeterminate.fetch_add(1, Ordering::Relaxed);
        tracing::warn!(
            transaction = %id,
            "indeterminate: no verdict in time; the outcome follows from the log"
        );
        on_event(id, Event::TimedOut);
        true
    }

    async fn send(&self, leader: NodeId, now: Leadership, command: &Command) -> Result<(), String> {
        if leader == self.group.me() {
            let arbiter = self.arbiter.get().and_then(Weak::upgrade);
            let arbiter = arbiter.ok_or("the node is starting")?;
            return arbiter.propose(now.term, command.clone()).await;
        }
        // A new leader fetches a staged file before it answers.
        let staged = matches!(
            command,
            Command::Commit(commit) if StagedPayload::of(&commit.payload).is_some()
        );
        let limit = if staged { STAGING } else { CALL_TIMEOUT };
        let request = Request::Propose { term: now.term, command: command.clone() };
        let request = request.encode().map_err(|error| error.to_string())?;
        let answer = self.group.call(leader, request, limit).await?;
        match Answer::decode(&answer).map_err(|error| error.to_string())? {
            Answer::Ok => Ok(()),
            other => Err(format!("answered {other:?}")),
        }
    }
}
