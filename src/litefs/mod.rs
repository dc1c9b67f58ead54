//! The other engine: an unmodified LiteFS, supervised, and elected by our Raft group.
//!
//! LiteFS owns the mount and replicates its databases itself, asynchronously. This room starts it, keeps
//! it running, and answers what it would ask of Consul.
//!
//! What it promises:
//! - **one-primary**: the lease is in the replicated state; a renewal is confirmed by a quorum; it passes on
//!   only when the holder's process is known to be dead, or the holder must have given up by itself by the
//!   slowest of its clocks ([`timing`]). A daemon without a quorum makes its LiteFS stop ([`holding`]); one
//!   that is paused takes its LiteFS with it ([`guard`]).
//! - **caught-up**: the lease is given only to the node that the leader chose, after a majority said how far
//!   it is ([`choice`]).
//! - **nothing-discarded**: a LiteFS learns of a new primary only after its databases were compared with
//!   that primary's, and copied aside where they differ ([`gate`]).
//! - **bounded-answer**: LiteFS's calls have no time limit of their own; each is answered within a tenth of
//!   the lease's time, with the safe answer if there is no better one ([`facade`]).
//! - **no-open-door**: everything here listens on loopback alone; between nodes LiteFS's stream goes through
//!   the mesh ([`tunnel`]).
//! - **converges**: whatever ended is started again.
//!
//! ```text
//!   application -- mount -- LiteFS --- /v1/kv, /v1/session ---> facade --+
//!                             |                                          |  lease: raft, cluster
//!                             +--- http://127.0.0.1:PORT ---> tunnel     |
//!                                                               | mesh, mutual TLS
//!                                                               v
//!                                                       the primary's LiteFS
//! ```
//!
//! May know: `raft`, `mesh`, `cluster`; `store` for LiteFS's data folder.

mod application;
mod calls;
mod child;
mod choice;
mod client;
mod consul;
mod engine;
mod facade;
mod gate;
mod guard;
mod holding;
mod leader;
mod lease;
mod positions;
mod settings;
mod switchover;
mod timing;
mod tunnel;

pub use application::Application;
pub use engine::{Litefs, LitefsError, METHOD, Parts};
pub use guard::run as run_guard;
pub use positions::{Positions, Seen, holds_all_of};
pub use settings::Settings;
