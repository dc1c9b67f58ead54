//! The embedded engine, as the API and the command line see it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::Parts;
use super::group::NodeGroup;
use super::service::{CHECK, SWITCHOVER, check, hand_over};
use crate::commit::{AllDatabases, Arbiter, Uploads};
use crate::core::config::Config;
use crate::core::engine::{
    BarrierPassed, CheckedDatabase, Copy, DatabaseStatus, Engine, JournalMode, Later, MemberRole,
    MemberStatus, Metrics, Quorum, RaftRole, Role, Status, Switchover, SwitchoverError,
    Unavailable,
};
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
    names: BTreeMap<NodeId, (String, String)>,
    started: Instant,
    pub(super) databases: Arc<AllDatabases>,
    pub(super) uploads: Arc<Uploads>,
    arbiter: Arc<Arbiter>,
    raft: Arc<RaftNode>,
    group: Arc<NodeGroup>,
    mesh: Mesh,
    draining: AtomicBool,
    leader_changes: Arc<AtomicU64>,
}

impl EmbeddedEngine {
    pub(super) fn new(config: &Config, parts: &Parts, uploads: Arc<Uploads>) -> Arc<Self> {
        let names = config
            .members
            .iter()
            .map(|member| (NodeId(member.id), (member.name.clone(), member.address.clone())));
        let leader_changes = Arc::new(AtomicU64::new(0));
        tokio::spawn(count_leaders(Arc::clone(&parts.raft), Arc::clone(&leader_changes)));
        Arc::new(Self {
            cluster: config.cluster.clone(),
            id: NodeId(config.node.id),
            name: config.node.name.clone(),
            names: names.collect(),
            started: Instant::now(),
            databases: Arc::clone(&parts.databases),
            uploads,
            arbiter: Arc::clone(&parts.arbiter),
            raft: Arc::clone(&parts.raft),
            group: Arc::clone(&parts.group),
            mesh: parts.mesh.clone(),
            draining: AtomicBool::new(false),
            leader_changes,
        })
    }

    /// The node is stopping: load balancers should look elsewhere.
    pub fn draining(&self) {
        self.draining.store(true, Ordering::Release);
    }

    fn name_of(&self, id: NodeId) -> String {
        self.names.get(&id).map_or_else(|| id.to_string(), |(name, _)| name.clone())
    }

    fn by_name(&self, name: &str) -> Option<NodeId> {
        self.names.iter().find(|(_, (known, _))| known == name).map(|(id, _)| *id)
    }

    /// The leader hands over; anybody may ask it to.
    async fn ask_to_hand_over(
        &self,
        leader: NodeId,
        target: Option<NodeId>,
        timeout: Duration,
    ) -> Result<NodeId, String> {
        let request = postcard::to_allocvec(&target).map_err(|error| error.to_string())?;
        let answer = self.mesh.call(leader, SWITCHOVER, request.into(), timeout).await;
        let answer = answer.map_err(|error| error.to_string())?;
        postcard::from_bytes(&answer).map_err(|error| error.to_string())
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

    fn members(&self, leader: Option<NodeId>) -> Vec<MemberStatus> {
        let raft = self.raft.status();
        self.names
            .iter()
            .map(|(id, (name, address))| {
                let progress = raft.peers.get(id);
                let matched = progress.and_then(|progress| progress.matched);
                MemberStatus {
                    id: *id,
                    name: name.clone(),
                    address: address.clone(),
                    role: if leader == Some(*id) { MemberRole::Leader } else { MemberRole::Voter },
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

async fn count_leaders(raft: Arc<RaftNode>, changes: Arc<AtomicU64>) {
    let mut leadership = raft.leadership();
    drop(raft);
    let mut last = None;
    while leadership.changed().await.is_ok() {
        let now = leadership.borrow_and_update().leader;
        if now.is_some() && now != last {
            last = now;
            changes.fetch_add(1, Ordering::Relaxed);
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
        let lag = self.group.lag();
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
        }
    }

    fn databases(&self) -> Vec<DatabaseStatus> {
        let locks = self.arbiter.status();
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
                })
            })
            .collect()
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
            leader_changes: self.leader_changes.load(Ordering::Relaxed),
            checkpoints: of(&counters.checkpoints),
            snapshots_sent: of(&counters.snapshots_sent),
            snapshots_received: of(&counters.snapshots_received),
            set_aside: of(&counters.set_aside),
            log_bytes: raft.log_bytes,
        }
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
            if let Some(target) = target
                && target != self.id
                && leader == self.id
                && self.mesh.peer_state(target) != Some(PeerEventKind::Up)
            {
                return Err(SwitchoverError::Refused(format!(
                    "{} is not reachable",
                    self.name_of(target)
                )));
            }
            let done = if leader == self.id {
                let handed = tokio::time::timeout(timeout, hand_over(&self.raft, target)).await;
                match handed {
                    Ok(handed) => handed.map_err(|error| error.to_string()),
                    Err(_) => return Ok(Switchover::Accepted { to: to.unwrap_or_default() }),
                }
            } else {
                self.ask_to_hand_over(leader, target, timeout).await
            };
            match done {
                Ok(id) => Ok(Switchover::Done { leader: self.name_of(id) }),
                Err(error) => Err(SwitchoverError::Unavailable(error)),
            }
        })
    }

    fn check(&self, database: DatabaseName, timeout: Duration) -> Later<'_, CheckedDatabase> {
        Box::pin(async move {
            let copies = self.names.iter().map(async |(id, (name, _))| {
                let copy = if *id == self.id {
                    let read = check(Arc::clone(&self.databases), database.clone(), timeout / 2);
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
