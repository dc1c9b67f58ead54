//! The machine that the simulated cluster runs on: threads, clock, chance and disk, all in the hand
//! of one seed.
//!
//! The product is not changed for it. The symbols by which Rust's library and tokio reach the
//! operating system (`syscall` for futexes, `pthread_create`, `clock_gettime`, `nanosleep`,
//! `getrandom`, `pwrite64`, `fsync`, `rename`, ...) are defined in this program ([`symbols`]), as
//! madsim does it with the clock and with chance. Behind them exactly one thread runs at a time, and
//! which one, for how long, and what time it is then, is drawn from the seed ([`threads`]). So the
//! real threads of the product run, with their real locks, and run the same way each time.
//!
//! Each thread belongs to a node, or to the world (0). A node that is killed is a node whose threads
//! are never run again, wherever they are; one that is paused, likewise for a while.
//!
//! `unsafe`: the definitions of C functions, and state that the one running thread owns.

pub mod disk;
pub mod symbols;
pub mod threads;

/// Numbers from a seed (`SplitMix64`).
#[derive(Debug, Clone)]
pub struct Chance(u64);

impl Chance {
    pub fn new(seed: u64) -> Self {
        Self(seed ^ 0x9e37_79b9_7f4a_7c15)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `end`; 0 if that is 0.
    pub fn below(&mut self, end: u64) -> u64 {
        if end == 0 { 0 } else { self.next() % end }
    }

    pub fn between(&mut self, first: u64, end: u64) -> u64 {
        first + self.below(end.saturating_sub(first))
    }

    /// True once in `n` times.
    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> Option<&'a T> {
        of.get(self.below(of.len() as u64) as usize)
    }
}
