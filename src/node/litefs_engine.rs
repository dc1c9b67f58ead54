//! LiteFS as the engine, as the API and the command line see it.
//!
//! What is the same for both engines (members, configuration, what was set aside, the machine) is the
//! embedded one's, which has no databases here.

use std::collections::{BTreeMap, VecDeque};
use std::io::Read;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::engine::EmbeddedEngine;
use super::litefs_import::LitefsIntake;
use super::live::Live;
use super::{NodeError, Parts, io};
use crate::cluster::Tenure;
use crate::commit::{Uploads, lock};
use crate::core::config::{ChangeError, Config, ConfigView, JournalPolicy};
use crate::core::engine::{
    BarrierPassed, CheckedDatabase, DatabaseStatus, Engine, JournalMode, Later, Metrics, Role,
    Status, Switchover, SwitchoverError, Unavailable,
};
use crate::core::history::LeaderChange;
use crate::core::members::{NotDone, Told, Wish};
use crate::core::transfer::{
    Diverged, Export, Imported, TransferError, Transfers, Upload, UploadId, Uploaded,
};
use crate::core::{DatabaseName, Incarnation};
use crate::litefs::{Litefs, Positions, holds_all_of};
use crate::store::{LitefsShape, litefs_shape};
use bytes::Bytes;

/// Between two looks at the files of databases that have changed.
const LOOK: Duration = Duration::from_secs(1);
/// For LiteFS to say how it is.
const ANSWER: Duration = Duration::from_secs(2);
/// Between two looks at whether a barrier is passed.
const AGAIN: Duration = Duration::from_millis(5);

pub struct LitefsEngine {
    base: Arc<EmbeddedEngine>,
    litefs: Arc<Litefs>,
    draining: AtomicBool,
    /// What the files of the databases looked like, and at which position.
    shapes: Mutex<BTreeMap<String, (crate::core::Position, LitefsShape)>>,
}

impl LitefsEngine {
    pub(super) fn new(
        config: &Config,
        parts: &Parts,
        live: Arc<Live>,
        litefs: Arc<Litefs>,
    ) -> Result<Arc<Self>, NodeError> {
        let uploads = parts.folder.part("imports");
        let as_wal = config.journal == JournalPolicy::Wal;
        let intake = Arc::new(LitefsIntake { litefs: Arc::clone(&litefs), as_wal });
        let uploads = Uploads::open(&uploads, intake);
        let uploads = uploads.map_err(io("make the folder of imports"))?;
        let engine = Arc::new(Self {
            base: EmbeddedEngine::new(config, parts, live, uploads),
            litefs,
            draining: AtomicBool::new(false),
            shapes: Mutex::default(),
        });
        tokio::spawn(look_at_files(Arc::downgrade(&engine)));
        Ok(engine)
    }

    pub fn draining(&self) {
        self.draining.store(true, Ordering::Release);
    }

    fn told(&self, tenures: &VecDeque<Tenure>) -> Vec<LeaderChange> {
        let name = |id| self.base.name_of(id);
        let told = tenures.iter().map(|tenure| LeaderChange {
            term: tenure.number,
            leader: name(tenure.node),
            since_ms: i64::try_from(tenure.since_ms).unwrap_or(i64::MAX),
            before: tenure.before.map(name),
            cause: tenure.cause(),
            asked: tenure.asked.clone(),
            without_leader_ms: tenure.end.map(|_| tenure.vacant_ms),
            told_by: name(tenure.node),
        });
        told.collect()
    }

    /// How far the primary is, now.
    async fn primarys(&self, within: Duration) -> Result<Positions, String> {
        let holder = self.litefs.lease().holder().cloned();
        let holder = holder.ok_or_else(|| "nobody is primary".to_owned())?;
        self.litefs.positions_of(holder.node, within).await
    }
}

