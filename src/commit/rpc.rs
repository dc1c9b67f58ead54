//! What nodes say to each other about writing: six questions over the mesh's `rpc` purpose.
//!
//! A message is a version byte and a postcard body. Method numbers from 64 on are this room's; the
//! lower ones are `raft`'s.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::cluster::{Command, Ticket};
use crate::core::DatabaseName;

/// The method number of every message of this room.
pub const METHOD: u8 = 64;

const VERSION: u8 = 1;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// To the leader of `term`: put this into the log. The verdict is not in the answer: the
    /// proposer learns it from its own applied log (Rule 6).
    Propose { term: u64, command: Command },
    /// To the leader: the cluster-wide write lock of a database. The same ticket asked again
    /// keeps its place.
    Lock { term: u64, database: DatabaseName, ticket: Ticket },
    /// To the leader: the asker has done with the lock, or no longer wants it.
    Unlock { term: u64, database: DatabaseName, ticket: Ticket },
    /// From the leader: somebody waits for the lock that you hold.
    Recall { term: u64, database: DatabaseName, ticket: Ticket },
    /// From a new leader: which locks do you hold? (Rule 14)
    Held { term: u64 },
    /// To the leader: fetch this staged file from me; I am about to propose an entry that names it.
    Stage { sha256: [u8; 32], len: u64 },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// Done, or on its way.
    Ok,
    /// The lock is yours, and the database's last entry is the one of this index.
    Granted {
        index: u64,
    },
    /// Not yet: ask again with the same ticket.
    Waiting,
    /// The one asked does not lead that term.
    NotLeader,
    Held {
        databases: Vec<(DatabaseName, Ticket)>,
    },
}

/// Bytes that are not a message of this room, or of a version it does not know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RpcError {
    #[error("an empty message")]
    Empty,
    #[error("a message of version {0}; this node knows version {VERSION}: upgrade it")]
    Version(u8),
    #[error("a message that cannot be read: {0}")]
    Body(String),
}

fn encode<T: Serialize>(message: &T) -> Result<Bytes, RpcError> {
    postcard::to_extend(message, vec![VERSION])
        .map(Bytes::from)
        .map_err(|error| RpcError::Body(error.to_string()))
}

fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, RpcError> {
    match bytes.split_first() {
        None => Err(RpcError::Empty),
        Some((&VERSION, body)) => {
            postcard::from_bytes(body).map_err(|error| RpcError::Body(error.to_string()))
        }
        Some((&version, _)) => Err(RpcError::Version(version)),
    }
}

impl Request {
    pub fn encode(&self) -> Result<Bytes, RpcError> {
        encode(self)
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, RpcError> {
        decode(bytes)
    }
}

impl Answer {
    pub fn encode(&self) -> Result<Bytes, RpcError> {
        encode(self)
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, RpcError> {
        decode(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_back() {
        let database = DatabaseName::new("app.db").unwrap();
        let ticket = Ticket { boot: crate::core::Boot(2), number: 9 };
        for request in [
            Request::Lock { term: 3, database: database.clone(), ticket },
            Request::Held { term: u64::MAX },
            Request::Recall { term: 1, database, ticket },
        ] {
            assert_eq!(Request::decode(&request.encode().unwrap()), Ok(request));
        }
        assert_eq!(Request::decode(&[]), Err(RpcError::Empty));
        assert_eq!(Request::decode(&[9, 9]), Err(RpcError::Version(9)));
        assert!(matches!(Request::decode(&[1, 200]), Err(RpcError::Body(_))));
    }
}
