//! The data folder of a LiteFS, as it lies there when LiteFS was stopped.
//!
//! ```text
//! dbs/<name>/database, journal, wal, shm, ltx/<min>-<max>.ltx
//! ```
//! LiteFS holds a database against its last LTX file when it starts; the same is done here. What a
//! LiteFS that was killed left in between it mends at its next start: then it is refused here.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use super::aside::{DROPPED, WHY};
use super::durable;
use super::outside::{Outside, OutsideError, play_back};
use super::record::Record;
use crate::core::{Checksum, DatabaseName, Position, Txid};
use crate::ltx::{Ends, Header, Trailer, WalSpan};
use crate::sqlite::{DatabaseHeader, header};

/// A database of it.
pub struct LitefsDatabase {
    pub name: DatabaseName,
    /// By its last LTX file.
    pub position: Position,
    /// What of its WAL that file was made of.
    pub(super) wal: WalSpan,
    folder: PathBuf,
}

impl LitefsDatabase {
    /// All that hold something, in the order of their names.
    ///
    /// # Errors
    /// It is no such folder, or cannot be read.
    pub fn list(folder: &Path) -> Result<Vec<Self>, OutsideError> {
        let dbs = folder.join("dbs");
        let listing = match fs::read_dir(&dbs) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let why = "it is no data folder of LiteFS: there is no dbs in it".to_owned();
                return Err(OutsideError::Damaged { path: folder.to_owned(), why });
            }
            listing => listing.map_err(at("list", &dbs))?,
        };
        let mut found = Vec::new();
        for entry in listing {
            let folder = entry.map_err(at("list", &dbs))?.path();
            found.extend(Self::in_folder(folder)?);
        }
        found.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(found)
    }

    pub(super) fn in_folder(folder: PathBuf) -> Result<Option<Self>, OutsideError> {
        let damaged = |why: String| OutsideError::Damaged { path: folder.clone(), why };
        let name = folder.file_name().unwrap_or_default().to_string_lossy();
        let name = DatabaseName::new(name).map_err(|error| damaged(error.to_string()))?;
        let Some(ends) = last_ltx(&folder.join("ltx"))? else {
            let database = folder.join("database");
            let empty = fs::metadata(&database).map_or(true, |found| found.len() == 0);
            // Begun, and never committed to.
            let why = "no LTX file says what it has to be: it is not LiteFS's, or damaged";
            return if empty { Ok(None) } else { Err(damaged(why.to_owned())) };
        };
        if ends.commit == 0 {
            return Ok(None); // deleted
        }
        Ok(Some(Self { name, position: ends.position, wal: ends.wal, folder }))
    }

    /// The database itself, its WAL and its journal; not all need be there.
    pub(super) fn parts(&self) -> [PathBuf; 3] {
        ["database", "wal", "journal"].map(|name| self.folder.join(name))
    }

    /// Opens it, and holds its bytes against its last LTX file. Of the WAL no more counts than that file says
    /// ([`Outside::is_cut`]).
    ///
    /// # Errors
    /// They are others; or it cannot be read.
    pub fn open(&self) -> Result<Outside, OutsideError> {
        let [database, wal, journal] = self.parts();
        let outside = Outside::open_parts(&database, &wal, &journal)?;
        let (said, found) = (self.position.checksum, outside.checksum()?);
        if found == said {
            return Ok(outside);
        }
        // A LiteFS that is stopped beneath an application leaves a transaction in the WAL of which it made no
        // LTX file. At its next start it cuts the WAL where its last LTX file ends.
        let outside = Outside::open_until(&database, &wal, &journal, Some(self.wal))?;
        if outside.checksum()? == said {
            return Ok(outside);
        }
        let why = format!(
            "its checksum is {:016x}, and by the last LTX file {:016x}: start LiteFS over it once, \
             which mends what a kill left, stop it in order, and try again",
            found.0, said.0
        );
        Err(OutsideError::Damaged { path: self.folder.clone(), why })
    }
}

/// The positions of all databases in a LiteFS's data folder, by their last LTX files; also while LiteFS
/// runs. What cannot be read has none. Blocks.
///
/// # Errors
/// The folder cannot be listed.
pub fn litefs_positions(folder: &Path) -> Result<BTreeMap<String, Position>, OutsideError> {
    let dbs = folder.join("dbs");
    let listing = match fs::read_dir(&dbs) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        listing => listing.map_err(at("list", &dbs))?,
    };
    let mut found = BTreeMap::new();
    for entry in listing {
        let path = entry.map_err(at("list", &dbs))?.path();
        let name = path.file_name().and_then(|name| name.to_str()).map(str::to_owned);
        if let (Some(name), Ok(Some(ends))) = (name, last_ltx(&path.join("ltx"))) {
            found.insert(name, ends.position);
        }
    }
    Ok(found)
}

