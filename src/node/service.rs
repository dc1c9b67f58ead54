//! Hands what arrives over the mesh to the room it is for.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;

use super::leaders::{HAND_OVER, HISTORY, Leaders};
use crate::commit::{AllDatabases, METHOD, Service};
use crate::core::engine::Copy;
use crate::core::history::Cause;
use crate::core::{DatabaseName, NodeId};
use crate::mesh::{Handlers, RpcHandler};
use crate::raft::{RaftHandlers, RaftNode};

/// The method number of "hand leadership over": which node to, if any is wished for; and who asked.
pub const SWITCHOVER: u8 = 65;

/// The method number of "read this database, and say what you have": its name, and milliseconds.
pub const CHECK: u8 = 66;

struct Calls {
    raft: RaftHandlers,
    databases: Arc<AllDatabases>,
    writes: Service,
    leaders: Arc<Leaders>,
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
                let (to, rest) =
                    postcard::take_from_bytes(&request).map_err(|error| error.to_string())?;
                // Nodes of the first version do not say who asked.
                let asked =
                    postcard::from_bytes(rest).unwrap_or_else(|_| "another node".to_owned());
                let leader = self.leaders.hand_over(to, Cause::Switchover, Some(asked)).await;
                let leader = leader.map_err(|error| error.to_string())?;
                postcard::to_allocvec(&leader).map(Bytes::from).map_err(|error| error.to_string())
            })
        } else if method == HAND_OVER {
            Box::pin(async move { self.leaders.hear(from, &request).map(|()| Bytes::new()) })
        } else if method == HISTORY {
            Box::pin(async move { self.leaders.tell() })
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

pub fn handlers(raft: &Arc<RaftNode>, leaders: &Arc<Leaders>, writes: Service) -> Handlers {
    let parts = raft.handlers();
    Handlers {
        raft: parts.raft(),
        bulk: parts.bulk(),
        rpc: Arc::new(Calls {
            raft: parts,
            databases: Arc::clone(&writes.databases),
            writes,
            leaders: Arc::clone(leaders),
        }),
    }
}

/// Reads this node's copy of a database.
pub async fn check(databases: Arc<AllDatabases>, name: DatabaseName, patience: Duration) -> Copy {
    let read = tokio::task::spawn_blocking(move || databases.check(&name, patience)).await;
    read.unwrap_or_else(|error| Copy::Unread { why: error.to_string() })
}
