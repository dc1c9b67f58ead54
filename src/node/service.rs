//! Hands what arrives over the mesh to the room it is for.

use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;

use crate::commit::{METHOD, Service};
use crate::core::NodeId;
use crate::mesh::{Handlers, RpcHandler};
use crate::raft::{RaftError, RaftHandlers, RaftNode};

/// The method number of "hand leadership over": which node to, if any is wished for.
pub const SWITCHOVER: u8 = 65;

struct Calls {
    raft: RaftHandlers,
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
        rpc: Arc::new(Calls { raft: parts, writes, node: Arc::clone(raft) }),
    }
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
