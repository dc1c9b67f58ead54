//! What goes wrong, and when, of one seed.

use std::collections::BTreeMap;

use crate::os::Chance;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// Nothing passes between a node and the others, for a while.
    CutOff,
    /// Nothing passes from one node to another; the other way it does.
    OneWay,
    /// The process is killed; what it wrote is there.
    Kill,
    /// The machine is off: what was not synced may be gone.
    PowerLoss,
    /// The same of all nodes at once.
    AllPowerLoss,
    /// A clean stop, and a start.
    Restart,
    /// The process is stopped, and goes on.
    Pause,
    Loses,
    Delays,
    Doubles,
    DiskFull,
    DiskSlow,
    SyncFails,
    Lies,
    ClockJumps,
    /// Leadership is handed over.
    Switchover,
    /// The network is whole again.
    Heal,
}

use Fault::{
    AllPowerLoss, ClockJumps, CutOff, Delays, DiskFull, DiskSlow, Doubles, Heal, Kill, Lies, Loses,
    OneWay, Pause, PowerLoss, Restart, Switchover, SyncFails,
};

/// Each with its weight. A seed leaves some of them out.
const ALL: [(Fault, u64); 17] = [
    (CutOff, 6),
    (OneWay, 5),
    (Kill, 6),
    (PowerLoss, 5),
    (AllPowerLoss, 1),
    (Restart, 2),
    (Pause, 6),
    (Loses, 3),
    (Delays, 3),
    (Doubles, 2),
    (DiskFull, 2),
    (DiskSlow, 2),
    (SyncFails, 1),
    (Lies, 2),
    (ClockJumps, 2),
    (Switchover, 3),
    (Heal, 4),
];

pub struct Faults {
    chosen: Vec<Fault>,
    pub counts: BTreeMap<Fault, u64>,
}

impl Faults {
    pub fn new(chance: &mut Chance) -> Self {
        let mut chosen = Vec::new();
        for (fault, weight) in ALL {
            if fault == Heal || chance.below(3) > 0 {
                chosen.extend((0..weight).map(|_| fault));
            }
        }
        Self { chosen, counts: BTreeMap::new() }
    }

    pub fn next(&mut self, chance: &mut Chance) -> Fault {
        let fault = chance.pick(&self.chosen).copied().unwrap_or(Heal);
        *self.counts.entry(fault).or_default() += 1;
        fault
    }
}
