//! POSIX locks through the mount.

use super::fixture::{Fixture, Python, until};

/// Knows `struct flock` as 64-bit Linux has it: type, whence, start, length, process.
fn with_lock_helpers(path: &str) -> Python {
    let mut python = Python::start();
    python.run(&format!("f = os.open('{path}', os.O_RDWR | os.O_CREAT)"));
    python.run(
        "pack = lambda kind, start, length: struct.pack('hhqqi4x', kind, 0, start, length, 0)",
    );
    python.run("kinds = {fcntl.F_RDLCK: 'R', fcntl.F_WRLCK: 'W', fcntl.F_UNLCK: 'U'}");
    python.run(
        "def told(b): k, w, s, l, p = struct.unpack('hhqqi4x', b); return f'{kinds[k]} {s} {l} {p}'",
    );
    python.run("get = lambda *a: print(told(fcntl.fcntl(f, fcntl.F_GETLK, pack(*a))))");
    python.run("put = lambda *a: fcntl.fcntl(f, fcntl.F_SETLK, pack(*a)) and None");
    python
}

#[test]
fn getlk_is_exact() {
    let Some(fixture) = Fixture::start(true) else { return };
    let path = fixture.file("app.db");
    let (mut one, mut two) = (with_lock_helpers(&path), with_lock_helpers(&path));
    assert_eq!(one.run("put(fcntl.F_RDLCK, 100, 10)"), "");
    assert_eq!(two.run("get(fcntl.F_WRLCK, 105, 1)"), format!("R 100 10 {}", one.id()));
    assert_eq!(two.run("get(fcntl.F_RDLCK, 105, 1)"), "U 105 1 0");
    assert_eq!(two.run("get(fcntl.F_WRLCK, 110, 1)"), "U 110 1 0", "behind its end");
    assert_eq!(one.run("get(fcntl.F_WRLCK, 105, 1)"), "U 105 1 0", "its own");
    assert_eq!(two.run("put(fcntl.F_RDLCK, 105, 1)"), "");
    assert!(one.run("put(fcntl.F_WRLCK, 100, 10)").contains("BlockingIOError"));
    assert_eq!(two.run("put(fcntl.F_UNLCK, 0, 0)"), "");
    assert_eq!(one.run("put(fcntl.F_WRLCK, 100, 0)"), "", "to the end of the file");
    assert_eq!(two.run("get(fcntl.F_RDLCK, 1 << 40, 1)"), format!("W 100 0 {}", one.id()));
}

#[test]
fn locks_end_with_a_close_by_their_owner_and_with_a_kill() {
    let Some(fixture) = Fixture::start(true) else { return };
    let path = fixture.file("app.db");
    let (mut one, mut two) = (with_lock_helpers(&path), with_lock_helpers(&path));
    let files = fixture.databases.database("app.db");
    one.run("put(fcntl.F_WRLCK, 0, 1)");
    assert_eq!(files.held_locks(), 1);
    // fcntl(2): any close of the file by the process ends its locks.
    one.run(&format!("os.close(os.open('{path}', os.O_RDONLY))"));
    assert_eq!(files.held_locks(), 0);
    two.run("put(fcntl.F_WRLCK, 0, 1)");
    two.kill();
    until("the killed holder's lock is free", || files.held_locks() == 0);
    // Open-file-description locks: with the last close of what was opened.
    assert_eq!(one.run("fcntl.fcntl(f, 37, pack(fcntl.F_WRLCK, 0, 1)) and None"), "");
    assert_eq!(files.held_locks(), 1);
    one.run("os.close(f)");
    until("the description's lock is free", || files.held_locks() == 0);
}

#[test]
fn a_killed_writer_leaves_no_lock_and_no_change() {
    for passthrough in [true, false] {
        let Some(fixture) = Fixture::start(passthrough) else { return };
        for mode in ["wal", "delete"] {
            let name = format!("{mode}.db");
            fixture.sql(
                &name,
                &format!("PRAGMA journal_mode={mode}; CREATE TABLE t(n); INSERT INTO t VALUES(1)"),
            );
            let mut writer = Python::start();
            let begun = writer.run(&format!(
                "c = sqlite3.connect('{}', isolation_level=None); c.execute('begin immediate'); \
                 c.execute('update t set n = 2')",
                fixture.file(&name)
            ));
            assert_eq!(begun, "");
            let busy = std::process::Command::new("sqlite3")
                .args([&fixture.file(&name), "BEGIN IMMEDIATE"])
                .output()
                .unwrap();
            assert!(String::from_utf8_lossy(&busy.stderr).contains("locked"));
            writer.kill();
            assert_eq!(fixture.sql(&name, "UPDATE t SET n = n + 10 RETURNING n"), "11");
        }
    }
}

#[test]
fn flock_stays_with_the_kernel_and_other_files_take_no_locks() {
    let Some(fixture) = Fixture::start(true) else { return };
    let path = fixture.file("app.db");
    let (mut one, mut two) = (with_lock_helpers(&path), with_lock_helpers(&path));
    let whole = "fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)";
    assert_eq!(one.run(whole), "");
    assert!(two.run(whole).contains("BlockingIOError"));
    assert_eq!(fixture.databases.database("app.db").held_locks(), 0);
    let mut pos = Python::start();
    pos.run(&format!("f = os.open('{}', os.O_RDONLY)", fixture.file("app.db-pos")));
    assert!(pos.run("fcntl.lockf(f, fcntl.LOCK_SH | fcntl.LOCK_NB)").contains("No locks"));
    assert_eq!(pos.run("fcntl.lockf(f, fcntl.LOCK_UN)"), "");
}
