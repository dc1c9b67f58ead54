//! The write lock of the database on one node: `commit::gate` and `commit::cluster_lock`.

use crate::breaks::Break;
use crate::cluster::Ticket;
use crate::core::Boot;
use crate::world::{
    App, ClusterLock, Held, Hold, LockOwner, Message, Phase, World, Wrong, counter,
};

impl World {
    /// `Database::ask_to_write`: an application asks for byte 120.
    pub fn ask_to_write(&mut self, node: usize) {
        self.nodes[node].app = App::Waiting;
        self.nodes[node].database.pending = true;
        if !self.advance(node) {
            self.ask_cluster(node);
        }
    }

    /// `lock_wait` is over: EAGAIN. The wish stays with the leader.
    pub fn lock_wait_over(&mut self, node: usize) {
        self.left.retreats -= 1;
        self.nodes[node].database.pending = false;
        self.nodes[node].app = App::Idle;
    }

    /// `ClusterLock::usable`.
    fn usable(&mut self, node: usize) -> Option<Held> {
        let state = &self.nodes[node];
        let term = state.raft.term;
        if self.is(Break::LeaderAsksNobody) && state.leads(node) && state.reign.is_some() {
            let ticket = Ticket { boot: Boot(state.boot), number: 0 };
            let index = state.database.visible;
            let held = Held { ticket, term, index, reserved: true, recalled: false };
            self.nodes[node].database.cluster = ClusterLock::Held(held);
            return Some(held);
        }
        let ClusterLock::Held(held) = state.database.cluster else { return None };
        let may = !held.recalled || held.reserved || self.is(Break::WaitersBeatARecall);
        (held.term == term && may).then_some(held)
    }

    /// `Database::advance`: grants the pending write lock if all it needs is there. Returns whether
    /// none is pending now.
    pub fn advance(&mut self, node: usize) -> bool {
        if !self.nodes[node].database.pending {
            return true;
        }
        let Some(held) = self.usable(node) else { return false };
        let database = &mut self.nodes[node].database;
        if !database.queue.is_empty() || database.visible < held.index || database.hold.is_some() {
            return false;
        }
        database.pending = false;
        // `begin_hold`. Rule 4: from the live wal-index.
        let base = database.head;
        database.hold =
            Some(Hold { owner: LockOwner::App, base, read: counter(base), phase: Phase::Open });
        self.nodes[node].app = App::Writing;
        if held.recalled && !held.reserved {
            self.did_wrong(Wrong::UsedARecalledLock);
        }
        true
    }

    /// `Database::after_release`. What is queued is applied in a step of its own.
    pub fn after_release(&mut self, node: usize) {
        if self.nodes[node].database.hold.is_some() {
            return;
        }
        self.give_back_if_recalled(node);
        self.advance(node);
        let database = &self.nodes[node].database;
        if database.pending && database.cluster == ClusterLock::None {
            self.ask_cluster(node);
        }
    }

    /// `Database::ask_cluster`.
    fn ask_cluster(&mut self, node: usize) {
        let state = &mut self.nodes[node];
        match state.database.cluster {
            ClusterLock::Asking { .. } => return,
            ClusterLock::Held(held) if held.term == state.raft.term => return,
            ClusterLock::Held(_) | ClusterLock::None => {}
        }
        state.tickets += 1;
        let ticket = Ticket { boot: Boot(state.boot), number: state.tickets };
        state.database.cluster = ClusterLock::Asking { ticket };
    }

    /// `Database::ask_leader`: once around its loop.
    pub fn ask_leader(&mut self, node: usize) {
        let state = &mut self.nodes[node];
        let ClusterLock::Asking { ticket } = state.database.cluster else { return };
        let term = state.raft.term;
        let Some(to) = state.raft.leader else { return };
        let again = state.database.calling.filter(|(asked, _)| *asked == term);
        let call = again.map_or(0, |(_, call)| call + 1);
        state.database.calling = Some((term, call));
        if again.is_some() {
            self.left.repeats -= 1;
        }
        if to == node {
            self.request(to, term, node, ticket, call);
        } else {
            self.network.insert(Message::Lock { to, term, from: node, ticket, call });
        }
    }

