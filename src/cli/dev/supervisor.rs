//! Starts the nodes, tells when all serve, watches them, and stops them in order.

use std::time::Duration;

use hyper::Method;
use rustix::process::Signal;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::Instant;

use super::child::Process;
use super::control::{self, Restart};
use super::layout::{Layout, Node};
use super::{mounts, ready, say};
use crate::cli::client::{Address, Client};
use crate::cli::{Exit, Failure};

/// Between two looks at the nodes.
const LOOK_PAUSE: Duration = Duration::from_millis(50);

/// In which a node answers whether it is ready, or counts as not.
const PROBE_TIME: Duration = Duration::from_secs(1);

/// Between SIGTERM and SIGKILL.
const STOP_GRACE: Duration = Duration::from_secs(20);

/// After SIGKILL: a process that is still there then waits in the kernel (bounded-answer).
const KILL_TIME: Duration = Duration::from_secs(10);

/// A node and its process, once it was started.
struct Slot<'a> {
    node: &'a Node,
    process: Option<Process>,
    /// Its end was told.
    told: bool,
}

/// Runs the cluster until a signal ends it.
pub(super) async fn run(layout: &Layout, timeout: Duration) -> Result<(), Failure> {
    let mut signals = Signals::new()?;
    let mut cluster = Cluster {
        layout,
        timeout,
        slots: layout
            .nodes()
            .iter()
            .map(|node| Slot { node, process: None, told: false })
            .collect(),
    };
    ready::remove(&layout.ready_file())?;
    mounts::detach(layout.dir());
    let result = tokio::select! {
        name = signals.next() => {
            say(&format!("{name}: stopping"));
            Ok(())
        }
        failure = cluster.live() => Err(failure),
    };
    let tidy = ready::remove(&layout.ready_file());
    cluster.stop(&mut signals).await;
    mounts::detach(layout.dir());
    let socket = ready::remove(&layout.control_socket());
    result.and(tidy).and(socket)
}

