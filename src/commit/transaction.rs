//! Makes one LTX file of the pages that a withheld operation completes.
//!
//! Small ones in memory, for the entry itself; large ones as a staged file, read page by page, so
//! that a transaction of 500 MB needs no 500 MB of memory.

use std::fs::File;
use std::io::{BufWriter, Write};

use sha2::{Digest, Sha256};

use super::database::Database;
use super::door::Errno;
use super::hold::Withheld;
use super::settings::Settings;
use crate::capture::{ReadAt, WalTransaction};
use crate::cluster::Payload;
use crate::core::{Position, Txid};
use crate::ltx::{self, Encoder, Header};
use crate::sqlite::header::DatabaseHeader;
use crate::sqlite::wal::{FRAME_HEADER_SIZE, frame_offset};
use crate::store::{Change, StoreError};

/// A transaction, ready to be proposed.
pub struct Built {
    pub base: Position,
    pub new: Position,
    pub page_size: u32,
    pub pages: u32,
    pub payload: Payload,
    pub change: Change,
}

/// Whether the transaction is staged rather than carried in its entry.
pub fn is_large(withheld: &Withheld, settings: &Settings, page_size: Option<u32>) -> bool {
    let pages = match withheld {
        Withheld::WalWrite { transaction, .. } => transaction.latest.len() as u64,
        Withheld::Journal { dirty: Some(dirty), .. } => dirty.len() as u64,
        // The size is not known before the database is read: let it be read elsewhere.
        Withheld::Journal { dirty: None, .. } => return true,
    };
    pages * u64::from(page_size.unwrap_or(4096)) > settings.staged_above
}

/// Where an LTX file goes while it is made.
enum Target {
    Memory(Vec<u8>),
    Staged(StagedWriter),
}

struct StagedWriter {
    file: BufWriter<File>,
    hash: Sha256,
    len: u64,
}

impl Write for Target {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match self {
            Target::Memory(memory) => memory.write(bytes),
            Target::Staged(staged) => {
                let written = staged.file.write(bytes)?;
                staged.hash.update(&bytes[..written]);
                staged.len += written as u64;
                Ok(written)
            }
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        match self {
            Target::Memory(_) => Ok(()),
            Target::Staged(staged) => staged.file.flush(),
        }
    }
}

/// The page that an application will have committed, wherever it is now.
struct Pages<'a> {
    database: &'a Database,
    withheld: &'a Withheld,
    page_size: u32,
}

impl Pages<'_> {
    fn read(&self, number: u32, frame: Option<u32>, page: &mut Vec<u8>) -> Result<(), StoreError> {
        page.resize(self.page_size as usize, 0);
        match (self.withheld, frame) {
            (Withheld::WalWrite { offset, data, .. }, Some(frame)) => {
                let at = frame_offset(self.page_size, frame) + FRAME_HEADER_SIZE as u64;
                self.database.store.wal_reader().read_exact_at(at, page)?;
                overlay(page, at, data, *offset);
                Ok(())
            }
            _ => self.database.store.read_overlaid_page(number, self.page_size, page),
        }
    }
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
        self.try_build(base, withheld).map_err(|error| self.errno_of("reading a transaction", &error))
    }

    fn try_build(
        &self,
        base: Position,
        withheld: &Withheld,
    ) -> Result<Option<Built>, StoreError> {
        let plan = self.plan(withheld)?;
        let Plan { page_size, pages, numbers } = plan;
        let source = Pages { database: self, withheld, page_size };
        let lock_page = ltx::lock_page(page_size);
        // First pass: what really changes, and the checksum it leads to.
        let mut change = self.store.begin_change(page_size, pages)?;
        let mut changed = Vec::with_capacity(numbers.len());
        let mut page = Vec::new();
        for (number, frame) in numbers {
            if number == 0 || number > pages || number == lock_page {
                continue;
            }
            source.read(number, frame, &mut page)?;
            // In rollback mode, pages put back by a ROLLBACK are none of the transaction's.
            if change.page(number, &page) || frame.is_some() {
                changed.push((number, frame));
            }
        }
        if changed.is_empty() && pages == self.store.pages() {
            return Ok(None);
        }
        let new = Position { txid: Txid(base.txid.0 + 1), checksum: change.checksum() };
        let bytes = changed.len() as u64 * u64::from(page_size);
        self.store.reserve(bytes)?;
        let target = if bytes > self.settings.staged_above {
            Target::Staged(self.stage_writer()?)
        } else {
            Target::Memory(Vec::with_capacity(bytes as usize / 2 + 256))
        };
        let header = Header {
            page_size,
            commit: pages,
            min_txid: new.txid,
            max_txid: new.txid,
            timestamp_ms: self.wall_ms(),
            pre_apply: base.checksum,
            node_id: self.group.me().0,
            ..Header::default()
        };
        let mut encoder = Encoder::new(target, header)?;
        for (number, frame) in changed {
            source.read(number, frame, &mut page)?;
            encoder.page(number, &page)?;
        }
        let (target, _trailer) = encoder.finish(new.checksum)?;
        let payload = match target {
            Target::Memory(bytes) => Payload::Inline(bytes.into()),
            Target::Staged(staged) => self.finish_staged(staged)?,
        };
        let change = change.finish(new);
        Ok(Some(Built { base, new, page_size, pages, payload, change }))
    }

    /// Which pages, and how many the database has afterwards.
    fn plan(&self, withheld: &Withheld) -> Result<Plan, StoreError> {
        match withheld {
            Withheld::WalWrite { transaction, .. } => Ok(Plan::of_wal(transaction)),
            Withheld::Journal { dirty, .. } => {
                let mut head = vec![0; crate::sqlite::header::SIZE];
                self.store.read_overlaid(0, &mut head)?;
                let len = self.store.overlaid_len()?;
                let header = DatabaseHeader::parse(&head)
                    .map_err(|error| StoreError::not_a_database(&self.name, &error))?;
                let pages = header.size_in_pages(len);
                let numbers = match dirty {
                    Some(dirty) => dirty.iter().map(|number| (*number, None)).collect(),
                    None => (1..=pages).map(|number| (number, None)).collect(),
                };
                Ok(Plan { page_size: header.page_size, pages, numbers })
            }
        }
    }

    fn stage_writer(&self) -> Result<StagedWriter, StoreError> {
        let path = self.shared.staged.join(format!("making-{}", self.slot));
        let file = File::create(&path).map_err(|error| StoreError::io("create", &path, error))?;
        Ok(StagedWriter { file: BufWriter::with_capacity(1 << 20, file), hash: Sha256::new(), len: 0 })
    }

    /// Synced before it is named by an entry (Rule 19).
    fn finish_staged(&self, staged: StagedWriter) -> Result<Payload, StoreError> {
        let making = self.shared.staged.join(format!("making-{}", self.slot));
        let sha256: [u8; 32] = staged.hash.finalize().into();
        let path = self.shared.staged_path(&sha256);
        let done = staged
            .file
            .into_inner()
            .map_err(std::io::IntoInnerError::into_error)
            .and_then(|file| file.sync_all())
            .and_then(|()| std::fs::rename(&making, &path))
            .and_then(|()| File::open(&self.shared.staged)?.sync_all());
        done.map_err(|error| StoreError::io("stage", &path, error))?;
        Ok(Payload::Staged { sha256, len: staged.len })
    }

    fn wall_ms(&self) -> i64 {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        since.map_or(0, |time| i64::try_from(time.as_millis()).unwrap_or(i64::MAX))
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
