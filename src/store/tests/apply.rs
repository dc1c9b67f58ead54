//! Transactions of other nodes beneath stock readers.

use super::*;
use crate::sqlite::wal_index;

/// readers-go-on, one-history: 3,000 transactions are appended while two stock connections read:
/// each of their reads is of one whole transaction, and they see them in order.
#[test]
fn stock_readers_see_whole_transactions() {
    const COUNT: u64 = 3000;
    const READER: &str = "
import sqlite3, sys
c = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=20)
count, last, reads = int(sys.argv[2]), -1, 0
while last < count:
    c.execute('BEGIN')
    n, total, top = c.execute('SELECT count(*), sum(v), max(id) FROM t').fetchone()
    copies = c.execute('SELECT count(*), sum(v) FROM copy').fetchone()
    assert (n, total) == copies, (n, total, copies)
    assert top == n and n >= last, (n, top, last)
    if reads % 200 == 0:
        assert c.execute('PRAGMA integrity_check').fetchall() == [('ok',)]
    c.execute('COMMIT')
    last, reads = n, reads + 1
print(c.execute('PRAGMA integrity_check').fetchall()[0][0])
";
    let mut origin = Origin::new(512, true);
    let first = origin.run(
        "CREATE TABLE t(id INTEGER PRIMARY KEY, v); CREATE TABLE copy(id INTEGER PRIMARY KEY, v);",
    );
    let mut node = Node::from(&first);
    let readers: Vec<_> = (0..2)
        .map(|_| {
            Command::new("python3")
                .args(["-c", READER])
                .arg(node.path())
                .arg(COUNT.to_string())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap()
        })
        .collect();
    let (mut highest, mut restarts, mut before) = (0, 0, 0);
    for id in 1..=COUNT {
        let transaction = origin.run(&format!(
            "BEGIN; INSERT INTO t VALUES({id}, {id} * 7); INSERT INTO copy VALUES({id}, {id} * 7);
             COMMIT"
        ));
        node.append(&transaction).unwrap();
        assert_eq!(node.database.position(), transaction.position);
        let tip = node.database.wal_tip().unwrap().unwrap();
        restarts += u32::from(tip.frame < before);
        before = tip.frame;
        highest = highest.max(tip.frame);
        // Regions of the index end at 4062 and 8158 frames; after that, checkpoints.
        if highest > 8500 && id % 50 == 0 {
            node.database.checkpoint(CheckpointMode::Passive).unwrap();
        }
    }
    for reader in readers {
        let output = reader.wait_with_output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "ok");
    }
    assert!(highest > 8158, "{highest} frames cross no region");
    node.database.checkpoint(CheckpointMode::Truncate).unwrap();
    node.check_file(&origin.image);
    println!("{highest} frames, {restarts} restarts");
}

/// Pages of every size, from 65536 that a header writes as 1, grow, shrink and read back.
#[test]
fn page_sizes() {
    for page_size in [512, 1024, 4096, 65536] {
        let mut origin = Origin::new(page_size, true);
        let mut node = Node::from(&origin.run("CREATE TABLE t(id INTEGER PRIMARY KEY, v BLOB)"));
        let mut client = node.client();
        for step in [
            "INSERT INTO t SELECT value, randomblob(900) FROM generate_series(1, 300)",
            "DELETE FROM t WHERE id % 3 = 0",
            "VACUUM",
            "UPDATE t SET v = randomblob(500) WHERE id % 5 = 0",
            "DELETE FROM t WHERE id > 20",
            "VACUUM",
            "INSERT INTO t SELECT value, randomblob(2000) FROM generate_series(1000, 1100)",
        ] {
            // The bundled SQLite has no series.
            let step = step.replace("FROM generate_series(1, 300)", &series(1, 300));
            let step = step.replace("FROM generate_series(1000, 1100)", &series(1000, 1100));
            let transaction = origin.run(&step);
            assert_eq!(node.append(&transaction).unwrap(), transaction.position);
            let expected: (i64, i64) = origin
                .connection
                .query_row("SELECT count(*), sum(length(v)) FROM t", [], |row| {
                    Ok((row.get(0)?, row.get(1)?))
                })
                .unwrap();
            let seen = client.run("SELECT count(*), sum(length(v)) FROM t");
            assert_eq!(seen, format!("{},{}", expected.0, expected.1), "{page_size}: {step}");
            assert_eq!(client.run("PRAGMA integrity_check"), "ok");
        }
        let done = node.database.checkpoint(CheckpointMode::Passive).unwrap();
        assert_eq!((done.frames, done.busy), (done.backfilled, false));
        node.check_file(&origin.image);
    }
}

fn series(from: u32, to: u32) -> String {
    format!(
        "FROM (WITH RECURSIVE s(value) AS (SELECT {from} UNION ALL SELECT value + 1 FROM s \
         WHERE value < {to}) SELECT value FROM s)"
    )
}

