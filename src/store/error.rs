//! What can go wrong with a database's files.

use std::io;
use std::path::{Path, PathBuf};

use crate::core::{DatabaseName, EntryId, Position};
use crate::ltx::LtxError;
use crate::sqlite::{HeaderError, IndexError};

/// What a file system answers that found its own bytes damaged.
const EIO: i32 = 5;
const EUCLEAN: i32 = 117;
const EBADMSG: i32 = 74;

/// Says what failed, on what, and what to do. After one that follows the quorum the caller stops
/// the process (Rule 7); the next start recovers.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("{what} failed on {}: {source}", path.display())]
    Io { what: &'static str, path: PathBuf, source: io::Error },

    #[error("the record {} cannot be used: {reason}; set the folder aside and fetch the database anew", path.display())]
    Record { path: PathBuf, reason: String },

    #[error("{name}: the transaction's LTX file cannot be applied: {source}")]
    Ltx { name: DatabaseName, source: LtxError },

    #[error("{name}: the wal-index cannot be used: {source}; a restart of the node builds it anew")]
    Index { name: DatabaseName, source: IndexError },

    #[error("{name}: the database file has no header of SQLite: {source}")]
    Header { name: DatabaseName, source: HeaderError },

    /// one-history. Nothing of it is visible to anyone.
    #[error(
        "{name}: diverged: {what} is {found}, and must be {expected}; set the database aside and \
         fetch it anew"
    )]
    Diverged { name: DatabaseName, what: &'static str, expected: Position, found: Position },

    /// A commit waits for its writer, or for `publish_if_needed`, to make it visible.
    #[error(
        "{name}: the transaction of entry {} is not visible yet; ask again once its writer \
         released the write lock", entry.index
    )]
    Unpublished { name: DatabaseName, entry: EntryId },

    /// Another holds a lock that is needed for a moment, or a reader holds the WAL.
    #[error("{name}: {what}; try again")]
    Busy { name: DatabaseName, what: &'static str },

    /// The caller asked what cannot be.
    #[error("{name}: {reason}")]
    Invalid { name: DatabaseName, reason: String },

    #[error("{name}: {what} by SQLite failed: {source}")]
    Sqlite { name: DatabaseName, what: &'static str, source: rusqlite::Error },
}

impl StoreError {
    /// Whether it says that the files are not what they must be, rather than that nothing can be
    /// done now: a full disk, a missing permission and the like damage nothing.
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Record { .. }
            | Self::Ltx { .. }
            | Self::Header { .. }
            | Self::Diverged { .. } => true,
            Self::Io { source, .. } => {
                let kind = source.kind();
                matches!(kind, io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof)
                    || matches!(source.raw_os_error(), Some(EIO | EUCLEAN | EBADMSG))
            }
            Self::Index { .. }
            | Self::Unpublished { .. }
            | Self::Busy { .. }
            | Self::Invalid { .. }
            | Self::Sqlite { .. } => false,
        }
    }
}

/// For `map_err` on an I/O operation.
pub(super) fn io_at(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    move |source| StoreError::Io { what, path: path.to_owned(), source }
}
