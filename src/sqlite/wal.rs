//! The write-ahead log file: header, frame headers, checksum (file format, section 4).

use super::{be32, is_page_size};

/// Bytes of the header of a WAL.
pub const HEADER_SIZE: usize = 32;

/// Bytes of the header of a frame, which the page follows.
pub const FRAME_HEADER_SIZE: usize = 24;

/// The magic number, less its lowest bit, which says that checksums are big-endian.
const MAGIC: u32 = 0x377f_0682;

/// The only version of the WAL format there is.
const VERSION: u32 = 3_007_000;

/// Why bytes are no WAL header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WalError {
    #[error("a WAL header has {HEADER_SIZE} bytes, only {0} are there")]
    Short(usize),
    #[error("the WAL header has magic number {0:#010x}: not a WAL, or an encrypted one")]
    Magic(u32),
    #[error("the WAL header has format version {0}; only {VERSION} is known")]
    Version(u32),
    #[error("the WAL header has page size {0}, which SQLite does not know")]
    PageSize(u32),
    #[error("the WAL header's checksum is wrong: it was written in part, or damaged")]
    Checksum,
}

/// The two numbers that tell the frames of one life of a WAL from those left by an earlier one.
/// Kept as the eight bytes of the WAL header: the wal-index holds them so, in whatever byte order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Salts(pub [u8; 8]);

/// A running checksum of a WAL: two sums that feed each other.
pub type Checksum = (u32, u32);

/// Carries a WAL checksum on over `bytes` (file format 4.2), whose length is a multiple of eight;
/// what is over is left out.
///
/// ```
/// use litefs_py::sqlite::wal::checksum;
/// assert_eq!(checksum(&[0, 0, 0, 1, 0, 0, 0, 2], (0, 0), true), (1, 3));
/// assert_eq!(checksum(&[1, 0, 0, 0, 2, 0, 0, 0], (0, 0), false), (1, 3));
/// ```
#[must_use]
pub fn checksum(bytes: &[u8], seed: Checksum, big_endian: bool) -> Checksum {
    let word = if big_endian { u32::from_be_bytes } else { u32::from_le_bytes };
    let (pairs, _) = bytes.as_chunks::<8>();
    pairs.iter().fold(seed, |(s0, s1), &[a, b, c, d, e, f, g, h]| {
        let s0 = s0.wrapping_add(word([a, b, c, d])).wrapping_add(s1);
        let s1 = s1.wrapping_add(word([e, f, g, h])).wrapping_add(s0);
        (s0, s1)
    })
}

/// Where frame `frame` (the first is 1) begins, in bytes from the start of the WAL.
/// Frame 0 is none; it gives the offset of the first.
pub fn frame_offset(page_size: u32, frame: u32) -> u64 {
    let size = frame_size(page_size);
    HEADER_SIZE as u64 + u64::from(frame.saturating_sub(1)) * size
}

/// Bytes of a frame: its header and the page.
pub fn frame_size(page_size: u32) -> u64 {
    FRAME_HEADER_SIZE as u64 + u64::from(page_size)
}

/// The header of a WAL (file format 4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WalHeader {
    /// Whether checksums read 32-bit words big-endian.
    pub big_endian: bool,
    /// Bytes.
    pub page_size: u32,
    /// How many times this WAL was begun again from its start.
    pub sequence: u32,
    pub salts: Salts,
}

impl WalHeader {
    /// Reads a header and checks it as SQLite's recovery does.
    pub fn parse(bytes: &[u8]) -> Result<Self, WalError> {
        let Some(bytes) = bytes.first_chunk::<HEADER_SIZE>() else {
            return Err(WalError::Short(bytes.len()));
        };
        let magic = be32(bytes, 0);
        if magic & !1 != MAGIC {
            return Err(WalError::Magic(magic));
        }
        let page_size = be32(bytes, 8);
        if !is_page_size(page_size) {
            return Err(WalError::PageSize(page_size));
        }
        let big_endian = magic & 1 == 1;
        if checksum(&bytes[..24], (0, 0), big_endian) != (be32(bytes, 24), be32(bytes, 28)) {
            return Err(WalError::Checksum);
        }
        let version = be32(bytes, 4);
        if version != VERSION {
            return Err(WalError::Version(version));
        }
        let mut salts = Salts::default();
        salts.0.copy_from_slice(&bytes[16..24]);
        Ok(Self { big_endian, page_size, sequence: be32(bytes, 12), salts })
    }

