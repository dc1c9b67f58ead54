//! one-history (DESIGN, Promises).
//!
//! > All nodes apply the same transactions in the same order, and each is made on the position
//! > that the one before it led to.
//!
//! That is: at one index every node sees the same command and the same effect; and within an
//! incarnation the accepted transactions form one chain, from the empty position on.
//!
//! Not stricter: a node may skip indexes (a snapshot took it past them) and may see an index
//! again (it restarted and replays its log), so the chain is checked over the indexes that all
//! nodes together have seen, by the first that reaches each. It follows that some node must be
//! shown every index; the checks of a run in which every node skipped one would be false alarms.

use std::collections::BTreeMap;

use super::{Invariant, Step, Violation};
use crate::cluster::{Command, Effect};
use crate::core::{DatabaseName, Incarnation, Position};

/// See the module.
#[derive(Debug, Default)]
pub struct OneHistory {
    /// What each index said and did, by the first node that applied it.
    entries: BTreeMap<u64, (Command, Effect)>,
    chains: BTreeMap<(DatabaseName, Incarnation), Position>,
}

impl Invariant for OneHistory {
    fn observe(&mut self, step: &Step) -> Result<(), Violation> {
        let violation = |what| Err(Violation { invariant: "one-history", what });
        let index = step.entry.index;
        if let Some((command, effect)) = self.entries.get(&index) {
            if command == step.command && *effect == step.effect {
                return Ok(());
            }
            return violation(format!(
                "node {} applied {:?} with {:?} at index {index}, another node {command:?} with \
                 {effect:?}",
                step.node, step.command, step.effect
            ));
        }
        self.entries.insert(index, (step.command.clone(), step.effect));
        let (Command::Commit(commit), Effect::Accepted { incarnation, .. }) =
            (step.command, step.effect)
        else {
            return Ok(());
        };
        let end =
            self.chains.entry((commit.database.clone(), incarnation)).or_insert(Position::EMPTY);
        if commit.base != *end {
            return violation(format!(
                "index {index} took transaction {} of {}, made on {}, after {end}",
                commit.id, commit.database, commit.base
            ));
        }
        *end = commit.new;
        Ok(())
    }
}
