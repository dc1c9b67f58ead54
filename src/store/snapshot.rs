//! The whole database at one position, as a stream, while it is read and written.

use std::io::{self, Read, Write};
use std::mem;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, PoisonError};

use super::checksums::read_or_zeros;
use super::database::{Database, JournalMode, new_slot};
use super::error::StoreError;
use super::shm::View;
use crate::core::ports::{ByteRange, DaemonLocks, LockFile, LockKind};
use crate::core::{EntryId, Incarnation, Position, Txid};
use crate::ltx::{Encoder, Header, WalSpan, lock_page};
use crate::sqlite::locks::{PENDING, READ0, READERS, SHARED_FIRST, SHARED_SIZE};
use crate::sqlite::wal_index;
use crate::sqlite::{IndexHeader, IndexMemory, wal};

/// How often a snapshot begins anew because a writer or a checkpoint came in between.
const TRIES: u32 = 100;

/// An LTX snapshot of the database, made while it is read. Holds its place as a reader does until
/// it is dropped: a WAL does not begin anew meanwhile, and a rollback-journal writer waits.
pub struct Snapshot {
    pub(super) database: Arc<Database>,
    /// What it is a snapshot of.
    pub position: Position,
    /// The entry that led there.
    pub entry: EntryId,
    pub incarnation: Option<Incarnation>,
    /// Size of the database, in pages.
    pub pages: u32,
    pub(super) source: Source,
    next: u32,
    encoder: Option<Encoder<Pipe>>,
    pipe: Pipe,
    ready: Vec<u8>,
    given: usize,
    pub(super) page: Vec<u8>,
    /// Last, so that the place is held while anything above still reads.
    _places: Vec<Place>,
}

/// Where pages are.
pub(super) struct Source {
    pub page_size: u32,
    /// The wal-index, and which frames count; `None`: all is in the file.
    pub frames: Option<(View, u32, u32)>,
}

/// A lock of the daemon's, released when dropped.
pub(super) struct Place {
    pub locks: Arc<dyn DaemonLocks>,
    pub slot: u64,
    pub file: LockFile,
    pub range: ByteRange,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.locks.lock(self.slot, self.file, self.range, LockKind::Unlock);
    }
}

