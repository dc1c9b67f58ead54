//! LTX version 3: the changed pages of one or more transactions as a file or a stream.
//!
//! What it is for: a transaction travels between nodes, and lies beside the Raft log, in this
//! form; `import` and `export` meet other programs in it. It is the form that the Go module
//! `github.com/superfly/ltx` writes and reads from 0.5.2 on (the "LTX spec" in these comments).
//!
//! ```text
//! header 100 | per page: number 4, flags 2, size 4, LZ4 block | six zero bytes
//!            | page index: per page varints (number, offset, length), a zero byte, its length 8
//!            | trailer: checksum of the database afterwards 8, checksum of this file 8
//! ```
//! Everything fixed in width is big-endian. The file's checksum covers the pages uncompressed and
//! all other bytes as they stand.
//!
//! What it promises:
//! - one-history: a file names the position it was made on and the one it leads to; a snapshot's
//!   pages must add up to the latter, here and in the encoder.
//! - bounded-answer: nothing is allocated by a length that was read, and no input makes it panic.
//! - A file that decodes to its end and finishes is whole: cut short, lengthened or changed in
//!   content it is refused. (Two LZ4 blocks may hold the same page: a change from one to the other
//!   is no change in content, and is not seen, as in Go.)
//!
//! It is stricter than Go where Go would hand out less than it says: a snapshot lacks no page, a
//! block fills its page, the page index is the one that the pages make. Not read, and said so:
//! files without checksums of the database (Litestream's), pages as LZ4 frames (Go up to 0.5.1),
//! and versions 1 and 2, which cannot be told from version 3 by their magic number. Of version 1, which
//! LiteFS speaks, files can be written ([`EncoderV1`]).
//!
//! Checksums in [`Header`] and [`Trailer`] are as `core` has them: an empty database has 0. On the
//! wire that is the flag alone (and 0 before a snapshot); this room translates.
//!
//! May know: `core`. Pure: no files, no clock; works over the reader or writer handed in, both ways
//! in constant memory but for the encoder's page index (about 10 bytes a page).

mod checksum;
mod decoder;
mod encoder;
mod ends;
mod error;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod header;
mod index;
mod order;
mod pages;
#[cfg(test)]
mod tests;
mod version_one;

pub use checksum::{lock_page, page_checksum};
pub use decoder::Decoder;
pub use encoder::Encoder;
pub use ends::Ends;
pub use error::LtxError;
pub use header::{Header, Trailer, WalSpan};
pub use pages::{pack, unpack};
pub use version_one::EncoderV1;
