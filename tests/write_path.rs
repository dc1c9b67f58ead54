//! The write path from a stock SQLite client to the files of other nodes, over a log in memory.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::sync::Arc;
use std::time::{Duration, Instant};

use common::{Client, Cluster, Newcomer, eventually, no_mounts, sqlite};
use litefs_py::cluster::State;
use litefs_py::commit::door::Databases;
use litefs_py::commit::{Database, Settings};
use litefs_py::core::DatabaseName;
use litefs_py::core::ports::{ByteRange, DaemonLocks, LockFile, LockKind};
use litefs_py::raft::{Content, IncomingDatabase, Replica};
use litefs_py::sqlite::locks;

/// Runs a test that needs mounts within a runtime of its own.
fn with_cluster(nodes: u64, settings: Settings, test: impl FnOnce(&Cluster)) {
    if let Some(reason) = no_mounts() {
        eprintln!("SKIPPED write_path: {reason}");
        return;
    }
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let _inside = runtime.enter();
    let cluster = Cluster::start(nodes, settings);
    test(&cluster);
}

#[test]
fn one_node_commits() {
    with_cluster(1, Settings::default(), |cluster| {
        let path = cluster.path(1, "app.db");
        assert_eq!(sqlite(&path, "create table t(a); insert into t values(1)"), Ok(String::new()));
        assert_eq!(sqlite(&path, "select * from t"), Ok("1".into()));
        eventually("the database is in WAL mode", || {
            sqlite(&path, "pragma journal_mode") == Ok("wal".into())
        });
        for value in 2..50 {
            let sql = format!("insert into t values({value}); select count(*) from t");
            assert_eq!(sqlite(&path, &sql), Ok(value.to_string()));
        }
        assert_eq!(sqlite(&path, "pragma integrity_check"), Ok("ok".into()));
    });
}

#[test]
fn every_node_writes() {
    with_cluster(3, Settings::default(), |cluster| {
        let path = |node| cluster.path(node, "app.db");
        assert_eq!(sqlite(&path(1), "create table t(a, node)"), Ok(String::new()));
        eventually("it is everywhere", || {
            (1..=3).all(|node| sqlite(&path(node), "select count(*) from t") == Ok("0".into()))
        });
        for round in 0..20 {
            for node in 1..=3 {
                let sql = format!("insert into t values({round}, {node})");
                assert_eq!(sqlite(&path(node), &sql), Ok(String::new()), "round {round}");
            }
        }
        eventually("all see all", || {
            (1..=3).all(|node| sqlite(&path(node), "select count(*) from t") == Ok("60".into()))
        });
        let position = cluster.database(1, "app.db").store().position();
        for node in 1..=3 {
            assert_eq!(sqlite(&path(node), "pragma integrity_check"), Ok("ok".into()));
            assert_eq!(cluster.database(node, "app.db").store().position(), position);
        }
    });
}

/// invisible-until-committed, Rule 6: a COMMIT waits while the log takes nothing, and nobody reads its
/// transaction. That a leader did not take it is no verdict.
#[test]
fn a_commit_waits_for_the_log() {
    with_cluster(1, Settings::default(), |cluster| {
        let path = cluster.path(1, "app.db");
        assert_eq!(sqlite(&path, "create table t(a)"), Ok(String::new()));
        eventually("it is in WAL mode", || {
            sqlite(&path, "pragma journal_mode") == Ok("wal".into())
        });
        // Open before: the kernel lets root open no WAL that a write is withheld of.
        let mut reader = Client::open(&path);
        assert_eq!(reader.run("select count(*) from t"), "0");
        cluster.stop_log(true);
        let before = cluster.refused();
        let writer = {
            let path = path.clone();
            std::thread::spawn(move || sqlite(&path, "insert into t values(1)"))
        };
        eventually("it is proposed again and again", || cluster.refused() > before + 2);
        assert_eq!(reader.run("select count(*) from t"), "0");
        assert!(!writer.is_finished());
        cluster.stop_log(false);
        assert_eq!(writer.join().unwrap(), Ok(String::new()));
        assert_eq!(reader.run("select count(*) from t"), "1");
    });
}

