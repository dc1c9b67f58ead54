//! `capture` against recorded file operations of SQLite (tests/record/).
//!
//! The operations are done on raw files as SQLite did them. At each commit point, before the
//! operation and after it, and at the end of each hold of the write lock, SQLite itself is asked
//! what is committed in the raw files (it recovers the WAL, or plays a hot journal back); that has
//! to be, byte for byte, what the captured transactions made of an empty image.
//! Promise: invisible-until-committed. Rules 8 and 20.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::path::PathBuf;

use litefs_py::capture::{
    DatabaseShape, JournalCapture, JournalEvent, Refusal, WalCapture, WalEvent,
};
use litefs_py::sqlite::wal::{FRAME_HEADER_SIZE, FrameHeader, frame_offset};
use litefs_py::sqlite::{DatabaseHeader, WalTip, locks};
use rusqlite::Connection;

#[path = "common/recorded.rs"]
mod recorded;

use recorded::{DATABASE, JOURNAL, Op, SHM, WAL};

fn fixtures() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/capture")
}

fn read_ops(name: &str) -> Vec<Op> {
    recorded::parse(name, &std::fs::read(fixtures().join(format!("{name}.ops"))).unwrap())
}

#[derive(Default)]
struct Counts {
    commits: usize,
    /// Commit frames without salts: after a spill.
    unsalted: usize,
    /// Those that SQLite would not find again.
    forgotten: usize,
    repeats: usize,
    empty: usize,
    /// Commits that changed nothing: rollbacks.
    unchanged: usize,
    largest_shrink: usize,
}

struct Replay {
    name: String,
    /// The last commit point is a frame without salts: to a recovery it is committed when they have been
    /// written, in the same hold.
    unsalted: bool,
    /// SQLite forgets to write them: only its checkpoint shows the transaction.
    forgets: bool,
    files: BTreeMap<u8, Vec<u8>>,
    /// What the captured transactions made.
    image: Vec<u8>,
    page_size: Option<u32>,
    tip: Option<WalTip>,
    wal: Option<WalCapture>,
    journal: Option<JournalCapture>,
    counts: Counts,
    /// Of the split of writes; 0: none.
    random: u64,
}

impl Replay {
    fn new(name: &str, random: u64) -> Self {
        Self {
            name: name.into(),
            unsalted: false,
            forgets: name == "wal_savepoint_forgotten",
            files: BTreeMap::new(),
            image: Vec::new(),
            page_size: None,
            tip: None,
            wal: None,
            journal: None,
            counts: Counts::default(),
            random,
        }
    }

