//! The leader's side of the cluster-wide write locks: who may write which database next.
//!
//! The table itself is pure (`cluster::write_locks`); here it gets a clock, the network, and one
//! life a term. It is kept in the leader's memory only: what keeps two writers apart for good is the
//! position that each transaction carries (one-history). The lock spares them the refusal.
//!
//! Rule 14: a lock is granted only by a leader that has applied its own term's first entry, after
//! the other nodes could say what they hold, and with no proposal of that database in flight.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{Notify, oneshot};
use tokio::time::timeout;

use super::lock;
use super::peers::SharedGroup;
use super::rpc::{Answer, Request};
use super::settings::{CALL_TIMEOUT, LOCK_CALL, RECLAIM};
use crate::cluster::{Action, Command, Ticket, WriteLocks, WriteLocksStatus};
use crate::core::{Clock, DatabaseName, NodeId, TransactionId};

/// Between two tries to tell a node that its lock is recalled.
const AGAIN: Duration = Duration::from_millis(25);

/// Between two looks for proposals that nobody proposes any more, and two tries to settle them.
const SETTLE_AGAIN: Duration = Duration::from_secs(1);

/// A proposer that lives proposes again each second until it has its verdict. One not heard for so
/// long is gone, or was for a moment: a process killed and started again before it was missed.
const FORSAKEN: Duration = Duration::from_secs(5);

/// Called on the leader's own node, as the network would call another's.
pub trait Holder: Send + Sync {
    /// Somebody waits for a lock that this node holds in `term`.
    fn recall(&self, term: u64, database: &DatabaseName, ticket: Ticket);

    /// The locks this node holds, now held from the leader of `term`.
    fn held(&self, term: u64) -> Vec<(DatabaseName, Ticket)>;
}

/// The raft index of the last entry that changed a database, as this node has applied it.
pub type LastIndex = Arc<dyn Fn(&DatabaseName) -> u64 + Send + Sync>;

type Place = (DatabaseName, NodeId, Ticket);

struct Reign {
    term: u64,
    table: WriteLocks,
    asked: HashMap<Place, oneshot::Sender<u64>>,
    proposals: HashMap<TransactionId, InFlight>,
}

/// A transaction that is in the log, or on its way there, and not applied yet.
struct InFlight {
    database: DatabaseName,
    /// When it was last proposed; none of a node that is gone.
    heard: Option<Duration>,
}

pub struct Arbiter {
    group: SharedGroup,
    runtime: Handle,
    clock: Arc<dyn Clock>,
    last_index: LastIndex,
    holder: Weak<dyn Holder>,
    reign: Mutex<Option<Reign>>,
    /// Proposals in the log of a leader whose reign has not begun yet, by its term: it may be led
    /// for a moment before the first entry of the term is applied. Taken after `reign`, if both.
    early: Mutex<HashMap<TransactionId, (u64, DatabaseName)>>,
    /// The table's next deadline is another one.
    deadline_changed: Notify,
    /// A node is gone that had proposed something.
    forsaken: Notify,
    me: Weak<Arbiter>,
}

impl Arbiter {
    pub fn new(
        group: SharedGroup,
        runtime: Handle,
        clock: Arc<dyn Clock>,
        last_index: LastIndex,
        holder: Weak<dyn Holder>,
    ) -> Arc<Self> {
        Arc::new_cyclic(|me| Self {
            group,
            runtime,
            clock,
            last_index,
            holder,
            reign: Mutex::new(None),
            early: Mutex::default(),
            deadline_changed: Notify::new(),
            forsaken: Notify::new(),
            me: Weak::clone(me),
        })
    }

    /// Follows the leadership for as long as the group lives: a table for each term that this node
    /// leads, none otherwise.
    pub async fn run(self: Arc<Self>) {
        let mut leadership = self.group.leadership();
        loop {
            let now = *leadership.borrow_and_update();
            let term = now.ready.then_some(now.term);
            let reigning = lock(&self.reign).as_ref().map(|reign| reign.term);
            if term != reigning {
                *lock(&self.reign) = None;
                if let Some(term) = term {
                    self.begin(term);
                }
            }
            tokio::select! {
                changed = leadership.changed() => if changed.is_err() {
                    *lock(&self.reign) = None;
                    return;
                },
                () = self.until_deadline(), if term.is_some() => self.tick(),
            }
        }
    }

