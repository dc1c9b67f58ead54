//! Transactions out of the writes to a database and its rollback journal.
//!
//! The commit point is the operation that ends the journal: its removal (DELETE), its truncation
//! (TRUNCATE), or zeros over its header (PERSIST). Writes to the database go to an overlay that is
//! held elsewhere; here is kept which bytes they touched.

use super::ranges::Ranges;
use super::super_journal::SuperJournalScan;
use crate::sqlite::journal::{HEADER_SIZE, MAGIC};
use crate::sqlite::{JournalHeader, is_page_size, lock_page};

/// The committed database when the write lock was taken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DatabaseShape {
    /// Bytes; `None` while the database is empty.
    pub page_size: Option<u32>,
    /// Size in pages.
    pub pages: u32,
}

/// Why an operation is answered EIO.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error(
        "a transaction over several databases (super-journal {name:?}) is committed by the removal \
         of one file, which other nodes would not see; change one database a transaction, or use \
         WAL mode"
    )]
    SuperJournal { name: String },
    #[error(
        "the database is written without a rollback journal (journal_mode MEMORY or OFF): such a \
         transaction has no commit point; use WAL, DELETE, TRUNCATE or PERSIST"
    )]
    NoJournal,
    #[error("the page size changes from {from} to {to}; copy into a new database instead")]
    PageSize { from: u32, to: u32 },
    #[error("page size {0} is not one that SQLite knows: not a database, or an encrypted one")]
    UnknownPageSize(u32),
    #[error(
        "a second transaction begins within one hold of the write lock (locking_mode EXCLUSIVE)"
    )]
    SecondTransaction,
    #[error("the write ends beyond the largest database there can be")]
    TooFar,
}

/// What an operation on the database or its journal means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JournalEvent {
    /// Nobody will see it yet: do it, answer it.
    Pass,
    /// Withhold it: it makes the transaction final. Or a rollback of one: compare the pages.
    CommitPoint(JournalCommit),
    /// The journal ends and nothing was written to the database: no transaction (Rule 8).
    Empty,
    /// Do not do it, answer EIO.
    Refuse(Refusal),
}

/// What was written to the database when its journal ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JournalCommit {
    /// Bytes.
    pub page_size: u32,
    /// Pages that were written, ascending. Some may hold what they held before, all of them
    /// after a rollback; some may lie beyond the new size.
    pub dirty: Vec<u32>,
    /// The first page that a truncation took away, if there was one.
    pub truncated_from: Option<u32>,
    /// The committed size before it, in pages.
    pub pages_before: u32,
}

impl JournalCommit {
    /// The pages that may differ from those committed before, ascending, in a database that now
    /// has `pages` (as its header says, and no more than its file holds): the written ones, the
    /// grown ones (SQLite need not write a page that it put on the free list: it reads as zeros),
    /// and those truncated and grown again. Never the lock page.
    pub fn changed(&self, pages: u32) -> impl Iterator<Item = u32> {
        let grown = self.pages_before.saturating_add(1);
        let from = self.truncated_from.map_or(grown, |page| page.min(grown));
        let written = self.dirty.iter().copied();
        let written = written.take_while(move |page| *page < from && *page <= pages);
        let lock_page = lock_page(self.page_size);
        written.chain(from..=pages).filter(move |page| *page != lock_page)
    }
}

/// Follows the operations on a database and its journal during one hold of the write lock.
#[derive(Debug)]
pub struct JournalCapture {
    shape: DatabaseShape,
    /// The start of the journal as it is in the file.
    head: [u8; HEADER_SIZE],
    scan: SuperJournalScan,
    dirty: Ranges,
    /// The shortest the database was truncated to, bytes.
    truncated_to: Option<u64>,
    /// Bytes 16 and 17 of the database as written in this hold: its page size.
    size_bytes: [Option<u8>; 2],
    /// As the journal's header says it.
    journal_page_size: Option<u32>,
    committed: bool,
}

impl JournalCapture {
    /// At the moment when RESERVED was taken, or EXCLUSIVE to play a hot journal back.
    /// `journal`: the first bytes of the journal file that is there (28 suffice; empty if none).
    pub fn begin(shape: DatabaseShape, journal: &[u8]) -> Self {
        let mut head = [0; HEADER_SIZE];
        for (to, from) in head.iter_mut().zip(journal) {
            *to = *from;
        }
        Self {
            shape,
            head,
            scan: SuperJournalScan::default(),
            dirty: Ranges::default(),
            truncated_to: None,
            size_bytes: [None; 2],
            journal_page_size: JournalHeader::parse(&head).map(|header| header.page_size),
            committed: false,
        }
    }

    /// Whether the journal could be played back.
    fn is_live(&self) -> bool {
        self.head.starts_with(&MAGIC)
    }

