//! Random schedules: nodes that keep to the protocol, a leader with the table, and a network that
//! delays, reorders and repeats what the nodes send.
//!
//! Checked at every step:
//! - at most one living node believes that it holds a database, and the table agrees with it;
//! - nothing is granted before the hearing is over, nor while a proposal is in flight (Rule 14);
//! - nodes are served in the order of the queue;
//! - a recall is for the holder, once, while somebody waits, past its reservation (Rule 15);
//! - a free lock is not withheld, and whenever time alone can help, `next_tick` says so.
//!
//! And at the end: once messages arrive and recalled nodes release, everyone who asked was served.
//!
//! A node that was not heard in time may go on believing in its old lock until it is told. That is
//! no violation: the table cannot know, and one-history does not depend on it.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

const NODES: usize = 3;
const DATABASES: usize = 2;
const DEADLINE: Duration = Duration::from_millis(400);

/// A database of one node.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
enum Local {
    #[default]
    Idle,
    Asking(Ticket),
    Holding {
        ticket: Ticket,
        recalled: bool,
    },
}

#[derive(Debug, Clone)]
enum ToLeader {
    Request(usize, NodeId, Ticket),
    Release(usize, NodeId, Ticket),
    Reclaim(NodeId, Vec<(DatabaseName, Ticket)>),
}

#[derive(Debug, Clone)]
enum ToNode {
    Action(Action),
    Lost(usize, Ticket),
}

#[derive(Debug, Default)]
struct Node {
    boot: u64,
    number: u64,
    local: [Local; DATABASES],
    inbox: VecDeque<ToNode>,
    /// What it said at the hearing counts, or it was born after it.
    heard: bool,
}

#[derive(Debug, Clone)]
enum Move {
    Ask(usize, usize),
    Deliver { which: prop::sample::Index, again: bool },
    Receive(usize),
    Finish(usize, usize),
    Die(usize),
    Propose(usize),
    Decide(usize),
    Wait(u64),
    FirstEntry,
}

fn a_move() -> impl Strategy<Value = Move> {
    let (node, database) = (0..NODES, 0..DATABASES);
    prop_oneof![
        6 => (node.clone(), database.clone()).prop_map(|(n, d)| Move::Ask(n, d)),
        9 => (any::<prop::sample::Index>(), prop::bool::weighted(0.2))
            .prop_map(|(which, again)| Move::Deliver { which, again }),
        9 => node.clone().prop_map(Move::Receive),
        3 => (node.clone(), database.clone()).prop_map(|(n, d)| Move::Finish(n, d)),
        1 => node.prop_map(Move::Die),
        2 => database.clone().prop_map(Move::Propose),
        3 => database.prop_map(Move::Decide),
        3 => (0..200_u64).prop_map(Move::Wait),
        1 => Just(Move::FirstEntry),
    ]
}

fn name(database: usize) -> DatabaseName {
    DatabaseName::new(format!("{database}.db")).unwrap()
}

fn number(name: &DatabaseName) -> usize {
    (0..DATABASES).find(|database| super::simulation::name(*database) == *name).unwrap()
}

fn id(node: usize) -> NodeId {
    NodeId(node as u64)
}

struct World {
    now: Duration,
    locks: WriteLocks,
    nodes: Vec<Node>,
    network: Vec<ToLeader>,
    // What the checks remember.
    first_entry: bool,
    proposals: [usize; DATABASES],
    /// For each grant: whether the node had waited, and when it was granted.
    grants: BTreeMap<(usize, NodeId, Ticket), (bool, Duration)>,
    recalls: BTreeSet<(usize, NodeId, Ticket)>,
    /// By which grant, or claim, each lock is held.
    held: BTreeMap<usize, (NodeId, Ticket)>,
}

