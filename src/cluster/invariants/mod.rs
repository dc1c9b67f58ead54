//! The promises of the state machine, each as a check: one file a property.
//!
//! A simulation shows every [`Step`] of every node to each of them; each remembers what it needs
//! and says which step broke it. They look at what `State` does from outside and share no code
//! with it.

mod one_history;
mod txid_monotonic;
mod verdict_stable;

pub use one_history::OneHistory;
pub use txid_monotonic::TxidMonotonic;
pub use verdict_stable::VerdictStable;

use super::{Command, Effect, State};
use crate::core::{EntryId, NodeId};

/// One entry applied by one node.
#[derive(Debug, Clone, Copy)]
pub struct Step<'a> {
    pub node: NodeId,
    pub entry: EntryId,
    pub command: &'a Command,
    pub effect: Effect,
    /// The node's state with the entry applied.
    pub after: &'a State,
}

/// A property that holds for all steps of all nodes.
pub trait Invariant {
    /// Takes note of a step.
    ///
    /// # Errors
    /// The step, with what was seen before, breaks the property.
    fn observe(&mut self, step: &Step) -> Result<(), Violation>;
}

/// A property that did not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{invariant}: {what}")]
pub struct Violation {
    pub invariant: &'static str,
    pub what: String,
}

#[cfg(test)]
mod tests;
