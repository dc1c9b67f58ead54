//! `litefs-py litefs-guard`: the process between a daemon and its LiteFS.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use super::{Exit, Failure};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// How long the daemon may be silent, in milliseconds.
    #[arg(long)]
    silence_ms: u64,
    /// Where the process's number is written down.
    #[arg(long)]
    pid_file: PathBuf,
    /// What to run.
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<OsString>,
}

/// Ends with the exit code of what it ran.
///
/// # Errors
/// It could not be run.
pub fn run(args: &Args) -> Result<(), Failure> {
    let silence = Duration::from_millis(args.silence_ms);
    let code = crate::node::run_litefs_guard(&args.command, &args.pid_file, silence);
    let code =
        code.map_err(|error| Failure::new(Exit::OsError, format!("cannot guard: {error}")))?;
    std::process::exit(code)
}
