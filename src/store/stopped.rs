//! The databases in the data folder of a node that is stopped, as they lie there. Changes nothing.

use std::fs;
use std::path::{Path, PathBuf};

use super::error::StoreError;
use super::folder::{folders, number};
use super::outside::{Outside, OutsideError};
use super::record::Record;

/// A database of it.
pub struct StoppedDatabase {
    pub record: Record,
    folder: PathBuf,
}

impl StoppedDatabase {
    /// All that somebody committed to, in the order of their names.
    ///
    /// # Errors
    /// The folder `dbs` cannot be read, or a record in it.
    pub fn list(dbs: &Path) -> Result<Vec<Self>, StoreError> {
        let mut found = Vec::new();
        for folder in folders(dbs)? {
            if number(folder.file_name(), "").is_none() {
                continue; // not whole yet, or deleted
            }
            let Some(record) = Record::read(&folder.join("record"))? else { continue };
            if record.incarnation.is_some() {
                found.push(Self { record, folder });
            }
        }
        found.sort_by(|a, b| a.record.name.cmp(&b.record.name));
        Ok(found)
    }

    /// Opens it, and holds its bytes against its record. Its WAL and journal count for nothing (Rule 9).
    ///
    /// # Errors
    /// The file is not what the record says: the node was not stopped in order; or it cannot be read.
    pub fn open(&self) -> Result<Outside, OutsideError> {
        let damaged = |why: String| OutsideError::Damaged { path: self.folder.clone(), why };
        if self.record.pinned.is_some() || has_pages_beside(&self.folder) {
            let why = "a part of it lies beside it: start the node, and stop it in order";
            return Err(damaged(why.to_owned()));
        }
        let none = self.folder.join("none");
        let outside = Outside::open_parts(&self.folder.join("database"), &none, &none)?;
        let (said, found) = (self.record.position.checksum, outside.checksum()?);
        if outside.pages() != self.record.pages || found != said {
            return Err(damaged(format!(
                "its checksum is {:016x}, and by its record {:016x}: start the node, and stop it in order",
                found.0, said.0
            )));
        }
        Ok(outside)
    }
}

fn has_pages_beside(folder: &Path) -> bool {
    let Ok(listing) = fs::read_dir(folder) else { return false };
    listing.flatten().any(|entry| entry.file_name().to_string_lossy().starts_with("pinned-"))
}
