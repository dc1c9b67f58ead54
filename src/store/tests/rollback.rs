//! Databases with a rollback journal.

use super::*;

/// Rule 8, the origin's side: what is written lies beside the file until it is committed.
#[test]
fn an_overlay_is_committed_or_dropped() {
    let mut origin = Origin::new(4096, false);
    let first = origin.run("CREATE TABLE t(v)");
    let mut node = Node::from(&first);
    let before = origin.image.clone();
    let next = origin.run("INSERT INTO t VALUES(randomblob(30000))");
    for commit in [false, true] {
        let mut changes = Changes::new(4096, (next.image.len() / 4096) as u32);
        for (pgno, page) in (1_u32..).zip(next.image.chunks(4096)) {
            node.database.overlay_write(u64::from(pgno - 1) * 4096, page).unwrap();
            changes.page(pgno, page).unwrap();
        }
        assert!(node.database.has_overlay());
        assert_eq!(node.database.size_with_overlay().unwrap(), next.image.len() as u64);
        let mut seen = vec![0; next.image.len()];
        node.database.read_with_overlay(0, &mut seen).unwrap();
        assert!(seen == *next.image);
        node.check_file(&before);
        assert_eq!(node.client().run("SELECT count(*) FROM t"), "0");
        if commit {
            let preview = node.database.preview(&changes);
            assert_eq!(preview.position, next.position);
            node.database.reserve(4096, preview.pages, 0).unwrap();
            node.database.overlay_commit(&preview, entry(2)).unwrap();
            node.check_file(&next.image);
            assert_eq!(node.client().run("SELECT count(*) FROM t"), "1");
        } else {
            node.database.overlay_drop();
            node.check_file(&before);
        }
        assert!(!node.database.has_overlay());
    }
    // VACUUM cuts the file to the size it has by then.
    node.database.overlay_truncate(next.image.len() as u64).unwrap();
    assert!(!node.database.has_overlay());
    node.index = 2;
    node.in_place(&origin.run("DELETE FROM t")).unwrap();
    node.in_place(&origin.run("VACUUM")).unwrap();
    node.check_file(&origin.image);
}

/// Rule 10: the log's mark is durable before a page is changed in place, a local writer's or another
/// node's; if it cannot be, none is.
#[test]
fn the_mark_is_durable_before_pages_change_in_place() {
    let mut origin = Origin::new(4096, false);
    let mut node = Node::from(&origin.run("CREATE TABLE t(v)"));
    let before = origin.image.clone();
    let next = origin.run("INSERT INTO t VALUES(randomblob(30000))");
    node.database.use_mark(Arc::new(FailingMark));
    assert!(matches!(node.in_place(&next), Err(StoreError::Io { .. })));
    node.check_file(&before);
    let mut changes = Changes::new(4096, (next.image.len() / 4096) as u32);
    for (pgno, page) in (1_u32..).zip(next.image.chunks(4096)) {
        node.database.overlay_write(u64::from(pgno - 1) * 4096, page).unwrap();
        changes.page(pgno, page).unwrap();
    }
    let preview = node.database.preview(&changes);
    let refused = node.database.overlay_commit(&preview, entry(2));
    assert!(matches!(refused, Err(StoreError::Io { .. })));
    node.check_file(&before);
}

/// A transaction that does not fit leaves the file as it was; a WAL that is in use is not passed.
#[test]
fn in_place_refuses_what_does_not_fit() {
    let mut origin = Origin::new(4096, false);
    let mut node = Node::from(&origin.run("CREATE TABLE t(v)"));
    let (before, at) = (origin.image.clone(), origin.position);
    let next = origin.run("INSERT INTO t VALUES(1)");
    let pages = (origin.image.len() / 4096) as u32;
    origin.position = at;
    let wrong = origin.encode(pages, &[(2, &[3; 4096])], other(next.position));
    let wrong = Transaction { ltx: wrong, ..next.clone() };
    assert!(matches!(node.in_place(&wrong), Err(StoreError::Diverged { .. })));
    assert!(matches!(node.append(&next), Err(StoreError::Invalid { .. })));
    node.check_file(&before);
    node.in_place(&next).unwrap();
    node.check_file(&origin.image);
}

/// From a journal to WAL, and a page size that changes: both as ordinary transactions.
#[test]
fn the_kind_of_a_database_changes() {
    let mut origin = Origin::new(1024, false);
    let mut node = Node::from(&origin.run("CREATE TABLE t(v)"));
    assert_eq!(node.database.journal_mode().unwrap(), JournalMode::Rollback);
    node.in_place(&origin.run("INSERT INTO t VALUES(randomblob(5000))")).unwrap();
    origin.page_size = 4096;
    origin.connection.execute_batch("PRAGMA page_size=4096").unwrap();
    let at = origin.position;
    let grown = origin.run("VACUUM");
    // Pages of another size are all changed: made again on the same base.
    origin.image = Arc::default();
    origin.position = at;
    let grown = origin.transaction(grown.image.to_vec());
    node.in_place(&grown).unwrap();
    assert_eq!(node.database.page_size(), 4096);
    node.check_file(&origin.image);
    origin.wal = true;
    node.in_place(&origin.run("INSERT INTO t VALUES(1)")).unwrap();
    assert_eq!(node.database.journal_mode().unwrap(), JournalMode::Wal);
    node.append(&origin.run("INSERT INTO t VALUES(2)")).unwrap();
    assert_eq!(node.client().run("SELECT count(*) FROM t"), "3");
    // Frames that are not in the file would show instead.
    let next = origin.run("INSERT INTO t VALUES(3)");
    assert!(matches!(node.in_place(&next), Err(StoreError::Busy { .. })));
    node.database.checkpoint(CheckpointMode::Passive).unwrap();
    node.in_place(&next).unwrap();
    let mut client = node.client();
    assert_eq!(client.run("SELECT count(*) FROM t"), "4");
    assert_eq!(client.run("PRAGMA integrity_check"), "ok");
}

#[test]
fn a_journal_comes_and_goes() {
    let node = Node::new();
    assert!(node.database.journal(false).unwrap().is_none());
    let journal = node.database.journal(true).unwrap().unwrap();
    journal.set_len(5).unwrap();
    assert_eq!(node.database.journal(false).unwrap().unwrap().metadata().unwrap().len(), 5);
    node.database.remove_journal().unwrap();
    node.database.remove_journal().unwrap();
    assert!(node.database.journal(false).unwrap().is_none());
    assert_eq!(node.database.journal(true).unwrap().unwrap().metadata().unwrap().len(), 0);
}
