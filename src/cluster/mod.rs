//! The state machine.

mod command;

pub use command::{Command, Commit, Payload, Refusal, Verdict};
