//! One life of the mount: how it begins, and how it ends.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use fuser::{BackingId, Config, MountOption, Session, SessionACL};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::UnmountFlags;
use tokio::sync::watch;

use super::attributes::Ownership;
use super::filesystem::{Filesystem, Shared};
use super::mountpoint::{self, MountError, SOURCE};
use super::tree::Tree;
use crate::commit::door::Databases;

/// Threads that read requests. Two are enough: 8.3k transactions a second with one, 14.3k with
/// two, and no more with three (ENGINE.md, "FUSE").
const WORKERS: usize = 2;
/// How long programs may take to close their files once the mount is to end; what still holds one
/// then gets ENOTCONN.
const CLOSING: Duration = Duration::from_secs(1);
/// How long the workers may take to end after that.
const ENDING: Duration = Duration::from_secs(2);
/// Between two tries to unmount.
const RETRY: Duration = Duration::from_millis(20);

/// Where and how the databases are mounted.
#[derive(Debug, Clone)]
pub struct MountConfig {
    /// An empty folder.
    pub path: PathBuf,
    /// User and group that every file belongs to.
    pub owner: u32,
    pub group: u32,
    /// Permission bits of the database files, such as 0o660; the folder may also be entered by
    /// whoever may read them.
    pub mode: u16,
    /// Whether users other than the daemon's may use the mount, as `mode` says.
    pub allow_other: bool,
    /// Whether to hand the shm to the kernel, where it takes it.
    pub passthrough: bool,
    /// Whether nobody is to make files in the folder beneath while nothing is mounted.
    pub immutable: bool,
    /// The data folder: its file system's space is shown as the mount's own, and passthrough is
    /// tried with a file of it.
    pub statfs_path: PathBuf,
}

/// The mounted folder. Dropping it unmounts, as [`Mount::stop`] does.
#[derive(Debug)]
pub struct Mount {
    path: PathBuf,
    passthrough: bool,
    ended: watch::Receiver<bool>,
    finished: mpsc::Receiver<()>,
    session: Option<JoinHandle<()>>,
}

impl Mount {
    /// Mounts `databases`. Clears what a dead daemon left on the mount point. May take some
    /// seconds when what is mounted there does not answer.
    ///
    /// # Errors
    /// A mount point that is not an empty folder or has a live mount on it, no /dev/fuse, or
    /// the kernel's refusal.
    pub fn start(config: MountConfig, databases: Arc<dyn Databases>) -> Result<Self, MountError> {
        mountpoint::prepare(&config.path)?;
        if config.immutable {
            mountpoint::make_immutable(&config.path);
        }
        let ownership = Ownership {
            owner: config.owner,
            group: config.group,
            mode: config.mode & 0o666,
            since: SystemTime::now(),
        };
        let tree = Tree::new(databases);
        let data = &config.statfs_path;
        let shared = Arc::new(Shared::new(tree, ownership, &config.path, data, config.passthrough));
        let session =
            Session::new(Filesystem(shared.clone()), &config.path, &options(config.allow_other))
                .map_err(|source| MountError::Mount { path: config.path.clone(), source })?;
        shared.tree.notify_through(session.notifier());
        if shared.passthrough() {
            shared.set_passthrough(takes_files(&session, data));
        }
        let passthrough = shared.passthrough();
        drop(shared);
        Self::run(session, config.path, passthrough)
    }

    fn run(
        session: Session<Filesystem>,
        path: PathBuf,
        passthrough: bool,
    ) -> Result<Self, MountError> {
        let (end, ended) = watch::channel(false);
        let (finish, finished) = mpsc::channel();
        let mounted = path.clone();
        let serve = move || {
            match session.run() {
                Ok(()) => tracing::info!(path = ?mounted, "the mount has ended"),
                Err(error) => tracing::error!(path = ?mounted, %error, "the mount has failed"),
            }
            end.send_replace(true);
            let _ = finish.send(());
        };
        let session = std::thread::Builder::new()
            .name("fuse".into())
            .spawn(serve)
            .map_err(|source| MountError::Mount { path: path.clone(), source })?;
        tracing::info!(?path, passthrough, "mounted");
        Ok(Self { path, passthrough, ended, finished, session: Some(session) })
    }

