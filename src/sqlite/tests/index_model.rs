//! The wal-index against a list of pages: whatever is appended, dropped and appended again, every
//! lookup finds what a search of the list from its end finds.

use proptest::prelude::*;

use super::memory::VecMemory;
use crate::sqlite::locks::READERS;
use crate::sqlite::wal_index::{
    append, checkpoint_info, frame_page, initialise, lookup, read_header, regions_for,
    repair_header, set_backfill, set_read_mark, write_header,
};
use crate::sqlite::{HeaderCopy, IndexError, IndexHeader, IndexMemory, Salts};

#[derive(Debug, Clone)]
enum Step {
    /// Appends frames and publishes them.
    Commit(Vec<u32>),
    /// Appends frames that stay beyond the header: their writer died.
    Abandon(Vec<u32>),
    /// As after a restart of the WAL.
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    // Page numbers that collide in the hash table, and neighbours.
    let page = prop_oneof![1_u32..40, (1_u32..6).prop_map(|n| n * 8192), 1_u32..2_000_000];
    let pages = (proptest::collection::vec(page, 1..40), 1_usize..80)
        .prop_map(|(pages, times)| pages.repeat(times));
    prop_oneof![
        6 => pages.clone().prop_map(Step::Commit),
        3 => pages.prop_map(Step::Abandon),
        1 => Just(Step::Restart),
    ]
}

