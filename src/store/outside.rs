//! An SQLite database that no node serves: a file, with the WAL that may lie beside it.
//!
//! Read as SQLite would show it to a new reader, changing nothing: the file, and over it the
//! committed frames of its WAL. In memory there is 8 bytes for each page that the WAL holds.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags};

use super::checksums::read_or_zeros;
use super::database::{JournalMode, read_full};
use crate::core::{Checksum, Position, Txid};
use crate::ltx::{Encoder, Header, LtxError, WalSpan, lock_page, page_checksum};
use crate::sqlite::wal::{self, FRAME_HEADER_SIZE};
use crate::sqlite::{DatabaseHeader, FrameHeader, HeaderError, WalHeader, WalTip, header};

/// Memory that SQLite may use for pages while it checks, in KiB.
const CHECK_CACHE: u32 = 16 << 10;

/// Why it cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OutsideError {
    #[error("cannot {what} {}: {source}", path.display())]
    Io { what: &'static str, path: PathBuf, source: io::Error },
    #[error("{} is no SQLite database: {source}", path.display())]
    NotADatabase { path: PathBuf, source: HeaderError },
    #[error("{} is empty: no database yet", .0.display())]
    Empty(PathBuf),
    #[error(
        "{} holds a transaction that was not ended: a program is writing, or did not come to the \
         end. End the program; then open the database once with sqlite3, which takes it back", .0.display()
    )]
    HotJournal(PathBuf),
    #[error("{} is damaged: {why}", path.display())]
    Damaged { path: PathBuf, why: String },
    #[error("{} cannot be read or written as LTX: {source}", path.display())]
    Ltx { path: PathBuf, source: LtxError },
}

/// The committed frames of a WAL.
struct Frames {
    file: File,
    path: PathBuf,
    /// Page number to the last frame of it that counts.
    latest: HashMap<u32, u32>,
    /// The last of them, which is a commit.
    last: u32,
}

/// A file at a moment: what a write to it would change.
type Stamp = Option<(u64, (i64, i64), (i64, i64))>;

/// A database as it lies there.
pub struct Outside {
    path: PathBuf,
    wal: PathBuf,
    journal: PathBuf,
    main: File,
    /// Of the file and its WAL, when they were opened.
    stamps: [Stamp; 2],
    frames: Option<Frames>,
    header: DatabaseHeader,
    pages: u32,
    /// A part of the WAL does not count.
    is_cut: bool,
}

/// A database that was written as a first transaction.
pub struct Encoded {
    pub position: Position,
    pub page_size: u32,
    pub pages: u32,
    pub mode: JournalMode,
}

impl Outside {
    /// Opens a database and the WAL and journal that SQLite knows it by.
    ///
    /// # Errors
    /// It is no database, cannot be read, or lies there in the middle of a transaction.
    pub fn open(path: &Path) -> Result<Self, OutsideError> {
        Self::open_parts(path, &beside(path, "-wal"), &beside(path, "-journal"))
    }

    /// The same, of files with other names. Those of WAL and journal need not be there.
    pub fn open_parts(path: &Path, wal: &Path, journal: &Path) -> Result<Self, OutsideError> {
        Self::open_until(path, wal, journal, None)
    }

