//! Any bytes as the record of a database.

#![allow(clippy::missing_panics_doc)] // a panic is what is looked for

use super::record::Record;
use crate::core::{Checksum, DatabaseName, EntryId, Incarnation, Position, Txid};

/// As it is, and as the content of a record whose checksum is right.
pub fn record(bytes: &[u8]) {
    check(bytes);
    let head = seed().and_then(|record| record.encode().ok()).unwrap_or_default();
    let mut sealed = head.get(..12).unwrap_or_default().to_vec();
    sealed.extend(crc_fast::crc32_iscsi(bytes).to_be_bytes());
    sealed.extend(bytes);
    check(&sealed);
}

fn check(bytes: &[u8]) {
    if let Ok(record) = Record::decode(bytes) {
        let again = record.encode().map(|bytes| Record::decode(&bytes));
        assert_eq!(again, Ok(Ok(record)));
    }
}

fn seed() -> Option<Record> {
    Some(Record {
        incarnation: Some(Incarnation(7)),
        applied: EntryId { term: 3, index: 99 },
        position: Position { txid: Txid(5), checksum: Checksum(Checksum::FLAG | 0x2a) },
        page_size: 4096,
        pages: 12,
        pinned: Some(99),
        ..Record::empty(DatabaseName::new("app.db").ok()?)
    })
}

/// A record, and the content of one.
pub fn records() -> Vec<Vec<u8>> {
    let bytes = seed().and_then(|record| record.encode().ok()).unwrap_or_default();
    let content = bytes.get(16..).unwrap_or_default().to_vec();
    vec![bytes, content]
}
