//! The one flat folder: looking up, listing, unlinking, and what it refuses.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::sync::{Arc, Mutex, PoisonError};

use fuser::{
    Errno, FileHandle, FileType, FopenFlags, INodeNo, ReplyDirectory, ReplyEmpty, ReplyEntry,
    ReplyOpen,
};

use super::caching::NEVER;
use super::filesystem::Shared;
use super::inodes::{GENERATION, Inode};
use super::locks::done;
use super::names::{BadName, Name, Part, Special};
use super::tree::Known;
use super::{names, process, special};
use crate::core::{NameError, Position};

struct Entry {
    inode: INodeNo,
    kind: FileType,
    name: String,
}

/// What each open folder showed when it was opened: a listing that goes on does not shift.
#[derive(Default)]
pub(super) struct Listings(Mutex<HashMap<u64, Arc<Vec<Entry>>>>);

/// The errno for a name that cannot be.
pub(super) fn refusal(why: &BadName) -> Errno {
    match why {
        BadName::Name(NameError::TooLong(_)) => Errno::ENAMETOOLONG,
        BadName::Encoding => Errno::EINVAL,
        BadName::SuperJournal | BadName::Name(_) => Errno::EPERM,
    }
}

/// Programs that remove a file because they put, or have put, a copy of its bytes elsewhere.
const COPIERS: [&str; 3] = ["mv", "cp", "install"];
const COPIED: &str = "the bytes of one file are not the database, and its removal would be one on all \
                      nodes; use SQLite's .backup, .restore or VACUUM INTO, and rm to delete it";

/// `mv` into or out of the mount first tries rename(2), which the kernel itself answers (EXDEV), and
/// then copies and unlinks: the unlink is the first that is seen here.
fn is_copier(thread: u32) -> bool {
    process::program_of(thread).is_some_and(|program| COPIERS.contains(&program.as_str()))
}

impl Shared {
    pub(super) fn lookup(&self, name: &OsStr, reply: ReplyEntry) {
        let found = match names::parse(name) {
            Ok(Name::Special(which)) => self
                .ownership
                .special(which, &self.tree)
                .map(|attributes| (attributes, NEVER, None)),
            Ok(Name::File(base, part)) => self
                .tree
                .find(&base)
                .filter(|known| self.is_there(known, part))
                .ok_or(Errno::ENOENT)
                .and_then(|known| {
                    let attributes = self.ownership.part(&known, part, &self.tree)?;
                    // Another node may have deleted the name: it is looked up each time.
                    Ok((attributes, NEVER, Some(known)))
                }),
            Err(why @ BadName::Name(NameError::TooLong(_))) => {
                self.refusals.log("a name that is too long", &name, &why);
                Err(refusal(&why))
            }
            Err(_) => Err(Errno::ENOENT),
        };
        match found {
            Ok((attributes, ttl, known)) => {
                if let Some(known) = known {
                    known.refer();
                }
                reply.entry(&ttl, &attributes, GENERATION);
            }
            Err(error) => reply.error(error),
        }
    }

    /// A shm that has to be opened through the mount is there as soon as its database is:
    /// [`shm`](super::shm) says why.
    fn is_there(&self, known: &Known, part: Part) -> bool {
        match part.file() {
            Some(kind) => {
                part == Part::Database
                    || (part == Part::Shm && !self.passthrough())
                    || known.files.exists(kind)
            }
            None => true,
        }
    }

    pub(super) fn open_folder(&self, reply: ReplyOpen) {
        let handle = self.next_handle();
        let listing = Arc::new(self.list());
        self.listings.0.lock().unwrap_or_else(PoisonError::into_inner).insert(handle.0, listing);
        reply.opened(handle, FopenFlags::empty());
    }

    fn list(&self) -> Vec<Entry> {
        let folder = |name: &str| Entry {
            inode: INodeNo::ROOT,
            kind: FileType::Directory,
            name: name.to_owned(),
        };
        let mut entries = vec![folder("."), folder("..")];
        let mut add = |inode: Inode, name: String| {
            if let Some(inode) = inode.number() {
                entries.push(Entry { inode, kind: FileType::RegularFile, name });
            }
        };
        for which in Special::ALL {
            if special::content(which, self.tree.databases.as_ref()).is_some() {
                add(Inode::Special(which), which.name().to_owned());
            }
        }
        for files in self.tree.databases.list() {
            let (name, slot) = (files.name(), files.slot());
            for part in Part::ALL {
                if part.file().is_none_or(|kind| part == Part::Database || files.exists(kind)) {
                    add(Inode::Part { slot, part }, format!("{name}{}", part.suffix()));
                }
            }
        }
        entries
    }

    /// `offset`: how many entries were given already.
    pub(super) fn read_folder(&self, handle: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let listing = {
            let listings = self.listings.0.lock().unwrap_or_else(PoisonError::into_inner);
            listings.get(&handle.0).cloned()
        };
        let Some(listing) = listing else { return reply.error(Errno::EBADF) };
        let given = usize::try_from(offset).unwrap_or(usize::MAX);
        for (entry, next) in listing.iter().zip(1..).skip(given) {
            if reply.add(entry.inode, next, entry.kind, &entry.name) {
                break;
            }
        }
        reply.ok();
    }

    pub(super) fn close_folder(&self, handle: FileHandle, reply: ReplyEmpty) {
        self.listings.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&handle.0);
        reply.ok();
    }

    /// Unlinking a journal is a commit point: the write path answers.
    pub(super) fn unlink(&self, thread: u32, name: &OsStr, reply: ReplyEmpty) {
        let Ok(Name::File(base, part)) = names::parse(name) else {
            return self.refuse("unlink", &name, "the mount makes this file itself", reply);
        };
        let Some(known) = self.tree.find(&base) else { return reply.error(Errno::ENOENT) };
        match (part, part.file()) {
            (Part::Database, _)
                if is_copier(thread) && known.files.position() != Position::EMPTY =>
            {
                self.refuse("unlink by a program that copies files", &name, COPIED, reply);
            }
            (Part::Database, _) => {
                self.tree.databases.unlink(&base, Box::new(|result| done(result, reply)));
            }
            (Part::Journal | Part::Wal, Some(kind)) if known.files.exists(kind) => {
                let process = process::of_thread(thread);
                known.files.unlink_file(kind, process, Box::new(|result| done(result, reply)));
            }
            (Part::Journal | Part::Wal, _) => reply.error(Errno::ENOENT),
            // Rule 3: the daemon alone makes and ends wal-indexes.
            (Part::Shm, _) => {
                self.refuse("unlink of a shm", &name, "the daemon keeps it while it runs", reply);
            }
            (Part::Position, _) => {
                self.refuse("unlink", &name, "the mount makes this file itself", reply);
            }
        }
    }

    /// Says why something cannot be done here, and answers EPERM.
    pub(super) fn refuse(
        &self,
        what: &'static str,
        on: &dyn std::fmt::Debug,
        why: &str,
        reply: ReplyEmpty,
    ) {
        self.refusals.log(what, on, &why);
        reply.error(Errno::EPERM);
    }

    /// The same for what would have made an entry.
    pub(super) fn refuse_entry(
        &self,
        what: &'static str,
        on: &dyn std::fmt::Debug,
        why: &str,
        reply: ReplyEntry,
    ) {
        self.refusals.log(what, on, &why);
        reply.error(Errno::EPERM);
    }
}
