//! Positions and the checksum of a database, as LTX defines them.
//!
//! LTX spec: a database's checksum is the XOR over its pages of CRC-64/GO-ISO of the page number
//! (big-endian, 4 bytes) and the page, with the top bit set ("checksum flag"); the lock page is
//! left out. An empty database has the checksum 0 here, and "flag only" on the wire.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A transaction number of a database; the first is 1. Never goes back within an incarnation.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Txid(pub u64);

/// The checksum of one page or of a whole database.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Checksum(pub u64);

impl Checksum {
    /// The top bit, set in every checksum that is one (LTX spec: `ChecksumFlag`).
    pub const FLAG: u64 = 1 << 63;

    /// Takes a page's checksum into, or out of, a database's.
    #[must_use]
    pub fn toggle(self, page: Checksum) -> Checksum {
        Checksum(Self::FLAG | (self.0 ^ page.0))
    }
}

/// Where a database stands: how many transactions, and the bytes they made.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Position {
    pub txid: Txid,
    pub checksum: Checksum,
}

impl Position {
    /// Of a database that holds nothing yet.
    pub const EMPTY: Position = Position { txid: Txid(0), checksum: Checksum(0) };
}

/// As LiteFS writes it: both in 16 hexadecimal digits, a slash between.
impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}/{:016x}", self.txid.0, self.checksum.0)
    }
}
