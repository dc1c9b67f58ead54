//! Starts after a stop that nobody announced: copies of the folder, as SIGKILL leaves it.

use proptest::prelude::*;

use super::*;

/// What a crash of the process leaves: every file as it is.
fn copy(node: &Node) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let to = dir.path().join("dbs/1");
    fs::create_dir_all(&to).unwrap();
    for file in fs::read_dir(node.database.folder()).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), to.join(file.file_name())).unwrap();
    }
    for link in ["database-wal", "database-shm"] {
        fs::remove_file(to.join(link)).unwrap();
    }
    dir
}

fn open(dir: &Path) -> (Store, Recovered) {
    Store::open(dir, SystemTime::UNIX_EPOCH + Duration::from_secs(1000)).unwrap()
}

/// Opens a copy and replays the log, of which entry `i + 1` is `log[i]`.
fn restart(dir: tempfile::TempDir, log: &[Transaction]) -> Node {
    let (store, mut recovered) = open(dir.path());
    assert!(recovered.set_aside.is_empty());
    let database = recovered.databases.pop().unwrap_or_else(|| store.create_slot(&name()).unwrap());
    let durable = database.record().applied.index;
    for (index, transaction) in (1..).zip(log).skip(durable as usize) {
        database.apply_in_place(&transaction.ltx[..], entry(index)).unwrap();
    }
    assert_eq!(database.finish_recovery().unwrap(), log.last().unwrap().position);
    // Rule 9: nothing local outlives a start.
    assert_eq!(database.sizes().unwrap().wal, 0);
    assert!(!database.folder().join("journal").exists());
    let node = Node::with(dir, store, database);
    node.check_file(&log.last().unwrap().image);
    node
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Insert(u16),
    Delete(u16),
    Vacuum,
    Checkpoint,
    Durable,
    HoldReader,
    DropReader,
    Crash,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (1_u16..6000).prop_map(Step::Insert),
        3 => (0_u16..100).prop_map(Step::Delete),
        1 => Just(Step::Vacuum),
        3 => Just(Step::Checkpoint),
        3 => Just(Step::Durable),
        1 => Just(Step::HoldReader),
        1 => Just(Step::DropReader),
        2 => Just(Step::Crash),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 40, ..ProptestConfig::with_cases(10) })]

    /// no-lost-ack, Rules 9 to 13: whatever was checkpointed and whenever the process dies, the
    /// record, the file and the log after it give exactly the database.
    #[test]
    fn a_crash_loses_nothing(steps in prop::collection::vec(step(), 1..40), wal in any::<bool>()) {
        let mut origin = Origin::new(1024, wal);
        let mut log = vec![origin.run("CREATE TABLE t(id INTEGER PRIMARY KEY, v)")];
        let mut node = Node::from(&log[0]);
        let mut reader: Option<Client> = None;
        for step in steps {
            let sql = match step {
                Step::Insert(len) => format!("INSERT INTO t(v) VALUES(randomblob({len}))"),
                Step::Delete(part) => format!("DELETE FROM t WHERE id % 100 >= {part}"),
                Step::Vacuum => "VACUUM".to_owned(),
                Step::Checkpoint => {
                    node.database.checkpoint(CheckpointMode::Passive).unwrap();
                    continue;
                }
                Step::Durable => {
                    node.database.make_durable(node.database.applied(), 1 << 30).unwrap();
                    prop_assert_eq!(node.database.record().position, node.database.position());
                    continue;
                }
                Step::HoldReader if wal => {
                    let mut client = node.client();
                    client.run("BEGIN");
                    client.run("SELECT count(*) FROM t");
                    reader = Some(client);
                    continue;
                }
                Step::HoldReader | Step::DropReader => {
                    reader = None;
                    continue;
                }
                Step::Crash => {
                    let copied = copy(&node);
                    fs::write(copied.path().join("dbs/1/journal"), b"a hot one").unwrap();
                    drop(reader.take());
                    node = restart(copied, &log);
                    continue;
                }
            };
            let Some(transaction) = origin.try_run(&sql) else { continue };
            if wal { node.append(&transaction) } else { node.in_place(&transaction) }.unwrap();
            log.push(transaction);
        }
        restart(copy(&node), &log);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 40, ..ProptestConfig::with_cases(12) })]

    /// Rule 11 while the log is replayed: a database becomes durable between two entries, the process dies
    /// some entries later, and the log from the record on gives exactly the database.
    #[test]
    fn a_replay_becomes_durable(
        sizes in prop::collection::vec(0_u16..6000, 3..30),
        durable in any::<prop::sample::Index>(),
        died in any::<prop::sample::Index>(),
        wal in any::<bool>(),
    ) {
        let mut origin = Origin::new(1024, wal);
        let mut log = vec![origin.run("CREATE TABLE t(id INTEGER PRIMARY KEY, v)")];
        for size in &sizes {
            let sql = match size % 10 {
                0 => "DELETE FROM t WHERE id % 2".to_owned(),
                1 => "VACUUM".to_owned(),
                _ => format!("INSERT INTO t(v) VALUES(randomblob({size}))"),
            };
            log.extend(origin.try_run(&sql));
        }
        let mut node = Node::from(&log[0]);
        node.database.make_durable(entry(1), 1 << 30).unwrap();
        for transaction in log.iter().skip(1) {
            if wal { node.append(transaction) } else { node.in_place(transaction) }.unwrap();
        }
        let (durable, died) = (durable.index(log.len()), died.index(log.len()));
        let copied = copy(&node);
        let (store, mut recovered) = open(copied.path());
        let database = recovered.databases.pop().unwrap();
        for (index, transaction) in (1..).zip(&log).skip(1).take(durable.max(died)) {
            database.apply_in_place(&transaction.ltx[..], entry(index)).unwrap();
            if index as usize == durable + 1 {
                database.make_durable(entry(index), 1 << 30).unwrap();
                prop_assert_eq!(database.record().applied, entry(index));
            }
        }
        let replayed = Node::with(copied, store, database);
        restart(copy(&replayed), &log);
    }
}

