//! `litefs-py diverged`: what was set aside on a node, before another history took its place
//! (nothing-discarded): to look at, to get out, and to remove when nobody needs it any more.

use std::path::PathBuf;

use serde::Serialize;

use super::client::in_path;
use super::export::{NewFile, fetch};
use super::output::{json, print, size, table, time};
use super::target::Target;
use super::{Failure, block_on};
use crate::core::DatabaseName;
use crate::core::clock::unix_seconds;
use crate::core::transfer::Diverged;
use crate::store::quick_check;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List it.
    List(ListArgs),
    /// Write a database of it to a file.
    Export(ExportArgs),
    /// Remove it for good.
    Drop(DropArgs),
}

#[derive(Debug, clap::Args)]
struct ListArgs {
    #[command(flatten)]
    target: Target,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct ExportArgs {
    /// What it is called in the list.
    #[arg(value_name = "ID")]
    id: String,
    /// The file to write.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Which of its databases, if there are several.
    #[arg(long, value_name = "NAME", value_parser = super::check::name)]
    database: Option<DatabaseName>,
    /// Replace a file that is there.
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    target: Target,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct DropArgs {
    /// What it is called in the list: all of it.
    #[arg(value_name = "ID")]
    id: String,
    #[command(flatten)]
    target: Target,
}

/// What was written.
#[derive(Serialize)]
struct Exported {
    id: String,
    file: PathBuf,
    /// SQLite looked through it, and found nothing.
    sound: bool,
    /// What it found.
    why: Option<String>,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    match &args.command {
        Command::List(args) => print(&block_on(list(args))?),
        Command::Export(args) => print(&block_on(export(args))?),
        Command::Drop(args) => print(&block_on(remove(args))?),
    }
}

async fn list(args: &ListArgs) -> Result<String, Failure> {
    let diverged: Vec<Diverged> = args.target.client().await?.get("/diverged").await?;
    if args.json {
        return json(&diverged);
    }
    Ok(shown(&diverged, unix_seconds()))
}

fn shown(diverged: &[Diverged], now: u64) -> String {
    let rows: Vec<_> = diverged
        .iter()
        .map(|one| {
            let names: Vec<String> = one
                .databases
                .iter()
                .map(|database| {
                    database.name.as_ref().map_or_else(|| "unknown".to_owned(), ToString::to_string)
                })
                .collect();
            let ago = format!("{} ago", time(now.saturating_sub(one.set_aside)));
            [one.id.clone(), names.join(", "), ago, size(one.bytes), one.why.replace('\n', " ")]
        })
        .collect();
    table(["ID", "DATABASES", "SET ASIDE", ">SIZE", "WHY"], &rows)
}

async fn export(args: &ExportArgs) -> Result<String, Failure> {
    let mut new = NewFile::begin(&args.file, args.force)?;
    let client = args.target.client().await?;
    let which = args.database.as_ref().map(|name| format!("?database={}", in_path(name.as_str())));
    let path = format!("/diverged/{}/export{}", in_path(&args.id), which.unwrap_or_default());
    fetch(&client, &path, &mut new).await?;
    new.finish()?;
    let why = quick_check(&args.file).err().map(|error| error.to_string());
    let (id, file) = (args.id.clone(), args.file.clone());
    let exported = Exported { id, file, sound: why.is_none(), why };
    if args.json {
        return json(&exported);
    }
    let file = exported.file.display();
    Ok(match exported.why {
        None => format!("{} in {file}: a sound database\n", args.id),
        Some(why) => format!("{} in {file}: its bytes as they were, NOT SOUND: {why}\n", args.id),
    })
}

async fn remove(args: &DropArgs) -> Result<String, Failure> {
    let path = format!("/diverged/{}", in_path(&args.id));
    let dropped: Diverged = args.target.client().await?.delete(&path).await?;
    Ok(format!("{} is gone: {}\n", dropped.id, size(dropped.bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::transfer::DivergedDatabase;

    #[test]
    fn one_line_each() {
        let name = DatabaseName::new("app.db").ok();
        let database = |name| DivergedDatabase { name, position: None, bytes: 9 };
        let one = Diverged {
            id: "app.db-1-1764300000".to_owned(),
            set_aside: 1_764_300_000,
            why: "damaged:\npage 2".to_owned(),
            bytes: 4096,
            databases: vec![database(name), database(None)],
        };
        assert_eq!(
            shown(&[one], 1_764_300_090),
            "ID                   DATABASES        SET ASIDE      SIZE  WHY\n\
             app.db-1-1764300000  app.db, unknown  1m 30s ago  4.0 KiB  damaged: page 2\n"
        );
    }
}
