//! `litefs-py check`: what every node has of a database, read byte by byte, while it is used.

use super::output::{json, print, table};
use super::target::Target;
use super::{Exit, Failure, block_on};
use crate::core::DatabaseName;
use crate::core::engine::{CheckedDatabase, Copy, DatabaseStatus};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Which databases; without a name, all.
    #[arg(value_name = "NAME", value_parser = name)]
    names: Vec<DatabaseName>,
    #[command(flatten)]
    target: Target,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn name(text: &str) -> Result<DatabaseName, String> {
    DatabaseName::new(text).map_err(|error| error.to_string())
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let checked = block_on(look(args))?;
    print(&if args.json { json(&checked)? } else { shown(&checked) })?;
    told(&checked)
}

async fn look(args: &Args) -> Result<Vec<CheckedDatabase>, Failure> {
    let client = args.target.client().await?;
    let mut names = args.names.clone();
    if names.is_empty() {
        let all: Vec<DatabaseStatus> = client.get("/databases").await?;
        names = all.into_iter().map(|database| database.name).collect();
    }
    let mut checked = Vec::new();
    for name in names {
        let wish = serde_json::json!({ "database": name });
        checked.push(client.post("/check?timeout=60s", Some(&wish)).await?);
    }
    Ok(checked)
}

pub(super) fn shown(checked: &[CheckedDatabase]) -> String {
    let mut rows = Vec::new();
    for database in checked {
        for (node, copy) in &database.copies {
            let (position, found) = match copy {
                Copy::Sound { position, .. } if database.differs() => {
                    (position.to_string(), "DIFFERS".to_owned())
                }
                Copy::Sound { position, pages, .. } => {
                    (position.to_string(), format!("sound, {pages} pages"))
                }
                Copy::Missing => ("-".to_owned(), "missing".to_owned()),
                Copy::Damaged { why } => ("-".to_owned(), format!("DAMAGED: {why}")),
                Copy::Unread { why } => ("-".to_owned(), format!("not read: {why}")),
            };
            rows.push([database.name.to_string(), node.clone(), position, found]);
        }
    }
    table(["NAME", "NODE", "POSITION", "FOUND"], &rows)
}

/// The exit code: 70 for what is wrong, 75 for what could not be seen.
pub(super) fn told(checked: &[CheckedDatabase]) -> Result<(), Failure> {
    let bad: Vec<_> = checked.iter().filter(|database| !database.is_sound()).collect();
    if let Some(first) = bad.first() {
        let why =
            format!("{} of {} databases are not sound: {}", bad.len(), checked.len(), first.name);
        return Err(Failure::new(Exit::Software, why));
    }
    let unread = |database: &&CheckedDatabase| {
        database.copies.values().any(|copy| matches!(copy, Copy::Unread { .. }))
    };
    match checked.iter().filter(unread).count() {
        0 => Ok(()),
        some => {
            let why = format!("{some} databases were not read on every node; try again");
            Err(Failure::new(Exit::TryAgain, why))
        }
    }
}
