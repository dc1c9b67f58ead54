//! WAL, journal and database headers: round trips, damage, and what SQLite writes.

use proptest::prelude::*;
use rusqlite::Connection;

use super::memory::LiveMemory;
use crate::sqlite::header::is_database;
use crate::sqlite::journal::{JournalHeader, SuperJournal, record_checksum};
use crate::sqlite::wal::{FRAME_HEADER_SIZE, HEADER_SIZE, frame_offset, frame_size};
use crate::sqlite::wal_index::{checkpoint_info, frame_page, lookup, read_header};
use crate::sqlite::{
    DatabaseHeader, FrameHeader, HeaderError, Salts, WalError, WalHeader, WalTip, lock_page,
};

fn page_size() -> impl Strategy<Value = u32> {
    (9_u32..=16).prop_map(|shift| 1 << shift)
}

fn wal_header() -> impl Strategy<Value = WalHeader> {
    (any::<bool>(), page_size(), any::<u32>(), any::<[u8; 8]>()).prop_map(
        |(big_endian, page_size, sequence, salts)| WalHeader {
            big_endian,
            page_size,
            sequence,
            salts: Salts(salts),
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn wal_header_round_trip_and_damage(header in wal_header(), at in 0..HEADER_SIZE, flip in 1_u8..) {
        let mut bytes = header.encode();
        prop_assert_eq!(WalHeader::parse(&bytes), Ok(header));
        prop_assert_eq!(header.tip().checksum, header.checksum());
        bytes[at] ^= flip;
        prop_assert!(WalHeader::parse(&bytes).is_err());
    }

    #[test]
    fn frames_chain_and_damage_breaks_them(
        header in wal_header().prop_filter("small", |h| h.page_size <= 1024),
        page in 1_u32.., commit: u32, fill: u8, at in 0..FRAME_HEADER_SIZE, flip in 1_u8..,
    ) {
        let tip = header.tip();
        let data = vec![fill; header.page_size as usize];
        let (frame, next) = tip.append(page, commit, &data).unwrap();
        let mut bytes = frame.encode();
        prop_assert_eq!(tip.follow(&FrameHeader::parse(&bytes), &data), Some(next));
        prop_assert_eq!(next.frame, 1);
        bytes[at] ^= flip;
        prop_assert_eq!(tip.follow(&FrameHeader::parse(&bytes), &data), None);
        prop_assert_eq!(next.follow(&frame, &data), None);
    }

    #[test]
    fn journal_header_round_trip(records: Option<u32>, nonce: u32, original_pages: u32,
        sector in 5_u32..=16, page_size in page_size()) {
        let records = records.filter(|n| *n != u32::MAX);
        let header = JournalHeader {
            records, nonce, original_pages, sector_size: 1 << sector, page_size,
        };
        prop_assert_eq!(JournalHeader::parse(&header.encode()), Some(header));
    }

    #[test]
    fn super_journal_round_trip(name in proptest::collection::vec(1_u8.., 1..600), before: Vec<u8>) {
        let record = SuperJournal { name };
        let mut bytes = before;
        bytes.extend(record.encode(lock_page(4096)));
        prop_assert_eq!(SuperJournal::parse(&bytes), Some(record));
        let at = bytes.len() - 17;
        bytes[at] ^= 1;
        prop_assert_eq!(SuperJournal::parse(&bytes), None);
    }

    #[test]
    fn no_bytes_make_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = WalHeader::parse(&bytes);
        let _ = DatabaseHeader::parse(&bytes);
        let _ = JournalHeader::parse(&bytes);
        let _ = SuperJournal::parse(&bytes);
    }
}

#[test]
fn a_header_of_another_page_size_or_version_is_named() {
    let header =
        WalHeader { big_endian: false, page_size: 4096, sequence: 0, salts: Salts::default() };
    let with = |at: usize, value: u32| {
        let mut bytes = header.encode();
        bytes[at..at + 4].copy_from_slice(&value.to_be_bytes());
        WalHeader::parse(&bytes)
    };
    assert_eq!(with(8, 1000), Err(WalError::PageSize(1000)));
    assert_eq!(with(8, 131_072), Err(WalError::PageSize(131_072)));
    assert_eq!(with(4, 1), Err(WalError::Checksum));
    assert_eq!(with(0, 7), Err(WalError::Magic(7)));
    assert_eq!(WalHeader::parse(&[0; 31]), Err(WalError::Short(31)));
}

#[test]
fn offsets_do_not_overflow() {
    assert_eq!(frame_offset(4096, 1), 32);
    assert_eq!(frame_offset(4096, 2), 32 + 4120);
    assert_eq!(frame_offset(65_536, u32::MAX), 32 + (u64::from(u32::MAX) - 1) * 65_560);
    assert_eq!(lock_page(4096), 262_145);
    assert_eq!(lock_page(65_536), 16_385);
}

/// The chain of a WAL's bytes up to its last commit, as recovery follows it.
fn recover(wal: &[u8]) -> (WalTip, Vec<u32>) {
    let mut tip = WalHeader::parse(wal).unwrap().tip();
    let (mut committed, mut pages) = (tip, Vec::new());
    while let Some(frame) = wal
        .get(frame_offset(tip.page_size, tip.frame + 1) as usize..)
        .filter(|f| f.len() as u64 >= frame_size(tip.page_size))
    {
        let header = FrameHeader::parse(frame.first_chunk().unwrap());
        let body = &frame[FRAME_HEADER_SIZE..frame_size(tip.page_size) as usize];
        let Some(next) = tip.follow(&header, body) else { break };
        pages.push(header.page);
        tip = next;
        if header.commit != 0 {
            committed = tip;
        }
    }
    pages.truncate(committed.frame as usize);
    (committed, pages)
}

#[test]
fn a_real_wal_and_its_index_are_read() {
    for page_size in [512, 4096, 65_536] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.db");
        let db = Connection::open(&path).unwrap();
        db.execute_batch(&format!(
            "PRAGMA page_size={page_size}; PRAGMA journal_mode=WAL; PRAGMA wal_autocheckpoint=0;
             CREATE TABLE t(x); INSERT INTO t VALUES(1);
             WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM c WHERE i<50)
             INSERT INTO t SELECT randomblob(700) FROM c;"
        ))
        .unwrap();
        let wal = std::fs::read(dir.path().join("a.db-wal")).unwrap();
        let (tip, pages) = recover(&wal);
        assert_eq!(tip.page_size, page_size);
        let index = LiveMemory::open(&dir.path().join("a.db-shm"));
        let header = read_header(&index).unwrap();
        assert_eq!(header.tip(), Some(tip));
        for (frame, page) in (1..).zip(&pages) {
            assert_eq!(frame_page(&index, frame), Ok(*page));
            let last = pages.iter().rposition(|p| p == page).unwrap() as u32 + 1;
            assert_eq!(lookup(&index, tip.frame, *page, 1), Ok(Some(last)));
            let earlier = pages[..frame as usize].iter().rposition(|p| p == page).unwrap() as u32;
            assert_eq!(lookup(&index, frame, *page, 1), Ok(Some(earlier + 1)));
        }
        assert_eq!(lookup(&index, tip.frame, 1_000_000, 1), Ok(None));
        assert_eq!(checkpoint_info(&index).unwrap().backfill, 0);
        db.execute_batch("PRAGMA wal_checkpoint(PASSIVE)").unwrap();
        assert_eq!(checkpoint_info(&index).unwrap().backfill, tip.frame);
        let head = DatabaseHeader::parse(&std::fs::read(&path).unwrap()).unwrap();
        assert_eq!((head.page_size, head.pages), (page_size, Some(tip.pages)));
        assert!(head.is_wal());
    }
}

