//! Transactions written into the database file itself: those of databases with a rollback
//! journal, and all of them while the log is replayed.

use std::io::Read;
use std::os::unix::fs::FileExt;

use super::append::NewPages;
use super::checksums::{Changes, Preview};
use super::database::{Database, Mark};
use super::error::StoreError;
use super::overlay::Overlay;
use super::page_file::PageFile;
use super::steady::Steady;
use super::whole::{PageSource, Whole};
use crate::core::{EntryId, Incarnation, Position};
use crate::ltx::{Decoder, Header};
use crate::sqlite::IndexHeader;
use crate::sqlite::wal_index;

impl Database {
    /// Applies a transaction to the database file. The caller holds the database alone (its
    /// EXCLUSIVE lock, and byte 120 if it is in WAL mode), or replays the log. Not synced.
    ///
    /// While the log is replayed, the same transactions may be applied again: the file may hold
    /// later pages already, so only the chain of positions is compared (Rule 13: the bytes are,
    /// once, by [`Database::finish_recovery`]).
    ///
    /// # Errors
    /// `Diverged`: it was made on another position, or leads to another checksum here than at its
    /// origin; the file is untouched.
    pub fn apply_in_place(&self, ltx: impl Read, entry: EntryId) -> Result<Position, StoreError> {
        if self.state().recovering { self.replay(ltx, entry) } else { self.apply(ltx, entry) }
    }

    /// Installs a snapshot, whatever the database held; that was set aside before
    /// (nothing-discarded). The caller holds the database alone.
    pub fn install_in_place(
        &self,
        ltx: impl Read,
        entry: EntryId,
        incarnation: Incarnation,
    ) -> Result<Position, StoreError> {
        let whole = self.keep_ltx(ltx, entry)?;
        self.install_whole_in_place(&whole, entry, incarnation)
    }

    /// As [`Database::install_in_place`], of a file of pages, which is taken from where it lies.
    pub fn install_pages_in_place(
        &self,
        pages: &PageFile,
        entry: EntryId,
        incarnation: Incarnation,
    ) -> Result<Position, StoreError> {
        let whole = self.keep_pages(pages, entry)?;
        self.install_whole_in_place(&whole, entry, incarnation)
    }

    fn install_whole_in_place(
        &self,
        whole: &Whole,
        entry: EntryId,
        incarnation: Incarnation,
    ) -> Result<Position, StoreError> {
        let position = self.install_whole(whole, entry, |database| {
            database.put_whole(whole, entry, incarnation)
        })?;
        self.state().recovering = false;
        Ok(position)
    }

    fn apply(&self, ltx: impl Read, entry: EntryId) -> Result<Position, StoreError> {
        let mut decoder = Decoder::new(ltx).map_err(|e| self.ltx(e))?;
        let header = *decoder.header();
        self.check_header(&header, false)?;
        self.empty_wal()?;

        // Beside the file first: nothing of a transaction that does not fit may be seen.
        let mut overlay = Overlay::new(self.len()?);
        let mut changes = Changes::new(header.page_size, header.commit);
        let folder = self.folder();
        let staging = |e| self.io("staging a transaction", "database", e);
        if header.page_size != self.page_size() {
            // Nothing of the old content counts: what is not written is zeros.
            overlay.truncate(&self.main, &folder, 0).map_err(staging)?;
        }
        let mut page = Vec::new();
        while let Some(pgno) = decoder.next_page(&mut page).map_err(|e| self.ltx(e))? {
            changes.page(pgno, &page).map_err(|e| self.change(e))?;
            let offset = offset_of(&header, pgno);
            overlay.write(&self.main, &folder, offset, &page).map_err(staging)?;
        }
        let trailer = decoder.finish().map_err(|e| self.ltx(e))?;
        let end = u64::from(header.commit) * u64::from(header.page_size);
        overlay.truncate(&self.main, &folder, end).map_err(staging)?;

        let preview = {
            let state = self.state();
            state.table.preview(&changes, header.base(), header.max_txid)
        };
        let expected = Position { txid: header.max_txid, checksum: trailer.post_apply };
        if preview.position != expected {
            return Err(self.diverged("what a transaction leads to", expected, preview.position));
        }
        self.sync_mark()?;
        overlay.write_down(&self.main).map_err(|e| self.io("writing", "database", e))?;
        // Rule 16: before anyone can take the locks that make it reachable.
        self.tell_end()?;
        self.invalidate(&overlay);
        self.adopt_in_place(&preview, entry, None)?;
        Ok(expected)
    }

