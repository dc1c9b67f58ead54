//! One mount for one test, gone whatever the test does, and the programs that use it.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::local::LocalDatabases;
use crate::mount::{Mount, MountConfig};

/// How long anything that must happen may take, on a busy machine.
pub const SOON: Duration = Duration::from_secs(20);

/// Declared in this order: the mount goes before the folders.
pub struct Fixture {
    pub mount: Option<Mount>,
    pub databases: Arc<LocalDatabases>,
    pub path: PathBuf,
    _folders: tempfile::TempDir,
}

/// Says why there is nothing to test with, where there is not.
pub fn skipped() -> bool {
    let device = std::fs::File::options().read(true).write(true).open("/dev/fuse");
    match device {
        Err(error) => println!("SKIPPED mount: /dev/fuse: {error}"),
        Ok(_) if !rustix::process::geteuid().is_root() => println!("SKIPPED mount: not root"),
        Ok(_) => return false,
    }
    true
}

pub fn config(path: &Path, data: &Path, passthrough: bool) -> MountConfig {
    MountConfig {
        path: path.to_owned(),
        owner: 0,
        group: 0,
        mode: 0o660,
        allow_other: true,
        passthrough,
        immutable: false,
        statfs_path: data.to_owned(),
    }
}

impl Fixture {
    pub fn start(passthrough: bool) -> Option<Self> {
        Self::with(passthrough, |_| ())
    }

    pub fn with(passthrough: bool, change: impl FnOnce(&mut MountConfig)) -> Option<Self> {
        if skipped() {
            return None;
        }
        let folders = tempfile::tempdir().unwrap();
        // Other users are to reach the mount through it.
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(folders.path(), open).unwrap();
        let (path, data) = (folders.path().join("mnt"), folders.path().join("data"));
        std::fs::create_dir(&path).unwrap();
        std::fs::create_dir(&data).unwrap();
        let databases = Arc::new(LocalDatabases::new(&data));
        let mut config = config(&path, &data, passthrough);
        change(&mut config);
        let mount = Mount::start(config, databases.clone()).unwrap();
        Some(Self { mount: Some(mount), databases, path, _folders: folders })
    }

    pub fn file(&self, name: &str) -> String {
        self.path.join(name).to_str().unwrap().to_owned()
    }

    /// Runs the shell on a database; it waits for locks.
    pub fn sql(&self, database: &str, sql: &str) -> String {
        let output = self.try_sql(database, sql);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{sql}: {error}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    pub fn try_sql(&self, database: &str, sql: &str) -> Output {
        Command::new("sqlite3")
            .args(["-bail", "-cmd", ".timeout 10000", &self.file(database), sql])
            .output()
            .unwrap()
    }

    /// Runs a script that is too long for an argument, whatever it prints.
    pub fn script(&self, database: &str, sql: &str) {
        let mut shell = Command::new("sqlite3")
            .args(["-bail", &self.file(database)])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        shell.stdin.take().unwrap().write_all(sql.as_bytes()).unwrap();
        assert!(shell.wait().unwrap().success());
    }

    /// The daemon's own files of the mount, without which it would stay busy.
    pub fn close_own(&self) {
        for database in self.databases.databases.lock().unwrap().values() {
            database.through_mount.lock().unwrap().take();
        }
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        self.close_own();
        self.mount.take();
    }
}

/// Waits until it holds.
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + SOON;
    while !holds() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A Python process that runs the lines it is given, and says what they print.
pub struct Python {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
}

impl Python {
    pub fn start() -> Self {
        let code = "import sqlite3, fcntl, os, struct, sys\n\
                    for line in sys.stdin:\n\
                    \x20try: exec(line)\n\
                    \x20except Exception as e: print('ERROR', type(e).__name__, e)\n\
                    \x20print('.', flush=True)\n";
        let mut child = Command::new("python3")
            .args(["-uc", code])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let to = child.stdin.take().unwrap();
        let from = BufReader::new(child.stdout.take().unwrap());
        Self { child, to, from }
    }

    pub fn send(&mut self, line: &str) {
        writeln!(self.to, "{line}").unwrap();
    }

    pub fn answer(&mut self) -> String {
        let mut answer = String::new();
        loop {
            let mut line = String::new();
            assert_ne!(self.from.read_line(&mut line).unwrap(), 0, "it ended: {answer}");
            if line == ".\n" {
                return answer.trim().to_owned();
            }
            answer += &line;
        }
    }

    pub fn run(&mut self, line: &str) -> String {
        self.send(line);
        self.answer()
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Python {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
