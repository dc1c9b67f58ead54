//! Entries, votes and messages as bytes: our own, never openraft's, so that another version of it
//! changes neither what is on disks nor what is between nodes.
//!
//! postcard. On disk the version stands in the header of the segment; a message begins with a
//! byte of version. A released shape is never changed: another shape is another version.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use openraft::vote::RaftLeaderId;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::types::{
    Entry, LogId, Member, Membership, Payload, Proposal, StoredMembership, Vote, entry_id, log_id,
};
use crate::cluster::{Change, Command};
use crate::core::EntryId;

/// The version that every message between nodes begins with.
const VERSION: u8 = 1;

/// Bytes that are not what they should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    #[error("the message is empty")]
    Empty,
    #[error("the message is of version {0}, and this program knows version {VERSION}")]
    Version(u8),
    #[error("the bytes cannot be read as {what}: {why}")]
    Content { what: &'static str, why: String },
}

/// One entry of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct WireEntry {
    pub id: EntryId,
    pub payload: WirePayload,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum WirePayload {
    Blank,
    Command(Command),
    Membership(WireMembership),
    /// Never before every member knows it: an older version could not read its log any more.
    Change(Change),
}

/// Who votes: one set, or two while it changes (Raft paper §6), and everyone's address.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct WireMembership {
    pub voters: Vec<BTreeSet<u64>>,
    pub members: BTreeMap<u64, Member>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct WireVote {
    pub term: u64,
    pub node: u64,
    pub committed: bool,
}

/// `AppendEntries` (Raft paper, figure 2); a heartbeat, or word of a commit, if without entries.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct WireAppend {
    pub vote: WireVote,
    pub previous: Option<EntryId>,
    pub commit: Option<EntryId>,
    pub entries: Vec<WireEntry>,
    /// Success is not to be answered.
    pub quiet: bool,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) enum WireAppended {
    Success,
    /// Only up to here.
    Partial(Option<EntryId>),
    Conflict,
    HigherVote(WireVote),
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct WireVoteRequest {
    pub vote: WireVote,
    pub last: Option<EntryId>,
    pub transfer: bool,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct WireVoteResponse {
    pub vote: WireVote,
    pub last: Option<EntryId>,
    pub granted: bool,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct WireTransfer {
    pub from: WireVote,
    pub to: u64,
    pub last: Option<EntryId>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) enum WireTransferred {
    Ok,
    VoteChanged { expected: WireVote, actual: WireVote },
    NotFlushed { expected: Option<EntryId>, actual: Option<EntryId> },
}

/// A position in the log and the members as of it: what a state is as of.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct WireMeta {
    pub applied: Option<EntryId>,
    pub membership_entry: Option<EntryId>,
    pub membership: WireMembership,
}

/// A message, with its byte of version.
pub(super) fn encode<T: Serialize>(message: &T) -> Bytes {
    // Into memory, and every sequence knows its length: nothing here can fail. If it did, the
    // receiver would refuse what is left of it.
    postcard::to_extend(message, vec![VERSION]).unwrap_or_default().into()
}

pub(super) fn decode<T: DeserializeOwned>(
    what: &'static str,
    bytes: &[u8],
) -> Result<T, WireError> {
    match bytes.split_first() {
        None => Err(WireError::Empty),
        Some((&VERSION, body)) => decode_body(what, body),
        Some((version, _)) => Err(WireError::Version(*version)),
    }
}

/// Without the byte of version: for records on disk.
pub(super) fn encode_body<T: Serialize>(value: &T) -> Vec<u8> {
    postcard::to_extend(value, Vec::new()).unwrap_or_default()
}

/// Bytes that [`encode_body`] makes.
pub(super) fn encoded_body_len<T: Serialize>(value: &T) -> usize {
    postcard::experimental::serialized_size(value).unwrap_or(usize::MAX)
}

pub(super) fn decode_body<T: DeserializeOwned>(
    what: &'static str,
    body: &[u8],
) -> Result<T, WireError> {
    let failed = |why: String| WireError::Content { what, why };
    let (value, rest) =
        postcard::take_from_bytes(body).map_err(|error| failed(error.to_string()))?;
    if rest.is_empty() { Ok(value) } else { Err(failed(format!("{} bytes too many", rest.len()))) }
}

impl WireEntry {
    /// Cheap: the pages of a command are shared, not copied.
    pub fn of(entry: &Entry) -> Self {
        let payload = match &entry.payload {
            Payload::Blank => WirePayload::Blank,
            Payload::Normal(Proposal::Command(command)) => WirePayload::Command(command.clone()),
            Payload::Normal(Proposal::Change(change)) => WirePayload::Change(change.clone()),
            Payload::Membership(membership) => {
                WirePayload::Membership(WireMembership::of(membership))
            }
        };
        Self { id: entry_id(&entry.log_id), payload }
    }

    pub fn into_entry(self) -> Result<Entry, WireError> {
        let payload = match self.payload {
            WirePayload::Blank => Payload::Blank,
            WirePayload::Command(command) => Payload::Normal(Proposal::Command(command)),
            WirePayload::Change(change) => Payload::Normal(Proposal::Change(change)),
            WirePayload::Membership(membership) => Payload::Membership(membership.into_ours()?),
        };
        Ok(Entry { log_id: log_id(self.id), payload })
    }
}

impl WireMembership {
    pub fn of(membership: &Membership) -> Self {
        Self {
            voters: membership.get_joint_config().clone(),
            members: membership.nodes().map(|(id, member)| (*id, member.clone())).collect(),
        }
    }

    pub fn into_ours(self) -> Result<Membership, WireError> {
        // The one that nobody has yet.
        if self.voters.is_empty() && self.members.is_empty() {
            return Ok(Membership::default());
        }
        Membership::new(self.voters, self.members)
            .map_err(|error| WireError::Content { what: "a membership", why: error.to_string() })
    }
}

impl WireVote {
    pub fn of(vote: &Vote) -> Self {
        Self {
            term: vote.leader_id.term,
            node: *vote.leader_id.node_id(),
            committed: vote.committed,
        }
    }

    pub fn vote(self) -> Vote {
        if self.committed {
            Vote::new_committed(self.term, self.node)
        } else {
            Vote::new(self.term, self.node)
        }
    }
}

impl WireMeta {
    pub fn of(applied: Option<&LogId>, membership: &StoredMembership) -> Self {
        Self {
            applied: applied.map(entry_id),
            membership_entry: membership.log_id().as_ref().map(entry_id),
            membership: WireMembership::of(membership.membership()),
        }
    }

    pub fn membership(&self) -> Result<StoredMembership, WireError> {
        let membership = self.membership.clone().into_ours()?;
        Ok(StoredMembership::new(self.membership_entry.map(log_id), membership))
    }
}
