//! What can happen next. Actions are named as the functions of the program.

use stateright::{Model, Property};

use crate::breaks::Break;
use crate::cluster::Command;
use crate::core::TransactionId;
use crate::properties;
use crate::world::{App, Bounds, ClusterLock, Message, Phase, World, id_of};

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Action {
    AskToWrite(usize),
    LockWaitOver(usize),
    WishOver(usize),
    AskLeader(usize),
    ReservationOver(usize),
    WalWrite(usize),
    Unlock(usize),
    Die(usize),
    Drive(usize, TransactionId),
    TimeOut(usize, TransactionId),
    Pump(usize),
    Tick(usize),
    NodeLost(usize, usize),
    Deliver(Message),
    DeliverAgain(Message),
    Campaign(usize, usize),
    AppendEntries(usize, usize),
    Flush(usize),
    Apply(usize),
    Crash(usize),
}

/// A cluster of some size, whole or broken in one place.
#[derive(Debug, Clone)]
pub struct Cluster {
    pub bounds: Bounds,
    pub broken: Option<Break>,
}

impl World {
    fn actions_of_application(&self, node: usize, actions: &mut Vec<Action>) {
        let Self { left, .. } = self;
        let state = &self.nodes[node];
        let database = &state.database;
        match state.app {
            App::Idle if left.transactions > 0 && database.hold.is_none() => {
                actions.push(Action::AskToWrite(node));
            }
            App::Waiting if left.retreats > 0 => actions.push(Action::LockWaitOver(node)),
            App::Writing => {
                let doomed = database.hold.is_some_and(|hold| hold.phase == Phase::Doomed);
                if left.transactions > 0 || doomed {
                    actions.push(Action::WalWrite(node));
                }
                if left.retreats > 0 {
                    actions.push(Action::Unlock(node));
                }
            }
            App::Answered => {
                actions.push(Action::Unlock(node));
                if self.is(Break::TwoTransactionsAHold) && left.transactions > 0 {
                    actions.push(Action::WalWrite(node));
                }
            }
            App::Idle | App::Waiting | App::Committing => {}
        }
        if left.deaths > 0 && state.app != App::Idle {
            actions.push(Action::Die(node));
        }
    }

    fn actions_of_database(&self, node: usize, actions: &mut Vec<Action>) {
        let state = &self.nodes[node];
        match state.database.cluster {
            ClusterLock::Asking { .. } => {
                if state.database.calling.is_some() && self.left.repeats > 0 {
                    actions.push(Action::AskLeader(node));
                }
                if self.left.retreats > 0 && !state.database.pending {
                    actions.push(Action::WishOver(node));
                }
            }
            ClusterLock::Held(held) if held.reserved && held.recalled => {
                actions.push(Action::ReservationOver(node));
            }
            ClusterLock::Held(_) | ClusterLock::None => {}
        }
        for (id, waiting) in &state.waiting {
            let first = waiting.sent < state.raft.term && state.leads(node);
            let again = waiting.sent == state.raft.term && self.left.repeats > 0;
            if first || again {
                actions.push(Action::Drive(node, *id));
            }
            if self.left.timeouts > 0 && !waiting.timed_out {
                actions.push(Action::TimeOut(node, *id));
            }
        }
        if self.may_pump(node) {
            actions.push(Action::Pump(node));
        }
    }

    fn actions_of_leader(&self, node: usize, actions: &mut Vec<Action>) {
        let Some(reign) = &self.nodes[node].reign else { return };
        let hearing = !reign.table.status().unheard.is_empty();
        if reign.table.next_tick().is_some() && (!hearing || self.left.lost > 0) {
            actions.push(Action::Tick(node));
        }
        if self.left.lost > 0 {
            for other in (0..self.nodes.len()).filter(|other| *other != node) {
                actions.push(Action::NodeLost(node, other));
            }
        }
    }

