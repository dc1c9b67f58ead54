//! The folder of a group whose databases were there before its log (`litefs-py convert`).
//!
//! It is what a node has that made its state durable and purged all of its log: the others get the databases
//! as from any leader. Nobody else may be a member of that log before this node is: they begin as newcomers,
//! which vote, and have nothing to lead with.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::RaftError;
use super::log::disk::Folder;
use super::log::{Log, LogConfig};
use super::staged::NoStagedFiles;
use super::state_file::StateFile;
use super::survivor::wait;
use super::types::{Members, Membership, StoredMembership, log_id};
use super::wire::{WireMeta, WireVote};
use crate::cluster::State;
use crate::core::NodeId;
use crate::store::durable;

/// Makes the folder, which must not be there yet: the group as of the entry that `state` is as of, with
/// these members.
///
/// # Errors
/// The disk's; or there are no members.
pub fn found(folder: &Path, me: NodeId, members: &Members, state: &State) -> Result<(), RaftError> {
    let io = |source| RaftError::Folder { path: folder.to_owned(), source };
    durable::make_folder(folder).map_err(io)?;
    let nodes: BTreeMap<_, _> = members.iter().map(|(id, member)| (id.0, member.clone())).collect();
    let voters = nodes.keys().copied().collect();
    let membership = Membership::new(vec![voters], nodes)
        .map_err(|error| RaftError::Membership(error.to_string()))?;
    let applied = log_id(state.applied());
    let membership = StoredMembership::new(Some(applied), membership);
    let (file, _) = StateFile::open(folder)?;
    file.write(&WireMeta::of(Some(&applied), &membership), state).map_err(io)?;
    // Raft (section 5.4.1) knows no entry of a term that its node never heard of.
    let disk = Folder::new(&folder.join("log")).map_err(io)?;
    let failed = Arc::new(|why| tracing::error!(why, "the Raft log failed"));
    let log = Log::open(Arc::new(disk), LogConfig::default(), Arc::new(NoStagedFiles), failed)?;
    let vote = WireVote { term: state.applied().term, node: me.0, committed: false };
    let saved = wait(|done| log.save_vote(vote, done));
    log.close();
    saved.map_err(|error| RaftError::Stopped(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::DatabaseState;
    use crate::core::{Checksum, DatabaseName, EntryId, Incarnation, Position, Txid};
    use crate::raft::{Member, look};

    #[test]
    fn what_is_founded_is_what_the_node_then_holds() {
        let folder = tempfile::tempdir().unwrap();
        let raft = folder.path().join("raft");
        let entry = EntryId { term: 77, index: 1_000_002 };
        let position = Position { txid: Txid(57), checksum: Checksum(Checksum::FLAG | 5) };
        let incarnation = Incarnation(1_000_001);
        let database =
            DatabaseState { incarnation, position, page_size: 4096, pages: 3, index: 1_000_001 };
        let databases = BTreeMap::from([(DatabaseName::new("a.db").unwrap(), database)]);
        let later = DatabaseState { index: 1_000_003, ..database };
        let impossible = BTreeMap::from([(DatabaseName::new("a.db").unwrap(), later)]);
        assert!(State::founded(entry, impossible).is_none(), "of a later entry");
        let state = State::founded(entry, databases.clone()).unwrap();
        let member = |name: &str| Member { name: name.into(), address: format!("{name}:1") };
        let members = Members::from([(NodeId(1), member("n1")), (NodeId(2), member("n2"))]);
        found(&raft, NodeId(1), &members, &state).unwrap();
        let held = look(&raft, Arc::new(NoStagedFiles)).unwrap();
        assert_eq!((held.last, held.members), (Some(entry), members));
        assert_eq!(held.databases, databases);
    }
}
