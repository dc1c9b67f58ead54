//! Leaders: elected, killed, followed, asked, replaced in order.

use std::time::Duration;

use litefs_py::core::NodeId;
use litefs_py::raft::{ProposeError, RaftError};
use tokio::time::{Instant, timeout};

use crate::world::{SOON, World, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_nodes_elect_and_agree() {
    let (mut world, leader) = World::three().await;
    for _ in 0..20 {
        world.write(leader, "a.db", 100).await;
    }
    world.converged(leader).await;
    let status = world.node(leader).status();
    assert_eq!(status.voters.len(), 3);
    assert_eq!(status.peers.len(), 2);
    assert!(status.quorum_age.is_some_and(|age| age < SOON));
    assert_eq!(status.members[&NodeId(2)], world.member(NodeId(2)));

    // one-primary: only the leader takes proposals, and only in its term.
    let follower = NodeId(leader.0 % 3 + 1);
    let term = status.term;
    let payload = litefs_py::cluster::Payload::Inline(vec![1].into());
    let command = world.commit(leader, "a.db", payload);
    let refused = world.node(follower).propose(leader, term, command.clone()).await;
    assert_eq!(refused, Err(ProposeError::NotLeader { leader: Some(leader) }));
    let old = world.node(leader).propose(leader, term - 1, command).await;
    assert!(matches!(old, Err(ProposeError::NotLeader { .. })), "{old:?}");
    // Also from who does not wait for the outcome (Rule 6), which is that there never is one.
    let payload = litefs_py::cluster::Payload::Inline(vec![1].into());
    let command = world.commit(leader, "a.db", payload);
    world.node(leader).submit(leader, term - 1, command.clone()).await.unwrap();
    world.write(leader, "a.db", 100).await;
    assert_eq!(world.node(leader).state().verdict(command.id()), None);

    // Asked anywhere, the read index covers what was committed before.
    let last = world.write(leader, "a.db", 10).await;
    for id in 1..=3 {
        let index = world.node(NodeId(id)).read_index(SOON).await.unwrap();
        assert!(index.index >= last.index, "node {id}: {index:?} before {last:?}");
    }
}

/// no-lost-ack, and how fast: the death of the leader's process is seen at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_leader_is_replaced_at_once_and_comes_back() {
    let (mut world, mut leader) = World::three().await;
    let mut quickest = Duration::MAX;
    for round in 0..3 {
        for _ in 0..5 {
            world.write(leader, "a.db", 200).await;
        }
        let dead = leader;
        world.kill(dead).await;
        let killed = Instant::now();
        leader = world.leader().await;
        quickest = quickest.min(killed.elapsed());
        println!("round {round}: a new leader after {:?}", killed.elapsed());
        world.write(leader, "a.db", 300).await;
        world.start(dead).await;
        world.converged(leader).await;
    }
    // By the timeouts alone it takes the lease (300 ms) and an election timeout (150 ms).
    assert!(quickest < Duration::from_millis(300), "{quickest:?}");
    let bytes = world.running[&leader].replica.databases().into_values().next().unwrap().bytes;
    assert_eq!(bytes.len(), 3 * (5 * 200 + 300));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leadership_is_handed_over_without_loss() {
    let (mut world, first) = World::three().await;
    world.write(first, "a.db", 100).await;
    let to = NodeId(first.0 % 3 + 1);
    let term = world.node(first).status().term;
    world.node(first).transfer_leadership(to).await.unwrap();
    assert_eq!(world.leader().await, to);
    assert_eq!(world.node(to).status().term, term + 1, "one election");
    world.write(to, "a.db", 100).await;
    world.converged(to).await;
    let not_leading = world.node(first).transfer_leadership(to).await;
    assert!(matches!(not_leading, Err(litefs_py::raft::RaftError::NotLeader)));
}

/// bounded-answer: without a quorum nothing is committed, and questions end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_quorum_nothing_is_answered_as_done() {
    let (mut world, leader) = World::three().await;
    world.write(leader, "a.db", 100).await;
    for id in (1..=3).map(NodeId).filter(|id| *id != leader) {
        world.kill(id).await;
    }
    let payload = litefs_py::cluster::Payload::Inline(vec![1].into());
    let command = world.commit(leader, "a.db", payload);
    let term = world.node(leader).leadership().borrow().term;
    let proposed = world.node(leader).propose_queued(leader, term, command).await.unwrap();
    assert!(timeout(Duration::from_millis(500), proposed).await.is_err());
    assert!(world.node(leader).read_index(Duration::from_millis(200)).await.is_err());
    until("an old quorum", || async {
        let age = world.node(leader).quorum_age();
        age.is_none_or(|age| age > Duration::from_millis(500)).then_some(())
    })
    .await;
    // What was in the log, unanswered, is committed when a quorum is back.
    let other = NodeId(leader.0 % 3 + 1);
    world.start(other).await;
    until("the entry that waited", || async {
        let database = world.running[&other].replica.databases().into_values().next();
        database.filter(|database| database.bytes.len() == 101)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_are_added_and_removed() {
    let mut world = World::new(1, 2);
    world.start(NodeId(1)).await;
    let leader = world.leader().await;
    world.write(leader, "a.db", 100).await;
    world.start(NodeId(2)).await;
    world.node(leader).add_learner(NodeId(2), world.member(NodeId(2))).await.unwrap();
    world.converged(leader).await;
    world.node(leader).set_voters([NodeId(1), NodeId(2)], true).await.unwrap();
    world.write(leader, "a.db", 100).await;
    world.converged(leader).await;
    assert_eq!(world.node(NodeId(2)).status().voters, [NodeId(1), NodeId(2)]);
    world.node(leader).set_voters([NodeId(1)], true).await.unwrap();
    world.node(leader).remove_learner(NodeId(2)).await.unwrap();
    assert_eq!(world.node(leader).status().members.len(), 1);
}

/// Run by hand: what a commit costs on three nodes with a real fdatasync each.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement, not a test"]
async fn latency_of_a_proposal() {
    let (mut world, leader) = World::three().await;
    let mut times = Vec::new();
    for _ in 0..2_000 {
        let payload = litefs_py::cluster::Payload::Inline(vec![1; 500].into());
        let command = world.commit(leader, "a.db", payload);
        let term = world.node(leader).leadership().borrow().term;
        let began = Instant::now();
        world.node(leader).propose(leader, term, command).await.unwrap();
        times.push(began.elapsed());
    }
    times.sort();
    println!("a proposal: median {:?}, 99 % {:?}", times[1_000], times[1_980]);
}

/// caught-up, no-lost-ack: an emptied voter forgot what it acknowledged. It must not help a node to
/// lead that never had it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_emptied_voter_does_not_vote_until_it_has_caught_up() {
    let (mut world, leader) = World::three().await;
    world.write(leader, "a.db", 100).await;
    world.converged(leader).await;
    // A node that misses what the other two acknowledge.
    let stale = NodeId(leader.0 % 3 + 1);
    let emptied = NodeId(stale.0 % 3 + 1);
    world.kill(stale).await;
    for _ in 0..5 {
        world.write(leader, "a.db", 100).await;
    }
    world.kill(leader).await;
    world.kill(emptied).await;
    world.wipe(emptied);
    world.start(emptied).await;
    world.start(stale).await;
    // The two are a majority, but neither has it all: many election timeouts long there is no leader.
    let until = Instant::now() + Duration::from_secs(2);
    while Instant::now() < until {
        for (id, running) in &world.running {
            assert!(!running.node.leadership().borrow().me_leading, "{id:?} leads");
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // The third one has, and gives it to both.
    world.start(leader).await;
    let first = world.leader().await;
    assert_eq!(first, leader, "it alone may lead");
    world.converged(first).await;
    // From then on the emptied one is as good as any: the two of them suffice.
    until_it_votes(&mut world, emptied, first, stale).await;
}

/// A leader does not go for one that lacks something.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leadership_is_not_handed_to_who_is_behind() {
    let (mut world, leader) = World::three().await;
    let behind = NodeId(leader.0 % 3 + 1);
    world.kill(behind).await;
    for _ in 0..3 {
        world.write(leader, "a.db", 100).await;
    }
    let refused = world.node(leader).transfer_leadership(behind).await.unwrap_err();
    assert!(matches!(refused, RaftError::Behind { entries: 3.., .. }), "{refused}");
    assert_eq!(world.leader().await, leader);
    world.write(leader, "a.db", 100).await;
}

/// converges: the leader stays in office all the time, and counts what the emptied voter once had.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_emptied_voter_catches_up_with_the_leader_of_before() {
    let (mut world, leader) = World::three().await;
    for _ in 0..5 {
        world.write(leader, "a.db", 100).await;
    }
    world.converged(leader).await;
    let emptied = NodeId(leader.0 % 3 + 1);
    let other = NodeId(emptied.0 % 3 + 1);
    let term = world.node(leader).leadership().borrow().term;
    world.kill(emptied).await;
    world.wipe(emptied);
    world.start(emptied).await;
    world.write(leader, "a.db", 100).await;
    world.converged(leader).await;
    assert_eq!(world.node(leader).leadership().borrow().term, term, "nobody else led");
    until_it_votes(&mut world, emptied, leader, other).await;
}

/// Stops the leader; one of the other two leads once the emptied one votes.
async fn until_it_votes(world: &mut World, emptied: NodeId, leader: NodeId, other: NodeId) {
    until("the emptied node has joined", || async {
        let folder = world.folder(emptied);
        (!folder.join("joining").exists()).then_some(())
    })
    .await;
    world.kill(leader).await;
    let next = world.leader().await;
    assert!(next == emptied || next == other);
    world.write(next, "a.db", 100).await;
    world.converged(next).await;
    let bytes = world.running[&next].replica.databases().into_values().next().unwrap().bytes;
    assert_eq!(bytes.len(), 7 * 100);
}
