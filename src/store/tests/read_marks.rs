//! Marks that the daemon sets for readers to come.

use super::*;
use crate::sqlite::locks::READERS;
use crate::sqlite::wal_index;

fn marks(node: &Node) -> [u32; READERS] {
    wal_index::checkpoint_info(&node.database.view().unwrap()).unwrap().read_marks
}

#[test]
fn a_reader_finds_its_mark() {
    let mut origin = Origin::new(4096, true);
    let mut node = Node::from(&origin.run("CREATE TABLE t(v)"));
    let mut reader = node.client();
    for value in 1..20 {
        node.append(&origin.run(&format!("INSERT INTO t VALUES({value})"))).unwrap();
        node.lock_write();
        node.database.offer_read_mark(|_| true).unwrap();
        let end = node.database.wal_tip().unwrap().unwrap().frame;
        node.unlock_write();
        let offered = marks(&node);
        assert!(offered[1..].contains(&end));
        assert_eq!(reader.run("SELECT max(v) FROM t"), value.to_string());
        assert_eq!(marks(&node), offered, "the reader set none");
    }
    assert_eq!(reader.run("PRAGMA integrity_check"), "ok");
}

#[test]
fn a_mark_that_is_used_stays() {
    let mut origin = Origin::new(4096, true);
    let mut node = Node::from(&origin.run("CREATE TABLE t(v)"));
    node.append(&origin.run("INSERT INTO t VALUES(1)")).unwrap();
    let before = marks(&node);
    node.database.offer_read_mark(|_| false).unwrap();
    assert_eq!(marks(&node), before);
    node.database.offer_read_mark(|mark| mark == 3).unwrap();
    let end = node.database.wal_tip().unwrap().unwrap().frame;
    assert_eq!(marks(&node)[3], end);
    // Named already, by a mark or by the file that has all frames: nothing to do.
    let named = marks(&node);
    node.database.offer_read_mark(|_| true).unwrap();
    assert_eq!(marks(&node), named);
    let done = node.database.checkpoint(CheckpointMode::Passive).unwrap();
    assert_eq!(done.frames, done.backfilled);
    let backfilled = marks(&node);
    node.database.offer_read_mark(|_| true).unwrap();
    assert_eq!(marks(&node), backfilled);
}
