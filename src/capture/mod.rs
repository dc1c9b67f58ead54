//! File operations of one database in, transactions out.
//!
//! Keeps its part of *invisible-until-committed*: it names the commit point, the one operation
//! that is withheld until the transaction is committed; and Rules 8 (a journal finalised with no
//! page changed is no transaction) and 20 (at most one transaction per hold of the write lock).
//!
//! Knows of `sqlite` and `core`. Pure: bytes written earlier are read through [`ReadAt`]. One
//! capture lives as long as one hold of the write lock; after an error or a refusal the operation
//! is answered EIO, and the hold is doomed (Rule 1): nothing more of it is passed on.

#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod journal;
mod ranges;
mod spilled;
mod super_journal;
mod view;
mod wal;

pub use journal::{DatabaseShape, JournalCapture, JournalCommit, JournalEvent, Refusal};
pub use view::ReadAt;
pub use wal::{CaptureError, WalCapture, WalEvent, WalTransaction};

#[cfg(test)]
mod tests;
