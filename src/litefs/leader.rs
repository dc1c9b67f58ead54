//! What the leader sees to: that a session which is not renewed ends, and that a node is chosen when nobody
//! holds the lease.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::calls::Ask;
use super::choice::{Asked, Choice, choose};
use super::engine::Litefs;
use super::positions::Seen;
use super::timing;
use crate::cluster::{End, LeaseChange};
use crate::core::NodeId;
use crate::core::clock::unix_ms;
use crate::mesh::PeerEventKind;

/// Between two looks, if nothing happens.
const LOOK: Duration = Duration::from_millis(100);
/// The same while nobody holds the lease, for so long.
const QUICK: Duration = Duration::from_millis(20);
const QUICK_FOR: Duration = Duration::from_secs(5);
/// Two looks further apart than this: the process was paused.
const PAUSED: Duration = Duration::from_secs(1);
/// For a node to say how far it is.
const ANSWER: Duration = Duration::from_millis(500);
/// For an entry of the log.
const ENTRY: Duration = Duration::from_secs(1);
/// The node that was chosen has so long to take the lease, before it is asked again who can.
const TAKES_IT: Duration = Duration::from_secs(1);
/// So long a node that is further has time to come back, before others go on without what it has.
const COMES_BACK: Duration = Duration::from_secs(5);

/// What one leader remembers between two looks.
#[derive(Default)]
struct Duty {
    term: u64,
    /// Since when nobody holds the lease.
    vacant: Option<Instant>,
    chose: Option<Instant>,
    told: Option<String>,
}

/// While this node leads, sees to the lease. Until the node ends.
pub(super) async fn lead(litefs: Arc<Litefs>) {
    let mut applied = litefs.raft.applied();
    let mut duty = Duty::default();
    let mut looked = Instant::now();
    loop {
        applied.mark_unchanged();
        if looked.elapsed() > PAUSED {
            litefs.renewals.lock().begin_anew();
        }
        if let Some(term) = litefs.leading() {
            if duty.term != term {
                duty = Duty { term, ..Duty::default() };
            }
            litefs.see_to_the_lease(&mut duty).await;
        }
        looked = Instant::now();
        let quick = duty.vacant.is_some_and(|since| since.elapsed() < QUICK_FOR);
        tokio::select! {
            changed = applied.changed() => if changed.is_err() { return },
            () = sleep(if quick { QUICK } else { LOOK }) => {}
        }
    }
}

impl Litefs {
    async fn see_to_the_lease(&self, duty: &mut Duty) {
        let state = self.raft.state();
        let Some(holder) = state.lease().holder() else {
            duty.vacant.get_or_insert_with(Instant::now);
            let chosen = state.lease().chosen().is_some();
            if !chosen || duty.chose.is_none_or(|at| at.elapsed() > TAKES_IT) {
                self.choose(duty).await;
            }
            return;
        };
        (duty.vacant, duty.chose) = (None, None);
        let lost = timing::lost(Duration::from_millis(holder.ttl_ms));
        let over =
            self.renewals.lock().begin_to_end(duty.term, &holder.session, lost, Instant::now());
        if over {
            let name = self.name_of(holder.node);
            tracing::warn!("{name} has not renewed its lease for {lost:?}; it is over");
            let (node, session) = (holder.node, holder.session.clone());
            let change = LeaseChange::End { node, session, end: End::Expired, now_ms: unix_ms() };
            if let Err(why) = self.propose(change, ENTRY).await {
                tracing::warn!(why, "the lease cannot be ended yet");
            }
        }
    }

    async fn choose(&self, duty: &mut Duty) {
        let answers = self.ask_everybody().await;
        let membership = self.raft.membership().borrow().clone();
        let state = self.raft.state();
        let lease = state.lease();
        let waited = duty.vacant.is_some_and(|since| since.elapsed() > COMES_BACK);
        // Who begins a cluster with data that others lack may be the last to start.
        let all = membership.voters.iter().all(|voter| answers.contains_key(voter));
        if lease.tenures() == 0 && !all && !waited {
            return;
        }
        let asked = Asked {
            voters: &membership.voters,
            answers: &answers,
            cluster_id: lease.cluster_id(),
            waited,
        };
        // Who held it last may be where the application's connections still are.
        let last = lease.history().back().map(|tenure| tenure.node);
        let told = match choose(&asked, lease.chosen().map(|chosen| chosen.node).or(last)) {
            Choice::Node(node) => {
                duty.chose = Some(Instant::now());
                if lease.chosen().is_some_and(|chosen| chosen.node == node) {
                    return;
                }
                let change = LeaseChange::Choose { node, asked: None };
                match self.propose(change, ENTRY).await {
                    Ok(Ok(())) => {
                        duty.told = None;
                        tracing::info!("{} is to be primary", self.name_of(node));
                        return;
                    }
                    Ok(Err(refused)) => refused.to_string(),
                    Err(why) => why,
                }
            }
            Choice::NoMajority => "no majority says how far it is".to_owned(),
            Choice::Nobody if waited => {
                let running = answers.values().filter(|seen| seen.running).count();
                format!("none of {} nodes can be primary; on {running} LiteFS runs", answers.len())
            }
            Choice::Nobody => return,
        };
        if duty.told.as_ref() != Some(&told) {
            tracing::warn!(why = told, "no primary is chosen");
            duty.told = Some(told);
        }
    }

    /// How far everybody is who can be reached.
    pub(super) async fn ask_everybody(&self) -> BTreeMap<NodeId, Seen> {
        let members = self.raft.membership().borrow().members.clone();
        let asked = members.keys().map(async |id| {
            let seen = if *id == self.me {
                Some(self.standing(ANSWER).await)
            } else if self.mesh.peer_state(*id) != Some(PeerEventKind::Up) {
                // Nothing waits for who cannot be reached.
                None
            } else {
                self.ask::<Seen>(*id, &Ask::Standing, ANSWER).await.ok()
            };
            seen.map(|seen| (*id, seen))
        });
        futures::future::join_all(asked).await.into_iter().flatten().collect()
    }
}
