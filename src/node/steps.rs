//! From what the members should be to what they are, one step at a time (Raft paper §6: a change of one
//! voter keeps a majority in common with the configuration before it).

use std::collections::{BTreeMap, BTreeSet};

use crate::cluster::{Node, Part};
use crate::core::NodeId;
use crate::raft::{Member, Membership};

/// What the leader does next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    AddLearner(NodeId, Member),
    /// These vote, and no others. `keep`: who votes no more goes on as a learner.
    Voters {
        voters: BTreeSet<NodeId>,
        keep: bool,
    },
    RemoveLearner(NodeId),
    /// The leader itself is to vote no more: another has to lead first.
    HandOver,
}

/// `ready`: whether a node has caught up and answers, so that it may vote.
pub fn next(
    me: NodeId,
    wanted: &BTreeMap<NodeId, Node>,
    present: &Membership,
    ready: impl Fn(NodeId) -> bool,
) -> Option<Step> {
    let is = |id: &NodeId, part| wanted.get(id).is_some_and(|node| node.part == part);
    let without = |gone: &NodeId| present.voters.iter().copied().filter(|id| id != gone).collect();
    if present.joint {
        // Begun by a leader that is gone: brought to its end, one way or the other.
        let stays = |id: &NodeId| !is(id, Part::Removed) && !is(id, Part::Learner);
        let voters: BTreeSet<_> = present.voters.iter().copied().filter(stays).collect();
        return (!voters.is_empty()).then_some(Step::Voters { voters, keep: true });
    }
    for (part, keep) in [(Part::Removed, false), (Part::Learner, true)] {
        // The last one stays until another votes.
        let goes = present.voters.iter().find(|id| is(id, part));
        if let Some(id) = goes.filter(|_| present.voters.len() > 1) {
            let voters: BTreeSet<_> = without(id);
            return Some(if *id == me { Step::HandOver } else { Step::Voters { voters, keep } });
        }
    }
    let votes = |id: &&NodeId| present.voters.contains(id);
    let gone = present.members.keys().filter(|id| !votes(id)).find(|id| is(id, Part::Removed));
    if let Some(id) = gone {
        return Some(Step::RemoveLearner(*id));
    }
    for (id, node) in wanted {
        if node.part != Part::Removed && !present.members.contains_key(id) {
            let member = Member { name: node.name.clone(), address: node.address.clone() };
            return Some(Step::AddLearner(*id, member));
        }
    }
    let learners = present.members.keys().filter(|id| !present.voters.contains(id));
    let next = learners.filter(|id| is(id, Part::Voter)).find(|id| ready(**id))?;
    let voters = present.voters.iter().chain([next]).copied().collect();
    Some(Step::Voters { voters, keep: true })
}

