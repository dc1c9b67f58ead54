//! What kind of cluster and which work a seed has.

use std::path::Path;
use std::time::Duration;

use litefs_py::commit::Settings;
use litefs_py::raft::Compaction;

use super::MILLI;
use crate::app::Work;
use crate::node::Plan;
use crate::os::Chance;

pub fn plan(chance: &mut Chance, base: &Path) -> (Plan, Work) {
    let nodes = if chance.one_in(8) { 5 } else { 3 };
    let rollback = chance.one_in(4);
    let settings = Settings {
        turn_to_wal: !rollback,
        staged_above: *chance.pick(&[8 << 10, 32 << 10, 1 << 20]).unwrap(),
        checkpoint_frames: *chance.pick(&[20, 100, 1000]).unwrap(),
        commit_timeout: Duration::from_millis(*chance.pick(&[1_500, 4_000, 15_000]).unwrap()),
        ..Settings::default()
    };
    let after = *chance.pick(&[16 << 10, 64 << 10, 1 << 20]).unwrap();
    let compaction = Compaction { after, keep: after / 4, most: after * 4 };
    let plan = Plan {
        nodes,
        settings,
        compaction,
        segment: *chance.pick(&[32 << 10, 128 << 10]).unwrap(),
        workers: *chance.pick(&[0, 0, 1, 2]).unwrap(),
        base: base.to_owned(),
    };
    let databases = if chance.one_in(4) { 2 } else { 1 };
    let work = Work {
        databases: ["app.db", "two.db"][..databases].iter().map(|&name| name.into()).collect(),
        writers: 1 + u64::from(chance.one_in(3)),
        readers: 1,
        journal: if rollback {
            chance.pick(&["delete", "truncate", "persist"]).unwrap()
        } else {
            "wal"
        },
        pause: *chance.pick(&[20 * MILLI, 100 * MILLI, 400 * MILLI]).unwrap(),
        large: *chance.pick(&[4, 12, 40]).unwrap(),
        synchronous: chance.pick(&["off", "normal", "full"]).unwrap(),
        plays: rollback && chance.one_in(2),
        scratches: chance.one_in(3),
    };
    (plan, work)
}
