//! What the nodes agree on: the state machine that every node drives by the entries of the log,
//! and the leader's table of cluster-wide write locks.
//!
//! - [`State`]: the databases with their positions, and what became of the last transactions.
//!   [`State::apply`] is total and deterministic: the same entries make the same state on every
//!   node, and no input makes it panic.
//! - [`Registry`]: who should be a member, the tokens that let nodes in, and the cluster's CA.
//! - [`Lease`]: who is primary under the other engine, and who may become it.
//! - [`WriteLocks`]: who may write to which database. It lives on the leader alone and is made
//!   anew by every leader; nothing of it is in the log.
//! - [`invariants`]: the promises of the above, each as a check that a simulation can run.
//!
//! Keeps: one-history (a transaction is accepted on its base alone), Rule 5 (identity,
//! verdicts), Rule 14 and the cluster's half of Rule 15 (when a write lock is granted and
//! recalled). no-lost-ack rests on a verdict never changing once it was given.
//!
//! Knows of `core`. Pure: no I/O, no clock, no tokio.

mod authority;
mod command;
mod encoding;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
pub mod invariants;
mod lease;
mod registry;
mod state;
mod verdicts;
mod write_locks;

pub use authority::{Authority, Root, Rotation};
pub use command::{Command, Commit, Payload, Refusal, Refused, Verdict};
pub use encoding::DecodeError;
pub use lease::{Chosen, End, Holder, Lease, LeaseChange, Tenure};
pub use registry::{Change, Node, Part, Registry, Token, TokenState};
pub use state::{DatabaseState, Effect, State};
pub use verdicts::KEPT_VERDICTS;
pub use write_locks::{
    Action, LockStatus, RESERVATION, Reclaimed, Ticket, WriteLocks, WriteLocksStatus,
};
