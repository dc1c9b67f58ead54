//! The kernel of a node, as its applications know it: open files, locks, and the page cache of the
//! database file (Rule 16: the daemon's own changes are dropped from it, or readers see old pages).

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};

use litefs_py::commit::door::{
    Conflict, DatabaseFiles, Databases, Errno, FileKind, Handle, LockRequest, Owner, Reply, Writer,
};
use litefs_py::core::DatabaseName;
use litefs_py::core::ports::{ByteRange, KernelCache, LockFile, LockKind};

use crate::os::threads;

const PAGE: u64 = 4096;

/// What the daemon says of its changes is not heard: to see that it is missed (Rule 16).
pub static DEAF: AtomicBool = AtomicBool::new(false);

/// One mount.
pub struct Kernel {
    pub door: Arc<dyn Databases>,
    caches: Mutex<BTreeMap<u64, Arc<PageCache>>>,
    handles: AtomicU64,
}

#[derive(Default)]
struct Pages {
    kept: BTreeMap<u64, Vec<u8>>,
    /// What the file's size is believed to be.
    size: u64,
    /// How often something was dropped: a read that began before keeps nothing.
    drops: u64,
}

/// Of one database file.
#[derive(Default)]
pub struct PageCache(Mutex<Pages>);

impl PageCache {
    fn lock(&self) -> MutexGuard<'_, Pages> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl KernelCache for PageCache {
    fn invalidate(&self, offset: u64, len: u64) {
        if DEAF.load(Ordering::Relaxed) {
            return;
        }
        let mut pages = self.lock();
        pages.drops += 1;
        pages.size = 0;
        let end = if len == 0 { u64::MAX } else { (offset + len).div_ceil(PAGE) };
        pages.kept.retain(|page, _| *page < offset / PAGE || *page >= end);
    }

    fn grown(&self, offset: u64, bytes: &[u8]) {
        let mut pages = self.lock();
        pages.drops += 1;
        pages.size = pages.size.max(offset + bytes.len() as u64);
        pages.kept.remove(&(offset / PAGE));
    }
}

impl Kernel {
    pub fn new(door: Arc<dyn Databases>) -> Arc<Self> {
        Arc::new(Self { door, caches: Mutex::default(), handles: AtomicU64::new(1) })
    }

    fn cache(&self, files: &Arc<dyn DatabaseFiles>) -> Arc<PageCache> {
        let mut caches = self.caches.lock().unwrap_or_else(PoisonError::into_inner);
        let cache = Arc::clone(caches.entry(files.slot()).or_default());
        drop(caches);
        files.use_cache(Arc::clone(&cache) as Arc<dyn KernelCache>);
        cache
    }

    pub fn handle(&self) -> Handle {
        Handle(self.handles.fetch_add(1, Ordering::Relaxed))
    }
}

/// A process that has a database open.
pub struct Process {
    pub kernel: Arc<Kernel>,
    pub files: Arc<dyn DatabaseFiles>,
    cache: Arc<PageCache>,
    pub owner: Owner,
    pub pid: u32,
    open: Mutex<Vec<(FileKind, Handle)>>,
    /// It dies when it has asked for so many more things; 0: it does not.
    dies_in: AtomicU64,
    /// Called when it died.
    then: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

impl Process {
    /// Opens, or creates, the database.
    pub fn new(kernel: &Arc<Kernel>, name: &DatabaseName, number: u64) -> Result<Arc<Self>, Errno> {
        let files = match kernel.door.get(name) {
            Some(files) => files,
            None => kernel.door.create(name)?,
        };
        let cache = kernel.cache(&files);
        Ok(Arc::new(Self {
            kernel: Arc::clone(kernel),
            files,
            cache,
            owner: Owner(number),
            pid: number as u32,
            open: Mutex::default(),
            dies_in: AtomicU64::new(0),
            then: Mutex::new(None),
        }))
    }

    pub fn dies_in(&self, steps: u64, then: Box<dyn FnOnce() + Send>) {
        *self.then.lock().unwrap_or_else(PoisonError::into_inner) = Some(then);
        self.dies_in.store(steps, Ordering::Relaxed);
    }

    /// One more request. The process may die before it makes it.
    fn step(&self) {
        let left = self.dies_in.load(Ordering::Relaxed);
        if left == 1 {
            let open = std::mem::take(&mut *self.open());
            for (kind, handle) in open {
                self.files.flush(kind, handle, self.owner);
                self.files.release(kind, handle, None);
            }
            if let Some(then) = self.then.lock().unwrap_or_else(PoisonError::into_inner).take() {
                then();
            }
            loop {
                threads::wait(0, None);
            }
        }
        self.dies_in.store(left.saturating_sub(1), Ordering::Relaxed);
    }

    fn open(&self) -> MutexGuard<'_, Vec<(FileKind, Handle)>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn opens(&self, kind: FileKind) -> Result<Handle, Errno> {
        self.step();
        let handle = self.kernel.handle();
        self.files.open(kind, handle, true)?;
        self.open().push((kind, handle));
        Ok(handle)
    }

