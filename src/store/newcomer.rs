//! A whole database where there was none of that name: the file that came becomes the database's own, and
//! nothing of it is copied.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use super::database::Database;
use super::durable;
use super::error::{StoreError, io_at};
use super::folder::Store;
use super::page_file::PageFile;
use super::record::Record;
use crate::core::{DatabaseName, EntryId, Incarnation};

/// Of folders that are not whole yet; the slot follows.
pub(super) const NEW: &str = "new-";

impl Store {
    /// Makes a database of it. The folder gets its name when all is there, so that a crash leaves the
    /// database, or nothing (Rule 9). It is not served yet, and its bytes add up to its position.
    ///
    /// # Errors
    /// The disk's. `Diverged`: it is not what it says; then it is gone.
    pub fn create_from(
        &self,
        name: &DatabaseName,
        pages: &PageFile,
        entry: EntryId,
        incarnation: Incarnation,
    ) -> Result<Arc<Database>, StoreError> {
        let record = Record {
            name: name.clone(),
            incarnation: Some(incarnation),
            applied: entry,
            position: pages.position,
            page_size: pages.page_size,
            pages: pages.pages,
            pinned: None,
        };
        let database = self.open_new(|unfinished| {
            let file = unfinished.join("database");
            durable::take(&pages.path, &file)
                .map_err(io_at("putting a snapshot in place", &file))?;
            record.write(&unfinished.join("record"))?;
            Ok(record)
        })?;
        match database.finish_recovery() {
            Ok(_) => Ok(database),
            Err(error) => {
                self.delete(&database)?;
                Err(error)
            }
        }
    }

    /// Somebody made one of that name meanwhile: the file goes back to where it came from.
    ///
    /// # Errors
    /// The disk's.
    pub fn give_back(&self, database: &Database, to: &Path) -> Result<(), StoreError> {
        let file = database.folder().join("database");
        durable::take(&file, to).map_err(io_at("taking a snapshot back", &file))?;
        self.delete(database)
    }
}

/// At a start: what was not whole.
pub(super) fn remove_unfinished(folder: &Path) -> Result<(), StoreError> {
    fs::remove_dir_all(folder).map_err(io_at("removing", folder))
}
