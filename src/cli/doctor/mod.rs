//! `litefs-py doctor`: what keeps a node on this machine from running, or from running well.
//!
//! One line a check: what was looked at, what was found, what to do about it. It asks the system, not
//! the node, so that it helps where the node does not start; and it changes nothing but a small file
//! in the data folder, which is gone again, that the disk's speed is measured with.

use serde::Serialize;

use super::output::{json, print, table};
use super::target::{Target, load_config};
use super::{Exit, Failure, block_on};
use crate::core::config::Config;

mod disk;
mod identity;
mod mount_point;
mod network;
mod system;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    target: Target,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum State {
    Fine,
    /// It runs, and could be better or will not for ever.
    Warning,
    /// A node does not run so.
    Wrong,
}

/// What one check found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Check {
    pub name: &'static str,
    pub state: State,
    pub found: String,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
}

impl Check {
    fn fine(name: &'static str, found: impl Into<String>) -> Self {
        Self { name, state: State::Fine, found: found.into(), advice: None }
    }

    fn warning(name: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { name, state: State::Warning, found: found.into(), advice: Some(advice.into()) }
    }

    fn wrong(name: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { name, state: State::Wrong, found: found.into(), advice: Some(advice.into()) }
    }
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let config = load_config(&args.target.config)?;
    // What is in use may be in use by the node itself.
    let runs = block_on(async {
        let client = args.target.client().await?;
        client.reachable().await
    });
    let checks = look(&config, runs.is_ok());
    print(&if args.json { json(&checks)? } else { shown(&checks) })?;
    let wrong = checks.iter().filter(|check| check.state == State::Wrong).count();
    if wrong > 0 {
        let all = checks.len();
        let told = format!("{wrong} of {all} checks found what a node cannot run with");
        return Err(Failure::new(Exit::Unavailable, told));
    }
    Ok(())
}

/// `runs`: the node of this configuration answers.
fn look(config: &Config, runs: bool) -> Vec<Check> {
    let mut checks = vec![
        system::fuse(),
        system::passthrough(config),
        system::open_files(),
        system::clock(),
        mount_point::look(config, runs),
    ];
    checks.extend(disk::look(&config.data_dir));
    checks.extend(identity::look(config));
    checks.extend(network::look(config, runs));
    checks
}

fn shown(checks: &[Check]) -> String {
    let rows: Vec<_> = checks
        .iter()
        .map(|check| {
            let state = match check.state {
                State::Fine => "fine",
                State::Warning => "warning",
                State::Wrong => "WRONG",
            };
            [state.to_owned(), check.name.to_owned(), check.found.clone()]
        })
        .collect();
    let mut advice: Vec<String> = Vec::new();
    for check in checks {
        let Some(what) = &check.advice else { continue };
        let line = format!("\n{}: {what}\n", check.name);
        // For several members it is the same.
        if !advice.contains(&line) {
            advice.push(line);
        }
    }
    table(["", "CHECK", "FOUND"], &rows) + &advice.concat()
}

#[cfg(test)]
mod tests;
