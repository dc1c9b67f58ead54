//! What was set aside on this node (nothing-discarded): listed, opened, and dropped by its name only.
//!
//! ```text
//! aside/<name>-<incarnation>-<seconds>/    a database: database, database-wal, record, why
//! aside/<cluster>-<node>-<seconds>/        a whole data folder: identity, raft, staged, dbs/<slot>/…
//! ```
//! Nothing here changes what it reads.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use super::durable;
use super::error::{StoreError, io_at};
use super::folder::{folders, number};
use super::outside::{Outside, OutsideError};
use super::record::Record;

/// The file that says why.
pub(super) const WHY: &str = "why";

/// The longest reason that is read, bytes.
const WHY_MAX: u64 = 4096;

/// Of a folder that is being removed; no database's name begins so.
pub(super) const DROPPED: &str = ".dropped-";

/// The earliest number in a folder's name that is a time: seconds since 1970.
const A_TIME: u64 = 1_000_000_000;

/// Something that was set aside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// The name of its folder: what it is called by.
    pub id: String,
    /// Seconds since 1970.
    pub since: u64,
    pub why: String,
    /// Of all its files.
    pub bytes: u64,
    pub databases: Vec<KeptDatabase>,
}

/// A database of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptDatabase {
    /// `None`: it cannot be read.
    pub record: Option<Record>,
    pub bytes: u64,
    folder: PathBuf,
}

/// All that was set aside, in the order of the folders' names.
pub(super) fn list(aside: &Path) -> Result<Vec<Kept>, StoreError> {
    let found = folders(aside)?;
    found.iter().filter(|folder| !is_dropped(folder)).map(|folder| kept_in(folder)).collect()
}

/// Ends what was not removed to its end.
pub(super) fn end_drops(aside: &Path) -> Result<(), StoreError> {
    for folder in folders(aside)?.iter().filter(|folder| is_dropped(folder)) {
        fs::remove_dir_all(folder).map_err(io_at("removing", folder))?;
    }
    Ok(())
}

/// Removes one, whole: after a crash in between the next start ends it.
pub(super) fn drop_one(aside: &Path, kept: &Kept) -> Result<(), StoreError> {
    let folder = aside.join(&kept.id);
    let gone = aside.join(format!("{DROPPED}{}", kept.id));
    fs::rename(&folder, &gone).map_err(io_at("removing", &folder))?;
    durable::sync_folder(aside).map_err(io_at("syncing the folder", aside))?;
    fs::remove_dir_all(&gone).map_err(io_at("removing", &gone))
}

impl KeptDatabase {
    /// Its bytes, and how many: as SQLite shows them if they are a database, else as they lie there.
    ///
    /// # Errors
    /// They cannot be read.
    pub fn open(&self) -> Result<(u64, Box<dyn Read + Send>), OutsideError> {
        let path = self.folder.join("database");
        // In a data folder that was set aside whole it has the name that it had in use.
        let names = ["database-wal", "wal"].map(|name| self.folder.join(name));
        let wal = names.iter().find(|wal| wal.exists()).unwrap_or(&names[0]);
        // Rule 8: a journal never belongs to it.
        let journal = self.folder.join("none");
        match Outside::open_parts(&path, wal, &journal) {
            Ok(outside) => Ok((outside.bytes(), Box::new(outside.into_reader()))),
            Err(error @ OutsideError::Io { .. }) => Err(error),
            Err(_) => {
                let failed = |source| OutsideError::Io { what: "open", path: path.clone(), source };
                let file = File::open(&path).map_err(failed)?;
                let bytes = file.metadata().map_err(failed)?.len();
                Ok((bytes, Box::new(file.take(bytes))))
            }
        }
    }
}

fn kept_in(folder: &Path) -> Result<Kept, StoreError> {
    let id = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let dbs = folder.join("dbs");
    let mut databases = Vec::new();
    let why = if dbs.is_dir() {
        for slot in folders(&dbs)? {
            if number(slot.file_name(), "").is_some() {
                databases.push(database_in(&slot)?);
            }
        }
        let identity = fs::read_to_string(folder.join("identity")).unwrap_or_default();
        format!("the data folder was another node's: {}", identity.trim())
    } else {
        databases.push(database_in(folder)?);
        let mut why = String::new();
        // One that was set aside by an earlier version has none.
        let read = File::open(folder.join(WHY))
            .and_then(|file| file.take(WHY_MAX).read_to_string(&mut why));
        if read.is_ok() { why } else { "not known".to_owned() }
    };
    Ok(Kept { since: since(&id, folder), id, why, bytes: bytes_below(folder)?, databases })
}

fn database_in(folder: &Path) -> Result<KeptDatabase, StoreError> {
    let record = Record::read(&folder.join("record")).ok().flatten();
    Ok(KeptDatabase { record, bytes: bytes_below(folder)?, folder: folder.to_owned() })
}

/// The time in its name; else that of its last change.
fn since(id: &str, folder: &Path) -> u64 {
    let numbers = id.rsplit('-').map_while(|part| part.parse::<u64>().ok());
    numbers.into_iter().find(|seconds| *seconds >= A_TIME).unwrap_or_else(|| {
        let changed = fs::metadata(folder).and_then(|found| found.modified()).ok();
        let since = changed.and_then(|changed| changed.duration_since(UNIX_EPOCH).ok());
        since.map_or(0, |since| since.as_secs())
    })
}

fn bytes_below(folder: &Path) -> Result<u64, StoreError> {
    let listing = |e| io_at("listing", folder)(e);
    let mut bytes = 0;
    for entry in fs::read_dir(folder).map_err(listing)? {
        let entry = entry.map_err(listing)?;
        let found = entry.metadata().map_err(listing)?;
        bytes += if found.is_dir() { bytes_below(&entry.path())? } else { found.len() };
    }
    Ok(bytes)
}

fn is_dropped(folder: &Path) -> bool {
    folder.file_name().is_some_and(|name| name.to_string_lossy().starts_with(DROPPED))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_is_read_from_the_name() {
        let folder = tempfile::tempdir().unwrap();
        let at = |id| since(id, folder.path());
        assert_eq!(at("app.db-1-1764300000"), 1_764_300_000);
        assert_eq!(at("app.db-1-1764300000-2"), 1_764_300_000);
        assert_eq!(at("a-7-1764300000"), 1_764_300_000);
        assert!(at("strange") > A_TIME, "its folder's");
    }

    /// nothing-discarded: what is no database comes out as the bytes that lie there.
    #[test]
    fn what_does_not_open_comes_out_as_it_is() {
        let aside = tempfile::tempdir().unwrap();
        let folder = aside.path().join("app.db-1-1764300000");
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("database"), b"rotten").unwrap();
        fs::write(folder.join(WHY), b"its header was damaged").unwrap();
        let kept = list(aside.path()).unwrap();
        assert_eq!((kept.len(), kept[0].why.as_str()), (1, "its header was damaged"));
        let (bytes, mut file) = kept[0].databases[0].open().unwrap();
        let mut read = Vec::new();
        file.read_to_end(&mut read).unwrap();
        assert_eq!((bytes, read.as_slice()), (6, b"rotten".as_slice()));

        drop_one(aside.path(), &kept[0]).unwrap();
        assert_eq!(fs::read_dir(aside.path()).unwrap().count(), 0);
        fs::create_dir(aside.path().join(".dropped-x")).unwrap();
        assert!(list(aside.path()).unwrap().is_empty(), "half removed");
        end_drops(aside.path()).unwrap();
        assert_eq!(fs::read_dir(aside.path()).unwrap().count(), 0);
    }
}
