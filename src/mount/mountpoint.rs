//! The folder to be mounted on: whether it can be, and what a dead daemon left there.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rustix::fs::{IFlags, Mode, OFlags};
use rustix::mount::{UnmountFlags, unmount};

/// The source that `mount` shows, by which a mount of ours is known.
pub(super) const SOURCE: &str = "litefs-py";
/// Where the kernel's FUSE is.
const DEVICE: &str = "/dev/fuse";
/// Where connections are ended.
const CONNECTIONS: &str = "/sys/fs/fuse/connections";
/// How long whatever is mounted there already may take to answer a stat.
const ANSWER: Duration = Duration::from_secs(3);
/// For the mount of a daemon that is just ending: it lasts until the last of its threads is gone.
const ENDING: Duration = Duration::from_secs(3);
/// Between two looks at it.
const AGAIN: Duration = Duration::from_millis(20);
/// Dead mounts upon each other: more than a few are another trouble.
const MOST_STALE: usize = 16;

/// Why the databases cannot be mounted, or not be unmounted.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    #[error("the mount point {path:?} does not exist; create the folder")]
    Missing { path: PathBuf },
    #[error("the mount point {path:?} is not a folder")]
    NotAFolder { path: PathBuf },
    #[error(
        "the mount point {path:?} is not empty (it holds {found:?}); move what is in it away: \
         it would be hidden, and databases in it are not replicated"
    )]
    NotEmpty { path: PathBuf, found: String },
    #[error("another litefs-py is mounted on {path:?}; stop it, or choose another mount point")]
    InUse { path: PathBuf },
    #[error("what is mounted on {path:?} does not answer; unmount it: umount -l {path:?}")]
    Unresponsive { path: PathBuf },
    #[error("cannot look at the mount point {path:?}: {source}")]
    Look { path: PathBuf, source: io::Error },
    #[error("cannot clear the mount that a dead daemon left on {path:?}: {source}")]
    Stale { path: PathBuf, source: io::Error },
    #[error(
        "cannot open {DEVICE}: {source}; load the kernel module (modprobe fuse), and give a \
         container the device"
    )]
    NoDevice { source: io::Error },
    #[error(
        "cannot mount on {path:?}: {source}; a user other than root needs fusermount3, and \
         user_allow_other in /etc/fuse.conf"
    )]
    Mount { path: PathBuf, source: io::Error },
    #[error("cannot unmount {path:?}: {source}")]
    Unmount { path: PathBuf, source: io::Error },
    #[error("{path:?} is unmounted, but programs still hold files of it open; end them")]
    Held { path: PathBuf },
}

/// Clears what a dead daemon left, and says whether the folder can be mounted on.
pub(super) fn prepare(path: &Path) -> Result<(), MountError> {
    let device = std::fs::File::options().read(true).write(true).open(DEVICE);
    device.map_err(|source| MountError::NoDevice { source })?;
    let deadline = Instant::now() + ENDING;
    let mut cleared = 0;
    while cleared < MOST_STALE {
        let left = match stat(path)? {
            Some(Ok(true)) => match check_empty(path) {
                Err(MountError::InUse { .. }) if Instant::now() < deadline => {
                    std::thread::sleep(AGAIN);
                    continue;
                }
                checked => return checked,
            },
            Some(Ok(false)) => return Err(MountError::NotAFolder { path: path.to_owned() }),
            // fuse(4): the connection of a file system whose daemon has ended.
            Some(Err(error)) if error.raw_os_error() == Some(libc::ENOTCONN) => {
                UnmountFlags::DETACH
            }
            Some(Err(error)) if error.kind() == io::ErrorKind::NotFound => {
                return Err(MountError::Missing { path: path.to_owned() });
            }
            Some(Err(source)) => return Err(MountError::Look { path: path.to_owned(), source }),
            // A daemon of ours that hangs, perhaps one that was killed and waits for its own
            // answers: ending the connection lets it go. Another file system is not ours to end.
            None if is_ours(&mounts(path)?, path) => UnmountFlags::FORCE | UnmountFlags::DETACH,
            None => return Err(MountError::Unresponsive { path: path.to_owned() }),
        };
        tracing::warn!(?path, "clearing the mount that a dead daemon left");
        detach(path, left).map_err(|source| MountError::Stale { path: path.to_owned(), source })?;
        cleared += 1;
    }
    let source = io::Error::other("there are too many of them upon each other");
    Err(MountError::Stale { path: path.to_owned(), source })
}

