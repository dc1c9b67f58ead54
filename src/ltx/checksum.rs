//! CRC-64/GO-ISO, as LTX uses it for pages and for files.

use crc_fast::{CrcAlgorithm, Digest};

use crate::core::Checksum;

/// Where SQLite's lock bytes begin (SQLite file format, section 1.5: the lock-byte page).
const PENDING_BYTE: u32 = 0x4000_0000;

/// The checksum of one page: CRC-64/GO-ISO of its number (big-endian, 4 bytes) and its bytes, with
/// the top bit set (LTX spec: `ChecksumPage`).
pub fn page_checksum(pgno: u32, page: &[u8]) -> Checksum {
    let mut crc = Crc::new();
    crc.update(&pgno.to_be_bytes());
    crc.update(page);
    crc.checksum()
}

/// The page that holds SQLite's lock bytes, and never content: in no LTX file, in no checksum.
///
/// `page_size` in bytes; 0, which is none, gives 0, which is no page.
pub fn lock_page(page_size: u32) -> u32 {
    PENDING_BYTE.checked_div(page_size).map_or(0, |pages| pages + 1)
}

/// A running CRC-64/GO-ISO.
#[derive(Clone, Copy)]
pub(super) struct Crc(Digest);

impl Crc {
    pub(super) fn new() -> Self {
        Self(Digest::new(CrcAlgorithm::Crc64GoIso))
    }

    pub(super) fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// With the flag, as it stands in files.
    pub(super) fn checksum(&self) -> Checksum {
        Checksum(Checksum::FLAG | self.0.finalize())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crc_is_go_iso() {
        // The catalogue's check value of CRC-64/GO-ISO.
        let mut crc = Crc::new();
        crc.update(b"1234");
        crc.update(b"56789");
        assert_eq!(crc.0.finalize(), 0xb909_56c7_75a4_1001);
    }

    #[test]
    fn lock_page_of_every_page_size() {
        let pages: Vec<u32> = (9..=16).map(|bits| lock_page(1 << bits)).collect();
        assert_eq!(
            pages,
            [2_097_153, 1_048_577, 524_289, 262_145, 131_073, 65_537, 32_769, 16_385]
        );
        assert_eq!(lock_page(0), 0);
    }
}