/// Keeps an eye on the files, as long as somebody else has use for it.
async fn look_at_files(engine: std::sync::Weak<LitefsEngine>) {
    while let Some(engine) = engine.upgrade() {
        let folder = engine.litefs.settings().folder.clone();
        let seen = engine.litefs.seen();
        let known = lock(&engine.shapes).clone();
        let looked = tokio::task::spawn_blocking(move || {
            let one = |(name, at): (String, crate::core::Position)| {
                let same = known.get(&name).filter(|(known, _)| *known == at);
                let shape = same.map(|(_, shape)| *shape).or_else(|| litefs_shape(&folder, &name));
                shape.map(|shape| (name, (at, shape)))
            };
            seen.positions.into_iter().filter_map(one).collect()
        });
        if let Ok(shapes) = looked.await {
            *lock(&engine.shapes) = shapes;
        }
        drop(engine);
        tokio::time::sleep(LOOK).await;
    }
}

impl Engine for LitefsEngine {
    fn status(&self) -> Status {
        let mut status = self.base.status();
        let (seen, lease) = (self.litefs.seen(), self.litefs.lease());
        let holder = lease.holder().map(|holder| holder.node);
        // What was seen of LiteFS is some moments old; who holds the lease is known at once.
        let primary = seen.primary && holder == Some(status.id);
        status.role = if primary { Role::Primary } else { Role::Replica };
        status.leader = holder.map(|holder| self.base.name_of(holder));
        status.members = self.base.members(holder);
        status.lag_ms =
            self.litefs.lag().map(|lag| u64::try_from(lag.as_millis()).unwrap_or(u64::MAX));
        let draining = self.draining.load(Ordering::Acquire);
        if draining {
            status.not_ready.push("the node is stopping".to_owned());
        }
        status.not_ready.extend(self.litefs.troubles());
        let mounted = self.litefs.mounted();
        if seen.running && !mounted {
            status.not_ready.push("LiteFS has not mounted yet".to_owned());
        }
        if holder.is_none() {
            status.not_ready.push("no primary is known".to_owned());
        } else if seen.running && !seen.primary && seen.attached_to.is_none() {
            status.not_ready.push("LiteFS is not attached to the primary".to_owned());
        }
        status.serving = seen.running && mounted && !draining;
        status
    }

    fn databases(&self) -> Vec<DatabaseStatus> {
        let shapes = lock(&self.shapes);
        let one = |(name, position): (String, crate::core::Position)| {
            let (_, shape) = shapes.get(&name)?;
            Some(DatabaseStatus {
                name: DatabaseName::new(name.clone()).ok()?,
                incarnation: Incarnation::default(),
                position,
                page_size: shape.page_size,
                pages: shape.pages,
                journal: if shape.is_wal { JournalMode::Wal } else { JournalMode::Rollback },
                wal_bytes: shape.wal_bytes,
                // LiteFS does not say who writes.
                write_lock: None,
                waiting: 0,
                behind: 0,
            })
        };
        self.litefs.seen().positions.into_iter().filter_map(one).collect()
    }

    fn history(&self) -> Vec<LeaderChange> {
        self.told(self.litefs.lease().history())
    }

    fn metrics(&self) -> Metrics {
        Metrics {
            leader_changes: self.litefs.lease().tenures(),
            set_aside: self.litefs.number_set_aside(),
            ..self.base.metrics()
        }
    }

    fn config(&self) -> ConfigView {
        self.base.config()
    }

