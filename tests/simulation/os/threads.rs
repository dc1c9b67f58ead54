//! One thread runs at a time: who, until when, and what time it is, says the seed.
//!
//! A thread gives up its turn when it waits (futex, sleep, join, a sync of the disk), and now and
//! then when it wakes another one or writes to a file. Then the next is drawn among those that can
//! run. When none can, the clock moves to the first deadline.
#![allow(unsafe_code)]

use std::cell::Cell;
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use super::Chance;
use super::disk::Disk;
use super::symbols::{raw_futex_wait, raw_futex_wake};

/// Nodes are numbered from 1; 0 is the world: the network, the faults, the checks.
pub const NODES: usize = 16;
pub const WORLD: usize = 0;

/// What the simulated monotonic clock shows at the start, in nanoseconds.
pub const BOOTED: u64 = 1_000_000_000_000;
/// And the wall clock: some day in 2027.
pub const WALL: u64 = 1_800_000_000_000_000_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// In the queue, or running.
    Runs,
    /// Waits for a futex, or for its deadline.
    Waits,
    /// Its node was killed.
    Gone,
    Done,
}

struct Thread {
    node: usize,
    state: State,
    /// Set when it is its turn.
    turn: &'static AtomicU32,
    address: usize,
    deadline: Option<(u64, u64)>,
    woken: bool,
}

#[derive(Default, Clone)]
pub struct Node {
    pub paused: bool,
    /// What its wall clock is off by, in nanoseconds.
    pub wall: i64,
    /// Its program ended by itself, with this exit code.
    pub ended: Option<i32>,
    stopped: Vec<usize>,
}

pub struct Machine {
    threads: Vec<Thread>,
    runnable: Vec<usize>,
    deadlines: BTreeMap<(u64, u64), usize>,
    waiting: BTreeMap<usize, VecDeque<usize>>,
    joins: BTreeMap<usize, usize>,
    sequence: u64,
    pub now: u64,
    pub chance: Chance,
    pub nodes: Vec<Node>,
    pub disk: Disk,
    /// Of all that happened, in order.
    trace: u64,
    pub switches: u64,
    /// Nothing happens any more after this time: the run hangs.
    pub limit: u64,
}

static ON: AtomicBool = AtomicBool::new(false);
static mut MACHINE: Option<Machine> = None;

thread_local! {
    static ME: Cell<usize> = const { Cell::new(usize::MAX) };
}

/// Whether this thread is one of the simulated machine's.
pub fn is_on() -> bool {
    ON.load(Ordering::Relaxed) && ME.with(Cell::get) != usize::MAX
}

/// The machine; only for the thread whose turn it is.
#[allow(static_mut_refs)]
pub fn machine() -> &'static mut Machine {
    // SAFETY: one thread runs at a time, hands over by futexes (which order memory), and none keeps
    // this reference while it hands over.
    unsafe {
        match MACHINE.as_mut() {
            Some(machine) => machine,
            None => std::process::abort(),
        }
    }
}

fn turn() -> &'static AtomicU32 {
    Box::leak(Box::new(AtomicU32::new(0)))
}

/// Begins the simulation; the caller is the world's thread.
pub fn begin(seed: u64) {
    let world = Thread {
        node: WORLD,
        state: State::Runs,
        turn: turn(),
        address: 0,
        deadline: None,
        woken: false,
    };
    let machine = Machine {
        threads: vec![world],
        runnable: Vec::new(),
        deadlines: BTreeMap::new(),
        waiting: BTreeMap::new(),
        joins: BTreeMap::new(),
        sequence: 0,
        now: 0,
        chance: Chance::new(seed),
        nodes: vec![Node::default(); NODES],
        disk: Disk::default(),
        trace: seed,
        switches: 0,
        limit: u64::MAX,
    };
    // SAFETY: nothing of the simulation runs yet.
    unsafe { MACHINE = Some(machine) };
    ME.with(|me| me.set(0));
    ON.store(true, Ordering::SeqCst);
}

fn me() -> usize {
    ME.with(Cell::get)
}

/// The node that the running thread belongs to.
pub fn node() -> usize {
    machine().threads[me()].node
}

