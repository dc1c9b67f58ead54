//! How far transfers of databases are, for whoever waits for one.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use crate::core::{DatabaseName, NodeId};

/// What is being done with a database that comes, or goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// The taker looks which pages it has.
    Comparing,
    Sending,
    Receiving,
    /// It came whole, and waits to be, or is being, put in place.
    Installing,
}

/// A transfer that is under way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatabaseTransfer {
    pub database: DatabaseName,
    /// The other node.
    pub node: NodeId,
    pub stage: Stage,
    /// Bytes of pages that are there, those among them that were there before.
    pub done: u64,
    pub before: u64,
    /// Bytes of the database.
    pub of: u64,
    pub since: Duration,
}

/// All that are under way.
#[derive(Default)]
pub(in crate::raft) struct DatabaseTransfers(Mutex<Vec<Weak<Transferring>>>);

/// One of them, for who carries it out; it is over when this is dropped.
pub(in crate::raft) struct Transferring {
    database: DatabaseName,
    node: NodeId,
    stage: AtomicU8,
    done: AtomicU64,
    before: AtomicU64,
    of: AtomicU64,
    since: Instant,
}

impl DatabaseTransfers {
    pub fn begin(&self, database: &DatabaseName, node: u64) -> Arc<Transferring> {
        let transfer = Arc::new(Transferring {
            database: database.clone(),
            node: NodeId(node),
            stage: AtomicU8::new(Stage::Comparing as u8),
            done: AtomicU64::new(0),
            before: AtomicU64::new(0),
            of: AtomicU64::new(0),
            since: Instant::now(),
        });
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|transfer| transfer.strong_count() > 0);
        all.push(Arc::downgrade(&transfer));
        transfer
    }

    pub fn now(&self) -> Vec<DatabaseTransfer> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().filter_map(Weak::upgrade).map(|transfer| transfer.now()).collect()
    }
}

impl Transferring {
    /// So many bytes there are in all; so many are there already.
    pub fn compared(&self, of: u64, there: u64, stage: Stage) {
        self.of.store(of, Ordering::Relaxed);
        // What an earlier round brought is not of before.
        if self.done.swap(there, Ordering::Relaxed) == 0 {
            self.before.store(there, Ordering::Relaxed);
        }
        self.stage(stage);
    }

    pub fn stage(&self, stage: Stage) {
        self.stage.store(stage as u8, Ordering::Relaxed);
    }

    pub fn moved(&self, bytes: u64) {
        self.done.fetch_add(bytes, Ordering::Relaxed);
    }

    pub fn now(&self) -> DatabaseTransfer {
        let stages = [Stage::Comparing, Stage::Sending, Stage::Receiving, Stage::Installing];
        let stage = usize::from(self.stage.load(Ordering::Relaxed));
        let of = self.of.load(Ordering::Relaxed);
        DatabaseTransfer {
            database: self.database.clone(),
            node: self.node,
            stage: stages.get(stage).copied().unwrap_or(Stage::Comparing),
            // A round that repeats pages is no reason to say more than all.
            done: self.done.load(Ordering::Relaxed).min(of),
            before: self.before.load(Ordering::Relaxed).min(of),
            of,
            since: self.since.elapsed(),
        }
    }
}
