//! A node's proposals: `commit::propose`, and the write that completes a transaction.

use std::sync::Arc;

use crate::breaks::Break;
use crate::cluster::{Command, Refusal, Verdict};
use crate::core::{Boot, Position, TransactionId};
use crate::world::{
    App, Message, Phase, Told, Waiting, World, Wrong, commit, counter, id_of, position,
};

impl World {
    /// `Database::wal_write`, of the write that completes a COMMIT.
    pub fn wal_write(&mut self, node: usize) {
        self.nodes[node].app = App::Answered;
        let live = self.nodes[node].database.head;
        let Some(mut hold) = self.nodes[node].database.hold else { return };
        match hold.phase {
            Phase::Open => {}
            Phase::Committed { .. } if self.is(Break::TwoTransactionsAHold) => {
                self.did_wrong(Wrong::TwoTransactionsInOneHold);
                hold.base = live;
                hold.read = counter(live);
            }
            // EIO: Rule 1, Rule 20, and the verdict is sticky.
            _ => return,
        }
        if self.is(Break::AppliesBeneathAHold) {
            hold.base = live;
        }
        self.left.transactions -= 1;
        let state = &mut self.nodes[node];
        state.sequence += 1;
        let id =
            TransactionId { node: id_of(node), boot: Boot(state.boot), sequence: state.sequence };
        // UPDATE t SET n = n + 1
        let new = position(hold.base.txid.0 + 1, hold.read + 1);
        hold.phase = Phase::Committing { id, new };
        state.app = App::Committing;
        state.database.hold = Some(hold);
        let command = Arc::new(commit(id, state.database.incarnation, hold.base, new));
        let waiting = Waiting { command: Arc::clone(&command), timed_out: false, sent: 0 };
        state.waiting.insert(id, waiting);
        self.made.insert(id, command);
        if self.is(Break::VisibleBeforeCommitted) {
            self.nodes[node].database.shown = new;
        }
    }

    /// `Proposer::drive`, once around its loop: to the leader of the day.
    pub fn drive(&mut self, node: usize, id: TransactionId) {
        let state = &mut self.nodes[node];
        let (term, leader) = (state.raft.term, state.raft.leader);
        let Some(waiting) = state.waiting.get_mut(&id) else { return };
        let Some(to) = leader else { return };
        let first = waiting.sent == 0;
        if waiting.sent == term {
            self.left.repeats -= 1;
        }
        waiting.sent = term;
        let command = Arc::clone(&waiting.command);
        if self.is(Break::AnswersTooEarly) && !first {
            self.decide(id, Verdict::Refused(Refusal::Abandoned), 0);
            return;
        }
        if to == node {
            self.arbiter_propose(to, term, command);
        } else {
            let abandon = matches!(*command, Command::Abandon { .. });
            self.network.insert(Message::Propose { to, term, id, abandon });
        }
    }

    /// `Proposer::time_out`: the outcome stays open, and the proposal is abandoned.
    pub fn time_out(&mut self, node: usize, id: TransactionId) {
        self.left.timeouts -= 1;
        if let Some(waiting) = self.nodes[node].waiting.get_mut(&id) {
            waiting.timed_out = true;
            waiting.command = Arc::new(Command::Abandon { id });
            waiting.sent = 0;
        }
        self.outcome_open(node, id);
    }

    /// `Proposer::decide`: a verdict of the log. Returns whether a proposer that still waits took
    /// it.
    pub fn decide(&mut self, id: TransactionId, verdict: Verdict, index: u64) -> bool {
        let node = id.node.0 as usize;
        if node >= self.nodes.len() || id.boot != Boot(self.nodes[node].boot) {
            return false;
        }
        let Some(waiting) = self.nodes[node].waiting.remove(&id) else { return false };
        if waiting.timed_out {
            self.settled(node);
            return false;
        }
        match verdict {
            Verdict::Accepted { incarnation, .. } => {
                self.nodes[node].database.incarnation = Some(incarnation);
                self.accepted(node, id, index);
            }
            Verdict::Refused(_) => self.refused(node, id),
        }
        true
    }

    /// The application is told what became of its COMMIT.
    pub fn tell(&mut self, node: usize, id: TransactionId, told: Told) {
        if self.nodes[node].app == App::Committing {
            self.nodes[node].app = App::Answered;
            self.told.insert(id, told);
        }
    }

    /// The transaction of this node that waits for its verdict and would lead to this position.
    pub fn committing_to(&self, node: usize, to: Position) -> Option<TransactionId> {
        match self.nodes[node].database.hold.map(|hold| hold.phase) {
            Some(Phase::Committing { id, new }) if new == to => Some(id),
            _ => None,
        }
    }
}
