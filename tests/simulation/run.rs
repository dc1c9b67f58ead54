//! One seed: a cluster, its applications, its faults, and the end.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use litefs_py::commit::{METHOD, Settings};
use litefs_py::core::{DatabaseName, NodeId};
use litefs_py::raft::Compaction;
use litefs_py::raft::links::LinkError;

use crate::app::{self, Work};
use crate::checker::Ledger;
use crate::faults::{Fault, Faults};
use crate::grants::{self, Request};
use crate::net::{Event, Life, Net};
use crate::node::{self, Plan, Sim, Up};
use crate::os::symbols::die;
use crate::os::threads::{self, machine};
use crate::os::{Chance, disk};
use crate::{report, vfs};

const MILLI: u64 = 1_000_000;
const SECOND: u64 = 1_000_000_000;
/// After the faults, all nodes have come to the same within this.
const CONVERGES: u64 = 30 * SECOND;
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
    /// When a node was last given up, or died.
    lately: u64,
    /// The one node of the run whose disk may lie.
    liar: Option<usize>,
    /// Its disk had a fault in this life: its program may end by itself.
    excused: Vec<bool>,
    ended: u64,
    verbose: bool,
}

fn plan(chance: &mut Chance, base: &Path) -> (Plan, Work) {
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
    };
    (plan, work)
}

