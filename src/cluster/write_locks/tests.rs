//! Each rule of the table by itself, by the schedule that asks for it.

use super::*;

const OPEN: Duration = Duration::from_secs(1);

fn db(number: usize) -> DatabaseName {
    DatabaseName::new(format!("{number}.db")).unwrap()
}

fn ms(ms: u64) -> Duration {
    OPEN + Duration::from_millis(ms)
}

fn ticket(number: u64) -> Ticket {
    Ticket { boot: Boot(1), number }
}

fn grant(node: u64, number: u64) -> Action {
    Action::Grant { database: db(0), node: NodeId(node), ticket: ticket(number) }
}

fn recall(node: u64, number: u64) -> Action {
    Action::Recall { database: db(0), node: NodeId(node), ticket: ticket(number) }
}

/// A table that grants, without a past.
fn open() -> WriteLocks {
    let mut locks = WriteLocks::new(2, BTreeSet::new(), OPEN);
    assert_eq!(locks.first_entry_applied(ms(0)), []);
    assert!(locks.is_open());
    locks
}

fn ask(locks: &mut WriteLocks, now: u64, node: u64, number: u64) -> Vec<Action> {
    locks.request(ms(now), &db(0), NodeId(node), ticket(number))
}

fn release(locks: &mut WriteLocks, now: u64, node: u64, number: u64) -> Vec<Action> {
    locks.release(ms(now), &db(0), NodeId(node), ticket(number))
}

#[test]
fn a_free_lock_is_granted_and_recalled_for_the_next_in_order() {
    let mut locks = open();
    assert_eq!(ask(&mut locks, 0, 1, 1), [grant(1, 1)]);
    assert_eq!(ask(&mut locks, 1, 2, 1), [recall(1, 1)], "it did not wait: no reservation");
    assert_eq!(ask(&mut locks, 2, 3, 1), [], "recalled once");
    assert_eq!(locks.holder(&db(0)), Some(NodeId(1)));
    assert_eq!(release(&mut locks, 3, 1, 1), [grant(2, 1)]);
    assert_eq!(ask(&mut locks, 4, 1, 2), []);
    assert_eq!(release(&mut locks, 5, 2, 1), [grant(3, 1)], "not the one that asked last");
    let status = locks.status();
    assert_eq!(status.databases[0].holder, Some(NodeId(3)));
    assert_eq!(status.databases[0].waiting, [NodeId(1)]);
}

/// Rule 15: ENGINE.md, "Lock liveness".
#[test]
fn a_node_that_waited_keeps_its_lock_for_the_reservation() {
    let mut locks = open();
    ask(&mut locks, 0, 1, 1);
    ask(&mut locks, 0, 2, 1);
    ask(&mut locks, 0, 3, 1);
    assert_eq!(release(&mut locks, 10, 1, 1), [grant(2, 1)]);
    assert_eq!(locks.next_tick(), Some(ms(260)));
    assert_eq!(locks.tick(ms(259)), []);
    assert_eq!(locks.tick(ms(260)), [recall(2, 1)]);
    assert_eq!((locks.tick(ms(300)), locks.next_tick()), (vec![], None), "once");
    assert_eq!(release(&mut locks, 301, 2, 1), [grant(3, 1)]);
    assert_eq!(release(&mut locks, 302, 3, 1), [], "it may release before");
    assert_eq!(locks.status().databases, [], "nothing is kept of an unused lock");
}

/// Rule 14.
#[test]
fn nothing_is_granted_before_all_were_heard_and_the_first_entry_was_applied() {
    let nodes = BTreeSet::from([NodeId(1), NodeId(2), NodeId(3)]);
    let mut locks = WriteLocks::new(2, nodes, ms(500));
    assert_eq!(locks.next_tick(), Some(ms(500)));
    assert_eq!(ask(&mut locks, 0, 1, 5), []);
    assert_eq!(locks.reclaim(ms(1), NodeId(1), &[]), Reclaimed::default());
    let held = [(db(0), ticket(4))];
    assert_eq!(locks.reclaim(ms(2), NodeId(2), &held), Reclaimed::default());
    assert_eq!(locks.first_entry_applied(ms(3)), []);
    assert_eq!(locks.node_lost(ms(4), NodeId(3)), [recall(2, 4)], "the last that was not heard");
    assert_eq!(release(&mut locks, 5, 2, 4), [grant(1, 5)]);
}

#[test]
fn those_that_say_nothing_lose_theirs_at_the_deadline() {
    let mut locks = WriteLocks::new(2, BTreeSet::from([NodeId(2)]), ms(500));
    locks.first_entry_applied(ms(0));
    ask(&mut locks, 0, 1, 1);
    assert_eq!(locks.tick(ms(499)), []);
    assert_eq!(locks.tick(ms(500)), [grant(1, 1)]);
    let late = locks.reclaim(ms(501), NodeId(2), &[(db(0), ticket(9)), (db(1), ticket(8))]);
    assert_eq!(late, Reclaimed { lost: vec![db(0), db(1)], actions: vec![] });
    assert_eq!(locks.holder(&db(1)), None);
}

#[test]
fn a_lock_that_two_nodes_claim_is_the_first_ones() {
    let mut locks = WriteLocks::new(2, BTreeSet::from([NodeId(1), NodeId(2)]), ms(500));
    let held = [(db(0), ticket(1))];
    assert_eq!(locks.reclaim(ms(0), NodeId(1), &held).lost, []);
    assert_eq!(locks.reclaim(ms(0), NodeId(1), &held).lost, [], "saying it again is harmless");
    assert_eq!(locks.reclaim(ms(0), NodeId(2), &held).lost, [db(0)]);
    assert_eq!(locks.holder(&db(0)), Some(NodeId(1)));
}

