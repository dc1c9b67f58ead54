//! Databases that come and go: beside those of [`app`](crate::app), whose lists only grow.
//!
//! - Players repeat operations of SQLite that were recorded (tests/record), on a database of their own: what
//!   lies in its file then has to be what SQLite had left, byte for byte. Of a WAL no recording can be
//!   repeated: its wal-index is memory, which was not recorded, and which the daemon goes by (Rule 4).
//! - Scratchers, on every node, make one database, fill it, VACUUM it, and delete it.
//!
//! What both leave behind has to be the same on all nodes at the end.

use std::collections::BTreeMap;
use std::sync::Arc;

use litefs_py::commit::door::{Errno, FileKind, Handle};
use litefs_py::core::DatabaseName;
use litefs_py::core::ports::{LockFile, LockKind};
use rusqlite::{Connection, OpenFlags};

use crate::app::{self, COUNTS, Failed, add};
use crate::checker::hash_of;
use crate::kernel::{Kernel, Process};
use crate::node::{Sim, Up};
use crate::os::threads::{self, machine};
use crate::vfs;

#[path = "../common/recorded.rs"]
mod recorded;

use recorded::{DATABASE, JOURNAL, Op};

const MILLI: u64 = 1_000_000;
const SECOND: u64 = 1_000 * MILLI;
const SCRATCH: &str = "scratch.db";

macro_rules! recordings {
    ($($name:literal),*) => {
        &[$(($name, include_bytes!(concat!("../fixtures/capture/", $name, ".ops")))),*]
    };
}

/// Those with a rollback journal in which nobody is killed and nothing is refused.
const RECORDINGS: &[(&str, &[u8])] = recordings![
    "journal_4096",
    "journal_65536",
    "journal_auto_vacuum_full",
    "journal_auto_vacuum_incremental",
    "journal_delete",
    "journal_delete_unsynced",
    "journal_persist",
    "journal_persist_limited",
    "journal_truncate"
];

#[derive(Clone)]
struct Comer {
    sim: Arc<Sim>,
    kernel: Arc<Kernel>,
    node: usize,
}

/// Starts those of a node, which serves from now on.
pub fn begin(sim: &Arc<Sim>, up: &Up) {
    let node = up.life.node;
    let comer = Comer { sim: Arc::clone(sim), kernel: Arc::clone(&up.kernel), node };
    if sim.work.plays && node == 1 {
        comer.clone().spawn(node, Comer::play_one);
    }
    if sim.work.scratches {
        comer.spawn(node, Comer::scratch);
    }
}

/// All databases of the run that come and go.
pub fn names(sim: &Sim) -> Vec<String> {
    let played = RECORDINGS.iter().map(|(name, _)| format!("{name}.db"));
    let played = played.filter(|_| sim.work.plays);
    played.chain(sim.work.scratches.then(|| SCRATCH.to_owned())).collect()
}

impl Comer {
    fn spawn(self, node: usize, step: impl Fn(&Self) + Send + 'static) {
        app::begins(node);
        let thread = std::thread::Builder::new().stack_size(512 << 10);
        let run = move || {
            while !app::is_quiet() {
                step(&self);
                threads::sleep(MILLI + app::chance().below(200 * MILLI));
            }
            app::ends(node);
        };
        let _runs = thread.spawn(run).unwrap();
    }

    fn process(&self, name: &str) -> Result<Arc<Process>, Errno> {
        Process::new(&self.kernel, &named(name), app::number())
    }

    /// Deletes the database, if it is there.
    fn delete(&self, name: &str) -> Result<(), Errno> {
        let name = named(name);
        if self.kernel.door.get(&name).is_none() {
            return Ok(());
        }
        add(&COUNTS.deletions);
        Process::asks(|reply| self.kernel.door.unlink(&name, reply))
    }

    // ---- recorded -------------------------------------------------------------------------------

