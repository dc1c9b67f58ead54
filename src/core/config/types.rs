//! What the configuration file can say. The doc comments are the manual: docs/configuration.md is
//! made from them.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::units::{self, DurationText, Mode, SizeText};

/// The whole of `/etc/litefs-py/config.yml`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Name of the cluster: lower-case letters, digits and hyphens, at most 63. It is part of
    /// every node's certificate, so that nodes of different clusters never talk to each other.
    pub cluster: String,
    /// Which member this node is.
    pub node: NodeSettings,
    /// All members of the cluster, this node included; the same list on every node.
    pub members: Vec<Member>,
    /// Whether this node begins the cluster when its data folder is empty. True on one node of a
    /// new cluster; without effect once the node has data.
    #[serde(default)]
    pub bootstrap: bool,
    /// Which engine replicates.
    #[serde(default)]
    pub engine: EngineKind,
    /// Which journal modes the applications may use.
    #[serde(default)]
    pub journal: JournalPolicy,
    /// Folder of everything the node keeps. Absolute; not inside the mount.
    #[serde(default = "default_data_dir")]
    pub data_dir: PathBuf,
    /// A warning is logged when a reader holds a database's WAL above this size. A size.
    #[serde(default = "default_wal_warn_bytes", with = "units::size")]
    #[schemars(with = "SizeText")]
    pub wal_warn_bytes: u64,
    /// How often the node reads all its databases, to find pages that the disk changed, and mends them with
    /// what the other nodes have. A duration; `0s`: never.
    #[serde(default = "default_scrub_interval", with = "units::duration")]
    #[schemars(with = "DurationText")]
    pub scrub_interval: Duration,
    /// Where applications find the databases.
    #[serde(default)]
    pub mount: MountSettings,
    /// How the nodes talk to each other.
    #[serde(default)]
    pub mesh: MeshSettings,
    /// Health checks, metrics and administration over HTTP.
    #[serde(default)]
    pub api: ApiSettings,
    /// Heartbeats, elections and the replicated log.
    #[serde(default)]
    pub raft: RaftSettings,
    /// How long a write may wait, and for what.
    #[serde(default)]
    pub write: WriteSettings,
    /// LiteFS, where it is the engine.
    #[serde(default)]
    pub litefs: LitefsSettings,
    /// What the node says about itself.
    #[serde(default)]
    pub log: LogSettings,
}

/// Which member this node is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NodeSettings {
    /// The node's number, from 1. Never used again for another node.
    pub id: u64,
    /// The node's name: lower-case letters, digits and hyphens, at most 63.
    pub name: String,
}

/// A member of the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Member {
    /// The member's number, from 1.
    pub id: u64,
    /// The member's name, as in its certificate.
    pub name: String,
    /// Where its mesh is reached by the other nodes: `host:port`, or `[IPv6]:port`.
    pub address: String,
}

/// Which engine replicates.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum EngineKind {
    /// The daemon's own: Raft and FUSE in one process.
    #[default]
    Embedded,
    /// An unmodified LiteFS, supervised by the daemon and elected by its Raft group. It replicates
    /// asynchronously. All members must have the same engine.
    Litefs,
}

/// Which journal modes the applications may use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum JournalPolicy {
    /// Databases are in WAL mode; a change back to a rollback journal is refused.
    #[default]
    Wal,
    /// Rollback journals too. While a commit waits, the database's readers wait with it.
    Any,
}

/// Where applications find the databases.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct MountSettings {
    /// The mount point. Absolute; it is made when it is missing.
    pub path: PathBuf,
    /// Owner of the files: a user's name or number.
    pub owner: String,
    /// Group of the files: a group's name or number.
    pub group: String,
    /// Mode of the database files, in octal. The folder has the same, with search permission where
    /// there is read permission.
    pub mode: Mode,
    /// Whether users other than the one that runs the node may use the mount.
    pub allow_other: bool,
    /// Whether the kernel may read shared memory files by itself (FUSE passthrough, Linux 6.9 and
    /// later): `auto` uses it where it works.
    pub passthrough: Passthrough,
    /// Whether the bare mount point is made immutable (`chattr +i`), so that no program makes a
    /// database of its own in it while nothing is mounted: `auto` does so as root, on file systems that
    /// can. To remove the folder some day: `chattr -i` first.
    pub immutable: Immutable,
}

/// Whether the bare mount point is made immutable.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Immutable {
    /// Where the node may, and the file system can.
    #[default]
    Auto,
    /// Never.
    Off,
}

/// Whether FUSE passthrough is used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Passthrough {
    /// Where the kernel has it and the node may use it.
    #[default]
    Auto,
    /// Never.
    Off,
}

/// How the nodes talk to each other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct MeshSettings {
    /// Address and port to listen on. Only nodes with a certificate of this cluster get in.
    pub listen: SocketAddr,
    /// The certificates.
    pub tls: TlsSettings,
}