/// What a node holds counts, whatever late copy of its requests came before; unless it asked anew.
#[test]
fn a_claim_is_compared_with_what_its_node_asked_for() {
    let mut locks = WriteLocks::new(2, BTreeSet::from([NodeId(1), NodeId(2)]), ms(500));
    locks.first_entry_applied(ms(0));
    let held = [(db(0), ticket(5))];
    assert_eq!(ask(&mut locks, 0, 1, 4), []);
    assert_eq!(locks.reclaim(ms(0), NodeId(1), &held).lost, []);
    assert_eq!(ask(&mut locks, 0, 1, 5), [], "not said again before the hearing is over");
    assert_eq!(locks.holder(&db(0)), Some(NodeId(1)));
    assert_eq!(ask(&mut locks, 0, 1, 6), []);
    assert_eq!(locks.holder(&db(0)), None);
    assert_eq!(locks.reclaim(ms(0), NodeId(1), &held).lost, [db(0)], "a late copy of its claim");
    assert_eq!(locks.node_lost(ms(1), NodeId(2)), [grant(1, 6)]);
}

/// Rule 14: a node that started while this leader asked it in vain has asked, and been given, since.
#[test]
fn a_node_that_was_not_heard_keeps_what_it_was_given_since() {
    let mut locks = WriteLocks::new(2, BTreeSet::from([NodeId(1)]), OPEN);
    assert_eq!(locks.first_entry_applied(ms(0)), []);
    assert_eq!(locks.tick(ms(0)), [], "the hearing is over by time");
    assert_eq!(ask(&mut locks, 0, 1, 1), [grant(1, 1)]);
    assert_eq!(ask(&mut locks, 1, 2, 1), [recall(1, 1)]);
    assert_eq!(locks.not_heard(ms(2), NodeId(1)), []);
    assert_eq!(locks.holder(&db(0)), Some(NodeId(1)));
}

/// Rule 14: also when the holder dies after it proposed.
#[test]
fn nothing_is_granted_while_a_proposal_is_in_flight() {
    let mut locks = open();
    ask(&mut locks, 0, 1, 1);
    locks.proposal_started(&db(0));
    locks.proposal_started(&db(0));
    assert_eq!(ask(&mut locks, 1, 2, 1), [recall(1, 1)]);
    assert_eq!(locks.node_lost(ms(2), NodeId(1)), []);
    assert_eq!(locks.proposal_finished(ms(3), &db(0)), []);
    assert_eq!(locks.proposal_finished(ms(4), &db(0)), [grant(2, 1)]);
}

#[test]
fn stale_messages_change_nothing() {
    let mut locks = open();
    assert_eq!(ask(&mut locks, 0, 1, 5), [grant(1, 5)]);
    assert_eq!(ask(&mut locks, 0, 1, 4), [], "an older request");
    assert_eq!(release(&mut locks, 0, 1, 4), [], "an older release");
    assert_eq!(release(&mut locks, 0, 2, 5), [], "another node's");
    assert_eq!(locks.holder(&db(0)), Some(NodeId(1)));
    assert_eq!(ask(&mut locks, 0, 1, 5), [grant(1, 5)], "the answer was lost");

    assert_eq!(ask(&mut locks, 0, 2, 2), [recall(1, 5)]);
    assert_eq!(ask(&mut locks, 0, 2, 1), []);
    assert_eq!(ask(&mut locks, 1, 1, 6), [grant(2, 2)], "who asks anew gave up the old one");
    assert_eq!(locks.next_tick(), Some(ms(251)));
}

/// Rule 14: who asks anew has given up what an older ticket brings, also a grant that is on its way to
/// it; the lock is the next one's.
#[test]
fn a_grant_that_its_asker_has_overtaken_is_nobodys() {
    let mut locks = open();
    assert_eq!(ask(&mut locks, 0, 3, 1), [grant(3, 1)]);
    assert_eq!(ask(&mut locks, 0, 1, 1), [recall(3, 1)]);
    assert_eq!(release(&mut locks, 1, 3, 1), [grant(1, 1)]);
    assert_eq!(ask(&mut locks, 2, 3, 2), []);
    // The database was deleted and made anew there before the grant arrived.
    assert_eq!(ask(&mut locks, 3, 1, 2), [grant(3, 2)]);
    assert_eq!(locks.holder(&db(0)), Some(NodeId(3)));
    assert_eq!(release(&mut locks, 4, 1, 1), []);
    assert_eq!(locks.holder(&db(0)), Some(NodeId(3)));
}

/// A node that starts again counts from 1, with a higher boot.
#[test]
fn another_boot_is_later_than_any_number() {
    let mut locks = open();
    ask(&mut locks, 0, 1, 1000);
    let anew = Ticket { boot: Boot(2), number: 1 };
    let actions = locks.request(ms(1), &db(0), NodeId(1), anew);
    assert_eq!(actions, [Action::Grant { database: db(0), node: NodeId(1), ticket: anew }]);
}

#[test]
fn giving_up_leaves_the_queue() {
    let mut locks = open();
    ask(&mut locks, 0, 1, 1);
    ask(&mut locks, 0, 2, 1);
    ask(&mut locks, 0, 3, 1);
    assert_eq!(release(&mut locks, 1, 2, 1), []);
    assert_eq!(release(&mut locks, 2, 1, 1), [grant(3, 1)]);
}
