//! What is read from the database file, held against the checksums of its pages as it passes by.
//!
//! Most reads never come here: the kernel keeps what it read. A page of which the WAL holds a frame that is
//! not in the file yet is not looked at: the file's is of some time before, and SQLite reads the frame, which
//! has a checksum of its own.

use std::sync::Arc;

use super::database::Database;
use super::error::StoreError;
use crate::ltx::{lock_page, page_checksum};
use crate::sqlite::wal_index;

impl Database {
    /// The first page that lies whole within bytes read from `offset`, and does not seem to be what it
    /// should be. A transaction that comes at this moment makes it seem so, too: [`Database::is_rotten`] says.
    pub fn suspect(&self, offset: u64, bytes: &[u8]) -> Option<u32> {
        let (size, pages) = {
            let state = self.state();
            if state.recovering || !state.is_published() {
                return None;
            }
            (state.table.page_size(), state.table.pages())
        };
        if size == 0 || self.has_overlay() {
            return None;
        }
        let first = u32::try_from(offset.div_ceil(u64::from(size))).ok()?.checked_add(1)?;
        let skip = usize::try_from(u64::from(first - 1) * u64::from(size) - offset).ok()?;
        let whole = bytes.get(skip..)?.chunks_exact(size as usize);
        let lock = lock_page(size);
        let mut numbered = (first..=pages).zip(whole).filter(|(pgno, _)| *pgno != lock);
        let found = numbered.find(|(pgno, page)| {
            self.expected(*pgno) != Some(page_checksum(*pgno, page))
                && !self.has_frame(*pgno).unwrap_or(true)
        });
        found.map(|(pgno, _)| pgno)
    }

    /// Whether the WAL holds a frame of a page that was not moved into the file.
    fn has_frame(&self, pgno: u32) -> Result<bool, StoreError> {
        let view = self.view()?;
        let live = self.live_header(&view)?;
        let info = wal_index::checkpoint_info(&view).map_err(|error| self.index(error))?;
        let first = info.backfill.saturating_add(1);
        let found = wal_index::lookup(&view, live.max_frame, pgno, first);
        found.map(|frame| frame.is_some()).map_err(|error| self.index(error))
    }

    /// Whether a page, as a reader sees it who looks now, is not what it should be.
    ///
    /// # Errors
    /// `Busy` or `Unpublished`: a writer is in the way, and it is not known. Others: the disk.
    pub fn is_rotten(self: &Arc<Self>, pgno: u32) -> Result<bool, StoreError> {
        Ok(!self.still_rotten(vec![pgno])?.is_empty())
    }
}
