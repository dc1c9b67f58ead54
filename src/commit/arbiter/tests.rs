//! Rule 14 at the moment when a node becomes leader.

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::watch;

use super::*;
use crate::cluster::{Commit, Payload};
use crate::commit::peers::{Group, Leadership};
use crate::core::{Boot, Checksum, Incarnation, Position, SystemClock, Txid};
use crate::raft::IncomingDatabase;

const ME: NodeId = NodeId(1);
const OTHER: NodeId = NodeId(2);

/// A group whose log takes everything and applies nothing.
struct Alone(watch::Sender<Leadership>, Mutex<Vec<Command>>);

impl Alone {
    fn abandoned(&self) -> Vec<TransactionId> {
        let log = lock(&self.1);
        let abandoned = log.iter().filter(|command| matches!(command, Command::Abandon { .. }));
        abandoned.map(Command::id).collect()
    }
}

#[derive(Default)]
struct SetClock(std::sync::atomic::AtomicU64);

impl SetClock {
    fn advance(&self, by: Duration) {
        self.0.fetch_add(by.as_millis() as u64, std::sync::atomic::Ordering::Relaxed);
    }
}

impl Clock for SetClock {
    fn wall(&self) -> std::time::SystemTime {
        std::time::SystemTime::UNIX_EPOCH + self.now()
    }

    fn now(&self) -> Duration {
        Duration::from_millis(self.0.load(std::sync::atomic::Ordering::Relaxed))
    }
}

impl Group for Alone {
    fn me(&self) -> NodeId {
        ME
    }

    fn others(&self) -> Vec<NodeId> {
        Vec::new()
    }

    fn reaches(&self, _: NodeId) -> bool {
        true
    }

    fn in_touch(&self) -> bool {
        true
    }

    fn leadership(&self) -> watch::Receiver<Leadership> {
        self.0.subscribe()
    }

    fn propose_here(&self, _term: u64, command: Command) -> BoxFuture<'_, Result<(), String>> {
        lock(&self.1).push(command);
        async { Ok(()) }.boxed()
    }

    fn call(&self, _: NodeId, _: Bytes, _: Duration) -> BoxFuture<'_, Result<Bytes, String>> {
        async { Err("nobody is there".to_owned()) }.boxed()
    }

    fn keep_staged(&self, _: [u8; 32], _: u64) {}

    fn fetch_staged(&self, _: NodeId, _: [u8; 32], _: u64) -> BoxFuture<'_, Result<(), String>> {
        async { Err("nobody is there".to_owned()) }.boxed()
    }

    fn fetch_database(
        &self,
        _: NodeId,
        _: DatabaseName,
        _: Incarnation,
        _: u64,
    ) -> BoxFuture<'_, Result<IncomingDatabase, String>> {
        async { Err("nobody is there".to_owned()) }.boxed()
    }

    fn read_index(&self, _: Duration) -> BoxFuture<'_, Result<u64, String>> {
        async { Err("nobody is there".to_owned()) }.boxed()
    }

    fn lag_ms(&self) -> i64 {
        0
    }

    fn sync_committed_mark(&self) -> std::io::Result<()> {
        Ok(())
    }
}

struct HoldsNothing;

impl Holder for HoldsNothing {
    fn recall(&self, _: u64, _: &DatabaseName, _: Ticket) {}

    fn held(&self, _: u64) -> Vec<(DatabaseName, Ticket)> {
        Vec::new()
    }
}

fn transaction(name: &DatabaseName) -> Command {
    Command::Commit(Commit {
        id: TransactionId { node: ME, boot: Boot(1), sequence: 1 },
        database: name.clone(),
        incarnation: None,
        base: Position::EMPTY,
        new: Position { txid: Txid(1), checksum: Checksum(Checksum::FLAG) },
        page_size: 4096,
        pages: 1,
        payload: Payload::Inline(Bytes::new()),
    })
}