/// The running thread works for another node from now on. Gives the one before.
pub fn become_node(node: usize) -> usize {
    std::mem::replace(&mut machine().threads[me()].node, node)
}

impl Machine {
    /// One more thing that happened, for the comparison of two runs.
    pub fn note(&mut self, what: u64) {
        self.trace = (self.trace ^ what).wrapping_mul(0x0100_0000_01b3).rotate_left(17);
    }

    pub fn trace(&self) -> u64 {
        self.trace
    }

    fn ready(&mut self, thread: usize) {
        self.threads[thread].state = State::Runs;
        let node = self.threads[thread].node;
        if self.nodes[node].paused {
            self.nodes[node].stopped.push(thread);
        } else {
            self.runnable.push(thread);
        }
    }

    fn forget(&mut self, thread: usize) {
        let it = &mut self.threads[thread];
        if let Some(deadline) = it.deadline.take() {
            self.deadlines.remove(&deadline);
        }
        let address = std::mem::take(&mut it.address);
        if address != 0
            && let Some(queue) = self.waiting.get_mut(&address)
        {
            queue.retain(|waiter| *waiter != thread);
            if queue.is_empty() {
                self.waiting.remove(&address);
            }
        }
    }

    fn wakes_at(&mut self, thread: usize, time: u64) {
        self.sequence += 1;
        let deadline = (time, self.sequence);
        self.threads[thread].deadline = Some(deadline);
        self.deadlines.insert(deadline, thread);
    }

    /// The world sleeps until then at most.
    pub fn world_wakes_by(&mut self, time: u64) {
        let world = &self.threads[0];
        if world.state != State::Waits || world.deadline.is_some_and(|(at, _)| at <= time) {
            return;
        }
        if let Some(deadline) = world.deadline {
            self.deadlines.remove(&deadline);
        }
        self.wakes_at(0, time);
    }

    fn next(&mut self) -> usize {
        self.now += 800 + self.chance.below(2_000);
        loop {
            while let Some((&(time, sequence), &thread)) = self.deadlines.first_key_value()
                && time <= self.now
            {
                self.deadlines.remove(&(time, sequence));
                self.threads[thread].deadline = None;
                self.forget(thread);
                self.threads[thread].woken = false;
                self.ready(thread);
            }
            if !self.runnable.is_empty() {
                let at = self.chance.below(self.runnable.len() as u64) as usize;
                let thread = self.runnable.swap_remove(at);
                self.switches += 1;
                self.note(self.now ^ ((thread as u64) << 48));
                return thread;
            }
            match self.deadlines.first_key_value() {
                Some((&(time, _), _)) if time <= self.limit => self.now = time,
                _ => {
                    super::symbols::die("nothing can run any more: a deadlock", 3);
                }
            }
        }
    }
}

/// Lets the next one run; comes back when it is this thread's turn again.
fn hand_over() {
    let mine = me();
    let next = machine().next();
    if next == mine {
        return;
    }
    let turn = machine().threads[mine].turn;
    give_turn(next);
    wait_for_turn(turn);
}

fn give_turn(next: usize) {
    let turn = machine().threads[next].turn;
    turn.store(1, Ordering::Release);
    raw_futex_wake(turn);
}

fn wait_for_turn(turn: &AtomicU32) {
    while turn.swap(0, Ordering::Acquire) == 0 {
        raw_futex_wait(turn, 0);
    }
}

/// Waits for a wake of `address` (if not 0), or for a time. Whether it was woken.
pub fn wait(address: usize, until: Option<u64>) -> bool {
    let mine = me();
    let machine = machine();
    machine.threads[mine].woken = false;
    machine.threads[mine].state = State::Waits;
    if address != 0 {
        machine.threads[mine].address = address;
        machine.waiting.entry(address).or_default().push_back(mine);
    }
    if let Some(until) = until {
        machine.wakes_at(mine, until);
    }
    hand_over();
    self::machine().threads[mine].woken
}

/// Waits for simulated time to pass.
pub fn sleep(nanos: u64) {
    wait(0, Some(machine().now + nanos));
}

