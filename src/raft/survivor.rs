//! A node that is all that is left of its group: what it holds, and how it goes on alone.
//!
//! As etcd's `--force-new-cluster` and Consul's `peers.json`: beside the rules of Raft, by an operator's
//! word that the others are gone for good. Entries that only the others held are lost. To be used on a
//! folder that no process has open.
//!
//! All that is in this log stays, whether it was known to be committed or not: some of it may have been
//! acknowledged, and nobody is left who could say otherwise (no-lost-ack, as far as this node can).

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc;

use super::RaftError;
use super::log::disk::{Disk, Folder};
use super::log::{Log, LogConfig};
use super::machine::Now;
use super::staged::StagedFiles;
use super::state_file::StateFile;
use super::types::{Entry, Member, Members, Membership, Payload, Proposal, entry_id, log_id};
use super::wire::WireVote;
use crate::cluster::{Change, DatabaseState, Node, Part};
use crate::core::{DatabaseName, EntryId, NodeId};

/// What a stopped node holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Survivor {
    /// The last entry of its log.
    pub last: Option<EntryId>,
    /// Up to here it knew the log to be committed.
    pub committed: Option<EntryId>,
    pub members: Members,
    /// The databases as of the last entry.
    pub databases: BTreeMap<DatabaseName, DatabaseState>,
}

/// Says what the node of this folder holds; changes nothing.
///
/// # Errors
/// The folder cannot be read, or is damaged.
pub fn look(folder: &Path, staged: Arc<dyn StagedFiles>) -> Result<Survivor, RaftError> {
    let (log, survivor) = open(folder, staged)?;
    log.close();
    Ok(survivor)
}

/// Makes the node the only member of its group: others that are known are removed for good, so that none
/// of them, come back, replicates into it or votes.
///
/// # Errors
/// As [`look`], or the disk fails.
pub fn go_on_alone(
    folder: &Path,
    staged: Arc<dyn StagedFiles>,
    id: NodeId,
    me: Member,
) -> Result<Survivor, RaftError> {
    let (log, survivor) = open(folder, staged)?;
    let term = log.vote().map_or(0, |vote| vote.term).max(survivor.last.map_or(0, |id| id.term));
    let term = term.saturating_add(1);
    let first = survivor.last.map_or(0, |id| id.index.saturating_add(1));
    let alone = Membership::new(vec![[id.0].into()], BTreeMap::from([(id.0, me)]))
        .map_err(|error| RaftError::Membership(error.to_string()))?;
    let gone = survivor.members.iter().filter(|(other, _)| **other != id).map(|(other, member)| {
        let (name, address) = (member.name.clone(), member.address.clone());
        let record = Node { name, address, part: Part::Removed };
        Payload::Normal(Proposal::Change(Change::Register { node: *other, record }))
    });
    let payloads = std::iter::once(Payload::Membership(alone)).chain(gone);
    let entries = (first..)
        .zip(payloads)
        .map(|(index, payload)| Entry { log_id: log_id(EntryId { term, index }), payload });
    let entries = entries.collect();
    let failed = |error: std::io::Error| RaftError::Stopped(error.to_string());
    wait(|done| log.save_vote(WireVote { term, node: id.0, committed: false }, done))
        .and_then(|()| wait(|done| log.append(entries, done)))
        .map_err(failed)?;
    log.close();
    Ok(survivor)
}

pub(super) fn wait(
    begin: impl FnOnce(Box<dyn FnOnce(std::io::Result<()>) + Send>) -> std::io::Result<()>,
) -> std::io::Result<()> {
    let (sender, receiver) = mpsc::channel();
    begin(Box::new(move |result| {
        // Nobody waits any more.
        let _ = sender.send(result);
    }))?;
    receiver.recv().map_err(|_| std::io::Error::other("the Raft log is closed"))?
}

fn open(folder: &Path, staged: Arc<dyn StagedFiles>) -> Result<(Log, Survivor), RaftError> {
    let io = |source| RaftError::Folder { path: folder.to_owned(), source };
    let disk = Folder::new(&folder.join("log")).map_err(io)?;
    let (_, content) = StateFile::open(folder)?;
    if content.is_none() && disk.list().map_err(io)?.is_empty() {
        let source = std::io::Error::new(std::io::ErrorKind::NotFound, "it has no log");
        return Err(io(source));
    }
    let now = match content {
        Some((meta, state)) => Now::read(&meta, state)?,
        None => Now::default(),
    };
    let log = Log::open(
        Arc::new(disk),
        LogConfig::default(),
        staged,
        Arc::new(|why| {
            tracing::error!(why, "the Raft log failed");
        }),
    )?;
    let mut state = (*now.state).clone();
    let mut membership = now.membership.membership().clone();
    let mut next = now.applied.as_ref().map_or(0, |id| id.index + 1);
    let last = log.last();
    while last.is_some_and(|last| next <= last.index) {
        let entries = log.read(next..u64::MAX, 16 << 20).map_err(io)?;
        let Some(end) = entries.last() else { break };
        next = end.log_id.index + 1;
        for entry in entries {
            let id = entry_id(&entry.log_id);
            match entry.payload {
                Payload::Blank => state.pass(id),
                Payload::Membership(members) => {
                    state.pass(id);
                    membership = members;
                }
                Payload::Normal(Proposal::Command(command)) => {
                    state.apply(id, &command);
                }
                Payload::Normal(Proposal::Change(change)) => {
                    // What is refused changes nothing.
                    let _ = state.change(id, &change);
                }
            }
        }
    }
    let members = membership.nodes().map(|(id, member)| (NodeId(*id), member.clone())).collect();
    let databases = state.databases().map(|(name, database)| (name.clone(), *database)).collect();
    let last = last.max(now.applied.as_ref().map(entry_id));
    let survivor = Survivor { last, committed: log.committed(), members, databases };
    Ok((log, survivor))
}
