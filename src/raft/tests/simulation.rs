//! Nodes on a bad network, and what must hold whatever it does.
//!
//! - Election safety (Raft paper, figure 3): at most one leader a term.
//! - State machine safety: no two nodes apply different entries at the same index; and each
//!   applies them in order, without a gap that no snapshot explains.
//! - no-lost-ack: what was acknowledged is applied on every node in the end.
//! - converges: when the faults end, all nodes come to the same.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tempfile::TempDir;
use tokio::time::{Instant, sleep, timeout};

use super::super::{Compaction, LogConfig, Member, NoStagedFiles, RaftConfig, RaftNode};
use super::network::{Net, NetLinks};
use super::{Recorder, recorder};
use crate::cluster::Command;
use crate::core::{Boot, EntryId, NodeId, TransactionId};

const NODES: [u64; 3] = [1, 2, 3];
const LASTS: Duration = Duration::from_millis(2_500);
const SOON: Duration = Duration::from_secs(20);

fn lasts() -> Duration {
    let seconds = std::env::var("RAFT_SECONDS").ok().and_then(|text| text.parse().ok());
    seconds.map_or(LASTS, Duration::from_secs)
}

struct Simulation {
    seed: u64,
    net: Arc<Net>,
    folders: BTreeMap<u64, TempDir>,
    running: BTreeMap<u64, (RaftNode, Arc<Recorder>)>,
    /// Everything that any node ever applied, by index.
    history: BTreeMap<u64, (EntryId, Option<Command>)>,
    leaders: Arc<Mutex<BTreeMap<u64, u64>>>,
    acknowledged: Vec<(EntryId, Command)>,
    sequence: u64,
}

impl Simulation {
    fn new(seed: u64) -> Self {
        let folders = NODES.into_iter().map(|id| (id, tempfile::tempdir().unwrap()));
        Self {
            seed,
            net: Net::new(seed),
            folders: folders.collect(),
            running: BTreeMap::new(),
            history: BTreeMap::new(),
            leaders: Arc::default(),
            acknowledged: Vec::new(),
            sequence: 0,
        }
    }

    async fn start(&mut self, id: u64) {
        let seed = self.seed;
        let member = |id| Member { name: format!("node{id}"), address: String::new() };
        let config = RaftConfig {
            bootstrap: Some(NODES.into_iter().map(|id| (NodeId(id), member(id))).collect()),
            heartbeat: Duration::from_millis(15),
            election: (Duration::from_millis(60), Duration::from_millis(120)),
            log: LogConfig { segment: 1 << 14, cache: 2_000, ..LogConfig::default() },
            compaction: Compaction { after: 1 << 30, keep: 200, most: 2_000 },
            on_fatal: Arc::new(move |why| println!("seed {seed}: node {id} failed: {why}")),
            ..RaftConfig::new(NodeId(id), self.folders[&id].path())
        };
        let links = Arc::new(NetLinks { net: Arc::clone(&self.net), id });
        let recorder = recorder();
        let started = RaftNode::start_with(
            config,
            links,
            Arc::clone(&recorder) as _,
            Arc::new(NoStagedFiles),
        );
        let node = started.await.unwrap_or_else(|e| panic!("seed {seed}: node {id}: {e}"));
        self.net.join(id, &node.handlers().services);
        let leaders = Arc::clone(&self.leaders);
        let mut leadership = node.leadership();
        tokio::spawn(async move {
            while leadership.changed().await.is_ok() {
                let now = *leadership.borrow_and_update();
                if now.me_leading {
                    let mut leaders = leaders.lock().unwrap();
                    let first = *leaders.entry(now.term).or_insert(id);
                    assert_eq!(first, id, "seed {seed}: two leaders in term {}", now.term);
                }
            }
        });
        self.running.insert(id, (node, recorder));
    }

    async fn stop(&mut self, id: u64) {
        if let Some((node, recorder)) = self.running.remove(&id) {
            self.net.leave(id);
            node.stop().await;
            self.check(id, &recorder);
        }
    }

    /// State machine safety.
    fn check(&mut self, id: u64, recorder: &Recorder) {
        let seed = self.seed;
        let mut last = 0;
        for applied in std::mem::take(&mut *recorder.applied.lock().unwrap()) {
            let index = applied.entry.index;
            assert!(index >= last, "seed {seed}: node {id} went back from {last} to {index}");
            last = index;
            let now = (applied.entry, applied.command);
            let first = self.history.entry(index).or_insert_with(|| now.clone());
            assert_eq!(*first, now, "seed {seed}: node {id} applied another entry at {index}");
        }
    }

