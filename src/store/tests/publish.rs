//! Rule 2 and Rule 3: writers that died.

use super::*;
use crate::sqlite::wal_index::REGION_SIZE;
use crate::sqlite::{IndexMemory, WalTip};

/// The words of the first region, to put a wal-index back to what it was.
fn words(node: &Node) -> Vec<u32> {
    let view = node.database.view().unwrap();
    (0..REGION_SIZE / 4).map(|word| view.load(0, word)).collect()
}

fn put_back(node: &Node, words: &[u32], range: std::ops::Range<usize>) {
    let view = node.database.view().unwrap();
    range.for_each(|word| view.store(0, word, words[word]));
}

/// A stock writer commits; what the write path adopts of it.
fn commit(node: &mut Node, sql: &str) -> (WalTip, Position) {
    let mut client = node.client();
    assert_eq!(client.run(sql), "");
    let tip = node.database.wal_tip().unwrap().unwrap();
    let view = node.database.view().unwrap();
    let page_size = tip.page_size;
    let frames = Some((view, 1, tip.frame));
    let source = super::super::snapshot::Source { page_size, frames };
    let mut changes = Changes::new(page_size, tip.pages);
    for pgno in 1..=tip.pages {
        let mut page = Vec::new();
        node.database.read_page(&source, pgno, &mut page).unwrap();
        changes.page(pgno, &page).unwrap();
    }
    let preview = node.database.preview(&changes);
    node.index += 1;
    node.database.adopt(&preview, entry(node.index), tip).unwrap();
    (tip, preview.position)
}

fn node() -> (Node, Origin) {
    let mut origin = Origin::new(4096, true);
    let mut node = Node::from(&origin.run("CREATE TABLE t(v)"));
    node.append(&origin.run("INSERT INTO t VALUES(1)")).unwrap();
    (node, origin)
}

/// Killed after its commit frame, before the wal-index.
#[test]
fn a_killed_writers_commit_is_published() {
    let (mut node, _) = node();
    let mut reader = node.client();
    for round in 2..50 {
        let before = words(&node);
        let (tip, position) = commit(&mut node, &format!("INSERT INTO t VALUES({round})"));
        // All of the index is as it was; or only its header, the entries being there.
        let range = if round % 2 == 0 { 0..before.len() } else { 0..24 };
        put_back(&node, &before, range);
        assert_ne!(node.database.wal_tip().unwrap(), Some(tip));
        assert_ne!(node.database.position(), position);
        assert_eq!(node.database.head(), position);
        assert_eq!(reader.run("SELECT max(v) FROM t"), (round - 1).to_string());
        node.database.publish_if_needed().unwrap();
        assert_eq!(node.database.wal_tip().unwrap(), Some(tip));
        assert_eq!(node.database.position(), position);
        assert_eq!(reader.run("SELECT max(v) FROM t"), round.to_string());
        assert_eq!(reader.run("PRAGMA integrity_check"), "ok");
    }
    node.database.checkpoint(CheckpointMode::Passive).unwrap();
    node.check_table();
}

/// The same with the first commit of a WAL that its writer began anew.
#[test]
fn a_killed_writer_had_begun_the_wal_anew() {
    let (mut node, _) = node();
    for value in 2..6 {
        assert!(!node.database.checkpoint(CheckpointMode::Truncate).unwrap().busy);
        let before = words(&node);
        let (tip, _) = commit(&mut node, &format!("INSERT INTO t VALUES({value})"));
        assert!(tip.frame <= 2);
        put_back(&node, &before, 0..before.len());
        node.database.publish_if_needed().unwrap();
        assert_eq!(node.database.wal_tip().unwrap(), Some(tip));
        assert_eq!(node.client().run("SELECT max(v) FROM t"), value.to_string());
    }
}

/// Killed between the two copies of the header.
#[test]
fn a_half_written_header_is_repaired() {
    let (mut node, _) = node();
    let before = words(&node);
    let (tip, position) = commit(&mut node, "INSERT INTO t VALUES(2)");
    put_back(&node, &before, 0..12);
    assert!(node.database.wal_tip().is_err());
    node.database.publish_if_needed().unwrap();
    assert_eq!(node.database.wal_tip().unwrap(), Some(tip));
    assert_eq!(node.database.position(), position);
    assert_eq!(node.client().run("SELECT count(*) FROM t"), "2");
}

/// Killed within the restart of a WAL, when the header said so and `nBackfill` did not yet.
#[test]
fn a_half_done_restart_is_finished() {
    let (mut node, mut origin) = node();
    let one = node.database.checkpoint(CheckpointMode::Passive).unwrap();
    assert_eq!(one.frames, one.backfilled);
    let full = words(&node);
    assert!(!node.database.checkpoint(CheckpointMode::Truncate).unwrap().busy);
    put_back(&node, &full, 24..25);
    node.database.publish_if_needed().unwrap();
    assert_eq!(node.database.sizes().unwrap().backfilled, 0);
    let view = node.database.view().unwrap();
    assert_eq!(view.load(0, 24), 0);
    node.append(&origin.run("INSERT INTO t VALUES(2)")).unwrap();
    assert_eq!(node.client().run("SELECT count(*) FROM t"), "2");
}

/// Nothing is appended, and no snapshot begins, over a commit that is not visible.
#[test]
fn nothing_passes_an_unpublished_commit() {
    let (mut node, mut origin) = node();
    let before = words(&node);
    commit(&mut node, "INSERT INTO t VALUES(2)");
    put_back(&node, &before, 0..before.len());
    let next = origin.run("INSERT INTO t VALUES(3)");
    let refused = node.database.append(&next.ltx[..], entry(99), true);
    assert!(matches!(refused, Err(StoreError::Unpublished { .. })));
    assert!(matches!(node.database.snapshot(1, 0), Err(StoreError::Unpublished { .. })));
    let durable = node.database.make_durable(entry(99), 0);
    assert!(matches!(durable, Err(StoreError::Unpublished { .. })));
    node.database.publish_if_needed().unwrap();
    node.database.make_durable(entry(99), 0).unwrap();
    assert_eq!(node.database.record().position, node.database.position());
}
