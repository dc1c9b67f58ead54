//! The checksum of every page of a database, and their sum.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use crate::core::{Checksum, Position, Txid};
use crate::ltx::{lock_page, page_checksum};

/// Bytes read at a time when a file is summed anew.
const SCAN_BYTES: usize = 1 << 20;

/// One checksum a page, 8 bytes each, and their XOR (LTX spec: the database checksum). The lock
/// page has none: 0.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ChecksumTable {
    page_size: u32,
    sums: Vec<u64>,
    total: Checksum,
}

/// The pages that a transaction changes, each by its checksum, and the size it leaves.
#[derive(Debug, Clone)]
pub struct Changes {
    page_size: u32,
    pages: u32,
    /// By rising page number.
    sums: Vec<(u32, Checksum)>,
}

/// Why a page cannot be one of a transaction's changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    #[error("page {0} does not rise above the page before it")]
    Order(u32),
    #[error("page {pgno} has {len} bytes instead of {page_size}")]
    Length { pgno: u32, len: usize, page_size: u32 },
    #[error("page {0} is beyond the database's end")]
    Beyond(u32),
    #[error("page {0} is the lock page, which has no content")]
    LockPage(u32),
}

impl Changes {
    /// `page_size`: bytes. `pages`: size of the database after the transaction.
    pub fn new(page_size: u32, pages: u32) -> Self {
        Self { page_size, pages, sums: Vec::new() }
    }

    /// Adds a page. Page numbers rise.
    ///
    /// # Errors
    /// Says what is wrong with it; nothing was added.
    pub fn page(&mut self, pgno: u32, bytes: &[u8]) -> Result<(), ChangeError> {
        if pgno <= self.sums.last().map_or(0, |(last, _)| *last) {
            return Err(ChangeError::Order(pgno));
        }
        if bytes.len() != self.page_size as usize {
            let (len, page_size) = (bytes.len(), self.page_size);
            return Err(ChangeError::Length { pgno, len, page_size });
        }
        if pgno > self.pages {
            return Err(ChangeError::Beyond(pgno));
        }
        if pgno == lock_page(self.page_size) {
            return Err(ChangeError::LockPage(pgno));
        }
        self.sums.push((pgno, page_checksum(pgno, bytes)));
        Ok(())
    }

    /// The pages that were added.
    pub(super) fn numbers(&self) -> impl Iterator<Item = u32> {
        self.sums.iter().map(|(pgno, _)| *pgno)
    }

    /// How many pages were added.
    pub fn len(&self) -> usize {
        self.sums.len()
    }

    /// Whether no page was added.
    pub fn is_empty(&self) -> bool {
        self.sums.is_empty()
    }
}

/// Where a transaction leads, worked out before anything is changed.
#[derive(Debug, Clone)]
pub struct Preview {
    /// The position it is made on.
    pub base: Position,
    /// The position it leads to.
    pub position: Position,
    /// Bytes.
    pub page_size: u32,
    /// Size of the database after it.
    pub pages: u32,
    /// By page number; 0 for the lock page.
    sums: Vec<(u32, Checksum)>,
}

impl ChecksumTable {
    /// Bytes; 0 while the database is empty.
    pub fn page_size(&self) -> u32 {
        self.page_size
    }

    /// Size of the database in pages, the lock page included.
    pub fn pages(&self) -> u32 {
        self.sums.len() as u32
    }

    /// The checksum of each page, from the first on.
    pub fn sums(&self) -> &[u64] {
        &self.sums
    }

    /// The database's checksum; 0 of an empty one.
    pub fn total(&self) -> Checksum {
        self.total
    }

    /// Sums a database file anew: `pages` pages of `page_size` bytes; what the file lacks at its
    /// end counts as zeros.
    pub fn scan(file: &File, page_size: u32, pages: u32) -> io::Result<Self> {
        let mut changes = Changes::new(page_size, pages);
        let lock = lock_page(page_size);
        let mut buffer = vec![0; SCAN_BYTES.max(page_size as usize)];
        let mut pgno = 1_u32;
        while page_size != 0 && pgno <= pages {
            let count = (buffer.len() as u32 / page_size).min(pages - pgno + 1);
            let len = count as usize * page_size as usize;
            let chunk = buffer.get_mut(..len).unwrap_or_default();
            read_or_zeros(file, chunk, u64::from(pgno - 1) * u64::from(page_size))?;
            for page in chunk.chunks_exact(page_size as usize) {
                if pgno != lock {
                    changes.page(pgno, page).map_err(io::Error::other)?;
                }
                pgno += 1;
            }
        }
        let mut table = Self::default();
        let preview = table.preview(&changes, Position::EMPTY, Txid(0));
        table.adopt(&preview);
        Ok(table)
    }

    /// Where `changes` lead from `base`. Pages between the old end and the new one that did not
    /// change are zeros, and count like any page. With another page size than the table's, nothing
    /// of the old content counts.
    pub fn preview(&self, changes: &Changes, base: Position, txid: Txid) -> Preview {
        let Changes { page_size, pages, .. } = *changes;
        let old = if page_size == self.page_size { self.pages() } else { 0 };
        let lock = lock_page(page_size);
        let mut sums = Vec::with_capacity(changes.sums.len());
        let mut zeros = Vec::new();
        let mut next_new = old.saturating_add(1);
        let mut fill = |sums: &mut Vec<(u32, Checksum)>, from: u32, to: u32| {
            for pgno in (from..to).filter(|pgno| *pgno != lock) {
                zeros.resize(page_size as usize, 0);
                sums.push((pgno, page_checksum(pgno, &zeros)));
            }
        };
        for &(pgno, sum) in &changes.sums {
            if pgno > old {
                fill(&mut sums, next_new, pgno);
                next_new = pgno.saturating_add(1);
            }
            sums.push((pgno, sum));
        }
        fill(&mut sums, next_new, pages.saturating_add(1));

        let mut total = if old == 0 { Checksum(0) } else { self.total };
        for gone in self.sums.iter().take(old as usize).skip(pages as usize) {
            total = total.toggle(Checksum(*gone));
        }
        for &(pgno, sum) in &sums {
            if pgno <= old {
                total = total.toggle(self.get(pgno));
            }
            total = total.toggle(sum);
        }
        if pages == 0 {
            total = Checksum(0);
        }
        let position = Position { txid, checksum: total };
        Preview { base, position, page_size, pages, sums }
    }

