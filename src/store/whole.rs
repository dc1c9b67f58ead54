//! A whole database on its way into the files of an older one.
//!
//! Its pages are of entries that this node's log does not hold: were some of them in the database file
//! and the rest not, nothing here could complete it (Rule 9). So the whole lies beside first, durably,
//! and the record names it, as it names the pages that a reader keeps out of the file. Whatever a crash
//! leaves of the file then, the next start puts the whole over it.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::sync::{MutexGuard, PoisonError};

use super::checksums::Preview;
use super::database::{Database, remove_if_there};
use super::durable;
use super::error::{StoreError, io_at};
use super::record::Record;
use crate::core::{EntryId, Incarnation};

impl Database {
    /// Puts it beside the database file, durably, and installs it from there.
    pub(super) fn install_kept<T>(
        &self,
        mut ltx: impl Read,
        entry: EntryId,
        install: impl FnOnce(BufReader<File>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let path = self.pinned_path(entry.index);
        let kept = durable::write_with(&path, |file| io::copy(&mut ltx, file).map(|_| ()));
        kept.map_err(io_at("keeping a snapshot", &path))?;
        let file = File::open(&path).map_err(io_at("opening", &path))?;
        let done = install(BufReader::with_capacity(1 << 20, file));
        if done.is_err() && self.record().pinned != Some(entry.index) {
            remove_if_there(&path).map_err(io_at("removing", &path))?;
        }
        done
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
}