/// What a database of a running LiteFS looks like on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LitefsShape {
    /// Bytes.
    pub page_size: u32,
    pub pages: u32,
    pub is_wal: bool,
    pub wal_bytes: u64,
}

/// The shape of one database; `None`: it cannot be told. Blocks.
#[must_use]
pub fn litefs_shape(folder: &Path, database: &str) -> Option<LitefsShape> {
    let folder = folder.join("dbs").join(database);
    let ends = last_ltx(&folder.join("ltx")).ok()??;
    let mut first = [0; header::SIZE];
    File::open(folder.join("database")).ok()?.read_exact(&mut first).ok()?;
    let header = DatabaseHeader::parse(&first).ok()?;
    Some(LitefsShape {
        page_size: header.page_size,
        pages: ends.commit,
        is_wal: header.is_wal(),
        wal_bytes: fs::metadata(folder.join("wal")).map_or(0, |found| found.len()),
    })
}

/// The checksum that a database had after a transaction, as far as a file of it, or of the next, is still
/// there. Blocks.
#[must_use]
pub fn litefs_checksum_at(folder: &Path, database: &str, txid: Txid) -> Option<Checksum> {
    let ltx = folder.join("dbs").join(database).join("ltx");
    for entry in fs::read_dir(ltx).ok()?.flatten() {
        let path = entry.path();
        let Some((min, max)) = txids(&path) else { continue };
        if max == txid.0 {
            return read_ends(&path).ok().map(|ends| ends.position.checksum);
        }
        // A snapshot is made on nothing: what was before it, it does not say.
        if min > 1 && min == txid.0 + 1 {
            return read_ends(&path).ok().map(|ends| ends.base);
        }
    }
    None
}

/// Copies a database of a LiteFS that does not write to it into `aside`, durably, so that it is listed and
/// exported like everything that is kept there (nothing-discarded). `None`: it is there already. Blocks.
///
/// # Errors
/// The file system's.
pub fn set_litefs_aside(
    folder: &Path,
    database: &DatabaseName,
    position: Position,
    aside: &Path,
    why: &str,
    seconds: u64,
) -> io::Result<Option<PathBuf>> {
    let from = folder.join("dbs").join(database.as_str());
    let begin = format!("{database}-0-");
    for entry in fs::read_dir(aside)?.flatten() {
        let known = entry.file_name().to_string_lossy().starts_with(&begin)
            && Record::read(&entry.path().join("record"))
                .is_ok_and(|record| record.is_some_and(|record| record.position == position));
        if known {
            return Ok(None);
        }
    }
    let place = (0..u32::MAX)
        .map(|number| {
            let more = if number == 0 { String::new() } else { format!("-{number}") };
            aside.join(format!("{begin}{seconds}{more}"))
        })
        .find(|place| !place.exists())
        .ok_or_else(|| io::Error::other("there is no name left"))?;
    // Under a name that a list passes over, until it is whole.
    let half = aside.join(format!("{DROPPED}{database}-{seconds}"));
    if half.exists() {
        fs::remove_dir_all(&half)?;
    }
    fs::create_dir(&half)?;
    copy(&from.join("database"), &half.join("database"))?;
    copy(&from.join("wal"), &half.join("database-wal"))?;
    // In the middle of a transaction the database is half without its journal.
    copy(&from.join("journal"), &half.join("database-journal"))?;
    if let Err(error) = play_back(&half.join("database")) {
        tracing::warn!(%database, %error, "its journal cannot be played back, and stays beside it");
    }
    fs::create_dir(half.join("ltx"))?;
    for entry in fs::read_dir(from.join("ltx"))? {
        let name = entry?.file_name();
        copy(&from.join("ltx").join(&name), &half.join("ltx").join(&name))?;
    }
    durable::sync_folder(&half.join("ltx"))?;
    let record = Record { position, ..Record::empty(database.clone()) };
    let record = record.encode().map_err(io::Error::other)?;
    durable::write(&half.join("record"), &record)?;
    durable::write(&half.join(WHY), why.as_bytes())?;
    fs::rename(&half, &place)?;
    durable::sync_folder(aside)?;
    Ok(Some(place))
}

