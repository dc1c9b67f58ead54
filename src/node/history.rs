//! Who led when: kept in one small file of the data folder, over restarts.
//!
//! One line of JSON for each change, the newest last, and only so many. The file is replaced as a
//! whole, so that none is torn; a line that cannot be read all the same is left out, for nothing is
//! decided by it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::core::history::LeaderChange;
use crate::store::durable;

/// Changes that are kept: some 100 KB.
const MOST: usize = 500;

#[derive(Debug, Clone)]
pub struct History {
    path: PathBuf,
    /// By term, ascending.
    changes: Vec<LeaderChange>,
}

impl History {
    /// What the file holds; nothing, if there is none.
    pub fn open(path: PathBuf) -> Self {
        let lines = match fs::read(&path) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(error) => {
                if error.kind() != io::ErrorKind::NotFound {
                    tracing::warn!(path = %path.display(), %error, "the history cannot be read");
                }
                String::new()
            }
        };
        let changes = lines.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let mut history = Self { path, changes };
        history.tidy();
        history
    }

    pub fn changes(&self) -> &[LeaderChange] {
        &self.changes
    }

    pub fn last(&self) -> Option<&LeaderChange> {
        self.changes.last()
    }

    /// Takes note of what this node saw, or what another tells: what is missing here, and what is told by
    /// who knows better. Nodes that have told each other everything have the same. Whether anything is new.
    pub fn learn(&mut self, told: Vec<LeaderChange>) -> bool {
        let before = self.changes.clone();
        for change in told {
            match self.changes.iter_mut().find(|known| known.term == change.term) {
                Some(known) if is_better(&change, known) => *known = change,
                Some(_) => {}
                None => self.changes.push(change),
            }
        }
        self.tidy();
        self.changes != before
    }

    fn tidy(&mut self) {
        self.changes.sort_by_key(|change| change.term);
        self.changes.dedup_by_key(|change| change.term);
        self.changes.drain(..self.changes.len().saturating_sub(MOST));
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Replaces the file.
    ///
    /// # Errors
    /// The disk.
    pub fn write(&self) -> io::Result<()> {
        let mut bytes = Vec::new();
        for change in &self.changes {
            serde_json::to_writer(&mut bytes, change)?;
            bytes.push(b'\n');
        }
        durable::write(&self.path, &bytes)
    }
}

/// Who took office knows; of two others, all believe the same one.
fn is_better(change: &LeaderChange, than: &LeaderChange) -> bool {
    let rank = |change: &LeaderChange| (!change.is_first_hand(), change.told_by.clone());
    rank(change) < rank(than)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::history::Cause;

    fn change(term: u64, leader: &str, told_by: &str, cause: Cause) -> LeaderChange {
        LeaderChange {
            term,
            leader: leader.to_owned(),
            since_ms: 0,
            before: None,
            cause,
            asked: None,
            without_leader_ms: None,
            told_by: told_by.to_owned(),
        }
    }

    #[test]
    fn it_is_kept_without_what_is_torn_and_without_growing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("history");
        let mut history = History::open(path.clone());
        for term in 1..=600 {
            assert!(history.learn(vec![change(term, "n1", "n1", Cause::Died)]));
        }
        let twice = vec![change(600, "n2", "n2", Cause::First)];
        assert!(!history.learn(twice), "one leader a term");
        history.write().unwrap();
        let mut text = fs::read_to_string(&path).unwrap();
        assert_eq!(text.lines().count(), MOST);
        text.truncate(text.len() - 20);
        text.insert_str(0, "\u{0}garbage\n");
        fs::write(&path, text).unwrap();
        let history = History::open(path);
        assert_eq!(history.changes().len(), MOST - 1);
        assert_eq!(history.changes()[0].term, 101);
        assert_eq!(history.last().unwrap().term, 599);
    }

    #[test]
    fn whoever_took_office_is_believed() {
        let folder = tempfile::tempdir().unwrap();
        let mut history = History::open(folder.path().join("history"));
        history.learn(vec![change(3, "n2", "n1", Cause::NoQuorum)]);
        history.learn(vec![change(4, "n1", "n1", Cause::Died)]);
        let told = vec![
            change(1, "n1", "n1", Cause::First),
            change(3, "n2", "n2", Cause::Silent),
            change(4, "n1", "n2", Cause::Unseen),
        ];
        assert!(history.learn(told.clone()));
        let causes: Vec<_> = history.changes().iter().map(|change| change.cause).collect();
        assert_eq!(causes, [Cause::First, Cause::Silent, Cause::Died]);
        assert!(!history.learn(told));
        // Neither was there: the same one is believed everywhere.
        let (one, other) =
            (change(9, "n3", "n1", Cause::Died), change(9, "n3", "n2", Cause::Silent));
        for (here, there) in [(&one, &other), (&other, &one)] {
            let mut history = history.clone();
            history.learn(vec![here.clone()]);
            history.learn(vec![there.clone()]);
            assert_eq!(history.last(), Some(&one));
        }
    }
}
