//! The parts of this room, put together for one node.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use http_body_util::BodyExt;
use tokio::io::AsyncWriteExt;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::calls::Ask;
use super::child::{Launcher, Stopping, ended, supervise};
use super::client::Client;
use super::facade::Facade;
use super::holding::{Holding, hold};
use super::lease::Renewals;
use super::positions::{Positions, Seen};
use super::settings::Settings;
use super::tunnel::{Tunnels, lead_in_handler};
use super::{gate, leader};
use crate::cluster::Lease;
use crate::core::engine::Copy;
use crate::core::{Incarnation, NodeId};
use crate::mesh::{Mesh, StreamHandler};
use crate::raft::RaftNode;
use crate::store::{Outside, OutsideError};

/// The method number of what nodes ask of each other about LiteFS.
pub const METHOD: u8 = 90;

/// What it is made of.
pub struct Parts {
    pub me: NodeId,
    pub mesh: Mesh,
    pub raft: Arc<RaftNode>,
    pub settings: Settings,
    /// Takes away a mount that nobody serves.
    pub unmount: Unmount,
}

/// Takes away what is mounted somewhere. Blocks.
pub type Unmount = Arc<dyn Fn(&Path) -> io::Result<()> + Send + Sync>;

/// Why it does not begin.
#[derive(Debug, thiserror::Error)]
pub enum LitefsError {
    #[error("cannot make {path}: {source}")]
    Folder { path: String, source: io::Error },
    #[error("cannot answer LiteFS on loopback: {0}")]
    Facade(io::Error),
    #[error("cannot find this program, to guard LiteFS by it: {0}")]
    Program(io::Error),
}

/// A mutex whose holders never leave things half done.
#[derive(Debug, Default)]
pub(super) struct Locked<T>(Mutex<T>);

impl<T> Locked<T> {
    pub fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Numbers that only grow.
#[derive(Debug, Default)]
pub(super) struct Counters {
    ends: AtomicU64,
}

impl Counters {
    pub fn ended(&self, _code: i32) {
        self.ends.fetch_add(1, Ordering::Relaxed);
    }
}

/// LiteFS on this node, and this node's part in the lease.
pub struct Litefs {
    this: Weak<Self>,
    pub(super) me: NodeId,
    pub(super) mesh: Mesh,
    pub(super) raft: Arc<RaftNode>,
    pub(super) settings: Settings,
    pub(super) client: Client,
    pub(super) unmount: Unmount,
    /// What was last seen of LiteFS here.
    pub(super) seen: watch::Sender<Seen>,
    pub(super) mounted: watch::Sender<bool>,
    lag: Locked<Option<(Duration, Instant)>>,
    pub(super) renewals: Locked<Renewals>,
    /// How sure this node is of its lease.
    pub(super) holding: Locked<Holding>,
    /// The tenure whose primary LiteFS may attach to.
    pub(super) gate: watch::Sender<Option<u64>>,
    pub(super) tunnels: Tunnels,
    /// The last tenure in which this node's LiteFS was primary, or had what that primary had.
    pub(super) tenure: Locked<Option<u64>>,
    /// A database without which LiteFS does not start.
    pub(super) broken: Locked<Option<String>>,
    /// Sessions that may have got the lease without LiteFS being told.
    pub(super) tried: Locked<BTreeSet<String>>,
    /// Members that know of leases.
    pub(super) speak: Locked<BTreeSet<NodeId>>,
    /// Why the lease cannot be used at all.
    pub(super) trouble: watch::Sender<Option<String>>,
    /// Why LiteFS does not run.
    pub(super) down: watch::Sender<Option<String>>,
    pub(super) stop: watch::Sender<Stopping>,
    pub(super) over: watch::Sender<bool>,
    pub(super) counters: Counters,
    /// Databases set aside since the start.
    pub(super) set_aside: AtomicU64,
    /// One handover at a time.
    pub(super) handing: tokio::sync::Mutex<()>,
    tasks: Locked<Vec<JoinHandle<()>>>,
}

impl Drop for Litefs {
    fn drop(&mut self) {
        for task in self.tasks.lock().iter() {
            task.abort();
        }
    }
}

impl Litefs {
    #[must_use]
    pub fn new(parts: Parts) -> Arc<Self> {
        let Parts { me, mesh, raft, settings, unmount } = parts;
        Arc::new_cyclic(|this| Self {
            this: this.clone(),
            me,
            client: Client::new(settings.port),
            tunnels: Tunnels::new(mesh.clone()),
            mesh,
            raft,
            settings,
            unmount,
            seen: watch::Sender::default(),
            mounted: watch::Sender::new(false),
            lag: Locked::default(),
            renewals: Locked::default(),
            holding: Locked::default(),
            gate: watch::Sender::new(None),
            tenure: Locked::default(),
            broken: Locked::default(),
            tried: Locked::default(),
            speak: Locked::default(),
            trouble: watch::Sender::default(),
            down: watch::Sender::new(Some("LiteFS is starting".to_owned())),
            stop: watch::Sender::default(),
            over: watch::Sender::new(false),
            counters: Counters::default(),
            set_aside: AtomicU64::new(0),
            handing: tokio::sync::Mutex::default(),
            tasks: Locked::default(),
        })
    }