    /// A write to the database is about to be done.
    pub fn db_write(&mut self, offset: u64, data: &[u8]) -> JournalEvent {
        let Some(end) =
            offset.checked_add(data.len() as u64).filter(|end| i64::try_from(*end).is_ok())
        else {
            return JournalEvent::Refuse(Refusal::TooFar);
        };
        if data.is_empty() {
            return JournalEvent::Pass;
        }
        if self.committed {
            return JournalEvent::Refuse(Refusal::SecondTransaction);
        }
        if !self.is_live() {
            return JournalEvent::Refuse(Refusal::NoJournal);
        }
        let mut size_bytes = self.size_bytes;
        for (at, byte) in (16..).zip(&mut size_bytes) {
            if (offset..end).contains(&at) {
                *byte = data.get((at - offset) as usize).copied();
            }
        }
        if let Some(refusal) = self.refuses_page_size(size_bytes) {
            return JournalEvent::Refuse(refusal);
        }
        self.size_bytes = size_bytes;
        self.dirty.insert(offset..end);
        JournalEvent::Pass
    }

    /// A database keeps its page size: a page of another size has another number, so that the
    /// change would be no transaction of changed pages. VACUUM can ask for it.
    fn refuses_page_size(&self, size_bytes: [Option<u8>; 2]) -> Option<Refusal> {
        let to = written_page_size(size_bytes)?;
        if !is_page_size(to) {
            return Some(Refusal::UnknownPageSize(to));
        }
        let from = self.shape.page_size.filter(|from| *from != to)?;
        Some(Refusal::PageSize { from, to })
    }

    /// The database is about to be truncated. After the commit point (VACUUM) it is no
    /// transaction: the committed size is the header's.
    pub fn db_truncate(&mut self, len: u64) -> JournalEvent {
        if self.is_live() && !self.committed {
            self.truncated_to = Some(self.truncated_to.map_or(len, |to| to.min(len)));
        }
        JournalEvent::Pass
    }

    /// A write to the journal is about to be done. Also written in pieces, the commit point is
    /// the first that makes the header invalid, a super-journal is refused at the last.
    pub fn journal_write(&mut self, offset: u64, data: &[u8]) -> JournalEvent {
        if let Some(record) = self.scan.write(offset, data) {
            let name = String::from_utf8_lossy(&record.name).into_owned();
            return JournalEvent::Refuse(Refusal::SuperJournal { name });
        }
        let was_live = self.is_live();
        if let Some(to) = usize::try_from(offset).ok().and_then(|at| self.head.get_mut(at..)) {
            for (to, from) in to.iter_mut().zip(data) {
                *to = *from;
            }
        }
        if let Some(header) = JournalHeader::parse(&self.head) {
            self.journal_page_size = Some(header.page_size);
        }
        if was_live && !self.is_live() { self.journal_ends() } else { JournalEvent::Pass }
    }

    /// The journal is about to be truncated.
    pub fn journal_truncate(&mut self, len: u64) -> JournalEvent {
        let was_live = self.is_live();
        if let Some(gone) = usize::try_from(len).ok().and_then(|at| self.head.get_mut(at..)) {
            gone.fill(0);
        }
        self.scan = SuperJournalScan::default();
        match len {
            0 => self.journal_ends(),
            _ if was_live && !self.is_live() => self.journal_ends(),
            _ => JournalEvent::Pass,
        }
    }

    /// The journal is about to be removed.
    pub fn journal_unlink(&mut self) -> JournalEvent {
        self.journal_truncate(0)
    }

    fn journal_ends(&mut self) -> JournalEvent {
        let page_size = self.shape.page_size;
        let page_size = page_size.or_else(|| written_page_size(self.size_bytes));
        // A rollback in an empty database may have written no page 1.
        let page_size = page_size.or(self.journal_page_size);
        if self.dirty.is_empty() && self.truncated_to.is_none() {
            return JournalEvent::Empty;
        }
        let Some(page_size) = page_size.filter(|size| is_page_size(*size)) else {
            return JournalEvent::Refuse(Refusal::UnknownPageSize(page_size.unwrap_or(0)));
        };
        let page_of = |byte: u64| u32::try_from(byte / u64::from(page_size) + 1);
        let mut dirty = Vec::new();
        for range in self.dirty.iter() {
            let (Ok(first), Ok(last)) = (page_of(range.start), page_of(range.end - 1)) else {
                return JournalEvent::Refuse(Refusal::TooFar);
            };
            // Two ranges may lie in one page.
            let first = dirty.last().map_or(first, |before: &u32| first.max(before + 1));
            dirty.extend(first..=last);
        }
        let truncated_from = self.truncated_to.and_then(|len| page_of(len).ok());
        self.dirty.clear();
        self.truncated_to = None;
        self.committed = true;
        JournalEvent::CommitPoint(JournalCommit {
            page_size,
            dirty,
            truncated_from,
            pages_before: self.shape.pages,
        })
    }
}

/// The page size that the two bytes mean, once both are known.
fn written_page_size(bytes: [Option<u8>; 2]) -> Option<u32> {
    let [Some(high), Some(low)] = bytes else { return None };
    match u16::from_be_bytes([high, low]) {
        1 => Some(65_536),
        size => Some(u32::from(size)),
    }
}
