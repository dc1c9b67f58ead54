//! The rollback-journal capture: each way to end a journal, in pieces too; what is refused.

use std::collections::BTreeSet;

use proptest::prelude::*;

use crate::capture::{DatabaseShape, JournalCapture, JournalCommit, JournalEvent, Refusal};
use crate::sqlite::{JournalHeader, SuperJournal, lock_page};

const SHAPE: DatabaseShape = DatabaseShape { page_size: Some(1024), pages: 10 };

fn head() -> [u8; 28] {
    JournalHeader {
        records: Some(1),
        nonce: 5,
        original_pages: 10,
        sector_size: 512,
        page_size: 1024,
    }
    .encode()
}

fn begin() -> JournalCapture {
    JournalCapture::begin(SHAPE, &[])
}

/// A journal with its header as synced.
fn live() -> JournalCapture {
    let mut capture = begin();
    assert_eq!(capture.journal_write(0, &head()), JournalEvent::Pass);
    capture
}

fn dirty(event: JournalEvent) -> JournalCommit {
    match event {
        JournalEvent::CommitPoint(commit) => commit,
        event => panic!("{event:?}"),
    }
}

#[test]
fn each_end_of_a_journal_is_the_commit_point() {
    let ends: [fn(&mut JournalCapture) -> JournalEvent; 4] = [
        JournalCapture::journal_unlink,
        |capture| capture.journal_truncate(0),
        |capture| capture.journal_truncate(7),
        |capture| capture.journal_write(0, &[0; 28]),
    ];
    for end in ends {
        let mut capture = live();
        assert_eq!(capture.db_write(1024, &[1; 2048]), JournalEvent::Pass);
        assert_eq!(capture.db_write(8 * 1024, &[1; 1024]), JournalEvent::Pass);
        let commit = dirty(end(&mut capture));
        assert_eq!(
            (commit.dirty, commit.page_size, commit.pages_before),
            (vec![2, 3, 9], 1024, 10)
        );
        // VACUUM truncates afterwards; the size limit of a journal applies afterwards.
        assert_eq!(capture.db_truncate(2048), JournalEvent::Pass);
        assert_eq!(capture.journal_truncate(100), JournalEvent::Pass);
        // Rule 20.
        assert_eq!(capture.db_write(0, &[1]), JournalEvent::Refuse(Refusal::SecondTransaction));
        // Rule 8.
        assert_eq!(end(&mut live()), JournalEvent::Empty);
    }
    assert_eq!(begin().journal_unlink(), JournalEvent::Empty);
    let mut capture = begin();
    assert_eq!(capture.db_truncate(0), JournalEvent::Pass);
    assert_eq!(capture.journal_unlink(), JournalEvent::Empty, "no transaction was open");
}

#[test]
fn what_does_not_end_a_journal_passes() {
    let mut capture = begin();
    // As SQLite begins a journal: the magic number comes with the sync.
    let mut unsynced = head();
    unsynced[..12].fill(0);
    assert_eq!(capture.journal_write(0, &unsynced), JournalEvent::Pass);
    assert_eq!(capture.journal_write(512, &[9; 1032]), JournalEvent::Pass);
    assert_eq!(capture.db_write(0, &[1; 16]), JournalEvent::Refuse(Refusal::NoJournal));
    assert_eq!(capture.journal_write(0, &head()[..12]), JournalEvent::Pass);
    assert_eq!(capture.db_write(1024, &[1; 1024]), JournalEvent::Pass);
    // A second header, a higher count, a savepoint's truncation.
    assert_eq!(capture.journal_write(2048, &[0; 28]), JournalEvent::Pass);
    assert_eq!(capture.journal_write(8, &[0, 0, 0, 9]), JournalEvent::Pass);
    assert_eq!(capture.journal_truncate(1544), JournalEvent::Pass);
    assert_eq!(dirty(capture.journal_write(0, &[0])).dirty, [2], "the first piece of 28 zeros");
    assert_eq!(capture.journal_write(1, &[0; 27]), JournalEvent::Pass);
}

#[test]
fn a_hot_journal_is_known_from_the_start() {
    let mut capture = JournalCapture::begin(SHAPE, &head());
    assert_eq!(capture.db_write(4096, &[1; 1024]), JournalEvent::Pass);
    assert_eq!(capture.db_truncate(10 * 1024), JournalEvent::Pass);
    let commit = dirty(capture.journal_unlink());
    assert_eq!(commit.changed(10).collect::<Vec<_>>(), [5]);
    // Zeroed, with stale records behind: not live.
    let mut capture = JournalCapture::begin(SHAPE, &[0; 28]);
    assert_eq!(capture.db_write(4096, &[1]), JournalEvent::Refuse(Refusal::NoJournal));
    assert_eq!(capture.journal_write(0, &[0; 28]), JournalEvent::Pass);
}

#[test]
fn a_rollback_in_a_new_database_needs_no_page_1() {
    let mut capture = JournalCapture::begin(DatabaseShape::default(), &[]);
    let new = JournalHeader { original_pages: 0, ..JournalHeader::parse(&head()).unwrap() };
    capture.journal_write(0, &new.encode());
    assert_eq!(capture.db_write(4096, &[1; 1024]), JournalEvent::Pass);
    assert_eq!(capture.db_truncate(0), JournalEvent::Pass);
    let commit = dirty(capture.journal_unlink());
    assert_eq!((commit.page_size, commit.dirty.as_slice()), (1024, &[5][..]));
    assert_eq!(commit.changed(0).count(), 0);
}