/// As `chattr +i`: a program that runs while nothing is mounted gets an error, and makes no database
/// that no other node will ever have. As far as it can be done (`ioctl_iflags(2)`).
pub(super) fn make_immutable(path: &Path) {
    let set = || {
        let folder = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        let flags = rustix::fs::ioctl_getflags(&folder)?;
        if flags.contains(IFlags::IMMUTABLE) {
            return Ok(());
        }
        rustix::fs::ioctl_setflags(&folder, flags | IFlags::IMMUTABLE)
    };
    if let Err(error) = set() {
        tracing::debug!(?path, %error, "the bare mount point is not made immutable");
    }
}

/// Whether it is a folder; none when nobody answers. On a thread of its own: a daemon that hangs
/// never does (bounded-answer).
fn stat(path: &Path) -> Result<Option<io::Result<bool>>, MountError> {
    let (answer, answered) = mpsc::channel();
    let asked = path.to_owned();
    let look = move || answer.send(std::fs::metadata(asked).map(|m| m.is_dir()));
    std::thread::Builder::new()
        .name("mount-point".into())
        .spawn(look)
        .map_err(|source| MountError::Look { path: path.to_owned(), source })?;
    Ok(answered.recv_timeout(ANSWER).ok())
}

fn mounts(path: &Path) -> Result<String, MountError> {
    let table = std::fs::read("/proc/self/mountinfo");
    let table = table.map_err(|source| MountError::Look { path: path.to_owned(), source })?;
    Ok(String::from_utf8_lossy(&table).into_owned())
}

fn check_empty(path: &Path) -> Result<(), MountError> {
    let look = |source| MountError::Look { path: path.to_owned(), source };
    let real = path.canonicalize().map_err(look)?;
    if is_ours(&mounts(path)?, &real) {
        return Err(MountError::InUse { path: path.to_owned() });
    }
    match std::fs::read_dir(path).map_err(look)?.next() {
        None => Ok(()),
        Some(entry) => {
            let found = entry.map_err(look)?.file_name().to_string_lossy().into_owned();
            Err(MountError::NotEmpty { path: path.to_owned(), found })
        }
    }
}

/// `proc_pid_mountinfo(5)`: the fifth field is the mount point; after a field "-" come type, source
/// and options. Blanks and backslashes are written in octal.
fn is_ours(table: &str, path: &Path) -> bool {
    any_mount(table, path, |_, source| source == SOURCE)
}

fn is_fuse(table: &str, path: &Path) -> bool {
    any_mount(table, path, |kind, _| kind == "fuse" || kind.starts_with("fuse."))
}

/// Whether type and source of what is mounted there are as wanted.
fn any_mount(table: &str, path: &Path, wanted: impl Fn(&str, &str) -> bool) -> bool {
    table.lines().any(|line| {
        let Some((mount, about)) = line.split_once(" - ") else { return false };
        let point = mount.split(' ').nth(4).map(|p| p.replace("\\040", " "));
        let mut about = about.split(' ');
        let (kind, source) = (about.next().unwrap_or(""), about.next().unwrap_or(""));
        point.as_deref() == path.to_str() && wanted(kind, source)
    })
}

/// Takes away what is mounted there, whoever still waits for it: those get ENOTCONN. For a daemon
/// that is dead or hangs. Touches nothing that is mounted.
///
/// # Errors
/// It cannot be unmounted.
pub fn end_by_force(path: &Path) -> io::Result<()> {
    detach(path, UnmountFlags::FORCE | UnmountFlags::DETACH)
}

