//! The files of a [`Database`], as the bundled SQLite sees them when it checkpoints.
//!
//! A VFS of our own, registered once: its files are the backing files, its shared memory is our
//! mapping, and its locks are the daemon's place in the lock table, never the kernel's (a kernel
//! lock on the backing file is seen by no application). It opens the database and its WAL, and
//! nothing else: no journal is ever played back (Rule 8), no WAL deleted, no temporary file made.
//!
//! Where SQLite calls what (`walCheckpoint` in `wal.c`): database pages are written, then
//! `SQLITE_FCNTL_CKPT_DONE`, then, if all of the WAL was copied, `xTruncate`; then `nBackfill` is
//! stored. So both drop what the kernel cached, before readers take pages from the file (Rule 16).
//! READ0 is held alone meanwhile; a reader that finds it so takes a read mark instead, and does not
//! wait. `xSync` does nothing: what counts is [`Database::make_durable`] (Rules 11 and 12), since
//! the log still holds every page that the WAL does.
//!
//! `unsafe`: SQLite calls these functions by pointers, with memory that it allocated.
#![allow(unsafe_code)]

use std::collections::HashMap;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::os::unix::fs::FileExt;
use std::ptr;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use rusqlite::ffi;
use rusqlite::{Connection, OpenFlags};

use super::checksums::read_or_zeros;
use super::database::{Database, new_slot, read_full};
use super::shm::View;
use crate::core::ports::{ByteRange, DaemonLocks, KernelCache, LockFile, LockKind};
use crate::sqlite::locks::{PENDING, RECOVER, RESERVED, SHARED_FIRST, SHARED_SIZE, WRITE};
use crate::sqlite::wal_index::REGION_SIZE;

const NAME: &CStr = c"litefs-py-store";

/// More written ranges than this are taken for one.
const MAX_RANGES: usize = 4096;

/// So long a checkpoint tries to begin. SQLite would try for ten seconds; but what is in its way may be
/// a thread that waits for this very checkpoint: SQLite asks for one with the process's mutex of the
/// shm held, without which no other thread gives a lock back (bounded-answer).
const PATIENCE: Duration = Duration::from_millis(50);

/// What one connection works on.
struct Target {
    database: Arc<Database>,
    locks: Arc<dyn DaemonLocks>,
    cache: Arc<dyn KernelCache>,
    /// Its own in the daemon's lock table.
    slot: u64,
    since: Instant,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    /// Keeps what SQLite was given pointers into mapped until the connection is closed.
    view: Option<View>,
    /// Pages written and not yet invalidated: offset, length.
    written: Vec<(u64, u64)>,
    /// Of these the one nearest to the end of the file: its offset, its bytes.
    highest: Option<(u64, Vec<u8>)>,
    /// Rule 10: the log's mark covers all that this checkpoint copies.
    marked: bool,
    /// It has its snapshot: a lock that is refused from now on is not waited for.
    begun: bool,
    /// It did not get one within [`PATIENCE`].
    gave_up: bool,
}

/// Open connections' targets, by the name that their files are opened by.
fn targets() -> MutexGuard<'static, HashMap<String, Arc<Target>>> {
    static TARGETS: OnceLock<Mutex<HashMap<String, Arc<Target>>>> = OnceLock::new();
    TARGETS.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner)
}

/// How far a checkpoint goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckpointMode {
    /// As far as readers allow, beside a writer.
    Passive,
    /// With byte 120 held by SQLite itself: all of the WAL, and readers have left it, so that the
    /// next writer begins it anew.
    Restart,
    /// As `Restart`, and the WAL is cut to nothing.
    Truncate,
}

/// What a checkpoint left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checkpointed {
    /// Frames in the WAL.
    pub frames: u32,
    /// Those of them that are in the database file.
    pub backfilled: u32,
    /// It did not get as far as its mode says: readers, a writer or another checkpoint.
    pub busy: bool,
}