/// Rules 1 and 18: what another node commits waits for the application that holds the write lock here
/// and has lost the cluster's. Nothing of that application's gets into the log any more, and a barrier
/// says that the entry is not to be seen yet.
#[test]
fn nothing_is_applied_beneath_a_holder() {
    with_cluster(2, Settings::default(), |cluster| {
        let path = |node| cluster.path(node, "app.db");
        let shows = |node, what: &str| {
            sqlite(&path(node), "select a from t; pragma journal_mode")
                == Ok(format!("{what}\nwal"))
        };
        let created = sqlite(&path(1), "create table t(a); insert into t values(0)");
        assert_eq!(created, Ok(String::new()));
        eventually("it is in WAL mode on both", || shows(1, "0") && shows(2, "0"));
        let mut app = Client::open(&path(2));
        assert_eq!(app.run("begin immediate"), "");
        assert_eq!(app.run("update t set a = a + 1"), "");
        // Cut off, it cannot say what it holds to the leader of another term.
        cluster.cut(2);
        cluster.lead(1);
        assert_eq!(sqlite(&path(1), "update t set a = a + 10"), Ok(String::new()));
        let entries = cluster.entries();
        cluster.heal();
        let barrier = |limit| {
            let barrier = cluster.nodes[1].databases.barrier(Duration::from_millis(limit));
            tokio::runtime::Handle::current().block_on(barrier)
        };
        let too_early = barrier(300).unwrap_err();
        assert!(too_early.contains("does not show"), "{too_early}");
        let lag = cluster.nodes[1].databases.lag_ms();
        assert!(lag >= 300, "what readers do not see yet counts as lag: {lag}");
        assert!(shows(2, "0"));
        assert!(app.run("commit").starts_with("error"));
        assert_eq!(cluster.entries(), entries, "not even proposed");
        barrier(10_000).unwrap();
        assert!(shows(2, "10"));
        assert_eq!(cluster.nodes[1].databases.lag_ms(), 0);
        assert_eq!(app.run("update t set a = a + 1"), "");
        eventually("both have it", || shows(1, "11") && shows(2, "11"));
    });
}

/// One who has asked for long comes before one who writes without a rest: SQLite's own locks know no turns.
#[test]
fn who_waits_long_for_the_lock_comes_first() {
    with_cluster(1, Settings::default(), |cluster| {
        let path = cluster.path(1, "app.db");
        assert_eq!(sqlite(&path, "create table t(a)"), Ok(String::new()));
        eventually("it is in WAL mode", || {
            sqlite(&path, "pragma journal_mode") == Ok("wal".into())
        });
        let mut restless = Client::open(&path);
        restless.run("pragma busy_timeout = 0");
        // A machine that stands still for a moment lets the other one's next question come too late.
        let gives_way = (0..5).any(|_| {
            assert_eq!(restless.run("begin immediate"), "");
            let began = Instant::now();
            let patient = {
                let path = path.clone();
                std::thread::spawn(move || {
                    sqlite(&path, "begin immediate; insert into t values(1); commit")
                })
            };
            eventually("it has asked for long", || began.elapsed() > Duration::from_millis(800));
            assert_eq!(restless.run("commit"), "");
            let refused = restless.run("begin immediate").starts_with("error");
            if !refused {
                assert_eq!(restless.run("commit"), "");
            }
            assert_eq!(patient.join().unwrap(), Ok(String::new()));
            refused
        });
        assert!(gives_way);
    });
}

/// So does one who has waited for a lock that another node had: its request is answered "busy" meanwhile, and
/// does not begin anew each time.
#[test]
fn who_waits_long_for_another_nodes_lock_comes_first() {
    const ROUNDS: usize = 6;
    with_cluster(2, Settings::default(), |cluster| {
        let path = |node| cluster.path(node, "app.db");
        assert_eq!(sqlite(&path(1), "create table t(a)"), Ok(String::new()));
        eventually("it is in WAL mode on both", || {
            (1..=2).all(|node| sqlite(&path(node), "pragma journal_mode") == Ok("wal".into()))
        });
        let (mut holder, mut restless) = (Client::open(&path(1)), Client::open(&path(2)));
        restless.run("pragma busy_timeout = 0");
        let first = (1..=ROUNDS).filter(|round| {
            assert_eq!(holder.run("begin immediate"), "");
            let began = Instant::now();
            let patient = {
                let path = path(2);
                std::thread::spawn(move || sqlite(&path, "insert into t values(1)"))
            };
            // By then SQLite pauses for 100 ms between two questions, each of which takes 50: this is in a pause.
            eventually("it has asked for long", || began.elapsed() > Duration::from_millis(850));
            assert_eq!(holder.run("commit"), "");
            // Without a pause: otherwise the patient one may come first by chance.
            while !restless.run("begin immediate").is_empty() {
                assert!(began.elapsed() < Duration::from_secs(20), "it never gets the lock");
            }
            let came_first = restless.run("select count(*) from t") == round.to_string();
            assert_eq!(restless.run("commit"), "");
            assert_eq!(patient.join().unwrap(), Ok(String::new()));
            came_first
        });
        // A machine that stands still for a moment lets its next question come too late.
        assert!(first.count() >= ROUNDS - 1);
    });
}

