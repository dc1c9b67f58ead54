//! Watches the other nodes' processes, and lets systemd watch this one.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::broadcast::error::RecvError;
use tokio::time::Instant;

use super::engine::EmbeddedEngine;
use crate::commit::{Arbiter, NODE_SILENT};
use crate::core::NodeId;
use crate::core::engine::Engine;
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

/// Tells systemd that the node serves, keeps its watchdog quiet while the node moves, and says in a
/// line what it is. Nothing happens where there is no systemd.
pub fn systemd_ready(engine: &Arc<EmbeddedEngine>) {
    notify(&[sd_notify::NotifyState::Ready]);
    let watchdog = sd_notify::watchdog_enabled();
    let every = watchdog.map_or(Duration::from_secs(5), |limit| limit / 3);
    let engine = Arc::downgrade(engine);
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(every).await;
            let Some(engine) = engine.upgrade() else { return };
            let status = engine.status();
            let line = format!(
                "{} (term {}), leader {}, applied {}",
                match status.role {
                    crate::core::engine::Role::Primary => "primary",
                    crate::core::engine::Role::Replica => "replica",
                },
                status.term,
                status.leader.as_deref().unwrap_or("unknown"),
                status.applied_index,
            );
            let mut states = vec![sd_notify::NotifyState::Status(&line)];
            // A node that is stuck is ended by systemd rather than kept alive by this task.
            if watchdog.is_some() && status.stuck.is_none() {
                states.push(sd_notify::NotifyState::Watchdog);
            }
            notify(&states);
        }
    });
}

pub fn systemd_stopping() {
    notify(&[sd_notify::NotifyState::Stopping]);
}

fn notify(states: &[sd_notify::NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "systemd was not told");
    }
}
