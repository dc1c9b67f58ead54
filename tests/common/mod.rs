//! Several nodes in one process over one log kept in memory: the real mount, write path, locks,
//! state machine and store; no Raft and no network.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::missing_panics_doc, dead_code)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use futures::future::BoxFuture;
use litefs_py::cluster::{Command, State};
use litefs_py::commit::peers::{Group, Leadership};
use litefs_py::commit::{AllDatabases, Arbiter, Database, Fetching, Service, Settings, Shared};
use litefs_py::core::{Boot, DatabaseName, EntryId, Incarnation, NodeId, SystemClock};
use litefs_py::mount::{Mount, MountConfig};
use litefs_py::raft::{Content, IncomingDatabase, Replica, SnapshotDatabase};
use litefs_py::store::Store;
use tokio::sync::watch;

mod client;
pub use client::Client;

/// The log that all nodes share, and who is cut off from it.
pub struct Log {
    inner: Mutex<Inner>,
    leadership: watch::Sender<Leadership>,
}

struct Inner {
    entries: Vec<Command>,
    state: State,
    nodes: BTreeMap<NodeId, Arc<Node>>,
    /// Nodes that get no entries for now.
    cut: BTreeSet<NodeId>,
    given: BTreeMap<NodeId, usize>,
    /// No proposal is taken.
    stopped: bool,
    /// How many were not.
    refused: usize,
    /// Staged files are on their way, and do not arrive.
    staging_held: bool,
    /// How many wait for theirs.
    staging: usize,
}

pub struct Node {
    pub id: NodeId,
    pub databases: Arc<AllDatabases>,
    service: Service,
    state: Mutex<State>,
    _arbiter: Arc<Arbiter>,
    mount: Mutex<Option<Mount>>,
    pub path: PathBuf,
}

struct LogGroup {
    me: NodeId,
    /// As this node sees it: ready only where it leads itself.
    leadership: watch::Sender<Leadership>,
    log: Weak<Log>,
    others: Vec<NodeId>,
}

impl Log {
    fn append(&self, term: u64, command: Command) -> Result<(), String> {
        let mut inner = self.inner.lock().unwrap();
        if inner.stopped || self.leadership.borrow().term != term {
            inner.refused += 1;
            return Err("not the leader".into());
        }
        inner.entries.push(command);
        self.give(&mut inner);
        Ok(())
    }

    fn give(&self, inner: &mut Inner) {
        let term = self.leadership.borrow().term;
        for (id, node) in &inner.nodes {
            if inner.cut.contains(id) {
                continue;
            }
            let given = inner.given.entry(*id).or_default();
            while *given < inner.entries.len() {
                let command = &inner.entries[*given];
                *given += 1;
                let entry = EntryId { term, index: *given as u64 };
                let effect = node.state.lock().unwrap().apply(entry, command);
                node.databases.entry(entry, Some(command), Some(effect));
            }
        }
    }
}

impl Group for LogGroup {
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
        true
    }

    fn leadership(&self) -> watch::Receiver<Leadership> {
        self.leadership.subscribe()
    }

    fn propose_here(&self, term: u64, command: Command) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(async move {
            let log = self.log.upgrade().ok_or("gone")?;
            log.append(term, command)
        })
    }

    fn call(
        &self,
        to: NodeId,
        request: Bytes,
        timeout: Duration,
    ) -> BoxFuture<'_, Result<Bytes, String>> {
        Box::pin(async move {
            let log = self.log.upgrade().ok_or("gone")?;
            let node = {
                let inner = log.inner.lock().unwrap();
                if inner.cut.contains(&to) || inner.cut.contains(&self.me) {
                    return Err("unreachable".into());
                }
                inner.nodes.get(&to).cloned().ok_or("unknown")?
            };
            tokio::time::timeout(timeout, node.service.call(self.me, &request))
                .await
                .map_err(|_| "timed out".to_owned())?
        })
    }

    fn keep_staged(&self, _sha256: [u8; 32], _len: u64) {}

    fn fetch_staged(
        &self,
        from: NodeId,
        sha256: [u8; 32],
        _len: u64,
    ) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(async move {
            let log = self.log.upgrade().ok_or("gone")?;
            log.inner.lock().unwrap().staging += 1;
            while log.inner.lock().unwrap().staging_held {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            let mut inner = log.inner.lock().unwrap();
            inner.staging -= 1;
            let source = inner.nodes[&from].databases.shared().staged_path(&sha256);
            for node in inner.nodes.values() {
                let to = node.databases.shared().staged_path(&sha256);
                if !to.exists() {
                    std::fs::copy(&source, &to).map_err(|error| error.to_string())?;
                }
            }
            Ok(())
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
            let log = self.log.upgrade().ok_or("gone")?;
            let node = log.inner.lock().unwrap().nodes.get(&from).cloned().ok_or("unknown")?;
            let found = node.databases.database(&name, incarnation, at_least);
            let found = found.map_err(|error| error.to_string())?;
            let SnapshotDatabase { name, incarnation, index, reader } = found;
            Ok(IncomingDatabase { name, incarnation, index, content: Content::Ltx(reader) })
        })
    }

    fn read_index(&self, _timeout: Duration) -> BoxFuture<'_, Result<u64, String>> {
        Box::pin(async move {
            let log = self.log.upgrade().ok_or("gone")?;
            let inner = log.inner.lock().unwrap();
            if inner.stopped { Err("no quorum".into()) } else { Ok(inner.entries.len() as u64) }
        })
    }

    fn lag_ms(&self) -> i64 {
        0
    }

    fn sync_committed_mark(&self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The nodes, each mounted in a folder of its own. Unmounted when dropped.
pub struct Cluster {
    pub log: Arc<Log>,
    pub nodes: Vec<Arc<Node>>,
    pub folder: tempfile::TempDir,
}

/// Why mounts cannot be tried on this machine.
pub fn no_mounts() -> Option<&'static str> {
    if !std::path::Path::new("/dev/fuse").exists() {
        return Some("no /dev/fuse");
    }
    (!rustix::process::geteuid().is_root()).then_some("not root")
}

