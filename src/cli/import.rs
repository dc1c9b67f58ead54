//! `litefs-py import`: a database of an SQLite file, on all nodes.
//!
//! The file is read twice: for its hash, and to send it. What lies in a WAL beside it belongs to it. A
//! file that is written meanwhile is refused. Of a LiteFS's data folder each database is first held
//! against what LiteFS says of it. An upload that broke off goes on where it was when the
//! same command is given again.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use hyper::{Method, StatusCode};
use sha2::{Digest, Sha256};

use super::client::{Client, WAIT_TIME, in_path};
use super::output::{json, print, size, tell};
use super::target::Target;
use super::{Exit, Failure, block_on};
use crate::core::DatabaseName;
use crate::core::transfer::{Imported, Uploaded};
use crate::store::{LitefsDatabase, Outside, OutsideError};

/// Bytes that are sent at once.
const PIECE: usize = 4 << 20;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The SQLite file; or the data folder of a LiteFS that was stopped, for all of its databases.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// What the database is to be called.
    #[arg(value_name = "NAME", value_parser = super::check::name)]
    name: Option<DatabaseName>,
    /// Of a data folder of LiteFS: this database only.
    #[arg(long, value_name = "NAME", value_parser = super::check::name, conflicts_with = "name")]
    database: Option<DatabaseName>,
    #[command(flatten)]
    target: Target,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    match (&args.name, args.file.is_dir()) {
        (Some(name), false) if args.database.is_none() => {
            let imported = block_on(bring_in(args, name))?;
            print(&if args.json { json(&imported)? } else { shown(&imported) })
        }
        (None, true) => block_on(bring_folder_in(args)),
        (Some(_), true) => {
            let why = "is a folder: its databases keep their names; --database chooses one";
            Err(Failure::new(Exit::Usage, format!("{} {why}", args.file.display())))
        }
        (_, false) => {
            let why = "what is the database to be called? litefs-py import FILE NAME";
            Err(Failure::new(Exit::Usage, why))
        }
    }
}

async fn bring_in(args: &Args, name: &DatabaseName) -> Result<Imported, Failure> {
    let outside = Outside::open(&args.file).map_err(|error| unusable(&error))?;
    let client = args.target.client().await?;
    send(&client, &args.file, &outside, name).await
}

/// All of them are looked through before the first is brought in.
async fn bring_folder_in(args: &Args) -> Result<(), Failure> {
    let mut databases = LitefsDatabase::list(&args.file).map_err(|error| unusable(&error))?;
    if let Some(wanted) = &args.database {
        databases.retain(|database| database.name == *wanted);
    }
    if databases.is_empty() {
        let why = format!("{} holds no such database; nothing to import", args.file.display());
        return Err(Failure::new(Exit::NoInput, why));
    }
    for database in &databases {
        if database.open().map_err(|error| unusable(&error))?.is_cut() {
            tell_of_cut(&database.name);
        }
    }
    let client = args.target.client().await?;
    let (mut done, mut failed): (Vec<Imported>, Vec<Failure>) = (Vec::new(), Vec::new());
    for database in &databases {
        let outside = database.open().map_err(|error| unusable(&error))?;
        match send(&client, &args.file, &outside, &database.name).await {
            Ok(imported) => {
                if !args.json {
                    print(&shown(&imported))?;
                }
                done.push(imported);
            }
            Err(failure) => failed.push(failure),
        }
    }
    if args.json {
        print(&json(&done)?)?;
    }
    match failed.first() {
        None => Ok(()),
        Some(first) => {
            let lines: Vec<_> = failed.iter().map(|failure| failure.message.as_str()).collect();
            Err(Failure::new(first.exit, lines.join("\n")))
        }
    }
}

/// Sends a database, and waits until it is one of the cluster's.
async fn send(
    client: &Client,
    path: &Path,
    outside: &Outside,
    name: &DatabaseName,
) -> Result<Imported, Failure> {
    let unread = |error: std::io::Error| {
        Failure::new(Exit::Io, format!("cannot read {}: {error}", path.display()))
    };
    let mut hash = Sha256::new();
    std::io::copy(&mut std::io::BufReader::with_capacity(PIECE, outside.reader()), &mut hash)
        .map_err(unread)?;
    let sha256 = format!("{:x}", hash.finalize());
    let begin = format!("/databases/{}/import", in_path(name.as_str()));
    let wish = serde_json::json!({ "bytes": outside.bytes(), "sha256": sha256 });
    let Uploaded { upload, mut received } = client.post(&begin, Some(&wish)).await?;
    let upload = format!("{begin}/{}", upload.as_str());
    while received < outside.bytes() {
        let mut piece = vec![0; PIECE];
        let read = outside.read_at(received, &mut piece).map_err(unread)?;
        piece.truncate(read);
        let sent = client.put(&format!("{upload}?offset={received}"), Bytes::from(piece)).await;
        let Uploaded { received: now, .. } = sent.map_err(|failure| broke(&failure, received))?;
        received = now;
    }
    if !outside.is_unchanged().map_err(|error| unusable(&error))? {
        // Nobody has any use for what was sent.
        let _: Result<Uploaded, Failure> = client.delete(&upload).await;
        let why = format!(
            "{} was written while it was read; stop who writes it, or import a copy: \
             sqlite3 FILE '.backup COPY'",
            path.display()
        );
        return Err(Failure::new(Exit::TryAgain, why));
    }
    finish(client, &upload).await
}

/// It may take long until the node has looked through it and all have it: asked for again and again.
async fn finish(client: &Client, upload: &str) -> Result<Imported, Failure> {
    loop {
        let path = format!("{upload}?timeout=30s");
        let answer = client.ask(Method::POST, &path, None, WAIT_TIME).await?;
        if answer.code != StatusCode::ACCEPTED {
            return answer.read(&client.address);
        }
    }
}

fn broke(failure: &Failure, received: u64) -> Failure {
    let message = format!(
        "{} ({} of it are there: the same command goes on from there)",
        failure.message,
        size(received)
    );
    Failure::new(failure.exit, message)
}

/// It is left out as LiteFS itself leaves it out; somebody may have been told that it was committed.
pub(super) fn tell_of_cut(name: &DatabaseName) {
    tell(&format!(
        "litefs-py: warning: {name}: LiteFS was stopped beneath an application; the last transaction in its \
         WAL is in no LTX file, and is left out, as LiteFS does at its next start"
    ));
}

pub(super) fn unusable(error: &OutsideError) -> Failure {
    let exit = match error {
        OutsideError::Io { source, .. } => match source.kind() {
            std::io::ErrorKind::NotFound => Exit::NoInput,
            std::io::ErrorKind::PermissionDenied => Exit::NoPermission,
            _ => Exit::Io,
        },
        OutsideError::HotJournal(_) => Exit::TryAgain,
        _ => Exit::Data,
    };
    Failure::new(exit, error.to_string())
}

fn shown(imported: &Imported) -> String {
    let bytes = u64::from(imported.pages) * u64::from(imported.page_size);
    format!("{} at {}: {}, imported\n", imported.database, imported.position, size(bytes))
}
