//! `litefs-py status`: this node, and the cluster as it sees it; once, or again and again (`watch`).

use std::fmt::Write as _;

use super::output::{json, or_dash, print, size, table, time};
use super::target::Target;
use super::{Failure, block_on, watch};
use crate::core::engine::{Role, SnapshotProgress, SnapshotStage, Status};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    pub target: Target,
    /// Print JSON; with --watch, one line each second.
    #[arg(long)]
    pub json: bool,
    /// Look again every second, with databases and the last change of the leader, until interrupted;
    /// one line a second, unless the output is a terminal.
    #[arg(long)]
    watch: bool,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    if args.watch {
        return block_on(watch::watch(&args.target, args.json));
    }
    print(&block_on(look(args))?)
}

pub(super) async fn look(args: &Args) -> Result<String, Failure> {
    let status: Status = args.target.client().await?.get("/cluster").await?;
    if args.json { json(&status) } else { Ok(text(&status)) }
}

pub(super) fn role(role: Role) -> &'static str {
    match role {
        Role::Primary => "primary",
        Role::Replica => "replica",
    }
}

pub(super) fn text(status: &Status) -> String {
    let role = role(status.role);
    let quorum = match (status.quorum.ok, status.quorum.age_ms) {
        (true, Some(age)) => format!("quorum ok ({age} ms ago)"),
        (true, None) => "quorum ok".to_owned(),
        (false, Some(age)) => format!("no quorum for {}", time(age / 1000)),
        (false, None) => "no quorum yet".to_owned(),
    };
    let mut text = format!(
        "cluster {}, node {}: {role}, term {}, {quorum}, applied {} of {}, lag {}, up {}\n",
        status.cluster,
        status.name,
        status.term,
        status.applied_index,
        status.committed_index,
        status.lag_ms.map_or_else(|| "unknown".to_owned(), |lag| format!("{lag} ms")),
        time(status.uptime_seconds),
    );
    if !status.serving {
        text.push_str("not serving the databases\n");
    }
    for reason in status.stuck.iter().chain(&status.not_ready) {
        let _ = writeln!(text, "not ready: {reason}");
    }
    text.push('\n');
    let rows: Vec<_> = status
        .members
        .iter()
        .map(|member| {
            [
                member.name.clone(),
                member.role.word().to_owned(),
                if member.reachable { "reachable" } else { "unreachable" }.to_owned(),
                member.address.clone(),
                or_dash(member.matched),
                or_dash(member.lag),
            ]
        })
        .collect();
    text.push_str(&table(["NAME", "ROLE", "STATE", "ADDRESS", ">MATCHED", ">LAG"], &rows));
    if !status.snapshots.is_empty() {
        text.push('\n');
    }
    for snapshot in &status.snapshots {
        let _ = writeln!(text, "{}", progress(snapshot));
    }
    text
}

/// `app.db to n4: sending, 2.1 of 5.0 GiB (41 %), 180 MiB/s, 17 s left; 1.2 GiB were there`
pub(super) fn progress(snapshot: &SnapshotProgress) -> String {
    let (way, stage) = match snapshot.stage {
        SnapshotStage::Sending => ("to", "sending"),
        SnapshotStage::Comparing => ("with", "comparing the pages"),
        SnapshotStage::Receiving => ("from", "receiving"),
        SnapshotStage::Installing => ("from", "putting it in place"),
    };
    let mut text = format!("{} {way} {}: {stage}", snapshot.database, snapshot.node);
    if snapshot.bytes == 0 {
        return text;
    }
    let share = u128::from(snapshot.done) * 100 / u128::from(snapshot.bytes);
    let _ = write!(text, ", {} of {} ({share} %)", size(snapshot.done), size(snapshot.bytes));
    let moved = snapshot.done.saturating_sub(snapshot.there_before);
    let moving = matches!(snapshot.stage, SnapshotStage::Sending | SnapshotStage::Receiving);
    let rate = moved.saturating_mul(1000).checked_div(snapshot.running_ms).unwrap_or(0);
    if moving && rate > 0 {
        let left = snapshot.bytes.saturating_sub(snapshot.done) / rate;
        let _ = write!(text, ", {}/s, {} left", size(rate), time(left));
    }
    if snapshot.there_before > 0 {
        let _ = write!(text, "; {} were there", size(snapshot.there_before));
    }
    text
}
