//! The state file: the state as of an entry, beside the log, so that the log before it can go.
//!
//! Eight bytes of magic, version and CRC-32C of the rest (4 bytes each, big-endian), the length of
//! the position (4 bytes), the position (postcard), the state as [`State::encode`] makes it.
//!
//! Invariant (Rule 11): the file's entry is at most what every database holds durably. Whoever
//! writes it has seen to that before.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::wire::{WireMeta, decode_body, encode_body};
use crate::cluster::State;

const MAGIC: [u8; 8] = *b"LFSPYSTA";
const VERSION: u32 = 1;
const HEADER: usize = 20;

/// Why the state file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateFileError {
    #[error("cannot read the state file {path}: {source}")]
    Io { path: PathBuf, source: io::Error },
    #[error("the state file {path} is damaged: {why}; take this node's data from another node")]
    Damaged { path: PathBuf, why: String },
    #[error(
        "the state file {path} is of version {version}, which this program does not know; use the \
         version of litefs-py that wrote it, or a later one"
    )]
    Version { path: PathBuf, version: u32 },
}

pub(super) struct StateFile {
    path: PathBuf,
    /// The index that the file is as of.
    index: Mutex<Option<u64>>,
}

impl StateFile {
    /// Reads the file in `folder`, if there is one. The log is purged by what it says, so that its name
    /// is made durable first: the process may have ended just before it did that.
    pub fn open(folder: &Path) -> Result<(Self, Option<(WireMeta, State)>), StateFileError> {
        let path = folder.join("state");
        File::open(folder)
            .and_then(|folder| folder.sync_all())
            .map_err(|source| StateFileError::Io { path: path.clone(), source })?;
        let content = match std::fs::read(&path) {
            Ok(bytes) => Some(decode(&path, &bytes)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(source) => return Err(StateFileError::Io { path, source }),
        };
        let index = content.as_ref().and_then(|(meta, _)| meta.applied).map(|id| id.index);
        Ok((Self { path, index: Mutex::new(index) }, content))
    }

    /// Writes it durably: temp, sync, rename, sync of the folder. An older one than is there is
    /// not written: a snapshot may have overtaken it.
    pub fn write(&self, meta: &WireMeta, state: &State) -> io::Result<()> {
        let mut written = self.index.lock().unwrap_or_else(PoisonError::into_inner);
        let index = meta.applied.map(|id| id.index);
        if index <= *written {
            return Ok(());
        }
        let temporary = self.path.with_extension("new");
        let mut file = File::create(&temporary)?;
        file.write_all(&encode(meta, state))?;
        file.sync_all()?;
        std::fs::rename(&temporary, &self.path)?;
        File::open(self.path.parent().unwrap_or(Path::new(".")))?.sync_all()?;
        *written = index;
        Ok(())
    }
}

pub(super) fn encode(meta: &WireMeta, state: &State) -> Vec<u8> {
    let meta = encode_body(meta);
    let mut bytes = Vec::from(MAGIC);
    bytes.extend(VERSION.to_be_bytes());
    bytes.extend([0; 4]);
    bytes.extend((meta.len() as u32).to_be_bytes());
    bytes.extend(meta);
    bytes.extend(state.encode());
    let crc = crc_fast::crc32_iscsi(bytes.get(16..).unwrap_or_default());
    if let Some(place) = bytes.get_mut(12..16) {
        place.copy_from_slice(&crc.to_be_bytes());
    }
    bytes
}

pub(super) fn decode(path: &Path, bytes: &[u8]) -> Result<(WireMeta, State), StateFileError> {
    let damaged = |why: String| StateFileError::Damaged { path: path.to_owned(), why };
    let number = |at: usize| {
        let four = bytes.get(at..).and_then(|rest| rest.first_chunk());
        four.map(|four| u32::from_be_bytes(*four)).ok_or_else(|| damaged("it is too short".into()))
    };
    if !bytes.starts_with(&MAGIC) {
        return Err(damaged("it begins with other bytes than one does".into()));
    }
    let version = number(8)?;
    if version != VERSION {
        return Err(StateFileError::Version { path: path.to_owned(), version });
    }
    if number(12)? != crc_fast::crc32_iscsi(bytes.get(16..).unwrap_or_default()) {
        return Err(damaged("its checksum is wrong".into()));
    }
    let split = number(16)? as usize;
    let rest = bytes.get(HEADER..).unwrap_or_default();
    let (meta, state) =
        rest.split_at_checked(split).ok_or_else(|| damaged("it is too short".into()))?;
    let meta = decode_body("a position", meta).map_err(|error| damaged(error.to_string()))?;
    let state = State::decode(state).map_err(|error| damaged(error.to_string()))?;
    Ok((meta, state))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::EntryId;

    fn meta(index: u64) -> WireMeta {
        WireMeta { applied: Some(EntryId { term: 1, index }), ..WireMeta::default() }
    }

    #[test]
    fn it_never_goes_back_and_damage_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let (file, nothing) = StateFile::open(folder.path()).unwrap();
        assert!(nothing.is_none());
        let mut state = State::default();
        state.pass(EntryId { term: 1, index: 5 });
        file.write(&meta(5), &state).unwrap();
        file.write(&meta(4), &State::default()).unwrap();
        let (_, found) = StateFile::open(folder.path()).unwrap();
        assert_eq!(found, Some((meta(5), state)));

        let path = folder.path().join("state");
        let good = std::fs::read(&path).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            std::fs::write(&path, &bad).unwrap();
            assert!(StateFile::open(folder.path()).is_err(), "byte {at} flipped");
            std::fs::write(&path, &good[..at]).unwrap();
            assert!(StateFile::open(folder.path()).is_err(), "cut at {at}");
        }
    }
}
