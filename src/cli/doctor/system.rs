//! The kernel, and what it lets a process have.

use std::path::Path;

use rustix::process::{Resource, geteuid, getrlimit};

use super::Check;
use crate::core::config::{Config, Passthrough};

/// FUSE passthrough came with this Linux.
const PASSTHROUGH: (u32, u32) = (6, 9);
/// Fewer open files than this are few for some hundred databases and their connections.
const FEW_FILES: u64 = 4096;
/// systemd-timesyncd's mark that it has set the clock (systemd-timesyncd.service(8)).
const TIMESYNCD: &str = "/run/systemd/timesync/synchronized";

pub fn fuse() -> Check {
    let name = "fuse";
    let device = std::fs::File::options().read(true).write(true).open("/dev/fuse");
    match device {
        Err(error) => Check::wrong(
            name,
            format!("/dev/fuse: {error}"),
            "load the kernel module (modprobe fuse); give a container the device and CAP_SYS_ADMIN",
        ),
        Ok(_) if geteuid().is_root() => Check::fine(name, "/dev/fuse can be used"),
        Ok(_) if in_path("fusermount3") => {
            Check::fine(name, "/dev/fuse can be used, by way of fusermount3")
        }
        Ok(_) => Check::wrong(
            name,
            "this user is not root, and there is no fusermount3",
            "install the package fuse3, or run the node as root",
        ),
    }
}

fn in_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

pub fn passthrough(config: &Config) -> Check {
    let name = "passthrough";
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    if config.mount.passthrough == Passthrough::Off {
        return Check::fine(name, "turned off by mount.passthrough");
    }
    match version(&release) {
        Some(version) if version < PASSTHROUGH => Check::warning(
            name,
            format!("Linux {release} has none"),
            "with Linux 6.9 or later programs share memory files without the daemon in between",
        ),
        _ if !geteuid().is_root() => Check::warning(
            name,
            format!("Linux {release}, but this user is not root"),
            "the kernel wants CAP_SYS_ADMIN for it; without it programs share memory through the mount",
        ),
        _ => Check::fine(name, format!("Linux {release}")),
    }
}

/// The first two numbers of a kernel's release.
pub(super) fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(['.', '-']).map(str::parse);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => Some((major, minor)),
        _ => None,
    }
}

pub fn open_files() -> Check {
    let name = "open files";
    match getrlimit(Resource::Nofile).maximum {
        Some(limit) if limit < FEW_FILES => Check::warning(
            name,
            format!("at most {limit}"),
            format!("LimitNOFILE={FEW_FILES} or more in the service; a database takes some ten"),
        ),
        Some(limit) => Check::fine(name, format!("at most {limit}")),
        None => Check::fine(name, "as many as there are"),
    }
}

/// Nothing here rests on clocks, but people compare logs, and certificates have dates.
pub fn clock() -> Check {
    let name = "clock";
    let daemons = ["chronyd", "ntpd", "ntpd-rs", "systemd-timesyncd"];
    if Path::new(TIMESYNCD).exists() {
        return Check::fine(name, "set by systemd-timesyncd");
    }
    match daemons.into_iter().find(|daemon| runs(daemon)) {
        Some(daemon) => Check::fine(name, format!("{daemon} runs")),
        None => Check::warning(
            name,
            "no program that sets it was found",
            "certificates have dates, and logs are compared by time: run chrony or systemd-timesyncd \
             (a virtual machine may get its time from the host)",
        ),
    }
}

/// Whether a process of that name runs (`proc_pid_comm(5)`: 15 bytes of it).
fn runs(name: &str) -> bool {
    let name = name.get(..15).unwrap_or(name);
    let Ok(processes) = std::fs::read_dir("/proc") else { return false };
    processes.flatten().any(|process| {
        std::fs::read_to_string(process.path().join("comm")).is_ok_and(|comm| comm.trim() == name)
    })
}
