//! The node: the parts put together, and what the rooms above ask of it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, SystemTime};

use futures::FutureExt;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::errors::{ClientWriteError, InitializeError, RaftError as OpenraftError};
use openraft::impls::ProgressResponder;
use openraft::{RaftMetrics, ServerState};
use tokio::sync::watch::Receiver;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use super::compact::{Compaction, Compactor, Pins, by_size};
use super::joining::{Joiner, Joining};
use super::links::Links;
use super::log::disk::{Disk, Folder};
use super::log::{Log, LogConfig};
use super::machine::{self, Machine, Now};
use super::network::{Network, method};
use super::pages::{DatabaseTransfer, DatabaseTransfers};
use super::replica::{IncomingDatabase, Replica};
use super::serve::{RaftHandlers, Receiving, Services};
use super::snapshot::DatabaseHeader;
use super::staged::{StagedFiles, StagedName};
use super::state_file::StateFile;
use super::status::{Leadership, Membership, RaftStatus, quorum_age, status};
use super::types::{CommittedLeaderId, Member, Members, Proposal, Raft, Types, entry_id};
use super::wire::{WireEntry, WirePayload, decode, encoded_body_len};
use super::{ProposeError, RaftError, campaign, database_stream, read_index, watch};
use crate::cluster::{Command, State};
use crate::core::{DatabaseName, EntryId, Incarnation, NodeId};
use crate::mesh::Mesh;

/// The longest entry, in bytes: it has to fit into a frame of the mesh.
const MAX_ENTRY: usize = 8 << 20;
/// How long a transfer of leadership may take.
const TRANSFER: Duration = Duration::from_secs(5);

/// How long the leader is asked for what is committed, before it is asked again.
const CATCH_UP: Duration = Duration::from_secs(2);

/// What a node is started with.
#[derive(Clone)]
pub struct RaftConfig {
    pub id: NodeId,
    /// For the log, the state file and what is being received.
    pub folder: PathBuf,
    /// The first members: if given, and nothing was ever written here, the group begins with
    /// them. All of them may be started so, with the same members.
    pub bootstrap: Option<Members>,
    /// The other members. A node that starts with nothing asks them before it takes part; without
    /// any it takes part at once.
    pub peers: Vec<NodeId>,
    /// Its number was never given to a node before: there is nothing that it could have forgotten, so
    /// it takes part at once.
    pub newcomer: bool,
    pub heartbeat: Duration,
    /// Election timeout: at random between these two.
    pub election: (Duration, Duration),
    pub log: LogConfig,
    pub compaction: Compaction,
    /// Called when the disk failed or Raft stopped by itself: the process must end, and recover
    /// (Rule 7).
    pub on_fatal: Arc<dyn Fn(String) + Send + Sync>,
}

impl RaftConfig {
    /// With the defaults: 50 ms heartbeat, 150 to 300 ms election timeout.
    pub fn new(id: NodeId, folder: impl Into<PathBuf>) -> Self {
        Self {
            id,
            folder: folder.into(),
            bootstrap: None,
            peers: Vec::new(),
            newcomer: false,
            heartbeat: Duration::from_millis(50),
            election: (Duration::from_millis(150), Duration::from_millis(300)),
            log: LogConfig::default(),
            compaction: Compaction::default(),
            on_fatal: Arc::new(|why| tracing::error!(why, "Raft failed; the process must stop")),
        }
    }

