//! An engine for tests: what it says is set, what it is asked is kept.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::core::config::{ChangeError, ConfigView, Overlay, example};
use crate::core::engine::{
    BarrierPassed, CheckedDatabase, Copy, DatabaseStatus, Disk, Engine, JournalMode, Latency,
    Later, Machine, MemberRole, MemberStatus, Metrics, Quorum, RaftRole, Role, Status, Switchover,
    SwitchoverError, Unavailable,
};
use crate::core::history::{Cause, LeaderChange};
use crate::core::members::{NotDone, Told, Wish};
use crate::core::{Checksum, DatabaseName, Incarnation, NodeId, Position, Txid};

pub(crate) struct FakeEngine {
    pub status: Mutex<Status>,
    pub barrier: Mutex<Result<BarrierPassed, Unavailable>>,
    pub switchover: Mutex<Result<Switchover, SwitchoverError>>,
    /// What the nodes have of any database.
    pub copies: Mutex<BTreeMap<String, Copy>>,
    /// What was changed of the example configuration.
    pub changed: Mutex<Overlay>,
    /// How long barriers and switchovers take.
    pub takes: Mutex<Duration>,
    /// Barriers begun.
    pub begun: AtomicU32,
    /// The switchovers asked for.
    pub asked: Mutex<Vec<(Option<String>, Duration)>>,
    /// By which way the last was.
    pub asked_by: Mutex<Option<&'static str>>,
}

impl Default for FakeEngine {
    fn default() -> Self {
        Self {
            status: Mutex::new(primary()),
            barrier: Mutex::new(Ok(BarrierPassed { index: 42 })),
            switchover: Mutex::new(Ok(Switchover::Done { leader: "n2".into() })),
            copies: Mutex::default(),
            changed: Mutex::default(),
            takes: Mutex::default(),
            begun: AtomicU32::new(0),
            asked: Mutex::default(),
            asked_by: Mutex::default(),
        }
    }
}

impl FakeEngine {
    pub fn change(&self, change: impl FnOnce(&mut Status)) {
        change(&mut self.status.lock().unwrap());
    }
}

fn primary() -> Status {
    let member = |id, role| MemberStatus {
        id: NodeId(id),
        name: format!("n{id}"),
        address: format!("10.0.0.{id}:4321"),
        role,
        reachable: true,
        matched: Some(120),
        lag: Some(0),
    };
    Status {
        cluster: "app".into(),
        id: NodeId(1),
        name: "n1".into(),
        version: "0.1.0".into(),
        uptime_seconds: 3725,
        role: Role::Primary,
        raft_role: RaftRole::Leader,
        term: 7,
        leader: Some("n1".into()),
        quorum: Quorum { ok: true, age_ms: Some(12) },
        applied_index: 120,
        committed_index: 120,
        lag_ms: Some(0),
        serving: true,
        not_ready: Vec::new(),
        stuck: None,
        members: vec![member(1, MemberRole::Leader), member(2, MemberRole::Voter)],
        indeterminate: Vec::new(),
    }
}

impl Engine for FakeEngine {
    fn status(&self) -> Status {
        self.status.lock().unwrap().clone()
    }

    fn databases(&self) -> Vec<DatabaseStatus> {
        vec![DatabaseStatus {
            name: DatabaseName::new("app.db").unwrap(),
            incarnation: Incarnation(3),
            position: Position { txid: Txid(31), checksum: Checksum(Checksum::FLAG) },
            page_size: 4096,
            pages: 12,
            journal: JournalMode::Wal,
            wal_bytes: 8272,
            write_lock: Some("n2".into()),
            waiting: 1,
            behind: 0,
        }]
    }

    fn history(&self) -> Vec<LeaderChange> {
        vec![LeaderChange {
            term: 7,
            leader: "n1".into(),
            since_ms: 1_700_000_000_123,
            before: Some("n2".into()),
            cause: Cause::Died,
            asked: None,
            without_leader_ms: Some(31),
            told_by: "n1".into(),
        }]
    }

    fn metrics(&self) -> Metrics {
        let commit_latency =
            Latency { count: 10, sum_seconds: 0.5, buckets: vec![(0.001, 4), (0.01, 5)] };
        let machine = Machine {
            disk: Some(Disk { bytes: 1 << 40, free: 1 << 30 }),
            certificates: vec![("node", 1_800_000_000)],
        };
        Metrics { committed: 9, indeterminate: 1, commit_latency, machine, ..Metrics::default() }
    }

    fn config(&self) -> ConfigView {
        let changed = self.changed.lock().unwrap();
        let running = changed.over(&example()).unwrap();
        changed.view(&example(), &running).unwrap()
    }

    fn change_config(
        &self,
        patch: serde_json::Value,
    ) -> Later<'_, Result<ConfigView, ChangeError>> {
        Box::pin(async move {
            let changed = self.changed.lock().unwrap().patched(&example(), &patch)?.0;
            *self.changed.lock().unwrap() = changed;
            Ok(self.config())
        })
    }

    fn barrier(&self, timeout: Duration) -> Later<'_, Result<BarrierPassed, Unavailable>> {
        Box::pin(async move {
            self.begun.fetch_add(1, Ordering::Relaxed);
            let takes = *self.takes.lock().unwrap();
            tokio::time::sleep(takes.min(timeout)).await;
            if takes > timeout {
                return Err(Unavailable(format!("not caught up within {timeout:?}")));
            }
            self.barrier.lock().unwrap().clone()
        })
    }

    fn switchover(
        &self,
        to: Option<String>,
        asked: &'static str,
        timeout: Duration,
    ) -> Later<'_, Result<Switchover, SwitchoverError>> {
        Box::pin(async move {
            self.asked.lock().unwrap().push((to, timeout));
            *self.asked_by.lock().unwrap() = Some(asked);
            let takes = *self.takes.lock().unwrap();
            tokio::time::sleep(takes).await;
            self.switchover.lock().unwrap().clone()
        })
    }

    fn administer(&self, wish: Wish, _: Duration) -> Later<'_, Result<Told, NotDone>> {
        Box::pin(async move {
            match wish {
                Wish::CreateToken { ttl_seconds, .. } => Ok(Told::Token {
                    token: "lfs1.a.b.c".into(),
                    id: "b".into(),
                    expires_seconds: ttl_seconds,
                }),
                Wish::ListTokens => Ok(Told::Tokens { tokens: Vec::new() }),
                Wish::RevokeToken { id } => Err(NotDone::Unknown(format!("no token {id}"))),
                Wish::Add { name, .. } => Err(NotDone::Conflict(format!("{name} is there"))),
                Wish::Remove { name } => Err(NotDone::Refused(format!("{name} is the last"))),
                Wish::Promote { name } => Ok(Told::Done { name, id: NodeId(4) }),
                Wish::Demote { .. } => Err(NotDone::Unavailable("no leader".into())),
                Wish::RotateCa => Ok(Told::Accepted { what: "it goes on".into() }),
            }
        })
    }

    fn check(&self, database: DatabaseName, _: Duration) -> Later<'_, CheckedDatabase> {
        let copies = self.copies.lock().unwrap().clone();
        Box::pin(async move { CheckedDatabase { name: database, copies } })
    }
}