/// Files of the mutual TLS between nodes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TlsSettings {
    /// Certificate of the cluster's CA, PEM.
    pub ca: PathBuf,
    /// This node's certificate, PEM.
    pub cert: PathBuf,
    /// This node's private key, PEM. Readable by the node alone.
    pub key: PathBuf,
    /// The CA's private key, PEM. A leader that finds it here gives it to the cluster, once: then nodes
    /// can join by token, and certificates renew by themselves. The file is of no use afterwards; keep
    /// it in a safe place, not here.
    pub ca_key: Option<PathBuf>,
    /// How long certificates are valid that the cluster issues; each node asks for another when less
    /// than a third of it is left. A duration.
    #[serde(with = "units::duration")]
    #[schemars(with = "DurationText")]
    pub validity: Duration,
}

/// Health checks, metrics and administration over HTTP.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ApiSettings {
    /// Address and port to listen on. Off loopback, only the health endpoints answer without a
    /// token.
    pub listen: SocketAddr,
    /// Unix socket for the command line; needs no token, mode 0660.
    pub socket: PathBuf,
    /// Group of the Unix socket: a group's name or number. Without it, the node's own.
    pub socket_group: Option<String>,
    /// File that holds the bearer token. Without it, administration is by the Unix socket only.
    pub token_file: Option<PathBuf>,
    /// Whether `/metrics` answers without a token off loopback.
    pub expose_metrics: bool,
}

/// Heartbeats, elections and the replicated log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RaftSettings {
    /// How often the leader says that it lives. A duration.
    #[serde(with = "units::duration")]
    #[schemars(with = "DurationText")]
    pub heartbeat: Duration,
    /// Shortest time without a leader before a node campaigns. A duration, at least twice
    /// `heartbeat`.
    #[serde(with = "units::duration")]
    #[schemars(with = "DurationText")]
    pub election_timeout_min: Duration,
    /// Longest time without a leader before a node campaigns. A duration.
    #[serde(with = "units::duration")]
    #[schemars(with = "DurationText")]
    pub election_timeout_max: Duration,
    /// The log is purged when it is larger than this. A node that was away for longer than the log
    /// reaches back gets whole databases instead. A size.
    #[serde(with = "units::size")]
    #[schemars(with = "SizeText")]
    pub log_purge_bytes: u64,
    /// Transactions larger than this travel beside the log, as files. A size, at most 8MiB.
    #[serde(with = "units::size")]
    #[schemars(with = "SizeText")]
    pub staged_above: u64,
}

/// How long a write may wait, and for what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct WriteSettings {
    /// How long the kernel's request for a write lock is held before the application's busy
    /// timeout takes over. A duration, at most 1s: meanwhile the process's other threads wait for
    /// that database too.
    #[serde(with = "units::duration")]
    #[schemars(with = "DurationText")]
    pub lock_wait: Duration,
    /// How long a commit waits, since the last progress, for a majority to answer before it fails
    /// with an I/O error and an open outcome. A duration.
    #[serde(with = "units::duration")]
    #[schemars(with = "DurationText")]
    pub commit_timeout: Duration,
    /// The same for a commit that is the deletion of a rollback journal, which blocks every open
    /// in the mount meanwhile. A duration, at most `commit_timeout`.
    #[serde(with = "units::duration")]
    #[schemars(with = "DurationText")]
    pub unlink_timeout: Duration,
}

/// LiteFS, where it is the engine (`engine: litefs`). What else LiteFS needs to know is taken from the other
/// sections: the mount, the node's name, the log's level.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LitefsSettings {
    /// The LiteFS program, version 0.5. Without it: the file `litefs` beside this program, else the one on
    /// PATH.
    pub binary: Option<PathBuf>,
    /// Folder of LiteFS's own data; the one of a LiteFS that ran here before can be named. Without it:
    /// `litefs` in `data_dir`.
    pub data_dir: Option<PathBuf>,
    /// Port of LiteFS's HTTP, on loopback alone: it knows no authentication.
    pub port: u16,
    /// How long a primary may be silent before its lease can go to another node. A duration, from 1s to
    /// 1m.
    #[serde(with = "units::duration")]
    #[schemars(with = "DurationText")]
    pub ttl: Duration,
    /// How often LiteFS looks for a primary while it has none. A duration.
    #[serde(with = "units::duration")]
    #[schemars(with = "DurationText")]
    pub reconnect_delay: Duration,
    /// How long LiteFS keeps its transaction files; a node that was away for longer gets whole databases.
    /// A duration.
    #[serde(with = "units::duration")]
    #[schemars(with = "DurationText")]
    pub retention: Duration,
    /// How often it looks for transaction files to remove. A duration.
    #[serde(with = "units::duration")]
    #[schemars(with = "DurationText")]
    pub retention_monitor_interval: Duration,
    /// Whether it compresses its transaction files.
    pub compress: bool,
    /// Whether it checks the whole database after each transaction. For tests: very slow.
    pub strict_verify: bool,
    /// How long one whole database may take to be sent. A duration; `0s`: as long as `retention`.
    #[serde(with = "units::duration")]
    #[schemars(with = "DurationText")]
    pub snapshot_timeout: Duration,
    /// File of LiteFS's trace of every operation. Without it there is none.
    pub trace: Option<PathBuf>,
    /// A program, with its arguments, that is started when the node is ready, and stopped before LiteFS.
    /// It gets the signals that the node gets; when it ends, the node ends with its exit code.
    pub exec: Vec<String>,
}

