//! The end of a seed: nothing goes wrong any more, and within a bound all nodes show the same
//! (converges), every application has had its answer (bounded-answer), and nothing is lost.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use super::{MILLI, SECOND, Status, World};
use crate::os::symbols::die;
use crate::os::threads::{self, machine};
use crate::{app, comings, report};

/// After the faults, all nodes have come to the same within this.
const CONVERGES: u64 = 30 * SECOND;

impl World {
    /// Waits until all that run show the same, and ends the run.
    pub(super) fn converge(&mut self) -> ! {
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
        let lists = self.sim.work.databases.clone();
        let others = comings::names(&self.sim);
        let results: Arc<Mutex<BTreeMap<(String, usize), Read>>> = Arc::default();
        let mut asked = 0;
        for node in self.nodes().filter(|node| self.status[*node] != Status::Damaged) {
            let up = self.up(node).ok_or_else(|| format!("n{node} does not serve"))?;
            if app::runs(node) {
                return Err(format!("an application of n{node} has had no answer yet"));
            }
            if up.databases.applied().borrow().index == 0 {
                return Err(format!("n{node} has applied nothing"));
            }
            let before = threads::become_node(node);
            for name in lists.iter().chain(&others) {
                asked += 1;
                let comes = others.contains(name);
                let (up, name, results) = (up.clone(), name.clone(), Arc::clone(&results));
                let reads = move || {
                    let read = if comes { comings::read_all } else { app::read_all }(&up, &name);
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
        let lists = lists.into_iter().filter(|(name, _)| !others.contains(name));
        Ok(lists.map(|(name, (list, _, _))| (name, list)).collect())
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
