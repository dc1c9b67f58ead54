//! Databases that are nothing but the bytes of their transactions, one after the other.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::sync::{Arc, Mutex};

use litefs_py::cluster::{Command, Effect, Payload, State};
use litefs_py::core::{DatabaseName, EntryId, Incarnation};
use litefs_py::raft::{Applied, Content, IncomingDatabase, Replica, SnapshotDatabase, StagedFiles};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Database {
    pub incarnation: Incarnation,
    pub index: u64,
    pub bytes: Vec<u8>,
}

#[derive(Debug, Clone, Default)]
pub struct Inner {
    pub databases: BTreeMap<DatabaseName, Database>,
    /// What survives a restart.
    pub durable: BTreeMap<DatabaseName, Database>,
    pub durable_to: EntryId,
    /// Every entry that was told, since the start.
    pub applied: Vec<Applied>,
    pub snapshots: usize,
}

pub struct TestReplica {
    pub inner: Mutex<Inner>,
    staged: Arc<dyn StagedFiles>,
}

impl TestReplica {
    /// With what was durable in an earlier life.
    pub fn new(durable: BTreeMap<DatabaseName, Database>, staged: Arc<dyn StagedFiles>) -> Self {
        let inner = Inner { databases: durable.clone(), durable, ..Inner::default() };
        Self { inner: Mutex::new(inner), staged }
    }

    pub fn databases(&self) -> BTreeMap<DatabaseName, Database> {
        self.inner.lock().unwrap().databases.clone()
    }
}

impl Replica for TestReplica {
    fn begins(&self, _: &State) -> io::Result<()> {
        Ok(())
    }

    fn applied(&self, applied: Applied) {
        let mut inner = self.inner.lock().unwrap();
        if let (Some(Command::Commit(commit)), Some(Effect::Accepted { incarnation, index })) =
            (&applied.command, applied.effect)
        {
            let database = inner.databases.entry(commit.database.clone()).or_insert(Database {
                incarnation,
                index: 0,
                bytes: Vec::new(),
            });
            // Entries since the state file are told again.
            if database.index < index {
                database.index = index;
                match &commit.payload {
                    Payload::Inline(bytes) => database.bytes.extend_from_slice(bytes),
                    Payload::Staged { sha256, .. } => {
                        let mut file = self.staged.open(*sha256).unwrap();
                        file.read_to_end(&mut database.bytes).unwrap();
                    }
                }
            }
        }
        inner.applied.push(applied);
    }

    fn make_durable(&self, up_to: EntryId) -> io::Result<()> {
        let mut inner = self.inner.lock().unwrap();
        assert!(inner.applied.last().is_some_and(|last| last.entry.index >= up_to.index));
        inner.durable = inner.databases.clone();
        inner.durable_to = up_to;
        Ok(())
    }

    fn database(
        &self,
        name: &DatabaseName,
        incarnation: Incarnation,
        at_least: u64,
    ) -> io::Result<SnapshotDatabase> {
        let inner = self.inner.lock().unwrap();
        let found = inner.databases.get(name);
        // It shows all that it was told, whatever of it changed this database.
        let told = inner.applied.last().map_or(inner.durable_to.index, |last| last.entry.index);
        let found = found.filter(|found| found.incarnation == incarnation && told >= at_least);
        let found = found.ok_or_else(|| io::Error::other("not here"))?;
        Ok(SnapshotDatabase {
            name: name.clone(),
            incarnation,
            index: found.index,
            reader: Box::new(io::Cursor::new(found.bytes.clone())),
        })
    }

    fn databases_for_snapshot(&self, state: &State) -> io::Result<Vec<SnapshotDatabase>> {
        let inner = self.inner.lock().unwrap();
        let databases = state.databases().map(|(name, _)| {
            let database = &inner.databases[name];
            SnapshotDatabase {
                name: name.clone(),
                incarnation: database.incarnation,
                index: database.index,
                reader: Box::new(io::Cursor::new(database.bytes.clone())),
            }
        });
        Ok(databases.collect())
    }

    fn install_snapshot(
        &self,
        state: &State,
        databases: &mut dyn Iterator<Item = io::Result<IncomingDatabase>>,
    ) -> io::Result<()> {
        let mut all = BTreeMap::new();
        for database in databases {
            let IncomingDatabase { name, incarnation, index, content } = database?;
            let Content::Ltx(mut reader) = content else { panic!("none was offered by pages") };
            let mut bytes = Vec::new();
            reader.read_to_end(&mut bytes)?;
            all.insert(name, Database { incarnation, index, bytes });
        }
        assert!(state.databases().map(|(name, _)| name).eq(all.keys()));
        let mut inner = self.inner.lock().unwrap();
        inner.durable = all.clone();
        inner.databases = all;
        inner.durable_to = state.applied();
        inner.snapshots += 1;
        Ok(())
    }
}
