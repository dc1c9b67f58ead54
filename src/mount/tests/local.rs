//! Databases as plain files of one folder with a simple lock table: what stands behind the door
//! in these tests.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use crate::commit::door::{
    Conflict, DatabaseFiles, Databases, Errno, FileKind, Handle, LockRequest, Owner, Reply, Writer,
};
use crate::core::ports::{KernelCache, LockFile, LockKind};
use crate::core::{Checksum, DatabaseName, Position, Txid};

#[derive(Default)]
pub struct Counts {
    pub locks: AtomicU64,
    pub writes: AtomicU64,
    pub reads: AtomicU64,
    pub truncates: AtomicU64,
}

pub struct LocalDatabases {
    folder: PathBuf,
    pub databases: Mutex<BTreeMap<DatabaseName, Arc<LocalFiles>>>,
    slots: AtomicU64,
    pub primary: Mutex<Option<String>>,
    pub lag: Mutex<i64>,
}

impl LocalDatabases {
    pub fn new(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
            databases: Mutex::default(),
            slots: AtomicU64::new(1),
            primary: Mutex::default(),
            lag: Mutex::default(),
        }
    }

    pub fn database(&self, name: &str) -> Arc<LocalFiles> {
        self.databases.lock().unwrap()[&DatabaseName::new(name).unwrap()].clone()
    }

    /// As a deletion by another node would: what is open can still be read.
    pub fn remove(&self, name: &str) {
        self.databases.lock().unwrap().remove(&DatabaseName::new(name).unwrap());
    }
}

impl Databases for LocalDatabases {
    fn list(&self) -> Vec<Arc<dyn DatabaseFiles>> {
        let all = self.databases.lock().unwrap();
        all.values().map(|d| d.clone() as Arc<dyn DatabaseFiles>).collect()
    }

    fn get(&self, name: &DatabaseName) -> Option<Arc<dyn DatabaseFiles>> {
        self.databases.lock().unwrap().get(name).map(|d| d.clone() as Arc<dyn DatabaseFiles>)
    }

    fn create(&self, name: &DatabaseName) -> Result<Arc<dyn DatabaseFiles>, Errno> {
        assert_ne!(name.as_str(), "panic.db", "asked for by a test");
        let mut all = self.databases.lock().unwrap();
        if let Some(there) = all.get(name) {
            return Ok(there.clone());
        }
        let slot = self.slots.fetch_add(1, Ordering::Relaxed);
        let files = Arc::new(LocalFiles::new(&self.folder, name.clone(), slot));
        files.make(FileKind::Database)?;
        all.insert(name.clone(), files.clone());
        Ok(files)
    }

    fn unlink(&self, name: &DatabaseName, reply: Reply<()>) {
        self.remove(name.as_str());
        std::thread::spawn(move || reply(Ok(())));
    }

    fn primary(&self) -> Option<String> {
        self.primary.lock().unwrap().clone()
    }

    fn lag_ms(&self) -> i64 {
        *self.lag.lock().unwrap()
    }
}

/// A write that is held: done when called with true, else refused.
pub type Held = Box<dyn FnOnce(bool) + Send>;

/// What the write path might do with the writes to a WAL.
#[derive(Default)]
pub struct Gate {
    pub held: Mutex<Vec<Held>>,
    pub closed: AtomicBool,
}

pub struct LocalFiles {
    stem: PathBuf,
    name: DatabaseName,
    slot: u64,
    open: Mutex<HashMap<FileKind, Arc<File>>>,
    locks: Mutex<Vec<LockRequest>>,
    pub counts: Counts,
    pub txid: AtomicU64,
    pub gate: Arc<Gate>,
    pub cache: OnceLock<Arc<dyn KernelCache>>,
    pub through_mount: Mutex<Option<File>>,
    /// The process that created the journal, the WAL or the shm last.
    pub created_by: AtomicU32,
    /// An application had the shm open before the daemon had.
    pub opened_too_early: AtomicBool,
    /// Whether the shm is shared through the mount.
    pub through: AtomicBool,
    /// What is done when the kernel asks for the size of the database file, between finding it out
    /// and answering; once.
    pub while_sizing: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

fn errno(error: &io::Error) -> Errno {
    Errno(error.raw_os_error().unwrap_or(libc::EIO))
}

impl LocalFiles {
    fn new(folder: &Path, name: DatabaseName, slot: u64) -> Self {
        Self {
            stem: folder.join(format!("{slot}")),
            name,
            slot,
            open: Mutex::default(),
            locks: Mutex::default(),
            counts: Counts::default(),
            txid: AtomicU64::new(0),
            gate: Arc::default(),
            cache: OnceLock::new(),
            through_mount: Mutex::default(),
            created_by: AtomicU32::new(0),
            opened_too_early: AtomicBool::new(false),
            through: AtomicBool::new(true),
            while_sizing: Mutex::default(),
        }
    }

