//! A snapshot: the state as of an entry, and each of its databases as of that entry or later.

use std::fs::File;
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::pages::ReceivedPages;
use super::replica::{Content, IncomingDatabase, Replica};
use crate::cluster::State;
use crate::core::{DatabaseName, Incarnation, Position};

/// What openraft passes between its parts as a snapshot.
pub(super) struct SnapshotData {
    pub state: Arc<State>,
    source: Source,
}

enum Source {
    /// This node's own.
    Live(Arc<dyn Replica>),
    /// From another node.
    Received {
        databases: Vec<Received>,
        /// Their files live as long as this.
        _spool: Spool,
    },
}

/// A database of a snapshot, before its bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct DatabaseHeader {
    pub name: DatabaseName,
    pub incarnation: Incarnation,
    pub index: u64,
}

impl DatabaseHeader {
    /// The same database, as of that entry or a later one.
    pub fn is_later_than(&self, wanted: &Self) -> bool {
        self.name == wanted.name
            && self.incarnation == wanted.incarnation
            && self.index >= wanted.index
    }
}

/// A database that came, and where its bytes lie.
pub(super) struct Received {
    pub header: DatabaseHeader,
    pub content: ReceivedContent,
}

pub(super) enum ReceivedContent {
    /// As LTX, in the spool.
    Ltx(PathBuf),
    Pages(Arc<ReceivedPages>),
    /// It is here already.
    Here(Position),
}

impl SnapshotData {
    pub fn live(state: Arc<State>, replica: Arc<dyn Replica>) -> Self {
        Self { state, source: Source::Live(replica) }
    }

    pub fn received(state: State, spool: Spool, databases: Vec<Received>) -> Self {
        Self { state: Arc::new(state), source: Source::Received { databases, _spool: spool } }
    }

    /// Whose databases they are, if they are this node's own.
    pub fn live_replica(&self) -> Option<&Arc<dyn Replica>> {
        match &self.source {
            Source::Live(replica) => Some(replica),
            Source::Received { .. } => None,
        }
    }

    /// The databases, each opened when it is its turn. May block.
    pub fn databases(
        &self,
    ) -> io::Result<Box<dyn Iterator<Item = io::Result<IncomingDatabase>> + '_>> {
        match &self.source {
            Source::Live(replica) => {
                let databases = replica.databases_for_snapshot(&self.state)?;
                Ok(Box::new(databases.into_iter().map(|database| {
                    Ok(IncomingDatabase {
                        name: database.name,
                        incarnation: database.incarnation,
                        index: database.index,
                        content: Content::Ltx(database.reader),
                    })
                })))
            }
            Source::Received { databases, .. } => Ok(Box::new(databases.iter().map(|received| {
                let header = received.header.clone();
                let content = match &received.content {
                    ReceivedContent::Ltx(path) => {
                        Content::Ltx(Box::new(BufReader::new(File::open(path)?)))
                    }
                    ReceivedContent::Pages(pages) => Content::Pages(Arc::clone(pages)),
                    ReceivedContent::Here(at) => Content::Here(*at),
                };
                Ok(IncomingDatabase {
                    name: header.name,
                    incarnation: header.incarnation,
                    index: header.index,
                    content,
                })
            }))),
        }
    }
}

/// A folder for what is being received; gone with its last use.
pub(super) struct Spool(PathBuf);

/// How the folders' names begin.
const SPOOL: &str = "incoming-";

impl Spool {
    pub fn new(folder: &Path, number: u64) -> io::Result<Self> {
        let path = folder.join(format!("{SPOOL}{number}"));
        std::fs::create_dir(&path)?;
        Ok(Self(path))
    }

    pub fn path(&self, item: u64) -> PathBuf {
        self.0.join(item.to_string())
    }

    /// Removes what an earlier life of the process left.
    pub fn clean(folder: &Path) -> io::Result<()> {
        for entry in std::fs::read_dir(folder)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with(SPOOL) {
                std::fs::remove_dir_all(entry.path())?;
            }
        }
        Ok(())
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
