//! Stock SQLite on the mount.

use std::os::unix::fs::FileExt;
use std::process::Command;
use std::sync::atomic::Ordering;

use super::fixture::{Fixture, Python, until};
use crate::commit::door::FileKind;

const MODES: [&str; 4] = ["wal", "delete", "truncate", "persist"];

#[test]
fn every_journal_mode_writes_and_reads_with_and_without_passthrough() {
    for passthrough in [true, false] {
        let Some(fixture) = Fixture::start(passthrough) else { return };
        for mode in MODES {
            let name = format!("{mode}.db");
            let set = format!("PRAGMA journal_mode={mode}");
            assert_eq!(fixture.sql(&name, &set), mode);
            fixture.sql(
                &name,
                &format!("{set}; CREATE TABLE t(a); BEGIN; INSERT INTO t VALUES(1),(2); COMMIT;"),
            );
            fixture.sql(&name, &format!("{set}; BEGIN; INSERT INTO t VALUES(9); ROLLBACK;"));
            assert_eq!(fixture.sql(&name, "SELECT sum(a) FROM t"), "3");
            assert_eq!(fixture.sql(&name, "PRAGMA integrity_check"), "ok");
        }
    }
}

#[test]
fn two_processes_write_to_one_database() {
    for passthrough in [true, false] {
        let Some(fixture) = Fixture::start(passthrough) else { return };
        for mode in ["wal", "delete"] {
            let name = format!("two-{mode}.db");
            fixture.sql(&name, &format!("PRAGMA journal_mode={mode}; CREATE TABLE t(who, n);"));
            let mut writers = [Python::start(), Python::start()];
            for (who, writer) in writers.iter_mut().enumerate() {
                let connect = format!(
                    "c = sqlite3.connect('{}', timeout=20, isolation_level=None)",
                    fixture.file(&name)
                );
                assert_eq!(writer.run(&connect), "");
                writer.send(&format!(
                    "for n in range(60): c.execute('insert into t values(?,?)', ({who}, n))"
                ));
            }
            for writer in &mut writers {
                assert_eq!(writer.answer(), "");
            }
            let counted = "SELECT count(*), count(DISTINCT who), max(n) FROM t";
            assert_eq!(fixture.sql(&name, counted), "120|2|59");
            assert_eq!(fixture.sql(&name, "PRAGMA integrity_check"), "ok");
        }
    }
}

/// A reader of one process sees what another commits: the wal-index is shared, and no page of the
/// WAL is cached.
#[test]
fn a_commit_is_seen_by_open_readers_at_once() {
    for passthrough in [true, false] {
        let Some(fixture) = Fixture::start(passthrough) else { return };
        fixture
            .sql("app.db", "PRAGMA journal_mode=wal; CREATE TABLE t(n); INSERT INTO t VALUES(0)");
        let connect =
            format!("c = sqlite3.connect('{}', isolation_level=None)", fixture.file("app.db"));
        let (mut writer, mut reader) = (Python::start(), Python::start());
        writer.run(&connect);
        reader.run(&connect);
        for n in 1..=50 {
            assert_eq!(writer.run("c.execute('update t set n = n + 1') and None"), "");
            assert_eq!(
                reader.run("print(c.execute('select n from t').fetchone()[0])"),
                n.to_string()
            );
        }
    }
}

#[test]
fn rule_3_the_daemon_has_the_shm_before_any_application() {
    let Some(fixture) = Fixture::start(false) else { return };
    assert!(!fixture.mount.as_ref().unwrap().passthrough());
    fixture.sql("app.db", "PRAGMA journal_mode=wal; CREATE TABLE t(n);");
    let connect = format!(
        "c = sqlite3.connect('{}', isolation_level=None); c.execute('insert into t values(1)')",
        fixture.file("app.db")
    );
    let mut readers = [Python::start(), Python::start(), Python::start()];
    for reader in &mut readers {
        reader.send(&connect);
    }
    for reader in &mut readers {
        assert_eq!(reader.answer(), "");
    }
    let files = fixture.databases.database("app.db");
    assert!(!files.opened_too_early.load(Ordering::SeqCst));
    // What the applications map is what the daemon reads: wal.c, WalIndexHdr: iVersion.
    let shared = files.through_mount.lock().unwrap();
    let mut version = [0; 4];
    std::os::unix::fs::FileExt::read_exact_at(shared.as_ref().unwrap(), &mut version, 0).unwrap();
    assert_eq!(u32::from_ne_bytes(version), 3_007_000);
}

