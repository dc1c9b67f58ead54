//! `member`: who belongs to the cluster.

use hyper::Method;

use super::client::Client;
use super::output::{json, or_dash, print, table};
use super::target::Target;
use super::{Failure, block_on};
use crate::core::engine::MemberStatus;
use crate::core::members::Told;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List the members, as the node that is asked sees them.
    List(Shown),
    /// Add a node that has a certificate of this cluster already (others use `join`).
    Add {
        /// The name in its certificate.
        name: String,
        /// Where the others reach its mesh: `host:port`.
        address: String,
        /// It replicates only: it does not vote, and its mount is read-only.
        #[arg(long)]
        learner: bool,
        #[command(flatten)]
        shown: Shown,
    },
    /// Remove a node, dead or alive. It is refused from then on; its data is set aside.
    Remove(Named),
    /// Let a learner vote.
    Promote(Named),
    /// Make a voter a learner.
    Demote(Named),
}

#[derive(Debug, clap::Args)]
struct Named {
    /// The member.
    name: String,
    #[command(flatten)]
    shown: Shown,
}

#[derive(Debug, clap::Args)]
pub(super) struct Shown {
    #[command(flatten)]
    pub target: Target,
    /// Answer in JSON.
    #[arg(long)]
    pub json: bool,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let text = match &args.command {
        Command::List(shown) => list(shown)?,
        Command::Add { name, address, learner, shown } => {
            let body = serde_json::json!({"name": name, "address": address, "learner": learner});
            change(shown, Method::POST, "/members", Some(&body), "was added")?
        }
        Command::Remove(Named { name, shown }) => {
            change(shown, Method::DELETE, &format!("/members/{name}"), None, "was removed")?
        }
        Command::Promote(Named { name, shown }) => {
            change(shown, Method::POST, &format!("/members/{name}/promote"), None, "votes now")?
        }
        Command::Demote(Named { name, shown }) => change(
            shown,
            Method::POST,
            &format!("/members/{name}/demote"),
            None,
            "is a learner now",
        )?,
    };
    print(&text)
}

fn list(shown: &Shown) -> Result<String, Failure> {
    let members: Vec<MemberStatus> =
        block_on(async { shown.target.client().await?.get("/members").await })?;
    if shown.json {
        return json(&members);
    }
    let rows: Vec<[String; 6]> = members
        .iter()
        .map(|member| {
            [
                member.id.to_string(),
                member.name.clone(),
                member.role.word().to_owned(),
                member.address.clone(),
                if member.reachable { "yes" } else { "no" }.to_owned(),
                or_dash(member.lag),
            ]
        })
        .collect();
    Ok(table([">ID", "NAME", "ROLE", "ADDRESS", "REACHABLE", ">LAG"], &rows))
}

fn change(
    shown: &Shown,
    method: Method,
    path: &str,
    body: Option<&serde_json::Value>,
    done: &str,
) -> Result<String, Failure> {
    let told = ask(shown, method, path, body)?;
    if shown.json {
        return json(&told);
    }
    Ok(match told {
        Told::Done { name, id } => format!("{name} (number {id}) {done}\n"),
        Told::Accepted { what } => format!("{what}\n"),
        other => json(&other)?,
    })
}

pub(super) fn ask(
    shown: &Shown,
    method: Method,
    path: &str,
    body: Option<&serde_json::Value>,
) -> Result<Told, Failure> {
    block_on(async {
        let client: Client = shown.target.client().await?;
        client.change(method, path, body).await
    })
}