#[test]
fn grown_and_truncated_pages_may_have_changed() {
    let commit = JournalCommit {
        page_size: 65_536,
        dirty: vec![2, 4, 16_387],
        truncated_from: None,
        pages_before: 16_384,
    };
    assert_eq!(commit.changed(3).collect::<Vec<_>>(), [2]);
    let grown: Vec<u32> = commit.changed(16_388).collect();
    assert_eq!(grown, [2, 4, 16_386, 16_387, 16_388], "but for the lock page, 16385");
    let commit = JournalCommit { truncated_from: Some(16_383), ..commit };
    assert_eq!(commit.changed(16_384).collect::<Vec<_>>(), [2, 4, 16_383, 16_384]);
}

#[test]
fn a_page_size_stays() {
    let page = |bytes: [u8; 2]| {
        let mut page = vec![0; 1024];
        page[16..18].copy_from_slice(&bytes);
        page
    };
    let mut capture = live();
    assert_eq!(capture.db_write(0, &page([4, 0])), JournalEvent::Pass);
    let refused = JournalEvent::Refuse(Refusal::PageSize { from: 1024, to: 65_536 });
    assert_eq!(capture.db_write(0, &page([0, 1])), refused);
    let refused = JournalEvent::Refuse(Refusal::UnknownPageSize(0));
    assert_eq!(capture.db_write(0, &page([0, 0])), refused);
    // What was refused is not there.
    assert_eq!(capture.db_write(17, &[0; 1]), JournalEvent::Pass);
    // In pieces.
    let mut capture = live();
    assert_eq!(capture.db_write(0, &page([8, 0])[..17]), JournalEvent::Pass);
    let refused = JournalEvent::Refuse(Refusal::PageSize { from: 1024, to: 2048 });
    assert_eq!(capture.db_write(17, &[0; 1007]), refused);
    // A new database has none yet.
    let mut capture = JournalCapture::begin(DatabaseShape::default(), &head());
    assert_eq!(capture.db_write(0, &page([16, 0])), JournalEvent::Pass);
    assert_eq!(dirty(capture.journal_unlink()).page_size, 4096);
    assert_eq!(live().db_write(u64::MAX - 1, &[0; 9]), JournalEvent::Refuse(Refusal::TooFar));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// ENGINE.md, "Super-journal outside the mount": refused at the write that completes it.
    #[test]
    fn a_super_journal_is_refused_at_its_last_byte(
        name in "[a-z/]{1,80}-mj[0-9A-F]{9}",
        before in proptest::collection::vec(any::<u8>(), 0..5000),
        cuts in proptest::collection::vec(1_usize..60, 1..30),
        gap in 0_u64..600,
    ) {
        let mut capture = live();
        prop_assert_eq!(capture.journal_write(512, &before), JournalEvent::Pass);
        let record = SuperJournal { name: name.clone().into_bytes() }.encode(lock_page(1024));
        let mut at = 512 + before.len() as u64 + gap;
        let mut rest = record.as_slice();
        let mut cuts = cuts.iter().cycle();
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(rest.len().min(*cuts.next().unwrap()));
            if !after.is_empty() {
                // A piece may come again.
                prop_assert_eq!(capture.journal_write(at, piece), JournalEvent::Pass);
            }
            let event = capture.journal_write(at, piece);
            let expected = if after.is_empty() {
                JournalEvent::Refuse(Refusal::SuperJournal { name: name.clone() })
            } else {
                JournalEvent::Pass
            };
            prop_assert_eq!(event, expected);
            at += piece.len() as u64;
            rest = after;
        }
    }

    /// The record in a page of the application's data is not one.
    #[test]
    fn a_page_that_looks_like_a_super_journal_passes(name in "[a-z]{1,40}", page in 1_u32..4000) {
        let mut capture = live();
        let record = SuperJournal { name: name.into_bytes() }.encode(page);
        prop_assert_eq!(capture.journal_write(516, &record), JournalEvent::Pass);
    }

    #[test]
    fn dirty_pages_are_those_written(
        writes in proptest::collection::vec((0_u64..40_000, 1_usize..5000), 0..30),
    ) {
        let mut capture = live();
        let mut expected = BTreeSet::new();
        for (at, len) in writes {
            // Bytes 16 and 17 are the page size's.
            let at = at + 18;
            prop_assert_eq!(capture.db_write(at, &vec![1; len]), JournalEvent::Pass);
            expected.extend((at..at + len as u64).map(|byte| (byte / 1024 + 1) as u32));
        }
        match capture.journal_unlink() {
            JournalEvent::Empty => prop_assert!(expected.is_empty()),
            event => prop_assert_eq!(dirty(event).dirty, expected.into_iter().collect::<Vec<_>>()),
        }
    }

    #[test]
    fn no_write_makes_a_panic(
        ops in proptest::collection::vec(
            (0_u8..5, prop_oneof![0_u64..600, any::<u64>()],
             proptest::collection::vec(any::<u8>(), 0..60)),
            0..30,
        ),
    ) {
        let mut capture = live();
        for (what, at, data) in ops {
            let _ = match what {
                0 => capture.db_write(at, &data),
                1 => capture.db_truncate(at),
                2 => capture.journal_truncate(at),
                _ => capture.journal_write(at, &data),
            };
        }
        let _ = capture.journal_unlink();
    }
}
