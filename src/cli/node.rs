//! `litefs-py node`: runs a node until it is told to stop.

use std::fmt::Display;
use std::num::NonZero;
use std::path::PathBuf;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::target::load_config;
use super::{CONFIG_PATH, Exit, Failure, logging};
use crate::core::config::Config;
use crate::node::{Blame, NodeError};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The node's configuration.
    #[arg(long, value_name = "FILE", default_value = CONFIG_PATH, env = "LITEFS_PY_CONFIG")]
    config: PathBuf,
}

/// What ended a node.
pub trait Ended: Display {
    fn exit(&self) -> Exit {
        Exit::Software
    }

    /// An exit code that is another program's, to be passed on as it is.
    fn passed_on(&self) -> Option<i32> {
        None
    }
}

impl Ended for NodeError {
    fn exit(&self) -> Exit {
        match self.blame() {
            Blame::Configuration => Exit::Config,
            Blame::InUse => Exit::TryAgain,
            Blame::Unavailable => Exit::Unavailable,
            Blame::Disk => Exit::Io,
            Blame::Node => Exit::Software,
        }
    }

    fn passed_on(&self) -> Option<i32> {
        match self {
            NodeError::Application { code } => Some(*code),
            _ => None,
        }
    }
}

/// How long work that blocks may take to its end when the node has ended; a start recovers the rest.
const LAST_WORK: Duration = Duration::from_secs(1);

#[cfg(test)]
impl Ended for String {}

/// Loads the configuration, begins the log, and runs `node` to its end.
///
/// # Errors
/// A wrong configuration (exit code 78), or what ended the node.
pub fn run<E: Ended, F: Future<Output = Result<(), E>>>(
    args: &Args,
    node: impl FnOnce(Config) -> F,
) -> Result<(), Failure> {
    let config = load_config(&args.config)?;
    logging::init(&config.log)?;
    raise_file_limit();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(workers())
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Exit::OsError, format!("cannot start: {error}")))?;
    let ended = runtime.block_on(node(config));
    // Something that blocks may wait for what does not come any more, once the node has stopped.
    runtime.shutdown_timeout(LAST_WORK);
    if let Err(error) = &ended
        && let Some(code) = error.passed_on()
    {
        eprintln!("litefs-py: {error}");
        std::process::exit(code);
    }
    ended.map_err(|error| Failure::new(error.exit(), format!("the node ended: {error}")))
}

/// As many open files as the system lets it have. What a process has at first, 1024 with systemd, is
/// less than some hundred databases and the connections that strangers may open before they are turned
/// away; and a node that cannot open a file of its log stops.
fn raise_file_limit() {
    let now = getrlimit(Resource::Nofile);
    let wanted = Rlimit { current: now.maximum, maximum: now.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, wanted) {
        tracing::warn!(%error, limit = now.current, "cannot raise the limit of open files");
    }
}

/// Threads that run tasks. What a commit does here is a chain of short steps, each begun by the one
/// before: a second thread wakes up for it and finds little to do, and on few cores that costs a
/// fifth of the throughput. What blocks has threads of its own.
fn workers() -> usize {
    let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
    (cores / 2).clamp(1, 4)
}
