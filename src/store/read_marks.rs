//! Read marks: how readers say which frames they need.
//!
//! A reader whose snapshot no mark names sets one first, under that mark's lock: two requests more
//! than the two of a read transaction, after every commit. The daemon, which gives these locks,
//! sets the mark beforehand.

use super::database::Database;
use super::error::StoreError;
use crate::sqlite::locks::READERS;
use crate::sqlite::wal_index;

impl Database {
    /// Lets a mark that nobody uses name the WAL's live end, if none does (`walTryBeginRead`).
    /// `is_free` says whether nobody holds the lock of a reader's mark; the caller sees to it that
    /// nobody is granted it meanwhile, and holds byte 120 or is just releasing it.
    ///
    /// # Errors
    /// The wal-index cannot be read. Nothing depends on the mark.
    pub fn offer_read_mark(&self, is_free: impl Fn(usize) -> bool) -> Result<(), StoreError> {
        let view = self.view()?;
        let end = self.live_header(&view)?.max_frame;
        let info = wal_index::checkpoint_info(&view).map_err(|e| self.index(e))?;
        // Mark 0 stands for the database file alone, which is enough when all frames are in it.
        let named = info.read_marks.iter().skip(1).any(|mark| *mark == end);
        if named || info.backfill == end {
            return Ok(());
        }
        match (1..READERS).find(|mark| is_free(*mark)) {
            Some(mark) => wal_index::set_read_mark(&view, mark, end).map_err(|e| self.index(e)),
            None => Ok(()),
        }
    }
}
