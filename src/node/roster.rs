//! Who the members are, as this node knows it: first what the configuration says, then what the log says.
//!
//! The log's word is kept in the data folder, so that a node that was away finds the others at its next
//! start, whatever its configuration still says. Where both know a member, the configuration's address
//! counts: that is where an operator changes it.
//!
//! While a log is replayed, or fetched by a node that began with nothing, it tells of members of long ago.
//! Whoever followed that would turn the present leader away, and hear no more. So an older word than the
//! one that is known does not count, and none takes a member away, until this node is in touch with a
//! leader and has applied what that leader has committed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::core::NodeId;
use crate::core::config::Config;
use crate::mesh::Peer;
use crate::raft::{Member, Members, Membership};
use crate::store::durable;

/// The members now.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    pub members: BTreeMap<NodeId, Named>,
    pub voters: BTreeSet<NodeId>,
    /// The entry of the log that said so; none: the configuration did.
    pub index: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Named {
    pub name: String,
    pub address: String,
}

impl Known {
    pub fn by_name(&self, name: &str) -> Option<NodeId> {
        let same = |(_, member): &(_, &Named)| member.name.eq_ignore_ascii_case(name);
        self.members.iter().find(same).map(|(id, _)| *id)
    }

    pub fn name_of(&self, id: NodeId) -> String {
        self.members.get(&id).map_or_else(|| id.to_string(), |member| member.name.clone())
    }

    pub fn peers(&self) -> Vec<Peer> {
        let peer = |(id, member): (&NodeId, &Named)| Peer {
            id: *id,
            name: member.name.clone(),
            address: member.address.clone(),
        };
        self.members.iter().map(peer).collect()
    }

    /// As Raft's first members.
    pub fn as_members(&self) -> Members {
        let member =
            |named: &Named| Member { name: named.name.clone(), address: named.address.clone() };
        self.members.iter().map(|(id, named)| (*id, member(named))).collect()
    }
}

pub struct Roster {
    path: PathBuf,
    /// What the configuration says.
    configured: BTreeMap<NodeId, Named>,
    known: watch::Sender<Arc<Known>>,
}

