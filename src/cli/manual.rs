//! `litefs-py completions` and `litefs-py man`: what packages install beside the program, made from the
//! same description of the command line that it is read by.

use std::path::{Path, PathBuf};

use clap::CommandFactory;
use clap_complete::Shell;

use super::output::print;
use super::{Cli, Exit, Failure};

#[derive(Debug, clap::Args)]
pub(super) struct CompletionsArgs {
    /// For which shell.
    shell: Shell,
}

#[derive(Debug, clap::Args)]
pub(super) struct ManArgs {
    /// The folder that the pages are written into; it is made if it is missing.
    #[arg(value_name = "DIR")]
    folder: PathBuf,
}

/// Prints the completions of a shell.
pub(super) fn completions(args: &CompletionsArgs) -> Result<(), Failure> {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "litefs-py", &mut text);
    print(&String::from_utf8_lossy(&text))
}

/// Writes a page for the program and one for each of its commands: litefs-py.1, litefs-py-status.1, …
pub(super) fn pages(args: &ManArgs) -> Result<(), Failure> {
    write_pages(&args.folder).map_err(|error| {
        Failure::new(Exit::Io, format!("cannot write {}: {error}", args.folder.display()))
    })
}

fn write_pages(folder: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    clap_mangen::generate_to(Cli::command(), folder)
}
