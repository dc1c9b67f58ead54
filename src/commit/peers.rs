//! The group of nodes as this room needs it: who leads, a way to propose, a way to ask.
//!
//! The real one is made of `raft` and `mesh` by [`crate::node`]; tests and the simulation bring
//! their own.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use tokio::sync::watch;

use crate::cluster::Command;
use crate::core::{DatabaseName, Incarnation, NodeId};
use crate::raft::IncomingDatabase;

/// Who leads, as far as this node knows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Leadership {
    pub term: u64,
    pub leader: Option<NodeId>,
    /// This node leads and has applied the first entry of its own term (Rule 14).
    pub ready: bool,
}

pub trait Group: Send + Sync + 'static {
    fn me(&self) -> NodeId;

    /// The other members.
    fn others(&self) -> Vec<NodeId>;

    /// Whether this node can ask the other one, as far as it knows; not the other way round.
    fn reaches(&self, node: NodeId) -> bool;

    /// Whether this node was in touch within the last seconds: as the leader with a majority, otherwise
    /// with the leader. If not, nothing that is committed here would get its verdict soon.
    fn in_touch(&self) -> bool;

    fn leadership(&self) -> watch::Receiver<Leadership>;

    /// Puts a command into this node's log, if it leads `term`. Done when it is queued there; its
    /// fate shows in the applied log.
    fn propose_here(&self, term: u64, command: Command) -> BoxFuture<'_, Result<(), String>>;

    /// Asks another node's [`super::Writes`].
    fn call(
        &self,
        to: NodeId,
        request: Bytes,
        timeout: Duration,
    ) -> BoxFuture<'_, Result<Bytes, String>>;

    /// A staged file of this name is about to be here: it stays until an entry names it.
    fn keep_staged(&self, sha256: [u8; 32], len: u64);

    /// Sees to it that a staged file which `from` has is here, too.
    fn fetch_staged(
        &self,
        from: NodeId,
        sha256: [u8; 32],
        len: u64,
    ) -> BoxFuture<'_, Result<(), String>>;

    /// Another node's database, in this life of its name, as of the entry `at_least` or later
    /// (Rule 13).
    fn fetch_database(
        &self,
        from: NodeId,
        name: DatabaseName,
        incarnation: Incarnation,
        at_least: u64,
    ) -> BoxFuture<'_, Result<IncomingDatabase, String>>;

    /// An index that this node must have applied to see all that was committed before the call.
    fn read_index(&self, timeout: Duration) -> BoxFuture<'_, Result<u64, String>>;

    /// How far this node is behind the leader, in milliseconds; 0 on the leader.
    fn lag_ms(&self) -> i64;

    /// Makes the committed mark of the log durable (Rule 10). Blocks.
    fn sync_committed_mark(&self) -> std::io::Result<()>;
}

pub type SharedGroup = Arc<dyn Group>;
