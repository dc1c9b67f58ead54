//! What the log asks of a disk, so that tests can give it one that forgets.
//!
//! The fault model that the log is made for: bytes written but not synced may be on the disk in
//! full, in part or not at all, in any order; a name changed but its folder not synced may be the
//! old or the new one; what was synced stays. A failed sync is not tried again: nobody knows what
//! is on the disk after it.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A folder of files.
pub(in crate::raft) trait Disk: Send + Sync + 'static {
    /// Names in the folder, and the length of each file.
    fn list(&self) -> io::Result<Vec<(String, u64)>>;
    /// A new file of that many zeros, its space secured and all of it synced: writing to it later
    /// changes nothing but its bytes, and syncing it waits for no journal of the file system.
    fn create(&self, name: &str, len: u64) -> io::Result<Arc<dyn DiskFile>>;
    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>>;
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Makes the changes of names durable.
    fn sync_folder(&self) -> io::Result<()>;
}

/// One file of a [`Disk`].
pub(in crate::raft) trait DiskFile: Send + Sync + 'static {
    fn len(&self) -> io::Result<u64>;
    fn read_exact_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()>;
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Makes the bytes durable (fdatasync).
    fn sync(&self) -> io::Result<()>;
}

/// A folder of the machine's.
pub(in crate::raft) struct Folder(PathBuf);

impl Folder {
    /// Makes the folder if it is not there, durably: what is synced in it is lost with its name.
    pub fn new(path: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(path)?;
        File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()?;
        Ok(Self(path.to_owned()))
    }
}

impl Disk for Folder {
    fn list(&self) -> io::Result<Vec<(String, u64)>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&self.0)? {
            let entry = entry?;
            let metadata = entry.metadata()?;
            if metadata.is_file() {
                names.push((entry.file_name().to_string_lossy().into_owned(), metadata.len()));
            }
        }
        Ok(names)
    }

    fn create(&self, name: &str, len: u64) -> io::Result<Arc<dyn DiskFile>> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(self.0.join(name))?;
        rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, len)?;
        // Space that is only allocated is turned into written space by the first write to it, and
        // that is a change of metadata which every sync would wait for.
        let zeros = vec![0; 1 << 20];
        let mut offset = 0;
        while offset < len {
            let part = usize::try_from(len - offset).unwrap_or(usize::MAX).min(zeros.len());
            FileExt::write_all_at(&file, zeros.get(..part).unwrap_or_default(), offset)?;
            offset += part as u64;
        }
        file.sync_all()?;
        Ok(Arc::new(file))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(OpenOptions::new().read(true).write(true).open(self.0.join(name))?))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        std::fs::rename(self.0.join(from), self.0.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        std::fs::remove_file(self.0.join(name))
    }

    fn sync_folder(&self) -> io::Result<()> {
        File::open(&self.0)?.sync_all()
    }
}

impl DiskFile for File {
    fn len(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_exact_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        FileExt::read_exact_at(self, bytes, offset)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        FileExt::write_all_at(self, bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }
}
