//! Many forgetting disks behind one FUSE mount: disk `n` is the folder `n`.
//!
//! A disk's number is never used twice, so that the kernel has nothing cached of the disk that a power
//! loss leaves. There is no writeback cache: each write reaches the disk at once, except what a program
//! stores into a mapping; that can be read, and is never durable.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant, SystemTime};

use fuser::{
    BackgroundSession, BsdFileFlags, Config, Errno, FileAttr, FileHandle, FileType, FopenFlags,
    Generation, INodeNo, KernelConfig, LockOwner, MountOption, OpenFlags, RenameFlags, ReplyAttr,
    ReplyCreate, ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyStatfs,
    ReplyWrite, Request, SessionACL, TimeOrNow, WriteFlags,
};
use rustix::mount::{MountPropagationFlags, UnmountFlags, mount_change, unmount};
use tempfile::TempDir;

use crate::disk::{Disk, Node, Op, ROOT, Refused, Tear};

/// Only this mount changes its files: the kernel may remember.
const TTL: Duration = Duration::from_hours(1);
const MAX_WRITE: u32 = 1 << 20;

/// What is planned for a disk, and what has happened to it.
#[derive(Default)]
struct Served {
    disk: Disk,
    /// Operations so far, and which they were if they are kept.
    done: u64,
    record: Option<Vec<Op>>,
    /// From so many operations on everything fails, and the disk stays as it is.
    cut_at: Option<u64>,
    /// After so many more syncs of files one fails, with this seed.
    failing_sync: Option<(u64, u64)>,
    failed_syncs: u64,
    is_down: bool,
}

#[derive(Default)]
struct Shelf {
    served: Mutex<Served>,
    went_down: Condvar,
}

impl Shelf {
    fn served(&self) -> MutexGuard<'_, Served> {
        self.served.lock().unwrap()
    }

    fn change(&self, op: Op) -> Result<(), Errno> {
        let mut served = self.served();
        let served = &mut *served;
        if served.cut_at.is_some_and(|at| served.done >= at) && !served.is_down {
            served.is_down = true;
            // It may be on its way.
            if let Op::Write { .. } = op {
                let _ = served.disk.apply(&op);
            }
            self.went_down.notify_all();
        }
        if served.is_down {
            return Err(Errno::EIO);
        }
        let op = served.or_fails(op);
        served.disk.apply(&op).map_err(|refused| match refused {
            Refused::NotFound => Errno::ENOENT,
            Refused::Exists => Errno::EEXIST,
            Refused::NotEmpty => Errno::ENOTEMPTY,
            Refused::IsFolder => Errno::EISDIR,
            Refused::NotFolder => Errno::ENOTDIR,
        })?;
        served.done += 1;
        let failed = matches!(op, Op::FailedSync { .. });
        if let Some(record) = &mut served.record {
            record.push(op);
        }
        if failed { Err(Errno::EIO) } else { Ok(()) }
    }

    fn read<T>(&self, look: impl FnOnce(&Disk) -> Result<T, Errno>) -> Result<T, Errno> {
        let served = self.served();
        if served.is_down { Err(Errno::EIO) } else { look(&served.disk) }
    }
}

impl Served {
    /// The operation, or the failure that is planned for it.
    fn or_fails(&mut self, op: Op) -> Op {
        match (&op, &mut self.failing_sync) {
            (Op::Sync { node }, Some((left, seed))) if !self.disk.is_folder(*node) => {
                if let Some(less) = left.checked_sub(1) {
                    *left = less;
                    return op;
                }
                let failed = Op::FailedSync { file: *node, seed: *seed };
                self.failing_sync = None;
                self.failed_syncs += 1;
                failed
            }
            _ => op,
        }
    }
}

#[derive(Default)]
struct Shelves {
    next: u32,
    all: BTreeMap<u32, Arc<Shelf>>,
}

/// The mount. It is gone when this is dropped, and when this process ends.
pub struct Rack {
    shelves: Arc<Mutex<Shelves>>,
    folder: TempDir,
    session: Option<BackgroundSession>,
}

/// Mounts that this thread and what it starts makes are nobody else's, and end with the last of them:
/// nothing is left behind, however the tests end.
#[allow(unsafe_code)]
fn keep_mounts_apart() -> io::Result<()> {
    // SAFETY: no file descriptors are unshared, which is what would be unsafe.
    unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNS)? };
    let apart = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    Ok(mount_change("/", apart)?)
}

