//! What can be wrong with an LTX file, or with what is asked of one.

use std::io;

use super::header::WalSpan;
use crate::core::{Checksum, Txid};

/// Says what is wrong and where. Offsets are bytes from the header's first. A file read that gives
/// any of these holds nothing to be trusted: drop it, and fetch or make it anew.
#[derive(Debug, thiserror::Error)]
pub enum LtxError {
    #[error("reading the LTX file failed in {what} at byte {offset}: {source}")]
    Read { what: &'static str, offset: u64, source: io::Error },
    #[error("writing the LTX file failed in {what} at byte {offset}: {source}")]
    Write { what: &'static str, offset: u64, source: io::Error },
    #[error("the LTX file is cut short: it ends in {what}, which begins at byte {offset}")]
    Truncated { what: &'static str, offset: u64 },

    #[error("not an LTX file: it begins with {0:02x?} instead of \"LTX1\"")]
    Magic([u8; 4]),
    #[error("the LTX header has flags {0:#010x} that are not known; a newer program wrote it")]
    Flags(u32),
    #[error(
        "the LTX file holds no checksums of its database (as Litestream writes them); such a file \
         has no position and cannot be applied"
    )]
    NoChecksums,
    #[error("the LTX header says a page size of {0}; SQLite has powers of two from 512 to 65536")]
    PageSize(u32),
    #[error("the LTX header says transactions {} to {}; both begin at 1, in order", min.0, max.0)]
    Txids { min: Txid, max: Txid },
    #[error("the LTX header says an impossible part of a WAL: {0:?}")]
    Wal(WalSpan),
    #[error(
        "the LTX header of transactions from {} on says checksum {:016x} before it; the first \
         transaction has none, later ones have the top bit set", min.0, found.0
    )]
    PreApply { min: Txid, found: Checksum },

    #[error("page {pgno} is beyond the {commit} pages that the LTX header says the database has")]
    PageBeyond { pgno: u32, commit: u32 },
    #[error("page 0 in an LTX file; SQLite's pages begin at 1")]
    PageZero,
    #[error("page {0} in an LTX file is the lock page, which holds no content")]
    LockPage(u32),
    #[error("page {pgno} follows page {previous} in an LTX file; page numbers must rise")]
    PageOrder { pgno: u32, previous: u32 },
    #[error("a snapshot holds every page, but page {found} stands where page {expected} should")]
    SnapshotGap { found: u32, expected: u64 },
    #[error("a snapshot holds every page, but ends before page {expected} of {commit}")]
    SnapshotShort { expected: u64, commit: u32 },

    #[error("page {pgno} to be written has {len} bytes; the page size is {page_size}")]
    PageLength { pgno: u32, len: usize, page_size: u32 },
    #[error("page {pgno} at byte {offset} has flags {flags:#06x} that are not known")]
    PageFlags { pgno: u32, offset: u64, flags: u16 },
    #[error(
        "page {pgno} at byte {offset} is an LZ4 frame, as the Go module wrote up to 0.5.1; write \
         the file anew with a later one"
    )]
    PageFrame { pgno: u32, offset: u64 },
    #[error(
        "page {pgno} at byte {offset} says {size} compressed bytes; at most {max} are possible"
    )]
    BlockSize { pgno: u32, offset: u64, size: u32, max: u32 },
    #[error("page {pgno} at byte {offset} is no LZ4 block of a page: {reason}")]
    Block { pgno: u32, offset: u64, reason: String },

    #[error("the page index at byte {offset} is not that of the pages before it")]
    PageIndex { offset: u64 },
    #[error(
        "checksum {:016x} of the database after the LTX file: not well-formed, or given for a \
         database of {commit} pages, of which only an empty one has none", found.0
    )]
    PostApply { found: Checksum, commit: u32 },
    #[error(
        "the snapshot's pages have the checksum {:016x}, but {:016x} is said", computed.0, said.0
    )]
    SnapshotChecksum { said: Checksum, computed: Checksum },
    #[error("the LTX file's own checksum is {:016x}, but {:016x} is said", computed.0, said.0)]
    FileChecksum { said: Checksum, computed: Checksum },
    #[error("there are bytes after the LTX trailer, from byte {offset} on")]
    Trailing { offset: u64 },

    #[error("an LTX file was to be finished with pages unread; read up to the last first")]
    PagesLeft,
    #[error("an LTX encoder or decoder was used after it had failed; begin anew")]
    Failed,
}
