//! What is written is read; what cannot be read is not written.

use std::io;

use proptest::prelude::*;

use super::*;
use crate::ltx::lock_page;

/// A page of zeros, of few different bytes, of a repeated part, or of noise.
fn page(seed: u32, page_size: u32) -> Vec<u8> {
    let noise = noise(seed, page_size as usize);
    match seed % 4 {
        0 => vec![0; page_size as usize],
        1 => noise.iter().map(|byte| byte & 3).collect(),
        2 => noise.iter().take(37).copied().cycle().take(page_size as usize).collect(),
        _ => noise,
    }
}

fn any_wal() -> impl Strategy<Value = WalSpan> {
    let span = (32..u64::MAX >> 1, 0..u64::MAX >> 1, any::<u32>(), any::<u32>())
        .prop_map(|(offset, size, salt1, salt2)| WalSpan { offset, size, salt1, salt2 });
    prop_oneof![Just(WalSpan::default()), span]
}

/// A header of a change, and its pages' numbers; most of them around the lock page.
fn any_change() -> impl Strategy<Value = (Header, Vec<u32>)> {
    let header =
        (9_u32..=16, 2..u64::MAX, 0..9_u64, any::<i64>(), any::<u64>(), any::<u64>(), any_wal());
    let header =
        header.prop_map(|(bits, min, more, timestamp_ms, pre_apply, node_id, wal)| Header {
            page_size: 1 << bits,
            commit: 1,
            min_txid: Txid(min),
            max_txid: Txid(min.saturating_add(more)),
            timestamp_ms,
            pre_apply: flagged(pre_apply | 1),
            node_id,
            wal,
        });
    header.prop_flat_map(|header| {
        let lock = lock_page(header.page_size);
        let pgno = prop_oneof![1..20_u32, lock - 5..lock, lock + 1..lock + 5, lock + 1..=u32::MAX];
        (proptest::collection::btree_set(pgno, 0..8), 0..3_u32).prop_map(move |(pages, more)| {
            let pages: Vec<u32> = pages.into_iter().collect();
            let commit = pages.last().map_or(1, |last| last.saturating_add(more));
            (Header { commit, ..header }, pages)
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn changes((header, pgnos) in any_change(), seed: u16, post_apply: u64) {
        let pages: Vec<_> = pgnos
            .iter()
            .map(|&pgno| (pgno, page(pgno.wrapping_add(u32::from(seed)), header.page_size)))
            .collect();
        let (bytes, trailer) = encode(header, &pages, flagged(post_apply)).unwrap();
        prop_assert_eq!(trailer.post_apply, flagged(post_apply));
        prop_assert_eq!(decode(&bytes).unwrap(), Content { header, pages, trailer });
    }

    #[test]
    fn snapshots(bits in 9_u32..=16, commit in 0_u32..6, seed: u16) {
        let header = Header { page_size: 1 << bits, ..snapshot(commit) };
        let pages: Vec<_> = (1..=commit)
            .map(|pgno| (pgno, page(pgno + u32::from(seed), header.page_size)))
            .collect();
        let (bytes, trailer) = encode(header, &pages, sum(&pages)).unwrap();
        prop_assert_eq!(trailer.post_apply, sum(&pages));
        prop_assert_eq!(decode(&bytes).unwrap(), Content { header, pages, trailer });
    }
}

/// An empty database is 0 here; Go wants the flag alone, but 0 before a snapshot.
#[test]
fn an_empty_database_before_a_file() {
    for pre_apply in [Checksum(0), flagged(0)] {
        let header = Header { pre_apply, ..change() };
        let (bytes, _) = encode(header, &[], flagged(2)).unwrap();
        assert_eq!(bytes[40..48], [0x80, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(decode(&bytes).unwrap().header.pre_apply, Checksum(0));

        let header = Header { pre_apply, ..snapshot(0) };
        let (bytes, _) = encode(header, &[], Checksum(0)).unwrap();
        assert_eq!(bytes[40..48], [0; 8]);
        assert_eq!(decode(&bytes).unwrap().header.base(), crate::core::Position::EMPTY);
    }
}

#[test]
fn impossible_headers_are_not_written() {
    let refused = |header| encode(header, &[], flagged(2)).unwrap_err();
    for page_size in [0, 1, 256, 513, 4095, 65537, 131_072, u32::MAX] {
        let e = refused(Header { page_size, ..change() });
        assert!(matches!(e, LtxError::PageSize(found) if found == page_size), "{e}");
    }
    for (min, max) in [(0, 0), (0, 1), (3, 2), (1, 0)] {
        let e = refused(Header { min_txid: Txid(min), max_txid: Txid(max), ..change() });
        assert!(matches!(e, LtxError::Txids { .. }), "{e}");
    }
    let none = WalSpan::default();
    for wal in [
        WalSpan { offset: 1 << 63, ..none },
        WalSpan { offset: 32, size: 1 << 63, ..none },
        WalSpan { size: 1, ..none },
        WalSpan { salt1: 1, ..none },
        WalSpan { salt2: 1, ..none },
    ] {
        let e = refused(Header { wal, ..change() });
        assert!(matches!(e, LtxError::Wal(found) if found == wal), "{e}");
    }
    for header in [
        Header { pre_apply: Checksum(5), ..change() },
        Header { pre_apply: Checksum(5), ..snapshot(0) },
        Header { pre_apply: flagged(5), ..snapshot(0) },
    ] {
        let e = refused(header);
        assert!(matches!(e, LtxError::PreApply { .. }), "{e}");
    }
}

#[test]
fn a_refused_page_leaves_the_encoder_as_it_was() {
    let mut encoder = Encoder::new(Vec::new(), change()).unwrap();
    let (pgno, page) = go_page(5);
    assert!(matches!(encoder.page(pgno, &page[1..]), Err(LtxError::PageLength { len: 511, .. })));
    assert!(matches!(encoder.page(0, &page), Err(LtxError::PageZero)));
    assert!(matches!(encoder.page(17, &page), Err(LtxError::PageBeyond { pgno: 17, commit: 16 })));
    encoder.page(pgno, &page).unwrap();
    assert!(matches!(encoder.page(pgno, &page), Err(LtxError::PageOrder { .. })));
    let (bytes, trailer) = encoder.finish(flagged(2)).unwrap();
    let content = Content { header: change(), pages: vec![go_page(5)], trailer };
    assert_eq!(decode(&bytes).unwrap(), content);
}

#[test]
fn the_lock_page_is_not_written() {
    for bits in 9..=16 {
        let header = Header { page_size: 1 << bits, commit: u32::MAX, ..change() };
        let lock = lock_page(header.page_size);
        let e = encode(header, &[(lock, vec![0; 1 << bits])], flagged(2)).unwrap_err();
        assert!(matches!(e, LtxError::LockPage(found) if found == lock), "{e}");
    }
}

#[test]
fn a_file_ends_as_it_says() {
    let pages = [go_page(1), go_page(2)];
    let e = encode(snapshot(3), &pages, sum(&pages)).unwrap_err();
    assert!(matches!(e, LtxError::SnapshotShort { expected: 3, commit: 3 }), "{e}");
    let e = encode(snapshot(2), &pages, flagged(1)).unwrap_err();
    assert!(matches!(e, LtxError::SnapshotChecksum { .. }), "{e}");
    for wrong in [Checksum(0), Checksum(1)] {
        let e = encode(change(), &[], wrong).unwrap_err();
        assert!(matches!(e, LtxError::PostApply { commit: 16, .. }), "{e}");
    }
    let e = encode(Header { commit: 0, ..change() }, &[], flagged(1)).unwrap_err();
    assert!(matches!(e, LtxError::PostApply { commit: 0, .. }), "{e}");
}

/// Takes so many bytes, then fails.
struct Full(usize);

impl io::Write for Full {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let len = bytes.len().min(self.0);
        self.0 -= len;
        if len == 0 { Err(io::ErrorKind::StorageFull.into()) } else { Ok(len) }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_failed_write_is_said_and_is_the_end() {
    let (pgno, page) = go_page(2);
    let size = encode(change(), &[(pgno, page.clone())], flagged(2)).unwrap().0.len();
    for room in 0..size {
        let Ok(mut encoder) = Encoder::new(Full(room), change()) else {
            assert!(room < Header::SIZE);
            continue;
        };
        if let Err(e) = encoder.page(pgno, &page) {
            assert!(matches!(e, LtxError::Write { what: "a page", offset: 100, .. }), "{e}");
            assert!(matches!(encoder.page(3, &page), Err(LtxError::Failed)));
            assert!(matches!(encoder.finish(flagged(2)), Err(LtxError::Failed)));
        } else {
            let Err(e) = encoder.finish(flagged(2)) else { panic!("{room} bytes of {size}") };
            assert!(matches!(e, LtxError::Write { .. }), "{e}");
        }
    }
    let mut encoder = Encoder::new(Full(size), change()).unwrap();
    encoder.page(pgno, &page).unwrap();
    encoder.finish(flagged(2)).unwrap();
}

#[test]
fn files_in_one_stream() {
    let (first, a) = encode(change(), &[go_page(2)], flagged(2)).unwrap();
    let (second, b) = encode(Header { commit: 0, ..change() }, &[], Checksum(0)).unwrap();
    let stream = [first, second].concat();
    let mut decoder = Decoder::new(&stream[..]).unwrap();
    let mut page = Vec::new();
    while decoder.next_page(&mut page).unwrap().is_some() {}
    assert_eq!(decoder.next_page(&mut page).unwrap(), None);
    let (rest, trailer) = decoder.finish_within().unwrap();
    assert_eq!(trailer, a);
    assert_eq!(decode(rest).unwrap().trailer, b);
}

#[test]
fn pages_must_be_read_before_the_end() {
    let (bytes, _) = encode(change(), &[go_page(2)], flagged(2)).unwrap();
    let mut decoder = Decoder::new(&bytes[..]).unwrap();
    decoder.next_page(&mut Vec::new()).unwrap();
    assert!(matches!(decoder.finish(), Err(LtxError::PagesLeft)));
}
