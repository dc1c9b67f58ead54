//! `token`: what lets new nodes in. `ca`: the authority that vouches for them.

use hyper::Method;

use super::member::{Shown, ask};
use super::output::{json, or_dash, print, table, time};
use super::{Exit, Failure};
use crate::core::clock::unix_seconds;
use crate::core::members::{TokenUse, Told};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Make a token that lets one node join. It is shown once: treat it as a password.
    Create {
        /// How long it may be used: a duration, at most 744h.
        #[arg(long, default_value = "24h", value_name = "DURATION")]
        ttl: String,
        /// The node is to replicate only: it does not vote, and its mount is read-only.
        #[arg(long)]
        learner: bool,
        #[command(flatten)]
        shown: Shown,
    },
    /// List the tokens, without their secrets.
    List(Shown),
    /// Make a token of no use.
    Revoke {
        /// The token's id, as `list` shows it.
        id: String,
        #[command(flatten)]
        shown: Shown,
    },
}

#[derive(Debug, clap::Args)]
pub(super) struct CaArgs {
    #[command(subcommand)]
    command: CaCommand,
}

#[derive(Debug, clap::Subcommand)]
enum CaCommand {
    /// Replace the cluster's CA by a new one, while the cluster runs. Tokens made before are of no use
    /// afterwards.
    Rotate(Shown),
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    match &args.command {
        Command::Create { ttl, learner, shown } => {
            let body = serde_json::json!({"ttl": ttl, "learner": learner});
            let told = ask(shown, Method::POST, "/tokens", Some(&body))?;
            if shown.json {
                return print(&json(&told)?);
            }
            let Told::Token { token, .. } = told else { return Err(unexpected()) };
            print(&format!("{token}\n"))
        }
        Command::List(shown) => list(shown),
        Command::Revoke { id, shown } => {
            let told = ask(shown, Method::DELETE, &format!("/tokens/{id}"), None)?;
            if shown.json {
                return print(&json(&told)?);
            }
            print(&format!("token {id} is of no use any more\n"))
        }
    }
}

pub(super) fn run_ca(args: &CaArgs) -> Result<(), Failure> {
    let CaCommand::Rotate(shown) = &args.command;
    let told = ask(shown, Method::POST, "/ca/rotate", None)?;
    if shown.json {
        return print(&json(&told)?);
    }
    let Told::Accepted { what } = told else { return Err(unexpected()) };
    print(&format!("{what}\n"))
}

fn unexpected() -> Failure {
    Failure::new(Exit::Software, "the node answered something else; is it of another version?")
}

fn list(shown: &Shown) -> Result<(), Failure> {
    let told = ask(shown, Method::GET, "/tokens", None)?;
    if shown.json {
        return print(&json(&told)?);
    }
    let Told::Tokens { tokens } = told else { return Err(unexpected()) };
    let now = unix_seconds();
    let rows: Vec<[String; 5]> = tokens
        .into_iter()
        .map(|token| {
            let state = match token.state {
                TokenUse::Unused => "unused",
                TokenUse::Used => "used",
                TokenUse::Revoked => "revoked",
                TokenUse::Expired => "expired",
            };
            let left = token.expires_seconds.checked_sub(now).filter(|left| *left > 0);
            [token.id, state.into(), token.role, or_dash(left.map(time)), or_dash(token.node)]
        })
        .collect();
    print(&table(["ID", "STATE", "ROLE", "EXPIRES IN", "NODE"], &rows))
}
