//! Log lines about what the mount refuses: each says why and what to do, and the same one not
//! more than once in [`PAUSE`], so that a program that tries for ever does not fill the disk.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Long enough to keep a log readable, short enough to see that it still happens.
const PAUSE: Duration = Duration::from_secs(10);

#[derive(Default)]
pub(super) struct Refusals(Mutex<HashMap<&'static str, Said>>);

struct Said {
    at: Instant,
    kept_back: u64,
}

impl Refusals {
    /// `what`: the operation, and the key by which lines are held back.
    pub(super) fn log(&self, what: &'static str, on: &dyn fmt::Debug, why: &dyn fmt::Display) {
        if let Some(kept_back) = self.due(what, Instant::now()) {
            tracing::warn!(operation = what, on = ?on, kept_back, "refused: {why}");
        }
    }

    /// How many lines were kept back since the last one, when it is time for another.
    fn due(&self, what: &'static str, now: Instant) -> Option<u64> {
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match said.get_mut(what) {
            Some(last) if now.duration_since(last.at) < PAUSE => {
                last.kept_back = last.kept_back.saturating_add(1);
                None
            }
            Some(last) => {
                last.at = now;
                Some(std::mem::take(&mut last.kept_back))
            }
            None => {
                said.insert(what, Said { at: now, kept_back: 0 });
                Some(0)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_line_comes_once_a_pause_and_counts_the_others() {
        let refusals = Refusals::default();
        let start = Instant::now();
        assert_eq!(refusals.due("mkdir", start), Some(0));
        assert_eq!(refusals.due("mkdir", start + Duration::from_secs(1)), None);
        assert_eq!(refusals.due("mkdir", start + Duration::from_secs(2)), None);
        assert_eq!(refusals.due("rename", start + Duration::from_secs(2)), Some(0));
        assert_eq!(refusals.due("mkdir", start + PAUSE), Some(2));
    }
}
