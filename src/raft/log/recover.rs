//! Reading the log again after a start.
//!
//! A torn tail is cut: records at the end of the last segment that were written but never
//! acknowledged. Anything else that cannot be read is damage, and an error: nothing that may have
//! been acknowledged is dropped in silence (no-lost-ack).
//!
//! What is read may be in the kernel's cache only: the process may have ended before its sync, or
//! because of a sync that failed; then the kernel takes those pages for clean, and no later sync writes
//! them. So before anything is trusted, the folder is synced, and whatever no record proves to be durable
//! is written again, and synced.

use std::collections::{BTreeMap, VecDeque};
use std::io;

use super::super::staged::StagedName;
use super::super::wire::{WireEntry, WireError, WireVote, decode_body};
use super::LogError;
use super::disk::{Disk, DiskFile};
use super::memory::{Memory, Place, Slot};
use super::record::{HeaderError, Kind, Record, SEGMENT_HEADER, SegmentHeader, read_record};
use super::segments::{Segment, Spare, file_name, parse_name};
use crate::core::EntryId;

/// What was found.
pub struct Recovered {
    pub memory: Memory,
    pub segments: BTreeMap<u64, Segment>,
    /// Where the last segment goes on; `None`: there is no segment.
    pub active: Option<Active>,
    pub spares: Vec<Spare>,
}

/// The segment that is being written.
pub struct Active {
    pub number: u64,
    pub nonce: u64,
    pub end: usize,
}

/// Reads all segments of a folder.
pub fn recover(disk: &dyn Disk) -> Result<Recovered, LogError> {
    let io = |what: &'static str| move |source| LogError::Io { what, source };
    let mut numbers = BTreeMap::new();
    let mut spares = Vec::new();
    for (name, len) in disk.list().map_err(io("list the folder"))? {
        if let Some(number) = parse_name(&name) {
            numbers.insert(number, len);
        } else if Spare::is_name(&name) {
            spares.push(Spare { name, len });
        } else if name.ends_with(super::segments::UNFINISHED) {
            disk.remove(&name).map_err(io("remove an unfinished file"))?;
        }
    }
    // Those names are relied on from here on.
    disk.sync_folder().map_err(io("sync the folder"))?;
    let mut replay = Replay::default();
    let mut segments = BTreeMap::new();
    let mut active = None;
    let mut files = Vec::new();
    let mut expected = None;
    for number in numbers.into_keys() {
        if expected.is_some_and(|expected| expected != number) {
            let missing = expected.unwrap_or_default();
            return Err(LogError::Missing { file: file_name(missing) });
        }
        expected = number.checked_add(1);
        let file = disk.open(&file_name(number)).map_err(io("open a segment"))?;
        let header = header(number, &*file)?;
        files.push((number, file, header));
    }
    // Each segment says where the one before it ended.
    let ends: Vec<_> =
        files.iter().skip(1).map(|(.., header)| Some(header.previous_end)).chain([None]).collect();
    for ((number, file, header), end) in files.into_iter().zip(ends) {
        let bytes = read(&*file).map_err(io("read a segment"))?;
        let name = file_name(number);
        let mut segment = Segment { file, last_index: None, len: bytes.len() as u64 };
        let limit = end.map_or(usize::MAX, |end| usize::try_from(end).unwrap_or(usize::MAX));
        let found = replay.segment(number, &bytes, header.nonce, limit, &mut segment)?;
        if end.is_none() {
            check_tail(&name, &bytes, header.nonce, found)?;
            rewrite(&*segment.file, bytes, replay.proven, found)?;
            active = Some(Active { number, nonce: header.nonce, end: found });
        } else if found != limit {
            return Err(damaged(&name, found, "the record there cannot be read"));
        }
        tracing::debug!(segment = number, end = found, "log segment read");
        segments.insert(number, segment);
    }
    Ok(Recovered { memory: replay.finish()?, segments, active, spares })
}

fn read(file: &dyn DiskFile) -> io::Result<Vec<u8>> {
    let len = usize::try_from(file.len()?).map_err(io::Error::other)?;
    let mut bytes = vec![0; len];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}

/// A segment gets its name after its header is durable, so a bad one is damage.
fn header(number: u64, file: &dyn DiskFile) -> Result<SegmentHeader, LogError> {
    let name = file_name(number);
    let mut bytes = [0; SEGMENT_HEADER];
    let read = file.read_exact_at(&mut bytes, 0);
    read.map_err(|error| damaged(&name, 0, &format!("the header cannot be read: {error}")))?;
    match SegmentHeader::decode(&bytes) {
        Ok(header) if header.number == number => Ok(header),
        Ok(_) => Err(damaged(&name, 0, "the header is another segment's")),
        Err(HeaderError::Invalid) => Err(damaged(&name, 0, "the header cannot be read")),
        Err(HeaderError::Version(version)) => Err(LogError::Version { file: name, version }),
    }
}