    /// Waits until the table's next deadline, which may change meanwhile. An idle leader has none.
    async fn until_deadline(&self) {
        loop {
            let next = lock(&self.reign).as_ref().and_then(|reign| reign.table.next_tick());
            let changed = self.deadline_changed.notified();
            let Some(next) = next else {
                changed.await;
                continue;
            };
            if timeout(next.saturating_sub(self.clock.now()), changed).await.is_err() {
                return;
            }
        }
    }

    /// A new term of this node: everybody may say what they hold before anything is granted.
    fn begin(self: &Arc<Self>, term: u64) {
        let others = self.group.others();
        let mut hear: BTreeSet<NodeId> = others.iter().copied().collect();
        hear.insert(self.group.me());
        let now = self.clock.now();
        let mut table = WriteLocks::new(term, hear, now + RECLAIM);
        let held = self.holder.upgrade().map(|holder| holder.held(term)).unwrap_or_default();
        let actions = {
            let mut reign = lock(&self.reign);
            // Rule 14: what was proposed to this leader before now is in flight, too.
            let early = std::mem::take(&mut *lock(&self.early));
            let early = early.into_iter().filter(|(_, (of, _))| *of == term);
            let in_flight = |database| InFlight { database, heard: Some(now) };
            let proposals: HashMap<_, _> =
                early.map(|(id, (_, name))| (id, in_flight(name))).collect();
            for proposal in proposals.values() {
                table.proposal_started(&proposal.database);
            }
            let mut actions = table.first_entry_applied(now);
            actions.extend(table.reclaim(now, self.group.me(), &held).actions);
            *reign = Some(Reign { term, table, asked: HashMap::new(), proposals });
            actions
        };
        self.perform(term, actions);
        let arbiter = Arc::clone(self);
        self.runtime.spawn(async move { arbiter.settle_forsaken(term).await });
        for node in others {
            let arbiter = Arc::clone(self);
            self.runtime.spawn(async move { arbiter.hear(term, node).await });
        }
    }

    async fn hear(&self, term: u64, node: NodeId) {
        let answer = self.ask(node, &Request::Held { term }, RECLAIM * 2).await;
        match answer {
            Ok(Answer::Held { databases }) => {
                let mut lost = Vec::new();
                self.with(term, |table, now| {
                    let reclaimed = table.reclaim(now, node, &databases);
                    lost = reclaimed.lost;
                    reclaimed.actions
                });
                // It believes that it holds them from this leader: it is told that it does not. Were it
                // not to hear, its next commit finds another base, if somebody else wrote.
                let lost = databases.into_iter().filter(|(database, _)| lost.contains(database));
                for (database, ticket) in lost {
                    tracing::info!(node = node.0, %database, "a lock was not reclaimed");
                    let request = Request::Recall { term, database, ticket };
                    if let Err(error) = self.ask(node, &request, CALL_TIMEOUT).await {
                        tracing::debug!(node = node.0, error, "a lost lock was not heard of");
                    }
                }
            }
            Ok(other) => tracing::debug!(node = node.0, ?other, "no word on held locks"),
            // Dead, or cut off: what it held is free. Were it alive after all, its next commit would
            // be judged by its base. What it was given since, in this term, is its own: a node that
            // starts may ask before it can be asked.
            Err(error) => {
                tracing::debug!(node = node.0, error, "no word on held locks");
                self.with(term, |table, now| table.not_heard(now, node));
            }
        }
    }

    fn tick(&self) {
        let term = lock(&self.reign).as_ref().map(|reign| reign.term);
        if let Some(term) = term {
            self.with(term, WriteLocks::tick);
        }
    }

    /// Runs one step of the table, if this node still leads `term`, and does what it decides.
    fn with(&self, term: u64, step: impl FnOnce(&mut WriteLocks, Duration) -> Vec<Action>) -> bool {
        let now = self.clock.now();
        let actions = match lock(&self.reign).as_mut() {
            Some(reign) if reign.term == term => {
                self.step(&mut reign.table, |table| step(table, now))
            }
            _ => return false,
        };
        self.perform(term, actions);
        true
    }

    /// Every step that may set a deadline goes through here: who waits for it is told.
    fn step(
        &self,
        table: &mut WriteLocks,
        step: impl FnOnce(&mut WriteLocks) -> Vec<Action>,
    ) -> Vec<Action> {
        let deadline = table.next_tick();
        let actions = step(table);
        if table.next_tick() != deadline {
            self.deadline_changed.notify_one();
        }
        actions
    }

