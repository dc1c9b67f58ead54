//! Where the databases are mounted, or will be.

use std::path::Path;

use rustix::fs::{IFlags, Mode, OFlags};
use rustix::process::geteuid;

use super::super::dev::mounts::at_or_below;
use super::Check;
use crate::core::config::{Config, Immutable};

const NAME: &str = "mount point";

pub fn look(config: &Config, runs: bool) -> Check {
    let path = &config.mount.path;
    if is_mounted(path) {
        return if runs {
            Check::fine(NAME, format!("{} is mounted", path.display()))
        } else {
            Check::warning(
                NAME,
                format!("{} is mounted, and no node answers", path.display()),
                "a node that was killed leaves its mount; the next start clears it",
            )
        };
    }
    let entries = match std::fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Check::fine(NAME, format!("{} will be made", path.display()));
        }
        Err(error) => {
            return Check::wrong(
                NAME,
                format!("{}: {error}", path.display()),
                "it has to be a folder",
            );
        }
    };
    if let Some(entry) = entries.flatten().next() {
        return Check::wrong(
            NAME,
            format!("{} holds {}", path.display(), entry.file_name().display()),
            "move it away: it would be hidden, and a database in it is not replicated \
             (if the folder is immutable: chattr -i first)",
        );
    }
    match immutable(path) {
        Some(true) => Check::fine(NAME, format!("{} is empty, and immutable", path.display())),
        // The node sees to it when it starts.
        _ if config.mount.immutable == Immutable::Auto && geteuid().is_root() => {
            Check::fine(NAME, format!("{} is empty", path.display()))
        }
        _ => Check::warning(
            NAME,
            format!("{} is empty, and programs may write into it", path.display()),
            "a program that runs while nothing is mounted makes a database that no other node has: \
             chattr +i (mount.immutable does it for a node of root)",
        ),
    }
}

fn is_mounted(path: &Path) -> bool {
    at_or_below(path).is_ok_and(|points| points.iter().any(|point| point == path))
}

fn immutable(path: &Path) -> Option<bool> {
    let folder = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
    Some(rustix::fs::ioctl_getflags(folder).ok()?.contains(IFlags::IMMUTABLE))
}