    fn run(mut self) -> Result<Counts, Refusal> {
        for op in read_ops(&self.name) {
            self.op(op)?;
        }
        self.check("at the end");
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("a.db"), &self.image).unwrap();
        let db = Connection::open(dir.path().join("a.db")).unwrap();
        let said: String = db.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
        assert_eq!(said, "ok", "{}", self.name);
        Ok(self.counts)
    }

    fn op(&mut self, op: Op) -> Result<(), Refusal> {
        match op {
            Op::Write { file, offset, mut data } => {
                let mut offset = offset;
                while let Some(len) = self.piece(data.len()) {
                    let rest = data.split_off(len);
                    self.write(file, offset, &data)?;
                    offset += len as u64;
                    data = rest;
                }
                self.write(file, offset, &data)
            }
            Op::Truncate { file, len } => self.shorten(file, Some(len)),
            Op::Unlink { file } => self.shorten(file, None),
            Op::Lock { file, start, len, kind } => {
                self.lock(file, start, start + len, kind);
                Ok(())
            }
            Op::Exit => {
                self.end_of_hold();
                Ok(())
            }
        }
    }

    /// How long the next piece of a write is that is split.
    fn piece(&mut self, len: usize) -> Option<usize> {
        if self.random == 0 || len < 2 {
            return None;
        }
        // xorshift64
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let at = (self.random >> 8) as usize % (len * 2);
        (1..len).contains(&at).then_some(at)
    }

    fn lock(&mut self, file: u8, start: u64, end: u64, kind: u64) {
        let covers = |byte: u64| (start..end).contains(&byte);
        match (file, kind) {
            (SHM, 1) if covers(locks::WRITE) => self.wal = Some(WalCapture::begin(self.tip)),
            (SHM, 2) if covers(locks::WRITE) => self.end_of_hold(),
            (DATABASE, 2) if covers(locks::RESERVED) => self.end_of_hold(),
            _ => {}
        }
    }

    fn end_of_hold(&mut self) {
        self.wal = None;
        self.journal = None;
        if self.unsalted && self.forgets {
            self.counts.forgotten += usize::from(committed(&self.files) != self.image);
            return;
        }
        if std::mem::take(&mut self.unsalted) {
            self.tip = self.tip.map(|tip| self.as_rewritten(tip));
        }
        self.check("at the end of a hold");
    }

    /// The wal-index, which is not recorded, says what checksum the next frame continues: that of the
    /// last frame's header.
    fn as_rewritten(&self, tip: WalTip) -> WalTip {
        let at = frame_offset(tip.page_size, tip.frame) as usize;
        let header: &[u8; FRAME_HEADER_SIZE] = self.files[&WAL][at..].first_chunk().unwrap();
        WalTip { checksum: FrameHeader::parse(header).checksum, ..tip }
    }

    fn write(&mut self, file: u8, offset: u64, data: &[u8]) -> Result<(), Refusal> {
        let commit = match file {
            WAL => self.wal_write(offset, data),
            DATABASE | JOURNAL => {
                let event = self.journal().map(|capture| match file {
                    DATABASE => capture.db_write(offset, data),
                    _ => capture.journal_write(offset, data),
                });
                self.journal_event(event)?
            }
            _ => None,
        };
        let bytes = self.files.entry(file).or_default();
        let end = offset as usize + data.len();
        bytes.resize(bytes.len().max(end), 0);
        bytes[offset as usize..end].copy_from_slice(data);
        self.done(commit);
        Ok(())
    }

    fn shorten(&mut self, file: u8, len: Option<u64>) -> Result<(), Refusal> {
        self.unsalted &= file != WAL;
        let commit = if matches!(file, DATABASE | JOURNAL) {
            let event = self.journal().map(|capture| match (file, len) {
                (DATABASE, len) => capture.db_truncate(len.unwrap()),
                (_, Some(len)) => capture.journal_truncate(len),
                (_, None) => capture.journal_unlink(),
            });
            self.journal_event(event)?
        } else {
            // Nothing of the WAL is left, or it is cut behind what counts.
            if len.is_none_or(|len| len == 0) {
                self.tip = None;
            }
            None
        };
        match len {
            Some(len) => self.files.entry(file).or_default().resize(len as usize, 0),
            None => drop(self.files.remove(&file)),
        }
        self.done(commit);
        Ok(())
    }

    /// The capture of this hold, begun when it is needed; `None` for the writes of a checkpoint.
    fn journal(&mut self) -> Option<&mut JournalCapture> {
        let journal = self.files.get(&JOURNAL).map(Vec::as_slice).unwrap_or_default();
        let is_wal = DatabaseHeader::parse(&self.image).is_ok_and(|header| header.is_wal());
        let checkpoint = is_wal && journal.is_empty() && self.files.contains_key(&WAL);
        if self.journal.is_none() && !checkpoint {
            let pages = self.page_size.map_or(0, |size| self.image.len() as u32 / size);
            let shape = DatabaseShape { page_size: self.page_size, pages };
            self.journal = Some(JournalCapture::begin(shape, journal));
        }
        self.journal.as_mut()
    }

    /// The image after a write to the WAL, if that is a commit point.
    fn wal_write(&mut self, offset: u64, data: &[u8]) -> Option<Vec<u8>> {
        let capture = self.wal.as_mut().expect("a write under byte 120");
        let wal = self.files.get(&WAL).map(Vec::as_slice).unwrap_or_default();
        let event = capture.write(&wal, offset, data).unwrap();
        self.tip = capture.tip();
        match event {
            WalEvent::Pass => None,
            WalEvent::Repeat => {
                self.counts.repeats += 1;
                None
            }
            WalEvent::CommitPoint(transaction) => {
                assert_eq!(transaction.tip.frame, transaction.last_frame);
                let mut after = wal.to_vec();
                after.resize(after.len().max(offset as usize + data.len()), 0);
                after[offset as usize..offset as usize + data.len()].copy_from_slice(data);
                let size = transaction.page_size as usize;
                let last = frame_offset(size as u32, transaction.last_frame) as usize;
                self.unsalted = after[last + 8..last + 16] == [0; 8];
                self.counts.unsalted += usize::from(self.unsalted);
                self.page_size = Some(transaction.page_size);
                let mut image = self.image.clone();
                image.resize(transaction.pages as usize * size, 0);
                for (page, frame) in transaction.latest {
                    let from = frame_offset(size as u32, frame) as usize + FRAME_HEADER_SIZE;
                    let to = (page as usize - 1) * size;
                    image[to..to + size].copy_from_slice(&after[from..from + size]);
                }
                Some(image)
            }
        }
    }

    fn journal_event(&mut self, event: Option<JournalEvent>) -> Result<Option<Vec<u8>>, Refusal> {
        let commit = match event {
            None | Some(JournalEvent::Pass) => return Ok(None),
            Some(JournalEvent::Empty) => {
                self.counts.empty += 1;
                return Ok(None);
            }
            Some(JournalEvent::Refuse(refusal)) => return Err(refusal),
            Some(JournalEvent::CommitPoint(commit)) => commit,
        };
        let raw = self.files.get(&DATABASE).map(Vec::as_slice).unwrap_or_default();
        let size = commit.page_size as usize;
        let pages = DatabaseHeader::parse(raw).map_or(0, |header| {
            assert_eq!(header.page_size, commit.page_size);
            header.size_in_pages(raw.len() as u64)
        });
        let mut image = self.image.clone();
        image.resize(pages as usize * size, 0);
        for page in commit.changed(pages) {
            let at = (page as usize - 1) * size;
            image[at..at + size].copy_from_slice(&raw[at..at + size]);
        }
        self.page_size = (pages != 0).then_some(commit.page_size);
        Ok(Some(image))
    }

    /// The operation was done.
    fn done(&mut self, commit: Option<Vec<u8>>) {
        let Some(image) = commit else { return };
        self.counts.commits += 1;
        self.counts.unchanged += usize::from(image == self.image);
        let shrink = self.image.len().saturating_sub(image.len());
        self.counts.largest_shrink = self.counts.largest_shrink.max(shrink);
        self.image = image;
        if !self.unsalted {
            self.check("after a commit point");
        }
    }

    fn check(&self, when: &str) {
        let truth = committed(&self.files);
        let size = self.page_size.unwrap_or(512) as usize;
        let number = self.counts.commits;
        assert_eq!(self.image.len(), truth.len(), "{} {when}, commit {number}", self.name);
        for (page, (ours, theirs)) in (1..).zip(self.image.chunks(size).zip(truth.chunks(size))) {
            assert!(ours == theirs, "{} {when}, commit {number}: page {page}", self.name);
        }
    }
}

