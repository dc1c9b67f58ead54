//! Which node may become the primary. Pure.
//!
//! caught-up: a majority of the voters must have said how far they are, and none of those who answered may
//! hold a later position of any database than the node that is chosen. LiteFS replicates each database by
//! itself, so it can be that no node is furthest with all: then the one with the most transactions is
//! chosen, but only after the others had time to come back; what another has beyond it is set aside there
//! (nothing-discarded).
//!
//! Transactions are counted from where a history parted: a primary that was cut off goes on counting, and may
//! come back with more of them than its successor has. So who has followed the later primary is further,
//! however many they are.

use std::collections::{BTreeMap, BTreeSet};

use super::positions::{Seen, holds_all_of, total};
use crate::core::NodeId;

/// What the leader knows when it chooses.
pub struct Asked<'a> {
    pub voters: &'a BTreeSet<NodeId>,
    /// Those who answered, learners too.
    pub answers: &'a BTreeMap<NodeId, Seen>,
    /// LiteFS's name for the cluster, once it has one.
    pub cluster_id: Option<&'a str>,
    /// Everybody had time to come back.
    pub waited: bool,
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    Node(NodeId),
    /// Not so many answered.
    NoMajority,
    /// Nobody who could be chosen runs; or nobody holds all, and it is too early to do without.
    Nobody,
}

/// Chooses. `wished`: a node that is taken if it may be.
pub fn choose(asked: &Asked<'_>, wished: Option<NodeId>) -> Choice {
    let answered = asked.voters.iter().filter(|voter| asked.answers.contains_key(voter)).count();
    if answered * 2 <= asked.voters.len() {
        return Choice::NoMajority;
    }
    let fits = |id: &&NodeId| {
        asked.voters.contains(id)
            && asked.answers.get(id).is_some_and(|seen| seen.running && belongs(asked, seen))
    };
    let able: Vec<&NodeId> = asked.answers.keys().filter(fits).collect();
    let of = |id: &NodeId| asked.answers.get(id);
    let furthest = |id: &&&NodeId| {
        of(id).is_some_and(|ours| asked.answers.values().all(|other| is_as_far(ours, other)))
    };
    let furthest: Vec<NodeId> = able.iter().filter(furthest).map(|id| **id).collect();
    if let Some(id) = wished.filter(|id| furthest.contains(id)).or(furthest.first().copied()) {
        return Choice::Node(id);
    }
    if !asked.waited {
        return Choice::Nobody;
    }
    let most =
        able.into_iter().max_by_key(|id| of(id).map(|seen| (seen.tenure, total(&seen.positions))));
    most.map_or(Choice::Nobody, |id| Choice::Node(*id))
}

fn is_as_far(one: &Seen, other: &Seen) -> bool {
    match one.tenure.cmp(&other.tenure) {
        std::cmp::Ordering::Greater => true,
        std::cmp::Ordering::Less => false,
        std::cmp::Ordering::Equal => holds_all_of(&one.positions, &other.positions),
    }
}

