//! Files that the Go module wrote, round trips, and what must be refused.

mod damage;
mod known;
mod round_trip;

use super::{Decoder, Encoder, Header, LtxError, Trailer, WalSpan, page_checksum};
use crate::core::{Checksum, Txid};

/// All that a file says.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Content {
    header: Header,
    pages: Vec<(u32, Vec<u8>)>,
    trailer: Trailer,
}

fn decode(bytes: &[u8]) -> Result<Content, LtxError> {
    let mut decoder = Decoder::new(bytes)?;
    let (header, mut pages, mut page) = (*decoder.header(), Vec::new(), Vec::new());
    while let Some(pgno) = decoder.next_page(&mut page)? {
        pages.push((pgno, page.clone()));
    }
    Ok(Content { header, pages, trailer: decoder.finish()? })
}

fn encode(
    header: Header,
    pages: &[(u32, Vec<u8>)],
    post_apply: Checksum,
) -> Result<(Vec<u8>, Trailer), LtxError> {
    let mut encoder = Encoder::new(Vec::new(), header)?;
    for (pgno, page) in pages {
        encoder.page(*pgno, page)?;
    }
    encoder.finish(post_apply)
}

/// Two transactions on a database of 16 pages of 512 bytes.
fn change() -> Header {
    Header {
        page_size: 512,
        commit: 16,
        min_txid: Txid(2),
        max_txid: Txid(3),
        timestamp_ms: 1000,
        pre_apply: flagged(1),
        node_id: 0,
        wal: WalSpan::default(),
    }
}

fn snapshot(commit: u32) -> Header {
    Header { commit, min_txid: Txid(1), max_txid: Txid(4), pre_apply: Checksum(0), ..change() }
}

fn flagged(rest: u64) -> Checksum {
    Checksum(Checksum::FLAG | rest)
}

fn sum(pages: &[(u32, Vec<u8>)]) -> Checksum {
    pages.iter().fold(Checksum(0), |sum, (pgno, page)| sum.toggle(page_checksum(*pgno, page)))
}

/// As Go's own tests of its encoder fill pages.
fn go_page(pgno: u32) -> (u32, Vec<u8>) {
    (pgno, (0..512_u32).map(|i| (pgno + i % 7) as u8).collect())
}

/// Bytes that do not compress.
fn noise(seed: u32, len: usize) -> Vec<u8> {
    let mut x = u64::from(seed) + 0x9e37_79b9_7f4a_7c15;
    let mut next = || {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        x as u8
    };
    (0..len).map(|_| next()).collect()
}
