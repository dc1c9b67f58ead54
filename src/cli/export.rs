//! `litefs-py export`: a database as an SQLite file, as of one position, while it is used.
//!
//! Whatever happens, under the file's name there is the whole database or what was there before: it is
//! written beside, synced, and then gets its name.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use serde::Serialize;

use super::client::{Client, in_path};
use super::output::{json, print, size};
use super::target::Target;
use super::{Exit, Failure, block_on};
use crate::core::DatabaseName;
use crate::store::{beside, durable};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Which database.
    #[arg(value_name = "NAME", value_parser = super::check::name)]
    database: DatabaseName,
    /// The file to write.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Replace a file that is there.
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    target: Target,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// What was written.
#[derive(Serialize)]
struct Exported {
    database: DatabaseName,
    position: String,
    bytes: u64,
    file: PathBuf,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let exported = block_on(ask(args))?;
    if args.json {
        return print(&json(&exported)?);
    }
    let Exported { database, position, bytes, file } = exported;
    print(&format!("{database} at {position}: {} in {}\n", size(bytes), file.display()))
}

async fn ask(args: &Args) -> Result<Exported, Failure> {
    let mut new = NewFile::begin(&args.file, args.force)?;
    let client = args.target.client().await?;
    let path = format!("/databases/{}/export?timeout=30s", in_path(args.database.as_str()));
    let position = fetch(&client, &path, &mut new).await?;
    let bytes = new.bytes;
    new.finish()?;
    let database = args.database.clone();
    Ok(Exported { database, position, bytes, file: args.file.clone() })
}

/// Fetches a file; answers its position. Ctrl-C leaves nothing behind.
pub(super) async fn fetch(
    client: &Client,
    path: &str,
    new: &mut NewFile,
) -> Result<String, Failure> {
    let fetched = client.download(path, |bytes| new.write(bytes));
    let head = tokio::select! {
        head = fetched => head?,
        _ = tokio::signal::ctrl_c() => {
            return Err(Failure::new(Exit::TryAgain, "ended; nothing was written"));
        }
    };
    let position = head.get(crate::api::POSITION).and_then(|position| position.to_str().ok());
    Ok(position.unwrap_or("-").to_owned())
}

/// A file that is there when it is whole. Dropped before, it is gone.
pub(super) struct NewFile {
    path: PathBuf,
    making: PathBuf,
    file: File,
    force: bool,
    bytes: u64,
    kept: bool,
}

impl NewFile {
    /// # Errors
    /// The name is taken, or a file cannot be made there.
    pub fn begin(path: &Path, force: bool) -> Result<Self, Failure> {
        if !force && path.exists() {
            return Err(taken(path));
        }
        // SQLite would play it into the new file.
        for suffix in ["-wal", "-journal"] {
            let other = beside(path, suffix);
            if other.exists() {
                let why = format!(
                    "{} is there, and belongs to another database; remove it, or choose another name",
                    other.display()
                );
                return Err(Failure::new(Exit::CannotCreate, why));
            }
        }
        let making = beside(path, &format!(".{}.part", std::process::id()));
        let file = File::options().write(true).create_new(true).open(&making);
        let file = file.map_err(|error| cannot(Exit::CannotCreate, "make", &making, &error))?;
        let path = path.to_owned();
        Ok(Self { path, making, file, force, bytes: 0, kept: false })
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.bytes += bytes.len() as u64;
        self.file.write_all(bytes).map_err(|error| self.cannot_write(&error))
    }

    /// Synced, and under its name.
    ///
    /// # Errors
    /// The disk is full, or the name is taken by now.
    pub fn finish(mut self) -> Result<(), Failure> {
        self.file.sync_all().map_err(|error| self.cannot_write(&error))?;
        let flags = if self.force { RenameFlags::empty() } else { RenameFlags::NOREPLACE };
        let named = match renameat_with(CWD, &self.making, CWD, &self.path, flags) {
            Err(rustix::io::Errno::EXIST) => return Err(taken(&self.path)),
            // A file system that does not know how: nobody has taken the name a moment ago.
            Err(rustix::io::Errno::INVAL) if !self.path.exists() => {
                std::fs::rename(&self.making, &self.path)
            }
            named => named.map_err(io::Error::from),
        };
        let named = named.and_then(|()| {
            self.kept = true;
            durable::sync_parent(&self.path)
        });
        named.map_err(|error| cannot(Exit::CannotCreate, "make", &self.path, &error))
    }

    fn cannot_write(&self, error: &io::Error) -> Failure {
        cannot(Exit::Io, "write", &self.path, error)
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if !self.kept {
            // Best effort: what failed is told already.
            let _ = std::fs::remove_file(&self.making);
        }
    }
}

fn taken(path: &Path) -> Failure {
    let why = format!("{} is there already; --force replaces it", path.display());
    Failure::new(Exit::CannotCreate, why)
}

fn cannot(exit: Exit, what: &str, path: &Path, error: &io::Error) -> Failure {
    Failure::new(exit, format!("cannot {what} {}: {error}", path.display()))
}
