//! `litefs-py config`: checks and shows configuration files, makes their manual, and changes settings of
//! a node that runs.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use hyper::Method;
use serde_json::Value;

use super::client::WAIT_TIME;
use super::output::{json, print, table, tell};
use super::target::{Target, load_config, read_file};
use super::{CONFIG_PATH, Exit, Failure, block_on};
use crate::core::config::{self, Besides, ConfigView, flat, from_litefs};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Check a file: one line for each problem, and exit code 78.
    Check {
        #[arg(default_value = CONFIG_PATH)]
        file: PathBuf,
    },
    /// Print a file with every default.
    Show {
        #[arg(default_value = CONFIG_PATH)]
        file: PathBuf,
    },
    /// Change a setting of the running node, over restarts; `null` takes the change back.
    Set {
        #[command(flatten)]
        target: Target,
        /// The setting, such as `write.lock_wait`.
        key: String,
        /// Its value, such as 20ms.
        value: String,
    },
    /// Show where what the node runs by is not what its file says.
    Diff {
        #[command(flatten)]
        target: Target,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Make a configuration of a LiteFS's own `litefs.yml`, and say what it has no counterpart for.
    ImportLitefs(ImportLitefs),
    /// Print the JSON schema of configuration files.
    Schema,
    /// Print docs/configuration.md.
    #[command(hide = true)]
    Docs,
}

#[derive(Debug, clap::Args)]
struct ImportLitefs {
    /// The `litefs.yml`.
    #[arg(default_value = "/etc/litefs.yml")]
    file: PathBuf,
    /// The cluster's name: lower-case letters, digits and hyphens.
    #[arg(long, default_value = "app")]
    cluster: String,
    /// This node's number, from 1.
    #[arg(long, default_value_t = 1)]
    id: u64,
    /// Leave `$NAME` and `${NAME}` as they are, as LiteFS does with the option of this name.
    #[arg(long)]
    no_expand_env: bool,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    match &args.what {
        What::Check { file } => {
            load_config(file)?;
            print(&format!("{}: fine\n", file.display()))
        }
        What::Show { file } => {
            let shown = config::show(&load_config(file)?).map_err(|error| {
                Failure::new(Exit::Software, format!("cannot show {}: {error}", file.display()))
            })?;
            print(&shown)
        }
        What::Set { .. } | What::Diff { .. } => print(&block_on(ask(args))?),
        What::ImportLitefs(import) => import_litefs(import),
        What::Schema => print(&json(&config::schema())?),
        What::Docs => print(&config::manual()),
    }
}

/// The configuration on standard output, the rest on standard error.
fn import_litefs(args: &ImportLitefs) -> Result<(), Failure> {
    let text = read_file(&args.file)?;
    let hostname = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let (cluster, expand) = (args.cluster.clone(), !args.no_expand_env);
    let besides = Besides { cluster, id: args.id, hostname, expand };
    let env = |name: &str| std::env::var(name).ok();
    let made = from_litefs(&text, &besides, &env).map_err(|error| {
        let lines: Vec<String> =
            error.0.iter().map(|problem| format!("{}: {problem}", args.file.display())).collect();
        Failure::new(Exit::Config, lines.join("\n"))
    })?;
    let shown = config::show_changed(&made.config)
        .map_err(|error| Failure::new(Exit::Software, format!("cannot write it: {error}")))?;
    for (key, why) in &made.notes {
        tell(&format!("litefs-py: {key}: {why}"));
    }
    print(&shown)
}

/// What a running node is asked for.
pub(super) async fn ask(args: &Args) -> Result<String, Failure> {
    match &args.what {
        What::Set { target, key, value } => set(target, key, value).await,
        What::Diff { target, json } => diff(target, *json).await,
        _ => Ok(String::new()),
    }
}

/// Asks the node for the change, and shows what differs then.
async fn set(target: &Target, key: &str, value: &str) -> Result<String, Failure> {
    // `true`, `3` and `null` are what they are in YAML; all else is text.
    let value = serde_json::from_str(value).unwrap_or_else(|_| Value::String(value.to_owned()));
    let patch = key.rsplit('.').fold(value, |value, key| serde_json::json!({ key: value }));
    let client = target.client().await?;
    let answer = client.ask(Method::PATCH, "/config", Some(patch.to_string()), WAIT_TIME).await?;
    answer.read::<ConfigView>(&client.address)?;
    diff(target, false).await
}

/// A setting that is not what the file says.
#[derive(Debug, serde::Serialize)]
struct Differing {
    key: String,
    file: Value,
    running: Value,
    why: &'static str,
}

/// The file as it is now, where it can be read here, against what the node runs by.
async fn diff(target: &Target, as_json: bool) -> Result<String, Failure> {
    let view: ConfigView = target.client().await?.get("/config").await?;
    let file = match target.file() {
        Some(path) => serde_json::to_value(load_config(path)?).unwrap_or_default(),
        None => view.file.clone(),
    };
    let (file, running) = (flat(&file), flat(&view.running));
    let keys = file.keys().chain(running.keys()).collect::<BTreeSet<_>>();
    let of = |values: &BTreeMap<String, Value>, key| values.get(key).cloned().unwrap_or_default();
    let differing: Vec<Differing> = keys
        .into_iter()
        .map(|key| Differing {
            key: key.clone(),
            file: of(&file, key),
            running: of(&running, key),
            why: if view.changed.has(key) {
                "changed while it runs"
            } else {
                "the file is newer: restart the node"
            },
        })
        .filter(|one| one.file != one.running)
        .collect();
    if as_json {
        return json(&differing);
    }
    if differing.is_empty() {
        return Ok("the node runs by its file\n".to_owned());
    }
    let shown = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let rows: Vec<_> = differing
        .iter()
        .map(|one| [one.key.clone(), shown(&one.file), shown(&one.running), one.why.to_owned()])
        .collect();
    Ok(table(["KEY", "FILE", "RUNNING", "WHY"], &rows))
}
