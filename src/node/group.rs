//! The group of nodes, for the write path: made of `raft` and `mesh`.

use std::io;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::future::BoxFuture;
use tokio::sync::watch;

use super::roster::Roster;
use crate::cluster::Command;
use crate::commit::peers::{Group, Leadership};
use crate::commit::{METHOD, lock};
use crate::core::{DatabaseName, Incarnation, NodeId};
use crate::mesh::{Mesh, PeerEventKind};
use crate::raft::{IncomingDatabase, RaftNode, StagedFiles, StagedName};

/// Between two looks at whether this node is in touch with its leader.
const LOOK: Duration = Duration::from_millis(50);

/// A leader whose majority answered so lately is up to date: some heartbeats.
const LATELY: Duration = Duration::from_millis(300);

/// By how much the time of one and the same answer can differ, as it is computed.
const SAME: Duration = Duration::from_millis(1);

/// Without an answer of the others for so long, nobody is given the write lock: longer than one sync of a
/// slow disk, which holds up a follower's answer to heartbeats, too.
const OUT_OF_TOUCH: Duration = Duration::from_secs(3);

/// The write path is there before Raft is, which replays its log into it: until then nobody leads.
pub struct NodeGroup {
    me: NodeId,
    roster: Arc<Roster>,
    mesh: Mesh,
    raft: OnceLock<Arc<RaftNode>>,
    leadership: watch::Sender<Leadership>,
    staged: Arc<dyn StagedFiles>,
    /// When this node last knew itself up to date with a leader in reach.
    up_to_date: Mutex<Option<Instant>>,
    /// When it last had a leader in reach, or led a majority.
    in_touch: Mutex<Option<Instant>>,
}

impl NodeGroup {
    pub fn new(
        me: NodeId,
        roster: Arc<Roster>,
        mesh: Mesh,
        staged: Arc<dyn StagedFiles>,
    ) -> Arc<Self> {
        Arc::new(Self {
            me,
            roster,
            mesh,
            raft: OnceLock::new(),
            leadership: watch::Sender::new(Leadership::default()),
            staged,
            up_to_date: Mutex::new(None),
            in_touch: Mutex::new(None),
        })
    }

    /// How old what this node's log has applied may be: 0 on a leader that has its quorum, and on a node
    /// that has applied all it knows of while its leader is in reach. `None`: it never was.
    pub fn lag(&self) -> Option<Duration> {
        let last = *lock(&self.up_to_date);
        last.map(|at| at.elapsed().checked_sub(LOOK * 3).unwrap_or_default())
    }

    /// Since a majority last answered, as far as this node can tell.
    pub fn quorum_age(&self) -> Option<Duration> {
        let raft = self.raft.get()?;
        if raft.leadership().borrow().me_leading {
            raft.quorum_age()
        } else {
            lock(&self.in_touch).map(|at| at.elapsed())
        }
    }

    fn touch(&self) {
        *lock(&self.in_touch) = Some(Instant::now());
    }

