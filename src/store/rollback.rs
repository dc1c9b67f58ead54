//! What local writers with a rollback journal write, kept off the database file until it is
//! committed (Rule 8).

use std::sync::{MutexGuard, PoisonError};

use super::checksums::Preview;
use super::database::{Database, read_full};
use super::error::StoreError;
use super::overlay::Overlay;
use crate::core::EntryId;

impl Database {
    /// An application's write to the database file, outside a checkpoint.
    pub fn overlay_write(&self, offset: u64, data: &[u8]) -> Result<(), StoreError> {
        let mut slot = self.overlay_slot();
        let overlay = self.overlay(&mut slot)?;
        overlay
            .write(&self.main, &self.folder(), offset, data)
            .map_err(|e| self.io("writing beside", "database", e))
    }

    /// An application's truncation of the database file. To the size it has, it changes nothing
    /// (VACUUM does that after its commit point).
    pub fn overlay_truncate(&self, len: u64) -> Result<(), StoreError> {
        let mut slot = self.overlay_slot();
        if slot.is_none() && self.len()? == len {
            return Ok(());
        }
        let overlay = self.overlay(&mut slot)?;
        overlay
            .truncate(&self.main, &self.folder(), len)
            .map_err(|e| self.io("truncating beside", "database", e))
    }

    /// Bytes of the database file as its writer sees it.
    pub fn size_with_overlay(&self) -> Result<u64, StoreError> {
        match &*self.overlay_slot() {
            Some(overlay) => Ok(overlay.size()),
            None => self.len(),
        }
    }

    /// Reads the database file as its writer sees it; fewer bytes only at its end. (While a writer
    /// has something here, it holds the database alone.)
    pub fn read_with_overlay(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, StoreError> {
        let slot = self.overlay_slot();
        if let Some(overlay) = &*slot {
            overlay.read(&self.main, offset, buffer)
        } else {
            drop(slot);
            read_full(&self.main, offset, buffer)
        }
        .map_err(|e| self.io("reading", "database", e))
    }

    /// Whether a writer changed anything that is not committed.
    pub fn has_overlay(&self) -> bool {
        self.overlay_slot().is_some()
    }

    /// A rollback-journal transaction is committed by this entry: writes what it changed into the
    /// database file, and makes it the head. It is visible when its writer's lock is released.
    ///
    /// # Errors
    /// They follow the quorum, so the caller stops the process (Rule 7): the log brings it again.
    pub fn overlay_commit(&self, preview: &Preview, entry: EntryId) -> Result<(), StoreError> {
        {
            let state = self.state();
            self.check_published(&state)?;
            self.check_base(&state, preview.base)?;
        }
        let mut slot = self.overlay_slot();
        if let Some(overlay) = slot.as_mut() {
            let end = u64::from(preview.pages) * u64::from(preview.page_size);
            overlay
                .truncate(&self.main, &self.folder(), end)
                .map_err(|e| self.io("truncating beside", "database", e))?;
            self.sync_mark()?;
            overlay.write_down(&self.main).map_err(|e| self.io("writing", "database", e))?;
        }
        // The kernel's cache holds these bytes already: they were written through it.
        self.adopt_in_place(preview, entry, None)?;
        *slot = None;
        Ok(())
    }

    /// A writer was refused, gave up or died: forgets what it changed. The caller then removes the
    /// journal, and then releases the lock.
    pub fn overlay_drop(&self) {
        let overlay = self.overlay_slot().take();
        if let Some(overlay) = overlay {
            self.invalidate(&overlay);
        }
    }

    /// Rule 16: drops from the kernel's cache what differs from the file below.
    pub(super) fn invalidate(&self, overlay: &Overlay) {
        let cache = self.cache();
        for (offset, len) in overlay.ranges() {
            cache.invalidate(offset, len);
        }
    }

    /// Rule 16: lets the kernel know how long the file is now.
    pub(super) fn tell_end(&self) -> Result<(), StoreError> {
        let len = self.len()?;
        let size = u64::from(self.page_size().max(512)).min(len);
        let mut last = vec![0; usize::try_from(size).unwrap_or(0)];
        let read = self.read_database(len - size, &mut last)?;
        last.truncate(read);
        self.cache().grown(len - size, &last);
        Ok(())
    }

    fn overlay_slot(&self) -> MutexGuard<'_, Option<Overlay>> {
        self.overlay.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn overlay<'a>(&self, slot: &'a mut Option<Overlay>) -> Result<&'a mut Overlay, StoreError> {
        if slot.is_none() {
            *slot = Some(Overlay::new(self.len()?));
        }
        slot.as_mut().ok_or_else(|| self.busy("its overlay is in use"))
    }
}
