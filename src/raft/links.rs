//! The way to the other nodes: the mesh, or in tests and in the simulation a network that loses
//! things.

use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;

use crate::core::NodeId;
use crate::mesh::{CallError, Connection, FrameReceiver, FrameSender, Mesh, MeshError, Purpose};

/// Why something did not reach another node, or no answer came.
#[derive(Debug, thiserror::Error)]
#[error("{why}")]
pub struct LinkError {
    pub why: String,
    /// Nobody is there: not to be tried again at once.
    pub unreachable: bool,
}

impl LinkError {
    pub fn new(why: impl Into<String>) -> Self {
        Self { why: why.into(), unreachable: false }
    }
}

pub trait Links: Send + Sync + 'static {
    /// A call with an answer.
    fn call(
        &self,
        to: u64,
        method: u8,
        request: Bytes,
        timeout: Duration,
    ) -> BoxFuture<'_, Result<Bytes, LinkError>>;

    /// A stream of frames, both ways.
    fn stream(&self, to: u64, purpose: Purpose) -> BoxFuture<'_, Result<Stream, LinkError>>;
}

/// The two halves of a stream.
pub struct Stream {
    pub sender: Box<dyn Sender>,
    pub receiver: Box<dyn Receiver>,
}

pub trait Sender: Send + Sync {
    /// Sends a frame now. Not to be dropped half-way.
    fn send(&mut self, frame: Bytes) -> BoxFuture<'_, Result<(), LinkError>>;
    /// Ends the stream in order.
    fn close(self: Box<Self>) -> BoxFuture<'static, Result<(), LinkError>>;
}

pub trait Receiver: Send + Sync {
    /// The next frame; `None`: the other side ended the stream in order. May be dropped and called
    /// again without loss.
    fn receive(&mut self) -> BoxFuture<'_, Result<Option<Bytes>, LinkError>>;
}

impl Links for Mesh {
    fn call(
        &self,
        to: u64,
        method: u8,
        request: Bytes,
        timeout: Duration,
    ) -> BoxFuture<'_, Result<Bytes, LinkError>> {
        Box::pin(async move {
            let answer = Mesh::call(self, NodeId(to), method, request, timeout).await;
            answer.map_err(|error| LinkError {
                unreachable: matches!(
                    error,
                    CallError::Refused { .. }
                        | CallError::NotConnected { .. }
                        | CallError::UnknownPeer(_)
                ),
                why: error.to_string(),
            })
        })
    }

    fn stream(&self, to: u64, purpose: Purpose) -> BoxFuture<'_, Result<Stream, LinkError>> {
        Box::pin(async move {
            let connection = self.connect(NodeId(to), purpose).await;
            let connection = connection.map_err(|error| unreachable(&error))?;
            Ok(Stream::from(connection))
        })
    }
}

fn unreachable(error: &MeshError) -> LinkError {
    LinkError { unreachable: true, why: error.to_string() }
}

impl From<Connection> for Stream {
    fn from(connection: Connection) -> Self {
        Self { sender: Box::new(connection.sender), receiver: Box::new(connection.receiver) }
    }
}

impl Sender for FrameSender {
    fn send(&mut self, frame: Bytes) -> BoxFuture<'_, Result<(), LinkError>> {
        Box::pin(async move {
            FrameSender::send(self, frame).await.map_err(|error| LinkError::new(error.to_string()))
        })
    }

    fn close(self: Box<Self>) -> BoxFuture<'static, Result<(), LinkError>> {
        Box::pin(
            async move { (*self).close().await.map_err(|error| LinkError::new(error.to_string())) },
        )
    }
}

impl Receiver for FrameReceiver {
    fn receive(&mut self) -> BoxFuture<'_, Result<Option<Bytes>, LinkError>> {
        Box::pin(
            async move { self.recv().await.map_err(|error| LinkError::new(error.to_string())) },
        )
    }
}
