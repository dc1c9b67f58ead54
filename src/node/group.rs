//! The group of nodes, for the write path: made of `raft` and `mesh`.

use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use tokio::sync::watch;

use crate::cluster::Command;
use crate::commit::METHOD;
use crate::commit::peers::{Group, Leadership};
use crate::core::NodeId;
use crate::mesh::Mesh;
use crate::raft::RaftNode;

/// The write path is there before Raft is, which replays its log into it: until then nobody leads.
pub struct NodeGroup {
    me: NodeId,
    others: Vec<NodeId>,
    mesh: Mesh,
    raft: OnceLock<Arc<RaftNode>>,
    leadership: watch::Sender<Leadership>,
}

impl NodeGroup {
    pub fn new(me: NodeId, others: Vec<NodeId>, mesh: Mesh) -> Arc<Self> {
        let leadership = watch::Sender::new(Leadership::default());
        Arc::new(Self { me, others, mesh, raft: OnceLock::new(), leadership })
    }

    /// Raft has replayed its log; from now on it is followed.
    pub fn follow(self: &Arc<Self>, raft: Arc<RaftNode>) {
        let mut leadership = raft.leadership();
        if self.raft.set(raft).is_err() {
            return;
        }
        let group = Arc::clone(self);
        tokio::spawn(async move {
            loop {
                let now = leadership.borrow_and_update().clone();
                let mapped = Leadership {
                    term: now.term,
                    leader: now.leader,
                    ready: now.me_leading && now.first_entry_applied,
                };
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
        self.others.clone()
    }

    fn leadership(&self) -> watch::Receiver<Leadership> {
        self.leadership.subscribe()
    }

    fn propose_here(&self, term: u64, command: Command) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(async move {
            let raft = self.raft()?;
            raft.propose(self.me, term, command).await.map_err(|error| error.to_string())
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

    fn fetch_staged(
        &self,
        from: NodeId,
        sha256: [u8; 32],
        len: u64,
    ) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(async move {
            self.raft()?.fetch_staged(from, sha256, len).await.map_err(|error| error.to_string())
        })
    }

    fn read_index(&self, timeout: Duration) -> BoxFuture<'_, Result<u64, String>> {
        Box::pin(async move {
            self.raft()?.read_index(timeout).await.map_err(|error| error.to_string())
        })
    }

    fn lag_ms(&self) -> i64 {
        match self.raft.get() {
            Some(raft) => raft.lag().map_or(i64::from(i32::MAX), |lag| {
                i64::try_from(lag.as_millis()).unwrap_or(i64::MAX)
            }),
            None => i64::from(i32::MAX),
        }
    }

    fn sync_committed_mark(&self) -> io::Result<()> {
        match self.raft.get() {
            Some(raft) => raft.sync_committed_mark(),
            None => Ok(()),
        }
    }
}
