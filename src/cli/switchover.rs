//! `litefs-py switchover`: hands the leadership over.

use super::output::{json, print};
use super::target::Target;
use super::{Failure, block_on};
use crate::core::engine::Switchover;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    target: Target,
    /// The node that shall lead; without it, the one that is furthest.
    #[arg(long, value_name = "NAME")]
    to: Option<String>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    print(&block_on(ask(args))?)
}

pub(super) async fn ask(args: &Args) -> Result<String, Failure> {
    let wish = serde_json::json!({ "to": args.to });
    let done: Switchover = args.target.client().await?.post("/switchover", Some(&wish)).await?;
    if args.json {
        return json(&done);
    }
    Ok(match done {
        Switchover::Done { leader } => format!("{leader} leads now\n"),
        Switchover::Accepted { to } => {
            format!("{to} was asked to lead; litefs-py status shows when it does\n")
        }
    })
}