impl Rack {
    /// # Errors
    /// What this machine lacks.
    pub fn new() -> Result<Self, String> {
        keep_mounts_apart().map_err(|error| format!("no mounts of its own: {error}"))?;
        let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
        let shelves = Arc::new(Mutex::new(Shelves::default()));
        let mut config = Config::default();
        config.mount_options = vec![MountOption::FSName("forgetting-disks".into())];
        config.acl = SessionACL::Owner;
        config.n_threads = Some(2);
        config.clone_fd = true;
        let files = Files(Arc::clone(&shelves));
        let session = fuser::spawn_mount(files, folder.path(), &config)
            .map_err(|error| format!("no FUSE mount: {error}"))?;
        Ok(Self { shelves, folder, session: Some(session) })
    }

    /// Or says why there is none.
    pub fn or_skip(test: &str) -> Option<Self> {
        Self::new().map_err(|why| println!("SKIPPED {test}: {why}")).ok()
    }

    /// Puts a disk into the rack.
    pub fn insert(&self, disk: Disk) -> Inserted {
        let shelf = Arc::new(Shelf::default());
        shelf.served().disk = disk;
        let mut shelves = self.shelves.lock().unwrap();
        let number = shelves.next;
        shelves.next += 1;
        shelves.all.insert(number, Arc::clone(&shelf));
        let path = self.folder.path().join(number.to_string());
        Inserted { number, path, shelf, shelves: Arc::clone(&self.shelves) }
    }
}

impl Drop for Rack {
    fn drop(&mut self) {
        let _ = unmount(self.folder.path(), UnmountFlags::FORCE | UnmountFlags::DETACH);
        if let Some(session) = self.session.take() {
            let _ = session.umount_and_join();
        }
    }
}

/// A disk in the rack; taken out when dropped.
pub struct Inserted {
    number: u32,
    path: PathBuf,
    shelf: Arc<Shelf>,
    shelves: Arc<Mutex<Shelves>>,
}

impl Inserted {
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Operations so far.
    pub fn done(&self) -> u64 {
        self.shelf.served().done
    }

    /// From now on keeps what is done.
    pub fn record(&self) {
        self.shelf.served().record = Some(Vec::new());
    }

    pub fn recorded(&self) -> Vec<Op> {
        self.shelf.served().record.take().unwrap_or_default()
    }

    /// Cuts the power after so many operations.
    pub fn cut_at(&self, operation: u64) {
        self.shelf.served().cut_at = Some(operation);
    }

    /// Cuts the power now.
    pub fn cut(&self) {
        self.shelf.served().is_down = true;
        self.shelf.went_down.notify_all();
    }

    /// Waits until the power is cut.
    pub fn is_down_within(&self, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        let mut served = self.shelf.served();
        while !served.is_down {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            served = self.shelf.went_down.wait_timeout(served, left).unwrap().0;
        }
        true
    }

    /// Lets a sync of a file fail, after so many more that do not.
    pub fn fail_sync_after(&self, more: u64, seed: u64) {
        self.shelf.served().failing_sync = Some((more, seed));
    }

    pub fn failed_syncs(&self) -> u64 {
        self.shelf.served().failed_syncs
    }

    /// What a power loss now leaves.
    pub fn after_power_loss(&self, tear: Tear) -> Disk {
        self.shelf.served().disk.after_power_loss(tear)
    }
}

impl Drop for Inserted {
    fn drop(&mut self) {
        self.cut();
        self.shelves.lock().unwrap().all.remove(&self.number);
    }
}

/// The file system.
struct Files(Arc<Mutex<Shelves>>);

type Found = (Arc<Shelf>, u32, Node);

fn number(disk: u32, node: Node) -> INodeNo {
    INodeNo((u64::from(disk) + 1) << 32 | (node as u64 + 1))
}

fn attributes(number: INodeNo, is_folder: bool, len: usize) -> FileAttr {
    FileAttr {
        ino: number,
        size: len as u64,
        blocks: (len as u64).div_ceil(512),
        atime: SystemTime::UNIX_EPOCH,
        mtime: SystemTime::UNIX_EPOCH,
        ctime: SystemTime::UNIX_EPOCH,
        crtime: SystemTime::UNIX_EPOCH,
        kind: if is_folder { FileType::Directory } else { FileType::RegularFile },
        perm: if is_folder { 0o755 } else { 0o644 },
        nlink: if is_folder { 2 } else { 1 },
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: 4096,
        flags: 0,
    }
}

