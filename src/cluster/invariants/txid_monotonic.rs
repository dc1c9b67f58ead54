//! TXIDs never go back (Rule 5).
//!
//! > Within an incarnation a database's TXID grows by one with each accepted transaction, and by
//! > nothing else. No incarnation comes again once its name has a later one.
//!
//! Not stricter: a new incarnation begins at TXID 1 again, and a node that restarts replays its
//! log, so a step at or below the highest index that its node was seen at says nothing new. A
//! node that skipped indexes by a snapshot may show a TXID that is ahead by more than one.

use std::collections::BTreeMap;

use super::{Invariant, Step, Violation};
use crate::core::{DatabaseName, Incarnation, NodeId, Txid};

/// See the module.
#[derive(Debug, Default)]
pub struct TxidMonotonic {
    nodes: BTreeMap<NodeId, Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    index: u64,
    /// Of deleted databases too: the incarnation must not come back.
    databases: BTreeMap<DatabaseName, (Incarnation, Txid)>,
}

impl Invariant for TxidMonotonic {
    fn observe(&mut self, step: &Step) -> Result<(), Violation> {
        let seen = self.nodes.entry(step.node).or_default();
        if step.entry.index <= seen.index {
            return Ok(());
        }
        let skipped = step.entry.index > seen.index + 1;
        seen.index = step.entry.index;
        for (name, database) in step.after.databases() {
            let now = (database.incarnation, database.position.txid);
            let changed = database.index == step.entry.index;
            let before = seen.databases.insert(name.clone(), now);
            let right = match before {
                Some((incarnation, txid)) if incarnation == now.0 => {
                    let expected = txid.0 + u64::from(changed);
                    now.1.0 == expected || (skipped && now.1.0 > expected)
                }
                Some((incarnation, _)) if incarnation > now.0 => false,
                _ => now.1 == Txid(1) || (skipped && now.1 > Txid(1)),
            };
            if !right {
                return Err(Violation {
                    invariant: "txid-monotonic",
                    what: format!(
                        "at index {} node {} has {name} at incarnation {} and TXID {}, after \
                         {before:?}",
                        step.entry.index, step.node, now.0, now.1.0
                    ),
                });
            }
        }
        Ok(())
    }
}
