//! The lease is handed over to another node, and nothing that was acknowledged is lost.
//!
//! LiteFS's own handoff loses writes under load, and half the time ends LiteFS. So nobody may write
//! meanwhile: HALT of every database on the primary, wait until the target has everything, then hand over,
//! and end the HALTs when the target is primary. A HALT that is left to run out wedges replicas, so each is
//! ended, whatever happens.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::calls::Ask;
use super::engine::Litefs;
use super::positions::{Positions, Seen, holds_all_of};
use crate::cluster::LeaseChange;
use crate::core::NodeId;
use crate::mesh::PeerEventKind;

/// The longest that writers may be held up.
const HALTED: Duration = Duration::from_secs(10);
/// For one HALT: it waits for the writer of the moment.
const HALT: Duration = Duration::from_secs(5);
/// For everything else that is asked of LiteFS.
const ANSWER: Duration = Duration::from_secs(2);
/// Between two looks.
const AGAIN: Duration = Duration::from_millis(5);

impl Litefs {
    /// Hands the lease to a node, or to the one that is furthest; asked anywhere.
    ///
    /// # Errors
    /// It was not done; the primary is the same.
    pub async fn switch_over(
        self: &Arc<Self>,
        to: Option<NodeId>,
        asked: String,
        within: Duration,
    ) -> Result<NodeId, String> {
        let state = self.raft.state();
        let holder = state.lease().holder().ok_or_else(|| "nobody is primary".to_owned())?.node;
        if holder == self.me {
            return self.hand_over(to, Some(asked), within).await;
        }
        let within_ms = u64::try_from(within.as_millis()).unwrap_or(u64::MAX);
        let ask = Ask::HandOver { to, asked, within_ms };
        self.ask::<Result<NodeId, String>>(holder, &ask, within + ANSWER).await?
    }

    /// On the primary.
    pub(super) async fn hand_over(
        self: &Arc<Self>,
        to: Option<NodeId>,
        asked: Option<String>,
        within: Duration,
    ) -> Result<NodeId, String> {
        let _one = self.handing.lock().await;
        let ours = self.client.look(ANSWER).await.map_err(|error| error.to_string())?;
        if !ours.primary {
            return Err("this node is not primary".to_owned());
        }
        let (target, seen) = self.target(to, &ours.positions).await?;
        // From here on the target may take the lease, once it is given it.
        let choose = LeaseChange::Choose { node: target, asked: asked.clone() };
        self.propose(choose, ANSWER).await?.map_err(|refused| refused.to_string())?;
        let lock = i64::from(rand::random::<u32>());
        let mut halted = Vec::new();
        let within = within.min(HALTED);
        let handed = timeout(within, self.halt_and_hand(&seen, target, lock, &mut halted)).await;
        let handed = handed.unwrap_or_else(|_| Err(format!("not done within {within:?}")));
        for name in &halted {
            if let Err(error) = self.client.unhalt(name, lock, ANSWER).await {
                tracing::warn!(database = name, %error, "a HALT was not ended; it runs out");
            }
        }
        if handed.is_err() && self.holds() {
            // Nobody is to take it by accident.
            let back = LeaseChange::Choose { node: self.me, asked: None };
            if let Err(why) = self.propose(back, ANSWER).await {
                tracing::warn!(why, "the target of the switchover is still chosen");
            }
        }
        handed.map(|()| target)
    }

    fn holds(&self) -> bool {
        let state = self.raft.state();
        state.lease().holder().is_some_and(|holder| holder.node == self.me)
    }

    /// caught-up: who is attached, and lacks least.
    async fn target(&self, to: Option<NodeId>, ours: &Positions) -> Result<(NodeId, Seen), String> {
        let membership = self.raft.membership().borrow().clone();
        if let Some(to) = to {
            let name = self.name_of(to);
            if !membership.voters.contains(&to) {
                return Err(format!("{name} does not vote, and so cannot be primary"));
            }
            if to == self.me {
                return Err(format!("{name} is primary already"));
            }
            if self.mesh.peer_state(to) != Some(PeerEventKind::Up) {
                return Err(format!("{name} is not reachable"));
            }
        }
        let answers = self.ask_everybody().await;
        let fits = |(id, seen): &(NodeId, Seen)| {
            *id != self.me
                && to.is_none_or(|to| to == *id)
                && membership.voters.contains(id)
                && seen.running
                && seen.attached_to.as_deref() == Some(self.settings.name.as_str())
        };
        let lacks = |seen: &Seen| {
            let lack = |(name, at): (&String, &crate::core::Position)| {
                let theirs = seen.positions.get(name).map_or(0, |position| position.txid.0);
                u128::from(at.txid.0.saturating_sub(theirs))
            };
            ours.iter().map(lack).sum::<u128>()
        };
        let attached = answers.into_iter().filter(fits);
        let best = attached.min_by_key(|(_, seen)| lacks(seen));
        best.ok_or_else(|| match to {
            Some(to) => format!("{}'s LiteFS is not attached to this one", self.name_of(to)),
            None => "no other node's LiteFS is attached to this one".to_owned(),
        })
    }

    /// A HALT of each database that has none yet. Whether there was such a one.
    async fn halt_others(
        &self,
        lock: i64,
        stands: &mut Positions,
        halted: &mut Vec<String>,
    ) -> Result<bool, String> {
        let there = self.client.look(ANSWER).await.map_err(|error| error.to_string())?.positions;
        let mut any = false;
        for name in there.into_keys() {
            if stands.contains_key(&name) {
                continue;
            }
            any = true;
            // Before it is known to have worked: it must be ended also if the answer is lost.
            halted.push(name.clone());
            let at = self.client.halt(&name, lock, HALT).await;
            stands.insert(name, at.map_err(|error| error.to_string())?);
        }
        Ok(any)
    }

    /// Waits until a node lacks nothing of this.
    async fn has_everything(&self, target: NodeId, stands: &Positions) -> Result<(), String> {
        loop {
            let theirs: Seen = self.ask(target, &Ask::Standing, ANSWER).await?;
            // Where it only takes its time, nothing is said of whom it is attached to.
            let gone =
                !theirs.running || theirs.attached_to.is_some_and(|to| to != self.settings.name);
            if gone {
                return Err(format!("{} is no longer attached", self.name_of(target)));
            }
            if holds_all_of(&theirs.positions, stands) {
                return Ok(());
            }
            sleep(AGAIN).await;
        }
    }

    async fn halt_and_hand(
        &self,
        seen: &Seen,
        target: NodeId,
        lock: i64,
        halted: &mut Vec<String>,
    ) -> Result<(), String> {
        let mut stands = Positions::new();
        // Once more after the target has everything: an application may have made a database meanwhile.
        while self.halt_others(lock, &mut stands, halted).await? {
            self.has_everything(target, &stands).await?;
        }
        let handed = self.client.hand_over(&seen.litefs_id, ANSWER).await;
        handed.map_err(|error| error.to_string())?;
        let begun = Instant::now();
        loop {
            let state = self.raft.state();
            if state.lease().holder().is_some_and(|holder| holder.node == target) {
                return Ok(());
            }
            if begun.elapsed() > HALT {
                return Err(format!("{} did not take over", self.name_of(target)));
            }
            sleep(AGAIN).await;
        }
    }
}
