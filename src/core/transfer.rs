//! Databases in and out of a node: what the API and the command line ask an engine for, besides
//! what [`engine`](super::engine) has.
//!
//! A database comes in by an upload, in pieces: it may be of many gigabytes, and what was sent
//! before a line broke is not sent again. It goes out as one stream, as of one position.

use std::io;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::engine::{JournalMode, Later, PositionText, position_text};
use super::{DatabaseName, Incarnation, Position};

/// The largest piece of an upload, in bytes.
pub const PIECE_MAX: usize = 8 << 20;

/// What moves databases in and out of this node.
///
/// Everything ends within its `timeout`, or soon (bounded-answer).
pub trait Transfers: Send + Sync {
    /// Begins an upload, or finds the one of the same bytes that was begun before.
    fn begin_upload(&self, upload: Upload) -> Later<'_, Result<Uploaded, TransferError>>;

    /// The next piece. Pieces come in order; `offset` says where this one begins.
    fn upload_piece(
        &self,
        id: UploadId,
        offset: u64,
        piece: bytes::Bytes,
    ) -> Later<'_, Result<Uploaded, TransferError>>;

    /// All pieces are here: checks the database, and makes it one on all nodes by one transaction.
    /// `None`: it is still at work when the time is over; to be asked again.
    fn finish_upload(
        &self,
        id: UploadId,
        timeout: Duration,
    ) -> Later<'_, Result<Option<Imported>, TransferError>>;

    /// Forgets an upload, if it is not being imported already.
    fn drop_upload(&self, id: UploadId) -> Later<'_, Result<Uploaded, TransferError>>;

    /// The database as a reader here sees it now. Writers go on.
    fn export(
        &self,
        database: DatabaseName,
        timeout: Duration,
    ) -> Later<'_, Result<Export, TransferError>>;

    /// What was set aside on this node (nothing-discarded).
    fn diverged(&self) -> Later<'_, Result<Vec<Diverged>, TransferError>>;

    /// A database of it. Which one need not be said if there is but one.
    fn export_diverged(
        &self,
        id: String,
        database: Option<DatabaseName>,
    ) -> Later<'_, Result<Export, TransferError>>;

    /// Removes it for good, and says what that was.
    fn drop_diverged(&self, id: String) -> Later<'_, Result<Diverged, TransferError>>;
}

/// Which bytes are to become a database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Upload {
    pub database: DatabaseName,
    pub bytes: u64,
    /// Of all of them, in hexadecimal digits: what arrives is held against it.
    pub sha256: String,
}

/// The name of an upload: hexadecimal digits, the same for the same bytes under the same name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
pub struct UploadId(String);

impl UploadId {
    /// Digits of an id.
    const LEN: usize = 32;

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for UploadId {
    type Error = String;

    /// It names a folder of the node: nothing but digits.
    fn try_from(text: String) -> Result<Self, String> {
        if text.len() == Self::LEN && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            Ok(Self(text))
        } else {
            Err(format!("an upload's name is {} hexadecimal digits", Self::LEN))
        }
    }
}

impl From<UploadId> for String {
    fn from(id: UploadId) -> Self {
        id.0
    }
}

/// How far an upload is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Uploaded {
    pub upload: UploadId,
    /// Bytes that are here: the next piece begins there.
    pub received: u64,
}

/// A database that was taken in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Imported {
    pub database: DatabaseName,
    pub incarnation: Incarnation,
    #[serde(with = "position_text")]
    #[schemars(with = "PositionText")]
    pub position: Position,
    /// Bytes.
    pub page_size: u32,
    pub pages: u32,
    pub journal: JournalMode,
}

/// Databases that were set aside together, before another history took their place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Diverged {
    /// What it is called by.
    pub id: String,
    /// When: seconds since 1970.
    pub set_aside: u64,
    /// For people.
    pub why: String,
    /// Of all its files.
    pub bytes: u64,
    pub databases: Vec<DivergedDatabase>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DivergedDatabase {
    /// `None`: its record cannot be read.
    pub name: Option<DatabaseName>,
    /// The last position that was recorded; its files may hold more.
    pub position: Option<String>,
    pub bytes: u64,
}

/// A database on its way out.
pub struct Export {
    /// Of what was set aside there is none that would be certain.
    pub position: Option<Position>,
    /// How many there are to come.
    pub bytes: u64,
    /// An SQLite file. Ends with an error if the pages are not what the position says.
    pub file: Box<dyn io::Read + Send>,
}

/// Why a database did not come in, or go out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TransferError {
    /// There is none of that name.
    #[error("{0}")]
    Missing(String),
    /// The name is taken: nothing was changed.
    #[error("{0}")]
    Exists(String),
    /// It does not follow what is here.
    #[error("{0}")]
    OutOfStep(String),
    /// It is no database, or not a sound one, or not the bytes that were announced.
    #[error("{0}")]
    Unfit(String),
    /// The node's disk is full.
    #[error("{0}")]
    NoSpace(String),
    /// Not now; to be tried again.
    #[error("{0}")]
    Unavailable(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upload_is_named_by_digits_alone() {
        let good = "0123456789abcdef0123456789abcdef";
        assert_eq!(UploadId::try_from(good.to_owned()).unwrap().as_str(), good);
        for bad in ["", "../../etc", &good[1..], &good.replace('a', "A"), &format!("{good}0")] {
            assert!(UploadId::try_from(bad.to_owned()).is_err(), "{bad}");
        }
    }
}
