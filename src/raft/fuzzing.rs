//! Any bytes as what Raft reads: from other nodes, from its log, from its state file.

#![allow(clippy::missing_panics_doc)] // a panic is what is looked for

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

pub use super::log::fuzzing::{log, logs, record, records};
use super::pages::Offer;
use super::snapshot::DatabaseHeader;
use super::snapshot_stream::{Answer, Part, Request};
use super::state_file;
use super::types::Member;
use super::wire::{
    WireAppend, WireAppended, WireEntry, WireMembership, WireMeta, WirePayload, WireTransfer,
    WireTransferred, WireVote, WireVoteRequest, WireVoteResponse, decode, decode_body, encode,
    encode_body,
};
use crate::cluster::{Change, Command, State};
use crate::core::{
    Boot, Checksum, DatabaseName, EntryId, Incarnation, NodeId, Position, TransactionId, Txid,
};

/// Read, written and read again it is the same: what these types cannot say themselves, their
/// bytes do.
fn again<T: Serialize + DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    let value: T = decode("fuzzed bytes", bytes).ok()?;
    let written = encode(&value);
    let read = decode::<T>("what was written", &written);
    assert!(read.is_ok(), "what was written cannot be read");
    assert!(read.is_ok_and(|read| encode(&read) == written));
    Some(value)
}

/// The first byte says which message the others are.
pub fn wire(bytes: &[u8]) {
    let Some((kind, bytes)) = bytes.split_first() else { return };
    match kind % 7 {
        0 => {
            for entry in again::<WireAppend>(bytes).into_iter().flat_map(|append| append.entries) {
                if let Ok(ours) = entry.clone().into_entry() {
                    assert_eq!(WireEntry::of(&ours).id, entry.id);
                }
            }
        }
        1 => drop(again::<WireAppended>(bytes)),
        2 => drop(again::<WireVoteRequest>(bytes)),
        3 => drop(again::<WireVoteResponse>(bytes)),
        4 => drop(again::<WireTransfer>(bytes)),
        5 => drop(again::<WireTransferred>(bytes)),
        _ => {
            if let Some(meta) = again::<WireMeta>(bytes) {
                let _ = meta.membership();
            }
        }
    }
}

pub fn wires() -> Vec<Vec<u8>> {
    let vote = WireVote { term: 3, node: 1, committed: true };
    let last = Some(EntryId { term: 2, index: 300 });
    let append = WireAppend {
        vote,
        previous: last,
        commit: last,
        entries: vec![entry(301), entry(302)],
        quiet: false,
    };
    let request = WireVoteRequest { vote, last, transfer: false };
    let meta = WireMeta { applied: last, membership_entry: last, membership: membership() };
    [(0, encode(&append)), (2, encode(&request)), (6, encode(&meta))]
        .into_iter()
        .map(|(kind, bytes)| [&[kind][..], &bytes].concat())
        .collect()
}

fn membership() -> WireMembership {
    let member = Member { name: "n1".into(), address: "10.0.0.1:4321".into() };
    WireMembership { voters: vec![[1].into()], members: [(1, member)].into() }
}

/// An entry of each kind, by its index.
pub(super) fn entry(index: u64) -> WireEntry {
    let id = TransactionId { node: NodeId(1), boot: Boot(2), sequence: index };
    let payload = match index % 4 {
        0 => WirePayload::Blank,
        3 => WirePayload::Change(Change::RevokeToken { id: "ab".into() }),
        1 => WirePayload::Command(Command::Abandon { id }),
        _ => WirePayload::Membership(membership()),
    };
    WireEntry { id: EntryId { term: 3, index }, payload }
}

/// What a stream of a snapshot begins with, its parts, and its answer.
pub fn snapshot(bytes: &[u8]) {
    drop(again::<Request>(bytes));
    drop(again::<Part>(bytes));
    drop(again::<Answer>(bytes));
}

pub fn snapshots() -> Vec<Vec<u8>> {
    let header = DatabaseName::new("app.db").map(|name| {
        let header = DatabaseHeader { name, incarnation: Incarnation(5), index: 70 };
        let offer = Offer {
            header: header.clone(),
            page_size: 4096,
            pages: 3,
            position: Position { txid: Txid(9), checksum: Checksum(Checksum::FLAG | 5) },
        };
        [
            encode(&Request::Database(header.clone())),
            encode(&Request::DatabasePages(header.clone())),
            encode(&Part::Offer(offer)),
            encode(&Part::Database(header)),
        ]
    });
    let vote = WireVote { term: 3, node: 1, committed: true };
    let request = Request::Snapshot { vote, meta: WireMeta::default() };
    let others = [
        encode(&request),
        encode(&Part::Piece(Bytes::from_static(b"bytes"))),
        encode(&Part::Failed("a reason".into())),
        encode(&Answer::Installed(vote)),
        encode(&Request::SnapshotPages { vote, meta: WireMeta::default() }),
        encode(&Part::Round { last: true }),
        encode(&Part::Pages { numbers: vec![1, 3], lz4: Bytes::from_static(b"pages") }),
        encode(&Answer::Ready),
        encode(&Answer::Wanted(Bytes::from_static(&[5]))),
        encode(&Answer::Taken),
    ];
    header.into_iter().flatten().chain(others).map(Vec::from).collect()
}

/// The state file: as it is, and with the head that such a content has.
pub fn state(bytes: &[u8]) {
    let check = |bytes: &[u8]| {
        if let Ok((meta, state)) = state_file::decode("state".as_ref(), bytes) {
            let again = state_file::decode("state".as_ref(), &state_file::encode(&meta, &state));
            assert!(again.is_ok_and(|again| again == (meta, state)));
        }
    };
    check(bytes);
    let mut sealed = state_file::encode(&WireMeta::default(), &State::default());
    sealed.truncate(12);
    sealed.extend(crc_fast::crc32_iscsi(bytes).to_be_bytes());
    sealed.extend(bytes);
    check(&sealed);
    // Its parts with a content each.
    let (meta, content) = bytes.split_at(bytes.len() / 2);
    if let Ok(meta) = decode_body::<WireMeta>("a position", meta)
        && let Ok(state) = State::decode(&crate::cluster::fuzzing::sealed(content))
    {
        check(&state_file::encode(&meta, &state));
    }
}

/// A state file, and the content of one.
pub fn states() -> Vec<Vec<u8>> {
    let applied = Some(EntryId { term: 2, index: 300 });
    let meta = WireMeta { applied, membership_entry: None, membership: membership() };
    let mut state = State::default();
    state.pass(EntryId { term: 2, index: 300 });
    let whole = state_file::encode(&meta, &state);
    let content = whole.get(16..).unwrap_or_default().to_vec();
    vec![whole, content, encode_body(&meta)]
}
