//! Raft on one node: the log with its segments, votes, marks and purges, the state file, and the staged
//! files that entries name.

use std::io::Read;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use litefs_py::cluster::{Command, Commit, Effect, Payload, State};
use litefs_py::core::{
    Boot, Checksum, DatabaseName, EntryId, Incarnation, NodeId, Position, TransactionId, Txid,
};
use litefs_py::mesh::{Ca, Identity, Mesh, MeshConfig, Peer};
use litefs_py::raft::{
    Applied, Compaction, IncomingDatabase, LogConfig, Member, RaftConfig, RaftNode, Replica,
    SnapshotDatabase, StagedFiles, StagedFolder, stage,
};

use crate::cuts::{Effort, Notes, Subject, everywhere};

/// no-lost-ack, one-history: what was acknowledged is in the log, whatever it was read from when it was
/// taken for good; a term is led once. Rules 10, 11 and 19.
#[test]
fn raft_survives_a_cut_at_every_operation() {
    everywhere("raft", &Group::new(), Effort::asked(4, 1000).sparing(2));
}

/// Longer than any of it takes.
const SOON: Duration = Duration::from_secs(20);
const ME: NodeId = NodeId(1);

#[derive(Clone)]
enum Note {
    /// This transaction, and all before it, are committed.
    Committed(usize),
    /// This node led in this term.
    Led(u64),
    /// The databases hold durably so many transactions, the last of them by this entry.
    Durable(usize, EntryId),
}

struct Group {
    ca_pem: String,
    identity: Identity,
    database: DatabaseName,
}

impl Group {
    fn new() -> Self {
        let ca = Ca::create("power").unwrap();
        Self {
            identity: ca.issue("n1").unwrap(),
            ca_pem: ca.certificate_pem().into(),
            database: DatabaseName::new("a.db").unwrap(),
        }
    }
}

/// Runs one life of the node.
fn live<F: Future<Output = ()>>(life: impl FnOnce() -> F) {
    // Its threads see the mounts of this one.
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(life());
    runtime.shutdown_timeout(SOON);
}

/// What the transaction of this number is; some are too large for an entry.
fn content(number: usize) -> Vec<u8> {
    let len = [40, 900, 3, 300, 70, 1700, 10][number % 7];
    (0..len).map(|at| (at + number * 31) as u8).collect()
}

fn is_staged(number: usize) -> bool {
    number % 7 == 5
}

/// The database: its transactions' bytes, each checked when it comes.
struct Transactions {
    staged: Arc<dyn StagedFiles>,
    /// How many transactions, and by which entry the last came.
    now: Mutex<(usize, EntryId)>,
    durable: Mutex<Vec<(usize, EntryId)>>,
}

impl Replica for Transactions {
    fn begins(&self, _: &State) -> std::io::Result<()> {
        Ok(())
    }

    fn applied(&self, applied: Applied) {
        let mut now = self.now.lock().unwrap();
        let (Some(Command::Commit(commit)), Some(Effect::Accepted { index, .. })) =
            (applied.command, applied.effect)
        else {
            return;
        };
        // Entries since the state file are told again.
        if index <= now.1.index {
            return;
        }
        let number = commit.id.sequence as usize;
        assert_eq!(number, now.0, "transactions come one after the other");
        let bytes = match commit.payload {
            Payload::Inline(bytes) => bytes.to_vec(),
            Payload::Staged { sha256, .. } => {
                let mut bytes = Vec::new();
                let mut file = self.staged.open(sha256).expect("the staged file is there");
                file.read_to_end(&mut bytes).unwrap();
                bytes
            }
        };
        assert!(bytes == content(number), "transaction {number} has other bytes");
        *now = (number + 1, applied.entry);
    }

    fn make_durable(&self, _: EntryId) -> std::io::Result<()> {
        let now = *self.now.lock().unwrap();
        self.durable.lock().unwrap().push(now);
        Ok(())
    }

    fn databases_for_snapshot(&self, _: &State) -> std::io::Result<Vec<SnapshotDatabase>> {
        Err(std::io::ErrorKind::Unsupported.into())
    }

    fn database(
        &self,
        _: &DatabaseName,
        _: Incarnation,
        _: u64,
    ) -> std::io::Result<SnapshotDatabase> {
        Err(std::io::ErrorKind::Unsupported.into())
    }

    fn install_snapshot(
        &self,
        _: &State,
        _: &mut dyn Iterator<Item = std::io::Result<IncomingDatabase>>,
    ) -> std::io::Result<()> {
        Err(std::io::ErrorKind::Unsupported.into())
    }
}

struct Life<'a> {
    of: &'a Group,
    node: RaftNode,
    replica: Arc<Transactions>,
    staged: Arc<dyn StagedFiles>,
    term: u64,
}