    pub(super) fn this(&self) -> Option<Arc<Self>> {
        self.this.upgrade()
    }

    /// Begins: the facade, LiteFS's process, this node's duties.
    ///
    /// # Errors
    /// What keeps it from beginning.
    pub async fn start(self: &Arc<Self>) -> Result<(), LitefsError> {
        for path in [&self.settings.own, &self.settings.folder] {
            crate::store::durable::make_folder(path).map_err(|source| LitefsError::Folder {
                path: path.display().to_string(),
                source,
            })?;
        }
        let facade = Facade::open().await.map_err(LitefsError::Facade)?;
        let url = facade.url().map_err(LitefsError::Facade)?;
        let program = std::env::current_exe().map_err(LitefsError::Program)?;
        let launcher = Launcher { program };
        let tasks = vec![
            tokio::spawn(facade.serve(Arc::clone(self))),
            tokio::spawn(gate::keep(Arc::clone(self))),
            tokio::spawn(leader::lead(Arc::clone(self))),
            tokio::spawn(hold(Arc::clone(self))),
            tokio::spawn(supervise(Arc::clone(self), launcher, url)),
        ];
        self.tasks.lock().extend(tasks);
        Ok(())
    }

    /// For the mesh: what the other nodes' LiteFS say to this one.
    #[must_use]
    pub fn streams(&self) -> Arc<dyn StreamHandler> {
        lead_in_handler(self.client.address())
    }

    /// The node is about to stop: who is primary hands over, if it can, and does not become it again.
    pub async fn give_up(self: &Arc<Self>, within: Duration) {
        self.stop.send_replace(Stopping::Soon);
        if self.seen.borrow().primary {
            // Where all nodes stop at once there is soon nobody left.
            let alone = async {
                while !self.is_alone() {
                    tokio::time::sleep(LOOK).await;
                }
            };
            let handed = tokio::select! {
                handed = self.hand_over(None, None, within) => handed,
                () = alone => Err("no majority is left".to_owned()),
            };
            match handed {
                Ok(to) => tracing::info!("handed over to {}", self.name_of(to)),
                Err(why) => tracing::warn!(why, "not handed over; the others choose"),
            }
        }
    }

    /// Stops LiteFS in order.
    pub async fn stop(&self) {
        self.stop.send_replace(Stopping::Stop);
        ended(self.over.subscribe()).await;
        for task in self.tasks.lock().drain(..) {
            task.abort();
        }
    }

    pub(super) fn stopping(&self) -> bool {
        *self.stop.borrow() != Stopping::No
    }

