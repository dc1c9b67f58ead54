//! Who asks for a database's write lock on this node, and was refused for long, comes first. Pure.
//!
//! SQLite does not queue for a lock: it asks, and asks again, at last each 100 ms
//! (`sqliteDefaultBusyCallback`). Beside programs that write without a rest such a one may find the lock taken
//! each time, until its busy timeout is over. So the one who has waited longest is waited for, now and then.

use std::time::Duration;

use tokio::time::Instant;

use super::door::Owner;

/// Refused for so long: then it is due.
const LONG: Duration = Duration::from_millis(500);
/// Who did not ask again within this has given up. Longer than the longest pause of SQLite's.
const COMES_BACK: Duration = Duration::from_millis(150);
/// Between two that were waited for, so that the lock is mostly in use.
const BETWEEN: Duration = Duration::from_millis(500);

#[derive(Debug)]
struct Refused {
    owner: Owner,
    first: Instant,
    last: Instant,
}

impl Refused {
    /// Whether it may still come back.
    fn waits(&self, now: Instant) -> bool {
        now.duration_since(self.last) <= COMES_BACK
    }

    fn is_due(&self, now: Instant) -> bool {
        now.duration_since(self.first) >= LONG
    }
}

/// Those who were refused lately.
#[derive(Debug, Default)]
pub struct Turns {
    refused: Vec<Refused>,
    /// When one that was waited for got the lock.
    served: Option<Instant>,
}

impl Turns {
    /// It was told that the lock is taken.
    pub fn refuse(&mut self, owner: Owner, now: Instant) {
        self.refused.retain(|one| one.waits(now));
        match self.refused.iter_mut().find(|one| one.owner == owner) {
            Some(one) => one.last = now,
            None => self.refused.push(Refused { owner, first: now, last: now }),
        }
    }

    /// Whether nobody else has to come first. Asked while the lock is free.
    pub fn may_go(&self, owner: Owner, now: Instant) -> bool {
        if self.served.is_some_and(|at| now.duration_since(at) < BETWEEN) {
            return true;
        }
        let due = self.refused.iter().filter(|one| one.waits(now) && one.is_due(now));
        due.min_by_key(|one| one.first).is_none_or(|one| one.owner == owner)
    }

    /// It got the lock.
    pub fn grant(&mut self, owner: Owner, now: Instant) {
        if let Some(at) = self.refused.iter().position(|one| one.owner == owner)
            && self.refused.swap_remove(at).is_due(now)
        {
            self.served = Some(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Owner = Owner(1);
    const B: Owner = Owner(2);
    const C: Owner = Owner(3);
    const MS: Duration = Duration::from_millis(1);

    /// Asks each 100 ms until it is due; answers when that is.
    fn waits(turns: &mut Turns, owner: Owner, from: Instant) -> Instant {
        for times in 0..=5 {
            turns.refuse(owner, from + times * 100 * MS);
        }
        from + LONG
    }

    #[test]
    fn who_waited_long_comes_first_and_once() {
        let (mut turns, begin) = (Turns::default(), Instant::now());
        turns.refuse(A, begin);
        assert!(turns.may_go(B, begin + 100 * MS), "not for long yet");
        let now = waits(&mut turns, A, begin);
        assert!(!turns.may_go(B, now + 90 * MS) && turns.may_go(A, now + 90 * MS));
        turns.grant(A, now + 90 * MS);
        assert!(turns.may_go(B, now + 91 * MS));
    }

    #[test]
    fn who_does_not_come_back_is_not_waited_for() {
        let (mut turns, begin) = (Turns::default(), Instant::now());
        let now = waits(&mut turns, A, begin);
        assert!(!turns.may_go(B, now + COMES_BACK));
        assert!(turns.may_go(B, now + COMES_BACK + MS));
        // It begins anew, as one who came just now.
        turns.refuse(A, now + 2 * COMES_BACK);
        assert!(turns.may_go(B, now + 2 * COMES_BACK));
    }

    /// Many who wait long do not make the lock idle: most of the time anybody may go.
    #[test]
    fn one_is_waited_for_now_and_then() {
        let (mut turns, begin) = (Turns::default(), Instant::now());
        let now = waits(&mut turns, A, begin);
        waits(&mut turns, B, begin + MS);
        let now = now + 2 * MS;
        assert!(!turns.may_go(C, now) && !turns.may_go(B, now), "A has waited longest");
        turns.grant(A, now);
        assert!(turns.may_go(C, now + BETWEEN - MS));
        for times in 1..=5 {
            turns.refuse(B, now + times * 100 * MS);
        }
        assert!(!turns.may_go(C, now + BETWEEN) && turns.may_go(B, now + BETWEEN));
    }
}
