//! The format of a segment: a header, then records.
//!
//! All numbers little-endian. Header, 64 bytes: magic (8), version (4), zero (4), number of the
//! segment (8), nonce (8), end of the previous segment (8), CRC-32C of those 40 bytes (4), zeros.
//! Record, at a multiple of 8: length of the body (4), CRC-32C (4), kind (1), zeros (3), synced
//! (4), body, zeros up to a multiple of 8.
//!
//! - The CRC of a record covers the segment's nonce, the record's offset, and all of it but the
//!   CRC: files are used again, and what their last life left is no record of this one.
//! - `synced` is the offset up to which the segment was durable when the record was written: an
//!   unreadable record before the `synced` of a later one was damaged, not merely cut short.
//! - A segment is begun after the one before is durable, and says where that one ended: an
//!   unreadable record before that end was damaged.

use crc_fast::{CrcAlgorithm, Digest};

const MAGIC: [u8; 8] = *b"LFSPYLOG";
/// Of the format, records and their bodies included.
const VERSION: u32 = 1;
/// Bytes before the first record.
pub const SEGMENT_HEADER: usize = 64;
/// Bytes before a record's body.
pub const RECORD_HEADER: usize = 16;
const ALIGN: usize = 8;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Vote,
    Entry,
    /// Up to here it is committed.
    Committed,
    /// Everything after this one is gone.
    Truncate,
    /// Everything up to this one is gone.
    Purge,
}

impl Kind {
    fn number(self) -> u8 {
        match self {
            Kind::Vote => 1,
            Kind::Entry => 2,
            Kind::Committed => 3,
            Kind::Truncate => 4,
            Kind::Purge => 5,
        }
    }

    fn of(number: u8) -> Option<Self> {
        [Kind::Vote, Kind::Entry, Kind::Committed, Kind::Truncate, Kind::Purge]
            .into_iter()
            .find(|kind| kind.number() == number)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentHeader {
    pub number: u64,
    /// Of this life of the file.
    pub nonce: u64,
    /// Where the records of the segment before this one end; 0: there was none.
    pub previous_end: u64,
}

/// Why a file is not a segment of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeaderError {
    /// Nothing that was ever completed.
    Invalid,
    /// Written by another version of the program.
    Version(u32),
}

fn crc(parts: &[&[u8]]) -> u32 {
    let mut digest = Digest::new(CrcAlgorithm::Crc32Iscsi);
    for part in parts {
        digest.update(part);
    }
    digest.finalize() as u32
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

impl SegmentHeader {
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::from(MAGIC);
        bytes.extend(VERSION.to_le_bytes());
        bytes.extend([0; 4]);
        bytes.extend(self.number.to_le_bytes());
        bytes.extend(self.nonce.to_le_bytes());
        bytes.extend(self.previous_end.to_le_bytes());
        bytes.extend(crc(&[&bytes]).to_le_bytes());
        bytes.resize(SEGMENT_HEADER, 0);
        bytes
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, HeaderError> {
        let covered = bytes.get(..40).ok_or(HeaderError::Invalid)?;
        if !covered.starts_with(&MAGIC) || u32_at(bytes, 40) != Some(crc(&[covered])) {
            return Err(HeaderError::Invalid);
        }
        match u32_at(bytes, 8) {
            Some(VERSION) => {}
            other => return Err(HeaderError::Version(other.unwrap_or_default())),
        }
        let number = |at| u64_at(bytes, at).ok_or(HeaderError::Invalid);
        Ok(Self { number: number(16)?, nonce: number(24)?, previous_end: number(32)? })
    }
}

/// A record as it stands in a segment.
#[derive(Debug, PartialEq, Eq)]
pub struct Record<'a> {
    pub kind: Kind,
    pub synced: u32,
    pub body: &'a [u8],
    /// Offset of what follows it.
    pub end: usize,
}

/// Bytes of a record with such a body.
pub const fn record_len(body: usize) -> usize {
    (RECORD_HEADER + body).next_multiple_of(ALIGN)
}

fn record_crc(nonce: u64, offset: usize, header: &[u8], body: &[u8]) -> u32 {
    let (len, rest) = (header.get(..4), header.get(8..RECORD_HEADER));
    crc(&[
        &nonce.to_le_bytes(),
        &(offset as u64).to_le_bytes(),
        len.unwrap_or_default(),
        rest.unwrap_or_default(),
        body,
    ])
}

/// Puts a record, that will stand at `offset` of the segment, at the end of `out`.
pub fn write_record(
    out: &mut Vec<u8>,
    nonce: u64,
    offset: usize,
    kind: Kind,
    synced: u32,
    body: &[u8],
) {
    let mut header = [0; RECORD_HEADER];
    header[..4].copy_from_slice(&(body.len() as u32).to_le_bytes());
    header[8] = kind.number();
    header[12..].copy_from_slice(&synced.to_le_bytes());
    let crc = record_crc(nonce, offset, &header, body);
    header[4..8].copy_from_slice(&crc.to_le_bytes());
    let end = out.len() + record_len(body.len());
    out.extend(header);
    out.extend(body);
    out.resize(end, 0);
}

/// The record at `offset` of a segment's bytes, if there is a whole and sound one.
pub fn read_record(segment: &[u8], nonce: u64, offset: usize) -> Option<Record<'_>> {
    parse_record(segment.get(offset..)?, nonce, offset)
}