/// The signals that end it.
struct Signals([(&'static str, tokio::signal::unix::Signal); 3]);

impl Signals {
    fn new() -> Result<Self, Failure> {
        let listen = |kind| {
            signal(kind).map_err(|error| {
                Failure::new(Exit::OsError, format!("cannot listen for signals: {error}"))
            })
        };
        Ok(Self([
            ("SIGINT", listen(SignalKind::interrupt())?),
            ("SIGTERM", listen(SignalKind::terminate())?),
            ("SIGHUP", listen(SignalKind::hangup())?),
        ]))
    }

    async fn next(&mut self) -> &'static str {
        let [(a, first), (b, second), (c, third)] = &mut self.0;
        tokio::select! {
            _ = first.recv() => a,
            _ = second.recv() => b,
            _ = third.recv() => c,
        }
    }
}

struct Cluster<'a> {
    layout: &'a Layout,
    timeout: Duration,
    slots: Vec<Slot<'a>>,
}

impl Cluster<'_> {
    /// Starts all and serves wishes; ends only by a failure.
    async fn live(&mut self) -> Failure {
        match self.begin().await {
            Ok(mut wishes) => self.serve(&mut wishes).await,
            Err(failure) => failure,
        }
    }

    async fn begin(&mut self) -> Result<tokio::sync::mpsc::Receiver<Restart>, Failure> {
        let wishes = control::listen(self.layout)?;
        say(&format!("starting {} nodes in {}", self.slots.len(), self.layout.dir().display()));
        for slot in &mut self.slots {
            slot.process = Some(Process::start(slot.node)?);
        }
        let all: Vec<usize> = (0..self.slots.len()).collect();
        self.until_ready(&all).await?;
        self.write_ready()?;
        for slot in &self.slots {
            say(&format!(
                "{}  {}  http://{}",
                slot.node.name,
                slot.node.mount().display(),
                slot.node.api
            ));
        }
        say("all nodes serve; Ctrl-C stops them");
        Ok(wishes)
    }

    async fn serve(&mut self, wishes: &mut tokio::sync::mpsc::Receiver<Restart>) -> Failure {
        loop {
            tokio::select! {
                wish = wishes.recv() => match wish {
                    // An answer that nobody waits for any more is dropped.
                    Some(Restart { name, reply }) => drop(reply.send(self.restart(&name).await)),
                    None => return Failure::new(Exit::Software, "the control socket ended"),
                },
                () = tokio::time::sleep(LOOK_PAUSE) => self.tell_ends(),
            }
        }
    }

    /// Says once of each node that it ended. Its mount stays, and gives errors: if the bare folder
    /// showed, an application could begin a database there that nobody replicates.
    fn tell_ends(&mut self) {
        for slot in &mut self.slots {
            let end = slot.process.as_ref().and_then(Process::ended);
            if let (Some(how), false) = (end, slot.told) {
                slot.told = true;
                let (name, dir) = (&slot.node.name, self.layout.dir().display());
                say(&format!(
                    "{name} ended ({how}); litefs-py dev --dir {dir} restart {name} starts it again"
                ));
            }
        }
    }

    async fn restart(&mut self, name: &str) -> Result<u32, Failure> {
        let Some(index) = self.slots.iter().position(|slot| slot.node.name == name) else {
            let names: Vec<&str> = self.slots.iter().map(|slot| slot.node.name.as_str()).collect();
            let why = format!("there is no node {name:?}; the nodes are: {}", names.join(", "));
            return Err(Failure::new(Exit::Usage, why));
        };
        say(&format!("starting {name} again"));
        let Some(slot) = self.slots.get_mut(index) else {
            return Err(Failure::new(Exit::Software, "a node went missing"));
        };
        if let Some(process) = &mut slot.process {
            process.signal(Signal::TERM);
            if tokio::time::timeout(STOP_GRACE, process.wait()).await.is_err() {
                process.signal(Signal::KILL);
                // Without that it may wait for its own answers for ever.
                mounts::detach(&slot.node.mount());
                process.wait().await;
            }
        }
        mounts::detach(&slot.node.mount());
        let process = Process::start(slot.node)?;
        let pid = process.pid;
        slot.process = Some(process);
        slot.told = false;
        self.until_ready(&[index]).await?;
        self.write_ready()?;
        say(&format!("{name} serves again"));
        Ok(pid)
    }

    /// Waits until these nodes are ready; fails when one of them ends, or the time is up.
    async fn until_ready(&mut self, indexes: &[usize]) -> Result<(), Failure> {
        let deadline = Instant::now() + self.timeout;
        let mut said = String::new();
        loop {
            let mut waiting = Vec::new();
            let slots = self.slots.iter_mut().enumerate();
            for (_, slot) in slots.filter(|(index, _)| indexes.contains(index)) {
                let Some(process) = &slot.process else { continue };
                let name = &slot.node.name;
                if let Some(how) = process.ended() {
                    slot.told = true;
                    let log = slot.node.log();
                    let tail = process.tail(&log);
                    let why = format!(
                        "{name} ended while starting ({how}); the end of {}:",
                        log.display()
                    );
                    return Err(Failure::new(Exit::Unavailable, format!("{why}\n{tail}")));
                }
                if let Err(why) = probe(slot.node).await {
                    waiting.push(format!("{name} ({why})"));
                }
            }
            if waiting.is_empty() {
                return Ok(());
            }
            let text = format!("waiting for {}", waiting.join(", "));
            if Instant::now() >= deadline {
                let why = format!("gave up after {:?}, {text}; see the logs", self.timeout);
                return Err(Failure::new(Exit::Unavailable, why));
            }
            if text != said {
                say(&text);
                said = text;
            }
            tokio::time::sleep(LOOK_PAUSE).await;
        }
    }

    fn write_ready(&self) -> Result<(), Failure> {
        let nodes =
            self.slots.iter().filter_map(|slot| Some((slot.node, slot.process.as_ref()?.pid)));
        ready::write(&self.layout.ready_file(), nodes)
    }

    /// SIGTERM to all at once, then SIGKILL after the grace, or at a second signal.
    async fn stop(&mut self, signals: &mut Signals) {
        for process in self.processes() {
            process.signal(Signal::TERM);
        }
        tokio::select! {
            ended = tokio::time::timeout(STOP_GRACE, self.until_ended()) => {
                if ended.is_err() {
                    say(&format!("not all nodes ended within {STOP_GRACE:?}: killing them"));
                }
            }
            name = signals.next() => say(&format!("{name} again: killing the nodes")),
        }
        for process in self.processes() {
            process.signal(Signal::KILL);
        }
        mounts::detach(self.layout.dir());
        if tokio::time::timeout(KILL_TIME, self.until_ended()).await.is_err() {
            say("not all nodes ended though they were killed; ps shows what they wait for");
        }
    }

    fn processes(&mut self) -> impl Iterator<Item = &mut Process> {
        self.slots.iter_mut().filter_map(|slot| slot.process.as_mut())
    }

    async fn until_ended(&mut self) {
        for process in self.processes() {
            process.wait().await;
        }
    }
}

/// Why a node is not ready, if so.
async fn probe(node: &Node) -> Result<(), String> {
    let client = Client { address: Address::Tcp(node.api.to_string()), token: None };
    match client.ask(Method::GET, "/readiness", None, PROBE_TIME).await {
        Ok(answer) if answer.code.is_success() => Ok(()),
        Ok(answer) => Err(answer.words()),
        Err(_) => Err("not up yet".to_owned()),
    }
}
