//! Frames and index entries written by these functions into files that SQLite has open.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use rusqlite::Connection;

use super::memory::LiveMemory;
use crate::sqlite::wal::{FRAME_HEADER_SIZE, frame_offset};
use crate::sqlite::wal_index::{append, initialise, read_header, regions_for, write_header};
use crate::sqlite::{IndexHeader, Salts, WalHeader};

const PAGE: usize = 512;

fn open(path: &Path) -> Connection {
    let db = Connection::open(path).unwrap();
    db.execute_batch(&format!(
        "PRAGMA page_size={PAGE}; PRAGMA journal_mode=WAL; PRAGMA wal_autocheckpoint=0;
         PRAGMA synchronous=OFF;"
    ))
    .unwrap();
    db
}

/// A database whose transactions are made elsewhere, and their changed pages.
struct Source {
    db: Connection,
    path: PathBuf,
    image: Vec<u8>,
}

impl Source {
    fn new(path: PathBuf) -> Self {
        Self { db: open(&path), path, image: Vec::new() }
    }

    /// Runs SQL; returns the pages it changed and the new size in pages.
    fn transaction(&mut self, sql: &str) -> (Vec<(u32, Vec<u8>)>, u32) {
        self.db.execute_batch(sql).unwrap();
        self.db.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
        let image = std::fs::read(&self.path).unwrap();
        let changed = (1..)
            .zip(image.chunks(PAGE))
            .filter(|(number, page)| {
                let at = (*number as usize - 1) * PAGE;
                self.image.get(at..at + PAGE) != Some(*page)
            })
            .map(|(number, page)| (number, page.to_vec()))
            .collect();
        self.image = image;
        (changed, (self.image.len() / PAGE) as u32)
    }
}

/// What `store` does on another node: frames, entries, header.
struct Applier {
    wal: File,
    index: LiveMemory,
    /// Holds byte 120 meanwhile: a reader that finds the two headers different, and that byte
    /// free, takes the writer for dead and builds the index anew.
    lock: Connection,
}

impl Applier {
    fn new(path: &Path) -> Self {
        let name = |suffix| format!("{}{suffix}", path.display());
        let wal = File::options().read(true).write(true).open(name("-wal")).unwrap();
        Self { wal, index: LiveMemory::open(Path::new(&name("-shm"))), lock: open(path) }
    }

    fn apply(&self, pages: &[(u32, Vec<u8>)], size: u32) {
        self.lock.execute_batch("BEGIN IMMEDIATE").unwrap();
        let header = read_header(&self.index).unwrap();
        let mut tip = header.tip().unwrap_or_else(|| {
            let salts = Salts([9; 8]);
            let begin = WalHeader { big_endian: true, page_size: PAGE as u32, sequence: 0, salts };
            self.wal.write_all_at(&begin.encode(), 0).unwrap();
            begin.tip()
        });
        let first = tip.frame + 1;
        for (n, (page, data)) in pages.iter().enumerate() {
            let commit = if n + 1 == pages.len() { size } else { 0 };
            let (frame, next) = tip.append(*page, commit, data).unwrap();
            let at = frame_offset(tip.page_size, next.frame);
            self.wal.write_all_at(&frame.encode(), at).unwrap();
            self.wal.write_all_at(data, at + FRAME_HEADER_SIZE as u64).unwrap();
            tip = next;
        }
        self.index.grow(regions_for(tip.frame));
        let numbers: Vec<u32> = pages.iter().map(|(page, _)| *page).collect();
        append(&self.index, first, &numbers).unwrap();
        write_header(&self.index, &IndexHeader::of_tip(&tip, header.change + 1)).unwrap();
        self.lock.execute_batch("ROLLBACK").unwrap();
    }
}

fn sum(db: &Connection) -> (i64, i64) {
    db.query_row("SELECT count(*), sum(x) FROM t", [], |row| Ok((row.get(0)?, row.get(1)?)))
        .unwrap()
}

fn check(db: &Connection) {
    let said: String = db.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(said, "ok");
}

