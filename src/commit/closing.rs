//! The orderly end of a node, from the writers' side: whoever is in the middle of a transaction may
//! end it, and nobody begins another. A COMMIT that the end of the mount cuts off has an open outcome,
//! which a planned stop need not cost anybody.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::databases::AllDatabases;
use super::lock;

/// Between two looks whether they are done.
const LOOK: Duration = Duration::from_millis(2);

impl AllDatabases {
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

    fn somebody_writes(&self) -> bool {
        let writing = |database: &super::Database| {
            let state = lock(&database.state);
            state.hold.is_some() || state.pending.is_some()
        };
        self.shared().proposer.in_flight() > 0
            || self.all().iter().any(|database| writing(database))
    }
}