    fn perform(&self, term: u64, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Grant { database, node, ticket } => {
                    self.grant(term, &database, node, ticket);
                }
                Action::Recall { database, node, ticket } => {
                    self.recall(term, database, node, ticket);
                }
            }
        }
    }

    fn grant(&self, term: u64, database: &DatabaseName, node: NodeId, ticket: Ticket) {
        let index = (self.last_index)(database);
        let asked = lock(&self.reign)
            .as_mut()
            .filter(|reign| reign.term == term)
            .and_then(|reign| reign.asked.remove(&(database.clone(), node, ticket)));
        // Nobody listens any more when the asker's call ended a moment ago: it asks again with the
        // same ticket and finds itself the holder, or its silence is noticed.
        if let Some(asked) = asked {
            let _gone = asked.send(index);
        }
    }

    fn recall(&self, term: u64, database: DatabaseName, node: NodeId, ticket: Ticket) {
        if node == self.group.me() {
            let holder = Weak::clone(&self.holder);
            self.runtime.spawn_blocking(move || {
                if let Some(holder) = holder.upgrade() {
                    holder.recall(term, &database, ticket);
                }
            });
            return;
        }
        let Some(arbiter) = self.me.upgrade() else { return };
        self.runtime.spawn(async move {
            let request = Request::Recall { term, database: database.clone(), ticket };
            // The table says it once for each hold, so it has to be heard: a node that came back a
            // moment ago may reach us before we reach it.
            while arbiter.holds(term, &database, node) {
                match arbiter.ask(node, &request, CALL_TIMEOUT).await {
                    Ok(_) => return,
                    Err(error) => {
                        tracing::debug!(node = node.0, error, "a recall was not heard");
                        tokio::time::sleep(AGAIN).await;
                    }
                }
            }
        });
    }

    fn holds(&self, term: u64, database: &DatabaseName, node: NodeId) -> bool {
        lock(&self.reign)
            .as_ref()
            .is_some_and(|reign| reign.term == term && reign.table.holder(database) == Some(node))
    }

    async fn ask(
        &self,
        node: NodeId,
        request: &Request,
        limit: Duration,
    ) -> Result<Answer, String> {
        let request = request.encode().map_err(|error| error.to_string())?;
        let answer = self.group.call(node, request, limit).await?;
        Answer::decode(&answer).map_err(|error| error.to_string())
    }

    /// A node asks for the write lock. Answers when it has it, or after [`LOCK_CALL`] that it still
    /// waits; its place is kept.
    pub async fn request(
        &self,
        term: u64,
        database: DatabaseName,
        node: NodeId,
        ticket: Ticket,
    ) -> Answer {
        // Nor could it be told that somebody else waits for the lock: it would keep it. And what it is
        // for could not be committed while no majority answers.
        if !self.group.reaches(node) || !self.group.in_touch() {
            tokio::time::sleep(AGAIN).await;
            return Answer::Waiting;
        }
        let (sender, receiver) = oneshot::channel();
        {
            let mut reign = lock(&self.reign);
            let Some(reign) = reign.as_mut().filter(|reign| reign.term == term) else {
                return Answer::NotLeader;
            };
            reign.asked.insert((database.clone(), node, ticket), sender);
        }
        let place = database.clone();
        if !self.with(term, |table, now| table.request(now, &place, node, ticket)) {
            return Answer::NotLeader;
        }
        match timeout(LOCK_CALL, receiver).await {
            Ok(Ok(index)) => Answer::Granted { index },
            Ok(Err(_reign_over)) => Answer::NotLeader,
            Err(_waiting) => {
                self.forget_asked(term, &(place, node, ticket));
                Answer::Waiting
            }
        }
    }

    fn forget_asked(&self, term: u64, place: &Place) {
        if let Some(reign) = lock(&self.reign).as_mut().filter(|reign| reign.term == term) {
            reign.asked.remove(place);
        }
    }

    /// Whether locks are granted: always on a node that does not lead.
    pub fn is_open(&self) -> bool {
        lock(&self.reign).as_ref().is_none_or(|reign| reign.table.is_open())
    }

    /// Who holds what, on the leader.
    pub fn status(&self) -> Option<WriteLocksStatus> {
        lock(&self.reign).as_ref().map(|reign| reign.table.status())
    }

    /// A node has done with a lock, or with waiting for it.
    pub fn release(&self, term: u64, database: &DatabaseName, node: NodeId, ticket: Ticket) {
        self.with(term, |table, now| table.release(now, database, node, ticket));
    }

    /// A node's process is dead, or it has been silent for too long: what it held is free.
    pub fn node_lost(&self, node: NodeId) {
        let term = lock(&self.reign).as_ref().map(|reign| reign.term);
        if let Some(term) = term {
            self.with(term, |table, now| table.node_lost(now, node));
            if let Some(reign) = lock(&self.reign).as_mut() {
                for (_, proposal) in reign.proposals.iter_mut().filter(|(id, _)| id.node == node) {
                    proposal.heard = None;
                }
            }
            self.forsaken.notify_one();
        }
    }

    /// No lock of a database is granted while a transaction of it is in flight (Rule 14). Whoever
    /// proposed it proposes it again until it is judged; instead of one that does not, this node gives
    /// it up (Rule 6): if it is in the log, it comes before that.
    async fn settle_forsaken(&self, term: u64) {
        loop {
            let _either = timeout(SETTLE_AGAIN, self.forsaken.notified()).await;
            let Some(ids) = self.forsaken_proposals(term) else { return };
            for id in ids {
                tracing::info!(%id, "a proposal that nobody proposes any more is settled");
                match self.group.propose_here(term, Command::Abandon { id }).await {
                    Ok(()) => self.heard(id),
                    Err(error) => tracing::debug!(%id, error, "it is not settled yet"),
                }
            }
        }
    }

    /// It is proposed to be given up: for a while nobody need do more.
    fn heard(&self, id: TransactionId) {
        let now = self.clock.now();
        let mut reign = lock(&self.reign);
        let proposal = reign.as_mut().and_then(|reign| reign.proposals.get_mut(&id));
        if let Some(proposal) = proposal {
            proposal.heard = Some(now);
        }
    }

    /// None when this node does not lead `term` any more.
    fn forsaken_proposals(&self, term: u64) -> Option<Vec<TransactionId>> {
        let now = self.clock.now();
        let reign = lock(&self.reign);
        let reign = reign.as_ref().filter(|reign| reign.term == term)?;
        let forsaken = |proposal: &InFlight| {
            proposal.heard.is_none_or(|heard| now.saturating_sub(heard) >= FORSAKEN)
        };
        let forsaken = reign.proposals.iter().filter(|(_, proposal)| forsaken(proposal));
        let mut ids: Vec<_> = forsaken.map(|(id, _)| *id).collect();
        ids.sort_unstable();
        Some(ids)
    }

    /// Puts a command into this node's log, if it leads `term`. Done when it is queued there.
    ///
    /// # Errors
    /// It was not taken; says why.
    pub async fn propose(&self, term: u64, command: Command) -> Result<(), String> {
        let id = command.id();
        if let Command::Commit(commit) = &command {
            self.proposal_started(term, id, &commit.database);
        }
        let queued = self.group.propose_here(term, command).await;
        if queued.is_err() {
            self.proposal_finished(id);
        }
        queued
    }

    /// A transaction goes into this leader's log.
    fn proposal_started(&self, term: u64, id: TransactionId, database: &DatabaseName) {
        let heard = Some(self.clock.now());
        let mut reign = lock(&self.reign);
        let Some(reign) = reign.as_mut().filter(|reign| reign.term == term) else {
            lock(&self.early).insert(id, (term, database.clone()));
            return;
        };
        let proposal = InFlight { database: database.clone(), heard };
        if reign.proposals.insert(id, proposal).is_none() {
            reign.table.proposal_started(database);
        }
    }

    /// The transaction was applied, or will not be.
    pub fn proposal_finished(&self, id: TransactionId) {
        let now = self.clock.now();
        let mut done = None;
        {
            let mut reign = lock(&self.reign);
            lock(&self.early).remove(&id);
            if let Some(reign) = reign.as_mut()
                && let Some(InFlight { database, .. }) = reign.proposals.remove(&id)
            {
                let step = |table: &mut WriteLocks| table.proposal_finished(now, &database);
                done = Some((reign.term, self.step(&mut reign.table, step)));
            }
        }
        if let Some((term, actions)) = done {
            self.perform(term, actions);
        }
    }
}

#[cfg(test)]
mod tests;
