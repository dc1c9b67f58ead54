//! What a Raft entry can say, and what the state machine answers.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::core::{DatabaseName, Incarnation, Position, TransactionId};

/// The changed pages of a transaction, an LTX file: in the entry, or beside it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Payload {
    /// Small ones travel inside the entry.
    Inline(Bytes),
    /// Large ones are staged on every voter as a file named by its SHA-256 (Rule 19).
    Staged { sha256: [u8; 32], len: u64 },
}

/// One transaction, asking to become the next of its database.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Commit {
    pub id: TransactionId,
    pub database: DatabaseName,
    /// The life of the name that it was made in; `None`: it creates the database.
    pub incarnation: Option<Incarnation>,
    /// The position it was made on. Another position now, and it is refused (one-history).
    pub base: Position,
    /// The position it leads to.
    pub new: Position,
    /// Bytes a page.
    pub page_size: u32,
    /// Pages of the database after it.
    pub pages: u32,
    pub payload: Payload,
}

/// The data of a Raft entry.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Command {
    Commit(Commit),
    /// Ends an incarnation: the database is deleted on every node.
    Delete {
        id: TransactionId,
        database: DatabaseName,
        incarnation: Incarnation,
    },
    /// Settles a transaction whose proposer gave up waiting: if it is not in the log before this
    /// entry, it is refused from here on (Rule 6).
    Abandon {
        id: TransactionId,
    },
}

impl Command {
    /// Whose verdict it is about.
    #[must_use]
    pub fn id(&self) -> TransactionId {
        match self {
            Command::Commit(commit) => commit.id,
            Command::Delete { id, .. } | Command::Abandon { id } => *id,
        }
    }
}

/// What became of a transaction. Kept for the last ones of every node, in snapshots too (Rule 5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Verdict {
    /// It is part of the database's history, in this incarnation, by the entry of this index.
    Accepted { incarnation: Incarnation, index: u64 },
    /// It is not, and will never be.
    Refused(Refusal),
}

/// Why a transaction was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, thiserror::Error)]
pub enum Refusal {
    #[error("the database stands at another position than the transaction was made on")]
    Base,
    #[error("the database was deleted or made anew since the transaction began")]
    Incarnation,
    #[error("the database exists already")]
    Exists,
    #[error("its proposer gave it up before it was in the log")]
    Abandoned,
    #[error("it is older than every verdict that is still kept of its node")]
    Forgotten,
    #[error("its page size differs from the database's")]
    PageSize,
    #[error(
        "it contradicts itself: its TXID does not follow its base, or its page size or its number \
         of pages is none that a SQLite database can have"
    )]
    Invalid,
}

/// Why a change of the registry was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, thiserror::Error)]
pub enum Refused {
    #[error("there is a token of this id already")]
    TokenExists,
    #[error("there are too many tokens; revoked and used ones go a week after their end")]
    TooManyTokens,
    #[error("the token is not known here, or was forgotten long after its end; make a new one")]
    TokenUnknown,
    #[error("the token was used already; make a new one")]
    TokenUsed,
    #[error("the token was revoked; make a new one")]
    TokenRevoked,
    #[error("the token has expired; make a new one")]
    TokenExpired,
    #[error("another member has this name; choose another, or remove that member first")]
    NameTaken,
    #[error("this number was given to another node before; numbers are never used again")]
    NumberTaken,
    #[error("another session holds the lease")]
    LeaseHeld,
    #[error("this node is not chosen to hold the lease")]
    NotChosen,
    #[error("the session is not the one that holds the lease")]
    SessionUnknown,
    #[error("LiteFS's cluster has another id already")]
    OtherCluster,
    #[error("a text is too long to be kept")]
    TooLong,
}
