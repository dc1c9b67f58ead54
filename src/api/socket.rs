//! The Unix socket: made so that nobody else can open it at any moment, and reached whatever the
//! length of its path.

use std::fs::{File, Permissions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with,
};

/// unix(7): `sun_path` has 108 bytes, of which one ends the path.
const PATH_MAX: usize = 107;

/// Connections that wait to be accepted.
const BACKLOG: i32 = 128;

/// A path that fits into the address of a Unix socket, and leads to the same place.
pub struct ShortPath {
    path: PathBuf,
    /// What the short path goes through; it is good while this is open.
    _folder: Option<File>,
}

impl ShortPath {
    /// Shortens `path` by way of an open folder, when it is too long.
    ///
    /// # Errors
    /// Its folder cannot be opened.
    pub fn of(path: &Path) -> io::Result<Self> {
        let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the path names no socket"));
        };
        if path.as_os_str().len() <= PATH_MAX {
            return Ok(Self { path: path.to_owned(), _folder: None });
        }
        let folder = File::options()
            .read(true)
            .custom_flags(libc::O_PATH | libc::O_DIRECTORY)
            .open(folder)?;
        let path = Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string()).join(name);
        Ok(Self { path, _folder: Some(folder) })
    }

    #[must_use]
    pub fn as_path(&self) -> &Path {
        &self.path
    }
}

/// Listens on a Unix socket of mode 0660 (no-open-door). A socket that was left there by an earlier
/// process is replaced in one step. Its folder is made if it is not there: /run is empty after each boot.
/// Non-blocking.
///
/// # Errors
/// The folder cannot be made, or not be written to; the group may not be given.
pub fn bind_socket(path: &Path, group: Option<u32>) -> io::Result<UnixListener> {
    let Some(name) = path.file_name() else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the path names no socket"));
    };
    let mut new = std::ffi::OsString::from(".");
    new.push(name);
    new.push(format!(".{}", std::process::id()));
    let new = path.with_file_name(new);
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder)?;
    }
    match std::fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = bind_new(&new, group);
    let listener = listener.and_then(|listener| {
        std::fs::rename(&new, path)?;
        Ok(listener)
    });
    if listener.is_err() {
        // Best effort: the error that counts is the one above.
        let _ = std::fs::remove_file(&new);
    }
    listener
}

/// Nobody can connect before `listen`, and by then mode and group are set.
fn bind_new(path: &Path, group: Option<u32>) -> io::Result<UnixListener> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    let short = ShortPath::of(path)?;
    bind(&socket, &SocketAddrUnix::new(short.as_path())?)?;
    std::fs::set_permissions(path, Permissions::from_mode(0o660))?;
    if group.is_some() {
        std::os::unix::fs::chown(path, None, group)?;
    }
    listen(&socket, BACKLOG)?;
    Ok(UnixListener::from(socket))
}