    fn openraft(&self, elect: bool) -> Result<openraft::Config, RaftError> {
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let config = openraft::Config {
            cluster_name: "litefs-py".into(),
            heartbeat_interval: millis(self.heartbeat),
            election_timeout_min: millis(self.election.0),
            election_timeout_max: millis(self.election.1),
            enable_pre_vote: Some(true),
            enable_elect: elect,
            // Entries go to the others while this node's own disk still syncs, ...
            broadcast_submitted_on_append: Some(true),
            // ... so a leader that was killed may have lost entries that the others committed. Led
            // on in its old term, it would give their numbers away a second time, and nobody could
            // tell (no-lost-ack, one-history). It is to be elected, like any node.
            enable_leader_restore: Some(false),
            // The state is made durable, and the log purged, by bytes: `compact`.
            snapshot_policy: openraft::SnapshotPolicy::Never,
            max_in_snapshot_log_to_keep: u64::MAX,
            // Never a snapshot as long as the entries are there.
            replication_lag_threshold: u64::MAX,
            ..openraft::Config::default()
        };
        config.validate().map_err(|error| RaftError::Config(error.to_string()))
    }
}

/// A proposal that is on its way.
pub type Pending = futures::future::BoxFuture<'static, Result<EntryId, ProposeError>>;

