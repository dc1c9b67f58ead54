//! The data folder: identity, boot number, and another node's history set aside.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use litefs_py::core::Boot;
use litefs_py::node::{DataFolder, DataFolderError};

use crate::cuts::{Effort, Notes, Subject, everywhere};

/// nothing-discarded, Rule 5: no boot number comes twice, no other node's history is taken for one's own,
/// and none is torn apart.
#[test]
fn the_data_folder_survives_a_cut_at_every_operation() {
    everywhere("folder", &Node, Effort::asked(1, 5));
}

#[derive(Clone)]
enum Note {
    Boot(&'static str, Boot),
    /// The node's history is there, durably.
    Written,
    /// From now on the folder is to be another node's.
    Other,
    /// And that one has begun.
    Begun,
}

const SOON: Duration = Duration::from_secs(10);

const PARTS: [&str; 3] = ["dbs", "raft", "staged"];

struct Node;

/// In a folder that is not there either.
fn data(folder: &Path) -> PathBuf {
    folder.join("var/data")
}

fn open(folder: &Path, cluster: &'static str, notes: &mut dyn FnMut(Note)) -> DataFolder {
    let deadline = Instant::now() + SOON;
    let opened = loop {
        match DataFolder::open(&data(folder), cluster, 7) {
            // Another test's child has the lock's file for the moment between fork and exec.
            Err(DataFolderError::InUse(_)) if Instant::now() < deadline => std::thread::yield_now(),
            opened => break opened.expect("it opens"),
        }
    };
    notes(Note::Boot(cluster, opened.boot()));
    opened
}

fn put(path: &Path, bytes: &[u8]) {
    fs::write(path, bytes).unwrap();
    File::open(path).unwrap().sync_all().unwrap();
    File::open(path.parent().unwrap()).unwrap().sync_all().unwrap();
}

/// How many of the first node's parts are in a folder.
fn count(folder: &Path) -> usize {
    let is_there = |part: &&&str| {
        fs::read(folder.join(part).join("precious")).is_ok_and(|bytes| bytes == part.as_bytes())
    };
    PARTS.iter().filter(is_there).count()
}

impl Subject for Node {
    type Note = Note;

    fn work(&self, folder: &Path, notes: Notes<'_, Note>) {
        drop(open(folder, "old", notes));
        let opened = open(folder, "old", notes);
        for part in PARTS {
            put(&opened.part(part).join("precious"), part.as_bytes());
        }
        notes(Note::Written);
        drop(opened);
        notes(Note::Other);
        drop(open(folder, "new", notes));
        notes(Note::Begun);
        drop(open(folder, "new", notes));
    }

    fn start(&self, folder: &Path, known: &[Note], go_on: Option<Notes<'_, Note>>) {
        let mut last = BTreeMap::new();
        let (mut written, mut other, mut begun) = (false, false, false);
        for note in known {
            match note {
                Note::Boot(cluster, boot) => drop(last.insert(*cluster, *boot)),
                Note::Written => written = true,
                Note::Other => other = true,
                Note::Begun => begun = true,
            }
        }
        let goes_on = go_on.is_some();
        let mut nobody = |_| {};
        let notes = go_on.unwrap_or(&mut nobody);
        // Whoever configured the other node may think better of it.
        let back = other && !begun && known.len().is_multiple_of(2) != goes_on;
        let cluster = if other && !back { "new" } else { "old" };
        let opened = open(folder, cluster, notes);
        let here = count(&data(folder));
        // A folder that begins anew counts from the time on, in seconds; here that may be the same one.
        let last = last.get(cluster).copied().filter(|_| cluster == "new" || here > 0 || !other);
        assert!(Some(opened.boot()) > last, "boot number {:?} after {last:?}", opened.boot());
        let asides = fs::read_dir(opened.part("aside")).unwrap();
        let asides: Vec<PathBuf> = asides.map(|entry| entry.unwrap().path()).collect();
        let aside: Vec<usize> = asides.iter().map(|aside| count(aside)).collect();
        if cluster == "new" {
            assert_eq!(here, 0, "the other node's history is taken for this one's");
        }
        if written {
            let whole = aside.iter().filter(|count| **count == PARTS.len()).count();
            assert_eq!(usize::from(here == PARTS.len()) + whole, 1, "{here} here, {aside:?} aside");
            assert_eq!(here + aside.iter().sum::<usize>(), PARTS.len());
        }
        if goes_on && cluster == "new" {
            notes(Note::Begun);
        }
        drop(opened);
        if goes_on {
            drop(open(folder, cluster, notes));
        }
    }
}
