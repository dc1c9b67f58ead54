//! The types that openraft is run with, and how they relate to ours.

use std::collections::BTreeMap;
use std::fmt;

use openraft::RaftTypeConfig;
use serde::{Deserialize, Serialize};

use crate::cluster::{Change, Command, Refused};
use crate::core::{EntryId, NodeId};

openraft::declare_raft_types!(
    /// openraft, as this room runs it.
    ///
    /// `leader_id_std`: one leader a term, as the Raft paper has it (§5.2), so that a term and an
    /// index name an entry.
    pub(super) Types:
        D = Proposal,
        R = Answer,
        NodeId = u64,
        Node = Member,
        Term = u64,
        LeaderId = openraft::impls::leader_id_std::LeaderId<Self::Term, Self::NodeId>,
);

pub(super) type Raft = openraft::Raft<Types, super::machine::Machine>;
pub(super) type Entry = <Types as RaftTypeConfig>::Entry;
pub(super) type LogId = openraft::type_config::alias::LogIdOf<Types>;
pub(super) type CommittedLeaderId = openraft::type_config::alias::CommittedLeaderIdOf<Types>;
pub(super) type Vote = openraft::type_config::alias::VoteOf<Types>;
pub(super) type Membership = openraft::Membership<u64, Member>;
pub(super) type StoredMembership = openraft::type_config::alias::StoredMembershipOf<Types>;
pub(super) type SnapshotMeta = openraft::type_config::alias::SnapshotMetaOf<Types>;
pub(super) type Payload = openraft::EntryPayload<Proposal, u64, Member>;

/// A member of the Raft group, as every node knows it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// The name in its certificate.
    pub name: String,
    /// `host:port` of its mesh.
    pub address: String,
}

/// The members of a group by their numbers.
pub type Members = BTreeMap<NodeId, Member>;

/// A command, as openraft carries it: it wants to print what it carries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Proposal {
    Command(Command),
    Change(Change),
}

impl fmt::Display for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, command) = match self {
            Proposal::Command(command @ Command::Commit(_)) => ("commit", command),
            Proposal::Command(command @ Command::Delete { .. }) => ("delete", command),
            Proposal::Command(command @ Command::Abandon { .. }) => ("abandon", command),
            Proposal::Change(_) => return f.write_str("a change of the registry"),
        };
        write!(f, "{what} {}", command.id())
    }
}

/// What who proposed is answered: whether a change of the registry was refused. What became of a
/// command is told to the replica, on every node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Answer(pub Option<Refused>);

pub(super) fn entry_id(id: &LogId) -> EntryId {
    EntryId { term: id.leader_id.term, index: id.index }
}

pub(super) fn log_id(id: EntryId) -> LogId {
    LogId::new(CommittedLeaderId::new(id.term), id.index)
}
