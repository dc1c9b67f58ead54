//! The applications: real SQLite, on every node at once, with answers that can be checked.
//!
//! Each transaction adds one row to a list, counts it, and moves money between accounts; now and then
//! a large one, one that is rolled back, one whose application dies in the middle. Readers look at list,
//! counter and sum in one snapshot. The list by row number is the order in which transactions were
//! committed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use litefs_py::core::DatabaseName;
use rusqlite::{Connection, ErrorCode, OpenFlags};

use crate::checker::Fate;
use crate::kernel::{Kernel, Process};
use crate::node::{Sim, Up};
use crate::os::threads::{NODES, machine};
use crate::os::{Chance, threads};
use crate::vfs;

/// What the applications of a run do.
#[derive(Debug, Clone)]
pub struct Work {
    pub databases: Vec<String>,
    pub writers: u64,
    pub readers: u64,
    /// Of `pragma journal_mode`; `wal`: as the daemon turns it.
    pub journal: &'static str,
    /// Nanoseconds between two transactions of one application, at most.
    pub pause: u64,
    /// One transaction in so many is large.
    pub large: u64,
    pub synchronous: &'static str,
    /// [`crate::comings`]: recordings are repeated; a database is made and deleted.
    pub plays: bool,
    pub scratches: bool,
}

/// Set when nothing new is to be begun.
pub static QUIET: AtomicU64 = AtomicU64::new(0);
/// Applications that run, of each node.
static RUNNING: [AtomicU64; NODES] = [const { AtomicU64::new(0) }; NODES];
/// No two processes, and no two rows, have the same number.
static NUMBERS: AtomicU64 = AtomicU64::new(1);

#[derive(Default)]
pub struct AppCounts {
    pub busy: AtomicU64,
    pub errors: AtomicU64,
    pub reader_busy: AtomicU64,
    pub deaths: AtomicU64,
    pub checkpoints: AtomicU64,
    pub rolled_back: AtomicU64,
    pub vacuums: AtomicU64,
    pub deletions: AtomicU64,
    /// Recordings repeated to their end.
    pub played: AtomicU64,
    /// The longest that a transaction took, in simulated milliseconds.
    pub longest: AtomicU64,
}

pub static COUNTS: AppCounts = AppCounts {
    busy: AtomicU64::new(0),
    errors: AtomicU64::new(0),
    reader_busy: AtomicU64::new(0),
    deaths: AtomicU64::new(0),
    checkpoints: AtomicU64::new(0),
    rolled_back: AtomicU64::new(0),
    vacuums: AtomicU64::new(0),
    deletions: AtomicU64::new(0),
    played: AtomicU64::new(0),
    longest: AtomicU64::new(0),
};

pub fn add(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

pub fn number() -> u64 {
    NUMBERS.fetch_add(1, Ordering::Relaxed)
}

/// Whether applications of this node have still to come to an end.
pub fn runs(node: usize) -> bool {
    RUNNING[node].load(Ordering::Relaxed) > 0
}

/// One more of them.
pub fn begins(node: usize) {
    add(&RUNNING[node]);
}

pub fn ends(node: usize) {
    RUNNING[node].fetch_sub(1, Ordering::Relaxed);
}

pub fn is_quiet() -> bool {
    QUIET.load(Ordering::Relaxed) > 0
}

#[derive(Clone)]
struct App {
    sim: Arc<Sim>,
    kernel: Arc<Kernel>,
    node: usize,
    name: String,
    writes: bool,
    /// Makes the schema.
    first: bool,
}

/// Starts the applications of a node, which serves from now on.
pub fn begin(sim: &Arc<Sim>, up: &Up) {
    let work = &sim.work;
    // Those of an earlier life of the node are gone with it.
    RUNNING[up.life.node].store(0, Ordering::Relaxed);
    for name in &work.databases {
        for which in 0..work.writers + work.readers {
            let app = App {
                sim: Arc::clone(sim),
                kernel: Arc::clone(&up.kernel),
                node: up.life.node,
                name: name.clone(),
                writes: which < work.writers,
                first: which == 0 && up.life.node == 1,
            };
            begins(up.life.node);
            app.spawn();
        }
    }
    crate::comings::begin(sim, up);
}

/// What went wrong in a transaction.
pub enum Failed {
    /// Somebody else is at it.
    Busy,
    Error,
}

impl From<rusqlite::Error> for Failed {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Failed::Busy,
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                let at = machine().now as f64 / 1e9;
                crate::os::symbols::die(
                    &format!("at {at:.6} s on n{}: {error}", threads::node()),
                    1,
                )
            }
            _ => Failed::Error,
        }
    }
}

