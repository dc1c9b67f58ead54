//! The rollback journal (file format, section 3).

use super::{be32, is_page_size};

/// The bytes that begin a journal header, and end a super-journal record.
pub const MAGIC: [u8; 8] = [0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7];

/// Bytes of a journal header that mean something; it is padded to a sector. PERSIST mode ends a
/// journal by writing zeros over these at offset 0.
pub const HEADER_SIZE: usize = 28;

/// The longest name of a super-journal that is believed, bytes. SQLite's own limit is the
/// longest path of its VFS: 512 by default, 4096 at most on Linux.
const MAX_SUPER_NAME: u32 = 4096;

/// Bytes of a super-journal record besides the name and the page number before it: length,
/// checksum, magic.
pub const SUPER_TAIL_SIZE: usize = 16;

/// The header of a journal, or of a segment of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JournalHeader {
    /// Records that follow; `None` (-1 on disk): as many as the file holds.
    pub records: Option<u32>,
    /// Where the checksums of records start from.
    pub nonce: u32,
    /// The database's size before the transaction, in pages.
    pub original_pages: u32,
    /// Bytes: headers begin at multiples of it.
    pub sector_size: u32,
    /// Bytes.
    pub page_size: u32,
}

impl JournalHeader {
    /// Reads a header. `None`: there is none (zeroed, torn or never synced), and SQLite would
    /// not play this journal back.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.first_chunk::<HEADER_SIZE>()?;
        let (sector_size, page_size) = (be32(bytes, 20), be32(bytes, 24));
        let sector_known = sector_size.is_power_of_two() && (32..=65_536).contains(&sector_size);
        if bytes[..8] != MAGIC || !sector_known || !is_page_size(page_size) {
            return None;
        }
        let records = be32(bytes, 8);
        Some(Self {
            records: (records != u32::MAX).then_some(records),
            nonce: be32(bytes, 12),
            original_pages: be32(bytes, 16),
            sector_size,
            page_size,
        })
    }

    pub fn encode(&self) -> [u8; HEADER_SIZE] {
        let mut bytes = [0; HEADER_SIZE];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&self.records.unwrap_or(u32::MAX).to_be_bytes());
        bytes[12..16].copy_from_slice(&self.nonce.to_be_bytes());
        bytes[16..20].copy_from_slice(&self.original_pages.to_be_bytes());
        bytes[20..24].copy_from_slice(&self.sector_size.to_be_bytes());
        bytes[24..28].copy_from_slice(&self.page_size.to_be_bytes());
        bytes
    }

    /// Bytes of a record: page number, page, checksum.
    pub fn record_size(&self) -> usize {
        self.page_size as usize + 8
    }

    /// Reads the record at the start of `bytes`. `None`: too short, page 0, or a wrong checksum,
    /// where SQLite stops playing back.
    pub fn record<'a>(&self, bytes: &'a [u8]) -> Option<JournalRecord<'a>> {
        let bytes = bytes.get(..self.record_size())?;
        let data = bytes.get(4..4 + self.page_size as usize)?;
        let page = be32(bytes, 0);
        let sum = be32(bytes, 4 + data.len());
        (page != 0 && sum == record_checksum(self.nonce, data))
            .then_some(JournalRecord { page, data })
    }
}

/// A page as it was before the transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JournalRecord<'a> {
    /// Page number.
    pub page: u32,
    pub data: &'a [u8],
}

/// The checksum of a record: the nonce and every 200th byte of the page, from its end (`pager.c`,
/// `pager_cksum`).
pub fn record_checksum(nonce: u32, page: &[u8]) -> u32 {
    (1..)
        .map_while(|n: usize| page.len().checked_sub(200 * n).filter(|at| *at > 0))
        .filter_map(|at| page.get(at))
        .fold(nonce, |sum, byte| sum.wrapping_add(u32::from(*byte)))
}

/// The record at the end of a journal whose transaction changes several databases: only the
/// removal of the file it names commits them (file format 3.2; `pager.c`, `writeSuperJournal`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SuperJournal {
    /// The super-journal's path, as written.
    pub name: Vec<u8>,
}

impl SuperJournal {
    /// How many bytes of name stand before the [`SUPER_TAIL_SIZE`] bytes at the end of a
    /// journal, if those can be the end of such a record.
    pub fn name_len(tail: &[u8; SUPER_TAIL_SIZE]) -> Option<usize> {
        let len = be32(tail, 0);
        (tail[8..] == MAGIC && (1..=MAX_SUPER_NAME).contains(&len)).then_some(len as usize)
    }

    /// Reads the record at the end of `bytes`, which end where the journal does. `None`: no such
    /// record, or one that SQLite would not believe.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let tail = bytes.last_chunk::<SUPER_TAIL_SIZE>()?;
        let name_end = bytes.len() - SUPER_TAIL_SIZE;
        let name = bytes.get(name_end.checked_sub(Self::name_len(tail)?)?..name_end)?;
        (be32(tail, 4) == Self::checksum(name)).then(|| Self { name: name.to_vec() })
    }

    /// The record's bytes; `lock_page` is the page number that stands at its start.
    pub fn encode(&self, lock_page: u32) -> Vec<u8> {
        let mut bytes = lock_page.to_be_bytes().to_vec();
        bytes.extend_from_slice(&self.name);
        bytes.extend_from_slice(&(self.name.len() as u32).to_be_bytes());
        bytes.extend_from_slice(&Self::checksum(&self.name).to_be_bytes());
        bytes.extend_from_slice(&MAGIC);
        bytes
    }

    /// The sum of the name's bytes, taken as signed.
    fn checksum(name: &[u8]) -> u32 {
        name.iter().fold(0, |sum: u32, byte| {
            sum.wrapping_add_signed(i32::from(i8::from_ne_bytes([*byte])))
        })
    }
}
