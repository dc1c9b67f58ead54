//! The two ends of an LTX file.

use super::LtxError;
use crate::core::{Checksum, Position, Txid};

pub(super) const MAGIC: [u8; 4] = *b"LTX1";
/// LTX spec: `HeaderFlagNoChecksum`.
const FLAG_NO_CHECKSUMS: u32 = 1 << 1;

/// What an LTX file says of itself before its pages (LTX spec: `Header`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Bytes; a power of two from 512 to 65536.
    pub page_size: u32,
    /// Size of the database after this file, in pages. 0: the database is deleted.
    pub commit: u32,
    /// The first transaction in the file; 1 makes it a snapshot.
    pub min_txid: Txid,
    /// The last transaction in the file.
    pub max_txid: Txid,
    /// Milliseconds since 1970, for people; nothing is decided by it.
    pub timestamp_ms: i64,
    /// Of the database before this file; 0 if it was empty, as it is before a snapshot.
    pub pre_apply: Checksum,
    /// Who made the file; 0: not said.
    pub node_id: u64,
    /// The part of a WAL that the pages came from.
    pub wal: WalSpan,
}

/// A part of a WAL; all 0 if the pages came from elsewhere.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WalSpan {
    /// Bytes from the WAL's beginning; at most `i64::MAX`.
    pub offset: u64,
    /// Bytes; at most `i64::MAX`.
    pub size: u64,
    /// Of the WAL's header.
    pub salt1: u32,
    /// Of the WAL's header.
    pub salt2: u32,
}

impl Header {
    /// Bytes in a file.
    pub const SIZE: usize = 100;

    /// Whether the file holds the whole database: it begins at its first transaction.
    pub fn is_snapshot(&self) -> bool {
        self.min_txid == Txid(1)
    }

    /// Whether the file deletes the database.
    pub fn is_deletion(&self) -> bool {
        self.commit == 0
    }

    /// The position that the database must have for this file to follow.
    pub fn base(&self) -> Position {
        Position { txid: Txid(self.min_txid.0.saturating_sub(1)), checksum: self.pre_apply }
    }

    /// The bytes of a header that says what is possible.
    pub(super) fn to_bytes(self) -> Result<[u8; Self::SIZE], LtxError> {
        let pre_apply = match (self.is_snapshot(), self.pre_apply.0) {
            (true, Checksum::FLAG) => Checksum(0),
            (false, 0) => Checksum(Checksum::FLAG),
            _ => self.pre_apply,
        };
        self.check(pre_apply)?;
        let mut out = Fields { bytes: [0; Self::SIZE], at: 0 };
        out.put(MAGIC);
        out.put(0_u32.to_be_bytes());
        out.put(self.page_size.to_be_bytes());
        out.put(self.commit.to_be_bytes());
        out.put(self.min_txid.0.to_be_bytes());
        out.put(self.max_txid.0.to_be_bytes());
        out.put(self.timestamp_ms.to_be_bytes());
        out.put(pre_apply.0.to_be_bytes());
        out.put(self.wal.offset.to_be_bytes());
        out.put(self.wal.size.to_be_bytes());
        out.put(self.wal.salt1.to_be_bytes());
        out.put(self.wal.salt2.to_be_bytes());
        out.put(self.node_id.to_be_bytes());
        Ok(out.bytes)
    }

    /// Reads a header and checks that it says what is possible. The last 20 bytes are reserved, and
    /// not looked at.
    pub(super) fn from_bytes(bytes: [u8; Self::SIZE]) -> Result<Self, LtxError> {
        let mut fields = Fields { bytes, at: 0 };
        let magic = fields.get();
        if magic != MAGIC {
            return Err(LtxError::Magic(magic));
        }
        let flags = u32::from_be_bytes(fields.get());
        if flags & !FLAG_NO_CHECKSUMS != 0 {
            return Err(LtxError::Flags(flags));
        }
        if flags != 0 {
            return Err(LtxError::NoChecksums);
        }
        let mut header = Self {
            page_size: u32::from_be_bytes(fields.get()),
            commit: u32::from_be_bytes(fields.get()),
            min_txid: Txid(u64::from_be_bytes(fields.get())),
            max_txid: Txid(u64::from_be_bytes(fields.get())),
            timestamp_ms: i64::from_be_bytes(fields.get()),
            pre_apply: Checksum(u64::from_be_bytes(fields.get())),
            wal: WalSpan {
                offset: u64::from_be_bytes(fields.get()),
                size: u64::from_be_bytes(fields.get()),
                salt1: u32::from_be_bytes(fields.get()),
                salt2: u32::from_be_bytes(fields.get()),
            },
            node_id: u64::from_be_bytes(fields.get()),
        };
        header.check(header.pre_apply)?;
        if header.pre_apply.0 == Checksum::FLAG {
            header.pre_apply = Checksum(0);
        }
        Ok(header)
    }

