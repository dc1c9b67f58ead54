//! The embedded engine, as the API and the command line see it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::Parts;
use super::group::NodeGroup;
use super::leaders::Leaders;
use super::live::Live;
use super::machine::Watched;
use super::membership::Membership;
use super::roster::Named;
use super::service::{CHECK, SWITCHOVER, check};
use super::switchover;
use crate::commit::{AllDatabases, Arbiter, Uploads};
use crate::core::config::{ChangeError, Config, ConfigView};
use crate::core::engine::{
    BarrierPassed, CheckedDatabase, Copy, DatabaseStatus, Engine, JournalMode, Later, MemberRole,
    MemberStatus, Metrics, Quorum, RaftRole, Role, SnapshotStage, Status, Switchover,
    SwitchoverError, Unavailable,
};
use crate::core::history::LeaderChange;
use crate::core::members::{NotDone, Told, Wish};
use crate::core::{DatabaseName, NodeId};
use crate::mesh::{Mesh, PeerEventKind};
use crate::raft::RaftNode;

/// Without an answer of a majority for so long, a node says that it has no quorum: three election
/// timeouts of the defaults.
const QUORUM_AGE: Duration = Duration::from_millis(900);

pub struct EmbeddedEngine {
    cluster: String,
    id: NodeId,
    name: String,
    pub(super) membership: Arc<Membership>,
    started: Instant,
    pub(super) databases: Arc<AllDatabases>,
    pub(super) uploads: Arc<Uploads>,
    arbiter: Arc<Arbiter>,
    pub(super) raft: Arc<RaftNode>,
    group: Arc<NodeGroup>,
    mesh: Mesh,
    draining: AtomicBool,
    leaders: Arc<Leaders>,
    machine: Arc<Watched>,
    live: Arc<Live>,
}

impl EmbeddedEngine {
    pub(super) fn new(
        config: &Config,
        parts: &Parts,
        live: Arc<Live>,
        uploads: Arc<Uploads>,
    ) -> Arc<Self> {
        let machine = Watched::new(config);
        tokio::spawn(Arc::clone(&machine).follow());
        Arc::new(Self {
            cluster: config.cluster.clone(),
            id: NodeId(config.node.id),
            name: config.node.name.clone(),
            membership: Arc::clone(&parts.membership),
            started: Instant::now(),
            databases: Arc::clone(&parts.databases),
            uploads,
            arbiter: Arc::clone(&parts.arbiter),
            raft: Arc::clone(&parts.raft),
            group: Arc::clone(&parts.group),
            mesh: parts.mesh.clone(),
            draining: AtomicBool::new(false),
            leaders: Arc::clone(&parts.leaders),
            machine,
            live,
        })
    }

    /// The node is stopping: load balancers should look elsewhere.
    pub fn draining(&self) {
        self.draining.store(true, Ordering::Release);
    }

    pub(super) fn name_of(&self, id: NodeId) -> String {
        self.membership.roster.now().name_of(id)
    }

    pub(super) fn by_name(&self, name: &str) -> Option<NodeId> {
        self.membership.roster.now().by_name(name)
    }

    /// The leader hands over; anybody may ask it to.
    async fn ask_to_hand_over(
        &self,
        leader: NodeId,
        target: Option<NodeId>,
        asked: &str,
        timeout: Duration,
    ) -> Result<NodeId, SwitchoverError> {
        let unavailable = |error: postcard::Error| SwitchoverError::Unavailable(error.to_string());
        let request = postcard::to_allocvec(&(target, asked)).map_err(unavailable)?;
        let answer = self.mesh.call(leader, SWITCHOVER, request.into(), timeout).await;
        let answer = answer.map_err(|error| switchover::heard(&error))?;
        postcard::from_bytes(&answer).map_err(unavailable)
    }

    /// Another node reads its copy of a database.
    async fn ask_to_check(&self, node: NodeId, database: &DatabaseName, timeout: Duration) -> Copy {
        let asked = async {
            // It is to answer before it is given up.
            let patience = u64::try_from(timeout.as_millis() / 2).unwrap_or(u64::MAX);
            let request =
                postcard::to_allocvec(&(database, patience)).map_err(|e| e.to_string())?;
            let answer = self.mesh.call(node, CHECK, request.into(), timeout).await;
            let answer = answer.map_err(|error| error.to_string())?;
            serde_json::from_slice(&answer).map_err(|error| error.to_string())
        };
        asked.await.unwrap_or_else(|why: String| Copy::Unread { why })
    }

