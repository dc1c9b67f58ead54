//! Refusals are logged with what to do, but a program that repeats itself is logged once.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// The same reason for the same database is logged again after this long.
const AGAIN: Duration = Duration::from_secs(10);

/// Remembers what was logged.
#[derive(Default)]
pub struct Notices(Mutex<HashMap<&'static str, Instant>>);

impl Notices {
    /// Logs a refusal, unless the same kind was logged a moment ago.
    pub fn refuse(&self, database: &str, kind: &'static str, pid: u32, what: &str) {
        if self.is_due(kind) {
            tracing::warn!(database, pid, refused = kind, "{what}");
        }
    }

    /// Whether this kind was not said a moment ago; from now on it was.
    pub fn is_due(&self, kind: &'static str) -> bool {
        let mut seen = crate::commit::lock(&self.0);
        let now = Instant::now();
        let due = seen.get(kind).is_none_or(|last| now.duration_since(*last) >= AGAIN);
        if due {
            seen.insert(kind, now);
        }
        due
    }
}
