//! The folder of all databases of this node.
//!
//! ```text
//! dbs/<slot>/database, wal, shm-<generation>, journal, record, pinned-<index>.ltx|pages
//! aside/<name>-<incarnation>-<seconds since 1970>/   the same, under names that SQLite knows; gave-way
//! ```

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use super::aside::{self, Kept, WHY};
use super::database::{Database, remove_if_there};
use super::durable;
use super::error::{StoreError, io_at};
use super::newcomer::{NEW, remove_unfinished};
use super::record::Record;
use super::shm;
use crate::core::{DatabaseName, Incarnation};

/// Bytes of a database's name that go into the name of a folder set aside.
const NAME_BYTES: usize = 180;

/// In the folder of a database that is set aside because a snapshot takes its place.
const GAVE_WAY: &str = "gave-way";

/// Of folders whose database is deleted; the slot follows.
const DELETED: &str = "deleted-";

/// All databases of this node.
pub struct Store {
    dbs: PathBuf,
    aside: PathBuf,
    inner: Mutex<Inner>,
}

struct Inner {
    /// The next slot. None is used twice while the daemon lives (Rule 17).
    next: u64,
    /// Of the shm files: a new number at each start (Rule 3).
    generation: u64,
    databases: BTreeMap<u64, Arc<Database>>,
}

/// What a start found.
pub struct Recovered {
    /// To be replayed from after `record().applied`, then checked by
    /// [`Database::finish_recovery`].
    pub databases: Vec<Arc<Database>>,
    /// Folders that could not be used, as they are now set aside, and why.
    pub set_aside: Vec<(Aside, StoreError)>,
}

/// A database that was set aside (nothing-discarded).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Aside {
    /// SQLite opens `database` in it.
    pub folder: PathBuf,
    /// What its record says; `None`: it has none that can be read.
    pub record: Option<Record>,
    /// Bytes of its files.
    pub bytes: u64,
}

impl Store {
    /// Opens the folder, or makes it. Local WALs, wal-indexes and journals are discarded, the hot
    /// ones, too (Rule 9): the truth is the database files plus the log since.
    ///
    /// # Errors
    /// The folder itself cannot be used, or the disk is full. A damaged database is set aside
    /// instead.
    pub fn open(dir: &Path, now: SystemTime) -> Result<(Store, Recovered), StoreError> {
        let (dbs, aside) = (dir.join("dbs"), dir.join("aside"));
        for folder in [&dbs, &aside] {
            fs::create_dir_all(folder).map_err(io_at("making the folder", folder))?;
        }
        // What is found there is relied on: the process may have ended before it synced a change.
        for folder in [dir, &dbs, &aside] {
            durable::sync_folder(folder).map_err(io_at("syncing the folder", folder))?;
        }
        aside::end_drops(&aside)?;
        for folder in folders(&aside)? {
            // A name that was taken for a database which did not come to move there; fails if one did.
            let _ = fs::remove_dir(folder);
        }
        let inner = Inner { next: 1, generation: 1, databases: BTreeMap::new() };
        let store = Store { dbs, aside, inner: Mutex::new(inner) };
        let mut set_aside = Vec::new();
        let mut inner = store.inner();
        for folder in folders(&store.dbs)? {
            if number(folder.file_name(), DELETED).is_some() {
                remove_folder(&folder)?; // a deletion that a crash cut short
            }
            if number(folder.file_name(), NEW).is_some() {
                remove_unfinished(&folder)?;
            }
            let Some(id) = number(folder.file_name(), "") else { continue };
            inner.next = inner.next.max(id.saturating_add(1));
            inner.generation = inner.generation.max(discard(&folder)?.saturating_add(1));
            match recover(id, &folder, inner.generation) {
                Ok(Some(database)) => {
                    inner.databases.insert(id, Arc::new(database));
                }
                Ok(None) => store.remove_slot(id, &folder)?,
                Err(why) if why.is_damage() => {
                    set_aside.push((store.move_aside(&folder, now, &why.to_string())?, why));
                }
                Err(why) => return Err(why),
            }
        }
        let databases = inner.databases.values().cloned().collect();
        drop(inner);
        Ok((store, Recovered { databases, set_aside }))
    }