/// Checkpoints a database whose file is not empty.
pub(super) fn checkpoint(
    database: &Arc<Database>,
    mode: CheckpointMode,
) -> Result<Checkpointed, rusqlite::Error> {
    register()?;
    let slot = new_slot();
    let name = format!("litefs-py-{slot}");
    let target = Arc::new(Target {
        database: database.clone(),
        locks: database.locks(),
        cache: database.cache(),
        slot,
        since: Instant::now(),
        inner: Mutex::default(),
    });
    targets().insert(name.clone(), target.clone());
    let result = run(&name, mode, &target);
    targets().remove(&name);
    result
}

fn run(name: &str, mode: CheckpointMode, target: &Target) -> Result<Checkpointed, rusqlite::Error> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags_and_vfs(name, flags, NAME)?;
    connection.busy_timeout(std::time::Duration::ZERO)?;
    // Else the close would checkpoint and delete the WAL.
    let no_checkpoint = rusqlite::config::DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE;
    connection.set_db_config(no_checkpoint, true)?;
    // Reads page 1, and by that opens the WAL; the schema, which may be odd, is not parsed.
    match connection.query_row("PRAGMA schema_version", [], |_| Ok(())) {
        Err(e)
            if e.sqlite_error_code() == Some(rusqlite::ErrorCode::DatabaseBusy)
                || target.inner().gave_up =>
        {
            return Ok(Checkpointed { frames: 0, backfilled: 0, busy: true });
        }
        read => read?,
    }
    target.inner().begun = true;
    let mode = match mode {
        CheckpointMode::Passive => ffi::SQLITE_CHECKPOINT_PASSIVE,
        CheckpointMode::Restart => ffi::SQLITE_CHECKPOINT_RESTART,
        CheckpointMode::Truncate => ffi::SQLITE_CHECKPOINT_TRUNCATE,
    };
    let (mut frames, mut backfilled) = (-1, -1);
    // SAFETY: the handle is open, and used by this thread alone; the numbers outlive the call.
    let rc = unsafe {
        let db = connection.handle();
        ffi::sqlite3_wal_checkpoint_v2(db, ptr::null(), mode, &raw mut frames, &raw mut backfilled)
    };
    if rc != ffi::SQLITE_OK && rc != ffi::SQLITE_BUSY {
        return Err(rusqlite::Error::SqliteFailure(ffi::Error::new(rc), None));
    }
    let frames = u32::try_from(frames).unwrap_or(0);
    let backfilled = u32::try_from(backfilled).unwrap_or(0);
    Ok(Checkpointed { frames, backfilled, busy: rc == ffi::SQLITE_BUSY })
}

/// The VFS lives as long as the process.
struct Registered(c_int);

