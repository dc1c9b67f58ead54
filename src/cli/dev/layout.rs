//! The folder of a `dev` cluster: what is where, and how it is made.

use std::fs::{self, File, TryLockError};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{file_failure, ready};
use crate::cli::{Exit, Failure};
use crate::core::config::{Config, EngineKind, Immutable, Member, show};
use crate::mesh::Ca;

const CLUSTER: &str = "dev";

/// Nodes of a new cluster when nothing else is said.
const NODES_DEFAULT: u8 = 3;

/// Ports are taken from here: below what the kernel gives to outgoing connections
/// (`ip_local_port_range`, from 32768), so that nobody has one while its node is down.
const PORTS: std::ops::Range<u16> = 15_000..32_000;

/// What `DIR/dev.json` keeps: it is written last, so that a folder which has it is complete.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    nodes: Vec<KeptNode>,
}

#[derive(Debug, Serialize, Deserialize)]
struct KeptNode {
    name: String,
    mesh_port: u16,
    api_port: u16,
    /// Of LiteFS, where it is the engine.
    #[serde(default)]
    litefs_port: Option<u16>,
}

/// The folder of a cluster.
#[derive(Debug)]
pub(in crate::cli) struct Layout {
    dir: PathBuf,
    nodes: Vec<Node>,
    /// Held while this process runs the cluster.
    _lock: Option<File>,
}

/// A node's place in it.
#[derive(Debug, Clone)]
pub(in crate::cli) struct Node {
    pub name: String,
    pub api: SocketAddr,
    mesh: SocketAddr,
    litefs_port: Option<u16>,
    dir: PathBuf,
}

impl Node {
    pub fn socket(&self) -> PathBuf {
        self.dir.join("api.sock")
    }

    pub fn config(&self) -> PathBuf {
        self.dir.join("config.yml")
    }

    pub fn mount(&self) -> PathBuf {
        self.dir.join("mount")
    }

    pub fn log(&self) -> PathBuf {
        self.dir.join("log")
    }
}

impl Layout {
    /// A cluster's folder that was made before.
    pub fn open(dir: &Path) -> Result<Self, Failure> {
        let dir = fs::canonicalize(dir).map_err(|error| file_failure("open", dir, &error))?;
        let kept = read_kept(&dir)?.ok_or_else(|| {
            let why = "there is no cluster; litefs-py dev --dir makes one";
            Failure::new(Exit::Usage, format!("{}: {why}", dir.display()))
        })?;
        Ok(Self { nodes: nodes(&dir, &kept), dir, _lock: None })
    }

    /// A cluster's folder, made if it is new, and locked against a second start.
    pub fn prepare(dir: &Path, count: Option<u8>, engine: EngineKind) -> Result<Self, Failure> {
        fs::create_dir_all(dir).map_err(|error| file_failure("make", dir, &error))?;
        let dir = fs::canonicalize(dir).map_err(|error| file_failure("open", dir, &error))?;
        let lock = lock(&dir)?;
        let kept = match read_kept(&dir)? {
            Some(kept) => kept,
            None => make(&dir, count.unwrap_or(NODES_DEFAULT), engine)?,
        };
        if let Some(count) = count
            && kept.nodes.len() != usize::from(count)
        {
            let why = format!(
                "{}: the cluster there has {} nodes; leave --nodes out, or use another folder",
                dir.display(),
                kept.nodes.len()
            );
            return Err(Failure::new(Exit::Usage, why));
        }
        Ok(Self { nodes: nodes(&dir, &kept), dir, _lock: Some(lock) })
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    pub fn ready_file(&self) -> PathBuf {
        self.dir.join("ready.json")
    }

    pub fn control_socket(&self) -> PathBuf {
        self.dir.join("dev.sock")
    }
}

fn lock(dir: &Path) -> Result<File, Failure> {
    let path = dir.join("dev.lock");
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(|error| file_failure("open", &path, &error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            let why = "a litefs-py dev runs there already; stop it first, or use another folder";
            Err(Failure::new(Exit::TryAgain, format!("{}: {why}", dir.display())))
        }
        Err(TryLockError::Error(error)) => Err(file_failure("lock", &path, &error)),
    }
}

fn read_kept(dir: &Path) -> Result<Option<Kept>, Failure> {
    let path = dir.join("dev.json");
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(file_failure("read", &path, &error)),
    };
    serde_json::from_str(&text).map(Some).map_err(|error| file_failure("read", &path, &error))
}

