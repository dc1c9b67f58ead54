//! A whole database on its way into the files of an older one.
//!
//! Its pages are of entries that this node's log does not hold: were some of them in the database file
//! and the rest not, nothing here could complete it (Rule 9). So the whole lies beside first, durably,
//! and the record names it, as it names the pages that a reader keeps out of the file. Whatever a crash
//! leaves of the file then, the next start puts the whole over it.
//!
//! It comes as an LTX file, or as a file of pages. Only what differs from what is here is written.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{MutexGuard, PoisonError};

use super::checksums::{Changes, Preview};
use super::database::{Database, remove_if_there, secure};
use super::durable;
use super::error::{StoreError, io_at};
use super::page_file::{PageFile, Pages};
use super::record::Record;
use super::steady::Steady;
use crate::core::{Checksum, EntryId, Incarnation, Position};
use crate::ltx::{Decoder, Header, LtxError, page_checksum};

/// Pages of a transaction, or of a whole database, by rising number.
pub(super) trait PageSource {
    fn header(&self) -> Header;

    /// The next page and its number; `None`: that was the last.
    fn next_page(&mut self, page: &mut Vec<u8>) -> Result<Option<u32>, LtxError>;

    /// The checksum of the database that they lead to; only now they count.
    fn finish(self) -> Result<Checksum, LtxError>;
}

impl<R: Read> PageSource for Decoder<R> {
    fn header(&self) -> Header {
        *Decoder::header(self)
    }

    fn next_page(&mut self, page: &mut Vec<u8>) -> Result<Option<u32>, LtxError> {
        Decoder::next_page(self, page)
    }

    fn finish(self) -> Result<Checksum, LtxError> {
        Decoder::finish(self).map(|trailer| trailer.post_apply)
    }
}

/// A whole database that lies beside the file.
pub(super) enum Whole {
    Ltx(PathBuf),
    Pages(PageFile),
}

pub(super) enum WholePages {
    Ltx(Box<Decoder<BufReader<File>>>),
    Pages(Pages),
}

impl PageSource for WholePages {
    fn header(&self) -> Header {
        match self {
            Self::Ltx(decoder) => *decoder.header(),
            Self::Pages(pages) => pages.header(),
        }
    }

    fn next_page(&mut self, page: &mut Vec<u8>) -> Result<Option<u32>, LtxError> {
        match self {
            Self::Ltx(decoder) => decoder.next_page(page),
            Self::Pages(pages) => pages.next_page(page),
        }
    }

    fn finish(self) -> Result<Checksum, LtxError> {
        match self {
            Self::Ltx(decoder) => PageSource::finish(*decoder),
            Self::Pages(pages) => Ok(pages.checksum()),
        }
    }
}

impl Whole {
    fn path(&self) -> &Path {
        match self {
            Self::Ltx(path) => path,
            Self::Pages(file) => &file.path,
        }
    }
}

impl Database {
    /// Puts a whole database that comes as LTX beside the database file, durably.
    pub(super) fn keep_ltx(&self, mut ltx: impl Read, entry: EntryId) -> Result<Whole, StoreError> {
        let path = self.pinned_path(entry.index);
        let kept = durable::write_with(&path, |file| io::copy(&mut ltx, file).map(|_| ()));
        kept.map_err(io_at("keeping a snapshot", &path))?;
        Ok(Whole::Ltx(path))
    }

    /// Moves a file of pages beside the database file, durably.
    pub(super) fn keep_pages(&self, pages: &PageFile, entry: EntryId) -> Result<Whole, StoreError> {
        let path = self.pinned_pages_path(entry.index);
        // The Raft log, where it comes from, may have a disk of its own.
        durable::take(&pages.path, &path).map_err(io_at("keeping a snapshot", &path))?;
        Ok(Whole::Pages(PageFile { path, ..*pages }))
    }

    /// Installs what lies beside the file. If that fails before the record names it, it goes.
    pub(super) fn install_whole<T>(
        &self,
        whole: &Whole,
        entry: EntryId,
        install: impl FnOnce(&Self) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let done = install(self);
        if done.is_err() && self.record().pinned != Some(entry.index) {
            remove_if_there(whole.path()).map_err(io_at("removing", whole.path()))?;
        }
        done
    }