#[test]
fn a_real_journal_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.db");
    let db = Connection::open(&path).unwrap();
    db.execute_batch("PRAGMA page_size=1024; CREATE TABLE t(x); INSERT INTO t VALUES(1);").unwrap();
    let before = std::fs::read(&path).unwrap();
    assert!(is_database(&before));
    let head = DatabaseHeader::parse(&before).unwrap();
    assert_eq!((head.page_size, head.is_wal(), head.encoding), (1024, false, 1));
    assert_eq!(head.size_in_pages(before.len() as u64), 2);

    db.execute_batch("PRAGMA synchronous=OFF; BEGIN; UPDATE t SET x=2;").unwrap();
    db.cache_flush().unwrap();
    let journal = std::fs::read(dir.path().join("a.db-journal")).unwrap();
    let header = JournalHeader::parse(&journal).unwrap();
    assert_eq!((header.records, header.original_pages, header.page_size), (None, 2, 1024));
    let at = header.sector_size as usize;
    let record = header.record(&journal[at..]).unwrap();
    let start = (record.page as usize - 1) * 1024;
    assert_eq!(record.data, &before[start..start + 1024]);
    let mut damaged = journal[at..].to_vec();
    damaged[4 + 1024 - 200] ^= 1;
    assert_eq!(header.record(&damaged), None);
    assert_eq!(JournalHeader::parse(&[0; 512]), None);
    assert_eq!(record_checksum(5, &[1; 1024]), 10);
}

#[test]
fn what_is_no_database_is_refused() {
    assert_eq!(DatabaseHeader::parse(&[]), Err(HeaderError::Short(0)));
    assert_eq!(DatabaseHeader::parse(&[7; 100]), Err(HeaderError::Magic));
    assert!(!is_database(b"SQLite format 3\0"));
}
