//! Transactions of other nodes, appended to the live WAL; and those of a local writer, made
//! visible when it died.

use std::io::Read;
use std::mem;
use std::os::unix::fs::FileExt;

use super::checksums::Changes;
use super::database::{APPLIER_SLOT, Database, JournalMode, Mark};
use super::error::StoreError;
use super::page_file::PageFile;
use super::shm::View;
use super::wal_writer::WalWriter;
use super::whole::{PageSource, Whole};
use crate::core::ports::{ByteRange, LockFile, LockKind};
use crate::core::{EntryId, Incarnation, Position};
use crate::ltx::{Decoder, Header, lock_page};
use crate::sqlite::index_header::READ_MARK_NOT_USED;
use crate::sqlite::locks::{READ0, READERS};
use crate::sqlite::wal_index::{self, regions_for};
use crate::sqlite::{FrameHeader, IndexHeader, IndexMemory, Salts, WalHeader, WalTip, wal};

impl Database {
    /// Applies a transaction to a database in WAL mode: its frames, then the wal-index. Open
    /// readers keep their snapshot; new ones see it (Rule 18). Constant memory but for some forty
    /// bytes a page. The caller holds byte 120 (Rule 1). `may_restart`: a WAL of which all is in the
    /// database file may be begun anew.
    ///
    /// # Errors
    /// Nothing became visible, whatever it says. `Diverged`: it was made on another position, or
    /// leads to another checksum here than at its origin.
    pub fn append(
        &self,
        ltx: impl Read,
        entry: EntryId,
        may_restart: bool,
    ) -> Result<Position, StoreError> {
        let decoder = Decoder::new(ltx).map_err(|e| self.ltx(e))?;
        self.append_as(decoder, entry, None, may_restart)
    }

    /// Installs a snapshot into a database that applications have open in WAL mode, as one
    /// ordinary transaction, whatever the database held. What it held was set aside before
    /// (nothing-discarded). The caller holds byte 120.
    pub fn append_snapshot(
        &self,
        ltx: impl Read,
        entry: EntryId,
        incarnation: Incarnation,
    ) -> Result<Position, StoreError> {
        let whole = self.keep_ltx(ltx, entry)?;
        self.append_whole(&whole, entry, incarnation)
    }

    /// As [`Database::append_snapshot`], of a file of pages, which is taken from where it lies.
    pub fn append_pages(
        &self,
        pages: &PageFile,
        entry: EntryId,
        incarnation: Incarnation,
    ) -> Result<Position, StoreError> {
        let whole = self.keep_pages(pages, entry)?;
        self.append_whole(&whole, entry, incarnation)
    }

    fn append_whole(
        &self,
        whole: &Whole,
        entry: EntryId,
        incarnation: Incarnation,
    ) -> Result<Position, StoreError> {
        self.install_whole(whole, entry, |database| {
            let pages = database.open_whole(whole)?;
            database.append_as(pages, entry, Some(incarnation), true)
        })
    }