impl World {
    /// `before`: which node holds which database by an earlier leader's grant.
    fn new(before: [Option<usize>; DATABASES]) -> Self {
        let mut nodes: Vec<Node> = (0..NODES).map(|_| Node::default()).collect();
        for (database, node) in before.into_iter().enumerate() {
            let Some(node) = node else { continue };
            nodes[node].number += 1;
            let ticket = Ticket { boot: Boot(0), number: nodes[node].number };
            nodes[node].local[database] = Local::Holding { ticket, recalled: false };
        }
        let mut network: Vec<ToLeader> = (0..NODES).map(|node| claim(&nodes, node)).collect();
        // Copies of the requests that gave them these locks are still under way.
        for (node, database) in (0..NODES).flat_map(|n| (0..DATABASES).map(move |d| (n, d))) {
            if let Local::Holding { ticket, .. } = nodes[node].local[database] {
                network.push(ToLeader::Request(database, id(node), ticket));
            }
        }
        let hear = (0..NODES).map(id).collect();
        Self {
            now: Duration::ZERO,
            locks: WriteLocks::new(3, hear, DEADLINE),
            nodes,
            network,
            first_entry: false,
            proposals: [0; DATABASES],
            grants: BTreeMap::new(),
            recalls: BTreeSet::new(),
            held: BTreeMap::new(),
        }
    }

    fn step(&mut self, step: &Move) {
        match *step {
            Move::Ask(node, database) => {
                let me = &mut self.nodes[node];
                if me.local[database] == Local::Idle {
                    me.number += 1;
                    let ticket = Ticket { boot: Boot(me.boot), number: me.number };
                    me.local[database] = Local::Asking(ticket);
                    self.network.push(ToLeader::Request(database, id(node), ticket));
                }
            }
            Move::Deliver { which, again } => {
                if !self.network.is_empty() {
                    let at = which.index(self.network.len());
                    let message =
                        if again { self.network[at].clone() } else { self.network.swap_remove(at) };
                    self.deliver(message);
                }
            }
            Move::Receive(node) => self.receive(node),
            Move::Finish(node, database) => {
                if let Local::Holding { ticket, .. } | Local::Asking(ticket) =
                    self.nodes[node].local[database]
                {
                    self.nodes[node].local[database] = Local::Idle;
                    self.network.push(ToLeader::Release(database, id(node), ticket));
                }
            }
            Move::Die(node) => {
                let boot = self.nodes[node].boot + 1;
                self.nodes[node] = Node { boot, heard: true, ..Node::default() };
                self.call(None, |locks, now| locks.node_lost(now, id(node)));
            }
            Move::Propose(database) => {
                if self.locks.holder(&name(database)).is_some() {
                    self.proposals[database] += 1;
                    self.locks.proposal_started(&name(database));
                }
            }
            Move::Decide(database) => {
                if self.proposals[database] > 0 {
                    self.proposals[database] -= 1;
                    // A transaction was decided: no lock of this database is reserved any more.
                    for ((of, ..), (reserved, _)) in &mut self.grants {
                        *reserved &= *of != database;
                    }
                    self.call(None, |locks, now| locks.proposal_finished(now, &name(database)));
                }
            }
            Move::Wait(ms) => {
                self.now += Duration::from_millis(ms);
                if self.now >= DEADLINE {
                    for node in self.nodes.iter_mut().filter(|node| !node.heard) {
                        node.local = [Local::Idle; DATABASES];
                        node.heard = true;
                    }
                }
                self.call(None, WriteLocks::tick);
            }
            Move::FirstEntry => {
                self.first_entry = true;
                self.call(None, WriteLocks::first_entry_applied);
            }
        }
        self.check_beliefs();
    }

