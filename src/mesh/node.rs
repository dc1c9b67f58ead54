//! The mesh of one node: its public face.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::sync::{broadcast, watch};
use tokio::time::{Instant, timeout_at};

use super::calls::Caller;
use super::handshake::Dialer;
use super::keeper::{Link, State};
use super::listen::{self, Listening};
use super::members::Members;
use super::quiet::Quiet;
use super::tls::Tls;
use super::{
    CallError, Connection, Handlers, Identity, MeshError, Peer, PeerEvent, PeerEventKind, Purpose,
    names,
};
use crate::core::NodeId;

/// Events that a slow listener may leave unread before it is told that it missed some.
const EVENTS: usize = 256;

/// What a mesh is made of.
#[derive(Debug, Clone)]
pub struct MeshConfig {
    /// One DNS label.
    pub cluster: String,
    pub me: Peer,
    /// The members; this node may be among them.
    pub peers: Vec<Peer>,
    pub identity: Identity,
    /// The CA's certificate, PEM.
    pub ca_pem: String,
}

/// A node's connections to the others. Clones share them; they end with the last clone.
#[derive(Debug, Clone)]
pub struct Mesh {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    shared: Arc<Shared>,
    links: Mutex<BTreeMap<NodeId, Arc<Link>>>,
    events: broadcast::Sender<PeerEvent>,
    runtime: Handle,
}

/// What the tasks of the mesh need, so that they do not keep the mesh itself alive.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) cluster: String,
    pub(super) me: Peer,
    tls: RwLock<Arc<Tls>>,
    pub(super) members: watch::Sender<Members>,
    pub(super) refusals: Quiet,
}

