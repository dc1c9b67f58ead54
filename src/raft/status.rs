//! How the node stands, for people and for health checks.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver;
use openraft::{Instant, ServerState};

use super::types::{Member, Raft, entry_id};
use crate::core::{EntryId, NodeId};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Leader,
    Follower,
    Candidate,
    /// Replicates, does not vote.
    Learner,
    Stopped,
}

/// Who leads, as this node knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Leadership {
    pub term: u64,
    pub leader: Option<NodeId>,
    pub me_leading: bool,
    /// This node leads and has applied an entry of its own term: only now it knows everything
    /// that was committed before (Rule 14).
    pub first_entry_applied: bool,
}

/// The members of the group: all of them, and who votes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Membership {
    pub members: BTreeMap<NodeId, Member>,
    /// While they change: of both sets.
    pub voters: BTreeSet<NodeId>,
    /// They are being changed: two sets vote (Raft paper §6).
    pub joint: bool,
    /// The entry that said so; nothing has yet, if there is none.
    pub index: Option<u64>,
}

/// How far another node's log is known to be the leader's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerProgress {
    pub matched: Option<EntryId>,
    /// Entries that it lacks.
    pub lag: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RaftStatus {
    pub id: NodeId,
    pub role: Role,
    pub term: u64,
    pub leader: Option<NodeId>,
    pub last_log: Option<u64>,
    pub committed: Option<EntryId>,
    pub applied: Option<EntryId>,
    /// The log before and with it is gone.
    pub purged: Option<EntryId>,
    /// Bytes of the log's entries.
    pub log_bytes: u64,
    /// Since a quorum last answered this leader; `None`: it does not lead, or none ever did.
    pub quorum_age: Option<Duration>,
    /// On the leader: the others.
    pub peers: BTreeMap<NodeId, PeerProgress>,
    pub members: BTreeMap<NodeId, Member>,
    pub voters: Vec<NodeId>,
}

impl RaftStatus {
    /// Whether another node's log lacks at most so many entries of this leader's. Few can be far away: a
    /// node that needs a snapshot first, which may be gigabytes, has not caught up. If it voted, each commit
    /// would wait for it.
    pub fn has_caught_up(&self, id: NodeId, within: u64) -> bool {
        let Some(peer) = self.peers.get(&id) else { return false };
        let purged = self.purged.map_or(0, |entry| entry.index);
        peer.lag <= within && peer.matched.is_some_and(|at| at.index >= purged)
    }
}

pub(super) fn quorum_age(raft: &Raft) -> Option<Duration> {
    let metrics = raft.metrics();
    let metrics = metrics.borrow_watched();
    let voters = metrics.membership_config.membership().voter_ids();
    // Alone it is its own majority, and there is nobody whose answer openraft could note.
    if metrics.state == ServerState::Leader && voters.eq([metrics.id]) {
        return Some(Duration::ZERO);
    }
    metrics.last_quorum_acked.map(|at| at.elapsed())
}

pub(super) fn status(raft: &Raft, log_bytes: u64) -> RaftStatus {
    let quorum_age = quorum_age(raft);
    let metrics = raft.metrics();
    let metrics = metrics.borrow_watched();
    let membership = metrics.membership_config.membership();
    let last = metrics.last_log_index;
    let role = match (metrics.running_state.is_ok(), metrics.state) {
        (false, _) | (_, ServerState::Shutdown) => Role::Stopped,
        (_, ServerState::Leader) => Role::Leader,
        (_, ServerState::Candidate) => Role::Candidate,
        (_, ServerState::Follower) => Role::Follower,
        (_, ServerState::Learner) => Role::Learner,
    };
    let peers = metrics.replication.iter().flatten().filter(|(id, _)| **id != metrics.id);
    let peers = peers.map(|(id, matched)| {
        let lag = last.map_or(0, |last| last + 1)
            - matched.as_ref().map_or(0, |id| id.index + 1).min(last.map_or(0, |last| last + 1));
        (NodeId(*id), PeerProgress { matched: matched.as_ref().map(entry_id), lag })
    });
    RaftStatus {
        id: NodeId(metrics.id),
        role,
        term: metrics.current_term,
        leader: metrics.current_leader.map(NodeId),
        last_log: last,
        committed: metrics.local_committed.as_ref().map(entry_id),
        applied: metrics.last_applied.as_ref().map(entry_id),
        purged: metrics.purged.as_ref().map(entry_id),
        log_bytes,
        quorum_age,
        peers: peers.collect(),
        members: membership.nodes().map(|(id, m)| (NodeId(*id), m.clone())).collect(),
        voters: membership.voter_ids().map(NodeId).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_needs_a_snapshot_has_not_caught_up() {
        let entry = |index| Some(EntryId { term: 1, index });
        let status = |matched, purged| RaftStatus {
            id: NodeId(1),
            role: Role::Leader,
            term: 1,
            leader: Some(NodeId(1)),
            last_log: Some(60),
            committed: entry(60),
            applied: entry(60),
            purged,
            log_bytes: 0,
            quorum_age: None,
            peers: [(NodeId(2), PeerProgress { matched, lag: 10 })].into(),
            members: BTreeMap::new(),
            voters: Vec::new(),
        };
        assert!(status(entry(50), entry(40)).has_caught_up(NodeId(2), 10));
        assert!(!status(entry(50), entry(40)).has_caught_up(NodeId(2), 9));
        assert!(!status(entry(50), entry(51)).has_caught_up(NodeId(2), 10));
        assert!(!status(None, None).has_caught_up(NodeId(2), 10));
        assert!(!status(entry(60), None).has_caught_up(NodeId(3), 10));
    }
}
