//! One node of the cluster: the real store, write path, locks, state machine and Raft, put together
//! as `node` does it, on the simulated machine and network.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures::future::BoxFuture;
use litefs_py::cluster::{Command, State};
use litefs_py::commit::door::Databases;
use litefs_py::commit::peers::{Group, Leadership, SharedGroup};
use litefs_py::commit::{AllDatabases, Arbiter, Fetching, METHOD, Service, Settings, Shared};
use litefs_py::core::{Boot, DatabaseName, EntryId, Incarnation, NodeId, Position, SystemClock};
use litefs_py::mesh::{Purpose, RpcHandler};
use litefs_py::raft::links::{Links, Stream};
use litefs_py::raft::{
    Applied, Compaction, IncomingDatabase, LogConfig, Member, Offered, Pages, RaftConfig,
    RaftHandlers, RaftNode, Replica, SnapshotDatabase, StagedFiles, StagedFolder, StagedName,
};
use litefs_py::store::Store;
use tokio::runtime::{Builder, Handle};
use tokio::sync::{oneshot, watch};

use crate::checker::Ledger;
use crate::kernel::Kernel;
use crate::net::{Life, Net, NetLinks};
use crate::os::threads;

/// What all nodes of a run have in common.
#[derive(Debug, Clone)]
pub struct Plan {
    pub nodes: usize,
    pub settings: Settings,
    pub compaction: Compaction,
    pub segment: u64,
    /// Threads of each node's runtime; 0: one that does everything.
    pub workers: usize,
    pub base: PathBuf,
}

/// What the world knows of a run.
pub struct Sim {
    pub plan: Plan,
    pub work: crate::app::Work,
    pub net: Net,
    pub ledger: Mutex<Ledger>,
    /// The nodes that serve now.
    pub up: Mutex<BTreeMap<usize, Up>>,
}

/// A node that serves.
#[derive(Clone)]
pub struct Up {
    pub life: Life,
    pub runtime: Handle,
    pub calls: Arc<Calls>,
    pub databases: Arc<AllDatabases>,
    pub raft: Arc<RaftNode>,
    pub arbiter: Arc<Arbiter>,
    /// Its applications' one.
    pub kernel: Arc<Kernel>,
    pub stop: Arc<Mutex<Option<oneshot::Sender<()>>>>,
}

/// What arrives from other nodes.
pub struct Calls {
    raft: RaftHandlers,
    writes: Service,
}

impl Calls {
    pub async fn call(&self, from: NodeId, method: u8, request: Bytes) -> Result<Bytes, String> {
        if method == METHOD {
            self.writes.call(from, &request).await
        } else {
            self.raft.call(from, method, request).await
        }
    }

    pub async fn stream(&self, from: NodeId, purpose: Purpose, stream: Stream) {
        self.raft.serve(from, purpose, stream).await;
    }
}

/// The write path's way to the others, made of Raft and the network.
struct SimGroup {
    me: NodeId,
    others: Vec<NodeId>,
    links: Arc<NetLinks>,
    raft: OnceLock<Arc<RaftNode>>,
    leadership: watch::Sender<Leadership>,
    staged: Arc<dyn StagedFiles>,
}

impl SimGroup {
    fn raft(&self) -> Result<&Arc<RaftNode>, String> {
        self.raft.get().ok_or_else(|| "the node is starting".to_owned())
    }

    fn follow(self: &Arc<Self>, raft: &Arc<RaftNode>, sim: &Arc<Sim>) {
        let mut leadership = raft.leadership();
        if self.raft.set(Arc::clone(raft)).is_err() {
            return;
        }
        let (group, sim) = (Arc::clone(self), Arc::clone(sim));
        tokio::spawn(async move {
            loop {
                let now = *leadership.borrow_and_update();
                if now.me_leading {
                    sim.ledger.lock().unwrap().leads(group.me.0 as usize, now.term);
                }
                group.leadership.send_replace(Leadership {
                    term: now.term,
                    leader: now.leader,
                    ready: now.me_leading && now.first_entry_applied,
                });
                if leadership.changed().await.is_err() {
                    return;
                }
            }
        });
    }
}

impl Group for SimGroup {
    fn me(&self) -> NodeId {
        self.me
    }

    fn others(&self) -> Vec<NodeId> {
        self.others.clone()
    }

    fn reaches(&self, _: NodeId) -> bool {
        true
    }

    fn in_touch(&self) -> bool {
        self.raft.get().is_some_and(|raft| {
            let leads = raft.leadership().borrow().me_leading;
            !leads || raft.quorum_age().is_some_and(|age| age < Duration::from_secs(3))
        })
    }

    fn leadership(&self) -> watch::Receiver<Leadership> {
        self.leadership.subscribe()
    }

