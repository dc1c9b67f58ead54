//! Following openraft: who leads, whether it still runs, and until something holds.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use openraft::async_runtime::watch::WatchReceiver;
use openraft::{RaftMetrics, ServerState};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::RaftError;
use super::status::{Leadership, Membership};
use super::types::{Raft, Types};
use crate::core::{EntryId, NodeId};

/// Waits until openraft's figures say so. An error: it has stopped.
pub(super) async fn until(
    raft: &Raft,
    mut holds: impl FnMut(&RaftMetrics<Types>) -> bool + Send,
) -> Result<(), RaftError> {
    let mut metrics = raft.metrics();
    loop {
        let (reached, running) = {
            let metrics = metrics.borrow_and_update();
            (holds(&metrics), metrics.running_state.clone())
        };
        if reached {
            return Ok(());
        }
        running.map_err(|error| RaftError::Stopped(error.to_string()))?;
        metrics.changed().await.map_err(|error| RaftError::Stopped(error.to_string()))?;
    }
}

/// Who leads and who the members are, followed from now on, and the tasks that do so.
pub(super) fn start(
    raft: &Raft,
    applied: watch::Receiver<Option<EntryId>>,
) -> (watch::Receiver<Leadership>, watch::Receiver<Membership>, [JoinHandle<()>; 2]) {
    let (leads, leadership_of) = watch::channel(Leadership::default());
    let (are, members) = watch::channel(Membership::default());
    let tasks = [
        tokio::spawn(leadership(raft.clone(), applied, leads)),
        tokio::spawn(membership(raft.clone(), are)),
    ];
    (leadership_of, members, tasks)
}

/// Says who leads, whenever that changes.
async fn leadership(
    raft: Raft,
    mut applied: watch::Receiver<Option<EntryId>>,
    leadership: watch::Sender<Leadership>,
) {
    let mut server = raft.server_metrics();
    loop {
        let mut now = {
            let server = server.borrow_and_update();
            let leader = server.current_leader;
            Leadership {
                term: server.vote.leader_id.term,
                leader: leader.map(NodeId),
                me_leading: leader == Some(server.id) && server.state == ServerState::Leader,
                first_entry_applied: false,
            }
        };
        let term = now.term;
        let first = |applied: &Option<EntryId>| applied.is_some_and(|id| id.term == term);
        now.first_entry_applied = now.me_leading && first(&applied.borrow());
        leadership.send_if_modified(|last| std::mem::replace(last, now) != now);
        // What is applied is of interest only until the first entry of the term is.
        let changed = if now.me_leading && !now.first_entry_applied {
            tokio::select! {
                changed = server.changed() => changed.is_ok(),
                reached = applied.wait_for(first) => reached.is_ok(),
            }
        } else {
            server.changed().await.is_ok()
        };
        if !changed {
            return;
        }
    }
}

/// Says who the members are, whenever that changes.
async fn membership(raft: Raft, members: watch::Sender<Membership>) {
    let mut server = raft.server_metrics();
    loop {
        let now = {
            let server = server.borrow_and_update();
            let membership = server.membership_config.membership();
            Membership {
                members: membership.nodes().map(|(id, m)| (NodeId(*id), m.clone())).collect(),
                voters: membership.voter_ids().map(NodeId).collect(),
                joint: membership.get_joint_config().len() > 1,
                index: server.membership_config.log_id().as_ref().map(|id| id.index),
            }
        };
        members.send_if_modified(|last| {
            let changed = *last != now;
            *last = now;
            changed
        });
        if server.changed().await.is_err() {
            return;
        }
    }
}

/// Tells when openraft stops by itself.
pub(super) async fn core(
    raft: Raft,
    stopping: Arc<AtomicBool>,
    on_fatal: Arc<dyn Fn(String) + Send + Sync>,
) {
    // Of the two kinds of figures the one that changes seldom.
    let mut server = raft.server_metrics();
    while server.changed().await.is_ok() {}
    let why = match &raft.metrics().borrow_watched().running_state {
        Ok(()) => "Raft ended".into(),
        Err(error) => error.to_string(),
    };
    if !stopping.load(Ordering::SeqCst) {
        on_fatal(why);
    }
}
