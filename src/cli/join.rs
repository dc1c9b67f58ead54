//! `init`: the first node of a new cluster. `join`: another node, by a token.
//!
//! Both write the configuration and the certificates, and start nothing.

use std::path::{Path, PathBuf};

use super::output::{print, tell};
use super::{CONFIG_PATH, Exit, Failure, block_on};
use crate::core::clock::unix_ms;
use crate::core::config::{self, Config, Member};
use crate::mesh::{
    Admission, CLOCK_OFF, Ca, CaError, JoinAnswer, JoinError, JoinRequest, JoinToken, ask_to_join,
    request_certificate, write_private, write_public,
};
use crate::node::DataFolder;

#[derive(Debug, clap::Args)]
pub(super) struct Place {
    /// This node's name: lower-case letters, digits and hyphens.
    #[arg(long)]
    name: String,
    /// Where the other nodes reach this one's mesh: `host:port`.
    #[arg(long, value_name = "HOST:PORT")]
    address: String,
    /// The configuration to write.
    #[arg(long, value_name = "FILE", default_value = CONFIG_PATH, env = "LITEFS_PY_CONFIG")]
    config: PathBuf,
    /// Where the node keeps everything.
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Where applications find the databases.
    #[arg(long, value_name = "DIR")]
    mount: Option<PathBuf>,
    /// Go on from the configuration that is there: settings of this machine stay, the node becomes a new
    /// one. The old file is kept as FILE.old.
    #[arg(long)]
    replace: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct InitArgs {
    /// The cluster's name: lower-case letters, digits and hyphens.
    #[arg(long)]
    cluster: String,
    #[command(flatten)]
    place: Place,
}

#[derive(Debug, clap::Args)]
pub(super) struct JoinArgs {
    /// The token, as `litefs-py token create` showed it; `-` reads it from standard input.
    token: String,
    /// Nodes of the cluster to ask, one after the other: `host:port` of the mesh.
    #[arg(long = "server", value_name = "HOST:PORT", required = true, value_delimiter = ',')]
    servers: Vec<String>,
    #[command(flatten)]
    place: Place,
}

/// A cluster of one, that others can join.
pub(super) fn init(args: &InitArgs) -> Result<(), Failure> {
    let place = &args.place;
    let mut config = place.begin(&args.cluster, 1, vec![place.member(1)])?;
    config.bootstrap = true;
    let tls = config.mesh.tls.clone();
    let ca_key = tls.ca.with_file_name("ca.key");
    let ca = Ca::create(&args.cluster).map_err(|error| certificate(&error))?;
    let identity = ca.issue(&place.name).map_err(|error| certificate(&error))?;
    place.write(
        &mut config,
        &[
            (ca_key.clone(), ca.key_pem(), true),
            (tls.ca.clone(), ca.certificate_pem().to_owned(), false),
            (tls.key.clone(), identity.key_pem, true),
            (tls.cert.clone(), identity.chain_pem, false),
        ],
        Some(ca_key.clone()),
    )?;
    print(&format!(
        "{} is written. Start the node (systemctl start litefs-py, or litefs-py node), then let others \
         in with litefs-py token create.\nThe CA's key is in {}: once the node has run, move it to a \
         safe place and take mesh.tls.ca_key away.\n",
        place.config.display(),
        ca_key.display(),
    ))
}

pub(super) fn join(args: &JoinArgs) -> Result<(), Failure> {
    let place = &args.place;
    let token = read_token(&args.token)?;
    // What can be wrong here is found before the token is used.
    place.begin("checked", 1, vec![place.member(1)])?;
    let (key_pem, request_pem) = request_certificate().map_err(|error| certificate(&error))?;
    let request = JoinRequest {
        token_id: token.id.clone(),
        secret: token.secret(),
        name: place.name.clone(),
        address: place.address.clone(),
        request_pem,
        unix_ms: unix_ms(),
    };
    let admission = block_on(ask_all(&args.servers, &token, &request))?;
    let members = admission.members.iter().map(|member| Member {
        id: member.id.0,
        name: member.name.clone(),
        address: member.address.clone(),
    });
    let mut config = place.begin(&admission.cluster, admission.node.0, members.collect())?;
    let tls = config.mesh.tls.clone();
    place.write(
        &mut config,
        &[
            (tls.ca.clone(), admission.ca_pem.clone(), false),
            (tls.key.clone(), key_pem, true),
            (tls.cert.clone(), admission.chain_pem.clone(), false),
        ],
        None,
    )?;
    DataFolder::prepare(&config.data_dir, &config.cluster, config.node.id)
        .map_err(|error| Failure::new(Exit::Io, error.to_string()))?;
    let off = admission.unix_ms.abs_diff(unix_ms());
    if off > CLOCK_OFF {
        tell(&format!(
            "warning: this machine's clock and the cluster's differ by {} s; set the clocks (NTP)",
            off / 1000
        ));
    }
    print(&format!(
        "{} joins {} as number {}; {} is written. Start it: systemctl start litefs-py, or litefs-py \
         node.\n",
        place.name,
        admission.cluster,
        admission.node,
        place.config.display(),
    ))
}

fn read_token(text: &str) -> Result<JoinToken, Failure> {
    let read = if text == "-" {
        let mut line = String::new();
        std::io::stdin()
            .read_line(&mut line)
            .map_err(|error| Failure::new(Exit::Io, format!("cannot read the token: {error}")))?;
        line
    } else {
        text.to_owned()
    };
    read.parse()
        .map_err(|error: crate::mesh::TokenError| Failure::new(Exit::Usage, error.to_string()))
}

/// Rounds at the nodes that are to be asked. The same key is shown each time: one whose answer was lost
/// tells it again.
const ROUNDS: u32 = 3;
const AGAIN: std::time::Duration = std::time::Duration::from_millis(500);

/// The first that answers decides, unless it says that another may.
async fn ask_all(
    servers: &[String],
    token: &JoinToken,
    request: &JoinRequest,
) -> Result<Admission, Failure> {
    let mut last = Failure::new(Exit::Usage, "no node to ask: --server".to_owned());
    for _ in 0..ROUNDS {
        for server in servers {
            match ask_to_join(server, token, request).await {
                Ok(JoinAnswer::Admitted(admission)) => return Ok(*admission),
                Ok(JoinAnswer::Refused(why)) => {
                    let why = format!("{server} refuses: {why}");
                    return Err(Failure::new(Exit::NoPermission, why));
                }
                Ok(JoinAnswer::Later(why)) => {
                    let why = format!("{server} cannot decide now: {why}");
                    last = Failure::new(Exit::TryAgain, why);
                }
                Err(error) => {
                    let exit = match error {
                        JoinError::Unreachable { .. } => Exit::Unavailable,
                        JoinError::Stranger { .. } => Exit::NoPermission,
                        JoinError::Broken { .. } => Exit::TryAgain,
                    };
                    last = Failure::new(exit, error.to_string());
                }
            }
        }
        if last.exit != Exit::TryAgain {
            break;
        }
        tokio::time::sleep(AGAIN).await;
    }
    Err(last)
}

impl Place {
    fn member(&self, id: u64) -> Member {
        Member { id, name: self.name.clone(), address: self.address.clone() }
    }