    pub(super) fn members(&self, leader: Option<NodeId>) -> Vec<MemberStatus> {
        let raft = self.raft.status();
        let known = self.membership.roster.now();
        let role = |id: &NodeId| match leader {
            Some(leader) if leader == *id => MemberRole::Leader,
            _ if known.voters.contains(id) => MemberRole::Voter,
            _ => MemberRole::Learner,
        };
        known
            .members
            .iter()
            .map(|(id, Named { name, address })| {
                let progress = raft.peers.get(id);
                let matched = progress.and_then(|progress| progress.matched);
                MemberStatus {
                    id: *id,
                    name: name.clone(),
                    address: address.clone(),
                    role: role(id),
                    reachable: *id == self.id
                        || self.mesh.peer_state(*id) == Some(PeerEventKind::Up),
                    matched: matched.map(|entry| entry.index),
                    lag: progress.map(|progress| progress.lag),
                }
            })
            .collect()
    }

    fn quorum(&self) -> Quorum {
        let age = self.group.quorum_age();
        Quorum {
            ok: age.is_some_and(|age| age < QUORUM_AGE),
            age_ms: age.map(|age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX)),
        }
    }
}

impl Engine for EmbeddedEngine {
    fn status(&self) -> Status {
        let raft = self.raft.status();
        let quorum = self.quorum();
        let leading = raft.leader == Some(self.id);
        let mut not_ready = Vec::new();
        if self.draining.load(Ordering::Acquire) {
            not_ready.push("the node is stopping".to_owned());
        }
        if leading && !self.arbiter.is_open() {
            not_ready.push("the new leader asks who holds which write lock".to_owned());
        }
        if raft.leader.is_none() {
            not_ready.push("no leader is known".to_owned());
        } else if leading && !quorum.ok {
            not_ready.push("no majority of the members answers".to_owned());
        }
        for database in self.databases.lost() {
            not_ready.push(format!("{} was damaged here and is not fetched yet", database.name));
        }
        if self.databases.is_catching_up() {
            not_ready.push("this node has not caught up since it was started".to_owned());
        }
        let snapshots = self.snapshots();
        let comes = [SnapshotStage::Receiving, SnapshotStage::Installing];
        if snapshots.iter().any(|snapshot| comes.contains(&snapshot.stage)) {
            not_ready.push("a snapshot of a database is on its way to this node".to_owned());
        }
        let lag = self.group.lag().map(|lag| lag.max(self.databases.delay()));
        Status {
            cluster: self.cluster.clone(),
            id: self.id,
            name: self.name.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime_seconds: self.started.elapsed().as_secs(),
            role: if leading { Role::Primary } else { Role::Replica },
            raft_role: match raft.role {
                crate::raft::Role::Leader => RaftRole::Leader,
                crate::raft::Role::Candidate => RaftRole::Candidate,
                crate::raft::Role::Learner => RaftRole::Learner,
                crate::raft::Role::Follower | crate::raft::Role::Stopped => RaftRole::Follower,
            },
            term: raft.term,
            leader: raft.leader.map(|id| self.name_of(id)),
            quorum,
            applied_index: raft.applied.map_or(0, |entry| entry.index),
            committed_index: raft.committed.map_or(0, |entry| entry.index),
            lag_ms: lag.map(|lag| u64::try_from(lag.as_millis()).unwrap_or(u64::MAX)),
            serving: !self.draining.load(Ordering::Acquire),
            not_ready,
            stuck: (raft.role == crate::raft::Role::Stopped).then(|| "Raft has stopped".to_owned()),
            members: self.members(raft.leader),
            indeterminate: self.databases.shared().proposer.open_outcomes(),
            snapshots,
        }
    }

    fn databases(&self) -> Vec<DatabaseStatus> {
        let locks = self.arbiter.status();
        let decided = self.raft.state();
        self.databases
            .all()
            .into_iter()
            .filter_map(|database| {
                let store = database.store();
                let held = locks.as_ref().and_then(|locks| {
                    locks.databases.iter().find(|lock| lock.database == database.name)
                });
                let holder = match held {
                    Some(lock) => lock.holder.map(|id| self.name_of(id)),
                    None => database.holds_cluster_lock().then(|| self.name.clone()),
                };
                Some(DatabaseStatus {
                    name: database.name.clone(),
                    incarnation: database.incarnation()?,
                    position: store.position(),
                    page_size: store.page_size(),
                    pages: store.pages(),
                    journal: if database.is_wal() {
                        JournalMode::Wal
                    } else {
                        JournalMode::Rollback
                    },
                    wal_bytes: store.sizes().map_or(0, |sizes| sizes.wal),
                    write_lock: holder,
                    waiting: held.map_or(0, |lock| lock.waiting.len() as u32),
                    behind: decided
                        .database(&database.name)
                        .filter(|known| Some(known.incarnation) == database.incarnation())
                        .map_or(0, |known| {
                            known.position.txid.0.saturating_sub(store.position().txid.0)
                        }),
                })
            })
            .collect()
    }

