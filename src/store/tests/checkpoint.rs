//! Checkpoints beside readers, and the kernel's cache.

use std::sync::{Mutex, Weak};

use super::*;
use crate::core::ports::{CommittedMark, KernelCache};
use crate::sqlite::wal_index;

/// readers-go-on: a reader's pages are not overwritten; once it left, the WAL begins anew.
#[test]
fn a_reader_holds_its_snapshot_through_checkpoints() {
    let mut origin = Origin::new(4096, true);
    let mut node = Node::from(&origin.run("CREATE TABLE t(v)"));
    node.append(&origin.run("INSERT INTO t VALUES(1)")).unwrap();
    let mut reader = node.client();
    reader.run("BEGIN");
    assert_eq!(reader.run("SELECT sum(v) FROM t"), "1");
    let pinned = node.database.wal_tip().unwrap().unwrap().frame;
    // All is backfilled, and yet the WAL does not begin anew beneath the reader.
    assert_eq!(node.database.checkpoint(CheckpointMode::Passive).unwrap().backfilled, pinned);
    for v in 2..10 {
        node.append(&origin.run(&format!("INSERT INTO t VALUES({v})"))).unwrap();
        let done = node.database.checkpoint(CheckpointMode::Passive).unwrap();
        assert_eq!(done.backfilled, pinned);
        assert_eq!(node.database.wal_tip().unwrap().unwrap().frame, done.frames);
        assert!(done.frames > pinned);
        assert_eq!(reader.run("SELECT sum(v) FROM t"), "1");
    }
    assert!(node.database.checkpoint(CheckpointMode::Truncate).unwrap().busy);
    assert_eq!(reader.run("COMMIT"), "");
    assert_eq!(reader.run("SELECT sum(v) FROM t"), "45");
    let done = node.database.checkpoint(CheckpointMode::Passive).unwrap();
    assert_eq!(done.frames, done.backfilled);
    node.check_file(&origin.image);
    node.append(&origin.run("INSERT INTO t VALUES(10)")).unwrap();
    assert!(node.database.wal_tip().unwrap().unwrap().frame < done.frames);
    assert_eq!(reader.run("SELECT sum(v) FROM t"), "55");
}

/// One who reads the file alone keeps the WAL from being checkpointed, not from growing.
#[test]
fn a_reader_of_the_file_stops_the_checkpoint() {
    let mut origin = Origin::new(4096, true);
    let mut node = Node::from(&origin.run("CREATE TABLE t(v)"));
    let mut reader = node.client();
    reader.run("BEGIN");
    assert_eq!(reader.run("SELECT count(*) FROM t"), "0");
    node.append(&origin.run("INSERT INTO t VALUES(1)")).unwrap();
    let done = node.database.checkpoint(CheckpointMode::Passive).unwrap();
    assert_eq!(done.backfilled, 0);
    assert_eq!(reader.run("SELECT count(*) FROM t"), "0");
    reader.run("COMMIT");
    assert_eq!(reader.run("SELECT count(*) FROM t"), "1");
}

/// bounded-answer: an application's thread has a read mark's lock to itself, to set it, and cannot give
/// it back before the checkpoint is answered that another of its threads asked for; or it is frozen.
/// SQLite alone would try for ten seconds, and then fail. The entries are made durable all the same.
#[test]
fn a_checkpoint_that_cannot_begin_gives_up_soon() {
    let mut origin = Origin::new(4096, true);
    let mut node = Node::from(&origin.run("CREATE TABLE t(v)"));
    let last = origin.run("INSERT INTO t VALUES(1)");
    node.append(&last).unwrap();
    let marks =
        ByteRange { start: locks::READ0 + 1, end: locks::READ0 + locks::READERS as u64 - 1 };
    assert!(node.database.locks().lock(WRITER, LockFile::Shm, marks, LockKind::Exclusive));
    let began = std::time::Instant::now();
    let done = node.database.checkpoint(CheckpointMode::Passive).unwrap();
    assert!(done.busy);
    node.database.make_durable(entry(2), 1 << 30).unwrap();
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    node.database.locks().lock(WRITER, LockFile::Shm, marks, LockKind::Unlock);
    let done = node.database.checkpoint(CheckpointMode::Passive).unwrap();
    assert_eq!((done.busy, done.frames), (false, done.backfilled));
    node.check_file(&origin.image);
}

/// An operator, and `is_full` of the room commit, look for one wording of a full disk.
#[test]
fn a_full_disk_at_a_checkpoint_is_said_as_at_every_write() {
    let mut origin = Origin::new(4096, true);
    let node = Node::from(&origin.run("CREATE TABLE t(v)"));
    let of = |code| rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(code), None);
    let full = node.database.checkpoint_failed(of(rusqlite::ffi::SQLITE_FULL)).to_string();
    assert!(full.contains("No space left on device") && full.contains("/database"), "{full}");
    let other = node.database.checkpoint_failed(of(rusqlite::ffi::SQLITE_IOERR)).to_string();
    assert!(!other.contains("No space left"), "{other}");
}

/// What was backfilled when each range was invalidated.
struct Watch {
    database: Weak<Database>,
    calls: Mutex<Vec<(u64, u64, u32)>>,
    /// Each end that the kernel was told of, and how many ranges were invalidated before.
    ends: Mutex<Vec<(u64, usize)>>,
}

