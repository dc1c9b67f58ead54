//! `convert`: the data of a stopped node from the one engine to the other. The original is kept.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::import::{tell_of_cut, unusable};
use super::output::{json, print, size, table};
use super::target::load_config;
use super::{CONFIG_PATH, Exit, Failure};
use crate::core::config::{Config, EngineKind};
use crate::node::{Conversion, ConvertError, Converted, DataFolderError, Part, convert};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The engine that the node is to have.
    #[arg(long, value_name = "ENGINE")]
    to: Engine,
    /// The node's configuration, with the one engine or the other. It must be stopped.
    #[arg(long, value_name = "FILE", default_value = CONFIG_PATH, env = "LITEFS_PY_CONFIG")]
    config: PathBuf,
    /// The folder to read; without it, the one that the configuration names, if that has the old engine:
    /// of litefs, LiteFS's data folder; of embedded, the node's.
    #[arg(long, value_name = "DIR")]
    from: Option<PathBuf>,
    /// The folder to fill; without it, the one that the configuration names, if that has the new engine.
    /// It must be empty.
    #[arg(long, value_name = "DIR")]
    into: Option<PathBuf>,
    /// Do not let SQLite look through the databases, for one with a collation that only the application
    /// has. The checksums are compared all the same.
    #[arg(long)]
    no_quick_check: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Engine {
    /// The daemon's own.
    Embedded,
    /// A supervised LiteFS.
    Litefs,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let config = load_config(&args.config)?;
    let to = match args.to {
        Engine::Embedded => EngineKind::Embedded,
        Engine::Litefs => EngineKind::Litefs,
    };
    let is_new = config.engine == to;
    let from = folder("--from", args.from.as_deref(), !is_new, &config, &args.config)?;
    let into = folder("--into", args.into.as_deref(), is_new, &config, &args.config)?;
    let check = !args.no_quick_check;
    let conversion = Conversion { to, from, into, config: &config, check };
    let converted = convert(&conversion).map_err(|error| failure(&error))?;
    converted.databases.iter().filter(|one| one.cut).for_each(|one| tell_of_cut(&one.name));
    print(&if args.json { json(&converted)? } else { shown(to, &converted) })
}

/// What was said, or where the configuration's engine keeps its data.
fn folder(
    option: &str,
    said: Option<&Path>,
    configured: bool,
    config: &Config,
    file: &Path,
) -> Result<PathBuf, Failure> {
    match (said, configured) {
        (Some(path), _) => std::path::absolute(path).map_err(|error| {
            Failure::new(Exit::Io, format!("cannot use {}: {error}", path.display()))
        }),
        (None, true) => Ok(match config.engine {
            EngineKind::Embedded => config.data_dir.clone(),
            EngineKind::Litefs => config.litefs_dir(),
        }),
        (None, false) => {
            let engine = match config.engine {
                EngineKind::Embedded => "embedded",
                EngineKind::Litefs => "litefs",
            };
            let why = format!(
                "{} has engine: {engine}, and names the other folder only; say this one with {option} DIR",
                file.display()
            );
            Err(Failure::new(Exit::Usage, why))
        }
    }
}

fn failure(error: &ConvertError) -> Failure {
    let exit = match error {
        ConvertError::InUse(_)
        | ConvertError::Changed(_)
        | ConvertError::DataFolder(DataFolderError::InUse(_)) => Exit::TryAgain,
        ConvertError::NotEmpty { .. } => Exit::CannotCreate,
        ConvertError::Nested { .. } => Exit::Usage,
        ConvertError::NoSource { .. } | ConvertError::Nothing(_) => Exit::NoInput,
        ConvertError::Behind { .. } => Exit::Data,
        ConvertError::Io { source, .. } if source.kind() == ErrorKind::PermissionDenied => {
            Exit::NoPermission
        }
        ConvertError::Database(error) => return unusable(error),
        ConvertError::Impossible => Exit::Software,
        ConvertError::Io { .. }
        | ConvertError::Store(_)
        | ConvertError::Raft(_)
        | ConvertError::DataFolder(_) => Exit::Io,
    };
    Failure::new(exit, error.to_string())
}

fn shown(to: EngineKind, converted: &Converted) -> String {
    let rows: Vec<[String; 6]> = converted
        .databases
        .iter()
        .map(|database| {
            [
                database.name.to_string(),
                database.position.clone(),
                database.pages.to_string(),
                size(database.bytes),
                database.checksum_before.clone(),
                database.checksum_after.clone(),
            ]
        })
        .collect();
    let head = ["DATABASE", "POSITION", ">PAGES", ">SIZE", "BEFORE", "AFTER"];
    let (from, into) = (converted.from.display(), converted.into.display());
    let (engine, key) = match to {
        EngineKind::Embedded => ("embedded", "data_dir"),
        EngineKind::Litefs => ("litefs", "litefs.data_dir"),
    };
    let next = match converted.part {
        Some(Part::Founder) => {
            "The cluster begins with what this node has: start it first, or with the others.\n"
        }
        Some(Part::Newcomer) => {
            "The node takes what the founder has (bootstrap: true), and keeps the pages that are the same.\n"
        }
        None => "",
    };
    format!(
        "{}{from} is as it was. To go on: engine: {engine} and {key}: {into} in the configuration.\n{next}",
        table(head, &rows)
    )
}
