use proptest::prelude::*;

use super::*;
use LockKind::{Exclusive, Shared, Unlock};

const LATER: Duration = Duration::from_secs(1);

fn range(start: u64, end: u64) -> ByteRange {
    ByteRange { start, end }
}

fn set(table: &mut LockTable<u8>, owner: u8, at: u64, kind: LockKind) {
    table.try_lock(owner, 1, range(at, at), kind).unwrap();
}

fn wait(table: &mut LockTable<u8>, id: u64, owner: u8, at: u64, kind: LockKind) -> Vec<u64> {
    table.enqueue(WaiterId(id), owner, 1, range(at, at), kind, LATER);
    grant(table)
}

fn grant(table: &mut LockTable<u8>) -> Vec<u64> {
    table.grant_waiters().into_iter().map(|id| id.0).collect()
}

#[test]
fn what_is_free_is_granted_at_once() {
    let mut table = LockTable::new();
    assert_eq!(wait(&mut table, 1, 1, 5, Exclusive), [1]);
    assert!(table.is_locked_exclusively(range(5, 5)));
    assert_eq!(wait(&mut table, 2, 2, 6, Exclusive), [2], "another byte");
    assert_eq!(wait(&mut table, 3, 1, 5, Shared), [3], "its own");
    assert_eq!(table.next_deadline(), None);
}

#[test]
fn new_readers_do_not_pass_a_waiting_writer() {
    let mut table = LockTable::new();
    set(&mut table, 1, 0, Shared);
    assert!(wait(&mut table, 10, 2, 0, Exclusive).is_empty());
    assert!(wait(&mut table, 11, 3, 0, Shared).is_empty());
    assert!(wait(&mut table, 12, 4, 0, Shared).is_empty());
    assert_eq!(wait(&mut table, 13, 5, 1, Shared), [13], "elsewhere nobody is in its way");
    table.unlock_all(1);
    assert_eq!(grant(&mut table), [10]);
    assert!(grant(&mut table).is_empty());
    table.unlock_all(2);
    assert_eq!(grant(&mut table), [11, 12], "readers together");
}

/// Else both would wait for the deadline: the writer for the reader, the reader behind the writer.
#[test]
fn nobody_waits_behind_one_who_waits_for_him() {
    let mut table = LockTable::new();
    set(&mut table, 1, 0, Shared);
    table.enqueue(WaiterId(10), 2, 1, range(0, 9), Exclusive, LATER);
    assert_eq!(wait(&mut table, 11, 1, 5, Exclusive), [11]);
    assert!(wait(&mut table, 12, 3, 5, Shared).is_empty());
    table.unlock_all(1);
    assert_eq!(grant(&mut table), [10]);
}

#[test]
fn a_downgrade_by_a_waiter_lets_an_earlier_one_in() {
    let mut table = LockTable::new();
    set(&mut table, 1, 0, Exclusive);
    assert!(wait(&mut table, 10, 2, 0, Shared).is_empty());
    assert_eq!(wait(&mut table, 11, 1, 0, Shared), [11, 10]);
}

#[test]
fn deadlines_end_the_waiting_and_a_deadlock_with_it() {
    let mut table = LockTable::new();
    set(&mut table, 1, 0, Exclusive);
    set(&mut table, 2, 1, Exclusive);
    let ms = Duration::from_millis;
    table.enqueue(WaiterId(10), 1, 1, range(1, 1), Exclusive, ms(50));
    table.enqueue(WaiterId(11), 2, 1, range(0, 0), Exclusive, ms(60));
    assert!(grant(&mut table).is_empty());
    assert_eq!(table.next_deadline(), Some(ms(50)));
    assert!(table.expire(ms(49)).is_empty());
    assert_eq!(table.expire(ms(50)), [WaiterId(10)]);
    assert!(grant(&mut table).is_empty());
    table.unlock_all(1);
    assert_eq!(grant(&mut table), [11]);
    assert_eq!(table.next_deadline(), None);
}

#[test]
fn one_who_gives_up_is_not_waited_for() {
    let mut table = LockTable::new();
    set(&mut table, 1, 0, Shared);
    wait(&mut table, 10, 2, 0, Exclusive);
    wait(&mut table, 11, 3, 0, Shared);
    assert!(table.cancel(WaiterId(10)));
    assert!(!table.cancel(WaiterId(10)));
    assert_eq!(grant(&mut table), [11]);
}