    fn append_as(
        &self,
        mut source: impl PageSource,
        entry: EntryId,
        whole: Option<Incarnation>,
        may_restart: bool,
    ) -> Result<Position, StoreError> {
        let header = source.header();
        self.check_header(&header, whole.is_some())?;
        if self.state().recovering {
            return Err(self.invalid("the log is being replayed: apply the transaction in place"));
        }
        if self.journal_mode()? != JournalMode::Wal {
            return Err(self.invalid("it is not in WAL mode: apply the transaction in place"));
        }
        if header.page_size != self.page_size() {
            return Err(self.invalid("in WAL mode a page size cannot change"));
        }

        let view = self.view()?;
        wal_index::repair_header(&view).map_err(|e| self.index(e))?;
        let live = self.live_header(&view)?;
        let mut writer = self.wal_writer(&view, &live, header.page_size, may_restart)?;
        let mut pages = NewPages::new(&header, self.pages());
        let mut changes = Changes::new(header.page_size, header.commit);
        // One page behind, because the last frame says that it is the last.
        let mut held: Option<(u32, Vec<u8>)> = None;
        let mut page = Vec::new();
        while let Some(pgno) = source.next_page(&mut page).map_err(|e| self.ltx(e))? {
            if whole.is_some() && self.has_page(header.page_size, pgno, &page) {
                continue;
            }
            while let Some(zero) = pages.before(pgno) {
                let zeros = vec![0; header.page_size as usize];
                self.frame(&mut writer, &mut changes, held.replace((zero, zeros)), 0)?;
            }
            let spare = match held.take() {
                Some((number, bytes)) => {
                    self.frame(&mut writer, &mut changes, Some((number, bytes)), 0)?
                }
                None => Vec::new(),
            };
            held = Some((pgno, mem::replace(&mut page, spare)));
        }
        while let Some(zero) = pages.rest() {
            let zeros = vec![0; header.page_size as usize];
            self.frame(&mut writer, &mut changes, held.replace((zero, zeros)), 0)?;
        }
        if held.is_none() {
            return Err(self.invalid("a transaction without pages is none"));
        }
        self.frame(&mut writer, &mut changes, held, header.commit)?;
        let checksum = source.finish().map_err(|e| self.ltx(e))?;

        let preview = {
            let state = self.state();
            state.table.preview(&changes, header.base(), header.max_txid)
        };
        let expected = Position { txid: header.max_txid, checksum };
        if preview.position != expected {
            return Err(self.diverged("what a transaction leads to", expected, preview.position));
        }
        let (tip, first, frames) =
            writer.finish().map_err(|e| self.io("appending frames", "wal", e))?;
        let view = self.grow_index(tip.frame)?;
        // Before a checkpoint can find any of its frames.
        let _alone = match whole {
            Some(incarnation) => Some(self.record_whole(&preview, entry, incarnation)?),
            None => None,
        };
        wal_index::append(&view, first, &frames).map_err(|e| self.index(e))?;

        let mut state = self.state();
        let next = IndexHeader::of_tip(&tip, live.change.wrapping_add(1));
        wal_index::write_header(&view, &next).map_err(|e| self.index(e))?;
        state.table.adopt(&preview);
        match whole {
            Some(incarnation) => state.incarnation = Some(incarnation),
            None => state.take_incarnation(entry),
        }
        state.head = Mark { entry, position: expected, pages: header.commit, tip: Some(tip) };
        state.visible = state.head;
        Ok(expected)
    }

    /// What must hold before anything is written.
    pub(super) fn check_header(&self, header: &Header, whole: bool) -> Result<(), StoreError> {
        let state = self.state();
        self.check_published(&state)?;
        if header.is_deletion() {
            return Err(self.invalid("this LTX file deletes the database; that is another call"));
        }
        if !whole {
            return self.check_base(&state, header.base());
        }
        if header.is_snapshot() {
            Ok(())
        } else {
            let found = header.min_txid.0;
            Err(self.invalid(format!("a snapshot begins at transaction 1, not {found}")))
        }
    }

    /// Makes the last commit of a local writer visible if its writer did not: called while the
    /// daemon handles the release of byte 120, by unlock or by death (Rule 2), before anyone else
    /// is granted it. Repairs a header that the writer left half-written (Rule 3). Space was
    /// secured by [`Database::reserve`] (Rule 7).
    pub fn publish_if_needed(&self) -> Result<(), StoreError> {
        let view = self.view()?;
        wal_index::repair_header(&view).map_err(|e| self.index(e))?;
        let live = self.live_header(&view)?;
        let info = wal_index::checkpoint_info(&view).map_err(|e| self.index(e))?;
        if info.backfill > live.max_frame {
            // Its writer died while it began the WAL anew, after the header, before the rest.
            self.restart(&view, &live, live.salts)?;
        }
        let Some(tip) = self.unpublished()? else { return Ok(()) };
        let same_life = live.salts == tip.salts;
        if !(same_life && live.max_frame >= tip.frame) {
            // Another life: its writer began the WAL anew, and died before the wal-index said so.
            let first = if same_life { live.max_frame.saturating_add(1) } else { 1 };
            if !same_life && live.max_frame != 0 {
                return Err(self.invalid("its WAL was begun anew, and its wal-index was not"));
            }
            let view = self.grow_index(tip.frame)?;
            for frame in first..=tip.frame {
                let page = self.frame_page(&tip, frame)?;
                wal_index::append(&view, frame, &[page]).map_err(|e| self.index(e))?;
            }
            let next = IndexHeader::of_tip(&tip, live.change.wrapping_add(1));
            wal_index::write_header(&view, &next).map_err(|e| self.index(e))?;
        }
        let mut state = self.state();
        state.visible = state.head;
        Ok(())
    }

