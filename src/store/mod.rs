#![allow(unsafe_code)]
mod append; mod checksums; mod database; pub mod durable; mod error; mod folder; mod in_place; mod overlay; mod record; mod rollback; mod shm; mod wal_writer;
pub use checksums::{ChangeError, Changes, Preview};
pub use database::{Database, JournalMode, Sizes};
pub use error::StoreError;
pub use folder::{Aside, Recovered, Store};
pub use record::Record;
impl Database { pub fn checkpoint(&self) -> Result<(), StoreError> { todo!() } pub fn make_durable(&self, _: crate::core::EntryId) -> Result<(), StoreError> { todo!() } pub fn write_database(&self, _: u64, _: &[u8]) -> Result<(), StoreError> { todo!() } pub fn truncate_database(&self, _: u64) -> Result<(), StoreError> { todo!() } 
pub fn apply_pinned(&self) -> Result<(), StoreError> { todo!() } }
