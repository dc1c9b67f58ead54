//! Power loss: a node's data folder on a disk that forgets what was not synced.
//!
//! - [`disk`]: what a power loss may leave, as a model without I/O.
//! - [`rack`]: such disks as a FUSE file system.
//! - [`cuts`]: a run is recorded once, and cut after each of its operations.
//! - [`store`], [`install`], [`raft`], [`staged`], [`folder`]: the code that keeps files, each cut everywhere.
//! - [`cluster`] and [`nodes`]: three daemons, whose power goes at random.
//!
//! `POWER_LOSS_THOROUGH=1` takes more tears, and double faults at every operation.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod cluster;
mod cuts;
mod disk;
mod folder;
mod install;
mod nodes;
mod rack;
mod raft;
mod staged;
mod store;
mod transactions;
