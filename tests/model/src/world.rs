//! The whole cluster at one moment.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use crate::breaks::Break;
use crate::cluster::{Command, Commit, Payload, State, Ticket, WriteLocks};
use crate::core::{
    Boot, Checksum, DatabaseName, EntryId, Incarnation, NodeId, Position, TransactionId, Txid,
};

/// The one database.
pub static NAME: LazyLock<DatabaseName> =
    LazyLock::new(|| DatabaseName::new("app.db").unwrap_or_else(|_| unreachable!()));

pub const PAGE_SIZE: u32 = 4096;

/// How much may happen: what makes the space finite.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Left {
    /// COMMITs, on all nodes together.
    pub transactions: u8,
    /// Elections.
    pub elections: u8,
    /// Crashes of a node, with a restart.
    pub crashes: u8,
    /// Applications killed.
    pub deaths: u8,
    /// Messages delivered twice, and proposals sent again in the same term.
    pub repeats: u8,
    /// Proposals whose time is over.
    pub timeouts: u8,
    /// Nodes that the leader takes for lost, and hearings that end without a word.
    pub lost: u8,
    /// Lock requests that are answered EAGAIN, wishes that end, transactions rolled back.
    pub retreats: u8,
}

/// What can be set before a search.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Two or three.
    pub nodes: usize,
    /// The first of them have an application each.
    pub writers: usize,
    /// Lock requests to the leader, of one node.
    pub tickets: u64,
    /// What can be applied is applied at once: fewer worlds.
    pub pumps_at_once: bool,
    pub left: Left,
}

/// One entry of a Raft log. Its index is its place, from 1.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Entry {
    pub term: u64,
    /// `None`: the blank one that begins a term.
    pub command: Option<Arc<Command>>,
    /// The term that its proposer meant.
    pub meant_for: u64,
}

/// A node of the Raft group. All but `leader`, `committed` and `matched` is on its disk.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Raft {
    pub term: u64,
    pub leader: Option<usize>,
    pub log: Vec<Entry>,
    pub flushed: usize,
    pub committed: usize,
    /// On a leader: how much of its log each node has acknowledged in its term.
    pub matched: Vec<usize>,
}

/// The leader's side of the locks, for one term (`commit::arbiter::Reign`).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Reign {
    pub term: u64,
    pub table: WriteLocks,
    pub now: Duration,
    /// Calls that wait for their answer, by who asked with which ticket.
    pub asked: BTreeMap<(usize, Ticket), u8>,
    pub proposals: BTreeSet<TransactionId>,
    /// To whom the lock was granted last, and not taken back since.
    pub granted: Option<(usize, Ticket)>,
    /// Who asked, in that order: noted apart from the table, to check it.
    pub turn: Vec<usize>,
}

/// `commit::cluster_lock::ClusterLock`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ClusterLock {
    None,
    Asking { ticket: Ticket },
    Held(Held),
}

/// `commit::cluster_lock::Held`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Held {
    pub ticket: Ticket,
    pub term: u64,
    pub index: u64,
    /// Its reservation runs (Rule 15).
    pub reserved: bool,
    pub recalled: bool,
}

/// `commit::hold::LockOwner`, as far as it matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LockOwner {
    App,
    Heir,
}

/// `commit::hold::Phase`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Phase {
    Open,
    Committing { id: TransactionId, new: Position },
    Committed { index: u64 },
    Doomed,
    Unknown,
}

/// `commit::hold::Hold`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Hold {
    pub owner: LockOwner,
    pub base: Position,
    /// The counter as the application read it under this hold.
    pub read: u64,
    pub phase: Phase,
}

/// `commit::apply::Queued`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Queued {
    pub index: u64,
    pub base: Position,
    pub new: Position,
}