/// The record that `bytes` begin with, if it is whole and sound, and was written at `offset`.
pub fn parse_record(bytes: &[u8], nonce: u64, offset: usize) -> Option<Record<'_>> {
    let header = bytes.get(..RECORD_HEADER)?;
    let kind = Kind::of(*header.get(8)?)?;
    let len = usize::try_from(u32_at(header, 0)?).ok()?;
    let whole = RECORD_HEADER.checked_add(len)?.checked_next_multiple_of(ALIGN)?;
    let body = bytes.get(RECORD_HEADER..RECORD_HEADER + len)?;
    // The padding too, or a record would be whole before the next one could begin after it.
    if bytes.get(RECORD_HEADER + len..whole)?.iter().any(|byte| *byte != 0) {
        return None;
    }
    let sound = u32_at(header, 4)? == record_crc(nonce, offset, header, body);
    let end = offset.checked_add(whole)?;
    sound.then_some(Record { kind, synced: u32_at(header, 12)?, body, end })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_of_another_life_or_place_is_none() {
        let mut bytes = vec![0; 64];
        write_record(&mut bytes, 7, 64, Kind::Entry, 64, b"hello");
        let record = read_record(&bytes, 7, 64).unwrap();
        assert_eq!((record.kind, record.body, record.end), (Kind::Entry, &b"hello"[..], 88));
        assert_eq!(read_record(&bytes, 8, 64), None);
        bytes.extend_from_within(64..);
        assert_eq!(read_record(&bytes, 7, 88), None, "the same bytes elsewhere");
        for flip in 64..88 {
            let mut damaged = bytes.clone();
            damaged[flip] ^= 1;
            assert_eq!(read_record(&damaged, 7, 64), None, "byte {flip} flipped");
        }
        for cut in 64..88 {
            assert_eq!(read_record(&bytes[..cut], 7, 64), None, "cut at {cut}");
        }
    }

    #[test]
    fn a_header_is_known_again() {
        let header = SegmentHeader { number: 5, nonce: 6, previous_end: 7 };
        let bytes = header.encode();
        assert_eq!(SegmentHeader::decode(&bytes), Ok(header));
        for flip in 0..44 {
            let mut damaged = bytes.clone();
            damaged[flip] ^= 1;
            assert_eq!(SegmentHeader::decode(&damaged), Err(HeaderError::Invalid));
        }
        assert_eq!(SegmentHeader::decode(&[]), Err(HeaderError::Invalid));
    }
}
