//! Which page may come next in a file.

use super::LtxError;
use super::checksum::lock_page;
use super::header::Header;

/// Holds encoder and decoder to the same order (LTX spec: `EncodePage`): page numbers rise, stay
/// within the database, and leave out the lock page; a snapshot leaves out nothing else.
pub(super) struct PageOrder {
    commit: u32,
    lock_page: u32,
    snapshot: bool,
    previous: u32,
}

impl PageOrder {
    pub(super) fn new(header: &Header) -> Self {
        Self {
            commit: header.commit,
            lock_page: lock_page(header.page_size),
            snapshot: header.is_snapshot(),
            previous: 0,
        }
    }

    /// Takes the next page's number, or says why it cannot be the next.
    pub(super) fn next(&mut self, pgno: u32) -> Result<(), LtxError> {
        if pgno == 0 {
            return Err(LtxError::PageZero);
        }
        if pgno > self.commit {
            return Err(LtxError::PageBeyond { pgno, commit: self.commit });
        }
        if pgno == self.lock_page {
            return Err(LtxError::LockPage(pgno));
        }
        if pgno <= self.previous {
            return Err(LtxError::PageOrder { pgno, previous: self.previous });
        }
        if self.snapshot && u64::from(pgno) != self.successor() {
            return Err(LtxError::SnapshotGap { found: pgno, expected: self.successor() });
        }
        self.previous = pgno;
        Ok(())
    }

    /// Whether the file may end here.
    pub(super) fn end(&self) -> Result<(), LtxError> {
        let expected = self.successor();
        if self.snapshot && expected <= u64::from(self.commit) {
            return Err(LtxError::SnapshotShort { expected, commit: self.commit });
        }
        Ok(())
    }

    /// The page that follows in a file that leaves out none.
    fn successor(&self) -> u64 {
        let next = u64::from(self.previous) + 1;
        if next == u64::from(self.lock_page) { next + 1 } else { next }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A database with its lock page where a test can reach it.
    fn order(snapshot: bool, commit: u32, lock_page: u32) -> PageOrder {
        PageOrder { commit, lock_page, snapshot, previous: 0 }
    }

    #[test]
    fn a_snapshot_steps_over_the_lock_page_only() {
        let mut pages = order(true, 5, 3);
        assert!(matches!(pages.next(2), Err(LtxError::SnapshotGap { found: 2, expected: 1 })));
        pages.next(1).unwrap();
        pages.next(2).unwrap();
        assert!(matches!(pages.next(3), Err(LtxError::LockPage(3))));
        assert!(matches!(pages.next(5), Err(LtxError::SnapshotGap { found: 5, expected: 4 })));
        pages.next(4).unwrap();
        assert!(matches!(pages.end(), Err(LtxError::SnapshotShort { expected: 5, commit: 5 })));
        pages.next(5).unwrap();
        pages.end().unwrap();
        assert!(matches!(pages.next(6), Err(LtxError::PageBeyond { pgno: 6, commit: 5 })));
    }

    #[test]
    fn a_snapshot_may_end_at_the_lock_page() {
        for commit in [2, 3] {
            let mut pages = order(true, commit, 3);
            pages.next(1).unwrap();
            pages.next(2).unwrap();
            pages.end().unwrap();
        }
    }

    #[test]
    fn other_files_leave_out_what_they_like() {
        let mut pages = order(false, u32::MAX, 3);
        assert!(matches!(pages.next(0), Err(LtxError::PageZero)));
        pages.next(2).unwrap();
        assert!(matches!(pages.next(2), Err(LtxError::PageOrder { pgno: 2, previous: 2 })));
        assert!(matches!(pages.next(3), Err(LtxError::LockPage(3))));
        pages.next(u32::MAX).unwrap();
        assert!(matches!(pages.next(7), Err(LtxError::PageOrder { pgno: 7, .. })));
        pages.end().unwrap();
    }
}