fn register() -> Result<(), rusqlite::Error> {
    static ONCE: OnceLock<Registered> = OnceLock::new();
    let registered = ONCE.get_or_init(|| {
        // SAFETY: the VFS is filled in fully and leaked, as SQLite keeps the pointer; the default
        // VFS, from which time and randomness are taken, lives as long as the process.
        unsafe {
            if ffi::sqlite3_initialize() != ffi::SQLITE_OK {
                return Registered(ffi::SQLITE_ERROR);
            }
            let Some(base) = ffi::sqlite3_vfs_find(ptr::null()).as_ref() else {
                return Registered(ffi::SQLITE_NOTFOUND);
            };
            let vfs = Box::new(ffi::sqlite3_vfs {
                iVersion: 2,
                szOsFile: c_int::try_from(size_of::<OpenFile>()).unwrap_or(c_int::MAX),
                mxPathname: 255,
                pNext: ptr::null_mut(),
                zName: NAME.as_ptr(),
                pAppData: ptr::null_mut(),
                xOpen: Some(open),
                xDelete: Some(delete),
                xAccess: Some(access),
                xFullPathname: Some(full_pathname),
                xDlOpen: None,
                xDlError: None,
                xDlSym: None,
                xDlClose: None,
                xRandomness: base.xRandomness,
                xSleep: base.xSleep,
                xCurrentTime: base.xCurrentTime,
                xGetLastError: base.xGetLastError,
                xCurrentTimeInt64: base.xCurrentTimeInt64,
                xSetSystemCall: None,
                xGetSystemCall: None,
                xNextSystemCall: None,
            });
            Registered(ffi::sqlite3_vfs_register(Box::into_raw(vfs), 0))
        }
    });
    match registered.0 {
        ffi::SQLITE_OK => Ok(()),
        rc => Err(rusqlite::Error::SqliteFailure(ffi::Error::new(rc), None)),
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Database,
    Wal,
}

/// What SQLite knows as `sqlite3_file`. `target` is from `Arc::into_raw`, given back at close.
#[repr(C)]
struct OpenFile {
    base: ffi::sqlite3_file,
    target: *const Target,
    kind: Kind,
}

static METHODS: ffi::sqlite3_io_methods = ffi::sqlite3_io_methods {
    iVersion: 2,
    xClose: Some(close),
    xRead: Some(read),
    xWrite: Some(write),
    xTruncate: Some(truncate),
    xSync: Some(sync),
    xFileSize: Some(file_size),
    xLock: Some(lock),
    xUnlock: Some(unlock),
    xCheckReservedLock: Some(check_reserved_lock),
    xFileControl: Some(file_control),
    xSectorSize: Some(sector_size),
    xDeviceCharacteristics: Some(device_characteristics),
    xShmMap: Some(shm_map),
    xShmLock: Some(shm_lock),
    xShmBarrier: Some(shm_barrier),
    xShmUnmap: Some(shm_unmap),
    xFetch: None,
    xUnfetch: None,
};

/// The open file behind SQLite's pointer.
///
/// # Safety
/// `file` was opened by [`open`] and not closed.
unsafe fn opened<'a>(file: *mut ffi::sqlite3_file) -> (&'a Target, Kind) {
    // SAFETY: by the contract, `file` is an `OpenFile`, whose target is kept alive by its count.
    unsafe {
        let file = &*file.cast::<OpenFile>();
        (&*file.target, file.kind)
    }
}

impl Target {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self, file: LockFile, start: u64, len: u64, kind: LockKind) -> bool {
        let range = ByteRange { start, end: start + len.saturating_sub(1) };
        self.locks.lock(self.slot, file, range, kind)
    }

    /// What a lock that is refused is answered with: SQLite tries again after BUSY.
    fn refused(&self) -> c_int {
        let mut inner = self.inner();
        inner.gave_up |= !inner.begun && self.since.elapsed() > PATIENCE;
        if inner.gave_up { ffi::SQLITE_IOERR_SHMLOCK } else { ffi::SQLITE_BUSY }
    }

    /// Rule 16: the kernel learns how long the file is now, and drops what was written from its
    /// cache; in this order, so that whoever asks for the size meanwhile has it already.
    fn tell_written(&self) {
        let (written, highest) = {
            let mut inner = self.inner();
            (std::mem::take(&mut inner.written), inner.highest.take())
        };
        if let Some((offset, page)) = highest {
            self.cache.grown(offset, &page);
        }
        if written.len() > MAX_RANGES {
            let start = written.iter().map(|(offset, _)| *offset).min().unwrap_or(0);
            let end = written.iter().map(|(offset, len)| offset + len).max().unwrap_or(0);
            self.cache.invalidate(start, end - start);
        } else {
            for (offset, len) in written {
                self.cache.invalidate(offset, len);
            }
        }
    }
}

