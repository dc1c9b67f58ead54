//! The node: builds the parts, starts them in order, and takes them down in order.
//!
//! Start: data folder, store, mesh, Raft (which replays its log into the databases), then the mesh
//! listens, then the databases are checked against the log (Rule 13) and served: the mount, then
//! the API, then systemd is told. Stop: no new work, who writes may end it, leadership handed over (a
//! clean stop fails no statement elsewhere), the mount closed, the databases checkpointed, Raft and mesh stopped.
//!
//! May know: everything below. Decides nothing about data.

mod accounts;
mod admission;
mod caretaker;
mod certificates;
mod convert;
mod data_folder;
mod ending;
mod engine;
mod group;
mod history;
mod leaders;
mod litefs;
mod litefs_engine;
mod litefs_import;
mod live;
mod machine;
mod membership;
mod recovery;
mod roster;
mod scrub;
mod service;
mod snapshots;
mod stand;
mod steps;
mod switchover;
mod transfers;
mod watch;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use tokio::runtime::Handle;
use tokio::sync::watch::{Receiver, Sender, channel as watch_channel};

use crate::api;
use crate::commit::peers::SharedGroup;
use crate::commit::{AllDatabases, Arbiter, Fetching, Intake, Service, Settings, Shared, Uploads};
use crate::core::config::{Config, Immutable, JournalPolicy, LogLevel, Passthrough};
use crate::core::{NodeId, SystemClock};
use crate::litefs::Litefs;
use crate::mesh::{Mesh, MeshConfig, Peer};
use crate::mount::{Mount, MountConfig};
pub use crate::mount::{clear_litefs, clear_mount, end_by_force};
use crate::raft::{Compaction, RaftConfig, RaftNode, StagedFiles, StagedFolder};
use crate::store::Store;

pub use crate::litefs::run_guard as run_litefs_guard;
use certificates::Certificates;
pub use convert::{Conversion, ConvertError, Converted, ConvertedDatabase, Part, convert};
pub use data_folder::{DataFolder, DataFolderError};
use ending::{APPLYING, StopSignals, hand_over, shut_down};
use engine::EmbeddedEngine;
use group::NodeGroup;
use history::History;
use leaders::Leaders;
use live::Live;
use membership::Membership;
pub use recovery::{Recovered, recover};
use roster::Roster;