    pub fn closes(&self, kind: FileKind, handle: Handle) {
        self.step();
        self.open().retain(|(_, other)| *other != handle);
        self.files.flush(kind, handle, self.owner);
        self.files.release(kind, handle, None);
    }

    pub fn exists(&self, kind: FileKind) -> bool {
        self.step();
        self.files.exists(kind)
    }

    pub fn creates(&self, kind: FileKind) -> Result<(), Errno> {
        self.step();
        self.files.create_file(kind, self.pid)
    }

    pub fn size(&self, kind: FileKind) -> Result<u64, Errno> {
        self.step();
        self.files.size(kind)
    }

    /// Waits for an answer that is given later.
    pub fn asks<T: Send + 'static>(ask: impl FnOnce(Reply<T>)) -> Result<T, Errno> {
        let (sender, receiver) = mpsc::channel();
        ask(Box::new(move |answer| {
            let _gone = sender.send(answer);
        }));
        receiver.recv().unwrap_or(Err(Errno(libc::EIO)))
    }

    pub fn reads(
        &self,
        kind: FileKind,
        handle: Handle,
        at: u64,
        len: u32,
    ) -> Result<Vec<u8>, Errno> {
        self.step();
        if kind != FileKind::Database {
            return self.files.read(kind, handle, at, len);
        }
        let end = at + u64::from(len);
        if end > self.cache.lock().size {
            let size = self.files.size(kind)?;
            self.cache.lock().size = size;
        }
        let end = end.min(self.cache.lock().size);
        let mut bytes = Vec::with_capacity(len as usize);
        let mut page = at / PAGE;
        while page * PAGE < end {
            let (kept, drops) = {
                let pages = self.cache.lock();
                (pages.kept.get(&page).cloned(), pages.drops)
            };
            let content = if let Some(content) = kept {
                content
            } else {
                let mut read = self.files.read(kind, handle, page * PAGE, PAGE as u32)?;
                // The kernel keeps whole pages: what is missing at the end is zeros.
                read.resize(PAGE as usize, 0);
                let mut pages = self.cache.lock();
                if pages.drops == drops {
                    pages.kept.insert(page, read.clone());
                }
                read
            };
            let from = at.max(page * PAGE) - page * PAGE;
            let to = end.min((page + 1) * PAGE) - page * PAGE;
            bytes.extend_from_slice(&content[from as usize..to as usize]);
            page += 1;
        }
        Ok(bytes)
    }

    pub fn writes(
        &self,
        kind: FileKind,
        handle: Handle,
        at: u64,
        data: Vec<u8>,
    ) -> Result<(), Errno> {
        self.step();
        let len = data.len() as u64;
        let writer = Writer { owner: Some(self.owner), pid: &|| self.pid };
        let done = Self::asks(|reply| self.files.write(kind, handle, writer, at, data, reply));
        if kind == FileKind::Database {
            // Written through: what was kept of these pages is read anew.
            let mut pages = self.cache.lock();
            pages.drops += 1;
            let (first, end) = (at / PAGE, (at + len).div_ceil(PAGE));
            pages.kept.retain(|page, _| *page < first || *page >= end);
            if done.is_ok() {
                pages.size = pages.size.max(at + len);
            }
        }
        done.map(drop)
    }

    pub fn truncates(&self, kind: FileKind, handle: Handle, len: u64) -> Result<(), Errno> {
        self.step();
        let done = Self::asks(|reply| self.files.truncate(kind, Some(handle), len, reply));
        if kind == FileKind::Database {
            let mut pages = self.cache.lock();
            pages.drops += 1;
            pages.size = 0;
            pages.kept.retain(|page, _| *page < len / PAGE);
        }
        done
    }

    pub fn unlinks(&self, kind: FileKind) -> Result<(), Errno> {
        self.step();
        Self::asks(|reply| self.files.unlink_file(kind, self.pid, reply))
    }

    fn request(
        &self,
        handle: Handle,
        file: LockFile,
        start: u64,
        len: u64,
        kind: LockKind,
    ) -> LockRequest {
        let end = if len == 0 { u64::MAX } else { start + len - 1 };
        let range = ByteRange { start, end };
        LockRequest { handle, owner: self.owner, pid: self.pid, file, range, kind, wait: false }
    }

    pub fn locks(
        &self,
        handle: Handle,
        file: LockFile,
        start: u64,
        len: u64,
        kind: LockKind,
    ) -> Result<(), Errno> {
        self.step();
        let request = self.request(handle, file, start, len, kind);
        Self::asks(|reply| self.files.set_lock(request, reply))
    }

    pub fn lock_of(
        &self,
        handle: Handle,
        file: LockFile,
        start: u64,
        len: u64,
        kind: LockKind,
    ) -> Option<Conflict> {
        self.step();
        self.files.get_lock(self.request(handle, file, start, len, kind))
    }
}