impl Shared {
    pub(super) fn dialer(&self) -> Dialer<'_> {
        Dialer { me: self.me.id, cluster: &self.cluster, tls: self.tls() }
    }

    /// The identity, as it is now.
    pub(super) fn tls(&self) -> Arc<Tls> {
        Arc::clone(&self.tls.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Mesh {
    /// Checks the identity and the members, and begins to connect to them. To be called within a
    /// tokio runtime.
    ///
    /// # Errors
    /// If a name or the identity is no good, or two members share an id or a name.
    pub fn new(config: MeshConfig) -> Result<Mesh, MeshError> {
        let runtime = Handle::try_current().map_err(|_| MeshError::NoRuntime)?;
        let MeshConfig { cluster, me, peers, identity, ca_pem } = config;
        let tls = Tls::new(&identity, &ca_pem, &names::node(&me.name, &cluster)?)?;
        let shared = Arc::new(Shared {
            cluster,
            me,
            tls: RwLock::new(Arc::new(tls)),
            members: watch::Sender::new(Members::default()),
            refusals: Quiet::default(),
        });
        let inner = Inner {
            shared,
            links: Mutex::default(),
            events: broadcast::Sender::new(EVENTS),
            runtime,
        };
        let mesh = Mesh { inner: Arc::new(inner) };
        mesh.set_peers(peers)?;
        Ok(mesh)
    }

    pub fn me(&self) -> &Peer {
        &self.inner.shared.me
    }

    /// Replaces the members. Who is no longer among them is disconnected and refused at once; who
    /// is new, or has a new address, is connected to.
    ///
    /// # Errors
    /// If a name is no good, or two share an id or a name; nothing changed then.
    pub fn set_peers(&self, peers: Vec<Peer>) -> Result<(), MeshError> {
        let members = Members::new(&self.inner.shared.me, peers)?;
        let mut links = self.links();
        links.retain(|id, link| members.get(*id) == Some(&link.peer));
        for peer in members.iter() {
            links.entry(peer.id).or_insert_with(|| {
                Arc::new(Link::new(
                    &self.inner.shared,
                    peer.clone(),
                    self.inner.events.clone(),
                    &self.inner.runtime,
                ))
            });
        }
        self.inner.shared.members.send_replace(members);
        Ok(())
    }

    /// Goes on with another certificate, or with other CAs to trust. Connections that stand go on;
    /// new ones show and check what is new.
    ///
    /// # Errors
    /// The identity is no good; nothing changed then.
    pub fn set_identity(&self, identity: &Identity, ca_pem: &str) -> Result<(), MeshError> {
        let shared = &self.inner.shared;
        let tls = Tls::new(identity, ca_pem, &names::node(&shared.me.name, &shared.cluster)?)?;
        *shared.tls.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(tls);
        Ok(())
    }

    /// Whether that node does not know this one as a member, as it said itself when last asked.
    pub fn is_rejected_by(&self, node: NodeId) -> bool {
        self.link(node).is_some_and(|link| matches!(*link.state.borrow(), State::Rejected))
    }

    /// Listens at this node's own address.
    ///
    /// # Errors
    /// [`MeshError::PortInUse`], or whatever else keeps the port from opening.
    pub async fn listen(&self, handlers: Handlers) -> Result<Listening, MeshError> {
        self.listen_on(&self.inner.shared.me.address, handlers).await
    }

    /// Listens elsewhere than where the others find this node (`0.0.0.0:4321`, port 0).
    pub async fn listen_on(
        &self,
        address: &str,
        handlers: Handlers,
    ) -> Result<Listening, MeshError> {
        listen::listen(Arc::clone(&self.inner.shared), address, handlers).await
    }

    /// A new connection of its own. Takes at most half a second each for resolving the name and
    /// for each of its addresses, and two seconds for the handshake.
    ///
    /// # Errors
    /// [`MeshError::Refused`] if nobody listens there; others as they say.
    pub async fn connect(&self, to: NodeId, purpose: Purpose) -> Result<Connection, MeshError> {
        let link = self.link(to).ok_or(MeshError::UnknownPeer(to))?;
        let (peer, resolved) = (link.peer.clone(), Arc::clone(&link.resolved));
        drop(link);
        self.inner.shared.dialer().dial(&peer, &resolved, purpose).await
    }

    /// A call with an answer, over the connection that is kept. Waits for that connection if
    /// there is none, unless the peer's process is known to be dead.
    ///
    /// # Errors
    /// [`CallError::never_arrived`] tells those after which the call has certainly not been
    /// carried out. No call is sent twice.
    pub async fn call(
        &self,
        to: NodeId,
        method: u8,
        request: Bytes,
        timeout: Duration,
    ) -> Result<Bytes, CallError> {
        if request.len() > Caller::MAX {
            return Err(CallError::TooLong { node: to, len: request.len(), max: Caller::MAX });
        }
        let link = self.link(to).ok_or(CallError::UnknownPeer(to))?;
        let mut state = link.state.clone();
        drop(link);
        let deadline = Instant::now() + timeout;
        loop {
            let usable = state.wait_for(|s| matches!(s, State::Up(_) | State::Refused));
            let caller = match timeout_at(deadline, usable).await {
                Ok(Ok(state)) => match &*state {
                    State::Up(caller) => Arc::clone(caller),
                    _ => return Err(CallError::Refused { node: to }),
                },
                // The keeper is gone: removed while we waited.
                Ok(Err(_)) => return Err(CallError::UnknownPeer(to)),
                Err(_) => return Err(CallError::NotConnected { node: to, waited: timeout }),
            };
            let outcome = caller.call(method, request.clone(), deadline, timeout).await;
            if let Some(outcome) = outcome {
                return outcome;
            }
            // It broke before the call went out; the keeper is about to say so.
            match timeout_at(deadline, state.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Err(CallError::UnknownPeer(to)),
                Err(_) => return Err(CallError::NotConnected { node: to, waited: timeout }),
            }
        }
    }

    /// News of the peers from now on. Who lags behind misses some: ask [`Mesh::peer_state`] then.
    pub fn peer_events(&self) -> broadcast::Receiver<PeerEvent> {
        self.inner.events.subscribe()
    }

    /// How the kept connection to a peer stands; `None` if it is no member, or no attempt has
    /// ended yet.
    pub fn peer_state(&self, node: NodeId) -> Option<PeerEventKind> {
        self.link(node)?.state.borrow().kind()
    }

    /// Whether more than half of these nodes can be reached, this one among them.
    #[must_use]
    pub fn reaches_majority(&self, of: &BTreeSet<NodeId>) -> bool {
        let up = |node: &&NodeId| {
            **node == self.me().id || self.peer_state(**node) == Some(PeerEventKind::Up)
        };
        of.iter().filter(up).count() * 2 > of.len()
    }

    /// Not to be kept over a wait: if the peer is removed, its connection must end.
    fn link(&self, node: NodeId) -> Option<Arc<Link>> {
        self.links().get(&node).map(Arc::clone)
    }

    fn links(&self) -> MutexGuard<'_, BTreeMap<NodeId, Arc<Link>>> {
        self.inner.links.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
