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
struct Alone(watch::Sender<Leadership>);

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

    fn leadership(&self) -> watch::Receiver<Leadership> {
        self.0.subscribe()
    }

    fn propose_here(&self, _term: u64, _command: Command) -> BoxFuture<'_, Result<(), String>> {
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
    let group: SharedGroup = Arc::new(Alone(leadership.clone()));
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
