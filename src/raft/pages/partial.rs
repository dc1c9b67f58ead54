//! The file that pages are received into. It outlives a break, and the process.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use rustix::fs::{CWD, RenameFlags};
use tokio::sync::OwnedMutexGuard;

use super::progress::{Stage, Transferring};
use super::{Offer, PageSet};
use crate::core::Incarnation;
use crate::ltx::{lock_page, page_checksum, unpack};
use crate::raft::replica::Pages;
use crate::store::{PageFile, Steady};

/// Of the files' names; the incarnation comes first.
const PARTIAL: &str = ".partial";
/// Of one that is whole.
const RECEIVED: &str = ".received";
/// What nobody came back for in so long is removed by a start.
const OLD: Duration = Duration::from_hours(24);
/// Of what came whole, in this process.
static NEXT: AtomicU64 = AtomicU64::new(1);
/// Bytes that are read at a time.
const RUN: usize = 1 << 20;

/// Pages that came so far.
pub(super) struct Partial {
    path: PathBuf,
    file: File,
    /// 0: what is in the file was not looked at yet.
    page_size: u32,
    /// Of what is in the file.
    sums: Vec<u64>,
    /// What they have to become.
    wanted: Vec<u64>,
    unsynced: usize,
    progress: Arc<Transferring>,
    /// Nobody else has the file as long as this lives.
    _turn: Arc<OwnedMutexGuard<()>>,
}

impl Partial {
    /// What an earlier try left of this life of a database, or nothing.
    pub fn open(
        folder: &Path,
        incarnation: Incarnation,
        progress: Arc<Transferring>,
        turn: Arc<OwnedMutexGuard<()>>,
    ) -> io::Result<Self> {
        let path = folder.join(format!("{incarnation}{PARTIAL}"));
        let file =
            File::options().read(true).write(true).create(true).truncate(false).open(&path)?;
        let (sums, wanted) = (Vec::new(), Vec::new());
        Ok(Self { path, file, page_size: 0, sums, wanted, unsynced: 0, progress, _turn: turn })
    }

    /// Takes what is here already, and says what is missing. Blocks.
    pub fn compare(
        &mut self,
        offer: &Offer,
        wanted: Vec<u64>,
        here: Option<&mut Box<dyn Pages>>,
    ) -> io::Result<PageSet> {
        let size = u64::from(offer.page_size);
        let end = offer.bytes();
        self.check_space(end, here.is_some())?;
        if self.page_size != 0 && self.page_size != offer.page_size {
            self.file.set_len(0)?;
            self.sums.clear();
        }
        let looked = self.page_size != 0;
        self.page_size = offer.page_size;
        let there = self.file.metadata()?.len().min(end);
        self.file.set_len(end)?;
        if !looked {
            self.sums = self.scan(there / size)?;
        }
        self.sums.resize(offer.pages as usize, 0);
        self.wanted = wanted;
        let mut here = here.filter(|here| here.page_size() == offer.page_size);
        let mut missing = PageSet::empty(offer.pages);
        let lock = lock_page(offer.page_size);
        let mut page = Vec::new();
        for pgno in (1..=offer.pages).filter(|pgno| *pgno != lock) {
            if self.has(pgno) {
                continue;
            }
            let found = match &mut here {
                Some(here) => here.read(pgno, &mut page)?,
                None => false,
            };
            if !(found && self.keep(pgno, &page, true)?) {
                missing.insert(pgno);
            }
        }
        let lacks = missing.len() * size;
        self.progress.compared(end, end.saturating_sub(lacks), Stage::Receiving);
        Ok(missing)
    }

    /// Said before gigabytes come for nothing. What is not here yet lies on the disk twice until it is in
    /// its place.
    fn check_space(&self, end: u64, is_here: bool) -> io::Result<()> {
        let disk = rustix::fs::fstatvfs(&self.file)?;
        let free = disk.f_bavail.saturating_mul(disk.f_frsize);
        // Blocks of 512 bytes, whatever the file system's are (stat(2)).
        let there = self.file.metadata()?.blocks().saturating_mul(512);
        let needed = end.saturating_sub(there) + if is_here { 0 } else { end };
        if needed <= free {
            return Ok(());
        }
        let why = format!("it needs {} MiB of disk, and {} MiB are free", needed >> 20, free >> 20);
        Err(io::Error::other(why))
    }