pub fn chance() -> &'static mut Chance {
    &mut machine().chance
}

impl App {
    fn spawn(self) {
        let thread = std::thread::Builder::new().stack_size(512 << 10);
        let _runs = thread.spawn(move || self.run()).unwrap();
    }

    fn run(self) {
        loop {
            if is_quiet() {
                ends(self.node);
                return;
            }
            let process = number();
            match self.connect(process) {
                Ok(connection) => {
                    if self.first {
                        self.begin_schema(&connection);
                    }
                    self.use_connection(&connection);
                }
                Err(Failed::Busy) => add(&COUNTS.busy),
                Err(Failed::Error) => add(&COUNTS.errors),
            }
            threads::sleep(1_000_000 + chance().below(50_000_000));
        }
    }

    fn connect(&self, number: u64) -> Result<Connection, Failed> {
        let name = DatabaseName::new(self.name.clone()).unwrap();
        let process = Process::new(&self.kernel, &name, number).map_err(|_errno| Failed::Error)?;
        if self.writes && !self.first && chance().one_in(6) {
            let next = self.clone();
            let dies_in = 20 + chance().below(600);
            process.dies_in(
                dies_in,
                Box::new(move || {
                    add(&COUNTS.deaths);
                    next.spawn();
                }),
            );
        }
        let file = format!("p{number}");
        vfs::admit(&file, &process);
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_CREATE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags_and_vfs(&file, flags, vfs::NAME)?;
        connection.busy_timeout(std::time::Duration::from_millis(500 + chance().below(2500)))?;
        let cache = if chance().one_in(3) { 5 } else { 200 };
        let checkpoint = if chance().one_in(3) { 20 } else { 1000 };
        let synchronous = self.sim.work.synchronous;
        connection.execute_batch(&format!(
            "pragma temp_store=memory; pragma cache_size={cache};
             pragma wal_autocheckpoint={checkpoint}; pragma synchronous={synchronous}"
        ))?;
        if self.sim.work.journal != "wal" {
            let mode = self.sim.work.journal;
            connection.query_row(&format!("pragma journal_mode={mode}"), [], |_| Ok(()))?;
        }
        Ok(connection)
    }

    /// Makes the tables, once, and says how many transactions there were before the first row.
    fn begin_schema(&self, connection: &Connection) {
        let name = &self.name;
        let mut tries = 0;
        while !is_quiet() && !self.sim.ledger.lock().unwrap().first.contains_key(name) {
            let made = connection.execute_batch(
                "begin immediate;
                 create table if not exists list(k integer primary key autoincrement, id int);
                 create table if not exists counter(n int);
                 create table if not exists bank(account integer primary key, balance int);
                 create table if not exists pad(k integer primary key, bytes blob);
                 insert into counter select 0 where not exists (select 1 from counter);
                 insert or ignore into bank values (1, 1000), (2, 1000), (3, 1000), (4, 1000);
                 commit",
            );
            if made.is_err() {
                let _over = connection.execute_batch("rollback");
            }
            let mode: Result<String, _> =
                connection.query_row("pragma journal_mode", [], |row| row.get(0));
            tries += 1;
            let wal = mode.is_ok_and(|mode| mode == "wal");
            if made.is_ok() && (wal || self.sim.work.journal != "wal" || tries > 100) {
                let begun = connection.execute_batch("begin immediate");
                let rows: Result<i64, _> =
                    connection.query_row("select count(*) from list", [], |row| row.get(0));
                if begun.is_ok() && rows.is_ok_and(|rows| rows == 0) {
                    let mut ledger = self.sim.ledger.lock().unwrap();
                    let first = ledger.applied_here(name, self.node);
                    ledger.first.insert(name.clone(), first);
                }
                let _over = connection.execute_batch("rollback");
            }
            threads::sleep(20_000_000);
        }
    }

