//! Whole databases as streams.

use std::io::Read;

use super::*;
use crate::core::Incarnation;
use crate::ltx::Decoder;

fn image_of(ltx: &[u8]) -> (Vec<u8>, Position) {
    let mut decoder = Decoder::new(ltx).unwrap();
    let header = *decoder.header();
    let mut image = vec![0; header.commit as usize * header.page_size as usize];
    let mut page = Vec::new();
    while let Some(pgno) = decoder.next_page(&mut page).unwrap() {
        let offset = (pgno as usize - 1) * header.page_size as usize;
        image[offset..offset + page.len()].copy_from_slice(&page);
    }
    let checksum = decoder.finish().unwrap().post_apply;
    (image, Position { txid: header.max_txid, checksum })
}

/// While it is read, transactions are appended and checkpoints run.
#[test]
fn a_snapshot_is_of_one_position() {
    for (page_size, checkpoint_first) in [(512, false), (4096, true), (65536, false)] {
        let mut origin = Origin::new(page_size, true);
        let mut node = Node::from(&origin.run("CREATE TABLE t(v)"));
        for _ in 0..10 {
            node.append(&origin.run("INSERT INTO t VALUES(randomblob(9000))")).unwrap();
            node.database.checkpoint(CheckpointMode::Passive).unwrap();
        }
        if !checkpoint_first {
            node.append(&origin.run("UPDATE t SET v = randomblob(100) WHERE rowid % 2")).unwrap();
        }
        let (expected, at) = (origin.image.clone(), origin.position);
        let mut snapshot = node.database.snapshot(1, 0).unwrap();
        assert_eq!((snapshot.position, snapshot.entry), (at, node.database.applied()));
        let mut stream = vec![0; 5000];
        snapshot.read_exact(&mut stream).unwrap();
        for _ in 0..5 {
            node.append(&origin.run("UPDATE t SET v = randomblob(3000)")).unwrap();
            let done = node.database.checkpoint(CheckpointMode::Passive).unwrap();
            assert!(done.backfilled < done.frames);
        }
        snapshot.read_to_end(&mut stream).unwrap();
        drop(snapshot);
        let (image, position) = image_of(&stream);
        assert!(image == *expected, "page size {page_size}");
        assert_eq!(position, at);
        // Its place is free again.
        let done = node.database.checkpoint(CheckpointMode::Passive).unwrap();
        assert_eq!(done.backfilled, done.frames);
        node.check_file(&origin.image);
    }
}

/// With a rollback journal a writer waits meanwhile, and a snapshot does not begin beside one.
#[test]
fn a_snapshot_holds_a_rollback_database_shared() {
    let mut origin = Origin::new(4096, false);
    let node = Node::from(&origin.run("CREATE TABLE t(v)"));
    let all =
        ByteRange { start: locks::SHARED_FIRST, end: locks::SHARED_FIRST + locks::SHARED_SIZE - 1 };
    let alone = |kind| node.locks.lock(WRITER, LockFile::Database, all, kind);
    let mut snapshot = node.database.snapshot(1, 0).unwrap();
    assert!(!alone(LockKind::Exclusive));
    let mut stream = Vec::new();
    snapshot.read_to_end(&mut stream).unwrap();
    drop(snapshot);
    assert!(image_of(&stream).0 == *origin.image);
    assert!(alone(LockKind::Exclusive));
    assert!(matches!(node.database.snapshot(1, 0), Err(StoreError::Busy { .. })));
    alone(LockKind::Unlock);
    assert!(node.database.snapshot(1, 0).is_ok());
}

