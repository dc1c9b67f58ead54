//! The leader's side of the locks: `commit::arbiter`, around the program's own table.

use std::sync::Arc;
use std::time::Duration;

use crate::breaks::Break;
use crate::cluster::{Action, Command, Ticket, Verdict, WriteLocks};
use crate::core::{DatabaseName, TransactionId};
use crate::world::{Entry, Message, NAME, World, Wrong, id_of};

impl World {
    /// `Arbiter::with`: one step of the table, if this node still leads `term`.
    pub fn with(
        &mut self,
        leader: usize,
        term: u64,
        step: impl FnOnce(&mut WriteLocks, Duration) -> Vec<Action>,
    ) -> bool {
        let reign = self.nodes[leader].reign.as_mut();
        let Some(reign) = reign.filter(|reign| reign.term == term) else { return false };
        let actions = step(&mut reign.table, reign.now);
        self.perform(leader, term, actions);
        true
    }

    /// `Arbiter::perform`.
    pub fn perform(&mut self, leader: usize, term: u64, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Grant { node, ticket, .. } => {
                    self.grant(leader, term, node.0 as usize, ticket);
                }
                Action::Recall { node, ticket, .. } => {
                    let node = node.0 as usize;
                    if node == leader {
                        self.recalled(node, term, ticket);
                    } else {
                        self.network.insert(Message::Recall { to: node, term, ticket });
                    }
                }
            }
        }
    }

    /// `Arbiter::grant`.
    fn grant(&mut self, leader: usize, term: u64, node: usize, ticket: Ticket) {
        self.check_grant(leader, term, node, ticket);
        let index = self.last_index(leader);
        let Some(reign) = self.nodes[leader].reign.as_mut() else { return };
        reign.turn.retain(|other| *other != node);
        // Nobody listens any more, otherwise: it asks again and finds itself the holder.
        let Some(call) = reign.asked.remove(&(node, ticket)) else { return };
        if node == leader {
            self.answered(node, term, ticket, call, index);
        } else {
            self.network.insert(Message::Granted { to: node, term, ticket, call, index });
        }
    }

    /// What Rule 14 and Rule 15 say about a grant, looked at from outside.
    fn check_grant(&mut self, leader: usize, term: u64, node: usize, ticket: Ticket) {
        let Some(reign) = self.nodes[leader].reign.as_mut() else { return };
        if reign.granted.replace((node, ticket)) == Some((node, ticket)) {
            // The same answer once more.
            return;
        }
        let state = &self.nodes[leader];
        let applied = state.applied();
        let first = state.raft.log.iter().position(|entry| entry.term == term);
        if first.is_none_or(|first| applied < first + 1) {
            self.did_wrong(Wrong::GrantedBeforeFirstEntry);
        }
        let state = &self.nodes[leader];
        let in_flight = state.raft.log[applied..].iter().any(|entry| {
            matches!(entry.command.as_deref(), Some(Command::Commit(commit))
                if state.machine.verdict(commit.id).is_none())
        });
        if in_flight {
            self.did_wrong(Wrong::GrantedWithAProposalInFlight);
        }
        let Some(reign) = self.nodes[leader].reign.as_ref() else { return };
        let waiting: Vec<_> =
            reign.table.status().databases.into_iter().flat_map(|lock| lock.waiting).collect();
        let mut turn =
            reign.turn.iter().filter(|one| **one == node || waiting.contains(&id_of(**one)));
        if turn.next().is_some_and(|first| *first != node) && reign.turn.contains(&node) {
            self.did_wrong(Wrong::GrantedOutOfTurn);
        }
    }

    /// `AllDatabases::last_index`, of the state that the log has made so far.
    fn last_index(&self, node: usize) -> u64 {
        self.nodes[node].machine.database(&NAME).map_or(0, |database| database.index)
    }

    /// `Arbiter::request`.
    pub fn request(&mut self, leader: usize, term: u64, from: usize, ticket: Ticket, call: u8) {
        let goes_first = from == leader && self.is(Break::LeaderGoesFirst);
        let Some(reign) = self.nodes[leader].reign.as_mut().filter(|reign| reign.term == term)
        else {
            return;
        };
        let holds = reign.table.holder(&NAME) == Some(id_of(from));
        if !holds && !reign.turn.contains(&from) {
            reign.turn.push(from);
        }
        let mut others = Vec::new();
        if goes_first {
            others.extend(reign.asked.keys().filter(|(node, _)| *node != from).copied());
            for (node, ticket) in &others {
                reign.table.release(reign.now, &NAME, id_of(*node), *ticket);
            }
        }
        reign.asked.insert((from, ticket), call);
        self.with(leader, term, |table, now| {
            let mut actions = table.request(now, &NAME, id_of(from), ticket);
            for (node, ticket) in others {
                actions.extend(table.request(now, &NAME, id_of(node), ticket));
            }
            actions
        });
        // A holder that asks for more than it holds has let go, and is in the queue from now on.
        let Some(reign) = self.nodes[leader].reign.as_mut() else { return };
        let waiting = reign.table.status().databases.into_iter().flat_map(|lock| lock.waiting);
        if waiting.collect::<Vec<_>>().contains(&id_of(from)) && !reign.turn.contains(&from) {
            reign.turn.push(from);
        }
    }

    /// `Arbiter::release`.
    pub fn release(&mut self, leader: usize, term: u64, from: usize, ticket: Ticket) {
        self.taken_back(leader, from, |granted| granted == ticket);
        self.with(leader, term, |table, now| table.release(now, &NAME, id_of(from), ticket));
        self.forget_turns(leader);
    }

    fn taken_back(&mut self, leader: usize, node: usize, which: impl Fn(Ticket) -> bool) {
        if let Some(reign) = self.nodes[leader].reign.as_mut() {
            reign.granted.take_if(|(of, ticket)| *of == node && which(*ticket));
        }
    }

    /// Who is no longer waiting has no turn.
    fn forget_turns(&mut self, leader: usize) {
        if let Some(reign) = self.nodes[leader].reign.as_mut() {
            let status = reign.table.status();
            let waits = |node: usize| {
                status.databases.iter().any(|lock| lock.waiting.contains(&id_of(node)))
            };
            reign.turn.retain(|node| waits(*node));
        }
    }

    /// `Arbiter::node_lost`: its process is dead, or silent for too long; or it seems so.
    pub fn node_lost(&mut self, leader: usize, node: usize) {
        self.left.lost -= 1;
        let Some(term) = self.nodes[leader].reign.as_ref().map(|reign| reign.term) else { return };
        self.lose(term, node);
        self.taken_back(leader, node, |_| true);
        self.with(leader, term, |table, now| table.node_lost(now, id_of(node)));
        self.forget_turns(leader);
    }

    /// `Arbiter::tick`, when the table's next deadline is reached.
    pub fn tick(&mut self, leader: usize) {
        let Some(reign) = self.nodes[leader].reign.as_mut() else { return };
        let Some(next) = reign.table.next_tick() else { return };
        let term = reign.term;
        reign.now = reign.now.max(next);
        let unheard = reign.table.status().unheard;
        if !unheard.is_empty() {
            self.left.lost -= 1;
            for node in unheard {
                self.lose(term, node.0 as usize);
            }
        }
        self.with(leader, term, WriteLocks::tick);
    }

    /// `Arbiter::hear`, its answer.
    pub fn heard(&mut self, leader: usize, term: u64, node: usize, ticket: Option<Ticket>) {
        let claims: Vec<(DatabaseName, Ticket)> =
            ticket.map(|ticket| (NAME.clone(), ticket)).into_iter().collect();
        let mut lost = false;
        self.with(leader, term, |table, now| {
            let reclaimed = table.reclaim(now, id_of(node), &claims);
            lost = !reclaimed.lost.is_empty();
            reclaimed.actions
        });
        if !lost && let Some(ticket) = ticket {
            self.lost.remove(&(term, node));
            if let Some(reign) = self.nodes[leader].reign.as_mut() {
                reign.granted = Some((node, ticket));
            }
        }
        self.forget_turns(leader);
    }

    /// `Arbiter::propose`: into this node's log, if it leads `term`.
    pub fn arbiter_propose(&mut self, leader: usize, term: u64, command: Arc<Command>) {
        let id = command.id();
        let fenced = !self.is(Break::NotFenced);
        let forgets = self.is(Break::ForgetsProposals);
        let node = &mut self.nodes[leader];
        if !node.leads(leader) || (fenced && node.raft.term != term) {
            return;
        }
        if matches!(*command, Command::Commit(_)) && !forgets {
            match node.reign.as_mut().filter(|reign| reign.term == term) {
                Some(reign) => {
                    if reign.proposals.insert(id) {
                        reign.table.proposal_started(&NAME);
                    }
                }
                None => drop(node.early.insert((term, id))),
            }
        }
        let entry = Entry { term: node.raft.term, command: Some(command), meant_for: term };
        node.raft.log.push(entry);
        let index = node.raft.log.len() as u64;
        if self.is(Break::AnswersWhenHeard)
            && let Some(incarnation) = self.nodes[leader].database.incarnation
        {
            self.decide(id, Verdict::Accepted { incarnation, index }, index);
        }
    }

    /// `Arbiter::proposal_finished`.
    pub fn proposal_finished(&mut self, node: usize, id: TransactionId) {
        self.nodes[node].early.retain(|(_, early)| *early != id);
        let Some(reign) = self.nodes[node].reign.as_mut() else { return };
        if reign.proposals.remove(&id) {
            let term = reign.term;
            self.with(node, term, |table, now| table.proposal_finished(now, &NAME));
        }
    }
}