    pub fn path(&self, kind: FileKind) -> PathBuf {
        self.stem.with_extension(match kind {
            FileKind::Database => "db",
            FileKind::Journal => "journal",
            FileKind::Wal => "wal",
            FileKind::Shm => "shm",
        })
    }

    fn make(&self, kind: FileKind) -> Result<(), Errno> {
        let mut options = File::options();
        let options = options.read(true).write(true).create(true).truncate(false);
        let file = options.open(self.path(kind)).map_err(|e| errno(&e))?;
        self.open.lock().unwrap().insert(kind, Arc::new(file));
        Ok(())
    }

    fn file(&self, kind: FileKind) -> Result<Arc<File>, Errno> {
        self.open.lock().unwrap().get(&kind).cloned().ok_or(Errno(libc::ESTALE))
    }

    pub fn held_locks(&self) -> usize {
        self.locks.lock().unwrap().len()
    }

    fn stands_in_the_way(held: &[LockRequest], asked: &LockRequest) -> Option<LockRequest> {
        held.iter()
            .find(|h| {
                h.file == asked.file
                    && h.owner != asked.owner
                    && h.range.start <= asked.range.end
                    && asked.range.start <= h.range.end
                    && (h.kind == LockKind::Exclusive || asked.kind == LockKind::Exclusive)
            })
            .copied()
    }

    /// Takes what `owner` holds in the range out of the table, keeping what lies beside it.
    fn cut(held: &mut Vec<LockRequest>, asked: &LockRequest) {
        let mut kept = Vec::new();
        for h in held.drain(..) {
            let apart = h.range.end < asked.range.start || asked.range.end < h.range.start;
            if h.file != asked.file || h.owner != asked.owner || apart {
                kept.push(h);
                continue;
            }
            let (mut left, mut right) = (h, h);
            if h.range.start < asked.range.start {
                left.range.end = asked.range.start - 1;
                kept.push(left);
            }
            if h.range.end > asked.range.end {
                right.range.start = asked.range.end + 1;
                kept.push(right);
            }
        }
        *held = kept;
    }
}

impl DatabaseFiles for LocalFiles {
    fn name(&self) -> DatabaseName {
        self.name.clone()
    }

    fn slot(&self) -> u64 {
        self.slot
    }

    fn position(&self) -> Position {
        let txid = self.txid.load(Ordering::SeqCst);
        Position { txid: Txid(txid), checksum: Checksum(Checksum::FLAG | txid) }
    }

    fn exists(&self, kind: FileKind) -> bool {
        self.open.lock().unwrap().contains_key(&kind)
    }

    fn size(&self, kind: FileKind) -> Result<u64, Errno> {
        let size = self.file(kind)?.metadata().map(|m| m.len()).map_err(|e| errno(&e));
        let meanwhile = self.while_sizing.lock().unwrap().take_if(|_| kind == FileKind::Database);
        if let Some(meanwhile) = meanwhile {
            meanwhile();
        }
        size
    }

    fn create_file(&self, kind: FileKind, pid: u32) -> Result<(), Errno> {
        self.created_by.store(pid, Ordering::SeqCst);
        if self.exists(kind) { Ok(()) } else { self.make(kind) }
    }

    fn open(&self, kind: FileKind, _: Handle, _: bool) -> Result<(), Errno> {
        let through = self.through_mount.lock().unwrap().is_some();
        if kind == FileKind::Shm && self.through.load(Ordering::SeqCst) && !through {
            self.opened_too_early.store(true, Ordering::SeqCst);
        }
        self.file(kind).map(|_| ())
    }