unsafe extern "C" fn open(
    _vfs: *mut ffi::sqlite3_vfs,
    name: *const c_char,
    file: *mut ffi::sqlite3_file,
    flags: c_int,
    out_flags: *mut c_int,
) -> c_int {
    // SAFETY: SQLite hands in szOsFile bytes for the file, and a string or null for the name.
    unsafe {
        (*file).pMethods = ptr::null();
        let kind = if flags & ffi::SQLITE_OPEN_MAIN_DB != 0 {
            Kind::Database
        } else if flags & ffi::SQLITE_OPEN_WAL != 0 {
            Kind::Wal
        } else {
            return ffi::SQLITE_CANTOPEN;
        };
        if name.is_null() {
            return ffi::SQLITE_CANTOPEN;
        }
        let name = CStr::from_ptr(name).to_str().unwrap_or_default();
        let name = name.strip_suffix("-wal").unwrap_or(name);
        let Some(target) = targets().get(name).cloned() else { return ffi::SQLITE_CANTOPEN };
        let base = ffi::sqlite3_file { pMethods: &raw const METHODS };
        ptr::write(file.cast(), OpenFile { base, target: Arc::into_raw(target), kind });
        if !out_flags.is_null() {
            *out_flags = flags;
        }
    }
    ffi::SQLITE_OK
}

unsafe extern "C" fn delete(_: *mut ffi::sqlite3_vfs, _: *const c_char, _: c_int) -> c_int {
    ffi::SQLITE_IOERR_DELETE
}

unsafe extern "C" fn access(
    _: *mut ffi::sqlite3_vfs,
    name: *const c_char,
    _flags: c_int,
    out: *mut c_int,
) -> c_int {
    // SAFETY: SQLite hands in a string and a place for the answer.
    unsafe {
        let wal = !name.is_null() && CStr::from_ptr(name).to_bytes().ends_with(b"-wal");
        *out = c_int::from(wal);
    }
    ffi::SQLITE_OK
}

unsafe extern "C" fn full_pathname(
    _: *mut ffi::sqlite3_vfs,
    name: *const c_char,
    len: c_int,
    out: *mut c_char,
) -> c_int {
    // SAFETY: SQLite hands in a string, and room for `len` bytes.
    unsafe {
        let name = CStr::from_ptr(name).to_bytes_with_nul();
        if name.len() > usize::try_from(len).unwrap_or(0) {
            return ffi::SQLITE_CANTOPEN;
        }
        ptr::copy_nonoverlapping(name.as_ptr().cast(), out, name.len());
    }
    ffi::SQLITE_OK
}

unsafe extern "C" fn close(file: *mut ffi::sqlite3_file) -> c_int {
    // SAFETY: opened by `open`; the pointer to the target is given back once.
    unsafe {
        drop(Arc::from_raw((*file.cast::<OpenFile>()).target));
        (*file).pMethods = ptr::null();
    }
    ffi::SQLITE_OK
}

unsafe extern "C" fn read(
    file: *mut ffi::sqlite3_file,
    buffer: *mut c_void,
    len: c_int,
    offset: ffi::sqlite3_int64,
) -> c_int {
    // SAFETY: opened by `open`; SQLite hands in `len` bytes to fill.
    let (target, kind, buffer) = unsafe {
        let (target, kind) = opened(file);
        let len = usize::try_from(len).unwrap_or(0);
        (target, kind, std::slice::from_raw_parts_mut(buffer.cast::<u8>(), len))
    };
    let offset = u64::try_from(offset).unwrap_or(0);
    let database = &target.database;
    let file = if kind == Kind::Wal { &database.wal } else { &database.main };
    match read_full(file, offset, buffer) {
        Ok(n) if n == buffer.len() => ffi::SQLITE_OK,
        // SQLite wants zeros for what is not there.
        Ok(_) if read_or_zeros(file, buffer, offset).is_ok() => ffi::SQLITE_IOERR_SHORT_READ,
        _ => ffi::SQLITE_IOERR_READ,
    }
}