    /// LTX spec: `Header.Validate`. `pre_apply` as on the wire.
    fn check(&self, pre_apply: Checksum) -> Result<(), LtxError> {
        if !(512..=65536).contains(&self.page_size) || !self.page_size.is_power_of_two() {
            return Err(LtxError::PageSize(self.page_size));
        }
        if self.min_txid.0 == 0 || self.min_txid > self.max_txid {
            return Err(LtxError::Txids { min: self.min_txid, max: self.max_txid });
        }
        if !self.wal.is_possible() {
            return Err(LtxError::Wal(self.wal));
        }
        let well_formed = if self.is_snapshot() { pre_apply.0 == 0 } else { has_flag(pre_apply) };
        if !well_formed {
            return Err(LtxError::PreApply { min: self.min_txid, found: pre_apply });
        }
        Ok(())
    }
}

impl WalSpan {
    /// Both, as they stand in the WAL's header.
    #[must_use]
    pub fn salts(&self) -> [u8; 8] {
        (u64::from(self.salt1) << 32 | u64::from(self.salt2)).to_be_bytes()
    }

    /// Size and salts make sense only with an offset, as a WAL's frames begin behind its header.
    fn is_possible(&self) -> bool {
        let signed = i64::try_from(self.offset).is_ok() && i64::try_from(self.size).is_ok();
        let rest = self.size != 0 || self.salt1 != 0 || self.salt2 != 0;
        signed && (self.offset != 0 || !rest)
    }
}

/// What an LTX file says of itself after its pages (LTX spec: `Trailer`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trailer {
    /// Of the database after this file; 0 if it is deleted.
    pub post_apply: Checksum,
    /// Of the file itself.
    pub file: Checksum,
}

impl Trailer {
    /// Bytes in a file.
    pub const SIZE: usize = 16;
}

/// `post_apply` as it stands in a file, for a database of `commit` pages afterwards.
///
/// LTX spec: `Trailer.Validate`, and `Encoder.Close` for deletions.
pub(super) fn post_apply_to_wire(post_apply: Checksum, commit: u32) -> Result<Checksum, LtxError> {
    let empty = matches!(post_apply.0, 0 | Checksum::FLAG);
    match (commit, empty) {
        (0, true) => Ok(Checksum(Checksum::FLAG)),
        (1.., _) if has_flag(post_apply) => Ok(post_apply),
        _ => Err(LtxError::PostApply { found: post_apply, commit }),
    }
}

/// The way back.
pub(super) fn post_apply_from_wire(wire: Checksum, commit: u32) -> Result<Checksum, LtxError> {
    match commit {
        0 if wire.0 == Checksum::FLAG => Ok(Checksum(0)),
        1.. if has_flag(wire) => Ok(wire),
        _ => Err(LtxError::PostApply { found: wire, commit }),
    }
}

fn has_flag(checksum: Checksum) -> bool {
    checksum.0 & Checksum::FLAG != 0
}

/// A header's bytes, field by field.
struct Fields {
    bytes: [u8; Header::SIZE],
    at: usize,
}

impl Fields {
    fn put<const N: usize>(&mut self, field: [u8; N]) {
        if let Some(place) = self.bytes.get_mut(self.at..self.at + N) {
            place.copy_from_slice(&field);
        }
        self.at += N;
    }

    fn get<const N: usize>(&mut self) -> [u8; N] {
        let mut field = [0; N];
        if let Some(place) = self.bytes.get(self.at..self.at + N) {
            field.copy_from_slice(place);
        }
        self.at += N;
        field
    }
}