/// This node of the Raft group. Clones are the same node.
#[derive(Clone)]
pub struct RaftNode {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    id: NodeId,
    pub(super) raft: Raft,
    log: Log,
    machine: Arc<machine::Shared>,
    links: Arc<dyn Links>,
    services: Arc<Services>,
    staged: Arc<dyn StagedFiles>,
    compactor: Arc<Compactor>,
    leadership: Receiver<Leadership>,
    pub(super) membership: Receiver<Membership>,
    stopping: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<()>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::SeqCst);
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl RaftNode {
    /// Starts the node; when this returns, everything that it knew to be committed is applied
    /// again: `replica` was told of each entry since the state file.
    ///
    /// It answers others once its [`RaftNode::handlers`] are given to the mesh.
    ///
    /// # Errors
    /// The folder cannot be used, or what is in it is damaged.
    pub async fn start(
        config: RaftConfig,
        mesh: Mesh,
        replica: Arc<dyn Replica>,
        staged: Arc<dyn StagedFiles>,
    ) -> Result<RaftNode, RaftError> {
        Self::start_with(config, Arc::new(mesh), replica, staged).await
    }

    /// As [`RaftNode::start`], over any network.
    ///
    /// # Errors
    /// The folder cannot be used, or what is in it is damaged.
    pub async fn start_with(
        config: RaftConfig,
        links: Arc<dyn Links>,
        replica: Arc<dyn Replica>,
        staged: Arc<dyn StagedFiles>,
    ) -> Result<RaftNode, RaftError> {
        let log_folder = config.folder.join("log");
        let folder = |source| RaftError::Folder { path: config.folder.clone(), source };
        let disk = Folder::new(&log_folder).map_err(folder)?;
        Receiving::clean(&config.folder, SystemTime::now()).map_err(folder)?;
        let (file, content) = StateFile::open(&config.folder)?;
        let empty = content.is_none() && disk.list().map_err(folder)?.is_empty();
        let nothing_to_forget = config.peers.is_empty() || config.newcomer;
        let joining = Joining::open(&config.folder, empty, nothing_to_forget);
        let joining = Arc::new(joining.map_err(folder)?);
        let settings = Arc::new(config.openraft(joining.is_member())?);
        let now = match content {
            Some((meta, state)) => Now::read(&meta, state)?,
            None => Now::default(),
        };
        let stopping = Arc::new(AtomicBool::new(false));
        let log = Log::open(
            Arc::new(disk),
            config.log,
            Arc::clone(&staged),
            Arc::clone(&config.on_fatal),
        )?;
        settle(&log, &now).map_err(|error| match error {
            Unsettled::Gap { purged } => {
                RaftError::Gap { purged, state: now.applied.as_ref().map(|id| id.index) }
            }
            Unsettled::Io(error) => RaftError::Stopped(error.to_string()),
        })?;
        let pins = Arc::new(Pins::default());
        let transfers = Arc::new(DatabaseTransfers::default());
        let services = Arc::new(Services {
            raft: OnceLock::new(),
            links: Arc::clone(&links),
            staged: Arc::clone(&staged),
            replica: Arc::clone(&replica),
            joining: Arc::clone(&joining),
            log: log.clone(),
            transfers: Arc::clone(&transfers),
            receiving: Receiving::new(&config.folder),
        });
        begin(&replica, &now).await?;
        let machine = Arc::new(machine::Shared::new(replica, file, log.clone(), now));
        let network = Network { links: Arc::clone(&links), pins: Arc::clone(&pins), transfers };
        let raft =
            Raft::new(config.id.0, settings, network, log.clone(), Machine(Arc::clone(&machine)))
                .await
                .map_err(|error| RaftError::Stopped(error.to_string()))?;
        // Nobody else sets it.
        let _ = services.raft.set(raft.clone());
        let mut tasks = Vec::new();
        if !joining.is_member() {
            let joiner = Joiner {
                joining,
                raft: raft.clone(),
                log: log.clone(),
                links: Arc::clone(&links),
                id: config.id,
                peers: config.peers,
                bootstrap: config.bootstrap,
                applied: machine.applied(),
            };
            tasks.push(joiner.start(Arc::clone(&config.on_fatal)));
        } else if let Some(members) = config.bootstrap {
            bootstrap(&raft, members).await?;
        }
        let compactor = Arc::new(Compactor {
            raft: raft.clone(),
            log: log.clone(),
            machine: Arc::clone(&machine),
            pins,
            staged: Arc::clone(&staged),
            bounds: Mutex::new(config.compaction),
        });
        let (stops, fatal) = (Arc::clone(&stopping), Arc::clone(&config.on_fatal));
        let compacting = tokio::spawn(by_size(Arc::clone(&compactor), stops, fatal));
        let (leadership, membership, watchers) = watch::start(&raft, machine.applied());
        let fatal = tokio::spawn(watch::core(
            raft.clone(),
            Arc::clone(&stopping),
            Arc::clone(&config.on_fatal),
        ));
        tasks.extend([fatal, compacting]);
        tasks.extend(watchers);
        let inner = Inner {
            id: config.id,
            raft,
            log,
            machine,
            links,
            services,
            staged,
            compactor,
            leadership,
            membership,
            stopping,
            tasks,
        };
        Ok(RaftNode { inner: Arc::new(inner) })
    }

    /// This room's parts of the mesh's handlers.
    pub fn handlers(&self) -> RaftHandlers {
        RaftHandlers { services: Arc::clone(&self.inner.services) }
    }

    /// Who leads, as this node knows it.
    pub fn leadership(&self) -> Receiver<Leadership> {
        self.inner.leadership.clone()
    }

    /// Since when no quorum answered this leader; `None`: it does not lead, or none ever did. A
    /// leader without a quorum goes on calling itself leader: health comes from this.
    pub fn quorum_age(&self) -> Option<Duration> {
        quorum_age(&self.inner.raft)
    }

    /// The last entry that was applied to the state. Not what the databases show: that is
    /// [`Replica`]'s to say (Rule 18).
    pub fn applied(&self) -> Receiver<Option<EntryId>> {
        self.inner.machine.applied()
    }

    /// The state as it is now; a copy that costs nothing.
    pub fn state(&self) -> Arc<State> {
        self.inner.machine.now().state
    }

    /// Proposes a command on the leader, in its term and in no other (Rule 6). Returns when it was
    /// applied here; what it did is told to [`Replica::applied`] before that.
    ///
    /// # Errors
    /// As they say; only some leave the fate of the command open.
    pub async fn propose(
        &self,
        leader: NodeId,
        term: u64,
        command: Command,
    ) -> Result<EntryId, ProposeError> {
        self.propose_queued(leader, term, command).await?.await
    }

    /// Like [`Self::propose`], but returns as soon as the command stands in the leader's queue:
    /// two that are proposed one after the other are in the log in that order, if they are. What
    /// it returns tells what became of it; it need not be awaited.
    ///
    /// # Errors
    /// The command was not taken.
    pub async fn propose_queued(
        &self,
        leader: NodeId,
        term: u64,
        command: Command,
    ) -> Result<Pending, ProposeError> {
        self.may_propose(leader, &command)?;
        let (responder, receiver) = ProgressResponder::complete_only();
        let write = self.inner.raft.write(Proposal::Command(command)).responder(responder);
        write.with_leader(CommittedLeaderId::new(term)).await.map_err(|error| stopped(&error))?;
        let outcome = async move {
            match receiver.await {
                Ok(Ok(response)) => Ok(entry_id(&response.log_id)),
                Ok(Err(ClientWriteError::ForwardToLeader(forward))) => {
                    Err(ProposeError::NotLeader { leader: forward.leader_id.map(NodeId) })
                }
                Ok(Err(_)) => Err(ProposeError::Unknown),
                Err(_) => Err(ProposeError::Stopped("Raft ended".into())),
            }
        };
        Ok(outcome.boxed())
    }

    /// Like [`Self::propose_queued`], for who hears of the outcome by [`Replica::applied`] alone.
    ///
    /// # Errors
    /// The command was not taken.
    pub async fn submit(
        &self,
        leader: NodeId,
        term: u64,
        command: Command,
    ) -> Result<(), ProposeError> {
        self.may_propose(leader, &command)?;
        let write = self.inner.raft.write(Proposal::Command(command));
        write.with_leader(CommittedLeaderId::new(term)).await.map_err(|error| stopped(&error))
    }

    fn may_propose(&self, leader: NodeId, command: &Command) -> Result<(), ProposeError> {
        if leader != self.inner.id {
            return Err(ProposeError::NotLeader { leader: self.leader() });
        }
        // Rule 19: or the entry could never be flushed.
        if let Some(name) = StagedName::of(command)
            && !self.inner.staged.has(name.sha256, name.len)
        {
            return Err(ProposeError::NotStaged);
        }
        let len = encoded_len(command);
        if len > MAX_ENTRY {
            return Err(ProposeError::TooLong { len, max: MAX_ENTRY });
        }
        Ok(())
    }

    /// The index up to which everything is committed that was committed when this was called, by
    /// asking the leader, and the leader a quorum. A read that sees that index is linearizable.
    ///
    /// # Errors
    /// There is no leader, or no quorum, or no answer in time.
    pub async fn read_index(&self, within: Duration) -> Result<EntryId, RaftError> {
        let deadline = Instant::now() + within;
        let ask = async {
            if self.inner.leadership.borrow().me_leading {
                return read_index::ask_here(&self.inner.raft).await;
            }
            let leader = self.leader().ok_or(RaftError::NoLeader)?;
            let left = deadline.saturating_duration_since(Instant::now());
            let request = super::wire::encode(&());
            let answer = self.inner.links.call(leader.0, method::READ_INDEX, request, left).await;
            let peer = |why: String| RaftError::Peer { node: leader, why };
            let answer = answer.map_err(|error| peer(error.to_string()))?;
            decode("a read index", &answer).map_err(|error| peer(error.to_string()))
        };
        timeout(within, ask).await.map_err(|_| RaftError::Timeout(within))?
    }

    /// Hands the leadership to another voter. Waits until it has all entries first, and then until
    /// another node than this one leads.
    ///
    /// # Errors
    /// This node does not lead, or the other does not catch up or take over in time; then this
    /// one leads on.
    pub async fn transfer_leadership(&self, to: NodeId) -> Result<(), RaftError> {
        let raft = &self.inner.raft;
        if !self.inner.leadership.borrow().me_leading {
            return Err(RaftError::NotLeader);
        }
        if to == self.inner.id {
            return Ok(());
        }
        if !raft.voter_ids().any(|voter| voter == to.0) {
            return Err(RaftError::NoVoter(to));
        }
        let matched = |metrics: &RaftMetrics<Types>| {
            let matched = metrics.replication.as_ref().and_then(|all| all.get(&to.0));
            matched.and_then(|id| id.as_ref()).map(|id| id.index)
        };
        let caught_up = watch::until(raft, |metrics| {
            metrics.state != ServerState::Leader || matched(metrics) >= metrics.last_log_index
        });
        if let Ok(caught_up) = timeout(TRANSFER, caught_up).await {
            caught_up?;
        } else {
            let metrics = raft.metrics();
            let metrics = metrics.borrow_watched();
            let last = metrics.last_log_index.unwrap_or(0);
            let entries = last.saturating_sub(matched(&metrics).unwrap_or(0));
            return Err(RaftError::Behind { node: to, entries, waited: TRANSFER });
        }
        let triggered = raft.trigger().transfer_leader(to.0).await;
        triggered.map_err(|error| RaftError::Stopped(error.to_string()))?;
        let me = self.inner.id.0;
        let handed =
            watch::until(raft, |metrics| metrics.current_leader.is_some_and(|leader| leader != me));
        timeout(TRANSFER, handed).await.map_err(|_| RaftError::Timeout(TRANSFER))?
    }

    /// A node's process is known to be dead: if it led, this node campaigns at once, without
    /// waiting for the lease. Only with evidence: a broken connection alone is none.
    pub fn peer_died(&self, node: NodeId) {
        let may_lead = self.inner.services.joining.is_member();
        if may_lead && self.leader() == Some(node) && node != self.inner.id {
            tokio::spawn(campaign::campaign(self.inner.raft.clone(), self.inner.id.0, node.0));
        }
    }

    /// A node can be reached again: what waits to be sent to it is sent now.
    pub fn peer_came_back(&self, node: NodeId) {
        let raft = self.inner.raft.clone();
        tokio::spawn(async move { raft.trigger().reset_backoff([node.0]).await });
    }

    /// Rule 10: returns when the mark is durable that says how far the log is committed, at least
    /// up to what was applied when this was called. To be called before any of that is written
    /// into database files. Blocks, for a sync; the log's own thread does it, so that any may wait.
    ///
    /// # Errors
    /// The disk failed; the node stops.
    pub fn sync_committed(&self) -> std::io::Result<()> {
        self.inner.machine.sync_committed()
    }

    /// Makes the state durable and purges the log before it, in the order of Rule 11. Done by
    /// itself when the log has grown.
    ///
    /// # Errors
    /// The disk failed; the node stops.
    pub async fn compact(&self) -> Result<(), RaftError> {
        self.inner.compactor.compact().await
    }

    /// Other bounds of the log, from now on.
    pub fn set_compaction(&self, bounds: Compaction) {
        self.inner.compactor.set_bounds(bounds);
    }

    /// Sees to it that a staged file which another node has is here, too, before a proposal names
    /// it (Rule 19).
    ///
    /// # Errors
    /// The other node cannot be reached, or has not got it, or the disk is full.
    pub async fn fetch_staged(&self, from: NodeId, name: StagedName) -> Result<(), RaftError> {
        if self.inner.staged.has(name.sha256, name.len) {
            return Ok(());
        }
        let fetched = self.inner.services.fetch_staged(from.0, vec![name]).await;
        fetched.map_err(|error| RaftError::Peer { node: from, why: error.to_string() })
    }

    /// Fetches one database, in this life of its name, as of the entry `at_least` or later
    /// (Rule 13).
    ///
    /// # Errors
    /// The other node cannot be reached, or cannot give it.
    pub async fn fetch_database(
        &self,
        from: NodeId,
        name: DatabaseName,
        incarnation: Incarnation,
        at_least: u64,
    ) -> Result<IncomingDatabase, RaftError> {
        let wanted = DatabaseHeader { name, incarnation, index: at_least };
        let fetched = database_stream::fetch(&self.inner.services, from.0, wanted).await;
        fetched.map_err(|error| RaftError::Peer { node: from, why: error.to_string() })
    }

    /// Waits until this node has applied what was committed when it was asked, however long that takes.
    /// Answers the index of that.
    pub async fn catch_up(&self) -> u64 {
        let committed = loop {
            match self.read_index(CATCH_UP).await {
                Ok(entry) => break entry.index,
                Err(_) => tokio::time::sleep(CATCH_UP / 10).await,
            }
        };
        let mut applied = self.inner.machine.applied();
        // It ends with the node.
        let _ = applied.wait_for(|entry| entry.is_some_and(|entry| entry.index >= committed)).await;
        committed
    }

    /// The databases that are on their way to this node, or from it.
    pub fn transfers(&self) -> Vec<DatabaseTransfer> {
        self.inner.services.transfers.now()
    }

    pub fn status(&self) -> RaftStatus {
        status(&self.inner.raft, self.inner.log.bytes())
    }

    /// Stops: what was acknowledged is on the disk, nothing more is answered.
    pub async fn stop(&self) {
        self.inner.stopping.store(true, Ordering::SeqCst);
        if let Err(error) = self.inner.raft.shutdown().await {
            tracing::warn!(%error, "Raft did not end in order");
        }
        let log = self.inner.log.clone();
        // Joins the writer's thread.
        let closed = tokio::task::spawn_blocking(move || log.close()).await;
        if let Err(error) = closed {
            tracing::warn!(%error, "the Raft log did not end in order");
        }
    }

    fn leader(&self) -> Option<NodeId> {
        self.inner.leadership.borrow().leader
    }
}

