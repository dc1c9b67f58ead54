//! Reads an LTX file.

use std::io::{ErrorKind, Read};

use super::LtxError;
use super::checksum::{Crc, page_checksum};
use super::encoder::PAGE_FLAG_SIZE;
use super::header::{Header, Trailer, post_apply_from_wire};
use super::index;
use super::order::PageOrder;
use crate::core::Checksum;

/// Where the decoder stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Pages,
    Index,
    Failed,
}

/// Reads one LTX file, page by page, and not a byte beyond it. Reads are small: hand in a buffered
/// reader.
///
/// Pages are handed out before the file's checksum is known: they count only once
/// [`Decoder::finish`] has succeeded.
pub struct Decoder<R: Read> {
    reader: R,
    header: Header,
    order: PageOrder,
    /// Of a snapshot's pages so far.
    database: Checksum,
    file: Crc,
    offset: u64,
    /// The page index as it must be, of which the checksum and the length are kept, not the bytes.
    index: Crc,
    index_len: u64,
    record: Vec<u8>,
    block: Vec<u8>,
    state: State,
}

impl<R: Read> Decoder<R> {
    /// Reads the header and checks it.
    ///
    /// # Errors
    /// Not an LTX file of a kind that is read here, cut short, or reading failed.
    pub fn new(mut reader: R) -> Result<Self, LtxError> {
        let mut bytes = [0; Header::SIZE];
        read_exact(&mut reader, &mut bytes, 0, "the header")?;
        let header = Header::from_bytes(bytes)?;
        let mut file = Crc::new();
        file.update(&bytes);
        Ok(Self {
            reader,
            header,
            order: PageOrder::new(&header),
            database: Checksum(Checksum::FLAG),
            file,
            offset: Header::SIZE as u64,
            index: Crc::new(),
            index_len: 0,
            record: Vec::new(),
            block: Vec::new(),
            state: State::Pages,
        })
    }

    /// What the file says of itself. Covered by the file's checksum, so true only once
    /// [`Decoder::finish`] has succeeded.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Reads the next page into `page`, which gets the page's size, and gives its number; `None`
    /// after the last.
    ///
    /// # Errors
    /// The file is damaged or cut short, or reading failed; the decoder is of no more use.
    pub fn next_page(&mut self, page: &mut Vec<u8>) -> Result<Option<u32>, LtxError> {
        match self.state {
            State::Pages => {}
            State::Index => return Ok(None),
            State::Failed => return Err(LtxError::Failed),
        }
        self.state = State::Failed;
        let pgno = self.read_page(page)?;
        self.state = if pgno.is_some() { State::Pages } else { State::Index };
        Ok(pgno)
    }

    /// Reads what follows the last page, checks the whole, and that nothing follows.
    ///
    /// # Errors
    /// The file is damaged, cut short or followed by bytes, pages are unread, or reading failed.
    pub fn finish(self) -> Result<Trailer, LtxError> {
        let offset = self.offset + self.index_len + 9 + Trailer::SIZE as u64;
        let (mut reader, trailer) = self.finish_within()?;
        match read_exact(&mut reader, &mut [0], offset, "what follows the trailer") {
            Err(LtxError::Truncated { .. }) => Ok(trailer),
            Err(e) => Err(e),
            Ok(()) => Err(LtxError::Trailing { offset }),
        }
    }

    /// As [`Decoder::finish`] for a file within a longer stream: what follows is left unread, in
    /// the reader handed back.
    ///
    /// # Errors
    /// The file is damaged or cut short, pages are unread, or reading failed.
    pub fn finish_within(mut self) -> Result<(R, Trailer), LtxError> {
        match self.state {
            State::Pages => return Err(LtxError::PagesLeft),
            State::Index => {}
            State::Failed => return Err(LtxError::Failed),
        }
        self.read_index()?;
        let said = Checksum(u64::from_be_bytes(self.take("the trailer")?));
        let computed = self.file.checksum();
        let file = Checksum(u64::from_be_bytes(self.take("the trailer")?));
        if file != computed {
            return Err(LtxError::FileChecksum { said: file, computed });
        }
        let post_apply = post_apply_from_wire(said, self.header.commit)?;
        if self.header.is_snapshot() && said != self.database {
            return Err(LtxError::SnapshotChecksum { said, computed: self.database });
        }
        Ok((self.reader, Trailer { post_apply, file }))
    }

