//! The rules one by one; then random logs, on two replicas and against the invariants.

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::cluster::invariants::{Invariant, OneHistory, Step, TxidMonotonic, VerdictStable};
use crate::cluster::{KEPT_VERDICTS, Payload};
use crate::core::{Boot, Checksum};

fn name(number: u8) -> DatabaseName {
    DatabaseName::new(format!("{number}.db")).unwrap()
}

fn id(node: u64, sequence: u64) -> TransactionId {
    TransactionId { node: NodeId(node), boot: Boot(1), sequence }
}

fn entry(index: u64) -> EntryId {
    EntryId { term: 1, index }
}

fn position(txid: u64, bytes: u64) -> Position {
    match txid {
        0 => Position::EMPTY,
        _ => Position { txid: Txid(txid), checksum: Checksum(Checksum::FLAG | bytes) },
    }
}

/// The transaction of database 0 that leads from `base` to the next position.
fn transaction(sequence: u64, incarnation: Option<u64>, base: u64) -> Commit {
    Commit {
        id: id(1, sequence),
        database: name(0),
        incarnation: incarnation.map(Incarnation),
        base: position(base, 7),
        new: position(base + 1, 7),
        page_size: 4096,
        pages: 3,
        payload: Payload::Inline(Bytes::new()),
    }
}

fn accepted(incarnation: u64, index: u64) -> Effect {
    Effect::Accepted { incarnation: Incarnation(incarnation), index }
}

/// A state in which database 0 was created by entry 5 and stands at TXID 1.
fn with_a_database() -> State {
    let mut state = State::default();
    let effect = state.apply(entry(5), &Command::Commit(transaction(1, None, 0)));
    assert_eq!(effect, accepted(5, 5));
    state
}

