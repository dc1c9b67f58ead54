//! Holds the house together: which room may know which, which crate stands in which room, where
//! `unsafe` is, what the pure rooms keep away from, and that each rule and promise of the engine
//! is named by the code that keeps it and by a test.
//!
//! It reads the source as tokens, not as Rust: paths after `use`, paths in code, comments. What
//! only tests see (`#[cfg(test)]`) may look anywhere.

#![allow(clippy::unwrap_used, clippy::panic)]

mod arrows;
mod names;
mod source;
mod tokens;
mod walls;
