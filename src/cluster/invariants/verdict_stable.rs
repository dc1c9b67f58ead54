//! A verdict never changes (Rules 5 and 6; no-lost-ack rests on it).
//!
//! > At most one index decides about a transaction. Every later entry that names it is a duplicate
//! > with the same verdict.
//!
//! Not stricter: once the verdict is forgotten the answer is "forgotten", for ever; such an entry
//! decides nothing. And a node that restarts decides again, at the same index.

use std::collections::{BTreeMap, BTreeSet};

use super::{Invariant, Step, Violation};
use crate::cluster::{Effect, Refusal, Verdict};
use crate::core::TransactionId;

/// See the module.
#[derive(Debug, Default)]
pub struct VerdictStable {
    decided: BTreeMap<TransactionId, (u64, Verdict)>,
    /// Since which index.
    forgotten: BTreeSet<(TransactionId, u64)>,
}

impl Invariant for VerdictStable {
    fn observe(&mut self, step: &Step) -> Result<(), Violation> {
        let id = step.command.id();
        let index = step.entry.index;
        let decided = self.decided.get(&id).copied();
        let was_forgotten = self.forgotten.range((id, 0)..(id, index)).next().is_some();
        let right = match step.effect {
            Effect::Refused(Refusal::Forgotten) => {
                self.forgotten.insert((id, index));
                decided.is_none_or(|(by, _)| by < index)
            }
            _ if was_forgotten => false,
            Effect::Duplicate(verdict) => {
                decided.is_some_and(|(by, before)| by < index && before == verdict)
            }
            Effect::Accepted { .. } | Effect::Refused(_) => {
                let now = (index, step.effect.verdict());
                *self.decided.entry(id).or_insert(now) == now
            }
        };
        if right {
            return Ok(());
        }
        Err(Violation {
            invariant: "verdict-stable",
            what: format!(
                "at index {index} transaction {id} got {:?}, after {decided:?} (index, verdict)",
                step.effect
            ),
        })
    }
}
