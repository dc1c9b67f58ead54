//! The HTTP API: health checks, metrics, administration, as Patroni's users know it.
//!
//! Promises:
//! - no-open-door: off loopback only the health endpoints answer without the bearer token (and
//!   `/metrics` by setting). On loopback what only reads is open, and `POST /barrier`, which
//!   changes nothing. What changes anything, such as `POST /switchover`, and what gives a database
//!   away, needs the token or the Unix socket. The socket's mode is 0660: whoever opens it is root or
//!   of its group.
//! - bounded-answer: each request has a time in which it is answered, each connection one in which
//!   its request must have arrived, and there are only so many connections.
//!
//! Knows of the engine's face in `core`; nothing else.

mod access;
mod admin;
mod answer;
mod data;
mod health;
mod members;
mod metrics;
mod openapi;
mod process;
mod server;
mod settings;
mod socket;
mod transfer;

#[cfg(test)]
pub(crate) mod fake;
#[cfg(test)]
mod tests;

pub use openapi::document;
pub use server::{ApiError, Options, Serving, serve};
pub use socket::{ShortPath, bind_socket};
pub use transfer::POSITION;
