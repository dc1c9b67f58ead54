//! What can go wrong at the room's door.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use super::{LogError, StateFileError, WireError};
use crate::core::NodeId;

/// Starting, asking, and steering the group.
#[derive(Debug, thiserror::Error)]
pub enum RaftError {
    #[error("the settings of Raft are no good: {0}")]
    Config(String),
    #[error("cannot use the folder {path} of the Raft group: {source}")]
    Folder { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(transparent)]
    State(#[from] StateFileError),
    #[error("the state file names members that make no group: {0}")]
    Members(#[from] WireError),
    #[error(
        "the log is purged up to entry {purged}, but the state file is as of {state:?}; take this \
         node's data from another node"
    )]
    Gap { purged: u64, state: Option<u64> },
    #[error("the Raft node has stopped: {0}")]
    Stopped(String),
    #[error("there is no leader now")]
    NoLeader,
    #[error("this node is not the leader")]
    NotLeader,
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    #[error("node {node} is behind by {entries} entries, and did not catch up within {waited:?}")]
    Behind { node: NodeId, entries: u64, waited: Duration },
    #[error("node {node}: {why}")]
    Peer { node: NodeId, why: String },
    #[error("the members cannot be changed so: {0}")]
    Membership(String),
    #[error("node {0} is no voter of this group")]
    NoVoter(NodeId),
    #[error("making the state durable failed: {0}")]
    Compaction(String),
}

/// A proposal. Of these, only [`ProposeError::Unknown`] and [`ProposeError::Stopped`] leave open
/// whether the entry is, or will be, in the log (Rule 6).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    #[error("this node does not lead in that term; the leader is {leader:?}")]
    NotLeader { leader: Option<NodeId> },
    #[error("the command is {len} bytes long; at most {max} are possible: stage its payload")]
    TooLong { len: usize, max: usize },
    #[error("the staged file that the command names is not on this node")]
    NotStaged,
    #[error("the entry was overtaken by another leader; its fate is read from the log")]
    Unknown,
    #[error("the Raft node has stopped: {0}")]
    Stopped(String),
}