impl Group {
    async fn begin(&self, folder: &Path, durable: (usize, EntryId)) -> Life<'_> {
        // As the node's data folder does at each start.
        for part in ["raft", "staged"] {
            std::fs::create_dir_all(folder.join(part)).unwrap();
        }
        std::fs::File::open(folder).unwrap().sync_all().unwrap();
        let me = Peer { id: ME, name: "n1".into(), address: "127.0.0.1:1".into() };
        let member = Member { name: me.name.clone(), address: me.address.clone() };
        let mesh = Mesh::new(MeshConfig {
            cluster: "power".into(),
            identity: self.identity.clone(),
            me: me.clone(),
            peers: vec![me],
            ca_pem: self.ca_pem.clone(),
        })
        .unwrap();
        let staged = StagedFolder::open(&folder.join("staged")).expect("the staged files open");
        let staged: Arc<dyn StagedFiles> = Arc::new(staged.keeping(Duration::ZERO));
        let replica = Arc::new(Transactions {
            staged: Arc::clone(&staged),
            now: Mutex::new(durable),
            durable: Mutex::default(),
        });
        let config = RaftConfig {
            bootstrap: Some([(ME, member)].into()),
            heartbeat: Duration::from_millis(10),
            election: (Duration::from_millis(20), Duration::from_millis(40)),
            log: LogConfig { segment: 2048, background: false, ..LogConfig::default() },
            compaction: Compaction { after: 1 << 30, keep: 300, most: 3000 },
            on_fatal: Arc::new(|_| {}),
            ..RaftConfig::new(ME, folder.join("raft"))
        };
        let started =
            RaftNode::start(config, mesh, Arc::clone(&replica) as _, Arc::clone(&staged)).await;
        let node = started.unwrap_or_else(|error| panic!("it does not start: {error}"));
        let mut leads = node.leadership();
        let leads = leads.wait_for(|now| now.first_entry_applied);
        let term = tokio::time::timeout(SOON, leads).await.expect("it leads").unwrap().term;
        Life { of: self, node, replica, staged, term }
    }
}

impl Life<'_> {
    fn count(&self) -> usize {
        self.replica.now.lock().unwrap().0
    }

    /// The next transaction.
    async fn commit(&self, notes: &mut dyn FnMut(Note)) {
        let number = self.count();
        let bytes = content(number);
        let payload = if is_staged(number) {
            let name = stage(&self.staged, &bytes).unwrap();
            Payload::Staged { sha256: name.sha256, len: name.len }
        } else {
            Payload::Inline(Bytes::from(bytes))
        };
        let state = self.node.state();
        let present = state.database(&self.of.database);
        let base = present.map_or(Position::EMPTY, |present| present.position);
        let txid = Txid(base.txid.0 + 1);
        let command = Command::Commit(Commit {
            id: TransactionId { node: ME, boot: Boot(1), sequence: number as u64 },
            incarnation: present.map(|present| present.incarnation),
            database: self.of.database.clone(),
            base,
            new: Position { txid, checksum: Checksum(Checksum::FLAG | txid.0) },
            page_size: 512,
            pages: 1,
            payload,
        });
        let proposed = self.node.propose(ME, self.term, command);
        tokio::time::timeout(SOON, proposed).await.expect("it answers").expect("it commits");
        assert_eq!(self.count(), number + 1);
        notes(Note::Committed(number));
    }

    async fn compact(&self, notes: &mut dyn FnMut(Note)) {
        // What the databases hold is noted before the state file is written, so that it is known at
        // every cut in between.
        let (count, entry) = *self.replica.now.lock().unwrap();
        notes(Note::Durable(count, entry));
        self.node.compact().await.unwrap();
        assert!(self.replica.durable.lock().unwrap().iter().all(|(n, _)| *n <= count));
    }
}

impl Subject for Group {
    type Note = Note;

    fn work(&self, folder: &Path, notes: Notes<'_, Note>) {
        live(|| async {
            let mut durable = (0, EntryId::default());
            for _ in 0..3 {
                let life = self.begin(folder, durable).await;
                notes(Note::Led(life.term));
                for _ in 0..5 {
                    life.commit(notes).await;
                }
                life.compact(notes).await;
                durable = *life.replica.now.lock().unwrap();
                for _ in 0..4 {
                    life.commit(notes).await;
                }
                life.node.stop().await;
            }
        });
    }

    fn start(&self, folder: &Path, known: &[Note], go_on: Option<Notes<'_, Note>>) {
        let (mut committed, mut led, mut durable) = (0, 0, (0, EntryId::default()));
        for note in known {
            match note {
                Note::Committed(number) => committed = number + 1,
                Note::Led(term) => led = *term,
                Note::Durable(count, entry) => durable = (*count, *entry),
            }
        }
        live(|| async {
            let life = self.begin(folder, durable).await;
            let count = life.count();
            assert!(count >= committed, "{count} transactions of {committed} committed ones");
            let state = life.node.state();
            let txid = state.database(&self.database).map_or(0, |found| found.position.txid.0);
            assert_eq!(txid as usize, count, "the state is not the databases'");
            assert!(life.term > led, "term {} is led again", life.term);
            if let Some(notes) = go_on {
                notes(Note::Led(life.term));
                if count > 0 {
                    // Whatever was found is read by others now.
                    notes(Note::Committed(count - 1));
                }
                life.commit(notes).await;
                life.commit(notes).await;
                if count.is_multiple_of(2) {
                    life.compact(notes).await;
                    life.commit(notes).await;
                }
            }
            life.node.stop().await;
        });
    }
}