/// Whether these voters keep their majority, when only some of them answer.
pub fn has_quorum(voters: &BTreeSet<NodeId>, answers: impl Fn(NodeId) -> bool) -> bool {
    let answering = voters.iter().filter(|id| answers(**id)).count();
    answering > voters.len() / 2
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn node(part: Part) -> Node {
        Node { name: "n".into(), address: "h:1".into(), part }
    }

    fn ids(ids: &[u64]) -> BTreeSet<NodeId> {
        ids.iter().copied().map(NodeId).collect()
    }

    fn present(voters: &[u64], learners: &[u64]) -> Membership {
        let members = voters.iter().chain(learners);
        Membership {
            members: members.map(|id| (NodeId(*id), Member::default())).collect(),
            voters: ids(voters),
            joint: false,
            index: None,
        }
    }

    /// As Raft would do it.
    fn take(step: &Step, membership: &mut Membership) {
        match step {
            Step::AddLearner(id, member) => {
                membership.members.insert(*id, member.clone());
            }
            Step::Voters { voters, keep } => {
                let gone: Vec<_> = membership.voters.difference(voters).copied().collect();
                if !keep {
                    membership.members.retain(|id, _| !gone.contains(id));
                }
                membership.voters.clone_from(voters);
                membership.joint = false;
            }
            Step::RemoveLearner(id) => {
                assert!(!membership.voters.contains(id));
                membership.members.remove(id);
            }
            Step::HandOver => {}
        }
    }

    #[test]
    fn a_new_voter_learns_first() {
        let wanted = BTreeMap::from([(NodeId(4), node(Part::Voter))]);
        let mut members = present(&[1, 2, 3], &[]);
        let step = next(NodeId(1), &wanted, &members, |_| true).unwrap();
        assert!(matches!(step, Step::AddLearner(NodeId(4), _)));
        take(&step, &mut members);
        assert_eq!(next(NodeId(1), &wanted, &members, |_| false), None, "it has not caught up");
        let step = next(NodeId(1), &wanted, &members, |_| true).unwrap();
        assert_eq!(step, Step::Voters { voters: ids(&[1, 2, 3, 4]), keep: true });
    }

    #[test]
    fn a_leader_that_goes_hands_over_and_the_last_voter_stays() {
        let wanted = BTreeMap::from([(NodeId(1), node(Part::Removed))]);
        assert_eq!(
            next(NodeId(1), &wanted, &present(&[1, 2], &[]), |_| true),
            Some(Step::HandOver)
        );
        let step = next(NodeId(2), &wanted, &present(&[1, 2], &[]), |_| true);
        assert_eq!(step, Some(Step::Voters { voters: ids(&[2]), keep: false }));
        assert_eq!(next(NodeId(1), &wanted, &present(&[1], &[]), |_| true), None);
    }

    #[test]
    fn a_majority_is_more_than_half() {
        assert!(has_quorum(&ids(&[1]), |_| true));
        assert!(!has_quorum(&ids(&[1, 2]), |id| id == NodeId(1)));
        assert!(has_quorum(&ids(&[1, 2, 3]), |id| id != NodeId(1)));
        assert!(!has_quorum(&ids(&[]), |_| true));
    }

    proptest! {
        /// From anywhere it comes to an end, one voter at a time, and there the members are as wanted.
        #[test]
        fn it_ends_where_it_should(
            parts in prop::collection::btree_map(1..8_u64, 0..4_u8, 0..7),
            voters in prop::collection::btree_set(1..8_u64, 1..5),
            learners in prop::collection::btree_set(1..8_u64, 0..4),
            joint in any::<bool>(),
        ) {
            let part = |number| match number {
                0 => Part::Voter,
                1 => Part::Learner,
                _ => Part::Removed,
            };
            let wanted: BTreeMap<_, _> =
                parts.iter().map(|(id, number)| (NodeId(*id), node(part(*number)))).collect();
            let voters: Vec<u64> = voters.into_iter().collect();
            let learners: Vec<u64> =
                learners.into_iter().filter(|id| !voters.contains(id)).collect();
            let mut members = present(&voters, &learners);
            members.joint = joint;
            let mut leader = members.voters.iter().next().copied().unwrap();
            for _ in 0..40 {
                let was = members.clone();
                let Some(step) = next(leader, &wanted, &members, |_| true) else { break };
                take(&step, &mut members);
                if step == Step::HandOver {
                    leader = *members.voters.iter().find(|id| **id != leader).unwrap();
                }
                if !was.joint {
                    let changed = was.voters.symmetric_difference(&members.voters).count();
                    prop_assert!(changed <= 1);
                }
                prop_assert!(!members.voters.is_empty());
            }
            prop_assert!(next(leader, &wanted, &members, |_| true).is_none());
            let last = |id: &NodeId| members.voters == BTreeSet::from([*id]);
            for (id, node) in &wanted {
                let (there, votes) =
                    (members.members.contains_key(id), members.voters.contains(id));
                let meant = match node.part {
                    Part::Voter => (true, true),
                    Part::Learner => (true, false),
                    Part::Removed => (false, false),
                };
                prop_assert!(last(id) || (there, votes) == meant || members.joint);
            }
        }
    }
}
