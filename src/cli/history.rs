//! `litefs-py history`: who led when, and why that changed.

use super::output::{json, or_dash, print, table, utc};
use super::target::Target;
use super::{Failure, block_on};
use crate::core::history::LeaderChange;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    target: Target,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    print(&block_on(look(args))?)
}

pub(super) async fn look(args: &Args) -> Result<String, Failure> {
    let history: Vec<LeaderChange> = args.target.client().await?.get("/history").await?;
    if args.json {
        return json(&history);
    }
    let rows: Vec<_> = history.iter().map(row).collect();
    Ok(table([">TERM", "LEADER", "SINCE", ">NO LEADER", "WHY"], &rows))
}

fn row(change: &LeaderChange) -> [String; 5] {
    [
        change.term.to_string(),
        change.leader.clone(),
        utc(change.since_ms),
        or_dash(change.without_leader_ms.map(|ms| format!("{ms} ms"))),
        change.to_string(),
    ]
}