fn text(name: &OsStr) -> Result<String, Errno> {
    name.to_str().map(str::to_owned).ok_or(Errno::EILSEQ)
}

fn len(number: u64) -> Result<usize, Errno> {
    usize::try_from(number).map_err(|_| Errno::EFBIG)
}

impl Files {
    fn shelf(&self, disk: u32) -> Result<Arc<Shelf>, Errno> {
        self.0.lock().unwrap().all.get(&disk).cloned().ok_or(Errno::ENOENT)
    }

    fn find(&self, ino: INodeNo) -> Result<Found, Errno> {
        let disk = (ino.0 >> 32).checked_sub(1).ok_or(Errno::EPERM)? as u32;
        let node = ((ino.0 & 0xffff_ffff) as usize).checked_sub(1).ok_or(Errno::ENOENT)?;
        Ok((self.shelf(disk)?, disk, node))
    }

    fn attributes(&self, ino: INodeNo) -> Result<FileAttr, Errno> {
        if ino == INodeNo::ROOT {
            return Ok(attributes(ino, true, 0));
        }
        let (shelf, _, node) = self.find(ino)?;
        shelf.read(|disk| {
            if !disk.has(node) {
                return Err(Errno::ENOENT);
            }
            Ok(attributes(ino, disk.is_folder(node), disk.bytes(node).len()))
        })
    }

    fn lookup(&self, parent: INodeNo, name: &OsStr) -> Result<FileAttr, Errno> {
        let name = text(name)?;
        if parent == INodeNo::ROOT {
            let disk = name.parse().map_err(|_| Errno::ENOENT)?;
            self.shelf(disk)?;
            return Ok(attributes(number(disk, ROOT), true, 0));
        }
        let (shelf, disk, folder) = self.find(parent)?;
        let node = shelf.read(|disk| disk.lookup(folder, &name).ok_or(Errno::ENOENT))?;
        self.attributes(number(disk, node))
    }

    fn make(&self, parent: INodeNo, name: &OsStr, is_folder: bool) -> Result<FileAttr, Errno> {
        let (shelf, _, folder) = self.find(parent)?;
        shelf.change(Op::Make { folder, name: text(name)?, is_folder })?;
        self.lookup(parent, name)
    }

    fn remove(&self, parent: INodeNo, name: &OsStr) -> Result<(), Errno> {
        let (shelf, _, folder) = self.find(parent)?;
        shelf.change(Op::Remove { folder, name: text(name)? })
    }

    fn change(&self, ino: INodeNo, op: impl FnOnce(Node) -> Op) -> Result<(), Errno> {
        let (shelf, _, node) = self.find(ino)?;
        shelf.change(op(node))
    }

    fn list(&self, ino: INodeNo) -> Result<Vec<(INodeNo, FileType, String)>, Errno> {
        let folder = |ino, name: &str| (ino, FileType::Directory, name.to_owned());
        let mut found = vec![folder(ino, "."), folder(ino, "..")];
        if ino == INodeNo::ROOT {
            let shelves = self.0.lock().unwrap();
            found.extend(shelves.all.keys().map(|n| folder(number(*n, ROOT), &n.to_string())));
            return Ok(found);
        }
        let (shelf, disk, node) = self.find(ino)?;
        shelf.read(|tree| {
            for (name, node) in tree.list(node) {
                let kind = attributes(ino, tree.is_folder(node), 0).kind;
                found.push((number(disk, node), kind, name.to_owned()));
            }
            Ok(found)
        })
    }
}

/// Answers with what was found, or with the error.
macro_rules! answer {
    ($reply:ident, $result:expr, $good:expr) => {
        match $result {
            Ok(found) => $good($reply, found),
            Err(error) => $reply.error(error),
        }
    };
}

fn entry(reply: ReplyEntry, found: FileAttr) {
    reply.entry(&TTL, &found, Generation(0));
}

fn done(reply: ReplyEmpty, (): ()) {
    reply.ok();
}

