//! Those who wait for a lock (`F_SETLKW`).
//!
//! First come, first served among those who are in each other's way: a waiter is not granted past
//! an earlier one that it would exclude, so that new readers cannot starve a writer. One exception:
//! nobody waits behind a waiter who waits for *him*; that could only end by a deadline.

use std::time::Duration;

use super::range::overlap;
use super::table::{LockTable, conflict};
use crate::core::ports::{ByteRange, LockKind};

/// Names a waiter; given by the caller, used once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WaiterId(pub u64);

#[derive(Debug, Clone, Copy)]
struct Waiter<O> {
    id: WaiterId,
    owner: O,
    pid: u32,
    range: ByteRange,
    kind: LockKind,
    deadline: Duration,
}

impl<O: Eq> Waiter<O> {
    fn excludes(&self, other: &Self) -> bool {
        self.owner != other.owner
            && conflict(self.kind, other.kind)
            && overlap(self.range, other.range)
    }
}

/// In the order in which they came.
#[derive(Debug)]
pub(super) struct Waiters<O>(Vec<Waiter<O>>);

impl<O> Default for Waiters<O> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<O: Copy + Eq + Ord> LockTable<O> {
    /// `F_SETLKW`: puts a request at the end of the queue, until `deadline` (in the caller's
    /// time). It is granted by [`Self::grant_waiters`], which is to be called right after this and
    /// after everything that may have released something.
    pub fn enqueue(
        &mut self,
        id: WaiterId,
        owner: O,
        pid: u32,
        range: ByteRange,
        kind: LockKind,
        deadline: Duration,
    ) {
        self.waiters.0.push(Waiter { id, owner, pid, range, kind, deadline });
    }

    /// Gives the locks to the waiters whose turn it is. Returns those; they hold their locks and
    /// wait no more.
    pub fn grant_waiters(&mut self) -> Vec<WaiterId> {
        let mut granted = Vec::new();
        // A grant may change an exclusive lock into a shared one, which lets an earlier waiter in:
        // so from the beginning after each.
        while let Some(at) = self.next_in_turn() {
            let Waiter { id, owner, pid, range, kind, .. } = self.waiters.0.remove(at);
            if self.try_lock(owner, pid, range, kind).is_ok() {
                granted.push(id);
            }
        }
        granted
    }

    /// The first waiter whom neither a lock nor an earlier waiter keeps out.
    fn next_in_turn(&self) -> Option<usize> {
        let queue = &self.waiters.0;
        queue.iter().enumerate().position(|(at, waiter)| {
            let waits_for_me =
                |earlier: &Waiter<O>| self.holds_against(waiter.owner, earlier.range, earlier.kind);
            self.get_lock(waiter.owner, waiter.range, waiter.kind).is_none()
                && queue
                    .iter()
                    .take(at)
                    .all(|earlier| !earlier.excludes(waiter) || waits_for_me(earlier))
        })
    }

    /// Whether this owner's own locks refuse such a lock to others.
    fn holds_against(&self, owner: O, range: ByteRange, kind: LockKind) -> bool {
        self.locks().any(|held| {
            held.owner == owner && conflict(held.kind, kind) && overlap(held.range, range)
        })
    }

    /// Takes out the waiters whose time is up, in the order in which they came.
    pub fn expire(&mut self, now: Duration) -> Vec<WaiterId> {
        let is_due = |waiter: &mut Waiter<O>| waiter.deadline <= now;
        self.waiters.0.extract_if(.., is_due).map(|waiter| waiter.id).collect()
    }

    /// Takes one waiter out. Returns whether it was there. Like [`Self::expire`] it may let others
    /// in: see [`Self::grant_waiters`].
    pub fn cancel(&mut self, id: WaiterId) -> bool {
        self.waiters.0.extract_if(.., |waiter| waiter.id == id).count() > 0
    }

    /// When [`Self::expire`] has something to do.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Duration> {
        self.waiters.0.iter().map(|waiter| waiter.deadline).min()
    }
}

#[cfg(test)]
mod tests;
