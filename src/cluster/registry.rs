//! What the cluster knows of its members beside Raft's own membership: which numbers were given out and
//! for whom, the tokens that let new nodes in, and the certificate authority that vouches for them.
//!
//! Raft's membership says who replicates and who votes; this says who *should*. The leader brings the
//! one to the other, a step at a time.
//!
//! Tokens are single-use and end by themselves, as k3s and Consul have them: what is kept of a secret is
//! its SHA-256. No clock is read here: who proposes says what time it is.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{Authority, LeaseChange, Refused};
use crate::core::NodeId;

/// How long a token is remembered after its end, in seconds: so that who comes late is told why.
const REMEMBERED: u64 = 7 * 24 * 3600;
/// Tokens at once, used and ended ones included.
const TOKENS_MAX: usize = 1000;

/// What a node is meant to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Part {
    /// Votes, and may write.
    Voter,
    /// Replicates only; its mount is read-only.
    Learner,
    /// Was a member, and is none any more. Its number is never given out again.
    Removed,
}

/// A node that was let in, or whose part was changed.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Node {
    pub name: String,
    /// `host:port` of its mesh.
    pub address: String,
    pub part: Part,
}

/// A token that lets one node in.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Token {
    pub secret_sha256: [u8; 32],
    /// Seconds since 1970.
    pub expires: u64,
    /// What the node is to be.
    pub part: Part,
    pub state: TokenState,
}

/// What became of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum TokenState {
    Unused,
    /// By this node, which showed the public key with this SHA-256.
    Used {
        node: NodeId,
        key_sha256: [u8; 32],
    },
    Revoked,
}

/// A change of the registry: an entry of the log.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Change {
    CreateToken {
        id: String,
        secret_sha256: [u8; 32],
        /// Seconds since 1970.
        expires: u64,
        part: Part,
        /// Seconds since 1970, at the proposer.
        now: u64,
    },
    RevokeToken {
        id: String,
    },
    /// Lets a node in by a token, once.
    Admit {
        token: String,
        key_sha256: [u8; 32],
        /// The number that the proposer picked: beyond all that were ever given out.
        node: NodeId,
        name: String,
        address: String,
        now: u64,
    },
    /// Makes or changes what is known of a node, and its part.
    Register {
        node: NodeId,
        record: Node,
    },
    /// The certificate authority, as it is from now on.
    Certify(Authority),
    /// Of LiteFS's lease. Never before every member knows it.
    Lease(LeaseChange),
}

/// See the module.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Registry {
    nodes: BTreeMap<NodeId, Node>,
    tokens: BTreeMap<String, Token>,
    authority: Option<Authority>,
}

impl Registry {
    /// Those that were let in or changed, the removed ones included.
    #[must_use]
    pub fn nodes(&self) -> &BTreeMap<NodeId, Node> {
        &self.nodes
    }

    #[must_use]
    pub fn tokens(&self) -> &BTreeMap<String, Token> {
        &self.tokens
    }

    #[must_use]
    pub fn authority(&self) -> Option<&Authority> {
        self.authority.as_ref()
    }

    /// What a node is meant to be, if anybody ever said.
    #[must_use]
    pub fn part(&self, node: NodeId) -> Option<Part> {
        self.nodes.get(&node).map(|node| node.part)
    }

    /// A number that was never given out, `present` being those that Raft knows of.
    #[must_use]
    pub fn next_number(&self, present: &BTreeSet<NodeId>) -> NodeId {
        let highest = self.nodes.keys().chain(present).max().map_or(0, |id| id.0);
        NodeId(highest.saturating_add(1))
    }

    /// Total and deterministic, as [`super::State::apply`] is; a refused change changes nothing.
    pub(super) fn change(&mut self, change: &Change) -> Result<(), Refused> {
        match change {
            Change::CreateToken { id, secret_sha256, expires, part, now } => {
                self.tokens.retain(|_, token| token.expires.saturating_add(REMEMBERED) > *now);
                if self.tokens.contains_key(id) {
                    return Err(Refused::TokenExists);
                }
                if self.tokens.len() >= TOKENS_MAX {
                    return Err(Refused::TooManyTokens);
                }
                let token = Token {
                    secret_sha256: *secret_sha256,
                    expires: *expires,
                    part: *part,
                    state: TokenState::Unused,
                };
                self.tokens.insert(id.clone(), token);
                Ok(())
            }
            Change::RevokeToken { id } => {
                let token = self.tokens.get_mut(id).ok_or(Refused::TokenUnknown)?;
                match token.state {
                    TokenState::Used { .. } => Err(Refused::TokenUsed),
                    TokenState::Unused | TokenState::Revoked => {
                        token.state = TokenState::Revoked;
                        Ok(())
                    }
                }
            }
            Change::Admit { token, key_sha256, node, name, address, now } => {
                self.admit(token, *key_sha256, *node, name, address, *now)
            }
            Change::Register { node, record } => {
                if self.is_taken(*node, &record.name) {
                    return Err(Refused::NameTaken);
                }
                if self.part(*node) == Some(Part::Removed) && record.part != Part::Removed {
                    return Err(Refused::NumberTaken);
                }
                self.nodes.insert(*node, record.clone());
                Ok(())
            }
            Change::Certify(authority) => {
                self.authority = Some(authority.clone());
                Ok(())
            }
            // The state gives it to the lease.
            Change::Lease(_) => Ok(()),
        }
    }

    fn admit(
        &mut self,
        id: &str,
        key_sha256: [u8; 32],
        node: NodeId,
        name: &str,
        address: &str,
        now: u64,
    ) -> Result<(), Refused> {
        let taken = self.is_taken(node, name);
        let token = self.tokens.get_mut(id).ok_or(Refused::TokenUnknown)?;
        match token.state {
            TokenState::Used { .. } => return Err(Refused::TokenUsed),
            TokenState::Revoked => return Err(Refused::TokenRevoked),
            TokenState::Unused if token.expires <= now => return Err(Refused::TokenExpired),
            TokenState::Unused => {}
        }
        if taken {
            return Err(Refused::NameTaken);
        }
        if self.nodes.contains_key(&node) {
            return Err(Refused::NumberTaken);
        }
        token.state = TokenState::Used { node, key_sha256 };
        let (name, address) = (name.to_owned(), address.to_owned());
        self.nodes.insert(node, Node { name, address, part: token.part });
        Ok(())
    }

    /// Whether another node goes by this name. Names are compared without regard to case, as in
    /// certificates.
    fn is_taken(&self, node: NodeId, name: &str) -> bool {
        self.nodes.iter().any(|(id, other)| {
            *id != node && other.part != Part::Removed && other.name.eq_ignore_ascii_case(name)
        })
    }
}

#[cfg(test)]
mod tests;