    /// The header's bytes, checksum included.
    pub fn encode(&self) -> [u8; HEADER_SIZE] {
        let mut bytes = [0; HEADER_SIZE];
        bytes[0..4].copy_from_slice(&(MAGIC | u32::from(self.big_endian)).to_be_bytes());
        bytes[4..8].copy_from_slice(&VERSION.to_be_bytes());
        bytes[8..12].copy_from_slice(&self.page_size.to_be_bytes());
        bytes[12..16].copy_from_slice(&self.sequence.to_be_bytes());
        bytes[16..24].copy_from_slice(&self.salts.0);
        let (s0, s1) = checksum(&bytes[..24], (0, 0), self.big_endian);
        bytes[24..28].copy_from_slice(&s0.to_be_bytes());
        bytes[28..32].copy_from_slice(&s1.to_be_bytes());
        bytes
    }

    /// The checksum that the chain of frames starts from.
    pub fn checksum(&self) -> Checksum {
        let bytes = self.encode();
        (be32(&bytes, 24), be32(&bytes, 28))
    }

    /// The tip of a WAL that holds this header and no frame.
    pub fn tip(&self) -> WalTip {
        WalTip {
            page_size: self.page_size,
            frame: 0,
            checksum: self.checksum(),
            salts: self.salts,
            big_endian: self.big_endian,
            pages: 0,
        }
    }
}

/// The header of a frame (file format 4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameHeader {
    /// Page number.
    pub page: u32,
    /// In a commit frame the size of the database after it, in pages; else 0.
    pub commit: u32,
    pub salts: Salts,
    /// Of everything in the WAL up to the end of this frame.
    pub checksum: Checksum,
}

impl FrameHeader {
    /// Reads a frame header. Whether it is valid only the chain can tell ([`WalTip::follow`]).
    pub fn parse(bytes: &[u8; FRAME_HEADER_SIZE]) -> Self {
        let mut salts = Salts::default();
        salts.0.copy_from_slice(&bytes[8..16]);
        Self {
            page: be32(bytes, 0),
            commit: be32(bytes, 4),
            salts,
            checksum: (be32(bytes, 16), be32(bytes, 20)),
        }
    }

    pub fn encode(&self) -> [u8; FRAME_HEADER_SIZE] {
        let mut bytes = [0; FRAME_HEADER_SIZE];
        bytes[0..4].copy_from_slice(&self.page.to_be_bytes());
        bytes[4..8].copy_from_slice(&self.commit.to_be_bytes());
        bytes[8..16].copy_from_slice(&self.salts.0);
        bytes[16..20].copy_from_slice(&self.checksum.0.to_be_bytes());
        bytes[20..24].copy_from_slice(&self.checksum.1.to_be_bytes());
        bytes
    }
}

/// Where a WAL ends: its last frame, and what the next one is chained to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WalTip {
    /// Bytes.
    pub page_size: u32,
    /// The last frame (`mxFrame`); 0: none, only the header.
    pub frame: u32,
    /// Of the WAL up to the end of that frame (`aFrameCksum`).
    pub checksum: Checksum,
    pub salts: Salts,
    /// Whether checksums read 32-bit words big-endian.
    pub big_endian: bool,
    /// The size of the database, in pages; 0 before the first commit.
    pub pages: u32,
}

impl WalTip {
    /// The tip after the frame of this header and page, if it continues the chain: same salts,
    /// a page number, and the right checksum (file format 4.1). `None`: it does not.
    pub fn follow(&self, header: &FrameHeader, page: &[u8]) -> Option<Self> {
        if header.page == 0
            || header.salts != self.salts
            || page.len() != self.page_size as usize
            || header.checksum != self.frame_checksum(header.page, header.commit, page)
        {
            return None;
        }
        self.after(header)
    }

    /// The header of the next frame, and the tip after it. `None`: the WAL has 2³² frames.
    pub fn append(&self, page: u32, commit: u32, data: &[u8]) -> Option<(FrameHeader, Self)> {
        let checksum = self.frame_checksum(page, commit, data);
        let header = FrameHeader { page, commit, salts: self.salts, checksum };
        Some((header, self.after(&header)?))
    }

    fn frame_checksum(&self, page: u32, commit: u32, data: &[u8]) -> Checksum {
        let mut head = [0; 8];
        head[..4].copy_from_slice(&page.to_be_bytes());
        head[4..].copy_from_slice(&commit.to_be_bytes());
        checksum(data, checksum(&head, self.checksum, self.big_endian), self.big_endian)
    }

    fn after(&self, header: &FrameHeader) -> Option<Self> {
        let frame = self.frame.checked_add(1)?;
        let pages = if header.commit == 0 { self.pages } else { header.commit };
        Some(Self { frame, checksum: header.checksum, pages, ..*self })
    }
}
