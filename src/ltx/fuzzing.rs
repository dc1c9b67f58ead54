//! Any bytes as an LTX file.

#![allow(clippy::missing_panics_doc)] // a panic is what is looked for

use super::{Decoder, Encoder, Header, LtxError, Trailer};
use crate::core::{Checksum, Txid};

type Page = (u32, Vec<u8>);

/// Read to its end, or refused.
fn read(bytes: &[u8]) -> Result<(Header, Vec<Page>, Trailer), LtxError> {
    let mut decoder = Decoder::new(bytes)?;
    let header = *decoder.header();
    let (mut pages, mut page) = (Vec::new(), Vec::new());
    while let Some(number) = decoder.next_page(&mut page)? {
        pages.push((number, page.clone()));
    }
    Ok((header, pages, decoder.finish()?))
}

/// Also with the checksums at its end put right, which no fuzzer finds by itself.
pub fn file(bytes: &[u8]) {
    let mut bytes = bytes.to_vec();
    for _ in 0..3 {
        match read(&bytes) {
            Ok((header, pages, trailer)) => return again(header, &pages, trailer),
            Err(LtxError::FileChecksum { computed, .. }) => put(&mut bytes, 8, computed),
            Err(LtxError::SnapshotChecksum { computed, .. }) => put(&mut bytes, 16, computed),
            Err(_) => return,
        }
    }
}

fn put(bytes: &mut [u8], before_end: usize, checksum: Checksum) {
    let at = bytes.len().saturating_sub(before_end);
    if let Some(place) = bytes.get_mut(at..at + 8) {
        place.copy_from_slice(&checksum.0.to_be_bytes());
    }
}

fn again(header: Header, pages: &[Page], trailer: Trailer) {
    let encoded = encode(header, pages, trailer.post_apply);
    assert!(encoded.is_ok(), "what was read cannot be written: {:?}", encoded.err());
    let Ok(encoded) = encoded else { return };
    let read = read(&encoded);
    assert!(read.is_ok(), "what was written cannot be read: {:?}", read.err());
    if let Ok((same, pages_again, trailer_again)) = read {
        assert_eq!(header, same);
        assert_eq!(pages, pages_again);
        assert_eq!(trailer.post_apply, trailer_again.post_apply);
    }
}

fn encode(header: Header, pages: &[Page], post_apply: Checksum) -> Result<Vec<u8>, LtxError> {
    let mut encoder = Encoder::new(Vec::new(), header)?;
    for (number, page) in pages {
        encoder.page(*number, page)?;
    }
    encoder.finish(post_apply).map(|(bytes, _)| bytes)
}

/// A snapshot, a change and a deletion.
pub fn files() -> Vec<Vec<u8>> {
    let header = Header {
        page_size: 512,
        commit: 2,
        min_txid: Txid(1),
        max_txid: Txid(1),
        timestamp_ms: 1,
        pre_apply: Checksum(0),
        node_id: 3,
        wal: super::WalSpan::default(),
    };
    let page = |byte: u8| (0..512_u16).map(|at| byte.wrapping_add((at / 50) as u8)).collect();
    let pages: [Page; 2] = [(1, page(1)), (2, page(2))];
    let sum = pages.iter().fold(Checksum(Checksum::FLAG), |sum, (number, page)| {
        sum.toggle(super::page_checksum(*number, page))
    });
    let later = Header { min_txid: Txid(2), max_txid: Txid(2), pre_apply: sum, ..header };
    [
        encode(header, &pages, sum),
        encode(later, &pages[1..], Checksum(Checksum::FLAG | 5)),
        encode(Header { commit: 0, ..later }, &[], Checksum(0)),
    ]
    .into_iter()
    .flatten()
    .collect()
}
