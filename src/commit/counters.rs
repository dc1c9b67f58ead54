//! What the metrics count, over all databases of the node.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::core::engine::Latency;

#[derive(Default)]
pub struct Counters {
    /// Transactions of this node's applications, by what became of them.
    pub committed: AtomicU64,
    pub refused: AtomicU64,
    /// As LTX.
    pub committed_bytes: AtomicU64,
    /// Transactions of other nodes.
    pub applied: AtomicU64,
    pub doomed: AtomicU64,
    pub locks_granted: AtomicU64,
    pub locks_busy: AtomicU64,
    pub checkpoints: AtomicU64,
    pub set_aside: AtomicU64,
    /// Pages that the disk changed, and those that were put right.
    pub rotten: AtomicU64,
    pub mended: AtomicU64,
    pub snapshots_sent: AtomicU64,
    pub snapshots_received: AtomicU64,
    /// From the withheld commit point to its answer.
    pub latency: LatencyCounter,
}

/// One more of what happened.
pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// Upper bounds of the histogram, in microseconds: from a fast disk to `commit_timeout`.
const BOUNDS: [u64; 14] = [
    250, 500, 1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 64_000, 125_000, 250_000, 500_000,
    1_000_000, 15_000_000,
];

/// A histogram that many threads add to.
#[derive(Default)]
pub struct LatencyCounter {
    count: AtomicU64,
    micros: AtomicU64,
    buckets: [AtomicU64; BOUNDS.len()],
}

impl LatencyCounter {
    pub fn add(&self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        count(&self.count);
        self.micros.fetch_add(micros, Ordering::Relaxed);
        if let Some(bucket) = BOUNDS.iter().position(|bound| micros <= *bound) {
            count(&self.buckets[bucket]);
        }
    }

    /// The numbers now. Those added meanwhile may be in one and not yet in another.
    pub fn snapshot(&self) -> Latency {
        let seconds = |micros: u64| Duration::from_micros(micros).as_secs_f64();
        Latency {
            count: self.count.load(Ordering::Relaxed),
            sum_seconds: seconds(self.micros.load(Ordering::Relaxed)),
            buckets: BOUNDS
                .iter()
                .zip(&self.buckets)
                .map(|(bound, bucket)| (seconds(*bound), bucket.load(Ordering::Relaxed)))
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_fall_into_their_buckets() {
        let latency = LatencyCounter::default();
        latency.add(Duration::from_micros(250));
        latency.add(Duration::from_micros(251));
        latency.add(Duration::from_mins(1));
        let now = latency.snapshot();
        assert_eq!(now.count, 3);
        assert_eq!(now.buckets[0].1, 1);
        assert_eq!(now.buckets[1].1, 1);
        assert_eq!(now.buckets.iter().map(|(_, count)| count).sum::<u64>(), 2);
    }
}
