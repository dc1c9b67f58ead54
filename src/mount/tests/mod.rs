//! The real mount, driven by stock SQLite, over plain local files: no replication.
//!
//! They want /dev/fuse and the right to mount; without, each prints that it was skipped.

mod cost;
mod fixture;
mod folder;
mod local;
mod locks;
mod session;
mod sqlite;
