//! What must hold, whatever happens. The first that does not ends the run.
//!
//! - one-history: all nodes apply the same entries at the same places, with the same effects; a
//!   position of a database has one checksum.
//! - one-primary: one leader a term.
//! - no-lost-ack: every transaction whose COMMIT returned is in the list at the end, once; and it is in
//!   each list that is read where it must be already.
//! - invisible-until-committed: nobody reads more rows than transactions were committed; and
//!   every list that is read is the beginning of the last one.
//! - A write lock is given to one node at a time (Rule 14).
//! - Nothing of a transaction that was rolled back is ever seen.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use litefs_py::cluster::{Command, Effect, Verdict};
use litefs_py::core::EntryId;

use crate::os::symbols::die;
use crate::os::threads::{NODES, machine};

/// What became of a transaction, as its application knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Being made, or its outcome is open: a failed write counts as unknown, never as absent.
    Unknown,
    Acknowledged,
    /// Rolled back before its COMMIT was asked for.
    Absent,
}

#[derive(Default, Clone, Copy)]
struct Where {
    /// The last entry that the node was told.
    applied: u64,
}

struct Entry {
    id: EntryId,
    hash: u64,
    /// Transactions up to here, of every database.
    commits: BTreeMap<String, u64>,
}

#[derive(Default)]
pub struct Ledger {
    pub seed: u64,
    /// Says what becomes of each transaction.
    pub tells: bool,
    entries: BTreeMap<u64, Entry>,
    leaders: BTreeMap<u64, usize>,
    positions: BTreeMap<(String, u64, u64), u64>,
    /// Of the write locks that were given to other nodes than the leader: by term and database.
    holders: BTreeMap<(u64, String), (usize, u64)>,
    /// The last ticket by which a node has done with the lock of a database.
    done_with: BTreeMap<(String, usize), u64>,
    gave_up: u64,
    nodes: Vec<Where>,
    /// By database.
    pub fates: BTreeMap<String, BTreeMap<u64, Fate>>,
    /// Commits that are no application's: the schema, the turn to WAL.
    pub first: BTreeMap<String, u64>,
    /// Lists that were read: length, hash.
    read: BTreeMap<String, BTreeMap<u64, (u64, String)>>,
    /// Rows of each database that an acknowledged writer of each node saw or made.
    seen: BTreeMap<(String, usize), u64>,
    /// Nodes whose disk lied and that lost power then: nothing is asked of them.
    pub damaged: BTreeSet<usize>,
    pub acknowledged: u64,
    pub refused: u64,
    pub unknown: u64,
    pub reads: u64,
    pub aside: u64,
    /// In all of the cluster, between two acknowledged transactions, in nanoseconds.
    pub longest_gap: u64,
    last_made: Option<u64>,
}

