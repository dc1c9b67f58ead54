//! A database's cluster-wide write lock, as this node stands to it.
//!
//! Sticky: once granted it stays until the leader recalls it, so that a node that goes on writing
//! asks once. Rule 15: a recall beats this node's own waiters; a lock granted after waiting stays
//! reserved for 250 ms, also when its application unlocks in between to try again.

use tokio::time::Instant;

use crate::cluster::Ticket;

/// Where this node stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClusterLock {
    None,
    /// A task asks the leader; the place in its queue is kept by the ticket.
    Asking {
        ticket: Ticket,
    },
    Held(Held),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    pub ticket: Ticket,
    /// The term of the leader that granted it, or that we told of it since.
    pub term: u64,
    /// The last entry of the database when it was granted: to be applied before writing.
    pub index: u64,
    /// Until then a recall has to wait.
    pub reserved_until: Instant,
    /// Somebody waits for it.
    pub recalled: bool,
}

impl ClusterLock {
    /// Held from the leader of `term`, and nobody else waits for it, or it is still reserved.
    pub fn usable(&self, term: u64, now: Instant) -> Option<Held> {
        match self {
            ClusterLock::Held(held)
                if held.term == term && (!held.recalled || now < held.reserved_until) =>
            {
                Some(*held)
            }
            _ => None,
        }
    }
}
