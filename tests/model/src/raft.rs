//! Raft, as far as the write path sees it. Messages between its nodes are taken as one step: what
//! is lost or late is a step that does not come, or comes later.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::breaks::Break;
use crate::cluster::{Command, State, WriteLocks};
use crate::core::EntryId;
use crate::world::{App, Database, Entry, Message, NAME, Reign, World, position};

/// The entries that every node of the world begins with.
const AT_REST: usize = 2;

impl World {
    pub fn majority(&self) -> usize {
        self.nodes.len() / 2 + 1
    }

    /// Whether `voter` may vote for `node`: its log is no newer.
    pub fn may_vote(&self, voter: usize, node: usize) -> bool {
        let last = |node: usize| {
            let log = &self.nodes[node].raft.log;
            (log.last().map(|entry| entry.term), log.len())
        };
        last(voter) <= last(node)
    }

    /// `node` is elected, with the voice of `voter`: two are a majority of two or three.
    pub fn campaign(&mut self, node: usize, voter: usize) {
        self.left.elections -= 1;
        let term = self.nodes[node].raft.term.max(self.nodes[voter].raft.term) + 1;
        for one in [node, voter] {
            let raft = &mut self.nodes[one].raft;
            raft.term = term;
            raft.leader = None;
            self.nodes[one].reign = None;
        }
        let nodes = self.nodes.len();
        let raft = &mut self.nodes[node].raft;
        raft.leader = Some(node);
        raft.log.push(Entry { term, command: None, meant_for: term });
        raft.matched = vec![0; nodes];
        if self.is(Break::GrantsBeforeFirstEntry) {
            self.begin(node, term);
        }
    }

    /// Whether [`Self::append_entries`] would change anything that somebody looks at.
    pub fn has_entries_for(&self, leader: usize, follower: usize, writers: usize) -> bool {
        let (from, to) = (&self.nodes[leader].raft, &self.nodes[follower].raft);
        let news = to.leader != Some(leader) || to.log != from.log;
        to.term <= from.term && (news || (to.committed < from.committed && follower < writers))
    }

    /// The leader sends all that it has, and hears the answer.
    pub fn append_entries(&mut self, leader: usize, follower: usize) {
        let from = self.nodes[leader].raft.clone();
        if self.nodes[follower].raft.leader != Some(leader) {
            self.nodes[follower].reign = None;
        }
        let acknowledges_unflushed = self.is(Break::AcknowledgesUnflushed);
        let to = &mut self.nodes[follower].raft;
        to.term = from.term;
        to.leader = Some(leader);
        let len = from.log.len();
        if !acknowledges_unflushed {
            to.flushed = len;
        }
        to.flushed = to.flushed.min(len);
        to.committed = to.committed.max(from.committed);
        to.log = from.log;
        self.nodes[leader].raft.matched[follower] = len;
        self.advance_committed(leader);
    }

    /// The leader's own disk has what it appended.
    pub fn flush(&mut self, node: usize) {
        let raft = &mut self.nodes[node].raft;
        raft.flushed = raft.log.len();
        if self.nodes[node].leads(node) {
            self.advance_committed(node);
        }
    }

    /// Only what is of the leader's own term is counted (Raft, section 5.4.2).
    fn advance_committed(&mut self, leader: usize) {
        let majority = self.majority();
        let raft = &mut self.nodes[leader].raft;
        raft.matched[leader] = raft.flushed;
        let mut matched = raft.matched.clone();
        matched.sort_unstable_by(|a, b| b.cmp(a));
        let reached = matched[majority - 1];
        if reached > raft.committed && raft.log[reached - 1].term == raft.term {
            raft.committed = reached;
            if reached > self.agreed.len() {
                self.agreed = Arc::new(raft.log[..reached].to_vec());
            }
        }
    }

    /// `raft::machine::Machine::entry`: the next committed entry goes into the state. Rule 10: this
    /// node's own disk has it.
    pub fn apply(&mut self, node: usize) {
        let index = self.nodes[node].applied() + 1;
        let entry = self.nodes[node].raft.log[index - 1].clone();
        let id = EntryId { term: entry.term, index: index as u64 };
        match entry.command {
            None => Arc::make_mut(&mut self.nodes[node].machine).pass(id),
            Some(command) => {
                let judged = self.as_judged(node, &command);
                let machine = Arc::make_mut(&mut self.nodes[node].machine);
                let effect = machine.apply(id, &judged);
                self.command(node, id.index, &judged, effect);
            }
        }
        let raft = &self.nodes[node].raft;
        let first_entry_applied = self.nodes[node].leads(node) && entry.term == raft.term;
        if first_entry_applied && self.nodes[node].reign.is_none() {
            self.begin(node, raft.term);
        }
    }

    fn as_judged(&self, node: usize, command: &Arc<Command>) -> Arc<Command> {
        let present = self.nodes[node].machine.databases().next().map(|(_, at)| at.position);
        match (&**command, present) {
            (Command::Commit(commit), Some(present)) if self.is(Break::JudgesByAnyBase) => {
                let mut commit = commit.clone();
                commit.base = present;
                commit.new.txid = position(present.txid.0 + 1, 0).txid;
                Arc::new(Command::Commit(commit))
            }
            _ => Arc::clone(command),
        }
    }

    /// `commit::arbiter::Arbiter::begin`: a new term of this node.
    fn begin(&mut self, node: usize, term: u64) {
        let hear: BTreeSet<_> = (0..self.nodes.len()).map(crate::world::id_of).collect();
        let mut table = WriteLocks::new(term, hear, Duration::from_millis(150));
        let early = std::mem::take(&mut self.nodes[node].early);
        let early = early.into_iter().filter(|(of, _)| *of == term).map(|(_, id)| id);
        let proposals: BTreeSet<_> = early.collect();
        if !self.is(Break::ForgetsEarlyProposals) {
            for _ in &proposals {
                table.proposal_started(&NAME);
            }
        }
        let actions = table.first_entry_applied(Duration::ZERO);
        self.nodes[node].reign = Some(Reign { proposals, ..Reign::of(term, table) });
        self.perform(node, term, actions);
        let own = self.held_from(node, term);
        self.heard(node, term, node, own);
        for other in (0..self.nodes.len()).filter(|other| *other != node) {
            self.network.insert(Message::Held { to: other, term, from: node });
        }
    }

    /// The process dies and starts again: its applications are gone, its disk has what it flushed.
    pub fn crash(&mut self, node: usize) {
        self.left.crashes -= 1;
        let leads_on = self.is(Break::LeadsOnAfterACrash) && self.nodes[node].leads(node);
        let nodes = self.nodes.len();
        let mut machine = State::default();
        for (at, entry) in self.nodes[node].raft.log.iter().take(AT_REST).enumerate() {
            let id = EntryId { term: entry.term, index: at as u64 + 1 };
            match &entry.command {
                None => machine.pass(id),
                Some(command) => drop(machine.apply(id, command)),
            }
        }
        let node = &mut self.nodes[node];
        node.boot += 1;
        node.raft.log.truncate(node.raft.flushed);
        if !leads_on {
            node.raft.leader = None;
        }
        node.raft.matched = if leads_on { vec![0; nodes] } else { Vec::new() };
        node.raft.committed = AT_REST;
        node.machine = Arc::new(machine);
        node.reign = None;
        node.early = BTreeSet::new();
        node.database = Database::at(position(1, 0), AT_REST as u64);
        node.waiting = BTreeMap::new();
        node.sequence = 0;
        node.app = App::Idle;
    }
}
