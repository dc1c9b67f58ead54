//! A disk that forgets: what a file system may leave of a folder tree when the power goes.
//!
//! The model is as harsh as POSIX allows a journaling file system to be:
//! - Bytes, and the length of a file, are durable after a sync of that file. Before it each write and
//!   each change of length may be kept, dropped or torn by sectors, in any order.
//! - A name is durable after a sync of its folder; a sync of the file does not make it so. Before it
//!   each change of names may be kept or dropped. Only changes of the same name or of the same file
//!   keep their order, and a rename happens in both folders or in neither.
//! - After a sync that failed, the bytes can still be read and count as written (as Linux leaves them
//!   in its page cache, marked clean), but no later sync makes them durable unless they are written
//!   again.
//!
//! Pure: no I/O. Everything that changes a disk is an [`Op`], so that a run can be recorded once and
//! cut after each of its operations.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

#[cfg(test)]
mod tests;

/// What a disk can tear apart.
pub const SECTOR: usize = 512;

/// A file or a folder. Never used twice.
pub type Node = usize;

/// The folder that all others are in.
pub const ROOT: Node = 0;

/// One operation that changes the disk.
#[derive(Debug, Clone)]
pub enum Op {
    /// A new file or folder, of the next number, and its name.
    Make {
        folder: Node,
        name: String,
        is_folder: bool,
    },
    Remove {
        folder: Node,
        name: String,
    },
    Rename {
        folder: Node,
        name: String,
        to_folder: Node,
        to_name: String,
    },
    Write {
        file: Node,
        offset: usize,
        bytes: Arc<[u8]>,
    },
    /// Cuts, or adds zeros.
    Length {
        file: Node,
        len: usize,
    },
    /// Makes a file's bytes durable, or a folder's names.
    Sync {
        node: Node,
    },
    /// A sync of a file that answers EIO: of what it was to write some sectors are durable, by this seed.
    FailedSync {
        file: Node,
        seed: u64,
    },
}

/// What a power loss leaves of what was not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tear {
    Nothing,
    Everything,
    /// All names and no bytes: files are there, and empty.
    Names,
    /// All bytes and no names.
    Bytes,
    /// Whatever this seed says.
    Some(u64),
}

impl Tear {
    /// The four corners, and so many between.
    pub fn several(seed: u64, between: u64) -> Vec<Tear> {
        let corners = [Tear::Nothing, Tear::Everything, Tear::Names, Tear::Bytes];
        let some = (0..between).map(|n| Tear::Some(seed.wrapping_mul(1_000_003).wrapping_add(n)));
        corners.into_iter().chain(some).collect()
    }
}

/// A change of a file that is not durable.
#[derive(Debug, Clone)]
enum Change {
    Write { offset: usize, bytes: Arc<[u8]> },
    Length(usize),
}

#[derive(Debug, Clone, Default)]
struct File {
    /// What is read.
    live: Vec<u8>,
    durable: Vec<u8>,
    unsynced: Vec<Change>,
}

type Names = BTreeMap<String, Node>;

#[derive(Debug, Clone, Default)]
struct Folder {
    live: Names,
    durable: Names,
}

#[derive(Debug, Clone)]
enum Inode {
    File(File),
    Folder(Folder),
}

/// A change of names that is not durable: of one file or folder, in one place or in two.
#[derive(Debug, Clone)]
struct NameChange {
    subject: Node,
    /// Folder, name, and what it stands for from then on.
    places: Vec<(Node, String, Option<Node>)>,
}

impl NameChange {
    fn touches(&self, folder: Node) -> bool {
        self.places.iter().any(|(at, ..)| *at == folder)
    }

    /// Whether this one must not overtake `earlier`.
    fn follows(&self, earlier: &NameChange) -> bool {
        let same_name = |(folder, name, _): &(Node, String, Option<Node>)| {
            earlier.places.iter().any(|(at, known, _)| at == folder && known == name)
        };
        self.subject == earlier.subject || self.places.iter().any(same_name)
    }
}

/// Why an operation is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    NotFound,
    Exists,
    NotEmpty,
    IsFolder,
    NotFolder,
}

#[derive(Debug, Clone)]
pub struct Disk {
    nodes: Vec<Inode>,
    /// In the order they were made.
    renames: Vec<NameChange>,
}

impl Default for Disk {
    fn default() -> Self {
        Self { nodes: vec![Inode::Folder(Folder::default())], renames: Vec::new() }
    }
}

