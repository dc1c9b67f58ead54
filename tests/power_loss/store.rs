//! The store: database files, records, checkpoints, what is pinned, what is deleted or set aside.
//!
//! The log of entries is taken for durable, as the Raft log makes it; it is purged as Rule 11 says: up to
//! what every database has durably.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use litefs_py::core::ports::NoKernelCache;
use litefs_py::core::{DatabaseName, EntryId};
use litefs_py::store::{CheckpointMode, Database, JournalMode, Snapshot, Store};

use crate::cuts::{Effort, Notes, Subject, everywhere};
use crate::transactions::{Locks, Transaction, history};

/// no-lost-ack, nothing-discarded; Rules 7 to 9 and 11 to 13.
#[test]
fn the_store_survives_a_cut_at_every_operation() {
    everywhere("store", &Databases::new(), Effort::asked(3, 40));
}

/// An entry of the log.
#[derive(Clone, Copy)]
enum Entry {
    /// The transaction of this number of this database.
    Commit(&'static str, usize),
    Delete(&'static str),
}

#[derive(Clone)]
enum Note {
    /// It is in the log, durably.
    Logged(u64, Entry),
    /// All databases hold durably what the log says up to here.
    Purged(u64),
    SettingAside,
    SetAside,
}

/// Some databases, and what becomes of them.
struct Databases {
    histories: BTreeMap<&'static str, Vec<Transaction>>,
}

const WAL: &str = "wal.db";
const ROLLBACK: &str = "rollback.db";
const DELETED: &str = "deleted.db";
const ASIDE: &str = "aside.db";

impl Databases {
    fn new() -> Self {
        let common = [
            "CREATE TABLE t(id INTEGER PRIMARY KEY, v)",
            "INSERT INTO t(v) VALUES(randomblob(3000))",
            "INSERT INTO t(v) VALUES(randomblob(9000))",
            "UPDATE t SET v = randomblob(2000)",
            "INSERT INTO t(v) SELECT randomblob(1500) FROM t",
            "DELETE FROM t WHERE id > 1",
            "VACUUM",
            "INSERT INTO t(v) VALUES(randomblob(5000))",
            "UPDATE t SET v = randomblob(700)",
            "INSERT INTO t(v) VALUES(randomblob(20000))",
            "UPDATE t SET v = 7 WHERE id = 1",
            "INSERT INTO t(v) VALUES(8)",
        ];
        let histories = [
            (WAL, history(4096, true, &common)),
            (ROLLBACK, history(1024, false, &common)),
            (DELETED, history(512, true, &common)),
            (ASIDE, history(4096, true, &common)),
        ];
        Self { histories: histories.into() }
    }
}

/// A store with the databases that the log has made so far.
struct Life<'a> {
    of: &'a Databases,
    store: Store,
    log: Vec<(u64, Entry)>,
    /// The log was replayed: what comes now is appended, as beneath applications.
    serving: bool,
    notes: Notes<'a, Note>,
}

fn id(index: u64) -> EntryId {
    EntryId { term: 1, index }
}

impl Life<'_> {
    fn database(&self, name: &str) -> Option<Arc<Database>> {
        self.store.databases().into_iter().find(|database| database.name().as_str() == name)
    }

    fn made(&self, name: &str) -> Arc<Database> {
        self.database(name).unwrap_or_else(|| {
            let made = self.store.create_slot(&DatabaseName::new(name).unwrap()).unwrap();
            made.connect(Arc::new(Locks::default()), Arc::new(NoKernelCache));
            made
        })
    }

    /// The next entry, logged and then applied.
    fn entry(&mut self, entry: Entry) {
        let index = self.log.last().map_or(1, |(last, _)| last + 1);
        (self.notes)(Note::Logged(index, entry));
        self.log.push((index, entry));
        self.apply(index, entry);
    }

    fn apply(&self, index: u64, entry: Entry) {
        match entry {
            Entry::Commit(name, number) => {
                let ltx = &self.of.histories[name][number].ltx[..];
                let database = self.made(name);
                if database.record().applied.index >= index {
                    return;
                }
                if self.serving && database.journal_mode().unwrap() == JournalMode::Wal {
                    database.append(ltx, id(index), true).unwrap();
                } else {
                    database.apply_in_place(ltx, id(index)).unwrap();
                }
            }
            Entry::Delete(name) => {
                if let Some(database) = self.database(name) {
                    self.store.delete(&database).unwrap();
                }
            }
        }
    }

    /// The next transaction of a database.
    fn commit(&mut self, name: &'static str) {
        let next = self
            .log
            .iter()
            .filter(|(_, entry)| matches!(entry, Entry::Commit(of, _) if *of == name));
        let next = next.count();
        if next < self.of.histories[name].len() {
            self.entry(Entry::Commit(name, next));
        }
    }

    /// Rule 11; what a reader keeps out is written beside.
    fn make_durable(&mut self) {
        let last = self.log.last().map_or(0, |(last, _)| *last);
        for database in self.store.databases() {
            database.make_durable(id(last), 1 << 20).unwrap();
        }
        (self.notes)(Note::Purged(last));
    }

    fn reader(&self, name: &str) -> Snapshot {
        self.database(name).unwrap().snapshot(1, 0).unwrap()
    }
}

impl Subject for Databases {
    type Note = Note;