    pub(super) fn name_of(&self, node: NodeId) -> String {
        let membership = self.raft.membership();
        let membership = membership.borrow();
        membership.members.get(&node).map_or_else(|| node.to_string(), |member| member.name.clone())
    }

    pub(super) fn take_note(&self, seen: Seen) {
        self.seen.send_if_modified(|known| {
            let changed = *known != seen;
            *known = seen;
            changed
        });
    }

    pub(super) fn note_lag(&self, lag: Option<Duration>) {
        if let Some(lag) = lag {
            *self.lag.lock() = Some((lag, Instant::now()));
        }
    }

    /// How far it is, now: as LiteFS says; or, where it takes its time, as its files do.
    pub async fn standing(&self, within: Duration) -> Seen {
        let mut seen = self.standing_by_itself(within).await;
        // Who has nothing has followed nobody.
        seen.tenure = self.tenure.lock().filter(|_| !seen.positions.is_empty());
        seen
    }

    async fn standing_by_itself(&self, within: Duration) -> Seen {
        if let Ok(seen) = self.client.look(within).await {
            return seen;
        }
        // Of a process that has ended nothing is left in it but its positions.
        let known = self.seen();
        let folder = self.settings.folder.clone();
        let read = tokio::task::spawn_blocking(move || {
            let positions = crate::store::litefs_positions(&folder).unwrap_or_default();
            let cluster_id = std::fs::read_to_string(folder.join("clusterid")).unwrap_or_default();
            Seen { positions, cluster_id: cluster_id.trim().to_owned(), ..known }
        });
        read.await.unwrap_or_default()
    }

    /// What was last seen of LiteFS here.
    #[must_use]
    pub fn seen(&self) -> Seen {
        self.seen.borrow().clone()
    }

    /// Whether its mount is there.
    #[must_use]
    pub fn mounted(&self) -> bool {
        *self.mounted.borrow()
    }

    /// The lease, as this node has applied it.
    #[must_use]
    pub fn lease(&self) -> Lease {
        self.raft.state().lease().clone()
    }

    /// How old what this node shows may be. `None`: it was attached to no primary yet.
    #[must_use]
    pub fn lag(&self) -> Option<Duration> {
        let seen = self.seen.borrow();
        if seen.primary {
            return Some(Duration::ZERO);
        }
        let (lag, at) = (*self.lag.lock())?;
        // LiteFS hears from its primary each second.
        let heard = if seen.attached_to.is_some() { Duration::ZERO } else { at.elapsed() };
        Some(lag + heard)
    }

    /// Whether applications can work here: it is primary, or attached to one.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        let seen = self.seen.borrow();
        seen.running && self.mounted() && (seen.primary || seen.attached_to.is_some())
    }

    /// Why this node's LiteFS is of no use now, or the lease cannot be.
    #[must_use]
    pub fn troubles(&self) -> Vec<String> {
        let troubles = [self.trouble.borrow().clone(), self.down.borrow().clone()];
        troubles.into_iter().flatten().collect()
    }

    /// Databases set aside since the start.
    #[must_use]
    pub fn number_set_aside(&self) -> u64 {
        self.set_aside.load(Ordering::Relaxed)
    }

    /// How often LiteFS's process has ended.
    #[must_use]
    pub fn ends(&self) -> u64 {
        self.counters.ends.load(Ordering::Relaxed)
    }

    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    #[must_use]
    pub fn client(&self) -> Client {
        self.client
    }
}

impl Litefs {
    /// How far a node is, now.
    ///
    /// # Errors
    /// It does not say.
    pub async fn positions_of(&self, node: NodeId, within: Duration) -> Result<Positions, String> {
        if node == self.me {
            let seen = self.client.look(within).await.map_err(|error| error.to_string())?;
            return Ok(seen.positions);
        }
        Ok(self.ask::<Seen>(node, &Ask::Standing, within).await?.positions)
    }