fn nodes(dir: &Path, kept: &Kept) -> Vec<Node> {
    let at = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    kept.nodes
        .iter()
        .map(|node| Node {
            name: node.name.clone(),
            api: at(node.api_port),
            mesh: at(node.mesh_port),
            litefs_port: node.litefs_port,
            dir: dir.join(&node.name),
        })
        .collect()
}

fn make(dir: &Path, count: u8, engine: EngineKind) -> Result<Kept, Failure> {
    let each = if engine == EngineKind::Litefs { 3 } else { 2 };
    let ports = free_ports(each * usize::from(count))?;
    let kept = Kept {
        nodes: (1..=count)
            .zip(ports.chunks_exact(each))
            .map(|(number, ports)| KeptNode {
                name: format!("n{number}"),
                mesh_port: ports[0],
                api_port: ports[1],
                litefs_port: ports.get(2).copied(),
            })
            .collect(),
    };
    let nodes = nodes(dir, &kept);
    let members: Vec<Member> = (1..)
        .zip(&nodes)
        .map(|(id, node)| Member { id, name: node.name.clone(), address: node.mesh.to_string() })
        .collect();
    let certificates = dir.join("ca");
    let ca = Ca::create(CLUSTER).map_err(|error| file_failure("fill", &certificates, &error))?;
    make_folder(&certificates)?;
    ca.write(&certificates).map_err(|error| file_failure("fill", &certificates, &error))?;
    for (id, node) in (1..).zip(&nodes) {
        make_node(node, id, &members, &ca, engine)?;
    }
    let text =
        serde_json::to_string_pretty(&kept).map_err(|error| file_failure("write", dir, &error))?;
    ready::replace(&dir.join("dev.json"), &text)?;
    Ok(kept)
}

fn make_node(
    node: &Node,
    id: u64,
    members: &[Member],
    ca: &Ca,
    engine: EngineKind,
) -> Result<(), Failure> {
    let tls = node.dir.join("tls");
    let data = node.dir.join("data");
    for folder in [&node.dir, &tls, &data, &node.mount()] {
        make_folder(folder)?;
    }
    let failed = |error: &dyn std::fmt::Display| file_failure("fill", &tls, error);
    ca.issue(&node.name)
        .and_then(|identity| identity.write(&tls))
        .map_err(|error| failed(&error))?;
    fs::write(tls.join("ca.crt"), ca.certificate_pem()).map_err(|error| failed(&error))?;

    let mut config = Config::new(CLUSTER, id, members.to_vec());
    config.bootstrap = id == 1;
    config.engine = engine;
    if let Some(port) = node.litefs_port {
        config.litefs.port = port;
    }
    config.data_dir = data;
    config.mount.path = node.mount();
    config.mount.owner = rustix::process::getuid().as_raw().to_string();
    config.mount.group = rustix::process::getgid().as_raw().to_string();
    // Others may only be let in by root, or where /etc/fuse.conf says so (mount.fuse3(8)).
    config.mount.allow_other = rustix::process::getuid().is_root();
    // Who made the folder is to be able to remove it.
    config.mount.immutable = Immutable::Off;
    config.mesh.listen = node.mesh;
    config.mesh.tls.ca = tls.join("ca.crt");
    config.mesh.tls.cert = tls.join("node.crt");
    config.mesh.tls.key = tls.join("node.key");
    config.mesh.tls.ca_key = Some(node.dir.with_file_name("ca").join("ca.key"));
    config.api.listen = node.api;
    config.api.socket = node.socket();
    config.check().map_err(|error| {
        Failure::new(Exit::Usage, format!("{}: {error}", node.config().display()))
    })?;
    let text = show(&config).map_err(|error| file_failure("write", &node.config(), &error))?;
    ready::replace(&node.config(), &text)
}

fn make_folder(path: &Path) -> Result<(), Failure> {
    fs::create_dir_all(path).map_err(|error| file_failure("make", path, &error))
}

/// Ports that nobody listens on, one after another from a random place.
fn free_ports(count: usize) -> Result<Vec<u16>, Failure> {
    let start = rand::random_range(PORTS);
    let free: Vec<u16> = (start..PORTS.end)
        .chain(PORTS.start..start)
        .filter(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok())
        .take(count)
        .collect();
    if free.len() < count {
        let why = format!("no {count} free ports on 127.0.0.1 between 15000 and 32000");
        return Err(Failure::new(Exit::Unavailable, why));
    }
    Ok(free)
}
