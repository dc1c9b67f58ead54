//! The one thread that writes the log: group commit.
//!
//! Everything that waits is written with one write and one fdatasync, and then everyone who waits
//! for it is told. While it syncs, the next group gathers.

use std::io;
use std::sync::Arc;

use super::super::staged::StagedName;
use super::super::wire::{WireVote, encode_body};
use super::disk::{Disk, DiskFile};
use super::memory::Place;
use super::record::{Kind, SEGMENT_HEADER, SegmentHeader, record_len, write_record};
use super::recover::Active;
use super::segments::{JanitorJobs, Retired, Segment, file_name};
use super::{Group, Mark, Shared, Work};
use crate::core::EntryId;

/// The longest body of a record: what a `u32` offset and a sane entry allow.
pub const MAX_BODY: usize = 64 << 20;

pub struct Writer {
    shared: Arc<Shared>,
    disk: Arc<dyn Disk>,
    janitor: JanitorJobs,
    current: Current,
    marks: Marks,
}

/// The segment that is being written.
struct Current {
    number: u64,
    nonce: u64,
    file: Arc<dyn DiskFile>,
    len: usize,
    /// Where `unwritten` will stand.
    end: usize,
    synced: usize,
    unwritten: Vec<u8>,
}

/// What a new segment begins with, so that the older ones can go.
#[derive(Clone, Copy)]
struct Marks {
    vote: Option<WireVote>,
    committed: Option<EntryId>,
    purged: Option<EntryId>,
}

impl Marks {
    fn records(self) -> Vec<(Kind, Vec<u8>)> {
        let mut records = Vec::new();
        if let Some(vote) = self.vote {
            records.push((Kind::Vote, encode_body(&vote)));
        }
        if let Some(purged) = self.purged {
            records.push((Kind::Purge, encode_body(&purged)));
        }
        records.push((Kind::Committed, encode_body(&self.committed)));
        records
    }
}

/// Makes the first segment of a log, or goes on with the last one.
pub fn writer(
    shared: Arc<Shared>,
    disk: Arc<dyn Disk>,
    janitor: JanitorJobs,
    active: Option<Active>,
) -> io::Result<Writer> {
    let marks = {
        let memory = &shared.state().memory;
        Marks { vote: memory.vote, committed: memory.committed, purged: memory.purged }
    };
    let current = match active {
        Some(active) => {
            let segment = shared.state().segments.get(&active.number).map(|segment| {
                (Arc::clone(&segment.file), usize::try_from(segment.len).unwrap_or(usize::MAX))
            });
            let (file, len) =
                segment.ok_or_else(|| io::Error::other("the segment is not there"))?;
            Current {
                number: active.number,
                nonce: active.nonce,
                file,
                len,
                end: active.end,
                synced: active.end,
                unwritten: Vec::new(),
            }
        }
        None => begin(&shared, &*disk, &janitor, 1, 0, 0)?,
    };
    Ok(Writer { shared, disk, janitor, current, marks })
}

/// Begins a segment. Its header is durable before it gets its name, and both before a record is
/// written to it.
fn begin(
    shared: &Shared,
    disk: &dyn Disk,
    janitor: &JanitorJobs,
    number: u64,
    previous_end: u64,
    needed: usize,
) -> io::Result<Current> {
    let (spare, file) = janitor.take((SEGMENT_HEADER + needed) as u64)?;
    let nonce = rand::random();
    file.write_all_at(&SegmentHeader { number, nonce, previous_end }.encode(), 0)?;
    file.sync()?;
    disk.rename(&spare.name, &file_name(number))?;
    disk.sync_folder()?;
    let segment = Segment { file: Arc::clone(&file), last_index: None, len: spare.len };
    shared.state().segments.insert(number, segment);
    Ok(Current {
        number,
        nonce,
        file,
        len: usize::try_from(spare.len).unwrap_or(usize::MAX),
        end: SEGMENT_HEADER,
        synced: SEGMENT_HEADER,
        unwritten: Vec::new(),
    })
}