/// Rule 14: a proposal that reaches a leader before it has applied the first entry of its term is in
/// flight when it has; no lock of that database is granted until it is applied.
#[tokio::test]
async fn what_was_proposed_before_the_reign_is_in_flight_when_it_begins() {
    let elected = Leadership { term: 7, leader: Some(ME), ready: false };
    let leadership = watch::Sender::new(elected);
    let group: SharedGroup = Arc::new(Alone(leadership.clone(), Mutex::default()));
    let holder: Arc<dyn Holder> = Arc::new(HoldsNothing);
    let clock = Arc::new(SystemClock::default());
    let arbiter =
        Arbiter::new(group, Handle::current(), clock, Arc::new(|_| 9), Arc::downgrade(&holder));
    let name = DatabaseName::new("app.db").unwrap();
    let command = transaction(&name);
    let id = command.id();
    arbiter.propose(7, command).await.unwrap();

    let running = tokio::spawn(Arc::clone(&arbiter).run());
    leadership.send_replace(Leadership { ready: true, ..elected });
    while arbiter.status().is_none() {
        tokio::task::yield_now().await;
    }
    let ticket = Ticket { boot: Boot(1), number: 1 };
    let mut asking = Box::pin(arbiter.request(7, name.clone(), OTHER, ticket));
    assert!(futures::poll!(asking.as_mut()).is_pending(), "granted with a proposal in flight");
    assert_eq!(arbiter.status().unwrap().databases[0].proposals, 1);

    arbiter.proposal_finished(id);
    assert_eq!(asking.await, Answer::Granted { index: 9 });
    running.abort();
}

struct Leading {
    group: Arc<Alone>,
    clock: Arc<SetClock>,
    arbiter: Arc<Arbiter>,
    running: tokio::task::JoinHandle<()>,
    _holder: Arc<dyn Holder>,
}

async fn leading() -> Leading {
    let leading = Leadership { term: 7, leader: Some(ME), ready: true };
    let group = Arc::new(Alone(watch::Sender::new(leading), Mutex::default()));
    let holder: Arc<dyn Holder> = Arc::new(HoldsNothing);
    let clock = Arc::new(SetClock::default());
    let (in_group, its_clock) = (Arc::clone(&group) as _, Arc::clone(&clock) as _);
    let weak = Arc::downgrade(&holder);
    let arbiter = Arbiter::new(in_group, Handle::current(), its_clock, Arc::new(|_| 9), weak);
    let running = tokio::spawn(Arc::clone(&arbiter).run());
    while arbiter.status().is_none() {
        tokio::task::yield_now().await;
    }
    Leading { group, clock, arbiter, running, _holder: holder }
}

/// A process that was killed in the middle of a COMMIT and is back before the leader missed it does not
/// propose again what it had proposed: the write lock of that database must not wait for ever.
#[tokio::test]
async fn a_proposal_that_nobody_proposes_again_is_forsaken() {
    let Leading { clock, arbiter, running, .. } = &leading().await;
    let command = transaction(&DatabaseName::new("app.db").unwrap());
    for _second in 0..10 {
        arbiter.propose(7, command.clone()).await.unwrap();
        clock.advance(Duration::from_secs(1));
        assert_eq!(arbiter.forsaken_proposals(7), Some(vec![]), "its proposer lives");
    }
    clock.advance(FORSAKEN);
    assert_eq!(arbiter.forsaken_proposals(7), Some(vec![command.id()]));
    assert_eq!(arbiter.forsaken_proposals(6), None, "another term's");
    arbiter.proposal_finished(command.id());
    assert_eq!(arbiter.forsaken_proposals(7), Some(vec![]), "it has its verdict");
    running.abort();
}

/// What a node proposed that is gone is settled without waiting for its silence, and nothing else.
#[tokio::test]
async fn what_a_dead_node_proposed_is_settled_at_once() {
    let Leading { group, arbiter, running, .. } = &leading().await;
    let command = transaction(&DatabaseName::new("app.db").unwrap());
    arbiter.propose(7, command.clone()).await.unwrap();
    arbiter.node_lost(OTHER);
    assert_eq!(arbiter.forsaken_proposals(7), Some(vec![]), "somebody else's");
    arbiter.node_lost(ME);
    let settled = async {
        while group.abandoned().is_empty() {
            tokio::task::yield_now().await;
        }
    };
    timeout(10 * SETTLE_AGAIN, settled).await.expect("it is settled");
    assert_eq!(group.abandoned(), [command.id()]);
    running.abort();
}