    fn read_page(&mut self, page: &mut Vec<u8>) -> Result<Option<u32>, LtxError> {
        let offset = self.offset;
        let pgno = u32::from_be_bytes(self.take("a page's number")?);
        let flags = u16::from_be_bytes(self.take("a page's flags")?);
        if (pgno, flags) == (0, 0) {
            self.order.end()?;
            return Ok(None);
        }
        self.order.next(pgno)?;
        match flags {
            PAGE_FLAG_SIZE => {}
            0 => return Err(LtxError::PageFrame { pgno, offset }),
            _ => return Err(LtxError::PageFlags { pgno, offset, flags }),
        }
        let size = u32::from_be_bytes(self.take("a page's size")?);
        let max = max_block(self.header.page_size);
        if size > max {
            return Err(LtxError::BlockSize { pgno, offset, size, max });
        }
        self.block.resize(size as usize, 0);
        read_exact(&mut self.reader, &mut self.block, self.offset, "a page")?;
        self.offset += u64::from(size);

        page.resize(self.header.page_size as usize, 0);
        match lz4_flex::block::decompress_into(&self.block, page) {
            Ok(len) if len == page.len() => {}
            Ok(len) => {
                let reason = format!("it gives {len} bytes instead of {}", page.len());
                return Err(LtxError::Block { pgno, offset, reason });
            }
            Err(e) => return Err(LtxError::Block { pgno, offset, reason: e.to_string() }),
        }
        self.file.update(page);
        if self.header.is_snapshot() {
            self.database = self.database.toggle(page_checksum(pgno, page));
        }
        self.record.clear();
        index::push_record(&mut self.record, pgno, offset, self.offset - offset);
        self.index.update(&self.record);
        self.index_len += self.record.len() as u64;
        Ok(Some(pgno))
    }

    /// The index holds nothing that the pages did not say: it is compared, not parsed, so that no
    /// memory is needed for it.
    fn read_index(&mut self) -> Result<(), LtxError> {
        let offset = self.offset;
        let mut found = Crc::new();
        let mut left = self.index_len;
        let mut chunk = [0; 4096];
        while left > 0 {
            let len = left.min(chunk.len() as u64);
            let part = &mut chunk[..len as usize];
            read_exact(&mut self.reader, part, self.offset, "the page index")?;
            self.file.update(part);
            self.offset += len;
            found.update(part);
            left -= len;
        }
        let end: [u8; 9] = self.take("the page index")?;
        if found.checksum() != self.index.checksum() || end != index::end(self.index_len) {
            return Err(LtxError::PageIndex { offset });
        }
        Ok(())
    }

    /// Reads bytes that the file's checksum covers as they stand.
    fn take<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], LtxError> {
        let mut bytes = [0; N];
        read_exact(&mut self.reader, &mut bytes, self.offset, what)?;
        self.file.update(&bytes);
        self.offset += N as u64;
        Ok(bytes)
    }
}

/// The longest LZ4 block that any compressor makes of a page (LZ4: `LZ4_compressBound`).
fn max_block(page_size: u32) -> u32 {
    page_size + page_size / 255 + 16
}

fn read_exact(
    reader: &mut impl Read,
    bytes: &mut [u8],
    offset: u64,
    what: &'static str,
) -> Result<(), LtxError> {
    reader.read_exact(bytes).map_err(|source| match source.kind() {
        ErrorKind::UnexpectedEof => LtxError::Truncated { what, offset },
        _ => LtxError::Read { what, offset, source },
    })
}