    fn unpublished(&self) -> Result<Option<WalTip>, StoreError> {
        let state = self.state();
        if state.is_published() {
            return Ok(None);
        }
        state.head.tip.map(Some).ok_or_else(|| self.invalid("a commit without frames waits"))
    }

    /// The page that a frame of this life of the WAL says it holds.
    fn frame_page(&self, tip: &WalTip, frame: u32) -> Result<u32, StoreError> {
        let mut bytes = [0; wal::FRAME_HEADER_SIZE];
        self.wal
            .read_exact_at(&mut bytes, wal::frame_offset(tip.page_size, frame))
            .map_err(|e| self.io("reading a committed frame", "wal", e))?;
        let header = FrameHeader::parse(&bytes);
        // Without salts: of a transaction that spilled, whose writer died before it wrote them.
        let unsalted = header.salts == Salts::default();
        if (header.salts != tip.salts && !unsalted) || header.page == 0 {
            return Err(self.invalid(format!("frame {frame} of its WAL is not the committed one")));
        }
        Ok(header.page)
    }

    pub(super) fn live_header(&self, view: &View) -> Result<IndexHeader, StoreError> {
        wal_index::read_header(view).map_err(|e| self.index(e))
    }

    /// A writer at the live end of the WAL (Rule 4), which begins anew if nobody needs it.
    fn wal_writer(
        &self,
        view: &View,
        live: &IndexHeader,
        page_size: u32,
        may_restart: bool,
    ) -> Result<WalWriter<'_>, StoreError> {
        if let Some(tip) = live.tip()
            && !(may_restart && self.try_restart(view, live)?)
        {
            if tip.page_size != page_size {
                return Err(self.invalid("its WAL has another page size"));
            }
            return Ok(WalWriter::after(&self.wal, tip));
        }
        let salts = self.live_header(view)?.salts;
        let header = WalHeader { big_endian: false, page_size, sequence: 0, salts };
        Ok(WalWriter::begin(&self.wal, &header))
    }

    fn is_backfilled(&self, view: &View, live: &IndexHeader) -> Result<bool, StoreError> {
        let info = wal_index::checkpoint_info(view).map_err(|e| self.index(e))?;
        Ok(info.backfill == live.max_frame)
    }

    /// Empties the WAL if all of it is in the database file and no reader looks at it, as SQLite's
    /// writers do (`walRestartLog`). Returns whether. The caller holds byte 120.
    pub(super) fn try_restart(&self, view: &View, live: &IndexHeader) -> Result<bool, StoreError> {
        if !self.is_backfilled(view, live)? {
            return Ok(false);
        }
        let locks = self.locks();
        let lock = |range, kind| locks.lock(APPLIER_SLOT, LockFile::Shm, range, kind);
        let file_readers = ByteRange { start: READ0, end: READ0 };
        let wal_readers = ByteRange { start: READ0 + 1, end: READ0 + READERS as u64 - 1 };
        // As a reader of the file alone, we keep checkpoints from beginning.
        if !lock(file_readers, LockKind::Shared) {
            return Ok(false);
        }
        let free = lock(wal_readers, LockKind::Exclusive);
        let restarted = if free && self.is_backfilled(view, live)? {
            self.restart(view, live, next_salts(live.salts)).map(|()| true)
        } else {
            Ok(false)
        };
        if free {
            lock(wal_readers, LockKind::Unlock);
        }
        lock(file_readers, LockKind::Unlock);
        restarted
    }

    /// Empties the WAL file if none of its frames counts: for those who read it without the
    /// wal-index, which alone knows that. Nobody uses the database any more.
    pub(super) fn trim_wal(&self) -> Result<(), StoreError> {
        let view = self.view()?;
        let live = self.live_header(&view)?;
        if live.max_frame == 0 || self.is_backfilled(&view, &live)? {
            self.wal.set_len(0).map_err(|e| self.io("truncating", "wal", e))?;
        }
        Ok(())
    }

    /// `walRestartHdr`: the index of an empty WAL. Byte 120 and the WAL's readers are held.
    fn restart(&self, view: &View, live: &IndexHeader, salts: Salts) -> Result<(), StoreError> {
        let work = || {
            wal_index::write_header(view, &IndexHeader { max_frame: 0, salts, ..*live })?;
            wal_index::set_backfill(view, 0)?;
            wal_index::set_backfill_attempted(view, 0)?;
            wal_index::set_read_mark(view, 1, 0)?;
            (2..READERS).try_for_each(|r| wal_index::set_read_mark(view, r, READ_MARK_NOT_USED))
        };
        let done = work();
        view.barrier();
        done.map_err(|e| self.index(e))
    }

    fn grow_index(&self, frame: u32) -> Result<View, StoreError> {
        self.shm.grow(regions_for(frame)).map_err(|source| StoreError::Io {
            what: "securing space for the wal-index",
            path: self.shm.path().to_owned(),
            source,
        })
    }

    /// Writes a held page as a frame, and hands its buffer back.
    fn frame(
        &self,
        writer: &mut WalWriter<'_>,
        changes: &mut Changes,
        held: Option<(u32, Vec<u8>)>,
        commit: u32,
    ) -> Result<Vec<u8>, StoreError> {
        let Some((pgno, page)) = held else { return Ok(Vec::new()) };
        changes.page(pgno, &page).map_err(|e| self.change(e))?;
        writer.frame(pgno, &page, commit).map_err(|e| self.io("appending frames", "wal", e))?;
        Ok(page)
    }
}

