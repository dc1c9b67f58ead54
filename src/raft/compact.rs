//! When and how far the log is purged, by bytes.
//!
//! Rule 11's order is kept by [`super::machine`]: mark, databases, state file. Here it is decided
//! up to where the log before the state file goes: nodes that lag behind a little are to find
//! their entries still there, and so is a node that a snapshot is on its way to (Rule 19), up to
//! a bound in bytes.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver;
use tokio::time::timeout;

use super::RaftError;
use super::log::Log;
use super::machine::{self, blocking};
use super::staged::StagedFiles;
use super::types::Raft;
use super::watch;

/// How long the entries after a snapshot stay when it has arrived.
const AFTER_SNAPSHOT: Duration = Duration::from_secs(10);

/// How long openraft may take to note that the state is durable.
const NOTED: Duration = Duration::from_secs(10);
/// How often the size of the log is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// Bounds of the log, in bytes of its entries.
#[derive(Debug, Clone, Copy)]
pub struct Compaction {
    /// From here on the state is made durable and the log is purged.
    pub after: u64,
    /// What stays all the same, for nodes that were away for a moment.
    pub keep: u64,
    /// Up to here more stays, for a node that lags further or gets a snapshot.
    pub most: u64,
}

impl Default for Compaction {
    fn default() -> Self {
        Self { after: 64 << 20, keep: 16 << 20, most: 512 << 20 }
    }
}

/// Entries that must stay because a snapshot is on its way.
#[derive(Default)]
pub(super) struct Pins {
    pins: Mutex<(u64, BTreeMap<u64, u64>)>,
}

/// One of them; released when dropped.
pub(super) struct Pin {
    pins: Arc<Pins>,
    number: u64,
}

impl Pins {
    /// Keeps the entries after `index`.
    pub fn pin(self: &Arc<Self>, index: u64) -> Pin {
        let mut pins = self.pins.lock().unwrap_or_else(PoisonError::into_inner);
        pins.0 += 1;
        let number = pins.0;
        pins.1.insert(number, index);
        Pin { pins: Arc::clone(self), number }
    }

    /// The last index that no pin keeps.
    pub fn purgeable(&self) -> u64 {
        let pins = self.pins.lock().unwrap_or_else(PoisonError::into_inner);
        pins.1.values().copied().min().unwrap_or(u64::MAX)
    }
}

impl Pin {
    pub fn release_later(self) {
        tokio::spawn(async move {
            tokio::time::sleep(AFTER_SNAPSHOT).await;
            drop(self);
        });
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        let mut pins = self.pins.pins.lock().unwrap_or_else(PoisonError::into_inner);
        pins.1.remove(&self.number);
    }
}

/// Makes the state durable and purges the log.
pub(super) struct Compactor {
    pub raft: Raft,
    pub log: Log,
    pub machine: Arc<machine::Shared>,
    pub pins: Arc<Pins>,
    pub staged: Arc<dyn StagedFiles>,
    pub bounds: Mutex<Compaction>,
}

impl Compactor {
    fn bounds(&self) -> Compaction {
        *self.bounds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From the next look at the log on.
    pub fn set_bounds(&self, bounds: Compaction) {
        *self.bounds.lock().unwrap_or_else(PoisonError::into_inner) = bounds;
    }

    pub async fn compact(&self) -> Result<(), RaftError> {
        let Some(applied) = self.machine.now().applied.map(|id| id.index) else { return Ok(()) };
        let failed = |error: &dyn std::fmt::Display| RaftError::Compaction(error.to_string());
        let triggered = self.raft.trigger().snapshot().await;
        triggered.map_err(|error| failed(&error))?;
        // Takes as long as the databases' backfill takes; a failure of it stops openraft.
        let mut durable = self.log.state_durable();
        tokio::select! {
            reached = durable.wait_for(|next| *next > applied) => {
                reached.map_err(|error| failed(&error))?;
            }
            stopped = watch::until(&self.raft, |_| false) => return stopped,
        }
        let noted = watch::until(&self.raft, |metrics| {
            metrics.snapshot.as_ref().is_some_and(|id| id.index >= applied)
        });
        timeout(NOTED, noted).await.map_err(|_| RaftError::Timeout(NOTED))??;
        if let Some(upto) = self.purge_to(applied) {
            self.raft.trigger().purge_log(upto).await.map_err(|error| failed(&error))?;
            // What is about to go is not to count as kept. openraft may put it off.
            let purged = watch::until(&self.raft, |metrics| {
                metrics.purged.as_ref().is_some_and(|id| id.index >= upto)
            });
            let _ = timeout(LOOK, purged).await;
        }
        let (staged, log) = (Arc::clone(&self.staged), self.log.clone());
        // Rule 19.
        blocking(move || staged.remove_unreferenced(&log.staged()))
            .await
            .map_err(|error| failed(&error))
    }

    /// Up to where the log can go.
    fn purge_to(&self, durable: u64) -> Option<u64> {
        let upto = self.log.purgeable(self.bounds().keep)?.min(durable);
        // Those who wait for entries hold them, but not for ever.
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let matched = metrics.replication.iter().flatten().map(|(_, matched)| matched);
        let slowest = matched.map(|matched| matched.as_ref().map_or(0, |id| id.index)).min();
        let held = slowest.unwrap_or(u64::MAX).min(self.pins.purgeable());
        let most = self.log.purgeable(self.bounds().most).unwrap_or(0);
        Some(upto.min(held.max(most)))
    }
}

/// Compacts when the log has grown.
pub(super) async fn by_size(
    compactor: Arc<Compactor>,
    stopping: Arc<AtomicBool>,
    on_fatal: Arc<dyn Fn(String) + Send + Sync>,
) {
    // The bytes that were left after the last time: they are kept, so they do not count.
    let mut left = 0;
    loop {
        tokio::time::sleep(LOOK).await;
        let bytes = compactor.log.bytes();
        left = left.min(bytes);
        if bytes - left < compactor.bounds().after {
            continue;
        }
        match compactor.compact().await {
            Ok(()) => left = compactor.log.bytes(),
            Err(_) if stopping.load(Ordering::SeqCst) => return,
            Err(error) => {
                on_fatal(error.to_string());
                return;
            }
        }
    }
}