    fn propose_here(&self, term: u64, command: Command) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(async move {
            let raft = self.raft()?;
            raft.submit(self.me, term, command).await.map_err(|error| error.to_string())
        })
    }

    fn call(
        &self,
        to: NodeId,
        request: Bytes,
        timeout: Duration,
    ) -> BoxFuture<'_, Result<Bytes, String>> {
        Box::pin(async move {
            let answer = self.links.call(to.0, METHOD, request, timeout).await;
            answer.map_err(|error| error.to_string())
        })
    }

    fn keep_staged(&self, sha256: [u8; 32], len: u64) {
        let _there = self.staged.has(sha256, len);
    }

    fn fetch_staged(
        &self,
        from: NodeId,
        sha256: [u8; 32],
        len: u64,
    ) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(async move {
            let name = StagedName { sha256, len };
            self.raft()?.fetch_staged(from, name).await.map_err(|error| error.to_string())
        })
    }

    fn fetch_database(
        &self,
        from: NodeId,
        name: DatabaseName,
        incarnation: Incarnation,
        at_least: u64,
    ) -> BoxFuture<'_, Result<IncomingDatabase, String>> {
        Box::pin(async move {
            let fetched = self.raft()?.fetch_database(from, name, incarnation, at_least).await;
            fetched.map_err(|error| error.to_string())
        })
    }

    fn read_index(&self, timeout: Duration) -> BoxFuture<'_, Result<u64, String>> {
        Box::pin(async move {
            let index = self.raft()?.read_index(timeout).await;
            index.map(|entry| entry.index).map_err(|error| error.to_string())
        })
    }

    fn lag_ms(&self) -> i64 {
        0
    }

    fn sync_committed_mark(&self) -> io::Result<()> {
        match self.raft.get() {
            Some(raft) => raft.sync_committed(),
            None => Ok(()),
        }
    }
}

/// The databases, and all that Raft tells them is written down.
struct Observed {
    databases: Arc<AllDatabases>,
    sim: Arc<Sim>,
    me: usize,
}

impl Replica for Observed {
    fn begins(&self, state: &State) -> io::Result<()> {
        self.sim.ledger.lock().unwrap().begins(self.me, state.applied().index);
        self.databases.begins(state)
    }

    fn applied(&self, applied: Applied) {
        let (entry, effect) = (applied.entry, applied.effect);
        self.sim.ledger.lock().unwrap().applied(self.me, entry, applied.command.as_ref(), effect);
        Replica::applied(&*self.databases, applied);
    }

    fn make_durable(&self, up_to: EntryId) -> io::Result<()> {
        self.databases.make_durable(up_to)
    }

    fn databases_for_snapshot(&self, state: &State) -> io::Result<Vec<SnapshotDatabase>> {
        self.databases.databases_for_snapshot(state)
    }

    fn database(
        &self,
        name: &DatabaseName,
        incarnation: Incarnation,
        at_least: u64,
    ) -> io::Result<SnapshotDatabase> {
        self.databases.database(name, incarnation, at_least)
    }

    fn offer(
        &self,
        name: &DatabaseName,
        incarnation: Incarnation,
        at_least: u64,
    ) -> io::Result<Option<Offered>> {
        self.databases.offer(name, incarnation, at_least)
    }

    fn pages_here(&self, name: &DatabaseName) -> Option<Box<dyn Pages>> {
        self.databases.pages_here(name)
    }

    fn is_at(&self, name: &DatabaseName, incarnation: Incarnation, position: Position) -> bool {
        self.databases.is_at(name, incarnation, position)
    }

    fn sends_snapshot(&self) {
        self.databases.sends_snapshot();
    }

    fn install_snapshot(
        &self,
        state: &State,
        databases: &mut dyn Iterator<Item = io::Result<IncomingDatabase>>,
    ) -> io::Result<()> {
        self.sim.ledger.lock().unwrap().installs(self.me, state.applied().index);
        // What is in the files may be ahead of the state, and says how far.
        let mut databases = databases.inspect(|incoming| {
            if let Ok(incoming) = incoming {
                self.sim.ledger.lock().unwrap().installs(self.me, incoming.index);
            }
        });
        self.databases.install_snapshot(state, &mut databases)
    }
}

/// Runs a node's life on a thread of its own; `ready` says when it serves.
pub fn start(sim: &Arc<Sim>, life: Life) {
    let before = threads::become_node(life.node);
    let sim = Arc::clone(sim);
    let thread = std::thread::Builder::new().name(format!("n{}", life.node));
    let _runs = thread.spawn(move || run(&sim, life)).unwrap();
    threads::become_node(before);
}

fn run(sim: &Arc<Sim>, life: Life) {
    let workers = sim.plan.workers;
    let mut builder =
        if workers == 0 { Builder::new_current_thread() } else { Builder::new_multi_thread() };
    if workers > 0 {
        builder.worker_threads(workers);
    }
    let runtime = builder.enable_time().build().unwrap();
    let ended = runtime.block_on(serve(sim, life));
    match ended {
        // Its memory is another's to forget.
        Ok(()) => threads::exit(0),
        Err(why) => {
            crate::say(&format!("n{} ends: {why}", life.node));
            threads::exit(1)
        }
    }
}

