//! Before a LiteFS may attach to a new primary, its databases are compared with that primary's; what would
//! be overwritten is copied aside (nothing-discarded).
//!
//! LiteFS overwrites silently, and only after it has learned who is primary. It learns that from the facade,
//! which knows of no primary until this gate is open for its tenure. Until then it is attached to nobody: the
//! connections to the primary before are cut.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::calls::Ask;
use super::engine::Litefs;
use super::positions::{Positions, Stand};
use crate::cluster::Holder;
use crate::core::DatabaseName;
use crate::core::clock::unix_seconds;
use crate::store::{durable, set_litefs_aside};

/// Between two looks, if nothing happens.
const LOOK: Duration = Duration::from_millis(250);
/// Between two tries.
const AGAIN: Duration = Duration::from_millis(50);
/// For this node's LiteFS to say how it is, and for the primary to compare.
const ANSWER: Duration = Duration::from_secs(3);
/// While it cannot be compared, it is said so often.
const TELL: Duration = Duration::from_secs(10);

/// The last tenure in which this node's LiteFS was attached, or primary.
const LAST: &str = "last-tenure";

/// Opens the gate for each tenure. Until the node ends.
pub(super) async fn keep(litefs: Arc<Litefs>) {
    let mut applied = litefs.raft.applied();
    let mut last = litefs.last_tenure();
    *litefs.tenure.lock() = last;
    // What LiteFS still has to overwrite before it has what the primary has.
    let mut stale = Positions::new();
    loop {
        applied.mark_unchanged();
        let holder = litefs.raft.state().lease().holder().cloned();
        if let Some(holder) = holder {
            let open = *litefs.gate.borrow() == Some(holder.tenure);
            if !open && holder.node != litefs.me {
                litefs.gate.send_replace(None);
                litefs.tunnels.cut();
                stale = litefs.open_gate(&holder, last).await;
            }
            let seen = litefs.seen.borrow().clone();
            let attached =
                seen.attached_to.is_some() && *litefs.gate.borrow() == Some(holder.tenure);
            let overwritten =
                || stale.iter().all(|(name, at)| seen.positions.get(name) != Some(at));
            let follows = attached && overwritten();
            let takes_part = (holder.node == litefs.me && seen.primary) || follows;
            if takes_part && last != Some(holder.tenure) {
                last = Some(holder.tenure);
                litefs.remember(holder.tenure).await;
            }
        } else if litefs.gate.send_replace(None).is_some() {
            // LiteFS may wait there for a node that does not answer any more, and could not take the lease.
            litefs.tunnels.cut();
        }
        tokio::select! {
            changed = applied.changed() => if changed.is_err() { return },
            () = sleep(LOOK) => {}
        }
    }
}

impl Litefs {
    fn last_tenure(&self) -> Option<u64> {
        std::fs::read_to_string(self.settings.own.join(LAST)).ok()?.trim().parse().ok()
    }

    async fn remember(&self, tenure: u64) {
        *self.tenure.lock() = Some(tenure);
        let path = self.settings.own.join(LAST);
        let written = tokio::task::spawn_blocking(move || {
            durable::write(&path, format!("{tenure}\n").as_bytes())
        });
        if let Ok(Err(error)) = written.await {
            tracing::warn!(%error, "the last tenure cannot be kept; more is set aside than needed");
        }
    }

    /// Compares until it is done, or another tenure begins. What is to be overwritten.
    async fn open_gate(self: &Arc<Self>, holder: &Holder, last: Option<u64>) -> Positions {
        let mut told: Option<Instant> = None;
        loop {
            match self.compare_and_keep(holder, last).await {
                Ok(stale) => {
                    self.gate.send_replace(Some(holder.tenure));
                    return stale;
                }
                Err(why) if told.is_none_or(|at| at.elapsed() > TELL) => {
                    let primary = self.name_of(holder.node);
                    tracing::info!(primary, why, "not compared with the new primary yet");
                    told = Some(Instant::now());
                }
                Err(_) => {}
            }
            sleep(AGAIN).await;
            let state = self.raft.state();
            if state.lease().holder().is_none_or(|now| now.tenure != holder.tenure) {
                return Positions::new();
            }
        }
    }

    async fn compare_and_keep(
        self: &Arc<Self>,
        holder: &Holder,
        last: Option<u64>,
    ) -> Result<Positions, String> {
        let ours = self.standing(ANSWER).await;
        if ours.primary || ours.attached_to.is_some() {
            return Err("LiteFS has not left the primary before yet".to_owned());
        }
        if ours.positions.is_empty() {
            return Ok(Positions::new());
        }
        let compare = Ask::Compare(ours.positions.clone());
        let compared: BTreeMap<String, Stand> = self.ask(holder.node, &compare, ANSWER).await?;
        let primary = self.name_of(holder.node);
        // The primary is the one that this node was attached to last: nobody else wrote since.
        let same = last == Some(holder.tenure);
        // What the primary lacks, LiteFS leaves as it is.
        let overwritten =
            |name: &String| matches!(compared.get(name), Some(Stand::Diverged | Stand::Unknown));
        let mut stale = ours.positions.clone();
        stale.retain(|name, _| overwritten(name));
        let kept = ours.positions.into_iter().filter_map(|(name, at)| {
            let why = match compared.get(&name) {
                Some(Stand::Follows) => return None,
                Some(Stand::Unknown) if same => return None,
                Some(Stand::Unknown) => {
                    format!("{primary} became primary, and no longer knows what was at {at}")
                }
                Some(Stand::Diverged) => {
                    format!(
                        "{primary} became primary, and has other transactions than those to {at}"
                    )
                }
                Some(Stand::Lacking) | None => format!("{primary} became primary without it"),
            };
            Some((name, at, why))
        });
        let kept: Vec<_> = kept.collect();
        if kept.is_empty() {
            return Ok(stale);
        }
        let (folder, aside) = (self.settings.folder.clone(), self.settings.aside.clone());
        let set_aside = tokio::task::spawn_blocking(move || set_all_aside(&folder, &aside, kept));
        let set_aside = set_aside.await.map_err(|error| error.to_string())??;
        self.set_aside.fetch_add(set_aside, Ordering::Relaxed);
        // What was copied is what is there: LiteFS was attached to nobody all the time.
        let now = self.standing(ANSWER).await;
        if now.primary || now.attached_to.is_some() {
            return Err("LiteFS went on while it was copied".to_owned());
        }
        Ok(stale)
    }
}

type Kept = (String, crate::core::Position, String);

fn set_all_aside(folder: &Path, aside: &Path, kept: Vec<Kept>) -> Result<u64, String> {
    let mut number = 0;
    for (name, at, why) in kept {
        let database = DatabaseName::new(name.clone()).map_err(|error| error.to_string())?;
        let copied = set_litefs_aside(folder, &database, at, aside, &why, unix_seconds());
        let copied = copied.map_err(|error| format!("{name} cannot be set aside: {error}"))?;
        if let Some(place) = copied {
            tracing::error!(database = name, kept = %place.display(), why, "a database was set aside");
            number += 1;
        }
    }
    Ok(number)
}
