//! A log line that strangers can cause is written now and then, not each time.

use std::sync::Mutex;
use std::time::{Duration, Instant};

const EVERY: Duration = Duration::from_secs(10);

/// Lets one line through every ten seconds, and counts the rest.
#[derive(Debug, Default)]
pub struct Quiet {
    state: Mutex<(Option<Instant>, u64)>,
}

impl Quiet {
    #[must_use]
    pub const fn new() -> Quiet {
        Quiet { state: Mutex::new((None, 0)) }
    }

    /// `Some(n)`: write the line; n others were swallowed since the last.
    pub fn may_log(&self) -> Option<u64> {
        self.may_log_at(Instant::now())
    }

    fn may_log_at(&self, now: Instant) -> Option<u64> {
        let mut state = self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if state.0.is_some_and(|last| now.saturating_duration_since(last) < EVERY) {
            state.1 += 1;
            return None;
        }
        let swallowed = state.1;
        *state = (Some(now), 0);
        Some(swallowed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_in_a_while() {
        let quiet = Quiet::default();
        let start = Instant::now();
        assert_eq!(quiet.may_log_at(start), Some(0));
        assert_eq!(quiet.may_log_at(start), None);
        assert_eq!(quiet.may_log_at(start + EVERY / 2), None);
        assert_eq!(quiet.may_log_at(start + EVERY), Some(2));
    }
}