    fn deliver(&mut self, message: ToLeader) {
        match message {
            ToLeader::Request(database, node, ticket) => {
                self.call(Some(node), |locks, now| {
                    locks.request(now, &name(database), node, ticket)
                });
            }
            ToLeader::Release(database, node, ticket) => {
                self.call(None, |locks, now| locks.release(now, &name(database), node, ticket));
            }
            ToLeader::Reclaim(node, held) => {
                let mut lost = Vec::new();
                let me = &mut self.nodes[node.0 as usize];
                let counts = !me.heard;
                me.heard = true;
                self.call(None, |locks, now| {
                    let answer = locks.reclaim(now, node, &held);
                    lost = answer.lost;
                    answer.actions
                });
                let me = &mut self.nodes[node.0 as usize];
                for (database, ticket) in held {
                    let key = (number(&database), node, ticket);
                    self.grants.entry(key).or_insert((false, self.now));
                    if !lost.contains(&database) {
                        self.held.insert(key.0, (node, ticket));
                    }
                    if lost.contains(&database) {
                        let database = number(&database);
                        let holding = matches!(
                            me.local[database],
                            Local::Holding { ticket: mine, .. } if mine == ticket
                        );
                        assert!(!(counts && holding), "a claim in time was refused");
                        me.inbox.push_back(ToNode::Lost(database, ticket));
                    }
                }
            }
        }
    }

    fn receive(&mut self, node: usize) {
        let me = &mut self.nodes[node];
        match me.inbox.pop_front() {
            None => {}
            Some(ToNode::Lost(database, claimed)) => {
                if matches!(me.local[database], Local::Holding { ticket, .. } if ticket == claimed)
                {
                    me.local[database] = Local::Idle;
                }
            }
            Some(ToNode::Action(Action::Grant { database, ticket, .. })) => {
                let database = number(&database);
                match me.local[database] {
                    Local::Asking(mine) if mine == ticket => {
                        me.local[database] = Local::Holding { ticket, recalled: false };
                    }
                    Local::Holding { ticket: mine, .. } if mine == ticket => {}
                    _ => self.network.push(ToLeader::Release(database, id(node), ticket)),
                }
            }
            Some(ToNode::Action(Action::Recall { database, ticket, .. })) => {
                let database = number(&database);
                match &mut me.local[database] {
                    Local::Holding { ticket: mine, recalled } if *mine == ticket => {
                        *recalled = true;
                    }
                    _ => self.network.push(ToLeader::Release(database, id(node), ticket)),
                }
            }
        }
    }

    /// Calls the table and checks what it answers against what it looked like before.
    fn call(
        &mut self,
        requester: Option<NodeId>,
        call: impl FnOnce(&mut WriteLocks, Duration) -> Vec<Action>,
    ) {
        let before = self.lines();
        let actions = call(&mut self.locks, self.now);
        let after = self.lines();
        let open = self.first_entry && self.nodes.iter().all(|node| node.heard);
        assert_eq!(self.locks.is_open(), open);
        for database in 0..DATABASES {
            let order: Vec<NodeId> =
                before[database].waiting.iter().copied().chain(requester).collect();
            let (old, new) = (&before[database], &after[database]);
            // A claim gives a lock past the queue; a grant does not.
            let claimed = new.holder.is_some_and(|node| {
                !actions.iter().any(|action| is_grant(action, &name(database), node))
            });
            let served = new.holder.filter(|_| new.holder != old.holder && !claimed);
            let places: Vec<usize> = served
                .iter()
                .chain(&new.waiting)
                .filter_map(|node| order.iter().position(|n| n == node))
                .collect();
            assert!(places.is_sorted(), "{before:?} became {after:?}");
        }
        for action in actions {
            let (Action::Grant { database, node, ticket }
            | Action::Recall { database, node, ticket }) = action.clone();
            let database = number(&database);
            let key = (database, node, ticket);
            self.nodes[node.0 as usize].inbox.push_back(ToNode::Action(action.clone()));
            assert_eq!(after[database].holder, Some(node), "{action:?}");
            if matches!(action, Action::Recall { .. }) {
                assert!(self.recalls.insert(key), "recalled twice: {action:?}");
                assert!(!after[database].waiting.is_empty(), "nobody waits: {action:?}");
                if let Some((true, since)) = self.grants.get(&key) {
                    assert!(self.now >= *since + RESERVATION, "reserved: {action:?}");
                }
                continue;
            }
            assert!(open, "granted before the hearing was over");
            // The same node may hold it already, by another ticket.
            if self.held.insert(database, (node, ticket)) != Some((node, ticket)) {
                let waited = before[database].waiting.contains(&node);
                assert_eq!(self.proposals[database], 0, "granted with a proposal in flight");
                // The same ticket can be granted anew, if its request came twice.
                self.grants.insert(key, (waited, self.now));
                self.recalls.remove(&key);
            }
        }
        self.held.retain(|database, (node, _)| after[*database].holder == Some(*node));
        for (database, line) in after.iter().enumerate() {
            let twice = line.waiting.iter().any(|node| line.holder == Some(*node));
            assert!(!twice, "waits for what it holds: {line:?}");
            if open && !line.waiting.is_empty() {
                let withheld = line.holder.is_none() && self.proposals[database] == 0;
                assert!(!withheld, "a free lock and somebody waiting: {line:?}");
                let stuck = line.holder.is_some() && !line.recalled;
                assert!(!stuck || self.locks.next_tick().is_some_and(|at| at > self.now));
            }
        }
    }

