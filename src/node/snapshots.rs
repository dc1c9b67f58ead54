//! How far the databases are that go from node to node, as the API says it.

use super::engine::EmbeddedEngine;
use crate::core::engine::{SnapshotProgress, SnapshotStage};
use crate::raft::{DatabaseTransfer, Stage};

impl EmbeddedEngine {
    /// Those to this node, and those from it.
    pub(super) fn snapshots(&self) -> Vec<SnapshotProgress> {
        let progress = |transfer: DatabaseTransfer| SnapshotProgress {
            database: transfer.database,
            node: self.name_of(transfer.node),
            stage: match transfer.stage {
                Stage::Comparing => SnapshotStage::Comparing,
                Stage::Sending => SnapshotStage::Sending,
                Stage::Receiving => SnapshotStage::Receiving,
                Stage::Installing => SnapshotStage::Installing,
            },
            bytes: transfer.of,
            done: transfer.done,
            there_before: transfer.before,
            running_ms: u64::try_from(transfer.since.as_millis()).unwrap_or(u64::MAX),
        };
        self.raft.transfers().into_iter().map(progress).collect()
    }
}
