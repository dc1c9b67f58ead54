//! Any bytes as SQLite's files.

#![allow(clippy::missing_panics_doc)] // a panic is what is looked for

use std::cell::RefCell;

use super::journal::SUPER_TAIL_SIZE;
use super::wal::{FRAME_HEADER_SIZE, HEADER_SIZE, frame_size};
use super::wal_index::{self, REGION_SIZE, slot_offset};
use super::{
    DatabaseHeader, FrameHeader, IndexHeader, IndexMemory, JournalHeader, Salts, SuperJournal,
    WalHeader, WalTip, header as database_header,
};

/// A WAL: as it is, and with a header and checksums that fit what it says.
pub fn wal(bytes: &[u8]) {
    if let Ok(header) = WalHeader::parse(bytes) {
        assert_eq!(Some(&header.encode()[..]), bytes.get(..HEADER_SIZE));
        follow(header.tip(), bytes.get(HEADER_SIZE..).unwrap_or_default());
    }
    let Some((head, mut rest)) = bytes.split_first_chunk::<16>() else { return };
    let [flags, size, .., a, b, c, d, e, f, g, h] = *head;
    let header = WalHeader {
        big_endian: flags & 1 == 1,
        page_size: 512 << (size % 8),
        sequence: u32::from(flags),
        salts: Salts([a, b, c, d, e, f, g, h]),
    };
    assert_eq!(WalHeader::parse(&header.encode()), Ok(header));
    let mut tip = header.tip();
    while let Some((&[page, commit], data)) = rest.split_first_chunk::<2>() {
        let mut body = vec![page; header.page_size as usize];
        let len = data.len().min(64);
        for (to, from) in body.iter_mut().zip(data) {
            *to = *from;
        }
        rest = data.get(len..).unwrap_or_default();
        let Some((frame, next)) = tip.append(page.into(), commit.into(), &body) else { return };
        assert_eq!(FrameHeader::parse(&frame.encode()), frame);
        assert_eq!(tip.follow(&frame, &body), (page != 0).then_some(next));
        tip = next;
    }
}

fn follow(mut tip: WalTip, mut frames: &[u8]) {
    while let Some(frame) = frames.get(..frame_size(tip.page_size) as usize) {
        let Some((head, page)) = frame.split_first_chunk::<FRAME_HEADER_SIZE>() else { return };
        let head = FrameHeader::parse(head);
        let Some(next) = tip.follow(&head, page) else { return };
        assert_eq!(tip.append(head.page, head.commit, page), Some((head, next)));
        tip = next;
        frames = frames.get(frame.len()..).unwrap_or_default();
    }
}

/// Salts and flags, then frames.
pub fn wals() -> Vec<Vec<u8>> {
    let salts = Salts([1, 2, 3, 4, 5, 6, 7, 8]);
    let header = WalHeader { big_endian: false, page_size: 512, sequence: 7, salts };
    let page = [9; 512];
    let mut whole = header.encode().to_vec();
    if let Some((frame, _)) = header.tip().append(1, 1, &page) {
        whole.extend(frame.encode());
        whole.extend(page);
    }
    vec![whole, vec![1; 150]]
}

/// A rollback journal.
pub fn journal(bytes: &[u8]) {
    if let Some(header) = JournalHeader::parse(bytes) {
        assert_eq!(JournalHeader::parse(&header.encode()), Some(header));
        assert_eq!(Some(&header.encode()[..]), bytes.get(..header.encode().len()));
        for at in [28, header.sector_size as usize] {
            if let Some(record) = bytes.get(at..).and_then(|rest| header.record(rest)) {
                assert_eq!(record.data.len(), header.page_size as usize);
            }
        }
    }
    if let Some(record) = SuperJournal::parse(bytes) {
        assert_eq!(SuperJournal::parse(&record.encode(7)), Some(record));
    }
    if let Some(tail) = bytes.last_chunk::<SUPER_TAIL_SIZE>() {
        let _ = SuperJournal::name_len(tail);
    }
    let name = bytes.get(..bytes.len().min(600)).unwrap_or_default().to_vec();
    if !name.is_empty() {
        let record = SuperJournal { name };
        assert_eq!(SuperJournal::parse(&record.encode(3)), Some(record));
    }
}

pub fn journals() -> Vec<Vec<u8>> {
    let header = JournalHeader {
        records: Some(1),
        nonce: 77,
        original_pages: 2,
        sector_size: 512,
        page_size: 512,
    };
    let record = SuperJournal { name: b"/x/app.db-mj0123ABCDE".to_vec() };
    vec![header.encode().to_vec(), record.encode(2_097_153)]
}

