//! `litefs-py databases`: the databases as this node has applied them.

use super::output::{json, or_dash, print, size, table};
use super::target::Target;
use super::{Failure, block_on};
use crate::core::engine::{DatabaseStatus, JournalMode};

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
    let databases: Vec<DatabaseStatus> = args.target.client().await?.get("/databases").await?;
    if args.json {
        return json(&databases);
    }
    Ok(table_of(&databases))
}

pub(super) fn table_of(databases: &[DatabaseStatus]) -> String {
    let rows: Vec<_> = databases.iter().map(row).collect();
    table(["NAME", "POSITION", ">SIZE", "JOURNAL", ">WAL", "WRITER", ">WAITING"], &rows)
}

fn row(database: &DatabaseStatus) -> [String; 7] {
    let journal = match database.journal {
        JournalMode::Wal => "wal",
        JournalMode::Rollback => "rollback",
    };
    [
        database.name.to_string(),
        database.position.to_string(),
        size(u64::from(database.pages) * u64::from(database.page_size)),
        journal.to_owned(),
        size(database.wal_bytes),
        or_dash(database.write_lock.clone()),
        database.waiting.to_string(),
    ]
}