/// A snapshot goes into a database that readers have open, whatever that held: they keep theirs,
/// and see the other next.
#[test]
fn a_snapshot_is_installed_beneath_readers() {
    let mut theirs = Origin::new(4096, true);
    let mut source = Node::from(&theirs.run("CREATE TABLE t(v)"));
    for _ in 0..5 {
        source.append(&theirs.run("INSERT INTO t VALUES(randomblob(20000))")).unwrap();
    }
    let mut ltx = Vec::new();
    source.database.snapshot(1, 0).unwrap().read_to_end(&mut ltx).unwrap();

    let mut ours = Origin::new(4096, true);
    let mut node = Node::from(&ours.run("CREATE TABLE t(v); CREATE TABLE other(v)"));
    node.append(&ours.run("INSERT INTO t VALUES(1)")).unwrap();
    let mut reader = node.client();
    reader.run("BEGIN");
    assert_eq!(reader.run("SELECT count(*) FROM t"), "1");
    node.lock_write();
    let at = node.database.append_snapshot(&ltx[..], entry(50), Incarnation(40)).unwrap();
    node.unlock_write();
    assert_eq!(at, theirs.position);
    assert_eq!(node.database.incarnation(), Some(Incarnation(40)));
    assert_eq!(reader.run("SELECT count(*) FROM t"), "1");
    reader.run("COMMIT");
    assert_eq!(reader.run("SELECT count(*) FROM t"), "5");
    assert_eq!(reader.run("PRAGMA integrity_check"), "ok");
    node.database.checkpoint(CheckpointMode::Passive).unwrap();
    node.check_file(&theirs.image);
    node.append(&theirs.run("INSERT INTO t VALUES(2)")).unwrap();

    // And into an empty one.
    let empty = Node::new();
    empty.database.install_in_place(&ltx[..], entry(50), Incarnation(40)).unwrap();
    assert_eq!(empty.database.position(), at);
    assert_eq!(empty.client().run("SELECT count(*) FROM t"), "5");
    // A transaction that is not the whole is no snapshot.
    let part = theirs.run("INSERT INTO t VALUES(3)");
    let refused = empty.database.install_in_place(&part.ltx[..], entry(51), Incarnation(40));
    assert!(matches!(refused, Err(StoreError::Invalid { .. })));
}

/// As a file of pages, which goes: only what differs is written.
#[test]
fn a_file_of_pages_is_installed_beneath_readers() {
    for wal in [true, false] {
        let mut theirs = Origin::new(4096, wal);
        let mut node = Node::from(&theirs.run("CREATE TABLE t(v)"));
        for _ in 0..5 {
            let more = theirs.run("INSERT INTO t VALUES(randomblob(20000))");
            if wal { node.append(&more) } else { node.in_place(&more) }.unwrap();
        }
        theirs.run("UPDATE t SET v = randomblob(20000) WHERE rowid = 3");
        let mut reader = node.client();
        if wal {
            reader.run("BEGIN");
            assert_eq!(reader.run("SELECT count(*) FROM t"), "5");
        }
        let came = node.dir.path().join("came");
        let file = || {
            std::fs::write(&came, &*theirs.image).unwrap();
            let (path, pages) = (came.clone(), (theirs.image.len() / 4096) as u32);
            PageFile { path, page_size: 4096, pages, position: theirs.position }
        };
        // Another page than the position says is not let in, and does no harm.
        let mut rotten = file();
        rotten.position.checksum.0 ^= 1;
        let before = node.database.position();
        node.lock_write();
        let install = |file: PageFile| {
            if wal {
                node.database.append_pages(&file, entry(50), Incarnation(1))
            } else {
                node.database.install_pages_in_place(&file, entry(50), Incarnation(1))
            }
        };
        assert!(matches!(install(rotten), Err(StoreError::Diverged { .. })));
        assert_eq!(node.database.position(), before);
        let frames = node.database.backfill().unwrap().0;
        assert_eq!(install(file()).unwrap(), theirs.position);
        node.unlock_write();
        assert!(!came.exists());
        if wal {
            let written = node.database.backfill().unwrap().0 - frames;
            assert!(written < 9, "{written} frames for five pages and the first");
            reader.run("COMMIT");
        }
        assert_eq!(reader.run("PRAGMA integrity_check"), "ok");
        node.database.make_durable(entry(50), 0).unwrap();
        node.check_file(&theirs.image);
        assert_eq!(node.database.record().pinned, None);
    }
}

