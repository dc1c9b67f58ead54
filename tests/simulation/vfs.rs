//! SQLite's way to the mount: a VFS that does what `os_unix.c` does, with the door instead of system
//! calls. The applications of the simulation are real SQLite.
//!
//! `unsafe`: SQLite calls these functions by pointers, with memory that it allocated.
#![allow(unsafe_code)]

use std::collections::BTreeMap;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::fs::File;
use std::ptr;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use litefs_py::commit::door::{Errno, FileKind, Handle};
use litefs_py::core::ports::{LockFile, LockKind};
use litefs_py::sqlite::locks::{DMS, PENDING, RESERVED, SHARED_FIRST, SHARED_SIZE, WRITE};
use litefs_py::sqlite::wal_index::REGION_SIZE;
use memmap2::{MmapOptions, MmapRaw};
use rusqlite::ffi;

use crate::kernel::Process;

pub const NAME: &CStr = c"mount";

fn processes() -> MutexGuard<'static, BTreeMap<String, Arc<Process>>> {
    static PROCESSES: OnceLock<Mutex<BTreeMap<String, Arc<Process>>>> = OnceLock::new();
    PROCESSES.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner)
}

/// From now on a connection to the file of this name is this process's.
pub fn admit(name: &str, process: &Arc<Process>) {
    processes().insert(name.to_owned(), Arc::clone(process));
}