#[test]
fn sqlite_reads_and_continues_what_was_appended() {
    let dir = tempfile::tempdir().unwrap();
    let mut source = Source::new(dir.path().join("source.db"));
    let path = dir.path().join("live.db");
    let db = open(&path);
    // Opens the WAL and the index, which stay empty.
    let _: i64 = db.query_row("SELECT count(*) FROM sqlite_schema", [], |r| r.get(0)).unwrap();
    let applier = Applier::new(&path);

    let (pages, size) = source.transaction("CREATE TABLE t(i INTEGER PRIMARY KEY, x, y)");
    applier.apply(&pages, size);
    assert_eq!(db.query_row("SELECT count(*) FROM t", [], |r| r.get::<_, i64>(0)).unwrap(), 0);
    // Beyond the first region, and the second.
    let mut frames = 0;
    for round in 1..=3_i64 {
        let (pages, size) = source.transaction(
            "WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM c WHERE i<3500)
             INSERT INTO t(x, y) SELECT i, randomblob(400) FROM c",
        );
        frames += pages.len();
        applier.apply(&pages, size);
        assert_eq!(sum(&db), (3500 * round, round * 3500 * 3501 / 2));
        check(&db);
    }
    assert!(frames > 4062 + 4096, "{frames} frames");
    let before = read_header(&applier.index).unwrap();
    db.execute_batch("INSERT INTO t(x) VALUES(5); DELETE FROM t WHERE i % 3 = 0").unwrap();
    assert!(read_header(&applier.index).unwrap().max_frame > before.max_frame);
    check(&db);
    let expected = sum(&db);

    // Recovery from the WAL alone, by a connection that has never seen the index.
    let copy = dir.path().join("copy.db");
    std::fs::copy(&path, &copy).unwrap();
    std::fs::copy(dir.path().join("live.db-wal"), dir.path().join("copy.db-wal")).unwrap();
    let copy = open(&copy);
    assert_eq!(sum(&copy), expected);
    check(&copy);
    // And a checkpoint by SQLite of what these functions entered.
    db.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
    assert_eq!(sum(&db), expected);
    check(&db);
}

/// Ends the readers, also when the test fails.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// A reader in another thread always sees one whole transaction.
#[test]
fn readers_see_whole_transactions() {
    let dir = tempfile::tempdir().unwrap();
    let mut source = Source::new(dir.path().join("source.db"));
    let path = dir.path().join("live.db");
    let db = open(&path);
    let _: i64 = db.query_row("SELECT count(*) FROM sqlite_schema", [], |r| r.get(0)).unwrap();
    let applier = Applier::new(&path);
    let (pages, size) = source.transaction(
        "CREATE TABLE t(i INTEGER PRIMARY KEY, x, y);
         WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM c WHERE i<20)
         INSERT INTO t(x, y) SELECT 0, zeroblob(450) FROM c",
    );
    applier.apply(&pages, size);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let (mut last, mut seen) = (0, 0);
            while !done.load(Ordering::Acquire) || seen == 0 {
                let (low, high): (i64, i64) = db
                    .query_row("SELECT min(x), max(x) FROM t", [], |r| Ok((r.get(0)?, r.get(1)?)))
                    .unwrap();
                assert_eq!(low, high);
                assert!(low >= last);
                (last, seen) = (low, seen + 1);
            }
            db
        });
        let stop = Stop(&done);
        for _ in 0..300 {
            let (pages, size) = source.transaction("UPDATE t SET x = x + 1");
            assert!(pages.len() > 10);
            applier.apply(&pages, size);
        }
        drop(stop);
        let db = reader.join().unwrap();
        assert_eq!(sum(&db), (20, 20 * 300));
        check(&db);
    });
}

/// Rule 3: an index that the daemon built from the WAL is taken by SQLite as it is.
#[test]
fn an_initialised_index_is_taken() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("live.db");
    let db = open(&path);
    db.execute_batch("CREATE TABLE t(x); INSERT INTO t VALUES(4), (5);").unwrap();
    let applier = Applier::new(&path);
    let header = read_header(&applier.index).unwrap();
    let pages: Vec<u32> = (1..=header.max_frame)
        .map(|frame| crate::sqlite::wal_index::frame_page(&applier.index, frame).unwrap())
        .collect();
    // Wipe it, but for the lock bytes, and build it again with another change counter.
    applier.index.file.write_all_at(&[0; 120], 0).unwrap();
    applier.index.file.write_all_at(&vec![0; 32_768 - 136], 136).unwrap();
    append(&applier.index, 1, &pages).unwrap();
    initialise(&applier.index, &IndexHeader { change: header.change + 1, ..header }).unwrap();
    assert_eq!(sum(&db), (2, 9));
    db.execute_batch("INSERT INTO t VALUES(6)").unwrap();
    assert_eq!(sum(&db), (3, 15));
    let changed = read_header(&applier.index).unwrap();
    assert_eq!(changed.change, header.change + 2, "SQLite did not build it anew");
    check(&db);
}
