//! The commit, lock and leader-change protocol as a model that stateright searches exhaustively.
//!
//! What decides is the program's own code: [`cluster::State`] judges the entries of the log, and
//! [`cluster::WriteLocks`] is the leader's table of locks; both are compiled from `src/cluster` as
//! they are. Around them stands a model of `src/commit`, function by function under the same names,
//! and of Raft, as far as the write path sees it. One database, in WAL mode; each application runs
//! `UPDATE t SET n = n + 1`, so that two that were made on the same base have the same bytes.
//!
//! - [`world`]: the nodes, the network, and what applications were told.
//! - [`raft`]: terms, logs, elections; what was flushed and what a crash leaves.
//! - [`arbiter`]: the leader's side of the locks. [`gate`], [`verdict`], [`apply`], [`propose`]: a
//!   node's side of the database, as in the files of these names in `src/commit`.
//! - [`actions`]: what can happen next. [`properties`]: what must never be seen.
//! - [`search`]: the search.
//! - [`breaks`]: the protocol broken in one place, so that each property is seen to fail.

pub mod actions;
pub mod apply;
pub mod arbiter;
pub mod breaks;
pub mod core;
pub mod gate;
pub mod properties;
pub mod propose;
pub mod raft;
pub mod search;
pub mod verdict;
pub mod world;

#[path = "../../../src/cluster/mod.rs"]
pub mod cluster;