impl Roster {
    /// `path`: where the log's word is kept.
    pub fn open(config: &Config, path: PathBuf) -> Self {
        let configured: BTreeMap<NodeId, Named> = config
            .members
            .iter()
            .map(|member| {
                let (name, address) = (member.name.clone(), member.address.clone());
                (NodeId(member.id), Named { name, address })
            })
            .collect();
        let kept = std::fs::read(&path).ok().and_then(|bytes| match serde_json::from_slice(&bytes) {
            Ok(known) => Some(known),
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "the list of members cannot be read; using the configuration's");
                None
            }
        });
        let first = kept.unwrap_or_else(|| Known {
            voters: configured.keys().copied().collect(),
            members: configured.clone(),
            index: None,
        });
        let roster = Self { path, configured, known: watch::Sender::default() };
        roster.known.send_replace(Arc::new(roster.addressed(first)));
        roster
    }

    pub fn now(&self) -> Arc<Known> {
        Arc::clone(&self.known.borrow())
    }

    /// The members, each time that they are others.
    pub fn changes(&self) -> watch::Receiver<Arc<Known>> {
        self.known.subscribe()
    }

    pub fn others(&self, me: NodeId) -> Vec<NodeId> {
        self.known.borrow().members.keys().copied().filter(|id| *id != me).collect()
    }

    /// Takes what the log says; whether that is news. `current`: this node is in touch with a leader, and
    /// has applied all that it knows to be committed.
    pub fn follow(&self, membership: &Membership, current: bool) -> bool {
        let Some(index) = membership.index else { return false };
        let named =
            |member: &Member| Named { name: member.name.clone(), address: member.address.clone() };
        let members = membership.members.iter().map(|(id, member)| (*id, named(member)));
        let before = self.now();
        let mut known = Known {
            members: members.collect(),
            voters: membership.voters.clone(),
            index: Some(index),
        };
        match before.index {
            Some(newer) if index < newer && !current => return false,
            None if !current => {
                // Who was removed and came back: of one name only one can be reached.
                known.members.retain(|id, member| {
                    before.members.contains_key(id) || before.by_name(&member.name).is_none()
                });
                known.voters.retain(|id| known.members.contains_key(id));
                let more = before.members.iter().map(|(id, member)| (*id, member.clone()));
                known.members = more.chain(known.members).collect();
                known.voters = before.voters.union(&known.voters).copied().collect();
                known.index = None;
            }
            _ => {}
        }
        let known = self.addressed(known);
        if *before == known {
            return false;
        }
        if known.index.is_some()
            && let Err(error) = self.keep(&known)
        {
            tracing::warn!(path = %self.path.display(), %error, "cannot keep the list of members");
        }
        self.known.send_replace(Arc::new(known));
        true
    }

    fn keep(&self, known: &Known) -> std::io::Result<()> {
        durable::write(&self.path, &serde_json::to_vec_pretty(known)?)
    }

    fn addressed(&self, mut known: Known) -> Known {
        for (id, member) in &mut known.members {
            if let Some(configured) = self.configured.get(id) {
                member.address.clone_from(&configured.address);
            }
        }
        known
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Config {
        let member = |id: u64| crate::core::config::Member {
            id,
            name: format!("n{id}"),
            address: format!("h{id}:1"),
        };
        Config::new("test", 1, vec![member(1), member(2)])
    }

    fn membership(index: u64, ids: &[u64]) -> Membership {
        let member = |id: u64| Member { name: format!("n{id}"), address: format!("log{id}:1") };
        Membership {
            members: ids.iter().map(|id| (NodeId(*id), member(*id))).collect(),
            voters: ids.iter().map(|id| NodeId(*id)).collect(),
            joint: false,
            index: Some(index),
        }
    }

    #[test]
    fn the_logs_word_counts_and_is_kept_but_addresses_are_the_configurations() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("members");
        let roster = Roster::open(&config(), path.clone());
        assert_eq!(roster.others(NodeId(1)), [NodeId(2)]);
        assert!(!roster.follow(&Membership::default(), true), "the log says nothing yet");
        assert!(roster.follow(&membership(7, &[2, 3]), true));
        assert!(!roster.follow(&membership(7, &[2, 3]), true));
        for roster in [roster, Roster::open(&config(), path.clone())] {
            let known = roster.now();
            assert_eq!(known.members[&NodeId(2)].address, "h2:1");
            assert_eq!(known.members[&NodeId(3)].address, "log3:1");
            assert_eq!((known.by_name("N3"), known.by_name("n1")), (Some(NodeId(3)), None));
        }
        std::fs::write(&path, "{").unwrap();
        assert_eq!(Roster::open(&config(), path).others(NodeId(1)), [NodeId(2)]);
    }

    #[test]
    fn a_name_of_long_ago_is_who_has_it_now() {
        let folder = tempfile::tempdir().unwrap();
        let roster = Roster::open(&config(), folder.path().join("members"));
        let mut before = membership(3, &[1, 7, 8]);
        if let Some(member) = before.members.get_mut(&NodeId(7)) {
            member.name = "n2".into();
        }
        assert!(roster.follow(&before, false));
        assert_eq!(roster.others(NodeId(9)), [1, 2, 8].map(NodeId));
    }

    #[test]
    fn a_log_of_long_ago_takes_no_member_away() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("members");
        let roster = Roster::open(&config(), path.clone());
        assert!(roster.follow(&membership(0, &[3]), false));
        assert_eq!(
            roster.others(NodeId(9)),
            [1, 2, 3].map(NodeId),
            "the leader may be any of them"
        );
        assert!(!path.exists());
        assert!(roster.follow(&membership(9, &[1, 4]), true));
        assert_eq!(roster.others(NodeId(9)), [1, 4].map(NodeId));
        let again = Roster::open(&config(), path);
        assert!(!again.follow(&membership(0, &[3]), false), "it is older than what is kept");
        assert!(again.follow(&membership(8, &[1, 2]), true), "what came after it was truncated");
    }
}
