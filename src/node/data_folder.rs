//! The data folder: whose it is, that only one process uses it, and which life of the node this is.
//!
//! ```text
//! data_dir/
//!   lock         held by the running process
//!   identity     format, cluster, node: JSON
//!   boot         how often the node was started
//!   config-changes.json   what was changed of the configuration while the node ran
//!   history      who led when, and why: a line of JSON each
//!   raft/        the log and the state machine
//!   staged/      large transactions that entries of the log name
//!   dbs/         the databases
//!   members      who the members are, as the log said last: JSON
//!   newcomer     the number that this node was just given, until it first starts: JSON
//!   removed      why this node is no member any more: JSON
//!   converting/  while `litefs-py convert` fills the folder
//!   imports/     what came so far of databases that are being imported
//!   aside/       what another history would have overwritten (nothing-discarded)
//! ```

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::core::Boot;
use crate::core::clock::unix_seconds;
use crate::store::durable;

/// The version of the folder's layout.
const FORMAT: u32 = 1;

/// The parts of the folder that belong to one history.
const HISTORY: [&str; 8] =
    ["identity", "boot", "raft", "staged", "dbs", "members", "history", "config-changes.json"];

pub(super) const NEWCOMER: &str = "newcomer";
/// What `litefs-py convert` makes, until it is whole.
pub(super) const CONVERTING: &str = "converting";
const REMOVED: &str = "removed";

#[derive(Debug, thiserror::Error)]
pub enum DataFolderError {
    #[error("cannot {what} {path}: {source}")]
    Io { what: &'static str, path: PathBuf, source: io::Error },
    #[error("{0} is in use by another litefs-py node; stop it first")]
    InUse(PathBuf),
    #[error("{path} cannot be read ({reason}); restore it or move the folder away")]
    Identity { path: PathBuf, reason: String },
    #[error(
        "{path} holds nothing of node {node} of the cluster {cluster:?}: look at data_dir, node.id and \
         cluster in the configuration"
    )]
    NotThisNodes { path: PathBuf, cluster: String, node: u64 },
    #[error(
        "this node was removed from the cluster ({why}); what it held is kept in {kept}. To come back: \
         litefs-py join, with a new token"
    )]
    Removed { why: String, kept: String },
    #[error("{0} was not filled to the end by litefs-py convert; give the same command again")]
    Converting(PathBuf),
    #[error("{path} is of format {found}; this version knows format {FORMAT}: upgrade the node")]
    Newer { path: PathBuf, found: u32 },
}

/// Whose folder it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Identity {
    format: u32,
    cluster: String,
    node: u64,
}

/// Why a node is no member any more.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Removal {
    why: String,
    /// Where its history is kept.
    kept: String,
    /// Seconds since 1970.
    at: u64,
}

/// An opened data folder. Others are kept out until it is dropped.
pub struct DataFolder {
    path: PathBuf,
    boot: Boot,
    newcomer: bool,
    identity: Identity,
    _lock: File,
}