async fn serve(sim: &Arc<Sim>, life: Life) -> Result<(), String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let plan = &sim.plan;
    let me = NodeId(life.node as u64);
    let folder = plan.base.join(format!("n{}", life.node));
    let (store, recovered) = Store::open(&folder, SystemTime::now()).map_err(|e| text(&e))?;
    for (aside, why) in &recovered.set_aside {
        let why = format!("n{}: {}: {why}", life.node, aside.folder.display());
        sim.ledger.lock().unwrap().damaged(life.node, &why);
    }
    let staged = StagedFolder::open(&folder.join("staged")).map_err(|e| text(&e))?;
    let staged: Arc<dyn StagedFiles> = Arc::new(staged);
    let links = Arc::new(NetLinks { net: sim.net.clone(), me: life });
    let ids: Vec<NodeId> = (1..=plan.nodes as u64).map(NodeId).collect();
    let group = Arc::new(SimGroup {
        me,
        others: ids.iter().copied().filter(|id| *id != me).collect(),
        links: Arc::clone(&links),
        raft: OnceLock::new(),
        leadership: watch::Sender::new(Leadership::default()),
        staged: Arc::clone(&staged),
    });
    let shared_group: SharedGroup = group.clone();
    let runtime = Handle::current();
    let shared = Shared::new(
        Arc::clone(&shared_group),
        runtime.clone(),
        Boot(life.life),
        plan.settings,
        folder.join("staged"),
    );
    let names = Box::new(|id: NodeId| Some(format!("n{}", id.0)));
    let databases = AllDatabases::new(&shared, store, recovered.databases, names);
    let arbiter = databases.with_arbiter(Arc::new(SystemClock::default()));
    let (fatal, mut failed) = watch::channel(None);
    let member = |id: &NodeId| (*id, Member { name: format!("n{}", id.0), address: String::new() });
    let config = RaftConfig {
        bootstrap: Some(ids.iter().map(member).collect()),
        peers: ids.iter().copied().filter(|id| *id != me).collect(),
        log: LogConfig { segment: plan.segment, cache: plan.segment / 2, ..LogConfig::default() },
        compaction: plan.compaction,
        on_fatal: Arc::new(move |why| {
            fatal.send_replace(Some(why));
        }),
        ..RaftConfig::new(me, folder.join("raft"))
    };
    let replica = Arc::new(Observed {
        databases: Arc::clone(&databases),
        sim: Arc::clone(sim),
        me: life.node,
    });
    let raft = RaftNode::start_with(config, links, replica, staged).await;
    let raft = Arc::new(raft.map_err(|e| text(&e))?);
    group.follow(&raft, sim);
    let writes = Service {
        group: shared_group,
        arbiter: Arc::clone(&arbiter),
        databases: Arc::clone(&databases),
        fetching: Fetching::default(),
    };
    let calls = Arc::new(Calls { raft: raft.handlers(), writes });
    tokio::spawn(Arc::clone(&arbiter).run());
    // It answers the others from now on, and its applications a little later.
    let (stop, stops) = oneshot::channel();
    let up = Up {
        life,
        runtime,
        calls,
        databases: Arc::clone(&databases),
        raft: Arc::clone(&raft),
        arbiter,
        kernel: Kernel::new(Arc::clone(&databases) as Arc<dyn Databases>),
        stop: Arc::new(Mutex::new(Some(stop))),
    };
    sim.up.lock().unwrap().insert(life.node, up.clone());
    let serving = Arc::clone(&databases);
    let serves = tokio::task::spawn_blocking(move || serving.begin_to_serve()).await;
    serves.map_err(|e| text(&e))?.map_err(|e| text(&e))?;
    if !databases.lost().is_empty() {
        sim.ledger.lock().unwrap().damaged(life.node, &format!("n{}: databases lost", life.node));
    }
    tokio::spawn(Arc::clone(&databases).fetch_lost());
    crate::app::begin(sim, &up);
    tokio::select! {
        _ = stops => {}
        why = failed.wait_for(Option::is_some) => {
            return Err(why.ok().and_then(|why| why.clone()).unwrap_or_default());
        }
    }
    // A clean stop hands leadership over first.
    if raft.leadership().borrow().me_leading {
        let status = raft.status();
        let voters = status.peers.into_iter().filter(|(id, _)| status.voters.contains(id));
        if let Some((to, _)) = voters.max_by_key(|(_, progress)| progress.matched) {
            let _handed =
                tokio::time::timeout(Duration::from_secs(3), raft.transfer_leadership(to)).await;
        }
    }
    let up_to = *databases.applied().borrow();
    let durable = tokio::task::spawn_blocking(move || databases.make_durable(up_to));
    let _durable = tokio::time::timeout(Duration::from_secs(3), durable).await;
    let _stopped = tokio::time::timeout(Duration::from_secs(3), raft.stop()).await;
    Ok(())
}