pub fn hash_of(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

impl Ledger {
    pub fn new(seed: u64) -> Self {
        Self { seed, nodes: vec![Where::default(); NODES], ..Self::default() }
    }

    fn broken(&self, promise: &str, why: &str) -> ! {
        let at = machine().now as f64 / 1e9;
        die(&format!("seed {} at {at:.6} s: {promise}: {why}", self.seed), 1)
    }

    fn tell(&self, what: impl FnOnce() -> String) {
        if self.tells {
            crate::say(&format!("{:.6} {}", machine().now as f64 / 1e9, what()));
        }
    }

    pub fn leads(&mut self, node: usize, term: u64) {
        let first = *self.leaders.entry(term).or_insert(node);
        if first != node {
            self.broken("one-primary", &format!("n{first} and n{node} lead in term {term}"));
        }
    }

    pub fn begins(&mut self, node: usize, index: u64) {
        self.nodes[node] = Where { applied: index };
        // A node that starts again may be a little behind what it was.
        self.seen.retain(|(_, other), _| *other != node);
    }

    pub fn installs(&mut self, node: usize, index: u64) {
        self.nodes[node].applied = self.nodes[node].applied.max(index);
    }

    /// A leader may take the locks from a node that it has not heard of, and free them.
    pub fn gives_up(&mut self) {
        self.holders.clear();
        self.gave_up = machine().now;
    }

    /// The leader of a term gives a node the write lock of a database.
    pub fn granted(&mut self, term: u64, name: &str, node: usize, ticket: u64) {
        self.tell(|| format!("term {term}: {name} to n{node} by {ticket:x}"));
        // A grant on its way while its asker's next request arrives: tickets rise, and a node holds
        // nothing by one that it has done with. Whoever came next may have the lock already.
        if self.done_with.get(&(name.to_owned(), node)).is_some_and(|done| *done >= ticket) {
            return;
        }
        let free = machine().now < self.gave_up + 2_000_000_000;
        let before = self.holders.insert((term, name.to_owned()), (node, ticket));
        if let Some((other, _)) = before
            && other != node
            && !free
        {
            let why =
                format!("the lock of {name} is n{other}'s in term {term}, and given to n{node}");
            self.broken("Rule 14: granted once", &why);
        }
    }

    /// A node has done with a lock, says its message.
    pub fn released(&mut self, term: u64, name: &str, node: usize, ticket: u64) {
        self.tell(|| format!("term {term}: {name} from n{node} by {ticket:x}"));
        let done = self.done_with.entry((name.to_owned(), node)).or_default();
        *done = ticket.max(*done);
        let key = (term, name.to_owned());
        if self.holders.get(&key).is_some_and(|held| held.0 == node && held.1 <= ticket) {
            self.holders.remove(&key);
        }
    }

    /// A node was told an entry.
    pub fn applied(
        &mut self,
        node: usize,
        id: EntryId,
        command: Option<&Command>,
        effect: Option<Effect>,
    ) {
        let last = self.nodes[node].applied;
        if id.index != last + 1 && id.index > last {
            self.broken("one-history", &format!("n{node} went from {last} to {}", id.index));
        }
        self.nodes[node].applied = last.max(id.index);
        let bytes = postcard::to_allocvec(&command).unwrap_or_default();
        let hash = hash_of(&bytes) ^ hash_of(&format!("{effect:?}"));
        machine().note(hash ^ id.index);
        if let Some(known) = self.entries.get(&id.index) {
            if known.id != id || known.hash != hash {
                let why =
                    format!("n{node} applied {id:?} where another node applied {:?}", known.id);
                self.broken("one-history", &why);
            }
            return;
        }
        let mut commits =
            self.entries.last_key_value().map(|(_, last)| last.commits.clone()).unwrap_or_default();
        if let (Some(Command::Commit(commit)), Some(effect)) = (command, effect)
            && let Verdict::Accepted { incarnation, .. } = effect.verdict()
            && !matches!(effect, Effect::Duplicate(_))
        {
            let name = commit.database.to_string();
            *commits.entry(name.clone()).or_default() += 1;
            let position = (name, incarnation.0, commit.new.txid.0);
            let checksum = commit.new.checksum.0;
            let known = *self.positions.entry(position).or_insert(checksum);
            if known != checksum {
                self.broken("one-history", &format!("two checksums at {:?}", commit.new));
            }
        }
        self.entries.insert(id.index, Entry { id, hash, commits });
    }

    /// A database of a node stands at a position.
    pub fn stands(&mut self, node: usize, name: &str, incarnation: u64, txid: u64, checksum: u64) {
        let known = self.positions.get(&(name.to_owned(), incarnation, txid));
        if known.is_some_and(|known| *known != checksum) {
            let why = format!(
                "{name} on n{node} has another checksum at {txid} of life {incarnation}: {checksum:x}, \
                 and {known:x?} is right"
            );
            self.broken("one-history", &why);
        }
    }

    pub fn damaged(&mut self, node: usize, why: &str) {
        self.aside += 1;
        if !self.damaged.contains(&node) {
            self.broken("nothing-discarded", why);
        }
    }

    /// Transactions of a database that the node has applied.
    pub fn applied_here(&self, name: &str, node: usize) -> u64 {
        self.commits(name, self.nodes[node].applied)
    }

    fn commits(&self, name: &str, index: u64) -> u64 {
        let entry = self.entries.range(..=index).next_back();
        entry.and_then(|(_, entry)| entry.commits.get(name)).copied().unwrap_or(0)
    }

    /// What is known to be there when a reader begins on this node.
    pub fn known(&self, name: &str, node: usize) -> u64 {
        self.seen.get(&(name.to_owned(), node)).copied().unwrap_or(0)
    }

    /// A reader saw this list; `known` rows it had to see.
    pub fn saw(&mut self, node: usize, name: &str, list: &[u64], known: u64) {
        self.reads += 1;
        self.tell(|| {
            let tail = &list[list.len().saturating_sub(3)..];
            format!("{name} n{node} saw {}: {tail:?}", list.len())
        });
        let rows = list.len() as u64;
        machine().note(hash_of(&list) ^ rows);
        if rows < known {
            let why = format!("{name} on n{node} shows {rows} rows, and showed {known} before");
            self.broken("no-lost-ack", &why);
        }
        // Of all nodes: a snapshot brings more than this one's log, also one that a stop cut off.
        let committed = self.commits(name, u64::MAX);
        let first = self.first.get(name).copied().unwrap_or(0);
        if first > 0 && rows > 0 && rows + first > committed {
            let applied = self.nodes[node].applied;
            let why = format!(
                "{name} on n{node} shows {rows} rows, of {committed} transactions after {first}; it is \
                 at {applied}"
            );
            self.broken("invisible-until-committed", &why);
        }
        let fates = self.fates.entry(name.to_owned()).or_default();
        let absent = list.iter().find(|id| fates.get(id).is_none_or(|f| *f == Fate::Absent));
        if let Some(absent) = absent {
            let why = format!("{name} on n{node} shows {absent}, which was rolled back");
            self.broken("invisible-until-committed", &why);
        }
        let hash = hash_of(&list);
        let by = format!("n{node} at {} s", machine().now as f64 / 1e9);
        let read = self.read.entry(name.to_owned()).or_default();
        if let Some((other, first)) = read.get(&rows)
            && *other != hash
        {
            let why = format!("{name}: {by} and {first} saw different lists of {rows}");
            self.broken("one-history", &why);
        }
        read.insert(rows, (hash, by));
        self.sees(name, node, rows);
    }

    /// A reader or writer of this node has seen so many rows: later ones see as many.
    pub fn sees(&mut self, name: &str, node: usize, rows: u64) {
        let seen = self.seen.entry((name.to_owned(), node)).or_default();
        *seen = (*seen).max(rows);
    }

    /// A reader saw what no transaction can have left.
    pub fn wrong(&self, why: &str) -> ! {
        self.broken("one-history", why)
    }

    /// A transaction was acknowledged: the stall before it may be the longest.
    pub fn made(&mut self, _name: &str, _rows: u64, now: u64) {
        self.longest_gap = self.longest_gap.max(now - self.last_made.unwrap_or(now));
        self.last_made = Some(now);
    }

    pub fn fate(&mut self, name: &str, id: u64, fate: Fate) {
        self.tell(|| format!("{name} {id} {fate:?}"));
        machine().note(id ^ ((fate as u64) << 60));
        self.fates.entry(name.to_owned()).or_default().insert(id, fate);
        match fate {
            Fate::Acknowledged => self.acknowledged += 1,
            Fate::Absent => self.refused += 1,
            Fate::Unknown => {}
        }
    }

    /// The last list, of a cluster in which nothing goes on any more.
    pub fn ends(&mut self, name: &str, list: &[u64]) {
        let mut once = BTreeSet::new();
        for id in list {
            if !once.insert(*id) {
                self.broken("one-history", &format!("{name}: {id} is there twice"));
            }
        }
        let fates = self.fates.get(name).cloned().unwrap_or_default();
        for (id, fate) in &fates {
            match fate {
                Fate::Acknowledged if !once.contains(id) => {
                    self.broken("no-lost-ack", &format!("{name}: {id} is lost"));
                }
                Fate::Absent if once.contains(id) => {
                    self.broken("invisible-until-committed", &format!("{name}: {id} is there"));
                }
                Fate::Unknown => self.unknown += 1,
                _ => {}
            }
        }
        let read = self.read.get(name).cloned().unwrap_or_default();
        for (rows, (hash, by)) in read {
            let beginning = list.get(..rows as usize);
            if beginning.is_none_or(|beginning| hash_of(&beginning) != hash) {
                let why = format!("{name}: {by} saw {rows} rows that are no beginning of the last");
                self.broken("one-history", &why);
            }
        }
    }
}
