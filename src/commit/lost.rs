//! Rule 13, its second half: a database whose files are not what the log says is set aside, and
//! fetched from another node.
//!
//! Until it is there no application opens it (EIO): it must not be taken for an empty one. The
//! cluster goes on writing it meanwhile: what the log brings is queued, the whole database comes as
//! of some entry, and what is queued after that is applied on top before the first open.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::database::{Database, State};
use super::databases::AllDatabases;
use super::door::Errno;
use super::lock;
use crate::cluster;
use crate::core::{DatabaseName, EntryId, Incarnation, NodeId};
use crate::raft::{IncomingDatabase, SnapshotDatabase};
use crate::store::StoreError;

/// Between two rounds at the other nodes.
const AGAIN: Duration = Duration::from_secs(1);
/// Rounds in vain before it is said, for a node that starts before its peers; and then each time
/// after so many.
const SAY_AFTER: u32 = 5;
const SAY_EVERY: u32 = 60;
/// A database may be ahead of this node's own log, which follows soon.
const FOLLOW: Duration = Duration::from_secs(20);
/// How long a node that is asked for a database waits to have it as far as is asked: below the
/// silence that the asking one bears.
pub(super) const SOON: Duration = Duration::from_secs(10);

impl Database {
    /// Its files were damaged, and nothing took their place yet.
    pub fn is_lost(&self) -> bool {
        lock(&self.state).lost.is_some()
    }

    /// Nothing opens a database before its files are what the log says.
    pub(super) fn refuse_if_closed(&self, state: &State) -> Result<(), Errno> {
        if state.serving {
            return Ok(());
        }
        let why = if state.lost.is_some() {
            "its files were damaged, and are being fetched from another node; try again later"
        } else {
            "this node has not caught up yet; try again later"
        };
        self.notices.refuse(self.name.as_str(), "use before it is whole", 0, why);
        Err(Errno(libc::EIO))
    }

    /// Forgets what is queued, and says which life of the database is to be fetched. The caller
    /// then asks for all entries that were told so far.
    fn begin_fetch(&self) -> Option<Incarnation> {
        let mut state = lock(&self.state);
        state.lost.filter(|_| !state.deleted)?;
        state.queue.clear();
        state.incarnation
    }
}

impl State {
    /// What was being put into the files, or replayed, does not fit: they count for nothing.
    pub fn lose(&mut self, bytes: u64) {
        self.lost = Some(bytes);
        self.queue.clear();
    }
}

impl AllDatabases {
    /// The state that the log is replayed upon. A database of it that this node has not got, or only
    /// as of an earlier time, no entry brings back: it is lost.
    pub(super) fn replay_begins(&self, state: &cluster::State) -> Result<(), StoreError> {
        for (name, at) in state.databases() {
            // nothing-discarded: a snapshot that the node did not come to the end of had taken its place.
            let found = match self.find(name) {
                None => self.take_back(name, at.incarnation)?,
                found => found,
            };
            // One of a later life is whole: all its entries are still in the log.
            let whole = found.as_ref().is_some_and(|found| {
                found.incarnation() >= Some(at.incarnation)
                    && found.store().applied().index >= at.index
            });
            if whole {
                self.knows(name, at.index);
                continue;
            }
            // If the log holds its deletion, that is why: `begin_to_serve` says what is lost.
            if let Some(found) = found {
                tracing::error!(database = %name, "its files are damaged, or of another time");
                self.put_aside(&found, "its files were of another time than the log")?;
            }
            self.knows(name, at.index);
            self.lose(name, at.incarnation, u64::from(at.pages) * u64::from(at.page_size))?;
        }
        self.passed(state.applied());
        Ok(())
    }

    fn take_back(
        &self,
        name: &DatabaseName,
        incarnation: Incarnation,
    ) -> Result<Option<Arc<Database>>, StoreError> {
        let Some(store) = self.store().take_back(name, incarnation)? else { return Ok(None) };
        let visible = store.applied().index;
        tracing::info!(database = %name, "taken back: the snapshot in its place was cut short");
        let database =
            Database::new(self.shared(), store, name.clone(), Some(incarnation), visible);
        self.adopt(Arc::clone(&database));
        Ok(Some(database))
    }

    /// Sets aside what the files hold; in their place stands a database that nobody can open.
    pub(super) fn replace_damaged(
        &self,
        database: &Arc<Database>,
        why: &str,
    ) -> Result<(), StoreError> {
        let store = database.store();
        let bytes = u64::from(store.pages()) * u64::from(store.page_size());
        let incarnation = database.incarnation().or(store.incarnation()).unwrap_or_default();
        // First: an entry that comes meanwhile finds the lost one, never a new one that it would begin.
        self.lose(&database.name, incarnation, bytes)?;
        database.delete();
        self.tell_of_lost(&database.name, "its files are not what the log says");
        self.keep_aside(database, why)
    }