/// Runs a seed; ends the process.
pub fn run(seed: u64, base: &Path, verbose: bool) -> ! {
    threads::begin(seed);
    vfs::register(seed);
    let mut chance = Chance::new(seed.wrapping_mul(77));
    let (plan, work) = plan(&mut chance, base);
    for node in 1..=plan.nodes {
        // As `node::data_folder` makes them, durably.
        for part in ["raft", "staged", "dbs", "aside"] {
            std::fs::create_dir_all(base.join(format!("n{node}")).join(part)).unwrap();
        }
    }
    std::fs::create_dir_all(base.join("graves")).unwrap();
    machine().disk.follow(base);
    machine().disk.tells = verbose;
    if verbose {
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
        lately: 0,
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

    fn event(&mut self, event: Event) {
        let later = machine().now + 20 * MILLI;
        let net = self.sim.net.clone();
        match event {
            Event::Run(code) => self.act(Do::of(code)),
            Event::Request { to, .. } | Event::Open { to, .. } if self.is_paused(to) => {
                net.at(later, event);
            }
            Event::Answer { to, .. } if self.is_paused(to.node) => net.at(later, event),
            Event::Request { from, to, method, request, call } => {
                if net.is_cut(from.node, to) {
                    net.inner().counts.cut += 1;
                    return;
                }
                let Some(up) = self.up(to) else {
                    if self.lives[to] > 0 && self.status[to] == Status::Down {
                        let why = "nobody is there".to_owned();
                        let error = Err(LinkError { why, unreachable: true });
                        net.answers(to, from, call, error);
                    }
                    return;
                };
                let calls = Arc::clone(&up.calls);
                let asked = (method == METHOD).then(|| grants::request(&request)).flatten();
                if self.verbose
                    && let Some(asked) = &asked
                {
                    self.tell(&format!("n{} to n{to}: {asked:?}", from.node));
                }
                match &asked {
                    Some(Request::Unlock { term, database, ticket }) => {
                        self.released(*term, database, from.node, grants::number(*ticket));
                    }
                    // Who asks anew has thereby given up what it had by an older ticket.
                    Some(Request::Lock { term, database, ticket }) => {
                        self.released(*term, database, from.node, grants::number(*ticket) - 1);
                    }
                    _ => {}
                }
                let free = self.given_up.keys().any(|(by, _)| *by == to)
                    || self.lately + 3 * SECOND > machine().now;
                let sim = Arc::clone(&self.sim);
                up.runtime.spawn(async move {
                    let id = NodeId(from.node as u64);
                    let answer = calls.call(id, method, request).await;
                    if let (Some(Request::Lock { term, database, ticket }), Ok(answer)) =
                        (asked, &answer)
                        && grants::is_granted(answer)
                    {
                        let (name, ticket) = (database.as_str(), grants::number(ticket));
                        let mut ledger = sim.ledger.lock().unwrap();
                        ledger.granted(term, name, from.node, ticket, free);
                    }
                    net.answers(to, from, call, answer.map_err(LinkError::new));
                });
            }
            Event::Answer { to, from, call, answer } => {
                let sender = net.caller(call);
                let alive = self.up(to.node).is_some_and(|up| up.life == to)
                    || self.lives[to.node] == to.life && self.status[to.node] == Status::Runs;
                match sender {
                    Some(sender) if alive && !net.is_cut(from, to.node) => {
                        let _gone = sender.send(answer);
                    }
                    Some(sender) if !alive => std::mem::forget(sender),
                    Some(sender) => drop(sender),
                    None => {}
                }
            }
            Event::Open { from, to, purpose, stream } => {
                if net.is_cut(from.node, to) || net.is_cut(to, from.node) {
                    return;
                }
                if self.lives[from.node] != from.life || self.status[from.node] != Status::Runs {
                    return;
                }
                if self.is_paused(from.node) {
                    return net.at(later, Event::Open { from, to, purpose, stream });
                }
                let Some(up) = self.up(to) else {
                    if let Some(opened) = net.refuses(stream) {
                        let why = "nobody is there".to_owned();
                        let _gone = opened.send(Err(LinkError { why, unreachable: true }));
                    }
                    return;
                };
                let Some((other, opened)) = net.accepts(stream, up.life) else { return };
                let calls = Arc::clone(&up.calls);
                up.runtime.spawn(async move {
                    calls.stream(NodeId(from.node as u64), purpose, other).await;
                });
                let _gone = opened.send(Ok(()));
            }
            Event::Frames { stream, there } => {
                if let Some(ends) = net.ends(stream)
                    && (self.is_paused(ends.0) || self.is_paused(ends.1))
                {
                    return net.at(later, Event::Frames { stream, there });
                }
                let mut gone = false;
                for (receiver, frame) in net.frames(stream, there) {
                    gone |= receiver.send(frame).is_err();
                }
                if gone {
                    for (receiver, frame) in net.breaks(stream) {
                        let _gone = receiver.send(frame);
                    }
                }
            }
        }
    }

    fn released(&self, term: u64, database: &DatabaseName, node: usize, ticket: u64) {
        self.sim.ledger.lock().unwrap().released(term, database.as_str(), node, ticket);
    }

    // ---- nodes --------------------------------------------------------------------------------

    fn start(&mut self, node: usize) {
        if self.status[node] != Status::Down {
            return;
        }
        self.lives[node] += 1;
        self.status[node] = Status::Runs;
        self.excused[node] = machine().disk.health[node].full;
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
        self.lately = machine().now;
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
                    self.lately = now;
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

    /// Waits until all that run show the same, and ends the run.
    fn converge(&mut self) -> ! {
        let deadline = machine().now + CONVERGES;
        let mut next_look = machine().now + 500 * MILLI;
        loop {
            self.see_who_ended();
            let now = machine().now;
            if now >= next_look {
                next_look = now + 400 * MILLI;
                match self.compare() {
                    Ok(lists) => self.end(&lists),
                    Err(why) if machine().now > deadline => {
                        self.tell_positions();
                        die(&format!("seed {}: converges: {why}", self.seed), 1);
                    }
                    Err(_) => continue,
                }
            }
            match self.sim.net.due() {
                Ok(event) => self.event(event),
                Err(next) => {
                    threads::wait(0, Some(next.unwrap_or(next_look).min(next_look)));
                }
            }
        }
    }

    fn tell_positions(&self) {
        for node in self.nodes() {
            let Some(up) = self.up(node) else { continue };
            for database in up.databases.all() {
                let status = up.raft.status();
                crate::say(&format!(
                    "n{node} {}: stands at {}, head {}, {} behind, writer {:?}, {:?} applied {:?}",
                    database.name,
                    database.store().position(),
                    database.store().head(),
                    database.behind(),
                    database.writer_pid(),
                    status.role,
                    status.applied
                ));
            }
        }
    }

    /// Reads every database on every node.
    fn compare(&mut self) -> Result<BTreeMap<String, Vec<u64>>, String> {
        type Read = Result<(Vec<u64>, u64), String>;
        let names = self.sim.work.databases.clone();
        let results: Arc<Mutex<BTreeMap<(String, usize), Read>>> = Arc::default();
        let mut asked = 0;
        for node in self.nodes().filter(|node| self.status[*node] != Status::Damaged) {
            let up = self.up(node).ok_or_else(|| format!("n{node} does not serve"))?;
            if up.databases.applied().borrow().index == 0 {
                return Err(format!("n{node} has applied nothing"));
            }
            let before = threads::become_node(node);
            for name in &names {
                asked += 1;
                let (up, name, results) = (up.clone(), name.clone(), Arc::clone(&results));
                let reads = move || {
                    let read = app::read_all(&up, &name);
                    results.lock().unwrap().insert((name, up.life.node), read);
                };
                let _reads = std::thread::spawn(reads);
            }
            threads::become_node(before);
        }
        let deadline = machine().now + 10 * SECOND;
        while results.lock().unwrap().len() < asked {
            if machine().now > deadline {
                return Err("a reader hangs".into());
            }
            self.see_who_ended();
            match self.sim.net.due() {
                Ok(event) => self.event(event),
                Err(next) => {
                    let soon = machine().now + 5 * MILLI;
                    threads::wait(0, Some(next.unwrap_or(soon).min(soon)));
                }
            }
        }
        let results = std::mem::take(&mut *results.lock().unwrap());
        let mut lists: BTreeMap<String, (Vec<u64>, u64, usize)> = BTreeMap::new();
        for ((name, node), read) in results {
            let (list, hash) = read.map_err(|error| format!("{name} on n{node}: {error}"))?;
            match lists.get(&name) {
                None => {
                    lists.insert(name, (list, hash, node));
                }
                Some((_, first, _)) if *first == hash => {}
                Some((known, _, other)) => {
                    let rows = (known.len(), list.len());
                    return Err(format!("{name}: n{other} and n{node} differ: {rows:?} rows"));
                }
            }
        }
        Ok(lists.into_iter().map(|(name, (list, _, _))| (name, list)).collect())
    }

    fn end(&mut self, lists: &BTreeMap<String, Vec<u64>>) -> ! {
        let mut ledger = self.sim.ledger.lock().unwrap();
        for (name, list) in lists {
            ledger.ends(name, list);
        }
        let rows: usize = lists.values().map(Vec::len).sum();
        let net = self.sim.net.inner().counts.clone();
        report::print(self.seed, rows, &ledger, &self.faults, &net, self.ended);
        crate::os::symbols::leave(0)
    }
}