/// The first salt counts, the second is any other (`walRestartHdr`).
fn next_salts(salts: Salts) -> Salts {
    let (count, _) = salts.0.split_at(4);
    let count = count.iter().fold(0_u32, |count, byte| (count << 8) | u32::from(*byte));
    let mut next = [0; 8];
    next[..4].copy_from_slice(&count.wrapping_add(1).to_be_bytes());
    next[4..].copy_from_slice(&rand::random::<[u8; 4]>());
    Salts(next)
}

/// Which pages between the old end and the new one a transaction leaves out: they are zeros, and
/// get frames, too, lest an older frame of that page show (or the file's bytes, which may be of a
/// longer past).
pub(super) struct NewPages {
    next: u32,
    commit: u32,
    lock: u32,
}

impl NewPages {
    pub fn new(header: &Header, old: u32) -> Self {
        let lock = lock_page(header.page_size);
        Self { next: old.saturating_add(1), commit: header.commit, lock }
    }

    /// The next one to fill before `pgno` comes; `None`: it may come.
    pub fn before(&mut self, pgno: u32) -> Option<u32> {
        while self.next < pgno {
            let page = self.next;
            self.next += 1;
            if page != self.lock {
                return Some(page);
            }
        }
        if self.next == pgno {
            self.next = self.next.saturating_add(1);
        }
        None
    }

    /// The next one to fill after the last page came.
    pub fn rest(&mut self) -> Option<u32> {
        self.before(self.commit.saturating_add(1))
    }
}
