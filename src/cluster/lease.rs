//! The lease of the other engine, LiteFS: which node may be its primary, who is, and its cluster's id.
//!
//! What LiteFS would ask of Consul. A session is known here from when it holds the lease, and under the
//! name that the node gave it; before that nobody but its own node has to know it.
//!
//! one-primary: the lease is held by one session at a time, and given only to the node that was chosen
//! for it, or to whom its holder handed the session over. caught-up: the leader chooses, after it has
//! asked a majority how far they are; here it is only written down.
//!
//! No clock is read here: who proposes says what time it is, and it is for people. How long a session
//! lives is counted by the leader, which proposes its end.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::Refused;
use crate::core::NodeId;
use crate::core::history::Cause;

/// Tenures that are remembered.
const HISTORY: usize = 100;
/// The longest id of a cluster, session, or name of who asked for something, in bytes.
const TEXT_MAX: usize = 256;

/// A change of the lease: an entry of the log.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum LeaseChange {
    /// LiteFS's name for the cluster. The first one stays: another would split it.
    Identify { cluster_id: String },
    /// This node alone may take the lease: when it is free, or when its holder hands it over.
    Choose {
        node: NodeId,
        /// Whoever asked for it by name.
        asked: Option<String>,
    },
    /// The chosen node takes it, or the node that the holder gave its session to.
    Acquire {
        node: NodeId,
        session: String,
        ttl_ms: u64,
        /// Milliseconds since 1970, at the proposer.
        now_ms: u64,
    },
    /// The session is over, and with it the lease. It then has to be chosen anew.
    /// Named with the node that held it: after a handover another holds the same session.
    End { node: NodeId, session: String, end: End, now_ms: u64 },
}

/// Why a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum End {
    /// Its process is dead, as the node says that was its parent.
    Died,
    /// It was not renewed in time.
    Expired,
    /// It gave the lease back itself.
    Released,
    /// It did not answer its own node, which killed it.
    Hung,
}

/// Who holds the lease.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Holder {
    pub node: NodeId,
    pub session: String,
    pub ttl_ms: u64,
    /// Which time it is that somebody took it; each has a number of its own.
    pub tenure: u64,
}

/// Who may take the lease.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Chosen {
    pub node: NodeId,
    pub asked: Option<String>,
}

/// The lease is free.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Vacancy {
    pub before: NodeId,
    pub end: End,
    pub since_ms: u64,
}

/// A node began to be the primary.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Tenure {
    pub number: u64,
    pub node: NodeId,
    pub since_ms: u64,
    pub before: Option<NodeId>,
    /// How the one before ended; `None` where it handed over, or there was none.
    pub end: Option<End>,
    pub asked: Option<String>,
    /// How long the lease was free.
    pub vacant_ms: u64,
}

impl Tenure {
    /// Why it began, in the words of the history.
    #[must_use]
    pub fn cause(&self) -> Cause {
        match (self.before, self.end) {
            (None, _) => Cause::First,
            (Some(_), None) => Cause::Switchover,
            (Some(_), Some(_)) if self.asked.is_some() => Cause::Switchover,
            (Some(_), Some(End::Died)) => Cause::Died,
            (Some(_), Some(End::Expired | End::Hung)) => Cause::Silent,
            (Some(_), Some(End::Released)) => Cause::Stopped,
        }
    }
}

/// See the module.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Lease {
    cluster_id: Option<String>,
    chosen: Option<Chosen>,
    holder: Option<Holder>,
    vacancy: Option<Vacancy>,
    tenures: u64,
    history: VecDeque<Tenure>,
}

impl Lease {
    #[must_use]
    pub fn cluster_id(&self) -> Option<&str> {
        self.cluster_id.as_deref()
    }

    #[must_use]
    pub fn chosen(&self) -> Option<&Chosen> {
        self.chosen.as_ref()
    }

    #[must_use]
    pub fn holder(&self) -> Option<&Holder> {
        self.holder.as_ref()
    }

