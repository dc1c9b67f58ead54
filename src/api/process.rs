//! What this process uses, as every Prometheus client tells it: `process_*`, from `/proc` (proc(5)).

use std::fs;

/// Numbers that could be read.
#[derive(Debug, Default)]
pub(super) struct Process {
    pub cpu_seconds: Option<f64>,
    /// Since 1970.
    pub start_seconds: Option<f64>,
    pub resident_bytes: Option<u64>,
    pub virtual_bytes: Option<u64>,
    pub threads: Option<u64>,
    pub open_files: Option<u64>,
    pub most_files: Option<u64>,
}

/// The fields of `/proc/self/stat` after the name, which is in parentheses; their numbers in proc(5)
/// are greater by 3.
const UTIME: usize = 11;
const STIME: usize = 12;
const THREADS: usize = 17;
const START: usize = 19;
const VSIZE: usize = 20;
const RSS: usize = 21;

impl Process {
    pub fn look() -> Self {
        let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
        let fields: Vec<&str> =
            stat.rsplit_once(") ").map(|(_, rest)| rest.split(' ').collect()).unwrap_or_default();
        let field = |number: usize| fields.get(number)?.parse::<u64>().ok();
        let ticks = rustix::param::clock_ticks_per_second();
        let seconds = |count: u64| to_float(count) / to_float(ticks);
        let resources = rustix::process::getrlimit(rustix::process::Resource::Nofile);
        Self {
            cpu_seconds: field(UTIME)
                .zip(field(STIME))
                .map(|(user, system)| seconds(user + system)),
            start_seconds: booted()
                .zip(field(START))
                .map(|(booted, start)| to_float(booted) + seconds(start)),
            resident_bytes: field(RSS).map(|pages| pages * rustix::param::page_size() as u64),
            virtual_bytes: field(VSIZE),
            threads: field(THREADS),
            open_files: fs::read_dir("/proc/self/fd").ok().map(|files| files.count() as u64),
            most_files: resources.current,
        }
    }
}

/// When the machine was booted: seconds since 1970.
fn booted() -> Option<u64> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

/// Metrics are floats; what is exact up to 2^53 is exact enough.
#[allow(clippy::cast_precision_loss)]
pub(super) fn to_float(number: u64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{SystemTime, UNIX_EPOCH};

    #[test]
    fn this_process_is_seen() {
        let process = Process::look();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
        let age = now - process.start_seconds.unwrap();
        assert!((-2.0..86_400.0).contains(&age), "{age}");
        assert!(process.cpu_seconds.unwrap() < 100_000.0);
        assert!(process.resident_bytes.unwrap() > 1 << 20);
        assert!(process.virtual_bytes.unwrap() >= process.resident_bytes.unwrap());
        assert!(process.threads.unwrap() >= 1 && process.open_files.unwrap() >= 3);
        assert!(process.most_files.is_none_or(|most| most >= process.open_files.unwrap()));
    }
}
