//! What stands behind the API, the command line and the packages: an engine, whichever it is.
//!
//! All that is told here is told as plain data, so that what the API answers is what its clients
//! read back.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::config::{ChangeError, ConfigView};
use super::history::LeaderChange;
use super::members::{NotDone, Told, Wish};
use super::transfer::Transfers;
use super::{DatabaseName, Incarnation, NodeId, Position};

/// An answer that takes a while.
pub type Later<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The replication engine of this node.
///
/// What does not return [`Later`] answers at once, from memory: health checks call it. What does
/// ends within its `timeout` (bounded-answer).
pub trait Engine: Transfers {
    fn status(&self) -> Status;

    /// In the order of their names.
    fn databases(&self) -> Vec<DatabaseStatus>;

    /// Who led when; the newest last, and only so many.
    fn history(&self) -> Vec<LeaderChange>;

    fn metrics(&self) -> Metrics;

    /// What this node runs by.
    fn config(&self) -> ConfigView;

    /// Changes settings while the node runs, by a JSON merge patch: all of it, or nothing.
    fn change_config(&self, patch: serde_json::Value)
    -> Later<'_, Result<ConfigView, ChangeError>>;

    /// Waits until this node has applied, visibly to a new reader (Rule 18), all that was committed
    /// before the call.
    fn barrier(&self, timeout: Duration) -> Later<'_, Result<BarrierPassed, Unavailable>>;

    /// Hands the leadership over, to the named node or to the one that is furthest. `asked`: by which
    /// way it was asked for, for the history.
    fn switchover(
        &self,
        to: Option<String>,
        asked: &'static str,
        timeout: Duration,
    ) -> Later<'_, Result<Switchover, SwitchoverError>>;

    /// Changes who belongs to the cluster, wherever it is asked.
    fn administer(&self, wish: Wish, timeout: Duration) -> Later<'_, Result<Told, NotDone>>;

    /// Reads a database byte by byte on every node, while it is written on, and compares.
    fn check(&self, database: DatabaseName, timeout: Duration) -> Later<'_, CheckedDatabase>;
}

/// What users see in health checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    Primary,
    Replica,
}

/// A node's part in its Raft group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RaftRole {
    Leader,
    Follower,
    Candidate,
    Learner,
}

/// This node, and the cluster as it sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Status {
    pub cluster: String,
    pub id: NodeId,
    pub name: String,
    /// Of the program.
    pub version: String,
    pub uptime_seconds: u64,
    pub role: Role,
    pub raft_role: RaftRole,
    pub term: u64,
    /// The leader's name, when one is known.
    pub leader: Option<String>,
    pub quorum: Quorum,
    pub applied_index: u64,
    pub committed_index: u64,
    /// How old what this node shows may be; 0 on the primary. Unknown without a leader.
    pub lag_ms: Option<u64>,
    /// The mount is up and answers readers (readers-go-on: also without a quorum).
    pub serving: bool,
    /// Why this node should get no work yet; empty when it should. Names no data: a health
    /// endpoint shows it to anyone.
    pub not_ready: Vec<String>,
    /// Why the process should be started again; nothing while it lives.
    pub stuck: Option<String>,
    /// In the order of their numbers, this node included.
    pub members: Vec<MemberStatus>,
    /// The last transactions of this node's applications that were answered EIO with the outcome
    /// open (*indeterminate*), the newest last; a hundred at most.
    pub indeterminate: Vec<Indeterminate>,
    /// Databases on their way to this node, or from it, whole or the pages that differ.
    #[serde(default)]
    pub snapshots: Vec<SnapshotProgress>,
}

/// A database on its way from one node to another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SnapshotProgress {
    pub database: DatabaseName,
    /// The other node's name.
    pub node: String,
    pub stage: SnapshotStage,
    /// Bytes of the database.
    pub bytes: u64,
    /// Of them, what is at the receiver.
    pub done: u64,
    /// Of these, what it had before: they did not travel.
    pub there_before: u64,
    /// Milliseconds since it began.
    pub running_ms: u64,
}

/// What is being done with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SnapshotStage {
    /// The receiver looks which pages it has.
    Comparing,
    Sending,
    Receiving,
    /// It came whole, and waits to be, or is being, put in place.
    Installing,
}

/// A COMMIT that was answered with an error although it was, or may have been, committed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Indeterminate {
    /// Node, boot and sequence, as in the log.
    pub transaction: String,
    pub database: DatabaseName,
    /// When it was answered: milliseconds since 1970.
    pub answered_ms: i64,
    pub outcome: Outcome,
}

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// Not known yet; the log will say.
    Open,
    Committed,
    Refused,
}

