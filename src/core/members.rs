//! Changing who belongs to the cluster, as the API and the command line put it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::NodeId;

/// What is asked of the leader.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "wish", rename_all = "snake_case")]
pub enum Wish {
    /// A token that lets one node in.
    CreateToken {
        learner: bool,
        ttl_seconds: u64,
    },
    ListTokens,
    RevokeToken {
        id: String,
    },
    /// A node that has a certificate already.
    Add {
        name: String,
        address: String,
        learner: bool,
    },
    Remove {
        name: String,
    },
    /// It is to vote.
    Promote {
        name: String,
    },
    /// It is to replicate only.
    Demote {
        name: String,
    },
    /// A new CA in place of the present one.
    RotateCa,
}

/// What was done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Told {
    /// The only time that the token itself is told.
    Token {
        token: String,
        id: String,
        expires_seconds: u64,
    },
    Tokens {
        tokens: Vec<TokenStatus>,
    },
    Revoked {
        id: String,
    },
    /// The cluster has these members now.
    Done {
        name: String,
        id: NodeId,
    },
    /// It is decided, and goes on by itself.
    Accepted {
        what: String,
    },
}

/// A token, without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TokenStatus {
    pub id: String,
    /// Seconds since 1970.
    pub expires_seconds: u64,
    /// `voter` or `learner`.
    pub role: String,
    pub state: TokenUse,
    /// Who used it.
    pub node: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TokenUse {
    Unused,
    Used,
    Revoked,
    Expired,
}

/// Why it was not done; nothing changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum NotDone {
    /// There is nothing of that name.
    #[error("{0}")]
    Unknown(String),
    /// The name, or what is asked for, is there already; or another change is under way.
    #[error("{0}")]
    Conflict(String),
    /// It would do harm as things are.
    #[error("{0}")]
    Refused(String),
    /// There is no leader, or it has just changed: it was not even begun.
    #[error("{0}")]
    NoLeader(String),
    /// Nobody can do it now: no majority, no answer.
    #[error("{0}")]
    Unavailable(String),
}
