//! Makes one LTX file of the pages that a withheld operation completes.
//!
//! Small ones in memory, for the entry itself; large ones as a staged file, read page by page, so
//! that a transaction of 500 MB needs no 500 MB of memory.

use super::bytes::Wal;
use super::database::Database;
use super::door::Errno;
use super::hold::Withheld;
use super::settings::Settings;
use super::staging::Target;
use crate::capture::{ReadAt, WalTransaction};
use crate::cluster::Payload;
use crate::core::Position;
use crate::core::clock::signed_unix_ms;
use crate::ltx::{self, Encoder, Header};
use crate::sqlite::DatabaseHeader;
use crate::sqlite::wal::{FRAME_HEADER_SIZE, frame_offset};
use crate::store::{Preview, StoreError};

/// A transaction, ready to be proposed.
pub struct Built {
    pub base: Position,
    pub new: Position,
    pub page_size: u32,
    pub pages: u32,
    pub payload: Payload,
    pub change: Preview,
}

/// Whether the transaction is staged rather than carried in its entry.
pub fn is_large(withheld: &Withheld, settings: &Settings, page_size: u32) -> bool {
    let pages = match withheld {
        Withheld::WalWrite { transaction, .. } => transaction.latest.len() as u64,
        Withheld::Journal { commit, .. } => commit.dirty.len() as u64,
    };
    pages * u64::from(page_size.max(512)) > settings.staged_above
}

/// The page that an application will have committed, wherever it is now.
struct Pages<'a> {
    database: &'a Database,
    withheld: &'a Withheld,
    page_size: u32,
}

impl Pages<'_> {
    fn read(&self, number: u32, frame: Option<u32>, page: &mut Vec<u8>) -> Result<(), Failed> {
        page.clear();
        page.resize(self.page_size as usize, 0);
        match (self.withheld, frame) {
            (Withheld::WalWrite { offset, data, .. }, Some(frame)) => {
                let at = frame_offset(self.page_size, frame) + FRAME_HEADER_SIZE as u64;
                Wal(self.database.store.wal()).read_at(at, page)?;
                overlay(page, at, data, *offset);
            }
            _ => {
                self.database.store.read_with_overlay(self.offset(number), page)?;
            }
        }
        Ok(())
    }

    /// Whether the database file, which holds committed pages only (Rule 8), has the same.
    fn is_committed(&self, number: u32, page: &[u8]) -> Result<bool, Failed> {
        let mut committed = vec![0; page.len()];
        let read = self.database.store.read_database(self.offset(number), &mut committed)?;
        Ok(read == page.len() && committed == page)
    }

    fn offset(&self, number: u32) -> u64 {
        u64::from(number - 1) * u64::from(self.page_size)
    }
}

