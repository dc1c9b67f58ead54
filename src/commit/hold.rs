//! One hold of a database's write lock by one owner: from the answer that granted it to its release.

use crate::capture::{JournalCapture, JournalCommit, WalCapture, WalTransaction};
use crate::core::Position;
use crate::store::Preview;

use super::door::{Errno, Handle, Owner, Reply, Writer};

/// Who stands in a lock table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LockOwner {
    App(Owner),
    /// The daemon itself, in one of its parts.
    Daemon(u64),
}

/// Keeps WAL and shm alive when the last application leaves (SHARED on the database, and DMS).
pub const KEEPER: LockOwner = LockOwner::Daemon(u64::MAX);
/// Applies what other nodes committed.
pub const APPLIER: LockOwner = LockOwner::Daemon(u64::MAX - 1);
/// Holds the write lock in place of an application that died, until its commit's fate is known.
pub const HEIR: LockOwner = LockOwner::Daemon(u64::MAX - 2);
/// Turns a new database to WAL.
pub const TURNER: LockOwner = LockOwner::Daemon(u64::MAX - 3);

/// The operation that completes a transaction, not yet done (invisible-until-committed).
pub enum Withheld {
    /// The write of the WAL that completes the commit frame.
    WalWrite { offset: u64, data: Vec<u8>, transaction: WalTransaction, reply: Reply<u32> },
    /// The end of the rollback journal.
    Journal { end: JournalEnd, commit: JournalCommit, answer: JournalAnswer },
}

/// How a rollback journal ends (SQLite's journal modes DELETE, TRUNCATE, PERSIST).
#[derive(Debug, Clone)]
pub enum JournalEnd {
    Unlink,
    Truncate(u64),
    Zero {
        offset: u64,
        data: Vec<u8>,
    },
    /// The daemon's own change of a database: there is no journal.
    None,
}

/// The two forms of an answer to a journal's end.
pub enum JournalAnswer {
    Done(Reply<()>),
    Written(Reply<u32>, u32),
}

impl JournalAnswer {
    pub fn give(self, result: Result<(), Errno>) {
        match self {
            JournalAnswer::Done(reply) => reply(result),
            JournalAnswer::Written(reply, len) => reply(result.map(|()| len)),
        }
    }
}

/// How far the hold's transaction is.
pub enum Phase {
    /// Writing.
    Open,
    /// The commit point is withheld; its pages are being gathered.
    Building,
    /// The commit point is withheld; Raft decides.
    Committing { withheld: Withheld, change: Preview },
    /// Accepted: the entry of this index; the writer, or its heir, makes it visible.
    Committed { index: u64 },
    /// Nothing of it will be accepted: all its writes get EIO (Rule 1).
    Doomed,
    /// Answered EIO with the outcome open; the log will say.
    Unknown,
}

/// What follows the writes of the hold.
pub enum Follow {
    Wal(WalCapture),
    Journal(JournalFollow),
}

/// A rollback journal being written.
pub struct JournalFollow {
    pub capture: JournalCapture,
    /// The database was written.
    pub dirty: bool,
}

pub struct Hold {
    pub owner: LockOwner,
    pub handle: Handle,
    pub pid: u32,
    /// As whom its process writes, where the lock is of an open file description.
    pub writes_as: Option<Owner>,
    /// The position that its transaction is made on.
    pub base: Position,
    pub follow: Follow,
    pub phase: Phase,
}

impl Hold {
    /// The file whose lock it is.
    pub fn journal_mode(&self) -> bool {
        matches!(self.follow, Follow::Journal(_))
    }

    /// Whether this is the one who holds the lock: the owner, or who owns a lock of an open file description of
    /// the same process, which is as far as SQLite's own locks tell connections apart.
    pub fn is_by(&mut self, writer: Writer<'_>) -> bool {
        let LockOwner::App(holder) = self.owner else { return writer.owner.is_none() };
        let Some(owner) = writer.owner else { return true };
        if owner == holder || self.writes_as == Some(owner) {
            return true;
        }
        let same = (writer.pid)() == self.pid;
        if same {
            self.writes_as = Some(owner);
        }
        same
    }

    /// Its proposal is out, or its fate unknown: the daemon keeps the lock when its owner goes.
    pub fn must_outlive_owner(&self) -> bool {
        matches!(self.phase, Phase::Building | Phase::Committing { .. } | Phase::Unknown)
    }
}
