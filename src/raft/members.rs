//! Who belongs to the group: Raft's own membership, and the registry beside it.

use std::collections::{BTreeMap, BTreeSet};

use openraft::ChangeMembers;
use openraft::errors::{ClientWriteError, RaftError as OpenraftError};
use tokio::sync::watch::Receiver;

use super::node::stopped;
use super::status::Membership;
use super::types::{Member, Proposal};
use super::{ProposeError, RaftError, RaftNode};
use crate::cluster::{Change, Refused};
use crate::core::NodeId;

impl RaftNode {
    /// Changes the registry, on the leader. Returns when the change was applied here, or refused.
    ///
    /// # Errors
    /// As they say; only some leave the fate of the change open.
    pub async fn change_registry(
        &self,
        change: Change,
    ) -> Result<Result<(), Refused>, ProposeError> {
        match self.inner.raft.client_write(Proposal::Change(change)).await {
            Ok(response) => Ok(response.data.0.map_or(Ok(()), Err)),
            Err(OpenraftError::APIError(ClientWriteError::ForwardToLeader(forward))) => {
                Err(ProposeError::NotLeader { leader: forward.leader_id.map(NodeId) })
            }
            Err(OpenraftError::APIError(_)) => Err(ProposeError::Unknown),
            Err(OpenraftError::Fatal(error)) => Err(stopped(&error)),
        }
    }

    /// The members as Raft has them, whether that is committed already or not, and who of them votes.
    pub fn membership(&self) -> Receiver<Membership> {
        self.inner.membership.clone()
    }

    /// Adds a node that replicates and does not vote; on the leader.
    ///
    /// # Errors
    /// This node does not lead, or the members are just being changed.
    pub async fn add_learner(&self, node: NodeId, member: Member) -> Result<(), RaftError> {
        let nodes = BTreeMap::from([(node.0, member)]);
        self.change(ChangeMembers::AddNodes(nodes), true).await
    }

    /// Makes these members the voters, and no others; on the leader. A voter that is none any
    /// more goes on as a learner, or goes.
    ///
    /// # Errors
    /// This node does not lead, one of them is no member, or the members are just being changed.
    pub async fn set_voters(
        &self,
        voters: impl IntoIterator<Item = NodeId>,
        keep_others: bool,
    ) -> Result<(), RaftError> {
        let voters: BTreeSet<u64> = voters.into_iter().map(|node| node.0).collect();
        self.change(ChangeMembers::ReplaceAllVoters(voters), keep_others).await
    }

    /// Removes a learner; on the leader.
    ///
    /// # Errors
    /// This node does not lead, the other is a voter, or the members are just being changed.
    pub async fn remove_learner(&self, node: NodeId) -> Result<(), RaftError> {
        self.change(ChangeMembers::RemoveNodes(BTreeSet::from([node.0])), true).await
    }

    async fn change(
        &self,
        change: ChangeMembers<u64, Member>,
        retain: bool,
    ) -> Result<(), RaftError> {
        match self.inner.raft.change_membership(change, retain).await {
            Ok(_) => Ok(()),
            Err(OpenraftError::APIError(ClientWriteError::ForwardToLeader(_))) => {
                Err(RaftError::NotLeader)
            }
            Err(OpenraftError::APIError(error)) => Err(RaftError::Membership(error.to_string())),
            Err(OpenraftError::Fatal(error)) => Err(RaftError::Stopped(error.to_string())),
        }
    }
}
