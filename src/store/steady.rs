//! Much that is written reaches the disk as it is written.

use std::fs::File;
use std::io;

/// Syncs a file now and then while gigabytes are written to it. Else all of them wait in memory for one
/// sync at the end, and every other sync of the machine, the Raft log's above all, waits behind them.
pub struct Steady<'a> {
    file: &'a File,
    unsynced: usize,
}

impl<'a> Steady<'a> {
    /// Bytes between two syncs.
    pub const STEP: usize = 64 << 20;

    /// Of a file that is about to be written.
    pub fn new(file: &'a File) -> Self {
        Self { file, unsynced: 0 }
    }

    /// So many bytes more were written.
    ///
    /// # Errors
    /// The disk's.
    pub fn wrote(&mut self, bytes: usize) -> io::Result<()> {
        self.unsynced += bytes;
        if self.unsynced >= Self::STEP {
            self.file.sync_data()?;
            self.unsynced = 0;
        }
        Ok(())
    }
}