fn refused(mut state: State, commit: Commit) -> Refusal {
    let databases = state.databases.clone();
    let effect = state.apply(entry(6), &Command::Commit(commit));
    assert_eq!(state.databases, databases, "a refused transaction changes nothing");
    match effect {
        Effect::Refused(refusal) => refusal,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_database_is_created_grows_and_is_deleted() {
    let mut state = with_a_database();
    let effect = state.apply(entry(6), &Command::Commit(transaction(2, Some(5), 1)));
    assert_eq!(effect, accepted(5, 6));
    let database = state.database(&name(0)).unwrap();
    assert_eq!(database.position, position(2, 7));
    assert_eq!((database.pages, database.page_size, database.index), (3, 4096, 6));

    let delete = |sequence, incarnation| Command::Delete {
        id: id(1, sequence),
        database: name(0),
        incarnation: Incarnation(incarnation),
    };
    assert_eq!(state.apply(entry(7), &delete(3, 4)), Effect::Refused(Refusal::Incarnation));
    assert_eq!(state.apply(entry(8), &delete(4, 5)), accepted(5, 8));
    assert_eq!(state.database(&name(0)), None);
    assert_eq!(state.apply(entry(9), &delete(5, 5)), Effect::Refused(Refusal::Incarnation));

    let anew = Command::Commit(transaction(6, None, 0));
    assert_eq!(state.apply(entry(10), &anew), accepted(10, 10), "another life of the name");
    let late = Command::Commit(transaction(7, Some(5), 1));
    assert_eq!(state.apply(entry(11), &late), Effect::Refused(Refusal::Incarnation));
    assert_eq!(state.applied(), entry(11));
}

#[test]
fn a_transaction_made_on_anything_else_is_refused() {
    let made = |change: fn(&mut Commit)| {
        let mut commit = transaction(2, Some(5), 1);
        change(&mut commit);
        refused(with_a_database(), commit)
    };
    assert_eq!(made(|c| c.base = position(0, 0)), Refusal::Base);
    assert_eq!(made(|c| c.base = position(1, 8)), Refusal::Base, "same TXID, other bytes");
    assert_eq!(made(|c| c.base = position(2, 7)), Refusal::Base);
    assert_eq!(made(|c| c.incarnation = Some(Incarnation(4))), Refusal::Incarnation);
    assert_eq!(made(|c| c.incarnation = None), Refusal::Exists);
    assert_eq!(made(|c| c.page_size = 512), Refusal::PageSize);
    assert_eq!(made(|c| c.new = position(1, 9)), Refusal::Invalid, "the TXID stays");
    assert_eq!(made(|c| c.new = position(3, 9)), Refusal::Invalid, "the TXID jumps");
    assert_eq!(made(|c| c.pages = 0), Refusal::Invalid);

    let first = |change: fn(&mut Commit)| {
        let mut commit = transaction(2, None, 0);
        change(&mut commit);
        refused(State::default(), commit)
    };
    assert_eq!(first(|c| c.page_size = 256), Refusal::Invalid);
    assert_eq!(first(|c| c.page_size = 131_072), Refusal::Invalid);
    assert_eq!(first(|c| c.page_size = 4095), Refusal::Invalid);
    assert_eq!(first(|c| c.base = position(1, 7)), Refusal::Base);
    assert_eq!(first(|c| c.incarnation = Some(Incarnation(0))), Refusal::Incarnation);
}

#[test]
fn the_last_possible_txid_has_no_next() {
    let mut state = with_a_database();
    let last = position(u64::MAX, 7);
    state.databases.get_mut(&name(0)).unwrap().position = last;
    let mut commit = transaction(2, Some(5), 1);
    commit.base = last;
    commit.new = position(0, 7);
    assert_eq!(refused(state, commit), Refusal::Invalid);
}

/// Rule 5: same statement, same bytes, same positions, but another id: another transaction. And
/// the same id is the same transaction, whatever else it says.
#[test]
fn the_id_is_the_identity() {
    let mut state = with_a_database();
    let before = state.databases.clone();
    let verdict = Verdict::Accepted { incarnation: Incarnation(5), index: 5 };
    for again in [transaction(1, None, 0), transaction(1, Some(5), 1)] {
        let effect = state.apply(entry(6), &Command::Commit(again));
        assert_eq!(effect, Effect::Duplicate(verdict));
    }
    assert_eq!(state.databases, before);
    let other = Command::Commit(transaction(2, None, 0));
    assert_eq!(state.apply(entry(7), &other), Effect::Refused(Refusal::Exists));
    assert_eq!(
        state.apply(entry(8), &other),
        Effect::Duplicate(Verdict::Refused(Refusal::Exists)),
        "a refusal stands as well"
    );
}

/// Rule 6: what was given up cannot be accepted later; what was accepted cannot be given up.
#[test]
fn abandoning_settles_a_transaction() {
    let mut state = with_a_database();
    let abandon = |sequence| Command::Abandon { id: id(1, sequence) };
    let verdict = Verdict::Accepted { incarnation: Incarnation(5), index: 5 };
    assert_eq!(state.apply(entry(6), &abandon(1)), Effect::Duplicate(verdict));
    assert_eq!(state.verdict(id(1, 2)), None);
    assert_eq!(state.apply(entry(7), &abandon(2)), Effect::Refused(Refusal::Abandoned));
    let late = Command::Commit(transaction(2, Some(5), 1));
    let verdict = Verdict::Refused(Refusal::Abandoned);
    assert_eq!(state.apply(entry(8), &late), Effect::Duplicate(verdict));
    assert_eq!(state.verdict(id(1, 2)), Some(verdict));
    assert_eq!(state.database(&name(0)).unwrap().position, position(1, 7));
}

#[test]
fn a_forgotten_transaction_is_not_applied_again() {
    let mut state = with_a_database();
    let mut index = 5;
    for sequence in 2..=KEPT_VERDICTS as u64 + 1 {
        index += 1;
        state.apply(entry(index), &Command::Abandon { id: id(1, sequence) });
    }
    let delete = Command::Delete { id: id(2, 1), database: name(0), incarnation: Incarnation(5) };
    state.apply(entry(index + 1), &delete);
    let creation = Command::Commit(transaction(1, None, 0));
    for _ in 0..2 {
        let effect = state.apply(entry(index + 2), &creation);
        assert_eq!(effect, Effect::Refused(Refusal::Forgotten));
        assert_eq!(state.database(&name(0)), None);
    }
    assert!(state.verdict(id(2, 1)).is_some(), "other nodes' verdicts are not pushed out");
}

/// A command that often fits the state: what is random is mostly whether it does.
#[derive(Debug, Clone)]
struct Draft {
    node: u64,
    sequence: u64,
    database: u8,
    kind: u8,
    /// In how far it is what would be accepted.
    fits: bool,
    txid: u64,
    bytes: u64,
}

fn draft() -> impl Strategy<Value = Draft> {
    (1..4_u64, 0..40_u64, 0..2_u8, 0..10_u8, prop::bool::weighted(0.8), 0..5_u64, 0..2_u64)
        .prop_map(|(node, sequence, database, kind, fits, txid, bytes)| Draft {
            node,
            sequence,
            database,
            kind,
            fits,
            txid,
            bytes,
        })
}

impl Draft {
    fn command(&self, state: &State) -> Command {
        let id = id(self.node, self.sequence);
        let database = name(self.database);
        let present = state.database(&database);
        let incarnation = present.map(|d| d.incarnation);
        let base = match present {
            Some(database) if self.fits => database.position,
            _ if self.fits => Position::EMPTY,
            _ => position(self.txid, self.bytes),
        };
        match self.kind {
            0 => Command::Abandon { id },
            1 => Command::Delete {
                id,
                database,
                incarnation: incarnation.unwrap_or(Incarnation(self.txid)),
            },
            _ => Command::Commit(Commit {
                id,
                database,
                incarnation: if self.kind == 2 { None } else { incarnation },
                base,
                new: position(base.txid.0 + 1 + u64::from(self.kind == 3), self.bytes),
                page_size: if self.kind == 4 { 512 } else { 1024 },
                pages: u32::from(self.kind),
                payload: Payload::Inline(Bytes::new()),
            }),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// Two replicas apply the same log, one of them carried through its encoding at every entry.
    #[test]
    fn replicas_agree_and_the_invariants_hold(drafts in prop::collection::vec(draft(), 1..150)) {
        let (mut one, mut other) = (State::default(), State::default());
        let mut history = OneHistory::default();
        let mut txids = TxidMonotonic::default();
        let mut verdicts = VerdictStable::default();
        for (index, draft) in (1..).zip(&drafts) {
            let command = draft.command(&one);
            for (node, state) in [(1, &mut one), (2, &mut other)] {
                let effect = state.apply(entry(index), &command);
                let step = Step {
                    node: NodeId(node),
                    entry: entry(index),
                    command: &command,
                    effect,
                    after: state,
                };
                history.observe(&step)?;
                txids.observe(&step)?;
                verdicts.observe(&step)?;
                prop_assert_eq!(state.verdict(command.id()), Some(effect.verdict()));
            }
            other = State::decode(&other.encode())?;
            prop_assert_eq!(&one, &other);
        }
    }
}
