//! A whole database that comes from another node, put in the place of an older one.
//!
//! Whatever a cut leaves of the file: the next start has the one or the other, whole.

use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use litefs_py::core::ports::NoKernelCache;
use litefs_py::core::{DatabaseName, EntryId, Incarnation};
use litefs_py::store::{Database, PageFile, Store};

use crate::cuts::{Effort, Notes, Subject, everywhere};
use crate::transactions::{Locks, Transaction, history, snapshot};

/// one-history, Rule 9: into a database that is open in WAL mode, and into one with a rollback journal.
#[test]
fn a_database_that_is_installed_survives_a_cut_at_every_operation() {
    for wal in [true, false] {
        for as_pages in [false, true] {
            let subject = Install { as_pages, ..Install::new(wal) };
            everywhere("install", &subject, Effort::asked(1, 20));
        }
    }
}

#[derive(Clone, Copy)]
enum Note {
    /// So many transactions are in the log, durably.
    Logged(usize),
    /// So many are in the database, durably.
    Durable(usize),
    Installing,
    Installed,
}

struct Install {
    wal: bool,
    /// It comes as a file of pages, not as LTX.
    as_pages: bool,
    ours: Vec<Transaction>,
    theirs: Transaction,
}

const PAGE_SIZE: u32 = 1024;
/// The entry of the snapshot, and the life of the name that it is of.
const INSTALLED: EntryId = EntryId { term: 2, index: 50 };
const THEIRS: Incarnation = Incarnation(40);

impl Install {
    fn new(wal: bool) -> Self {
        let common = [
            "CREATE TABLE t(id INTEGER PRIMARY KEY, v)",
            "INSERT INTO t(v) VALUES(randomblob(9000))",
            "UPDATE t SET v = randomblob(6000)",
        ];
        let theirs = history(PAGE_SIZE, wal, &common);
        let theirs = snapshot(PAGE_SIZE, theirs.last().unwrap());
        Self { wal, as_pages: false, ours: history(PAGE_SIZE, wal, &common), theirs }
    }
}

impl Install {
    /// As it comes: beside the databases' folders.
    fn pages(&self, folder: &Path) -> PageFile {
        let path = folder.join("40.1.received");
        std::fs::write(&path, &self.theirs.image).unwrap();
        let pages = (self.theirs.image.len() / PAGE_SIZE as usize) as u32;
        PageFile { path, page_size: PAGE_SIZE, pages, position: self.theirs.position }
    }
}

/// one-history, Rule 9: where there was none of that name.
#[test]
fn a_database_that_comes_into_nothing_survives_a_cut_at_every_operation() {
    everywhere("newcomer", &Newcomer(Install::new(true)), Effort::asked(2, 20));
}

/// It is there as soon as it is said to be, and then it is whole.
struct Newcomer(Install);

impl Subject for Newcomer {
    type Note = Note;

    fn work(&self, folder: &Path, notes: Notes<'_, Note>) {
        let (store, _) = Store::open(folder, SystemTime::UNIX_EPOCH).unwrap();
        notes(Note::Installing);
        let name = DatabaseName::new("a.db").unwrap();
        let pages = self.0.pages(folder);
        let database = store.create_from(&name, &pages, INSTALLED, THEIRS).unwrap();
        connect(&database);
        database.make_durable(INSTALLED, 0).unwrap();
        notes(Note::Installed);
    }

    fn start(&self, folder: &Path, known: &[Note], _: Option<Notes<'_, Note>>) {
        let (_, recovered) = Store::open(folder, SystemTime::UNIX_EPOCH).expect("it opens");
        assert!(recovered.set_aside.is_empty(), "{}", recovered.set_aside[0].1);
        let Some(database) = recovered.databases.first() else {
            let installed = known.iter().any(|note| matches!(note, Note::Installed));
            assert!(!installed, "what was installed is gone");
            return;
        };
        assert_eq!(database.finish_recovery().unwrap(), self.0.theirs.position);
        let mut file = vec![0; self.0.theirs.image.len() + 1];
        let len = database.read_database(0, &mut file).unwrap();
        file.truncate(len);
        assert!(file == self.0.theirs.image, "other bytes than the position says");
    }
}

fn id(number: usize) -> EntryId {
    EntryId { term: 1, index: number as u64 + 1 }
}

fn connect(database: &Database) {
    database.connect(Arc::new(Locks::default()), Arc::new(NoKernelCache));
}

impl Subject for Install {
    type Note = Note;

    fn work(&self, folder: &Path, notes: Notes<'_, Note>) {
        let (store, _) = Store::open(folder, SystemTime::UNIX_EPOCH).unwrap();
        let database = store.create_slot(&DatabaseName::new("a.db").unwrap()).unwrap();
        connect(&database);
        notes(Note::Logged(1));
        database.apply_in_place(&self.ours[0].ltx[..], id(0)).unwrap();
        for number in 1..self.ours.len() {
            let ltx = &self.ours[number].ltx[..];
            notes(Note::Logged(number + 1));
            if self.wal {
                database.append(ltx, id(number), true).unwrap();
            } else {
                database.apply_in_place(ltx, id(number)).unwrap();
            }
            database.make_durable(id(number), 0).unwrap();
            notes(Note::Durable(number + 1));
        }
        notes(Note::Installing);
        match (self.wal, self.as_pages) {
            (true, false) => database.append_snapshot(&self.theirs.ltx[..], INSTALLED, THEIRS),
            (false, false) => database.install_in_place(&self.theirs.ltx[..], INSTALLED, THEIRS),
            (true, true) => database.append_pages(&self.pages(folder), INSTALLED, THEIRS),
            (false, true) => {
                database.install_pages_in_place(&self.pages(folder), INSTALLED, THEIRS)
            }
        }
        .unwrap();
        database.make_durable(INSTALLED, 0).unwrap();
        notes(Note::Installed);
    }

    fn start(&self, folder: &Path, known: &[Note], go_on: Option<Notes<'_, Note>>) {
        let (_, recovered) = Store::open(folder, SystemTime::UNIX_EPOCH).expect("it opens");
        let (mut logged, mut durable) = (0, 0);
        let (mut installing, mut installed) = (false, false);
        for note in known {
            match note {
                Note::Logged(count) => logged = *count,
                Note::Durable(count) => durable = *count,
                Note::Installing => installing = true,
                Note::Installed => installed = true,
            }
        }
        assert!(recovered.set_aside.is_empty(), "{}", recovered.set_aside[0].1);
        let Some(database) = recovered.databases.first() else {
            assert!(durable == 0, "it is gone");
            return;
        };
        connect(database);
        for number in
            (0..logged).filter(|number| id(*number).index > database.record().applied.index)
        {
            database.apply_in_place(&self.ours[number].ltx[..], id(number)).unwrap();
        }
        let position = database.finish_recovery().unwrap();
        let mut known = self.ours.iter().chain([&self.theirs]);
        let transaction = known.find(|transaction| transaction.position == position);
        let transaction = transaction.expect("a position that there was");
        let mut file = vec![0; transaction.image.len() + 1];
        let len = database.read_database(0, &mut file).unwrap();
        file.truncate(len);
        assert!(file == transaction.image, "other bytes than the position says");
        let ours = database.incarnation() != Some(THEIRS);
        assert!(!(installed && ours), "what was installed is gone");
        if let Some(notes) = go_on
            && installing
            && !installed
        {
            database.install_in_place(&self.theirs.ltx[..], INSTALLED, THEIRS).unwrap();
            database.make_durable(INSTALLED, 0).unwrap();
            notes(Note::Installed);
        }
    }
}
