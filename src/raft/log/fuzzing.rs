//! Any bytes as segments of the log.

#![allow(clippy::missing_panics_doc)] // a panic is what is looked for

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use super::disk::{Disk, DiskFile};
use super::record::{
    Kind, RECORD_HEADER, SEGMENT_HEADER, SegmentHeader, parse_record, record_len, write_record,
};
use super::recover::recover;
use super::segments::file_name;
use crate::core::EntryId;
use crate::raft::wire::{WireVote, encode_body};

const NONCE: u64 = 5;

fn kind_of(number: u8) -> Kind {
    match number % 5 {
        0 => Kind::Entry,
        1 => Kind::Vote,
        2 => Kind::Committed,
        3 => Kind::Truncate,
        _ => Kind::Purge,
    }
}

/// A header and a record.
pub fn record(bytes: &[u8]) {
    if let Ok(header) = SegmentHeader::decode(bytes) {
        assert_eq!(SegmentHeader::decode(&header.encode()), Ok(header));
    }
    let Some((&[kind, offset], body)) = bytes.split_first_chunk::<2>() else { return };
    let offset = usize::from(offset) * 8;
    if let Some(record) = parse_record(body, NONCE, offset) {
        assert!(record.body.len() <= body.len() && record.end > offset);
    }
    let mut written = Vec::new();
    write_record(&mut written, NONCE, offset, kind_of(kind), 9, body);
    assert_eq!(written.len(), record_len(body.len()));
    let read = parse_record(&written, NONCE, offset);
    assert!(read.is_some_and(|read| {
        read.body == body && read.kind == kind_of(kind) && read.end == offset + written.len()
    }));
}

pub fn records() -> Vec<Vec<u8>> {
    let header = SegmentHeader { number: 5, nonce: 6, previous_end: 7 };
    let mut record = vec![0, 8];
    write_record(&mut record, NONCE, 64, Kind::Entry, 64, b"hello");
    vec![header.encode(), record]
}

type Files = Arc<Mutex<BTreeMap<String, Vec<u8>>>>;

/// A disk in memory.
struct Memory(Files);

struct File {
    files: Files,
    name: String,
}

impl File {
    fn with<T>(&self, what: impl FnOnce(&mut Vec<u8>) -> Option<T>) -> io::Result<T> {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = files.get_mut(&self.name);
        bytes.and_then(what).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }
}

impl Disk for Memory {
    fn list(&self) -> io::Result<Vec<(String, u64)>> {
        let files = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(files.iter().map(|(name, bytes)| (name.clone(), bytes.len() as u64)).collect())
    }

    fn create(&self, _name: &str, _len: u64) -> io::Result<Arc<dyn DiskFile>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(File { files: Arc::clone(&self.0), name: name.into() }))
    }

    fn rename(&self, _from: &str, _to: &str) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
        Ok(())
    }

    fn sync_folder(&self) -> io::Result<()> {
        Ok(())
    }
}

impl DiskFile for File {
    fn len(&self) -> io::Result<u64> {
        self.with(|bytes| Some(bytes.len() as u64))
    }

    fn read_exact_at(&self, to: &mut [u8], offset: u64) -> io::Result<()> {
        let at = usize::try_from(offset).map_err(io::Error::other)?;
        self.with(|bytes| {
            let from = bytes.get(at..at.checked_add(to.len())?)?;
            to.copy_from_slice(from);
            Some(())
        })
    }

    fn write_all_at(&self, from: &[u8], offset: u64) -> io::Result<()> {
        let at = usize::try_from(offset).map_err(io::Error::other)?;
        self.with(|bytes| {
            bytes.get_mut(at..at.checked_add(from.len())?)?.copy_from_slice(from);
            Some(())
        })
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}

/// Segments of sound records with any bodies, some of them damaged afterwards. What is recovered
/// once is recovered again, and is the same (no-lost-ack).
pub fn log(bytes: &[u8]) {
    let files = Files::default();
    let mut number = 1;
    let mut segment = SegmentHeader { number, nonce: NONCE, previous_end: 0 }.encode();
    let mut damage = Vec::new();
    let mut rest = bytes;
    while let Some((&[what, len], more)) = rest.split_first_chunk::<2>() {
        let (body, more) = more.split_at(more.len().min(len.into()));
        rest = more;
        let offset = segment.len();
        match what % 16 {
            15 => {
                let header =
                    SegmentHeader { number: number + 1, nonce: NONCE, previous_end: offset as u64 };
                keep(&files, number, segment);
                number += 1;
                segment = header.encode();
            }
            14 => damage.push((number, usize::from(len) + SEGMENT_HEADER)),
            13 => segment.resize(offset + RECORD_HEADER, 0),
            12 => {
                let id = EntryId { term: 1, index: u64::from(len) };
                let kind =
                    [Kind::Truncate, Kind::Purge, Kind::Committed][usize::from(what) / 16 % 3];
                let body =
                    if kind == Kind::Purge { encode_body(&id) } else { encode_body(&Some(id)) };
                write_record(&mut segment, NONCE, offset, kind, offset as u32, &body);
            }
            8..=11 => {
                let body = encode_body(&super::super::fuzzing::entry(u64::from(len)));
                write_record(&mut segment, NONCE, offset, Kind::Entry, offset as u32, &body);
            }
            kind => write_record(&mut segment, NONCE, offset, kind_of(kind), 0, body),
        }
    }
    keep(&files, number, segment);
    for (number, at) in damage {
        let mut files = files.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(byte) = files.get_mut(&file_name(number)).and_then(|file| file.get_mut(at)) {
            *byte ^= 0x10;
        }
    }
    let disk = Memory(files);
    if let Ok(found) = recover(&disk) {
        let again = recover(&disk);
        assert!(again.is_ok(), "recovered once, and not again: {:?}", again.err());
        if let Ok(again) = again {
            assert_eq!(found.memory.last(), again.memory.last());
            let end = |found: Option<super::recover::Active>| found.map(|a| (a.number, a.end));
            assert_eq!(end(found.active), end(again.active));
        }
    }
}

fn keep(files: &Files, number: u64, mut segment: Vec<u8>) {
    // As segments are: made beforehand, of zeros.
    segment.resize(segment.len() + 64, 0);
    files.lock().unwrap_or_else(PoisonError::into_inner).insert(file_name(number), segment);
}

/// Operations, as [`log`] takes them.
pub fn logs() -> Vec<Vec<u8>> {
    let vote = encode_body(&WireVote { term: 3, node: 1, committed: true });
    let mut voted = vec![1, vote.len() as u8];
    voted.extend(vote);
    let entries = [8, 1, 8, 2, 8, 3, 28, 1, 15, 0, 8, 4, 12, 3, 14, 70];
    vec![[&voted[..], &entries].concat(), entries.to_vec()]
}
