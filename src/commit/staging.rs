//! Where an LTX file goes while it is made: small ones into memory, for the entry itself; large ones
//! into a staged file, named by its hash (Rule 19).

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;

use sha2::{Digest, Sha256};

use super::database::Shared;
use crate::cluster::Payload;

/// Bytes that are written at once.
const BUFFER: usize = 1 << 20;

/// An LTX file that is being made.
pub(super) enum Target {
    Memory(Vec<u8>),
    Staged(StagedWriter),
}

impl Target {
    /// For about so many bytes of pages. `name`: of a file that nobody else makes now.
    ///
    /// # Errors
    /// The file cannot be made.
    pub fn new(shared: &Shared, bytes: u64, name: &str) -> io::Result<Self> {
        if bytes > shared.settings.now().staged_above {
            Ok(Target::Staged(StagedWriter::new(shared, name)?))
        } else {
            Ok(Target::Memory(Vec::with_capacity(bytes as usize / 2 + 256)))
        }
    }

    /// # Errors
    /// The file cannot be made durable.
    pub fn finish(self, shared: &Shared) -> io::Result<Payload> {
        match self {
            // Without the room that compression left over: the log keeps it in memory for a while.
            Target::Memory(bytes) => Ok(Payload::Inline(bytes.into_boxed_slice().into())),
            Target::Staged(staged) => staged.finish(shared),
        }
    }
}

impl Write for Target {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Target::Memory(memory) => memory.write(bytes),
            Target::Staged(staged) => staged.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Target::Memory(_) => Ok(()),
            Target::Staged(staged) => staged.flush(),
        }
    }
}

/// A file that is being made. Dropped before it is finished, it is gone.
pub(super) struct StagedWriter {
    file: BufWriter<File>,
    hash: Sha256,
    len: u64,
    making: Making,
}

/// The name that it has until it is whole.
struct Making {
    path: PathBuf,
    kept: bool,
}

impl Drop for Making {
    fn drop(&mut self) {
        if !self.kept {
            // What stays is removed by the next start, or overwritten.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

impl StagedWriter {
    fn new(shared: &Shared, name: &str) -> io::Result<Self> {
        let path = shared.staged.join(name);
        let file = BufWriter::with_capacity(BUFFER, File::create(&path)?);
        let making = Making { path, kept: false };
        Ok(Self { file, hash: Sha256::new(), len: 0, making })
    }

    /// Synced before it is named by an entry (Rule 19).
    fn finish(self, shared: &Shared) -> io::Result<Payload> {
        let Self { file, hash, len, mut making } = self;
        let sha256: [u8; 32] = hash.finalize().into();
        let file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.sync_all()?;
        shared.group.keep_staged(sha256, len);
        std::fs::rename(&making.path, shared.staged_path(&sha256))?;
        making.kept = true;
        File::open(&shared.staged)?.sync_all()?;
        Ok(Payload::Staged { sha256, len })
    }
}

impl Write for StagedWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.hash.update(bytes.get(..written).unwrap_or_default());
        self.len += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
