//! What the log brings to a node: `commit::databases` and `commit::apply`.

use crate::breaks::Break;
use crate::cluster::{Command, Commit, Effect, Verdict};
use crate::core::{Incarnation, TransactionId};
use crate::world::{ClusterLock, Phase, Queued, World, Wrong};

impl World {
    /// `AllDatabases::command`: one entry of the log, in order.
    pub fn command(&mut self, node: usize, index: u64, command: &Command, effect: Effect) {
        let verdict = effect.verdict();
        let fresh = !matches!(effect, Effect::Duplicate(_));
        if let (Command::Commit(commit), Verdict::Accepted { incarnation, .. }, true) =
            (command, verdict, fresh)
        {
            if !self.decide_at(node, commit.id, verdict, index)
                && !self.took_for_its_own(node, commit, verdict, index)
            {
                self.enqueue(node, index, commit, incarnation);
            }
        } else {
            self.decide_at(node, command.id(), verdict, index);
        }
        self.proposal_finished(node, command.id());
    }

    fn decide_at(&mut self, node: usize, id: TransactionId, verdict: Verdict, index: u64) -> bool {
        id.node.0 as usize == node && self.decide(id, verdict, index)
    }

    fn took_for_its_own(
        &mut self,
        node: usize,
        commit: &Commit,
        verdict: Verdict,
        index: u64,
    ) -> bool {
        match self.committing_to(node, commit.new) {
            Some(own) if self.is(Break::TakesPositionForIdentity) => {
                self.decide(own, verdict, index)
            }
            _ => false,
        }
    }

    /// `Database::enqueue`: the next entry for this database, another's.
    fn enqueue(&mut self, node: usize, index: u64, commit: &Commit, incarnation: Incarnation) {
        let dooms = !self.is(Break::DoesNotDoom) && !self.is(Break::AppliesBeneathAHold);
        let database = &mut self.nodes[node].database;
        let mut gone = None;
        if let ClusterLock::Held(held) = database.cluster
            && index > held.index
        {
            database.cluster = ClusterLock::None;
            gone = Some(held);
        }
        if let Some(hold) = database.hold.as_mut()
            && hold.phase == Phase::Open
            && dooms
        {
            hold.phase = Phase::Doomed;
        }
        database.incarnation = Some(incarnation);
        database.queue.push_back(Queued { index, base: commit.base, new: commit.new });
        if let Some(held) = gone {
            self.tell_release(node, held.term, held.ticket);
        }
    }

    /// Whether `pump` would apply something: nobody holds the write lock here (Rule 1).
    pub fn may_pump(&self, node: usize) -> bool {
        let database = &self.nodes[node].database;
        let free = database.hold.is_none() || self.is(Break::AppliesBeneathAHold);
        free && !database.queue.is_empty()
    }

    /// `Database::pump`: applies one.
    pub fn pump(&mut self, node: usize) {
        let database = &mut self.nodes[node].database;
        let Some(queued) = database.queue.pop_front() else { return };
        let (beneath, base) = (database.hold.is_some(), database.head);
        database.head = queued.new;
        database.shown = queued.new;
        database.visible = queued.index;
        if beneath {
            self.did_wrong(Wrong::AppliedBeneathAHold);
        }
        if base != queued.base {
            self.did_wrong(Wrong::AppliedOnAnotherBase);
        }
        self.after_release(node);
    }
}