    /// Begins an empty database, known to this node only until its first commit.
    pub fn create_slot(&self, name: &DatabaseName) -> Result<Arc<Database>, StoreError> {
        let mut inner = self.inner();
        let id = inner.next;
        inner.next += 1;
        let folder = self.dbs.join(id.to_string());
        fs::create_dir(&folder).map_err(io_at("making the folder", &folder))?;
        let record = Record::empty(name.clone());
        record.write(&folder.join("record"))?;
        durable::sync_folder(&self.dbs).map_err(io_at("syncing the folder", &self.dbs))?;
        let database = Arc::new(Database::open(id, &folder, inner.generation, record)?);
        inner.databases.insert(id, database.clone());
        Ok(database)
    }

    /// Makes a slot of what `fill` puts into its folder, whole or not at all.
    pub(super) fn open_new(
        &self,
        fill: impl FnOnce(&Path) -> Result<Record, StoreError>,
    ) -> Result<Arc<Database>, StoreError> {
        let (id, generation) = {
            let mut inner = self.inner();
            inner.next += 1;
            (inner.next - 1, inner.generation)
        };
        let unfinished = self.dbs.join(format!("{NEW}{id}"));
        fs::create_dir(&unfinished).map_err(io_at("making the folder", &unfinished))?;
        let record = fill(&unfinished)?;
        let folder = self.dbs.join(id.to_string());
        fs::rename(&unfinished, &folder).map_err(io_at("making the folder", &folder))?;
        durable::sync_folder(&self.dbs).map_err(io_at("syncing the folder", &self.dbs))?;
        let database = Arc::new(Database::open(id, &folder, generation, record)?);
        self.inner().databases.insert(id, Arc::clone(&database));
        Ok(database)
    }

    /// In the order of their slots.
    pub fn databases(&self) -> Vec<Arc<Database>> {
        self.inner().databases.values().cloned().collect()
    }

    /// Deletes a database. Open handles of its files go on until they are closed.
    pub fn delete(&self, database: &Database) -> Result<(), StoreError> {
        let mut inner = self.inner();
        let gone = self.mark_deleted(database.slot(), &database.folder())?;
        database.moved_to(gone.clone());
        inner.databases.remove(&database.slot());
        drop(inner);
        remove_folder(&gone)
    }

    fn remove_slot(&self, id: u64, folder: &Path) -> Result<(), StoreError> {
        remove_folder(&self.mark_deleted(id, folder)?)
    }

    /// Gives a slot's folder another name, before its files go: after a crash in between the rest goes
    /// at the next start, and is not taken for a damaged database.
    fn mark_deleted(&self, id: u64, folder: &Path) -> Result<PathBuf, StoreError> {
        let gone = self.dbs.join(format!("{DELETED}{id}"));
        fs::rename(folder, &gone).map_err(io_at("deleting", folder))?;
        durable::sync_folder(&self.dbs).map_err(io_at("syncing the folder", &self.dbs))?;
        Ok(gone)
    }

    /// nothing-discarded: moves a database's files out of the way, whole, before another history
    /// takes its place. Nothing that was set aside is ever overwritten. The folder opens with
    /// stock SQLite, the WAL's transactions included. `why`: for people.
    pub fn set_aside(
        &self,
        database: &Database,
        now: SystemTime,
        why: &str,
    ) -> Result<Aside, StoreError> {
        let mut inner = self.inner();
        database.trim_wal()?;
        let aside = self.move_aside(&database.folder(), now, why)?;
        database.moved_to(aside.folder.clone());
        inner.databases.remove(&database.slot());
        Ok(aside)
    }

