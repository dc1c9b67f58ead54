//! One database of this node: its files, its checksums, and where it stands.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use rustix::fs::{FallocateFlags, fallocate};

use super::checksums::{ChangeError, Changes, ChecksumTable, Preview};
use super::error::{StoreError, io_at};
use super::overlay::Overlay;
use super::record::Record;
use super::shm::{Shm, View};
use crate::core::ports::{
    ByteRange, CommittedMark, DaemonLocks, KernelCache, LockFile, LockKind, NoKernelCache, NoMark,
};
use crate::core::{DatabaseName, EntryId, Incarnation, Position, Txid};
use crate::ltx::LtxError;
use crate::sqlite::wal_index::{self, regions_for};
use crate::sqlite::{DatabaseHeader, IndexError, IndexHeader, Salts, WalTip, wal};

/// The slot of [`DaemonLocks`] in which this room takes read locks to restart a WAL. The caller
/// holds byte 120 in a slot of its own.
pub const APPLIER_SLOT: u64 = 1;

/// Slots from here on are this room's: one for each checkpoint and each snapshot.
pub const FIRST_STORE_SLOT: u64 = 1 << 32;

/// How a database keeps its transactions apart from its file (file format, bytes 18 and 19).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JournalMode {
    Wal,
    /// Also of an empty database.
    Rollback,
}

/// Where a database stands after a transaction.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mark {
    pub entry: EntryId,
    pub position: Position,
    /// Size of the database, in pages.
    pub pages: u32,
    /// Where its last frame is; `None`: it is in the database file.
    pub tip: Option<WalTip>,
}

pub(super) struct State {
    /// Of `head`.
    pub table: ChecksumTable,
    pub incarnation: Option<Incarnation>,
    /// The last transaction that is committed.
    pub head: Mark,
    /// The last transaction that new readers see (Rule 18).
    pub visible: Mark,
    /// What the record on disk says.
    pub record: Record,
    /// The log is being replayed; nobody else uses the files.
    pub recovering: bool,
}

/// Numbers for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// Bytes of the database file.
    pub database: u64,
    /// Bytes of the WAL file; much of it may be of an earlier life.
    pub wal: u64,
    /// Frames of the WAL that count.
    pub frames: u32,
    /// Those of them that are in the database file.
    pub backfilled: u32,
}

/// One database of this node. All methods may be called from any thread; who appends holds byte
/// 120, who applies in place holds the database alone.
pub struct Database {
    pub(super) id: u64,
    name: DatabaseName,
    folder: Mutex<PathBuf>,
    /// The database file.
    pub(super) main: File,
    pub(super) wal: File,
    pub(super) shm: Shm,
    pub(super) overlay: Mutex<Option<Overlay>>,
    journal: Mutex<Option<Arc<File>>>,
    state: Mutex<State>,
    ports: RwLock<(Arc<dyn DaemonLocks>, Arc<dyn KernelCache>)>,
    mark: RwLock<Arc<dyn CommittedMark>>,
    /// One checkpoint at a time, and none while the record is written.
    pub(super) checkpointing: Mutex<()>,
}

/// Every lock is free: while the log is replayed, before any application can be there.
struct NoLocks;

impl DaemonLocks for NoLocks {
    fn lock(&self, _: u64, _: LockFile, _: ByteRange, _: LockKind) -> bool {
        true
    }

    fn is_locked_exclusively(&self, _: LockFile, _: ByteRange) -> bool {
        false
    }
}

/// The next slot number of [`FIRST_STORE_SLOT`] and above.
pub(super) fn new_slot() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(FIRST_STORE_SLOT);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

