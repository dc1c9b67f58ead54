//! Raft nodes in one process, over the mesh on loopback.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod compaction;
mod elections;
mod replica;
mod staged;
mod world;
