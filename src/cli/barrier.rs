//! `litefs-py barrier`: after it, what this node shows is no older than the question.

use std::time::Duration;

use super::output::{json, print};
use super::target::Target;
use super::{Failure, block_on};
use crate::core::config::{UnitError, parse_duration, show_duration};
use crate::core::engine::BarrierPassed;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    target: Target,
    /// How long to wait at most: a duration such as 5s, up to 60s.
    #[arg(long, default_value = "10s", value_parser = duration)]
    timeout: Duration,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn duration(text: &str) -> Result<Duration, UnitError> {
    parse_duration(text)
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    print(&block_on(ask(args))?)
}

pub(super) async fn ask(args: &Args) -> Result<String, Failure> {
    let path = format!("/barrier?timeout={}", show_duration(args.timeout));
    let passed: BarrierPassed = args.target.client().await?.post(&path, None).await?;
    if args.json {
        return json(&passed);
    }
    Ok(format!("all up to entry {} is visible here\n", passed.index))
}
