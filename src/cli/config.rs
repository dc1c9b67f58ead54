//! `litefs-py config`: checks and shows configuration files, and makes their manual.

use std::path::PathBuf;

use super::output::{json, print};
use super::target::load_config;
use super::{CONFIG_PATH, Exit, Failure};
use crate::core::config;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Check a file: one line for each problem, and exit code 78.
    Check {
        #[arg(default_value = CONFIG_PATH)]
        file: PathBuf,
    },
    /// Print a file with every default.
    Show {
        #[arg(default_value = CONFIG_PATH)]
        file: PathBuf,
    },
    /// Print the JSON schema of configuration files.
    Schema,
    /// Print docs/configuration.md.
    #[command(hide = true)]
    Docs,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    match &args.what {
        What::Check { file } => {
            load_config(file)?;
            print(&format!("{}: fine\n", file.display()))
        }
        What::Show { file } => {
            let shown = config::show(&load_config(file)?).map_err(|error| {
                Failure::new(Exit::Software, format!("cannot show {}: {error}", file.display()))
            })?;
            print(&shown)
        }
        What::Schema => print(&json(&config::schema())?),
        What::Docs => print(&config::manual()),
    }
}
