//! `litefs-py convert`: the data of a stopped node, from the one engine to the other.
//!
//! It reads the one folder, and changes nothing in it; it fills another, which must hold nothing yet. What it
//! writes stands beside until it is whole. Positions stay what they are, and the bytes, too: both engines
//! know a database by the same checksum.
//!
//! Of LiteFS's folder everything is taken by its last LTX file. Of a node's own, the log says what the
//! databases have to be: if one is not, the node was not stopped in order, and its log would be needed.
//!
//! A data folder of the embedded engine begins a new group (one-history: two engines have no log in common):
//!
//! - the founder, whose configuration says `bootstrap: true`, has its databases in the state that its log
//!   begins with ([`found`]). Term and entry are made of the time: no earlier group of these members came
//!   so far, so that a node which is still of that group follows, and does not lead;
//! - all others are newcomers to that group. Their files are of no life of the log
//!   ([`Incarnation::UNNAMED`]): they keep the pages that are the founder's, and get the rest from it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{FlockOperation, flock};
use serde::Serialize;

use super::data_folder::{CONVERTING, DataFolder, DataFolderError, NEWCOMER};
use crate::cluster::{DatabaseState, State};
use crate::core::clock::{signed_unix_ms, unix_seconds};
use crate::core::config::{Config, EngineKind};
use crate::core::{Checksum, DatabaseName, EntryId, Incarnation, NodeId, Position};
use crate::raft::{Member, Members, NoStagedFiles, RaftError, found, look};
use crate::store::{
    LitefsDatabase, Outside, OutsideError, Record, StoppedDatabase, StoreError, durable,
    make_for_litefs, make_slot,
};

/// Of LiteFS's `dbs`, until it is whole.
const DBS_CONVERTING: &str = "dbs.converting";

/// What is asked for.
#[derive(Debug)]
pub struct Conversion<'a> {
    pub to: EngineKind,
    /// A LiteFS's data folder, or a node's.
    pub from: PathBuf,
    /// A node's data folder, or a LiteFS's.
    pub into: PathBuf,
    /// Of the node, with the one engine or the other.
    pub config: &'a Config,
    /// Whether SQLite looks through each database.
    pub check: bool,
}

/// What was done.
#[derive(Debug, Clone, Serialize)]
pub struct Converted {
    pub from: PathBuf,
    pub into: PathBuf,
    /// Of the embedded engine only.
    pub part: Option<Part>,
    pub databases: Vec<ConvertedDatabase>,
}

/// What the node is in the group that it begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Part {
    /// The group begins with what it has.
    Founder,
    /// It gets what the founder has, and keeps the pages of its own that are the same.
    Newcomer,
}

#[derive(Debug, Clone, Serialize)]
pub struct ConvertedDatabase {
    pub name: DatabaseName,
    pub position: String,
    pub pages: u32,
    pub bytes: u64,
    pub checksum_before: String,
    pub checksum_after: String,
    /// LiteFS was stopped beneath an application: a transaction in the WAL, of which LiteFS made no LTX file,
    /// is not in it.
    pub cut: bool,
}

