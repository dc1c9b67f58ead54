//! Rotten pages: found by reading all, mended by the bytes of another node.
//!
//! The checksum of every page is in memory, so that a page which the disk changed can be named, and whatever
//! is put in its place proves itself: a page is written only if it has the checksum that this node expects
//! (one-history). A rotten page never spreads: nobody is given one ([`Snapshot`] refuses what does not add
//! up), and a transaction that was made on it would carry another base than its position says.

use std::os::unix::fs::FileExt;
use std::sync::Arc;

use super::database::{Database, JournalMode, new_slot};
use super::error::StoreError;
use super::snapshot::{Place, Snapshot};
use crate::core::ports::{ByteRange, LockFile, LockKind};
use crate::core::{Checksum, Position};
use crate::ltx::{lock_page, page_checksum};
use crate::sqlite::locks::CKPT;

/// What a reading of all pages found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scrubbed {
    pub position: Position,
    /// Pages that were read.
    pub pages: u32,
    /// Those that are not what they should be.
    pub rotten: Vec<u32>,
}

impl Database {
    /// Reads every page as a reader does, and names those whose bytes are not what their checksum says.
    /// `pause`: called after each MiB, so that a scheduled reading leaves the disk to others.
    ///
    /// # Errors
    /// `Busy` or `Unpublished`: ask again in a moment. Others: the disk.
    pub fn scrub(self: &Arc<Self>, pause: &dyn Fn()) -> Result<Scrubbed, StoreError> {
        let mut snapshot = self.snapshot(0, 0)?;
        let (position, pages) = (snapshot.position, snapshot.pages);
        let mut suspects = Vec::new();
        let each_mib = (1 << 20) / snapshot.page_size().max(512);
        for pgno in 1..=pages {
            if !snapshot.is_sound(pgno)? {
                suspects.push(pgno);
            }
            if pgno % each_mib == 0 {
                pause();
            }
        }
        drop(snapshot);
        // A page that a transaction just changed has the checksum of after it: it is looked at again.
        let rotten = if suspects.is_empty() { suspects } else { self.still_rotten(suspects)? };
        Ok(Scrubbed { position, pages, rotten })
    }

    pub(super) fn still_rotten(
        self: &Arc<Self>,
        mut suspects: Vec<u32>,
    ) -> Result<Vec<u32>, StoreError> {
        for _ in 0..5 {
            let mut snapshot = self.snapshot(0, 0)?;
            let mut left = Vec::new();
            for pgno in suspects {
                // One that went with the end of the file is not to be read.
                if pgno <= snapshot.pages && !snapshot.is_sound(pgno)? {
                    left.push(pgno);
                }
            }
            suspects = left;
        }
        Ok(suspects)
    }

    /// A page, as a reader sees it now, if it is what its checksum says.
    ///
    /// # Errors
    /// As [`Self::scrub`].
    pub fn sound_page(self: &Arc<Self>, pgno: u32) -> Result<Option<Vec<u8>>, StoreError> {
        let mut snapshot = self.snapshot(0, 0)?;
        if pgno == 0 || pgno > snapshot.pages || !snapshot.is_sound(pgno)? {
            return Ok(None);
        }
        Ok(Some(snapshot.into_page()))
    }

    /// Puts a page in the place of a rotten one, if it has the checksum that this node expects. Whether it
    /// did: else the page is in the WAL, or was changed meanwhile.
    ///
    /// # Errors
    /// `Busy`: a checkpoint runs, or a writer is in the way. Others: the disk.
    pub fn mend(self: &Arc<Self>, pgno: u32, bytes: &[u8]) -> Result<bool, StoreError> {
        // Nothing is moved from the WAL into the file meanwhile, so that what is written is never older
        // than what is there. With a rollback journal the snapshot's own lock keeps writers out of the file.
        let _place = match self.journal_mode()? {
            JournalMode::Wal => Some(self.no_checkpoint()?),
            JournalMode::Rollback => None,
        };
        let snapshot = self.snapshot(0, 0)?;
        let size = snapshot.page_size();
        let fits = pgno >= 1
            && pgno <= snapshot.pages
            && pgno != lock_page(size)
            && bytes.len() == size as usize
            && !snapshot.is_in_wal(pgno)?
            && self.expected(pgno) == Some(page_checksum(pgno, bytes));
        if !fits {
            return Ok(false);
        }
        let offset = u64::from(pgno - 1) * u64::from(size);
        self.main
            .write_all_at(bytes, offset)
            .and_then(|()| self.main.sync_data())
            .map_err(|e| self.io("mending a page", "database", e))?;
        self.cache().invalidate(offset, u64::from(size));
        Ok(true)
    }

    fn no_checkpoint(&self) -> Result<Place, StoreError> {
        let (locks, slot) = (self.locks(), new_slot());
        let range = ByteRange { start: CKPT, end: CKPT };
        if !locks.lock(slot, LockFile::Shm, range, LockKind::Exclusive) {
            return Err(self.busy("a checkpoint is running"));
        }
        Ok(Place { locks, slot, file: LockFile::Shm, range })
    }

    /// What a page adds up to, as this node has applied the log.
    pub(super) fn expected(&self, pgno: u32) -> Option<Checksum> {
        let state = self.state();
        (pgno <= state.table.pages()).then(|| state.table.get(pgno))
    }
}

impl Snapshot {
    fn into_page(mut self) -> Vec<u8> {
        std::mem::take(&mut self.page)
    }

    /// Whether a page, which is read, is what its checksum says. The lock page has no content.
    fn is_sound(&mut self, pgno: u32) -> Result<bool, StoreError> {
        let database = Arc::clone(&self.database);
        database.read_page(&self.source, pgno, &mut self.page)?;
        if pgno == lock_page(self.source.page_size) {
            return Ok(true);
        }
        Ok(database.expected(pgno) == Some(page_checksum(pgno, &self.page)))
    }

    fn is_in_wal(&self, pgno: u32) -> Result<bool, StoreError> {
        let Some((view, min, max)) = &self.source.frames else { return Ok(false) };
        let found = crate::sqlite::wal_index::lookup(view, *max, pgno, *min);
        found.map(|frame| frame.is_some()).map_err(|error| self.database.index(error))
    }
}
