//! The protocol as it is: nothing that is forbidden is reachable, within these bounds.
//!
//! Searched exhaustively: no-lost-ack, one-history, invisible-until-committed, one-primary, and
//! Rule 1, Rule 5, Rule 6, Rule 14, Rule 15 and Rule 20. Each search leaves other faults room; all of
//! them at once would be too many worlds. Those marked `ignore` take minutes: `make torture`.

use model::properties::{
    A_WRITE_SUCCEEDS, CHANGED_IN_FLIGHT, COMMITTED_BY_THE_NEXT, DOOMED, LOST_WITH_ITS_LEADER,
};
use model::search::search;
use model::world::{Bounds, Left, NOTHING};

const ELECTED: [&str; 3] = [CHANGED_IN_FLIGHT, COMMITTED_BY_THE_NEXT, LOST_WITH_ITS_LEADER];

/// Three nodes, two of them with an application.
fn three(left: Left) -> Bounds {
    Bounds { nodes: 3, writers: 2, tickets: 2, pumps_at_once: false, left }
}

/// Searches all of it, prints how much that was, and wants these to be reachable: a search that does
/// not see them is of nothing.
fn holds(name: &str, bounds: Bounds, reachable: &[&str]) {
    let found = search(bounds, None, None);
    println!("MODEL {name}: {found}");
    assert!(found.failed.is_empty(), "{name}: {found}");
    for property in reachable {
        assert!(found.seen.contains(property), "{name}: never seen: {property}");
    }
}

#[test]
fn two_writers_and_one_leader() {
    let left = Left { transactions: 2, ..NOTHING };
    holds("at rest", three(left), &[A_WRITE_SUCCEEDS]);
    holds("nodes lost", three(Left { lost: 1, ..left }), &[A_WRITE_SUCCEEDS, DOOMED]);
    holds("retreats", three(Left { retreats: 1, ..left }), &[A_WRITE_SUCCEEDS]);
    holds("applications killed", three(Left { deaths: 1, ..left }), &[A_WRITE_SUCCEEDS]);
    holds("repeats", three(Left { repeats: 1, ..left }), &[A_WRITE_SUCCEEDS]);
}

#[test]
fn two_nodes_and_a_leader_change() {
    let two = |left| Bounds { nodes: 2, ..three(left) };
    let left = Left { transactions: 1, elections: 1, ..NOTHING };
    let more = Left { transactions: 2, ..left };
    holds("two transactions", two(more), &[A_WRITE_SUCCEEDS]);
    holds("a node lost", two(Left { lost: 1, ..left }), &[DOOMED]);
    holds("repeats", two(Left { repeats: 1, ..left }), &ELECTED);
    holds("a crash", two(Left { crashes: 1, ..left }), &ELECTED);
    let left = Left { retreats: 1, deaths: 1, ..left };
    holds("retreats and deaths", two(left), &ELECTED);
}

#[test]
fn three_nodes_and_a_leader_change() {
    let left = Left { transactions: 1, elections: 1, ..NOTHING };
    let quick = |left| Bounds { pumps_at_once: true, ..three(left) };
    holds("one transaction", quick(left), &ELECTED);
    let one = |left| Bounds { writers: 1, ..quick(left) };
    holds("a time-out", one(Left { timeouts: 1, ..left }), &[A_WRITE_SUCCEEDS, DOOMED]);
    holds("a crash", one(Left { crashes: 1, ..left }), &[A_WRITE_SUCCEEDS]);
}

#[test]
#[ignore = "minutes"]
fn two_writers_and_one_leader_long() {
    let left = Left { transactions: 2, ..NOTHING };
    holds("three transactions, a node lost", three(Left { transactions: 3, lost: 1, ..left }), &[]);
    holds("a time-out", three(Left { timeouts: 1, ..left }), &[A_WRITE_SUCCEEDS, DOOMED]);
    let left = Left { lost: 1, retreats: 1, deaths: 1, ..left };
    holds("a node lost, retreats and deaths", three(left), &[A_WRITE_SUCCEEDS, DOOMED]);
}

#[test]
#[ignore = "minutes"]
fn two_leader_changes_long() {
    let two = |left| Bounds { nodes: 2, pumps_at_once: true, ..three(left) };
    let left = Left { transactions: 2, elections: 2, ..NOTHING };
    holds("two nodes, two transactions", two(left), &[A_WRITE_SUCCEEDS]);
    let left = Left { transactions: 1, crashes: 1, ..left };
    holds("two nodes, a crash", two(left), &ELECTED);
}

#[test]
#[ignore = "minutes"]
fn three_nodes_and_a_leader_change_long() {
    let left = Left { transactions: 1, elections: 1, ..NOTHING };
    holds("one transaction", three(left), &ELECTED);
    let quick = |left| Bounds { pumps_at_once: true, ..three(left) };
    holds("repeats", quick(Left { repeats: 1, ..left }), &ELECTED);
    holds("a node lost", quick(Left { lost: 1, ..left }), &ELECTED);
    holds("an application killed", quick(Left { deaths: 1, ..left }), &ELECTED);
}
