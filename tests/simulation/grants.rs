//! What the nodes say to each other about write locks, read on its way: a lock is granted once.
//!
//! The messages are those of `commit/rpc.rs`, as they are on the wire.

use litefs_py::cluster::{Command, Ticket};
use litefs_py::core::DatabaseName;
use serde::Deserialize;

#[derive(Debug, Deserialize)]
#[allow(dead_code)] // the shape of a message
pub enum Request {
    Propose { term: u64, command: Command },
    Lock { term: u64, database: DatabaseName, ticket: Ticket },
    Unlock { term: u64, database: DatabaseName, ticket: Ticket },
    Recall { term: u64, database: DatabaseName, ticket: Ticket },
    Held { term: u64 },
}

#[derive(Deserialize)]
enum Answer {
    Ok,
    Granted { index: u64 },
}

pub fn request(bytes: &[u8]) -> Option<Request> {
    postcard::from_bytes(bytes.get(1..)?).ok()
}

pub fn is_granted(bytes: &[u8]) -> bool {
    let answer = bytes.get(1..).and_then(|body| postcard::from_bytes(body).ok());
    match answer {
        Some(Answer::Granted { index }) => index < u64::MAX,
        Some(Answer::Ok) | None => false,
    }
}

/// Tickets rise with every request of a node.
pub fn number(ticket: Ticket) -> u64 {
    ticket.boot.0 << 32 | ticket.number
}
