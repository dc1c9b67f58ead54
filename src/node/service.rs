//! Hands what arrives over the mesh to the room it is for.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;

use crate::commit::{AllDatabases, METHOD, Service};
use crate::core::engine::Copy;
use crate::core::{DatabaseName, NodeId};
use crate::mesh::{Handlers, RpcHandler};
use crate::raft::{RaftError, RaftHandlers, RaftNode};

/// The method number of "hand leadership over": which node to, if any is wished for.
pub const SWITCHOVER: u8 = 65;

/// The method number of "read this database, and say what you have": its name, and milliseconds.
pub const CHECK: u8 = 66;

struct Calls {
    raft: RaftHandlers,
    databases: Arc<AllDatabases>,
    writes: Service,
    node: Arc<RaftNode>,
}

impl RpcHandler for Calls {
    fn call(
        &self,
        from: NodeId,
        method: u8,
        request: Bytes,
    ) -> BoxFuture<'_, Result<Bytes, String>> {
        if method == METHOD {
            Box::pin(async move { self.writes.call(from, &request).await })
        } else if method == SWITCHOVER {
            Box::pin(async move {
                let to = postcard::from_bytes(&request).map_err(|error| error.to_string())?;
                let leader = hand_over(&self.node, to).await.map_err(|error| error.to_string())?;
                postcard::to_allocvec(&leader).map(Bytes::from).map_err(|error| error.to_string())
            })
        } else if method == CHECK {
            Box::pin(async move {
                let (name, patience): (DatabaseName, u64) =
                    postcard::from_bytes(&request).map_err(|error| error.to_string())?;
                let copy =
                    check(Arc::clone(&self.databases), name, Duration::from_millis(patience)).await;
                serde_json::to_vec(&copy).map(Bytes::from).map_err(|error| error.to_string())
            })
        } else {
            self.raft.call(from, method, request)
        }
    }
}

pub fn handlers(raft: &Arc<RaftNode>, writes: Service) -> Handlers {
    let parts = raft.handlers();
    Handlers {
        raft: parts.raft(),
        bulk: parts.bulk(),
        rpc: Arc::new(Calls {
            raft: parts,
            databases: Arc::clone(&writes.databases),
            writes,
            node: Arc::clone(raft),
        }),
    }
}

/// Reads this node's copy of a database.
pub async fn check(databases: Arc<AllDatabases>, name: DatabaseName, patience: Duration) -> Copy {
    let read = tokio::task::spawn_blocking(move || databases.check(&name, patience)).await;
    read.unwrap_or_else(|error| Copy::Unread { why: error.to_string() })
}

/// Hands leadership over, on the leader: to the named node, or to the one that is furthest.
pub async fn hand_over(raft: &RaftNode, to: Option<NodeId>) -> Result<NodeId, RaftError> {
    let furthest = || {
        let status = raft.status();
        let voters = status.peers.into_iter().filter(|(id, _)| status.voters.contains(id));
        voters.max_by_key(|(_, progress)| progress.matched).map(|(id, _)| id)
    };
    let to = to.or_else(furthest).ok_or(RaftError::NoLeader)?;
    raft.transfer_leadership(to).await?;
    Ok(raft.leadership().borrow().leader.unwrap_or(to))
}
