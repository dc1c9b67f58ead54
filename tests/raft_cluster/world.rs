//! A few nodes, started, stopped and asked.

use std::collections::BTreeMap;
use std::future::Future;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use bytes::Bytes;
use litefs_py::cluster::{Command, Commit, Payload};
use litefs_py::core::{
    Boot, Checksum, DatabaseName, EntryId, Incarnation, NodeId, Position, TransactionId, Txid,
};
use litefs_py::mesh::{
    Ca, Handlers, Listening, Mesh, MeshConfig, NoJoins, NoStreams, Peer, PeerEventKind,
};
use litefs_py::raft::{
    Compaction, LogConfig, Member, RaftConfig, RaftNode, StagedFiles, StagedFolder,
};
use tempfile::TempDir;
use tokio::time::{Instant, sleep, timeout};

use crate::replica::{Database, TestReplica};

/// For whatever should happen soon, on a busy machine.
pub const SOON: Duration = Duration::from_secs(20);

pub struct Running {
    pub node: RaftNode,
    pub replica: Arc<TestReplica>,
    pub staged: Arc<dyn StagedFiles>,
    mesh: Mesh,
    listening: Listening,
    events: tokio::task::JoinHandle<()>,
}

pub struct World {
    ca: Ca,
    peers: Vec<Peer>,
    folders: BTreeMap<NodeId, TempDir>,
    pub running: BTreeMap<NodeId, Running>,
    durable: BTreeMap<NodeId, BTreeMap<DatabaseName, Database>>,
    pub compaction: Compaction,
    /// Who is a member from the beginning.
    first: usize,
    pub sequence: u64,
}

pub async fn until<T, F: Future<Output = Option<T>>>(
    what: &str,
    mut check: impl FnMut() -> F,
) -> T {
    let deadline = Instant::now() + SOON;
    loop {
        if let Some(value) = check().await {
            return value;
        }
        assert!(Instant::now() < deadline, "not in time: {what}");
        sleep(Duration::from_millis(2)).await;
    }
}

/// On a loopback address of its own: what connects elsewhere, from 127.0.0.1, cannot take the port meanwhile.
fn free_address() -> String {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    let [.., high, low] = std::process::id().to_be_bytes();
    let ip = Ipv4Addr::new(127, high, low, NEXT.fetch_add(1, Ordering::Relaxed));
    let listener = TcpListener::bind((ip, 0)).unwrap();
    listener.local_addr().unwrap().to_string()
}

impl World {
    /// `first` of `all` nodes are members; none is started.
    pub fn new(first: usize, all: usize) -> Self {
        let ca = Ca::create("test").unwrap();
        let peers = (1..=all as u64).map(|id| Peer {
            id: NodeId(id),
            name: format!("node{id}"),
            address: free_address(),
        });
        let peers: Vec<_> = peers.collect();
        let folders = peers.iter().map(|peer| (peer.id, tempfile::tempdir().unwrap()));
        Self {
            ca,
            folders: folders.collect(),
            peers,
            running: BTreeMap::new(),
            durable: BTreeMap::new(),
            compaction: Compaction::default(),
            first,
            sequence: 0,
        }
    }

    /// Three nodes that run, and who leads them.
    pub async fn three() -> (Self, NodeId) {
        let mut world = Self::new(3, 3);
        for id in 1..=3 {
            world.start(NodeId(id)).await;
        }
        let leader = world.leader().await;
        (world, leader)
    }

    pub fn member(&self, id: NodeId) -> Member {
        let peer = self.peers.iter().find(|peer| peer.id == id).unwrap();
        Member { name: peer.name.clone(), address: peer.address.clone() }
    }