/// What is not there is not copied.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    match fs::copy(from, to) {
        Ok(_) => File::open(to)?.sync_all(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// The file that leads furthest.
fn last_ltx(folder: &Path) -> Result<Option<Ends>, OutsideError> {
    let listing = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        listing => listing.map_err(at("list", folder))?,
    };
    let mut last: Option<(u64, PathBuf)> = None;
    for entry in listing {
        let path = entry.map_err(at("list", folder))?.path();
        let Some(max) = max_txid(&path) else { continue };
        if last.as_ref().is_none_or(|(known, _)| max > *known) {
            last = Some((max, path));
        }
    }
    let Some((max, path)) = last else { return Ok(None) };
    let ends = read_ends(&path)?;
    if ends.position.txid.0 != max {
        let why = "it is of other transactions than its name says".to_owned();
        return Err(OutsideError::Damaged { path, why });
    }
    Ok(Some(ends))
}

fn max_txid(path: &Path) -> Option<u64> {
    txids(path).map(|(_, max)| max)
}

/// The name of the file with these transactions.
pub(super) fn ltx_name(min: Txid, max: Txid) -> String {
    format!("{:016x}-{:016x}.ltx", min.0, max.0)
}

/// What [`ltx_name`] has made: 16 hexadecimal digits each.
fn txids(path: &Path) -> Option<(u64, u64)> {
    let name = path.file_name()?.to_str()?.strip_suffix(".ltx")?;
    let (min, max) = name.split_once('-')?;
    let number =
        |digits: &str| (digits.len() == 16).then(|| u64::from_str_radix(digits, 16).ok()).flatten();
    Some((number(min)?, number(max)?))
}

fn read_ends(path: &Path) -> Result<Ends, OutsideError> {
    let mut file = File::open(path).map_err(at("open", path))?;
    let (mut head, mut tail) = ([0; Header::SIZE], [0; Trailer::SIZE]);
    let mut read = || {
        file.read_exact(&mut head)?;
        let end = file.metadata()?.len();
        file.seek(SeekFrom::Start(end.saturating_sub(Trailer::SIZE as u64)))?;
        file.read_exact(&mut tail)
    };
    read().map_err(at("read", path))?;
    Ends::parse(&head, &tail).map_err(|source| OutsideError::Ltx { path: path.to_owned(), source })
}

