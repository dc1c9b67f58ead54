//! The data folder of a LiteFS, as it lies there when LiteFS was stopped.
//!
//! ```text
//! dbs/<name>/database, journal, wal, shm, ltx/<min>-<max>.ltx
//! ```
//! LiteFS holds a database against its last LTX file when it starts; the same is done here. What a
//! LiteFS that was killed left in between it mends at its next start: then it is refused here.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use super::outside::{Outside, OutsideError};
use crate::core::{DatabaseName, Position};
use crate::ltx::{Ends, Header, Trailer};

/// A database of it.
pub struct LitefsDatabase {
    pub name: DatabaseName,
    /// By its last LTX file.
    pub position: Position,
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

    fn in_folder(folder: PathBuf) -> Result<Option<Self>, OutsideError> {
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
        Ok(Some(Self { name, position: ends.position, folder }))
    }

    /// Opens it, and holds its bytes against its last LTX file.
    ///
    /// # Errors
    /// They are others; or it cannot be read.
    pub fn open(&self) -> Result<Outside, OutsideError> {
        let part = |name: &str| self.folder.join(name);
        let outside = Outside::open_parts(&part("database"), &part("wal"), &part("journal"))?;
        let (said, found) = (self.position.checksum, outside.checksum()?);
        if found == said {
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

/// `<min>-<max>.ltx`, 16 hexadecimal digits each.
fn max_txid(path: &Path) -> Option<u64> {
    let name = path.file_name()?.to_str()?.strip_suffix(".ltx")?;
    let (min, max) = name.split_once('-')?;
    let number =
        |digits: &str| (digits.len() == 16).then(|| u64::from_str_radix(digits, 16).ok()).flatten();
    number(min).and(number(max))
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
