//! Mutual TLS between the nodes: one port, streams told apart by purpose.
//!
//! What it is for: calls with an answer ([`Mesh::call`]), streams of frames ([`Mesh::connect`]),
//! and the news that another node's process died ([`Mesh::peer_events`]).
//!
//! What it promises:
//! - **no-open-door**: nothing gets past the handshake without a certificate of this cluster's CA
//!   that names a configured member. The dialer checks the name too, whatever the address.
//! - **bounded-answer**: connecting, the handshake, a frame that began, a write that the other
//!   side does not read, and a call all end within a known time. The caller bounds only the wait
//!   for a frame that has not begun ([`FrameReceiver::recv`]).
//!
//! Who is no member yet comes through a door of its own ([`JoinHandler`]), by a token.
//!
//! # One connection
//! 1. TCP, without delay (Nagle), with a bound on unacknowledged bytes.
//! 2. TLS 1.3; ALPN says the [`Purpose`]; both sides show a certificate whose only DNS name is
//!    `<node>.<cluster>.litefs.internal`.
//! 3. The dialer's hello frame: version, its own id, the id it means to reach; the listener's
//!    answer: version and verdict.
//! 4. Frames both ways: a length (4 bytes, big-endian), then that many bytes.
//!
//! Knows only `core`.

mod backoff;
mod ca;
mod calls;
mod durable;
mod error;
mod frame;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod handler;
mod handshake;
mod join;
mod keeper;
mod listen;
mod members;
mod names;
mod node;
mod purpose;
mod quiet;
mod serve;
mod socket;
#[cfg(test)]
mod tests;
mod tls;
mod token;
mod wire;

pub use ca::{
    Ca, CaError, Identity, certificate_expires, read_ca_certificate, request_certificate,
    write_private, write_public,
};
pub use error::{CallError, MeshError, Rejection};
pub use frame::{Connection, FrameError, FrameReceiver, FrameSender};
pub use handler::{Handlers, NoStreams, RpcHandler, StreamHandler};
pub use join::{
    Admission, CLOCK_OFF, JoinAnswer, JoinError, JoinHandler, JoinRequest, Member, NoJoins,
    ask_to_join,
};
pub use keeper::{PeerEvent, PeerEventKind};
pub use listen::Listening;
pub use members::Peer;
pub use names::IdentityNameError;
pub use node::{Mesh, MeshConfig};
pub use purpose::Purpose;
pub use quiet::Quiet;
pub use tls::is_signed_by;
pub use token::{JoinToken, TokenError, ca_sha256, secret_sha256};
