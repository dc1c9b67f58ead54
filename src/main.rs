//! The program `litefs-py`: reads the command line, does what it says, answers with an exit code.

use std::process::ExitCode;

use clap::Parser;
use litefs_py::cli::{Cli, Exit};

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(answer) => {
            // Help and the version are asked for, and go to standard output.
            let wrong = answer.use_stderr();
            // A closed terminal has no use for it.
            let _ = answer.print();
            return if wrong { ExitCode::from(Exit::Usage as u8) } else { ExitCode::SUCCESS };
        }
    };
    match cli.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{failure}");
            failure.code()
        }
    }
}
