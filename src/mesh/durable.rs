//! Writing a small file so that it is there, whole, after any crash.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Writes `folder/name` by way of a temporary file: write, sync, rename, sync the folder.
/// `mode`: the permissions from the first moment on (a key is never readable by others, not even
/// before the rename).
pub(super) fn write(folder: &Path, name: &str, mode: u32, bytes: &[u8]) -> io::Result<()> {
    let temporary = folder.join(format!(".{name}.tmp"));
    // One left by a crash may have other permissions: make it anew.
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&temporary, folder.join(name))?;
    File::open(folder)?.sync_all()
}
