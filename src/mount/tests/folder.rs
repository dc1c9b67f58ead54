//! The folder: what it shows, and what it refuses.

use std::fs::{self, File};
use std::io::{ErrorKind, Read, Seek};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::fixture::{Fixture, until};
use crate::commit::door::{Databases, FileKind};
use crate::core::DatabaseName;

fn errno<T: std::fmt::Debug>(result: std::io::Result<T>) -> i32 {
    result.unwrap_err().raw_os_error().unwrap()
}

fn names(fixture: &Fixture) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(&fixture.path)
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn the_folder_lists_what_is_there() {
    let Some(fixture) = Fixture::start(true) else { return };
    assert_eq!(names(&fixture), [".lag"]);
    *fixture.databases.primary.lock().unwrap() = Some("node-2".into());
    fs::write(fixture.file("b.db"), "").unwrap();
    fs::write(fixture.file("a.db"), "").unwrap();
    fs::write(fixture.file("a.db-wal"), "").unwrap();
    // This test runs in a thread of its own, and FUSE names the thread.
    let by = fixture.databases.database("a.db").created_by.load(Ordering::SeqCst);
    assert_eq!(by, std::process::id());
    let all = [".lag", ".primary", "a.db", "a.db-pos", "a.db-wal", "b.db", "b.db-pos"];
    assert_eq!(names(&fixture), all);
    // More than one READDIR answers.
    for n in 0..400 {
        fs::write(fixture.file(&format!("{n:0100}.db")), "").unwrap();
    }
    assert_eq!(names(&fixture).len(), 400 * 2 + all.len());
    for n in 0..400 {
        fs::remove_file(fixture.file(&format!("{n:0100}.db"))).unwrap();
    }
    assert_eq!(names(&fixture), all);
    let numbers: std::collections::BTreeSet<_> =
        all.iter().map(|name| fs::metadata(fixture.file(name)).unwrap().ino()).collect();
    assert_eq!(numbers.len(), all.len(), "each has its own number");
}

#[test]
fn position_primary_and_lag_are_as_litefs_has_them() {
    let Some(fixture) = Fixture::start(true) else { return };
    fs::write(fixture.file("app.db"), "").unwrap();
    let files = fixture.databases.database("app.db");
    files.txid.store(0xab, Ordering::SeqCst);
    let read = |name: &str| fs::read_to_string(fixture.file(name));
    assert_eq!(read("app.db-pos").unwrap(), "00000000000000ab/80000000000000ab\n");
    assert_eq!(read(".lag").unwrap(), "0\n");
    assert_eq!(read(".primary").unwrap_err().kind(), ErrorKind::NotFound);
    *fixture.databases.primary.lock().unwrap() = Some("node-2".into());
    *fixture.databases.lag.lock().unwrap() = 1234;
    assert_eq!(read(".primary").unwrap(), "node-2\n");
    assert_eq!(read(".lag").unwrap(), "1234\n");
    assert_eq!(fs::metadata(fixture.file(".lag")).unwrap().len(), 5);
    // One that stays open reads afresh from its beginning.
    let mut lag = File::open(fixture.file(".lag")).unwrap();
    for ms in [7, 123_456] {
        *fixture.databases.lag.lock().unwrap() = ms;
        let mut text = String::new();
        lag.rewind().unwrap();
        lag.read_to_string(&mut text).unwrap();
        assert_eq!(text, format!("{ms}\n"));
    }
    for name in [".lag", ".primary", "app.db-pos"] {
        let open = File::options().write(true).open(fixture.file(name));
        assert_eq!(errno(open), libc::EACCES, "{name}");
        assert_eq!(errno(fs::remove_file(fixture.file(name))), libc::EPERM, "{name}");
        assert_eq!(fs::metadata(fixture.file(name)).unwrap().mode() & 0o7777, 0o440, "{name}");
    }
}

#[test]
fn names_that_cannot_be_are_refused() {
    let Some(fixture) = Fixture::start(true) else { return };
    fs::write(fixture.file("app.db"), "").unwrap();
    let create = |name: &str| errno(File::create(fixture.file(name)));
    assert_eq!(create("app.db-mj0A1B2C9FF"), libc::EPERM);
    assert_eq!(create(".hidden"), libc::EPERM);
    assert_eq!(create("app.db-lock"), libc::EPERM);
    assert_eq!(create("other.db-wal"), libc::ENOENT);
    assert_eq!(create("other.db-journal"), libc::ENOENT);
    assert_eq!(create("other.db-shm"), libc::ENOENT);
    assert_eq!(create(&"x".repeat(248)), libc::ENAMETOOLONG);
    assert_eq!(errno(fs::metadata(fixture.file(&"x".repeat(250)))), libc::ENAMETOOLONG);
    assert_eq!(create("app.db/x"), libc::ENOTDIR);
    assert!(File::create(fixture.file(&"x".repeat(247))).is_ok());
    let bytes: &std::ffi::OsStr = std::os::unix::ffi::OsStrExt::from_bytes(b"\xff.db");
    assert_eq!(errno(File::create(fixture.path.join(bytes))), libc::EINVAL);
    let new = |name: &str| File::options().write(true).create_new(true).open(fixture.file(name));
    assert_eq!(errno(new("app.db")), libc::EEXIST);
    assert!(new("new.db").is_ok());
}

