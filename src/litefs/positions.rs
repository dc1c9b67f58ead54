//! How far a LiteFS is: a position for each of its databases; and how two of them compare. Pure.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::core::{Checksum, Position, Txid};

/// By the names of the databases; those that hold nothing are left out.
pub type Positions = BTreeMap<String, Position>;

/// What a node last saw of its LiteFS.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// The process runs, and answers.
    pub running: bool,
    /// It can be written to.
    pub primary: bool,
    /// The name of the primary that it is attached to.
    pub attached_to: Option<String>,
    /// Its own number, of this life: hexadecimal digits.
    pub litefs_id: String,
    /// Its cluster's; empty where it has none yet.
    pub cluster_id: String,
    pub positions: Positions,
    /// The last tenure of a primary that it has followed, or was itself.
    #[serde(default)]
    pub tenure: Option<u64>,
}

/// A position, as LiteFS says it: two texts of hexadecimal digits.
pub fn position(txid: &str, checksum: &str) -> Option<Position> {
    let number = |digits: &str| u64::from_str_radix(digits, 16).ok();
    Some(Position { txid: Txid(number(txid)?), checksum: Checksum(number(checksum)?) })
}

/// Whether there is a database at this position: one that was deleted leaves its name at the checksum of
/// nothing.
pub fn takes_the_name(position: &Position) -> bool {
    position.checksum != Checksum(Checksum::FLAG)
}

/// Whether the one lacks no transaction that the other has.
pub fn holds_all_of(one: &Positions, other: &Positions) -> bool {
    other.iter().all(|(name, theirs)| one.get(name).is_some_and(|ours| ours.txid >= theirs.txid))
}

/// Transactions in all databases together: for who has to be chosen where none holds all.
pub fn total(positions: &Positions) -> u128 {
    positions.values().map(|position| u128::from(position.txid.0)).sum()
}

/// How a database of a replica stands to its primary's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stand {
    /// The primary went on from there.
    Follows,
    /// The primary has other transactions, or lacks some: they would be overwritten.
    Diverged,
    /// The primary has no such database.
    Lacking,
    /// So long ago that the primary does not know any more what was there.
    Unknown,
}

/// How a replica's database stands to the primary's, `then` being what the primary knows to have been its
/// checksum after the replica's last transaction.
pub fn compare(ours: Position, theirs: Option<Position>, then: Option<Checksum>) -> Stand {
    let Some(theirs) = theirs else { return Stand::Lacking };
    let same = |same: bool| if same { Stand::Follows } else { Stand::Diverged };
    match ours.txid.cmp(&theirs.txid) {
        std::cmp::Ordering::Greater => Stand::Diverged,
        std::cmp::Ordering::Equal => same(ours.checksum == theirs.checksum),
        std::cmp::Ordering::Less => match then {
            Some(checksum) => same(ours.checksum == checksum),
            None => Stand::Unknown,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(txid: u64, checksum: u64) -> Position {
        Position { txid: Txid(txid), checksum: Checksum(Checksum::FLAG | checksum) }
    }

    #[test]
    fn positions_are_read_as_litefs_writes_them() {
        assert_eq!(position("000000000000001f", "8000000000000007"), Some(at(0x1f, 7)));
        assert_eq!(position("", "8000000000000007"), None);
    }

    /// nothing-discarded: what would be overwritten is seen, and what goes on is left alone.
    #[test]
    fn a_replica_is_compared_with_its_primary() {
        let then = |checksum| Some(Checksum(Checksum::FLAG | checksum));
        assert_eq!(compare(at(5, 1), Some(at(5, 1)), None), Stand::Follows);
        assert_eq!(compare(at(5, 1), Some(at(5, 2)), None), Stand::Diverged);
        assert_eq!(compare(at(6, 1), Some(at(5, 1)), then(1)), Stand::Diverged);
        assert_eq!(compare(at(4, 1), Some(at(5, 1)), then(1)), Stand::Follows);
        assert_eq!(compare(at(4, 1), Some(at(5, 1)), then(2)), Stand::Diverged);
        assert_eq!(compare(at(4, 1), Some(at(5, 1)), None), Stand::Unknown);
        assert_eq!(compare(at(4, 1), None, None), Stand::Lacking);
    }

    #[test]
    fn one_holds_all_of_another_or_not() {
        let of = |list: &[(&str, u64)]| {
            list.iter().map(|(name, txid)| ((*name).to_owned(), at(*txid, 0))).collect()
        };
        let (a, b): (Positions, Positions) = (of(&[("x", 3), ("y", 2)]), of(&[("x", 2)]));
        assert!(holds_all_of(&a, &b) && !holds_all_of(&b, &a));
        let c: Positions = of(&[("x", 4)]);
        assert!(!holds_all_of(&a, &c) && !holds_all_of(&c, &a));
        assert!(holds_all_of(&a, &a) && holds_all_of(&a, &Positions::new()));
        assert_eq!(total(&a), 5);
    }
}
