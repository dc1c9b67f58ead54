//! What can go wrong at the room's door.

use std::time::Duration;

use super::{CaError, FrameError, IdentityNameError};
use crate::core::NodeId;

/// Why a listener did not let a connection in, as it tells the dialer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    #[error(
        "it does not know this node as a member; add the member there, or check its name and id"
    )]
    UnknownMember,
    #[error("it is another node than the one meant; check the addresses and ids")]
    WrongNode,
    #[error("it speaks another version of the protocol; upgrade one of the two")]
    Version,
}

/// Setting up the mesh, listening and connecting.
#[derive(Debug, thiserror::Error)]
pub enum MeshError {
    #[error("the mesh must be made within a tokio runtime")]
    NoRuntime,
    #[error(transparent)]
    Name(#[from] IdentityNameError),
    #[error("node {id} ({name:?}): this id or name is given to two members")]
    Duplicate { id: NodeId, name: String },
    #[error(
        "this node's certificate or key cannot be used: {reason}; issue it anew with this cluster's CA"
    )]
    Identity { reason: String },
    #[error(transparent)]
    Ca(#[from] CaError),
    #[error("{address} is in use by another process; stop it, or set another port")]
    PortInUse { address: String },
    #[error("cannot listen on {address}: {source}")]
    Listen { address: String, source: std::io::Error },
    #[error("node {0} is not a member")]
    UnknownPeer(NodeId),
    #[error("node {node}: cannot resolve {address}: {source}")]
    Resolve { node: NodeId, address: String, source: std::io::Error },
    /// The host answered that nobody listens: the process is dead (or behind a firewall that
    /// answers so). No other failure says this.
    #[error("node {node}: nobody listens at {address}")]
    Refused { node: NodeId, address: String },
    #[error("node {node}: cannot connect to {address}: {source}")]
    Unreachable { node: NodeId, address: String, source: std::io::Error },
    #[error("node {node}: the handshake with {address} failed: {source}")]
    Handshake { node: NodeId, address: String, source: std::io::Error },
    #[error("node {node} at {address} refused this node: {reason}")]
    Rejected { node: NodeId, address: String, reason: Rejection },
    #[error("node {node}: {source}")]
    Frame { node: NodeId, source: FrameError },
}

impl MeshError {
    /// Whether nobody listens there: the process is dead.
    pub fn is_refused(&self) -> bool {
        matches!(self, MeshError::Refused { .. })
    }
}

/// One call.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    #[error("node {0} is not a member")]
    UnknownPeer(NodeId),
    #[error("a call of {len} bytes to node {node} is too long; the bound is {max}")]
    TooLong { node: NodeId, len: usize, max: usize },
    #[error("node {node}: nobody listens there")]
    Refused { node: NodeId },
    #[error("node {node}: no connection within {waited:?}")]
    NotConnected { node: NodeId, waited: Duration },
    #[error("node {node} has too much of this node's work in hand; try again")]
    Busy { node: NodeId },
    /// The call may or may not have been carried out.
    #[error("node {node}: the connection broke before the answer came")]
    Broken { node: NodeId },
    /// The call may or may not have been carried out, or may still be.
    #[error("node {node}: no answer within {waited:?}")]
    Timeout { node: NodeId, waited: Duration },
    #[error("node {node} answered with an error: {message}")]
    Handler { node: NodeId, message: String },
}

impl CallError {
    /// Whether it is certain that the other node's handler never saw the call.
    pub fn never_arrived(&self) -> bool {
        match self {
            CallError::UnknownPeer(_)
            | CallError::TooLong { .. }
            | CallError::Refused { .. }
            | CallError::NotConnected { .. }
            | CallError::Busy { .. } => true,
            CallError::Broken { .. } | CallError::Timeout { .. } | CallError::Handler { .. } => {
                false
            }
        }
    }
}