/// Rule 5: a large transaction whose file is long on its way is not forgotten over the many small ones
/// that its node commits meanwhile.
#[test]
fn a_large_transaction_is_not_forgotten_over_many_small_ones() {
    let settings = Settings { staged_above: 100_000, ..Settings::default() };
    with_cluster(2, settings, |cluster| {
        let (large, small) = (cluster.path(2, "large.db"), cluster.path(2, "small.db"));
        assert_eq!(sqlite(&large, "create table t(a)"), Ok(String::new()));
        assert_eq!(sqlite(&small, "create table t(a)"), Ok(String::new()));
        eventually("both are in WAL mode", || {
            [&large, &small]
                .iter()
                .all(|path| sqlite(path, "pragma journal_mode") == Ok("wal".into()))
        });
        cluster.hold_staging(true);
        let writer =
            std::thread::spawn(move || sqlite(&large, "insert into t values(randomblob(500000))"));
        eventually("its file is on its way", || cluster.staging() == 1);
        let many = litefs_py::cluster::KEPT_VERDICTS + 50;
        let inserts = "insert into t values(1);".repeat(many);
        assert_eq!(sqlite(&small, &inserts), Ok(String::new()));
        cluster.hold_staging(false);
        assert_eq!(writer.join().unwrap(), Ok(String::new()));
        eventually("both nodes have it", || {
            (1..=2).all(|node| {
                sqlite(&cluster.path(node, "large.db"), "select count(*) from t") == Ok("1".into())
            })
        });
    });
}

const RESERVED: ByteRange = ByteRange { start: locks::RESERVED, end: locks::RESERVED };

/// A node that has got half of a log of so many rows: itself, its database, the half and the whole in entries.
fn halfway(cluster: &Cluster, rows: usize) -> (Newcomer, Arc<Database>, usize, usize) {
    let path = cluster.path(1, "app.db");
    assert_eq!(sqlite(&path, "create table t(a)"), Ok(String::new()));
    let writes = "insert into t values(randomblob(2000));".repeat(rows);
    assert_eq!(sqlite(&path, &writes), Ok(String::new()));
    let (half, all) = (cluster.entries() / 2, cluster.entries());
    let mut newcomer = cluster.newcomer(Settings::default());
    newcomer.more(half);
    let database = newcomer.databases.find(&DatabaseName::new("app.db").unwrap()).unwrap();
    (newcomer, database, half, all)
}

/// What the log held is replayed, and applications come; what comes meanwhile waits for that, and not they for a
/// pause of the others, which there may be none of.
#[test]
fn applications_may_come_while_more_does() {
    with_cluster(1, Settings::default(), |cluster| {
        let (mut newcomer, database, half, all) = halfway(cluster, 500);
        let mut serves = database.begin_to_serve().unwrap();
        newcomer.more(all);
        while !serves {
            serves = database.begin_to_serve().unwrap();
        }
        assert!(database.shows(half as u64) && !database.shows(all as u64));
        assert!(!newcomer.databases.delay().is_zero(), "something waits to be shown");
        newcomer.databases.begin_to_serve().unwrap();
        assert!(!database.shows(all as u64), "it waited for the rest");
        eventually("the rest is applied, too", || database.shows(all as u64));
        assert!(newcomer.databases.delay().is_zero());
        assert_eq!(database.store().head(), cluster.database(1, "app.db").store().head());
    });
}

/// A node that stops in the middle of its log keeps what is applied, and leaves its files alone from then on.
#[test]
fn a_stop_keeps_what_is_applied() {
    with_cluster(1, Settings::default(), |cluster| {
        let (mut newcomer, database, half, all) = halfway(cluster, 300);
        eventually("half of it is applied", || database.begin_to_serve().unwrap());
        newcomer.more(all);
        newcomer.databases.keep_what_is_applied(Duration::ZERO).unwrap();
        let kept = database.store().record().applied.index;
        assert!((half as u64..all as u64).contains(&kept), "{kept} of {all}");
        newcomer.databases.begin_to_serve().unwrap();
        let more = newcomer.databases.until_all_show(all as u64);
        let more = async { tokio::time::timeout(Duration::from_millis(300), more).await };
        assert!(tokio::runtime::Handle::current().block_on(more).is_err(), "more is applied");
        assert_eq!(database.store().record().applied.index, kept);
    });
}

