//! Who led when, and why that changed: what `/history` tells.
//!
//! Plain data. The node that takes office tells why it did; the others take its word for it, and
//! what they saw themselves where they cannot ask it.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A node began to lead.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LeaderChange {
    /// The Raft term in which it leads; no two changes share one.
    pub term: u64,
    /// Its name.
    pub leader: String,
    /// Since when: milliseconds since 1970, by the clock of the node that tells it.
    pub since_ms: i64,
    /// Who led before, as far as that is known.
    pub before: Option<String>,
    pub cause: Cause,
    /// Who asked for a switchover: by which way, and on which node.
    #[serde(default)]
    pub asked: Option<String>,
    /// How long there was no leader, from when the teller first noticed. Unknown when it was not
    /// there to notice.
    pub without_leader_ms: Option<u64>,
    /// The node that tells it.
    pub told_by: String,
}

/// Why the leader changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// The cluster began.
    First,
    /// The process of the leader before had died: nothing listened at its port any more.
    Died,
    /// The leader before was not heard of for an election timeout: its machine is lost, frozen or
    /// cut off.
    Silent,
    /// Somebody asked for it.
    Switchover,
    /// The leader before was stopped in order, and handed over.
    Stopped,
    /// There had been no majority, and so nobody to lead.
    NoQuorum,
    /// Whoever could tell was not there to see it.
    Unseen,
}

impl LeaderChange {
    /// Whether the node that took office tells it itself.
    #[must_use]
    pub fn is_first_hand(&self) -> bool {
        self.told_by == self.leader
    }
}

/// Why, in words: "the process of n1 died".
impl fmt::Display for LeaderChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let before = self.before.as_deref().unwrap_or("the leader before");
        let asked = self.asked.as_deref().unwrap_or("somebody");
        match self.cause {
            Cause::First => f.write_str("the cluster began"),
            Cause::Died => write!(f, "the process of {before} died"),
            Cause::Silent => write!(f, "{before} was silent"),
            Cause::Switchover => {
                write!(f, "switchover from {before}, asked for by {asked}")
            }
            Cause::Stopped => write!(f, "{before} was stopped"),
            Cause::NoQuorum => f.write_str("there had been no majority"),
            Cause::Unseen => f.write_str("not seen by the nodes that tell this"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_read_back_as_it_is_told() {
        let change = LeaderChange {
            term: 4,
            leader: "n2".to_owned(),
            since_ms: 1_700_000_000_000,
            before: Some("n1".to_owned()),
            cause: Cause::Switchover,
            asked: Some("the Unix socket of n3".to_owned()),
            without_leader_ms: Some(12),
            told_by: "n2".to_owned(),
        };
        let json = serde_json::to_value(&change).unwrap();
        assert_eq!(json["cause"], "switchover");
        assert_eq!(json["asked"], "the Unix socket of n3");
        assert_eq!(serde_json::from_value::<LeaderChange>(json).unwrap(), change);
        assert_eq!(change.to_string(), "switchover from n1, asked for by the Unix socket of n3");
    }
}