fn write(file: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    let end = offset + bytes.len();
    if file.len() < end {
        file.resize(end, 0);
    }
    file[offset..end].copy_from_slice(bytes);
}

impl Change {
    fn apply(&self, file: &mut Vec<u8>) {
        match self {
            Change::Write { offset, bytes } => write(file, *offset, bytes),
            Change::Length(len) => file.resize(*len, 0),
        }
    }

    /// As much of it as a power loss leaves by chance.
    fn apply_some(&self, file: &mut Vec<u8>, rng: &mut StdRng) {
        let (offset, bytes) = match (rng.random_range(0..3), self) {
            (0, _) | (1, Change::Length(_)) => return self.apply(file),
            (1, Change::Write { offset, bytes }) => (*offset, bytes),
            _ => return,
        };
        let mut at = 0;
        while at < bytes.len() {
            let within = (offset + at) % SECTOR;
            let end = (at + SECTOR - within).min(bytes.len());
            if rng.random() {
                write(file, offset + at, &bytes[at..end]);
            }
            at = end;
        }
    }
}

impl File {
    fn change(&mut self, change: Change) {
        change.apply(&mut self.live);
        self.unsynced.push(change);
    }

    fn sync(&mut self) {
        for change in std::mem::take(&mut self.unsynced) {
            change.apply(&mut self.durable);
        }
    }

    fn sync_some(&mut self, rng: &mut StdRng) {
        for change in std::mem::take(&mut self.unsynced) {
            change.apply_some(&mut self.durable, rng);
        }
    }
}

impl Disk {
    /// The tree as it can be read: a file's bytes.
    pub fn bytes(&self, file: Node) -> &[u8] {
        match &self.nodes[file] {
            Inode::File(file) => &file.live,
            Inode::Folder(_) => &[],
        }
    }

    pub fn is_folder(&self, node: Node) -> bool {
        matches!(self.nodes[node], Inode::Folder(_))
    }

    pub fn has(&self, node: Node) -> bool {
        node < self.nodes.len()
    }

    pub fn lookup(&self, folder: Node, name: &str) -> Option<Node> {
        self.names(folder).ok()?.get(name).copied()
    }

    pub fn list(&self, folder: Node) -> impl Iterator<Item = (&str, Node)> {
        let names = self.names(folder).ok();
        names.into_iter().flatten().map(|(name, node)| (name.as_str(), *node))
    }

    /// The file or folder at a path, by `/`.
    pub fn find(&self, path: &str) -> Option<Node> {
        let mut parts = path.split('/').filter(|part| !part.is_empty());
        parts.try_fold(ROOT, |folder, name| self.lookup(folder, name))
    }

    fn names(&self, folder: Node) -> Result<&Names, Refused> {
        match &self.nodes[folder] {
            Inode::Folder(folder) => Ok(&folder.live),
            Inode::File(_) => Err(Refused::NotFolder),
        }
    }

    fn file(&mut self, file: Node) -> Result<&mut File, Refused> {
        match &mut self.nodes[file] {
            Inode::File(file) => Ok(file),
            Inode::Folder(_) => Err(Refused::IsFolder),
        }
    }

    /// Bytes that a mapping brings: readable, and never durable.
    pub fn write_mapped(&mut self, node: Node, offset: usize, bytes: &[u8]) {
        if let Ok(file) = self.file(node) {
            write(&mut file.live, offset, bytes);
        }
    }

    /// Does one operation, or refuses it and changes nothing.
    pub fn apply(&mut self, op: &Op) -> Result<(), Refused> {
        match op {
            Op::Make { folder, name, is_folder } => {
                if self.names(*folder)?.contains_key(name) {
                    return Err(Refused::Exists);
                }
                let node = self.nodes.len();
                let inode = if *is_folder {
                    Inode::Folder(Folder::default())
                } else {
                    Inode::File(File::default())
                };
                self.nodes.push(inode);
                self.rename(node, vec![(*folder, name.clone(), Some(node))]);
            }
            Op::Remove { folder, name } => {
                let node = self.lookup(*folder, name).ok_or(Refused::NotFound)?;
                if self.list(node).next().is_some() {
                    return Err(Refused::NotEmpty);
                }
                self.rename(node, vec![(*folder, name.clone(), None)]);
            }
            Op::Rename { folder, name, to_folder, to_name } => {
                let node = self.lookup(*folder, name).ok_or(Refused::NotFound)?;
                if let Some(there) = self.lookup(*to_folder, to_name) {
                    if there == node {
                        return Ok(());
                    }
                    if self.is_folder(there) != self.is_folder(node) {
                        return Err(Refused::IsFolder);
                    }
                    if self.list(there).next().is_some() {
                        return Err(Refused::NotEmpty);
                    }
                }
                let to = (*to_folder, to_name.clone(), Some(node));
                self.rename(node, vec![(*folder, name.clone(), None), to]);
            }
            Op::Write { file, offset, bytes } => {
                let change = Change::Write { offset: *offset, bytes: Arc::clone(bytes) };
                self.file(*file)?.change(change);
            }
            Op::Length { file, len } => self.file(*file)?.change(Change::Length(*len)),
            Op::Sync { node } if self.is_folder(*node) => self.sync_names(*node),
            Op::Sync { node } => self.file(*node)?.sync(),
            Op::FailedSync { file, seed } => {
                self.file(*file)?.sync_some(&mut StdRng::seed_from_u64(*seed));
            }
        }
        Ok(())
    }

