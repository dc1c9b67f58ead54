//! The nodes' disks: real files, of which is known what a loss of power would leave.
//!
//! Of each file of a node the changes since its last sync are kept, with what they overwrote; of each
//! folder the changes of names. At a loss of power these are undone, but for those that the seed
//! keeps: all, none, some of them, some of their sectors. A process that is only killed loses nothing.
//!
//! A disk may lie: a sync answers, and becomes true only when the disk is told ([`Disk::tell`]).
#![allow(unsafe_code)]

use std::collections::BTreeMap;
use std::ffi::{CStr, CString, c_char, c_int};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::symbols::raw;
use super::threads::{self, NODES, machine};

mod power;

enum Change {
    Write { offset: u64, old: Vec<u8>, old_len: u64, new: Vec<u8> },
    Length { old_len: u64, tail: Vec<u8>, new_len: u64 },
}

struct Tracked {
    node: usize,
    /// Those that are not durable.
    changes: Vec<Change>,
    /// How many there were before them.
    durable: usize,
    /// Up to this one, counted from the first ever, a disk lied that it had synced them.
    lied: usize,
}

impl Tracked {
    fn new(node: usize) -> Self {
        Self { node, changes: Vec::new(), durable: 0, lied: 0 }
    }

    fn last(&self) -> usize {
        self.durable + self.changes.len()
    }

    fn durable_up_to(&mut self, last: usize) {
        let count = last.saturating_sub(self.durable).min(self.changes.len());
        self.changes.drain(..count);
        self.durable += count;
    }
}

#[derive(Debug)]
enum What {
    Create(PathBuf),
    Folder(PathBuf),
    Rename { from: PathBuf, to: PathBuf, saved: Option<PathBuf> },
    Unlink { path: PathBuf, saved: PathBuf },
}

/// A change of names that is not durable.
struct Name {
    number: u64,
    node: usize,
    what: What,
    /// The folders that have still to be synced.
    folders: Vec<PathBuf>,
    lied: bool,
}

#[derive(Default, Clone)]
pub struct Health {
    /// No room for anything more.
    pub full: bool,
    /// Syncs answer, and do nothing until told.
    pub lies: bool,
    /// Each sync takes so much longer, in nanoseconds.
    pub slow: u64,
    /// The next sync fails.
    pub fails: bool,
}

#[derive(Default, Clone)]
pub struct DiskCounts {
    pub full: u64,
    pub lies: u64,
    pub lost_writes: u64,
    pub torn_writes: u64,
    pub lost_names: u64,
    pub failed_syncs: u64,
    pub syncs: u64,
}

pub struct Disk {
    base: PathBuf,
    files: BTreeMap<u64, Tracked>,
    names: Vec<Name>,
    numbers: u64,
    graves: u64,
    /// The world itself is at work on the files.
    quiet: bool,
    pub health: Vec<Health>,
    /// No sync does anything: to see that it is missed.
    pub deaf: bool,
    /// Says what is lost.
    pub tells: bool,
    pub counts: DiskCounts,
}

impl Default for Disk {
    fn default() -> Self {
        Self {
            base: PathBuf::new(),
            files: BTreeMap::new(),
            names: Vec::new(),
            numbers: 0,
            graves: 0,
            quiet: true,
            deaf: false,
            tells: false,
            health: vec![Health::default(); NODES],
            counts: DiskCounts::default(),
        }
    }
}

unsafe fn path_of(path: *const c_char) -> PathBuf {
    // SAFETY: the caller's path.
    let bytes = unsafe { CStr::from_ptr(path) }.to_bytes();
    PathBuf::from(std::ffi::OsStr::from_bytes(bytes))
}

fn c(path: &Path) -> CString {
    CString::new(path.as_os_str().as_bytes()).unwrap_or_default()
}

struct Stat {
    number: u64,
    len: u64,
    room: u64,
    folder: bool,
}

fn stat(file: c_int) -> Option<Stat> {
    // SAFETY: a place of our own for the answer.
    unsafe {
        let mut stat: libc::stat = std::mem::zeroed();
        let arguments = [file as usize, (&raw mut stat) as usize, 0, 0, 0, 0];
        (raw(libc::SYS_fstat, arguments) == 0).then_some(Stat {
            number: stat.st_ino,
            len: stat.st_size as u64,
            room: stat.st_blocks as u64 * 512,
            folder: stat.st_mode & libc::S_IFMT == libc::S_IFDIR,
        })
    }
}

fn read_at(file: c_int, offset: u64, len: u64) -> Vec<u8> {
    let mut bytes = vec![0_u8; len as usize];
    // SAFETY: bytes of our own.
    let read = unsafe {
        let at = bytes.as_mut_ptr() as usize;
        raw(libc::SYS_pread64, [file as usize, at, bytes.len(), offset as usize, 0, 0])
    };
    bytes.truncate(usize::try_from(read).unwrap_or(0));
    bytes
}

impl Disk {
    /// From now on the files of each node, in the folders `n1`, `n2`, ... of this one, are followed.
    pub fn follow(&mut self, base: &Path) {
        base.clone_into(&mut self.base);
        self.quiet = false;
    }