    fn lines(&self) -> Vec<LockStatus> {
        let status = self.locks.status();
        let find = |name: DatabaseName| {
            let unused = LockStatus {
                database: name.clone(),
                holder: None,
                recalled: false,
                waiting: Vec::new(),
                proposals: 0,
            };
            status.databases.iter().find(|line| line.database == name).cloned().unwrap_or(unused)
        };
        (0..DATABASES).map(|database| find(name(database))).collect()
    }

    fn check_beliefs(&self) {
        for database in 0..DATABASES {
            let believers: Vec<usize> = (0..NODES)
                .filter(|node| matches!(self.nodes[*node].local[database], Local::Holding { .. }))
                .collect();
            assert!(believers.len() <= 1, "{database} is held by {believers:?}");
            if let Some(node) = believers.first()
                && self.nodes[*node].heard
            {
                assert_eq!(self.locks.holder(&name(database)), Some(id(*node)));
            }
        }
    }

    /// From here on everything arrives, time passes, and recalled nodes release.
    fn end_well(&mut self) {
        self.step(&Move::FirstEntry);
        for _ in 0..100 {
            while let Some(message) = self.network.pop() {
                self.deliver(message);
                self.check_beliefs();
            }
            for database in 0..DATABASES {
                self.step(&Move::Decide(database));
            }
            for node in 0..NODES {
                while !self.nodes[node].inbox.is_empty() {
                    self.step(&Move::Receive(node));
                }
                for database in 0..DATABASES {
                    let local = self.nodes[node].local[database];
                    if matches!(local, Local::Holding { recalled: true, .. }) {
                        self.step(&Move::Finish(node, database));
                    }
                }
            }
            if let Some(at) = self.locks.next_tick() {
                let ms = at.saturating_sub(self.now).as_millis();
                self.step(&Move::Wait(ms as u64));
            }
        }
        for node in &self.nodes {
            let asking = node.local.iter().any(|local| matches!(local, Local::Asking(_)));
            assert!(!asking, "never served: {node:?} by {:?}", self.locks);
        }
    }
}

fn is_grant(action: &Action, name: &DatabaseName, to: NodeId) -> bool {
    matches!(action, Action::Grant { database, node, .. } if database == name && *node == to)
}

/// What a node says to a new leader.
fn claim(nodes: &[Node], node: usize) -> ToLeader {
    let held = (0..DATABASES)
        .filter_map(|database| match nodes[node].local[database] {
            Local::Holding { ticket, .. } => Some((name(database), ticket)),
            _ => None,
        })
        .collect();
    ToLeader::Reclaim(id(node), held)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn the_promises_hold_on_any_schedule(
        before in [prop::option::of(0..NODES), prop::option::of(0..NODES)],
        moves in prop::collection::vec(a_move(), 1..250),
    ) {
        let mut world = World::new(before);
        for step in &moves {
            world.step(step);
        }
        world.end_well();
    }
}