    pub async fn start(&mut self, id: NodeId) {
        let me = self.peers.iter().find(|peer| peer.id == id).unwrap().clone();
        let mesh = Mesh::new(MeshConfig {
            cluster: "test".into(),
            identity: self.ca.issue(&me.name).unwrap(),
            me,
            peers: self.peers.clone(),
            ca_pem: self.ca.certificate_pem().into(),
        })
        .unwrap();
        let folder = self.folders[&id].path();
        let staged: Arc<dyn StagedFiles> =
            Arc::new(StagedFolder::open(&folder.join("staged")).unwrap().keeping(Duration::ZERO));
        let durable = self.durable.get(&id).cloned().unwrap_or_default();
        let replica = Arc::new(TestReplica::new(durable, Arc::clone(&staged)));
        let members = self.peers.iter().take(self.first);
        let members: BTreeMap<_, _> = members.map(|peer| (peer.id, self.member(peer.id))).collect();
        let others = members.keys().copied().filter(|peer| *peer != id).collect();
        let config = RaftConfig {
            bootstrap: (id.0 <= self.first as u64).then_some(members),
            peers: others,
            log: LogConfig { segment: 1 << 16, ..LogConfig::default() },
            compaction: self.compaction,
            on_fatal: Arc::new(|why| println!("FATAL: {why}")),
            ..RaftConfig::new(id, folder)
        };
        let node =
            RaftNode::start(config, mesh.clone(), Arc::clone(&replica) as _, Arc::clone(&staged))
                .await
                .unwrap();
        let handlers = node.handlers();
        let handlers = Handlers {
            raft: handlers.raft(),
            bulk: handlers.bulk(),
            litefs: Arc::new(NoStreams),
            joins: Arc::new(NoJoins),
            rpc: Arc::new(handlers),
        };
        let mut news = mesh.peer_events();
        let listening = mesh.listen(handlers).await.unwrap();
        let told = node.clone();
        let events = tokio::spawn(async move {
            while let Ok(event) = news.recv().await {
                match event.kind {
                    PeerEventKind::Refused => told.peer_died(event.node),
                    PeerEventKind::Up => told.peer_came_back(event.node),
                    PeerEventKind::Broken => {}
                }
            }
        });
        let running = Running { node, replica, staged, mesh, listening, events };
        self.running.insert(id, running);
    }

    /// As if the process died: its connections break, its port is closed.
    pub async fn kill(&mut self, id: NodeId) {
        let Running { node, replica, mesh, listening, events, .. } =
            self.running.remove(&id).unwrap();
        events.abort();
        listening.stop().await;
        drop(mesh);
        // Only so that the folder can be opened again in the same process.
        node.stop().await;
        drop(node);
        let inner = replica.inner.lock().unwrap();
        self.durable.insert(id, inner.durable.clone());
    }

    pub fn folder(&self, id: NodeId) -> &std::path::Path {
        self.folders[&id].path()
    }

    /// Its disk is lost, and it gets an empty one.
    pub fn wipe(&mut self, id: NodeId) {
        self.folders.insert(id, tempfile::tempdir().unwrap());
        self.durable.remove(&id);
    }

    pub fn node(&self, id: NodeId) -> &RaftNode {
        &self.running[&id].node
    }

    /// Waits for a leader that knows everything that is committed.
    pub async fn leader(&self) -> NodeId {
        until("a leader", || async {
            let leads = |running: &Running| running.node.leadership().borrow().first_entry_applied;
            self.running.iter().find(|(_, running)| leads(running)).map(|(id, _)| *id)
        })
        .await
    }

    /// The next transaction of a database, as the leader knows it.
    pub fn commit(&mut self, leader: NodeId, name: &str, payload: Payload) -> Command {
        self.sequence += 1;
        let database = DatabaseName::new(name).unwrap();
        let state = self.node(leader).state();
        let present = state.database(&database);
        let base = present.map_or(Position::EMPTY, |present| present.position);
        let txid = Txid(base.txid.0 + 1);
        Command::Commit(Commit {
            id: TransactionId { node: leader, boot: Boot(1), sequence: self.sequence },
            incarnation: present.map(|present: &_| -> Incarnation { present.incarnation }),
            database,
            base,
            new: Position { txid, checksum: Checksum(Checksum::FLAG | txid.0) },
            page_size: 512,
            pages: 1,
            payload,
        })
    }

    /// Commits so many bytes; returns when they are applied on the leader.
    pub async fn write(&mut self, leader: NodeId, name: &str, bytes: usize) -> EntryId {
        let fill = self.sequence as u8;
        let payload = Payload::Inline(Bytes::from(vec![fill; bytes]));
        let command = self.commit(leader, name, payload);
        let term = self.node(leader).leadership().borrow().term;
        let proposed = self.node(leader).propose(leader, term, command);
        timeout(SOON, proposed).await.expect("a proposal in time").unwrap()
    }

    /// Waits until all running nodes hold the same as the leader.
    pub async fn converged(&self, leader: NodeId) {
        until("all nodes the same", || async {
            let wanted = self.running[&leader].replica.databases();
            let state = self.node(leader).state();
            self.running
                .values()
                .all(|running| {
                    running.replica.databases() == wanted && *running.node.state() == *state
                })
                .then_some(())
        })
        .await;
    }
}