    fn node_of(&self, path: &Path) -> Option<usize> {
        if self.quiet || self.base.as_os_str().is_empty() {
            return None;
        }
        let first = path.strip_prefix(&self.base).ok()?.components().next()?;
        first.as_os_str().to_str()?.strip_prefix('n')?.parse().ok()
    }

    fn grave(&mut self) -> PathBuf {
        self.graves += 1;
        self.base.join("graves").join(self.graves.to_string())
    }

    fn keep(&mut self, path: &Path) -> PathBuf {
        let grave = self.grave();
        let (from, to) = (c(path), c(&grave));
        // SAFETY: two paths of our own.
        unsafe {
            raw(libc::SYS_link, [from.as_ptr() as usize, to.as_ptr() as usize, 0, 0, 0, 0]);
        }
        grave
    }

    fn named(&mut self, node: usize, what: What) {
        let parent = |path: &Path| path.parent().map(Path::to_owned).unwrap_or_default();
        let folders = match &what {
            What::Create(path) | What::Folder(path) | What::Unlink { path, .. } => {
                vec![parent(path)]
            }
            What::Rename { from, to, .. } if parent(from) == parent(to) => vec![parent(to)],
            What::Rename { from, to, .. } => vec![parent(from), parent(to)],
        };
        self.numbers += 1;
        self.names.push(Name { number: self.numbers, node, what, folders, lied: false });
    }

    /// A disk that lied makes it all true.
    pub fn tell(&mut self, node: usize) {
        for file in self.files.values_mut().filter(|file| file.node == node) {
            file.durable_up_to(file.lied);
        }
        self.names.retain(|name| name.node != node || !name.lied);
    }

    /// Whether a loss of power would now take what a sync promised.
    pub fn owes(&self, node: usize) -> bool {
        self.files.values().any(|file| file.node == node && file.lied > file.durable)
            || self.names.iter().any(|name| name.node == node && name.lied)
    }
}

/// Memory that is mapped, and gone with its process.
fn is_memory(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.as_bytes().starts_with(b"shm-"))
}

/// `real` opens the file.
pub unsafe fn open(path: *const c_char, flags: c_int, real: impl Fn() -> isize) -> isize {
    // SAFETY: the caller's path.
    let path = unsafe { path_of(path) };
    let Some(node) = machine().disk.node_of(&path) else { return real() };
    if is_memory(&path) {
        return real();
    }
    threads::maybe_give_way(8);
    let disk = &mut machine().disk;
    let there = disk.quietly(|| std::fs::metadata(&path).ok());
    if flags & libc::O_CREAT != 0 && there.is_none() && disk.health[node].full {
        disk.counts.full += 1;
        return -(libc::ENOSPC as isize);
    }
    let old = match &there {
        Some(meta) if flags & libc::O_TRUNC != 0 && meta.is_file() && meta.len() > 0 => {
            disk.quietly(|| std::fs::read(&path).ok())
        }
        _ => None,
    };
    let file = real();
    let Some(stat) = c_int::try_from(file).ok().filter(|file| *file >= 0).and_then(stat) else {
        return file;
    };
    if stat.folder {
        return file;
    }
    let new = || Tracked::new(node);
    if there.is_none() {
        disk.files.insert(stat.number, new());
        disk.named(node, What::Create(path));
    } else {
        let tracked = disk.files.entry(stat.number).or_insert_with(new);
        if let Some(tail) = old {
            let old_len = tail.len() as u64;
            tracked.changes.push(Change::Length { old_len, tail, new_len: 0 });
        }
    }
    file
}

impl Disk {
    fn quietly<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let before = std::mem::replace(&mut self.quiet, true);
        let result = work();
        self.quiet = before;
        result
    }
}

/// Before bytes are written. An errno, if they cannot be.
pub unsafe fn write(file: c_int, bytes: *const u8, len: usize, offset: Option<u64>) -> Option<i32> {
    if machine().disk.quiet {
        return None;
    }
    if !machine().disk.files.contains_key(&stat(file)?.number) {
        return None;
    }
    threads::maybe_give_way(8);
    let stat = stat(file)?;
    let disk = &mut machine().disk;
    let tracked = disk.files.get_mut(&stat.number)?;
    let offset = offset.unwrap_or_else(|| {
        // SAFETY: numbers.
        let at =
            unsafe { raw(libc::SYS_lseek, [file as usize, 0, libc::SEEK_CUR as usize, 0, 0, 0]) };
        u64::try_from(at).unwrap_or(0)
    });
    let end = offset + len as u64;
    if disk.health[tracked.node].full && end > stat.len && end > stat.room {
        disk.counts.full += 1;
        return Some(libc::ENOSPC);
    }
    let old = read_at(file, offset, (len as u64).min(stat.len.saturating_sub(offset)));
    // SAFETY: the caller's `len` bytes.
    let new = unsafe { std::slice::from_raw_parts(bytes, len) }.to_vec();
    tracked.changes.push(Change::Write { offset, old, old_len: stat.len, new });
    machine().note(stat.len ^ (offset << 20) ^ ((len as u64) << 40));
    None
}

