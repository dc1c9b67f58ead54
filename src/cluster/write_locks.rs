//! The leader's table of cluster-wide write locks: which node may write to which database.
//!
//! A lock belongs to a node, not to an application: a node keeps it after its application's
//! unlock, so that the next transaction costs no call, until another node wants it and the leader
//! recalls it. Nodes wait in the order in which they asked; the leader's own node is a node like
//! any other (Rule 15).
//!
//! # What the nodes do
//! - Every request has a [`Ticket`] of its own, higher than any before from that node. A node acts
//!   upon a grant only if it still waits with that very ticket; else it releases it.
//! - A node that asks with a new ticket has thereby given up whatever its older ones gave it.
//! - A recalled node lets its application finish, then releases the ticket; at once, if it does
//!   not hold by that ticket (any more).
//! - The actions for one node are delivered in their order. Requests and releases may come late,
//!   twice, or in another order: the tickets tell the stale ones.
//!
//! # What the table promises
//! - At most one holder a database, at any time.
//! - Rule 14: nothing is granted before this leader applied its own term's first entry, and every
//!   other node has said what it holds, or is lost, or the deadline passed; nor while a proposal
//!   of that database is in flight.
//! - Rule 15: a node that had to wait for its lock keeps it for [`RESERVATION`], unless it wrote or
//!   releases it: its application was told EAGAIN and may ask again only some 100 ms later
//!   (SQLite's busy handler); were the lock recalled at once, two busy nodes would pass it to and
//!   fro and neither would write.
//!
//! That a node which was lost, but lives, believes in its lock is no danger to the data: what it
//! proposes is judged by its base (one-history), and it dooms its local hold (Rule 1).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::core::{Boot, DatabaseName, NodeId};

/// How long a node that had to wait for a lock cannot be asked to give it back (Rule 15):
/// SQLite's busy handler sleeps up to 100 ms between two attempts, twice that and some.
pub const RESERVATION: Duration = Duration::from_millis(250);

/// One request of one node. Rises with every request, also across restarts of the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Ticket {
    pub boot: Boot,
    pub number: u64,
}

/// What the leader has to tell a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// The lock is the node's, by this request.
    Grant { database: DatabaseName, node: NodeId, ticket: Ticket },
    /// Somebody waits: give it back. Said once for each hold.
    Recall { database: DatabaseName, node: NodeId, ticket: Ticket },
}

/// The answer to a node that said what it holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reclaimed {
    /// What it does not hold any more: it dooms these (Rule 1) and asks anew.
    pub lost: Vec<DatabaseName>,
    pub actions: Vec<Action>,
}

/// One database's lock, for people to look at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockStatus {
    pub database: DatabaseName,
    pub holder: Option<NodeId>,
    /// The holder was asked to give it back.
    pub recalled: bool,
    /// In the order in which they will get it.
    pub waiting: Vec<NodeId>,
    /// Transactions proposed and not yet decided.
    pub proposals: usize,
}

/// The whole table, for people to look at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WriteLocksStatus {
    pub term: u64,
    /// Whether the leader has applied its own term's first entry.
    pub first_entry_applied: bool,
    /// Nodes that have not said yet what they hold.
    pub unheard: Vec<NodeId>,
    pub databases: Vec<LockStatus>,
}

/// A lock that was granted or reclaimed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Hold {
    node: NodeId,
    ticket: Ticket,
    /// Not before this is it recalled.
    reserved_until: Duration,
    recalled: bool,
}

/// A place in a queue. `waited`: some call has already left it waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Waiter {
    node: NodeId,
    ticket: Ticket,
    waited: bool,
}

/// The lock of one database. A node is the holder, or in the queue once, or neither.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
struct Lock {
    holder: Option<Hold>,
    queue: VecDeque<Waiter>,
    proposals: usize,
}

impl Lock {
    /// Ends the hold and the place in the queue of this node, as far as `which` says.
    fn end(&mut self, node: NodeId, which: impl Fn(Ticket) -> bool) {
        self.holder.take_if(|hold| hold.node == node && which(hold.ticket));
        self.queue.retain(|waiter| !(waiter.node == node && which(waiter.ticket)));
    }

    /// Grants and recalls what is due, if the table is `open`. Returns whether this lock is in
    /// use still.
    fn settle(
        &mut self,
        now: Duration,
        open: bool,
        database: &DatabaseName,
        actions: &mut Vec<Action>,
    ) -> bool {
        if open {
            self.grant(now, database, actions);
            self.recall(now, database, actions);
        }
        for waiter in &mut self.queue {
            waiter.waited = true;
        }
        self.holder.is_some() || !self.queue.is_empty() || self.proposals > 0
    }

