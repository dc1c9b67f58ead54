//! What a transaction costs in requests; how fast it is says the project's benchmark.

use std::os::unix::fs::FileExt;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::fixture::{Fixture, Python};

/// ENGINE.md, "Figures": a small WAL transaction is 8 requests, 6 locks and 2 writes; a read 2 to
/// 4 locks. Whatever the synchronous setting: syncs are answered by the kernel.
#[test]
fn a_small_wal_transaction_is_eight_requests() {
    let Some(fixture) = Fixture::start(true) else { return };
    let mut python = Python::start();
    python.run(&format!(
        "c = sqlite3.connect('{}', isolation_level=None); c.execute('pragma journal_mode=wal'); \
         c.execute('pragma synchronous=full'); c.execute('pragma wal_autocheckpoint=0'); \
         c.execute('create table t(n)'); c.execute('insert into t values(0)')",
        fixture.file("app.db")
    ));
    let files = fixture.databases.database("app.db");
    let counts = || {
        let of = &files.counts;
        [&of.locks, &of.writes, &of.reads].map(|c| c.load(Ordering::SeqCst))
    };
    let since = |before: [u64; 3]| {
        let now = counts();
        [now[0] - before[0], now[1] - before[1], now[2] - before[2]]
    };
    let before = counts();
    assert_eq!(python.run("for n in range(100): c.execute('update t set n = n + 1')"), "");
    let [locks, writes, reads] = since(before);
    assert!(locks <= 600 && writes <= 200 && reads <= 100, "{locks} {writes} {reads}");
    let before = counts();
    assert_eq!(python.run("for n in range(100): c.execute('select n from t').fetchone()"), "");
    let [locks, writes, _] = since(before);
    assert!(locks <= 400 && writes == 0, "{locks} {writes}");
}

/// `cargo test --lib mount::tests::cost -- --ignored --nocapture`
///
/// The client is another process, as it must be: one that maps a file of its own mount hangs.
#[test]
#[ignore = "a figure, not a test"]
fn speed() {
    for passthrough in [true, false] {
        let Some(fixture) = Fixture::start(passthrough) else { return };
        for synchronous in ["normal", "full"] {
            let schema = format!(
                "PRAGMA journal_mode=wal; PRAGMA synchronous={synchronous}; \
                 CREATE TABLE IF NOT EXISTS t(k INTEGER PRIMARY KEY, n); \
                 INSERT OR IGNORE INTO t VALUES(1, 0);\n"
            );
            let run = |times: usize, statement: &str| {
                let script = schema.clone() + &statement.repeat(times);
                let begun = Instant::now();
                fixture.script("app.db", &script);
                times * 1_000_000 / usize::try_from(begun.elapsed().as_micros()).unwrap()
            };
            let writes = run(20_000, "UPDATE t SET n = n + 1 WHERE k = 1;\n");
            let reads = run(50_000, "SELECT n FROM t WHERE k = 1;\n");
            println!("passthrough {passthrough}, {synchronous}: {writes} tx/s, {reads} reads/s");
        }
        if let Some(shm) = &*fixture.databases.database("app.db").through_mount.lock().unwrap() {
            let begun = Instant::now();
            for n in 0..10_000_u32 {
                shm.write_all_at(&n.to_ne_bytes(), 24 << 10).unwrap();
            }
            println!("a write to the shm through the mount: {:?}", begun.elapsed() / 10_000);
        }
    }
}