/// What the node says about itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LogSettings {
    /// The least important messages that are written.
    pub level: LogLevel,
    /// Where they go, and how.
    pub format: LogFormat,
}

/// How important a message is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// What needs somebody's attention now.
    Error,
    /// What may need it later.
    Warn,
    /// What happened.
    #[default]
    Info,
    /// Why it happened.
    Debug,
    /// Every request.
    Trace,
}

/// Where messages go, and how.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// To the journal under systemd, else text.
    #[default]
    Auto,
    /// Lines of text on standard error.
    Text,
    /// Lines of JSON on standard error.
    Json,
}

fn default_data_dir() -> PathBuf {
    "/var/lib/litefs-py".into()
}

const fn default_wal_warn_bytes() -> u64 {
    256 << 20
}

const fn default_scrub_interval() -> Duration {
    Duration::from_hours(24)
}

impl Config {
    /// A configuration with every default, for the member `id` of `members`.
    #[must_use]
    pub fn new(cluster: &str, id: u64, members: Vec<Member>) -> Self {
        let name = members.iter().find(|member| member.id == id).map(|member| member.name.clone());
        Self {
            cluster: cluster.to_owned(),
            node: NodeSettings { id, name: name.unwrap_or_default() },
            members,
            bootstrap: false,
            engine: EngineKind::default(),
            journal: JournalPolicy::default(),
            data_dir: default_data_dir(),
            wal_warn_bytes: default_wal_warn_bytes(),
            scrub_interval: default_scrub_interval(),
            mount: MountSettings::default(),
            mesh: MeshSettings::default(),
            api: ApiSettings::default(),
            raft: RaftSettings::default(),
            write: WriteSettings::default(),
            litefs: LitefsSettings::default(),
            log: LogSettings::default(),
        }
    }

    /// Where LiteFS keeps its data.
    #[must_use]
    pub fn litefs_dir(&self) -> PathBuf {
        self.litefs.data_dir.clone().unwrap_or_else(|| self.data_dir.join("litefs"))
    }
}

impl Default for LitefsSettings {
    fn default() -> Self {
        Self {
            binary: None,
            data_dir: None,
            port: 20202,
            ttl: Duration::from_secs(3),
            reconnect_delay: Duration::from_millis(100),
            retention: Duration::from_mins(10),
            retention_monitor_interval: Duration::from_mins(1),
            compress: true,
            strict_verify: false,
            snapshot_timeout: Duration::ZERO,
            trace: None,
            exec: Vec::new(),
        }
    }
}

impl Default for MountSettings {
    fn default() -> Self {
        Self {
            path: "/litefs".into(),
            owner: "root".to_owned(),
            group: "root".to_owned(),
            mode: Mode(0o660),
            allow_other: true,
            passthrough: Passthrough::default(),
            immutable: Immutable::default(),
        }
    }
}

impl Default for MeshSettings {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 4321)),
            tls: TlsSettings::default(),
        }
    }
}

impl Default for TlsSettings {
    fn default() -> Self {
        Self {
            ca: "/etc/litefs-py/tls/ca.crt".into(),
            cert: "/etc/litefs-py/tls/node.crt".into(),
            key: "/etc/litefs-py/tls/node.key".into(),
            ca_key: None,
            validity: Duration::from_hours(90 * 24),
        }
    }
}

impl Default for ApiSettings {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8008)),
            socket: "/run/litefs-py/api.sock".into(),
            socket_group: None,
            token_file: None,
            expose_metrics: false,
        }
    }
}

impl Default for RaftSettings {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_millis(50),
            election_timeout_min: Duration::from_millis(150),
            election_timeout_max: Duration::from_millis(300),
            log_purge_bytes: 64 << 20,
            staged_above: 1 << 20,
        }
    }
}

impl Default for WriteSettings {
    fn default() -> Self {
        Self {
            lock_wait: Duration::from_millis(50),
            commit_timeout: Duration::from_secs(15),
            unlink_timeout: Duration::from_secs(2),
        }
    }
}