/// The first page of a database.
pub fn header(bytes: &[u8]) {
    let parsed = DatabaseHeader::parse(bytes);
    assert_eq!(parsed.is_ok(), database_header::is_database(bytes));
    if let Ok(header) = parsed {
        assert!(super::is_page_size(header.page_size));
        for len in [0, 1, bytes.len() as u64, u64::MAX] {
            let _ = header.size_in_pages(len);
        }
        assert!(super::lock_page(header.page_size) > 0);
    }
}

pub fn headers() -> Vec<Vec<u8>> {
    let mut bytes = database_header::MAGIC.to_vec();
    bytes.extend([16, 0, 2, 2, 0, 64, 32, 32, 0, 0, 0, 1, 0, 0, 0, 5]);
    bytes.resize(database_header::SIZE, 0);
    vec![bytes]
}

const REGIONS: usize = 2;

/// A wal-index in memory.
struct Memory(RefCell<Vec<u8>>);

impl Memory {
    fn get<const N: usize>(&self, at: usize) -> [u8; N] {
        let bytes = self.0.borrow();
        bytes.get(at..).and_then(|rest| rest.first_chunk()).copied().unwrap_or([0; N])
    }

    fn put<const N: usize>(&self, at: usize, value: [u8; N]) {
        if let Some(place) = self.0.borrow_mut().get_mut(at..at + N) {
            place.copy_from_slice(&value);
        }
    }
}

impl IndexMemory for Memory {
    fn regions(&self) -> usize {
        REGIONS
    }

    fn load(&self, region: usize, word: usize) -> u32 {
        u32::from_ne_bytes(self.get(region * REGION_SIZE + word * 4))
    }

    fn store(&self, region: usize, word: usize, value: u32) {
        self.put(region * REGION_SIZE + word * 4, value.to_ne_bytes());
    }

    fn load_u16(&self, region: usize, slot: usize) -> u16 {
        u16::from_ne_bytes(self.get(region * REGION_SIZE + slot_offset(slot)))
    }

    fn store_u16(&self, region: usize, slot: usize, value: u16) {
        self.put(region * REGION_SIZE + slot_offset(slot), value.to_ne_bytes());
    }

    fn barrier(&self) {}
}

/// A wal-index: its first bytes as they are, then places and what stands there.
pub fn index(bytes: &[u8]) {
    let mut memory = vec![0; REGIONS * REGION_SIZE];
    let (head, mut rest) = bytes.split_at(bytes.len().min(136));
    for (to, from) in memory.iter_mut().zip(head) {
        *to = *from;
    }
    let memory = Memory(RefCell::new(memory));
    while let Some((&[a, b, c, d, e, f], more)) = rest.split_first_chunk::<6>() {
        let word = usize::from(u16::from_le_bytes([a, b])) % (REGIONS * REGION_SIZE / 4);
        memory.store(0, word, u32::from_le_bytes([c, d, e, f]));
        rest = more;
    }
    let found = wal_index::read_header(&memory);
    let _ = wal_index::checkpoint_info(&memory);
    let frames = found.map_or(5000, |header| header.max_frame);
    for page in 0..4 {
        if let Ok(Some(frame)) = wal_index::lookup(&memory, frames, page, 0) {
            assert!(frame <= frames && frame != 0);
            assert_eq!(wal_index::frame_page(&memory, frame), Ok(page));
        }
    }
    if wal_index::repair_header(&memory).is_ok() {
        assert!(wal_index::read_header(&memory).is_ok(), "a repaired header cannot be read");
    }
    if let Ok(header) = found
        && let Some(next) = header.max_frame.checked_add(1)
        && wal_index::append(&memory, next, &[3, 3, 9]).is_ok()
    {
        assert_eq!(wal_index::lookup(&memory, next + 2, 3, next), Ok(Some(next + 1)));
        assert_eq!(wal_index::write_header(&memory, &header), Ok(()));
        assert_eq!(wal_index::read_header(&memory), Ok(header));
    }
}

pub fn indexes() -> Vec<Vec<u8>> {
    let memory = Memory(RefCell::new(vec![0; REGIONS * REGION_SIZE]));
    let header = IndexHeader {
        change: 3,
        big_endian: false,
        page_size: 4096,
        max_frame: 2,
        pages: 2,
        frame_checksum: (5, 6),
        salts: Salts([8; 8]),
    };
    let _ = wal_index::initialise(&memory, &header);
    vec![memory.0.borrow().get(..136).unwrap_or_default().to_vec()]
}
