//! The one door to time, so that a simulation can hold the clock in its hand.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

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

/// The machine's wall clock as stamps have it: milliseconds since 1970; 0 before that.
#[must_use]
pub fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// The same, for stamps that are signed.
#[must_use]
pub fn signed_unix_ms() -> i64 {
    i64::try_from(unix_ms()).unwrap_or(i64::MAX)
}

/// The same in seconds.
#[must_use]
pub fn unix_seconds() -> u64 {
    unix_ms() / 1000
}