    /// What each node says of a database.
    pub async fn copies_of(&self, database: &str, within: Duration) -> BTreeMap<NodeId, Copy> {
        let members = self.raft.membership().borrow().members.clone();
        let asked = members.keys().map(async |node| {
            let copy = if *node == self.me {
                self.check_here(database, within).await
            } else {
                let within_ms = u64::try_from(within.as_millis() / 2).unwrap_or(u64::MAX);
                let ask = Ask::Check { database: database.to_owned(), within_ms };
                self.ask(*node, &ask, within).await.unwrap_or_else(|why| Copy::Unread { why })
            };
            (*node, copy)
        });
        futures::future::join_all(asked).await.into_iter().collect()
    }

    /// Reads this node's copy byte by byte, as LiteFS exports it, and holds it against its position.
    pub(super) async fn check_here(&self, database: &str, within: Duration) -> Copy {
        let begun = Instant::now();
        let unread = |why: String| Copy::Unread { why };
        let mut why = format!("not read within {within:?}");
        while begun.elapsed() < within {
            let left = within.saturating_sub(begun.elapsed());
            let before = match self.client.look(left).await {
                Ok(seen) => seen.positions.get(database).copied(),
                Err(error) => return unread(error.to_string()),
            };
            let Some(position) = before else { return Copy::Missing };
            let read = tokio::time::timeout(left, self.spool(database)).await;
            let (file, _) = match read {
                Ok(Ok(read)) => read,
                Ok(Err(error)) => return unread(error),
                Err(_) => break,
            };
            let after = self.client.look(left).await.ok();
            if after.and_then(|seen| seen.positions.get(database).copied()) != Some(position) {
                "it is written to all the time".clone_into(&mut why);
                continue;
            }
            let summed = tokio::task::spawn_blocking(move || {
                let none = file.path.with_extension("none");
                let outside = Outside::open_parts(&file.path, &none, &none)?;
                Ok::<_, OutsideError>((outside.checksum()?, outside.pages()))
            });
            let incarnation = Incarnation::default();
            return match summed.await {
                Ok(Ok((found, pages))) if found == position.checksum => {
                    Copy::Sound { incarnation, position, pages }
                }
                Ok(Ok((found, _))) => Copy::Damaged {
                    why: format!(
                        "its bytes add up to {:016x}, its position is {position}",
                        found.0
                    ),
                },
                Ok(Err(error)) => Copy::Damaged { why: error.to_string() },
                Err(error) => unread(error.to_string()),
            };
        }
        unread(why)
    }

    /// Writes a database, as LiteFS exports it, to a file; and how many bytes it has.
    ///
    /// # Errors
    /// LiteFS does not give it, or the disk is full.
    pub async fn spool(&self, database: &str) -> Result<(Spooled, u64), String> {
        let name = format!("export-{:016x}", rand::random::<u64>());
        let spooled = Spooled { path: self.settings.own.join(name) };
        let mut file =
            tokio::fs::File::create_new(&spooled.path).await.map_err(|e| e.to_string())?;
        let mut body = self.client.export(database, EXPORT).await.map_err(|e| e.to_string())?;
        let mut bytes = 0;
        while let Some(frame) = body.frame().await {
            if let Ok(data) = frame.map_err(|error| error.to_string())?.into_data() {
                file.write_all(&data).await.map_err(|error| error.to_string())?;
                bytes += data.len() as u64;
            }
        }
        file.flush().await.map_err(|error| error.to_string())?;
        Ok((spooled, bytes))
    }
}

/// Between two looks at who is left.
const LOOK: Duration = Duration::from_millis(50);
/// For LiteFS to begin an export.
const EXPORT: Duration = Duration::from_secs(5);

/// A file that goes with its last user.
pub struct Spooled {
    pub path: std::path::PathBuf,
}

impl Drop for Spooled {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::debug!(path = %self.path.display(), %error, "an export is left behind");
        }
    }
}
