//! How a node ends: by a signal, its leadership handed over, what it has applied kept.

use std::time::Duration;

use rustix::process::Signal;
use tokio::signal::unix::{SignalKind, signal};

use super::data_folder::DataFolder;
use super::{NodeError, Parts, blocking, io};
use crate::core::history::Cause;

/// How long a stopping leader waits for another to take over.
const HANDOVER: Duration = Duration::from_secs(3);

/// How long a stopping node goes on applying what its log has applied.
pub(super) const APPLYING: Duration = Duration::from_secs(10);

/// SIGTERM and SIGINT.
pub(super) struct StopSignals {
    term: tokio::signal::unix::Signal,
    int: tokio::signal::unix::Signal,
}

impl StopSignals {
    pub fn new() -> Result<Self, NodeError> {
        let listen = |kind| signal(kind).map_err(io("listen to signals"));
        Ok(Self { term: listen(SignalKind::terminate())?, int: listen(SignalKind::interrupt())? })
    }

    /// Which of them came.
    pub async fn wait(&mut self) -> Signal {
        tokio::select! {
            _ = self.term.recv() => Signal::TERM,
            _ = self.int.recv() => Signal::INT,
        }
    }
}

/// A clean stop hands leadership over first.
pub(super) async fn hand_over(parts: &Parts) {
    if !parts.raft.leadership().borrow().me_leading {
        return;
    }
    // Where all nodes stop at once there is soon nobody left.
    let alone = async {
        while parts.mesh.reaches_majority(&parts.raft.membership().borrow().voters.clone()) {
            tokio::time::sleep(HANDOVER / 60).await;
        }
    };
    let handed = tokio::time::timeout(HANDOVER, async {
        tokio::select! {
            handed = parts.leaders.hand_over(None, Cause::Stopped, None) => Some(handed),
            () = alone => None,
        }
    });
    match handed.await {
        Ok(Some(Ok(to))) => tracing::info!(to = to.0, "leadership handed over"),
        Ok(Some(Err(error))) => {
            tracing::warn!(%error, "leadership not handed over; the others elect");
        }
        Ok(None) => tracing::info!("no majority is left that could take the leadership"),
        Err(_) => tracing::warn!("leadership not handed over in time; the others elect"),
    }
}

/// Returns the data folder, which is nobody's any more but this process's. `applying`: for how long the
/// databases may go on to apply what the log has.
pub(super) async fn shut_down(parts: Parts, applying: Duration) -> DataFolder {
    let Parts { databases, raft, leaders, listening, mesh, group, arbiter, folder, .. } = parts;
    let kept = blocking(move || databases.keep_what_is_applied(applying)).await;
    if let Err(error) = kept.and_then(|kept| Ok(kept?)) {
        tracing::warn!(%error, "the next start replays more of the log");
    }
    raft.stop().await;
    listening.stop().await;
    drop((leaders, mesh, group, arbiter));
    folder
}
