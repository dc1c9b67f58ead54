//! What the Raft room asks of the databases: durability, and whole databases out and in.
//!
//! The databases are the Raft snapshot; none is copied before a node needs it. One that is
//! installed beneath open applications comes as one ordinary transaction.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::apply::Installing;
use super::counters::count;
use super::database::Database;
use super::databases::{AllDatabases, serve_when_ready};
use super::hold::Phase;
use super::lock;
use crate::cluster::{Refusal, State, Verdict};
use crate::core::clock::signed_unix_ms;
use crate::core::{DatabaseName, EntryId, Incarnation, Position};
use crate::raft::{Applied, Content, IncomingDatabase, Offered, Pages, Replica, SnapshotDatabase};
use crate::store::{Aside, StoreError};

/// How long a snapshot that is sent, or a purge, waits for a database that an application keeps busy.
const PATIENCE: Duration = Duration::from_secs(20);

/// Between two looks at it.
const LOOK: Duration = Duration::from_millis(10);

impl Replica for AllDatabases {
    fn begins(&self, state: &State) -> io::Result<()> {
        self.replay_begins(state).map_err(io::Error::other)
    }

    fn applied(&self, applied: Applied) {
        self.entry(applied.entry, applied.command.as_ref(), applied.effect);
    }

    /// Rule 11, for every database; the log may be purged up to there afterwards.
    fn make_durable(&self, up_to: EntryId) -> io::Result<()> {
        for database in self.all() {
            wait_until(&database, PATIENCE, "to show all that is to be made durable", || {
                database.shows(up_to.index)
            })?;
            durable(&database, up_to).map_err(not_yet)?;
        }
        Ok(())
    }

    fn databases_for_snapshot(&self, state: &State) -> io::Result<Vec<SnapshotDatabase>> {
        count(&self.shared().counters.snapshots_sent);
        let mut databases = Vec::new();
        for (name, at) in state.databases() {
            let missing = || io::Error::other(format!("{name} is not served by this node"));
            let database = self.find(name).ok_or_else(missing)?;
            wait_until(&database, PATIENCE, "to show what its snapshot must hold", || {
                database.shows(state.applied().index)
            })?;
            let mut found = self.snapshot_of(name, &database)?;
            if found.incarnation != at.incarnation {
                return Err(io::Error::other(format!(
                    "{name} was deleted and made anew meanwhile"
                )));
            }
            found.index = found.index.max(state.applied().index);
            databases.push(found);
        }
        Ok(databases)
    }

    fn database(
        &self,
        name: &DatabaseName,
        incarnation: Incarnation,
        at_least: u64,
    ) -> io::Result<SnapshotDatabase> {
        self.database_for(name, incarnation, at_least)
    }

    fn offer(
        &self,
        name: &DatabaseName,
        incarnation: Incarnation,
        at_least: u64,
    ) -> io::Result<Option<Offered>> {
        self.offered(name, incarnation, at_least).map(Some)
    }

    fn pages_here(&self, name: &DatabaseName) -> Option<Box<dyn Pages>> {
        self.pages_of(name)
    }

    fn is_at(&self, name: &DatabaseName, incarnation: Incarnation, position: Position) -> bool {
        self.find(name).is_some_and(|database| database.is_at(position, incarnation))
    }

    fn sends_snapshot(&self) {
        count(&self.shared().counters.snapshots_sent);
    }

    fn install_snapshot(
        &self,
        state: &State,
        databases: &mut dyn Iterator<Item = io::Result<IncomingDatabase>>,
    ) -> io::Result<()> {
        count(&self.shared().counters.snapshots_received);
        self.decide_by(state);
        for incoming in databases {
            self.install(state, incoming?).map_err(io::Error::other)?;
        }
        for database in self.all() {
            let lives = state
                .database(&database.name)
                .is_some_and(|at| Some(at.incarnation) == database.incarnation());
            if !lives && database.ends_before(state.applied()) {
                self.give_way(&database).map_err(io::Error::other)?;
            }
        }
        self.replica_is_at(state);
        for database in self.all() {
            // An application that keeps it from showing what it committed is waited for.
            loop {
                self.decide_by(state);
                let busy = match durable(&database, state.applied()) {
                    Ok(()) => !database.shows(state.applied().index),
                    Err(StoreError::Busy { .. } | StoreError::Unpublished { .. }) => true,
                    Err(error) => return Err(io::Error::other(error)),
                };
                if !busy {
                    break;
                }
                std::thread::sleep(LOOK);
            }
        }
        Ok(())
    }
}

