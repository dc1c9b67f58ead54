//! An engine for tests: what it says is set, what it is asked is kept.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::core::config::{ChangeError, ConfigView, Overlay, example};
use crate::core::engine::{
    BarrierPassed, CheckedDatabase, Copy, DatabaseStatus, Disk, Engine, JournalMode, Latency,
    Later, Machine, MemberRole, MemberStatus, Metrics, Quorum, RaftRole, Role, Status, Switchover,
    SwitchoverError, Unavailable,
};
use crate::core::history::{Cause, LeaderChange};
use crate::core::members::{NotDone, Told, Wish};
use crate::core::transfer::{
    Diverged, Export, Imported, TransferError, Transfers, Upload, UploadId, Uploaded,
};
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
    /// Whoever exported has let go of the database.
    pub export_over: Arc<AtomicBool>,
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
            export_over: Arc::default(),
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
        snapshots: Vec::new(),
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

/// Databases in and out have nothing to move here: `tests/cluster` has real ones.
impl Transfers for FakeEngine {
    fn begin_upload(&self, upload: Upload) -> Later<'_, Result<Uploaded, TransferError>> {
        let missing = TransferError::Missing(format!("no import of {}", upload.database));
        Box::pin(async move { Err(missing) })
    }

    fn upload_piece(
        &self,
        upload: UploadId,
        offset: u64,
        piece: bytes::Bytes,
    ) -> Later<'_, Result<Uploaded, TransferError>> {
        Box::pin(async move { Ok(Uploaded { upload, received: offset + piece.len() as u64 }) })
    }

    fn finish_upload(
        &self,
        _: UploadId,
        _: Duration,
    ) -> Later<'_, Result<Option<Imported>, TransferError>> {
        Box::pin(async { Ok(None) })
    }

    fn drop_upload(&self, upload: UploadId) -> Later<'_, Result<Uploaded, TransferError>> {
        Box::pin(async move { Ok(Uploaded { upload, received: 0 }) })
    }

    /// Endless: of as many bytes as can be announced.
    fn export(&self, _: DatabaseName, _: Duration) -> Later<'_, Result<Export, TransferError>> {
        let position = Position { txid: Txid(31), checksum: Checksum(Checksum::FLAG) };
        let file = Box::new(Endless(Arc::clone(&self.export_over)));
        let export = Export { position: Some(position), bytes: u64::MAX, file };
        Box::pin(async { Ok(export) })
    }
    fn diverged(&self) -> Later<'_, Result<Vec<Diverged>, TransferError>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn export_diverged(
        &self,
        id: String,
        _: Option<DatabaseName>,
    ) -> Later<'_, Result<Export, TransferError>> {
        Box::pin(async { Err(TransferError::Missing(id)) })
    }

    fn drop_diverged(&self, id: String) -> Later<'_, Result<Diverged, TransferError>> {
        Box::pin(async { Err(TransferError::Missing(id)) })
    }
}

/// A file without end, which says when it is let go.
struct Endless(Arc<AtomicBool>);

impl std::io::Read for Endless {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        buffer.fill(7);
        Ok(buffer.len())
    }
}

impl Drop for Endless {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}
