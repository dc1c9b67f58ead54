//! A restart from one survivor (`litefs-py recover`).

use std::fs::File;
use std::io::Write;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;

use super::{DataFolder, NodeError, io};
use crate::core::NodeId;
use crate::core::config::Config;
use crate::raft::{Member, StagedFolder, go_on_alone, look};
use crate::store::durable;

/// What the survivor holds, and what was done.
#[derive(Debug, Clone, Serialize)]
pub struct Recovered {
    /// Seconds since 1970.
    pub at: u64,
    /// The last entry of its log.
    pub last: Option<u64>,
    pub committed: Option<u64>,
    /// Name, position, pages, bytes a page.
    pub databases: Vec<(String, String, u32, u32)>,
    /// The other members, by name.
    pub lost: Vec<String>,
    pub done: bool,
}

/// Looks at what a stopped node holds, and makes it the only member if `go` says so. That is recorded in
/// the data folder's `recoveries`.
///
/// # Errors
/// The folder cannot be read or written.
pub fn recover(
    config: &Config,
    folder: &DataFolder,
    go: bool,
    now: SystemTime,
) -> Result<Recovered, NodeError> {
    let staged = StagedFolder::open(&folder.part("staged")).map_err(io("open the staged files"))?;
    let staged = Arc::new(staged);
    let raft = folder.part("raft");
    let me = NodeId(config.node.id);
    let survivor = if go {
        let own = config.members.iter().find(|member| member.id == config.node.id);
        let address = own.map(|member| member.address.clone()).unwrap_or_default();
        go_on_alone(&raft, staged, me, Member { name: config.node.name.clone(), address })?
    } else {
        look(&raft, staged)?
    };
    let databases = survivor.databases.iter().map(|(name, state)| {
        (name.to_string(), state.position.to_string(), state.pages, state.page_size)
    });
    let lost = survivor.members.iter().filter(|(id, _)| **id != me);
    let recovered = Recovered {
        at: now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
        last: survivor.last.map(|id| id.index),
        committed: survivor.committed.map(|id| id.index),
        databases: databases.collect(),
        lost: lost.map(|(_, member)| member.name.clone()).collect(),
        done: go,
    };
    if go {
        record(folder, &recovered).map_err(io("record the recovery"))?;
    }
    Ok(recovered)
}

fn record(folder: &DataFolder, recovered: &Recovered) -> std::io::Result<()> {
    let mut line = serde_json::to_vec(recovered)?;
    line.push(b'\n');
    let mut file = File::options().create(true).append(true).open(folder.part("recoveries"))?;
    file.write_all(&line)?;
    file.sync_all()?;
    // What the log says now, it says by itself: the list that was kept is of before.
    match std::fs::remove_file(folder.part("members")) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    durable::sync_folder(folder.path())
}
