//! The room against stock SQLite: in other processes (Python's), on the plain files, with locks
//! of the kernel's in place of the mount's.

mod apply;
mod checkpoint;
mod kernel_locks;
mod outside;
mod publish;
mod read_marks;
mod recovery;
mod rollback;
mod snapshot;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use kernel_locks::KernelLocks;

use super::checksums::{Changes, ChecksumTable};
use super::*;
use crate::core::ports::{
    ByteRange, CommittedMark, DaemonLocks, LockFile, LockKind, NoKernelCache,
};
use crate::core::{Checksum, DatabaseName, EntryId, Position, Txid};
use crate::ltx::{Encoder, Header, WalSpan, lock_page};
use crate::sqlite::locks;

/// Past this something hangs.
const DEADLINE: Duration = Duration::from_mins(1);

/// The daemon's slot in which a test holds byte 120, or the database.
const WRITER: u64 = 2;

/// The log's disk has failed.
struct FailingMark;

impl CommittedMark for FailingMark {
    fn sync(&self) -> std::io::Result<()> {
        Err(std::io::Error::other("the disk failed"))
    }
}

fn entry(index: u64) -> EntryId {
    EntryId { term: 1, index }
}

fn name() -> DatabaseName {
    DatabaseName::new("app.db").unwrap()
}

/// A transaction: its LTX file, and the database after it.
#[derive(Clone)]
struct Transaction {
    ltx: Vec<u8>,
    image: Arc<Vec<u8>>,
    position: Position,
}

/// Where transactions come from: SQLite on a plain file elsewhere.
struct Origin {
    _dir: tempfile::TempDir,
    path: PathBuf,
    connection: rusqlite::Connection,
    page_size: u32,
    /// Whether the databases made of it are in WAL mode.
    wal: bool,
    image: Arc<Vec<u8>>,
    table: ChecksumTable,
    position: Position,
}

impl Origin {
    fn new(page_size: u32, wal: bool) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("origin");
        let connection = Self::connect(&path, page_size);
        Self {
            _dir: dir,
            path,
            connection,
            page_size,
            wal,
            image: Arc::default(),
            table: ChecksumTable::default(),
            position: Position::EMPTY,
        }
    }

    fn connect(path: &Path, page_size: u32) -> rusqlite::Connection {
        let connection = rusqlite::Connection::open(path).unwrap();
        connection
            .execute_batch(&format!(
                "PRAGMA page_size={page_size}; PRAGMA journal_mode=MEMORY; PRAGMA synchronous=OFF;"
            ))
            .unwrap();
        connection
    }

    /// After the file was changed otherwise.
    fn reopen(&mut self) {
        self.connection = Self::connect(&self.path, self.page_size);
    }

    /// Runs SQL as one transaction, which changes something.
    fn run(&mut self, sql: &str) -> Transaction {
        self.try_run(sql).expect("a change")
    }

    fn try_run(&mut self, sql: &str) -> Option<Transaction> {
        self.connection.execute_batch(sql).unwrap();
        let mut image = fs::read(&self.path).unwrap();
        if self.wal {
            image[18..20].copy_from_slice(&[2, 2]);
        }
        (image != *self.image).then(|| self.transaction(image))
    }

    /// The transaction that leads to an image.
    fn transaction(&mut self, image: Vec<u8>) -> Transaction {
        let size = self.page_size as usize;
        let pages = (image.len() / size) as u32;
        let mut changes = Changes::new(self.page_size, pages);
        let mut pages_changed = Vec::new();
        for (pgno, page) in (1..).zip(image.chunks(size)) {
            let offset = (pgno as usize - 1) * size;
            if self.image.get(offset..offset + size) != Some(page) {
                changes.page(pgno, page).unwrap();
                pages_changed.push((pgno, page));
            }
        }
        let txid = Txid(self.position.txid.0 + 1);
        let preview = self.table.preview(&changes, self.position, txid);
        let ltx = self.encode(pages, &pages_changed, preview.position);
        self.table.adopt(&preview);
        self.position = preview.position;
        self.image = Arc::new(image);
        Transaction { ltx, image: self.image.clone(), position: self.position }
    }

    fn encode(&self, commit: u32, pages: &[(u32, &[u8])], to: Position) -> Vec<u8> {
        let header = Header {
            page_size: self.page_size,
            commit,
            min_txid: to.txid,
            max_txid: to.txid,
            timestamp_ms: 0,
            pre_apply: self.position.checksum,
            node_id: 1,
            wal: WalSpan::default(),
        };
        let mut encoder = Encoder::new(Vec::new(), header).unwrap();
        for (pgno, page) in pages {
            encoder.page(*pgno, page).unwrap();
        }
        encoder.finish(to.checksum).unwrap().0
    }
}

/// A database of a node, at files as stock SQLite finds them.
struct Node {
    dir: tempfile::TempDir,
    store: Store,
    database: Arc<Database>,
    locks: Arc<KernelLocks>,
    index: u64,
}