#[test]
fn a_super_journal_is_refused() {
    let Some(fixture) = Fixture::start(true) else { return };
    for name in ["a.db", "b.db"] {
        fixture.sql(name, "PRAGMA journal_mode=delete; CREATE TABLE t(n)");
    }
    let both = format!(
        "ATTACH '{}' AS b; BEGIN; INSERT INTO main.t VALUES(1); INSERT INTO b.t VALUES(1); COMMIT",
        fixture.file("b.db")
    );
    assert!(!fixture.try_sql("a.db", &both).status.success());
    for name in ["a.db", "b.db"] {
        assert_eq!(fixture.sql(name, "SELECT count(*) FROM t"), "0");
    }
}

#[test]
fn what_makes_no_database_is_refused() {
    let Some(fixture) = Fixture::start(true) else { return };
    let (app, new) = (fixture.file("app.db"), fixture.file("new"));
    fs::write(&app, "").unwrap();
    assert_eq!(errno(fs::create_dir(&new)), libc::EPERM);
    assert_eq!(errno(std::os::unix::fs::symlink("/", &new)), libc::EPERM);
    assert_eq!(errno(fs::hard_link(&app, &new)), libc::EPERM);
    assert_eq!(errno(fs::rename(&app, &new)), libc::EPERM);
    assert!(!Command::new("mkfifo").arg(&new).stderr(Stdio::null()).status().unwrap().success());
    assert!(fs::metadata(&new).is_err());
    // Accepted, as they change nothing; SQLite asks for them as root.
    let mode = |bits| fs::set_permissions(&app, fs::Permissions::from_mode(bits));
    mode(0o660).unwrap();
    chown(&app, Some(0), Some(0)).unwrap();
    let open = File::options().write(true).open(&app).unwrap();
    open.set_modified(std::time::UNIX_EPOCH).unwrap();
    // Answered at once, and mean nothing.
    open.sync_all().unwrap();
    File::open(&fixture.path).unwrap().sync_all().unwrap();
    assert_eq!(errno(mode(0o666)), libc::EPERM);
    assert_eq!(errno(chown(&app, Some(1), None)), libc::EPERM);
    assert_eq!(fs::metadata(&app).unwrap().mode() & 0o7777, 0o660);
    assert_eq!(errno(fs::metadata(fixture.file("app.db-journal"))), libc::ENOENT);
    assert_eq!(errno(fs::remove_file(fixture.file("app.db-wal"))), libc::ENOENT);
}

#[test]
fn other_users_may_what_the_mode_says() {
    let member = |fixture: &Fixture, groups: &str, sql: &str| {
        let output = Command::new("setpriv")
            .args(["--reuid=65534", "--regid=65534", groups, "--", "sqlite3"])
            .args([&fixture.file("app.db"), sql])
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let Some(fixture) = Fixture::with(true, |config| config.group = 4242) else { return };
    assert_eq!(fixture.sql("app.db", "PRAGMA journal_mode=wal; CREATE TABLE t(n)"), "wal");
    let insert = "INSERT INTO t VALUES(1)";
    assert_eq!(member(&fixture, "--groups=4242", insert), "", "of the group");
    assert!(member(&fixture, "--clear-groups", insert).contains("unable to open"));
    assert_eq!(fixture.sql("app.db", "SELECT count(*) FROM t"), "1");
    let meta = fs::metadata(fixture.file("app.db")).unwrap();
    assert_eq!((meta.uid(), meta.gid(), meta.mode() & 0o7777), (0, 4242, 0o660));
}

#[test]
fn statfs_tells_the_data_folders_space() {
    let Some(fixture) = Fixture::start(true) else { return };
    let here = rustix::fs::statvfs(&fixture.path).unwrap();
    let data = rustix::fs::statvfs(std::env::temp_dir()).unwrap();
    assert_eq!((here.f_blocks, here.f_frsize), (data.f_blocks, data.f_frsize));
    assert_eq!(here.f_namemax, 255);
}

/// Rule 17, converges: what another node deletes and makes anew is another file.
#[test]
fn a_database_that_was_made_anew_is_another_file() {
    let Some(fixture) = Fixture::start(true) else { return };
    let app = fixture.file("app.db");
    // The first came from another node and was looked up, the second is created here.
    fixture.databases.create(&DatabaseName::new("app.db").unwrap()).unwrap();
    let files = fixture.databases.database("app.db");
    fs::write(files.path(FileKind::Database), "first").unwrap();
    let mut old = File::open(&app).unwrap();
    let before = fs::metadata(&app).unwrap().ino();
    let first = Arc::downgrade(&files);
    drop(files);
    fixture.databases.remove("app.db");
    // A name is believed for a second at most; opening looks again at once.
    assert_eq!(errno(File::open(&app)), libc::ENOENT);
    until("the deleted name is gone", || fs::metadata(&app).is_err());
    fs::write(&app, "second").unwrap();
    let new = File::open(&app).unwrap();
    let after = fs::metadata(&app).unwrap().ino();
    assert_ne!(after, before);
    assert_eq!(fs::read(&app).unwrap(), b"second");
    // What is open stays what it was, also when others come.
    fixture.databases.remove("app.db");
    fs::write(fixture.file("other.db"), "").unwrap();
    assert_eq!(old.metadata().unwrap().ino(), before);
    assert_eq!(new.metadata().unwrap().ino(), after);
    until("it has no name any more", || old.metadata().unwrap().nlink() == 0);
    let mut text = String::new();
    old.read_to_string(&mut text).unwrap();
    assert_eq!(text, "first");
    assert!(first.upgrade().is_some(), "it is open");
    drop(old);
    until("nothing stands for it any more", || {
        let _ = fs::metadata(&app);
        first.upgrade().is_none()
    });
    fs::write(&app, "third").unwrap();
    fs::remove_file(&app).unwrap();
    assert!(!names(&fixture).contains(&"app.db".to_owned()));
}