    /// As [`Store::set_aside`], for a database that is sound: until the snapshot which takes its place is
    /// all there, it can be taken back.
    pub fn give_way(
        &self,
        database: &Database,
        now: SystemTime,
        why: &str,
    ) -> Result<Aside, StoreError> {
        let mark = database.folder().join(GAVE_WAY);
        fs::File::create(&mark).map_err(io_at("setting aside", &mark))?;
        self.set_aside(database, now, why)
    }

    /// The process ended within a snapshot, for which this database had given way already: it is what
    /// the state before the snapshot says. `None`: nothing such was set aside.
    pub fn take_back(
        &self,
        name: &DatabaseName,
        incarnation: Incarnation,
    ) -> Result<Option<Arc<Database>>, StoreError> {
        let mut inner = self.inner();
        let (mut last, mut found) = (0, None);
        for aside in self.asides()? {
            let Some(record) = aside.record else { continue };
            let is_it = record.name == *name && record.incarnation == Some(incarnation);
            let index = record.applied.index;
            if is_it && index >= last && aside.folder.join(GAVE_WAY).exists() {
                (last, found) = (index, Some(aside.folder));
            }
        }
        let Some(aside) = found else { return Ok(None) };
        let id = inner.next;
        inner.next += 1;
        let folder = self.dbs.join(id.to_string());
        fs::rename(&aside, &folder).map_err(io_at("taking back", &aside))?;
        for changed in [&self.aside, &self.dbs] {
            durable::sync_folder(changed).map_err(io_at("syncing the folder", changed))?;
        }
        discard(&folder)?;
        let database = recover(id, &folder, inner.generation)?.map(Arc::new);
        if let Some(database) = &database {
            inner.databases.insert(id, Arc::clone(database));
        }
        Ok(database)
    }

    /// Everything that was set aside, by folder name.
    pub fn asides(&self) -> Result<Vec<Aside>, StoreError> {
        folders(&self.aside)?.iter().map(|folder| aside_in(folder)).collect()
    }

    /// What is listed, with why, and can be exported and dropped.
    pub fn kept(&self) -> Result<Vec<Kept>, StoreError> {
        aside::list(&self.aside)
    }

    /// Removes something that was set aside.
    pub fn drop_kept(&self, kept: &Kept) -> Result<(), StoreError> {
        aside::drop_one(&self.aside, kept)
    }

    fn move_aside(&self, folder: &Path, now: SystemTime, why: &str) -> Result<Aside, StoreError> {
        let record = Record::read(&folder.join("record")).ok().flatten();
        let seconds = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let base = match &record {
            Some(record) => {
                let mut name = record.name.as_str();
                while name.len() > NAME_BYTES {
                    let end = (0..=NAME_BYTES).rev().find(|at| name.is_char_boundary(*at));
                    name = name.get(..end.unwrap_or(0)).unwrap_or_default();
                }
                let life = record.incarnation.unwrap_or_default();
                format!("{name}-{life}-{seconds}")
            }
            None => format!("unknown-0-{seconds}"),
        };
        // For people: without it the files go aside all the same, on a full disk, too.
        let _ = fs::write(folder.join(WHY), why);
        // A WAL that was in use belongs to the database; a journal never does (Rule 8).
        let wal = folder.join("wal");
        if wal.exists() {
            fs::rename(&wal, folder.join("database-wal")).map_err(io_at("setting aside", &wal))?;
        }
        let target = self.free_name(&base)?;
        fs::rename(folder, &target).map_err(io_at("setting aside", folder))?;
        for changed in [&target, &self.aside, &self.dbs] {
            durable::sync_folder(changed).map_err(io_at("syncing the folder", changed))?;
        }
        aside_in(&target)
    }