/// Rule 10 while the log is replayed: the mark first, then the pages.
#[test]
fn the_mark_is_durable_before_an_entry_is_replayed() {
    let mut origin = Origin::new(4096, true);
    let node = Node::from(&origin.run("CREATE TABLE t(v)"));
    node.database.make_durable(entry(1), 1 << 30).unwrap();
    let next = origin.run("INSERT INTO t VALUES(randomblob(30000))");
    let copied = copy(&node);
    let (_store, recovered) = open(copied.path());
    let database = &recovered.databases[0];
    let before = fs::read(database.folder().join("database")).unwrap();
    database.use_mark(Arc::new(FailingMark));
    let refused = database.apply_in_place(&next.ltx[..], entry(2));
    assert!(matches!(refused, Err(StoreError::Io { .. })));
    assert_eq!(fs::read(database.folder().join("database")).unwrap(), before);
}

/// Checkpoints pinned by a reader: the pages go into a file of their own, up to a cap.
#[test]
fn a_pinned_wal_becomes_durable_beside_the_file() {
    let mut origin = Origin::new(4096, true);
    let mut log = vec![origin.run("CREATE TABLE t(id INTEGER PRIMARY KEY, v)")];
    let mut node = Node::from(&log[0]);
    let mut reader = node.client();
    reader.run("BEGIN");
    reader.run("SELECT * FROM t");
    for _ in 0..5 {
        log.push(origin.run("INSERT INTO t(v) VALUES(randomblob(10000))"));
        node.append(log.last().unwrap()).unwrap();
    }
    let last = node.database.applied();
    let refused = node.database.make_durable(last, 4096);
    assert!(matches!(refused, Err(StoreError::Busy { .. })));
    assert_eq!(node.database.record().applied, EntryId::default());
    node.database.make_durable(last, 1 << 20).unwrap();
    let record = node.database.record();
    assert_eq!((record.applied, record.pinned), (last, Some(last.index)));
    let pinned = node.database.folder().join(format!("pinned-{}.ltx", last.index));
    assert!(pinned.exists());

    // The log is purged up to there: a restart has the file, and what was pinned.
    let crashed = restart(copy(&node), &log);
    assert_eq!(crashed.client().run("SELECT count(*) FROM t"), "5");

    reader.run("COMMIT");
    log.push(origin.run("INSERT INTO t(v) VALUES(1)"));
    node.append(log.last().unwrap()).unwrap();
    node.database.make_durable(node.database.applied(), 0).unwrap();
    assert_eq!(node.database.record().pinned, None);
    assert!(!pinned.exists());
    restart(copy(&node), &log);
}

/// Rule 13, nothing-discarded: a file that is not what its position says is set aside, whole, and
/// a second one does not take its place.
#[test]
fn a_damaged_file_is_found_and_set_aside() {
    let mut origin = Origin::new(4096, true);
    let log = [origin.run("CREATE TABLE t(v)"), origin.run("INSERT INTO t VALUES('kept')")];
    let mut node = Node::from(&log[0]);
    node.append(&log[1]).unwrap();
    node.database.make_durable(entry(9), 0).unwrap();
    let dir = copy(&node);
    let path = dir.path().join("dbs/1/database");
    let mut bytes = fs::read(&path).unwrap();
    let end = bytes.len() - 1000;
    bytes[4096 + 200] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let (store, recovered) = open(dir.path());
    let database = &recovered.databases[0];
    assert_eq!(database.incarnation(), Some(crate::core::Incarnation(1)));
    assert!(matches!(database.finish_recovery(), Err(StoreError::Diverged { .. })));
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(77);
    let aside = store.set_aside(database, now, "damaged").unwrap();
    assert!(aside.folder.ends_with("aside/app.db-1-77"));
    assert_eq!(aside.record, Some(node.database.record()));
    assert!(aside.bytes > end as u64);
    assert!(store.databases().is_empty());
    assert_eq!(fs::read(aside.folder.join("database")).unwrap(), bytes);

    let again = store.create_slot(&name()).unwrap();
    again.apply_in_place(&log[0].ltx[..], entry(1)).unwrap();
    again.make_durable(entry(1), 0).unwrap();
    let second = store.set_aside(&again, now, "again").unwrap();
    assert!(second.folder.ends_with("aside/app.db-1-77-2"));
    assert_eq!(store.asides().unwrap(), [aside, second]);
    assert!(again.slot() > database.slot());
}

