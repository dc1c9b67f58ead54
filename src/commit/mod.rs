//! The write path: lock, propose, wait, answer.
//!
//! One COMMIT is one straight walk: the mount hands a write to [`files`], `capture` says whether it
//! is the commit point, [`transaction`] makes an LTX of it, [`propose`] puts it into the Raft log and
//! waits for the verdict of this node's own applied log, and only then is the withheld operation
//! done and answered. On the other nodes [`apply`] takes the same entry and lets `store` write it
//! beneath the open readers.
//!
//! Promises kept here: no-lost-ack and invisible-until-committed (the commit point is withheld until
//! the verdict), one-history (each transaction carries the position it was made on), bounded-answer
//! (every wait has a deadline), readers-go-on (nothing here waits on a reader in WAL mode).
//!
//! May know: raft, store, cluster, capture, locks, mesh's calls through [`peers`].

mod apply;
mod arbiter;
mod bytes;
mod check;
mod checkpoint;
mod closing;
mod cluster_lock;
mod counters;
mod database;
mod databases;
mod deletion;
mod diverged;
pub mod door;
mod entrance;
mod export;
mod files;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod gate;
mod hold;
mod import;
mod journal;
mod lost;
mod mend;
mod notice;
mod pages;
mod patience;
pub mod peers;
mod propose;
mod rot;
mod rpc;
mod service;
mod settings;
mod snapshots;
mod stage;
mod staging;
mod stop;
mod transaction;
mod turns;
mod uploads;
mod verdict;

use std::sync::{Mutex, MutexGuard, PoisonError};

pub use arbiter::{Arbiter, Holder};
pub use counters::Counters;
pub use database::{Database, Shared};
pub use databases::{AllDatabases, Listener};
pub use import::look_through;
pub use propose::Proposer;
pub use rpc::METHOD;
pub use service::{Fetching, Service};
pub use settings::{LiveSettings, NODE_SILENT, Settings};
pub use stop::before_stopping;
pub use uploads::{Intake, Uploads};

/// Takes a mutex. A thread that panicked while it held one has already been reported; what it
/// guarded is checked by checksums, so others go on rather than panic too.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