fn header(max_frame: u32, change: u32) -> IndexHeader {
    IndexHeader {
        change,
        big_endian: false,
        page_size: 65_536,
        max_frame,
        pages: 9,
        frame_checksum: (change, 7),
        salts: Salts([1, 2, 3, 4, 5, 6, 7, 8]),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn finds_what_a_list_finds(steps in proptest::collection::vec(step(), 1..25)) {
        let mem = VecMemory::new(40);
        initialise(&mem, &header(0, 0)).unwrap();
        let mut model: Vec<u32> = Vec::new();
        for (change, step) in (1..).zip(steps) {
            match step {
                Step::Commit(pages) => {
                    append(&mem, model.len() as u32 + 1, &pages).unwrap();
                    model.extend(pages);
                }
                Step::Abandon(pages) => append(&mem, model.len() as u32 + 1, &pages).unwrap(),
                Step::Restart => model.clear(),
            }
            let written = header(model.len() as u32, change);
            write_header(&mem, &written).unwrap();
            prop_assert_eq!(read_header(&mem), Ok(written));
        }
        let max = model.len() as u32;
        let mut asked: Vec<u32> = model.iter().step_by(7).copied().collect();
        asked.extend([1, 2, 39, 8192, 16_384, 3_000_000]);
        for min in [1, 4062, 4063, 8158, 8159] {
            for page in &asked {
                let expected = model.iter().rposition(|p| p == page).map(|at| at as u32 + 1);
                let found = lookup(&mem, max, *page, min);
                prop_assert_eq!(found, Ok(expected.filter(|frame| *frame >= min)));
            }
        }
        for (frame, page) in (1..).zip(&model) {
            prop_assert_eq!(frame_page(&mem, frame), Ok(*page));
        }
    }

    #[test]
    fn damage_is_an_error_or_a_wrong_frame_never_a_panic(
        words in proptest::collection::vec((0_usize..2, 0_usize..8192, any::<u32>()), 0..200),
        max: u32, page: u32, min: u32,
    ) {
        let mem = VecMemory::new(2);
        for (region, word, value) in words {
            mem.store(region, word, value);
        }
        let _ = read_header(&mem);
        let _ = repair_header(&mem);
        let _ = lookup(&mem, max, page, min);
        let _ = append(&mem, max, &[page, min]);
        let _ = frame_page(&mem, max);
    }
}

#[test]
fn region_boundaries_are_those_of_sqlite() {
    for (frame, regions) in [(0, 1), (1, 1), (4062, 1), (4063, 2), (8158, 2), (8159, 3)] {
        assert_eq!(regions_for(frame), regions, "frame {frame}");
    }
    let mem = VecMemory::new(2);
    assert_eq!(append(&mem, 8158, &[1, 2]), Err(IndexError::Region(2)));
    assert_eq!(frame_page(&mem, 8158), Ok(0), "nothing is entered when a region is missing");
    assert_eq!(append(&mem, 0, &[1]), Err(IndexError::Frame));
    assert_eq!(append(&mem, u32::MAX, &[1, 2]), Err(IndexError::Frame));
}

/// A table of nothing but foreign entries must not hold a reader for ever.
#[test]
fn a_full_hash_table_is_an_error() {
    let mem = VecMemory::new(1);
    for slot in 0..8192 {
        mem.store_u16(0, slot, 1);
    }
    assert_eq!(lookup(&mem, 10, 5, 1), Err(IndexError::HashFull(0)));
    assert_eq!(append(&mem, 5, &[5]), Err(IndexError::HashFull(0)));
}

/// A writer killed within its own removal of leftovers leaves a gap in the page numbers.
#[test]
fn a_removal_cut_short_does_not_take_new_entries() {
    let mem = VecMemory::new(1);
    append(&mem, 1, &[10, 11, 12, 13, 14, 15]).unwrap();
    // Frames 3 to 6 are left over; the removal reached frame 4.
    mem.store(0, 34 + 2, 0);
    mem.store(0, 34 + 3, 0);
    append(&mem, 3, &[20, 21, 22, 23]).unwrap();
    for (frame, page) in [(1, 10), (2, 11), (3, 20), (4, 21), (5, 22), (6, 23)] {
        assert_eq!(lookup(&mem, 6, page, 1), Ok(Some(frame)));
    }
}

/// ENGINE.md, "Writer dies between the two header copies". Rule 3.
#[test]
fn a_header_cut_in_two_is_repaired() {
    let (old, new) = (header(5, 1), header(9, 2));
    let words = |header: &IndexHeader| {
        let mem = VecMemory::new(1);
        write_header(&mem, header).unwrap();
        (0..24).map(|word| mem.load(0, word)).collect::<Vec<_>>()
    };
    let (old_words, new_words) = (words(&old), words(&new));
    // The writer stores words 12 to 23 and then 0 to 11; it dies after `done` of them.
    for done in 0..=24 {
        let mem = VecMemory::new(1);
        for (n, word) in (12..24).chain(0..12).enumerate() {
            mem.store(0, word, if n < done { new_words[word] } else { old_words[word] });
        }
        let whole = (0..12).all(|word| mem.load(0, word) == mem.load(0, word + 12));
        assert_eq!(read_header(&mem).is_ok(), whole, "after {done} words");
        let taken = repair_header(&mem).unwrap();
        let expected = if done < 12 { HeaderCopy::First } else { HeaderCopy::Second };
        assert_eq!(taken, (!whole).then_some(expected), "after {done} words");
        let expected = if done < 12 { old } else { new };
        assert_eq!(read_header(&mem), Ok(expected), "after {done} words");
    }
    let mem = VecMemory::new(1);
    assert_eq!(repair_header(&mem), Err(IndexError::NotInitialised));
    assert_eq!(read_header(&VecMemory::new(0)), Err(IndexError::Region(0)));
}

#[test]
fn an_initialised_index_is_as_recovery_leaves_it() {
    let mem = VecMemory::new(1);
    append(&mem, 1, &[1, 2, 3]).unwrap();
    initialise(&mem, &header(3, 1)).unwrap();
    let info = checkpoint_info(&mem).unwrap();
    assert_eq!((info.backfill, info.backfill_attempted), (0, 3));
    assert_eq!(info.read_marks, [0, 3, u32::MAX, u32::MAX, u32::MAX]);
    set_backfill(&mem, 2).unwrap();
    set_read_mark(&mem, 4, 2).unwrap();
    assert_eq!(set_read_mark(&mem, READERS, 2), Err(IndexError::Reader(5)));
    let info = checkpoint_info(&mem).unwrap();
    assert_eq!((info.backfill, info.read_marks[4]), (2, 2));
    assert_eq!(read_header(&mem), Ok(header(3, 1)));
}
