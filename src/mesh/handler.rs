//! What a node does with what the others send: given to [`super::Mesh::listen`] by the rooms
//! above.

use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;

use super::{Connection, JoinHandler};
use crate::core::NodeId;

/// Answers calls.
pub trait RpcHandler: Send + Sync + 'static {
    /// One call; each runs in a task of its own. It is not ended when the caller goes away, so
    /// it must end by itself (bounded-answer). `Err`: told to the caller as it stands.
    fn call(
        &self,
        from: NodeId,
        method: u8,
        request: Bytes,
    ) -> BoxFuture<'_, Result<Bytes, String>>;
}

/// Takes incoming streams.
pub trait StreamHandler: Send + Sync + 'static {
    /// One stream, in a task of its own. Ended when the listener stops, or `from` is no longer a
    /// member.
    fn accept(&self, from: NodeId, connection: Connection) -> BoxFuture<'_, ()>;
}

/// One handler for each [`super::Purpose`], and one for those who are no members yet.
#[derive(Clone)]
pub struct Handlers {
    pub rpc: Arc<dyn RpcHandler>,
    pub raft: Arc<dyn StreamHandler>,
    pub bulk: Arc<dyn StreamHandler>,
    pub litefs: Arc<dyn StreamHandler>,
    pub joins: Arc<dyn JoinHandler>,
}

/// For a purpose that is not served: closes the stream at once.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoStreams;

impl StreamHandler for NoStreams {
    fn accept(&self, _from: NodeId, _connection: Connection) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }
}
