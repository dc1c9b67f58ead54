//! What became of the last transactions of one node (Rule 5).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Refusal, Verdict};
use crate::core::{Boot, TransactionId};

/// How many verdicts are kept of each node. A node asks for a verdict again only about proposals
/// it still waits for; it has one of them a database at most (Rule 20), so this is far above what
/// it can need. Part of what the nodes agree on: nodes with different numbers here would judge
/// differently, so a change needs a command of its own that all of them apply.
pub const KEPT_VERDICTS: usize = 1024;

/// A transaction among those of its node: in which boot, and which of its proposals. In the order
/// in which the node made them.
type Number = (Boot, u64);

/// The verdicts on the transactions of one node, the last [`KEPT_VERDICTS`] of them.
///
/// Once that many are kept there are always that many, and the lowest kept number only rises. So
/// everything below it is forgotten, for good: it was decided and dropped, or came far too late,
/// and is never judged (again). Otherwise a transaction whose verdict was dropped could be
/// accepted a second time (one-history).
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct NodeVerdicts {
    kept: BTreeMap<Number, Verdict>,
}

impl NodeVerdicts {
    /// The verdict that stands on a transaction of this node; `None`: it is yet to be judged.
    pub(super) fn get(&self, id: TransactionId) -> Option<Verdict> {
        let number = (id.boot, id.sequence);
        self.kept
            .get(&number)
            .copied()
            .or_else(|| self.is_forgotten(number).then_some(Verdict::Refused(Refusal::Forgotten)))
    }

    fn is_forgotten(&self, number: Number) -> bool {
        self.kept.len() >= KEPT_VERDICTS
            && self.kept.first_key_value().is_some_and(|(lowest, _)| number < *lowest)
    }

    /// Keeps a verdict on a transaction that [`Self::get`] had none on. The oldest makes room.
    pub(super) fn keep(&mut self, id: TransactionId, verdict: Verdict) {
        self.kept.insert((id.boot, id.sequence), verdict);
        while self.kept.len() > KEPT_VERDICTS {
            self.kept.pop_first();
        }
    }

    /// Whether this could have been made by [`Self::keep`]; what was read from a disk may not.
    pub(super) fn is_consistent(&self) -> bool {
        self.kept.len() <= KEPT_VERDICTS
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::{Incarnation, NodeId};

    fn id(boot: u64, sequence: u64) -> TransactionId {
        TransactionId { node: NodeId(1), boot: Boot(boot), sequence }
    }

    fn accepted(index: u64) -> Verdict {
        Verdict::Accepted { incarnation: Incarnation(1), index }
    }

    const FORGOTTEN: Option<Verdict> = Some(Verdict::Refused(Refusal::Forgotten));

    #[test]
    fn the_last_ones_are_kept_across_boots_and_the_older_ones_stay_forgotten() {
        let mut verdicts = NodeVerdicts::default();
        let kept = KEPT_VERDICTS as u64;
        for sequence in 10..10 + kept {
            verdicts.keep(id(1, sequence), accepted(sequence));
        }
        assert_eq!(verdicts.get(id(1, 10)), Some(accepted(10)));
        assert_eq!(verdicts.get(id(1, 10 + kept)), None, "a newer one is yet to be judged");
        assert_eq!(verdicts.get(id(2, 0)), None, "one of a later boot is newer");

        verdicts.keep(id(2, 0), accepted(7));
        assert_eq!(verdicts.get(id(1, 10)), FORGOTTEN);
        assert_eq!(verdicts.get(id(1, 11)), Some(accepted(11)));
        assert_eq!(verdicts.get(id(2, 0)), Some(accepted(7)));
        assert!(verdicts.is_consistent());
    }

    #[test]
    fn a_late_one_is_judged_while_there_is_room_and_refused_for_good_when_there_is_none() {
        let mut verdicts = NodeVerdicts::default();
        verdicts.keep(id(1, 100), accepted(1));
        assert_eq!(verdicts.get(id(1, 99)), None);
        for sequence in 101..100 + KEPT_VERDICTS as u64 {
            verdicts.keep(id(1, sequence), accepted(1));
        }
        assert_eq!(verdicts.get(id(1, 99)), FORGOTTEN, "full: it would be forgotten at once");
        verdicts.keep(id(3, 1), accepted(2));
        assert_eq!(verdicts.get(id(1, 99)), FORGOTTEN);
        assert_eq!(verdicts.get(id(1, 100)), FORGOTTEN);
    }
    #[test]
    fn more_than_are_ever_kept_are_not_believed() {
        let kept = (0..KEPT_VERDICTS as u64).map(|n| ((Boot(1), n), accepted(n))).collect();
        let mut verdicts = NodeVerdicts { kept };
        assert!(verdicts.is_consistent());
        verdicts.kept.insert((Boot(2), 0), accepted(0));
        assert!(!verdicts.is_consistent());
    }
}
