//! What every room may know: ids, positions, config types, the clock, and the traits by which a
//! lower room calls a higher one.
//!
//! Knows of nothing. No I/O.

pub mod clock;
pub mod config;
pub mod engine;
pub mod hex;
pub mod history;
pub mod ids;
pub mod members;
pub mod ports;
pub mod position;
pub mod transfer;

pub use clock::{Clock, SystemClock};
pub use hex::hex;
pub use ids::{Boot, DatabaseName, EntryId, Incarnation, NameError, NodeId, TransactionId};
pub use position::{Checksum, Position, Txid};