/// LiteFS itself does not let an empty node lead a cluster that has a name, nor one of another cluster.
fn belongs(asked: &Asked<'_>, seen: &Seen) -> bool {
    asked.cluster_id.is_none_or(|id| id == seen.cluster_id)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::core::{Checksum, Position, Txid};

    fn seen(positions: &[(&str, u64)]) -> Seen {
        let at = |txid| Position { txid: Txid(txid), checksum: Checksum(Checksum::FLAG) };
        Seen {
            running: true,
            cluster_id: "c".into(),
            positions: positions.iter().map(|(name, txid)| ((*name).into(), at(*txid))).collect(),
            ..Seen::default()
        }
    }

    fn ask(answers: &[(u64, Seen)], waited: bool, wished: Option<u64>) -> Choice {
        let voters = (1..=3).map(NodeId).collect();
        let answers = answers.iter().map(|(id, seen)| (NodeId(*id), seen.clone())).collect();
        let asked = Asked { voters: &voters, answers: &answers, cluster_id: Some("c"), waited };
        choose(&asked, wished.map(NodeId))
    }

    /// caught-up.
    #[test]
    fn the_furthest_of_a_majority_is_chosen() {
        let (behind, ahead) = (seen(&[("a", 4)]), seen(&[("a", 5), ("b", 1)]));
        assert_eq!(ask(&[(2, ahead.clone())], true, None), Choice::NoMajority);
        let two = [(1, behind.clone()), (2, ahead.clone())];
        assert_eq!(ask(&two, false, None), Choice::Node(NodeId(2)));
        assert_eq!(ask(&two, false, Some(1)), Choice::Node(NodeId(2)), "whoever is wished for");
        let same = [(1, ahead.clone()), (3, ahead.clone())];
        assert_eq!(ask(&same, false, Some(3)), Choice::Node(NodeId(3)));
        // A learner is never chosen; but what it has counts.
        let learner = [(1, behind.clone()), (2, behind.clone()), (9, ahead.clone())];
        assert_eq!(ask(&learner, false, None), Choice::Nobody);
        assert!(matches!(ask(&learner, true, None), Choice::Node(NodeId(1 | 2))));
    }

    #[test]
    fn who_does_not_run_or_is_foreign_or_empty_is_not_chosen() {
        let mut stopped = seen(&[("a", 5)]);
        stopped.running = false;
        let behind = seen(&[("a", 4)]);
        let asked = [(1, stopped.clone()), (2, behind.clone())];
        assert_eq!(ask(&asked, false, None), Choice::Nobody, "it may come back");
        assert_eq!(ask(&asked, true, None), Choice::Node(NodeId(2)));
        let mut foreign = seen(&[("a", 9)]);
        foreign.cluster_id = "other".into();
        let mut empty = seen(&[]);
        empty.cluster_id = String::new();
        assert_eq!(ask(&[(1, foreign), (2, empty)], true, None), Choice::Nobody);
    }

    /// caught-up: a primary that was cut off wrote more than its successor; the successor's history counts.
    #[test]
    fn who_followed_the_later_primary_is_further() {
        let of = |tenure, txid| Seen { tenure: Some(tenure), ..seen(&[("a", txid)]) };
        let (cut_off, successor, behind) = (of(1, 9), of(2, 5), of(2, 4));
        let two = [(1, cut_off.clone()), (2, successor.clone())];
        assert_eq!(ask(&two, false, Some(1)), Choice::Node(NodeId(2)));
        let other = [(1, cut_off.clone()), (3, behind.clone())];
        assert_eq!(ask(&other, false, Some(1)), Choice::Node(NodeId(3)));
        let mut stopped = successor;
        stopped.running = false;
        let all = [(1, cut_off), (2, stopped), (3, behind)];
        assert_eq!(ask(&all, false, None), Choice::Nobody, "it may come back");
        assert_eq!(ask(&all, true, None), Choice::Node(NodeId(3)));
    }

    #[test]
    fn where_nobody_holds_all_it_takes_time() {
        let split = [(1, seen(&[("a", 5), ("b", 1)])), (2, seen(&[("a", 3), ("b", 2)]))];
        assert_eq!(ask(&split, false, None), Choice::Nobody);
        assert_eq!(ask(&split, true, None), Choice::Node(NodeId(1)));
    }

    proptest! {
        /// caught-up: nobody who answered is ahead of the chosen one, unless time was given.
        #[test]
        fn nobody_is_ahead_of_the_chosen(
            txids in prop::collection::vec(prop::option::of((0..4_u64, 0..4_u64, any::<bool>())), 3),
            wished in prop::option::of(1..4_u64),
        ) {
            let answers: Vec<(u64, Seen)> = (1..)
                .zip(txids)
                .filter_map(|(id, told)| {
                    let (a, b, running) = told?;
                    Some((id, Seen { running, ..seen(&[("a", a), ("b", b)]) }))
                })
                .collect();
            match ask(&answers, false, wished) {
                Choice::Node(NodeId(chosen)) => {
                    let ours = &answers.iter().find(|(id, _)| *id == chosen).unwrap().1;
                    prop_assert!(ours.running && answers.len() >= 2);
                    let ahead = answers.iter().any(|(_, s)| !holds_all_of(&ours.positions, &s.positions));
                    prop_assert!(!ahead);
                }
                Choice::NoMajority => prop_assert!(answers.len() < 2),
                Choice::Nobody => prop_assert!(answers.len() >= 2),
            }
        }
    }
}