impl fuser::Filesystem for Files {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> io::Result<()> {
        let _ = config.set_max_write(MAX_WRITE);
        Ok(())
    }

    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        answer!(reply, self.lookup(parent, name), entry);
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        answer!(reply, self.attributes(ino), |reply: ReplyAttr, found| reply.attr(&TTL, &found));
    }

    fn setattr(
        &self,
        _: &Request,
        ino: INodeNo,
        _: Option<u32>,
        _: Option<u32>,
        _: Option<u32>,
        size: Option<u64>,
        _: Option<TimeOrNow>,
        _: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let cut = |size| {
            let len = len(size)?;
            self.change(ino, |file| Op::Length { file, len })
        };
        let result = size.map_or(Ok(()), cut).and_then(|()| self.attributes(ino));
        answer!(reply, result, |reply: ReplyAttr, found| reply.attr(&TTL, &found));
    }

    fn mkdir(&self, _: &Request, parent: INodeNo, name: &OsStr, _: u32, _: u32, reply: ReplyEntry) {
        answer!(reply, self.make(parent, name, true), entry);
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        answer!(reply, self.remove(parent, name), done);
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        answer!(reply, self.remove(parent, name), done);
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        to: INodeNo,
        to_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let result = || {
            let (shelf, disk, folder) = self.find(parent)?;
            let (_, to_disk, to_folder) = self.find(to)?;
            if disk != to_disk || !flags.is_empty() {
                return Err(Errno::EXDEV);
            }
            let (name, to_name) = (text(name)?, text(to_name)?);
            shelf.change(Op::Rename { folder, name, to_folder, to_name })
        };
        answer!(reply, result(), done);
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        reply.opened(FileHandle(0), FopenFlags::empty());
    }

    fn create(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        _: u32,
        _: u32,
        _: i32,
        reply: ReplyCreate,
    ) {
        answer!(reply, self.make(parent, name, false), |reply: ReplyCreate, found| reply.created(
            &TTL,
            &found,
            Generation(0),
            FileHandle(0),
            FopenFlags::empty()
        ));
    }

    fn read(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let result = || {
            let (shelf, _, node) = self.find(ino)?;
            let offset = len(offset)?;
            shelf.read(|disk| {
                let rest = disk.bytes(node).get(offset..).unwrap_or_default();
                Ok(rest[..rest.len().min(size as usize)].to_vec())
            })
        };
        answer!(reply, result(), |reply: ReplyData, bytes: Vec<u8>| reply.data(&bytes));
    }

    fn write(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        flags: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let result = || {
            let (shelf, _, file) = self.find(ino)?;
            let offset = len(offset)?;
            if flags.contains(WriteFlags::FUSE_WRITE_CACHE) {
                shelf.served().disk.write_mapped(file, offset, data);
            } else {
                shelf.change(Op::Write { file, offset, bytes: data.into() })?;
            }
            Ok(data.len() as u32)
        };
        answer!(reply, result(), |reply: ReplyWrite, len| reply.written(len));
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn fsync(&self, _: &Request, ino: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        answer!(reply, self.change(ino, |node| Op::Sync { node }), done);
    }

    fn fsyncdir(&self, _: &Request, ino: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        answer!(reply, self.change(ino, |node| Op::Sync { node }), done);
    }

    fn readdir(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        match self.list(ino) {
            Ok(found) => {
                for (at, (ino, kind, name)) in (1..).zip(found).skip(offset as usize) {
                    if reply.add(ino, at, kind, name) {
                        break;
                    }
                }
                reply.ok();
            }
            Err(error) => reply.error(error),
        }
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        reply.statfs(1 << 24, 1 << 23, 1 << 23, 1 << 20, 1 << 19, 4096, 255, 4096);
    }

    fn fallocate(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        let result = || {
            let (shelf, _, file) = self.find(ino)?;
            let end = len(offset + length)?;
            let now = shelf.read(|disk| Ok(disk.bytes(file).len()))?;
            match mode {
                // Space is not what these disks lack.
                libc::FALLOC_FL_KEEP_SIZE => Ok(()),
                0 if end > now => shelf.change(Op::Length { file, len: end }),
                0 => Ok(()),
                _ => Err(Errno::EOPNOTSUPP),
            }
        };
        answer!(reply, result(), done);
    }
}