impl AllDatabases {
    /// What this node waits to hear of its own transactions will not come from the log any more: the
    /// snapshot says it (Rule 5), before the databases are waited for that they keep.
    fn decide_by(&self, state: &State) {
        for (id, name) in self.shared().proposer.open() {
            let judged = state.verdict(id);
            let now = name.as_ref().and_then(|name| state.database(name));
            let hopeless = || {
                let database = self.find(name.as_ref()?)?;
                // On another base than the present one it can only be refused: TXIDs never go back.
                let base = database.committing_on()?;
                (now.map_or(Position::EMPTY, |now| now.position) != base)
                    .then_some(Verdict::Refused(Refusal::Base))
            };
            if let Some(verdict) = judged.or_else(hopeless) {
                let EntryId { term, index: last } = state.applied();
                let index = match verdict {
                    Verdict::Accepted { index, .. } => index,
                    Verdict::Refused(_) => last,
                };
                self.shared().proposer.decide(id, verdict, EntryId { term, index });
            }
        }
        for database in self.all() {
            let position = state.database(&database.name).map(|now| now.position);
            database.doom_unless_on(position);
        }
    }

    fn install(&self, state: &State, incoming: IncomingDatabase) -> Result<(), StoreError> {
        let position = state.database(&incoming.name).map(|now| now.position);
        if self.begin_with(&incoming, state.applied().term)? {
            return Ok(());
        }
        let (database, held) = loop {
            let mut database = self.made(&incoming.name)?;
            match database.incarnation() {
                Some(incarnation) if incarnation.is_another_than(incoming.incarnation) => {
                    // nothing-discarded: another life of the name gives way, whole.
                    self.give_way(&database)?;
                    database = self.made(&incoming.name)?;
                }
                Some(Incarnation::UNNAMED) => tell_of_more(&database, position),
                _ => {}
            }
            if position.is_some_and(|position| database.is_at(position, incoming.incarnation)) {
                // What is here is what comes. A transaction made on it may be under way.
                return Ok(());
            }
            if let Content::Here(at) = incoming.content
                && database.is_at(at, incoming.incarnation)
            {
                return Ok(());
            }
            let meanwhile = || self.decide_by(state);
            if let Some(held) = database.hold_to_apply(incoming.incarnation, &meanwhile) {
                break (database, held);
            }
            // one-history: an application removed a file of this name that it had begun, and what comes
            // would go with it; or another life has to give way first.
            std::thread::sleep(LOOK);
        };
        self.install_one(&database, held, incoming, state.applied().term)?;
        self.announce(&database.name);
        Ok(())
    }

    /// Where there is none of that name, the file that came becomes the database's. Whether it did.
    fn begin_with(&self, incoming: &IncomingDatabase, term: u64) -> Result<bool, StoreError> {
        let Content::Pages(pages) = &incoming.content else { return Ok(false) };
        if self.find(&incoming.name).is_some() {
            return Ok(false);
        }
        let entry = EntryId { term, index: incoming.index };
        let (name, life) = (&incoming.name, incoming.incarnation);
        let store = self.store().create_from(name, pages.file(), entry, life)?;
        if !self.adopt_new(name, &store, life, entry)? {
            // An application began one at this moment.
            self.store().give_back(&store, &pages.file().path)?;
            return Ok(false);
        }
        self.announce(name);
        Ok(true)
    }

    /// Puts what came in place, and lets applications in if they were kept out (Rule 13).
    pub(super) fn install_one(
        &self,
        database: &Arc<Database>,
        held: Installing,
        incoming: IncomingDatabase,
        term: u64,
    ) -> Result<(), StoreError> {
        let entry = EntryId { term, index: incoming.index };
        database.install(held, incoming, entry)?;
        if self.is_serving() { serve_when_ready(database) } else { Ok(()) }
    }

    /// What this node has of a database, for another one.
    pub(super) fn snapshot_of(
        &self,
        name: &DatabaseName,
        database: &Database,
    ) -> io::Result<SnapshotDatabase> {
        if database.is_lost() {
            return Err(io::Error::other(format!("{name} is damaged on this node, too")));
        }
        let node = self.shared().group.me().0;
        let snapshot =
            database.store().snapshot(node, signed_unix_ms()).map_err(io::Error::other)?;
        Ok(SnapshotDatabase {
            name: name.clone(),
            incarnation: snapshot.incarnation.unwrap_or_default(),
            index: snapshot.entry.index,
            reader: Box::new(snapshot),
        })
    }

    /// nothing-discarded; of a lost one there is nothing here.
    fn give_way(&self, database: &Arc<Database>) -> Result<(), StoreError> {
        if database.is_lost() {
            self.remove(&database.name);
            return Ok(());
        }
        let why = "a snapshot of the cluster has another history in its place";
        self.withdraw(&database.name);
        let aside = self.store().give_way(database.store(), SystemTime::now(), why)?;
        self.is_aside(database, &aside, why);
        Ok(())
    }

    /// nothing-discarded: the files go aside, and the name is free.
    pub(super) fn put_aside(&self, database: &Arc<Database>, why: &str) -> Result<(), StoreError> {
        self.withdraw(&database.name);
        self.keep_aside(database, why)
    }

