//! Staged files: the payloads too large for a log entry, as files named by their SHA-256.
//!
//! Rule 19: such a file lives as long as any entry of the log names it.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

use super::wire::{WireEntry, WirePayload};
use crate::cluster::{Command, Payload};
use crate::core::hex;

/// The files beside the log.
pub trait StagedFiles: Send + Sync + 'static {
    /// Whether the file is there, whole and durable.
    fn has(&self, sha256: [u8; 32], len: u64) -> bool;
    /// # Errors
    /// It is not there, or cannot be opened.
    fn open(&self, sha256: [u8; 32]) -> io::Result<File>;
    /// Begins a file; it is there when it was finished.
    ///
    /// # Errors
    /// It cannot be made.
    fn receive(&self, sha256: [u8; 32], len: u64) -> io::Result<Box<dyn StagedWriter>>;
    /// Removes the files that no entry of the log names, except those that were staged or asked
    /// for lately: the entry that names them may be on its way.
    ///
    /// # Errors
    /// One cannot be removed.
    fn remove_unreferenced(&self, named: &HashSet<[u8; 32]>) -> io::Result<()>;
}

/// A staged file being written. Dropped before it is finished, it is gone.
pub trait StagedWriter: Write + Send {
    /// Checks length and hash, and makes it durable.
    ///
    /// # Errors
    /// It is not what was announced, or cannot be made durable.
    fn finish(self: Box<Self>) -> io::Result<()>;
}

/// Which staged file, and how long it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StagedName {
    pub sha256: [u8; 32],
    /// Bytes.
    pub len: u64,
}

impl StagedName {
    /// The file that a command names.
    pub(super) fn of(command: &Command) -> Option<Self> {
        match command {
            Command::Commit(commit) => match commit.payload {
                Payload::Staged { sha256, len } => Some(Self { sha256, len }),
                Payload::Inline(_) => None,
            },
            _ => None,
        }
    }

    pub(super) fn in_entry(entry: &WireEntry) -> Option<Self> {
        match &entry.payload {
            WirePayload::Command(command) => Self::of(command),
            _ => None,
        }
    }
}

impl fmt::Display for StagedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.sha256))
    }
}

/// How long after it was last spoken of an unreferenced file stays. Longer than any commit can be
/// on its way (`commit_timeout`, 15 s, and its second try).
const STAYS: Duration = Duration::from_mins(10);

/// Staged files in a folder.
pub struct StagedFolder {
    path: PathBuf,
    stays: Duration,
    spoken_of: Mutex<HashMap<[u8; 32], Instant>>,
    /// Those whose names are known to be durable.
    durable: Mutex<HashSet<[u8; 32]>>,
    parts: AtomicU64,
}

impl StagedFolder {
    /// Opens or makes the folder. What was left half-written is removed.
    ///
    /// # Errors
    /// The folder cannot be read or made.
    pub fn open(path: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(path)?;
        let mut spoken_of = HashMap::new();
        for entry in std::fs::read_dir(path)? {
            let entry = entry?;
            match parse_hex(&entry.file_name().to_string_lossy()) {
                Some(sha256) => {
                    spoken_of.insert(sha256, Instant::now());
                }
                None => std::fs::remove_file(entry.path())?,
            }
        }
        Ok(Self {
            path: path.to_owned(),
            stays: STAYS,
            spoken_of: Mutex::new(spoken_of),
            durable: Mutex::default(),
            parts: AtomicU64::new(0),
        })
    }

    /// With another time that unreferenced files stay.
    #[must_use]
    pub fn keeping(mut self, stays: Duration) -> Self {
        self.stays = stays;
        self
    }

    fn file(&self, sha256: &[u8; 32]) -> PathBuf {
        self.path.join(hex(sha256))
    }

    fn speak_of(&self, sha256: [u8; 32]) {
        let mut spoken_of = self.spoken_of.lock().unwrap_or_else(PoisonError::into_inner);
        spoken_of.insert(sha256, Instant::now());
    }

    /// Makes the name of a file that is there durable, unless it is known to be. Whoever gave the name
    /// may not have come to that: a thread that is about to, or a process that ended before.
    fn make_durable(&self, sha256: [u8; 32]) -> io::Result<()> {
        let mut durable = self.durable.lock().unwrap_or_else(PoisonError::into_inner);
        if !durable.contains(&sha256) {
            File::open(&self.path)?.sync_all()?;
            durable.insert(sha256);
        }
        Ok(())
    }
}

fn log_unsynced(error: &io::Error) {
    tracing::error!(%error, "the folder of staged files cannot be synced: none counts as there");
}

fn parse_hex(name: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if name.len() != 64 || !name.is_ascii() {
        return None;
    }
    for (i, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(name.get(2 * i..2 * i + 2)?, 16).ok()?;
    }
    Some(bytes)
}

impl StagedFiles for StagedFolder {
    fn has(&self, sha256: [u8; 32], len: u64) -> bool {
        self.speak_of(sha256);
        // It gets its name when its bytes are durable.
        let whole = std::fs::metadata(self.file(&sha256)).is_ok_and(|there| there.len() == len);
        whole && self.make_durable(sha256).inspect_err(log_unsynced).is_ok()
    }

    fn open(&self, sha256: [u8; 32]) -> io::Result<File> {
        File::open(self.file(&sha256))
    }