    fn actions_of_raft(&self, node: usize, writers: usize, actions: &mut Vec<Action>) {
        let state = &self.nodes[node];
        let raft = &state.raft;
        let others = || (0..self.nodes.len()).filter(move |other| *other != node);
        if state.leads(node) {
            for other in others().filter(|other| self.has_entries_for(node, *other, writers)) {
                actions.push(Action::AppendEntries(node, other));
            }
        } else if self.left.elections > 0 {
            for voter in others().filter(|voter| self.may_vote(*voter, node)) {
                actions.push(Action::Campaign(node, voter));
            }
        }
        if raft.flushed < raft.log.len()
            && (state.leads(node) || !self.is(Break::AcknowledgesUnflushed))
        {
            actions.push(Action::Flush(node));
        }
        // Nobody looks at what a node without an application has applied, unless it leads.
        let watched = node < writers || state.leads(node);
        if watched && state.applied() < raft.committed.min(raft.flushed).min(raft.log.len()) {
            actions.push(Action::Apply(node));
        }
        if self.left.crashes > 0 {
            actions.push(Action::Crash(node));
        }
    }

    fn deliver(&mut self, message: &Message) {
        match *message {
            Message::Propose { to, term, id, abandon } => {
                let command =
                    if abandon { Command::Abandon { id }.into() } else { self.made[&id].clone() };
                self.arbiter_propose(to, term, command);
            }
            Message::Lock { to, term, from, ticket, call } => {
                self.request(to, term, from, ticket, call);
            }
            Message::Granted { to, term, ticket, call, index } => {
                self.answered(to, term, ticket, call, index);
            }
            Message::Unlock { to, term, from, ticket } => self.release(to, term, from, ticket),
            Message::Recall { to, term, ticket } => self.recalled(to, term, ticket),
            Message::Held { to, term, from } => {
                let ticket = self.held_from(to, term);
                self.network.insert(Message::HeldAnswer { to: from, term, from: to, ticket });
            }
            Message::HeldAnswer { to, term, from, ticket } => self.heard(to, term, from, ticket),
        }
    }

    /// Steps that differ from their delay only by what the network may delay as well. (A leader's
    /// own proposal has no network on its way: it is a step of its own.)
    fn do_at_once(&mut self, bounds: &Bounds) {
        for node in 0..bounds.writers {
            let state = &self.nodes[node];
            let term = state.raft.term;
            let Some(leader) = state.raft.leader else { continue };
            let ids: Vec<TransactionId> = state
                .waiting
                .iter()
                .filter(|(_, waiting)| waiting.sent < term && leader != node)
                .map(|(id, _)| *id)
                .collect();
            let asking = matches!(state.database.cluster, ClusterLock::Asking { .. });
            let heard = leader != node || state.reign.is_some();
            if asking && heard && state.database.calling.is_none_or(|(of, _)| of < term) {
                self.ask_leader(node);
            }
            for id in ids {
                self.drive(node, id);
            }
        }
        for node in 0..self.nodes.len() {
            // Without a crash only the delay of a majority could be seen of a flush.
            if self.left.crashes == 0 && self.nodes[node].leads(node) {
                self.flush(node);
            }
            if bounds.pumps_at_once && self.may_pump(node) {
                self.pump(node);
            }
        }
        // Who has no application holds nothing.
        let idle: Vec<Message> = self
            .network
            .iter()
            .filter(|message| matches!(message, Message::Held { to, .. } if *to >= bounds.writers))
            .cloned()
            .collect();
        for message in idle {
            self.network.remove(&message);
            if let Message::Held { to, term, from } = message {
                self.heard(from, term, to, None);
            }
        }
    }

    /// A request that comes before the leader is ready is made again until it is.
    fn may_deliver(&self, message: &Message) -> bool {
        match message {
            Message::Lock { to, term, .. } => {
                self.nodes[*to].reign.as_ref().is_some_and(|reign| reign.term == *term)
            }
            _ => true,
        }
    }