impl Cluster {
    pub fn start(count: u64, settings: Settings) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let leadership = Leadership { term: 1, leader: Some(NodeId(1)), ready: true };
        let log = Arc::new(Log {
            inner: Mutex::new(Inner {
                entries: Vec::new(),
                state: State::default(),
                nodes: BTreeMap::new(),
                cut: BTreeSet::new(),
                given: BTreeMap::new(),
                stopped: false,
                refused: 0,
                staging_held: false,
                staging: 0,
            }),
            leadership: watch::Sender::new(leadership),
        });
        let ids: Vec<NodeId> = (1..=count).map(NodeId).collect();
        let nodes: Vec<Arc<Node>> =
            ids.iter().map(|id| Self::node(*id, &ids, &log, folder.path(), settings)).collect();
        for node in &nodes {
            log.inner.lock().unwrap().nodes.insert(node.id, Arc::clone(node));
        }
        Self { log, nodes, folder }
    }

    fn node(
        id: NodeId,
        ids: &[NodeId],
        log: &Arc<Log>,
        folder: &std::path::Path,
        settings: Settings,
    ) -> Arc<Node> {
        let data = folder.join(format!("n{}/data", id.0));
        let path = folder.join(format!("n{}/mount", id.0));
        for made in [&data, &path, &data.join("staged")] {
            std::fs::create_dir_all(made).unwrap();
        }
        let (group, databases, arbiter) = Self::databases(id, ids, log, &data, settings);
        databases.begin_to_serve().unwrap();
        let service = Service {
            group,
            arbiter: Arc::clone(&arbiter),
            databases: Arc::clone(&databases),
            fetching: Fetching::default(),
        };
        let config = MountConfig {
            path: path.clone(),
            owner: 0,
            group: 0,
            mode: 0o660,
            allow_other: true,
            passthrough: true,
            immutable: false,
            statfs_path: data,
        };
        let mount = Mount::start(config, Arc::clone(&databases) as _).unwrap();
        Arc::new(Node {
            id,
            databases,
            service,
            state: Mutex::default(),
            _arbiter: arbiter,
            mount: Mutex::new(Some(mount)),
            path,
        })
    }

    /// What a node has before applications may come.
    fn databases(
        id: NodeId,
        ids: &[NodeId],
        log: &Arc<Log>,
        data: &std::path::Path,
        settings: Settings,
    ) -> (Arc<dyn Group>, Arc<AllDatabases>, Arc<Arbiter>) {
        let others: Vec<NodeId> = ids.iter().copied().filter(|other| *other != id).collect();
        let runtime = tokio::runtime::Handle::current();
        let seen = Self::follow(id, log, &runtime);
        let group: Arc<dyn Group> =
            Arc::new(LogGroup { me: id, leadership: seen, log: Arc::downgrade(log), others });
        let staged = data.join("staged");
        let shared = Shared::new(Arc::clone(&group), runtime.clone(), Boot(1), settings, staged);
        let (store, recovered) = Store::open(data, SystemTime::now()).unwrap();
        let names = Box::new(|id: NodeId| Some(format!("n{}", id.0)));
        let databases = AllDatabases::new(&shared, store, recovered.databases, names);
        let arbiter = databases.with_arbiter(Arc::new(SystemClock::default()));
        runtime.spawn(Arc::clone(&arbiter).run());
        (group, databases, arbiter)
    }

    /// A node that begins with nothing, and that nobody uses yet: it gets the log's entries by `more`.
    pub fn newcomer(&self, settings: Settings) -> Newcomer {
        let (id, data) = (NodeId(99), self.folder.path().join("n99/data"));
        std::fs::create_dir_all(data.join("staged")).unwrap();
        let (_, databases, arbiter) = Self::databases(id, &[id], &self.log, &data, settings);
        Newcomer {
            log: Arc::clone(&self.log),
            databases,
            _arbiter: arbiter,
            state: State::default(),
            given: 0,
        }
    }

    fn follow(
        id: NodeId,
        log: &Arc<Log>,
        runtime: &tokio::runtime::Handle,
    ) -> watch::Sender<Leadership> {
        let seen_by = move |mut leadership: Leadership| {
            leadership.ready = leadership.ready && leadership.leader == Some(id);
            leadership
        };
        let seen = watch::Sender::new(seen_by(*log.leadership.borrow()));
        let (sender, mut changes) = (seen.clone(), log.leadership.subscribe());
        runtime.spawn(async move {
            while changes.changed().await.is_ok() {
                sender.send_replace(seen_by(*changes.borrow_and_update()));
            }
        });
        seen
    }

    /// The database's path on a node, from 1.
    pub fn path(&self, node: usize, name: &str) -> PathBuf {
        self.nodes[node - 1].path.join(name)
    }

    pub fn database(&self, node: usize, name: &str) -> Arc<Database> {
        self.nodes[node - 1].databases.find(&DatabaseName::new(name).unwrap()).unwrap()
    }

    /// What the log has made of the state that a node knows.
    pub fn state(&self, node: usize) -> State {
        self.nodes[node - 1].state.lock().unwrap().clone()
    }

    /// Entries do not reach the node until [`Self::heal`].
    pub fn cut(&self, node: u64) {
        self.log.inner.lock().unwrap().cut.insert(NodeId(node));
    }

    pub fn heal(&self) {
        let mut inner = self.log.inner.lock().unwrap();
        inner.cut.clear();
        self.log.give(&mut inner);
    }

    /// No quorum: nothing is committed until it is back.
    pub fn stop_log(&self, stopped: bool) {
        self.log.inner.lock().unwrap().stopped = stopped;
    }

    /// How many proposals were not taken.
    pub fn refused(&self) -> usize {
        self.log.inner.lock().unwrap().refused
    }

    /// Files of large transactions are under way until they are let go.
    pub fn hold_staging(&self, held: bool) {
        self.log.inner.lock().unwrap().staging_held = held;
    }

    pub fn staging(&self) -> usize {
        self.log.inner.lock().unwrap().staging
    }

    pub fn lead(&self, node: u64) {
        self.log.leadership.send_modify(|leadership| {
            leadership.term += 1;
            leadership.leader = Some(NodeId(node));
        });
    }

    pub fn entries(&self) -> usize {
        self.log.inner.lock().unwrap().entries.len()
    }
}