    fn history(&self) -> Vec<LeaderChange> {
        self.leaders.history()
    }

    fn metrics(&self) -> Metrics {
        let shared = self.databases.shared();
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counters = &shared.counters;
        let raft = self.raft.status();
        Metrics {
            committed: of(&counters.committed),
            refused: of(&counters.refused),
            indeterminate: shared.proposer.indeterminate(),
            committed_bytes: of(&counters.committed_bytes),
            commit_latency: counters.latency.snapshot(),
            applied: of(&counters.applied),
            locks_granted: of(&counters.locks_granted),
            locks_busy: of(&counters.locks_busy),
            locks_doomed: of(&counters.doomed),
            leader_changes: self.leaders.changes(),
            checkpoints: of(&counters.checkpoints),
            snapshots_sent: of(&counters.snapshots_sent),
            snapshots_received: of(&counters.snapshots_received),
            set_aside: of(&counters.set_aside),
            rotten: of(&counters.rotten),
            mended: of(&counters.mended),
            log_bytes: raft.log_bytes,
            machine: self.machine.seen(),
        }
    }

    fn config(&self) -> ConfigView {
        self.live.view()
    }

    fn change_config(
        &self,
        patch: serde_json::Value,
    ) -> Later<'_, Result<ConfigView, ChangeError>> {
        let live = Arc::clone(&self.live);
        Box::pin(async move {
            let changed = tokio::task::spawn_blocking(move || live.change(&patch)).await;
            changed.unwrap_or_else(|error| Err(ChangeError::Failed(error.to_string())))
        })
    }

    fn barrier(&self, timeout: Duration) -> Later<'_, Result<BarrierPassed, Unavailable>> {
        Box::pin(async move {
            let passed = self.databases.barrier(timeout).await;
            passed.map(|index| BarrierPassed { index }).map_err(Unavailable)
        })
    }

    fn switchover(
        &self,
        to: Option<String>,
        asked: &'static str,
        timeout: Duration,
    ) -> Later<'_, Result<Switchover, SwitchoverError>> {
        Box::pin(async move {
            let target = match &to {
                None => None,
                Some(name) => Some(self.by_name(name).ok_or_else(|| {
                    SwitchoverError::Refused(format!("there is no member named {name:?}"))
                })?),
            };
            let leader = self.raft.status().leader.ok_or_else(|| {
                SwitchoverError::Unavailable("no leader is known; nothing to hand over".to_owned())
            })?;
            if target == Some(leader) {
                return Err(SwitchoverError::Refused(format!(
                    "{} leads already",
                    self.name_of(leader)
                )));
            }
            let asked = format!("{asked} of {}", self.name);
            let done = if leader == self.id {
                let handing = self.membership.switch_over(target, asked);
                match tokio::time::timeout(timeout, handing).await {
                    Ok(handed) => handed,
                    Err(_) => return Ok(Switchover::Accepted { to: to.unwrap_or_default() }),
                }
            } else {
                self.ask_to_hand_over(leader, target, &asked, timeout).await
            };
            done.map(|id| Switchover::Done { leader: self.name_of(id) })
        })
    }

    fn administer(&self, wish: Wish, timeout: Duration) -> Later<'_, Result<Told, NotDone>> {
        Box::pin(self.membership.ask(wish, timeout))
    }

    fn check(&self, database: DatabaseName, timeout: Duration) -> Later<'_, CheckedDatabase> {
        Box::pin(async move {
            let known = self.membership.roster.now();
            let copies = known.members.iter().map(async |(id, Named { name, .. })| {
                let copy = if *id == self.id {
                    let read = check(&self.membership, database.clone(), timeout / 2);
                    let late = |_| Copy::Unread { why: format!("not read within {timeout:?}") };
                    tokio::time::timeout(timeout, read).await.unwrap_or_else(late)
                } else {
                    self.ask_to_check(*id, &database, timeout).await
                };
                (name.clone(), copy)
            });
            let copies = futures::future::join_all(copies).await.into_iter().collect();
            CheckedDatabase { name: database, copies }
        })
    }
}