    fn play_one(&self) {
        let (name, bytes) = *app::chance().pick(RECORDINGS).unwrap();
        let file = format!("{name}.db");
        // What an earlier play left, which was cut off.
        if self.delete(&file).is_err() {
            return add(&COUNTS.errors);
        }
        let mut player = Player { comer: self, file, open: None, raw: BTreeMap::new() };
        for op in recorded::parse(name, bytes) {
            if app::is_quiet() || player.does(op).is_err() {
                player.ends();
                return add(&COUNTS.errors);
            }
        }
        player.ends();
        if player.check().is_err() {
            return add(&COUNTS.errors);
        }
        add(&COUNTS.played);
    }

    // ---- scratched ------------------------------------------------------------------------------

    fn scratch(&self) {
        match self.fill() {
            Ok(()) => {}
            Err(Failed::Busy) => add(&COUNTS.busy),
            Err(Failed::Error) => add(&COUNTS.errors),
        }
        if app::chance().one_in(4) && self.delete(SCRATCH).is_err() {
            add(&COUNTS.errors);
        }
    }

    fn fill(&self) -> Result<(), Failed> {
        let process = self.process(SCRATCH).map_err(|_errno| Failed::Error)?;
        let connection = open(&process)?;
        connection.busy_timeout(std::time::Duration::from_secs(1))?;
        connection
            .execute_batch("create table if not exists t(k integer primary key, pad blob)")?;
        for _ in 0..app::chance().below(5) {
            connection.execute_batch(
                "begin immediate; insert into t(pad) values (randomblob(3000)), (randomblob(9000));
                 delete from t where k in (select k from t order by random() limit 1); commit",
            )?;
        }
        if app::chance().one_in(3) {
            add(&COUNTS.vacuums);
            connection.execute_batch("vacuum")?;
        }
        let sound: String = connection.query_row("pragma integrity_check", [], |row| row.get(0))?;
        if sound != "ok" {
            let why = format!("{SCRATCH} on n{}: {sound}", self.node);
            self.sim.ledger.lock().unwrap().wrong(&why);
        }
        Ok(())
    }
}

fn named(name: &str) -> DatabaseName {
    DatabaseName::new(name.to_owned()).unwrap()
}

fn open(process: &Arc<Process>) -> Result<Connection, rusqlite::Error> {
    let file = format!("p{}", process.owner.0);
    vfs::admit(&file, process);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags_and_vfs(&file, flags, vfs::NAME)?;
    connection.execute_batch("pragma temp_store=memory")?;
    Ok(connection)
}

/// Repeats one recording.
struct Player<'a> {
    comer: &'a Comer,
    file: String,
    open: Option<(Arc<Process>, BTreeMap<u8, Handle>)>,
    /// What the operations make of plain files.
    raw: BTreeMap<u8, Vec<u8>>,
}

fn kind(file: u8) -> FileKind {
    if file == JOURNAL { FileKind::Journal } else { FileKind::Database }
}

