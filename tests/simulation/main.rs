//! A whole cluster in one process, on a simulated clock, network and disk, from one seed.
//!
//! ```text
//! cargo test --test simulation                      200 seeds, and some of them twice
//! cargo test --test simulation -- --seeds 1000..2000   these seeds, once
//! cargo test --test simulation -- --seed 17 --verbose  one seed, with what happens
//! cargo test --test simulation -- --seeds 0..5000 --results FILE --minutes 35
//!                                                   in parts: what held is not run again
//! ```
//!
//! With `SIMULATION_WITHOUT=sync` no sync does anything, with `=cache` the kernel never drops a page:
//! some seeds have to fail then.
//!
//! Promises: no-lost-ack, one-history, invisible-until-committed, one-primary, caught-up,
//! nothing-discarded, bounded-answer, readers-go-on, converges. Rules 1 to 20 ([`checker`] says what
//! is looked at; docs/testing.md which broken builds it sees).
#![allow(clippy::unwrap_used, clippy::cast_precision_loss)]
// It stands in for the C library, whose numbers have C's types.
#![allow(clippy::cast_sign_loss, clippy::cast_possible_wrap)]
// Composition, one step after another; and parts of the world that need nothing of it but the name.
#![allow(clippy::too_many_lines, clippy::unused_self)]

mod app;
mod checker;
mod comings;
mod driver;
mod faults;
mod grants;
mod kernel;
mod net;
mod node;
mod os;
mod report;
mod run;
mod vfs;

/// A line for people, whatever thread it comes from.
pub fn say(line: &str) {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}");
}

fn main() {
    driver::main();
}