    /// The same, with no more of the WAL than up to the end of a part of it; with nothing of it, if the part
    /// is of another life of the WAL.
    pub fn open_until(
        path: &Path,
        wal: &Path,
        journal: &Path,
        until: Option<WalSpan>,
    ) -> Result<Self, OutsideError> {
        // First: what is written from here on is seen by `is_unchanged`.
        let stamps = [stamp(path)?, stamp(wal)?];
        let main = File::open(path).map_err(at("open", path))?;
        let info = main.metadata().map_err(at("read", path))?;
        if !info.is_file() {
            let source = io::Error::new(io::ErrorKind::InvalidInput, "it is no file");
            return Err(at("read", path)(source));
        }
        if is_hot(journal)? {
            return Err(OutsideError::HotJournal(journal.to_owned()));
        }
        let (frames, committed) = match read_frames(wal, until)? {
            Some((frames, tip)) => (Some(frames), Some(tip)),
            None => (None, None),
        };
        if info.len() == 0 && frames.is_none() {
            return Err(OutsideError::Empty(path.to_owned()));
        }
        let mut first = vec![0; header::SIZE];
        let in_wal = frames.as_ref().and_then(|frames| Some((frames, *frames.latest.get(&1)?)));
        if let Some((frames, frame)) = in_wal {
            let page_size = committed.map_or(0, |tip| tip.page_size);
            let offset = wal::frame_offset(page_size, frame) + FRAME_HEADER_SIZE as u64;
            frames.file.read_exact_at(&mut first, offset).map_err(at("read", wal))?;
        } else {
            let read = read_full(&main, 0, &mut first).map_err(at("read", path))?;
            first.truncate(read);
        }
        let header = DatabaseHeader::parse(&first)
            .map_err(|source| OutsideError::NotADatabase { path: path.to_owned(), source })?;
        if committed.is_some_and(|tip| tip.page_size != header.page_size) {
            let why = "its pages have another size than those of the database beside it".to_owned();
            return Err(OutsideError::Damaged { path: wal.to_owned(), why });
        }
        let pages = committed.map_or_else(|| header.size_in_pages(info.len()), |tip| tip.pages);
        // A header that is damaged could name any size.
        let there = info.len().div_ceil(u64::from(header.page_size))
            + frames.as_ref().map_or(0, |frames| frames.latest.len() as u64);
        if u64::from(pages) > there {
            let why = format!("{pages} pages are said to be there, and {there} are");
            return Err(OutsideError::Damaged { path: path.to_owned(), why });
        }
        let [path, wal, journal] = [path, wal, journal].map(Path::to_owned);
        let is_cut = until.is_some();
        Ok(Self { path, wal, journal, main, stamps, frames, header, pages, is_cut })
    }

    /// Whether nobody wrote to it since it was opened. Only then what was read of it is one database.
    ///
    /// # Errors
    /// It cannot be looked at.
    pub fn is_unchanged(&self) -> Result<bool, OutsideError> {
        let now = [stamp(&self.path)?, stamp(&self.wal)?];
        Ok(now == self.stamps && !is_hot(&self.journal)?)
    }

    /// Bytes of the database: what [`Self::read_at`] gives.
    pub fn bytes(&self) -> u64 {
        u64::from(self.pages) * u64::from(self.header.page_size)
    }