/// Makes sure that nothing behind `end` was ever durable.
fn check_tail(name: &str, bytes: &[u8], nonce: u64, end: usize) -> Result<(), LogError> {
    let mut offset = end;
    while offset < bytes.len() {
        let Some(record) = read_record(bytes, nonce, offset) else {
            offset += 8;
            continue;
        };
        if record.synced as usize > end {
            let why = "the record there cannot be read, but a later one was written after it was \
                       durable";
            return Err(damaged(name, end, why));
        }
        tracing::warn!(file = name, offset, "dropped a record behind the torn tail of the log");
        offset = record.end;
    }
    Ok(())
}

/// Writes everything again that is not proven to be durable, and zeros behind `end`: the disk may hold
/// something else than was read, also where a record was unmade before, and none of that is to be taken
/// for a record once new ones are written in front of it.
fn rewrite(
    file: &dyn DiskFile,
    mut bytes: Vec<u8>,
    proven: usize,
    end: usize,
) -> Result<(), LogError> {
    let io = |source| LogError::Io { what: "rewrite the tail of a segment", source };
    bytes.iter_mut().skip(end).for_each(|byte| *byte = 0);
    let from = proven.min(end);
    file.write_all_at(bytes.get(from..).unwrap_or_default(), from as u64).map_err(io)?;
    file.sync().map_err(io)
}

fn damaged(file: &str, offset: usize, why: &str) -> LogError {
    LogError::Damaged { file: file.into(), offset: offset as u64, why: why.into() }
}

/// The records, played one after the other.
#[derive(Default)]
struct Replay {
    /// Up to where the last segment is known to be durable: its header is, before it gets its name, and
    /// what a record says that came after.
    proven: usize,
    slots: VecDeque<Slot>,
    vote: Option<WireVote>,
    committed: Option<EntryId>,
    purged: Option<EntryId>,
}

impl Replay {
    /// Plays the records of a segment up to `limit` or to the first one that cannot be read.
    /// Returns where it stopped.
    fn segment(
        &mut self,
        number: u64,
        bytes: &[u8],
        nonce: u64,
        limit: usize,
        segment: &mut Segment,
    ) -> Result<usize, LogError> {
        let mut offset = SEGMENT_HEADER;
        self.proven = offset;
        while offset < limit {
            let Some(record) = read_record(bytes, nonce, offset) else { break };
            self.proven = self.proven.max(record.synced as usize);
            let place = Place { segment: number, offset: offset as u32 };
            self.record(&record, place).map_err(|why| damaged(&file_name(number), offset, &why))?;
            if record.kind == Kind::Entry {
                segment.last_index =
                    segment.last_index.max(self.slots.back().map(|slot| slot.id.index));
            }
            offset = record.end;
        }
        Ok(offset)
    }

    fn record(&mut self, record: &Record<'_>, place: Place) -> Result<(), String> {
        let text = |error: WireError| error.to_string();
        match record.kind {
            Kind::Vote => self.vote = Some(decode_body("a vote", record.body).map_err(text)?),
            Kind::Committed => {
                self.committed = decode_body("a committed mark", record.body).map_err(text)?;
            }
            Kind::Truncate => {
                let after: Option<EntryId> =
                    decode_body("a truncation", record.body).map_err(text)?;
                let next = after.map_or(0, |id| id.index.saturating_add(1));
                while self.slots.back().is_some_and(|slot| slot.id.index >= next) {
                    self.slots.pop_back();
                }
            }
            Kind::Purge => {
                let upto: EntryId = decode_body("a purge", record.body).map_err(text)?;
                self.purged = Some(upto);
                while self.slots.front().is_some_and(|slot| slot.id.index <= upto.index) {
                    self.slots.pop_front();
                }
            }
            Kind::Entry => {
                let entry: WireEntry = decode_body("an entry", record.body).map_err(text)?;
                // The first may have any index: those before it were in segments that are gone,
                // and the purge of them follows.
                let follows = self
                    .slots
                    .back()
                    .is_none_or(|last| last.id.index.checked_add(1) == Some(entry.id.index));
                if !follows {
                    return Err(format!("entry {} does not follow the one before", entry.id.index));
                }
                self.slots.push_back(Slot {
                    id: entry.id,
                    len: record.body.len() as u32,
                    place: Some(place),
                    staged: StagedName::in_entry(&entry).map(Box::new),
                });
            }
        }
        Ok(())
    }

    fn finish(self) -> Result<Memory, LogError> {
        if let (Some(purged), Some(first)) = (self.purged, self.slots.front())
            && purged.index.checked_add(1) != Some(first.id.index)
        {
            return Err(LogError::Hole { purged: purged.index, first: first.id.index });
        }
        Ok(Memory::recovered(self.slots, self.purged, self.vote, self.committed))
    }
}
