//! A database from node to node, page by page: only those that the other node lacks.
//!
//! ```text
//! giver                                        taker
//! Offer: what it is, and the checksum of each page
//!                                              compares: with what an earlier try brought, and with
//!                                              the database of this name that it has
//!                                              Wanted: a bit a page
//! Round, pages, End
//!                                              Taken
//! ... again, until a round was the last
//! ```
//!
//! While much is missing the giver holds no place in its database, so that its WAL does not grow for as
//! long as gigabytes take: what it reads are pages of one position or another, and the next offer says
//! which of them changed meanwhile. Only the last round, a short one, is of one position.
//!
//! converges: what came before a break is not sent again. one-history: the offered checksums have to add up
//! to the position, and each page to its checksum, so that what is whole is what the position names.

mod give;
mod partial;
mod progress;
mod take;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

pub(super) use give::give;
pub use partial::ReceivedPages;
pub(super) use partial::clean;
pub(super) use progress::DatabaseTransfers;
pub use progress::{DatabaseTransfer, Stage};
pub(super) use take::{Taking, Turn, Turns, take};

use super::snapshot::DatabaseHeader;
use crate::core::{Checksum, Position};
use crate::ltx::lock_page;

/// What is offered; the checksums follow in pieces, 8 bytes each, big-endian.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Offer {
    pub header: DatabaseHeader,
    /// Bytes.
    pub page_size: u32,
    pub pages: u32,
    pub position: Position,
}

impl Offer {
    /// Bytes of the database.
    pub fn bytes(&self) -> u64 {
        u64::from(self.pages) * u64::from(self.page_size)
    }

    /// Why it cannot be, if it cannot.
    pub fn check(&self, sums: &[u64]) -> Result<(), String> {
        let size = self.page_size;
        if !size.is_power_of_two() || !(512..=65536).contains(&size) {
            return Err(format!("a page size of {size} is none"));
        }
        if self.pages == 0 || sums.len() != self.pages as usize {
            return Err(format!("{} checksums for {} pages", sums.len(), self.pages));
        }
        let lock = lock_page(size);
        let pages = (1..).zip(sums).filter(|(pgno, _)| *pgno != lock);
        let total = pages.fold(Checksum(0), |total, (_, sum)| total.toggle(Checksum(*sum)));
        if total != self.position.checksum {
            return Err("the checksums of its pages do not add up to its position".into());
        }
        Ok(())
    }
}

/// Pages, one bit each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PageSet(Vec<u8>);

impl PageSet {
    pub fn empty(pages: u32) -> Self {
        Self(vec![0; Self::bytes_for(pages)])
    }

    pub fn bytes_for(pages: u32) -> usize {
        (pages as usize).div_ceil(8)
    }

    pub fn of(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    pub fn insert(&mut self, pgno: u32) {
        let at = pgno as usize - 1;
        if let Some(byte) = self.0.get_mut(at / 8) {
            *byte |= 1 << (at % 8);
        }
    }

    pub fn contains(&self, pgno: u32) -> bool {
        let at = pgno as usize - 1;
        self.0.get(at / 8).is_some_and(|byte| byte & (1 << (at % 8)) != 0)
    }

    /// How many.
    pub fn len(&self) -> u64 {
        self.0.iter().map(|byte| u64::from(byte.count_ones())).sum()
    }
}
