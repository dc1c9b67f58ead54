//! `litefs-py status`: this node, and the cluster as it sees it; once, or again and again (`watch`).

use std::fmt::Write as _;

use super::output::{json, or_dash, print, table, time};
use super::target::Target;
use super::{Failure, block_on, watch};
use crate::core::engine::{Role, Status};

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
    text + &table(["NAME", "ROLE", "STATE", "ADDRESS", ">MATCHED", ">LAG"], &rows)
}