unsafe extern "C" fn write(
    file: *mut ffi::sqlite3_file,
    buffer: *const c_void,
    len: c_int,
    offset: ffi::sqlite3_int64,
) -> c_int {
    // SAFETY: opened by `open`; SQLite hands in `len` bytes.
    let (target, kind, bytes) = unsafe {
        let (target, kind) = opened(file);
        let len = usize::try_from(len).unwrap_or(0);
        (target, kind, std::slice::from_raw_parts(buffer.cast::<u8>(), len))
    };
    if kind == Kind::Wal {
        return ffi::SQLITE_IOERR_WRITE;
    }
    let offset = u64::try_from(offset).unwrap_or(0);
    // Rule 10, here and not before the checkpoint: what it copies was settled when it read the
    // wal-index, and more may have been committed between the two.
    if !target.inner().marked {
        if target.database.sync_mark().is_err() {
            return ffi::SQLITE_IOERR_WRITE;
        }
        target.inner().marked = true;
    }
    if let Err(e) = target.database.main.write_all_at(bytes, offset) {
        let full = e.kind() == std::io::ErrorKind::StorageFull;
        return if full { ffi::SQLITE_FULL } else { ffi::SQLITE_IOERR_WRITE };
    }
    let mut inner = target.inner();
    if inner.highest.as_ref().is_none_or(|(highest, _)| *highest <= offset) {
        inner.highest = Some((offset, bytes.to_vec()));
    }
    match inner.written.last_mut() {
        Some((start, so_far)) if *start + *so_far == offset => *so_far += bytes.len() as u64,
        _ => inner.written.push((offset, bytes.len() as u64)),
    }
    ffi::SQLITE_OK
}

unsafe extern "C" fn truncate(file: *mut ffi::sqlite3_file, size: ffi::sqlite3_int64) -> c_int {
    // SAFETY: opened by `open`.
    let (target, kind) = unsafe { opened(file) };
    let size = u64::try_from(size).unwrap_or(0);
    let database = &target.database;
    let file = if kind == Kind::Wal { &database.wal } else { &database.main };
    if file.metadata().is_ok_and(|meta| meta.len() == size) {
        return ffi::SQLITE_OK;
    }
    if file.set_len(size).is_err() {
        return ffi::SQLITE_IOERR_TRUNCATE;
    }
    if kind == Kind::Database {
        // Rule 16: before nBackfill says that the file is to be read.
        target.cache.invalidate(size, 0);
    }
    ffi::SQLITE_OK
}

unsafe extern "C" fn sync(_: *mut ffi::sqlite3_file, _: c_int) -> c_int {
    ffi::SQLITE_OK
}

unsafe extern "C" fn file_size(
    file: *mut ffi::sqlite3_file,
    out: *mut ffi::sqlite3_int64,
) -> c_int {
    // SAFETY: opened by `open`; SQLite hands in a place for the answer.
    unsafe {
        let (target, kind) = opened(file);
        let database = &target.database;
        let file = if kind == Kind::Wal { &database.wal } else { &database.main };
        let Ok(meta) = file.metadata() else { return ffi::SQLITE_IOERR_FSTAT };
        *out = ffi::sqlite3_int64::try_from(meta.len()).unwrap_or(ffi::sqlite3_int64::MAX);
    }
    ffi::SQLITE_OK
}

/// SHARED is all that a checkpoint needs of the database file.
unsafe extern "C" fn lock(file: *mut ffi::sqlite3_file, level: c_int) -> c_int {
    // SAFETY: opened by `open`.
    let (target, _) = unsafe { opened(file) };
    match level {
        ffi::SQLITE_LOCK_NONE => ffi::SQLITE_OK,
        ffi::SQLITE_LOCK_SHARED => {
            // As os_unix.c: PENDING for a moment, so that writers who wait are not starved.
            if !target.lock(LockFile::Database, PENDING, 1, LockKind::Shared) {
                return ffi::SQLITE_BUSY;
            }
            let shared =
                target.lock(LockFile::Database, SHARED_FIRST, SHARED_SIZE, LockKind::Shared);
            target.lock(LockFile::Database, PENDING, 1, LockKind::Unlock);
            if shared { ffi::SQLITE_OK } else { ffi::SQLITE_BUSY }
        }
        _ => ffi::SQLITE_BUSY,
    }
}

