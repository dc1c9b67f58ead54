//! A node's process: started so that it dies with this one, signalled, awaited.

use std::ffi::OsString;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{ExitStatus, Stdio};

use rustix::process::{Pid, Signal, getppid, kill_process, set_parent_process_death_signal};
use tokio::process::{Child, Command};
use tokio::sync::{mpsc, watch};

use super::file_failure;
use super::layout::Node;
use crate::cli::{Exit, Failure};

/// Another program to run as the nodes: for tests of this supervisor.
const PROGRAM_VARIABLE: &str = "LITEFS_PY_DEV_NODE_PROGRAM";

/// What systemd says to this process is not meant for the nodes (`sd_notify(3)`).
const NOT_INHERITED: [&str; 4] =
    ["NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC", "JOURNAL_STREAM"];

/// Of a log's end, in bytes and lines.
const TAIL_BYTES: u64 = 8 << 10;
const TAIL_LINES: usize = 20;

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct ChildArgs {
    /// The process to die with.
    #[arg(long)]
    parent: i32,
    /// What to become.
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<OsString>,
}

/// Asks the kernel to be killed when the parent's thread ends, then becomes the node. By a process
/// of its own, since between fork and exec no safe code can run. Returns only when it failed.
pub(in crate::cli) fn run_child(args: &ChildArgs) -> Failure {
    let failed = |why: &dyn std::fmt::Display| {
        Failure::new(Exit::OsError, format!("cannot become a node of litefs-py dev: {why}"))
    };
    if let Err(error) = set_parent_process_death_signal(Some(Signal::KILL)) {
        return failed(&error);
    }
    // It may have died before the kernel was asked.
    if getppid().map(Pid::as_raw_nonzero).map(i32::from) != Some(args.parent) {
        return failed(&"the parent is gone");
    }
    match args.command.split_first() {
        Some((program, rest)) => failed(&std::process::Command::new(program).args(rest).exec()),
        None => failed(&"no command"),
    }
}

/// A running, or ended, process.
pub(super) struct Process {
    pub pid: u32,
    signals: mpsc::UnboundedSender<Signal>,
    ended: watch::Receiver<Option<String>>,
    log_start: u64,
}

impl Process {
    /// Starts a node; what it prints goes to the end of its log.
    pub fn start(node: &Node) -> Result<Self, Failure> {
        let path = node.log();
        let log = File::options()
            .create(true)
            .append(true)
            .open(&path)
            .map_err(|error| file_failure("open", &path, &error))?;
        let log_start = log.metadata().map_or(0, |metadata| metadata.len());
        let me = std::env::current_exe()
            .map_err(|error| Failure::new(Exit::OsError, format!("cannot find myself: {error}")))?;
        let program = std::env::var_os(PROGRAM_VARIABLE).unwrap_or_else(|| me.clone().into());
        let failed = |error: &std::io::Error| file_failure("start", &me, error);
        let errors = log.try_clone().map_err(|error| failed(&error))?;
        let mut command = Command::new(&me);
        command
            .args(["dev-child", "--parent"])
            .arg(std::process::id().to_string())
            .arg("--")
            .arg(program)
            .args(["node", "--config"])
            .arg(node.config())
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            // Its own group: Ctrl-C reaches this process alone, which then stops them in order.
            .process_group(0)
            .kill_on_drop(true);
        for variable in NOT_INHERITED {
            command.env_remove(variable);
        }
        let child = command.spawn().map_err(|error| failed(&error))?;
        let pid = child.id().unwrap_or_default();
        let (signals, wanted) = mpsc::unbounded_channel();
        let (over, ended) = watch::channel(None);
        tokio::spawn(keep(child, wanted, over));
        Ok(Self { pid, signals, ended, log_start })
    }

    /// How it ended, when it has.
    pub fn ended(&self) -> Option<String> {
        self.ended.borrow().clone()
    }

    pub fn signal(&self, signal: Signal) {
        // It fails when the process has ended, which is fine.
        let _ = self.signals.send(signal);
    }

    /// Until it has ended.
    pub async fn wait(&mut self) {
        // The keeper goes only after it has said so.
        let _ = self.ended.wait_for(Option::is_some).await;
    }

    /// The end of what it printed since it was started.
    pub fn tail(&self, log: &Path) -> String {
        let read = || {
            let mut file = File::open(log)?;
            let end = file.metadata()?.len();
            file.seek(SeekFrom::Start(self.log_start.max(end.saturating_sub(TAIL_BYTES))))?;
            let mut bytes = Vec::new();
            file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        };
        let text = read().unwrap_or_else(|error: std::io::Error| format!("({error})"));
        let lines: Vec<&str> = text.lines().collect();
        let last = lines.len().saturating_sub(TAIL_LINES);
        lines
            .get(last..)
            .unwrap_or_default()
            .iter()
            .fold(String::new(), |all, line| all + "  | " + line + "\n")
    }
}

/// Owns the child, so that no signal is sent to a number that another process has by now.
async fn keep(
    mut child: Child,
    mut wanted: mpsc::UnboundedReceiver<Signal>,
    over: watch::Sender<Option<String>>,
) {
    let end = loop {
        tokio::select! {
            end = child.wait() => break end,
            Some(signal) = wanted.recv() => {
                let pid = child.id().and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
                if let Some(pid) = pid {
                    // It fails when the process is ending already, which is what is wanted.
                    let _ = kill_process(pid, signal);
                }
            }
        }
    };
    let how = end.map_or_else(|error| error.to_string(), |status: ExitStatus| status.to_string());
    let _ = over.send(Some(how));
}