    async fn keep_in_touch(self: Arc<Self>, raft: Arc<RaftNode>) {
        // When that was sent which a majority acknowledged last.
        let mut acknowledged = None;
        // What was committed when, as a follower heard of it: under load there is always something newer.
        let mut heard = None;
        loop {
            let status = raft.status();
            let now = Instant::now();
            match status.leader {
                Some(leader) if leader == self.me => {
                    let age = raft.quorum_age();
                    let sent = age.and_then(|age| now.checked_sub(age));
                    // However long ago it was sent: the answer is of now. A slow disk holds it up.
                    if sent > acknowledged.map(|last: Instant| last + SAME) {
                        acknowledged = sent;
                        self.touch();
                    }
                    if age.is_some_and(|age| age < LATELY) {
                        *lock(&self.up_to_date) = Some(now);
                    }
                    heard = None;
                }
                Some(leader) if self.mesh.peer_state(leader) == Some(PeerEventKind::Up) => {
                    self.touch();
                    let (at, committed) = *heard.get_or_insert((now, status.committed));
                    if status.applied >= committed {
                        *lock(&self.up_to_date) = Some(at);
                        heard = Some((now, status.committed));
                    }
                    acknowledged = None;
                }
                _ => (acknowledged, heard) = (None, None),
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Raft has replayed its log; from now on it is followed.
    pub fn follow(self: &Arc<Self>, raft: Arc<RaftNode>) {
        let mut leadership = raft.leadership();
        if self.raft.set(Arc::clone(&raft)).is_err() {
            return;
        }
        tokio::spawn(Arc::clone(self).keep_in_touch(raft));
        let group = Arc::clone(self);
        tokio::spawn(async move {
            loop {
                let now = *leadership.borrow_and_update();
                let mapped = Leadership {
                    term: now.term,
                    leader: now.leader,
                    ready: now.me_leading && now.first_entry_applied,
                };
                // A majority has elected it; whoever is told so is in touch.
                if mapped.ready || mapped.leader.is_some_and(|leader| leader != group.me) {
                    group.touch();
                }
                group.leadership.send_if_modified(|known| {
                    let changed = *known != mapped;
                    *known = mapped;
                    changed
                });
                if leadership.changed().await.is_err() {
                    return;
                }
            }
        });
    }

    fn raft(&self) -> Result<&Arc<RaftNode>, String> {
        self.raft.get().ok_or_else(|| "the node is starting".to_owned())
    }
}

impl Group for NodeGroup {
    fn me(&self) -> NodeId {
        self.me
    }

    fn others(&self) -> Vec<NodeId> {
        self.roster.others(self.me)
    }

    fn reaches(&self, node: NodeId) -> bool {
        node == self.me || self.mesh.peer_state(node) == Some(PeerEventKind::Up)
    }

    fn in_touch(&self) -> bool {
        lock(&self.in_touch).is_some_and(|at| at.elapsed() < OUT_OF_TOUCH)
    }

    fn leadership(&self) -> watch::Receiver<Leadership> {
        self.leadership.subscribe()
    }

    fn propose_here(&self, term: u64, command: Command) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(async move {
            let raft = self.raft()?;
            // What becomes of it shows in the applied log (Rule 6).
            raft.submit(self.me, term, command).await.map_err(|error| error.to_string())
        })
    }

    fn call(
        &self,
        to: NodeId,
        request: Bytes,
        timeout: Duration,
    ) -> BoxFuture<'_, Result<Bytes, String>> {
        Box::pin(async move {
            self.mesh.call(to, METHOD, request, timeout).await.map_err(|error| error.to_string())
        })
    }

    fn keep_staged(&self, sha256: [u8; 32], len: u64) {
        // Asking for it is speaking of it, and what was spoken of stays.
        let _there = self.staged.has(sha256, len);
    }

    fn fetch_staged(
        &self,
        from: NodeId,
        sha256: [u8; 32],
        len: u64,
    ) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(async move {
            let name = StagedName { sha256, len };
            self.raft()?.fetch_staged(from, name).await.map_err(|error| error.to_string())
        })
    }

    fn fetch_database(
        &self,
        from: NodeId,
        name: DatabaseName,
        incarnation: Incarnation,
        at_least: u64,
    ) -> BoxFuture<'_, Result<IncomingDatabase, String>> {
        Box::pin(async move {
            let fetched = self.raft()?.fetch_database(from, name, incarnation, at_least).await;
            fetched.map_err(|error| error.to_string())
        })
    }

    fn read_index(&self, timeout: Duration) -> BoxFuture<'_, Result<u64, String>> {
        Box::pin(async move {
            let index = self.raft()?.read_index(timeout).await;
            index.map(|entry| entry.index).map_err(|error| error.to_string())
        })
    }

    fn lag_ms(&self) -> i64 {
        self.lag()
            .map_or(i64::from(i32::MAX), |lag| i64::try_from(lag.as_millis()).unwrap_or(i64::MAX))
    }

    fn sync_committed_mark(&self) -> io::Result<()> {
        match self.raft.get() {
            Some(raft) => raft.sync_committed(),
            // The log is being replayed: its mark is what was found on the disk.
            None => Ok(()),
        }
    }
}