impl KernelCache for Watch {
    fn invalidate(&self, offset: u64, len: u64) {
        let database = self.database.upgrade().unwrap();
        let view = database.view().unwrap();
        let backfill = wal_index::checkpoint_info(&view).unwrap().backfill;
        self.calls.lock().unwrap().push((offset, len, backfill));
    }

    fn grown(&self, offset: u64, bytes: &[u8]) {
        let database = self.database.upgrade().unwrap();
        let mut there = vec![0; bytes.len()];
        database.read_database(offset, &mut there).unwrap();
        assert_eq!(bytes, there, "the kernel is given what is in the file");
        let end = offset + bytes.len() as u64;
        let calls = self.calls.lock().unwrap().len();
        self.ends.lock().unwrap().push((end, calls));
    }
}

/// Rule 16: every page written is invalidated, and the file's end, before `nBackfill` says that
/// readers may take them from the file.
#[test]
fn pages_are_invalidated_before_they_are_reachable() {
    let mut origin = Origin::new(4096, true);
    let first = origin.run("CREATE TABLE t(v)");
    let mut node = Node::from(&first);
    node.append(&origin.run("INSERT INTO t VALUES(randomblob(50000))")).unwrap();
    node.append(&origin.run("DELETE FROM t")).unwrap();
    node.append(&origin.run("VACUUM")).unwrap();
    let watch = Arc::new(Watch {
        database: Arc::downgrade(&node.database),
        calls: Mutex::default(),
        ends: Mutex::default(),
    });
    node.database.connect(node.locks.clone(), watch.clone());
    let done = node.database.checkpoint(CheckpointMode::Passive).unwrap();
    assert_eq!((done.backfilled, done.busy), (done.frames, false));
    let calls = std::mem::take(&mut *watch.calls.lock().unwrap());
    assert!(calls.iter().all(|(_, _, backfill)| *backfill == 0));
    assert!(calls.iter().any(|(offset, len, _)| *offset == 0 && *len >= 4096), "{calls:?}");

    // The file gets shorter.
    node.append(&origin.run("INSERT INTO t VALUES(randomblob(90000))")).unwrap();
    watch.calls.lock().unwrap().clear();
    watch.ends.lock().unwrap().clear();
    node.database.checkpoint(CheckpointMode::Passive).unwrap();
    // It grew: the kernel knew before it was told that anything changed.
    assert_eq!(*watch.ends.lock().unwrap(), [(origin.image.len() as u64, 0)]);
    node.append(&origin.run("DELETE FROM t; ")).unwrap();
    node.append(&origin.run("VACUUM")).unwrap();
    watch.calls.lock().unwrap().clear();
    node.database.checkpoint(CheckpointMode::Passive).unwrap();
    let calls = std::mem::take(&mut *watch.calls.lock().unwrap());
    let end = origin.image.len() as u64;
    assert!(calls.contains(&(end, 0, 0)), "{calls:?}");
    node.check_file(&origin.image);
}

/// Rule 10: the log's mark is synced when it is settled what a checkpoint copies, and before the first
/// page of it is in the file; if it cannot be, none is.
#[test]
fn the_mark_is_durable_before_the_file_changes() {
    struct Log(Mutex<Vec<Vec<u8>>>, Weak<Database>, bool);
    impl CommittedMark for Log {
        fn sync(&self) -> std::io::Result<()> {
            let database = self.1.upgrade().unwrap();
            let mut file = vec![0; 1 << 20];
            let len = database.read_database(0, &mut file).unwrap();
            file.truncate(len);
            self.0.lock().unwrap().push(file);
            if self.2 { Ok(()) } else { Err(std::io::Error::other("the disk failed")) }
        }
    }
    let mut origin = Origin::new(4096, true);
    let mut node = Node::from(&origin.run("CREATE TABLE t(v)"));
    node.append(&origin.run("INSERT INTO t VALUES(randomblob(50000))")).unwrap();
    let mut before = vec![0; 1 << 20];
    let len = node.database.read_database(0, &mut before).unwrap();
    before.truncate(len);
    let log = |good| Arc::new(Log(Mutex::default(), Arc::downgrade(&node.database), good));
    let failing = log(false);
    node.database.use_mark(failing.clone());
    assert!(node.database.checkpoint(CheckpointMode::Passive).is_err());
    assert_eq!(*failing.0.lock().unwrap(), [before.clone()]);
    let good = log(true);
    node.database.use_mark(good.clone());
    node.database.checkpoint(CheckpointMode::Passive).unwrap();
    assert_eq!(*good.0.lock().unwrap(), [before], "once, and nothing was written before it");
    node.check_file(&origin.image);
}

/// Space is secured for the frames and the index of a transaction (Rule 7).
#[test]
fn space_is_reserved() {
    let mut origin = Origin::new(4096, true);
    let node = Node::from(&origin.run("CREATE TABLE t(v)"));
    node.database.reserve(4096, 9000, 9000).unwrap();
    let view = node.database.view().unwrap();
    assert_eq!(crate::sqlite::IndexMemory::regions(&view), 3);
    let blocks = std::os::unix::fs::MetadataExt::blocks(&node.database.wal.metadata().unwrap());
    assert!(blocks * 512 >= 9000 * 4120);
    assert_eq!(node.database.sizes().unwrap().wal, 0);
}