#[test]
fn with_passthrough_the_backing_file_is_the_live_wal_index() {
    let Some(fixture) = Fixture::start(true) else { return };
    if !fixture.mount.as_ref().unwrap().passthrough() {
        println!("SKIPPED mount: no passthrough in this kernel");
        return;
    }
    let mut writer = Python::start();
    let connect =
        format!("c = sqlite3.connect('{}', isolation_level=None)", fixture.file("app.db"));
    writer.run(&connect);
    writer.run("c.execute('pragma journal_mode=wal'); c.execute('create table t(n)')");
    let files = fixture.databases.database("app.db");
    let frames = || {
        // wal.c, WalIndexHdr: mxFrame.
        let shm = std::fs::read(files.path(FileKind::Shm)).unwrap();
        u32::from_ne_bytes(shm[16..20].try_into().unwrap())
    };
    let before = frames();
    assert_eq!(writer.run("c.execute('insert into t values(1)') and None"), "");
    assert!(frames() > before);
    assert_eq!(files.counts.reads.load(Ordering::SeqCst).min(1), 1, "the database was read");
}

/// no-lost-ack, invisible-until-committed, as far as the mount goes: COMMIT returns when the
/// write path answers, what it refuses fails, and others read on meanwhile.
#[test]
fn a_held_commit_keeps_nobody_else_waiting_and_a_refused_one_fails() {
    let Some(fixture) = Fixture::start(true) else { return };
    fixture.sql("app.db", "PRAGMA journal_mode=wal; CREATE TABLE t(n); INSERT INTO t VALUES(1)");
    let connect =
        format!("c = sqlite3.connect('{}', isolation_level=None)", fixture.file("app.db"));
    let (mut writer, mut reader) = (Python::start(), Python::start());
    writer.run(&connect);
    reader.run(&connect);
    reader.run("c.execute('select * from t').fetchall()");
    let files = fixture.databases.database("app.db");
    for granted in [false, true] {
        files.gate.closed.store(true, Ordering::SeqCst);
        writer.send("c.execute('insert into t values(2)') and None");
        until("the write is held", || !files.gate.held.lock().unwrap().is_empty());
        let count = "print(c.execute('select count(*) from t').fetchone()[0])";
        assert_eq!(reader.run(count), "1", "a reader goes on, and does not see it");
        assert_eq!(fixture.sql("other.db", "CREATE TABLE IF NOT EXISTS t(n); SELECT 7"), "7");
        files.gate.closed.store(false, Ordering::SeqCst);
        for write in files.gate.held.lock().unwrap().drain(..) {
            write(granted);
        }
        let said = writer.answer();
        assert_eq!(said.contains("disk I/O error"), !granted, "{said}");
        assert_eq!(reader.run(count), if granted { "2" } else { "1" });
    }
}

