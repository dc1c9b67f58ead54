//! Any operations on a database's files.

#![allow(clippy::missing_panics_doc)] // a panic is what is looked for

use super::{DatabaseShape, JournalCapture, JournalEvent, WalCapture, WalEvent};
use crate::sqlite::wal::{FRAME_HEADER_SIZE, HEADER_SIZE, frame_offset, frame_size};
use crate::sqlite::{FrameHeader, Salts, WalHeader, WalTip, lock_page};

/// The longest file that is written to.
const MAX: usize = 1 << 17;

/// What SQLite's recovery would take for committed: the last frame, and the tip there.
fn committed(wal: &[u8]) -> Option<WalTip> {
    let header = WalHeader::parse(wal).ok()?;
    let (mut tip, mut last) = (header.tip(), header.tip());
    let size = frame_size(header.page_size) as usize;
    for frame in wal.get(HEADER_SIZE..)?.chunks_exact(size) {
        let (head, page) = frame.split_first_chunk::<FRAME_HEADER_SIZE>()?;
        let head = FrameHeader::parse(head);
        let Some(next) = tip.follow(&head, page) else { break };
        tip = next;
        if head.commit != 0 {
            last = tip;
        }
    }
    Some(last)
}

/// Whether a frame waits for its salts and checksum: committed for SQLite, and for no recovery.
fn is_spilled(wal: &[u8], frame: u32) -> bool {
    let at = frame_offset(512, frame) as usize;
    let head = wal.get(at..).and_then(<[u8]>::first_chunk).map(FrameHeader::parse);
    head.is_some_and(|head| head.salts == Salts::default() && head.checksum == (0, 0))
}

fn write(file: &mut Vec<u8>, offset: u64, data: &[u8]) {
    let start = usize::try_from(offset).unwrap_or(usize::MAX).min(MAX);
    let end = (start + data.len()).min(MAX);
    if file.len() < end {
        file.resize(end, 0);
    }
    if let Some(place) = file.get_mut(start..end) {
        for (to, from) in place.iter_mut().zip(data) {
            *to = *from;
        }
    }
}

/// The bytes as operations, each with its arguments before its data.
struct Operations<'a>(&'a [u8]);

impl<'a> Iterator for Operations<'a> {
    /// Kind, a small number, an offset, data.
    type Item = (u8, u8, u64, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (&[kind, small, high, low, len], rest) = self.0.split_first_chunk::<5>()?;
        let (data, rest) = rest.split_at(rest.len().min(len.into()));
        self.0 = rest;
        Some((kind, small, u64::from(u16::from_be_bytes([high, low])), data))
    }
}

/// Writes to a WAL, those of SQLite among them. invisible-until-committed: no write that is passed
/// on makes anything committed, and the one that is withheld makes what it was said to.
pub fn wal(bytes: &[u8]) {
    let mut file: Vec<u8> = Vec::new();
    let mut capture = WalCapture::begin(None);
    // Where frames that fit are appended.
    let mut end: Option<WalTip> = None;
    let mut headers = 0;
    for (kind, small, offset, data) in Operations(bytes).take(300) {
        let (offset, data): (u64, Vec<u8>) = match kind % 6 {
            // Not into the header: frames that it hid would be there again.
            0 => (offset + HEADER_SIZE as u64, data.to_vec()),
            1 => {
                // Salts never come again.
                headers += 1;
                let [high, low] = u16::to_be_bytes(headers);
                let salts = Salts([small, 2, 3, 4, 5, 6, high, low]);
                let big_endian = small & 1 == 1;
                let header = WalHeader { big_endian, page_size: 512, sequence: 0, salts };
                end = Some(header.tip());
                (0, header.encode().to_vec())
            }
            2..=4 => {
                let Some(tip) = end else { continue };
                let commit = if kind % 6 == 2 { u32::from(small) } else { 0 };
                let mut page = data.to_vec();
                page.resize(512, small);
                let Some((head, next)) = tip.append(u32::from(small) + 1, commit, &page) else {
                    continue;
                };
                let at = HEADER_SIZE as u64 + u64::from(tip.frame) * frame_size(512);
                let frame = [&head.encode()[..], &page].concat();
                let part = if kind % 6 == 4 { FRAME_HEADER_SIZE } else { 0 };
                if part == 0 {
                    end = Some(next);
                }
                (at, frame.get(part..).unwrap_or_default().to_vec())
            }
            // The write lock is let go, and taken again.
            _ => {
                let tip = committed(&file);
                capture = WalCapture::begin(tip);
                end = tip.or(end);
                continue;
            }
        };
        if offset as usize + data.len() > MAX {
            return;
        }
        let before = committed(&file).map_or(0, |tip| tip.frame);
        let event = capture.write(&file.as_slice(), offset, &data);
        let Ok(event) = event else { continue };
        let mut after = file.clone();
        write(&mut after, offset, &data);
        let frames = committed(&after).map_or(0, |tip| tip.frame);
        match event {
            WalEvent::Pass => assert!(frames <= before, "a write that is seen was passed on"),
            WalEvent::Repeat => {}
            WalEvent::CommitPoint(transaction) => {
                let seen = frames >= transaction.last_frame;
                let spilled = is_spilled(&after, transaction.last_frame);
                assert!(seen || spilled, "withheld, and not a commit");
                assert!(transaction.first_frame <= transaction.last_frame);
                assert!(transaction.latest.is_sorted_by(|a, b| a.0 < b.0));
                for (page, frame) in &transaction.latest {
                    assert!(*page <= transaction.pages && *page != lock_page(512));
                    assert!((transaction.first_frame..=transaction.last_frame).contains(frame));
                }
            }
        }
        file = after;
    }
}