    /// Reads from there on; fewer bytes only at the end.
    pub fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.bytes().saturating_sub(offset)).unwrap_or(usize::MAX);
        let len = buffer.len().min(left);
        let buffer = buffer.get_mut(..len).unwrap_or_default();
        let Some(frames) = &self.frames else {
            read_or_zeros(&self.main, buffer, offset)?;
            return Ok(len);
        };
        let page_size = u64::from(self.header.page_size);
        let mut done = 0;
        while done < len {
            let at = offset + done as u64;
            let within = at % page_size;
            let part = (page_size - within).min((len - done) as u64) as usize;
            let to = buffer.get_mut(done..done + part).unwrap_or_default();
            match frames.latest.get(&((at / page_size + 1) as u32)) {
                Some(frame) => {
                    let begin = wal::frame_offset(self.header.page_size, *frame);
                    let begin = begin + FRAME_HEADER_SIZE as u64 + within;
                    frames.file.read_exact_at(to, begin).map_err(|e| named(&frames.path, &e))?;
                }
                None => read_or_zeros(&self.main, to, at)?,
            }
            done += part;
        }
        Ok(len)
    }

    /// From its first byte to its last.
    pub fn reader(&self) -> impl Read + '_ {
        OutsideReader { outside: self, at: 0 }
    }

    /// The same, for who has no use for the rest.
    pub fn into_reader(self) -> impl Read + Send {
        OutsideReader { outside: self, at: 0 }
    }

    /// Bytes a page.
    pub fn page_size(&self) -> u32 {
        self.header.page_size
    }

    /// Whether the WAL holds more than is taken of it.
    pub fn is_cut(&self) -> bool {
        self.is_cut
    }

    /// Whether it is in WAL mode.
    pub fn is_wal(&self) -> bool {
        self.header.is_wal()
    }

    /// Its size, in pages.
    pub fn pages(&self) -> u32 {
        self.pages
    }

    /// The database's checksum, as LTX and LiteFS define it.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn checksum(&self) -> Result<Checksum, OutsideError> {
        let mut sum = Checksum(Checksum::FLAG);
        self.each_page(|pgno, page| {
            sum = sum.toggle(page_checksum(pgno, page));
            Ok(())
        })?;
        Ok(sum)
    }

    /// Writes it as a transaction that begins a database. `as_wal`: in WAL mode from then on, else
    /// in the mode that it is in.
    ///
    /// # Errors
    /// It cannot be read, or `to` cannot be written.
    pub fn encode<W: Write>(
        &self,
        to: W,
        node: u64,
        timestamp_ms: i64,
        as_wal: bool,
    ) -> Result<(W, Encoded), OutsideError> {
        let ltx = |source| OutsideError::Ltx { path: self.path.clone(), source };
        let header = Header {
            page_size: self.header.page_size,
            commit: self.pages,
            min_txid: Txid(1),
            max_txid: Txid(1),
            timestamp_ms,
            pre_apply: Checksum(0),
            node_id: node,
            wal: WalSpan::default(),
        };
        let mut encoder = Encoder::new(to, header).map_err(ltx)?;
        let mut sum = Checksum(Checksum::FLAG);
        let is_wal = as_wal || self.header.is_wal();
        self.each_page(|pgno, page| {
            if pgno == 1 && is_wal {
                // File format 1.3.3: both versions, as SQLite itself turns them.
                page.iter_mut().skip(18).take(2).for_each(|version| *version = 2);
            }
            sum = sum.toggle(page_checksum(pgno, page));
            encoder.page(pgno, page).map_err(ltx)
        })?;
        let (to, _trailer) = encoder.finish(sum).map_err(ltx)?;
        let encoded = Encoded {
            position: Position { txid: Txid(1), checksum: sum },
            page_size: self.header.page_size,
            pages: self.pages,
            mode: if is_wal { JournalMode::Wal } else { JournalMode::Rollback },
        };
        Ok((to, encoded))
    }

    /// Where the last commit in its WAL ends: bytes from the WAL's beginning. 0: there is none.
    pub(super) fn wal_end(&self) -> u64 {
        let frames = self.frames.as_ref();
        frames.map_or(0, |frames| wal::frame_offset(self.header.page_size, frames.last + 1))
    }

    /// The pages, in order, that commits from there on in the WAL have written, as far as they are still in
    /// the database; without the lock page.
    pub(super) fn pages_since(&self, offset: u64) -> Vec<u32> {
        let page_size = self.header.page_size;
        let counts = |pgno: u32, frame: u32| {
            wal::frame_offset(page_size, frame) >= offset
                && pgno <= self.pages
                && pgno != lock_page(page_size)
        };
        let latest = self.frames.iter().flat_map(|frames| &frames.latest);
        let mut pages: Vec<u32> =
            latest.filter(|(pgno, frame)| counts(**pgno, **frame)).map(|(pgno, _)| *pgno).collect();
        pages.sort_unstable();
        pages
    }

    /// One page.
    pub(super) fn page(&self, pgno: u32) -> Result<Vec<u8>, OutsideError> {
        let page_size = self.header.page_size as usize;
        let mut page = vec![0; page_size];
        let offset = u64::from(pgno.saturating_sub(1)) * page_size as u64;
        self.read_at(offset, &mut page).map_err(at("read", &self.path))?;
        Ok(page)
    }

    /// All pages but the lock page, in order.
    pub(super) fn each_page(
        &self,
        mut each: impl FnMut(u32, &mut [u8]) -> Result<(), OutsideError>,
    ) -> Result<(), OutsideError> {
        let page_size = self.header.page_size as usize;
        let lock = lock_page(self.header.page_size);
        let mut page = vec![0; page_size];
        for pgno in 1..=self.pages {
            let offset = u64::from(pgno - 1) * page_size as u64;
            self.read_at(offset, &mut page).map_err(at("read", &self.path))?;
            if pgno != lock {
                each(pgno, &mut page)?;
            }
        }
        Ok(())
    }
}

struct OutsideReader<O> {
    outside: O,
    at: u64,
}

impl<O: Borrow<Outside>> Read for OutsideReader<O> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.outside.borrow().read_at(self.at, buffer)?;
        self.at += read as u64;
        Ok(read)
    }
}

/// Lets SQLite look through a whole file, which nobody changes meanwhile, and without what lies
/// beside it (`PRAGMA quick_check`). Reads only.
///
/// # Errors
/// What SQLite found.
pub fn quick_check(path: &Path) -> Result<(), OutsideError> {
    let damaged = |why: String| OutsideError::Damaged { path: path.to_owned(), why };
    let failed = |error: rusqlite::Error| damaged(error.to_string());
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
        | OpenFlags::SQLITE_OPEN_URI
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(immutable_uri(path), flags).map_err(failed)?;
    // A CHECK may call a function that only the application has.
    let settings = format!(
        "PRAGMA cache_size = -{CHECK_CACHE}; PRAGMA ignore_check_constraints = ON; \
         PRAGMA trusted_schema = OFF;"
    );
    connection.execute_batch(&settings).map_err(failed)?;
    let found: String =
        connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(failed)?;
    if found == "ok" { Ok(()) } else { Err(damaged(found.replace('\n', " "))) }
}

