//! A loss of power: what was not synced is undone, but for what the seed keeps.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::{Change, Disk, DiskCounts, Name, What};
use crate::os::Chance;

const SECTOR: usize = 512;

impl Disk {
    /// The node's power is gone: what was not synced may be.
    pub fn power_loss(&mut self, node: usize, chance: &mut Chance) {
        self.quiet = true;
        let numbers: Vec<u64> =
            self.files.iter().filter(|(_, file)| file.node == node).map(|(n, _)| *n).collect();
        // By number, to find them by name.
        let mut paths = BTreeMap::new();
        find(&self.base.join(format!("n{node}")), &mut paths);
        find(&self.base.join("graves"), &mut paths);
        let mood = chance.below(4);
        for number in numbers {
            let Some(tracked) = self.files.get_mut(&number) else { continue };
            let changes = std::mem::take(&mut tracked.changes);
            tracked.durable += changes.len();
            if let Some(path) = paths.get(&number)
                && !changes.is_empty()
            {
                if self.tells {
                    crate::say(&format!("    {} changes of {}", changes.len(), path.display()));
                }
                forget_some(path, &changes, mood, chance, &mut self.counts);
            }
        }
        let (mine, others): (Vec<Name>, Vec<Name>) =
            std::mem::take(&mut self.names).into_iter().partition(|name| name.node == node);
        self.names = others;
        let kept = match mood {
            0 => 0,
            1 => mine.len(),
            _ => chance.below(mine.len() as u64 + 1) as usize,
        };
        for name in mine.into_iter().skip(kept).rev() {
            self.counts.lost_names += 1;
            if self.tells {
                crate::say(&format!("    lost: {:?}, unsynced {:?}", name.what, name.folders));
            }
            match name.what {
                What::Create(path) => {
                    let _gone = std::fs::remove_file(path);
                }
                What::Folder(path) => {
                    let _gone = std::fs::remove_dir_all(path);
                }
                What::Rename { from, to, saved } => {
                    let _back = std::fs::rename(&to, &from);
                    if let Some(saved) = saved {
                        let _back = std::fs::rename(saved, &to);
                    }
                }
                What::Unlink { path, saved } => {
                    let _back = std::fs::rename(saved, path);
                }
            }
        }
        self.quiet = false;
    }
}

fn find(folder: &Path, paths: &mut BTreeMap<u64, PathBuf>) {
    use std::os::unix::fs::MetadataExt;
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let Ok(meta) = entry.metadata() else { continue };
        if meta.is_dir() {
            find(&entry.path(), paths);
        } else {
            paths.insert(meta.ino(), entry.path());
        }
    }
}

/// Undoes all changes, and does again those that the seed keeps.
fn forget_some(
    path: &Path,
    changes: &[Change],
    mood: u64,
    chance: &mut Chance,
    counts: &mut DiskCounts,
) {
    let Ok(mut bytes) = std::fs::read(path) else { return };
    for change in changes.iter().rev() {
        match change {
            Change::Write { offset, old, old_len, .. } => {
                let at = *offset as usize;
                let end = (at + old.len()).min(bytes.len());
                if at < end {
                    bytes[at..end].copy_from_slice(&old[..end - at]);
                }
                bytes.resize(*old_len as usize, 0);
            }
            Change::Length { old_len, tail, new_len } => {
                bytes.resize(*old_len as usize, 0);
                if new_len < old_len {
                    let at = *new_len as usize;
                    bytes[at..at + tail.len()].copy_from_slice(tail);
                }
            }
        }
    }
    for change in changes {
        // All, none, or some.
        let kept = match mood {
            0 => false,
            1 => true,
            _ => chance.one_in(2),
        };
        match change {
            Change::Write { offset, new, .. } => {
                if !kept {
                    counts.lost_writes += 1;
                    continue;
                }
                let torn = mood == 3 && chance.one_in(3) && new.len() > SECTOR;
                counts.torn_writes += u64::from(torn);
                let at = *offset as usize;
                if bytes.len() < at + new.len() {
                    bytes.resize(at + new.len(), 0);
                }
                for (number, part) in new.chunks(SECTOR).enumerate() {
                    if !torn || chance.one_in(2) {
                        let at = at + number * SECTOR;
                        bytes[at..at + part.len()].copy_from_slice(part);
                    }
                }
            }
            Change::Length { new_len, .. } if kept => bytes.resize(*new_len as usize, 0),
            Change::Length { .. } => counts.lost_writes += 1,
        }
    }
    let _written = std::fs::write(path, bytes);
}