impl Node {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (store, recovered) = Store::open(dir.path(), SystemTime::UNIX_EPOCH).unwrap();
        assert!(recovered.databases.is_empty() && recovered.set_aside.is_empty());
        let database = store.create_slot(&name()).unwrap();
        Self::with(dir, store, database)
    }

    /// With what the first transaction of an origin makes of it.
    fn from(first: &Transaction) -> Self {
        let mut node = Self::new();
        node.in_place(first).unwrap();
        node
    }

    fn with(dir: tempfile::TempDir, store: Store, database: Arc<Database>) -> Self {
        let folder = database.folder();
        let shm = fs::read_dir(&folder)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .find(|path| path.file_name().unwrap().to_str().unwrap().starts_with("shm-"))
            .unwrap();
        // Not symbolic links: SQLite does not follow one to the shm.
        fs::hard_link(folder.join("wal"), folder.join("database-wal")).unwrap();
        fs::hard_link(&shm, folder.join("database-shm")).unwrap();
        let locks = Arc::new(KernelLocks::new(&folder.join("database"), &shm));
        // As the daemon does always, so that no application is the first, or the last.
        let shared = |file, start, len| {
            let range = ByteRange { start, end: start + len - 1 };
            assert!(locks.lock(0, file, range, LockKind::Shared));
        };
        shared(LockFile::Shm, locks::DMS, 1);
        database.connect(locks.clone(), Arc::new(NoKernelCache));
        let index = database.applied().index;
        Self { dir, store, database, locks, index }
    }

    fn path(&self) -> PathBuf {
        self.database.folder().join("database")
    }

    fn lock(&self, kind: LockKind) -> bool {
        let range = ByteRange { start: locks::WRITE, end: locks::WRITE };
        self.locks.lock(WRITER, LockFile::Shm, range, kind)
    }

    /// Takes byte 120, as the applier does.
    fn lock_write(&self) {
        wait(|| self.lock(LockKind::Exclusive));
    }

    fn unlock_write(&self) {
        self.database.publish_if_needed().unwrap();
        self.lock(LockKind::Unlock);
    }

    fn append(&mut self, transaction: &Transaction) -> Result<Position, StoreError> {
        self.lock_write();
        self.index += 1;
        let applied = self.database.append(&transaction.ltx[..], entry(self.index), true);
        self.unlock_write();
        applied
    }

    fn in_place(&mut self, transaction: &Transaction) -> Result<Position, StoreError> {
        let all = ByteRange {
            start: locks::SHARED_FIRST,
            end: locks::SHARED_FIRST + locks::SHARED_SIZE - 1,
        };
        wait(|| self.locks.lock(WRITER, LockFile::Database, all, LockKind::Exclusive));
        self.index += 1;
        let applied = self.database.apply_in_place(&transaction.ltx[..], entry(self.index));
        self.locks.lock(WRITER, LockFile::Database, all, LockKind::Unlock);
        applied
    }

    fn client(&self) -> Client {
        Client::open(&self.path())
    }

    /// Rule 13: the table is what a fresh scan of the file gives. (Everything is backfilled.)
    fn check_table(&self) {
        let database = &self.database;
        let fresh = ChecksumTable::scan(&database.main, database.page_size(), database.pages());
        let table = database.state().table.clone();
        assert_eq!(table, fresh.unwrap());
        assert_eq!(table.total(), database.position().checksum);
    }

    fn check_file(&self, image: &[u8]) {
        let mut file = vec![0; self.database.len().unwrap() as usize];
        self.database.read_database(0, &mut file).unwrap();
        // SQLite's checkpoints take a moment's lock page for zeros; these images have none.
        assert!(image.len() as u64 <= u64::from(lock_page(512)) * 512);
        assert!(file == image, "the file differs from the origin's");
        self.check_table();
    }
}

/// Waits for a condition.
fn wait(mut done: impl FnMut() -> bool) {
    let start = std::time::Instant::now();
    while !done() {
        assert!(start.elapsed() < DEADLINE, "waited too long");
        std::thread::yield_now();
    }
}

/// SQLite in another process: one connection, told what to run line by line.
struct Client {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

const CLIENT: &str = "
import sqlite3, sys
c = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=20)
for line in sys.stdin:
    try:
        rows = c.execute(line).fetchall()
        print(';'.join(','.join(str(v) for v in row) for row in rows))
    except sqlite3.Error as e:
        print('error:', e)
    sys.stdout.flush()
";

impl Client {
    fn open(path: &Path) -> Self {
        let mut child = Command::new("python3")
            .args(["-c", CLIENT])
            .arg(path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3 runs");
        let input = child.stdin.take().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Self { child, input, output }
    }

    fn run(&mut self, sql: &str) -> String {
        writeln!(self.input, "{sql}").unwrap();
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// No checksum, for tests that damage one.
fn other(position: Position) -> Position {
    Position { checksum: Checksum(position.checksum.0 ^ 1), ..position }
}
