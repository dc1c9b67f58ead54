//! Checkpoints, and what is durable of a database (Rules 10 to 12).

use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use super::database::{Database, JournalMode, Mark, remove_if_there};
use super::durable;
use super::error::{StoreError, io_at};
use super::page_file::PageFile;
use super::record::Record;
use super::shm::View;
use super::snapshot::Source;
use super::vfs::{self, CheckpointMode, Checkpointed};
use super::whole::{PageSource, Whole};
use crate::core::{Checksum, EntryId, Txid};
use crate::ltx::{Encoder, Header, WalSpan, lock_page};
use crate::sqlite::IndexHeader;
use crate::sqlite::wal_index::{self, IndexError};

/// How long a writer may be between the two copies of the wal-index header, before it is taken for frozen.
const BETWEEN_COPIES: Duration = Duration::from_millis(20);

impl Database {
    /// Copies frames of the WAL into the database file, by the bundled SQLite, with locks taken in
    /// a slot of its own. Of pages that readers need nothing is overwritten. Not synced.
    ///
    /// The committed mark of the log is durable before (Rule 10): that is the caller's part.
    pub fn checkpoint(self: &Arc<Self>, mode: CheckpointMode) -> Result<Checkpointed, StoreError> {
        let _one = self.checkpointing.lock().unwrap_or_else(PoisonError::into_inner);
        self.checkpoint_alone(mode)
    }

    fn checkpoint_alone(
        self: &Arc<Self>,
        mode: CheckpointMode,
    ) -> Result<Checkpointed, StoreError> {
        let view = self.view()?;
        let live = self.settled_header(&view)?;
        if self.journal_mode()? != JournalMode::Wal || live.max_frame == 0 {
            return Ok(Checkpointed { frames: 0, backfilled: 0, busy: false });
        }
        vfs::checkpoint(self, mode).map_err(|source| self.checkpoint_failed(source))
    }

