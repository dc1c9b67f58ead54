//! The files of databases on one node.
//!
//! What it is for: it keeps each database as a file, a WAL, a wal-index and a record; applies
//! other nodes' transactions beneath open readers; keeps the checksum of every page; checkpoints;
//! recovers; and streams a whole database to a node that needs one. It also reads databases that no node
//! serves: to bring them in, and what was set aside.
//!
//! What it promises:
//! - one-history: a transaction is applied only on the position it was made on, and only if the
//!   bytes it leads to have the checksum they had at its origin ([`StoreError::Diverged`]).
//! - invisible-until-committed: nothing is made visible by [`Database::adopt`]; that is its
//!   writer's part, or [`Database::publish_if_needed`]'s (Rule 2). A rollback-journal writer's
//!   pages lie beside the file until [`Database::overlay_commit`] (Rule 8).
//! - readers-go-on: an open reader keeps its snapshot while transactions are appended.
//! - nothing-discarded: [`Store::set_aside`] moves a database away whole, and overwrites nothing; what
//!   gave way to a snapshot that was cut short is taken back ([`Store::take_back`]).
//! - no-lost-ack, as far as files go: [`Database::make_durable`] (Rules 10 to 12).
//!
//! Rules kept here: 2, 3, 4, 8, 9, 11, 12, 13, 16, 18. Rule 1 (who holds byte 120 or the database
//! alone) is the caller's.
//!
//! ```text
//! a local commit, WAL:      changes -> preview -> (reserve, propose) -> adopt -> publish_if_needed
//! a local commit, rollback: overlay_write.. -> preview -> (reserve, propose) -> overlay_commit
//! another node's:           append (WAL) | apply_in_place (rollback journal, and replay)
//! ```
//!
//! May know: `sqlite`, `ltx`, `core`. Blocking: no tokio. Every method may take as long as the
//! disk does.

mod app_checkpoint;
mod append;
mod aside;
mod checksums;
mod converted;
mod database;
mod durability;
pub mod durable;
mod error;
mod folder;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod image;
mod in_place;
mod litefs_commit;
mod litefs_folder;
mod newcomer;
mod outside;
mod overlay;
mod page_file;
mod pages_aside;
mod read_check;
mod read_marks;
mod record;
mod rollback;
mod scrub;
mod shm;
mod snapshot;
mod steady;
mod stopped;
#[cfg(test)]
mod tests;
mod vfs;
mod wal_writer;
mod whole;

pub use aside::{Kept, KeptDatabase};
pub use checksums::{ChangeError, Changes, Preview};
pub use converted::{make_for_litefs, make_slot};
pub use database::{APPLIER_SLOT, Database, FIRST_STORE_SLOT, JournalMode, Sizes};
pub use error::StoreError;
pub use folder::{Aside, Recovered, Store};
pub use image::Image;
pub use litefs_commit::finish_litefs_commits;
pub use litefs_folder::{
    LitefsDatabase, LitefsShape, litefs_checksum_at, litefs_positions, litefs_shape,
    set_litefs_aside,
};
pub use outside::{Encoded, Outside, OutsideError, beside, quick_check};
pub use page_file::PageFile;
pub use pages_aside::PagesAside;
pub use record::Record;
pub use scrub::Scrubbed;
pub use snapshot::Snapshot;
pub use steady::Steady;
pub use stopped::StoppedDatabase;
pub use vfs::{CheckpointMode, Checkpointed};