    fn use_connection(&self, connection: &Connection) {
        let transactions = 1 + chance().below(30);
        for _ in 0..transactions {
            if is_quiet() || !self.sim.ledger.lock().unwrap().first.contains_key(&self.name) {
                threads::sleep(20_000_000);
                if is_quiet() {
                    return;
                }
                continue;
            }
            let began = machine().now;
            let done = if !self.writes || chance().one_in(5) {
                self.read(connection)
            } else if chance().one_in(25) {
                self.checkpoint(connection)
            } else if chance().one_in(60) {
                add(&COUNTS.vacuums);
                connection.execute_batch("vacuum").map_err(Failed::from)
            } else {
                self.write(connection)
            };
            let took = (machine().now - began) / 1_000_000;
            COUNTS.longest.fetch_max(took, Ordering::Relaxed);
            match done {
                Ok(()) => {}
                Err(Failed::Busy) => add(&COUNTS.busy),
                Err(Failed::Error) => {
                    add(&COUNTS.errors);
                    let _over = connection.execute_batch("rollback");
                    if chance().one_in(2) {
                        return;
                    }
                }
            }
            threads::sleep(chance().below(self.sim.work.pause));
        }
    }

    fn checkpoint(&self, connection: &Connection) -> Result<(), Failed> {
        let mode = *chance().pick(&["passive", "full", "restart", "truncate"]).unwrap();
        add(&COUNTS.checkpoints);
        connection.query_row(&format!("pragma wal_checkpoint({mode})"), [], |_| Ok(()))?;
        Ok(())
    }

    fn write(&self, connection: &Connection) -> Result<(), Failed> {
        let (node, name) = (self.node, &self.name);
        let id = number() * 1000 + node as u64;
        // Until it is known.
        self.sim.ledger.lock().unwrap().fate(name, id, Fate::Unknown);
        let rolls_back = chance().one_in(12);
        let made = self.make(connection, id);
        let rows = match made {
            Ok(rows) if !rolls_back => rows,
            other => {
                // COMMIT was never asked for.
                let over = connection.execute_batch("rollback");
                if over.is_ok() || connection.is_autocommit() {
                    add(&COUNTS.rolled_back);
                    self.sim.ledger.lock().unwrap().fate(name, id, Fate::Absent);
                }
                return other.map(drop);
            }
        };
        match connection.execute_batch("commit") {
            Ok(()) => {
                let mut ledger = self.sim.ledger.lock().unwrap();
                ledger.fate(name, id, Fate::Acknowledged);
                ledger.sees(name, node, rows);
                ledger.made(name, rows, machine().now);
                Ok(())
            }
            Err(error) => {
                let _over = connection.execute_batch("rollback");
                Err(error.into())
            }
        }
    }

    /// All but the COMMIT. The answer: how many rows the list has then.
    fn make(&self, connection: &Connection, id: u64) -> Result<u64, Failed> {
        if chance().one_in(4) {
            connection.execute_batch("begin")?;
            connection.query_row("select n from counter", [], |_| Ok(()))?;
        } else {
            connection.execute_batch("begin immediate")?;
        }
        connection.execute("insert into list(id) values (?1)", [id as i64])?;
        connection.execute("update counter set n = n + 1", [])?;
        let below = |end| chance().below(end) as i64;
        let (from, to, amount) = (1 + below(4), 1 + below(4), below(50));
        connection
            .execute("update bank set balance = balance - ?1 where account = ?2", [amount, from])?;
        if chance().one_in(8) {
            connection.execute_batch("savepoint s")?;
            connection.execute("delete from bank where account = ?1", [to])?;
            connection.execute_batch("rollback to s; release s")?;
        }
        connection
            .execute("update bank set balance = balance + ?1 where account = ?2", [amount, to])?;
        if chance().one_in(30) {
            connection.execute_batch("drop index if exists i; create index i on pad(bytes)")?;
        }
        if chance().one_in(self.sim.work.large) {
            let (keys, bytes) = (1 + below(20), 500 + below(6000));
            for _ in 0..keys {
                let key = below(40);
                connection.execute(
                    "insert or replace into pad values (?1, randomblob(?2))",
                    [key, bytes],
                )?;
            }
            if chance().one_in(4) {
                connection.execute("delete from pad where k < ?1", [below(40)])?;
            }
        }
        let rows: i64 = connection.query_row("select n from counter", [], |row| row.get(0))?;
        Ok(rows as u64)
    }