/// Where there was none, the file that came is the database's own; one that is not what it says leaves nothing.
#[test]
fn a_file_of_pages_becomes_a_database() {
    let mut theirs = Origin::new(4096, true);
    theirs.run("CREATE TABLE t(v)");
    theirs.run("INSERT INTO t VALUES(randomblob(20000))");
    let node = Node::new();
    let (came, name) = (node.dir.path().join("came"), DatabaseName::new("b.db").unwrap());
    let file = || {
        std::fs::write(&came, &*theirs.image).unwrap();
        let (path, pages) = (came.clone(), (theirs.image.len() / 4096) as u32);
        PageFile { path, page_size: 4096, pages, position: theirs.position }
    };
    let mut rotten = file();
    rotten.position.checksum.0 ^= 1;
    let refused = node.store.create_from(&name, &rotten, entry(50), Incarnation(40));
    assert!(matches!(refused, Err(StoreError::Diverged { .. })));
    let slots = node.store.databases().len();
    let file = file();
    let made = node.store.create_from(&name, &file, entry(50), Incarnation(40)).unwrap();
    assert_eq!((made.position(), made.applied()), (theirs.position, entry(50)));
    assert!(!came.exists());
    assert_eq!(made.record().position, theirs.position);
    // Somebody has the name: the file is where it was.
    node.store.give_back(&made, &came).unwrap();
    assert!(std::fs::read(&came).unwrap() == *theirs.image);
    assert_eq!(node.store.databases().len(), slots);
}

/// Rules 9 and 13: the log of the node that installs a snapshot does not reach as far. However much of it
/// is in the file when the process ends, the next start has the one or the other, whole.
#[test]
fn a_snapshot_that_is_cut_short_is_whole_at_the_next_start() {
    for (wal, as_pages) in [(true, false), (false, false), (true, true), (false, true)] {
        let mut theirs = Origin::new(4096, wal);
        let mut source = Node::from(&theirs.run("CREATE TABLE t(v)"));
        let more = theirs.run("INSERT INTO t VALUES(randomblob(20000))");
        if wal { source.append(&more) } else { source.in_place(&more) }.unwrap();
        let mut ltx = Vec::new();
        source.database.snapshot(1, 0).unwrap().read_to_end(&mut ltx).unwrap();

        let mut ours = Origin::new(4096, wal);
        let node = Node::from(&ours.run("CREATE TABLE t(v)"));
        node.database.make_durable(entry(1), 0).unwrap();
        let (path, pages) = (node.dir.path().join("came"), (theirs.image.len() / 4096) as u32);
        std::fs::write(&path, &*theirs.image).unwrap();
        let file = PageFile { path, page_size: 4096, pages, position: theirs.position };
        let (at, life) = (entry(50), Incarnation(1));
        if wal {
            node.lock_write();
            if as_pages {
                node.database.append_pages(&file, at, life).unwrap();
            } else {
                node.database.append_snapshot(&ltx[..], at, life).unwrap();
            }
            node.unlock_write();
            node.database.checkpoint(CheckpointMode::Passive).unwrap();
        } else if as_pages {
            node.database.install_pages_in_place(&file, at, life).unwrap();
        } else {
            node.database.install_in_place(&ltx[..], at, life).unwrap();
        }
        // Of what is not synced the page that a power loss takes.
        node.database.main.set_len(4096).unwrap();
        let Node { dir, store, database, locks, .. } = node;
        drop((store, database, locks));
        let (_store, recovered) = Store::open(dir.path(), SystemTime::UNIX_EPOCH).unwrap();
        let database = &recovered.databases[0];
        assert_eq!(database.finish_recovery().unwrap(), theirs.position);
        assert_eq!(database.applied(), entry(50));
        database.make_durable(entry(50), 0).unwrap();
        // Nothing of it stays beside the file.
        assert_eq!(database.record().pinned, None);
        assert!(!database.folder().join("pinned-50.ltx").exists());
        let mut file = fs::read(database.folder().join("database")).unwrap();
        file.truncate(theirs.image.len());
        assert!(file == *theirs.image);
    }
}