#[test]
fn backup_and_vacuum_into_the_mount() {
    let Some(fixture) = Fixture::start(true) else { return };
    let outside = tempfile::tempdir().unwrap();
    let source = outside.path().join("source.db");
    let make = "CREATE TABLE t(b); WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n \
                WHERE i < 300) INSERT INTO t SELECT randomblob(3000) FROM n;";
    assert!(Command::new("sqlite3").arg(&source).arg(make).status().unwrap().success());
    let into = |sql: String| {
        let run = Command::new("sqlite3").arg(&source).arg(sql).output().unwrap();
        assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    };
    into(format!(".backup {}", fixture.file("backup.db")));
    into(format!("VACUUM INTO '{}'", fixture.file("vacuum.db")));
    for name in ["backup.db", "vacuum.db"] {
        assert_eq!(fixture.sql(name, "SELECT count(*) FROM t; PRAGMA integrity_check"), "300\nok");
    }
    // And over one that is there: the write path decides about the truncate.
    let copied = Command::new("cp").arg(&source).arg(fixture.file("backup.db")).status().unwrap();
    assert!(copied.success());
    let files = fixture.databases.database("backup.db");
    assert_eq!(files.counts.truncates.load(Ordering::SeqCst), 1);
    assert_eq!(fixture.sql("backup.db", "PRAGMA integrity_check"), "ok");
}

/// Rule 16: nothing but an explicit invalidation drops the kernel's pages, and that does.
#[test]
fn rule_16_the_cache_of_a_database_is_dropped_when_asked_only() {
    let Some(fixture) = Fixture::start(true) else { return };
    let (len, grown) = (1 << 20, (1 << 20) + (16 << 10));
    std::fs::write(fixture.file("raw.db"), vec![b'a'; len]).unwrap();
    let files = fixture.databases.database("raw.db");
    let cache = files.cache.get().unwrap();
    let read = || std::fs::read(fixture.file("raw.db")).unwrap();
    let reads = || files.counts.reads.load(Ordering::SeqCst);
    assert_eq!(read().len(), len);
    let before = reads();
    // The time changes, and the kernel has to ask for it, as it believes nothing any more.
    let time = || std::fs::metadata(fixture.file("raw.db")).unwrap().modified().unwrap();
    let old = time();
    files.txid.fetch_add(1, Ordering::SeqCst);
    cache.invalidate(1 << 40, 1);
    assert_ne!(time(), old);
    assert_eq!(read().len(), len);
    assert_eq!(reads(), before, "read again from the cache");
    // The daemon changes the middle and grows the file.
    let mut changed = vec![b'a'; grown];
    changed[256 << 10..768 << 10].fill(b'b');
    std::fs::write(files.path(FileKind::Database), &changed).unwrap();
    cache.invalidate(256 << 10, 512 << 10);
    cache.invalidate(1 << 20, 0);
    assert_eq!(read(), changed);
    cache.invalidate(u64::MAX, 1);
    cache.invalidate(0, u64::MAX);
    assert_eq!(read(), changed);
}

/// Rule 16: who reads where a database grew gets what is there, also when something is invalidated
/// at that very moment: the kernel then throws away the size that it asked for. A short read is a
/// page of zeros to SQLite, and the database malformed.
#[test]
fn rule_16_a_database_that_grew_is_read_to_its_end_whatever_is_invalidated_meanwhile() {
    let Some(fixture) = Fixture::start(true) else { return };
    std::fs::write(fixture.file("raw.db"), vec![b'a'; 1 << 16]).unwrap();
    let reader = std::fs::File::open(fixture.file("raw.db")).unwrap();
    let files = fixture.databases.database("raw.db");
    let cache = files.cache.get().unwrap();
    let page = vec![b'b'; 4096];
    let daemon = std::fs::File::options().write(true).open(files.path(FileKind::Database)).unwrap();
    daemon.write_all_at(&page, 1 << 16).unwrap();
    cache.grown(1 << 16, &page);
    cache.invalidate(1 << 16, 4096);
    // Not from the worker that answers: another thread does it, and the worker waits for it.
    let other = std::sync::Arc::clone(cache);
    *files.while_sizing.lock().unwrap() = Some(Box::new(move || {
        std::thread::spawn(move || other.invalidate(0, 4096)).join().unwrap();
    }));
    let mut read = vec![0; 4096];
    assert_eq!(reader.read_at(&mut read, 1 << 16).unwrap(), 4096);
    assert_eq!(read, page);
}