    fn release(&self, _: FileKind, handle: Handle, _: Option<Owner>) {
        self.locks.lock().unwrap().retain(|h| h.handle != handle);
    }

    fn flush(&self, kind: FileKind, _: Handle, owner: Owner) {
        let file = match kind {
            FileKind::Database => LockFile::Database,
            FileKind::Shm => LockFile::Shm,
            FileKind::Journal | FileKind::Wal => return,
        };
        self.locks.lock().unwrap().retain(|h| h.owner != owner || h.file != file);
    }

    fn read_mended(&self, offset: u64, len: u32, reply: Reply<Vec<u8>>) {
        reply(self.read(FileKind::Database, Handle(0), offset, len));
    }

    fn read(&self, kind: FileKind, _: Handle, offset: u64, len: u32) -> Result<Vec<u8>, Errno> {
        self.counts.reads.fetch_add(1, Ordering::Relaxed);
        let file = self.file(kind)?;
        let mut bytes = vec![0; len as usize];
        let mut done = 0;
        while done < bytes.len() {
            let at = offset + done as u64;
            match file.read_at(&mut bytes[done..], at).map_err(|e| errno(&e))? {
                0 => break,
                n => done += n,
            }
        }
        bytes.truncate(done);
        Ok(bytes)
    }

    fn write(
        &self,
        kind: FileKind,
        _: Handle,
        _: Writer<'_>,
        offset: u64,
        data: Vec<u8>,
        reply: Reply<u32>,
    ) {
        self.counts.writes.fetch_add(1, Ordering::Relaxed);
        let file = match self.file(kind) {
            Ok(file) => file,
            Err(error) => return reply(Err(error)),
        };
        let write = move |go: bool| {
            if !go {
                return reply(Err(Errno(libc::EIO)));
            }
            let written = u32::try_from(data.len()).unwrap();
            reply(file.write_all_at(&data, offset).map(|()| written).map_err(|e| errno(&e)));
        };
        if kind == FileKind::Wal && self.gate.closed.load(Ordering::SeqCst) {
            self.gate.held.lock().unwrap().push(Box::new(write));
        } else {
            write(true);
        }
    }

    fn truncate(&self, kind: FileKind, _: Option<Handle>, len: u64, reply: Reply<()>) {
        self.counts.truncates.fetch_add(1, Ordering::Relaxed);
        let done = self.file(kind).and_then(|f| f.set_len(len).map_err(|e| errno(&e)));
        std::thread::spawn(move || reply(done));
    }

    fn unlink_file(&self, kind: FileKind, _: u32, reply: Reply<()>) {
        self.open.lock().unwrap().remove(&kind);
        let done = std::fs::remove_file(self.path(kind)).map_err(|e| errno(&e));
        std::thread::spawn(move || reply(done));
    }

    fn get_lock(&self, asked: LockRequest) -> Option<Conflict> {
        let held = self.locks.lock().unwrap();
        Self::stands_in_the_way(&held, &asked).map(|h| Conflict {
            range: h.range,
            kind: h.kind,
            pid: h.pid,
        })
    }

    fn set_lock(&self, asked: LockRequest, reply: Reply<()>) {
        self.counts.locks.fetch_add(1, Ordering::Relaxed);
        let mut held = self.locks.lock().unwrap();
        if asked.kind != LockKind::Unlock && Self::stands_in_the_way(&held, &asked).is_some() {
            return reply(Err(Errno(libc::EAGAIN)));
        }
        Self::cut(&mut held, &asked);
        if asked.kind != LockKind::Unlock {
            held.push(asked);
        }
        drop(held);
        reply(Ok(()));
    }

    fn shm_backing(&self) -> Result<File, Errno> {
        self.through.store(false, Ordering::SeqCst);
        self.file(FileKind::Shm)?.try_clone().map_err(|e| errno(&e))
    }

    fn use_shm(&self, through_mount: File) -> Result<(), Errno> {
        let before = self.through_mount.lock().unwrap().replace(through_mount);
        assert!(before.is_none(), "given twice");
        Ok(())
    }

    fn use_cache(&self, cache: Arc<dyn KernelCache>) {
        assert!(self.cache.set(cache).is_ok(), "given twice");
    }
}
