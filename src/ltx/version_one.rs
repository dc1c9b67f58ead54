//! A transaction as LTX version 1, which LiteFS 0.5 reads: a whole database, with which a LiteFS's data folder
//! begins, or what a commit changed.
//!
//! ```text
//! header 100 | per page: number 4, the page | four zero bytes
//!            | trailer: checksum of the database 8, checksum of this file 8
//! ```
//! Without the flag for LZ4 the pages stand as they are. The file's checksum covers all bytes but its own
//! (ltx v0.3.14, `encoder.go`).

use std::io::Write;

use super::LtxError;
use super::checksum::page_checksum;
use super::encoder::Sink;
use super::header::{Header, Trailer, post_apply_to_wire};
use super::order::PageOrder;
use crate::core::Checksum;

/// Where the next page's number would be: the end of the pages.
const END_OF_PAGES: [u8; 4] = [0; 4];

/// Writes one file, page by page. Small pages to a file want a buffer around it.
///
/// Dropped before [`EncoderV1::finish`], it leaves a file that LiteFS refuses.
pub struct EncoderV1<W: Write> {
    sink: Sink<W>,
    header: Header,
    order: PageOrder,
    database: Checksum,
}

impl<W: Write> EncoderV1<W> {
    /// Checks the header and writes it.
    ///
    /// # Errors
    /// The header says something impossible; or writing failed.
    pub fn new(writer: W, header: Header) -> Result<Self, LtxError> {
        let bytes = header.to_bytes()?;
        let mut sink = Sink::new(writer);
        sink.put(&bytes, "the header")?;
        let order = PageOrder::new(&header);
        Ok(Self { sink, header, order, database: Checksum(Checksum::FLAG) })
    }

    /// Writes the next page, in order; of a snapshot all but the lock page.
    ///
    /// # Errors
    /// The page cannot come next or has a wrong length, or writing failed.
    pub fn page(&mut self, pgno: u32, page: &[u8]) -> Result<(), LtxError> {
        let page_size = self.header.page_size;
        if page.len() != page_size as usize {
            return Err(LtxError::PageLength { pgno, len: page.len(), page_size });
        }
        self.order.next(pgno)?;
        self.database = self.database.toggle(page_checksum(pgno, page));
        self.sink.put(&pgno.to_be_bytes(), "a page")?;
        self.sink.put(page, "a page")
    }

    /// Writes the trailer, and hands the writer back. `post_apply`: of the database after it; what the pages
    /// of a snapshot have to add up to.
    ///
    /// # Errors
    /// They do not, or some of its pages are missing; or writing failed.
    pub fn finish(mut self, post_apply: Checksum) -> Result<(W, Trailer), LtxError> {
        self.order.end()?;
        let said = post_apply_to_wire(post_apply, self.header.commit)?;
        if self.header.is_snapshot() && said != self.database {
            return Err(LtxError::SnapshotChecksum { said, computed: self.database });
        }
        self.sink.put(&END_OF_PAGES, "the end of the pages")?;
        self.sink.put(&said.0.to_be_bytes(), "the trailer")?;
        let (writer, file) = self.sink.end()?;
        Ok((writer, Trailer { post_apply: said, file }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::Txid;
    use crate::ltx::{Ends, WalSpan};

    fn header(min: u64) -> Header {
        Header {
            page_size: 512,
            commit: 2,
            min_txid: Txid(min),
            max_txid: Txid(9),
            timestamp_ms: 1_764_300_000_000,
            pre_apply: Checksum(0),
            node_id: 0,
            wal: WalSpan::default(),
        }
    }

    fn sum() -> Checksum {
        let sum = Checksum(Checksum::FLAG).toggle(page_checksum(1, &[1; 512]));
        sum.toggle(page_checksum(2, &[2; 512]))
    }

    fn pages() -> EncoderV1<Vec<u8>> {
        let mut snapshot = EncoderV1::new(Vec::new(), header(1)).unwrap();
        snapshot.page(1, &[1; 512]).unwrap();
        snapshot.page(2, &[2; 512]).unwrap();
        snapshot
    }

    #[test]
    fn it_lies_as_version_one_has_it() {
        let (bytes, trailer) = pages().finish(sum()).unwrap();
        assert_eq!(bytes.len(), 100 + 2 * (4 + 512) + 4 + 16);
        assert_eq!(bytes[100..105], [0, 0, 0, 1, 1]);
        assert_eq!(bytes[616..621], [0, 0, 0, 2, 2]);
        assert_eq!(bytes[1132..1136], [0; 4]);
        assert_eq!(bytes[1144..], trailer.file.0.to_be_bytes());
        let ends = Ends::parse(bytes.first_chunk().unwrap(), bytes.last_chunk().unwrap()).unwrap();
        assert_eq!((ends.min_txid, ends.position.txid, ends.commit), (Txid(1), Txid(9), 2));
        assert_eq!(ends.position.checksum, sum());
    }

    /// Of what a commit changed it is not known here what the whole adds up to.
    #[test]
    fn a_commit_holds_the_pages_that_it_changed() {
        let header = Header { pre_apply: sum(), max_txid: Txid(2), ..header(2) };
        let mut file = EncoderV1::new(Vec::new(), header).unwrap();
        file.page(2, &[3; 512]).unwrap();
        let after = Checksum(sum().0 ^ 5);
        let (bytes, _) = file.finish(after).unwrap();
        let ends = Ends::parse(bytes.first_chunk().unwrap(), bytes.last_chunk().unwrap()).unwrap();
        assert_eq!((ends.min_txid, ends.base, ends.position.checksum), (Txid(2), sum(), after));
    }

    #[test]
    fn what_is_no_whole_database_is_refused() {
        let wrong = Checksum(sum().0 ^ 1);
        assert!(matches!(pages().finish(wrong), Err(LtxError::SnapshotChecksum { .. })));
        let mut short = EncoderV1::new(Vec::new(), header(1)).unwrap();
        assert!(short.page(2, &[2; 512]).is_err(), "page 1 comes first");
        assert!(short.page(1, &[1; 511]).is_err());
        short.page(1, &[1; 512]).unwrap();
        assert!(short.finish(sum()).is_err(), "page 2 is missing");
    }
}