/// The encoder's end of a buffer that the reader empties.
#[derive(Clone, Default)]
struct Pipe(Arc<Mutex<Vec<u8>>>);

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Database {
    /// Begins a snapshot of what new readers see. `node` and `timestamp_ms` go into its header.
    ///
    /// # Errors
    /// `Busy` or `Unpublished`: ask again in a moment. `Invalid`: the database is empty.
    pub fn snapshot(
        self: &Arc<Self>,
        node: u64,
        timestamp_ms: i64,
    ) -> Result<Snapshot, StoreError> {
        let (places, source, position, entry, incarnation, pages) =
            if self.journal_mode()? == JournalMode::Wal {
                self.wal_place()?
            } else {
                self.file_place()?
            };
        let header = Header {
            page_size: source.page_size,
            commit: pages,
            min_txid: Txid(1),
            max_txid: position.txid,
            timestamp_ms,
            pre_apply: crate::core::Checksum(0),
            node_id: node,
            wal: WalSpan::default(),
        };
        if pages == 0 {
            return Err(self.invalid("an empty database has no snapshot"));
        }
        let pipe = Pipe::default();
        let encoder = Encoder::new(pipe.clone(), header).map_err(|e| self.ltx(e))?;
        Ok(Snapshot {
            database: self.clone(),
            position,
            entry,
            incarnation,
            pages,
            source,
            next: 1,
            encoder: Some(encoder),
            pipe,
            ready: Vec::new(),
            given: 0,
            page: Vec::new(),
            _places: places,
        })
    }

    /// As [`Database::snapshot`], with the checksum of every page of it.
    ///
    /// # Errors
    /// The same.
    pub fn snapshot_with_sums(self: &Arc<Self>) -> Result<(Snapshot, Vec<u64>), StoreError> {
        for _ in 0..TRIES {
            let snapshot = self.snapshot(0, 0)?;
            let state = self.state();
            // Else a transaction was applied in between.
            if state.head.position == snapshot.position {
                return Ok((snapshot, state.table.sums().to_vec()));
            }
        }
        Err(self.busy("transactions follow so fast that no position can be caught"))
    }

    /// A reader's place in the WAL, as `walTryBeginRead` takes it.
    pub(super) fn wal_place(&self) -> Result<Found, StoreError> {
        let locks = self.locks();
        let slot = new_slot();
        let shared = self.shared_place(slot)?;
        let place = |reader: usize| {
            let byte = READ0 + reader as u64;
            let range = ByteRange { start: byte, end: byte };
            let granted = locks.lock(slot, LockFile::Shm, range, LockKind::Shared);
            granted.then(|| Place { locks: locks.clone(), slot, file: LockFile::Shm, range })
        };
        for _ in 0..TRIES {
            let view = self.view()?;
            let Ok(live) = wal_index::read_header(&view) else { continue };
            let info = wal_index::checkpoint_info(&view).map_err(|e| self.index(e))?;
            let held = if info.backfill == live.max_frame {
                place(0).map(|place| (place, None))
            } else {
                self.read_mark(&view, &live, &*locks, slot)?
                    .and_then(|reader| place(reader).map(|place| (place, Some(reader))))
            };
            let Some((place, reader)) = held else { continue };
            view.barrier();
            let frames = match reader {
                None => None,
                Some(reader) => {
                    let info = wal_index::checkpoint_info(&view).map_err(|e| self.index(e))?;
                    if info.read_marks.get(reader) != Some(&live.max_frame) {
                        continue;
                    }
                    Some((view.clone(), info.backfill.saturating_add(1), live.max_frame))
                }
            };
            view.barrier();
            let state = self.state();
            self.check_published(&state)?;
            // Unchanged, and nothing committed that is not visible: it is what `visible` says.
            if wal_index::read_header(&view) != Ok(live) {
                continue;
            }
            let source = Source { page_size: state.table.page_size(), frames };
            let mark = state.visible;
            return Ok((
                vec![shared, place],
                source,
                mark.position,
                mark.entry,
                state.incarnation,
                mark.pages,
            ));
        }
        Err(self.busy("writers and checkpoints keep a snapshot from beginning"))
    }

    /// A read mark at the live end of the WAL: one that is there, or one that nobody uses.
    fn read_mark(
        &self,
        view: &View,
        live: &IndexHeader,
        locks: &dyn DaemonLocks,
        slot: u64,
    ) -> Result<Option<usize>, StoreError> {
        let info = wal_index::checkpoint_info(view).map_err(|e| self.index(e))?;
        let there = (1..READERS).find(|r| info.read_marks.get(*r) == Some(&live.max_frame));
        if there.is_some() {
            return Ok(there);
        }
        for reader in 1..READERS {
            let byte = READ0 + reader as u64;
            let range = ByteRange { start: byte, end: byte };
            if locks.lock(slot, LockFile::Shm, range, LockKind::Exclusive) {
                let set = wal_index::set_read_mark(view, reader, live.max_frame);
                locks.lock(slot, LockFile::Shm, range, LockKind::Unlock);
                set.map_err(|e| self.index(e))?;
                return Ok(Some(reader));
            }
        }
        Ok(None)
    }

    /// A reader's place in a database with a rollback journal.
    pub(super) fn file_place(&self) -> Result<Found, StoreError> {
        let place = self.shared_place(new_slot())?;
        let state = self.state();
        self.check_published(&state)?;
        let source = Source { page_size: state.table.page_size(), frames: None };
        let mark = state.visible;
        Ok((vec![place], source, mark.position, mark.entry, state.incarnation, mark.pages))
    }

    /// SHARED on the database file, as every reader holds it, in WAL mode, too: it keeps those out
    /// who would change the file in place.
    fn shared_place(&self, slot: u64) -> Result<Place, StoreError> {
        let locks = self.locks();
        let file = LockFile::Database;
        let pending = ByteRange { start: PENDING, end: PENDING };
        let range = ByteRange { start: SHARED_FIRST, end: SHARED_FIRST + SHARED_SIZE - 1 };
        if !locks.lock(slot, file, pending, LockKind::Shared) {
            return Err(self.busy("a writer is about to write"));
        }
        let shared = locks.lock(slot, file, range, LockKind::Shared);
        locks.lock(slot, file, pending, LockKind::Unlock);
        if shared {
            Ok(Place { locks, slot, file, range })
        } else {
            Err(self.busy("a writer holds it"))
        }
    }

    /// Reads a page from where it is.
    pub(super) fn read_page(
        &self,
        source: &Source,
        pgno: u32,
        page: &mut Vec<u8>,
    ) -> Result<(), StoreError> {
        page.resize(source.page_size as usize, 0);
        if let Some((view, min, max)) = &source.frames {
            let found = wal_index::lookup(view, *max, pgno, *min).map_err(|e| self.index(e))?;
            if let Some(frame) = found {
                let offset = wal::frame_offset(source.page_size, frame);
                return self
                    .wal
                    .read_exact_at(page, offset + wal::FRAME_HEADER_SIZE as u64)
                    .map_err(|e| self.io("reading a frame", "wal", e));
            }
        }
        let offset = u64::from(pgno.saturating_sub(1)) * u64::from(source.page_size);
        read_or_zeros(&self.main, page, offset)
            .map_err(|e| self.io("reading a page", "database", e))
    }
}

pub(super) type Found = (Vec<Place>, Source, Position, EntryId, Option<Incarnation>, u32);

impl Snapshot {
    /// Bytes.
    pub fn page_size(&self) -> u32 {
        self.source.page_size
    }

    /// Reads one page of it.
    ///
    /// # Errors
    /// The disk's.
    pub fn page(&self, pgno: u32, page: &mut Vec<u8>) -> Result<(), StoreError> {
        self.database.read_page(&self.source, pgno, page)
    }

    /// Makes the next bytes. Nothing is left when they stay empty.
    fn fill(&mut self) -> io::Result<()> {
        self.ready.clear();
        self.given = 0;
        let Some(encoder) = &mut self.encoder else { return Ok(()) };
        if self.next == lock_page(self.source.page_size) {
            self.next += 1;
        }
        if self.next <= self.pages {
            self.database
                .read_page(&self.source, self.next, &mut self.page)
                .map_err(io::Error::other)?;
            encoder.page(self.next, &self.page).map_err(io::Error::other)?;
            self.next += 1;
        } else if let Some(encoder) = self.encoder.take() {
            // one-history: refused if the pages read do not add up to the position.
            encoder.finish(self.position.checksum).map_err(io::Error::other)?;
        }
        let mut made = self.pipe.0.lock().unwrap_or_else(PoisonError::into_inner);
        mem::swap(&mut self.ready, &mut made);
        Ok(())
    }
}

impl Read for Snapshot {
    /// Errors end the stream for good.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.given >= self.ready.len() {
            if self.encoder.is_none() {
                return Ok(0);
            }
            if let Err(e) = self.fill() {
                self.encoder = None;
                return Err(e);
            }
        }
        let rest = self.ready.get(self.given..).unwrap_or_default();
        let len = rest.len().min(buffer.len());
        buffer.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
        self.given += len;
        Ok(len)
    }
}
