//! Watches the other nodes' processes.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::broadcast::error::RecvError;
use tokio::time::Instant;

use crate::commit::{Arbiter, NODE_SILENT};
use crate::core::NodeId;
use crate::mesh::{Mesh, PeerEvent, PeerEventKind};
use crate::raft::RaftNode;

/// Between two looks at who has been silent for too long.
const LOOK: Duration = Duration::from_millis(100);

/// Follows the connections to the other nodes. A refused one says that the process is dead: its
/// locks are free, and if it led, the others need not wait for its lease.
pub async fn peers(mesh: Mesh, raft: Arc<RaftNode>, arbiter: Arc<Arbiter>) {
    let mut events = mesh.peer_events();
    let mut silent: HashMap<NodeId, Instant> = HashMap::new();
    loop {
        tokio::select! {
            event = events.recv() => match event {
                Ok(PeerEvent { node, kind: PeerEventKind::Up }) => {
                    silent.remove(&node);
                    raft.peer_came_back(node);
                }
                Ok(PeerEvent { node, kind: PeerEventKind::Broken }) => {
                    silent.entry(node).or_insert_with(Instant::now);
                }
                Ok(PeerEvent { node, kind: PeerEventKind::Refused }) => {
                    silent.remove(&node);
                    arbiter.node_lost(node);
                    raft.peer_died(node);
                }
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return,
            },
            () = tokio::time::sleep(LOOK), if !silent.is_empty() => {
                silent.retain(|node, since| {
                    let lost = since.elapsed() >= NODE_SILENT;
                    if lost {
                        arbiter.node_lost(*node);
                    }
                    !lost
                });
            }
        }
    }
}
