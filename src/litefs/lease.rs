//! The lease, as a node asks for it: changes by way of the leader, and renewals.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::calls::Ask;
use super::engine::Litefs;
use crate::cluster::{Change, End, LeaseChange, Refused};
use crate::core::NodeId;
use crate::core::clock::unix_ms;
use crate::mesh::PeerEventKind;

/// Between two tries.
const AGAIN: Duration = Duration::from_millis(20);
/// For another node to say that it knows of leases.
const HELLO: Duration = Duration::from_millis(500);

/// When sessions were last renewed, as the leader counts. It begins anew in every term, and so never ends a
/// session too early: the leader before confirmed no renewal after this one was elected.
#[derive(Debug, Default)]
pub struct Renewals {
    term: u64,
    renewed: Option<(String, Instant)>,
    /// Looks at which it was found overdue, one after the other.
    overdue: u32,
    /// This session is being ended: no renewal of it is confirmed any more.
    ending: Option<String>,
}

/// So many looks find a session overdue before it is ended. After a pause of the whole machine the holder is
/// overdue at the first, and has renewed before the next.
const OVERDUE: u32 = 2;

impl Renewals {
    fn enter(&mut self, term: u64) {
        if self.term != term {
            *self = Self { term, ..Self::default() };
        }
    }

    /// A quorum has confirmed this leader since the renewal was asked for. Whether it holds.
    fn renew(&mut self, term: u64, session: &str, now: Instant) -> bool {
        self.enter(term);
        if self.ending.as_deref() == Some(session) {
            return false;
        }
        self.renewed = Some((session.to_owned(), now));
        self.overdue = 0;
        true
    }

    /// At each look: whether the session was silent for too long; if so, it cannot be renewed from here on.
    pub fn begin_to_end(
        &mut self,
        term: u64,
        session: &str,
        after: Duration,
        now: Instant,
    ) -> bool {
        self.enter(term);
        match &self.renewed {
            Some((known, at)) if known == session => {
                if now.duration_since(*at) <= after {
                    self.overdue = 0;
                    return false;
                }
            }
            // It was granted, or found in office, just now.
            _ => {
                self.renewed = Some((session.to_owned(), now));
                self.overdue = 0;
                return false;
            }
        }
        self.overdue += 1;
        if self.overdue < OVERDUE {
            return false;
        }
        self.ending = Some(session.to_owned());
        true
    }

    /// This node may have been paused: what it counts is not what went by for others.
    pub fn begin_anew(&mut self) {
        self.renewed = None;
    }
}

impl Litefs {
    /// The term in which this node leads, and knows all that was committed before.
    pub(super) fn leading(&self) -> Option<u64> {
        let leadership = *self.raft.leadership().borrow();
        (leadership.me_leading && leadership.first_entry_applied).then_some(leadership.term)
    }