/// Why nothing was converted. The folder it was to go into is then as it was.
#[derive(Debug, thiserror::Error)]
pub enum ConvertError {
    #[error("{0} is in use by a litefs-py node; stop it first")]
    InUse(PathBuf),
    #[error("{0} was written to meanwhile: LiteFS runs; stop it first")]
    Changed(PathBuf),
    #[error("{path} holds {what} already; nothing is put over it: choose another folder")]
    NotEmpty { path: PathBuf, what: String },
    #[error("{} and {} lie within each other; choose another folder", from.display(), into.display())]
    Nested { from: PathBuf, into: PathBuf },
    #[error("{path} is no data folder of {of}: {why}")]
    NoSource { path: PathBuf, of: &'static str, why: &'static str },
    #[error("{0} holds no database; there is nothing to convert")]
    Nothing(PathBuf),
    #[error(
        "{name}: the log says {log}, and its file is at {file}: the node was not stopped in order; start \
         it, and stop it in order"
    )]
    Behind { name: DatabaseName, log: Position, file: String },
    #[error("cannot {what} {path}: {source}")]
    Io { what: &'static str, path: PathBuf, source: io::Error },
    #[error(transparent)]
    Database(#[from] OutsideError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Raft(#[from] RaftError),
    #[error(transparent)]
    DataFolder(#[from] DataFolderError),
    #[error("the databases make no state that a log could have made")]
    Impossible,
}

/// A database that is to be converted.
struct Source {
    name: DatabaseName,
    position: Position,
    opened: Outside,
}

/// What was made for one engine lies beside, until it is whole. Dropped before, it is gone.
struct Beside {
    path: PathBuf,
    kept: bool,
}

impl Drop for Beside {
    fn drop(&mut self) {
        if !self.kept && self.path.exists() {
            // Best effort: the next try removes it, and a node refuses to start over it.
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

/// Does it. Blocks, for as long as the disk takes.
///
/// # Errors
/// Why it was not done.
pub fn convert(conversion: &Conversion<'_>) -> Result<Converted, ConvertError> {
    match conversion.to {
        EngineKind::Embedded => to_embedded(conversion),
        EngineKind::Litefs => to_litefs(conversion),
    }
}

fn to_embedded(conversion: &Conversion<'_>) -> Result<Converted, ConvertError> {
    let Conversion { into, config, .. } = conversion;
    let from = litefs_folder(&conversion.from)?;
    check_apart(&from, into)?;
    must_be_free(into, &["lock", NEWCOMER])?;
    let _locks = keep_out(&[&from, &from.join(".."), &config.data_dir])?;
    let listed = LitefsDatabase::list(&from)?;
    let sources = listed.iter().map(|listed| {
        let (name, position) = (listed.name.clone(), listed.position);
        Ok(Source { name, position, opened: listed.open()? })
    });
    let sources = sources.collect::<Result<Vec<_>, OutsideError>>()?;
    if sources.is_empty() {
        return Err(ConvertError::Nothing(from));
    }
    durable::make_folder(into).map_err(io("make", into))?;
    let mut beside = Beside { path: into.join(CONVERTING), kept: false };
    let part = if config.bootstrap { Part::Founder } else { Part::Newcomer };
    let (state, records) = state_of(part, NodeId(config.node.id), &sources)?;
    let mut done = Vec::new();
    for (slot, (source, record)) in (1_u64..).zip(sources.iter().zip(&records)) {
        let folder = beside.path.join("dbs").join(slot.to_string());
        let sum = make_slot(&source.opened, &folder, record, conversion.check)?;
        done.push(source.done(sum));
    }
    let dbs = beside.path.join("dbs");
    durable::sync_folder(&dbs).map_err(io("sync", &dbs))?;
    if part == Part::Founder {
        found(&beside.path.join("raft"), NodeId(config.node.id), &members(config), &state)?;
    }
    unchanged(&from, &sources)?;
    // From here on it is finished by hand, or by the same command once more.
    beside.kept = true;
    if part == Part::Newcomer && !into.join(NEWCOMER).exists() {
        DataFolder::prepare(into, &config.cluster, config.node.id)?;
    }
    for name in ["dbs", "raft"] {
        let (made, place) = (beside.path.join(name), into.join(name));
        if made.exists() {
            fs::rename(&made, &place).map_err(io("put in place", &place))?;
        }
    }
    durable::sync_folder(into).map_err(io("sync", into))?;
    fs::remove_dir(&beside.path).map_err(io("end", &beside.path))?;
    durable::sync_folder(into).map_err(io("sync", into))?;
    Ok(Converted { from, into: into.clone(), part: Some(part), databases: done })
}

fn to_litefs(conversion: &Conversion<'_>) -> Result<Converted, ConvertError> {
    let Conversion { from, into, config, .. } = conversion;
    check_apart(from, into)?;
    must_be_free(into, &["lock"])?;
    if config.engine == EngineKind::Litefs && config.data_dir.join("raft").exists() {
        // It would refuse to start: its log is of databases.
        let (path, what) = (config.data_dir.clone(), "a node's log".to_owned());
        return Err(ConvertError::NotEmpty { path, what });
    }
    if !from.join("raft").is_dir() {
        let (path, why) = (from.clone(), "there is no raft in it");
        return Err(ConvertError::NoSource { path, of: "litefs-py", why });
    }
    let _locks = keep_out(&[from])?;
    durable::make_folder(into).map_err(io("make", into))?;
    let mut beside = Beside { path: into.join(DBS_CONVERTING), kept: false };
    durable::make_folder(&beside.path).map_err(io("make", &beside.path))?;
    let sources = embedded_sources(from, &beside.path.join("log of the node"))?;
    let now = signed_unix_ms();
    let mut done = Vec::new();
    for source in &sources {
        let folder = beside.path.join(source.name.as_str());
        let sum = make_for_litefs(&source.opened, &folder, source.position, now, conversion.check)?;
        done.push(source.done(sum));
    }
    durable::sync_folder(&beside.path).map_err(io("sync", &beside.path))?;
    let place = into.join("dbs");
    fs::rename(&beside.path, &place).map_err(io("put in place", &place))?;
    beside.kept = true;
    durable::sync_folder(into).map_err(io("sync", into))?;
    Ok(Converted { from: from.clone(), into: into.clone(), part: None, databases: done })
}

/// The databases of a node that is stopped, each as its log says that it is.
fn embedded_sources(from: &Path, scratch: &Path) -> Result<Vec<Source>, ConvertError> {
    // Looking at a log mends it: that is done to a copy, which goes.
    let copied = copy_log(&from.join("raft"), scratch).map_err(io("copy", from));
    let held = copied.and_then(|()| Ok(look(scratch, Arc::new(NoStagedFiles))?));
    if scratch.exists() {
        fs::remove_dir_all(scratch).map_err(io("remove", scratch))?;
    }
    let mut files: BTreeMap<_, _> = StoppedDatabase::list(&from.join("dbs"))?
        .into_iter()
        .map(|stopped| (stopped.record.name.clone(), stopped))
        .collect();
    let mut sources = Vec::new();
    for (name, at) in held?.databases {
        let behind =
            |file: String| ConvertError::Behind { name: name.clone(), log: at.position, file };
        let stopped = files.remove(&name).ok_or_else(|| behind("no position at all".into()))?;
        let record = &stopped.record;
        if record.incarnation != Some(at.incarnation) || record.position != at.position {
            return Err(behind(record.position.to_string()));
        }
        let opened = stopped.open()?;
        sources.push(Source { name, position: at.position, opened });
    }
    if sources.is_empty() {
        return Err(ConvertError::Nothing(from.to_owned()));
    }
    Ok(sources)
}

/// The state file and the log.
fn copy_log(raft: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to.join("log"))?;
    if raft.join("state").exists() {
        fs::copy(raft.join("state"), to.join("state"))?;
    }
    for entry in fs::read_dir(raft.join("log"))? {
        let entry = entry?;
        fs::copy(entry.path(), to.join("log").join(entry.file_name()))?;
    }
    Ok(())
}

/// Where the log begins, and what it says of the databases; and the record of each.
fn state_of(
    part: Part,
    me: NodeId,
    sources: &[Source],
) -> Result<(State, Vec<Record>), ConvertError> {
    let term = unix_seconds();
    // Two that are founded at the same second have other numbers all the same.
    let begin = term * 1024 + me.0 % 1024;
    let (mut databases, mut records) = (BTreeMap::new(), Vec::new());
    for (index, source) in (begin + 1..).zip(sources) {
        let (page_size, pages) = (source.opened.page_size(), source.opened.pages());
        let position = source.position;
        let incarnation = Incarnation(index);
        databases.insert(
            source.name.clone(),
            DatabaseState { incarnation, position, page_size, pages, index },
        );
        let (incarnation, applied) = match part {
            Part::Founder => (incarnation, EntryId { term, index }),
            Part::Newcomer => (Incarnation::UNNAMED, EntryId::default()),
        };
        let name = source.name.clone();
        let incarnation = Some(incarnation);
        records.push(Record {
            name,
            incarnation,
            applied,
            position,
            page_size,
            pages,
            pinned: None,
        });
    }
    let last = EntryId { term, index: begin + sources.len() as u64 };
    let state = State::founded(last, databases).ok_or(ConvertError::Impossible)?;
    Ok((state, records))
}

fn members(config: &Config) -> Members {
    let member = |member: &crate::core::config::Member| {
        let (name, address) = (member.name.clone(), member.address.clone());
        (NodeId(member.id), Member { name, address })
    };
    config.members.iter().map(member).collect()
}

impl Source {
    fn done(&self, after: Checksum) -> ConvertedDatabase {
        ConvertedDatabase {
            name: self.name.clone(),
            position: self.position.to_string(),
            pages: self.opened.pages(),
            bytes: self.opened.bytes(),
            checksum_before: format!("{:016x}", self.position.checksum.0),
            checksum_after: format!("{:016x}", after.0),
            cut: self.opened.is_cut(),
        }
    }
}

/// LiteFS's folder; of a node whose engine it is, it lies within.
fn litefs_folder(from: &Path) -> Result<PathBuf, ConvertError> {
    let within = from.join("litefs");
    let no = |why| ConvertError::NoSource { path: from.to_owned(), of: "LiteFS", why };
    match (within.join("dbs").is_dir(), from.join("dbs").is_dir()) {
        (true, _) => Ok(within),
        (false, true) if from.join("raft").exists() => {
            Err(no("it is one of a node with engine: embedded"))
        }
        (false, true) => Ok(from.to_owned()),
        (false, false) => Err(no("there is no dbs in it")),
    }
}

/// Nothing was written to them while they were read: a LiteFS alone keeps no lock.
fn unchanged(from: &Path, sources: &[Source]) -> Result<(), ConvertError> {
    let changed = || ConvertError::Changed(from.to_owned());
    let now = LitefsDatabase::list(from)?;
    let same = now.len() == sources.len()
        && now.iter().zip(sources).all(|(now, source)| now.position == source.position);
    for source in sources {
        if !same || !source.opened.is_unchanged()? {
            return Err(changed());
        }
    }
    Ok(())
}

fn check_apart(from: &Path, into: &Path) -> Result<(), ConvertError> {
    let whole = |path: &Path| fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let (a, b) = (whole(from), whole(into));
    if a.starts_with(&b) || b.starts_with(&a) {
        return Err(ConvertError::Nested { from: from.to_owned(), into: into.to_owned() });
    }
    Ok(())
}

/// Nothing is in it but what may be; what an earlier try left of itself goes.
fn must_be_free(into: &Path, may_be: &[&str]) -> Result<(), ConvertError> {
    let failed = io("look into", into);
    let listing = match fs::read_dir(into) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        listing => listing.map_err(failed)?,
    };
    // It is the mark that `dbs` and `raft`, too, are of a try that was cut short.
    let unfinished = into.join(CONVERTING).exists();
    for entry in listing {
        let path = entry.map_err(io("look into", into))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let is_ours = name == DBS_CONVERTING || (unfinished && (name == "dbs" || name == "raft"));
        let is_empty = || fs::read_dir(&path).is_ok_and(|mut within| within.next().is_none());
        if is_ours || (name == "dbs" && is_empty()) {
            fs::remove_dir_all(&path).map_err(io("remove", &path))?;
        } else if name != CONVERTING && name != "lost+found" && !may_be.contains(&name.as_str()) {
            return Err(ConvertError::NotEmpty { path: into.to_owned(), what: name });
        }
    }
    if unfinished {
        let mark = into.join(CONVERTING);
        fs::remove_dir_all(&mark).map_err(io("remove", &mark))?;
    }
    Ok(())
}

/// Keeps daemons out of the folders, as long as the answer lives.
fn keep_out(folders: &[&Path]) -> Result<Vec<File>, ConvertError> {
    let mut locks = Vec::new();
    let mut known = Vec::new();
    for folder in folders {
        let path = folder.join("lock");
        let Ok(whole) = fs::canonicalize(&path) else { continue };
        if known.contains(&whole) {
            continue;
        }
        let file = File::open(&path).map_err(io("lock", &path))?;
        flock(&file, FlockOperation::NonBlockingLockExclusive)
            .map_err(|_| ConvertError::InUse((*folder).to_owned()))?;
        known.push(whole);
        locks.push(file);
    }
    Ok(locks)
}

fn io(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ConvertError {
    let path = path.to_owned();
    move |source| ConvertError::Io { what, path, source }
}
