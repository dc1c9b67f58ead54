//! Raft: the log on disk, the network between the nodes, the state machine, snapshots.
//!
//! What it is for: every node applies the same entries in the same order ([`RaftNode`]); the room
//! above is told of each ([`Replica`]) and proposes new ones.
//!
//! What it promises:
//! - **no-lost-ack**: an entry is committed when a majority holds it durably, and what is durable
//!   is found again after any crash, or the node does not start.
//! - **one-history**: one log; proposals are fenced to a leader and its term.
//! - **one-primary**: one leader a term (Raft paper §5.2); no clock is trusted.
//! - **caught-up**: only a node whose log holds everything committed is elected (§5.4.1).
//! - **bounded-answer**: what waits for another node ends in a known time.
//! - **converges**: a node that was away is sent what it lacks, or a snapshot.
//! - Rules 6, 10, 11 and 19, where the code says so.
//!
//! Knows of `core`, `cluster`, `mesh`, of `store` how a database comes as a file, and of `ltx` how pages are
//! packed and summed. The only room that imports openraft; what is on disks
//! and between nodes has types and versions of our own.

mod append_stream;
mod campaign;
mod commit_notes;
mod compact;
mod database_stream;
mod error;
mod founding;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod joining;
pub mod links;
mod log;
mod machine;
mod members;
mod network;
mod node;
mod pages;
mod read_index;
mod replica;
mod serve;
mod snapshot;
mod snapshot_pages;
mod snapshot_stream;
mod staged;
mod state_file;
mod status;
mod survivor;
#[cfg(test)]
mod tests;
mod types;
mod watch;
mod wire;

pub use compact::Compaction;
pub use error::{ProposeError, RaftError};
pub use founding::found;
pub use log::{LogConfig, LogError};
pub use node::{Pending, RaftConfig, RaftNode};
pub use pages::{DatabaseTransfer, ReceivedPages, Stage};
pub use replica::{Applied, Content, IncomingDatabase, Offered, Pages, Replica, SnapshotDatabase};
pub use serve::RaftHandlers;
pub use staged::{NoStagedFiles, StagedFiles, StagedFolder, StagedName, StagedWriter, stage};
pub use state_file::StateFileError;
pub use status::{Leadership, Membership, PeerProgress, RaftStatus, Role};
pub use survivor::{Survivor, go_on_alone, look};
pub use types::{Member, Members};
pub use wire::WireError;
