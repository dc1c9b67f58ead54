//! When the leader's process is known to be dead: campaign at once.
//!
//! Voters refuse a vote as long as the leader's lease lives, and openraft's own election waits for
//! it. A vote that is marked as part of a transfer of leadership passes (Raft dissertation
//! §4.2.3): its reason, that the leader wants it so, holds as well for a leader that is no more.
//! It is an ordinary vote otherwise: it goes only to a log that is as good (caught-up), and one
//! that was wrong about the death costs an election, never a commit.

use std::collections::BTreeSet;
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver;
use openraft::raft::TransferLeaderRequest;

use super::types::Raft;

/// Between the survivors' campaigns, by rank: longer than a vote takes.
const STAGGER: Duration = Duration::from_millis(20);
/// Between one try and the next of the same node.
const AGAIN: Duration = Duration::from_millis(60);
/// Then it is left to the timeouts.
const TRIES: u32 = 5;

/// Campaigns until there is another leader than `dead`, a few times.
pub(super) async fn campaign(raft: Raft, id: u64, dead: u64) {
    let voters: BTreeSet<u64> = raft.voter_ids().filter(|voter| *voter != dead).collect();
    let Some(rank) = voters.iter().position(|voter| *voter == id) else { return };
    tokio::time::sleep(STAGGER * u32::try_from(rank).unwrap_or(u32::MAX)).await;
    for _ in 0..TRIES {
        let (vote, last) = {
            let metrics = raft.metrics();
            let metrics = metrics.borrow_watched();
            (metrics.vote, metrics.last_log_index)
        };
        let voted_for = *openraft::vote::RaftLeaderId::node_id(&vote.leader_id);
        let running = if vote.committed {
            if voted_for != dead {
                return;
            }
            // What is flushed is waited for; `None` asks for no more than what is there.
            let request = TransferLeaderRequest::new(vote, id, None);
            tracing::debug!(dead, ?last, "the leader's process is dead: campaigning");
            raft.handle_transfer_leader(request).await.is_ok()
        } else {
            // An election was tried and nobody won it; no leader's lease is in the way now.
            raft.trigger().elect(false).await.is_ok()
        };
        if !running {
            return;
        }
        tokio::time::sleep(AGAIN).await;
    }
}