async fn begin(replica: &Arc<dyn Replica>, now: &Now) -> Result<(), RaftError> {
    let (replica, state) = (Arc::clone(replica), Arc::clone(&now.state));
    let begun = machine::blocking(move || replica.begins(&state)).await;
    begun.map_err(|error| RaftError::Stopped(error.to_string()))
}

pub(super) fn stopped(error: &impl std::fmt::Display) -> ProposeError {
    ProposeError::Stopped(error.to_string())
}

/// How long the entry of a command will be, in bytes.
fn encoded_len(command: &Command) -> usize {
    // Cheap to copy: its pages are shared.
    let payload = WirePayload::Command(command.clone());
    encoded_body_len(&WireEntry { id: EntryId::default(), payload })
}

pub(super) async fn bootstrap(raft: &Raft, members: Members) -> Result<(), RaftError> {
    let members: BTreeMap<u64, Member> = members.into_iter().map(|(id, m)| (id.0, m)).collect();
    match raft.initialize(members).await {
        // Not allowed: there is a log, or a vote, already.
        Ok(()) | Err(OpenraftError::APIError(InitializeError::NotAllowed(_))) => Ok(()),
        Err(OpenraftError::APIError(error)) => Err(RaftError::Membership(error.to_string())),
        Err(OpenraftError::Fatal(error)) => Err(RaftError::Stopped(error.to_string())),
    }
}

enum Unsettled {
    Gap { purged: u64 },
    Io(std::io::Error),
}

/// Makes log and state agree: a snapshot may have been installed just before the process ended,
/// and the log that it replaces still be there.
fn settle(log: &Log, now: &Now) -> Result<(), Unsettled> {
    let state = now.applied.as_ref().map(entry_id);
    if let Some(purged) = log.purged()
        && state.is_none_or(|state| state.index < purged.index)
    {
        return Err(Unsettled::Gap { purged: purged.index });
    }
    let Some(state) = state else { return Ok(()) };
    log.state_is_durable(state.index);
    let agrees = log.id_at(state.index).or(log.purged()).is_some_and(|id| id == state);
    if !agrees {
        // Committed is what the state says. Where the log says otherwise it never was, and what
        // follows there never will be; where it does not reach, nothing is lost.
        tracing::info!(?state, "the log is older than the state: it begins anew after it");
        log.truncate_after(log.purged()).map_err(Unsettled::Io)?;
        log.purge(state).map_err(Unsettled::Io)?;
    }
    Ok(())
}