impl DataFolder {
    /// Opens the folder for one node, making what is missing. A folder of another cluster or
    /// another node is set aside, never overwritten (nothing-discarded).
    ///
    /// # Errors
    /// It is in use, unreadable, or of a newer format.
    pub fn open(path: &Path, cluster: &str, node: u64) -> Result<Self, DataFolderError> {
        let failed = |what| move |source| DataFolderError::Io { what, path: path.into(), source };
        durable::make_folder(path).map_err(failed("make"))?;
        let lock = File::options().create(true).truncate(false).write(true).open(path.join("lock"));
        let lock = lock.map_err(failed("lock"))?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive)
            .map_err(|_| DataFolderError::InUse(path.into()))?;
        // For `holder_is_dead`. Of a length that never changes.
        let holder = format!("{:010}\n", std::process::id());
        lock.write_all_at(holder.as_bytes(), 0).map_err(failed("lock"))?;
        if path.join(CONVERTING).exists() {
            return Err(DataFolderError::Converting(path.into()));
        }
        if let Some(Removal { why, kept, .. }) = read_json(path, REMOVED)? {
            return Err(DataFolderError::Removed { why, kept });
        }
        let wanted = Identity { format: FORMAT, cluster: cluster.to_owned(), node };
        let mut newcomer = false;
        match read_identity(path)? {
            Some(found) if found.format > FORMAT => {
                return Err(DataFolderError::Newer { path: path.into(), found: found.format });
            }
            Some(found) if found == wanted => put_back(path, &found).map_err(failed("mend"))?,
            Some(found) => {
                set_aside(path, &found).map_err(failed("set aside"))?;
                write_identity(path, &wanted).map_err(failed("write the identity of"))?;
            }
            None => write_identity(path, &wanted).map_err(failed("write the identity of"))?,
        }
        if let Some(given) = read_json::<Identity>(path, NEWCOMER)? {
            // Once: from now on it could forget.
            newcomer = given == wanted && !path.join("raft").exists();
            remove(path, NEWCOMER).map_err(failed("begin in"))?;
        }
        for part in ["raft", "staged", "dbs", "aside"] {
            durable::make_folder(&path.join(part)).map_err(failed("make a part of"))?;
        }
        let boot = next_boot(path).map_err(failed("count the start in"))?;
        Ok(Self { path: path.into(), boot, newcomer, identity: wanted, _lock: lock })
    }

    /// Opens the folder of a node that is stopped, to look at it or to mend it: nothing is made that is
    /// not there, and it must be this node's.
    ///
    /// # Errors
    /// It is in use, of another node, or there is nothing in it.
    pub fn open_stopped(path: &Path, cluster: &str, node: u64) -> Result<Self, DataFolderError> {
        let wanted = Identity { format: FORMAT, cluster: cluster.to_owned(), node };
        if read_identity(path)?.as_ref() != Some(&wanted) {
            let path = path.into();
            return Err(DataFolderError::NotThisNodes { path, cluster: cluster.to_owned(), node });
        }
        Self::open(path, cluster, node)
    }

    /// Whether the process that keeps the folder in use was killed, and does not come to its end.
    pub fn holder_is_dead(path: &Path) -> bool {
        let Ok(holder) = fs::read_to_string(path.join("lock")) else { return false };
        let Ok(holder) = holder.trim().parse::<u32>() else { return false };
        let stat = fs::read_to_string(format!("/proc/{holder}/stat")).unwrap_or_default();
        is_exiting(&stat)
    }

    /// Prepares a folder for a node that was just given its number, and for no other: when it first
    /// starts, there is nothing that it could have forgotten. What a removed node left there stays aside.
    ///
    /// # Errors
    /// The file system's.
    pub fn prepare(path: &Path, cluster: &str, node: u64) -> Result<(), DataFolderError> {
        let failed = |what| move |source| DataFolderError::Io { what, path: path.into(), source };
        durable::make_folder(path).map_err(failed("make"))?;
        let given = Identity { format: FORMAT, cluster: cluster.to_owned(), node };
        let bytes =
            serde_json::to_vec(&given).map_err(io::Error::from).map_err(failed("prepare"))?;
        durable::write(&path.join(NEWCOMER), &bytes).map_err(failed("prepare"))?;
        remove(path, REMOVED).map_err(failed("prepare"))
    }

    /// Whether this is the first start of a node that was given a number of its own.
    pub fn is_newcomer(&self) -> bool {
        self.newcomer
    }

    /// The node was removed from its cluster: sets its history aside (nothing-discarded), and keeps a
    /// later start from beginning anew by itself. Returns where the history is.
    ///
    /// # Errors
    /// The file system's.
    pub fn leave(self, why: &str) -> Result<PathBuf, DataFolderError> {
        let path = &self.path;
        let failed = |what| move |source| DataFolderError::Io { what, path: path.clone(), source };
        let aside = aside_of(path, &self.identity).map_err(failed("set aside"))?;
        let kept = aside.display().to_string();
        let at = unix_seconds();
        let removal = Removal { why: why.to_owned(), kept, at };
        // First: half of a history set aside must not be begun with again.
        let bytes = serde_json::to_vec(&removal).map_err(io::Error::from);
        let bytes = bytes.map_err(failed("leave"))?;
        durable::write(&path.join(REMOVED), &bytes).map_err(failed("leave"))?;
        move_history(path, &aside).map_err(failed("set aside"))?;
        tracing::warn!(kept = %aside.display(), why, "this node's data is set aside");
        Ok(aside)
    }

    /// Which life of the node this is (Rule 5): never the same twice.
    pub fn boot(&self) -> Boot {
        self.boot
    }

    pub fn part(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// proc(5), `stat`: after the name, which is in parentheses, the state, and as the seventh field from there
/// the kernel's flags.
fn is_exiting(stat: &str) -> bool {
    const PF_EXITING: u32 = 4;
    let Some((_, fields)) = stat.rsplit_once(") ") else { return false };
    let flags = fields.split(' ').nth(6).and_then(|flags| flags.parse::<u32>().ok());
    flags.is_some_and(|flags| flags & PF_EXITING != 0)
}

fn remove(path: &Path, name: &str) -> io::Result<()> {
    match fs::remove_file(path.join(name)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => durable::sync_folder(path),
    }
}

fn read_identity(path: &Path) -> Result<Option<Identity>, DataFolderError> {
    read_json(path, "identity")
}

fn read_json<T: DeserializeOwned>(path: &Path, name: &str) -> Result<Option<T>, DataFolderError> {
    let file = path.join(name);
    match fs::read(&file) {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|error| DataFolderError::Identity { path: file, reason: error.to_string() }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(DataFolderError::Io { what: "read", path: file, source }),
    }
}

fn write_identity(path: &Path, identity: &Identity) -> io::Result<()> {
    let bytes = serde_json::to_vec(identity)?;
    durable::write(&path.join("identity"), &bytes)
}

/// Where this node's history is being set aside, if that was begun and did not end.
fn unfinished(path: &Path, found: &Identity) -> io::Result<Option<PathBuf>> {
    let begin = format!("{}-{}-", found.cluster, found.node);
    let listing = match fs::read_dir(path.join("aside")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        listing => listing?,
    };
    for entry in listing {
        let aside = entry?;
        let seconds = aside.file_name().to_string_lossy().strip_prefix(&begin).map(str::to_owned);
        let is_one = seconds.is_some_and(|rest| rest.parse::<u64>().is_ok());
        if is_one && !aside.path().join("identity").exists() {
            return Ok(Some(aside.path()));
        }
    }
    Ok(None)
}

/// A folder for a node's history, named after it and the hour.
fn aside_of(path: &Path, found: &Identity) -> io::Result<PathBuf> {
    let seconds = unix_seconds();
    let name = format!("{}-{}-{seconds}", found.cluster, found.node);
    let aside = unfinished(path, found)?.unwrap_or_else(|| path.join("aside").join(name));
    durable::make_folder(&aside)?;
    Ok(aside)
}

fn move_history(path: &Path, aside: &Path) -> io::Result<()> {
    // The identity goes last: until then the folder is still the other node's, also after a power
    // loss, so that each is synced before the next.
    HISTORY.iter().rev().try_for_each(|part| move_part(part, path, aside))
}

/// Moves another node's history out of the way.
fn set_aside(path: &Path, found: &Identity) -> io::Result<()> {
    let aside = aside_of(path, found)?;
    move_history(path, &aside)?;
    tracing::warn!(
        cluster = found.cluster, node = found.node, kept = %aside.display(),
        "the data folder is another node's; set aside, and begun anew"
    );
    Ok(())
}

/// A history that was to be set aside is this node's after all: half of it would be worse than none, for
/// a node that forgot what it acknowledged goes on as if it had not (no-lost-ack).
fn put_back(path: &Path, found: &Identity) -> io::Result<()> {
    let Some(aside) = unfinished(path, found)? else { return Ok(()) };
    for part in HISTORY {
        move_part(part, &aside, path)?;
    }
    tracing::warn!(from = %aside.display(), "the node's own history was half set aside; it is back");
    fs::remove_dir(&aside)
}

/// Durably; what is not there is no part to move.
fn move_part(part: &str, from: &Path, to: &Path) -> io::Result<()> {
    if from.join(part).exists() {
        fs::rename(from.join(part), to.join(part))?;
        durable::sync_folder(to)?;
        durable::sync_folder(from)?;
    }
    Ok(())
}

fn next_boot(path: &Path) -> io::Result<Boot> {
    let file = path.join("boot");
    let last = match fs::read_to_string(&file) {
        Ok(text) => text.trim().parse::<u64>().map_err(|error| {
            io::Error::new(io::ErrorKind::InvalidData, format!("boot counter {text:?}: {error}"))
        })?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
        Err(error) => return Err(error),
    };
    // Rule 5: transactions are known by node, boot and sequence. A node whose folder was lost must not
    // use again what it used before, so that the first boot of a folder is the time, in seconds.
    let now = unix_seconds();
    let boot = (last + 1).max(now);
    durable::write(&file, format!("{boot}\n").as_bytes())?;
    Ok(Boot(boot))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_has_a_number_of_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let first = DataFolder::open(folder.path(), "c", 1).unwrap();
        let Boot(number) = first.boot();
        assert!(number > 1_700_000_000, "not that of an earlier folder of this node (Rule 5)");
        assert!(matches!(DataFolder::open(folder.path(), "c", 1), Err(DataFolderError::InUse(_))));
        assert!(!DataFolder::holder_is_dead(folder.path()), "it is this process");
        drop(first);
        assert!(DataFolder::open(folder.path(), "c", 1).unwrap().boot() > Boot(number));
    }

    #[test]
    fn a_process_at_its_end_is_known() {
        assert!(is_exiting("7 (a) name) D 1 7 7 0 -1 4194564 0 0"));
        assert!(!is_exiting("7 (a) name) S 1 7 7 0 -1 4194560 0 0"));
        assert!(!is_exiting(""));
    }

    #[test]
    fn another_nodes_folder_is_set_aside() {
        let folder = tempfile::tempdir().unwrap();
        drop(DataFolder::open(folder.path(), "old", 7).unwrap());
        fs::write(folder.path().join("dbs/precious"), b"bytes").unwrap();
        let mine = DataFolder::open(folder.path(), "new", 1).unwrap();
        assert!(!mine.part("dbs").join("precious").exists());
        let aside = fs::read_dir(mine.part("aside")).unwrap().next().unwrap().unwrap().path();
        assert_eq!(fs::read(aside.join("dbs/precious")).unwrap(), b"bytes");
        assert!(aside.file_name().unwrap().to_str().unwrap().starts_with("old-7-"));
    }

    /// nothing-discarded, no-lost-ack: a power loss in between leaves it to be ended, or undone.
    #[test]
    fn what_was_half_set_aside_is_whole_again() {
        for wanted in ["old", "new"] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path();
            drop(DataFolder::open(path, "old", 7).unwrap());
            fs::write(path.join("dbs/precious"), b"bytes").unwrap();
            fs::create_dir(path.join("aside/old-7-5")).unwrap();
            fs::rename(path.join("dbs"), path.join("aside/old-7-5/dbs")).unwrap();
            drop(DataFolder::open(path, wanted, 7).unwrap());
            let aside = path.join("aside/old-7-5");
            let at = if wanted == "old" { path } else { &aside };
            assert_eq!(fs::read(at.join("dbs/precious")).unwrap(), b"bytes");
            assert!(at.join("identity").exists() && at.join("raft").exists());
            assert_eq!(path.join("dbs/precious").exists(), wanted == "old");
        }
    }

    #[test]
    fn an_unreadable_identity_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("identity"), b"{").unwrap();
        assert!(matches!(
            DataFolder::open(folder.path(), "c", 1),
            Err(DataFolderError::Identity { .. })
        ));
    }
}