/// Wakes those who wait for the address. How many they were.
pub fn wake(address: usize, most: usize) -> usize {
    let machine = machine();
    let mut woken = 0;
    while woken < most {
        let Some(queue) = machine.waiting.get_mut(&address) else { break };
        let at = machine.chance.below(queue.len() as u64) as usize;
        let Some(&thread) = queue.get(at) else { break };
        machine.forget(thread);
        machine.threads[thread].woken = true;
        machine.ready(thread);
        woken += 1;
    }
    woken
}

/// Others may run now.
pub fn give_way() {
    let mine = me();
    let machine = machine();
    machine.ready(mine);
    hand_over();
}

/// Others may run now, once in so many times.
pub fn maybe_give_way(one_in: u64) {
    if machine().chance.one_in(one_in) {
        give_way();
    }
}

/// A new thread of the running one's node: its number.
pub fn made() -> usize {
    let machine = machine();
    let node = machine.threads[me()].node;
    machine.threads.push(Thread {
        node,
        state: State::Runs,
        turn: turn(),
        address: 0,
        deadline: None,
        woken: false,
    });
    let number = machine.threads.len() - 1;
    machine.ready(number);
    number
}

/// It could not be made after all.
pub fn unmade(thread: usize) {
    let machine = machine();
    machine.runnable.retain(|other| *other != thread);
    machine.threads[thread].state = State::Done;
}

/// The operating system's handle of a thread.
pub fn is_known_as(thread: usize, handle: usize) {
    machine().joins.insert(handle, thread);
}

/// The first that a new thread does: it waits for its turn.
pub fn arrive(thread: usize, turn: &'static AtomicU32) {
    ME.with(|me| me.set(thread));
    wait_for_turn(turn);
}

pub fn turn_of(thread: usize) -> &'static AtomicU32 {
    machine().threads[thread].turn
}

/// The last that a thread does: others run on.
pub fn leave() {
    let mine = me();
    machine().threads[mine].state = State::Done;
    wake(join_address(mine), usize::MAX);
    let next = machine().next();
    ME.with(|me| me.set(usize::MAX));
    give_turn(next);
}

/// Waits for the end of a thread, if it is one of ours.
pub fn join(handle: usize) {
    let Some(&thread) = machine().joins.get(&handle) else { return };
    while machine().threads[thread].state != State::Done {
        wait(join_address(thread), None);
    }
    machine().joins.remove(&handle);
}

fn join_address(thread: usize) -> usize {
    // No futex is there.
    1 + thread * 2
}

/// The running thread's node ends by itself: the world will see, and this thread goes no further.
pub fn exit(code: i32) -> ! {
    let mine = me();
    let node = machine().threads[mine].node;
    let ended = &mut machine().nodes[node].ended;
    *ended = ended.or(Some(code));
    let now = machine().now;
    machine().world_wakes_by(now);
    loop {
        machine().threads[mine].state = State::Gone;
        hand_over();
    }
}

/// None of the node's threads runs ever again.
pub fn kill(node: usize) {
    let machine = machine();
    for thread in 0..machine.threads.len() {
        let it = &machine.threads[thread];
        if it.node == node && matches!(it.state, State::Runs | State::Waits) {
            machine.forget(thread);
            machine.threads[thread].state = State::Gone;
        }
    }
    let threads = &machine.threads;
    machine.runnable.retain(|thread| threads[*thread].state == State::Runs);
    let it = &mut machine.nodes[node];
    it.stopped.clear();
    it.paused = false;
    it.ended = None;
}

/// None of the node's threads runs for now.
pub fn pause(node: usize) {
    let machine = machine();
    machine.nodes[node].paused = true;
    let threads = &machine.threads;
    let stopped = &mut machine.nodes[node].stopped;
    machine.runnable.retain(|thread| {
        let stops = threads[*thread].node == node;
        if stops {
            stopped.push(*thread);
        }
        !stops
    });
}

pub fn go_on(node: usize) {
    let machine = machine();
    machine.nodes[node].paused = false;
    let stopped = std::mem::take(&mut machine.nodes[node].stopped);
    machine.runnable.extend(stopped);
}
