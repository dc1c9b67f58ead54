//! Rule 19: payloads beside the log.

use litefs_py::cluster::Payload;
use litefs_py::core::NodeId;
use litefs_py::raft::{Compaction, ProposeError, stage};

use crate::world::{World, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn followers_fetch_what_an_entry_names() {
    let mut world = World::new(3, 3);
    world.compaction = Compaction { after: 1 << 30, keep: 1, most: 1 };
    for id in 1..=3 {
        world.start(NodeId(id)).await;
    }
    let leader = world.leader().await;
    let bytes: Vec<u8> = (0..5_000_000_u32).map(|i| (i / 1000) as u8).collect();
    let term = world.node(leader).leadership().borrow().term;

    let absent = Payload::Staged { sha256: [9; 32], len: 5 };
    let command = world.commit(leader, "a.db", absent);
    let refused = world.node(leader).propose(leader, term, command).await;
    assert_eq!(refused, Err(ProposeError::NotStaged));

    // On the leader alone: the others fetch it.
    let name = stage(&world.running[&leader].staged, &bytes).unwrap();
    let payload = Payload::Staged { sha256: name.sha256, len: name.len };
    let command = world.commit(leader, "a.db", payload);
    world.node(leader).propose(leader, term, command).await.unwrap();
    world.converged(leader).await;
    for running in world.running.values() {
        assert_eq!(running.replica.databases().into_values().next().unwrap().bytes, bytes);
        assert!(running.staged.has(name.sha256, name.len));
    }

    // It goes with the last entry that names it.
    world.node(leader).compact().await.unwrap();
    world.write(leader, "a.db", 10).await;
    world.write(leader, "a.db", 10).await;
    world.converged(leader).await;
    until("the staged file gone", || async {
        world.node(leader).compact().await.unwrap();
        (!world.running[&leader].staged.has(name.sha256, name.len)).then_some(())
    })
    .await;

    let long = Payload::Inline(vec![0; 9_000_000].into());
    let command = world.commit(leader, "a.db", long);
    let refused = world.node(leader).propose(leader, term, command).await;
    assert!(matches!(refused, Err(ProposeError::TooLong { .. })), "{refused:?}");
}