    fn check_all(&mut self) {
        let all: Vec<_> = self.running.iter().map(|(id, (_, r))| (*id, Arc::clone(r))).collect();
        for (id, recorder) in all {
            self.check(id, &recorder);
        }
    }

    /// One proposal to whoever says that it leads.
    async fn propose(&mut self, patience: Duration) -> bool {
        let leading = self.running.values().find_map(|(node, _)| {
            let leadership = *node.leadership().borrow();
            leadership.me_leading.then(|| (node.clone(), leadership))
        });
        let Some((node, leadership)) = leading else { return false };
        self.sequence += 1;
        let id = TransactionId { node: NodeId(9), boot: Boot(1), sequence: self.sequence };
        let command = Command::Abandon { id };
        let leader = leadership.leader.unwrap_or_default();
        let proposed = node.propose(leader, leadership.term, command.clone());
        match timeout(patience, proposed).await {
            Ok(Ok(entry)) => {
                self.acknowledged.push((entry, command));
                true
            }
            _ => false,
        }
    }

    /// Something bad, or better.
    async fn fault(&mut self, rng: &mut StdRng) {
        let leads = |(node, _): &&(RaftNode, _)| node.leadership().borrow().me_leading;
        let leader = self.running.values().find(leads).map(|(node, _)| node.status().id.0);
        // The leader is worth the most trouble.
        let one = match leader {
            Some(leader) if rng.random() => leader,
            _ => NODES[rng.random_range(0..NODES.len())],
        };
        match rng.random_range(0..8) {
            0 => self.net.cut(&[one], &NODES),
            1 | 2 => self.net.cut(&[], &NODES),
            3 => *self.net.loss.lock().unwrap() = rng.random_range(0.0..15.0),
            4 => *self.net.loss.lock().unwrap() = 0.0,
            5 => {
                self.stop(one).await;
                self.start(one).await;
            }
            6 => {
                if let Some((node, _)) = self.running.get(&one) {
                    // A majority may be out of reach: that is no fault of it.
                    let _ = timeout(Duration::from_millis(100), node.compact()).await;
                }
            }
            _ => {
                let dead = NodeId(leader.unwrap_or(one));
                let one = NODES[rng.random_range(0..NODES.len())];
                if let Some((node, _)) = self.running.get(&one) {
                    // Also when it is not true: it may cost an election, never a commit.
                    node.peer_died(dead);
                }
            }
        }
    }

    async fn run(mut self) {
        let mut rng = StdRng::seed_from_u64(self.seed);
        for id in NODES {
            self.start(id).await;
        }
        let ends = Instant::now() + lasts();
        while Instant::now() < ends {
            self.fault(&mut rng).await;
            for _ in 0..rng.random_range(1..10) {
                if !self.propose(Duration::from_millis(60)).await {
                    sleep(Duration::from_millis(10)).await;
                    break;
                }
            }
            self.check_all();
        }
        // converges.
        self.net.cut(&[], &NODES);
        *self.net.loss.lock().unwrap() = 0.0;
        let deadline = Instant::now() + SOON;
        while !self.propose(Duration::from_secs(1)).await {
            assert!(Instant::now() < deadline, "seed {}: nothing is committed", self.seed);
            sleep(Duration::from_millis(10)).await;
        }
        let (last, _) = self.acknowledged.last().unwrap().clone();
        while !self.running.values().all(|(node, _)| *node.applied().borrow() >= Some(last)) {
            assert!(Instant::now() < deadline, "seed {}: no convergence to {last:?}", self.seed);
            sleep(Duration::from_millis(5)).await;
        }
        self.check_all();
        for (entry, command) in &self.acknowledged {
            let applied = self.history.get(&entry.index);
            let expected = Some(&(*entry, Some(command.clone())));
            assert_eq!(applied, expected, "seed {}: an acknowledged entry is lost", self.seed);
        }
        let count = self.acknowledged.len();
        let terms = self.leaders.lock().unwrap().len();
        println!("seed {}: {count} acknowledged, {terms} terms with a leader", self.seed);
        assert!(count > 20, "seed {}: only {count} acknowledged", self.seed);
        for id in NODES {
            self.stop(id).await;
        }
    }
}

/// Another seed each time, told when it fails; `RAFT_SEED` runs one again,
/// `RAFT_SECONDS` for longer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_on_a_bad_network() {
    let seeds: Vec<u64> = match std::env::var("RAFT_SEED") {
        Ok(seed) => vec![seed.parse().unwrap()],
        Err(_) => (0..3).map(|_| rand::random()).collect(),
    };
    println!("seeds {seeds:?}");
    let runs = seeds.into_iter().map(|seed| tokio::spawn(Simulation::new(seed).run()));
    for run in futures::future::join_all(runs).await {
        run.unwrap();
    }
}