/// Why a transaction cannot be gathered.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Io(#[from] std::io::Error),
    #[error(transparent)]
    Ltx(#[from] ltx::LtxError),
    #[error("its pages are not those of one transaction: {0}")]
    Change(#[from] crate::store::ChangeError),
    #[error("it would leave a file that is no SQLite database: {0}")]
    NotADatabase(#[from] crate::sqlite::HeaderError),
}

/// Lays the withheld bytes over what the file holds.
fn overlay(page: &mut [u8], at: u64, data: &[u8], offset: u64) {
    let start = at.max(offset);
    let end = (at + page.len() as u64).min(offset + data.len() as u64);
    if start < end {
        page[(start - at) as usize..(end - at) as usize]
            .copy_from_slice(&data[(start - offset) as usize..(end - offset) as usize]);
    }
}

impl Database {
    /// Reads the transaction's pages and encodes them. `None`: it changes nothing.
    pub(super) fn build(
        &self,
        base: Position,
        withheld: &Withheld,
    ) -> Result<Option<Built>, Errno> {
        self.try_build(base, withheld).map_err(|failed| match &failed {
            Failed::Store(error) => self.errno(error),
            Failed::Io(error) if error.raw_os_error() == Some(libc::ENOSPC) => {
                tracing::error!(database = %self.name, %error, "the disk is full");
                Errno(libc::ENOSPC)
            }
            Failed::NotADatabase(_) => {
                self.notices.refuse(self.name.as_str(), "not a database", 0, &failed.to_string());
                Errno(libc::EIO)
            }
            _ => self.failed("gathering a transaction", &failed),
        })
    }

    fn try_build(&self, base: Position, withheld: &Withheld) -> Result<Option<Built>, Failed> {
        let Plan { page_size, pages, numbers } = self.plan(withheld)?;
        let source = Pages { database: self, withheld, page_size };
        let lock_page = ltx::lock_page(page_size);
        let resized = self.store.page_size() != page_size;
        // First pass: what really changes, and the checksum it leads to.
        let mut changes = self.store.changes(page_size, pages);
        let mut changed = Vec::with_capacity(numbers.len());
        let mut page = Vec::new();
        for (number, frame) in numbers {
            if number == 0 || number > pages || number == lock_page {
                continue;
            }
            source.read(number, frame, &mut page)?;
            // Whatever a program encrypts, or otherwise writes, stays on this node.
            if number == 1 {
                DatabaseHeader::parse(page.get(..crate::sqlite::header::SIZE).unwrap_or(&page))?;
            }
            // In rollback mode, pages put back by a ROLLBACK are none of the transaction's.
            if frame.is_some() || resized || !source.is_committed(number, &page)? {
                changes.page(number, &page)?;
                changed.push((number, frame));
            }
        }
        if changed.is_empty() && pages == self.store.pages() {
            return Ok(None);
        }
        let preview = self.store.preview(&changes);
        let new = preview.position;
        let bytes = changed.len() as u64 * u64::from(page_size);
        self.store.reserve(page_size, pages, changed.len() as u32)?;
        // A database makes one at a time: its write lock is held.
        let target = Target::new(&self.shared, bytes, &format!("making-{}", self.slot))?;
        let header = Header {
            page_size,
            commit: pages,
            min_txid: new.txid,
            max_txid: new.txid,
            timestamp_ms: signed_unix_ms(),
            pre_apply: base.checksum,
            node_id: self.group.me().0,
            wal: ltx::WalSpan::default(),
        };
        let mut encoder = Encoder::new(target, header)?;
        for (number, frame) in changed {
            source.read(number, frame, &mut page)?;
            encoder.page(number, &page)?;
        }
        let (target, _trailer) = encoder.finish(new.checksum)?;
        let payload = target.finish(&self.shared)?;
        Ok(Some(Built { base, new, page_size, pages, payload, change: preview }))
    }

    /// Which pages, and how many the database has afterwards.
    fn plan(&self, withheld: &Withheld) -> Result<Plan, Failed> {
        match withheld {
            Withheld::WalWrite { transaction, .. } => Ok(Plan::of_wal(transaction)),
            Withheld::Journal { commit, .. } => {
                let mut head = vec![0; crate::sqlite::header::SIZE];
                self.store.read_with_overlay(0, &mut head)?;
                let header = DatabaseHeader::parse(&head)?;
                let pages = header.size_in_pages(self.store.size_with_overlay()?);
                let numbers = commit.changed(pages).map(|number| (number, None)).collect();
                Ok(Plan { page_size: header.page_size, pages, numbers })
            }
        }
    }
}

struct Plan {
    page_size: u32,
    pages: u32,
    numbers: Vec<(u32, Option<u32>)>,
}

impl Plan {
    fn of_wal(transaction: &WalTransaction) -> Self {
        Self {
            page_size: transaction.page_size,
            pages: transaction.pages,
            numbers: transaction
                .latest
                .iter()
                .map(|(number, frame)| (*number, Some(*frame)))
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::overlay;

    #[test]
    fn withheld_bytes_lie_over_the_page() {
        let mut page = [1, 1, 1, 1];
        overlay(&mut page, 10, &[7, 7], 9);
        assert_eq!(page, [7, 1, 1, 1]);
        overlay(&mut page, 10, &[8, 8, 8], 12);
        assert_eq!(page, [7, 1, 8, 8]);
        overlay(&mut page, 10, &[9], 14);
        overlay(&mut page, 10, &[9], 9);
        assert_eq!(page, [7, 1, 8, 8]);
    }
}
