//! The one door to time, so that a simulation can hold the clock in its hand.

use std::time::{Duration, Instant, SystemTime};

pub trait Clock: Send + Sync {
    /// Monotonic time since some fixed moment of this process.
    fn now(&self) -> Duration;

    /// Wall-clock time, for stamps that people read. Nothing is decided by it.
    fn wall(&self) -> SystemTime;
}

/// The machine's clock.
pub struct SystemClock(Instant);

impl Default for SystemClock {
    fn default() -> Self {
        Self(Instant::now())
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Duration {
        self.0.elapsed()
    }

    fn wall(&self) -> SystemTime {
        SystemTime::now()
    }
}
