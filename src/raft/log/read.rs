//! Reading entries: the newest from memory, older ones from their segments.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry as MapEntry;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use super::super::types::Entry;
use super::super::wire::{WireEntry, decode_body};
use super::Log;
use super::disk::DiskFile;
use super::memory::{Found, Slot};
use super::record::{Kind, RECORD_HEADER, SEGMENT_HEADER, SegmentHeader, parse_record, record_len};

impl Log {
    /// The entries of a range that are there; as many as fit into `limit` bytes, one at least.
    pub fn read(&self, range: Range<u64>, limit: u64) -> io::Result<Vec<Entry>> {
        // The files are taken hold of together with the places: they may be retired meanwhile.
        let found: Vec<_> = {
            let state = self.shared.state();
            let found = state.memory.find(range, limit).into_iter();
            found
                .map(|found| match found {
                    Found::Cached(entry) => Ok(entry),
                    Found::On(slot, place) => {
                        let segment = state.segments.get(&place.segment);
                        Err((slot, place, segment.map(|segment| Arc::clone(&segment.file))))
                    }
                })
                .collect()
        };
        let mut nonces = BTreeMap::new();
        let mut entries = Vec::with_capacity(found.len());
        for found in found {
            entries.push(match found {
                Ok(entry) => entry,
                Err((slot, place, Some(file))) => {
                    let nonce = match nonces.entry(place.segment) {
                        MapEntry::Occupied(known) => *known.get(),
                        MapEntry::Vacant(unknown) => *unknown.insert(nonce_of(&*file)?),
                    };
                    read_entry(&*file, nonce, &slot, place.offset)?
                }
                Err((slot, _, None)) => {
                    let why = format!("the segment of entry {} is gone", slot.id.index);
                    return Err(io::Error::other(why));
                }
            });
        }
        Ok(entries)
    }
}

fn nonce_of(file: &dyn DiskFile) -> io::Result<u64> {
    let mut header = [0; SEGMENT_HEADER];
    file.read_exact_at(&mut header, 0)?;
    SegmentHeader::decode(&header)
        .map(|header| header.nonce)
        .map_err(|_| io::Error::other("the header of a log segment cannot be read"))
}

fn read_entry(file: &dyn DiskFile, nonce: u64, slot: &Slot, offset: u32) -> io::Result<Entry> {
    let offset = offset as usize;
    let mut bytes = vec![0; record_len(slot.len as usize).max(RECORD_HEADER)];
    file.read_exact_at(&mut bytes, offset as u64)?;
    let damaged = |why: String| {
        io::Error::new(
            io::ErrorKind::InvalidData,
            format!("entry {} of the Raft log cannot be read: {why}", slot.id.index),
        )
    };
    let record = parse_record(&bytes, nonce, offset)
        .filter(|record| record.kind == Kind::Entry)
        .ok_or_else(|| damaged(format!("the record at offset {offset} is damaged")))?;
    let wire: WireEntry =
        decode_body("an entry", record.body).map_err(|error| damaged(error.to_string()))?;
    if wire.id != slot.id {
        return Err(damaged("another entry stands in its place".into()));
    }
    wire.into_entry().map_err(|error| damaged(error.to_string()))
}