    fn grant(&mut self, now: Duration, database: &DatabaseName, actions: &mut Vec<Action>) {
        // Rule 14: what is in flight may still move the position that comes with the grant.
        if self.holder.is_some() || self.proposals > 0 {
            return;
        }
        if let Some(Waiter { node, ticket, waited }) = self.queue.pop_front() {
            // Rule 15.
            let reserved_until = if waited { now.saturating_add(RESERVATION) } else { now };
            self.holder = Some(Hold { node, ticket, reserved_until, recalled: false });
            actions.push(Action::Grant { database: database.clone(), node, ticket });
        }
    }

    fn recall(&mut self, now: Duration, database: &DatabaseName, actions: &mut Vec<Action>) {
        if self.due().is_some_and(|due| due <= now)
            && let Some(hold) = &mut self.holder
        {
            hold.recalled = true;
            let Hold { node, ticket, .. } = *hold;
            actions.push(Action::Recall { database: database.clone(), node, ticket });
        }
    }

    /// When the holder is to be asked to give the lock back: somebody waits, and it was not.
    fn due(&self) -> Option<Duration> {
        let hold = self.holder.filter(|hold| !hold.recalled && !self.queue.is_empty())?;
        Some(hold.reserved_until)
    }
}

/// The table of one leader in one term. Dropped when it is leader no more.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct WriteLocks {
    term: u64,
    first_entry_applied: bool,
    unheard: BTreeSet<NodeId>,
    hear_until: Duration,
    locks: BTreeMap<DatabaseName, Lock>,
}

impl WriteLocks {
    /// The table of a new leader. `nodes_to_hear`: those that may hold locks granted by an earlier
    /// one, its own node among them if that may; at `hear_until` those not heard have lost theirs.
    #[must_use]
    pub fn new(term: u64, nodes_to_hear: BTreeSet<NodeId>, hear_until: Duration) -> Self {
        Self {
            term,
            first_entry_applied: false,
            unheard: nodes_to_hear,
            hear_until,
            locks: BTreeMap::new(),
        }
    }

    #[must_use]
    pub fn term(&self) -> u64 {
        self.term
    }

