//! `litefs-py unmount`: takes away the mount that a daemon left which was killed, or hangs. systemd calls
//! it after each end of the unit.

use std::path::PathBuf;

use super::output::print;
use super::target::load_config;
use super::{CONFIG_PATH, Exit, Failure};
use crate::core::config::EngineKind;
use crate::node::{clear_litefs, clear_mount};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The node's configuration, which names the mount point.
    #[arg(long, value_name = "FILE", default_value = CONFIG_PATH, env = "LITEFS_PY_CONFIG")]
    config: PathBuf,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let config = load_config(&args.config)?;
    let point = config.mount.path;
    let clear = match config.engine {
        EngineKind::Embedded => clear_mount,
        EngineKind::Litefs => clear_litefs,
    };
    let cleared = clear(&point).map_err(|error| Failure::new(Exit::Io, error.to_string()))?;
    let shown = point.display();
    print(&if cleared {
        format!("{shown} is unmounted\n")
    } else {
        format!("nothing of ours is mounted on {shown}\n")
    })
}
