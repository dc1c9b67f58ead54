//! What SQLite and fcntl(2) do with a lock table, one by one.

use super::*;
use LockKind::{Exclusive, Shared, Unlock};

const MAX: u64 = u64::MAX;

fn range(start: u64, end: u64) -> ByteRange {
    ByteRange { start, end }
}

/// Owner `o` has the process 100 + o.
fn lock(owner: u8, start: u64, end: u64, kind: LockKind) -> Lock<u8> {
    Lock { owner, pid: 100 + u32::from(owner), range: range(start, end), kind }
}

struct Table(LockTable<u8>);

impl Table {
    fn new() -> Self {
        Self(LockTable::new())
    }

    fn set(&mut self, owner: u8, start: u64, end: u64, kind: LockKind) -> Option<Lock<u8>> {
        let pid = 100 + u32::from(owner);
        self.0.try_lock(owner, pid, range(start, end), kind).err().map(|conflict| conflict.with)
    }

    fn held(&self) -> Vec<Lock<u8>> {
        self.0.locks().copied().collect()
    }
}

#[test]
fn an_owner_never_conflicts_with_itself_and_changes_its_own_in_place() {
    let mut table = Table::new();
    assert_eq!(table.set(1, 0, 9, Shared), None);
    assert_eq!(table.set(1, 3, 5, Exclusive), None);
    assert_eq!(
        table.held(),
        [lock(1, 0, 2, Shared), lock(1, 3, 5, Exclusive), lock(1, 6, 9, Shared)]
    );
    assert_eq!(table.set(1, 3, 5, Shared), None);
    assert_eq!(table.held(), [lock(1, 0, 9, Shared)], "merged again");
    assert_eq!(table.set(1, 4, 4, Unlock), None);
    assert_eq!(table.held(), [lock(1, 0, 3, Shared), lock(1, 5, 9, Shared)]);
}

#[test]
fn a_refused_change_leaves_all_as_it_was() {
    let mut table = Table::new();
    table.set(1, 0, 9, Shared);
    table.set(2, 5, 5, Shared);
    assert_eq!(table.set(1, 0, 9, Exclusive), Some(lock(2, 5, 5, Shared)), "no upgrade");
    assert_eq!(table.set(2, 5, 20, Exclusive), Some(lock(1, 0, 9, Shared)));
    assert_eq!(table.held(), [lock(1, 0, 9, Shared), lock(2, 5, 5, Shared)]);
}

#[test]
fn the_first_conflict_in_the_file_is_told_as_it_is_held() {
    let mut table = Table::new();
    table.set(3, 20, 30, Exclusive);
    table.set(2, 8, 12, Shared);
    table.set(1, 0, 9, Shared);
    let get = |owner, start, end, kind| table.0.get_lock(owner, range(start, end), kind);
    assert_eq!(get(9, 9, 40, Exclusive), Some(lock(1, 0, 9, Shared)));
    assert_eq!(get(1, 9, 40, Exclusive), Some(lock(2, 8, 12, Shared)));
    assert_eq!(get(9, 0, 40, Shared), Some(lock(3, 20, 30, Exclusive)));
    assert_eq!(get(9, 0, 19, Shared), None);
    assert_eq!(get(9, 0, 40, Unlock), None);
    assert_eq!(get(3, 20, 30, Exclusive), None);
}

#[test]
fn the_last_byte_of_all_is_a_byte_like_any_other() {
    let mut table = Table::new();
    table.set(1, 0, MAX, Exclusive);
    table.set(1, MAX, MAX, Shared);
    assert_eq!(table.held(), [lock(1, 0, MAX - 1, Exclusive), lock(1, MAX, MAX, Shared)]);
    assert_eq!(table.set(2, MAX, MAX, Shared), None);
    table.set(1, 0, 0, Unlock);
    assert_eq!(table.set(2, 0, 0, Exclusive), None);
    assert_eq!(table.set(1, MAX - 1, MAX, Unlock), None);
    assert_eq!(table.set(2, MAX - 1, MAX, Exclusive), None);
}

#[test]
fn a_range_without_bytes_locks_nothing() {
    let mut table = Table::new();
    table.set(1, 0, 9, Exclusive);
    assert_eq!(table.set(2, 5, 4, Exclusive), None);
    assert_eq!(table.set(1, 5, 4, Unlock), None);
    assert_eq!(table.held(), [lock(1, 0, 9, Exclusive)]);
}

#[test]
fn what_a_dead_owner_held_is_told() {
    let mut table = Table::new();
    table.set(1, 120, 120, Exclusive);
    table.set(1, 123, 124, Shared);
    table.set(2, 128, 128, Shared);
    assert!(table.0.is_locked_exclusively(range(120, 127)));
    assert!(!table.0.is_locked_exclusively(range(121, 130)));
    assert_eq!(table.0.holder_of(range(100, 200)), Some(lock(1, 120, 120, Exclusive)));
    assert_eq!(table.0.holder_of(range(124, 130)), Some(lock(1, 123, 124, Shared)));
    assert_eq!(table.0.holder_of(range(125, 127)), None);
    assert_eq!(
        table.0.unlock(1, range(124, 200)),
        [lock(1, 124, 124, Shared)],
        "only what was asked for"
    );
    assert_eq!(table.0.unlock_all(1), [lock(1, 120, 120, Exclusive), lock(1, 123, 123, Shared)]);
    assert_eq!(table.held(), [lock(2, 128, 128, Shared)]);
}

#[test]
fn an_exclusive_lock_is_the_holder_even_behind_a_shared_one() {
    let mut table = Table::new();
    table.set(1, 0, 0, Shared);
    table.set(2, 1, 1, Exclusive);
    assert_eq!(table.0.holder_of(range(0, 9)), Some(lock(2, 1, 1, Exclusive)));
}