/// Makes the VFS known to SQLite, and SQLite's chance the seed's.
pub fn register(seed: u64) {
    // SAFETY: called once, before any connection; the VFS is filled in fully and leaked, as SQLite
    // keeps the pointer.
    unsafe {
        ffi::sqlite3_initialize();
        let null: *mut ffi::sqlite3 = ptr::null_mut();
        ffi::sqlite3_test_control(ffi::SQLITE_TESTCTRL_PRNG_SEED, (seed as c_int) | 1, null);
        let Some(base) = ffi::sqlite3_vfs_find(ptr::null()).as_ref() else { return };
        let vfs = Box::new(ffi::sqlite3_vfs {
            iVersion: 2,
            szOsFile: size_of::<OpenFile>() as c_int,
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
        ffi::sqlite3_vfs_register(Box::into_raw(vfs), 0);
    }
}

/// What SQLite knows as `sqlite3_file`.
#[repr(C)]
struct OpenFile {
    base: ffi::sqlite3_file,
    /// From `Box::into_raw`, given back at close.
    inner: *mut Inner,
}

struct Inner {
    process: Arc<Process>,
    kind: FileKind,
    handle: Handle,
    level: c_int,
    shm: Option<Mapped>,
}

struct Mapped {
    handle: Handle,
    file: File,
    regions: Vec<MmapRaw>,
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

/// # Safety
/// `file` was opened by [`open`] and not closed; one thread uses a connection at a time.
unsafe fn opened<'a>(file: *mut ffi::sqlite3_file) -> &'a mut Inner {
    // SAFETY: by the contract.
    unsafe { &mut *(*file.cast::<OpenFile>()).inner }
}

fn split(name: &str) -> (&str, FileKind) {
    if let Some(name) = name.strip_suffix("-journal") {
        (name, FileKind::Journal)
    } else if let Some(name) = name.strip_suffix("-wal") {
        (name, FileKind::Wal)
    } else {
        (name, FileKind::Database)
    }
}

unsafe fn process_of(name: *const c_char) -> Option<(Arc<Process>, FileKind)> {
    if name.is_null() {
        return None;
    }
    // SAFETY: a string of SQLite's.
    let name = unsafe { CStr::from_ptr(name) }.to_str().ok()?;
    let (name, kind) = split(name);
    Some((processes().get(name).cloned()?, kind))
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
        let Some((process, kind)) = process_of(name) else { return ffi::SQLITE_CANTOPEN };
        let there = kind == FileKind::Database || process.exists(kind);
        let create = flags & ffi::SQLITE_OPEN_CREATE != 0;
        if !there && (!create || process.creates(kind).is_err()) {
            return ffi::SQLITE_CANTOPEN;
        }
        let Ok(handle) = process.opens(kind) else { return ffi::SQLITE_CANTOPEN };
        let level = ffi::SQLITE_LOCK_NONE;
        let inner = Box::new(Inner { process, kind, handle, level, shm: None });
        let base = ffi::sqlite3_file { pMethods: &raw const METHODS };
        ptr::write(file.cast(), OpenFile { base, inner: Box::into_raw(inner) });
        if !out_flags.is_null() {
            *out_flags = flags;
        }
    }
    ffi::SQLITE_OK
}

unsafe extern "C" fn delete(_: *mut ffi::sqlite3_vfs, name: *const c_char, _: c_int) -> c_int {
    // SAFETY: a string of SQLite's.
    let Some((process, kind)) = (unsafe { process_of(name) }) else {
        return ffi::SQLITE_IOERR_DELETE;
    };
    if !process.exists(kind) {
        return ffi::SQLITE_IOERR_DELETE_NOENT;
    }
    match process.unlinks(kind) {
        Ok(()) => ffi::SQLITE_OK,
        Err(_) => ffi::SQLITE_IOERR_DELETE,
    }
}

unsafe extern "C" fn access(
    _: *mut ffi::sqlite3_vfs,
    name: *const c_char,
    flags: c_int,
    out: *mut c_int,
) -> c_int {
    // SAFETY: SQLite hands in a string and a place for the answer.
    unsafe {
        let there = process_of(name).is_some_and(|(process, kind)| {
            process.exists(kind)
                && (flags != ffi::SQLITE_ACCESS_EXISTS
                    || process.size(kind).is_ok_and(|size| size > 0))
        });
        *out = c_int::from(there);
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
    // SAFETY: opened by `open`; given back once.
    unsafe {
        let inner = Box::from_raw((*file.cast::<OpenFile>()).inner);
        inner.process.closes(inner.kind, inner.handle);
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
    let (inner, buffer) = unsafe {
        (opened(file), std::slice::from_raw_parts_mut(buffer.cast::<u8>(), len as usize))
    };
    let Ok(bytes) = inner.process.reads(inner.kind, inner.handle, offset as u64, len as u32) else {
        return ffi::SQLITE_IOERR_READ;
    };
    buffer[..bytes.len()].copy_from_slice(&bytes);
    if bytes.len() == buffer.len() {
        ffi::SQLITE_OK
    } else {
        buffer[bytes.len()..].fill(0);
        ffi::SQLITE_IOERR_SHORT_READ
    }
}

unsafe extern "C" fn write(
    file: *mut ffi::sqlite3_file,
    buffer: *const c_void,
    len: c_int,
    offset: ffi::sqlite3_int64,
) -> c_int {
    // SAFETY: opened by `open`; SQLite hands in `len` bytes.
    let (inner, bytes) =
        unsafe { (opened(file), std::slice::from_raw_parts(buffer.cast::<u8>(), len as usize)) };
    match inner.process.writes(inner.kind, inner.handle, offset as u64, bytes.to_vec()) {
        Ok(()) => ffi::SQLITE_OK,
        Err(Errno(libc::ENOSPC)) => ffi::SQLITE_FULL,
        Err(_) => ffi::SQLITE_IOERR_WRITE,
    }
}

unsafe extern "C" fn truncate(file: *mut ffi::sqlite3_file, size: ffi::sqlite3_int64) -> c_int {
    // SAFETY: opened by `open`.
    let inner = unsafe { opened(file) };
    match inner.process.truncates(inner.kind, inner.handle, size as u64) {
        Ok(()) => ffi::SQLITE_OK,
        Err(_) => ffi::SQLITE_IOERR_TRUNCATE,
    }
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
        let inner = opened(file);
        let Ok(size) = inner.process.size(inner.kind) else { return ffi::SQLITE_IOERR_FSTAT };
        *out = size as ffi::sqlite3_int64;
    }
    ffi::SQLITE_OK
}

fn refused(errno: Errno) -> c_int {
    match errno.0 {
        libc::EAGAIN | libc::EACCES | libc::EBUSY | libc::EINTR | libc::ENOLCK => ffi::SQLITE_BUSY,
        _ => ffi::SQLITE_IOERR_LOCK,
    }
}

impl Inner {
    fn database_lock(&self, start: u64, len: u64, kind: LockKind) -> Result<(), Errno> {
        self.process.locks(self.handle, LockFile::Database, start, len, kind)
    }

    /// As `unixLock`.
    fn lock(&mut self, level: c_int) -> Result<(), Errno> {
        if level <= self.level {
            return Ok(());
        }
        if level == ffi::SQLITE_LOCK_SHARED {
            self.database_lock(PENDING, 1, LockKind::Shared)?;
            let shared = self.database_lock(SHARED_FIRST, SHARED_SIZE, LockKind::Shared);
            self.database_lock(PENDING, 1, LockKind::Unlock)?;
            shared?;
        } else if level == ffi::SQLITE_LOCK_RESERVED {
            self.database_lock(RESERVED, 1, LockKind::Exclusive)?;
        } else {
            if self.level < ffi::SQLITE_LOCK_PENDING {
                self.database_lock(PENDING, 1, LockKind::Exclusive)?;
                self.level = ffi::SQLITE_LOCK_PENDING;
            }
            self.database_lock(SHARED_FIRST, SHARED_SIZE, LockKind::Exclusive)?;
        }
        self.level = level;
        Ok(())
    }

    /// As `posixUnlock`.
    fn unlock(&mut self, level: c_int) -> Result<(), Errno> {
        if self.level <= level {
            return Ok(());
        }
        if self.level > ffi::SQLITE_LOCK_SHARED {
            if level == ffi::SQLITE_LOCK_SHARED {
                self.database_lock(SHARED_FIRST, SHARED_SIZE, LockKind::Shared)?;
            }
            self.database_lock(PENDING, 2, LockKind::Unlock)?;
            self.level = ffi::SQLITE_LOCK_SHARED;
        }
        if level == ffi::SQLITE_LOCK_NONE {
            self.database_lock(0, 0, LockKind::Unlock)?;
            self.level = level;
        }
        Ok(())
    }

    /// As `unixOpenSharedMemory` and `unixLockSharedMemory`.
    fn shm(&mut self) -> Result<&mut Mapped, Errno> {
        if self.shm.is_none() {
            let handle = self.process.opens(FileKind::Shm)?;
            let held = self.process.lock_of(handle, LockFile::Shm, DMS, 1, LockKind::Exclusive);
            if held.is_none() {
                self.process.locks(handle, LockFile::Shm, DMS, 1, LockKind::Exclusive)?;
                self.process.truncates(FileKind::Shm, handle, 3)?;
            }
            self.process.locks(handle, LockFile::Shm, DMS, 1, LockKind::Shared)?;
            let file = self.process.files.shm_backing()?;
            self.shm = Some(Mapped { handle, file, regions: Vec::new() });
        }
        self.shm.as_mut().ok_or(Errno(libc::EIO))
    }
}

unsafe extern "C" fn lock(file: *mut ffi::sqlite3_file, level: c_int) -> c_int {
    // SAFETY: opened by `open`.
    unsafe { opened(file) }.lock(level).map_or_else(refused, |()| ffi::SQLITE_OK)
}

unsafe extern "C" fn unlock(file: *mut ffi::sqlite3_file, level: c_int) -> c_int {
    // SAFETY: opened by `open`.
    let done = unsafe { opened(file) }.unlock(level);
    done.map_or(ffi::SQLITE_IOERR_UNLOCK, |()| ffi::SQLITE_OK)
}

unsafe extern "C" fn check_reserved_lock(file: *mut ffi::sqlite3_file, out: *mut c_int) -> c_int {
    // SAFETY: opened by `open`; SQLite hands in a place for the answer.
    unsafe {
        let inner = opened(file);
        let (process, file) = (&inner.process, LockFile::Database);
        let held = process.lock_of(inner.handle, file, RESERVED, 1, LockKind::Exclusive);
        *out = c_int::from(inner.level > ffi::SQLITE_LOCK_SHARED || held.is_some());
    }
    ffi::SQLITE_OK
}

unsafe extern "C" fn file_control(_: *mut ffi::sqlite3_file, _: c_int, _: *mut c_void) -> c_int {
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
    _size: c_int,
    extend: c_int,
    out: *mut *mut c_void,
) -> c_int {
    // SAFETY: opened by `open`; SQLite hands in a place for the pointer; the mappings live until the
    // file is unmapped.
    unsafe {
        let inner = opened(file);
        *out = ptr::null_mut();
        let mapped = match inner.shm() {
            Ok(mapped) => mapped,
            Err(Errno(libc::EAGAIN)) => return ffi::SQLITE_BUSY,
            Err(_) => return ffi::SQLITE_IOERR_SHMOPEN,
        };
        let region = region as usize;
        while mapped.regions.len() <= region {
            let offset = (mapped.regions.len() * REGION_SIZE) as u64;
            let end = offset + REGION_SIZE as u64;
            let len = mapped.file.metadata().map_or(0, |meta| meta.len());
            if len < end {
                if extend == 0 {
                    return ffi::SQLITE_OK;
                }
                // Passed through to the file behind.
                if mapped.file.set_len(end).is_err() {
                    return ffi::SQLITE_IOERR_SHMSIZE;
                }
            }
            let map = MmapOptions::new().offset(offset).len(REGION_SIZE).map_raw(&mapped.file);
            let Ok(map) = map else { return ffi::SQLITE_IOERR_SHMMAP };
            mapped.regions.push(map);
        }
        *out = mapped.regions[region].as_mut_ptr().cast();
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
    let inner = unsafe { opened(file) };
    let Some(shm) = &inner.shm else { return ffi::SQLITE_IOERR_SHMLOCK };
    let kind = if flags & ffi::SQLITE_SHM_UNLOCK != 0 {
        LockKind::Unlock
    } else if flags & ffi::SQLITE_SHM_EXCLUSIVE != 0 {
        LockKind::Exclusive
    } else {
        LockKind::Shared
    };
    let (start, len) = (WRITE + offset as u64, n as u64);
    match inner.process.locks(shm.handle, LockFile::Shm, start, len, kind) {
        Ok(()) => ffi::SQLITE_OK,
        Err(_) => ffi::SQLITE_BUSY,
    }
}

unsafe extern "C" fn shm_barrier(_: *mut ffi::sqlite3_file) {
    std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
}

unsafe extern "C" fn shm_unmap(file: *mut ffi::sqlite3_file, _delete: c_int) -> c_int {
    // SAFETY: opened by `open`.
    let inner = unsafe { opened(file) };
    if let Some(shm) = inner.shm.take() {
        inner.process.closes(FileKind::Shm, shm.handle);
    }
    ffi::SQLITE_OK
}
