//! The database header: the first 100 bytes of page 1 (file format 1.3).

use super::{be16, be32, is_page_size};

/// Bytes of the database header.
pub const SIZE: usize = 100;

/// The first 16 bytes of every database (file format 1.3.1).
pub const MAGIC: [u8; 16] = *b"SQLite format 3\0";

/// Offsets 21 to 23: fixed values, which SQLite checks as if they were magic (file format 1.3.5).
const PAYLOAD_FRACTIONS: [u8; 3] = [64, 32, 32];

/// Why bytes are no database header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    #[error("a database header has {SIZE} bytes, only {0} are there")]
    Short(usize),
    #[error("the first bytes are not those of an SQLite database: another file, or encrypted")]
    Magic,
    #[error("the database header has page size {0}, which SQLite does not know")]
    PageSize(u32),
    #[error("the database header has file format {write} for writing, {read} for reading")]
    Format { write: u8, read: u8 },
}

/// What a database says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DatabaseHeader {
    /// Bytes, offset 16. Stored as 1 for 65536.
    pub page_size: u32,
    /// Offset 18: 1 rollback journal, 2 WAL.
    pub write_version: u8,
    /// Offset 19: 1 rollback journal, 2 WAL.
    pub read_version: u8,
    /// Unused bytes at the end of each page, offset 20.
    pub reserved: u8,
    /// Raised by each transaction outside WAL mode, offset 24.
    pub change_counter: u32,
    /// Size in pages, offset 28; `None` when it is not to be trusted: 0, or written by an SQLite
    /// before 3.7.0 that left offset 92 behind (file format 1.3.8).
    pub pages: Option<u32>,
    /// Offset 56: 1 UTF-8, 2 UTF-16le, 3 UTF-16be; 0 before the first table.
    pub encoding: u32,
}

impl DatabaseHeader {
    /// Reads the header from the start of page 1, and checks what SQLite checks before it
    /// believes that a file is a database.
    pub fn parse(bytes: &[u8]) -> Result<Self, HeaderError> {
        let Some(bytes) = bytes.first_chunk::<SIZE>() else {
            return Err(HeaderError::Short(bytes.len()));
        };
        if bytes[..16] != MAGIC || bytes[21..24] != PAYLOAD_FRACTIONS {
            return Err(HeaderError::Magic);
        }
        let page_size = match be16(bytes, 16) {
            1 => 65_536,
            size => u32::from(size),
        };
        if !is_page_size(page_size) {
            return Err(HeaderError::PageSize(page_size));
        }
        let (write, read) = (bytes[18], bytes[19]);
        if !(1..=2).contains(&write) || !(1..=2).contains(&read) {
            return Err(HeaderError::Format { write, read });
        }
        let change_counter = be32(bytes, 24);
        let pages = be32(bytes, 28);
        Ok(Self {
            page_size,
            write_version: write,
            read_version: read,
            reserved: bytes[20],
            change_counter,
            pages: (pages != 0 && change_counter == be32(bytes, 92)).then_some(pages),
            encoding: be32(bytes, 56),
        })
    }

    /// Whether the database is in WAL mode.
    pub fn is_wal(&self) -> bool {
        self.read_version == 2
    }

    /// The size in pages of a database whose file has `file_len` bytes: as the header says, else
    /// by the file's length, as SQLite does.
    pub fn size_in_pages(&self, file_len: u64) -> u32 {
        self.pages.unwrap_or_else(|| {
            u32::try_from(file_len.div_ceil(u64::from(self.page_size))).unwrap_or(u32::MAX)
        })
    }
}

/// Whether a file that begins so is an SQLite database. An empty file, which SQLite takes for an
/// empty database, is not one yet.
pub fn is_database(bytes: &[u8]) -> bool {
    DatabaseHeader::parse(bytes).is_ok()
}