/// The database on one node (`commit::database::State` and its files).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Database {
    /// A lock request waits.
    pub pending: bool,
    pub hold: Option<Hold>,
    pub cluster: ClusterLock,
    pub recalled_early: Option<Ticket>,
    /// The call to the leader of a term that `ask_leader` is waiting for.
    pub calling: Option<(u64, u8)>,
    pub queue: VecDeque<Queued>,
    pub incarnation: Option<Incarnation>,
    /// The last entry that a new reader sees (Rule 18).
    pub visible: u64,
    /// What the files hold.
    pub head: Position,
    /// What a new reader sees: the wal-index.
    pub shown: Position,
}

/// `commit::propose::Waiting`, of the one proposal that a node can have under way (Rule 20).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Waiting {
    pub command: Arc<Command>,
    pub timed_out: bool,
    /// In which term it was last sent; 0: in none.
    pub sent: u64,
}

/// What an application was told about a COMMIT.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Told {
    Committed,
    Refused,
    /// EIO, the outcome open.
    Open,
}

/// Where the application of a node stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum App {
    Idle,
    /// For the write lock.
    Waiting,
    /// It holds the write lock.
    Writing,
    /// For the answer to its COMMIT.
    Committing,
    /// It was answered, and will unlock.
    Answered,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Node {
    pub boot: u64,
    pub raft: Raft,
    pub machine: Arc<State>,
    pub reign: Option<Reign>,
    /// Proposals that were taken before the reign of their term began.
    pub early: BTreeSet<(u64, TransactionId)>,
    pub database: Database,
    pub waiting: BTreeMap<TransactionId, Waiting>,
    pub sequence: u64,
    pub tickets: u64,
    pub app: App,
}

/// Between nodes: what `commit::rpc` carries. In no order; any may never arrive.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Message {
    Propose {
        to: usize,
        term: u64,
        id: TransactionId,
        abandon: bool,
    },
    Lock {
        to: usize,
        term: u64,
        from: usize,
        ticket: Ticket,
        call: u8,
    },
    /// The answer to that call: of no use to another.
    Granted {
        to: usize,
        term: u64,
        ticket: Ticket,
        call: u8,
        index: u64,
    },
    Unlock {
        to: usize,
        term: u64,
        from: usize,
        ticket: Ticket,
    },
    Recall {
        to: usize,
        term: u64,
        ticket: Ticket,
    },
    Held {
        to: usize,
        term: u64,
        from: usize,
    },
    HeldAnswer {
        to: usize,
        term: u64,
        from: usize,
        ticket: Option<Ticket>,
    },
}

/// Something that a rule forbids, noted when it was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Wrong {
    GrantedBeforeFirstEntry,
    GrantedWithAProposalInFlight,
    GrantedOutOfTurn,
    UsedARecalledLock,
    AppliedBeneathAHold,
    AppliedOnAnotherBase,
    TwoTransactionsInOneHold,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct World {
    pub nodes: Vec<Node>,
    pub network: BTreeSet<Message>,
    pub left: Left,
    pub broken: Option<Break>,
    /// All that was ever committed, whoever of those that know it is still alive.
    pub agreed: Arc<Vec<Entry>>,
    /// Every transaction that was ever proposed: the network carries only their ids.
    pub made: BTreeMap<TransactionId, Arc<Command>>,
    pub told: BTreeMap<TransactionId, Told>,
    pub wrong: BTreeSet<Wrong>,
    /// What a leader does not count as held, by its term and node: by this ticket or an older one.
    pub lost: BTreeMap<(u64, usize), Ticket>,
}

/// The counter's value in a database of this position.
pub fn counter(position: Position) -> u64 {
    position.checksum.0 & !Checksum::FLAG
}

/// Where a database stands that was written `txid` times and whose counter is at `counter`.
pub fn position(txid: u64, counter: u64) -> Position {
    Position { txid: Txid(txid), checksum: Checksum(Checksum::FLAG | counter) }
}

pub fn id_of(node: usize) -> NodeId {
    NodeId(node as u64)
}

