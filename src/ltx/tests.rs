//! Round trips, damage, and files that the Go module wrote.

use super::*;
use crate::core::{Checksum, Txid};

#[test]
fn first() {
    let header = Header {
        page_size: 512,
        commit: 2,
        min_txid: Txid(2),
        max_txid: Txid(3),
        timestamp_ms: 1000,
        pre_apply: Checksum(Checksum::FLAG | 1),
        node_id: 7,
        wal: WalSpan::default(),
    };
    let mut encoder = Encoder::new(Vec::new(), header).unwrap();
    encoder.page(2, &[5; 512]).unwrap();
    let (bytes, trailer) = encoder.finish(Checksum(Checksum::FLAG | 3)).unwrap();
    let mut decoder = Decoder::new(&bytes[..]).unwrap();
    assert_eq!(*decoder.header(), header);
    let mut page = Vec::new();
    assert_eq!(decoder.next_page(&mut page).unwrap(), Some(2));
    assert_eq!(page, [5; 512]);
    assert_eq!(decoder.next_page(&mut page).unwrap(), None);
    assert_eq!(decoder.finish().unwrap(), trailer);
}
