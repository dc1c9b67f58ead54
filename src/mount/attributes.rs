//! Owner, mode, size and times of the files, and what `chmod` and its like may ask.

use std::time::SystemTime;

use fuser::{Errno, FileAttr, FileType, INodeNo};

use super::inodes::Inode;
use super::names::{Part, Special};
use super::special;
use super::tree::{Known, Tree};

/// In bytes; what SQLite and `cp` take as the best size of a read.
const BLOCK: u32 = 4096;
/// `st_blocks` counts these, whatever the block size is (stat(2)).
const SECTOR: u64 = 512;
const READ_BITS: u16 = 0o444;

/// Who owns the files and what they allow: by setting, alike for all. The kernel checks them
/// (`default_permissions`).
#[derive(Debug, Clone, Copy)]
pub(super) struct Ownership {
    pub(super) owner: u32,
    pub(super) group: u32,
    /// Of the database files; the folder may also be entered by whoever may read them.
    pub(super) mode: u16,
    /// Of what does not change in the mount's life.
    pub(super) since: SystemTime,
}

impl Ownership {
    pub(super) fn folder(&self) -> FileAttr {
        let enter = (self.mode & READ_BITS) >> 2;
        FileAttr {
            kind: FileType::Directory,
            nlink: 2,
            ..self.attributes(INodeNo::ROOT, self.mode | enter, 0, self.since)
        }
    }

    pub(super) fn special(&self, which: Special, tree: &Tree) -> Result<FileAttr, Errno> {
        let number = Inode::Special(which).number().ok_or(Errno::EOVERFLOW)?;
        let content = special::content(which, tree.databases.as_ref()).ok_or(Errno::ENOENT)?;
        Ok(self.attributes(number, self.mode & READ_BITS, len(&content), SystemTime::now()))
    }

    /// What was removed and is still open somewhere has no link: SQLite looks for that, and the
    /// kernel forgets it with the last close.
    pub(super) fn part(&self, known: &Known, part: Part, tree: &Tree) -> Result<FileAttr, Errno> {
        let inode = Inode::Part { slot: known.slot, part };
        let number = inode.number().ok_or(Errno::EOVERFLOW)?;
        // The mount itself promises the shm, where the daemon opens it through the mount.
        let promised = matches!(part, Part::Shm | Part::Position);
        let there = part.file().is_some_and(|kind| known.files.exists(kind));
        let perm = if part.file().is_some() { self.mode } else { self.mode & READ_BITS };
        let size = match part.file() {
            Some(kind) if there => known.files.size(kind).map_err(|e| Errno::from_i32(e.0))?,
            Some(_) => 0,
            None => len(&special::position(known)),
        };
        let nlink = u32::from((there || promised) && tree.is_current(known));
        Ok(FileAttr { nlink, ..self.attributes(number, perm, size, known.modified()) })
    }

    /// Whether a change of mode or owner would change nothing. SQLite, run by root, gives each
    /// journal and WAL the owner of its database: that is what they have here.
    pub(super) fn is_already(
        self,
        attributes: &FileAttr,
        mode: Option<u32>,
        owner: Option<u32>,
        group: Option<u32>,
    ) -> bool {
        mode.is_none_or(|m| m & 0o7777 == u32::from(attributes.perm))
            && owner.is_none_or(|o| o == self.owner)
            && group.is_none_or(|g| g == self.group)
    }

    fn attributes(&self, ino: INodeNo, perm: u16, size: u64, modified: SystemTime) -> FileAttr {
        FileAttr {
            ino,
            size,
            blocks: size.div_ceil(SECTOR),
            atime: modified,
            mtime: modified,
            ctime: modified,
            crtime: self.since,
            kind: FileType::RegularFile,
            perm,
            nlink: 1,
            uid: self.owner,
            gid: self.group,
            rdev: 0,
            blksize: BLOCK,
            flags: 0,
        }
    }
}

fn len(text: &str) -> u64 {
    u64::try_from(text.len()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ownership(mode: u16) -> Ownership {
        Ownership { owner: 7, group: 8, mode, since: SystemTime::UNIX_EPOCH }
    }

    #[test]
    fn the_folder_is_entered_by_whoever_may_read() {
        assert_eq!(ownership(0o660).folder().perm, 0o770);
        assert_eq!(ownership(0o640).folder().perm, 0o750);
        assert_eq!(ownership(0o664).folder().perm, 0o775);
    }

    #[test]
    fn only_a_change_that_changes_nothing_is_accepted() {
        let ownership = ownership(0o660);
        let file = ownership.attributes(INodeNo(20), 0o660, 0, SystemTime::UNIX_EPOCH);
        assert!(ownership.is_already(&file, Some(0o100_660), Some(7), Some(8)));
        assert!(ownership.is_already(&file, None, None, None));
        assert!(!ownership.is_already(&file, Some(0o644), None, None));
        assert!(!ownership.is_already(&file, None, Some(0), None));
        assert!(!ownership.is_already(&file, None, None, Some(0)));
    }
}