/// Takes away a mount of ours, as [`end_by_force`] does; another file system is left alone. Whether there
/// was one.
///
/// # Errors
/// It cannot be unmounted.
pub fn clear(path: &Path) -> Result<bool, MountError> {
    clear_if(path, is_ours(&mounts(path)?, path))
}

/// The same of LiteFS's: whatever is mounted there by FUSE. LiteFS leaves its mount behind when a program
/// still has a file open, or when it was killed.
///
/// # Errors
/// It cannot be unmounted.
pub fn clear_litefs(path: &Path) -> Result<bool, MountError> {
    clear_if(path, is_fuse(&mounts(path)?, path))
}

fn clear_if(path: &Path, there: bool) -> Result<bool, MountError> {
    if there {
        let stale = |source| MountError::Stale { path: path.to_owned(), source };
        end_by_force(path).map_err(stale)?;
    }
    Ok(there)
}

/// Unmounts: as root by umount(2), else by fusermount3.
pub(super) fn detach(path: &Path, flags: UnmountFlags) -> io::Result<()> {
    match unmount(path, flags) {
        Err(rustix::io::Errno::PERM) => {
            // fusermount3 has no force.
            if flags.contains(UnmountFlags::FORCE)
                && let Err(error) = end_connection(path)
            {
                tracing::warn!(
                    ?path, %error,
                    "cannot end the connection of the mount: processes that wait for it may hang \
                     until root does (mount -t fusectl none {CONNECTIONS})"
                );
            }
            fusermount(path, flags.contains(UnmountFlags::DETACH))
        }
        result => Ok(result?),
    }
}

/// The kernel's "FUSE control filesystem": a folder for each connection, named by the minor number
/// of the mount's device. What is in it belongs to the user who mounted.
fn end_connection(path: &Path) -> io::Result<()> {
    let table = std::fs::read("/proc/self/mountinfo")?;
    let minor = minor_of(&String::from_utf8_lossy(&table), path);
    let minor = minor.ok_or_else(|| io::Error::other("it is not mounted"))?;
    std::fs::write(format!("{CONNECTIONS}/{minor}/abort"), "1")
}

/// `proc_pid_mountinfo(5)`: the third field is the device, major and minor. The last mounted lies on
/// top.
fn minor_of(table: &str, path: &Path) -> Option<u32> {
    let ours = table.lines().rev().find(|line| is_ours(line, path))?;
    ours.split(' ').nth(2)?.split_once(':')?.1.parse().ok()
}

fn fusermount(path: &Path, lazily: bool) -> io::Result<()> {
    let mut command = Command::new("fusermount3");
    command.arg("-u").args(lazily.then_some("-z")).arg("--").arg(path);
    let output = command.output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    let kind = if said.contains("busy") {
        io::ErrorKind::ResourceBusy
    } else {
        io::ErrorKind::PermissionDenied
    };
    Err(io::Error::new(kind, said))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_of_ours_is_known_by_point_and_source() {
        let table = "22 27 0:21 / /proc rw,relatime - proc proc rw\n\
                     90 27 0:50 / /my\\040litefs rw,nosuid shared:1 - fuse.litefs-py litefs-py rw\n\
                     91 27 0:51 / /other rw - fuse.sshfs host: rw\n\
                     92 27 0:51";
        assert!(is_ours(table, Path::new("/my litefs")));
        assert_eq!(minor_of(table, Path::new("/my litefs")), Some(50));
        assert_eq!(minor_of(table, Path::new("/other")), None);
        assert!(!is_ours(table, Path::new("/other")));
        assert!(!is_ours(table, Path::new("/proc")));
        // LiteFS's may be any FUSE mount at its point.
        assert!(is_fuse(table, Path::new("/other")));
        assert!(!is_fuse(table, Path::new("/proc")));
        assert!(!is_fuse(table, Path::new("/elsewhere")));
    }
}