    /// Rule 14: whether anything may be granted yet.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.first_entry_applied && self.unheard.is_empty()
    }

    /// Which node may propose transactions of this database.
    #[must_use]
    pub fn holder(&self, database: &DatabaseName) -> Option<NodeId> {
        self.locks.get(database)?.holder.map(|hold| hold.node)
    }

    /// This leader has applied its own term's first entry, and with it all that earlier leaders
    /// committed (Rule 14).
    pub fn first_entry_applied(&mut self, now: Duration) -> Vec<Action> {
        self.first_entry_applied = true;
        self.settle_all(now)
    }

    /// A node says what it holds, each by the ticket it was granted to. Every node does so when it
    /// meets a new leader, and again if it is not sure that the answer to it arrived.
    ///
    /// The first to claim a lock gets it; once the hearing is over none is given out this way.
    pub fn reclaim(
        &mut self,
        now: Duration,
        node: NodeId,
        claims: &[(DatabaseName, Ticket)],
    ) -> Reclaimed {
        let hearing = !self.unheard.is_empty();
        let mut lost = Vec::new();
        for (database, ticket) in claims {
            let lock = self.locks.entry(database.clone()).or_default();
            // A request that came late and is older than what the node holds; a newer one says
            // that it gave up what it claims here.
            lock.queue.retain(|waiter| waiter.node != node || waiter.ticket > *ticket);
            let asks_anew = lock.queue.iter().any(|waiter| waiter.node == node);
            match lock.holder {
                Some(hold) if hold.node == node && hold.ticket == *ticket => {}
                None if hearing && !asks_anew => {
                    let ticket = *ticket;
                    let hold = Hold { node, ticket, reserved_until: now, recalled: false };
                    lock.holder = Some(hold);
                }
                _ => lost.push(database.clone()),
            }
        }
        self.unheard.remove(&node);
        Reclaimed { lost, actions: self.settle_all(now) }
    }

    /// A node wants the lock. It is granted now or by a later call; asking again with the same
    /// ticket keeps the place in the queue, and repeats the grant if it was given.
    pub fn request(
        &mut self,
        now: Duration,
        database: &DatabaseName,
        node: NodeId,
        ticket: Ticket,
    ) -> Vec<Action> {
        let open = self.is_open();
        let lock = self.locks.entry(database.clone()).or_default();
        if let Some(hold) = lock.holder.filter(|hold| hold.node == node) {
            // A stale request must not end the hold of a newer one.
            if ticket < hold.ticket {
                return Vec::new();
            }
            if ticket == hold.ticket {
                let grant = Action::Grant { database: database.clone(), node, ticket };
                return if open { vec![grant] } else { Vec::new() };
            }
            lock.holder = None;
        }
        match lock.queue.iter_mut().find(|waiter| waiter.node == node) {
            Some(waiter) => waiter.ticket = waiter.ticket.max(ticket),
            None => lock.queue.push_back(Waiter { node, ticket, waited: false }),
        }
        self.settle(now, database)
    }

    /// A node gives up what this ticket gave it: the lock, or its place in the queue.
    pub fn release(
        &mut self,
        now: Duration,
        database: &DatabaseName,
        node: NodeId,
        ticket: Ticket,
    ) -> Vec<Action> {
        if let Some(lock) = self.locks.get_mut(database) {
            lock.end(node, |held| held == ticket);
        }
        self.settle(now, database)
    }

    /// A node died or cannot be reached: it loses its locks and its places in the queues, and is
    /// not waited for. If it lives, it asks anew.
    pub fn node_lost(&mut self, now: Duration, node: NodeId) -> Vec<Action> {
        self.unheard.remove(&node);
        for lock in self.locks.values_mut() {
            lock.end(node, |_| true);
        }
        self.settle_all(now)
    }

    /// A node did not say what it holds, and is not waited for any longer. What it asked for, and
    /// was given, from this leader stays: it was heard of then.
    pub fn not_heard(&mut self, now: Duration, node: NodeId) -> Vec<Action> {
        self.unheard.remove(&node);
        self.settle_all(now)
    }

    /// A transaction of this database goes into the log. Until it is decided the lock passes to
    /// nobody (Rule 14), even if its holder is lost.
    pub fn proposal_started(&mut self, database: &DatabaseName) {
        let lock = self.locks.entry(database.clone()).or_default();
        lock.proposals = lock.proposals.saturating_add(1);
    }

    /// This leader applied that entry. Once for each start.
    pub fn proposal_finished(&mut self, now: Duration, database: &DatabaseName) -> Vec<Action> {
        if let Some(lock) = self.locks.get_mut(database) {
            lock.proposals = lock.proposals.saturating_sub(1);
            // Its holder wrote: that is what the lock was reserved for (Rule 15).
            if let Some(hold) = &mut lock.holder {
                hold.reserved_until = hold.reserved_until.min(now);
            }
        }
        self.settle(now, database)
    }

    /// Time passed: to be called at [`Self::next_tick`] or soon after.
    pub fn tick(&mut self, now: Duration) -> Vec<Action> {
        if now >= self.hear_until {
            self.unheard.clear();
        }
        self.settle_all(now)
    }

    /// When [`Self::tick`] has something to do, if nothing is called before.
    #[must_use]
    pub fn next_tick(&self) -> Option<Duration> {
        if !self.unheard.is_empty() {
            return Some(self.hear_until);
        }
        if !self.first_entry_applied {
            return None;
        }
        self.locks.values().filter_map(Lock::due).min()
    }

    #[must_use]
    pub fn status(&self) -> WriteLocksStatus {
        let lock_status = |(database, lock): (&DatabaseName, &Lock)| LockStatus {
            database: database.clone(),
            holder: lock.holder.map(|hold| hold.node),
            recalled: lock.holder.is_some_and(|hold| hold.recalled),
            waiting: lock.queue.iter().map(|waiter| waiter.node).collect(),
            proposals: lock.proposals,
        };
        WriteLocksStatus {
            term: self.term,
            first_entry_applied: self.first_entry_applied,
            unheard: self.unheard.iter().copied().collect(),
            databases: self.locks.iter().map(lock_status).collect(),
        }
    }

    fn settle(&mut self, now: Duration, database: &DatabaseName) -> Vec<Action> {
        let mut actions = Vec::new();
        let open = self.is_open();
        if let Some(lock) = self.locks.get_mut(database)
            && !lock.settle(now, open, database, &mut actions)
        {
            self.locks.remove(database);
        }
        actions
    }

    fn settle_all(&mut self, now: Duration) -> Vec<Action> {
        let mut actions = Vec::new();
        let open = self.is_open();
        self.locks.retain(|database, lock| lock.settle(now, open, database, &mut actions));
        actions
    }
}

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
