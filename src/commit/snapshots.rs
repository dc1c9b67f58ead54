//! What the Raft room asks of the databases: durability, and whole databases out and in.
//!
//! The databases are the Raft snapshot; none is copied before a node needs it. One that is
//! installed beneath open applications comes as one ordinary transaction.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::counters::count;
use super::database::Database;
use super::databases::AllDatabases;
use super::lock;
use super::transaction::wall_ms;
use crate::cluster::State;
use crate::core::EntryId;
use crate::raft::{Applied, IncomingDatabase, Replica, SnapshotDatabase};
use crate::store::StoreError;

/// How long a snapshot waits for a database that an application keeps busy.
const PATIENCE: Duration = Duration::from_secs(20);

/// Between two looks at it.
const LOOK: Duration = Duration::from_millis(10);

impl Replica for AllDatabases {
    fn applied(&self, applied: Applied) {
        self.entry(applied.entry, applied.command.as_ref(), applied.effect);
    }

    /// Rule 11, for every database; the log may be purged up to there afterwards.
    fn make_durable(&self, up_to: EntryId) -> io::Result<()> {
        for database in self.all() {
            if database.incarnation().is_none() && database.behind() == 0 {
                continue;
            }
            wait_until(&database, "to show all that is to be made durable", || {
                database.shows(up_to.index)
            })?;
            database.make_durable(up_to).map_err(not_yet)?;
        }
        Ok(())
    }

    fn databases_for_snapshot(&self, state: &State) -> io::Result<Vec<SnapshotDatabase>> {
        count(&self.shared().counters.snapshots_sent);
        let mut databases = Vec::new();
        for (name, at) in state.databases() {
            let missing = || io::Error::other(format!("{name} is not served by this node"));
            let database = self.find(name).ok_or_else(missing)?;
            wait_until(&database, "to show what its snapshot must hold", || {
                database.shows(state.applied().index)
            })?;
            let node = self.shared().group.me().0;
            let snapshot = database.store().snapshot(node, wall_ms()).map_err(io::Error::other)?;
            databases.push(SnapshotDatabase {
                name: name.clone(),
                incarnation: at.incarnation,
                index: snapshot.entry.index.max(state.applied().index),
                reader: Box::new(snapshot),
            });
        }
        Ok(databases)
    }

    fn install_snapshot(
        &self,
        state: &State,
        databases: &mut dyn Iterator<Item = io::Result<IncomingDatabase>>,
    ) -> io::Result<()> {
        count(&self.shared().counters.snapshots_received);
        for incoming in databases {
            self.install(state, incoming?).map_err(io::Error::other)?;
        }
        for database in self.all() {
            let lives = state
                .database(&database.name)
                .is_some_and(|at| Some(at.incarnation) == database.incarnation());
            if !lives && database.incarnation().is_some() {
                self.put_aside(&database).map_err(io::Error::other)?;
            }
        }
        self.replica_is_at(state);
        self.make_durable(state.applied())
    }
}

impl AllDatabases {
    fn install(&self, state: &State, incoming: IncomingDatabase) -> Result<(), StoreError> {
        let entry = EntryId { term: state.applied().term, index: incoming.index };
        let mut database = self.made(&incoming.name)?;
        match database.incarnation() {
            Some(incarnation) if incarnation != incoming.incarnation => {
                // nothing-discarded: another life of the name gives way, whole.
                self.put_aside(&database)?;
                database = self.made(&incoming.name)?;
            }
            _ => {}
        }
        database.install(incoming, entry)?;
        self.announce(&database.name);
        Ok(())
    }

    /// nothing-discarded: the files go aside, and the name is free.
    pub(super) fn put_aside(&self, database: &Arc<Database>) -> Result<(), StoreError> {
        self.withdraw(&database.name);
        count(&self.shared().counters.set_aside);
        let aside = self.store().set_aside(database.store(), SystemTime::now())?;
        tracing::warn!(
            database = %database.name, kept = %aside.folder.display(),
            "another history takes the database's place; what was here is set aside"
        );
        Ok(())
    }
}

impl Database {
    /// Puts a whole database in this one's place, beneath open applications if there are any.
    fn install(
        self: &Arc<Self>,
        incoming: IncomingDatabase,
        entry: EntryId,
    ) -> Result<(), StoreError> {
        let IncomingDatabase { incarnation, index, reader, .. } = incoming;
        let reader = io::BufReader::with_capacity(1 << 20, reader);
        let held = self.hold_to_apply(PATIENCE)?;
        let already = lock(&self.state).incarnation == Some(incarnation)
            && self.store().applied().index >= index;
        if !already {
            if held.serving && self.is_wal() {
                self.store().append_snapshot(reader, entry, incarnation)?;
            } else {
                self.store().install_in_place(reader, entry, incarnation)?;
                self.mode_may_have_changed()?;
            }
        }
        self.installed(held, incarnation, entry);
        Ok(())
    }
}

/// What passes by itself is told apart from what stops the node.
fn not_yet(error: StoreError) -> io::Error {
    match error {
        StoreError::Busy { .. } | StoreError::Unpublished { .. } => {
            io::Error::new(io::ErrorKind::ResourceBusy, error)
        }
        _ => io::Error::other(error),
    }
}

fn wait_until(
    database: &Database,
    what: &str,
    mut condition: impl FnMut() -> bool,
) -> io::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        if Instant::now() >= deadline {
            return Err(io::Error::new(
                io::ErrorKind::TimedOut,
                format!("{}: waited {PATIENCE:?} {what}", database.name),
            ));
        }
        std::thread::sleep(LOOK);
    }
    Ok(())
}
