//! The databases that the kernel has inode numbers of.
//!
//! The kernel counts how often it was told of an inode and gives the count back by FORGET. What
//! stands here for a database is dropped when the kernel holds none of its inodes and the name
//! stands for another incarnation, or for none.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::time::SystemTime;

use fuser::Notifier;

use super::inodes::Inode;
use super::names::Part;
use super::notify::DatabaseCache;
use super::shm::Shm;
use crate::commit::door::{DatabaseFiles, Databases};
use crate::core::{DatabaseName, Position};

/// One incarnation of a database, as the kernel knows it.
pub(super) struct Known {
    pub(super) files: Arc<dyn DatabaseFiles>,
    pub(super) name: DatabaseName,
    pub(super) slot: u64,
    pub(super) shm: Shm,
    /// How many references the kernel holds to its inodes, all together.
    references: Mutex<u64>,
    modified: Mutex<(Position, SystemTime)>,
}

impl Known {
    fn new(files: Arc<dyn DatabaseFiles>) -> Self {
        let position = files.position();
        Self {
            name: files.name(),
            slot: files.slot(),
            files,
            shm: Shm::default(),
            references: Mutex::new(0),
            modified: Mutex::new((position, SystemTime::now())),
        }
    }

    /// When a transaction was last seen to have arrived, for `ls` and for programs that copy what
    /// changed. The kernel decides nothing by it (`FUSE_EXPLICIT_INVAL_DATA`).
    pub(super) fn modified(&self) -> SystemTime {
        let position = self.files.position();
        let mut seen = self.modified.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.0 != position {
            *seen = (position, SystemTime::now());
        }
        seen.1
    }

    /// The kernel is about to be told of one of its inodes.
    pub(super) fn refer(&self) {
        let mut references = self.references.lock().unwrap_or_else(PoisonError::into_inner);
        *references = references.saturating_add(1);
    }

    /// Whether the kernel now holds none.
    fn forget(&self, count: u64) -> bool {
        let mut references = self.references.lock().unwrap_or_else(PoisonError::into_inner);
        *references = references.saturating_sub(count);
        *references == 0
    }
}

pub(super) struct Tree {
    pub(super) databases: Arc<dyn Databases>,
    known: RwLock<HashMap<u64, Arc<Known>>>,
    notifier: OnceLock<Notifier>,
}

impl Tree {
    pub(super) fn new(databases: Arc<dyn Databases>) -> Self {
        Self { databases, known: RwLock::default(), notifier: OnceLock::new() }
    }

    /// Called once, before the first request.
    pub(super) fn notify_through(&self, notifier: Notifier) {
        let _ = self.notifier.set(notifier);
    }

    /// The database that has this name now.
    pub(super) fn find(&self, name: &DatabaseName) -> Option<Arc<Known>> {
        self.databases.get(name).map(|files| self.know(files))
    }

    /// The database that an inode number was given for.
    pub(super) fn of(&self, slot: u64) -> Option<Arc<Known>> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).get(&slot).cloned()
    }

    /// Whether its name still stands for it: not after a deletion or a restore.
    pub(super) fn is_current(&self, known: &Known) -> bool {
        self.databases.get(&known.name).is_some_and(|files| files.slot() == known.slot)
    }

    /// Finds or begins what stands for a database; the first time, gives it its kernel cache.
    pub(super) fn know(&self, files: Arc<dyn DatabaseFiles>) -> Arc<Known> {
        let slot = files.slot();
        if let Some(known) = self.of(slot) {
            return known;
        }
        let fresh = Arc::new(Known::new(files));
        let mut table = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = table.get(&slot) {
            return known.clone();
        }
        table.insert(slot, fresh.clone());
        drop(table);
        self.give_cache(&fresh);
        self.reap();
        fresh
    }

    fn give_cache(&self, known: &Known) {
        let number = Inode::Part { slot: known.slot, part: Part::Database }.number();
        if let (Some(notifier), Some(inode)) = (self.notifier.get().cloned(), number) {
            known.files.use_cache(Arc::new(DatabaseCache { notifier, inode }));
        }
    }

    /// The kernel gives `count` references back.
    pub(super) fn forget(&self, slot: u64, count: u64) {
        if let Some(known) = self.of(slot)
            && known.forget(count)
        {
            self.drop_if_gone(&known);
        }
    }

    /// Drops those that were deleted after the kernel had forgotten them.
    fn reap(&self) {
        let idle: Vec<_> = {
            let table = self.known.read().unwrap_or_else(PoisonError::into_inner);
            table.values().filter(|known| known.forget(0)).cloned().collect()
        };
        for known in idle {
            self.drop_if_gone(&known);
        }
    }

    fn drop_if_gone(&self, known: &Known) {
        if self.is_current(known) {
            return;
        }
        let mut table = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if known.forget(0) {
            table.remove(&known.slot);
        }
    }
}
