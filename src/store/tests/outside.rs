//! Databases that no node serves, beside what SQLite says of them.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use rusqlite::Connection;

use crate::core::Txid;
use crate::store::{JournalMode, Outside, OutsideError, beside, quick_check};

fn new(page_size: u32, wal: bool) -> (tempfile::TempDir, PathBuf, Connection) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a %b?#.db");
    let connection = Connection::open(&path).unwrap();
    let mode = if wal { "wal" } else { "delete" };
    connection
        .execute_batch(&format!(
            "PRAGMA page_size={page_size}; PRAGMA journal_mode={mode};
        CREATE TABLE t(v); INSERT INTO t SELECT hex(randomblob(300)) FROM pragma_function_list;"
        ))
        .unwrap();
    (dir, path, connection)
}

fn rows(path: &Path) -> String {
    let sql = "SELECT count(*) || ' ' || sum(length(v)) || ' ' || max(v) FROM t";
    Connection::open(path).unwrap().query_row(sql, [], |row| row.get(0)).unwrap()
}

/// What is read is what SQLite shows: with frames in the WAL, with some of them backfilled, after
/// pages were cut off, and beyond an end that was never committed.
#[test]
fn a_database_and_its_wal_are_one() {
    for page_size in [512, 4096, 65_536] {
        let (dir, path, connection) = new(page_size, true);
        let steps = [
            "PRAGMA wal_autocheckpoint=0; UPDATE t SET v = hex(randomblob(200)) WHERE rowid % 3 = 0",
            "PRAGMA wal_checkpoint(PASSIVE); INSERT INTO t SELECT v || v FROM t",
            "DELETE FROM t WHERE rowid > 50; VACUUM",
            "PRAGMA wal_checkpoint(RESTART); UPDATE t SET v = 'new' WHERE rowid = 7",
        ];
        for step in steps {
            connection.execute_batch(step).unwrap();
            let outside = Outside::open(&path).unwrap();
            let mut bytes = Vec::new();
            outside.reader().read_to_end(&mut bytes).unwrap();
            assert_eq!(bytes.len() as u64, outside.bytes());
            assert!(outside.is_unchanged().unwrap());
            let mut middle = vec![0; 1000];
            let read = outside.read_at(300, &mut middle).unwrap();
            assert_eq!(middle[..read], bytes[300..300 + read]);
            let copy = dir.path().join("copy");
            fs::write(&copy, &bytes).unwrap();
            quick_check(&copy).unwrap();
            assert_eq!(rows(&copy), rows(&path), "{page_size} {step}");
        }
    }
}

#[test]
fn a_write_meanwhile_is_seen() {
    for wal in [false, true] {
        let (_dir, path, connection) = new(4096, wal);
        let outside = Outside::open(&path).unwrap();
        connection.execute_batch("INSERT INTO t VALUES (1)").unwrap();
        assert!(!outside.is_unchanged().unwrap(), "wal: {wal}");
    }
}

#[test]
fn a_transaction_that_was_not_ended_is_refused() {
    let (_dir, path, connection) = new(4096, false);
    connection
        .execute_batch("PRAGMA cache_size=1; BEGIN; UPDATE t SET v = hex(randomblob(300))")
        .unwrap();
    assert!(matches!(Outside::open(&path), Err(OutsideError::HotJournal(_))));
    connection.execute_batch("ROLLBACK; PRAGMA journal_mode=persist; DELETE FROM t").unwrap();
    assert!(beside(&path, "-journal").exists());
    Outside::open(&path).unwrap();
}

#[test]
fn what_is_no_database_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x");
    let opened = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        Outside::open(&path).map(|_| ()).unwrap_err()
    };
    assert!(matches!(opened(b""), OutsideError::Empty(_)));
    assert!(matches!(opened(&[7; 9000]), OutsideError::NotADatabase { .. }));
    assert!(matches!(opened(b"SQLite format 3\0"), OutsideError::NotADatabase { .. }));
    let (_dir, whole, connection) = new(4096, false);
    drop(connection);
    let bytes = fs::read(whole).unwrap();
    assert!(matches!(opened(&bytes[..bytes.len() - 4096]), OutsideError::Damaged { .. }));
    let gone = Outside::open(&dir.path().join("gone")).map(|_| ()).unwrap_err();
    assert!(matches!(gone, OutsideError::Io { .. }), "{gone}");
    assert!(matches!(Outside::open(dir.path()), Err(OutsideError::Io { .. })));
}

#[test]
fn sqlite_finds_what_is_damaged() {
    let (_dir, path, connection) = new(4096, false);
    drop(connection);
    quick_check(&path).unwrap();
    let mut bytes = fs::read(&path).unwrap();
    bytes[2 * 4096..3 * 4096].fill(0x5a);
    fs::write(&path, bytes).unwrap();
    assert!(matches!(quick_check(&path), Err(OutsideError::Damaged { .. })));
}

/// The first transaction: page size and content stay; the mode is what is asked for.
#[test]
fn it_is_written_as_a_first_transaction() {
    for (wal, as_wal) in [(false, false), (false, true), (true, false)] {
        let (_dir, path, connection) = new(1024, wal);
        connection.execute_batch("INSERT INTO t VALUES ('last')").unwrap();
        let outside = Outside::open(&path).unwrap();
        let (ltx, encoded) = outside.encode(Vec::new(), 1, 0, as_wal).unwrap();
        let mut decoder = crate::ltx::Decoder::new(&ltx[..]).unwrap();
        let (mut page, mut first) = (Vec::new(), Vec::new());
        while let Some(pgno) = decoder.next_page(&mut page).unwrap() {
            if pgno == 1 {
                first.clone_from(&page);
            }
        }
        let header = *decoder.header();
        assert_eq!(decoder.finish().unwrap().post_apply, encoded.position.checksum);
        assert_eq!(
            (header.min_txid, header.max_txid, header.commit),
            (Txid(1), Txid(1), encoded.pages)
        );
        assert_eq!(encoded.page_size, 1024);
        let version = if wal || as_wal { 2 } else { 1 };
        assert_eq!(first[18..20], [version, version]);
        assert_eq!(encoded.mode == JournalMode::Wal, wal || as_wal);
        let same = encoded.position.checksum == outside.checksum().unwrap();
        assert_eq!(same, wal == (wal || as_wal), "only the mode is another");
    }
}
