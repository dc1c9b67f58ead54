//! What the node's databases do for this room: the room above implements it.

use std::io;
use std::sync::Arc;

use super::pages::ReceivedPages;
use crate::cluster::{Command, Effect, State};
use crate::core::{DatabaseName, EntryId, Incarnation, Position};

/// An entry that was applied to the state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    pub entry: EntryId,
    /// `None`: an entry of Raft's own (blank, or a change of members).
    pub command: Option<Command>,
    /// What it did to the state; `None` with `command`.
    pub effect: Option<Effect>,
}

/// A database on its way to another node.
pub struct SnapshotDatabase {
    pub name: DatabaseName,
    pub incarnation: Incarnation,
    /// The last entry that its bytes hold; at least that of the state it goes with.
    pub index: u64,
    /// A full LTX file.
    pub reader: Box<dyn io::Read + Send>,
}

/// A database that came from another node.
pub struct IncomingDatabase {
    pub name: DatabaseName,
    pub incarnation: Incarnation,
    /// The last entry that its bytes hold: those up to it are not to be applied to it again.
    pub index: u64,
    pub content: Content,
}

/// A whole database.
pub enum Content {
    /// As an LTX file.
    Ltx(Box<dyn io::Read + Send>),
    /// As a file of pages, which may be taken from where it lies.
    Pages(Arc<ReceivedPages>),
    /// The replica said that it is at this position already.
    Here(Position),
}

/// A database of this node, page by page. Methods may block.
pub trait Pages: Send {
    /// Bytes.
    fn page_size(&self) -> u32;

    /// Reads a page; `false`: there is none of this number.
    ///
    /// # Errors
    /// The disk failed, or nothing is held.
    fn read(&mut self, pgno: u32, page: &mut Vec<u8>) -> io::Result<bool>;

    /// Holds the present position: what is read is of it, until it is let go.
    ///
    /// # Errors
    /// The database is gone, or is another one, or an application keeps it busy for long.
    fn hold(&mut self) -> io::Result<()>;

    /// Nothing is read for a while: the database's WAL may begin anew.
    fn let_go(&mut self);
}

/// A database at one position, for a node that has some of its pages.
pub struct Offered {
    /// As in [`SnapshotDatabase`].
    pub index: u64,
    pub position: Position,
    /// Bytes.
    pub page_size: u32,
    /// The checksum of each page.
    pub sums: Vec<u64>,
    /// They are of this position as long as it is held, which it is.
    pub pages: Box<dyn Pages>,
}

/// The databases of this node.
///
/// The state lives here and is replayed after a start, from the state file on: the replica is
/// told entries again that its databases may already hold. Each database knows up to which entry
/// it does, and passes over those.
pub trait Replica: Send + Sync + 'static {
    /// Once, before any entry is told: the state that they are replayed upon. Whatever the replica
    /// lacks of it, no entry brings (Rule 13).
    ///
    /// # Errors
    /// The disk failed; the node does not start.
    fn begins(&self, state: &State) -> io::Result<()>;

    /// An entry was applied to the state; in the order of the log. Must not block: whoever waits
    /// for a verdict waits for this (Rule 6).
    ///
    /// Rule 10: the entry is durable in this node's own log.
    fn applied(&self, applied: Applied);

    /// Blocks until all databases hold every entry up to `up_to` durably (Rule 11). The committed
    /// mark is durable up to there before this is called (Rule 10).
    ///
    /// # Errors
    /// `TimedOut` and `ResourceBusy`: an application is in the way, and it is asked again. Any other:
    /// the disk failed; the node stops.
    fn make_durable(&self, up_to: EntryId) -> io::Result<()>;

    /// All databases of `state`, each as of the state's entry or later. May block.
    ///
    /// # Errors
    /// One cannot be read. The snapshot is tried again.
    fn databases_for_snapshot(&self, state: &State) -> io::Result<Vec<SnapshotDatabase>>;

    /// One database, in this life of its name, as of the entry `at_least` or later, for a node that
    /// lost its own (Rule 13). May block.
    ///
    /// # Errors
    /// It is not here, or not so far. The other node asks again, or elsewhere.
    fn database(
        &self,
        name: &DatabaseName,
        incarnation: Incarnation,
        at_least: u64,
    ) -> io::Result<SnapshotDatabase>;

    /// As [`Replica::database`], page by page; `None`: only as a whole. May block.
    ///
    /// # Errors
    /// As there.
    fn offer(
        &self,
        _name: &DatabaseName,
        _incarnation: Incarnation,
        _at_least: u64,
    ) -> io::Result<Option<Offered>> {
        Ok(None)
    }

    /// The pages that this node has of a database of this name, of whatever life and position: what comes
    /// from another node may be the same.
    fn pages_here(&self, _name: &DatabaseName) -> Option<Box<dyn Pages>> {
        None
    }

    /// Whether this node has the database, in this life of its name, at just this position.
    fn is_at(&self, _: &DatabaseName, _: Incarnation, _: Position) -> bool {
        false
    }

    /// A snapshot goes to another node, database by database.
    fn sends_snapshot(&self) {}

    /// Blocks until the databases are those of `state`, durably: the ones that come, and no
    /// others. No entry is applied meanwhile.
    ///
    /// # Errors
    /// The disk failed, or what came is no database; the node stops.
    fn install_snapshot(
        &self,
        state: &State,
        databases: &mut dyn Iterator<Item = io::Result<IncomingDatabase>>,
    ) -> io::Result<()>;
}
