//! One seed: a cluster, its applications, its faults, and the end.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use litefs_py::core::NodeId;

use crate::app;
use crate::checker::Ledger;
use crate::faults::{Fault, Faults};
use crate::net::{Event, Life, Net};
use crate::node::{self, Sim, Up};
use crate::os::symbols::die;
use crate::os::threads::{self, machine};
use crate::os::{Chance, disk};
use crate::{report, vfs};

mod delivery;
mod ending;
mod plan;

const MILLI: u64 = 1_000_000;
const SECOND: u64 = 1_000_000_000;
/// A node not reached for so long is given up by the others.
const SILENT: u64 = 1_500 * MILLI;
const LOOK: u64 = 100 * MILLI;

/// What the world is to do at some time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Do {
    Fault,
    Look,
    Calm,
    Quiet,
    Start(usize),
    GoOn(usize),
    Tell(usize),
    DiskWell(usize),
    Join(usize, usize),
    Died(usize, usize),
}

impl Do {
    fn code(self) -> u64 {
        let (what, a, b) = match self {
            Do::Fault => (1, 0, 0),
            Do::Look => (2, 0, 0),
            Do::Calm => (3, 0, 0),
            Do::Quiet => (4, 0, 0),
            Do::Start(a) => (5, a, 0),
            Do::GoOn(a) => (6, a, 0),
            Do::Tell(a) => (7, a, 0),
            Do::DiskWell(a) => (8, a, 0),
            Do::Join(a, b) => (9, a, b),
            Do::Died(a, b) => (10, a, b),
        };
        what | (a as u64) << 8 | (b as u64) << 16
    }