    fn change_config(
        &self,
        patch: serde_json::Value,
    ) -> Later<'_, Result<ConfigView, ChangeError>> {
        self.base.change_config(patch)
    }

    /// What the primary had when it was asked, this node has. A commit on the primary is visible there
    /// before it is answered.
    fn barrier(&self, timeout: Duration) -> Later<'_, Result<BarrierPassed, Unavailable>> {
        Box::pin(async move {
            let begun = Instant::now();
            let wanted = self.primarys(timeout).await.map_err(Unavailable)?;
            loop {
                let left = timeout.saturating_sub(begun.elapsed());
                let seen = self.litefs.client().look(left.min(ANSWER)).await;
                let seen = seen.map_err(|error| Unavailable(error.to_string()))?;
                if holds_all_of(&seen.positions, &wanted) {
                    let index = self.base.status().applied_index;
                    return Ok(BarrierPassed { index });
                }
                if begun.elapsed() > timeout {
                    let why = format!("this node lacks what the primary had {timeout:?} ago");
                    return Err(Unavailable(why));
                }
                tokio::time::sleep(AGAIN).await;
            }
        })
    }

    fn switchover(
        &self,
        to: Option<String>,
        asked: &'static str,
        timeout: Duration,
    ) -> Later<'_, Result<Switchover, SwitchoverError>> {
        Box::pin(async move {
            let refused = |why: String| Err(SwitchoverError::Refused(why));
            let target = match &to {
                None => None,
                Some(name) => match self.base.by_name(name) {
                    None => return refused(format!("there is no member named {name:?}")),
                    known => known,
                },
            };
            let holder = self.litefs.lease().holder().map(|holder| holder.node);
            let Some(holder) = holder else {
                let why = "nobody is primary; nothing to hand over".to_owned();
                return Err(SwitchoverError::Unavailable(why));
            };
            if target == Some(holder) {
                return refused(format!("{} is primary already", self.base.name_of(holder)));
            }
            let asked = format!("{asked} of {}", self.base.status().name);
            let done = self.litefs.switch_over(target, asked, timeout).await;
            let leader = done.map_err(SwitchoverError::Unavailable)?;
            Ok(Switchover::Done { leader: self.base.name_of(leader) })
        })
    }

    fn administer(&self, wish: Wish, timeout: Duration) -> Later<'_, Result<Told, NotDone>> {
        self.base.administer(wish, timeout)
    }

    fn check(&self, database: DatabaseName, timeout: Duration) -> Later<'_, CheckedDatabase> {
        Box::pin(async move {
            let copies = self.litefs.copies_of(database.as_str(), timeout).await;
            let copies = copies.into_iter().map(|(node, copy)| (self.base.name_of(node), copy));
            CheckedDatabase { name: database, copies: copies.collect() }
        })
    }
}

impl Transfers for LitefsEngine {
    fn begin_upload(&self, upload: Upload) -> Later<'_, Result<Uploaded, TransferError>> {
        self.base.begin_upload(upload)
    }

    fn upload_piece(
        &self,
        id: UploadId,
        offset: u64,
        piece: Bytes,
    ) -> Later<'_, Result<Uploaded, TransferError>> {
        self.base.upload_piece(id, offset, piece)
    }

    fn finish_upload(
        &self,
        id: UploadId,
        timeout: Duration,
    ) -> Later<'_, Result<Option<Imported>, TransferError>> {
        self.base.finish_upload(id, timeout)
    }

    fn drop_upload(&self, id: UploadId) -> Later<'_, Result<Uploaded, TransferError>> {
        self.base.drop_upload(id)
    }

    /// By way of a file, so that what is sent is whole.
    fn export(
        &self,
        database: DatabaseName,
        timeout: Duration,
    ) -> Later<'_, Result<Export, TransferError>> {
        Box::pin(async move {
            let unavailable = |why: String| TransferError::Unavailable(why);
            let seen = self.litefs.seen();
            if !seen.positions.contains_key(database.as_str()) {
                return Err(TransferError::Missing(format!("there is no database {database}")));
            }
            let spooled = tokio::time::timeout(timeout, self.litefs.spool(database.as_str())).await;
            let late = |_| Err(format!("not written within {timeout:?}"));
            let (spooled, bytes) = spooled.unwrap_or_else(late).map_err(unavailable)?;
            // It has no name any more when it is read.
            let file = std::fs::File::open(&spooled.path);
            let file = file.map_err(|error| unavailable(error.to_string()))?;
            Ok(Export { position: None, bytes, file: Box::new(file.take(bytes)) })
        })
    }

    fn diverged(&self) -> Later<'_, Result<Vec<Diverged>, TransferError>> {
        self.base.diverged()
    }

    fn export_diverged(
        &self,
        id: String,
        database: Option<DatabaseName>,
    ) -> Later<'_, Result<Export, TransferError>> {
        self.base.export_diverged(id, database)
    }

    fn drop_diverged(&self, id: String) -> Later<'_, Result<Diverged, TransferError>> {
        self.base.drop_diverged(id)
    }
}
