//! The two ends of an LTX file of any version: what it leads to, without its pages.
//!
//! Versions 1 (which LiteFS writes), 2 and 3 have these fields at the same places; pages and flags
//! differ. Nothing but the magic number is checked: whoever trusts an end holds a database against it.

use super::LtxError;
use super::header::{Header, MAGIC, Trailer, WalSpan};
use crate::core::{Checksum, Position, Txid};

/// What an LTX file says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ends {
    /// Size of the database after it, in pages. 0: the database is deleted.
    pub commit: u32,
    pub min_txid: Txid,
    /// Of the database before it; nothing of sense before a snapshot.
    pub base: Checksum,
    /// Where it leads.
    pub position: Position,
    /// The part of a WAL that it was made of.
    pub wal: WalSpan,
}

impl Ends {
    /// Of the first [`Header::SIZE`] and the last [`Trailer::SIZE`] bytes of a file.
    ///
    /// # Errors
    /// It is no LTX file.
    pub fn parse(head: &[u8; Header::SIZE], tail: &[u8; Trailer::SIZE]) -> Result<Self, LtxError> {
        let [m0, m1, m2, m3, ..] = *head;
        if [m0, m1, m2, m3] != MAGIC {
            return Err(LtxError::Magic([m0, m1, m2, m3]));
        }
        let position = Position { txid: Txid(be64(head, 24)), checksum: Checksum(be64(tail, 0)) };
        // The upper half is the page size.
        let commit = be64(head, 8) as u32;
        let base = Checksum(be64(head, 40));
        let salts = be64(head, 64);
        let wal = WalSpan {
            offset: be64(head, 48),
            size: be64(head, 56),
            salt1: (salts >> 32) as u32,
            salt2: salts as u32,
        };
        Ok(Self { commit, min_txid: Txid(be64(head, 16)), base, position, wal })
    }
}

/// Bytes `at..at + 8` as a big-endian number.
fn be64(bytes: &[u8], at: usize) -> u64 {
    bytes.iter().skip(at).take(8).fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ltx::{Encoder, page_checksum};

    #[test]
    fn the_ends_say_what_the_whole_says() {
        let wal = WalSpan { offset: 32, size: 536, salt1: 0xfeed_0001, salt2: 7 };
        let header = Header {
            page_size: 512,
            commit: 7,
            min_txid: Txid(5),
            max_txid: Txid(9),
            timestamp_ms: 1,
            pre_apply: Checksum(Checksum::FLAG | 3),
            node_id: 1,
            wal,
        };
        let mut encoder = Encoder::new(Vec::new(), header).unwrap();
        encoder.page(3, &[1; 512]).unwrap();
        let after = page_checksum(3, &[1; 512]);
        let (mut bytes, _) = encoder.finish(after).unwrap();
        let position = Position { txid: Txid(9), checksum: after };
        let base = Checksum(Checksum::FLAG | 3);
        let said = Ends { commit: 7, min_txid: Txid(5), base, position, wal };
        let ends =
            |bytes: &[u8]| Ends::parse(bytes.first_chunk().unwrap(), bytes.last_chunk().unwrap());
        assert_eq!(ends(&bytes).unwrap(), said);
        // Version 1 has a flag that version 3 does not know.
        bytes[7] = 1;
        assert_eq!(ends(&bytes).unwrap(), said);
        bytes[3] = b'2';
        assert!(matches!(ends(&bytes), Err(LtxError::Magic(_))));
    }
}