    fn of(code: u64) -> Self {
        let (a, b) = ((code >> 8 & 0xff) as usize, (code >> 16 & 0xff) as usize);
        match code & 0xff {
            1 => Do::Fault,
            2 => Do::Look,
            3 => Do::Calm,
            4 => Do::Quiet,
            5 => Do::Start(a),
            6 => Do::GoOn(a),
            7 => Do::Tell(a),
            8 => Do::DiskWell(a),
            9 => Do::Join(a, b),
            _ => Do::Died(a, b),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Status {
    Runs,
    Down,
    /// It lost what its disk had promised: it stays away.
    Damaged,
}

struct World {
    seed: u64,
    sim: Arc<Sim>,
    status: Vec<Status>,
    lives: Vec<u64>,
    faults: Faults,
    calm: bool,
    /// Since when a node cannot reach another.
    out_of_reach: BTreeMap<(usize, usize), u64>,
    given_up: BTreeMap<(usize, usize), bool>,
    /// The one node of the run whose disk may lie.
    liar: Option<usize>,
    /// Its disk had a fault in this life: its program may end by itself.
    excused: Vec<bool>,
    ended: u64,
    verbose: bool,
}

/// Runs a seed; ends the process.
pub fn run(seed: u64, base: &Path, verbose: bool) -> ! {
    threads::begin(seed);
    vfs::register(seed);
    let mut chance = Chance::new(seed.wrapping_mul(77));
    let (plan, work) = plan::plan(&mut chance, base);
    for node in 1..=plan.nodes {
        // As `node::data_folder` makes them, durably.
        for part in ["raft", "staged", "dbs", "aside"] {
            std::fs::create_dir_all(base.join(format!("n{node}")).join(part)).unwrap();
        }
    }
    std::fs::create_dir_all(base.join("graves")).unwrap();
    machine().disk.follow(base);
    machine().disk.tells = verbose;
    // The harness is to see what is missing.
    match std::env::var("SIMULATION_WITHOUT").as_deref() {
        Ok("sync") => machine().disk.deaf = true,
        Ok("cache") => crate::kernel::DEAF.store(true, Ordering::Relaxed),
        _ => {}
    }
    if verbose {
        let log = tracing_subscriber::fmt().without_time().with_ansi(false);
        log.with_writer(report::Lines::default).init();
        crate::say(&format!("{plan:?}\n{work:?}"));
    }
    let net = Net::default();
    net.inner().usual = *chance.pick(&[300_000, 2_000_000, 10_000_000]).unwrap();
    let nodes = plan.nodes;
    let sim = Arc::new(Sim {
        plan,
        work,
        net,
        ledger: Mutex::new(Ledger::new(seed)),
        up: Mutex::default(),
    });
    sim.ledger.lock().unwrap().tells = verbose;
    let lasts = (5 + chance.below(7)) * SECOND;
    let mut world = World {
        seed,
        status: vec![Status::Down; nodes + 1],
        lives: vec![0; nodes + 1],
        faults: Faults::new(&mut chance),
        calm: false,
        out_of_reach: BTreeMap::new(),
        given_up: BTreeMap::new(),
        liar: chance.one_in(3).then(|| 1 + chance.below(nodes as u64) as usize),
        excused: vec![false; nodes + 1],
        ended: 0,
        verbose,
        sim,
    };
    for node in 1..=nodes {
        world.start(node);
    }
    world.after(2 * SECOND, Do::Fault);
    world.after(LOOK, Do::Look);
    world.after(lasts, Do::Calm);
    world.go_on_until_the_end()
}

impl World {
    fn after(&self, time: u64, what: Do) {
        self.sim.net.at(machine().now + time, Event::Run(what.code()));
    }

    fn tell(&self, what: &str) {
        if self.verbose {
            crate::say(&format!("{:.6} {what}", machine().now as f64 / 1e9));
        }
    }

    fn go_on_until_the_end(&mut self) -> ! {
        loop {
            self.see_who_ended();
            match self.sim.net.due() {
                Ok(event) => self.event(event),
                Err(next) => {
                    threads::wait(0, next);
                }
            }
        }
    }

    fn nodes(&self) -> std::ops::RangeInclusive<usize> {
        1..=self.sim.plan.nodes
    }

    /// A node whose threads can take something now.
    fn up(&self, node: usize) -> Option<Up> {
        let it = &machine().nodes[node];
        if it.paused || it.ended.is_some() {
            return None;
        }
        self.sim.up.lock().unwrap().get(&node).cloned()
    }

    fn is_paused(&self, node: usize) -> bool {
        machine().nodes[node].paused
    }

    // ---- nodes --------------------------------------------------------------------------------

    fn start(&mut self, node: usize) {
        if self.status[node] != Status::Down {
            return;
        }
        self.lives[node] += 1;
        self.status[node] = Status::Runs;
        let health = &machine().disk.health[node];
        self.excused[node] = health.full || health.fails;
        let life = Life { node, life: self.lives[node] };
        self.tell(&format!("n{node} starts, life {}", life.life));
        node::start(&self.sim, life);
        for other in self.nodes() {
            self.out_of_reach.remove(&(other, node));
            self.after(30 * MILLI, Do::Join(other, node));
        }
    }

    fn kill(&mut self, node: usize, power: bool) {
        if self.status[node] != Status::Runs {
            return;
        }
        self.status[node] = Status::Down;
        self.sim.ledger.lock().unwrap().gives_up();
        threads::kill(node);
        if let Some(up) = self.sim.up.lock().unwrap().remove(&node) {
            std::mem::forget(up);
        }
        for (receiver, frame) in self.sim.net.gone(node) {
            // Who is paused finds out by the silence.
            let asleep = self.nodes().any(|node| self.is_paused(node));
            if asleep || power {
                std::mem::forget(receiver);
            } else {
                let _gone = receiver.send(frame);
            }
        }
        if power {
            let owes = machine().disk.owes(node);
            let mut chance = machine().chance.clone();
            machine().disk.power_loss(node, &mut chance);
            machine().chance = chance;
            if owes {
                self.tell(&format!("n{node} lost what its disk had promised: it stays away"));
                self.status[node] = Status::Damaged;
                self.sim.ledger.lock().unwrap().damaged.insert(node);
            }
        } else {
            for other in self.nodes().filter(|other| *other != node) {
                self.after(MILLI, Do::Died(other, node));
            }
        }
    }

    fn see_who_ended(&mut self) {
        for node in self.nodes() {
            let Some(code) = machine().nodes[node].ended else { continue };
            self.tell(&format!("n{node} ended by itself: {code}"));
            if code != 0 {
                self.ended += 1;
                if !self.excused[node] {
                    let why = format!("seed {}: n{node} ended by itself: {code}", self.seed);
                    die(&why, 1);
                }
            }
            self.kill(node, false);
            let pause = machine().chance.between(200, 1_500) * MILLI;
            self.after(pause, Do::Start(node));
        }
    }

    fn leader(&self) -> Option<usize> {
        self.nodes()
            .find(|node| self.up(*node).is_some_and(|up| up.raft.leadership().borrow().me_leading))
    }

    // ---- what happens ---------------------------------------------------------------------------

    fn act(&mut self, what: Do) {
        match what {
            Do::Fault => {
                if !self.calm {
                    self.fault();
                    let pause = machine().chance.between(100, 1_200) * MILLI;
                    self.after(pause, Do::Fault);
                }
            }
            Do::Look => {
                self.look();
                self.after(LOOK, Do::Look);
            }
            Do::Calm => self.calm(),
            Do::Quiet => {
                self.tell("quiet");
                app::QUIET.store(1, Ordering::Relaxed);
                self.converge();
            }
            Do::Start(node) => self.start(node),
            Do::GoOn(node) => {
                if self.is_paused(node) {
                    self.tell(&format!("n{node} goes on"));
                    threads::go_on(node);
                }
            }
            Do::Tell(node) => machine().disk.tell(node),
            Do::DiskWell(node) => {
                let health = &mut machine().disk.health[node];
                *health = disk::Health { lies: health.lies, ..disk::Health::default() };
            }
            Do::Join(a, b) => {
                if let Some(up) = self.up(a).filter(|_| a != b && self.reaches(a, b)) {
                    let raft = Arc::clone(&up.raft);
                    up.runtime.spawn(async move { raft.peer_came_back(NodeId(b as u64)) });
                }
            }
            Do::Died(a, b) => {
                if let Some(up) = self.up(a).filter(|_| self.status[b] == Status::Down)
                    && !self.sim.net.is_cut(a, b)
                    && !self.sim.net.is_cut(b, a)
                {
                    let (raft, arbiter) = (Arc::clone(&up.raft), Arc::clone(&up.arbiter));
                    up.runtime.spawn(async move {
                        arbiter.node_lost(NodeId(b as u64));
                        raft.peer_died(NodeId(b as u64));
                    });
                }
            }
        }
    }

    fn reaches(&self, a: usize, b: usize) -> bool {
        let net = &self.sim.net;
        self.status[b] == Status::Runs
            && !self.is_paused(b)
            && !net.is_cut(a, b)
            && !net.is_cut(b, a)
    }

    /// Who has been silent for too long, and who is back; and where the databases stand.
    fn look(&mut self) {
        let now = machine().now;
        for a in self.nodes() {
            for b in self.nodes().filter(|b| *b != a) {
                if self.reaches(a, b) {
                    if self.out_of_reach.remove(&(a, b)).is_some() {
                        self.given_up.remove(&(a, b));
                        self.after(MILLI, Do::Join(a, b));
                    }
                    continue;
                }
                let since = *self.out_of_reach.entry((a, b)).or_insert(now);
                if now - since >= SILENT
                    && self.given_up.insert((a, b), true).is_none()
                    && let Some(up) = self.up(a)
                {
                    self.sim.ledger.lock().unwrap().gives_up();
                    let arbiter = Arc::clone(&up.arbiter);
                    up.runtime.spawn(async move { arbiter.node_lost(NodeId(b as u64)) });
                }
            }
            if let Some(up) = self.up(a) {
                let (sim, databases) = (Arc::clone(&self.sim), Arc::clone(&up.databases));
                up.runtime.spawn(async move {
                    for database in databases.all() {
                        let position = database.store().position();
                        if let Some(life) = database.incarnation() {
                            let name = database.name.to_string();
                            let (txid, checksum) = (position.txid.0, position.checksum.0);
                            sim.ledger.lock().unwrap().stands(a, &name, life.0, txid, checksum);
                        }
                    }
                });
            }
        }
    }

    fn fault(&mut self) {
        let chance = &mut machine().chance;
        let fault = self.faults.next(chance);
        let nodes = self.sim.plan.nodes as u64;
        let one = match self.leader() {
            // The leader is worth the most trouble.
            Some(leader) if chance.one_in(2) => leader,
            _ => 1 + chance.below(nodes) as usize,
        };
        let other = 1 + chance.below(nodes) as usize;
        self.tell(&format!("{fault:?} n{one}"));
        let net = self.sim.net.clone();
        match fault {
            Fault::CutOff => {
                for other in self.nodes().filter(|other| *other != one) {
                    net.cut(one, other, true);
                    net.cut(other, one, true);
                }
            }
            Fault::OneWay => net.cut(one, other, one != other),
            Fault::Heal => {
                net.heal();
                let mut inner = net.inner();
                (inner.loses, inner.delays, inner.doubles) = (0, 0, 0);
            }
            Fault::Loses => net.inner().loses = chance.between(10, 200),
            Fault::Delays => net.inner().delays = chance.between(5, 50),
            Fault::Doubles => net.inner().doubles = chance.between(5, 50),
            Fault::Kill | Fault::PowerLoss => {
                if self.status[one] == Status::Runs {
                    let pause = chance.between(50, 3_000) * MILLI;
                    self.kill(one, fault == Fault::PowerLoss);
                    self.after(pause, Do::Start(one));
                }
            }
            Fault::AllPowerLoss => {
                for node in self.nodes() {
                    self.kill(node, true);
                    let pause = machine().chance.between(50, 2_000) * MILLI;
                    self.after(pause, Do::Start(node));
                }
            }
            Fault::Restart => {
                if let Some(up) = self.up(one)
                    && let Some(stop) = up.stop.lock().unwrap().take()
                {
                    let _gone = stop.send(());
                }
            }
            Fault::Pause => {
                if self.status[one] == Status::Runs && !self.is_paused(one) {
                    threads::pause(one);
                    self.after(chance.between(20, 3_000) * MILLI, Do::GoOn(one));
                }
            }
            Fault::DiskFull | Fault::DiskSlow | Fault::SyncFails => {
                let health = &mut machine().disk.health[one];
                match fault {
                    Fault::DiskFull => health.full = true,
                    Fault::SyncFails => health.fails = true,
                    _ => health.slow = chance.between(5, 120) * MILLI,
                }
                self.excused[one] |= fault != Fault::DiskSlow;
                self.after(chance.between(200, 2_000) * MILLI, Do::DiskWell(one));
            }
            Fault::Lies => {
                if let Some(liar) = self.liar {
                    let health = &mut machine().disk.health[liar];
                    health.lies = !health.lies;
                    self.after(chance.between(100, 3_000) * MILLI, Do::Tell(liar));
                }
            }
            Fault::ClockJumps => {
                let jump = chance.below(7_200 * SECOND) as i64 - 3_600 * SECOND as i64;
                machine().nodes[one].wall = jump;
            }
            Fault::Switchover => {
                if let Some(up) = self.leader().and_then(|leader| self.up(leader)) {
                    let raft = Arc::clone(&up.raft);
                    up.runtime.spawn(async move {
                        let _handed = raft.transfer_leadership(NodeId(other as u64)).await;
                    });
                }
            }
        }
    }

    /// No more faults.
    fn calm(&mut self) {
        self.tell("calm");
        self.calm = true;
        self.sim.net.heal();
        {
            let mut inner = self.sim.net.inner();
            (inner.loses, inner.delays, inner.doubles) = (0, 0, 0);
        }
        for node in self.nodes() {
            machine().disk.health[node] = disk::Health::default();
            machine().disk.tell(node);
            if self.is_paused(node) {
                threads::go_on(node);
            }
            self.start(node);
        }
        self.after(1_500 * MILLI, Do::Quiet);
    }
}