/// A node that is not mounted yet.
pub struct Newcomer {
    log: Arc<Log>,
    pub databases: Arc<AllDatabases>,
    _arbiter: Arc<Arbiter>,
    state: State,
    given: usize,
}

impl Newcomer {
    /// The log's entries up to this one. Returns before they are applied.
    pub fn more(&mut self, up_to: usize) {
        let inner = self.log.inner.lock().unwrap();
        for command in &inner.entries[self.given..up_to] {
            self.given += 1;
            let entry = EntryId { term: 1, index: self.given as u64 };
            let effect = self.state.apply(entry, command);
            self.databases.entry(entry, Some(command), Some(effect));
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for node in &self.nodes {
            if let Some(mount) = node.mount.lock().unwrap().take() {
                mount.stop().unwrap();
            }
        }
        self.log.inner.lock().unwrap().nodes.clear();
    }
}

/// Waits for a condition, with a deadline.
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Runs the sqlite3 shell on a database; its output, or what it complains.
pub fn sqlite(path: &std::path::Path, sql: &str) -> Result<String, String> {
    let output = std::process::Command::new("sqlite3")
        .args(["-batch", "-cmd", ".timeout 5000"])
        .arg(path)
        .arg(sql)
        .output()
        .expect("the sqlite3 shell is installed");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if output.status.success() && output.stderr.is_empty() {
        Ok(text(&output.stdout))
    } else {
        Err(text(&output.stderr))
    }
}
