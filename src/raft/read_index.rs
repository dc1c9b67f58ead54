//! Reads that see everything committed before they were asked for: the read index (Raft
//! dissertation §6.4). No lease and no clock: the leader asks a quorum whether it still leads.

use openraft::ReadPolicy;

use super::RaftError;
use super::types::{Raft, entry_id};
use crate::core::{EntryId, NodeId};

/// The read index of this node, if it leads.
pub(super) async fn ask_here(raft: &Raft) -> Result<EntryId, RaftError> {
    match raft.get_read_log_id(ReadPolicy::ReadIndex).await {
        Ok((read, _)) => Ok(entry_id(read.log_id())),
        Err(error) => match error.forward_to_leader() {
            Some(forward) => match forward.leader_id {
                Some(leader) => Err(RaftError::Peer {
                    node: NodeId(leader),
                    why: "it leads, not this node".into(),
                }),
                None => Err(RaftError::NoLeader),
            },
            None => Err(RaftError::Stopped(error.to_string())),
        },
    }
}