    /// The answer to a call of `ask_leader`, if it still waits for that one.
    pub fn answered(&mut self, node: usize, term: u64, ticket: Ticket, call: u8, index: u64) {
        let database = &mut self.nodes[node].database;
        if database.cluster != (ClusterLock::Asking { ticket }) {
            return;
        }
        let calling = &mut database.calling;
        if calling.take_if(|calling| *calling == (term, call)).is_some() {
            self.granted(node, term, ticket, index);
        }
    }

    /// The end of `ask_leader`, when nobody here wants the lock any more.
    pub fn wish_over(&mut self, node: usize) {
        self.left.retreats -= 1;
        let state = &mut self.nodes[node];
        let ClusterLock::Asking { ticket } = state.database.cluster else { return };
        state.database.cluster = ClusterLock::None;
        state.database.calling = None;
        let term = state.raft.term;
        self.tell_release(node, term, ticket);
    }

    /// `Database::granted`.
    fn granted(&mut self, node: usize, term: u64, ticket: Ticket, index: u64) {
        let database = &mut self.nodes[node].database;
        if database.cluster != (ClusterLock::Asking { ticket }) {
            return self.tell_release(node, term, ticket);
        }
        let recalled = database.recalled_early.take() == Some(ticket);
        let held = Held { ticket, term, index, reserved: true, recalled };
        database.cluster = ClusterLock::Held(held);
        self.advance(node);
        self.give_back_if_recalled(node);
    }

    /// `Database::recalled`.
    pub fn recalled(&mut self, node: usize, term: u64, ticket: Ticket) {
        let database = &mut self.nodes[node].database;
        match &mut database.cluster {
            ClusterLock::Held(held) if held.ticket == ticket => {
                held.recalled = true;
                self.give_back_if_recalled(node);
            }
            ClusterLock::Asking { ticket: asking } if *asking == ticket => {
                database.recalled_early = Some(ticket);
            }
            _ => self.tell_release(node, term, ticket),
        }
    }

    /// `Database::give_back_if_recalled`.
    fn give_back_if_recalled(&mut self, node: usize) {
        let database = &mut self.nodes[node].database;
        let ClusterLock::Held(held) = database.cluster else { return };
        if !held.recalled || database.hold.is_some() || held.reserved {
            return;
        }
        if self.is(Break::WaitersBeatARecall) && self.nodes[node].database.pending {
            return;
        }
        self.nodes[node].database.cluster = ClusterLock::None;
        self.tell_release(node, held.term, held.ticket);
        if self.nodes[node].database.pending {
            self.ask_cluster(node);
        }
    }

    /// The reservation's time is over (Rule 15). Of interest once it is recalled.
    pub fn reservation_over(&mut self, node: usize) {
        if let ClusterLock::Held(held) = &mut self.nodes[node].database.cluster {
            held.reserved = false;
        }
        self.give_back_if_recalled(node);
    }

    /// `Shared::tell_release`: to the leader of `term`, if it still leads.
    pub fn tell_release(&mut self, node: usize, term: u64, ticket: Ticket) {
        let raft = &self.nodes[node].raft;
        let Some(to) = raft.leader.filter(|_| raft.term == term) else { return };
        if to == node {
            self.release(to, term, node, ticket);
        } else {
            self.network.insert(Message::Unlock { to, term, from: node, ticket });
        }
    }

    /// `Database::held_from`: a new leader asks. What is held is held from it now.
    pub fn held_from(&mut self, node: usize, term: u64) -> Option<Ticket> {
        match &mut self.nodes[node].database.cluster {
            ClusterLock::Held(held) if held.term <= term => {
                held.term = term;
                held.recalled = false;
                let ticket = held.ticket;
                // Until the leader has said so.
                self.lost.insert((term, node), ticket);
                Some(ticket)
            }
            _ => None,
        }
    }
}