    /// The pages are in the file before the position says so: a record written in between names
    /// the position before.
    pub(super) fn adopt_in_place(
        &self,
        preview: &Preview,
        entry: EntryId,
        whole: Option<Incarnation>,
    ) -> Result<(), StoreError> {
        let view = self.view()?;
        let mut state = self.state();
        let live = self.live_header(&view)?;
        let next = IndexHeader {
            change: live.change.wrapping_add(1),
            page_size: preview.page_size,
            // Of the size of the database the index of an empty WAL says: ask the file.
            pages: 0,
            ..live
        };
        if live.max_frame == 0 {
            wal_index::write_header(&view, &next).map_err(|e| self.index(e))?;
        }
        state.table.adopt(preview);
        match whole {
            Some(incarnation) => state.incarnation = Some(incarnation),
            None => state.take_incarnation(entry),
        }
        state.head = Mark { entry, position: preview.position, pages: preview.pages, tip: None };
        state.visible = state.head;
        Ok(())
    }

    /// A WAL over a file that is changed in place has to be empty: its frames would show instead.
    pub(super) fn empty_wal(&self) -> Result<(), StoreError> {
        let view = self.view()?;
        let live = self.live_header(&view)?;
        if live.max_frame == 0 || self.try_restart(&view, &live)? {
            Ok(())
        } else {
            Err(self.busy("its WAL holds frames that are not in the file, or that readers need"))
        }
    }

    /// Straight into the file: nobody reads it, and it may be ahead of the transaction. Not ahead of the
    /// log's mark (Rule 10): the next start replays up to there, and has to find it all.
    fn replay(&self, ltx: impl Read, entry: EntryId) -> Result<Position, StoreError> {
        let mut decoder = Decoder::new(ltx).map_err(|e| self.ltx(e))?;
        let header = *decoder.header();
        self.check_header(&header, false)?;
        self.sync_mark_up_to(entry)?;
        let preview = self.write_pages(&mut decoder)?;
        let trailer = decoder.finish().map_err(|e| self.ltx(e))?;
        let position = Position { txid: header.max_txid, checksum: trailer.post_apply };
        let mut state = self.state();
        state.take_incarnation(entry);
        state.head = Mark { entry, position, pages: preview.pages, tip: None };
        state.visible = state.head;
        Ok(position)
    }

    /// Writes these pages into the database file, which gets its size, and their checksums
    /// into the table. The total is that of the bytes, whatever they are said to lead to.
    pub(super) fn write_pages(&self, source: &mut impl PageSource) -> Result<Preview, StoreError> {
        let header = source.header();
        let writing = |e| self.io("replaying the log", "database", e);
        if header.page_size != self.page_size() {
            // Nothing of the old content counts: what is not written is zeros.
            self.main.set_len(0).map_err(writing)?;
        }
        let mut changes = Changes::new(header.page_size, header.commit);
        let mut new_pages = NewPages::new(&header, self.pages());
        let mut steady = Steady::new(&self.main);
        let mut page = Vec::new();
        while let Some(pgno) = source.next_page(&mut page).map_err(|e| self.ltx(e))? {
            self.write_zeros(&header, |pages| pages.before(pgno), &mut new_pages)?;
            changes.page(pgno, &page).map_err(|e| self.change(e))?;
            self.main.write_all_at(&page, offset_of(&header, pgno)).map_err(writing)?;
            steady.wrote(page.len()).map_err(writing)?;
        }
        self.write_zeros(&header, NewPages::rest, &mut new_pages)?;
        let end = u64::from(header.commit) * u64::from(header.page_size);
        self.main.set_len(end).map_err(writing)?;
        let mut state = self.state();
        let preview = state.table.preview(&changes, header.base(), header.max_txid);
        state.table.adopt(&preview);
        Ok(preview)
    }

    fn write_zeros(
        &self,
        header: &Header,
        next: impl Fn(&mut NewPages) -> Option<u32>,
        pages: &mut NewPages,
    ) -> Result<(), StoreError> {
        while let Some(pgno) = next(pages) {
            let zeros = vec![0; header.page_size as usize];
            self.main
                .write_all_at(&zeros, offset_of(header, pgno))
                .map_err(|e| self.io("replaying the log", "database", e))?;
        }
        Ok(())
    }
}

fn offset_of(header: &Header, pgno: u32) -> u64 {
    u64::from(pgno.saturating_sub(1)) * u64::from(header.page_size)
}