/// Has SQLite play back the journal beside a database, in its own name, if there is one that is hot.
///
/// # Errors
/// What SQLite found.
pub fn play_back(path: &Path) -> Result<(), OutsideError> {
    let journal = beside(path, "-journal");
    if !is_hot(&journal)? {
        return Ok(());
    }
    let damaged = |error: rusqlite::Error| OutsideError::Damaged {
        path: path.to_owned(),
        why: error.to_string(),
    };
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(damaged)?;
    // The first that is read makes it look for a journal.
    let schema = "SELECT count(*) FROM sqlite_schema";
    connection.query_row(schema, [], |row| row.get::<_, i64>(0)).map_err(damaged)?;
    connection.close().map_err(|(_, error)| damaged(error))
}

/// As a URI that says: nobody changes it, and there is no WAL to look for.
fn immutable_uri(path: &Path) -> PathBuf {
    let mut uri = b"file:".to_vec();
    for byte in path.as_os_str().as_bytes() {
        match byte {
            b'%' | b'?' | b'#' => uri.extend_from_slice(format!("%{byte:02X}").as_bytes()),
            _ => uri.push(*byte),
        }
    }
    uri.extend_from_slice(b"?immutable=1");
    OsString::from_vec(uri).into()
}

/// The file that SQLite would look for beside a database.
pub fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn stamp(path: &Path) -> Result<Stamp, OutsideError> {
    match std::fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(at("read", path)(error)),
        Ok(found) => {
            let (modified, changed) =
                ((found.mtime(), found.mtime_nsec()), (found.ctime(), found.ctime_nsec()));
            Ok(Some((found.len(), modified, changed)))
        }
    }
}

/// A journal that SQLite would play back.
fn is_hot(journal: &Path) -> Result<bool, OutsideError> {
    let file = match File::open(journal) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        file => file.map_err(at("open", journal))?,
    };
    let mut first = [0];
    let read = read_full(&file, 0, &mut first).map_err(at("read", journal))?;
    Ok(read == 1 && first != [0])
}

/// The frames of a WAL up to the last commit, as SQLite's recovery finds them; and where that is.
fn read_frames(
    path: &Path,
    until: Option<WalSpan>,
) -> Result<Option<(Frames, WalTip)>, OutsideError> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file.map_err(at("open", path))?,
    };
    let mut reader = io::BufReader::with_capacity(1 << 20, &file);
    let mut head = [0; wal::HEADER_SIZE];
    if !filled(&mut reader, &mut head).map_err(at("read", path))? {
        return Ok(None);
    }
    let Ok(header) = WalHeader::parse(&head) else { return Ok(None) };
    if until.is_some_and(|until| until.salts() != header.salts.0) {
        return Ok(None);
    }
    let end = until.map_or(u64::MAX, |until| until.offset.saturating_add(until.size));
    let mut tip = header.tip();
    let mut committed = None;
    let (mut latest, mut since) = (HashMap::new(), Vec::new());
    let mut frame = [0; FRAME_HEADER_SIZE];
    let mut page = vec![0; header.page_size as usize];
    loop {
        let whole = filled(&mut reader, &mut frame)
            .and_then(|head| Ok(head && filled(&mut reader, &mut page)?));
        if !whole.map_err(at("read", path))? {
            break;
        }
        let frame = FrameHeader::parse(&frame);
        let Some(next) = tip.follow(&frame, &page) else { break };
        if wal::frame_offset(header.page_size, next.frame + 1) > end {
            break;
        }
        tip = next;
        since.push((frame.page, tip.frame));
        if frame.commit != 0 {
            latest.extend(since.drain(..));
            committed = Some(tip);
        }
    }
    drop(reader);
    Ok(committed.map(|tip| (Frames { file, path: path.to_owned(), latest, last: tip.frame }, tip)))
}

/// Fills the buffer; false at the end of the file.
fn filled(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<bool> {
    match reader.read_exact(buffer) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        read => read.map(|()| true),
    }
}

fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

pub(super) fn at(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> OutsideError {
    move |source| OutsideError::Io { what, path: path.to_owned(), source }
}
