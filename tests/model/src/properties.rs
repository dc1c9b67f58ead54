//! What must never be seen, whatever happened; and what must be seen, so that the search is not of
//! nothing.

use std::collections::BTreeSet;

use stateright::Property;

use crate::actions::Cluster;
use crate::cluster::{Command, Verdict};
use crate::core::{Position, TransactionId};
use crate::world::{ClusterLock, Entry, NAME, Phase, Told, World, Wrong, counter};

/// What a log says, judged once more by simple means that share no code with `cluster`: which
/// transactions are the database's, and where each led to.
pub fn history(log: &[Entry]) -> Vec<(TransactionId, Position)> {
    let mut judged = BTreeSet::new();
    let mut history: Vec<(TransactionId, Position)> = Vec::new();
    for command in log.iter().filter_map(|entry| entry.command.as_deref()) {
        if !judged.insert(command.id()) {
            continue;
        }
        let at = history.last().map_or(Position::EMPTY, |(_, at)| *at);
        if let Command::Commit(commit) = command
            && commit.base == at
        {
            history.push((commit.id, commit.new));
        }
    }
    history
}

impl World {
    fn committed(&self) -> &[Entry] {
        &self.agreed
    }

    fn told(&self, what: Told) -> impl Iterator<Item = TransactionId> {
        self.told.iter().filter(move |(_, told)| **told == what).map(|(id, _)| *id)
    }

    fn is_committed(&self, id: TransactionId) -> bool {
        history(self.committed()).iter().any(|(other, _)| *other == id)
    }

    fn did(&self, wrong: Wrong) -> bool {
        self.wrong.contains(&wrong)
    }
}

fn no_lost_ack(world: &World) -> bool {
    let leaders = world.nodes.iter().enumerate().filter(|(at, node)| node.leads(*at));
    let newest = leaders.max_by_key(|(_, node)| node.raft.term).map(|(_, node)| &node.raft.log);
    let on_newest = newest.map(|log| history(log));
    world.told(Told::Committed).all(|id| {
        world.is_committed(id)
            && on_newest.as_ref().is_none_or(|history| history.iter().any(|(one, _)| *one == id))
    })
}

/// Logs agree where they are committed, states with logs, and files with states.
fn one_history(world: &World) -> bool {
    let committed = world.committed();
    world.nodes.iter().all(|node| {
        let raft = &node.raft;
        let Some(log) = raft.log.get(..raft.committed) else { return false };
        let Some(applied) = raft.log.get(..node.applied()) else { return false };
        let says = history(applied).last().map_or(Position::EMPTY, |(_, at)| *at);
        let state = node.machine.database(&NAME).map(|database| database.position);
        committed.starts_with(log)
            && state == Some(says)
            && (!node.database.queue.is_empty() || node.database.head == says)
    })
}

/// Each transaction that was taken has added one: none was made on what another had changed.
fn no_lost_update(world: &World) -> bool {
    world.nodes.iter().all(|node| {
        let taken =
            node.raft.log.get(..node.applied()).map(|log| {
                let mut ids = BTreeSet::new();
                let judged = log.iter().filter_map(|entry| entry.command.as_deref());
                ids.extend(judged.map(Command::id).filter(|id| {
                    matches!(node.machine.verdict(*id), Some(Verdict::Accepted { .. }))
                }));
                ids.len() as u64
            });
        // The first created the database.
        let at = node.machine.database(&NAME).map(|database| counter(database.position) + 1);
        at == taken
    })
}

fn invisible_until_committed(world: &World) -> bool {
    let history = history(world.committed());
    world.nodes.iter().all(|node| history.iter().any(|(_, at)| *at == node.database.shown))
}

fn one_increment_one_answer(world: &World) -> bool {
    let increments = world.told(Told::Committed).count();
    history(world.committed()).len() > increments
}

fn a_refusal_is_final(world: &World) -> bool {
    world.told(Told::Refused).all(|id| !world.is_committed(id))
}

fn fenced(world: &World) -> bool {
    world.nodes.iter().all(|node| node.raft.log.iter().all(|entry| entry.term == entry.meant_for))
}

fn nothing_changes_beneath_a_hold(world: &World) -> bool {
    let clean = world.nodes.iter().all(|node| {
        let database = &node.database;
        database.hold.is_none_or(|hold| {
            hold.phase != Phase::Open || (database.queue.is_empty() && database.head == hold.base)
        })
    });
    clean && !world.did(Wrong::AppliedBeneathAHold) && !world.did(Wrong::AppliedOnAnotherBase)
}

/// Of those whose lock a leader granted or confirmed, one at most believes that it has the lock of
/// its term. Not counted: who was taken for lost, or claimed what it held from an earlier leader and
/// did not get it. They believe in their lock until the log brings another's transaction; what they
/// propose is judged by its base.
fn granted_once(world: &World) -> bool {
    let mut terms = BTreeSet::new();
    world.nodes.iter().enumerate().all(|(at, node)| match node.database.cluster {
        ClusterLock::Held(held) => {
            let lost = world.lost.get(&(held.term, at));
            lost.is_some_and(|lost| *lost >= held.ticket) || terms.insert(held.term)
        }
        _ => true,
    })
}

fn granted_when_all_is_applied(world: &World) -> bool {
    !world.did(Wrong::GrantedBeforeFirstEntry)
}

fn granted_with_nothing_in_flight(world: &World) -> bool {
    !world.did(Wrong::GrantedWithAProposalInFlight)
}

