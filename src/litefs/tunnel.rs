//! LiteFS's HTTP between nodes: from a port on loopback, through the mesh, to the LiteFS of the other node.
//!
//! no-open-door: LiteFS itself listens on loopback only, and knows no authentication; here it goes through
//! the mutual TLS of the mesh.
//!
//! LiteFS reads its stream without a time limit. So a connection is cut when the other node is silent
//! (frames without content are signs of life), when its LiteFS is, which sends something each second, and
//! when another node becomes primary: nothing of the one before may arrive any more.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, interval, timeout};

use crate::core::NodeId;
use crate::mesh::{Connection, FrameReceiver, FrameSender, Mesh, Purpose};

/// Between two signs of life.
const PING: Duration = Duration::from_secs(1);
/// Without a sign of life of the other node for so long, it is not there.
const SILENCE: Duration = Duration::from_secs(3);
/// A LiteFS that has answered something, and is silent for so long, hangs: its stream has a heartbeat each
/// second.
const LITEFS_SILENCE: Duration = Duration::from_secs(5);
/// In which LiteFS must take what arrives. A long reader holds it up, so this is long.
const TAKE: Duration = Duration::from_mins(1);
/// Bytes that are read at once.
const PIECE: usize = 64 << 10;

/// The ports that lead to the other nodes' LiteFS.
pub struct Tunnels {
    mesh: Mesh,
    ports: Mutex<BTreeMap<NodeId, (u16, JoinHandle<()>)>>,
    /// Counted up to cut all connections.
    cut: watch::Sender<u64>,
}

impl Drop for Tunnels {
    fn drop(&mut self) {
        for (_, task) in self.ports.get_mut().values() {
            task.abort();
        }
    }
}

impl Tunnels {
    pub fn new(mesh: Mesh) -> Self {
        Self { mesh, ports: Mutex::default(), cut: watch::Sender::new(0) }
    }

    /// The port that leads to a node; it is opened when it is first asked for.
    ///
    /// # Errors
    /// There is no port left.
    pub async fn port(&self, node: NodeId) -> std::io::Result<u16> {
        let mut ports = self.ports.lock().await;
        if let Some((port, _)) = ports.get(&node) {
            return Ok(*port);
        }
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let port = listener.local_addr()?.port();
        let task = tokio::spawn(accept(listener, self.mesh.clone(), node, self.cut.subscribe()));
        ports.insert(node, (port, task));
        Ok(port)
    }

    /// Cuts all that go out from here.
    pub fn cut(&self) {
        self.cut.send_modify(|cut| *cut += 1);
    }
}

async fn accept(listener: TcpListener, mesh: Mesh, node: NodeId, cut: watch::Receiver<u64>) {
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection of LiteFS");
                tokio::time::sleep(PING).await;
                continue;
            }
        };
        let (mesh, mut cut) = (mesh.clone(), cut.clone());
        cut.mark_unchanged();
        tokio::spawn(async move {
            // A node that is frozen takes its time; LiteFS must not wait for it when another may be primary.
            let connected = tokio::select! {
                connected = mesh.connect(node, Purpose::Litefs) => connected,
                _ = cut.changed() => return,
            };
            match connected {
                Ok(connection) => carry(stream, connection, Some(cut)).await,
                // LiteFS sees its connection end, and tries again.
                Err(error) => tracing::debug!(%node, %error, "no way to LiteFS on another node"),
            }
        });
    }
}

/// A connection of another node's LiteFS: leads it to the one here.
pub async fn lead_in(connection: Connection, litefs: SocketAddr) {
    match TcpStream::connect(litefs).await {
        Ok(stream) => carry(stream, connection, None).await,
        Err(error) => tracing::debug!(%error, "LiteFS does not listen here"),
    }
}

/// Carries bytes both ways until either side ends, or is silent. `cut`: on the side that asked.
async fn carry(stream: TcpStream, connection: Connection, cut: Option<watch::Receiver<u64>>) {
    let asked = cut.is_some();
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "small pieces may wait for each other");
    }
    let (from_litefs, to_litefs) = stream.into_split();
    let cutting = async {
        match cut {
            Some(mut cut) => drop(cut.changed().await),
            None => std::future::pending().await,
        }
    };
    let why = tokio::select! {
        why = send(from_litefs, connection.sender) => why,
        why = receive(connection.receiver, to_litefs, asked) => why,
        () = cutting => "another node is primary".to_owned(),
    };
    tracing::debug!(why, "a connection of LiteFS ended");
}

async fn send(mut from: tokio::net::tcp::OwnedReadHalf, mut sender: FrameSender) -> String {
    let mut ping = interval(PING);
    let mut buffer = vec![0; PIECE];
    loop {
        let frame = tokio::select! {
            read = from.read(&mut buffer) => match read {
                Ok(0) => break,
                Ok(read) => Bytes::copy_from_slice(buffer.get(..read).unwrap_or_default()),
                Err(error) => return error.to_string(),
            },
            _ = ping.tick() => Bytes::new(),
        };
        if let Err(error) = sender.send(frame).await {
            return error.to_string();
        }
    }
    // The other side sees an end, not a break; it is of no use any more either way.
    drop(sender.close().await);
    "LiteFS ended it".to_owned()
}

async fn receive(
    mut receiver: FrameReceiver,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    asked: bool,
) -> String {
    receiver.expect_within(SILENCE);
    let mut spoken: Option<Instant> = None;
    loop {
        let frame = match receiver.recv().await {
            Ok(Some(frame)) => frame,
            Ok(None) => return "the other side ended it".to_owned(),
            Err(error) => return error.to_string(),
        };
        if frame.is_empty() {
            if asked && spoken.is_some_and(|at| at.elapsed() > LITEFS_SILENCE) {
                return "LiteFS on the other node is silent".to_owned();
            }
            continue;
        }
        spoken = Some(Instant::now());
        match timeout(TAKE, to.write_all(&frame)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return error.to_string(),
            Err(_) => return "LiteFS does not take what arrives".to_owned(),
        }
    }
}

/// For [`crate::mesh::Handlers`].
pub(super) struct LeadIn(pub SocketAddr);

impl crate::mesh::StreamHandler for LeadIn {
    fn accept(&self, _from: NodeId, connection: Connection) -> futures::future::BoxFuture<'_, ()> {
        Box::pin(lead_in(connection, self.0))
    }
}

/// One, for the mesh.
pub fn lead_in_handler(litefs: SocketAddr) -> Arc<dyn crate::mesh::StreamHandler> {
    Arc::new(LeadIn(litefs))
}
