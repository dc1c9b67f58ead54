//! The pages of a database that was set aside.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::error::{StoreError, io_at};
use super::folder::Store;
use crate::core::DatabaseName;

/// Its file; what its WAL held is not among them.
pub struct PagesAside {
    file: File,
    page_size: u32,
    pages: u32,
}

impl PagesAside {
    /// Bytes.
    pub fn page_size(&self) -> u32 {
        self.page_size
    }

    /// Reads a page; `false`: there is none of this number. Whether it is sound nobody knows.
    ///
    /// # Errors
    /// None: what cannot be read, on a disk that rots, is not there.
    pub fn read(&self, pgno: u32, page: &mut Vec<u8>) -> io::Result<bool> {
        if pgno == 0 || pgno > self.pages {
            return Ok(false);
        }
        page.resize(self.page_size as usize, 0);
        let offset = u64::from(pgno - 1) * u64::from(self.page_size);
        Ok(self.file.read_exact_at(page, offset).is_ok())
    }
}

impl Store {
    /// Of the database of this name that was set aside last; `None`: none was, or it has no record.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn pages_aside(&self, name: &DatabaseName) -> Result<Option<PagesAside>, StoreError> {
        let mut last = None;
        for aside in self.asides()? {
            let Some(record) = aside.record else { continue };
            if record.name != *name || record.page_size == 0 {
                continue;
            }
            let path = aside.folder.join("database");
            let file = File::open(&path).map_err(io_at("opening", &path))?;
            let written = file.metadata().and_then(|meta| meta.modified());
            let written = written.map_err(io_at("asking", &path))?;
            if last.as_ref().is_none_or(|(before, _)| *before <= written) {
                let (page_size, pages) = (record.page_size, record.pages);
                last = Some((written, PagesAside { file, page_size, pages }));
            }
        }
        Ok(last.map(|(_, pages)| pages))
    }
}