    pub(super) fn open_whole(&self, whole: &Whole) -> Result<WholePages, StoreError> {
        let file = File::open(whole.path()).map_err(io_at("opening", whole.path()))?;
        match whole {
            Whole::Ltx(_) => {
                let reader = BufReader::with_capacity(1 << 20, file);
                Ok(WholePages::Ltx(Box::new(Decoder::new(reader).map_err(|e| self.ltx(e))?)))
            }
            Whole::Pages(pages) => Ok(WholePages::Pages(pages.read(file))),
        }
    }

    /// It is what it says: from now on a start puts it into the file. No other record is written while
    /// the answer lives, which is until the database stands there.
    pub(super) fn record_whole(
        &self,
        preview: &Preview,
        entry: EntryId,
        incarnation: Incarnation,
    ) -> Result<MutexGuard<'_, ()>, StoreError> {
        let alone = self.checkpointing.lock().unwrap_or_else(PoisonError::into_inner);
        let record = Record {
            name: self.name().clone(),
            incarnation: Some(incarnation),
            applied: entry,
            position: preview.position,
            page_size: preview.page_size,
            pages: preview.pages,
            pinned: Some(entry.index),
        };
        self.replace_record(record)?;
        Ok(alone)
    }

    /// Whether a page of a whole database is what stands here already. The first one counts as changed:
    /// no transaction is without a page.
    pub(super) fn has_page(&self, page_size: u32, pgno: u32, page: &[u8]) -> bool {
        let sum = page_checksum(pgno, page);
        let state = self.state();
        pgno != 1
            && state.table.page_size() == page_size
            && pgno <= state.table.pages()
            && state.table.get(pgno) == sum
    }

    /// Puts a whole database into the file itself. The caller holds the database alone.
    pub(super) fn put_whole(
        &self,
        whole: &Whole,
        entry: EntryId,
        incarnation: Incarnation,
    ) -> Result<Position, StoreError> {
        let mut pages = self.open_whole(whole)?;
        let header = pages.header();
        self.check_header(&header, true)?;
        self.empty_wal()?;
        // Once to know that it fits, before anything of it is in the file.
        let mut changes = Changes::new(header.page_size, header.commit);
        let mut page = Vec::new();
        while let Some(pgno) = pages.next_page(&mut page).map_err(|e| self.ltx(e))? {
            if !self.has_page(header.page_size, pgno, &page) {
                changes.page(pgno, &page).map_err(|e| self.change(e))?;
            }
        }
        let checksum = pages.finish().map_err(|e| self.ltx(e))?;
        let preview = self.state().table.preview(&changes, header.base(), header.max_txid);
        let expected = Position { txid: header.max_txid, checksum };
        if preview.position != expected {
            return Err(self.diverged("what a snapshot leads to", expected, preview.position));
        }
        // Rule 7: from the record on nothing may fail.
        let (have, end) = (self.len()?, u64::from(header.commit) * u64::from(header.page_size));
        secure(&self.main, have, end.saturating_sub(have))
            .map_err(|e| self.io("securing space", "database", e))?;
        self.sync_mark()?;
        let _alone = self.record_whole(&preview, entry, incarnation)?;
        self.write_whole(whole, &changes)?;
        // Rule 16: before anyone can take the locks that make it reachable.
        self.tell_end()?;
        self.cache().invalidate(0, 0);
        self.adopt_in_place(&preview, entry, Some(incarnation))?;
        Ok(expected)
    }

    /// Writes those of its pages that are among the changes.
    fn write_whole(&self, whole: &Whole, changes: &Changes) -> Result<(), StoreError> {
        let mut pages = self.open_whole(whole)?;
        let header = pages.header();
        let size = u64::from(header.page_size);
        let end = u64::from(header.commit) * size;
        let writing = |e| self.io("writing", "database", e);
        // What lies beyond does not come back when the file grows again.
        let keep = if header.page_size == self.page_size() { self.len()?.min(end) } else { 0 };
        self.main.set_len(keep).map_err(writing)?;
        let mut steady = Steady::new(&self.main);
        let mut wanted = changes.numbers().peekable();
        let mut page = Vec::new();
        while let Some(pgno) = pages.next_page(&mut page).map_err(|e| self.ltx(e))? {
            if wanted.next_if_eq(&pgno).is_some() {
                let offset = u64::from(pgno - 1) * size;
                self.main.write_all_at(&page, offset).map_err(writing)?;
                steady.wrote(page.len()).map_err(writing)?;
            }
        }
        self.main.set_len(end).map_err(writing)
    }
}
