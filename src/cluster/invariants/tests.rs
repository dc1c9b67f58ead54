//! Each check sees a history that breaks it. That none of them cries wolf is shown by the state
//! machine's own tests.

use bytes::Bytes;

use super::*;
use crate::cluster::{Commit, Payload, Refusal};
use crate::core::{Boot, Checksum, DatabaseName, Incarnation, Position, TransactionId, Txid};

fn commit(sequence: u64, incarnation: Option<u64>, base: u64) -> Command {
    let position = |txid| match txid {
        0 => Position::EMPTY,
        _ => Position { txid: Txid(txid), checksum: Checksum(Checksum::FLAG) },
    };
    Command::Commit(Commit {
        id: TransactionId { node: NodeId(1), boot: Boot(1), sequence },
        database: DatabaseName::new("a.db").unwrap(),
        incarnation: incarnation.map(Incarnation),
        base: position(base),
        new: position(base + 1),
        page_size: 4096,
        pages: 1,
        payload: Payload::Inline(Bytes::new()),
    })
}

fn accepted(index: u64) -> Effect {
    Effect::Accepted { incarnation: Incarnation(1), index }
}

fn step<'a>(
    node: u64,
    index: u64,
    command: &'a Command,
    effect: Effect,
    after: &'a State,
) -> Step<'a> {
    Step { node: NodeId(node), entry: EntryId { term: 1, index }, command, effect, after }
}

#[test]
fn one_history_sees_another_order_and_a_gap() {
    let state = State::default();
    let (first, second, third) = (commit(1, None, 0), commit(2, Some(1), 1), commit(3, Some(1), 2));
    let mut check = OneHistory::default();
    check.observe(&step(1, 1, &first, accepted(1), &state)).unwrap();
    check.observe(&step(2, 1, &first, accepted(1), &state)).unwrap();
    check.observe(&step(2, 1, &second, accepted(1), &state)).unwrap_err();
    let refused = Effect::Refused(Refusal::Base);
    check.observe(&step(2, 1, &first, refused, &state)).unwrap_err();
    check.observe(&step(1, 2, &third, accepted(2), &state)).unwrap_err();
    check.observe(&step(1, 3, &second, accepted(3), &state)).unwrap();
}

#[test]
fn txid_monotonic_sees_a_step_back_and_a_change_without_an_entry() {
    let entry = |index| EntryId { term: 1, index };
    let mut one = State::default();
    let first = commit(1, None, 0);
    one.apply(entry(1), &first);
    let mut two = one.clone();
    let second = commit(2, Some(1), 1);
    two.apply(entry(2), &second);

    let mut check = TxidMonotonic::default();
    check.observe(&step(1, 1, &first, accepted(1), &one)).unwrap();
    check.observe(&step(1, 2, &second, accepted(2), &two)).unwrap();
    check.observe(&step(1, 1, &first, accepted(1), &one)).unwrap();
    check.observe(&step(1, 3, &second, accepted(3), &one)).unwrap_err();

    let mut check = TxidMonotonic::default();
    check.observe(&step(1, 2, &first, accepted(2), &one)).unwrap();
    check.observe(&step(1, 3, &second, accepted(3), &two)).unwrap_err();
}

#[test]
fn verdict_stable_sees_a_second_decision() {
    let state = State::default();
    let one = commit(1, None, 0);
    let forgotten = Effect::Refused(Refusal::Forgotten);
    let same = Effect::Duplicate(accepted(1).verdict());
    let mut check = VerdictStable::default();
    check.observe(&step(1, 1, &one, accepted(1), &state)).unwrap();
    check.observe(&step(2, 1, &one, accepted(1), &state)).unwrap();
    check.observe(&step(1, 2, &one, accepted(2), &state)).unwrap_err();
    check.observe(&step(1, 2, &one, Effect::Refused(Refusal::Base), &state)).unwrap_err();
    let other = Effect::Duplicate(accepted(2).verdict());
    check.observe(&step(1, 3, &one, other, &state)).unwrap_err();
    check.observe(&step(1, 3, &one, same, &state)).unwrap();
    check.observe(&step(1, 4, &one, forgotten, &state)).unwrap();
    check.observe(&step(1, 5, &one, same, &state)).unwrap_err();
}
