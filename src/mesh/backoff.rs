//! How long to wait before the next attempt to connect.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(20);
const LONGEST: Duration = Duration::from_millis(500);

/// Doubles from 20 ms to 500 ms. Each wait is shortened by up to half at random, so that the
/// nodes do not knock in step.
#[derive(Debug)]
pub(super) struct Backoff {
    next: Duration,
}

impl Backoff {
    pub(super) fn new() -> Backoff {
        Backoff { next: FIRST }
    }

    pub(super) fn reset(&mut self) {
        self.next = FIRST;
    }

    pub(super) fn wait(&mut self) -> Duration {
        let wait = self.next.mul_f64(rand::random_range(0.5..=1.0));
        self.next = (self.next * 2).min(LONGEST);
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_to_its_bound_and_starts_anew() {
        let mut backoff = Backoff::new();
        assert!(backoff.wait() <= FIRST);
        for _ in 0..20 {
            assert!(backoff.wait() <= LONGEST);
        }
        assert!(backoff.wait() >= LONGEST / 2);
        backoff.reset();
        assert!(backoff.wait() <= FIRST);
    }
}