/// Begins to install a snapshot of the first node's databases on the second, where something is in the way.
fn install(cluster: &Cluster, state: State) -> std::thread::JoinHandle<()> {
    let snapshot = cluster.nodes[0].databases.databases_for_snapshot(&state).unwrap();
    let node = cluster.nodes[1].databases.clone();
    let installs = std::thread::spawn(move || {
        let mut incoming = snapshot.into_iter().map(|database| {
            let (name, incarnation) = (database.name, database.incarnation);
            let (index, content) = (database.index, Content::Ltx(database.reader));
            Ok(IncomingDatabase { name, incarnation, index, content })
        });
        node.install_snapshot(&state, &mut incoming).unwrap();
    });
    std::thread::sleep(Duration::from_millis(50));
    assert!(!installs.is_finished());
    installs
}

/// nothing-discarded: what was queued of an earlier life of the name begins it while a snapshot waits. It
/// gives way, and the snapshot is not put on top of it.
#[test]
fn a_snapshot_is_not_installed_upon_another_life() {
    let settings = Settings { turn_to_wal: false, ..Settings::default() };
    let tried = |cluster: &Cluster| {
        let theirs = cluster.path(1, "app.db");
        Databases::create(&*cluster.nodes[1].databases, &DatabaseName::new("app.db").unwrap())
            .unwrap();
        let begun = cluster.database(2, "app.db");
        let hold = |kind| begun.lock(77, LockFile::Database, RESERVED, kind);
        assert!(hold(LockKind::Exclusive));
        assert_eq!(sqlite(&theirs, "create table old(a)"), Ok(String::new()));
        cluster.cut(2);
        std::fs::remove_file(&theirs).unwrap();
        assert_eq!(sqlite(&theirs, "create table t(a)"), Ok(String::new()));
        let installs = install(cluster, cluster.state(1));
        hold(LockKind::Unlock);
        installs.join().unwrap();
        let (here, there) = (cluster.database(2, "app.db"), cluster.database(1, "app.db"));
        assert_eq!(here.store().position(), there.store().position());
        assert_eq!(here.incarnation(), there.incarnation());
        let counters = &cluster.nodes[1].databases.shared().counters;
        counters.set_aside.load(std::sync::atomic::Ordering::Relaxed)
    };
    let mut aside = 0;
    // Now and then the snapshot looks first: then nothing of the earlier life comes into the files.
    for _ in 0..3 {
        with_cluster(2, settings, |cluster| aside += tried(cluster));
        if aside > 0 || no_mounts().is_some() {
            return;
        }
    }
    panic!("the earlier life was not set aside");
}

/// one-history: a snapshot waits for an application that has begun a database of that name, and then
/// removes it. What comes is in the database that is there afterwards, not in the removed one's files.
#[test]
fn a_snapshot_is_not_installed_into_files_that_are_gone() {
    with_cluster(2, Settings::default(), |cluster| {
        let name = DatabaseName::new("app.db").unwrap();
        let theirs = cluster.path(1, "app.db");
        cluster.cut(2);
        assert_eq!(sqlite(&theirs, "create table t(a)"), Ok(String::new()));
        eventually("it is in WAL mode", || {
            sqlite(&theirs, "pragma journal_mode") == Ok("wal".into())
        });
        let state: State = cluster.state(1);

        let node = &cluster.nodes[1].databases;
        Databases::create(&**node, &name).unwrap();
        let begun = cluster.database(2, "app.db");
        let hold = |kind| begun.lock(77, LockFile::Database, RESERVED, kind);
        assert!(hold(LockKind::Exclusive));
        let installs = install(cluster, state);
        let (told, removed) = std::sync::mpsc::channel();
        Databases::unlink(&**node, &name, Box::new(move |done| told.send(done).unwrap()));
        assert!(removed.recv().unwrap().is_ok());
        hold(LockKind::Unlock);
        installs.join().unwrap();
        let position = cluster.database(1, "app.db").store().position();
        assert_eq!(cluster.database(2, "app.db").store().position(), position);
    });
}
