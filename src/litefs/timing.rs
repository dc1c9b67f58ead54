//! How long everything may take, all of it from the lease's time to live.
//!
//! What is counted is the time since a renewal was asked for that a quorum confirmed. The daemon renews each
//! [`renew_each`]; it lets its LiteFS write on for [`confirmed`] after that. LiteFS asks it each half of
//! [`LITEFS_TTL`], and stops at once where it is told so. Where it is told nothing it stops by itself [`ALONE`]
//! later (seen running; `tests/litefs` pins it); and where the daemon is paused it is killed [`silent_daemon`]
//! later.

use std::time::Duration;

/// The time to live that LiteFS itself is given: it renews each half of it, on loopback.
pub const LITEFS_TTL: Duration = Duration::from_secs(1);

/// How long LiteFS writes on after a renewal that was not answered, or not as it expects.
const ALONE: Duration = Duration::from_secs(1);

/// What clocks of two machines may differ by in their rates, and timers be late, over some seconds.
const MARGIN: Duration = Duration::from_millis(100);

/// In which each of LiteFS's calls is answered.
pub fn answer(ttl: Duration) -> Duration {
    (ttl / 8).clamp(Duration::from_millis(100), Duration::from_millis(500))
}

/// Between two renewals by the daemon.
pub fn renew_each(ttl: Duration) -> Duration {
    (ttl / 8).min(Duration::from_secs(1))
}

/// So long after the last renewal that was confirmed LiteFS is told to write on. Longer than a leader of the
/// Raft group takes to be replaced.
pub fn confirmed(ttl: Duration) -> Duration {
    ttl / 3
}

/// one-primary: a session that was not renewed for so long, counted from when the leader confirmed the last
/// renewal, has ended by itself.
pub fn lost(ttl: Duration) -> Duration {
    confirmed(ttl) + LITEFS_TTL / 2 + answer(ttl) + ALONE.max(silent_daemon(ttl)) + MARGIN
}

/// A daemon that was silent for so long towards its guard is paused or hangs: its LiteFS is killed.
pub fn silent_daemon(ttl: Duration) -> Duration {
    (ttl / 3).max(Duration::from_secs(1))
}

/// A LiteFS that did not answer its own node for so long is killed. A replica does no harm, and may only be
/// slow.
pub fn silent_litefs(ttl: Duration, primary: bool) -> Duration {
    if primary {
        (ttl * 2 / 3).max(Duration::from_secs(2))
    } else {
        ttl.max(Duration::from_secs(20))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// one-primary, in every time to live that can be configured.
    #[test]
    fn who_was_lost_is_silent_before_another_takes_over() {
        for ms in (1000..=60_000).step_by(50) {
            let ttl = Duration::from_millis(ms);
            // The last time that it was told to write on, and when it asks again.
            let asks = confirmed(ttl) + LITEFS_TTL / 2;
            assert!(lost(ttl) > asks + answer(ttl), "it is told that it is over");
            assert!(lost(ttl) > asks + answer(ttl) + ALONE, "it is told nothing");
            assert!(lost(ttl) > asks + silent_daemon(ttl), "its daemon is paused just before");
            assert!(answer(ttl) * 2 <= LITEFS_TTL, "far below the time to live");
            assert!(renew_each(ttl) + answer(ttl) <= confirmed(ttl), "one may fail");
        }
        assert!(lost(Duration::from_secs(3)) < Duration::from_secs(3));
    }
}
