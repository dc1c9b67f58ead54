//! Hands what arrives over the mesh to the room it is for.

use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;

use crate::commit::{METHOD, Service};
use crate::core::NodeId;
use crate::mesh::{Handlers, RpcHandler};
use crate::raft::RaftNode;

struct Calls {
    raft: Arc<dyn RpcHandler>,
    writes: Service,
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
        } else {
            self.raft.call(from, method, request)
        }
    }
}

pub fn handlers(raft: &Arc<RaftNode>, writes: Service) -> Handlers {
    let parts = raft.handlers();
    Handlers { rpc: Arc::new(Calls { raft: parts.rpc, writes }), ..parts }
}
