//! Which node a command asks: options that several subcommands share.

use std::path::{Path, PathBuf};

use super::client::{Address, Client};
use super::dev::Layout;
use super::{CONFIG_PATH, Exit, Failure};
use crate::core::config::{Config, parse};

/// No configuration or token file is larger, in bytes.
const FILE_MAX: u64 = 2 << 20;

/// Which node to ask.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Target {
    /// The node's configuration, which names its Unix socket.
    #[arg(long, value_name = "FILE", default_value = CONFIG_PATH, env = "LITEFS_PY_CONFIG")]
    pub config: PathBuf,
    /// Ask at this URL instead, such as `http://10.0.0.1:8008`.
    #[arg(long, value_name = "URL", conflicts_with = "dir")]
    pub api: Option<String>,
    /// File of the bearer token, for --api.
    #[arg(long, value_name = "FILE", env = "LITEFS_PY_TOKEN_FILE")]
    pub token_file: Option<PathBuf>,
    /// Ask a node of the `dev` cluster in this folder: the first that runs.
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Which node of the `dev` cluster.
    #[arg(long, value_name = "NAME", requires = "dir")]
    pub node: Option<String>,
}

impl Target {
    pub async fn client(&self) -> Result<Client, Failure> {
        let token = match &self.token_file {
            Some(file) => Some(read_file(file)?.trim().to_owned()),
            None => None,
        };
        if let Some(url) = &self.api {
            return Ok(Client { address: Address::from_url(url)?, token });
        }
        if let Some(dir) = &self.dir {
            return self.dev_client(dir).await;
        }
        let config = load_config(&self.config)?;
        Ok(Client { address: Address::Socket(config.api.socket), token: None })
    }

    /// The configuration file of the node that is asked, when it is one of this machine.
    pub fn file(&self) -> Option<&Path> {
        (self.api.is_none() && self.dir.is_none()).then_some(self.config.as_path())
    }

    async fn dev_client(&self, dir: &Path) -> Result<Client, Failure> {
        let layout = Layout::open(dir)?;
        let mut last = None;
        for node in layout.nodes() {
            if self.node.as_ref().is_some_and(|name| *name != node.name) {
                continue;
            }
            let client = Client { address: Address::Socket(node.socket()), token: None };
            match client.reachable().await {
                Ok(()) => return Ok(client),
                Err(failure) => last = Some(failure),
            }
        }
        Err(last.unwrap_or_else(|| {
            let name = self.node.as_deref().unwrap_or_default();
            Failure::new(Exit::Usage, format!("{}: there is no node {name:?}", dir.display()))
        }))
    }
}

/// Reads and checks a configuration file.
pub(super) fn load_config(path: &Path) -> Result<Config, Failure> {
    let text = read_file(path).map_err(|failure| Failure { exit: Exit::Config, ..failure })?;
    parse(&text).map_err(|error| {
        let lines: Vec<String> =
            error.0.iter().map(|problem| format!("{}: {problem}", path.display())).collect();
        Failure::new(Exit::Config, lines.join("\n"))
    })
}

pub(super) fn read_file(path: &Path) -> Result<String, Failure> {
    use std::io::Read;
    let mut text = String::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(FILE_MAX).read_to_string(&mut text))
        .map_err(|error| {
            let exit = match error.kind() {
                std::io::ErrorKind::PermissionDenied => Exit::NoPermission,
                _ => Exit::Io,
            };
            Failure::new(exit, format!("cannot read {}: {error}", path.display()))
        })?;
    Ok(text)
}