    /// Takes a name that nobody has, by making an empty folder of it: a rename may replace that.
    fn free_name(&self, base: &str) -> Result<PathBuf, StoreError> {
        let mut target = self.aside.join(base);
        let mut more = 1_u64;
        loop {
            match fs::create_dir(&target) {
                Ok(()) => return Ok(target),
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                    more += 1;
                    target = self.aside.join(format!("{base}-{more}"));
                }
                Err(e) => return Err(io_at("setting aside", &target)(e)),
            }
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Opens a slot's files; `None`: nobody ever committed to it.
fn recover(id: u64, folder: &Path, generation: u64) -> Result<Option<Database>, StoreError> {
    let path = folder.join("record");
    let Some(record) = Record::read(&path)? else {
        let empty = fs::metadata(folder.join("database")).map_or(true, |meta| meta.len() == 0);
        let reason = "it is missing, and the database is not empty".to_owned();
        return if empty { Ok(None) } else { Err(StoreError::Record { path, reason }) };
    };
    if record.incarnation.is_none() {
        return Ok(None);
    }
    remove_unnamed(folder, record.pinned)?;
    let database = Database::open(id, folder, generation, record)?;
    database.apply_pinned()?;
    Ok(Some(database))
}

/// Pages beside the file that no record came to name.
fn remove_unnamed(folder: &Path, named: Option<u64>) -> Result<(), StoreError> {
    let listing = |e| io_at("listing", folder)(e);
    let named = named.map(|index| [format!("pinned-{index}.ltx"), format!("pinned-{index}.pages")]);
    let is_named = |name: &str| named.iter().flatten().any(|named| named == name);
    for entry in fs::read_dir(folder).map_err(listing)? {
        let entry = entry.map_err(listing)?;
        let name = entry.file_name();
        let name = name.to_str().unwrap_or_default();
        if name.starts_with("pinned-") && !is_named(name) {
            remove_if_there(&entry.path()).map_err(io_at("removing", &entry.path()))?;
        }
    }
    Ok(())
}

/// Rule 9. Gives the highest generation of the shm files that were there, or 0.
fn discard(folder: &Path) -> Result<u64, StoreError> {
    let mut generation = 0;
    let listing = |e| io_at("listing", folder)(e);
    for entry in fs::read_dir(folder).map_err(listing)? {
        let path = entry.map_err(listing)?.path();
        let shm = number(path.file_name(), "shm-");
        generation = generation.max(shm.unwrap_or(0));
        let name = path.file_name().and_then(OsStr::to_str).unwrap_or_default();
        if shm.is_some() {
            shm::close(&path).map_err(io_at("closing", &path))?;
        }
        // The last ones: of a database that was just to be set aside, or was.
        let local = matches!(name, "wal" | "journal" | "overlay" | "record.new" | "database-wal")
            || [WHY, GAVE_WAY].contains(&name);
        if shm.is_some() || local {
            remove_if_there(&path).map_err(io_at("discarding", &path))?;
        }
    }
    durable::sync_folder(folder).map_err(io_at("syncing the folder", folder))?;
    Ok(generation)
}

pub(super) fn number(name: Option<&OsStr>, prefix: &str) -> Option<u64> {
    name?.to_str()?.strip_prefix(prefix)?.parse().ok()
}

pub(super) fn folders(of: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let listing = |e| io_at("listing", of)(e);
    let mut found = Vec::new();
    for entry in fs::read_dir(of).map_err(listing)? {
        let path = entry.map_err(listing)?.path();
        if path.is_dir() {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

fn remove_folder(folder: &Path) -> Result<(), StoreError> {
    fs::remove_dir_all(folder).map_err(io_at("removing", folder))
}

fn aside_in(folder: &Path) -> Result<Aside, StoreError> {
    let listing = |e| io_at("listing", folder)(e);
    let mut bytes = 0;
    for entry in fs::read_dir(folder).map_err(listing)? {
        bytes += entry.and_then(|entry| entry.metadata()).map_err(listing)?.len();
    }
    let record = Record::read(&folder.join("record")).ok().flatten();
    Ok(Aside { folder: folder.to_owned(), record, bytes })
}