    /// The configuration to write; of what is there, if that is wished for.
    fn begin(&self, cluster: &str, id: u64, members: Vec<Member>) -> Result<Config, Failure> {
        let mut config = Config::new(cluster, id, members);
        if self.config.exists() {
            if !self.replace {
                let why = format!(
                    "{} is there already; nothing was changed. --replace keeps its settings, and makes \
                     the node a new one",
                    self.config.display()
                );
                return Err(Failure::new(Exit::CannotCreate, why));
            }
            let old = super::target::load_config(&self.config)?;
            let (cluster, node, members) = (config.cluster, config.node, config.members);
            config = Config { cluster, node, members, bootstrap: false, ..old };
        } else {
            if let Some((_, port)) = self.address.rsplit_once(':')
                && let Ok(port) = port.parse()
            {
                config.mesh.listen.set_port(port);
            }
            let tls = self.config.with_file_name("tls");
            config.mesh.tls.ca = tls.join("ca.crt");
            config.mesh.tls.cert = tls.join("node.crt");
            config.mesh.tls.key = tls.join("node.key");
        }
        for (given, set) in
            [(&self.data_dir, &mut config.data_dir), (&self.mount, &mut config.mount.path)]
        {
            if let Some(path) = given {
                set.clone_from(path);
            }
        }
        config.check().map_err(|error| {
            let lines: Vec<String> = error.0.iter().map(ToString::to_string).collect();
            Failure::new(Exit::Usage, lines.join("\n"))
        })?;
        Ok(config)
    }

    /// The certificates first: a configuration without them would not start.
    fn write(
        &self,
        config: &mut Config,
        files: &[(PathBuf, String, bool)],
        ca_key: Option<PathBuf>,
    ) -> Result<(), Failure> {
        config.mesh.tls.ca_key = ca_key;
        let failed = |path: &Path, error: &std::io::Error| {
            let exit = match error.kind() {
                std::io::ErrorKind::PermissionDenied => Exit::NoPermission,
                _ => Exit::CannotCreate,
            };
            Failure::new(exit, format!("cannot write {}: {error}", path.display()))
        };
        for (path, text, private) in files {
            if let Some(folder) = path.parent() {
                std::fs::create_dir_all(folder).map_err(|error| failed(folder, &error))?;
            }
            let written =
                if *private { write_private(path, text) } else { write_public(path, text) };
            written.map_err(|error| failed(path, &error))?;
        }
        if self.config.exists() {
            let mut old = self.config.clone().into_os_string();
            old.push(".old");
            std::fs::copy(&self.config, &old).map_err(|error| failed(Path::new(&old), &error))?;
        }
        if let Some(folder) = self.config.parent() {
            std::fs::create_dir_all(folder).map_err(|error| failed(folder, &error))?;
        }
        let text = config::show_changed(config)
            .map_err(|error| Failure::new(Exit::Software, format!("cannot write YAML: {error}")))?;
        write_public(&self.config, &text).map_err(|error| failed(&self.config, &error))
    }
}

fn certificate(error: &CaError) -> Failure {
    Failure::new(Exit::Usage, error.to_string())
}
