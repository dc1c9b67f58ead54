//! The bytes of a database's four files, as the mount reads and writes them.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::database::Database;
use super::door::{Errno, FileKind};
use crate::capture::ReadAt;
use crate::store::StoreError;

impl Database {
    /// `EUCLEAN`: the disk changed a page among them; [`Database::read_mended`] waits until it is mended.
    pub(super) fn read_bytes(
        &self,
        kind: FileKind,
        offset: u64,
        len: u32,
    ) -> Result<Vec<u8>, Errno> {
        let mut bytes = vec![0; len as usize];
        let read = match kind {
            FileKind::Database => self
                .store
                .read_with_overlay(offset, &mut bytes)
                .map_err(|error| self.errno(&error))?,
            FileKind::Wal => self.io(read_full(self.store.wal(), offset, &mut bytes))?,
            FileKind::Shm => self.io(read_full(&self.shm_file()?, offset, &mut bytes))?,
            FileKind::Journal => match self.journal_file()? {
                Some(journal) => self.io(read_full(&journal, offset, &mut bytes))?,
                None => 0,
            },
        };
        bytes.truncate(read);
        if kind == FileKind::Database {
            self.check_rot(offset, &bytes)?;
        }
        Ok(bytes)
    }

    /// Writes past the checks: the caller made them.
    pub(super) fn write_bytes(
        &self,
        kind: FileKind,
        offset: u64,
        data: &[u8],
    ) -> Result<(), Errno> {
        match kind {
            FileKind::Database => {
                self.store.write_checkpointed(offset, data).map_err(|error| self.errno(&error))
            }
            FileKind::Wal => self.io(self.store.wal().write_all_at(data, offset)),
            FileKind::Shm => self.io(self.shm_file()?.write_all_at(data, offset)),
            FileKind::Journal => match self.journal_file()? {
                Some(journal) => self.io(journal.write_all_at(data, offset)),
                None => Err(Errno(libc::ENOENT)),
            },
        }
    }

    pub(super) fn set_len(&self, kind: FileKind, len: u64) -> Result<(), Errno> {
        match kind {
            FileKind::Database => {
                self.store.truncate_checkpointed(len).map_err(|error| self.errno(&error))
            }
            FileKind::Wal => self.io(self.store.wal().set_len(len)),
            FileKind::Shm => self.io(self.shm_file()?.set_len(len)),
            FileKind::Journal => match self.journal_file()? {
                Some(journal) => self.io(journal.set_len(len)),
                None => Err(Errno(libc::ENOENT)),
            },
        }
    }

    pub(super) fn len_of(&self, kind: FileKind) -> Result<u64, Errno> {
        let of = |file: &File| self.io(file.metadata().map(|metadata| metadata.len()));
        match kind {
            FileKind::Database => {
                self.store.size_with_overlay().map_err(|error| self.errno(&error))
            }
            FileKind::Wal => of(self.store.wal()),
            FileKind::Shm => of(&self.shm_file()?),
            FileKind::Journal => match self.journal_file()? {
                Some(journal) => of(&journal),
                None => Err(Errno(libc::ENOENT)),
            },
        }
    }

    fn shm_file(&self) -> Result<File, Errno> {
        self.store.shm_backing().map_err(|error| self.errno(&error))
    }

    fn journal_file(&self) -> Result<Option<std::sync::Arc<File>>, Errno> {
        self.store.journal(false).map_err(|error| self.errno(&error))
    }

    pub(super) fn journal_exists(&self) -> bool {
        matches!(self.store.journal(false), Ok(Some(_)))
    }

    /// A journal with a header that SQLite would play back.
    pub(super) fn journal_is_hot(&self) -> bool {
        self.read_bytes(FileKind::Journal, 0, 8)
            .is_ok_and(|head| head.first().is_some_and(|byte| *byte != 0))
    }

    /// Full disks are said as such, so that SQLite says `SQLITE_FULL`; the rest is EIO, and logged.
    pub(super) fn errno(&self, error: &StoreError) -> Errno {
        match error {
            StoreError::Io { source, .. } if is_full(source) => {
                tracing::error!(database = %self.name, %error, "the disk is full");
                Errno(libc::ENOSPC)
            }
            _ => {
                tracing::error!(database = %self.name, %error, "a file operation failed");
                Errno(libc::EIO)
            }
        }
    }

    fn io<T>(&self, result: io::Result<T>) -> Result<T, Errno> {
        result.map_err(|error| {
            tracing::error!(database = %self.name, %error, "a file operation failed");
            Errno(if is_full(&error) { libc::ENOSPC } else { libc::EIO })
        })
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOSPC | libc::EDQUOT))
}

/// Reads up to the end of the buffer or of the file.
fn read_full(file: &File, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
    let mut done = 0;
    while done < buffer.len() {
        match file.read_at(&mut buffer[done..], offset + done as u64) {
            Ok(0) => break,
            Ok(read) => done += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

/// The WAL as `capture` reads it back.
pub(super) struct Wal<'a>(pub &'a File);

impl ReadAt for Wal<'_> {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        read_full(self.0, offset, buffer)
    }
}
