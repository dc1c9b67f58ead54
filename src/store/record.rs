//! The record of a database: up to which transaction its file is durable.

use std::fs;
use std::path::Path;

use crc_fast::{CrcAlgorithm, checksum};
use serde::{Deserialize, Serialize};

use super::durable;
use super::error::{StoreError, io_at};
use crate::core::{DatabaseName, EntryId, Incarnation, Position};

/// Of a record file, before its version.
const MAGIC: [u8; 8] = *b"lfpy-rec";
const VERSION: u32 = 1;
/// Magic, version, CRC-32C of what follows.
const HEAD: usize = 16;

/// What is known durably of one database (Rule 11). The database file, with the pinned pages if
/// there are any, holds every transaction up to `applied`; it may hold later ones in part, which
/// the log brings again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    pub name: DatabaseName,
    /// `None`: nobody committed to it yet.
    pub incarnation: Option<Incarnation>,
    /// The entry of the last transaction that is in the file, durably.
    pub applied: EntryId,
    /// The position that this transaction led to.
    pub position: Position,
    /// Bytes; 0 while the database is empty.
    pub page_size: u32,
    /// Size of the database at that position.
    pub pages: u32,
    /// The Raft index in the name of the file that holds pages which a reader kept out of the
    /// database file.
    pub pinned: Option<u64>,
}

impl Record {
    /// Of a database that holds nothing.
    pub fn empty(name: DatabaseName) -> Self {
        Self {
            name,
            incarnation: None,
            applied: EntryId::default(),
            position: Position::EMPTY,
            page_size: 0,
            pages: 0,
            pinned: None,
        }
    }

    pub(super) fn encode(&self) -> Result<Vec<u8>, postcard::Error> {
        let mut bytes = vec![0; HEAD];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_be_bytes());
        let mut bytes = postcard::to_extend(self, bytes)?;
        let crc = crc(&bytes[HEAD..]);
        bytes[12..16].copy_from_slice(&crc.to_be_bytes());
        Ok(bytes)
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, String> {
        let (head, body) =
            bytes.split_first_chunk::<HEAD>().ok_or_else(|| "it is cut short".to_owned())?;
        let [m @ .., v0, v1, v2, v3, c0, c1, c2, c3] = *head;
        if m != MAGIC {
            return Err("it is no record".into());
        }
        let version = u32::from_be_bytes([v0, v1, v2, v3]);
        if version != VERSION {
            return Err(format!("its version is {version}; this program knows {VERSION}"));
        }
        if u32::from_be_bytes([c0, c1, c2, c3]) != crc(body) {
            return Err("its checksum is wrong: it is damaged".into());
        }
        let record: Self = postcard::from_bytes(body).map_err(|e| e.to_string())?;
        let (page_size, pages) = (record.page_size, record.pages);
        if (page_size == 0) != (pages == 0)
            || (page_size != 0 && !crate::sqlite::is_page_size(page_size))
        {
            return Err(format!("it says {pages} pages of {page_size} bytes"));
        }
        Ok(record)
    }

    /// Makes it the record of the slot, durably.
    pub fn write(&self, path: &Path) -> Result<(), StoreError> {
        let bytes = self
            .encode()
            .map_err(|e| StoreError::Record { path: path.to_owned(), reason: e.to_string() })?;
        durable::write(path, &bytes).map_err(io_at("writing the record", path))
    }

    /// Reads a record; `None` if there is none.
    pub fn read(path: &Path) -> Result<Option<Self>, StoreError> {
        let bytes = match fs::read(path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(io_at("reading the record", path)(e)),
        };
        Self::decode(&bytes)
            .map(Some)
            .map_err(|reason| StoreError::Record { path: path.to_owned(), reason })
    }
}

fn crc(bytes: &[u8]) -> u32 {
    checksum(CrcAlgorithm::Crc32Iscsi, bytes) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::{Checksum, Txid};

    fn record() -> Record {
        Record {
            incarnation: Some(Incarnation(7)),
            applied: EntryId { term: 3, index: 99 },
            position: Position { txid: Txid(5), checksum: Checksum(Checksum::FLAG | 0x2a) },
            page_size: 4096,
            pages: 12,
            pinned: Some(99),
            ..Record::empty(DatabaseName::new("app.db").unwrap())
        }
    }

    #[test]
    fn a_record_reads_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("record");
        assert_eq!(Record::read(&path).unwrap(), None);
        record().write(&path).unwrap();
        assert_eq!(Record::read(&path).unwrap(), Some(record()));
    }

    #[test]
    fn every_damaged_byte_and_every_cut_is_refused() {
        let bytes = record().encode().unwrap();
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x10;
            assert!(Record::decode(&damaged).is_err(), "byte {at}");
            assert!(Record::decode(&bytes[..at]).is_err(), "cut at {at}");
        }
    }

    /// A record of version 1 as it was first written: a later program still reads it.
    #[test]
    fn version_1_is_read() {
        let kept = [
            b"lfpy-rec\0\0\0\x01".as_slice(),
            &[0x19, 0x65, 0x25, 0x07],
            b"\x06app.db\x01\x07\x03\x63\x05\xaa\x80\x80\x80\x80\x80\x80\x80\x80\x01\x80\x20\x0c\x01\x63",
        ]
        .concat();
        assert_eq!(record().encode().unwrap(), kept);
        assert_eq!(Record::decode(&kept).unwrap(), record());
    }
}
