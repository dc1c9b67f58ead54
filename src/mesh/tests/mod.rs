//! The room's tests that need two nodes: in one process, over loopback, port 0.

mod calls;
mod doors;
mod join;
mod peers;
mod raw;
mod streams;

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{Instant, timeout};

use super::*;
use crate::core::NodeId;

/// For whatever should happen soon, on a busy machine.
const SOON: Duration = Duration::from_secs(10);

async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(SOON, future).await.unwrap_or_else(|_| panic!("not in time: {what}"))
}

/// Waits for a condition.
async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + SOON;
    while !holds() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Methods of the test's handler.
const ECHO: u8 = 1;
/// Answers once the test lets it.
const HOLD: u8 = 2;
const FAIL: u8 = 3;
/// Answers with as many bytes as the request says (4 bytes, big-endian).
const FILL: u8 = 4;
/// Answers with the caller's id.
const WHO: u8 = 5;

struct TestRpc {
    gate: Arc<Semaphore>,
    held: Arc<AtomicUsize>,
}

impl RpcHandler for TestRpc {
    fn call(
        &self,
        from: NodeId,
        method: u8,
        request: Bytes,
    ) -> BoxFuture<'_, Result<Bytes, String>> {
        Box::pin(async move {
            match method {
                ECHO => Ok(request),
                HOLD => {
                    self.held.fetch_add(1, Ordering::SeqCst);
                    self.gate.acquire().await.map_err(|e| e.to_string())?.forget();
                    Ok(request)
                }
                FILL => {
                    let len = u32::from_be_bytes(request[..].try_into().expect("four bytes"));
                    Ok(vec![7; len as usize].into())
                }
                WHO => Ok(Bytes::copy_from_slice(&from.0.to_be_bytes())),
                _ => Err(format!("no method {method}")),
            }
        })
    }
}

/// Hands incoming streams to the test.
struct ToTest(mpsc::UnboundedSender<(NodeId, Connection)>);

impl StreamHandler for ToTest {
    fn accept(&self, from: NodeId, connection: Connection) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let _ = self.0.send((from, connection));
            std::future::pending::<()>().await;
        })
    }
}

fn peer(id: u64, address: &str) -> Peer {
    Peer { id: NodeId(id), name: format!("node{id}"), address: address.to_owned() }
}

fn config(ca: &Ca, id: u64, peers: Vec<Peer>) -> MeshConfig {
    let me = peer(id, "127.0.0.1:0");
    MeshConfig {
        cluster: ca.cluster().to_owned(),
        identity: ca.issue(&me.name).expect("an identity"),
        me,
        peers,
        ca_pem: ca.certificate_pem().to_owned(),
    }
}

/// A node that listens, and what came in.
struct Node {
    mesh: Mesh,
    listening: Option<Listening>,
    gate: Arc<Semaphore>,
    /// How many calls came to the gate.
    held: Arc<AtomicUsize>,
    raft: mpsc::UnboundedReceiver<(NodeId, Connection)>,
    bulk: mpsc::UnboundedReceiver<(NodeId, Connection)>,
}

impl Node {
    async fn start(config: MeshConfig) -> Node {
        Node::start_at(config, "127.0.0.1:0").await
    }

    async fn start_at(config: MeshConfig, address: &str) -> Node {
        let gate = Arc::new(Semaphore::new(0));
        let held = Arc::new(AtomicUsize::new(0));
        let (raft_sender, raft) = mpsc::unbounded_channel();
        let (bulk_sender, bulk) = mpsc::unbounded_channel();
        let handlers = Handlers {
            rpc: Arc::new(TestRpc { gate: Arc::clone(&gate), held: Arc::clone(&held) }),
            raft: Arc::new(ToTest(raft_sender)),
            bulk: Arc::new(ToTest(bulk_sender)),
            litefs: Arc::new(NoStreams),
            joins: Arc::new(NoJoins),
        };
        let mesh = Mesh::new(config).expect("a mesh");
        let listening = Some(mesh.listen_on(address, handlers).await.expect("a port"));
        Node { mesh, listening, gate, held, raft, bulk }
    }

    fn address(&self) -> String {
        self.listening.as_ref().expect("listens").local_addr().to_string()
    }

    fn peer(&self) -> Peer {
        Peer { address: self.address(), ..self.mesh.me().clone() }
    }

    /// What a death of the process does: the port and all connections close.
    async fn die(mut self) {
        if let Some(listening) = self.listening.take() {
            listening.stop().await;
        }
    }
}

/// Nodes 1 to n of one cluster, who know each other.
async fn nodes(ca: &Ca, n: u64) -> Vec<Node> {
    let mut nodes = Vec::new();
    for id in 1..=n {
        nodes.push(Node::start(config(ca, id, Vec::new())).await);
    }
    let peers: Vec<Peer> = nodes.iter().map(Node::peer).collect();
    for node in &nodes {
        node.mesh.set_peers(peers.clone()).expect("peers");
    }
    nodes
}

async fn two() -> (Node, Node) {
    let mut two = nodes(&Ca::create("test").expect("a CA"), 2).await;
    let second = two.pop().expect("two");
    (two.pop().expect("two"), second)
}
