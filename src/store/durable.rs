//! The one way in which small files become durable, and folders with them.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

/// Replaces a file so that after a crash either the old or the new bytes are there, whole: writes
/// beside it, syncs, renames over it, syncs the folder.
pub fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    write_with(path, |file| file.write_all(bytes))
}

/// As [`write`], for content that is produced piece by piece.
pub fn write_with(
    path: &Path,
    produce: impl FnOnce(&mut File) -> io::Result<()>,
) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let beside = path.with_file_name(name);
    let mut file = File::create(&beside)?;
    produce(&mut file)?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    sync_parent(path)
}

/// Moves a file, which is synced, durably as far as the place it goes to is concerned; to another file system
/// by a copy.
pub fn take(from: &Path, to: &Path) -> io::Result<()> {
    File::open(from)?.sync_all()?;
    match fs::rename(from, to) {
        Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {
            let mut file = File::open(from)?;
            write_with(to, |copy| io::copy(&mut file, copy).map(|_| ()))?;
            fs::remove_file(from)
        }
        Err(error) => Err(error),
        Ok(()) => sync_parent(to),
    }
}

/// Makes a folder, and those above it, if they are not there; durably, also if it was made a moment ago
/// by a process that did not come to that.
pub fn make_folder(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let there = path.is_dir();
    if !there {
        parent.map_or(Ok(()), make_folder)?;
        match fs::create_dir(path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
    }
    match sync_parent(path) {
        // One that is there may lie where this user can only pass through.
        Err(error) if there && error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        synced => synced,
    }
}

/// Makes the folder's entries durable.
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Makes the entry of `path` in its folder durable.
pub fn sync_parent(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    sync_folder(parent.unwrap_or(Path::new(".")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("record");
        write(&path, b"old").unwrap();
        let failed = write_with(&path, |file| {
            file.write_all(b"ne")?;
            Err(io::Error::other("disk full"))
        });
        assert!(failed.is_err());
        assert_eq!(fs::read(&path).unwrap(), b"old");
        write(&path, b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
    }
}
