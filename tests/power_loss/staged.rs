//! Staged files: what is said to be there is whole, and stays.

use std::collections::{BTreeMap, HashSet};
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use litefs_py::raft::{StagedFiles, StagedFolder, StagedName, stage};
use sha2::{Digest, Sha256};

use crate::cuts::{Effort, Notes, Subject, everywhere};

/// no-lost-ack, Rule 19: a log entry that names a file is acknowledged when the file is "there".
#[test]
fn staged_files_survive_a_cut_at_every_operation() {
    everywhere("staged", &Staged, Effort::asked(1, 5));
}

#[derive(Clone)]
enum Note {
    /// It was said to be there.
    There(usize),
    /// From now on it may go.
    Unnamed(usize),
}

struct Staged;

/// The files that are staged, by number.
fn content(number: usize) -> Vec<u8> {
    (0..[10, 3000, 512, 70_000, 1, 5000, 40_000, 2, 900][number % 9])
        .map(|at| (at / 7 + number * 13) as u8)
        .collect()
}

fn open(folder: &Path) -> Arc<dyn StagedFiles> {
    Arc::new(StagedFolder::open(&folder.join("staged")).expect("it opens").keeping(Duration::ZERO))
}

fn put(files: &Arc<dyn StagedFiles>, number: usize, notes: &mut dyn FnMut(Note)) -> StagedName {
    let name = stage(files, &content(number)).unwrap();
    assert!(files.has(name.sha256, name.len));
    notes(Note::There(number));
    name
}

impl Subject for Staged {
    type Note = Note;

    fn work(&self, folder: &Path, notes: Notes<'_, Note>) {
        // The node makes the folder, durably.
        std::fs::create_dir(folder.join("staged")).unwrap();
        std::fs::File::open(folder).unwrap().sync_all().unwrap();
        let files = open(folder);
        let names: Vec<_> = (0..4).map(|number| put(&files, number, notes)).collect();
        notes(Note::Unnamed(1));
        let named = [0, 2, 3].map(|number| names[number].sha256);
        files.remove_unreferenced(&HashSet::from(named)).unwrap();
        // It comes again; and one that is there already.
        put(&files, 1, notes);
        put(&files, 0, notes);
        put(&files, 4, notes);
    }

    fn start(&self, folder: &Path, known: &[Note], go_on: Option<Notes<'_, Note>>) {
        if !folder.join("staged").exists() {
            assert!(known.is_empty());
            return;
        }
        // As the node's data folder does at each start.
        std::fs::File::open(folder).unwrap().sync_all().unwrap();
        let files = open(folder);
        let mut there = BTreeMap::new();
        for note in known {
            match note {
                Note::There(number) => there.insert(*number, true),
                Note::Unnamed(number) => there.insert(*number, false),
            };
        }
        for number in 0..9 {
            let bytes = content(number);
            let name = stage_name(&bytes);
            let has = files.has(name.sha256, name.len);
            let named = there.get(&number).copied().unwrap_or(false);
            assert!(has || !named, "file {number} is gone");
            if has {
                let mut found = Vec::new();
                files.open(name.sha256).unwrap().read_to_end(&mut found).unwrap();
                assert!(found == bytes, "file {number} is torn");
            }
        }
        if let Some(notes) = go_on {
            // What is there is taken for good: an entry may name it now.
            for number in 0..9 {
                let name = stage_name(&content(number));
                if files.has(name.sha256, name.len) {
                    notes(Note::There(number));
                }
            }
            // Or is the last that happens.
            for number in [1, 5, 6].into_iter().filter(|_| known.len().is_multiple_of(2)) {
                put(&files, number, notes);
            }
        }
    }
}

fn stage_name(bytes: &[u8]) -> StagedName {
    StagedName { sha256: Sha256::digest(bytes).into(), len: bytes.len() as u64 }
}