/// What was appended and not backfilled goes along, and stock SQLite reads it there.
#[test]
fn what_is_set_aside_opens_with_its_wal() {
    let mut origin = Origin::new(4096, true);
    let mut node = Node::from(&origin.run("CREATE TABLE t(v)"));
    node.append(&origin.run("INSERT INTO t VALUES('kept')")).unwrap();
    fs::remove_file(node.database.folder().join("database-wal")).unwrap();
    fs::remove_file(node.database.folder().join("database-shm")).unwrap();
    let aside = node.store.set_aside(&node.database, SystemTime::UNIX_EPOCH, "").unwrap();
    let mut client = Client::open(&aside.folder.join("database"));
    assert_eq!(client.run("SELECT v FROM t"), "kept");
}

/// A record that cannot be read costs nobody else their start.
#[test]
fn a_damaged_record_sets_one_database_aside() {
    let dir = tempfile::tempdir().unwrap();
    let mut origin = Origin::new(4096, false);
    let first = origin.run("CREATE TABLE t(v)");
    let (store, _) = open(dir.path());
    let kept: Vec<_> = ["a", "b", "never"]
        .map(|name| store.create_slot(&DatabaseName::new(name).unwrap()).unwrap())
        .into_iter()
        .collect();
    for database in &kept[..2] {
        database.apply_in_place(&first.ltx[..], entry(5)).unwrap();
        database.make_durable(entry(5), 0).unwrap();
    }
    let path = kept[0].folder().join("record");
    let mut bytes = fs::read(&path).unwrap();
    bytes[20] ^= 1;
    fs::write(&path, bytes).unwrap();
    let shm = kept[1].folder().join("shm-1");
    assert!(shm.exists());
    drop((store, kept));
    let (store, recovered) = open(dir.path());
    assert_eq!(recovered.databases.len(), 1);
    assert_eq!(recovered.databases[0].name().as_str(), "b");
    recovered.databases[0].finish_recovery().unwrap();
    // Rule 3: a new file at each start.
    assert!(!shm.exists());
    assert!(shm.with_file_name("shm-2").exists());
    assert_eq!(recovered.set_aside.len(), 1);
    assert!(matches!(recovered.set_aside[0].1, StoreError::Record { .. }));
    assert_eq!(fs::read_dir(dir.path().join("dbs")).unwrap().count(), 1);
    // Slots are not used again while anything of theirs may be known.
    assert!(store.create_slot(&name()).unwrap().slot() > recovered.databases[0].slot());
}

#[test]
fn a_deleted_database_is_gone() {
    let mut origin = Origin::new(4096, true);
    let node = Node::from(&origin.run("CREATE TABLE t(v)"));
    node.database.make_durable(entry(1), 0).unwrap();
    // A deletion that a crash cut short.
    let half = node.dir.path().join("dbs/deleted-77");
    fs::create_dir(&half).unwrap();
    node.store.delete(&node.database).unwrap();
    assert!(node.store.databases().is_empty());
    let (_, recovered) = open(node.dir.path());
    assert!(recovered.databases.is_empty() && !half.exists());
}

/// nothing-discarded: the process ends within a snapshot, for which a database had given way. What was set
/// aside because it was damaged stays there.
#[test]
fn a_database_that_gave_way_is_taken_back() {
    let mut origin = Origin::new(4096, true);
    let node = Node::from(&origin.run("CREATE TABLE t(v)"));
    node.database.make_durable(entry(1), 0).unwrap();
    let (position, life) = (node.database.position(), node.database.incarnation().unwrap());
    let at = SystemTime::UNIX_EPOCH;
    node.store.give_way(&node.database, at, "").unwrap();
    let dir = node.dir;

    let (store, recovered) = open(dir.path());
    assert!(recovered.databases.is_empty() && recovered.set_aside.is_empty());
    let other = crate::core::Incarnation(life.0 + 1);
    assert!(store.take_back(&name(), other).unwrap().is_none());
    let back = store.take_back(&name(), life).unwrap().unwrap();
    assert_eq!(back.finish_recovery().unwrap(), position);
    assert!(store.asides().unwrap().is_empty());
    assert!(store.take_back(&name(), life).unwrap().is_none());

    store.set_aside(&back, at, "").unwrap();
    assert!(store.take_back(&name(), life).unwrap().is_none());
    assert_eq!(store.asides().unwrap().len(), 1);
}
