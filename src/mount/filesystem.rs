//! Where the kernel's requests arrive: one method a request, each handed to the file that knows
//! what it means, with panics caught, so that one bad request does not end a worker.

use std::ffi::OsStr;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::SystemTime;

use fuser::{
    BsdFileFlags, Errno, FileHandle, INodeNo, InitFlags, KernelConfig, LockOwner, OpenFlags,
    RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry,
    ReplyLock, ReplyOpen, ReplyStatfs, ReplyWrite, ReplyXattr, Request, TimeOrNow, WriteFlags,
};

use super::attributes::Ownership;
use super::content::{By, Change};
use super::folder::Listings;
use super::inodes::Inode;
use super::locks::Asked;
use super::refusals::Refusals;
use super::special::Texts;
use super::tree::Tree;

/// Bytes of one WRITE request. What SQLite writes at once is a page; `cp` and VACUUM INTO gain.
const MAX_WRITE: u32 = 1 << 20;
/// Requests that nobody waits for directly (readahead), in flight at once: some for each of a few
/// hundred readers' scans, and little enough to keep both workers free for commits.
const MAX_BACKGROUND: u16 = 64;
/// 2 rather than 1, so that the backing file may lie on an overlay, as in a container.
const STACK_DEPTH: u32 = 2;
/// Why what makes a folder, a link or another name is refused.
const FLAT: &str = "the folder is flat and holds databases only, each under one name for life; \
                    put other files elsewhere, and use VACUUM INTO for a copy";

/// What all handlers share.
pub(super) struct Shared {
    pub(super) tree: Tree,
    pub(super) ownership: Ownership,
    pub(super) texts: Texts,
    pub(super) listings: Listings,
    pub(super) refusals: Refusals,
    /// Where it is mounted: the daemon opens shm files through it.
    pub(super) path: PathBuf,
    /// Its file system's space is what statfs(2) tells.
    pub(super) data: PathBuf,
    handles: AtomicU64,
    /// The setting, then what the kernel offers, then whether it took a file.
    passthrough: AtomicBool,
}

impl Shared {
    pub(super) fn new(
        tree: Tree,
        ownership: Ownership,
        path: &Path,
        data: &Path,
        passthrough: bool,
    ) -> Self {
        Self {
            tree,
            ownership,
            texts: Texts::default(),
            listings: Listings::default(),
            refusals: Refusals::default(),
            path: path.to_owned(),
            data: data.to_owned(),
            handles: AtomicU64::new(1),
            passthrough: AtomicBool::new(passthrough),
        }
    }

    /// Settled before the first request.
    pub(super) fn passthrough(&self) -> bool {
        self.passthrough.load(Ordering::Acquire)
    }

    pub(super) fn set_passthrough(&self, on: bool) {
        self.passthrough.store(on, Ordering::Release);
    }

    /// Unique while the daemon lives.
    pub(super) fn next_handle(&self) -> FileHandle {
        FileHandle(self.handles.fetch_add(1, Ordering::Relaxed))
    }

    fn statfs(&self, reply: ReplyStatfs) {
        match rustix::fs::statvfs(&self.data) {
            Ok(s) => reply.statfs(
                s.f_blocks,
                s.f_bfree,
                s.f_bavail,
                s.f_files,
                s.f_ffree,
                u32::try_from(s.f_bsize).unwrap_or(u32::MAX),
                255,
                u32::try_from(s.f_frsize).unwrap_or(u32::MAX),
            ),
            Err(error) => reply.error(Errno::from_i32(error.raw_os_error())),
        }
    }
}

pub(super) struct Filesystem(pub(super) Arc<Shared>);

/// A reply that a panic drops answers EIO; the panic itself is already on stderr.
fn caught(what: &'static str, handle: impl FnOnce()) {
    if catch_unwind(AssertUnwindSafe(handle)).is_err() {
        tracing::error!(request = what, "a FUSE handler panicked; the request was answered EIO");
    }
}

