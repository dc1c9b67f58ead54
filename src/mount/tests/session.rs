//! How the mount begins and ends.

use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use super::fixture::{Fixture, Python, SOON, config, skipped, until};
use super::local::LocalDatabases;
use crate::mount::{Mount, MountConfig, MountError};

fn is_mounted(path: &Path) -> bool {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    table.lines().any(|line| line.split(' ').nth(4) == path.to_str())
}

fn start(config: MountConfig) -> Result<Mount, MountError> {
    let databases = Arc::new(LocalDatabases::new(&config.statfs_path));
    Mount::start(config, databases)
}

fn mount_nobody_serves(source: &str, path: &Path) -> File {
    let device = File::options().read(true).write(true).open("/dev/fuse").unwrap();
    let options = format!("fd={},rootmode=40000,user_id=0,group_id=0", device.as_raw_fd());
    let options = std::ffi::CString::new(options).unwrap();
    mount(source, path, "fuse", MountFlags::empty(), options.as_c_str()).unwrap();
    device
}

#[test]
fn it_unmounts_cleanly() {
    let Some(mut fixture) = Fixture::start(true) else { return };
    let path = fixture.path.clone();
    assert!(is_mounted(&path));
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let line = table.lines().find(|l| l.contains(path.to_str().unwrap())).unwrap();
    assert!(line.contains("- fuse.litefs-py litefs-py "), "{line}");
    fixture.sql("app.db", "PRAGMA journal_mode=wal; CREATE TABLE t(n)");
    let mount = fixture.mount.take().unwrap();
    let ended = mount.ended();
    assert!(!*ended.borrow());
    mount.stop().unwrap();
    assert!(*ended.borrow());
    assert!(!is_mounted(&path));
}

/// bounded-answer: a program that keeps a file open gets ENOTCONN, and does not keep the daemon.
#[test]
fn a_file_left_open_does_not_keep_it() {
    let Some(mut fixture) = Fixture::start(true) else { return };
    let mut holder = Python::start();
    let opened = holder.run(&format!("f = open('{}', 'a')", fixture.file("app.db")));
    assert_eq!(opened, "");
    let begun = Instant::now();
    fixture.mount.take().unwrap().stop().unwrap();
    assert!(begun.elapsed() < Duration::from_secs(10));
    assert!(!is_mounted(&fixture.path));
    assert!(holder.run("print(os.pread(f.fileno(), 1, 0))").contains("ERROR"));
}

#[test]
fn a_panic_of_a_test_leaves_no_mount_behind() {
    let Some(fixture) = Fixture::start(false) else { return };
    let path = fixture.path.clone();
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
        fixture.sql("app.db", "PRAGMA journal_mode=wal; CREATE TABLE t(n)");
        panic!("asked for by this test");
    }));
    assert!(panicked.is_err());
    assert!(!is_mounted(&path));
}

#[test]
fn a_handler_that_panics_answers_and_the_mount_goes_on() {
    let Some(fixture) = Fixture::start(true) else { return };
    for _ in 0..4 {
        let error = File::create(fixture.file("panic.db")).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EIO));
    }
    // The lock of these tests' own table is poisoned by it; the mount's are not.
    assert_eq!(fs::read_to_string(fixture.file(".lag")).unwrap(), "0\n");
}

#[test]
fn an_end_from_outside_is_noticed() {
    let Some(mut fixture) = Fixture::start(true) else { return };
    let ended = fixture.mount.as_ref().unwrap().ended();
    unmount(&fixture.path, UnmountFlags::empty()).unwrap();
    until("the end is noticed", || *ended.borrow());
    fixture.mount.take().unwrap().stop().unwrap();
}

#[test]
fn the_mount_of_a_dead_daemon_is_cleared() {
    if skipped() {
        return;
    }
    let folders = tempfile::tempdir().unwrap();
    let (path, data) = (folders.path().join("mnt"), folders.path().join("data"));
    fs::create_dir(&path).unwrap();
    fs::create_dir(&data).unwrap();
    for _ in 0..2 {
        // A mount whose device is closed is what a killed daemon leaves.
        drop(mount_nobody_serves("litefs-py", &path));
    }
    assert_eq!(fs::metadata(&path).unwrap_err().kind(), ErrorKind::NotConnected);
    let mount = start(config(&path, &data, true)).unwrap();
    assert_eq!(fs::read_to_string(path.join(".lag")).unwrap(), "0\n");
    mount.stop().unwrap();
    assert!(!is_mounted(&path), "both are gone");
}

/// The daemon of the next test.
#[test]
#[ignore = "runs as the child of another test"]
fn a_daemon_to_be_killed() {
    let Some(folder) = std::env::var_os(FOLDER).map(PathBuf::from) else { return };
    let mount = start(config(&folder.join("mnt"), &folder.join("data"), false)).unwrap();
    let mut ended = mount.ended();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(ended.wait_for(|ended| *ended)).unwrap();
}

