//! A node that starts with nothing: a new one, or one that lost its folder.
//!
//! An emptied voter forgot what it acknowledged and for whom it voted. If it took part at once, a
//! node that lacks committed entries could be elected with its vote (no-lost-ack, caught-up). So it
//! recovers first, as in Viewstamped Replication Revisited §4.3:
//!
//! 1. It asks the others how they stand. As many as a majority have to answer, of those that are
//!    members themselves: one of them has the highest term that this node can have voted in. Until
//!    then it takes no entries, and never any of a lower term.
//! 2. It takes entries, or a snapshot, until it has applied all that was committed when it asked.
//! 3. Only then it votes, campaigns, and takes over leadership.
//!
//! A mark on the disk, written before anything else, says that this is not done yet.
//!
//! Where all who answer have nothing beyond the entry that a group begins with, the group is new, and
//! so is this node: it is a member at once. A majority of the group must have answered, and all of it
//! unless some are silent for [`PATIENCE`].

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver;
use serde::{Deserialize, Serialize};
use tokio::sync::watch::Receiver;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use super::links::{LinkError, Links};
use super::log::Log;
use super::network::method;
use super::node::bootstrap;
use super::types::{Members, Raft};
use super::wire::{decode, encode};
use crate::core::{EntryId, NodeId};

const MARK: &str = "joining";
/// Between two rounds of questions.
const AGAIN: Duration = Duration::from_millis(50);
/// How long one may take to answer.
const ANSWER: Duration = Duration::from_secs(1);
/// How long a new group waits for the rest of its members.
const PATIENCE: Duration = Duration::from_secs(2);

/// How a node stands, as it says itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Standing {
    /// It has not recovered yet itself.
    pub joining: bool,
    /// The highest term that it knows of, its own votes included.
    pub term: u64,
    pub last: Option<EntryId>,
}

impl Standing {
    fn is_new(&self) -> bool {
        self.last.is_none_or(|last| last.index == 0)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Takes no part.
    Asking,
    /// Takes what a leader of this term or a later one sends.
    Following {
        from_term: u64,
    },
    Member,
}

/// What the answers of the others lead to.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    Wait,
    /// The whole group is new.
    New,
    Follow {
        from_term: u64,
    },
}

/// Whether this node takes part.
pub(super) struct Joining {
    mark: PathBuf,
    phase: Mutex<Phase>,
}

impl Joining {
    /// Before the log is opened. A folder without anything in it is marked, unless the node is alone, or
    /// is known to be a new one.
    pub fn open(folder: &Path, empty: bool, nothing_to_forget: bool) -> io::Result<Self> {
        let mark = folder.join(MARK);
        if empty && !nothing_to_forget {
            File::create(&mark)?.sync_all()?;
            File::open(folder)?.sync_all()?;
        }
        let phase = if mark.exists() { Phase::Asking } else { Phase::Member };
        Ok(Self { mark, phase: Mutex::new(phase) })
    }

    fn phase(&self) -> MutexGuard<'_, Phase> {
        self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn is_member(&self) -> bool {
        *self.phase() == Phase::Member
    }

    /// Whether this node may vote, or lead.
    pub fn may_vote(&self) -> Result<(), LinkError> {
        if self.is_member() {
            return Ok(());
        }
        Err(LinkError::new("this node began with nothing and has not caught up yet: no vote"))
    }

    /// Whether it takes entries of a leader of this term: what it takes counts as acknowledged.
    pub fn may_append(&self, term: u64) -> Result<(), LinkError> {
        match *self.phase() {
            Phase::Member => Ok(()),
            Phase::Following { from_term } if term >= from_term => Ok(()),
            _ => Err(LinkError::new("this node began with nothing and asks the others first")),
        }
    }

    pub fn standing(&self, log: &Log) -> Standing {
        let term = log.vote().map_or(0, |vote| vote.term);
        let last = log.last().max(log.purged());
        Standing { joining: !self.is_member(), term, last }
    }

    fn follow(&self, from_term: u64) {
        *self.phase() = Phase::Following { from_term };
    }

    /// From now on this node is as good as any other.
    fn joined(&self) -> io::Result<()> {
        fs::remove_file(&self.mark)?;
        if let Some(folder) = self.mark.parent() {
            File::open(folder)?.sync_all()?;
        }
        *self.phase() = Phase::Member;
        Ok(())
    }
}

/// What the join needs of the node.
pub(super) struct Joiner {
    pub joining: Arc<Joining>,
    pub raft: Raft,
    pub log: Log,
    pub links: Arc<dyn Links>,
    pub id: NodeId,
    /// The other members, as the configuration says.
    pub peers: Vec<NodeId>,
    pub bootstrap: Option<Members>,
    pub applied: Receiver<Option<EntryId>>,
}

impl Joiner {
    /// Joins beside all else. The process is to stop if the disk fails.
    pub fn start(self, on_fatal: Arc<dyn Fn(String) + Send + Sync>) -> JoinHandle<()> {
        tokio::spawn(async move {
            if let Err(error) = self.join().await {
                on_fatal(format!("cannot join: {error}"));
            }
        })
    }

