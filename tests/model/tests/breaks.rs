//! The protocol broken in one place, and the property that notices: each property can fail. The
//! schedules are those that shaped the rules.
//!
//! no-lost-ack, one-history, invisible-until-committed, one-primary; Rule 1, Rule 5, Rule 6,
//! Rule 14, Rule 15, Rule 20.

use model::breaks::Break;
use model::properties::{
    FENCED, INVISIBLE, NO_LOST_ACK, NO_LOST_UPDATE, ONE_HISTORY, RULE_1, RULE_5, RULE_6,
    RULE_14_FIRST, RULE_14_FLIGHT, RULE_14_ONCE, RULE_15_RECALL, RULE_15_TURN, RULE_20,
};
use model::search::search;
use model::world::{Bounds, Left, NOTHING};

/// Wants this property to fail within these bounds, and shows the shortest way there.
fn noticed(broken: Break, property: &'static str, left: Left) {
    noticed_among(3, broken, property, left);
}

fn noticed_among(nodes: usize, broken: Break, property: &'static str, left: Left) {
    let bounds = Bounds { nodes, writers: 2, tickets: 2, pumps_at_once: true, left };
    let found = search(bounds, Some(broken), Some(property));
    let way = found.failed.get(property);
    assert!(way.is_some(), "{broken:?}: {property} was not seen to fail: {found}");
    println!(
        "MODEL {broken:?} breaks \"{property}\" in {} steps; {} states, {:.1} s\n  {}",
        way.map_or(0, Vec::len),
        found.states,
        found.seconds,
        way.map_or(String::new(), |way| way.join("\n  "))
    );
}

/// "Applying beneath a holder": a silent lost update.
#[test]
fn applying_beneath_a_holder_loses_an_update() {
    let left = Left { transactions: 2, lost: 1, ..NOTHING };
    noticed(Break::AppliesBeneathAHold, NO_LOST_UPDATE, left);
    noticed(Break::AppliesBeneathAHold, RULE_1, left);
}

#[test]
fn a_hold_that_is_not_doomed_is_noticed() {
    noticed(Break::DoesNotDoom, RULE_1, Left { transactions: 2, lost: 1, ..NOTHING });
}

#[test]
fn a_commit_frame_before_its_verdict_is_seen() {
    let left = Left { transactions: 1, ..NOTHING };
    noticed(Break::VisibleBeforeCommitted, INVISIBLE, left);
}

/// "Position taken for identity": two answers, one increment.
#[test]
fn a_position_taken_for_identity_gives_two_answers() {
    let left = Left { transactions: 2, lost: 1, ..NOTHING };
    noticed(Break::TakesPositionForIdentity, RULE_5, left);
    noticed(Break::TakesPositionForIdentity, NO_LOST_ACK, left);
}

#[test]
fn a_transaction_on_another_base_loses_an_update() {
    let left = Left { transactions: 2, lost: 1, ..NOTHING };
    noticed(Break::JudgesByAnyBase, NO_LOST_UPDATE, left);
    noticed(Break::JudgesByAnyBase, ONE_HISTORY, left);
}

/// "Answered too early": the leader that paused appends it all the same.
#[test]
fn an_answer_that_is_not_from_the_log_is_wrong_later() {
    let left = Left { transactions: 1, elections: 1, ..NOTHING };
    noticed(Break::AnswersTooEarly, RULE_6, left);
}

#[test]
fn what_only_a_leader_heard_is_lost() {
    let left = Left { transactions: 1, elections: 1, ..NOTHING };
    noticed(Break::AnswersWhenHeard, NO_LOST_ACK, left);
}

#[test]
fn a_proposal_of_another_term_is_noticed() {
    let left = Left { transactions: 1, elections: 2, ..NOTHING };
    noticed_among(2, Break::NotFenced, FENCED, left);
}

#[test]
fn a_lock_granted_before_all_is_applied_is_noticed() {
    let left = Left { transactions: 1, elections: 1, ..NOTHING };
    noticed(Break::GrantsBeforeFirstEntry, RULE_14_FIRST, left);
}

#[test]
fn a_lock_granted_with_a_proposal_in_flight_is_noticed() {
    let left = Left { transactions: 1, lost: 1, ..NOTHING };
    noticed(Break::ForgetsProposals, RULE_14_FLIGHT, left);
    let left = Left { transactions: 1, elections: 1, ..NOTHING };
    noticed(Break::ForgetsEarlyProposals, RULE_14_FLIGHT, left);
}

#[test]
fn a_leader_that_asks_nobody_makes_two_holders() {
    let left = Left { transactions: 1, ..NOTHING };
    noticed(Break::LeaderAsksNobody, RULE_14_ONCE, left);
}

#[test]
fn a_leader_that_goes_first_is_noticed() {
    let left = Left { transactions: 2, elections: 1, ..NOTHING };
    noticed(Break::LeaderGoesFirst, RULE_15_TURN, left);
}

#[test]
fn waiters_that_beat_a_recall_are_noticed() {
    let left = Left { transactions: 2, ..NOTHING };
    noticed(Break::WaitersBeatARecall, RULE_15_RECALL, left);
}

#[test]
fn a_second_transaction_in_one_hold_is_noticed() {
    let left = Left { transactions: 2, ..NOTHING };
    noticed(Break::TwoTransactionsAHold, RULE_20, left);
}

/// What it had not flushed it has lost; others may have committed it.
#[test]
fn a_leader_that_leads_on_after_a_crash_makes_two_histories() {
    let left = Left { transactions: 2, crashes: 1, ..NOTHING };
    noticed(Break::LeadsOnAfterACrash, ONE_HISTORY, left);
}

#[test]
fn an_acknowledgement_before_the_flush_loses_a_transaction() {
    let left = Left { transactions: 1, elections: 1, crashes: 1, ..NOTHING };
    noticed(Break::AcknowledgesUnflushed, NO_LOST_ACK, left);
}
