//! Names and numbers that several rooms speak of.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A node's number in the Raft group. Never used again for another node.
#[derive(
    Debug,
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    JsonSchema,
)]
pub struct NodeId(pub u64);

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// One life of a node's process: a counter in its data folder, raised and synced at every start.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Boot(pub u64);

/// One life of a database name, from creation to deletion or restore: the Raft index of the
/// entry that created it, so that no two lives share one.
#[derive(
    Debug,
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    JsonSchema,
)]
pub struct Incarnation(pub u64);

impl Incarnation {
    /// Of files that were brought from elsewhere, and that no log has named yet (`litefs-py convert`): what
    /// the log says takes their place, and keeps what it can of them. No life has this number: it is that of
    /// the entry which begins a group.
    pub const UNNAMED: Self = Self(0);

    /// Whether files of this life have to give way to another one.
    #[must_use]
    pub fn is_another_than(self, life: Self) -> bool {
        self != life && self != Self::UNNAMED
    }
}

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// What identifies a transaction (Rule 5): who proposed it, in which of its lives, and which of
/// its proposals it was. Positions are compared, never used for this.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TransactionId {
    pub node: NodeId,
    pub boot: Boot,
    pub sequence: u64,
}

impl fmt::Display for TransactionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.node.0, self.boot.0, self.sequence)
    }
}

/// A Raft term and index: which entry.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct EntryId {
    pub term: u64,
    pub index: u64,
}

/// The name of a database: one file name in the mount's flat folder.
///
/// Not empty, at most 255 bytes less the longest suffix SQLite adds (`-journal`), no slash, no NUL,
/// no leading dot, and none of the suffixes that SQLite or the mount uses itself.
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct DatabaseName(String);

/// Why a name cannot name a database.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    #[error("a database name cannot be empty")]
    Empty,
    #[error("the database name is {0} bytes long; at most {max} are possible", max = DatabaseName::MAX_LEN)]
    TooLong(usize),
    #[error("the database name {0:?} holds a slash, a NUL or a control character")]
    Character(String),
    #[error("the database name {0:?} begins with a dot; such names are the mount's own")]
    Dot(String),
    #[error("the database name {0:?} ends in {1:?}, which belongs to SQLite or to the mount")]
    Suffix(String, &'static str),
}

impl DatabaseName {
    /// `NAME_MAX` less the length of `-journal`.
    pub const MAX_LEN: usize = 255 - 8;

    /// Suffixes of files that accompany a database.
    pub const SUFFIXES: [&'static str; 5] = ["-journal", "-wal", "-shm", "-pos", "-lock"];

    /// Checks a name.
    ///
    /// # Errors
    /// Says which rule the name breaks.
    pub fn new(name: impl Into<String>) -> Result<Self, NameError> {
        let name = name.into();
        if name.is_empty() {
            return Err(NameError::Empty);
        }
        if name.len() > Self::MAX_LEN {
            return Err(NameError::TooLong(name.len()));
        }
        if name.chars().any(|c| c == '/' || c.is_control()) {
            return Err(NameError::Character(name));
        }
        if name.starts_with('.') {
            return Err(NameError::Dot(name));
        }
        if let Some(suffix) = Self::SUFFIXES.iter().find(|s| name.ends_with(**s)) {
            return Err(NameError::Suffix(name, suffix));
        }
        Ok(Self(name))
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DatabaseName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for DatabaseName {
    type Error = NameError;

    fn try_from(name: String) -> Result<Self, Self::Error> {
        Self::new(name)
    }
}

impl From<DatabaseName> for String {
    fn from(name: DatabaseName) -> Self {
        name.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked() {
        assert!(DatabaseName::new("app.db").is_ok());
        assert_eq!(DatabaseName::new(""), Err(NameError::Empty));
        assert!(matches!(DatabaseName::new("a/b"), Err(NameError::Character(_))));
        assert!(matches!(DatabaseName::new(".primary"), Err(NameError::Dot(_))));
        assert!(matches!(DatabaseName::new("app.db-wal"), Err(NameError::Suffix(..))));
        assert!(matches!(DatabaseName::new("x".repeat(248)), Err(NameError::TooLong(248))));
    }
}
