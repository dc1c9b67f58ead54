//! `litefs-py dev`: a cluster of several nodes on this machine, each a process of its own.
//!
//! Promises:
//! - When all nodes serve, `DIR/ready.json` is there, and only then; it is gone when they stop.
//! - Ctrl-C and SIGTERM stop all and leave no process and no mount. Should this process be killed,
//!   its nodes are killed with it.
//! - A node that ends stays ended until `litefs-py dev --dir DIR restart NAME`.
//! - A second start in the same folder goes on with its data; two at once are refused.

use std::path::PathBuf;
use std::time::Duration;

use super::barrier::duration;
use super::{Exit, Failure, block_on, output};
use crate::core::config::EngineKind;

mod child;
mod control;
mod layout;
pub(super) mod mounts;
mod ready;
mod supervisor;

pub(super) use child::{ChildArgs, run_child};
pub(super) use layout::Layout;

#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = false)]
pub(super) struct Args {
    /// Folder of the cluster; made at the first start, kept for later ones.
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// How many nodes a new cluster has (default: 3).
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u8).range(1..=9))]
    nodes: Option<u8>,
    /// Which engine a new cluster has.
    #[arg(long, value_parser = engine, default_value = "embedded")]
    engine: EngineKind,
    /// How long the nodes may take until they serve: a duration such as 60s.
    #[arg(long, default_value = "60s", value_parser = duration)]
    timeout: Duration,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Start a node again, of the cluster that runs in the folder.
    Restart {
        /// The node, such as n1.
        name: String,
    },
}

fn engine(text: &str) -> Result<EngineKind, String> {
    match text {
        "embedded" => Ok(EngineKind::Embedded),
        "litefs" => Ok(EngineKind::Litefs),
        _ => Err("the engines are: embedded, litefs".to_owned()),
    }
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    // On the main thread: the nodes die with the thread that started them.
    block_on(async {
        match &args.command {
            None => {
                let layout = Layout::prepare(&args.dir, args.nodes, args.engine)?;
                supervisor::run(&layout, args.timeout).await
            }
            Some(Command::Restart { name }) => {
                let layout = Layout::open(&args.dir)?;
                let pid = control::ask_restart(&layout, name).await?;
                output::print(&format!("{name} serves again, as process {pid}\n"))
            }
        }
    })
}

/// One line about what goes on.
fn say(text: &str) {
    eprintln!("litefs-py dev: {text}");
}

/// A failure that has to do with a file.
fn file_failure(what: &str, path: &std::path::Path, error: &dyn std::fmt::Display) -> Failure {
    Failure::new(Exit::Io, format!("cannot {what} {}: {error}", path.display()))
}