    fn lose(
        &self,
        name: &DatabaseName,
        incarnation: Incarnation,
        bytes: u64,
    ) -> Result<(), StoreError> {
        let slot = self.store().create_slot(name)?;
        let database = Database::new(self.shared(), slot, name.clone(), Some(incarnation), 0);
        lock(&database.state).lost = Some(bytes);
        self.adopt(database);
        Ok(())
    }

    pub(super) fn tell_of_lost(&self, name: &DatabaseName, why: &str) {
        let others = self.shared().group.others().len();
        if others == 0 {
            tracing::error!(
                database = %name, why,
                "nothing opens it: there is no other node to fetch it from. Repair a copy of what \
                 was set aside, or take a backup; remove the database in the mount, and bring it \
                 in anew by .restore"
            );
        } else {
            tracing::error!(database = %name, why, "nothing opens it until it is fetched anew");
        }
    }

    /// The databases that this node has to fetch.
    pub fn lost(&self) -> Vec<Arc<Database>> {
        self.all().into_iter().filter(|database| database.is_lost()).collect()
    }

    /// Fetches what is lost, until nothing is (converges). A node alone has nobody to ask.
    pub async fn fetch_lost(self: Arc<Self>) {
        let mut rounds = 0_u32;
        while !self.shared().group.others().is_empty() {
            let lost = self.lost();
            if lost.is_empty() {
                return;
            }
            rounds = rounds.saturating_add(1);
            for database in lost {
                match self.fetch_from_any(&database).await {
                    Ok(from) => {
                        tracing::info!(database = %database.name, from = from.0, "fetched anew");
                    }
                    Err(why) if rounds == SAY_AFTER || rounds.is_multiple_of(SAY_EVERY) => {
                        tracing::warn!(
                            database = %database.name, why,
                            "still not fetched, and closed to applications; trying on"
                        );
                    }
                    Err(why) => {
                        tracing::debug!(database = %database.name, why, "not fetched yet");
                    }
                }
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// From the leader, or from whoever has it.
    async fn fetch_from_any(self: &Arc<Self>, database: &Arc<Database>) -> Result<NodeId, String> {
        let group = &self.shared().group;
        let leader = group.leadership().borrow().leader;
        let mut others = group.others();
        others.sort_by_key(|other| Some(*other) != leader);
        let mut whys = Vec::new();
        for from in others {
            match self.fetch(database, from).await {
                Ok(()) => return Ok(from),
                Err(why) => whys.push(why),
            }
        }
        Err(whys.join("; "))
    }

    async fn fetch(self: &Arc<Self>, database: &Arc<Database>, from: NodeId) -> Result<(), String> {
        let name = database.name.clone();
        let gone = || "deleted meanwhile".to_owned();
        let incarnation = database.begin_fetch().ok_or_else(gone)?;
        // After the queue was emptied: every entry that was in it is asked for.
        let at_least = self.last_index(&name);
        let group = &self.shared().group;
        let incoming = group.fetch_database(from, name, incarnation, at_least).await?;
        // Rule 10: only what this node's own log has flushed is put into its files.
        let index = incoming.index;
        let mut applied = self.applied();
        let reached = applied.wait_for(|entry| entry.index >= index);
        match timeout(FOLLOW, reached).await {
            Ok(Ok(entry)) => drop(entry),
            _ => return Err(format!("this node's log does not reach entry {index}")),
        }
        let (all, database) = (Arc::clone(self), Arc::clone(database));
        let work = move || all.put_in_place(&database, incoming).map_err(|e| e.to_string());
        tokio::task::spawn_blocking(work).await.map_err(|e| e.to_string())?
    }

    fn put_in_place(&self, database: &Arc<Database>, incoming: IncomingDatabase) -> io::Result<()> {
        let term = self.applied().borrow().term;
        let entry = EntryId { term, index: incoming.index };
        let gone = || io::Error::other("deleted meanwhile");
        let held = database.hold_to_apply(incoming.incarnation, &|| ()).ok_or_else(gone)?;
        self.install_one(database, held, incoming, term).map_err(io::Error::other)?;
        self.announce(&database.name);
        database.make_durable(entry).map_err(io::Error::other)
    }

    /// For a node that lost its own.
    pub(super) fn database_for(
        &self,
        name: &DatabaseName,
        incarnation: Incarnation,
        at_least: u64,
    ) -> io::Result<SnapshotDatabase> {
        let refused = |why: &str| io::Error::other(format!("{name} {why}"));
        let database = self.find(name).ok_or_else(|| refused("is not served by this node"))?;
        super::snapshots::wait_until(&database, SOON, "to show what is asked for", || {
            self.shared().applied.borrow().index >= at_least && database.shows(at_least)
        })?;
        let mut found = self.snapshot_of(name, &database)?;
        if found.incarnation != incarnation {
            return Err(refused("is of another life here"));
        }
        // Up to there nothing else concerned it. Who has it from a snapshot of the whole state knows it as
        // of that, not as of its last transaction.
        found.index = found.index.max(at_least);
        Ok(found)
    }
}
