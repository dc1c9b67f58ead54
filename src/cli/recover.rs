//! `recover`: a cluster that lost its majority for good goes on from one survivor.
//!
//! Beside the rules of Raft, by an operator's explicit word. It shows first what the survivor holds, and
//! leaves a record in the data folder.

use std::path::PathBuf;
use std::time::SystemTime;

use super::output::{json, or_dash, print, table};
use super::target::load_config;
use super::{CONFIG_PATH, Exit, Failure};
use crate::core::config::Config;
use crate::node::{DataFolder, Recovered, recover};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The configuration of the node that goes on. It must be stopped.
    #[arg(long, value_name = "FILE", default_value = CONFIG_PATH, env = "LITEFS_PY_CONFIG")]
    config: PathBuf,
    /// Do it: what only the lost nodes held is lost, and they can never come back as they are.
    #[arg(long)]
    i_accept_data_loss: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let config: Config = load_config(&args.config)?;
    let failed = |error: &dyn std::fmt::Display| Failure::new(Exit::Io, error.to_string());
    let folder = DataFolder::open_stopped(&config.data_dir, &config.cluster, config.node.id)
        .map_err(|error| failed(&error))?;
    let now = SystemTime::now();
    let recovered =
        recover(&config, &folder, args.i_accept_data_loss, now).map_err(|error| failed(&error))?;
    print(&if args.json { json(&recovered)? } else { shown(&config, &recovered) })?;
    if args.i_accept_data_loss {
        return Ok(());
    }
    Err(Failure::new(
        Exit::Usage,
        "nothing was changed; with --i-accept-data-loss this node goes on alone from what it holds",
    ))
}

fn shown(config: &Config, recovered: &Recovered) -> String {
    let rows: Vec<[String; 4]> = recovered
        .databases
        .iter()
        .map(|(name, position, pages, page_size)| {
            let size = super::output::size(u64::from(*pages) * u64::from(*page_size));
            [name.clone(), position.clone(), pages.to_string(), size]
        })
        .collect();
    let mut text = format!(
        "{} (number {}) holds the log up to entry {}; up to {} it was known to be committed.\n",
        config.node.name,
        config.node.id,
        or_dash(recovered.last),
        or_dash(recovered.committed),
    );
    text += &table(["DATABASE", "POSITION", ">PAGES", ">SIZE"], &rows);
    let end = match (&recovered.lost[..], recovered.done) {
        ([], _) => "It knows of no other member.\n".to_owned(),
        (lost, false) => format!("These would be removed for good: {}.\n", lost.join(", ")),
        (lost, true) => format!(
            "It is the only member now. Removed for good: {}. Start it, and let new nodes in with \
             litefs-py token create.\n",
            lost.join(", ")
        ),
    };
    text + &end
}