    /// Makes a preview of this table true.
    pub fn adopt(&mut self, preview: &Preview) {
        if preview.page_size != self.page_size {
            self.sums.clear();
            self.page_size = preview.page_size;
        }
        self.sums.resize(preview.pages as usize, 0);
        for &(pgno, sum) in &preview.sums {
            self.set(pgno, sum);
        }
        self.total = preview.position.checksum;
    }

    pub(super) fn get(&self, pgno: u32) -> Checksum {
        let at = (pgno as usize).checked_sub(1);
        Checksum(at.and_then(|at| self.sums.get(at)).copied().unwrap_or(0))
    }

    fn set(&mut self, pgno: u32, sum: Checksum) {
        if let Some(slot) = (pgno as usize).checked_sub(1).and_then(|at| self.sums.get_mut(at)) {
            *slot = sum.0;
        }
    }
}

/// Fills `buffer` from `offset`; with zeros beyond the end of the file.
pub(super) fn read_or_zeros(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<()> {
    let mut done = 0;
    while let Some(rest) = buffer.get_mut(done..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, offset + done as u64) {
            Ok(0) => {
                rest.fill(0);
                return Ok(());
            }
            Ok(n) => done += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use proptest::prelude::*;

    use super::*;

    /// A transaction of random pages: (page number, fill byte), and the size after it.
    fn transactions() -> impl Strategy<Value = Vec<(Vec<(u32, u8)>, u32)>> {
        let pages = prop::collection::vec((1_u32..40, any::<u8>()), 0..12);
        prop::collection::vec((pages, 0_u32..40), 1..12)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        /// one-history: whatever changes, the table is what a fresh scan of the bytes gives.
        #[test]
        fn the_table_equals_a_fresh_scan(transactions in transactions()) {
            let mut image: Vec<u8> = Vec::new();
            let mut table = ChecksumTable::default();
            for (pages, size) in transactions {
                let mut pages: Vec<_> = pages.into_iter().filter(|(p, _)| *p <= size).collect();
                pages.sort_unstable();
                pages.dedup_by_key(|(pgno, _)| *pgno);
                let mut changes = Changes::new(512, size);
                image.resize(size as usize * 512, 0);
                for (pgno, fill) in pages {
                    let bytes = [fill; 512];
                    changes.page(pgno, &bytes).unwrap();
                    image[(pgno as usize - 1) * 512..][..512].copy_from_slice(&bytes);
                }
                let preview = table.preview(&changes, Position::EMPTY, Txid(1));
                table.adopt(&preview);
                let mut file = tempfile::tempfile().unwrap();
                file.write_all(&image).unwrap();
                let fresh = ChecksumTable::scan(&file, 512, size).unwrap();
                prop_assert_eq!(&table, &fresh);
                let sum = image.chunks(512).zip(1..).fold(Checksum(0), |sum, (page, pgno)| {
                    sum.toggle(page_checksum(pgno, page))
                });
                prop_assert_eq!(table.total(), sum);
            }
        }
    }

    #[test]
    fn the_lock_page_counts_for_nothing() {
        // A page size that no database has, so that the lock page is a small number.
        let page_size = 0x1000_0000;
        assert_eq!(lock_page(page_size), 5);
        let mut table = ChecksumTable::default();
        let mut changes = Changes::new(page_size, 5);
        assert_eq!(changes.page(5, &[]), Err(ChangeError::Length { pgno: 5, len: 0, page_size }),);
        changes.sums.extend((1..=4).map(|pgno| (pgno, Checksum(Checksum::FLAG | 1 << pgno))));
        let preview = table.preview(&changes, Position::EMPTY, Txid(1));
        table.adopt(&preview);
        assert_eq!(table.total(), Checksum(Checksum::FLAG | 0b11110));
        assert_eq!(table.pages(), 5);
    }

    #[test]
    fn another_page_size_forgets_the_old_pages() {
        let mut table = ChecksumTable::default();
        let mut changes = Changes::new(512, 3);
        for pgno in 1..=3 {
            changes.page(pgno, &[7; 512]).unwrap();
        }
        let preview = table.preview(&changes, Position::EMPTY, Txid(1));
        table.adopt(&preview);
        let mut changes = Changes::new(1024, 1);
        changes.page(1, &[9; 1024]).unwrap();
        let preview = table.preview(&changes, Position::EMPTY, Txid(2));
        table.adopt(&preview);
        assert_eq!(table.total(), page_checksum(1, &[9; 1024]));
        assert_eq!((table.pages(), table.page_size()), (1, 1024));
    }

    #[test]
    fn pages_that_cannot_be_are_refused() {
        let mut changes = Changes::new(512, 3);
        changes.page(2, &[0; 512]).unwrap();
        assert_eq!(changes.page(2, &[0; 512]), Err(ChangeError::Order(2)));
        assert_eq!(changes.page(4, &[0; 512]), Err(ChangeError::Beyond(4)));
        assert!(matches!(changes.page(3, &[0; 511]), Err(ChangeError::Length { .. })));
        assert_eq!(changes.len(), 1);
    }
}
