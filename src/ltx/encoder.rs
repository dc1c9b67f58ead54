//! Writes an LTX file.

use std::io::Write;

use lz4_flex::block::{CompressTable, compress_into_with_table, get_maximum_output_size};

use super::LtxError;
use super::checksum::{Crc, page_checksum};
use super::header::{Header, Trailer, post_apply_to_wire};
use super::index;
use super::order::PageOrder;
use crate::core::Checksum;

/// LTX spec: `PageHeaderFlagSize`: a size follows, and an LZ4 block, not an LZ4 frame.
pub(super) const PAGE_FLAG_SIZE: u16 = 1;
/// Before a page's LZ4 block: its number, flags and compressed size.
const FRAME_HEADER: usize = 10;
/// Where the next page's number and flags would be: the end of the pages.
const END_OF_PAGES: [u8; 6] = [0; 6];

/// Writes one LTX file, page by page. One write per page: small pages to a file want a buffer
/// around it. Nothing is flushed.
///
/// Dropped before [`Encoder::finish`], it leaves a file that no decoder accepts.
pub struct Encoder<W: Write> {
    sink: Sink<W>,
    header: Header,
    order: PageOrder,
    /// Of a snapshot's pages so far.
    database: Checksum,
    index: Vec<u8>,
    /// Room for one page's frame.
    frame: Vec<u8>,
    table: CompressTable,
}

impl<W: Write> Encoder<W> {
    /// Checks the header and writes it.
    ///
    /// # Errors
    /// The header says something impossible, or writing failed.
    pub fn new(writer: W, header: Header) -> Result<Self, LtxError> {
        let bytes = header.to_bytes()?;
        let page_size = header.page_size as usize;
        let mut encoder = Self {
            sink: Sink::new(writer),
            header,
            order: PageOrder::new(&header),
            database: Checksum(Checksum::FLAG),
            index: Vec::new(),
            frame: vec![0; FRAME_HEADER + get_maximum_output_size(page_size)],
            table: CompressTable::default(),
        };
        encoder.sink.put(&bytes, "the header")?;
        Ok(encoder)
    }

    /// Writes one page. Page numbers rise; a snapshot has them all but the lock page.
    ///
    /// # Errors
    /// The page cannot come next or has a wrong length (the encoder is as before), or writing
    /// failed (the encoder is of no more use).
    pub fn page(&mut self, pgno: u32, page: &[u8]) -> Result<(), LtxError> {
        let page_size = self.header.page_size;
        if page.len() != page_size as usize {
            return Err(LtxError::PageLength { pgno, len: page.len(), page_size });
        }
        self.order.next(pgno)?;

        let offset = self.sink.offset;
        let (head, block) = self.frame.split_at_mut(FRAME_HEADER);
        let size = compress_into_with_table(page, block, &mut self.table)
            .map_err(|e| LtxError::Block { pgno, offset, reason: e.to_string() })?;
        head[..4].copy_from_slice(&pgno.to_be_bytes());
        head[4..6].copy_from_slice(&PAGE_FLAG_SIZE.to_be_bytes());
        head[6..].copy_from_slice(&(size as u32).to_be_bytes());
        self.sink.crc.update(head);
        // The page as it is, so that the file's checksum does not hang on the compressor.
        self.sink.crc.update(page);
        if self.header.is_snapshot() {
            self.database = self.database.toggle(page_checksum(pgno, page));
        }
        let length = FRAME_HEADER + size;
        self.sink.write(&self.frame[..length], "a page")?;
        index::push_record(&mut self.index, pgno, offset, length as u64);
        Ok(())
    }

    /// Writes the page index and the trailer, and hands the writer back.
    ///
    /// `post_apply` is the checksum of the database after this file; 0 for a deletion.
    ///
    /// # Errors
    /// `post_apply` is not well-formed, or not the one of a snapshot's pages; a snapshot lacks
    /// pages; or writing failed.
    pub fn finish(mut self, post_apply: Checksum) -> Result<(W, Trailer), LtxError> {
        self.order.end()?;
        let said = post_apply_to_wire(post_apply, self.header.commit)?;
        if self.header.is_snapshot() && said != self.database {
            return Err(LtxError::SnapshotChecksum { said, computed: self.database });
        }
        self.sink.put(&END_OF_PAGES, "the end of the pages")?;
        self.sink.put(&self.index, "the page index")?;
        self.sink.put(&index::end(self.index.len() as u64), "the page index")?;
        self.sink.put(&said.0.to_be_bytes(), "the trailer")?;
        let (writer, file) = self.sink.end()?;
        let post_apply = if self.header.is_deletion() { Checksum(0) } else { said };
        Ok((writer, Trailer { post_apply, file }))
    }
}

/// Where the bytes go.
pub(super) struct Sink<W> {
    writer: W,
    crc: Crc,
    offset: u64,
    failed: bool,
}

impl<W: Write> Sink<W> {
    pub(super) fn new(writer: W) -> Self {
        Self { writer, crc: Crc::new(), offset: 0, failed: false }
    }

    /// Ends the file with its checksum.
    pub(super) fn end(mut self) -> Result<(W, Checksum), LtxError> {
        let file = self.crc.checksum();
        self.write(&file.0.to_be_bytes(), "the trailer")?;
        Ok((self.writer, file))
    }

    /// Writes bytes that the file's checksum covers as they stand.
    pub(super) fn put(&mut self, bytes: &[u8], what: &'static str) -> Result<(), LtxError> {
        self.crc.update(bytes);
        self.write(bytes, what)
    }

    /// After a failed write nobody knows what the file holds: it cannot go on.
    fn write(&mut self, bytes: &[u8], what: &'static str) -> Result<(), LtxError> {
        if self.failed {
            return Err(LtxError::Failed);
        }
        self.writer.write_all(bytes).map_err(|source| {
            self.failed = true;
            LtxError::Write { what, offset: self.offset, source }
        })?;
        self.offset += bytes.len() as u64;
        Ok(())
    }
}
