//! The table against a model that keeps, for every byte and owner, what is held.
//!
//! Bytes are few: eight at the beginning, eight at the end of all that can be addressed, and all
//! between as if it were one.

use proptest::prelude::*;

use super::*;
use LockKind::{Exclusive, Shared, Unlock};

const CELLS: usize = 17;
const OWNERS: usize = 4;
const EDGE: u64 = 8;

/// The first and last byte of a cell.
fn bytes(cell: usize) -> ByteRange {
    let at = cell as u64;
    match at {
        0..EDGE => ByteRange { start: at, end: at },
        EDGE => ByteRange { start: EDGE, end: u64::MAX - EDGE },
        _ => {
            let byte = u64::MAX - (CELLS as u64 - 1 - at);
            ByteRange { start: byte, end: byte }
        }
    }
}

fn bytes_of(first: usize, last: usize) -> ByteRange {
    ByteRange { start: bytes(first).start, end: bytes(last).end }
}

fn pid(owner: usize) -> u32 {
    1000 + owner as u32
}

#[derive(Default)]
struct Model([[Option<LockKind>; CELLS]; OWNERS]);

impl Model {
    /// The locks of all owners: the longest runs of one kind, in the table's order.
    fn locks(&self) -> Vec<Lock<usize>> {
        let mut locks = Vec::new();
        for (owner, cells) in self.0.iter().enumerate() {
            let mut cell = 0;
            for run in cells.chunk_by(|a, b| a == b) {
                if let Some(kind) = run[0] {
                    let range = bytes_of(cell, cell + run.len() - 1);
                    locks.push(Lock { owner, pid: pid(owner), range, kind });
                }
                cell += run.len();
            }
        }
        locks.sort_by_key(|lock| (lock.range.start, lock.owner));
        locks
    }

    fn get_lock(
        &self,
        owner: usize,
        first: usize,
        last: usize,
        kind: LockKind,
    ) -> Option<Lock<usize>> {
        let refuses = |other: usize, cell: usize| match (self.0[other][cell], kind) {
            (None, _) | (_, Unlock) => false,
            (Some(held), kind) => held == Exclusive || kind == Exclusive,
        };
        self.locks().into_iter().find(|lock| {
            lock.owner != owner
                && (first..=last).any(|cell| {
                    let range = bytes(cell);
                    let inside = lock.range.start <= range.start && range.end <= lock.range.end;
                    inside && refuses(lock.owner, cell)
                })
        })
    }

    fn set(&mut self, owner: usize, first: usize, last: usize, kind: LockKind) {
        self.0[owner][first..=last].fill(Some(kind).filter(|kind| *kind != Unlock));
    }
}

#[derive(Debug, Clone)]
enum Step {
    Set(usize, usize, usize, LockKind),
    Get(usize, usize, usize, LockKind),
    UnlockAll(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let request =
        (0..OWNERS, 0..CELLS, 0..CELLS, prop::sample::select(vec![Shared, Exclusive, Unlock]))
            .prop_map(|(owner, a, b, kind)| (owner, a.min(b), a.max(b), kind));
    let short = (
        0..OWNERS,
        0..CELLS - 2,
        0..2_usize,
        prop::sample::select(vec![Shared, Exclusive, Unlock]),
    )
        .prop_map(|(owner, first, more, kind)| (owner, first, first + more, kind));
    prop_oneof![
        3 => request.clone().prop_map(|(o, a, b, k)| Step::Set(o, a, b, k)),
        6 => short.prop_map(|(o, a, b, k)| Step::Set(o, a, b, k)),
        3 => request.prop_map(|(o, a, b, k)| Step::Get(o, a, b, k)),
        1 => (0..OWNERS).prop_map(Step::UnlockAll),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn the_table_is_what_every_byte_says(steps in prop::collection::vec(step(), 1..200)) {
        let mut model = Model::default();
        let mut table = LockTable::new();
        for step in steps {
            match step {
                Step::Set(owner, first, last, kind) => {
                    let conflict = model.get_lock(owner, first, last, kind);
                    let answer = table.try_lock(owner, pid(owner), bytes_of(first, last), kind);
                    prop_assert_eq!(answer.err().map(|conflict| conflict.with), conflict);
                    if conflict.is_none() {
                        model.set(owner, first, last, kind);
                    }
                }
                Step::Get(owner, first, last, kind) => {
                    let range = bytes_of(first, last);
                    let conflict = model.get_lock(owner, first, last, kind);
                    prop_assert_eq!(table.get_lock(owner, range, kind), conflict);
                    // To an owner that holds nothing, what refuses a shared lock is exclusive.
                    let exclusive = model.get_lock(OWNERS, first, last, Shared);
                    prop_assert_eq!(table.is_locked_exclusively(range), exclusive.is_some());
                    let any = model.get_lock(OWNERS, first, last, Exclusive);
                    prop_assert_eq!(table.holder_of(range), exclusive.or(any));
                }
                Step::UnlockAll(owner) => {
                    let held: Vec<_> =
                        model.locks().into_iter().filter(|lock| lock.owner == owner).collect();
                    prop_assert_eq!(table.unlock_all(owner), held);
                    model.set(owner, 0, CELLS - 1, Unlock);
                }
            }
            prop_assert_eq!(table.locks().copied().collect::<Vec<_>>(), model.locks());
        }
    }
}