#[derive(Debug, Clone)]
enum Step {
    Wait(u8, u64, u64, LockKind),
    Unlock(u8, u64, u64),
    UnlockAll(u8),
    Expire,
}

fn step() -> impl Strategy<Value = Step> {
    let kind = prop::sample::select(vec![Shared, Exclusive]);
    prop_oneof![
        5 => (0..5_u8, 0..5_u64, 0..3_u64, kind).prop_map(|(o, a, n, k)| Step::Wait(o, a, a + n, k)),
        3 => (0..5_u8, 0..5_u64, 0..3_u64).prop_map(|(o, a, n)| Step::Unlock(o, a, a + n)),
        1 => (0..5_u8).prop_map(Step::UnlockAll),
        1 => Just(Step::Expire),
    ]
}

/// A waiter, as the model keeps it.
#[derive(Debug, Clone, Copy)]
struct Waiting {
    id: u64,
    owner: u8,
    range: ByteRange,
    kind: LockKind,
}

impl Waiting {
    fn excludes(&self, owner: u8, range: ByteRange, kind: LockKind) -> bool {
        let crosses = (range.start..=range.end)
            .any(|byte| (self.range.start..=self.range.end).contains(&byte));
        self.owner != owner && crosses && (self.kind == Exclusive || kind == Exclusive)
    }

    fn deadline(&self) -> Duration {
        Duration::from_millis(self.id + (self.id % 7) * 10)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// The queue by what it promises, said in another way than the code says it: who waits is kept
    /// out by a lock or by an earlier one; who was granted passed no earlier one that it excludes,
    /// but for those that waited for him; and in the end all are served.
    #[test]
    fn who_waits_has_a_reason_and_all_are_served(steps in prop::collection::vec(step(), 1..120)) {
        let mut table: LockTable<u8> = LockTable::new();
        // In the order in which they came.
        let mut waiting: Vec<Waiting> = Vec::new();
        for (id, step) in (0..).zip(steps) {
            match step {
                Step::Wait(owner, start, end, kind) => {
                    let waiter = Waiting { id, owner, range: range(start, end), kind };
                    let deadline = waiter.deadline();
                    table.enqueue(WaiterId(id), owner, 1, waiter.range, kind, deadline);
                    waiting.push(waiter);
                }
                Step::Unlock(owner, start, end) => {
                    table.try_lock(owner, 1, range(start, end), Unlock)?;
                }
                Step::UnlockAll(owner) => drop(table.unlock_all(owner)),
                Step::Expire => {
                    let now = Duration::from_millis(id);
                    let expired = table.expire(now);
                    let due = waiting.extract_if(.., |waiter| waiter.deadline() <= now);
                    prop_assert_eq!(expired, due.map(|w| WaiterId(w.id)).collect::<Vec<_>>());
                }
            }
            let before: Vec<_> = table.locks().copied().collect();
            let granted = grant(&mut table);
            let (served, left): (Vec<_>, Vec<_>) =
                waiting.iter().copied().partition(|waiter| granted.contains(&waiter.id));
            prop_assert_eq!(served.len(), granted.len(), "granted without waiting");
            waiting = left;
            for one in &served {
                for passed in waiting.iter().filter(|waiter| waiter.id < one.id) {
                    if !passed.excludes(one.owner, one.range, one.kind) {
                        continue;
                    }
                    let waited_for_him = before
                        .iter()
                        .map(|lock| (lock.owner, lock.range, lock.kind))
                        .chain(served.iter().filter(|w| w.id != one.id).map(|w| (w.owner, w.range, w.kind)))
                        .any(|(o, r, k)| o == one.owner && passed.excludes(o, r, k));
                    prop_assert!(waited_for_him, "{:?} passed {:?}", one, passed);
                }
            }
            for (at, one) in waiting.iter().enumerate() {
                let by_a_lock = table.get_lock(one.owner, one.range, one.kind).is_some();
                let by_an_earlier =
                    waiting[..at].iter().any(|w| w.excludes(one.owner, one.range, one.kind));
                prop_assert!(by_a_lock || by_an_earlier, "{:?} waits for nobody", one);
            }
            for lock in table.locks() {
                let refusal = table.get_lock(lock.owner, lock.range, lock.kind);
                prop_assert_eq!(refusal, None, "{:?} should not have been granted", lock);
            }
        }
        for _ in 0..waiting.len() {
            for owner in 0..5 {
                table.unlock_all(owner);
            }
            table.grant_waiters();
        }
        prop_assert_eq!(table.next_deadline(), None, "somebody was never served");
    }
}