impl Player<'_> {
    /// The process, with the file open.
    fn with(&mut self, file: u8) -> Result<(Arc<Process>, Handle), Errno> {
        if self.open.is_none() {
            self.open = Some((self.comer.process(&self.file)?, BTreeMap::new()));
        }
        let Some((process, handles)) = &mut self.open else { return Err(Errno(libc::EIO)) };
        let handle = if let Some(handle) = handles.get(&file) {
            *handle
        } else {
            if file == JOURNAL && !process.exists(FileKind::Journal) {
                process.creates(FileKind::Journal)?;
            }
            let handle = process.opens(kind(file))?;
            handles.insert(file, handle);
            handle
        };
        Ok((Arc::clone(process), handle))
    }

    fn close(&mut self, file: u8) {
        if let Some((process, handles)) = &mut self.open
            && let Some(handle) = handles.remove(&file)
        {
            process.closes(kind(file), handle);
        }
    }

    fn ends(&mut self) {
        for file in [JOURNAL, DATABASE] {
            self.close(file);
        }
        self.open = None;
    }

    fn does(&mut self, op: Op) -> Result<(), Errno> {
        match op {
            Op::Write { file, offset, data } => {
                let (process, handle) = self.with(file)?;
                process.writes(kind(file), handle, offset, data.clone())?;
                let raw = self.raw.entry(file).or_default();
                let (from, end) = (offset as usize, offset as usize + data.len());
                raw.resize(raw.len().max(end), 0);
                raw[from..end].copy_from_slice(&data);
                Ok(())
            }
            Op::Truncate { file, len } => {
                let (process, handle) = self.with(file)?;
                process.truncates(kind(file), handle, len)?;
                self.raw.entry(file).or_default().resize(len as usize, 0);
                Ok(())
            }
            Op::Unlink { file } => {
                let (process, _) = self.with(file)?;
                self.close(file);
                self.raw.remove(&file);
                process.unlinks(kind(file))
            }
            Op::Lock { file: DATABASE, start, len, kind } => self.lock(start, len, kind),
            Op::Lock { .. } => Ok(()),
            Op::Exit => {
                self.ends();
                Ok(())
            }
        }
    }

    /// As a busy handler waits.
    fn lock(&mut self, start: u64, len: u64, kind: u64) -> Result<(), Errno> {
        let (process, handle) = self.with(DATABASE)?;
        let wanted = [LockKind::Shared, LockKind::Exclusive, LockKind::Unlock][kind as usize];
        let until = machine().now + 5 * SECOND;
        loop {
            match process.locks(handle, LockFile::Database, start, len, wanted) {
                Err(Errno(libc::EAGAIN)) if machine().now < until && !app::is_quiet() => {
                    threads::sleep(5 * MILLI);
                }
                answer => return answer,
            }
        }
    }

    /// invisible-until-committed, no-lost-ack: the file is what SQLite left.
    fn check(&mut self) -> Result<(), Errno> {
        let (process, handle) = self.with(DATABASE)?;
        self.lock(litefs_py::sqlite::locks::SHARED_FIRST, 510, 0)?;
        let wanted = self.raw.remove(&DATABASE).unwrap_or_default();
        let size = process.size(FileKind::Database)?;
        let found = process.reads(FileKind::Database, handle, 0, size as u32)?;
        self.ends();
        if found != wanted {
            let at = found.iter().zip(&wanted).position(|(a, b)| a != b);
            let why = format!(
                "{}: {size} bytes on n{}, recorded were {}, the first other one at {at:?}",
                self.file,
                self.comer.node,
                wanted.len()
            );
            self.comer.sim.ledger.lock().unwrap().wrong(&why);
        }
        Ok(())
    }
}

/// What such a database is: a hash of its schema and position, whose checksum is that of its bytes; 0 if
/// it is not there. On a thread of that node.
pub fn read_all(up: &Up, name: &str) -> Result<(Vec<u64>, u64), String> {
    let errno = |errno: Errno| format!("errno {}", errno.0);
    let text = |error: rusqlite::Error| error.to_string();
    let Some(files) = up.kernel.door.get(&named(name)) else { return Ok((vec![], 0)) };
    if files.position().txid.0 == 0 {
        // Begun here, and never committed to.
        return Ok((vec![], 0));
    }
    drop(files);
    let process = Process::new(&up.kernel, &named(name), app::number()).map_err(errno)?;
    let connection = open(&process).map_err(text)?;
    let sound: String =
        connection.query_row("pragma integrity_check", [], |row| row.get(0)).map_err(text)?;
    if sound != "ok" {
        return Err(format!("integrity_check: {sound}"));
    }
    let mut pages = connection.prepare("select sql from sqlite_schema order by 1").map_err(text)?;
    let schema: Vec<Option<String>> =
        pages.query_map([], |row| row.get(0)).and_then(Iterator::collect).map_err(text)?;
    let position = up.kernel.door.get(&named(name)).map(|files| files.position().to_string());
    Ok((vec![], hash_of(&(schema, position))))
}