impl Writer {
    /// Writes until the log is closed, or until the first error: after one nobody knows what is on
    /// the disk, so nothing more is written, nothing more is acknowledged, and the process is told
    /// to stop (no-lost-ack).
    pub fn run(mut self) {
        while let Some(mut group) = self.shared.next_group() {
            let result = self.write(&group);
            let text = result.as_ref().err().map(ToString::to_string);
            if let Err(error) = result {
                self.shared.fail(&error);
            }
            let again = || text.as_ref().map_or(Ok(()), |text| Err(io::Error::other(text.clone())));
            for work in group.works.drain(..) {
                if let Work::Entries { done, .. } | Work::Vote { done, .. } = work {
                    done(again());
                }
            }
            for done in group.syncs.drain(..) {
                done(again());
            }
            if text.is_some() {
                return self.shared.ended();
            }
        }
        // A mark that nobody waited for is written, and not synced yet.
        if let Err(error) = self.sync() {
            self.shared.fail(&error);
        }
        self.shared.ended();
    }

    fn write(&mut self, group: &Group) -> io::Result<()> {
        let mut written = Vec::new();
        let mut purged = None;
        for work in &group.works {
            match work {
                Work::Entries { records, .. } => {
                    for record in records {
                        // Rule 19: an entry counts as flushed only if the file it names does.
                        if let Some(staged) = &record.staged {
                            self.shared.check_staged(staged)?;
                        }
                        let place = self.put(Kind::Entry, &record.body)?;
                        written.push((record.id, place));
                    }
                }
                Work::Vote { vote, .. } => {
                    self.marks.vote = Some(*vote);
                    self.put(Kind::Vote, &encode_body(vote))?;
                }
                Work::Truncate { after } => {
                    self.put(Kind::Truncate, &encode_body(after))?;
                }
                Work::Purge { upto } => {
                    self.marks.purged = Some(*upto);
                    self.put(Kind::Purge, &encode_body(upto))?;
                    purged = Some(*upto);
                }
            }
        }
        if let Some(Mark(committed)) = group.mark {
            self.marks.committed = committed;
            self.put(Kind::Committed, &encode_body(&committed))?;
        }
        self.flush()?;
        if !group.works.is_empty() || !group.syncs.is_empty() {
            self.sync()?;
        }
        self.shared.written(&written);
        if let Some(purged) = purged {
            self.retire(purged)?;
        }
        Ok(())
    }

    /// Adds a record to what is to be written, in a new segment if this one is full.
    fn put(&mut self, kind: Kind, body: &[u8]) -> io::Result<Place> {
        let needed = record_len(body.len());
        if body.len() > MAX_BODY {
            return Err(io::Error::other("an entry is longer than any can be"));
        }
        if self.current.end + self.current.unwritten.len() + needed > self.current.len {
            self.next_segment(needed)?;
        }
        Ok(self.place(kind, body))
    }

    fn place(&mut self, kind: Kind, body: &[u8]) -> Place {
        let current = &mut self.current;
        let offset = current.end + current.unwritten.len();
        let synced = current.synced as u32;
        write_record(&mut current.unwritten, current.nonce, offset, kind, synced, body);
        Place { segment: current.number, offset: offset as u32 }
    }

    fn next_segment(&mut self, needed: usize) -> io::Result<()> {
        self.flush()?;
        // The next segment says that this one is whole.
        self.sync()?;
        let number = self.current.number + 1;
        let end = self.current.end as u64;
        let marks = self.marks.records();
        let needed = needed + marks.iter().map(|(_, body)| record_len(body.len())).sum::<usize>();
        self.current = begin(&self.shared, &*self.disk, &self.janitor, number, end, needed)?;
        for (kind, body) in marks {
            self.place(kind, &body);
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        let current = &mut self.current;
        if current.unwritten.is_empty() {
            return Ok(());
        }
        current.file.write_all_at(&current.unwritten, current.end as u64)?;
        current.end += current.unwritten.len();
        current.unwritten.clear();
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        if self.current.synced < self.current.end {
            self.current.file.sync()?;
            self.current.synced = self.current.end;
        }
        Ok(())
    }

    /// Gives away the oldest segments as long as all their entries are purged, durably.
    fn retire(&self, purged: EntryId) -> io::Result<()> {
        let mut retired = Vec::new();
        {
            let mut state = self.shared.state();
            while let Some(oldest) = state.segments.first_entry() {
                let last = oldest.get().last_index;
                if *oldest.key() == self.current.number
                    || last.is_some_and(|last| last > purged.index)
                {
                    break;
                }
                let (number, segment) = oldest.remove_entry();
                retired.push(Retired { number, segment });
            }
        }
        self.janitor.retire(retired)
    }
}

/// An entry on its way to the disk.
pub struct EntryRecord {
    pub id: EntryId,
    pub body: Vec<u8>,
    pub staged: Option<StagedName>,
}