    fn work(&self, folder: &Path, notes: Notes<'_, Note>) {
        let (store, _) = Store::open(folder, SystemTime::UNIX_EPOCH).unwrap();
        let mut life = Life { of: self, store, log: Vec::new(), serving: true, notes };
        for name in [WAL, ROLLBACK, DELETED, ASIDE] {
            life.commit(name);
            life.commit(name);
        }
        life.make_durable();
        life.commit(WAL);
        life.commit(ROLLBACK);
        life.database(WAL).unwrap().checkpoint(CheckpointMode::Passive).unwrap();
        life.commit(WAL);
        life.make_durable();
        // What a reader keeps out of the file.
        let reader = life.reader(WAL);
        life.commit(WAL);
        life.commit(WAL);
        life.commit(ROLLBACK);
        life.make_durable();
        life.commit(WAL);
        life.make_durable();
        drop(reader);
        life.commit(WAL);
        life.make_durable();
        life.entry(Entry::Delete(DELETED));
        life.commit(ROLLBACK);
        life.make_durable();
        (life.notes)(Note::SettingAside);
        life.store.set_aside(&life.database(ASIDE).unwrap(), SystemTime::UNIX_EPOCH, "").unwrap();
        (life.notes)(Note::SetAside);
        life.commit(WAL);
        life.commit(ROLLBACK);
        life.make_durable();
    }

    fn start(&self, folder: &Path, known: &[Note], go_on: Option<Notes<'_, Note>>) {
        let (store, recovered) = Store::open(folder, SystemTime::UNIX_EPOCH).expect("it opens");
        let damaged: Vec<_> = recovered.set_aside.iter().map(|(_, why)| why.to_string()).collect();
        assert!(damaged.is_empty(), "set aside: {damaged:?}");
        let mut log = Vec::new();
        let (mut purged, mut going, mut gone) = (0, false, false);
        for note in known {
            match note {
                Note::Logged(index, entry) => log.push((*index, *entry)),
                Note::Purged(upto) => purged = *upto,
                Note::SettingAside => going = true,
                Note::SetAside => gone = true,
            }
        }
        let goes_on = go_on.is_some();
        let mut nobody = |_| {};
        let notes = go_on.unwrap_or(&mut nobody);
        let mut life = Life { of: self, store, log, serving: false, notes };
        for database in recovered.databases {
            database.connect(Arc::new(Locks::default()), Arc::new(NoKernelCache));
        }
        life.check_purged(purged, going);
        for (index, entry) in life.log.clone().into_iter().filter(|(index, _)| *index > purged) {
            if !matches!(entry, Entry::Commit(ASIDE, _)) || !going {
                life.apply(index, entry);
            }
        }
        life.check(going, gone);
        if goes_on {
            if going && life.database(ASIDE).is_none() {
                // It is seen to be aside: another life of the name may begin.
                (life.notes)(Note::SetAside);
            }
            life.serving = true;
            life.make_durable();
            for name in [WAL, ROLLBACK] {
                life.commit(name);
            }
            life.make_durable();
            life.commit(WAL);
        }
    }
}

impl Life<'_> {
    /// What the log does not bring again is there.
    fn check_purged(&self, purged: u64, going: bool) {
        for (name, at, _) in self.expected(purged) {
            if let Some(database) = self.database(name) {
                let applied = database.record().applied.index;
                assert!(applied >= at, "{name} is as of {applied}, the log begins at {at}");
                continue;
            }
            let deleted =
                |(_, entry): &(u64, Entry)| matches!(entry, Entry::Delete(of) if *of == name);
            let may = (name == ASIDE && going) || self.log.iter().any(deleted);
            assert!(may, "{name} is gone");
        }
    }

    /// Which databases there are after the log up to an entry, their last entry and last transaction.
    fn expected(&self, upto: u64) -> Vec<(&'static str, u64, usize)> {
        let mut there = BTreeMap::new();
        for (index, entry) in self.log.iter().filter(|(index, _)| *index <= upto) {
            match entry {
                Entry::Commit(name, number) => there.insert(*name, (*index, *number)),
                Entry::Delete(name) => there.remove(name),
            };
        }
        there.into_iter().map(|(name, (index, number))| (name, index, number)).collect()
    }

    /// Rule 13: the bytes are what the position says, and the position is what the log says.
    fn check(&self, going: bool, gone: bool) {
        let expected = self.expected(u64::MAX);
        for database in self.store.databases() {
            let name = database.name().as_str();
            let found = expected.iter().find(|(expected, ..)| *expected == name);
            let (_, _, number) = found.unwrap_or_else(|| panic!("{name} is there again"));
            let transaction = &self.of.histories[name][*number];
            let position = database.finish_recovery().unwrap();
            assert_eq!(position, transaction.position, "{name}");
            let mut file = vec![0; transaction.image.len() + 1];
            let len = database.read_database(0, &mut file).unwrap();
            file.truncate(len);
            assert!(file == transaction.image, "{name}: other bytes than at its origin");
        }
        for (name, ..) in &expected {
            let there = self.database(name).is_some();
            if *name == ASIDE && going {
                let asides = self.store.asides().unwrap();
                assert_eq!(usize::from(there) + asides.len(), 1, "in one place");
                assert!(!(there && gone), "it is back");
                for aside in asides {
                    let file = fs::read(aside.folder.join("database")).unwrap();
                    assert!(file == self.of.histories[ASIDE][1].image, "set aside, but not whole");
                }
            } else {
                assert!(there, "{name} is gone");
            }
        }
        let count = self.store.databases().len();
        assert!(count <= expected.len(), "{count} databases");
    }
}
