//! What the log knows without asking the disk: every entry's id and place, the newest entries
//! themselves, the vote and the marks.

use std::collections::{HashSet, VecDeque};
use std::ops::Range;

use super::super::staged::StagedName;
use super::super::types::Entry;
use super::super::wire::WireVote;
use crate::core::EntryId;

/// Where an entry's record stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    pub segment: u64,
    pub offset: u32,
}

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slot {
    pub id: EntryId,
    /// Bytes of the record's body.
    pub len: u32,
    /// `None`: not yet written.
    pub place: Option<Place>,
    /// The staged file that it names.
    pub staged: Option<Box<StagedName>>,
}

/// An entry to give out: at hand, or to be read.
pub enum Found {
    Cached(Entry),
    On(Slot, Place),
}

#[derive(Default)]
pub struct Memory {
    slots: VecDeque<Slot>,
    /// The newest entries; those that are not yet written are always among them.
    cache: VecDeque<Entry>,
    cache_bytes: u64,
    bytes: u64,
    pub purged: Option<EntryId>,
    pub vote: Option<WireVote>,
    pub committed: Option<EntryId>,
    /// The index after the last durable entry.
    pub flushed: u64,
}

impl Memory {
    /// What a recovery found: all of it is durable.
    pub fn recovered(
        slots: VecDeque<Slot>,
        purged: Option<EntryId>,
        vote: Option<WireVote>,
        committed: Option<EntryId>,
    ) -> Self {
        let bytes = slots.iter().map(weight).sum();
        let mut memory = Self { slots, bytes, purged, vote, committed, ..Self::default() };
        memory.flushed = memory.next();
        // Entries before the mark in the file; but what is not there cannot be applied.
        memory.committed = memory.committed.min_by_index(memory.last());
        memory
    }

    pub fn last(&self) -> Option<EntryId> {
        self.slots.back().map(|slot| slot.id).or(self.purged)
    }

    /// The index after the last entry.
    fn next(&self) -> u64 {
        self.last().map_or(0, |id| id.index.saturating_add(1))
    }

    fn first(&self) -> Option<u64> {
        self.slots.front().map(|slot| slot.id.index)
    }

    /// Bytes of all entries that are there, and of the files that they name.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    fn position(&self, index: u64) -> Option<usize> {
        usize::try_from(index.checked_sub(self.first()?)?).ok()
    }

    pub fn slot(&self, index: u64) -> Option<&Slot> {
        self.slots.get(self.position(index)?)
    }

    /// Takes in the next entry. False: it is not the next one, and nothing was changed.
    pub fn push(&mut self, slot: Slot, entry: Entry) -> bool {
        if self.slots.back().is_some_and(|last| last.id.index.checked_add(1) != Some(slot.id.index))
        {
            return false;
        }
        self.bytes += weight(&slot);
        self.cache_bytes += cached(&slot);
        self.slots.push_back(slot);
        self.cache.push_back(entry);
        true
    }

    /// Notes where an entry was written and that it is durable; unless another has its index now.
    pub fn written(&mut self, id: EntryId, place: Place) {
        let Some(position) = self.position(id.index) else { return };
        if let Some(slot) = self.slots.get_mut(position).filter(|slot| slot.id == id) {
            slot.place = Some(place);
            self.flushed = self.flushed.max(id.index.saturating_add(1));
        }
    }

    /// Drops the oldest of the cache until it fits, but none that is not written.
    pub fn shrink_cache(&mut self, limit: u64) {
        while self.cache_bytes > limit {
            let oldest = self.slots.len() - self.cache.len();
            match self.slots.get(oldest) {
                Some(slot) if slot.place.is_some() => {
                    self.cache_bytes -= cached(slot);
                    self.cache.pop_front();
                }
                _ => return,
            }
        }
    }

    /// Drops everything after `last`.
    pub fn truncate_after(&mut self, last: Option<EntryId>) {
        let next = last.map_or(0, |id| id.index.saturating_add(1));
        while self.slots.back().is_some_and(|slot| slot.id.index >= next) {
            let Some(slot) = self.slots.pop_back() else { break };
            self.bytes -= weight(&slot);
            if self.cache.pop_back().is_some() {
                self.cache_bytes -= cached(&slot);
            }
        }
        self.flushed = self.flushed.min(next);
    }

    /// Drops everything up to `upto`.
    pub fn purge(&mut self, upto: EntryId) {
        while self.slots.front().is_some_and(|slot| slot.id.index <= upto.index) {
            if self.cache.len() == self.slots.len() {
                self.cache.pop_front();
                self.cache_bytes -= self.slots.front().map_or(0, cached);
            }
            let Some(slot) = self.slots.pop_front() else { break };
            self.bytes -= weight(&slot);
        }
        if self.purged.is_none_or(|purged| purged.index < upto.index) {
            self.purged = Some(upto);
        }
        self.flushed = self.flushed.max(self.purged.map_or(0, |id| id.index.saturating_add(1)));
    }

    /// The entries of a range that are there, as many as fit into `limit` bytes, one at least.
    pub fn find(&self, range: Range<u64>, limit: u64) -> Vec<Found> {
        let Some(first) = self.first() else { return Vec::new() };
        let uncached = self.slots.len() - self.cache.len();
        let mut found = Vec::new();
        let mut bytes = 0;
        for index in range.start.max(first)..range.end.min(self.next()) {
            let Some(position) = self.position(index) else { break };
            let Some(slot) = self.slots.get(position) else { break };
            bytes += u64::from(slot.len);
            if bytes > limit && !found.is_empty() {
                break;
            }
            let cached = position.checked_sub(uncached).and_then(|at| self.cache.get(at));
            match (cached, slot.place) {
                (Some(entry), _) => found.push(Found::Cached(entry.clone())),
                (None, Some(place)) => found.push(Found::On(slot.clone(), place)),
                // An unwritten entry is always cached.
                (None, None) => break,
            }
        }
        found
    }

    /// The last index whose removal, and of all before it, leaves `keep` bytes or more.
    pub fn purgeable(&self, keep: u64) -> Option<u64> {
        let mut kept = 0;
        for slot in self.slots.iter().rev() {
            if kept >= keep {
                return Some(slot.id.index);
            }
            kept += weight(slot);
        }
        None
    }

    /// The staged files that entries name (Rule 19).
    pub fn staged(&self) -> HashSet<[u8; 32]> {
        self.slots.iter().filter_map(|slot| Some(slot.staged.as_ref()?.sha256)).collect()
    }
}

/// What an entry takes on the disk, with the file that it names: that is what a purge frees.
fn weight(slot: &Slot) -> u64 {
    u64::from(slot.len) + slot.staged.as_ref().map_or(0, |staged| staged.len)
}

/// What an entry takes in the cache: a small one is mostly the type.
fn cached(slot: &Slot) -> u64 {
    u64::from(slot.len) + size_of::<Entry>() as u64
}

trait MinByIndex {
    fn min_by_index(self, other: Self) -> Self;
}

impl MinByIndex for Option<EntryId> {
    fn min_by_index(self, other: Self) -> Self {
        match (self, other) {
            (Some(a), Some(b)) => Some(if a.index <= b.index { a } else { b }),
            _ => None,
        }
    }
}
