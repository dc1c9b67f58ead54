//! What a seed says at its end: one line for people, one for the tables.

use std::fmt::Write;
use std::sync::atomic::Ordering;

use crate::app::COUNTS;
use crate::checker::Ledger;
use crate::faults::Faults;
use crate::net::NetCounts;
use crate::os::threads::{self, machine};

pub fn print(
    seed: u64,
    rows: usize,
    ledger: &Ledger,
    faults: &Faults,
    net: &NetCounts,
    ended: u64,
) {
    let machine = machine();
    let disk = &machine.disk.counts;
    let mut kinds = String::new();
    for (fault, count) in &faults.counts {
        let _ = write!(kinds, "\"{fault:?}\":{count},");
    }
    let more = [
        ("messages", net.messages),
        ("messages_lost", net.lost),
        ("messages_late", net.late),
        ("messages_doubled", net.doubled),
        ("messages_cut", net.cut),
        ("streams_broken", net.broken),
        ("syncs", disk.syncs),
        ("syncs_that_lied", disk.lies),
        ("syncs_failed", disk.failed_syncs),
        ("writes_lost", disk.lost_writes),
        ("writes_torn", disk.torn_writes),
        ("names_lost", disk.lost_names),
        ("refused_for_space", disk.full),
        ("ended_by_itself", ended),
        ("set_aside", ledger.aside),
        ("damaged", ledger.damaged.len() as u64),
        ("application_deaths", COUNTS.deaths.load(Ordering::Relaxed)),
        ("checkpoints", COUNTS.checkpoints.load(Ordering::Relaxed)),
        ("busy", COUNTS.busy.load(Ordering::Relaxed)),
        ("errors", COUNTS.errors.load(Ordering::Relaxed)),
        ("reader_busy", COUNTS.reader_busy.load(Ordering::Relaxed)),
        ("rolled_back", COUNTS.rolled_back.load(Ordering::Relaxed)),
        ("vacuums", COUNTS.vacuums.load(Ordering::Relaxed)),
        ("deletions", COUNTS.deletions.load(Ordering::Relaxed)),
        ("recordings_played", COUNTS.played.load(Ordering::Relaxed)),
        ("reads", ledger.reads),
        ("longest_gap_ms", ledger.longest_gap / 1_000_000),
        ("longest_stall_ms", COUNTS.longest.load(Ordering::Relaxed)),
    ];
    let mut counted = String::new();
    for (name, count) in more {
        let _ = write!(counted, "\"{name}\":{count},");
    }
    let (acknowledged, unknown, trace) = (ledger.acknowledged, ledger.unknown, machine.trace());
    let (seconds, switches) = (machine.now as f64 / 1e9, machine.switches);
    let all: u64 = faults.counts.values().sum();
    crate::say(&format!(
        "seed {seed}: {switches} steps, {acknowledged} acknowledged, {unknown} unknown, {rows} rows, \
         {all} faults, {seconds:.1} s, trace {trace:016x}"
    ));
    crate::say(&format!(
        "{{\"seed\":{seed},\"steps\":{switches},\"acknowledged\":{acknowledged},\
         \"unknown\":{unknown},\"lost\":0,\"duplicated\":0,\"rows\":{rows},{counted}\
         \"faults\":{{{}}},\"seconds\":{seconds:.3},\"trace\":\"{trace:016x}\"}}",
        kinds.trim_end_matches(',')
    ));
}

/// Where the log of the nodes goes, a line at a time.
#[derive(Default)]
pub struct Lines(Vec<u8>);

impl std::io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        let (at, node) = (machine().now as f64 / 1e9, threads::node());
        crate::say(&format!("{at:.6} n{node} {}", String::from_utf8_lossy(&self.0).trim_end()));
    }
}
