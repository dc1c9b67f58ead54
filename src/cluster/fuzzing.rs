//! Any bytes as the state that the nodes agree on.

#![allow(clippy::missing_panics_doc)] // a panic is what is looked for

use bytes::Bytes;

use super::{Change, Command, Commit, End, LeaseChange, Part, Payload, State};
use crate::core::{
    Boot, Checksum, DatabaseName, EntryId, Incarnation, NodeId, Position, TransactionId, Txid,
};

/// As it is, and as the content of a state whose checksum is right.
pub fn state(bytes: &[u8]) {
    check(bytes);
    check(&sealed(bytes));
    // The same, as one with a registry, and as one with a lease.
    for later in [2, 3] {
        let mut bytes = sealed(bytes);
        if let Some(version) = bytes.get_mut(11) {
            *version = later;
        }
        check(&bytes);
    }
}

fn check(bytes: &[u8]) {
    if let Ok(mut state) = State::decode(bytes) {
        assert_eq!(State::decode(&state.encode()), Ok(state.clone()));
        // Whatever it says, it goes on.
        let after = state.applied().index.saturating_add(1);
        for (number, command) in commands().iter().enumerate() {
            let index = after.saturating_add(number as u64);
            let verdict = state.apply(EntryId { term: u64::MAX, index }, command).verdict();
            assert!(state.verdict(command.id()).is_none_or(|kept| kept == verdict));
        }
    }
}

/// The bytes behind the head that a state of such a content has.
pub fn sealed(content: &[u8]) -> Vec<u8> {
    let mut bytes = State::default().encode();
    bytes.truncate(12);
    bytes.extend(crc_fast::crc32_iscsi(content).to_be_bytes());
    bytes.extend(content);
    bytes
}

fn commands() -> Vec<Command> {
    let id = |sequence| TransactionId { node: NodeId(2), boot: Boot(3), sequence };
    let Ok(database) = DatabaseName::new("app.db") else { return Vec::new() };
    let create = Command::Commit(Commit {
        id: id(1),
        database: database.clone(),
        incarnation: None,
        base: Position::EMPTY,
        new: Position { txid: Txid(1), checksum: Checksum(Checksum::FLAG | 5) },
        page_size: 4096,
        pages: 2,
        payload: Payload::Inline(Bytes::new()),
    });
    let delete = Command::Delete { id: id(3), database, incarnation: Incarnation(7) };
    vec![create, Command::Abandon { id: id(2) }, delete]
}

/// Contents of states.
pub fn states() -> Vec<Vec<u8>> {
    let mut state = State::default();
    let mut seeds = Vec::new();
    for (number, command) in commands().iter().enumerate() {
        state.apply(EntryId { term: 1, index: 7 + number as u64 }, command);
        seeds.push(state.encode().split_off(16));
    }
    let change = Change::CreateToken {
        id: "ab".into(),
        secret_sha256: [1; 32],
        expires: 9,
        part: Part::Learner,
        now: 1,
    };
    // Refused or not: it is a seed.
    let _ = state.change(EntryId { term: 1, index: 70 }, &change);
    seeds.push(state.encode().split_off(16));
    let node = NodeId(2);
    let lease = [
        LeaseChange::Identify { cluster_id: "LFSC".into() },
        LeaseChange::Choose { node, asked: Some("n2".into()) },
        LeaseChange::Acquire { node, session: "s".into(), ttl_ms: 3000, now_ms: 7 },
        LeaseChange::End { node: NodeId(2), session: "s".into(), end: End::Died, now_ms: 8 },
    ];
    for (index, change) in (71..).zip(lease) {
        let _ = state.change(EntryId { term: 1, index }, &Change::Lease(change));
        seeds.push(state.encode().split_off(16));
    }
    seeds
}
