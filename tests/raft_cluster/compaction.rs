//! The log ends somewhere: compaction, restarts from the state file, snapshots.

use litefs_py::core::NodeId;
use litefs_py::raft::Compaction;

use crate::world::{World, until};

const SMALL: Compaction = Compaction { after: 1 << 30, keep: 4_000, most: 40_000 };

/// Rule 11, and a restart finds all of it again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_compacted_node_starts_again() {
    let mut world = World::new(1, 1);
    world.compaction = SMALL;
    world.start(NodeId(1)).await;
    let leader = world.leader().await;
    let mut expected = 0;
    for round in 0..3 {
        for _ in 0..100 {
            world.write(leader, "a.db", 500).await;
            expected += 500;
        }
        world.node(leader).compact().await.unwrap();
        let status = until("a purged log", || async {
            let status = world.node(leader).status();
            (status.log_bytes < 20_000 && status.purged.is_some()).then_some(status)
        })
        .await;
        let durable_to = world.running[&leader].replica.inner.lock().unwrap().durable_to;
        assert!(durable_to.index >= status.purged.unwrap().index);
        for _ in 0..10 {
            world.write(leader, "a.db", 50).await;
            expected += 50;
        }
        world.kill(leader).await;
        world.start(leader).await;
        // Before anything else: what was committed is there when it has started.
        let database = world.running[&leader].replica.databases().into_values().next().unwrap();
        let told = world.running[&leader].replica.inner.lock().unwrap().applied.len();
        assert!(database.bytes.len() >= expected - 50, "round {round}");
        assert!(told < 30, "{told} entries told again");
        assert_eq!(world.leader().await, leader);
        world.converged(leader).await;
        let database = world.running[&leader].replica.databases().into_values().next().unwrap();
        assert_eq!(database.bytes.len(), expected, "round {round}");
    }
}

/// converges: a node for which the log has gone gets a snapshot, then the entries after it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_too_far_behind_gets_a_snapshot() {
    let mut world = World::new(3, 3);
    world.compaction = SMALL;
    for id in 1..=3 {
        world.start(NodeId(id)).await;
    }
    let leader = world.leader().await;
    world.write(leader, "a.db", 100).await;
    world.converged(leader).await;
    let behind = NodeId(leader.0 % 3 + 1);
    world.kill(behind).await;
    for _ in 0..100 {
        world.write(leader, "a.db", 1_000).await;
        world.write(leader, "b.db", 3_000).await;
    }
    // One that is not there holds the log only up to `most`.
    world.node(leader).compact().await.unwrap();
    until("a purged log", || async {
        (world.node(leader).status().log_bytes < 60_000).then_some(())
    })
    .await;
    for _ in 0..3 {
        world.write(leader, "a.db", 10).await;
    }
    world.start(behind).await;
    world.converged(leader).await;
    assert_eq!(world.running[&behind].replica.inner.lock().unwrap().snapshots, 1);
    // And it starts again from what was installed.
    world.kill(behind).await;
    world.write(leader, "b.db", 10).await;
    world.start(behind).await;
    world.converged(leader).await;
    assert_eq!(world.running[&behind].replica.inner.lock().unwrap().snapshots, 0);
}

/// A snapshot of databases larger than a frame.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_node_gets_large_databases() {
    let mut world = World::new(1, 2);
    world.compaction = Compaction { keep: 1, most: 1, ..SMALL };
    world.start(NodeId(1)).await;
    let leader = world.leader().await;
    for name in ["a.db", "b.db", "c.db"] {
        world.write(leader, name, 3_000_000).await;
    }
    world.node(leader).compact().await.unwrap();
    until("a purged log", || async {
        (world.node(leader).status().log_bytes < 4_000_000).then_some(())
    })
    .await;
    world.start(NodeId(2)).await;
    world.node(leader).add_learner(NodeId(2), world.member(NodeId(2))).await.unwrap();
    world.converged(leader).await;
    assert_eq!(world.running[&NodeId(2)].replica.inner.lock().unwrap().snapshots, 1);
}