    /// Everything in one snapshot.
    fn read(&self, connection: &Connection) -> Result<(), Failed> {
        let (node, name) = (self.node, &self.name);
        let known = self.sim.ledger.lock().unwrap().known(name, node);
        connection.execute_batch("begin")?;
        let read = self.look(connection);
        let lingers = chance().one_in(6);
        if lingers {
            threads::sleep(chance().below(2_000_000_000));
        }
        let again = if lingers && read.is_ok() { Some(self.look(connection)) } else { None };
        let _over = connection.execute_batch("rollback");
        let list = read.inspect_err(|failed| {
            if matches!(failed, Failed::Busy) {
                add(&COUNTS.reader_busy);
            }
        })?;
        if let Some(Ok(again)) = again
            && again != list
        {
            self.sim
                .ledger
                .lock()
                .unwrap()
                .wrong(&format!("{name} on n{node}: a snapshot changed"));
        }
        self.sim.ledger.lock().unwrap().saw(node, name, &list, known);
        Ok(())
    }

    fn look(&self, connection: &Connection) -> Result<Vec<u64>, Failed> {
        let list = list(connection)?;
        let count: i64 = connection.query_row("select n from counter", [], |row| row.get(0))?;
        let sum: i64 =
            connection.query_row("select sum(balance) from bank", [], |row| row.get(0))?;
        if count != list.len() as i64 || sum != 4000 {
            let why = format!(
                "{} on n{}: {} rows, counted {count}, sum {sum}",
                self.name,
                self.node,
                list.len()
            );
            self.sim.ledger.lock().unwrap().wrong(&why);
        }
        Ok(list)
    }
}

pub fn list(connection: &Connection) -> Result<Vec<u64>, rusqlite::Error> {
    let mut statement = connection.prepare_cached("select id from list order by k")?;
    let rows = statement.query_map([], |row| row.get::<_, i64>(0).map(|id| id as u64))?;
    rows.collect()
}

/// Reads the whole of a database of a node: its list, its contents' hash, whether it is sound. To be
/// called on a thread of that node.
pub fn read_all(up: &Up, name: &str) -> Result<(Vec<u64>, u64), String> {
    let database = DatabaseName::new(name.to_owned()).map_err(|error| error.to_string())?;
    let number = number();
    let process = Process::new(&up.kernel, &database, number);
    let process = process.map_err(|errno| format!("errno {}", errno.0))?;
    let file = format!("p{number}");
    vfs::admit(&file, &process);
    let text = |error: rusqlite::Error| error.to_string();
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags_and_vfs(&file, flags, vfs::NAME).map_err(text)?;
    connection.execute_batch("pragma temp_store=memory; begin").map_err(text)?;
    let sound: String =
        connection.query_row("pragma integrity_check", [], |row| row.get(0)).map_err(text)?;
    if sound != "ok" {
        return Err(format!("integrity_check: {sound}"));
    }
    let list = list(&connection).map_err(text)?;
    let mut all = Vec::new();
    for table in ["counter", "bank", "pad"] {
        let mut statement = connection
            .prepare(&format!(
                "select quote(rowid) || '|' || quote(t.{}) from {table} t order by rowid",
                match table {
                    "counter" => "n",
                    "bank" => "balance",
                    _ => "bytes",
                }
            ))
            .map_err(text)?;
        let rows = statement.query_map([], |row| row.get::<_, String>(0)).map_err(text)?;
        for row in rows {
            all.push(row.map_err(text)?);
        }
    }
    let hash = crate::checker::hash_of(&(&list, &all));
    Ok((list, hash))
}