    fn receive(&self, sha256: [u8; 32], len: u64) -> io::Result<Box<dyn StagedWriter>> {
        self.speak_of(sha256);
        let target = self.file(&sha256);
        let number = self.parts.fetch_add(1, Ordering::Relaxed);
        let part = self.path.join(format!("{}.{number}.part", hex(&sha256)));
        let file = OpenOptions::new().write(true).create_new(true).open(&part)?;
        let hash = Sha256::new();
        let part = Part { path: part, kept: false };
        Ok(Box::new(FolderWriter { file, part, target, sha256, left: len, hash }))
    }

    fn remove_unreferenced(&self, named: &HashSet<[u8; 32]>) -> io::Result<()> {
        let mut spoken_of = self.spoken_of.lock().unwrap_or_else(PoisonError::into_inner);
        spoken_of.retain(|_, when| when.elapsed() < self.stays);
        for entry in std::fs::read_dir(&self.path)? {
            let entry = entry?;
            let Some(sha256) = parse_hex(&entry.file_name().to_string_lossy()) else { continue };
            if !named.contains(&sha256) && !spoken_of.contains_key(&sha256) {
                self.durable.lock().unwrap_or_else(PoisonError::into_inner).remove(&sha256);
                std::fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }
}

/// A half-written file, removed unless it is kept.
struct Part {
    path: PathBuf,
    kept: bool,
}

impl Drop for Part {
    fn drop(&mut self) {
        if !self.kept {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

struct FolderWriter {
    file: File,
    part: Part,
    target: PathBuf,
    sha256: [u8; 32],
    left: u64,
    hash: Sha256,
}

impl Write for FolderWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() as u64 > self.left {
            return Err(io::Error::other("the staged file is longer than was announced"));
        }
        let written = self.file.write(bytes)?;
        self.hash.update(bytes.get(..written).unwrap_or_default());
        self.left -= written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl StagedWriter for FolderWriter {
    fn finish(mut self: Box<Self>) -> io::Result<()> {
        if self.left != 0 {
            return Err(io::Error::other("the staged file is shorter than was announced"));
        }
        if self.hash.finalize_reset().as_slice() != self.sha256 {
            return Err(io::Error::other("the staged file is not the one that was announced"));
        }
        self.file.sync_all()?;
        std::fs::rename(&self.part.path, &self.target)?;
        self.part.kept = true;
        let folder = self.target.parent().unwrap_or(Path::new("."));
        File::open(folder)?.sync_all()
    }
}

/// Nothing is ever staged.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoStagedFiles;

impl StagedFiles for NoStagedFiles {
    fn has(&self, _: [u8; 32], _: u64) -> bool {
        false
    }

    fn open(&self, _: [u8; 32]) -> io::Result<File> {
        Err(io::ErrorKind::NotFound.into())
    }

    fn receive(&self, _: [u8; 32], _: u64) -> io::Result<Box<dyn StagedWriter>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn remove_unreferenced(&self, _: &HashSet<[u8; 32]>) -> io::Result<()> {
        Ok(())
    }
}

/// The staged file of a command, whole: for tests and small tools.
///
/// # Errors
/// It cannot be staged.
pub fn stage(files: &Arc<dyn StagedFiles>, bytes: &[u8]) -> io::Result<StagedName> {
    let name = StagedName { sha256: Sha256::digest(bytes).into(), len: bytes.len() as u64 };
    let mut writer = files.receive(name.sha256, name.len)?;
    writer.write_all(bytes)?;
    writer.finish()?;
    Ok(name)
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn a_file_is_there_when_it_is_finished_and_right() {
        let folder = tempfile::tempdir().unwrap();
        let files: Arc<dyn StagedFiles> = Arc::new(StagedFolder::open(folder.path()).unwrap());
        let name = stage(&files, b"pages").unwrap();
        assert!(files.has(name.sha256, 5));
        assert!(!files.has(name.sha256, 6));
        let mut bytes = Vec::new();
        files.open(name.sha256).unwrap().read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes, b"pages");

        let other = [7; 32];
        let mut writer = files.receive(other, 5).unwrap();
        assert!(writer.write_all(b"too long").is_err());
        drop(writer);
        let mut writer = files.receive(other, 5).unwrap();
        writer.write_all(b"wrong").unwrap();
        assert!(writer.finish().is_err(), "another hash");
        let mut writer = files.receive(name.sha256, 5).unwrap();
        writer.write_all(b"pag").unwrap();
        assert!(writer.finish().is_err(), "too short");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "parts are gone");
    }

    /// Rule 19.
    #[test]
    fn a_named_or_new_file_stays() {
        let folder = tempfile::tempdir().unwrap();
        let open = |stays| StagedFolder::open(folder.path()).unwrap().keeping(stays);
        let files: Arc<dyn StagedFiles> = Arc::new(open(Duration::ZERO));
        let (named, new) = (stage(&files, b"named").unwrap(), stage(&files, b"new").unwrap());
        let log = HashSet::from([named.sha256]);
        open(STAYS).remove_unreferenced(&log).unwrap();
        assert!(files.has(new.sha256, 3), "spoken of lately");
        files.remove_unreferenced(&log).unwrap();
        assert!(files.has(named.sha256, 5));
        assert!(!files.has(new.sha256, 3));
    }
}