    /// Returns when this node is a member.
    async fn join(mut self) -> io::Result<()> {
        let began = Instant::now();
        tracing::info!("this node has no log: asking the others whether they have one");
        let new = loop {
            let standings = self.ask().await;
            let me = self.joining.standing(&self.log);
            match next(me, &standings, self.peers.len() + 1, began.elapsed() >= PATIENCE) {
                Next::Wait => sleep(AGAIN).await,
                Next::New => break true,
                Next::Follow { from_term } => {
                    self.joining.follow(from_term);
                    break false;
                }
            }
        };
        if !new {
            tracing::info!("this node joins: it votes once it has what the others have");
            // Until its first entries come, a leader of before may count what this node acknowledged in
            // its earlier life, and commit with it; after that, no more. So what was committed is asked
            // for once more then.
            self.catch_up().await;
            self.catch_up().await;
        }
        self.joining.joined()?;
        self.raft.runtime_config().elect(true);
        if new && let Some(members) = self.bootstrap.take() {
            let begun = bootstrap(&self.raft, members).await;
            begun.map_err(|error| io::Error::other(error.to_string()))?;
        }
        tracing::info!(new, "this node is a full member now");
        Ok(())
    }

    /// Those of the others that answer, each its standing.
    async fn ask(&self) -> BTreeMap<NodeId, Standing> {
        let asked = self.peers.iter().map(|peer| async move {
            let answer = self.links.call(peer.0, method::STANDING, encode(&()), ANSWER).await;
            Some((*peer, decode("a standing", &answer.ok()?).ok()?))
        });
        futures::future::join_all(asked).await.into_iter().flatten().collect()
    }

    /// Returns when this node has applied all that was committed at some moment after the call.
    async fn catch_up(&mut self) {
        loop {
            if let Some(index) = self.read_index().await {
                let reached = self.applied.wait_for(|id| id.is_some_and(|id| id.index >= index));
                // A leader that is gone meanwhile: what it had committed will still come.
                if timeout(ANSWER, reached).await.is_ok_and(|done| done.is_ok()) {
                    return;
                }
            }
            sleep(AGAIN).await;
        }
    }

    async fn read_index(&self) -> Option<u64> {
        let leader = self.raft.metrics().borrow_watched().current_leader?;
        if leader == self.id.0 {
            return None;
        }
        let answer = self.links.call(leader, method::READ_INDEX, encode(&()), ANSWER).await.ok()?;
        let entry: EntryId = decode("a read index", &answer).ok()?;
        Some(entry.index)
    }
}

fn next(me: Standing, others: &BTreeMap<NodeId, Standing>, members: usize, waited: bool) -> Next {
    let majority = members / 2 + 1;
    let all = others.len() + 1 == members;
    let enough = all || (waited && others.len() + 1 >= majority);
    if enough && me.is_new() && others.values().all(Standing::is_new) {
        return Next::New;
    }
    let recovered = others.values().filter(|standing| !standing.joining);
    let (count, term) = recovered
        .fold((0, me.term), |(count, term), standing| (count + 1, term.max(standing.term)));
    // Of two, the other one is all there is.
    if count >= majority.min(members - 1) && others.values().any(|standing| !standing.is_new()) {
        return Next::Follow { from_term: term };
    }
    Next::Wait
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEW: Standing = Standing { joining: true, term: 0, last: None };

    fn has(term: u64, index: u64) -> Standing {
        Standing { joining: false, term, last: Some(EntryId { term, index }) }
    }

    fn of(standings: &[Standing]) -> BTreeMap<NodeId, Standing> {
        (2..).map(NodeId).zip(standings.iter().copied()).collect()
    }

    #[test]
    fn a_new_group_begins_when_all_are_there_or_a_majority_after_a_while() {
        let begun = Standing { last: Some(EntryId::default()), ..NEW };
        assert_eq!(next(NEW, &of(&[NEW, begun]), 3, false), Next::New);
        assert_eq!(next(NEW, &of(&[NEW]), 3, false), Next::Wait);
        assert_eq!(next(NEW, &of(&[NEW]), 3, true), Next::New);
        assert_eq!(next(NEW, &of(&[]), 3, true), Next::Wait);
        assert_eq!(next(NEW, &of(&[NEW]), 5, true), Next::Wait);
    }

    /// caught-up: one of the others has entries, so that this one may have had them, too.
    #[test]
    fn an_emptied_node_needs_a_majority_of_others_that_remember() {
        assert_eq!(next(NEW, &of(&[has(7, 50)]), 3, true), Next::Wait, "the other may know more");
        assert_eq!(next(NEW, &of(&[has(7, 50), NEW]), 3, true), Next::Wait, "it forgot, too");
        let both = of(&[has(7, 50), has(9, 3)]);
        assert_eq!(next(NEW, &both, 3, false), Next::Follow { from_term: 9 });
        assert_eq!(next(NEW, &of(&[has(7, 50), has(7, 50)]), 5, true), Next::Wait);
        assert_eq!(next(NEW, &of(&[has(2, 9)]), 2, false), Next::Follow { from_term: 2 });
    }

    #[test]
    fn the_mark_stays_until_the_node_has_joined() {
        let folder = tempfile::tempdir().unwrap();
        assert!(Joining::open(folder.path(), true, true).unwrap().is_member(), "it is alone");
        assert!(Joining::open(folder.path(), false, false).unwrap().is_member(), "it has a log");
        assert!(!Joining::open(folder.path(), true, false).unwrap().is_member());
        // Started again half-way, with a part of the log.
        let joining = Joining::open(folder.path(), false, false).unwrap();
        assert!(joining.may_vote().is_err());
        assert!(joining.may_append(9).is_err());
        joining.follow(5);
        assert!(joining.may_append(4).is_err());
        assert!(joining.may_append(5).is_ok());
        assert!(joining.may_vote().is_err());
        joining.joined().unwrap();
        assert!(joining.may_vote().is_ok() && joining.may_append(0).is_ok());
        assert!(Joining::open(folder.path(), false, false).unwrap().is_member());
    }
}