impl fuser::Filesystem for Filesystem {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> io::Result<()> {
        // Without these locks two nodes' writers would not meet.
        config.add_capabilities(InitFlags::FUSE_POSIX_LOCKS).map_err(|_| {
            io::Error::new(io::ErrorKind::Unsupported, "the kernel keeps POSIX locks to itself")
        })?;
        // Explicit invalidation: only `notify` drops pages, no change of time or size does.
        // Parallel folder operations: a held unlink blocks as little as the kernel allows.
        for wanted in [InitFlags::FUSE_EXPLICIT_INVAL_DATA, InitFlags::FUSE_PARALLEL_DIROPS] {
            if config.add_capabilities(wanted).is_err() {
                tracing::info!(capability = ?wanted, "not offered by this kernel");
            }
        }
        let _ = config.set_max_write(MAX_WRITE);
        let _ = config.set_max_background(MAX_BACKGROUND);
        let passthrough = self.0.passthrough()
            && config.add_capabilities(InitFlags::FUSE_PASSTHROUGH).is_ok()
            && config.set_max_stack_depth(STACK_DEPTH).is_ok();
        self.0.set_passthrough(passthrough);
        Ok(())
    }

    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        caught("lookup", || {
            if parent == INodeNo::ROOT {
                self.0.lookup(name, reply);
            } else {
                reply.error(Errno::ENOTDIR);
            }
        });
    }

    fn forget(&self, _: &Request, ino: INodeNo, count: u64) {
        caught("forget", || {
            if let Some(Inode::Part { slot, .. }) = Inode::of(ino) {
                self.0.tree.forget(slot, count);
            }
        });
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        caught("getattr", || self.0.answer_attributes(Inode::of(ino), reply));
    }

    fn setattr(
        &self,
        _: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        owner: Option<u32>,
        group: Option<u32>,
        size: Option<u64>,
        _: Option<TimeOrNow>,
        _: Option<TimeOrNow>,
        _: Option<SystemTime>,
        handle: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let change = Change { mode, owner, group, size };
        caught("setattr", || self.0.change(Inode::of(ino), handle, &change, reply));
    }

    fn mknod(
        &self,
        _: &Request,
        _: INodeNo,
        name: &OsStr,
        _: u32,
        _: u32,
        _: u32,
        reply: ReplyEntry,
    ) {
        caught("mknod", || self.0.refuse_entry("mknod", &name, FLAT, reply));
    }

    fn mkdir(&self, _: &Request, _: INodeNo, name: &OsStr, _: u32, _: u32, reply: ReplyEntry) {
        caught("mkdir", || self.0.refuse_entry("mkdir", &name, FLAT, reply));
    }

    fn symlink(&self, _: &Request, _: INodeNo, name: &OsStr, _: &Path, reply: ReplyEntry) {
        caught("symlink", || self.0.refuse_entry("symlink", &name, FLAT, reply));
    }

    fn link(&self, _: &Request, _: INodeNo, _: INodeNo, name: &OsStr, reply: ReplyEntry) {
        caught("link", || self.0.refuse_entry("link", &name, FLAT, reply));
    }

    fn rename(
        &self,
        _: &Request,
        _: INodeNo,
        name: &OsStr,
        _: INodeNo,
        to: &OsStr,
        _: RenameFlags,
        reply: ReplyEmpty,
    ) {
        caught("rename", || self.0.refuse("rename", &(name, to), FLAT, reply));
    }

    fn unlink(&self, request: &Request, _: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        caught("unlink", || self.0.unlink(request.pid(), name, reply));
    }

    fn open(&self, request: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        caught("open", || self.0.open(request.pid(), Inode::of(ino), flags, reply));
    }

    fn create(
        &self,
        request: &Request,
        _: INodeNo,
        name: &OsStr,
        _: u32,
        _: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        caught("create", || self.0.create(request.pid(), name, OpenFlags(flags), reply));
    }

    fn read(
        &self,
        _: &Request,
        ino: INodeNo,
        handle: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        caught("read", || self.0.read(Inode::of(ino), handle, offset, size, reply));
    }

    fn write(
        &self,
        request: &Request,
        ino: INodeNo,
        handle: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let by = By { owner, thread: request.pid() };
        caught("write", || self.0.write(Inode::of(ino), handle, offset, data, by, reply));
    }

    fn flush(
        &self,
        _: &Request,
        ino: INodeNo,
        handle: FileHandle,
        owner: LockOwner,
        reply: ReplyEmpty,
    ) {
        caught("flush", || self.0.flush(Inode::of(ino), handle, owner, reply));
    }

    fn release(
        &self,
        _: &Request,
        ino: INodeNo,
        handle: FileHandle,
        _: OpenFlags,
        owner: Option<LockOwner>,
        _: bool,
        reply: ReplyEmpty,
    ) {
        caught("release", || self.0.release(Inode::of(ino), handle, owner, reply));
    }

    /// An application's sync means nothing: what counts is the daemon's own order (DESIGN.md,
    /// "The write path"). ENOSYS makes the kernel answer it at once, and never ask again.
    fn fsync(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        reply.error(Errno::ENOSYS);
    }

    /// As [`fsync`](Self::fsync).
    fn fsyncdir(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        reply.error(Errno::ENOSYS);
    }

    fn opendir(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        caught("opendir", || self.0.open_folder(reply));
    }

    fn readdir(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        offset: u64,
        reply: ReplyDirectory,
    ) {
        caught("readdir", || self.0.read_folder(handle, offset, reply));
    }

    fn releasedir(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        _: OpenFlags,
        reply: ReplyEmpty,
    ) {
        caught("releasedir", || self.0.close_folder(handle, reply));
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        caught("statfs", || self.0.statfs(reply));
    }

    /// Asked before each write otherwise; after ENOSYS never again.
    fn getxattr(&self, _: &Request, _: INodeNo, _: &OsStr, _: u32, reply: ReplyXattr) {
        reply.error(Errno::ENOSYS);
    }

    fn getlk(
        &self,
        _: &Request,
        ino: INodeNo,
        handle: FileHandle,
        owner: LockOwner,
        start: u64,
        end: u64,
        kind: i32,
        pid: u32,
        reply: ReplyLock,
    ) {
        let asked = Asked { handle, owner, start, end, kind, pid, wait: false };
        caught("getlk", || self.0.get_lock(Inode::of(ino), &asked, reply));
    }

    fn setlk(
        &self,
        _: &Request,
        ino: INodeNo,
        handle: FileHandle,
        owner: LockOwner,
        start: u64,
        end: u64,
        kind: i32,
        pid: u32,
        wait: bool,
        reply: ReplyEmpty,
    ) {
        let asked = Asked { handle, owner, start, end, kind, pid, wait };
        caught("setlk", || self.0.set_lock(Inode::of(ino), &asked, reply));
    }
}