/// What a node does not survive. Each says what failed and on what.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    #[error(transparent)]
    DataFolder(#[from] data_folder::DataFolderError),
    #[error(transparent)]
    Store(#[from] crate::store::StoreError),
    #[error(transparent)]
    Files(#[from] NoFile),
    #[error(transparent)]
    Mesh(#[from] crate::mesh::MeshError),
    #[error(transparent)]
    Raft(#[from] crate::raft::RaftError),
    #[error(transparent)]
    Mount(#[from] crate::mount::MountError),
    #[error(transparent)]
    Api(#[from] crate::api::ApiError),
    #[error(transparent)]
    Account(#[from] accounts::NoAccount),
    #[error(transparent)]
    Litefs(#[from] crate::litefs::LitefsError),
    #[error(
        "{path} is of a cluster with the engine {found}, and the configuration says engine: {wanted}; \
         correct it, or give the node another data_dir"
    )]
    OtherEngine { path: String, found: &'static str, wanted: &'static str },
    #[error("cannot {what}: {source}")]
    Io { what: &'static str, source: std::io::Error },
    #[error("the mount {0} was taken away from outside; the node stops rather than serve nobody")]
    MountEnded(String),
    #[error("the application (litefs.exec) has ended with exit code {code}")]
    Application { code: i32 },
    #[error("{0}")]
    Stopped(String),
    #[error("a part of the node has failed; its log says which")]
    Failed,
}

/// Whose matter it is that a node does not start, or go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blame {
    /// The configuration, or what it names: certificates, accounts, the mount point.
    Configuration,
    /// Something that another program holds: the data folder, the mount.
    InUse,
    /// What the machine has to offer: a port, /dev/fuse.
    Unavailable,
    /// The disk, or a file on it.
    Disk,
    /// The node's own.
    Node,
}

impl NodeError {
    pub fn blame(&self) -> Blame {
        use crate::mesh::MeshError;
        use crate::mount::MountError;
        match self {
            NodeError::DataFolder(data_folder::DataFolderError::InUse(_))
            | NodeError::Mount(MountError::InUse { .. }) => Blame::InUse,
            NodeError::Mount(MountError::NoDevice { .. } | MountError::Mount { .. })
            | NodeError::Mesh(MeshError::PortInUse { .. } | MeshError::Listen { .. })
            | NodeError::Api(_) => Blame::Unavailable,
            NodeError::Files(_)
            | NodeError::DataFolder(
                data_folder::DataFolderError::Removed { .. }
                | data_folder::DataFolderError::Converting(_),
            )
            | NodeError::Account(_)
            | NodeError::OtherEngine { .. }
            | NodeError::Mesh(_)
            | NodeError::Mount(
                MountError::Missing { .. }
                | MountError::NotAFolder { .. }
                | MountError::NotEmpty { .. },
            ) => Blame::Configuration,
            NodeError::DataFolder(_) | NodeError::Io { .. } => Blame::Disk,
            _ => Blame::Node,
        }
    }
}

/// How long programs may take to end the write transaction they are in.
const WRITERS_GRACE: Duration = Duration::from_secs(2);

/// How long connections of the API may finish what they do.
const API_GRACE: Duration = Duration::from_secs(2);

/// How long a daemon that was killed may take to let its data folder go, once its mount is gone.
const LETTING_GO: Duration = Duration::from_secs(5);

/// How long one may take until it can be seen that it was killed.
const DYING: Duration = Duration::from_millis(500);

/// Everything that runs, in the order it was started.
struct Parts {
    folder: DataFolder,
    group: Arc<NodeGroup>,
    databases: Arc<AllDatabases>,
    arbiter: Arc<Arbiter>,
    raft: Arc<RaftNode>,
    leaders: Arc<Leaders>,
    mesh: Mesh,
    membership: Arc<Membership>,
    listening: crate::mesh::Listening,
    /// The other engine, where it is configured.
    litefs: Option<Arc<Litefs>>,
    /// What ended Raft, once something did.
    failed: Receiver<Option<String>>,
}

/// Runs a node until SIGTERM or SIGINT. `set_level`: changes what is written to the log.
///
/// # Errors
/// What kept it from starting, or ended it.
pub async fn run(config: Config, set_level: fn(LogLevel)) -> Result<(), NodeError> {
    let mut stop = StopSignals::new()?;
    let folder = open_folder(&config, NodeId(config.node.id)).await?;
    let live = Arc::new(Live::open(&folder, config));
    let config = live.running();
    set_level(config.log.level);
    let parts = start(&config, folder).await?;
    if let Some(litefs) = parts.litefs.clone() {
        return litefs::run(config, parts, litefs, live, stop, set_level).await;
    }
    // A newcomer is mounted, and shows how far it is, before it serves.
    let newcomer = parts.folder.is_newcomer();
    parts.databases.set_catching_up(true);
    if !newcomer && !open_unless_stopped(&parts, &mut stop).await? {
        tracing::info!("stopping; the log is not replayed to its end");
        stand::stopping();
        hand_over(&parts).await;
        shut_down(parts, Duration::ZERO).await;
        return Ok(());
    }
    let mount = mount(&config, &parts).await?;
    let mounted = config.mount.path.clone();
    crate::commit::before_stopping(move || {
        if let Err(error) = end_by_force(&mounted) {
            tracing::warn!(path = %mounted.display(), %error, "the mount is left behind");
        }
    });
    let intake: Arc<dyn Intake> = parts.databases.clone();
    let uploads = Uploads::open(&parts.folder.part("imports"), intake);
    let uploads = uploads.map_err(io("make the folder of imports"))?;
    let engine = EmbeddedEngine::new(&config, &parts, Arc::clone(&live), uploads);
    let options =
        api::Options::new(&config.api, accounts::group(config.api.socket_group.as_deref())?);
    live.follow(turn(&parts, Arc::clone(&options.expose_metrics), set_level));
    let serving = api::serve(Arc::clone(&engine) as _, options).await?;
    stand::begin(&engine);
    let mut ended = mount.ended();
    let removed = parts.membership.removed.subscribe();
    let (raft, databases) = (Arc::clone(&parts.raft), Arc::clone(&parts.databases));
    let opened = async move {
        let committed = raft.catch_up().await;
        if newcomer {
            open(Arc::clone(&databases)).await?;
        }
        databases.until_all_show(committed).await;
        databases.set_catching_up(false);
        std::future::pending::<Result<_, NodeError>>().await
    };
    let outcome = tokio::select! {
        _ = stop.wait() => Ok(None),
        failed = opened => failed,
        () = until_true(&mut ended) => {
            Err(NodeError::MountEnded(config.mount.path.display().to_string()))
        }
        why = until_some(removed) => Ok(Some(why)),
        why = until_some(parts.failed.clone()) => {
            // Rule 7: nothing is tidied up after the disk failed; the next start recovers.
            return Err(NodeError::Stopped(why));
        }
    };
    tracing::info!("stopping");
    stand::stopping();
    engine.draining();
    if !parts.databases.close_to_writers(WRITERS_GRACE).await {
        tracing::warn!(
            "a program keeps a transaction open, or its COMMIT has no verdict; it is cut off"
        );
    }
    hand_over(&parts).await;
    serving.stop(API_GRACE).await;
    let unmounted = blocking(move || mount.stop()).await?;
    for database in parts.databases.all() {
        database.everybody_left();
    }
    let folder = shut_down(parts, APPLYING).await;
    if let Some(why) = outcome? {
        let kept = folder.leave(&why)?.display().to_string();
        return Err(DataFolderError::Removed { why, kept }.into());
    }
    Ok(unmounted?)
}

/// Lets applications in, which can take as long as the log is long. False: the node is told to stop.
async fn open_unless_stopped(parts: &Parts, stop: &mut StopSignals) -> Result<bool, NodeError> {
    tokio::select! {
        opened = open(Arc::clone(&parts.databases)) => opened.map(|()| true),
        _ = stop.wait() => Ok(false),
        why = until_some(parts.failed.clone()) => Err(NodeError::Stopped(why)),
    }
}

/// Lets applications in. On a node that was just let in itself only once it has all that was committed when
/// it came: while it replays the log of years, it would show databases that were deleted long ago.
async fn open(databases: Arc<AllDatabases>) -> Result<(), NodeError> {
    let opened = Arc::clone(&databases);
    blocking(move || opened.begin_to_serve()).await??;
    tokio::spawn(databases.fetch_lost());
    Ok(())
}

/// Lets the settings take effect that can while the node runs (core's `LIVE`).
fn turn(
    parts: &Parts,
    expose_metrics: Arc<AtomicBool>,
    set_level: fn(LogLevel),
) -> impl Fn(&Config) + Send + Sync + 'static {
    let (raft, writes) = (Arc::clone(&parts.raft), parts.databases.shared().settings.clone());
    move |config| {
        set_level(config.log.level);
        expose_metrics.store(config.api.expose_metrics, Ordering::Relaxed);
        writes.set(settings(config));
        raft.set_compaction(compaction(config));
    }
}

async fn start(config: &Config, folder: DataFolder) -> Result<Parts, NodeError> {
    let me = NodeId(config.node.id);
    let (store, recovered) = Store::open(folder.path(), SystemTime::now())?;
    for (aside, why) in &recovered.set_aside {
        tracing::error!(kept = %aside.folder.display(), %why, "a database was set aside");
    }
    let roster = Arc::new(Roster::open(config, folder.part("members")));
    let certificates = Arc::new(Certificates::read(config)?);
    let mesh = make_mesh(config, &roster, &certificates)?;
    let staged = StagedFolder::open(&folder.part("staged")).map_err(io("open the staged files"))?;
    let staged: Arc<dyn StagedFiles> = Arc::new(staged);
    let group = NodeGroup::new(me, Arc::clone(&roster), mesh.clone(), Arc::clone(&staged));
    let shared_group: SharedGroup = group.clone();
    let shared = Shared::new(
        Arc::clone(&shared_group),
        Handle::current(),
        folder.boot(),
        settings(config),
        folder.part("staged"),
    );
    let named = Arc::clone(&roster);
    let names = move |id| named.now().members.get(&id).map(|member| member.name.clone());
    let databases = AllDatabases::new(&shared, store, recovered.databases, Box::new(names));
    let arbiter = databases.with_arbiter(Arc::new(SystemClock::default()));

    let (fatal, failed) = watch_channel(None);
    let raft_config = raft_config(config, &folder, &roster, fatal);
    let replica = Arc::clone(&databases) as _;
    let raft = Arc::new(RaftNode::start(raft_config, mesh.clone(), replica, staged).await?);
    group.follow(Arc::clone(&raft));
    let service = Service {
        group: shared_group,
        arbiter: Arc::clone(&arbiter),
        databases: Arc::clone(&databases),
        fetching: Fetching::default(),
    };
    let leaders = leaders(config, &folder, &raft, &mesh, &roster);
    let membership = Arc::new(Membership {
        me,
        cluster: config.cluster.clone(),
        mesh: mesh.clone(),
        raft: Arc::clone(&raft),
        leaders: Arc::clone(&leaders),
        roster,
        certificates,
        databases: Arc::clone(&databases),
        arbiter: Arc::clone(&arbiter),
        busy: tokio::sync::Mutex::default(),
        removed: Sender::default(),
    });
    tokio::spawn(caretaker::follow_members(Arc::clone(&membership)));
    litefs::check_engine(config, &folder, &raft.state())?;
    let litefs = litefs::build(config, &folder, &mesh, &raft);
    let handlers = service::handlers(&raft, service, &membership, litefs.clone());
    let listening = mesh.listen_on(&config.mesh.listen.to_string(), handlers).await?;
    tokio::spawn(Arc::clone(&arbiter).run());
    tokio::spawn(Arc::clone(&leaders).follow());
    tokio::spawn(watch::peers(mesh.clone(), Arc::clone(&raft), Arc::clone(&arbiter)));
    tokio::spawn(caretaker::take_care(Arc::clone(&membership)));
    tokio::spawn(scrub::on_reads(Arc::clone(&membership)));
    tokio::spawn(scrub::on_schedule(Arc::clone(&membership), config.scrub_interval));
    Ok(Parts {
        folder,
        group,
        databases,
        arbiter,
        raft,
        leaders,
        mesh,
        membership,
        listening,
        litefs,
        failed,
    })
}

fn leaders(
    config: &Config,
    folder: &DataFolder,
    raft: &Arc<RaftNode>,
    mesh: &Mesh,
    roster: &Arc<Roster>,
) -> Arc<Leaders> {
    Leaders::new(
        NodeId(config.node.id),
        Arc::clone(roster),
        config.raft.election_timeout_max,
        History::open(folder.part("history")),
        Arc::clone(raft),
        mesh.clone(),
    )
}

/// Opens the data folder. Without passthrough a daemon that was killed cannot end: the kernel waits for
/// an answer of it, to what was stored in a shm through its own mount. So its mount is ended first, or
/// its folder would be in use for ever (bounded-answer).
async fn open_folder(config: &Config, me: NodeId) -> Result<DataFolder, NodeError> {
    let begun = Instant::now();
    loop {
        let opened = DataFolder::open(&config.data_dir, &config.cluster, me.0);
        let in_use = matches!(opened, Err(DataFolderError::InUse(_)));
        let is_dead = in_use && DataFolder::holder_is_dead(&config.data_dir);
        let patience = if is_dead { LETTING_GO } else { DYING };
        if !in_use || begun.elapsed() > patience {
            return Ok(opened?);
        }
        if is_dead {
            tracing::warn!(path = ?config.mount.path, "ending the mount of a daemon that was killed");
            if let Err(error) = end_by_force(&config.mount.path) {
                tracing::debug!(%error, "its mount is not there");
            }
        }
        tokio::time::sleep(DYING / 10).await;
    }
}

fn make_mesh(
    config: &Config,
    roster: &Roster,
    certificates: &Certificates,
) -> Result<Mesh, NodeError> {
    let me = Peer {
        id: NodeId(config.node.id),
        name: config.node.name.clone(),
        address: config.mesh.listen.to_string(),
    };
    Ok(Mesh::new(MeshConfig {
        cluster: config.cluster.clone(),
        me,
        peers: roster.now().peers(),
        identity: certificates.identity(),
        ca_pem: certificates.ca_pem(),
    })?)
}

/// A file of the TLS settings that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {path}: {source}; see mesh.tls in the configuration")]
pub struct NoFile {
    path: String,
    source: std::io::Error,
}

fn read(path: &std::path::Path) -> Result<String, NoFile> {
    std::fs::read_to_string(path)
        .map_err(|source| NoFile { path: path.display().to_string(), source })
}

fn settings(config: &Config) -> Settings {
    Settings {
        lock_wait: config.write.lock_wait,
        commit_timeout: config.write.commit_timeout,
        unlink_timeout: config.write.unlink_timeout,
        staged_above: config.raft.staged_above,
        turn_to_wal: config.journal == JournalPolicy::Wal,
        wal_warn_bytes: config.wal_warn_bytes,
        ..Settings::default()
    }
}

fn compaction(config: &Config) -> Compaction {
    let after = config.raft.log_purge_bytes;
    Compaction { after, keep: after / 4, most: after.saturating_mul(8) }
}

fn raft_config(
    config: &Config,
    folder: &DataFolder,
    roster: &Roster,
    fatal: Sender<Option<String>>,
) -> RaftConfig {
    let me = NodeId(config.node.id);
    RaftConfig {
        heartbeat: config.raft.heartbeat,
        election: (config.raft.election_timeout_min, config.raft.election_timeout_max),
        compaction: compaction(config),
        bootstrap: config.bootstrap.then(|| roster.now().as_members()),
        peers: roster.others(me),
        newcomer: folder.is_newcomer(),
        on_fatal: Arc::new(move |why| {
            tracing::error!(why, "Raft has failed; the node stops, to recover from the log");
            fatal.send_replace(Some(why));
        }),
        ..RaftConfig::new(me, folder.part("raft"))
    }
}

async fn mount(config: &Config, parts: &Parts) -> Result<Mount, NodeError> {
    let settings = &config.mount;
    std::fs::create_dir_all(&settings.path).or_else(|error| match error.kind() {
        // A dead daemon's mount, or one that is there already: the mount room says which.
        std::io::ErrorKind::AlreadyExists | std::io::ErrorKind::NotConnected => Ok(()),
        _ => Err(NodeError::Io { what: "make the mount point", source: error }),
    })?;
    let mount_config = MountConfig {
        path: settings.path.clone(),
        owner: accounts::user(&settings.owner)?,
        group: accounts::group(Some(&settings.group))?.unwrap_or(0),
        mode: settings.mode.0,
        allow_other: settings.allow_other,
        passthrough: settings.passthrough == Passthrough::Auto,
        immutable: settings.immutable == Immutable::Auto,
        statfs_path: parts.folder.path().to_owned(),
    };
    let begun = Instant::now();
    loop {
        let (config, databases) = (mount_config.clone(), Arc::clone(&parts.databases));
        match blocking(move || Mount::start(config, databases)).await? {
            // The mount of a daemon that was killed a moment ago ends a little later than its lock.
            Err(crate::mount::MountError::InUse { .. }) if begun.elapsed() < DYING => {
                tokio::time::sleep(DYING / 10).await;
            }
            mounted => return Ok(mounted?),
        }
    }
}

/// Work that may wait for disks, off the threads that serve.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, NodeError> {
    tokio::task::spawn_blocking(work).await.map_err(|_panicked| NodeError::Failed)
}

fn io(what: &'static str) -> impl FnOnce(std::io::Error) -> NodeError {
    move |source| NodeError::Io { what, source }
}

async fn until_some(mut failed: Receiver<Option<String>>) -> String {
    match failed.wait_for(Option::is_some).await {
        Ok(why) => why.clone().unwrap_or_default(),
        Err(_never) => std::future::pending().await,
    }
}

async fn until_true(flag: &mut tokio::sync::watch::Receiver<bool>) {
    if flag.wait_for(|ended| *ended).await.is_err() {
        // Its sender is gone only after it said so.
    }
}
