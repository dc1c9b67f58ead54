//! The write path: lock, propose, wait, answer.

pub mod door;