const FOLDER: &str = "LITEFS_PY_TEST_FOLDER";

/// It holds a file of its own mount open, whose pages an application has changed.
#[test]
fn a_killed_daemon_ends_and_its_mount_is_cleared() {
    if skipped() {
        return;
    }
    let folders = tempfile::tempdir().unwrap();
    let (path, data) = (folders.path().join("mnt"), folders.path().join("data"));
    fs::create_dir(&path).unwrap();
    fs::create_dir(&data).unwrap();
    let mut daemon = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "mount::tests::session::a_daemon_to_be_killed", "--ignored"])
        .env(FOLDER, folders.path())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    until("it has mounted", || is_mounted(&path));
    let mut application = Python::start();
    let connect =
        format!("c = sqlite3.connect('{}', isolation_level=None)", path.join("app.db").display());
    assert_eq!(application.run(&connect), "");
    let write = "c.execute('pragma journal_mode=wal'); c.execute('create table t(n)')";
    assert_eq!(application.run(write), "");
    daemon.kill().unwrap();
    let deadline = Instant::now() + SOON;
    while daemon.try_wait().unwrap().is_none() {
        if Instant::now() > deadline {
            unmount(&path, UnmountFlags::FORCE | UnmountFlags::DETACH).unwrap();
            panic!("the killed daemon did not end");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(application.run("c.execute('select * from t').fetchall()").contains("ERROR"));
    let mount = start(config(&path, &data, true)).unwrap();
    assert_eq!(fs::read_to_string(path.join(".lag")).unwrap(), "0\n");
    drop(application);
    mount.stop().unwrap();
    assert!(!is_mounted(&path));
}

/// bounded-answer: a mount of ours that nobody serves is ended, another's is not ours to end.
#[test]
fn a_daemon_that_does_not_answer_is_ended() {
    if skipped() {
        return;
    }
    let folders = tempfile::tempdir().unwrap();
    let (path, data) = (folders.path().join("mnt"), folders.path().join("data"));
    fs::create_dir(&path).unwrap();
    fs::create_dir(&data).unwrap();
    let _other = mount_nobody_serves("other", &path);
    assert!(matches!(start(config(&path, &data, true)), Err(MountError::Unresponsive { .. })));
    unmount(&path, UnmountFlags::FORCE | UnmountFlags::DETACH).unwrap();
    let mut ours = mount_nobody_serves("litefs-py", &path);
    start(config(&path, &data, true)).unwrap().stop().unwrap();
    // Whoever hangs in a request of it is let go.
    let ended = ours.read(&mut vec![0; 1 << 16]);
    assert_eq!(ended.unwrap_err().raw_os_error(), Some(libc::ENODEV));
    assert!(!is_mounted(&path));
}

#[test]
fn a_mount_point_that_will_not_do_is_refused() {
    if skipped() {
        return;
    }
    let folders = tempfile::tempdir().unwrap();
    let data = folders.path().join("data");
    fs::create_dir(&data).unwrap();
    let at = |name: &str| start(config(&folders.path().join(name), &data, true));
    assert!(matches!(at("none"), Err(MountError::Missing { .. })));
    fs::write(folders.path().join("file"), "").unwrap();
    assert!(matches!(at("file"), Err(MountError::NotAFolder { .. })));
    fs::create_dir(folders.path().join("full")).unwrap();
    fs::write(folders.path().join("full/app.db"), "").unwrap();
    let full = at("full");
    assert!(matches!(&full, Err(MountError::NotEmpty { found, .. }) if found == "app.db"));
    assert!(!full.unwrap_err().to_string().contains('\n'));
    fs::create_dir(folders.path().join("used")).unwrap();
    let first = at("used").unwrap();
    assert!(matches!(at("used"), Err(MountError::InUse { .. })));
    // Who was there is just ending: that is waited for.
    std::thread::scope(|threads| {
        let next = threads.spawn(|| at("used"));
        std::thread::sleep(Duration::from_millis(200));
        assert!(!next.is_finished());
        first.stop().unwrap();
        next.join().unwrap().unwrap().stop().unwrap();
    });
}

/// While nothing is mounted no program makes a database of its own in the folder beneath.
#[test]
fn the_bare_mount_point_takes_no_files() {
    let Some(mut fixture) = Fixture::with(true, |config| config.immutable = true) else { return };
    fixture.sql("app.db", "CREATE TABLE t(a)");
    fixture.close_own();
    fixture.mount.take().unwrap().stop().unwrap();
    let made = std::fs::write(fixture.path.join("app.db"), "not replicated");
    let folder = std::fs::File::open(&fixture.path).unwrap();
    let cleared = rustix::fs::ioctl_setflags(&folder, rustix::fs::IFlags::empty());
    if cleared.is_err() {
        println!("SKIPPED the_bare_mount_point_takes_no_files: {cleared:?}");
        return;
    }
    assert_eq!(made.unwrap_err().kind(), std::io::ErrorKind::PermissionDenied);
}
