//! How long everything may take, all of it from the lease's time to live.
//!
//! LiteFS renews each half of it. After the last good renewal it may go on writing for half of it and 2.1
//! seconds more, or for it and a second, whichever is longer (seen running; `tests/litefs` pins it).

use std::time::Duration;

/// What clocks of two machines may differ by in their rates, and timers be late, over some seconds.
const MARGIN: Duration = Duration::from_millis(100);

/// In which each of LiteFS's calls is answered.
pub fn answer(ttl: Duration) -> Duration {
    (ttl / 8).clamp(Duration::from_millis(100), Duration::from_millis(500))
}

/// one-primary: a session that was not renewed for so long, counted from when the leader confirmed the last
/// renewal, has ended by itself. The holder counts from when it was answered, which is later by
/// [`answer`] at most.
pub fn lost(ttl: Duration) -> Duration {
    let expired = ttl + Duration::from_secs(1);
    let last_write = ttl / 2 + Duration::from_millis(2100);
    expired.max(last_write) + answer(ttl) + MARGIN
}

/// A daemon that was silent for so long towards its guard is paused or hangs: its LiteFS is killed. The last
/// renewal lies half a time to live further back, at most, and so the kill falls before [`lost`].
pub fn silent_daemon(ttl: Duration) -> Duration {
    ttl / 2 + Duration::from_millis(500)
}

/// A LiteFS that did not answer its own node for so long is killed. A primary: before its lease has run out.
/// A replica does no harm, and may only be slow.
pub fn silent_litefs(ttl: Duration, primary: bool) -> Duration {
    if primary { ttl.max(Duration::from_secs(2)) } else { ttl.max(Duration::from_secs(20)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// one-primary, in every time to live that can be configured.
    #[test]
    fn who_was_lost_is_silent_before_another_takes_over() {
        for ms in (1000..=60_000).step_by(50) {
            let ttl = Duration::from_millis(ms);
            let answered = answer(ttl);
            // Of LiteFS itself, from its own last renewal on.
            assert!(lost(ttl) > answered + ttl + Duration::from_secs(1));
            assert!(lost(ttl) > answered + ttl / 2 + Duration::from_millis(2100));
            // Of a LiteFS whose daemon is paused, and which was about to renew.
            assert!(lost(ttl) > ttl / 2 + answered + silent_daemon(ttl));
            assert!(answered <= ttl / 2, "far below the time to live");
        }
        assert!(
            lost(Duration::from_secs(3)) < Duration::from_millis(4500),
            "5 s worst, with the rest"
        );
    }
}
