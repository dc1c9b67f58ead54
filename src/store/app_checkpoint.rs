//! What an application's own checkpoint writes into the database file (under byte 121): pages that
//! are committed already, and the file's new size. No transaction. The log's committed mark is
//! durable before (Rule 10): that is the caller's part.

use std::os::unix::fs::FileExt;

use super::database::Database;
use super::error::StoreError;

impl Database {
    /// Writes pages of the WAL into the database file, as an application's checkpoint does.
    pub fn write_checkpointed(&self, offset: u64, data: &[u8]) -> Result<(), StoreError> {
        self.main
            .write_all_at(data, offset)
            .map_err(|e| self.io("writing a checkpoint", "database", e))
    }

    /// Cuts the database file to its committed size, as an application's checkpoint does.
    pub fn truncate_checkpointed(&self, len: u64) -> Result<(), StoreError> {
        self.main.set_len(len).map_err(|e| self.io("truncating after a checkpoint", "database", e))
    }
}
