//! The guard: a small process between the daemon and LiteFS, which ends LiteFS when the daemon is silent.
//!
//! one-primary, pause-proof: LiteFS's calls for its lease have no time limit. While the daemon is paused they
//! hang, and LiteFS stays writable for ever; meanwhile the others give the lease to another node. So LiteFS
//! may live only as long as a process beside the daemon hears from it.
//!
//! The daemon writes a byte each [`BEAT`] to the guard's standard input: [`ALIVE`], or an order. End of input,
//! or silence: LiteFS is killed. If the guard itself is killed, the kernel kills LiteFS.

use std::ffi::OsString;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};

/// Between two signs of life of the daemon.
pub const BEAT: Duration = Duration::from_millis(100);

/// The daemon lives.
pub const ALIVE: u8 = b'.';
/// LiteFS is to stop in order.
pub const TERMINATE: u8 = b'T';
/// LiteFS is to end now.
pub const KILL: u8 = b'K';

/// What the guard ends with when the daemon was silent.
pub const SILENT: i32 = 124;

/// Runs a command until it ends, and returns its exit code; 128 and the signal's number, if one ended it.
/// To be called on the main thread: the kernel kills the command when the thread ends that started it.
///
/// # Errors
/// It could not be started, or watched.
pub fn run(command: &[OsString], pid_file: &Path, silence: Duration) -> io::Result<i32> {
    let mut child = Command::new(std::env::current_exe()?)
        .args(["dev-child", "--parent", &std::process::id().to_string(), "--"])
        .args(command)
        .stdin(Stdio::null())
        .spawn()?;
    let watched = watch(&mut child, pid_file, silence);
    if watched.is_err() {
        // Unwatched it may not live.
        let _ = child.kill();
    }
    let status = child.wait()?;
    // Nobody looks for a process that is gone.
    let _ = std::fs::remove_file(pid_file);
    if watched? {
        return Ok(SILENT);
    }
    Ok(status.code().or(status.signal().map(|signal| 128 + signal)).unwrap_or(1))
}

/// Until the process ends. Whether the daemon was silent.
fn watch(child: &mut Child, pid_file: &Path, silence: Duration) -> io::Result<bool> {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let pid = pid.ok_or_else(|| io::Error::other("it has no number"))?;
    std::fs::write(pid_file, format!("{}\n", identity(child.id()).unwrap_or_default()))?;
    let process = pidfd_open(pid, PidfdFlags::empty())?;
    // Not by way of the buffer of the standard library, in which an order could lie unseen.
    let input = io::stdin();
    let input = input.as_fd();
    let mut heard = Instant::now();
    loop {
        let left = silence.saturating_sub(heard.elapsed());
        if left.is_zero() {
            child.kill()?;
            return Ok(true);
        }
        let mut waited =
            [PollFd::new(&process, PollFlags::IN), PollFd::from_borrowed_fd(input, PollFlags::IN)];
        let left = Timespec::try_from(left).map_err(io::Error::other)?;
        match poll(&mut waited, Some(&left)) {
            Err(rustix::io::Errno::INTR) => continue,
            polled => polled?,
        };
        let [ended, spoken] = waited.map(|one| !one.revents().is_empty());
        if ended {
            return Ok(false);
        }
        if spoken {
            let mut orders = [0; 64];
            let read = rustix::io::read(input, &mut orders)?;
            heard = Instant::now();
            let orders = orders.get(..read).unwrap_or_default();
            if orders.is_empty() || orders.contains(&KILL) {
                child.kill()?;
                return Ok(orders.is_empty());
            }
            if orders.contains(&TERMINATE) {
                kill_process(pid, Signal::TERM)?;
            }
        }
    }
}

/// A process, told from any other that has its number later: proc(5), `stat`, when it was started.
pub fn identity(pid: u32) -> Option<String> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(") ")?;
    let state = fields.split(' ').next()?;
    // One that is dead holds nothing any more.
    let started = fields.split(' ').nth(19)?;
    (state != "Z").then(|| format!("{pid} {started}"))
}

/// Kills the LiteFS that an earlier life of the daemon may have left, by what its guard wrote down.
/// Blocks until it is gone.
///
/// # Errors
/// It does not end: it waits for a disk, or for its own mount.
pub fn end_leftover(pid_file: &Path, patience: Duration) -> io::Result<()> {
    let Ok(known) = std::fs::read_to_string(pid_file) else { return Ok(()) };
    let known = known.trim();
    let pid = known.split(' ').next().and_then(|pid| pid.parse::<u32>().ok());
    let Some(pid) = pid else { return Ok(()) };
    let begun = Instant::now();
    while identity(pid).as_deref() == Some(known) {
        if begun.elapsed() > patience {
            let why = format!("the LiteFS that ran here before (process {pid}) does not end");
            return Err(io::Error::new(io::ErrorKind::TimedOut, why));
        }
        if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
            // It fails when it has just ended.
            let _ = kill_process(pid, Signal::KILL);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leftover_is_ended_and_only_that_one() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pid");
        let patience = Duration::from_secs(5);
        end_leftover(&file, patience).unwrap();
        let mut other = Command::new("sleep").arg("60").spawn().unwrap();
        std::fs::write(&file, format!("{} 1", other.id())).unwrap();
        end_leftover(&file, patience).unwrap();
        assert_eq!(other.try_wait().unwrap(), None, "another process has its number by now");
        std::fs::write(&file, identity(other.id()).unwrap()).unwrap();
        end_leftover(&file, patience).unwrap();
        assert_eq!(other.wait().unwrap().signal(), Some(9));
    }
}
