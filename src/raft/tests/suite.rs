//! openraft's own suite for stores, on our log and state machine.

use std::sync::Arc;

use openraft::StorageError;
use openraft::testing::log::{StoreBuilder, Suite};
use tempfile::TempDir;

use super::super::NoStagedFiles;
use super::super::log::disk::Folder;
use super::super::log::{Log, LogConfig};
use super::super::machine::{Machine, Now, Shared};
use super::super::state_file::StateFile;
use super::super::types::Types;
use super::recorder;

struct Builder;

impl StoreBuilder<Types, Log, Machine, TempDir> for Builder {
    async fn build(&self) -> Result<(TempDir, Log, Machine), StorageError<Types>> {
        let folder = tempfile::tempdir().unwrap();
        let (file, _) = StateFile::open(folder.path()).unwrap();
        let disk = Folder::new(&folder.path().join("log")).unwrap();
        let config =
            LogConfig { segment: 4096, cache: 500, background: false, ..LogConfig::default() };
        let log =
            Log::open(Arc::new(disk), config, Arc::new(NoStagedFiles), Arc::new(|_| {})).unwrap();
        // The suite purges what no state holds, and applies what no log has flushed.
        log.state_is_durable(u64::MAX);
        let shared = Shared::new(recorder(), file, log.clone(), Now::default()).unflushed();
        Ok((folder, log, Machine(Arc::new(shared))))
    }
}

#[tokio::test]
async fn openrafts_suite_passes() {
    Suite::test_all(Builder).await.unwrap();
}