/// Whether a majority answers: what a leader knows of its followers, a follower of its leader. A
/// leader without a majority goes on calling itself leader, so health comes from here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Quorum {
    pub ok: bool,
    /// Since a majority last answered; unknown when it never did.
    pub age_ms: Option<u64>,
}

/// A member, as this node sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MemberStatus {
    pub id: NodeId,
    pub name: String,
    pub address: String,
    pub role: MemberRole,
    /// Whether this node has a connection to it.
    pub reachable: bool,
    /// The last entry that it is known to hold; the leader alone knows.
    pub matched: Option<u64>,
    /// Entries that it lacks; the leader alone knows.
    pub lag: Option<u64>,
}

/// A member's part. `Voter`: a voter that is not the leader.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum MemberRole {
    Leader,
    Voter,
    Learner,
}

impl MemberRole {
    /// The word for it, as in JSON.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            MemberRole::Leader => "leader",
            MemberRole::Voter => "voter",
            MemberRole::Learner => "learner",
        }
    }
}

/// A database, as this node has applied it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DatabaseStatus {
    pub name: DatabaseName,
    pub incarnation: Incarnation,
    #[serde(with = "position_text")]
    #[schemars(with = "PositionText")]
    pub position: Position,
    /// Bytes.
    pub page_size: u32,
    pub pages: u32,
    pub journal: JournalMode,
    /// Size of the local WAL.
    pub wal_bytes: u64,
    /// The node that holds the write lock.
    pub write_lock: Option<String>,
    /// Nodes that wait for it; the leader alone knows.
    pub waiting: u32,
    /// Transactions of it that are decided, as far as this node has heard, and that it does not
    /// show yet.
    #[serde(default)]
    pub behind: u64,
}

/// How a database commits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum JournalMode {
    Wal,
    Rollback,
}

/// A barrier was passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BarrierPassed {
    /// All up to this entry is visible here.
    pub index: u64,
}

/// A switchover that was not refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "state", rename_all = "lowercase")]
pub enum Switchover {
    /// This node leads now.
    Done { leader: String },
    /// It was asked to; it had not taken over when the time was up.
    Accepted { to: String },
}

/// A database as it was found on each node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CheckedDatabase {
    pub name: DatabaseName,
    /// By the name of the node.
    pub copies: std::collections::BTreeMap<String, Copy>,
}

/// What one node has of a database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "state", rename_all = "lowercase")]
pub enum Copy {
    /// Its bytes add up to the position's checksum.
    Sound {
        incarnation: Incarnation,
        #[serde(with = "position_text")]
        #[schemars(with = "PositionText")]
        position: Position,
        /// Pages that were read.
        pages: u32,
    },
    /// There is none of that name.
    Missing,
    /// Its bytes are not what its position says.
    Damaged { why: String },
    /// It was not read to its end: the node is not there, or writers were in the way.
    Unread { why: String },
}

impl CheckedDatabase {
    /// Whether two nodes say that the same transaction led to different contents (one-history). Nodes
    /// that are at different transactions cannot be compared, but by what each has read.
    #[must_use]
    pub fn differs(&self) -> bool {
        let mut seen = std::collections::BTreeMap::new();
        self.copies.values().any(|copy| match copy {
            Copy::Sound { incarnation, position, .. } => {
                let known = *seen.entry((*incarnation, position.txid)).or_insert(position.checksum);
                known != position.checksum
            }
            _ => false,
        })
    }

    /// Nothing is wrong with it: every copy that was read is sound, and they are one.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        let damaged = |copy: &Copy| matches!(copy, Copy::Damaged { .. });
        !self.differs() && !self.copies.values().any(damaged)
    }
}

/// It cannot be done now; it may be tried again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unavailable(pub String);

/// Why there was no switchover.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SwitchoverError {
    /// The wish cannot be fulfilled as things are: an unknown target, one that is behind.
    #[error("{0}")]
    Refused(String),
    /// Nobody can fulfil any wish now: no leader, no quorum.
    #[error("{0}")]
    Unavailable(String),
}