/// Before a file gets another length.
pub fn set_len(file: c_int, len: u64) -> Option<i32> {
    if machine().disk.quiet || !machine().disk.files.contains_key(&stat(file)?.number) {
        return None;
    }
    threads::maybe_give_way(8);
    let stat = stat(file)?;
    let disk = &mut machine().disk;
    let tracked = disk.files.get_mut(&stat.number)?;
    let tail = if len < stat.len { read_at(file, len, stat.len - len) } else { Vec::new() };
    tracked.changes.push(Change::Length { old_len: stat.len, tail, new_len: len });
    None
}

/// Makes a file's bytes, or a folder's names, durable, as far as its disk is honest.
pub fn sync(file: c_int) -> Option<i32> {
    if machine().disk.quiet || machine().disk.deaf {
        return None;
    }
    let stat = stat(file)?;
    let disk = &mut machine().disk;
    if stat.folder {
        return sync_names(&folder_path(file));
    }
    let tracked = disk.files.get(&stat.number)?;
    // What comes meanwhile has to wait for the next.
    let (node, last) = (tracked.node, tracked.last());
    wait_for_disk(node);
    let disk = &mut machine().disk;
    if let Some(errno) = disk.fails(node) {
        return Some(errno);
    }
    let lies = disk.lies(node);
    let tracked = disk.files.get_mut(&stat.number)?;
    if lies {
        tracked.lied = tracked.lied.max(last);
    } else {
        tracked.durable_up_to(last);
    }
    None
}

fn sync_names(path: &Path) -> Option<i32> {
    let disk = &machine().disk;
    let node = disk.node_of(path)?;
    let here = |name: &Name| name.node == node && name.folders.iter().any(|folder| folder == path);
    let last = disk.numbers;
    wait_for_disk(node);
    let disk = &mut machine().disk;
    if let Some(errno) = disk.fails(node) {
        return Some(errno);
    }
    let lies = disk.lies(node);
    for name in disk.names.iter_mut().filter(|name| name.number <= last && here(name)) {
        if lies {
            name.lied = true;
        } else {
            name.folders.retain(|folder| folder != path);
        }
    }
    disk.names.retain(|name| !name.folders.is_empty());
    None
}

impl Disk {
    fn lies(&mut self, node: usize) -> bool {
        let lies = self.health[node].lies;
        self.counts.syncs += 1;
        self.counts.lies += u64::from(lies);
        lies
    }

    fn fails(&mut self, node: usize) -> Option<i32> {
        std::mem::take(&mut self.health[node].fails).then(|| {
            self.counts.failed_syncs += 1;
            libc::EIO
        })
    }
}

fn wait_for_disk(node: usize) {
    let machine = machine();
    // Mostly quick, sometimes late.
    let most = if machine.chance.one_in(50) { 8_000_000 } else { 400_000 };
    let time = 30_000 + machine.chance.below(most) + machine.disk.health[node].slow;
    threads::sleep(time);
}

fn folder_path(file: c_int) -> PathBuf {
    let link = c(Path::new(&format!("/proc/self/fd/{file}")));
    let mut buffer = [0_u8; 4096];
    // SAFETY: a path and a buffer of our own.
    let len = unsafe {
        let at = buffer.as_mut_ptr() as usize;
        raw(libc::SYS_readlink, [link.as_ptr() as usize, at, buffer.len(), 0, 0, 0])
    };
    let bytes = buffer.get(..usize::try_from(len).unwrap_or(0)).unwrap_or_default();
    PathBuf::from(std::ffi::OsStr::from_bytes(bytes))
}

/// `real` renames the file.
pub unsafe fn rename(from: *const c_char, to: *const c_char, real: impl Fn() -> isize) -> isize {
    // SAFETY: the caller's paths.
    let (from, to) = unsafe { (path_of(from), path_of(to)) };
    let Some(node) = machine().disk.node_of(&to) else { return real() };
    threads::maybe_give_way(8);
    let disk = &mut machine().disk;
    let there = disk.quietly(|| to.is_file());
    let saved = there.then(|| disk.keep(&to));
    let done = real();
    if done == 0 {
        disk.named(node, What::Rename { from, to, saved });
    }
    done
}

/// `real` removes the file.
pub unsafe fn unlink(path: *const c_char, real: impl Fn() -> isize) -> isize {
    // SAFETY: the caller's path.
    let path = unsafe { path_of(path) };
    let Some(node) = machine().disk.node_of(&path).filter(|_| !is_memory(&path)) else {
        return real();
    };
    threads::maybe_give_way(8);
    let disk = &mut machine().disk;
    let saved = disk.keep(&path);
    let done = real();
    if done == 0 {
        disk.named(node, What::Unlink { path, saved });
    }
    done
}

/// `real` makes the folder.
pub unsafe fn mkdir(path: *const c_char, real: impl Fn() -> isize) -> isize {
    // SAFETY: the caller's path.
    let path = unsafe { path_of(path) };
    let Some(node) = machine().disk.node_of(&path) else { return real() };
    let done = real();
    if done == 0 {
        machine().disk.named(node, What::Folder(path));
    }
    done
}
