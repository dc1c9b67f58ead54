//! The part of the program's `core` room that `cluster` knows of, as it is.

#[path = "../../../src/core/history.rs"]
pub mod history;
#[path = "../../../src/core/ids.rs"]
pub mod ids;
#[path = "../../../src/core/position.rs"]
pub mod position;

pub use ids::{Boot, DatabaseName, EntryId, Incarnation, NameError, NodeId, TransactionId};
pub use position::{Checksum, Position, Txid};
