//! The whole database at one position, as an SQLite file, while it is read and written.

use std::io::{self, Read};
use std::sync::Arc;

use super::database::{Database, JournalMode};
use super::error::StoreError;
use super::snapshot::{Place, Source};
use crate::core::{Checksum, EntryId, Position};
use crate::ltx::{lock_page, page_checksum};

/// Bytes that are read ahead.
const RUN: usize = 256 << 10;

/// The bytes of the database as of one transaction. Holds its place as a reader does until it is
/// dropped: a WAL does not begin anew meanwhile, and a rollback-journal writer waits.
pub struct Image {
    database: Arc<Database>,
    /// What it is an image of.
    pub position: Position,
    /// The entry that led there.
    pub entry: EntryId,
    pub mode: JournalMode,
    pages: u32,
    source: Source,
    next: u32,
    /// Of the pages so far.
    sum: Checksum,
    run: Vec<u8>,
    given: usize,
    page: Vec<u8>,
    failed: bool,
    /// Last, so that the place is held while anything above still reads.
    _places: Vec<Place>,
}

impl Database {
    /// Begins an image of what new readers see.
    ///
    /// # Errors
    /// `Busy` or `Unpublished`: ask again in a moment. `Invalid`: the database is empty.
    pub fn image(self: &Arc<Self>) -> Result<Image, StoreError> {
        let mode = self.journal_mode()?;
        let found = match mode {
            JournalMode::Wal => self.wal_place()?,
            JournalMode::Rollback => self.file_place()?,
        };
        let (places, source, position, entry, _, pages) = found;
        if pages == 0 {
            return Err(self.invalid("an empty database has no file to give"));
        }
        Ok(Image {
            database: Arc::clone(self),
            position,
            entry,
            mode,
            pages,
            source,
            next: 1,
            sum: Checksum(Checksum::FLAG),
            run: Vec::with_capacity(RUN),
            given: 0,
            page: Vec::new(),
            failed: false,
            _places: places,
        })
    }
}

impl Image {
    /// Bytes of the file.
    pub fn bytes(&self) -> u64 {
        u64::from(self.pages) * u64::from(self.source.page_size)
    }

    /// Reads the next pages. one-history: the last one is given only if all add up to the position.
    fn fill(&mut self) -> io::Result<()> {
        self.run.clear();
        self.given = 0;
        let lock = lock_page(self.source.page_size);
        while self.next <= self.pages && self.run.len() < RUN {
            if self.next == lock {
                // Never read nor written, and in no checksum: its bytes mean nothing.
                self.page.clear();
                self.page.resize(self.source.page_size as usize, 0);
            } else {
                let read = self.database.read_page(&self.source, self.next, &mut self.page);
                read.map_err(io::Error::other)?;
                self.sum = self.sum.toggle(page_checksum(self.next, &self.page));
            }
            self.run.extend_from_slice(&self.page);
            self.next += 1;
        }
        if self.next > self.pages && self.sum != self.position.checksum {
            let found = Position { checksum: self.sum, ..self.position };
            let what = "the checksum of its pages";
            return Err(io::Error::other(self.database.diverged(what, self.position, found)));
        }
        Ok(())
    }
}

impl Read for Image {
    /// Errors end the stream for good.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.given >= self.run.len() {
            if self.failed || self.next > self.pages {
                return Ok(0);
            }
            self.fill().inspect_err(|_| {
                self.failed = true;
                self.run.clear();
            })?;
        }
        let rest = self.run.get(self.given..).unwrap_or_default();
        let len = rest.len().min(buffer.len());
        buffer.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
        self.given += len;
        Ok(len)
    }
}
