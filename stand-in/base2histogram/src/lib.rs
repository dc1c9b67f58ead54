//! Stands in for `base2histogram`: docs/decisions/no-histograms-in-openraft.md.
//!
//! openraft counts the sizes of its batches in histograms that are read by its feature
//! `runtime-stats` alone, which is off. The crate that it takes for them fills tables of 25 MB at
//! the first use, more than all the rest of a node. This one has the same names and keeps nothing.

use std::fmt;
use std::marker::PhantomData;

/// Takes values, and keeps none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Histogram<T = ()>(PhantomData<T>);

impl<T> Histogram<T> {
    #[must_use]
    pub fn new() -> Self {
        Self(PhantomData)
    }

    pub fn record(&mut self, _value: u64) {}

    pub fn record_n(&mut self, _value: u64, _times: u64) {}

    #[must_use]
    pub fn percentile_stats(&self) -> PercentileStats {
        PercentileStats::default()
    }
}

impl<T> Default for Histogram<T> {
    fn default() -> Self {
        Self::new()
    }
}

/// Of no samples.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PercentileStats {
    pub samples: u64,
    pub p0_1: u64,
    pub p1: u64,
    pub p5: u64,
    pub p10: u64,
    pub p50: u64,
    pub p90: u64,
    pub p99: u64,
    pub p99_9: u64,
}

impl fmt::Display for PercentileStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[not counted]")
    }
}

/// Draws nothing.
#[derive(Debug, Default)]
pub struct AsciiChart;

impl AsciiChart {
    #[must_use]
    pub fn new() -> Self {
        Self
    }

    #[must_use]
    pub fn add<T>(self, _name: &str, _histogram: Histogram<T>) -> Self {
        self
    }
}
