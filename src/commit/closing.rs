//! The orderly end of a node, from the writers' side: whoever is in the middle of a transaction may
//! end it, and nobody begins another. A COMMIT that the end of the mount cuts off has an open outcome,
//! which a planned stop need not cost anybody. And a node that must not write at all: a learner.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::database::Shared;
use super::databases::AllDatabases;
use super::lock;
use super::snapshots::durable;
use crate::store::StoreError;

/// Between two looks whether they are done.
const LOOK: Duration = Duration::from_millis(2);

/// How long the entry that is being applied may take to its end.
const LAST_ENTRY: Duration = Duration::from_secs(5);

impl Shared {
    /// Nobody begins to write here.
    pub(super) fn is_closed_to_writers(&self) -> bool {
        self.closing.load(Ordering::Acquire) || self.is_read_only()
    }

    pub(super) fn is_read_only(&self) -> bool {
        self.read_only.load(Ordering::Acquire)
    }
}

impl AllDatabases {
    /// Whether applications here may only read. A connection that is opened then is told so by SQLite at
    /// once (`SQLITE_READONLY`); one that was open before finds the database locked.
    pub fn set_read_only(&self, read_only: bool) {
        let before = self.shared().read_only.swap(read_only, Ordering::AcqRel);
        if before != read_only {
            tracing::info!(read_only, "this node's mount changed");
        }
    }

    /// From now on a write lock is answered "busy". Waits until nobody here holds one and all that was
    /// proposed has its verdict. False if somebody was not done within `limit`: a program that keeps a
    /// transaction open, or a cluster without a majority.
    pub async fn close_to_writers(&self, limit: Duration) -> bool {
        self.shared().closing.store(true, Ordering::Release);
        let deadline = Instant::now() + limit;
        while self.somebody_writes() {
            if Instant::now() >= deadline {
                return false;
            }
            sleep(LOOK).await;
        }
        true
    }

    /// After the mount has ended: what is applied becomes durable, so that the next start replays little.
    /// What the log has applied, and the files did not within `limit`, is replayed. Nothing is applied any
    /// more afterwards: the data folder may soon be another process's. Blocks.
    ///
    /// # Errors
    /// Of the first database that failed; the others are kept all the same.
    pub fn keep_what_is_applied(&self, limit: Duration) -> Result<(), StoreError> {
        let up_to = *self.applied().borrow();
        let deadline = Instant::now() + limit;
        for database in self.all() {
            while !database.shows(up_to.index) && Instant::now() < deadline {
                std::thread::sleep(LOOK);
            }
        }
        self.shared().stopped.store(true, Ordering::Release);
        let deadline = Instant::now() + LAST_ENTRY;
        let mut kept = Ok(());
        for database in self.all() {
            while lock(&database.state).pumping && Instant::now() < deadline {
                std::thread::sleep(LOOK);
            }
            kept = kept.and(durable(&database, up_to));
        }
        kept
    }

    fn somebody_writes(&self) -> bool {
        let writing = |database: &super::Database| {
            let state = lock(&database.state);
            state.hold.is_some() || state.pending.is_some()
        };
        self.shared().proposer.in_flight() > 0
            || self.all().iter().any(|database| writing(database))
    }
}