    /// Has the lease changed, at the leader, whoever that is.
    ///
    /// # Errors
    /// Nobody could do it in time; it may yet be done.
    pub(super) async fn propose(
        &self,
        change: LeaseChange,
        within: Duration,
    ) -> Result<Result<(), Refused>, String> {
        let deadline = Instant::now() + within;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let leader = self.raft.leadership().borrow().leader;
            let outcome = match leader {
                None => Err("no leader is known".to_owned()),
                Some(leader) if leader == self.me => {
                    let here = timeout(left, self.propose_here(change.clone())).await;
                    here.unwrap_or_else(|_| Err(format!("not done within {within:?}")))
                }
                Some(leader) => self.ask(leader, &Ask::Change(change.clone()), left).await,
            };
            match outcome {
                Ok(done) => return Ok(done),
                Err(why) if Instant::now() + AGAIN >= deadline => return Err(why),
                Err(_) => sleep(AGAIN).await,
            }
        }
    }

    /// On the leader.
    pub(super) async fn propose_here(
        &self,
        change: LeaseChange,
    ) -> Result<Result<(), Refused>, String> {
        self.everybody_knows().await?;
        let changed = self.raft.change_registry(Change::Lease(change)).await;
        changed.map_err(|error| error.to_string())
    }

    /// An older version could not read its own log any more; and a node with the other engine has nothing
    /// to do with leases.
    async fn everybody_knows(&self) -> Result<(), String> {
        let members = self.raft.membership().borrow().members.clone();
        let up = |node: &NodeId| self.mesh.peer_state(*node) == Some(PeerEventKind::Up);
        let up: BTreeSet<NodeId> =
            members.keys().filter(|id| **id != self.me && up(id)).copied().collect();
        let unknown: Vec<NodeId> = {
            let mut known = self.speak.lock();
            known.retain(|node| up.contains(node));
            up.difference(&known).copied().collect()
        };
        for node in unknown {
            match self.ask::<()>(node, &Ask::Hello, HELLO).await {
                Ok(()) => _ = self.speak.lock().insert(node),
                Err(why) if why.contains("method") => {
                    let name =
                        members.get(&node).map_or_else(|| node.to_string(), |m| m.name.clone());
                    let why = format!(
                        "{name} does not run `engine: litefs`, or is of an older version: all \
                         members must be alike"
                    );
                    self.trouble.send_replace(Some(why.clone()));
                    return Err(why);
                }
                // It went away in between.
                Err(_) => {}
            }
        }
        Ok(())
    }

    /// Renews a session. `false`: it is over.
    ///
    /// # Errors
    /// Nobody could say so in time.
    pub(super) async fn renew(&self, session: &str, within: Duration) -> Result<bool, String> {
        let deadline = Instant::now() + within;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let leader = self.raft.leadership().borrow().leader;
            let outcome = match leader {
                None => Err("no leader is known".to_owned()),
                Some(leader) if leader == self.me => self.renew_here(session, left).await,
                Some(leader) => {
                    self.ask(leader, &Ask::Renew { session: session.to_owned() }, left).await
                }
            };
            match outcome {
                Ok(renewed) => return Ok(renewed),
                Err(why) if Instant::now() + AGAIN >= deadline => return Err(why),
                Err(_) => sleep(AGAIN).await,
            }
        }
    }

    /// one-primary: only a leader that a quorum has confirmed since it was asked knows that no other has
    /// given the lease away.
    pub(super) async fn renew_here(&self, session: &str, within: Duration) -> Result<bool, String> {
        let not_leading = || "this node does not lead".to_owned();
        let term = self.leading().ok_or_else(not_leading)?;
        let read = self.raft.read_index(within).await.map_err(|error| error.to_string())?;
        let mut applied = self.raft.applied();
        let caught_up = applied.wait_for(|at| at.is_some_and(|at| at.index >= read.index));
        match timeout(within, caught_up).await {
            Ok(Ok(_)) => {}
            _ => return Err("this leader has not applied its log yet".to_owned()),
        }
        let state = self.raft.state();
        let holds = state.lease().holder().is_some_and(|holder| holder.session == session);
        if self.leading() != Some(term) {
            return Err(not_leading());
        }
        Ok(holds && self.renewals.lock().renew(term, session, Instant::now()))
    }

    /// Whether so few of the voters can be reached that nothing can be committed.
    pub(super) fn is_alone(&self) -> bool {
        let voters = self.raft.membership().borrow().voters.clone();
        !self.mesh.reaches_majority(&voters)
    }

    /// Ends this node's session, if it has one: the process that held it is dead, or gave it back.
    pub(super) async fn end_session(self: &Arc<Self>, end: End, within: Duration) -> bool {
        let state = self.raft.state();
        let Some(holder) = state.lease().holder().filter(|holder| holder.node == self.me) else {
            return true;
        };
        let within = if self.stopping() && self.is_alone() { AGAIN } else { within };
        let (node, session) = (self.me, holder.session.clone());
        let change = LeaseChange::End { node, session, end, now_ms: unix_ms() };
        let done = self.propose(change, within).await;
        if let Err(why) = &done {
            tracing::warn!(why, "the lease could not be given back; it runs out by itself");
        }
        done.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(3);
    const BIT: Duration = Duration::from_millis(1);

    /// one-primary: what was renewed is not ended, and what is being ended is not renewed.
    #[test]
    fn a_session_is_renewed_or_ended_but_never_both() {
        let (mut renewals, begun) = (Renewals::default(), Instant::now());
        assert!(!renewals.begin_to_end(1, "s", LONG, begun), "found just now");
        let renewed = begun + LONG / 2;
        assert!(renewals.renew(1, "s", renewed));
        assert!(!renewals.begin_to_end(1, "s", LONG, renewed + LONG));
        let late = renewed + LONG + BIT;
        assert!(!renewals.begin_to_end(1, "s", LONG, late), "the machine may have been paused");
        assert!(renewals.begin_to_end(1, "s", LONG, late));
        assert!(!renewals.renew(1, "s", renewed + LONG + BIT));
        assert!(renewals.renew(1, "t", renewed + LONG + BIT), "another is another");
    }

    /// one-primary: a new leader counts from when it began, and so does one that was paused.
    #[test]
    fn another_term_counts_anew() {
        let (mut renewals, begun) = (Renewals::default(), Instant::now());
        assert!(renewals.renew(1, "s", begun));
        assert!(!renewals.begin_to_end(2, "s", LONG, begun + LONG * 2));
        renewals.begin_anew();
        assert!(!renewals.begin_to_end(2, "s", LONG, begun + LONG * 4));
        let late = begun + LONG * 6;
        let looks: Vec<bool> =
            (0..OVERDUE).map(|_| renewals.begin_to_end(2, "s", LONG, late)).collect();
        assert_eq!(looks, [false, true]);
    }
}