    /// The oldest first; only so many.
    #[must_use]
    pub fn history(&self) -> &VecDeque<Tenure> {
        &self.history
    }

    /// How often somebody took it.
    #[must_use]
    pub fn tenures(&self) -> u64 {
        self.tenures
    }

    /// Whether the session may become, or stay, the holder's.
    #[must_use]
    pub fn is_free_for(&self, node: NodeId, session: &str) -> bool {
        match &self.holder {
            Some(holder) => holder.session == session,
            None => self.chosen.as_ref().is_some_and(|chosen| chosen.node == node),
        }
    }

    /// Total and deterministic, as [`super::State::apply`] is; a refused change changes nothing.
    pub(super) fn change(&mut self, change: &LeaseChange) -> Result<(), Refused> {
        match change {
            LeaseChange::Identify { cluster_id } => {
                check(cluster_id)?;
                match &self.cluster_id {
                    None => self.cluster_id = Some(cluster_id.clone()),
                    Some(known) if known == cluster_id => {}
                    Some(_) => return Err(Refused::OtherCluster),
                }
                Ok(())
            }
            LeaseChange::Choose { node, asked } => {
                if let Some(asked) = asked {
                    check(asked)?;
                }
                self.chosen = Some(Chosen { node: *node, asked: asked.clone() });
                Ok(())
            }
            LeaseChange::Acquire { node, session, ttl_ms, now_ms } => {
                self.acquire(*node, session, *ttl_ms, *now_ms)
            }
            LeaseChange::End { node, session, end, now_ms } => {
                let holds =
                    |holder: &mut Holder| holder.node == *node && holder.session == *session;
                let holder = self.holder.take_if(holds).ok_or(Refused::SessionUnknown)?;
                self.chosen = None;
                self.vacancy = Some(Vacancy { before: holder.node, end: *end, since_ms: *now_ms });
                Ok(())
            }
        }
    }

    fn acquire(
        &mut self,
        node: NodeId,
        session: &str,
        ttl_ms: u64,
        now_ms: u64,
    ) -> Result<(), Refused> {
        check(session)?;
        if !self.is_free_for(node, session) {
            let held = self.holder.is_some();
            return Err(if held { Refused::LeaseHeld } else { Refused::NotChosen });
        }
        let before = self.holder.as_ref().map(|holder| holder.node);
        if before == Some(node) {
            // LiteFS writes the key again; it is what it was.
            return Ok(());
        }
        self.tenures = self.tenures.saturating_add(1);
        let vacancy = self.vacancy.take();
        let asked = self.chosen.take().filter(|chosen| chosen.node == node);
        let vacant = vacancy.as_ref().map_or(0, |free| now_ms.saturating_sub(free.since_ms));
        self.history.push_back(Tenure {
            number: self.tenures,
            node,
            since_ms: now_ms,
            before: before.or(vacancy.as_ref().map(|free| free.before)),
            end: vacancy.map(|free| free.end),
            asked: asked.and_then(|chosen| chosen.asked),
            vacant_ms: vacant,
        });
        while self.history.len() > HISTORY {
            self.history.pop_front();
        }
        let session = session.to_owned();
        self.holder = Some(Holder { node, session, ttl_ms, tenure: self.tenures });
        self.chosen = Some(Chosen { node, asked: None });
        Ok(())
    }

    /// Whether [`Self::change`] could have made this; what was read from a disk may not be so.
    pub(super) fn is_consistent(&self) -> bool {
        let numbers = self.history.iter().map(|tenure| tenure.number);
        self.history.len() <= HISTORY
            && numbers.is_sorted()
            && self.history.back().map_or(0, |last| last.number) == self.tenures
            && self.holder.as_ref().is_none_or(|holder| holder.tenure == self.tenures)
            && (self.holder.is_none() || self.vacancy.is_none())
    }
}

/// Bounds what a node can have written into the state.
fn check(text: &str) -> Result<(), Refused> {
    if text.len() <= TEXT_MAX { Ok(()) } else { Err(Refused::TooLong) }
}

#[cfg(test)]
mod tests;