/// one-history: on another base, or to another checksum, nothing is applied and nothing is seen.
#[test]
fn what_does_not_fit_is_refused() {
    let mut origin = Origin::new(4096, true);
    let mut node = Node::from(&origin.run("CREATE TABLE t(v)"));
    let mut client = node.client();
    let one = origin.run("INSERT INTO t VALUES(1)");
    let two = origin.run("INSERT INTO t VALUES(2)");
    assert!(matches!(node.append(&two), Err(StoreError::Diverged { .. })));
    node.append(&one).unwrap();
    let tip = node.database.wal_tip().unwrap();

    // A page that is not the origin's, in a file that is whole and says otherwise.
    let page = vec![9; 4096];
    let pages = (origin.image.len() / 4096) as u32;
    origin.position = one.position;
    let wrong = origin.encode(pages, &[(2, &page)], other(two.position));
    let wrong = Transaction { ltx: wrong, ..two.clone() };
    assert!(matches!(node.append(&wrong), Err(StoreError::Diverged { .. })));
    // Cut short.
    let cut = Transaction { ltx: two.ltx[..two.ltx.len() - 9].to_vec(), ..wrong };
    assert!(matches!(node.append(&cut), Err(StoreError::Ltx { .. })));
    assert_eq!(node.database.wal_tip().unwrap(), tip);
    assert_eq!(node.database.position(), one.position);
    assert_eq!(client.run("SELECT count(*) FROM t"), "1");
    node.append(&two).unwrap();
    assert_eq!(client.run("SELECT sum(v) FROM t"), "3");
}

/// Pages that a growing transaction leaves out are zeros, though older frames, and the file, hold
/// other bytes for them.
#[test]
fn pages_left_out_are_zeros() {
    let mut origin = Origin::new(512, true);
    origin.run("CREATE TABLE t(v)");
    let base = origin.image.to_vec();
    let fresh = |fill: u8, pages: usize| {
        let mut image = base.clone();
        image[100..104].fill(fill);
        image.resize(512 * pages, fill);
        image
    };
    origin.image = Arc::default();
    origin.table = ChecksumTable::default();
    origin.position = Position::EMPTY;
    let mut node = Node::from(&origin.transaction(fresh(1, 8)));
    node.append(&origin.transaction(fresh(2, 9))).unwrap();
    node.append(&origin.transaction(fresh(3, 2))).unwrap();
    let mut grown = fresh(4, 9);
    grown[512 * 2..512 * 8].fill(0);
    // The origin's file says only what is not zero.
    let pages: Vec<_> = [1, 2, 9].map(|p: u32| (p, &grown[(p as usize - 1) * 512..][..512])).into();
    let mut changes = Changes::new(512, 9);
    for (pgno, page) in &pages {
        changes.page(*pgno, page).unwrap();
    }
    let to = node.database.preview(&changes).position;
    let ltx = origin.encode(9, &pages, to);
    node.append(&Transaction { ltx, image: Arc::default(), position: to }).unwrap();
    node.database.checkpoint(CheckpointMode::Passive).unwrap();
    node.check_file(&grown);
}

/// Rule 4: a WAL that is backfilled begins anew; a stock writer then goes on where we stopped, and we
/// where it stopped.
#[test]
fn a_stock_writer_and_we_take_turns() {
    let mut origin = Origin::new(4096, true);
    let mut node = Node::from(&origin.run("CREATE TABLE t(v)"));
    let mut client = node.client();
    for round in 1..=20 {
        node.append(&origin.run(&format!("INSERT INTO t VALUES({round})"))).unwrap();
        let before = node.database.wal_tip().unwrap().unwrap();
        assert_eq!(client.run("BEGIN IMMEDIATE"), "");
        assert!(!node.lock(LockKind::Exclusive));
        assert_eq!(client.run(&format!("UPDATE t SET v = v + 1000 WHERE v = {round}")), "");
        assert_eq!(client.run("COMMIT"), "");
        let after = node.database.wal_tip().unwrap().unwrap();
        assert!(after.frame > before.frame || after.salts != before.salts);
        // Its commit as the write path would have captured it.
        let view = node.database.view().unwrap();
        let live = wal_index::read_header(&view).unwrap();
        let mut changes = Changes::new(4096, live.pages);
        let source = super::super::snapshot::Source {
            page_size: 4096,
            frames: Some((view.clone(), 1, live.max_frame)),
        };
        let mut pages = Vec::new();
        for pgno in 1..=live.pages {
            let mut page = Vec::new();
            node.database.read_page(&source, pgno, &mut page).unwrap();
            changes.page(pgno, &page).unwrap();
            pages.push(page);
        }
        let preview = node.database.preview(&changes);
        node.index += 1;
        node.database.adopt(&preview, entry(node.index), after).unwrap();
        node.database.publish_if_needed().unwrap();
        assert_eq!(node.database.position(), preview.position);
        // And the origin goes on from there.
        origin.transaction(pages.concat());
        assert_eq!(origin.position, preview.position);
        let mut plain = pages.concat();
        plain[18..20].copy_from_slice(&[1, 1]);
        fs::write(&origin.path, plain).unwrap();
        origin.reopen();
        if round % 4 == 0 {
            let mode = [CheckpointMode::Restart, CheckpointMode::Truncate][round % 8 / 4];
            assert!(!node.database.checkpoint(mode).unwrap().busy);
        }
        assert_eq!(client.run("PRAGMA integrity_check"), "ok");
        assert_eq!(client.run("SELECT count(*) FROM t"), round.to_string());
    }
}