unsafe extern "C" fn unlock(file: *mut ffi::sqlite3_file, level: c_int) -> c_int {
    if level == ffi::SQLITE_LOCK_NONE {
        // SAFETY: opened by `open`.
        let (target, _) = unsafe { opened(file) };
        target.lock(LockFile::Database, SHARED_FIRST, SHARED_SIZE, LockKind::Unlock);
    }
    ffi::SQLITE_OK
}

unsafe extern "C" fn check_reserved_lock(file: *mut ffi::sqlite3_file, out: *mut c_int) -> c_int {
    // SAFETY: opened by `open`; SQLite hands in a place for the answer.
    unsafe {
        let (target, _) = opened(file);
        let range = ByteRange { start: RESERVED, end: RESERVED };
        *out = c_int::from(target.locks.is_locked_exclusively(LockFile::Database, range));
    }
    ffi::SQLITE_OK
}

unsafe extern "C" fn file_control(
    file: *mut ffi::sqlite3_file,
    op: c_int,
    _arg: *mut c_void,
) -> c_int {
    if op == ffi::SQLITE_FCNTL_CKPT_DONE {
        // SAFETY: opened by `open`.
        let (target, _) = unsafe { opened(file) };
        target.tell_written();
        return ffi::SQLITE_OK;
    }
    ffi::SQLITE_NOTFOUND
}

unsafe extern "C" fn sector_size(_: *mut ffi::sqlite3_file) -> c_int {
    4096
}

unsafe extern "C" fn device_characteristics(_: *mut ffi::sqlite3_file) -> c_int {
    ffi::SQLITE_IOCAP_POWERSAFE_OVERWRITE
}

unsafe extern "C" fn shm_map(
    file: *mut ffi::sqlite3_file,
    region: c_int,
    size: c_int,
    extend: c_int,
    out: *mut *mut c_void,
) -> c_int {
    // SAFETY: opened by `open`; SQLite hands in a place for the pointer. The view that it points
    // into is kept until the connection is closed; regions are mapped once for all views.
    unsafe {
        let (target, _) = opened(file);
        *out = ptr::null_mut();
        let Ok(region) = usize::try_from(region) else { return ffi::SQLITE_IOERR_SHMMAP };
        if usize::try_from(size) != Ok(REGION_SIZE) {
            return ffi::SQLITE_IOERR_SHMSIZE;
        }
        let shm = &target.database.shm;
        let view = if extend == 0 { shm.view() } else { shm.grow(region + 1) };
        let Ok(view) = view else { return ffi::SQLITE_IOERR_SHMMAP };
        if let Some(mapped) = view.region(region) {
            *out = mapped.cast();
        }
        target.inner().view = Some(view);
    }
    ffi::SQLITE_OK
}

unsafe extern "C" fn shm_lock(
    file: *mut ffi::sqlite3_file,
    offset: c_int,
    n: c_int,
    flags: c_int,
) -> c_int {
    // SAFETY: opened by `open`.
    let (target, _) = unsafe { opened(file) };
    let (Ok(offset), Ok(n)) = (u64::try_from(offset), u64::try_from(n)) else {
        return ffi::SQLITE_IOERR_SHMLOCK;
    };
    let kind = if flags & ffi::SQLITE_SHM_UNLOCK != 0 {
        LockKind::Unlock
    } else if flags & ffi::SQLITE_SHM_EXCLUSIVE != 0 {
        LockKind::Exclusive
    } else {
        LockKind::Shared
    };
    let start = WRITE + offset;
    if kind == LockKind::Exclusive && (start..start + n).contains(&RECOVER) {
        // Rule 3: a checkpoint does not repair the wal-index from what the WAL file holds.
        return target.refused();
    }
    if target.lock(LockFile::Shm, start, n, kind) { ffi::SQLITE_OK } else { target.refused() }
}

unsafe extern "C" fn shm_barrier(_: *mut ffi::sqlite3_file) {
    std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
}

unsafe extern "C" fn shm_unmap(_: *mut ffi::sqlite3_file, _delete: c_int) -> c_int {
    ffi::SQLITE_OK
}