fn operation(kind: u8, small: u8, offset: u16, data: &[u8]) -> Vec<u8> {
    let [high, low] = offset.to_be_bytes();
    [&[kind, small, high, low, data.len() as u8], data].concat()
}

pub fn wals() -> Vec<Vec<u8>> {
    vec![
        [
            operation(1, 4, 0, &[]),
            operation(3, 1, 0, b"one"),
            operation(2, 2, 0, b"two"),
            operation(5, 0, 0, &[]),
            operation(4, 3, 0, b"spilled"),
            operation(0, 0, 40, b"damage"),
            operation(2, 2, 0, b"three"),
        ]
        .concat(),
    ]
}

/// Operations on a database and its journal.
pub fn journal(bytes: &[u8]) {
    let Some((&[size, pages], rest)) = bytes.split_first_chunk::<2>() else { return };
    let page_size = (size % 9).checked_sub(1).map(|shift| 512_u32 << shift);
    let shape = DatabaseShape { page_size, pages: pages.into() };
    let mut capture = JournalCapture::begin(shape, &[]);
    for (kind, small, offset, data) in Operations(rest) {
        let far = offset << (small % 48);
        let event = match kind % 5 {
            0 => capture.db_write(far, data),
            1 => capture.db_truncate(far),
            2 => capture.journal_write(offset, data),
            3 => capture.journal_truncate(offset),
            _ => capture.journal_unlink(),
        };
        if let JournalEvent::CommitPoint(commit) = event {
            assert!(commit.dirty.is_sorted_by(|a, b| a < b), "pages that do not rise");
            for pages in [0, 1, commit.pages_before, 70_000] {
                let changed: Vec<u32> = commit.changed(pages).take(1000).collect();
                assert!(changed.is_sorted_by(|a, b| a < b));
                assert!(changed.iter().all(|page| (1..=pages).contains(page)));
                assert!(!changed.contains(&lock_page(commit.page_size)));
            }
        }
    }
}

pub fn journals() -> Vec<Vec<u8>> {
    let header = crate::sqlite::JournalHeader {
        records: Some(1),
        nonce: 77,
        original_pages: 2,
        sector_size: 512,
        page_size: 512,
    };
    let head = header.encode();
    let all = [
        vec![1, 2],
        operation(2, 0, 0, &head),
        operation(0, 0, 600, b"a page"),
        operation(1, 0, 512, &[]),
        operation(4, 0, 0, &[]),
    ];
    let zeroed = [vec![0, 0], operation(2, 0, 0, &head), operation(2, 0, 0, &[0; 28])];
    vec![all.concat(), zeroed.concat()]
}