    /// The files of a database that is served no longer.
    pub(super) fn keep_aside(&self, database: &Database, why: &str) -> Result<(), StoreError> {
        let aside = self.store().set_aside(database.store(), SystemTime::now(), why)?;
        self.is_aside(database, &aside, why);
        Ok(())
    }

    fn is_aside(&self, database: &Database, aside: &Aside, why: &str) {
        count(&self.shared().counters.set_aside);
        tracing::warn!(
            database = %database.name, kept = %aside.folder.display(), why,
            "another history takes the database's place; what was here is set aside"
        );
    }
}

impl Database {
    /// The base of the transaction that waits for its verdict, or whose outcome is open.
    fn committing_on(&self) -> Option<Position> {
        let state = lock(&self.state);
        state.hold.as_ref().filter(|hold| hold.must_outlive_owner()).map(|hold| hold.base)
    }

    /// Rule 1: a write lock that was held while others committed is lost.
    fn doom_unless_on(&self, position: Option<Position>) {
        let mut state = lock(&self.state);
        if let Some(hold) = state.hold.as_mut()
            && matches!(hold.phase, Phase::Open)
            && position.is_some_and(|position| position != hold.base)
        {
            self.doom_open(hold);
        }
    }

    /// No database of this name is in the snapshot: what is queued came before its end. Returns whether
    /// there is one in the files; else it is one that an application here has begun, and it stays.
    fn ends_before(&self, snapshot: EntryId) -> bool {
        loop {
            let mut state = lock(&self.state);
            if !state.pumping {
                state.queue.retain(|queued| queued.entry.index > snapshot.index);
                self.applied.notify_waiters();
                return state.incarnation.is_some();
            }
            drop(state);
            std::thread::sleep(LOOK);
        }
    }

    /// Whether the files hold the database in this life, at this position, and nothing is to come.
    fn is_at(&self, position: Position, incarnation: Incarnation) -> bool {
        let state = lock(&self.state);
        state.lost.is_none()
            && !state.pumping
            && state.queue.is_empty()
            && state.incarnation == Some(incarnation)
            && self.store().head() == position
    }

    /// Puts a whole database in this one's place, beneath open applications if there are any.
    fn install(
        self: &Arc<Self>,
        held: Installing,
        incoming: IncomingDatabase,
        entry: EntryId,
    ) -> Result<(), StoreError> {
        let IncomingDatabase { incarnation, index, content, .. } = incoming;
        let already = {
            let state = lock(&self.state);
            state.lost.is_none()
                && state.incarnation == Some(incarnation)
                && self.store().applied().index >= index
        };
        if !already {
            let appends = held.serving && self.is_wal();
            let store = self.store();
            match content {
                Content::Ltx(reader) => {
                    let reader = io::BufReader::with_capacity(1 << 20, reader);
                    if appends {
                        store.append_snapshot(reader, entry, incarnation)?;
                    } else {
                        store.install_in_place(reader, entry, incarnation)?;
                    }
                }
                // Entries only go on from there.
                Content::Here(at) if store.head().txid >= at.txid => {}
                Content::Here(_) => return Err(store.gone_back()),
                Content::Pages(pages) if appends => {
                    store.append_pages(pages.file(), entry, incarnation)?;
                }
                Content::Pages(pages) => {
                    store.install_pages_in_place(pages.file(), entry, incarnation)?;
                }
            }
            if !appends {
                self.mode_may_have_changed()?;
            }
        }
        self.installed(held, incarnation, entry);
        Ok(())
    }
}

/// What was converted here goes beyond what the founder of the group had, or beside it. It is not set aside:
/// the folder that it was converted from still has it.
fn tell_of_more(database: &Database, founders: Option<Position>) {
    let here = database.store().head();
    if founders.is_some_and(|at| here.txid >= at.txid && here != at) {
        tracing::warn!(
            database = %database.name, here = %here,
            "this node had other transactions than the founder, whose take their place; the folder that was \
             converted still has them"
        );
    }
}

/// Rule 11, for one database.
pub(super) fn durable(database: &Database, up_to: EntryId) -> Result<(), StoreError> {
    // A lost one has nothing to keep: the next start finds it missing again.
    if database.is_nowhere_else() || database.is_lost() {
        return Ok(());
    }
    match database.make_durable(up_to) {
        // Deleted meanwhile: there is nothing to keep.
        Err(_) if database.is_deleted() => Ok(()),
        done => done,
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

pub(super) fn wait_until(
    database: &Database,
    patience: Duration,
    what: &str,
    mut condition: impl FnMut() -> bool,
) -> io::Result<()> {
    let deadline = Instant::now() + patience;
    while !condition() {
        if Instant::now() >= deadline {
            return Err(io::Error::new(
                io::ErrorKind::TimedOut,
                format!("{}: waited {patience:?} {what}", database.name),
            ));
        }
        std::thread::sleep(LOOK);
    }
    Ok(())
}
