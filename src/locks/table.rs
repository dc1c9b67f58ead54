//! The locks that are held.

use super::range::{common, hull, overlap, touch, without};
use super::waiters::Waiters;
use crate::core::ports::{ByteRange, LockKind};

/// A lock that somebody holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lock<O> {
    pub owner: O,
    /// The process that took it, for `F_GETLK`.
    pub pid: u32,
    pub range: ByteRange,
    /// Shared or exclusive.
    pub kind: LockKind,
}

/// A lock was refused because of another owner's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "bytes {} to {} are locked by process {} ({:?}); ask again when it has released them",
    with.range.start, with.range.end, with.pid, with.kind
)]
pub struct Conflict<O> {
    pub with: Lock<O>,
}

/// The locks of one file, and who waits for them.
///
/// A range whose start lies beyond its end holds no byte: locking it does nothing.
#[derive(Debug)]
pub struct LockTable<O> {
    /// Those of one owner never overlap, and if they touch they differ in kind. In the order of
    /// (start, owner), so that the first that is found is the first in the file. A file has a few
    /// dozen at most (one a reader), so walking through them is the fastest there is.
    held: Vec<Lock<O>>,
    pub(super) waiters: Waiters<O>,
}

impl<O> Default for LockTable<O> {
    fn default() -> Self {
        Self { held: Vec::new(), waiters: Waiters::default() }
    }
}

impl<O: Copy + Eq + Ord> LockTable<O> {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// `F_SETLK`: takes, changes or releases the owner's lock on exactly these bytes, or leaves
    /// all as it was. What the owner held elsewhere stays: ranges are split and merged. Does not
    /// look at who waits. A release is never refused.
    ///
    /// # Errors
    /// Another owner's lock stands in the way.
    pub fn try_lock(
        &mut self,
        owner: O,
        pid: u32,
        range: ByteRange,
        kind: LockKind,
    ) -> Result<(), Conflict<O>> {
        if let Some(with) = self.get_lock(owner, range, kind) {
            return Err(Conflict { with });
        }
        self.unlock(owner, range);
        if kind != LockKind::Unlock && range.start <= range.end {
            self.insert(Lock { owner, pid, range, kind });
        }
        Ok(())
    }

    /// `F_GETLK`: the lock that would refuse this one, if any: of several the first in the file.
    /// Its range is all that its owner holds there by one kind.
    #[must_use]
    pub fn get_lock(&self, owner: O, range: ByteRange, kind: LockKind) -> Option<Lock<O>> {
        self.in_range(range).find(|held| held.owner != owner && conflict(held.kind, kind)).copied()
    }

    /// Releases the owner's locks on these bytes. Returns what was held of them.
    pub fn unlock(&mut self, owner: O, range: ByteRange) -> Vec<Lock<O>> {
        let mut released = Vec::new();
        let mut rests = Vec::new();
        self.held.retain(|held| {
            let common = common(held.range, range).filter(|_| held.owner == owner);
            let Some(common) = common else { return true };
            released.push(Lock { range: common, ..*held });
            rests.extend(without(held.range, common).map(|rest| Lock { range: rest, ..*held }));
            false
        });
        self.held.extend(rests);
        self.sort();
        released
    }

    /// Releases all that the owner holds: a process closed the file, or died. Returns what it
    /// held. If it waits for something, it goes on waiting: see [`Self::cancel`].
    pub fn unlock_all(&mut self, owner: O) -> Vec<Lock<O>> {
        self.unlock(owner, ByteRange { start: 0, end: u64::MAX })
    }

    /// Whether anyone holds an exclusive lock on any of these bytes.
    #[must_use]
    pub fn is_locked_exclusively(&self, range: ByteRange) -> bool {
        self.in_range(range).any(|held| held.kind == LockKind::Exclusive)
    }

    /// Who holds any of these bytes: the first exclusive lock, or else the first shared one.
    #[must_use]
    pub fn holder_of(&self, range: ByteRange) -> Option<Lock<O>> {
        self.in_range(range)
            .find(|held| held.kind == LockKind::Exclusive)
            .or_else(|| self.in_range(range).next())
            .copied()
    }

    /// All that is held, in the order of the bytes.
    pub fn locks(&self) -> impl ExactSizeIterator<Item = &Lock<O>> {
        self.held.iter()
    }

    /// All that is held of these bytes, in their order.
    fn in_range(&self, range: ByteRange) -> impl Iterator<Item = &Lock<O>> {
        self.held.iter().filter(move |held| overlap(held.range, range))
    }

    /// Adds a lock on bytes of which its owner holds none; it swallows its neighbours of the same
    /// kind, and their processes with them: the last that locked stands for all.
    fn insert(&mut self, mut lock: Lock<O>) {
        // A neighbour on each side at most, and a merged one touches no further of that kind.
        self.held.retain(|held| {
            let merges =
                held.owner == lock.owner && held.kind == lock.kind && touch(held.range, lock.range);
            if merges {
                lock.range = hull(held.range, lock.range);
            }
            !merges
        });
        self.held.push(lock);
        self.sort();
    }

    fn sort(&mut self) {
        self.held.sort_unstable_by_key(|held| (held.range.start, held.owner));
    }
}

/// Whether locks of these kinds, of two owners, exclude each other.
pub(super) fn conflict(a: LockKind, b: LockKind) -> bool {
    a != LockKind::Unlock
        && b != LockKind::Unlock
        && (a == LockKind::Exclusive || b == LockKind::Exclusive)
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