impl Database {
    /// Opens the files of a slot whose record is this. The WAL begins empty, with a new shm.
    pub(super) fn open(
        id: u64,
        folder: &Path,
        generation: u64,
        record: Record,
    ) -> Result<Self, StoreError> {
        let open = |name: &str| {
            let path = folder.join(name);
            File::options()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .open(&path)
                .map_err(io_at("opening", &path))
        };
        let main = open("database")?;
        let wal = open("wal")?;
        let at = folder.join("database");
        // What lies beyond is of transactions that the log brings again.
        let len = u64::from(record.page_size) * u64::from(record.pages);
        if file_len(&main, &at)? > len {
            main.set_len(len).map_err(io_at("truncating", &at))?;
        }
        let table = ChecksumTable::scan(&main, record.page_size, record.pages)
            .map_err(io_at("summing", &at))?;
        let path = folder.join(format!("shm-{generation}"));
        let shm = Shm::create(&path).map_err(io_at("making the wal-index", &path))?;
        let mark = Mark {
            entry: record.applied,
            position: record.position,
            pages: record.pages,
            tip: None,
        };
        let state = State {
            table,
            incarnation: record.incarnation,
            head: mark,
            visible: mark,
            recovering: record.incarnation.is_some(),
            record,
        };
        let database = Self {
            id,
            name: state.record.name.clone(),
            folder: Mutex::new(folder.to_owned()),
            main,
            wal,
            shm,
            overlay: Mutex::new(None),
            journal: Mutex::new(None),
            state: Mutex::new(state),
            ports: RwLock::new((Arc::new(NoLocks), Arc::new(NoKernelCache))),
            mark: RwLock::new(Arc::new(NoMark)),
            checkpointing: Mutex::new(()),
        };
        database.init_shm()?;
        Ok(database)
    }

    /// Writes the index of an empty WAL (Rule 3: the daemon alone does). Nobody has it open.
    /// Its size of the database is 0, which says: ask the file.
    fn init_shm(&self) -> Result<(), StoreError> {
        let header = IndexHeader {
            change: rand::random(),
            big_endian: false,
            page_size: self.state().table.page_size(),
            max_frame: 0,
            pages: 0,
            frame_checksum: (0, 0),
            salts: Salts(rand::random()),
        };
        wal_index::initialise(&self.view()?, &header).map_err(|e| self.index(e))
    }

    /// From now on the daemon's locks are taken here, and the kernel's cache is dropped there.
    pub fn connect(&self, locks: Arc<dyn DaemonLocks>, cache: Arc<dyn KernelCache>) {
        *self.ports.write().unwrap_or_else(PoisonError::into_inner) = (locks, cache);
    }

    /// From now on the log's mark is made durable there before the file is changed (Rule 10).
    pub fn use_mark(&self, mark: Arc<dyn CommittedMark>) {
        *self.mark.write().unwrap_or_else(PoisonError::into_inner) = mark;
    }

    /// Rule 10. Blocks.
    pub fn sync_mark(&self) -> Result<(), StoreError> {
        let mark = self.mark.read().unwrap_or_else(PoisonError::into_inner).clone();
        mark.sync().map_err(|e| self.io("syncing the log's committed mark", "", e))
    }

    /// The same, unless the mark is known to cover this entry. Many are replayed, one after the other.
    pub(super) fn sync_mark_up_to(&self, entry: EntryId) -> Result<(), StoreError> {
        let mark = self.mark.read().unwrap_or_else(PoisonError::into_inner).clone();
        if mark.covers(entry.index) { Ok(()) } else { self.sync_mark() }
    }

    /// The number of its slot: no other database has it while the daemon lives (Rule 17).
    pub fn slot(&self) -> u64 {
        self.id
    }

    pub fn name(&self) -> &DatabaseName {
        &self.name
    }

