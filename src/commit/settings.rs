//! The times and sizes of the write path, from the configuration.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

/// How long this room waits, and from which sizes on it does things differently.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// The longest that the kernel's lock request is held before it is answered EAGAIN: a held
    /// lock also stops the process's other threads. SQLite's busy timeout does the waiting.
    pub lock_wait: Duration,
    /// The longest that a COMMIT waits for its verdict without any progress.
    pub commit_timeout: Duration,
    /// The same for a held unlink, which blocks every open in the folder.
    pub unlink_timeout: Duration,
    /// Bytes of pages above which a transaction travels as a staged file.
    pub staged_above: u64,
    /// New databases turn to WAL by themselves.
    pub turn_to_wal: bool,
    /// Frames in a WAL after which the daemon checkpoints.
    pub checkpoint_frames: u32,
    /// Bytes of a WAL above which a warning names the reader that keeps it.
    pub wal_warn_bytes: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            lock_wait: Duration::from_millis(50),
            commit_timeout: Duration::from_secs(15),
            unlink_timeout: Duration::from_secs(2),
            staged_above: 1 << 20,
            turn_to_wal: true,
            checkpoint_frames: 1000,
            wal_warn_bytes: 256 << 20,
        }
    }
}

/// The settings of a node that runs: whoever looks sees them as they are then.
#[derive(Debug, Clone, Default)]
pub struct LiveSettings(Arc<RwLock<Settings>>);

impl LiveSettings {
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self(Arc::new(RwLock::new(settings)))
    }

    #[must_use]
    pub fn now(&self) -> Settings {
        *self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// For what begins from now on: what waits already, waits as long as it was going to.
    pub fn set(&self, settings: Settings) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = settings;
    }
}

/// A lock stays reserved this long after its holder had to catch up (Rule 15): SQLite sleeps up
/// to 100 ms between two tries.
pub const RESERVATION: Duration = Duration::from_millis(250);

/// How long the leader keeps a lock request before it answers "waiting".
pub const LOCK_CALL: Duration = Duration::from_millis(500);

/// How long a call to another node may take in all.
pub const CALL_TIMEOUT: Duration = Duration::from_millis(1500);

/// How long a wish for the cluster's lock is kept up after the application was answered EAGAIN.
pub const WISH: Duration = Duration::from_millis(400);

/// How long a new leader waits for the other nodes to say which locks they hold (Rule 14).
pub const RECLAIM: Duration = Duration::from_millis(150);

/// A node not heard of for so long loses the locks it held.
pub const NODE_SILENT: Duration = Duration::from_secs(1);
