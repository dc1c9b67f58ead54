//! Starting from what a crash left.

use std::sync::Arc;
use std::sync::mpsc;

use openraft::entry::RaftEntry;
use tempfile::TempDir;

use super::super::log::disk::Folder;
use super::super::log::{Log, LogConfig};
use super::super::state_file::StateFile;
use super::super::types::{Entry, log_id};
use super::super::wire::{WireMembership, WireMeta};
use super::super::{NoStagedFiles, RaftConfig, RaftError, RaftNode};
use super::network::{Net, NetLinks};
use super::recorder;
use crate::cluster::State;
use crate::core::{EntryId, NodeId};

const LOG: LogConfig = LogConfig { segment: 4096, cache: 1000, read: 1000, background: false };

fn log(folder: &TempDir) -> Log {
    let disk = Folder::new(&folder.path().join("log")).unwrap();
    Log::open(Arc::new(disk), LOG, Arc::new(NoStagedFiles), Arc::new(|_| {})).unwrap()
}

/// A log of ten entries of term 1.
fn old_log(folder: &TempDir) {
    let log = log(folder);
    let ids = (0..10).map(|index| EntryId { term: 1, index });
    let entries = ids.map(|id| Entry::new_blank(log_id(id))).collect();
    let (sender, receiver) = mpsc::channel();
    log.append(entries, Box::new(move |result| sender.send(result).unwrap())).unwrap();
    receiver.recv().unwrap().unwrap();
    log.close();
}

fn state(folder: &TempDir, applied: EntryId) {
    let (file, _) = StateFile::open(folder.path()).unwrap();
    let mut state = State::default();
    state.pass(applied);
    let membership = WireMembership {
        voters: vec![[1].into()],
        members: [(1, super::super::Member::default())].into(),
    };
    let meta = WireMeta { applied: Some(applied), membership_entry: Some(applied), membership };
    file.write(&meta, &state).unwrap();
}

async fn start(folder: &TempDir) -> Result<RaftNode, RaftError> {
    let links = Arc::new(NetLinks { net: Net::new(0), id: 1 });
    let config = RaftConfig { log: LOG, ..RaftConfig::new(NodeId(1), folder.path()) };
    RaftNode::start_with(config, links, recorder(), Arc::new(NoStagedFiles)).await
}

/// A snapshot was installed, and the process ended before the log followed.
#[tokio::test]
async fn a_log_that_is_older_than_the_state_begins_anew() {
    for applied in [
        // Beyond the log; within it, where it says something else; and where it agrees.
        EntryId { term: 2, index: 50 },
        EntryId { term: 2, index: 5 },
        EntryId { term: 1, index: 5 },
    ] {
        let folder = tempfile::tempdir().unwrap();
        old_log(&folder);
        state(&folder, applied);
        let node = start(&folder).await.unwrap();
        assert_eq!(node.state().applied(), applied);
        node.stop().await;
        let log = log(&folder);
        let last = if applied.term == 1 { EntryId { term: 1, index: 9 } } else { applied };
        // Alone in its group, it may have elected itself since.
        assert!(log.last() >= Some(last), "{:?}", log.last());
        let kept = log.id_at(6);
        assert_eq!(kept.is_some_and(|id| id.term == 1), applied.term == 1, "{kept:?}");
        log.close();
    }
}

#[tokio::test]
async fn a_log_that_is_purged_beyond_the_state_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    old_log(&folder);
    state(&folder, EntryId { term: 1, index: 3 });
    let log = log(&folder);
    log.state_is_durable(100);
    log.purge(EntryId { term: 1, index: 7 }).unwrap();
    log.close();
    let started = start(&folder).await;
    let error = started.err().map(|error| error.to_string()).unwrap_or_default();
    assert!(error.contains("purged up to entry 7"), "{error}");
}