    /// Whether the shm is handed to the kernel, or shared through the mount.
    pub fn passthrough(&self) -> bool {
        self.passthrough
    }

    /// Turns true when the mount has ended, by [`stop`](Self::stop) or from outside.
    pub fn ended(&self) -> watch::Receiver<bool> {
        self.ended.clone()
    }

    /// Unmounts and joins the threads, within some seconds (bounded-answer): plainly while
    /// programs close their files, then by ending the connection, which gives ENOTCONN to
    /// whoever still holds one. To be called from a thread that may block.
    ///
    /// # Errors
    /// When it cannot be unmounted, or (not as root) programs still hold its files.
    pub fn stop(mut self) -> Result<(), MountError> {
        self.end()
    }

    fn end(&mut self) -> Result<(), MountError> {
        let Some(session) = self.session.take() else { return Ok(()) };
        if !session.is_finished() {
            self.unmount()?;
            if self.finished.recv_timeout(ENDING) == Err(mpsc::RecvTimeoutError::Timeout) {
                return Err(MountError::Held { path: self.path.clone() });
            }
        }
        if session.join().is_err() {
            tracing::error!(path = ?self.path, "the mount's thread panicked");
        }
        Ok(())
    }

    fn unmount(&self) -> Result<(), MountError> {
        let deadline = Instant::now() + CLOSING;
        loop {
            match mountpoint::detach(&self.path, UnmountFlags::empty()) {
                Ok(()) => return Ok(()),
                // Nothing is mounted there: someone was quicker.
                Err(error) if error.raw_os_error() == Some(libc::EINVAL) => return Ok(()),
                Err(error)
                    if error.kind() == std::io::ErrorKind::ResourceBusy
                        && Instant::now() < deadline =>
                {
                    std::thread::sleep(RETRY);
                }
                Err(_) => break,
            }
        }
        tracing::warn!(path = ?self.path, "programs hold files of the mount open; ending it by force");
        // umount(2): MNT_FORCE ends a FUSE connection even where the mount stays busy.
        mountpoint::detach(&self.path, UnmountFlags::FORCE | UnmountFlags::DETACH)
            .map_err(|source| MountError::Unmount { path: self.path.clone(), source })
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            tracing::error!(%error, "the mount was left behind");
        }
    }
}

fn options(allow_other: bool) -> Config {
    let mut config = Config::default();
    config.mount_options = vec![
        MountOption::FSName(SOURCE.to_owned()),
        // Not `Subtype`, which reaches fusermount3 alone.
        MountOption::CUSTOM(format!("subtype={SOURCE}")),
        MountOption::DefaultPermissions,
        MountOption::NoSuid,
        MountOption::NoDev,
        MountOption::NoExec,
        MountOption::NoAtime,
    ];
    config.acl = if allow_other { SessionACL::All } else { SessionACL::Owner };
    config.n_threads = Some(WORKERS);
    config.clone_fd = true;
    config
}

/// Whether the kernel takes a file of the data folder for passthrough: it wants `CAP_SYS_ADMIN`,
/// and a file system that is not stacked too deep. The one number that this uses up ends with the
/// connection.
fn takes_files(session: impl AsFd, data: &Path) -> bool {
    let taken = nameless(data).and_then(|file| BackingId::create_raw(session, file));
    if let Err(error) = &taken {
        tracing::info!(%error, "no passthrough here; the shm is shared through the mount");
    }
    taken.is_ok()
}

/// A file without a name, in a folder.
fn nameless(folder: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::CLOEXEC;
    let mode = Mode::RUSR | Mode::WUSR;
    match rustix::fs::open(folder, flags | OFlags::TMPFILE, mode) {
        // Not every file system can.
        Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::NOSYS) => {
            let path = folder.join("passthrough-is-tried");
            let file = rustix::fs::open(&path, flags | OFlags::CREATE, mode)?;
            rustix::fs::unlink(&path)?;
            Ok(file)
        }
        file => Ok(file?),
    }
}