    fn rename(&mut self, subject: Node, places: Vec<(Node, String, Option<Node>)>) {
        for (folder, name, node) in &places {
            if let Inode::Folder(folder) = &mut self.nodes[*folder] {
                set(&mut folder.live, name, *node);
            }
        }
        self.renames.push(NameChange { subject, places });
    }

    /// All that `wanted` names, and what they must not overtake.
    fn with_earlier(&self, wanted: impl Fn(usize, &NameChange) -> bool) -> BTreeSet<usize> {
        let mut taken = BTreeSet::new();
        for (number, change) in self.renames.iter().enumerate().rev() {
            let needed = || taken.iter().any(|later: &usize| self.renames[*later].follows(change));
            if wanted(number, change) || needed() {
                taken.insert(number);
            }
        }
        taken
    }

    fn make_names_durable(&mut self, taken: &BTreeSet<usize>) {
        let changes = std::mem::take(&mut self.renames);
        for (number, change) in changes.into_iter().enumerate() {
            if taken.contains(&number) {
                for (folder, name, node) in &change.places {
                    if let Inode::Folder(folder) = &mut self.nodes[*folder] {
                        set(&mut folder.durable, name, *node);
                    }
                }
            } else {
                self.renames.push(change);
            }
        }
    }

    fn sync_names(&mut self, folder: Node) {
        let taken = self.with_earlier(|_, change| change.touches(folder));
        self.make_names_durable(&taken);
    }

    /// The disk as the next start finds it after the power went.
    pub fn after_power_loss(&self, tear: Tear) -> Disk {
        let mut left = self.clone();
        let mut rng = StdRng::seed_from_u64(if let Tear::Some(seed) = tear { seed } else { 0 });
        let kept: BTreeSet<usize> = match tear {
            Tear::Everything | Tear::Names => (0..self.renames.len()).collect(),
            Tear::Nothing | Tear::Bytes => BTreeSet::new(),
            Tear::Some(_) => {
                let some: Vec<bool> = self.renames.iter().map(|_| rng.random()).collect();
                self.with_earlier(|number, _| some[number])
            }
        };
        left.make_names_durable(&kept);
        left.renames.clear();
        for inode in &mut left.nodes {
            match inode {
                Inode::Folder(folder) => folder.live = folder.durable.clone(),
                Inode::File(file) => {
                    match tear {
                        Tear::Everything | Tear::Bytes => file.sync(),
                        Tear::Nothing | Tear::Names => file.unsynced.clear(),
                        Tear::Some(_) => file.sync_some(&mut rng),
                    }
                    file.live = file.durable.clone();
                }
            }
        }
        left.forget_unreachable();
        left
    }

    /// Empties files that no name leads to.
    fn forget_unreachable(&mut self) {
        let mut reached = BTreeSet::from([ROOT]);
        let mut waiting = vec![ROOT];
        while let Some(folder) = waiting.pop() {
            let inside: Vec<Node> = self.list(folder).map(|(_, node)| node).collect();
            waiting.extend(inside.into_iter().filter(|node| reached.insert(*node)));
        }
        for (node, inode) in self.nodes.iter_mut().enumerate() {
            if !reached.contains(&node) {
                *inode = Inode::File(File::default());
            }
        }
    }
}

fn set(names: &mut Names, name: &str, node: Option<Node>) {
    match node {
        Some(node) => names.insert(name.to_owned(), node),
        None => names.remove(name),
    };
}