fn in_turn(world: &World) -> bool {
    !world.did(Wrong::GrantedOutOfTurn)
}

fn a_recall_beats_waiters(world: &World) -> bool {
    !world.did(Wrong::UsedARecalledLock)
}

fn one_transaction_a_hold(world: &World) -> bool {
    !world.did(Wrong::TwoTransactionsInOneHold)
}

pub const NO_LOST_ACK: &str = "no-lost-ack";
pub const ONE_HISTORY: &str = "one-history";
pub const NO_LOST_UPDATE: &str = "one-history: no update is lost";
pub const INVISIBLE: &str = "invisible-until-committed";
pub const FENCED: &str = "one-primary: a proposal is in the term that it was meant for";
pub const RULE_1: &str = "Rule 1: nothing changes beneath a hold";
pub const RULE_5: &str = "Rule 5: one increment, one answer";
pub const RULE_6: &str = "Rule 6: what was refused is never applied";
pub const RULE_14_FIRST: &str = "Rule 14: granted after the term's first entry";
pub const RULE_14_FLIGHT: &str = "Rule 14: granted with no proposal in flight";
pub const RULE_14_ONCE: &str = "Rule 14: granted once";
pub const RULE_15_TURN: &str = "Rule 15: one queue";
pub const RULE_15_RECALL: &str = "Rule 15: a recall beats local waiters";
pub const RULE_20: &str = "Rule 20: one transaction a hold";

pub const A_WRITE_SUCCEEDS: &str = "a write succeeds on each node";
pub const CHANGED_IN_FLIGHT: &str = "a leader changes with a proposal in flight";
pub const COMMITTED_BY_THE_NEXT: &str = "a proposal to one leader is committed by the next";
pub const LOST_WITH_ITS_LEADER: &str = "a proposal is lost with its leader, and made again";
pub const DOOMED: &str = "a hold is doomed";

/// Which properties show that the search is not of nothing.
pub const SOMETIMES: [&str; 5] =
    [A_WRITE_SUCCEEDS, CHANGED_IN_FLIGHT, COMMITTED_BY_THE_NEXT, LOST_WITH_ITS_LEADER, DOOMED];

fn a_write_succeeds(cluster: &Cluster, world: &World) -> bool {
    let nodes: BTreeSet<_> = world.told(Told::Committed).map(|id| id.node).collect();
    nodes.len() == cluster.bounds.writers
}

fn changed_in_flight(_: &Cluster, world: &World) -> bool {
    world.nodes.iter().any(|node| {
        node.waiting.values().any(|waiting| waiting.sent > 0 && waiting.sent < node.raft.term)
    })
}

fn committed_by_the_next(_: &Cluster, world: &World) -> bool {
    let committed = world.committed();
    committed.last().is_some_and(|last| last.term > 1)
        && world.told(Told::Committed).any(|id| {
            let at = committed.iter().position(|entry| {
                entry.command.as_deref().is_some_and(|command| command.id() == id)
            });
            at.is_some_and(|at| {
                // Nobody could apply it before the next term's first entry.
                committed[at].term == 1
                    && world.nodes.iter().all(|node| !node.leads(0) || node.raft.term > 1)
            })
        })
}

fn lost_with_its_leader(_: &Cluster, world: &World) -> bool {
    let committed = world.committed();
    world.told(Told::Committed).any(|id| {
        committed.iter().any(|entry| {
            entry.term > 1 && entry.command.as_deref().is_some_and(|command| command.id() == id)
        }) && world.nodes.iter().any(|node| {
            node.raft.log.iter().any(|entry| {
                entry.term == 1
                    && entry.command.as_deref().is_some_and(|command| command.id() == id)
            })
        })
    })
}

fn doomed(_: &Cluster, world: &World) -> bool {
    world.nodes.iter().any(|node| {
        node.database.hold.is_some_and(|hold| hold.phase == Phase::Doomed)
            && !node.database.queue.is_empty()
    })
}

macro_rules! always {
    ($name:expr, $condition:path) => {
        Property::<Cluster>::always($name, |_, world| $condition(world))
    };
}

pub fn all() -> Vec<Property<Cluster>> {
    vec![
        always!(NO_LOST_ACK, no_lost_ack),
        always!(ONE_HISTORY, one_history),
        always!(NO_LOST_UPDATE, no_lost_update),
        always!(INVISIBLE, invisible_until_committed),
        always!(FENCED, fenced),
        always!(RULE_1, nothing_changes_beneath_a_hold),
        always!(RULE_5, one_increment_one_answer),
        always!(RULE_6, a_refusal_is_final),
        always!(RULE_14_FIRST, granted_when_all_is_applied),
        always!(RULE_14_FLIGHT, granted_with_nothing_in_flight),
        always!(RULE_14_ONCE, granted_once),
        always!(RULE_15_TURN, in_turn),
        always!(RULE_15_RECALL, a_recall_beats_waiters),
        always!(RULE_20, one_transaction_a_hold),
        Property::sometimes(A_WRITE_SUCCEEDS, a_write_succeeds),
        Property::sometimes(CHANGED_IN_FLIGHT, changed_in_flight),
        Property::sometimes(COMMITTED_BY_THE_NEXT, committed_by_the_next),
        Property::sometimes(LOST_WITH_ITS_LEADER, lost_with_its_leader),
        Property::sometimes(DOOMED, doomed),
    ]
}