/// A transaction of [`NAME`].
pub fn commit(
    id: TransactionId,
    incarnation: Option<Incarnation>,
    base: Position,
    new: Position,
) -> Command {
    Command::Commit(Commit {
        id,
        database: NAME.clone(),
        incarnation,
        base,
        new,
        page_size: PAGE_SIZE,
        pages: 1,
        payload: Payload::Inline(bytes::Bytes::new()),
    })
}

impl World {
    /// A cluster at rest: node 0 leads, the database exists everywhere, its counter at 0.
    pub fn at_rest(bounds: &Bounds, broken: Option<Break>) -> Self {
        let boot = Boot(0);
        let creator = TransactionId { node: NodeId(9), boot, sequence: 1 };
        let created = commit(creator, None, Position::EMPTY, position(1, 0));
        let mut machine = State::default();
        machine.pass(EntryId { term: 1, index: 1 });
        machine.apply(EntryId { term: 1, index: 2 }, &created);
        let log = vec![
            Entry { term: 1, command: None, meant_for: 1 },
            Entry { term: 1, command: Some(Arc::new(created)), meant_for: 1 },
        ];
        let machine = Arc::new(machine);
        let node = |_| Node {
            boot: 1,
            raft: Raft {
                term: 1,
                leader: Some(0),
                flushed: log.len(),
                committed: log.len(),
                log: log.clone(),
                matched: Vec::new(),
            },
            machine: Arc::clone(&machine),
            reign: None,
            early: BTreeSet::new(),
            database: Database::at(position(1, 0), 2),
            waiting: BTreeMap::new(),
            sequence: 0,
            tickets: 0,
            app: App::Idle,
        };
        let mut world = World {
            nodes: (0..bounds.nodes).map(node).collect(),
            network: BTreeSet::new(),
            left: bounds.left,
            broken,
            agreed: Arc::new(log),
            made: BTreeMap::new(),
            told: BTreeMap::new(),
            wrong: BTreeSet::new(),
            lost: BTreeMap::new(),
        };
        world.nodes[0].raft.matched = vec![world.agreed.len(); bounds.nodes];
        let mut table = WriteLocks::new(1, BTreeSet::new(), Duration::ZERO);
        table.first_entry_applied(Duration::ZERO);
        world.nodes[0].reign = Some(Reign::of(1, table));
        world
    }

    pub fn is(&self, broken: Break) -> bool {
        self.broken == Some(broken)
    }

    /// The leader of `term` no longer counts on anything that this node got so far.
    pub fn lose(&mut self, term: u64, node: usize) {
        let state = &self.nodes[node];
        let ticket = Ticket { boot: Boot(state.boot), number: state.tickets };
        self.lost.insert((term, node), ticket);
    }

    pub fn did_wrong(&mut self, wrong: Wrong) {
        self.wrong.insert(wrong);
    }
}

impl Database {
    pub fn at(head: Position, index: u64) -> Self {
        Database {
            pending: false,
            hold: None,
            cluster: ClusterLock::None,
            recalled_early: None,
            calling: None,
            queue: VecDeque::new(),
            incarnation: Some(Incarnation(2)),
            visible: index,
            head,
            shown: head,
        }
    }
}

impl Reign {
    pub fn of(term: u64, table: WriteLocks) -> Self {
        Reign {
            term,
            table,
            now: Duration::ZERO,
            asked: BTreeMap::new(),
            proposals: BTreeSet::new(),
            granted: None,
            turn: Vec::new(),
        }
    }
}

impl Node {
    /// Whether it believes that it leads.
    pub fn leads(&self, me: usize) -> bool {
        self.raft.leader == Some(me)
    }

    pub fn applied(&self) -> usize {
        self.machine.applied().index as usize
    }
}

/// No faults, and nobody who writes.
pub const NOTHING: Left = Left {
    transactions: 0,
    elections: 0,
    crashes: 0,
    deaths: 0,
    repeats: 0,
    timeouts: 0,
    lost: 0,
    retreats: 0,
};