    /// Messages that can change nothing any more: without them there are fewer worlds to look at.
    fn forget_the_useless(&mut self) {
        if self.is(Break::NotFenced) {
            return;
        }
        let nodes = &self.nodes;
        self.network.retain(|message| match message {
            // Only a leader of that very term looks at these.
            Message::Propose { to, term, .. }
            | Message::Lock { to, term, .. }
            | Message::Unlock { to, term, .. } => nodes[*to].raft.term <= *term,
            Message::HeldAnswer { to, term, from, ticket } => {
                nodes[*to].reign.as_ref().is_some_and(|reign| {
                    let unheard = || reign.table.status().unheard.contains(&id_of(*from));
                    reign.term == *term && (ticket.is_some() || unheard())
                })
            }
            Message::Granted { to, term, ticket, call, .. } => {
                let database = &nodes[*to].database;
                database.calling == Some((*term, *call))
                    && database.cluster == (ClusterLock::Asking { ticket: *ticket })
            }
            Message::Recall { to, term, ticket } => {
                let lock = nodes[*to].database.cluster;
                nodes[*to].raft.term <= *term
                    || lock == ClusterLock::Asking { ticket: *ticket }
                    || matches!(lock, ClusterLock::Held(held) if held.ticket == *ticket)
            }
            Message::Held { .. } => true,
        });
    }

    pub fn step(&mut self, action: Action) {
        match action {
            Action::AskToWrite(node) => self.ask_to_write(node),
            Action::LockWaitOver(node) => self.lock_wait_over(node),
            Action::WishOver(node) => self.wish_over(node),
            Action::AskLeader(node) => self.ask_leader(node),
            Action::ReservationOver(node) => self.reservation_over(node),
            Action::WalWrite(node) => self.wal_write(node),
            Action::Unlock(node) => self.unlock(node),
            Action::Die(node) => self.die(node),
            Action::Drive(node, id) => self.drive(node, id),
            Action::TimeOut(node, id) => self.time_out(node, id),
            Action::Pump(node) => self.pump(node),
            Action::Tick(node) => self.tick(node),
            Action::NodeLost(leader, node) => self.node_lost(leader, node),
            Action::Deliver(message) => {
                self.network.remove(&message);
                self.deliver(&message);
            }
            Action::DeliverAgain(message) => {
                self.left.repeats -= 1;
                self.deliver(&message);
            }
            Action::Campaign(node, voter) => self.campaign(node, voter),
            Action::AppendEntries(leader, follower) => self.append_entries(leader, follower),
            Action::Flush(node) => self.flush(node),
            Action::Apply(node) => self.apply(node),
            Action::Crash(node) => self.crash(node),
        }
    }
}

impl Model for Cluster {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        vec![World::at_rest(&self.bounds, self.broken)]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        for node in 0..world.nodes.len() {
            if node < self.bounds.writers {
                world.actions_of_application(node, actions);
                world.actions_of_database(node, actions);
            }
            world.actions_of_leader(node, actions);
            world.actions_of_raft(node, self.bounds.writers, actions);
        }
        for message in world.network.iter().filter(|message| world.may_deliver(message)) {
            actions.push(Action::Deliver(message.clone()));
            // A call is made anew by who asks; answers, and the one question of a new leader, are
            // not.
            let once = matches!(
                message,
                Message::Held { .. } | Message::HeldAnswer { .. } | Message::Granted { .. }
            );
            if world.left.repeats > 0 && !once {
                actions.push(Action::DeliverAgain(message.clone()));
            }
        }
    }

    fn next_state(&self, world: &World, action: Action) -> Option<World> {
        let mut next = world.clone();
        next.step(action);
        next.do_at_once(&self.bounds);
        next.forget_the_useless();
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        properties::all()
    }

    fn within_boundary(&self, world: &World) -> bool {
        world.nodes.iter().all(|node| node.tickets <= self.bounds.tickets)
    }
}