    /// The folder of its files.
    pub fn folder(&self) -> PathBuf {
        self.folder.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// `None` while nobody committed to it.
    pub fn incarnation(&self) -> Option<Incarnation> {
        self.state().incarnation
    }

    /// Of the last transaction that a new reader sees (Rule 18).
    pub fn position(&self) -> Position {
        self.state().visible.position
    }

    /// Of the last transaction that is committed: what the next one is made on. Ahead of
    /// [`Database::position`] while a local writer has not made its own visible yet.
    pub fn head(&self) -> Position {
        self.state().head.position
    }

    /// The entry of the last transaction that is committed.
    pub fn applied(&self) -> EntryId {
        self.state().head.entry
    }

    /// Bytes; 0 while the database is empty.
    pub fn page_size(&self) -> u32 {
        self.state().table.page_size()
    }

    /// Size of the database at its head, in pages.
    pub fn pages(&self) -> u32 {
        self.state().table.pages()
    }

    /// What the record on disk says: up to where the database is durable.
    pub fn record(&self) -> Record {
        self.state().record.clone()
    }

    /// From the header in the database file.
    pub fn journal_mode(&self) -> Result<JournalMode, StoreError> {
        let mut bytes = [0; 2];
        self.read_database(18, &mut bytes)?;
        Ok(if bytes == [2, 2] { JournalMode::Wal } else { JournalMode::Rollback })
    }

    /// The header in the database file; `None` while it is empty.
    pub fn header(&self) -> Result<Option<DatabaseHeader>, StoreError> {
        let mut bytes = [0; crate::sqlite::header::SIZE];
        match self.read_database(0, &mut bytes)? {
            0 => Ok(None),
            n => DatabaseHeader::parse(bytes.get(..n).unwrap_or_default())
                .map(Some)
                .map_err(|source| StoreError::Header { name: self.name.clone(), source }),
        }
    }

    /// Reads the database file; fewer bytes only at its end. What the mount serves is
    /// [`Database::read_with_overlay`].
    pub fn read_database(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, StoreError> {
        read_full(&self.main, offset, buffer).map_err(|e| self.io("reading", "database", e))
    }

    /// The WAL file, as applications write and read it.
    pub fn wal(&self) -> &File {
        &self.wal
    }

    /// The file behind the shm, for FUSE passthrough.
    pub fn shm_backing(&self) -> Result<File, StoreError> {
        self.shm.file().map_err(io_at("opening the wal-index", self.shm.path()))
    }

    /// From now on maps the shm as opened through the mount, where the kernel has no passthrough.
    /// Called before any application opens it, while the caller keeps everybody from storing into it, and
    /// not from a FUSE worker.
    pub fn use_shm(&self, through_mount: File) -> Result<(), StoreError> {
        let mapping = io_at("mapping the wal-index through the mount", self.shm.path());
        self.shm.replace(through_mount).map_err(mapping)
    }

    /// The rollback journal. `create`: makes it if it is not there.
    pub fn journal(&self, create: bool) -> Result<Option<Arc<File>>, StoreError> {
        let mut journal = self.journal.lock().unwrap_or_else(PoisonError::into_inner);
        if journal.is_none() && create {
            let path = self.folder().join("journal");
            let file = File::options()
                .read(true)
                .write(true)
                .create(true)
                .truncate(true)
                .open(&path)
                .map_err(io_at("making the journal", &path))?;
            *journal = Some(Arc::new(file));
        }
        Ok(journal.clone())
    }

    /// Removes the rollback journal, if there is one.
    pub fn remove_journal(&self) -> Result<(), StoreError> {
        let mut journal = self.journal.lock().unwrap_or_else(PoisonError::into_inner);
        let path = self.folder().join("journal");
        remove_if_there(&path).map_err(io_at("removing the journal", &path))?;
        *journal = None;
        Ok(())
    }

    /// Where the WAL ends, from the live wal-index (Rule 4); `None`: it holds no committed frame,
    /// and the next writer begins it with a new header. The caller holds byte 120.
    pub fn wal_tip(&self) -> Result<Option<WalTip>, StoreError> {
        let view = self.view()?;
        Ok(wal_index::read_header(&view).map_err(|e| self.index(e))?.tip())
    }

    /// Changes of a transaction that leaves the database with `pages` pages of `page_size` bytes.
    /// Hand it the changed pages, then ask [`Database::preview`].
    pub fn changes(&self, page_size: u32, pages: u32) -> Changes {
        Changes::new(page_size, pages)
    }

    /// Where a transaction of these pages leads: the next TXID. Changes nothing.
    pub fn preview(&self, changes: &Changes) -> Preview {
        let state = self.state();
        let txid = Txid(state.head.position.txid.0.saturating_add(1));
        state.table.preview(changes, state.head.position, txid)
    }

    /// A transaction of a local writer in WAL mode is committed by this entry; its frames end at
    /// `tip`. It is not visible before its writer, or [`Database::publish_if_needed`], says so in
    /// the wal-index (Rule 2); until that was called, nothing else can be adopted.
    pub fn adopt(&self, preview: &Preview, entry: EntryId, tip: WalTip) -> Result<(), StoreError> {
        let mut state = self.state();
        self.check_published(&state)?;
        self.check_base(&state, preview.base)?;
        state.table.adopt(preview);
        state.take_incarnation(entry);
        state.head =
            Mark { entry, position: preview.position, pages: preview.pages, tip: Some(tip) };
        Ok(())
    }

    /// Secures the space for a transaction before it is proposed (Rule 7): for `frames` frames
    /// beyond the WAL's tip with their part of the wal-index in WAL mode; for a database of
    /// `pages` pages of `page_size` bytes otherwise.
    ///
    /// # Errors
    /// Usually a full disk: do not propose.
    pub fn reserve(&self, page_size: u32, pages: u32, frames: u32) -> Result<(), StoreError> {
        if self.journal_mode()? == JournalMode::Wal {
            let tip = self.wal_tip()?.map_or(0, |tip| tip.frame);
            let last = tip.saturating_add(frames);
            self.shm
                .grow(regions_for(last))
                .map_err(io_at("securing space for the wal-index", self.shm.path()))?;
            let from = wal::frame_offset(page_size, tip.saturating_add(1));
            let len = u64::from(frames) * wal::frame_size(page_size);
            secure(&self.wal, from, len).map_err(|e| self.io("securing space", "wal", e))
        } else {
            let have = self.len()?;
            let want = u64::from(pages) * u64::from(page_size);
            secure(&self.main, have, want.saturating_sub(have))
                .map_err(|e| self.io("securing space", "database", e))
        }
    }

    /// Frames of the WAL that count, and how many of them are in the database file.
    pub fn backfill(&self) -> Result<(u32, u32), StoreError> {
        let view = self.view()?;
        let info = wal_index::checkpoint_info(&view).map_err(|e| self.index(e))?;
        let frames = wal_index::read_header(&view).map_or(0, |header| header.max_frame);
        Ok((frames, info.backfill.min(frames)))
    }

    /// Numbers for metrics.
    pub fn sizes(&self) -> Result<Sizes, StoreError> {
        let (frames, backfilled) = self.backfill()?;
        let wal = file_len(&self.wal, &self.folder().join("wal"))?;
        Ok(Sizes { database: self.len()?, wal, frames, backfilled })
    }

    /// After the log was replayed: whether the bytes are what the position says (Rule 13).
    ///
    /// # Errors
    /// `Diverged`: set the database aside and fetch a snapshot.
    pub fn finish_recovery(&self) -> Result<Position, StoreError> {
        let mut state = self.state();
        let expected = state.head.position;
        let found = Position { checksum: state.table.total(), ..expected };
        if found != expected || state.table.pages() != state.head.pages {
            return Err(self.diverged("the checksum of its file", expected, found));
        }
        state.recovering = false;
        drop(state);
        Ok(expected)
    }

    /// Bytes of the database file.
    pub(super) fn len(&self) -> Result<u64, StoreError> {
        self.main.metadata().map(|m| m.len()).map_err(|e| self.io("asking", "database", e))
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn locks(&self) -> Arc<dyn DaemonLocks> {
        self.ports.read().unwrap_or_else(PoisonError::into_inner).0.clone()
    }

    pub(super) fn cache(&self) -> Arc<dyn KernelCache> {
        self.ports.read().unwrap_or_else(PoisonError::into_inner).1.clone()
    }

    pub(super) fn view(&self) -> Result<View, StoreError> {
        self.shm.view().map_err(io_at("mapping the wal-index", self.shm.path()))
    }

    pub(super) fn moved_to(&self, folder: PathBuf) {
        *self.folder.lock().unwrap_or_else(PoisonError::into_inner) = folder;
    }

    pub(super) fn check_published(&self, state: &State) -> Result<(), StoreError> {
        if state.is_published() {
            Ok(())
        } else {
            let (name, entry) = (self.name.clone(), state.head.entry);
            Err(StoreError::Unpublished { name, entry })
        }
    }

    pub(super) fn check_base(&self, state: &State, found: Position) -> Result<(), StoreError> {
        let expected = state.head.position;
        if found == expected {
            Ok(())
        } else {
            Err(self.diverged("the position that a transaction was made on", expected, found))
        }
    }

    pub(super) fn diverged(
        &self,
        what: &'static str,
        expected: Position,
        found: Position,
    ) -> StoreError {
        StoreError::Diverged { name: self.name.clone(), what, expected, found }
    }

    pub(super) fn io(&self, what: &'static str, file: &str, source: io::Error) -> StoreError {
        StoreError::Io { what, path: self.folder().join(file), source }
    }

    pub(super) fn index(&self, source: IndexError) -> StoreError {
        StoreError::Index { name: self.name.clone(), source }
    }

    pub(super) fn ltx(&self, source: LtxError) -> StoreError {
        StoreError::Ltx { name: self.name.clone(), source }
    }

    pub(super) fn change(&self, e: ChangeError) -> StoreError {
        self.invalid(format!("a transaction's page cannot be: {e}"))
    }

    /// It was further than it is now, which cannot be: what was to take its place was left out for that.
    pub fn gone_back(&self) -> StoreError {
        self.invalid("it is not any more where it was when a snapshot of it was left out")
    }

    pub(super) fn busy(&self, what: &'static str) -> StoreError {
        StoreError::Busy { name: self.name.clone(), what }
    }

    pub(super) fn invalid(&self, reason: impl Into<String>) -> StoreError {
        StoreError::Invalid { name: self.name.clone(), reason: reason.into() }
    }
}

impl State {
    pub fn is_published(&self) -> bool {
        self.head.entry == self.visible.entry
    }

    /// The first entry that commits to a database begins its incarnation.
    pub fn take_incarnation(&mut self, entry: EntryId) {
        self.incarnation.get_or_insert(Incarnation(entry.index));
    }
}

pub(super) fn file_len(file: &File, path: &Path) -> Result<u64, StoreError> {
    file.metadata().map(|m| m.len()).map_err(io_at("asking", path))
}

pub(super) fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

/// Reads up to the end of the buffer or of the file.
pub(super) fn read_full(file: &File, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
    let mut done = 0;
    while let Some(rest) = buffer.get_mut(done..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, offset + done as u64) {
            Ok(0) => break,
            Ok(n) => done += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(done)
}

/// Allocates blocks without changing the file's size. A file system that cannot is no reason to
/// refuse.
pub(super) fn secure(file: &File, offset: u64, len: u64) -> io::Result<()> {
    if len == 0 || file.metadata()?.len() >= offset.saturating_add(len) {
        return Ok(());
    }
    match fallocate(file, FallocateFlags::KEEP_SIZE, offset, len) {
        Ok(()) | Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => Ok(()),
        Err(e) => Err(e.into()),
    }
}