    /// A full disk is said as by every other write that finds it: with the file's path.
    pub(super) fn checkpoint_failed(&self, source: rusqlite::Error) -> StoreError {
        if source.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull) {
            let full = io::Error::from_raw_os_error(libc::ENOSPC);
            return io_at("a checkpoint", &self.folder().join("database"))(full);
        }
        StoreError::Sqlite { name: self.name().clone(), what: "a checkpoint", source }
    }

    /// The live header, for who does not hold byte 120: a writer may be between its two copies. It may
    /// also have been frozen or have died there: that is for the release of byte 120 to repair.
    fn settled_header(&self, view: &View) -> Result<IndexHeader, StoreError> {
        let deadline = Instant::now() + BETWEEN_COPIES;
        loop {
            match wal_index::read_header(view) {
                Err(IndexError::HeaderCopiesDiffer | IndexError::HeaderChecksum) => {}
                read => return read.map_err(|e| self.index(e)),
            }
            if Instant::now() >= deadline {
                return Err(self.busy("a writer is between the two headers of the wal-index"));
            }
            std::thread::yield_now();
        }
    }

    /// Makes durable all that entries up to `up_to` did to this database, so that the log may be
    /// purged up to there (Rule 11): backfill, sync the file, sync the folder, write and sync the
    /// record. What it does is often more than was asked; [`Database::record`] says.
    ///
    /// While the log is replayed, everything is in the file already; what is replayed meanwhile may be
    /// there in part, as after a crash.
    ///
    /// Where a reader keeps frames from being backfilled, their pages are written to a file of
    /// their own, synced, and named by the record, if they are at most `pinned_cap` bytes; the
    /// next start puts them into the database file.
    ///
    /// # Errors
    /// `Unpublished`, `Busy`: not yet; ask again. After an I/O error the caller stops the process:
    /// what a failed sync left is not known.
    pub fn make_durable(
        self: &Arc<Self>,
        up_to: EntryId,
        pinned_cap: u64,
    ) -> Result<(), StoreError> {
        let _one = self.checkpointing.lock().unwrap_or_else(PoisonError::into_inner);
        let (target, mut record, recovering) = {
            let state = self.state();
            if !state.is_published() && state.head.entry.index <= up_to.index {
                return self.check_published(&state);
            }
            let recorded = state.visible.entry.index == state.record.applied.index;
            if recorded && (state.record.pinned.is_none() || state.recovering) {
                return Ok(());
            }
            let mut record = state.record.clone();
            record.incarnation = state.incarnation;
            record.page_size = state.table.page_size();
            (state.visible, record, state.recovering)
        };
        record.applied = target.entry;
        record.position = target.position;
        record.pages = target.pages;
        record.pinned = None;
        if !recovering {
            self.checkpoint_alone(CheckpointMode::Passive)?;
        }
        if !self.is_in_file(&target)? {
            // What the record names holds it all, and more than is missing in the file: it stays.
            if self.record().applied == target.entry {
                return Ok(());
            }
            let written = self.write_pinned(&target, record.page_size, pinned_cap);
            // If an application's checkpoint made way for a new WAL meanwhile, the frames read may be
            // the new ones, or cut off; but then the file has it all.
            if !self.is_in_file(&target)? {
                written?;
                record.pinned = Some(target.entry.index);
            }
        }

        let folder = self.folder();
        let path = folder.join("database");
        self.main.sync_all().map_err(io_at("syncing", &path))?;
        durable::sync_folder(&folder).map_err(io_at("syncing the folder", &folder))?;
        self.replace_record(record)
    }

    /// Writes and syncs the record; what the one before named goes.
    pub(super) fn replace_record(&self, record: Record) -> Result<(), StoreError> {
        record.write(&self.folder().join("record"))?;
        let pinned = record.pinned;
        let before = std::mem::replace(&mut self.state().record, record);
        if let Some(old) = before.pinned.filter(|old| Some(*old) != pinned) {
            for path in [self.pinned_path(old), self.pinned_pages_path(old)] {
                remove_if_there(&path).map_err(io_at("removing", &path))?;
            }
        }
        Ok(())
    }

    /// Whether every frame up to the mark is backfilled. A WAL that was begun anew since then had
    /// been so entirely.
    fn is_in_file(&self, mark: &Mark) -> Result<bool, StoreError> {
        let Some(tip) = mark.tip else { return Ok(true) };
        let view = self.view()?;
        let info = wal_index::checkpoint_info(&view).map_err(|e| self.index(e))?;
        let live = self.settled_header(&view)?;
        Ok(live.salts != tip.salts || info.backfill >= tip.frame)
    }

    pub(super) fn pinned_path(&self, index: u64) -> PathBuf {
        self.folder().join(format!("pinned-{index}.ltx"))
    }

    /// As [`Self::pinned_path`], of a whole database that came as a file of pages.
    pub(super) fn pinned_pages_path(&self, index: u64) -> PathBuf {
        self.folder().join(format!("pinned-{index}.pages"))
    }

    /// Writes the pages of frames that are not in the file yet, up to the mark, as an LTX file.
    fn write_pinned(&self, mark: &Mark, page_size: u32, cap: u64) -> Result<(), StoreError> {
        let Some(tip) = mark.tip else { return Ok(()) };
        let view = self.view()?;
        let info = wal_index::checkpoint_info(&view).map_err(|e| self.index(e))?;
        let first = info.backfill.saturating_add(1);
        let frames = u64::from(tip.frame.saturating_sub(info.backfill));
        if frames * u64::from(page_size) > cap {
            return Err(self.busy("a reader keeps more of the WAL than may be written beside"));
        }
        let mut pages = (first..=tip.frame)
            .map(|frame| wal_index::frame_page(&view, frame).map_err(|e| self.index(e)))
            .collect::<Result<Vec<_>, _>>()?;
        pages.sort_unstable();
        pages.dedup();
        pages.retain(|pgno| *pgno <= mark.pages && *pgno != lock_page(page_size));
        let header = Header {
            page_size,
            commit: mark.pages,
            // Of no use but that it is not the first transaction, which would be a snapshot.
            min_txid: Txid(mark.position.txid.0.max(2)),
            max_txid: Txid(mark.position.txid.0.max(2)),
            timestamp_ms: 0,
            pre_apply: Checksum(Checksum::FLAG),
            node_id: 0,
            wal: WalSpan::default(),
        };
        let path = self.pinned_path(mark.entry.index);
        let source = Source { page_size, frames: Some((view, first, tip.frame)) };
        // The error is kept whole beside the one that passes through.
        let mut failed = Ok(());
        let written = durable::write_with(&path, |file| {
            failed = self.encode_pages(BufWriter::new(file), header, &source, &pages, mark);
            failed.as_ref().map_or_else(|e| Err(std::io::Error::other(e.to_string())), |()| Ok(()))
        });
        failed?;
        written.map_err(io_at("writing", &path))
    }

    fn encode_pages(
        &self,
        writer: impl Write,
        header: Header,
        source: &Source,
        pages: &[u32],
        mark: &Mark,
    ) -> Result<(), StoreError> {
        let mut encoder = Encoder::new(writer, header).map_err(|e| self.ltx(e))?;
        let mut page = Vec::new();
        for pgno in pages {
            self.read_page(source, *pgno, &mut page)?;
            encoder.page(*pgno, &page).map_err(|e| self.ltx(e))?;
        }
        let (mut writer, _) = encoder.finish(mark.position.checksum).map_err(|e| self.ltx(e))?;
        writer.flush().map_err(|e| self.io("writing pinned pages", "pinned", e))
    }

    /// At a start: puts pages that a reader had kept out, or a whole database that was on its way, into
    /// the database file.
    pub(super) fn apply_pinned(&self) -> Result<(), StoreError> {
        let record = self.record();
        let Some(index) = record.pinned else { return Ok(()) };
        let path = self.pinned_pages_path(index);
        let whole = if path.exists() {
            let Record { page_size, pages, position, .. } = record;
            Whole::Pages(PageFile { path, page_size, pages, position })
        } else {
            Whole::Ltx(self.pinned_path(index))
        };
        let mut pages = self.open_whole(&whole)?;
        self.write_pages(&mut pages)?;
        pages.finish().map_err(|e| self.ltx(e))?;
        Ok(())
    }
}