/// What SQLite takes for committed in these files.
fn committed(files: &BTreeMap<u8, Vec<u8>>) -> Vec<u8> {
    let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    for (file, suffix) in [(DATABASE, ""), (JOURNAL, "-journal"), (WAL, "-wal")] {
        if let Some(bytes) = files.get(&file) {
            std::fs::write(dir.path().join(format!("a.db{suffix}")), bytes).unwrap();
        }
    }
    let path = dir.path().join("a.db");
    let db = Connection::open(&path).unwrap();
    db.execute_batch(
        "PRAGMA synchronous=OFF; SELECT count(*) FROM sqlite_schema;
         PRAGMA wal_checkpoint(TRUNCATE);",
    )
    .unwrap();
    drop(db);
    let mut bytes = std::fs::read(&path).unwrap();
    if let Ok(header) = DatabaseHeader::parse(&bytes) {
        let pages = header.size_in_pages(bytes.len() as u64);
        bytes.truncate(pages as usize * header.page_size as usize);
    }
    bytes
}

/// Whole, and with writes split at random bytes.
fn replay(name: &str) -> Counts {
    let counts = Replay::new(name, 0).run().unwrap();
    let split = Replay::new(name, 0x9e37_79b9_7f4a_7c15).run().unwrap();
    assert_eq!(counts.commits, split.commits, "{name}");
    assert_eq!(counts.empty, split.empty, "{name}");
    counts
}