/// Numbers that only grow while the process lives, unless they say otherwise.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Metrics {
    /// Transactions of this node's applications, by what became of them.
    pub committed: u64,
    pub refused: u64,
    /// Answered EIO with the outcome open.
    pub indeterminate: u64,
    /// Bytes of the transactions committed, as LTX.
    pub committed_bytes: u64,
    /// From the withheld commit point to its answer.
    pub commit_latency: Latency,
    /// Transactions of other nodes that were applied here.
    pub applied: u64,
    /// Write locks that this node's applications got.
    pub locks_granted: u64,
    /// Requests for one that were answered "busy".
    pub locks_busy: u64,
    /// Local holds that lost the cluster's lock (Rule 1).
    pub locks_doomed: u64,
    /// Terms in which another leader was seen than before.
    pub leader_changes: u64,
    pub checkpoints: u64,
    pub snapshots_sent: u64,
    pub snapshots_received: u64,
    /// Databases set aside before another history replaced them (nothing-discarded).
    pub set_aside: u64,
    /// Pages that were found rotten, and those that were mended.
    pub rotten: u64,
    pub mended: u64,
    /// Size of the replicated log now.
    pub log_bytes: u64,
    /// What was last seen of the machine.
    pub machine: Machine,
}

/// The machine that a node runs on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Machine {
    /// Of the data folder's disk: bytes, and those that the node may still use.
    pub disk: Option<Disk>,
    /// When certificates run out, by what they are: seconds since 1970.
    pub certificates: Vec<(&'static str, u64)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Disk {
    pub bytes: u64,
    pub free: u64,
}

/// How long something took: a histogram.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Latency {
    pub count: u64,
    pub sum_seconds: f64,
    /// Upper bounds in seconds, ascending, with how many took at most that long and longer than
    /// the bound before. What took longer than the last is in `count` alone.
    pub buckets: Vec<(f64, u64)>,
}

/// What the schema says of a position.
pub(super) struct PositionText;

impl JsonSchema for PositionText {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Position".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "description": "Transaction and checksum, in hexadecimal, as LiteFS writes them.",
            "type": "string",
            "pattern": "^[0-9a-f]{16}/[0-9a-f]{16}$",
        })
    }
}

/// A position as LiteFS writes it, in JSON.
pub(super) mod position_text {
    use serde::{Deserialize, Deserializer, Serializer, de};

    use crate::core::{Checksum, Position, Txid};

    pub fn serialize<S: Serializer>(position: &Position, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(position)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Position, D::Error> {
        let text = String::deserialize(deserializer)?;
        let wrong = || de::Error::custom(format_args!("{text:?} is no position"));
        let (txid, checksum) = text.split_once('/').ok_or_else(wrong)?;
        let number = |digits: &str| u64::from_str_radix(digits, 16).map_err(|_| wrong());
        Ok(Position { txid: Txid(number(txid)?), checksum: Checksum(number(checksum)?) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::{Checksum, Txid};

    #[test]
    fn a_database_is_read_back_as_it_is_told() {
        let database = DatabaseStatus {
            name: DatabaseName::new("app.db").unwrap(),
            incarnation: Incarnation(3),
            position: Position { txid: Txid(0x1f), checksum: Checksum(Checksum::FLAG | 7) },
            page_size: 4096,
            pages: 12,
            journal: JournalMode::Wal,
            wal_bytes: 0,
            write_lock: Some("n1".to_owned()),
            waiting: 0,
            behind: 0,
        };
        let json = serde_json::to_value(&database).unwrap();
        assert_eq!(json["position"], "000000000000001f/8000000000000007");
        assert_eq!(serde_json::from_value::<DatabaseStatus>(json.clone()).unwrap(), database);
        let mut bad = json;
        bad["position"] = "1f".into();
        assert!(serde_json::from_value::<DatabaseStatus>(bad).is_err());
    }

    #[test]
    fn copies_are_compared_where_they_can_be() {
        let at = |txid, checksum| Copy::Sound {
            incarnation: Incarnation(3),
            position: Position { txid: Txid(txid), checksum: Checksum(Checksum::FLAG | checksum) },
            pages: 1,
        };
        let checked = |copies: Vec<Copy>| CheckedDatabase {
            name: DatabaseName::new("app.db").unwrap(),
            copies: copies.into_iter().enumerate().map(|(n, copy)| (n.to_string(), copy)).collect(),
        };
        assert!(checked(vec![at(7, 1), at(7, 1), at(8, 2)]).is_sound(), "one is a step behind");
        assert!(checked(vec![at(7, 1), at(7, 2)]).differs());
        let damaged = Copy::Damaged { why: String::new() };
        assert!(!checked(vec![at(7, 1), damaged]).is_sound());
        let unread = Copy::Unread { why: String::new() };
        assert!(checked(vec![at(7, 1), unread, Copy::Missing]).is_sound());
    }
}