fn at(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> OutsideError {
    move |source| OutsideError::Io { what, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Store;

    fn fixture() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/litefs-data")
    }

    #[test]
    fn positions_and_shapes_are_read_beside_a_litefs() {
        let folder = fixture();
        let positions = litefs_positions(&folder).unwrap();
        let listed = LitefsDatabase::list(&folder).unwrap();
        assert!(!listed.is_empty());
        for database in &listed {
            let name = database.name.as_str();
            assert_eq!(positions[name], database.position);
            let shape = litefs_shape(&folder, name).unwrap();
            assert!(shape.page_size >= 512 && shape.pages > 0, "{shape:?}");
            let at = |txid| litefs_checksum_at(&folder, name, Txid(txid));
            assert_eq!(at(database.position.txid.0), Some(database.position.checksum));
            assert_eq!(at(database.position.txid.0 + 1), None, "it is not there yet");
        }
        assert!(litefs_positions(&folder.join("nowhere")).unwrap().is_empty());
        assert_eq!(litefs_shape(&folder, "nothing"), None);
    }

    /// What a transaction was made on is said by its own file, also when the one before it is gone.
    #[test]
    fn the_checksum_before_a_file_is_the_one_after_the_file_before() {
        let folder = fixture();
        for database in LitefsDatabase::list(&folder).unwrap() {
            let name = database.name.as_str();
            let ltx = folder.join("dbs").join(name).join("ltx");
            let mut files: Vec<PathBuf> =
                fs::read_dir(&ltx).unwrap().map(|entry| entry.unwrap().path()).collect();
            files.sort();
            for pair in files.windows(2) {
                let ends = pair.iter().map(|path| read_ends(path).unwrap()).collect::<Vec<_>>();
                assert_eq!(ends[0].position.checksum, ends[1].base, "{pair:?}");
            }
        }
    }

    /// nothing-discarded: it is listed with why, it opens as the database that it was, and the same twice is
    /// kept once.
    #[test]
    fn what_is_set_aside_is_listed_and_opens() {
        let place = tempfile::tempdir().unwrap();
        let (store, _) = Store::open(place.path(), std::time::SystemTime::now()).unwrap();
        let aside = place.path().join("aside");
        let folder = fixture();
        let database = LitefsDatabase::list(&folder).unwrap().remove(0);
        let (name, position) = (&database.name, database.position);
        let set = |position| set_litefs_aside(&folder, name, position, &aside, "n2", 1_764_300_000);
        let kept = set(position).unwrap().unwrap();
        assert!(kept.ends_with(format!("{name}-0-1764300000")), "{}", kept.display());
        assert_eq!(set(position).unwrap(), None);
        let later = Position { txid: Txid(position.txid.0 + 1), ..position };
        assert!(set(later).unwrap().is_some(), "another position is another");
        let listed = store.kept().unwrap();
        assert_eq!(listed.len(), 2);
        assert_eq!((listed[0].why.as_str(), listed[0].since), ("n2", 1_764_300_000));
        let record = listed[0].databases[0].record.clone().unwrap();
        assert_eq!((&record.name, record.position), (name, position));
        assert!(kept.join("ltx").read_dir().unwrap().count() > 0);
        let parts = ["database", "database-wal", "none"].map(|part| kept.join(part));
        let outside = Outside::open_parts(&parts[0], &parts[1], &parts[2]).unwrap();
        assert_eq!(outside.checksum().unwrap(), database.open().unwrap().checksum().unwrap());
    }

    /// nothing-discarded: a writer was in the middle of a transaction; what is kept is what was before it.
    #[test]
    fn a_half_transaction_is_played_back_in_what_is_set_aside() {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().join("dbs/a.db");
        fs::create_dir_all(folder.join("ltx")).unwrap();
        let made = place.path().join("made");
        let connection = rusqlite::Connection::open(&made).unwrap();
        let run = |sql: &str| connection.execute_batch(sql).unwrap();
        run("PRAGMA cache_size = 1; CREATE TABLE t(a); INSERT INTO t VALUES (1);");
        let whole = fs::read(&made).unwrap();
        run("BEGIN; UPDATE t SET a = 2; CREATE TABLE u(a); \
             WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100) \
             INSERT INTO u SELECT randomblob(3000) FROM n;");
        assert_ne!(fs::read(&made).unwrap(), whole, "it is half in the file");
        fs::copy(&made, folder.join("database")).unwrap();
        fs::copy(crate::store::beside(&made, "-journal"), folder.join("journal")).unwrap();
        let aside = place.path().join("aside");
        fs::create_dir(&aside).unwrap();
        let name = DatabaseName::new("a.db").unwrap();
        let kept = set_litefs_aside(place.path(), &name, Position::EMPTY, &aside, "n2", 1);
        let kept = kept.unwrap().unwrap();
        assert_eq!(fs::read(kept.join("database")).unwrap(), whole);
        assert!(!kept.join("database-journal").exists());
    }

    /// A LiteFS stopped beneath an application: a transaction stands in the WAL that no LTX file has. It does
    /// not count, as LiteFS itself cuts it away; and that is said.
    #[test]
    fn a_wal_counts_as_far_as_the_last_ltx_file_says() {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().join("dbs/a.db");
        fs::create_dir_all(folder.join("ltx")).unwrap();
        let made = place.path().join("made");
        let connection = rusqlite::Connection::open(&made).unwrap();
        let run = |sql: &str| connection.execute_batch(sql).unwrap();
        run("PRAGMA journal_mode = wal; PRAGMA wal_autocheckpoint = 0; CREATE TABLE t(a);");
        run("PRAGMA wal_checkpoint(TRUNCATE); INSERT INTO t VALUES (1);");
        let wal = crate::store::beside(&made, "-wal");
        let first = fs::read(&wal).unwrap();
        let none = place.path().join("none");
        let sum = Outside::open_parts(&made, &wal, &none).unwrap().checksum().unwrap();
        run("INSERT INTO t VALUES (2);");
        fs::copy(&made, folder.join("database")).unwrap();
        fs::copy(&wal, folder.join("wal")).unwrap();
        let mut ltx = b"LTX1".to_vec();
        for number in [1_u32, 4096, 2] {
            ltx.extend(number.to_be_bytes());
        }
        for number in [2_u64, 2, 0, 0, 32, first.len() as u64 - 32] {
            ltx.extend(number.to_be_bytes());
        }
        ltx.extend(&first[16..24]);
        ltx.resize(Header::SIZE, 0);
        ltx.extend(sum.0.to_be_bytes());
        ltx.extend([0; 8]);
        let file = folder.join(format!("ltx/{:016x}-{:016x}.ltx", 2, 2));
        fs::write(&file, &ltx).unwrap();
        let open = || LitefsDatabase::list(place.path()).unwrap().remove(0).open();
        let opened = open().unwrap();
        assert!(opened.is_cut() && opened.checksum().unwrap() == sum);
        // Of another life of the WAL nothing counts; then what is left is not what it has to be.
        ltx[64] ^= 1;
        fs::write(&file, &ltx).unwrap();
        assert!(matches!(open(), Err(OutsideError::Damaged { .. })));
    }
}