    /// The checksums of the first pages of the file.
    fn scan(&self, pages: u64) -> io::Result<Vec<u64>> {
        let size = self.page_size as usize;
        let pages = u32::try_from(pages).unwrap_or(u32::MAX);
        let mut sums = Vec::with_capacity(pages as usize);
        let mut run = vec![0; (RUN / size).max(1) * size];
        for pgno in 1..=pages {
            let within = sums.len() * size % run.len();
            if within == 0 {
                let rest = (pages - pgno + 1) as usize * size;
                let len = run.len().min(rest);
                let part = run.get_mut(..len).unwrap_or_default();
                self.file.read_exact_at(part, u64::from(pgno - 1) * size as u64)?;
            }
            let page = run.get(within..within + size).unwrap_or_default();
            sums.push(page_checksum(pgno, page).0);
        }
        Ok(sums)
    }

    fn has(&self, pgno: u32) -> bool {
        let at = pgno as usize - 1;
        self.sums.get(at) == self.wanted.get(at)
    }

    /// Writes a page. `exact`: only if it is the one that was offered; returns whether it was.
    fn keep(&mut self, pgno: u32, page: &[u8], exact: bool) -> io::Result<bool> {
        let at = pgno as usize - 1;
        let sum = page_checksum(pgno, page).0;
        if exact && self.wanted.get(at) != Some(&sum) {
            return Ok(false);
        }
        let size = self.page_size as usize;
        self.file.write_all_at(page, at as u64 * size as u64)?;
        if let Some(slot) = self.sums.get_mut(at) {
            *slot = sum;
        }
        self.unsynced += size;
        if self.unsynced >= Steady::STEP {
            self.unsynced = 0;
            self.file.sync_data()?;
        }
        Ok(true)
    }

    /// Pages that came. `exact`: of the position that was offered. Blocks.
    pub fn write(&mut self, numbers: &[u32], lz4: &[u8], exact: bool) -> io::Result<()> {
        let invalid = |why: String| io::Error::new(io::ErrorKind::InvalidData, why);
        let size = self.page_size as usize;
        let len = numbers.len() * size;
        let bytes = unpack(lz4, len).map_err(invalid)?;
        for (pgno, page) in numbers.iter().zip(bytes.chunks_exact(size)) {
            if *pgno == 0 || *pgno as usize > self.wanted.len() {
                return Err(invalid(format!("page {pgno} is not in the database")));
            }
            if !self.keep(*pgno, page, exact)? {
                return Err(invalid(format!("page {pgno} is not the one that was offered")));
            }
        }
        self.progress.moved(len as u64);
        Ok(())
    }

    /// All is there: the file is synced, and has another name from now on. Blocks.
    pub fn finish(self, offer: &Offer) -> io::Result<ReceivedPages> {
        let lock = lock_page(offer.page_size);
        if let Some(pgno) = (1..=offer.pages).find(|pgno| *pgno != lock && !self.has(*pgno)) {
            let why = format!("page {pgno} is still missing");
            return Err(io::Error::new(io::ErrorKind::InvalidData, why));
        }
        self.progress.stage(Stage::Installing);
        self.file.sync_all()?;
        // A name that nobody has: another one may come while this one waits to be installed.
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = self.path.with_extension(format!("{number}{RECEIVED}"));
        fs::rename(&self.path, &path)?;
        let Offer { page_size, pages, position, .. } = *offer;
        let file = PageFile { path, page_size, pages, position };
        Ok(ReceivedPages { file, _progress: self.progress })
    }

    /// The disk is full: what came so far is not worth it.
    pub fn discard(self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// A whole database that came. What is not taken from there when this is dropped counts as begun, for
/// the next try.
pub struct ReceivedPages {
    file: PageFile,
    /// It is under way until it is in its place.
    _progress: Arc<Transferring>,
}

impl ReceivedPages {
    /// Where it lies, to be taken from there.
    pub fn file(&self) -> &PageFile {
        &self.file
    }
}

impl Drop for ReceivedPages {
    fn drop(&mut self) {
        if self.file.path.exists() {
            // Else it was taken.
            begun_again(&self.file.path);
        }
    }
}

/// For the next try, unless that has begun already.
fn begun_again(received: &Path) {
    let stem = received.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let incarnation = stem.split('.').next().unwrap_or_default();
    let partial = received.with_file_name(format!("{incarnation}{PARTIAL}"));
    if rustix::fs::renameat_with(CWD, received, CWD, &partial, RenameFlags::NOREPLACE).is_err() {
        let _ = fs::remove_file(received);
    }
}

/// At a start: what came whole and was not taken counts as begun; what is old goes.
pub(in crate::raft) fn clean(folder: &Path, now: SystemTime) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if name.ends_with(RECEIVED) {
            begun_again(&path);
        } else if name.ends_with(PARTIAL) {
            let written = fs::metadata(&path)?.modified()?;
            if now.duration_since(written).is_ok_and(|age| age > OLD) {
                fs::remove_file(&path)?;
            }
        }
    }
    Ok(())
}
