//! litefs-py: SQLite on more than one machine.
//!
//! One room a module; docs/architecture.md draws them. Arrows point down: a room knows only of
//! rooms below it in this list.
#![deny(unsafe_code)]

pub mod api;
pub mod capture;
pub mod cli;
pub mod cluster;
pub mod commit;
pub mod core;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
pub mod litefs;
pub mod locks;
pub mod ltx;
pub mod mesh;
pub mod mount;
pub mod node;
pub mod raft;
pub mod sqlite;
pub mod store;
