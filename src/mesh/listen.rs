//! The one port: accepts, admits, and hands over by purpose.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::task::{JoinHandle, JoinSet};

use super::handshake::{Admitted, admit};
use super::node::Shared;
use super::{Handlers, MeshError, Purpose, Quiet, join, serve};

/// Handshakes under way. More are turned away at once: strangers may not cost memory.
const HANDSHAKES: usize = 512;
/// After a failed accept (no file descriptors left, say).
const AFTER_FAILURE: Duration = Duration::from_millis(50);

/// The open port. Closed, with all that came in through it, when this is dropped or stopped.
#[derive(Debug)]
pub struct Listening {
    local: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

impl Listening {
    /// Where it listens; says the port if 0 was asked for.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Closes the port and every connection that came in, and waits until that is done.
    /// Handlers that run are dropped.
    pub async fn stop(mut self) {
        self.stop.take();
        // An error would mean that the task is gone already.
        let _ = (&mut self.task).await;
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub(super) async fn listen(
    shared: Arc<Shared>,
    address: &str,
    handlers: Handlers,
) -> Result<Listening, MeshError> {
    let listener = TcpListener::bind(address).await.map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => MeshError::PortInUse { address: address.to_owned() },
        _ => MeshError::Listen { address: address.to_owned(), source },
    })?;
    let local = listener
        .local_addr()
        .map_err(|source| MeshError::Listen { address: address.to_owned(), source })?;
    let (stop, stopped) = oneshot::channel();
    let task = tokio::spawn(accept_until(listener, shared, handlers, stopped));
    Ok(Listening { local, stop: Some(stop), task })
}

async fn accept_until(
    listener: TcpListener,
    shared: Arc<Shared>,
    handlers: Handlers,
    mut stopped: oneshot::Receiver<()>,
) {
    let handshakes = Arc::new(Semaphore::new(HANDSHAKES));
    let mut connections = JoinSet::new();
    let failures = Quiet::new();
    loop {
        let accepted = tokio::select! {
            _ = &mut stopped => break,
            Some(_) = connections.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, from)) => {
                let Ok(permit) = Arc::clone(&handshakes).try_acquire_owned() else {
                    refuse(&shared, from, &"too many handshakes under way");
                    continue;
                };
                let shared = Arc::clone(&shared);
                connections.spawn(one(shared, handlers.clone(), stream, from, permit));
            }
            Err(error) => {
                if let Some(others) = failures.may_log() {
                    tracing::warn!(%error, others, "cannot accept a connection");
                }
                tokio::time::sleep(AFTER_FAILURE).await;
            }
        }
    }
    drop(listener);
    connections.shutdown().await;
}

async fn one(
    shared: Arc<Shared>,
    handlers: Handlers,
    stream: TcpStream,
    address: SocketAddr,
    handshaking: OwnedSemaphorePermit,
) {
    let member = |name: &str| shared.members.borrow().by_name(name).map(|peer| peer.id);
    let tls = shared.tls();
    let admitted = admit(stream, &tls, &shared.cluster, shared.me.id, member).await;
    let (from, purpose, connection) = match admitted {
        Ok(Admitted::Member { from, purpose, connection }) => (from, purpose, connection),
        // A stranger still: it counts as a handshake until it was answered.
        Ok(Admitted::Joiner(connection)) => return join::serve(connection, handlers.joins).await,
        Err(reason) => return refuse(&shared, address, &reason),
    };
    drop(handshaking);
    let handled = async {
        match purpose {
            Purpose::Rpc => serve::serve(from, connection, Arc::clone(&handlers.rpc)).await,
            Purpose::Raft => handlers.raft.accept(from, connection).await,
            Purpose::Bulk => handlers.bulk.accept(from, connection).await,
            Purpose::Litefs => handlers.litefs.accept(from, connection).await,
        }
    };
    let mut members = shared.members.subscribe();
    tokio::select! {
        () = handled => {}
        // A removed member is out at once, also where it had been let in.
        _ = members.wait_for(|members| members.get(from).is_none()) => {}
    }
}

fn refuse(shared: &Shared, from: SocketAddr, reason: &dyn std::fmt::Display) {
    if let Some(others) = shared.refusals.may_log() {
        tracing::warn!(%from, %reason, others, "refused a connection");
    }
}
