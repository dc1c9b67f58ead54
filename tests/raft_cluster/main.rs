//! Raft nodes in one process, over the mesh on loopback.

mod compaction;
mod elections;
mod replica;
mod staged;
mod world;
