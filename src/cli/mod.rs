//! The command line: one file a subcommand.
//!
//! What asks a running node does so over its HTTP API, by the Unix socket that its configuration
//! names, or by a URL. Errors are one line: what, on what, what to do; exit codes are those of
//! sysexits(3).
//!
//! Knows of the node's public face, the configuration and the HTTP API.

use clap::{Parser, Subcommand};

mod barrier;
mod check;
mod client;
mod config;
mod convert;
mod databases;
mod dev;
mod diverged;
mod doctor;
mod export;
mod failure;
mod history;
mod import;
mod join;
mod litefs_guard;
mod logging;
mod manual;
mod member;
pub mod node;
mod output;
mod recover;
mod status;
mod switchover;
mod target;
mod token;
mod unmount;
mod watch;

#[cfg(test)]
mod tests;

pub use failure::{Exit, Failure};

/// Where the configuration is when nothing else is said.
pub(crate) const CONFIG_PATH: &str = "/etc/litefs-py/config.yml";

/// SQLite on more than one machine.
#[derive(Debug, Parser)]
#[command(name = "litefs-py", version, about, propagate_version = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a node, until it is told to stop.
    Node(node::Args),
    /// Set up the first node of a new cluster.
    Init(join::InitArgs),
    /// Set up another node of a cluster, by a token.
    Join(join::JoinArgs),
    /// Make, list and revoke the tokens that let nodes join.
    Token(token::Args),
    /// List, add, remove, promote and demote the members.
    Member(member::Args),
    /// Go on from one node, when the majority is lost for good.
    Recover(recover::Args),
    /// Rotate the cluster's certificate authority.
    Ca(token::CaArgs),
    /// Run a cluster of several nodes on this machine, to try things out.
    Dev(dev::Args),
    /// Show this node, and the cluster as it sees it.
    Status(status::Args),
    /// List the databases with their positions.
    Databases(databases::Args),
    /// Show who led when, and why that changed.
    History(history::Args),
    /// Hand the leadership over to another node; nothing fails.
    Switchover(switchover::Args),
    /// Wait until this node shows all that was committed before now.
    Barrier(barrier::Args),
    /// Compare a database on all nodes, byte by byte, while it is used.
    Check(check::Args),
    /// Make a database of an SQLite file, on all nodes.
    Import(import::Args),
    /// Write a database to an SQLite file, while it is used.
    Export(export::Args),
    /// Take a stopped node's data from one engine to the other; the original is kept.
    Convert(convert::Args),
    /// What was set aside on a node, before another history took its place.
    Diverged(diverged::Args),
    /// Look for what keeps a node on this machine from running, or from running well.
    Doctor(doctor::Args),
    /// Take away the mount that a daemon left which was killed, or hangs; by force.
    Unmount(unmount::Args),
    /// Check or show a configuration file.
    Config(config::Args),
    /// Print the description of the HTTP API, as `OpenAPI` 3.1.
    Openapi,
    /// Print the completions of a shell.
    Completions(manual::CompletionsArgs),
    /// Write the manual pages into a folder.
    Man(manual::ManArgs),
    /// What `dev` runs a node by, and the guard LiteFS: dies with its parent.
    #[command(name = "dev-child", hide = true)]
    DevChild(dev::ChildArgs),
    /// What the daemon runs LiteFS by: ends it when the daemon is silent.
    #[command(name = "litefs-guard", hide = true)]
    LitefsGuard(litefs_guard::Args),
}

impl Cli {
    /// Does what was asked for.
    ///
    /// # Errors
    /// What failed, and the exit code for it.
    pub fn run(self) -> Result<(), Failure> {
        match self.command {
            Command::Node(args) => {
                node::run(&args, |config| crate::node::run(config, logging::set_level))
            }
            Command::Init(args) => join::init(&args),
            Command::Join(args) => join::join(&args),
            Command::Token(args) => token::run(&args),
            Command::Member(args) => member::run(&args),
            Command::Recover(args) => recover::run(&args),
            Command::Ca(args) => token::run_ca(&args),
            Command::Dev(args) => dev::run(&args),
            Command::Status(args) => status::run(&args),
            Command::Databases(args) => databases::run(&args),
            Command::History(args) => history::run(&args),
            Command::Switchover(args) => switchover::run(&args),
            Command::Barrier(args) => barrier::run(&args),
            Command::Check(args) => check::run(&args),
            Command::Import(args) => import::run(&args),
            Command::Export(args) => export::run(&args),
            Command::Convert(args) => convert::run(&args),
            Command::Diverged(args) => diverged::run(&args),
            Command::Doctor(args) => doctor::run(&args),
            Command::Unmount(args) => unmount::run(&args),
            Command::Config(args) => config::run(&args),
            Command::Openapi => output::print(&output::json(&crate::api::document())?),
            Command::Completions(args) => manual::completions(&args),
            Command::Man(args) => manual::pages(&args),
            Command::DevChild(args) => Err(dev::run_child(&args)),
            Command::LitefsGuard(args) => litefs_guard::run(&args),
        }
    }
}

/// Runs what waits for a node, on this thread alone.
fn block_on<T>(task: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Exit::OsError, format!("cannot start: {error}")))?
        .block_on(task)
}
