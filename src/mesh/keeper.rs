//! Keeps one `rpc` connection to a peer, and tells what becomes of it.
//!
//! A process that dies takes its connections and its listener with it: the connection breaks, and
//! the attempt that follows at once is refused. The two together are the evidence; a broken
//! connection alone is none (DESIGN, "How fast").

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{broadcast, watch};
use tokio::task::AbortHandle;
use tokio::time::sleep;

use super::backoff::Backoff;
use super::calls::{self, Caller};
use super::node::Shared;
use super::socket::Resolved;
use super::{MeshError, Peer, Purpose, Rejection};
use crate::core::NodeId;

/// A connection that lived so long earns an immediate attempt after it broke.
const HEALTHY: Duration = Duration::from_secs(1);

/// What became of the connection to a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PeerEventKind {
    /// Connected; both sides know each other.
    Up,
    /// The connection broke, or cannot be made, for whatever reason: no evidence of a death.
    Broken,
    /// Nobody listens at the peer's address: its process is dead. (A firewall that answers with
    /// a reset says the same. It is evidence for campaigning, never for safety.)
    Refused,
}

/// News of one peer. Sent when the kind changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerEvent {
    pub node: NodeId,
    pub kind: PeerEventKind,
}

/// The kept connection, as callers see it.
#[derive(Debug, Clone)]
pub(super) enum State {
    /// No attempt has ended yet.
    New,
    Up(Arc<Caller>),
    Broken,
    /// It is there, and does not know this node as a member.
    Rejected,
    Refused,
}

impl State {
    pub(super) fn kind(&self) -> Option<PeerEventKind> {
        match self {
            State::New => None,
            State::Up(_) => Some(PeerEventKind::Up),
            State::Broken | State::Rejected => Some(PeerEventKind::Broken),
            State::Refused => Some(PeerEventKind::Refused),
        }
    }
}

/// A peer that is kept. The keeper's task ends when this is dropped.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) peer: Peer,
    pub(super) resolved: Arc<Resolved>,
    pub(super) state: watch::Receiver<State>,
    task: AbortHandle,
}

impl Drop for Link {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Link {
    pub(super) fn new(
        shared: &Arc<Shared>,
        peer: Peer,
        events: broadcast::Sender<PeerEvent>,
        runtime: &tokio::runtime::Handle,
    ) -> Link {
        let (state, receiver) = watch::channel(State::New);
        let resolved = Arc::new(Resolved::default());
        let keeper = Keeper {
            shared: Arc::clone(shared),
            peer: peer.clone(),
            resolved: Arc::clone(&resolved),
            state,
            events,
        };
        let task = runtime.spawn(keeper.run()).abort_handle();
        Link { peer, resolved, state: receiver, task }
    }
}

struct Keeper {
    shared: Arc<Shared>,
    peer: Peer,
    resolved: Arc<Resolved>,
    state: watch::Sender<State>,
    events: broadcast::Sender<PeerEvent>,
}

impl Keeper {
    async fn run(self) {
        let mut backoff = Backoff::new();
        loop {
            match self.shared.dialer().dial(&self.peer, &self.resolved, Purpose::Rpc).await {
                Ok(connection) => {
                    let began = Instant::now();
                    let (caller, driver) = calls::start(self.peer.id, connection);
                    self.change(State::Up(caller));
                    let reason = driver.run().await;
                    tracing::debug!(node = %self.peer.id, reason, "connection broke");
                    self.change(State::Broken);
                    if began.elapsed() >= HEALTHY {
                        backoff.reset();
                        continue;
                    }
                }
                Err(MeshError::Refused { .. }) => {
                    self.change(State::Refused);
                }
                Err(error) => {
                    let unknown = matches!(
                        error,
                        MeshError::Rejected { reason: Rejection::UnknownMember, .. }
                    );
                    if self.change(if unknown { State::Rejected } else { State::Broken }) {
                        tracing::warn!(%error, "cannot connect");
                    } else {
                        tracing::debug!(%error, "still cannot connect");
                    }
                }
            }
            sleep(backoff.wait()).await;
        }
    }

    /// Whether that was news.
    fn change(&self, new: State) -> bool {
        let kind = new.kind();
        let news = self.state.borrow().kind() != kind;
        self.state.send_replace(new);
        if let (true, Some(kind)) = (news, kind) {
            // Nobody may be listening.
            let _ = self.events.send(PeerEvent { node: self.peer.id, kind });
        }
        news
    }
}