fn refusal(name: &str) -> Refusal {
    let whole = Replay::new(name, 0).run().err().expect("a refusal");
    let split = Replay::new(name, 77).run().err().expect("a refusal");
    assert_eq!(whole, split);
    whole
}

#[test]
fn wal_page_sizes() {
    for name in ["wal_512", "wal_4096", "wal_65536"] {
        assert!(replay(name).commits >= 17, "{name}");
    }
}

#[test]
fn wal_restarts() {
    assert!(replay("wal_restart").commits > 30);
}

#[test]
fn wal_spills_and_late_headers() {
    let counts = replay("wal_spill");
    assert!(counts.unsalted >= 4, "{}", counts.unsalted);
    assert_eq!(counts.commits, 1 + 1 + 1 + 4 + 2);
}

#[test]
fn wal_savepoints() {
    let counts = replay("wal_savepoint");
    assert!(counts.unsalted > 1);
    assert_eq!(counts.commits, 1 + 1 + 30 + 5 + 1);
}

/// no-lost-ack: what a recovery would not find is committed all the same, and captured.
#[test]
fn wal_savepoints_that_sqlite_forgets() {
    let counts = replay("wal_savepoint_forgotten");
    assert!(counts.forgotten >= 2, "{}", counts.forgotten);
    assert_eq!(counts.commits, 1 + 1 + 60 + 6 * 3);
}

#[test]
fn wal_padding_is_no_transaction() {
    let counts = replay("wal_padding");
    assert!(counts.repeats > 20, "{}", counts.repeats);
    assert_eq!(counts.commits, 1 + 1 + 6 + 1);
}

#[test]
fn wal_vacuum() {
    assert!(replay("wal_vacuum").largest_shrink > 512 * 10);
    for name in ["wal_auto_vacuum_full", "wal_auto_vacuum_incremental"] {
        assert!(replay(name).largest_shrink > 512 * 2, "{name}");
    }
}

#[test]
fn wal_killed_writer() {
    assert!(replay("wal_killed").commits > 12);
}

#[test]
fn journal_modes() {
    for name in ["journal_delete", "journal_delete_unsynced", "journal_truncate"] {
        let counts = replay(name);
        assert!(counts.commits > 14 && counts.unchanged >= 3, "{name}");
        assert!(counts.largest_shrink > 512 * 5, "{name}");
    }
}

#[test]
fn journal_persist() {
    for name in ["journal_persist", "journal_persist_limited"] {
        let counts = replay(name);
        assert!(counts.commits > 14 && counts.unchanged >= 3, "{name}");
    }
}

#[test]
fn journal_page_sizes_and_growth() {
    for name in ["journal_4096", "journal_65536", "journal_free_pages", "journal_to_wal"] {
        assert!(replay(name).commits > 1, "{name}");
    }
    for name in ["journal_auto_vacuum_full", "journal_auto_vacuum_incremental"] {
        assert!(replay(name).largest_shrink > 512 * 2, "{name}");
    }
}

#[test]
fn hot_journals() {
    for name in ["hot_delete", "hot_truncate", "hot_persist"] {
        let counts = replay(name);
        assert!(counts.unchanged >= 3, "{name}: the rollbacks");
        assert!(counts.commits >= 1 + 1 + 3 + 3, "{name}");
    }
    assert!(replay("hot_new").commits >= 3);
}

#[test]
fn refused() {
    for name in ["refused_super_journal_delete", "refused_super_journal_persist"] {
        let Refusal::SuperJournal { name: path } = refusal(name) else { panic!("{name}") };
        assert!(path.contains("-mj"), "{path}");
    }
    assert_eq!(refusal("refused_no_journal"), Refusal::NoJournal);
    assert_eq!(refusal("refused_page_size"), Refusal::PageSize { from: 512, to: 1024 });
    assert_eq!(refusal("refused_exclusive"), Refusal::SecondTransaction);
}

#[test]
fn every_fixture_is_replayed() {
    let source = include_str!("capture_recorded.rs");
    for entry in std::fs::read_dir(fixtures()).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        assert!(source.contains(&format!("\"{name}\"")), "{name}");
    }
}
