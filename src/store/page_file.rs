//! A whole database as a plain file of pages, as it comes from another node.

use std::fs::File;
use std::io;
use std::path::PathBuf;

use super::checksums::read_or_zeros;
use crate::core::{Checksum, Position, Txid};
use crate::ltx::{Header, LtxError, WalSpan, lock_page};

/// Bytes read at a time.
const RUN: usize = 1 << 20;

/// Page `n` lies at byte `(n - 1) * page_size`. It is named once it is whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageFile {
    pub path: PathBuf,
    /// Bytes.
    pub page_size: u32,
    pub pages: u32,
    pub position: Position,
}

impl PageFile {
    pub(super) fn read(&self, file: File) -> Pages {
        Pages { file, of: self.clone(), next: 1, run: Vec::new(), first: 1 }
    }
}

/// Its pages, one after the other.
pub(super) struct Pages {
    file: File,
    of: PageFile,
    next: u32,
    /// Pages that were read ahead, and the first of them.
    run: Vec<u8>,
    first: u32,
}

impl Pages {
    pub fn header(&self) -> Header {
        Header {
            page_size: self.of.page_size,
            commit: self.of.pages,
            min_txid: Txid(1),
            max_txid: self.of.position.txid,
            timestamp_ms: 0,
            pre_apply: Checksum(0),
            node_id: 0,
            wal: WalSpan::default(),
        }
    }

    pub fn next_page(&mut self, page: &mut Vec<u8>) -> Result<Option<u32>, LtxError> {
        if self.next == lock_page(self.of.page_size) {
            self.next += 1;
        }
        let pgno = self.next;
        if pgno > self.of.pages {
            return Ok(None);
        }
        let size = self.of.page_size as usize;
        if self.within(pgno).is_none() {
            self.read_ahead(pgno).map_err(|source| {
                let offset = u64::from(pgno - 1) * size as u64;
                LtxError::Read { what: "a file of pages", offset, source }
            })?;
        }
        page.clear();
        page.extend_from_slice(self.within(pgno).unwrap_or_default());
        self.next += 1;
        Ok(Some(pgno))
    }

    /// Whether they are that is seen by who adds up their checksums.
    pub fn checksum(&self) -> Checksum {
        self.of.position.checksum
    }

    fn within(&self, pgno: u32) -> Option<&[u8]> {
        let size = self.of.page_size as usize;
        let at = pgno.checked_sub(self.first)? as usize * size;
        self.run.get(at..at + size)
    }

    fn read_ahead(&mut self, pgno: u32) -> io::Result<()> {
        let size = self.of.page_size;
        let count = (RUN as u32 / size.max(1)).max(1).min(self.of.pages - pgno + 1);
        self.run.resize(count as usize * size as usize, 0);
        self.first = pgno;
        read_or_zeros(&self.file, &mut self.run, u64::from(pgno - 1) * u64::from(size))
    }
}
