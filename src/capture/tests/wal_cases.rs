//! What follows a commit point, what is refused, and how much is read.

use std::cell::Cell;
use std::io;

use crate::capture::{CaptureError, ReadAt, WalCapture, WalEvent, WalTransaction};
use crate::sqlite::wal::{FRAME_HEADER_SIZE, WalError, WalHeader, WalTip, frame_offset};
use crate::sqlite::{Salts, lock_page};

const PAGE: u32 = 512;

/// A WAL that counts what is read of it.
struct File {
    bytes: Vec<u8>,
    read: Cell<usize>,
}

impl ReadAt for File {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        // Short reads are allowed.
        let len = buf.len().min(1000);
        let len = self.bytes.as_slice().read_at(offset, &mut buf[..len])?;
        self.read.set(self.read.get() + len);
        Ok(len)
    }
}

struct Hold {
    file: File,
    capture: WalCapture,
    /// Of the writer.
    tip: WalTip,
}

fn header(salt: u8) -> WalHeader {
    WalHeader { big_endian: false, page_size: PAGE, sequence: 0, salts: Salts([salt; 8]) }
}

impl Hold {
    /// In a WAL that is begun.
    fn new() -> Self {
        let file = File { bytes: Vec::new(), read: Cell::new(0) };
        let mut hold = Self { file, capture: WalCapture::begin(None), tip: header(1).tip() };
        assert_eq!(hold.write(0, &header(1).encode()).unwrap(), WalEvent::Pass);
        hold
    }

    /// Another hold of the write lock, from here on.
    fn again(mut self) -> Self {
        self.capture = WalCapture::begin(Some(self.tip));
        self
    }

    fn write(&mut self, offset: u64, data: &[u8]) -> Result<WalEvent, CaptureError> {
        let event = self.capture.write(&self.file, offset, data)?;
        let end = offset as usize + data.len();
        let bytes = &mut self.file.bytes;
        bytes.resize(bytes.len().max(end), 0);
        bytes[offset as usize..end].copy_from_slice(data);
        Ok(event)
    }

    fn frame(&mut self, page: u32, commit: u32, fill: u8) -> Result<WalEvent, CaptureError> {
        let body = vec![fill; PAGE as usize];
        let (frame, next) = self.tip.append(page, commit, &body).unwrap();
        let at = frame_offset(PAGE, next.frame);
        self.tip = next;
        let first = self.write(at, &frame.encode())?;
        let second = self.write(at + FRAME_HEADER_SIZE as u64, &body)?;
        // The header completes the frame if the body was there already.
        Ok(if matches!(first, WalEvent::CommitPoint(_)) { first } else { second })
    }

    fn commit(&mut self, page: u32, commit: u32) -> WalTransaction {
        match self.frame(page, commit, 1).unwrap() {
            WalEvent::CommitPoint(transaction) => transaction,
            event => panic!("{event:?}"),
        }
    }
}

#[test]
fn the_last_frame_of_each_page_counts() {
    let mut hold = Hold::new();
    for page in [3, 1, 9, 3, lock_page(PAGE), 2] {
        assert_eq!(hold.frame(page, 0, 1).unwrap(), WalEvent::Pass);
    }
    let first = hold.commit(1, lock_page(PAGE) + 1);
    assert_eq!(first.latest, [(1, 7), (2, 6), (3, 4), (9, 3)], "but for the lock page");
    let mut hold = hold.again();
    hold.frame(9, 0, 1).unwrap();
    let second = hold.commit(2, 5);
    assert_eq!(second.latest, [(2, 9)], "page 9 is beyond the new size");
    assert_eq!((second.first_frame, second.last_frame, second.pages), (8, 9, 5));
    assert_eq!((second.tip, second.page_size), (hold.tip, PAGE));
}

type Act = fn(&mut Hold) -> Result<WalEvent, CaptureError>;

/// Rule 20.
#[test]
fn after_the_commit_only_the_commit_frame_may_come_again() {
    let mut hold = Hold::new();
    hold.commit(2, 5);
    let before = hold.capture.tip();
    assert_eq!(hold.frame(2, 5, 1).unwrap(), WalEvent::Repeat);
    assert_eq!(hold.frame(2, 5, 1).unwrap(), WalEvent::Repeat);
    assert_ne!(hold.capture.tip(), before);
    assert_eq!(hold.capture.tip(), Some(hold.tip));
    let commit_body = frame_offset(PAGE, 1) + FRAME_HEADER_SIZE as u64;
    assert_eq!(hold.write(commit_body, &[1; 100]).unwrap(), WalEvent::Repeat);
    assert_eq!(hold.write(0, &header(1).encode()).unwrap(), WalEvent::Repeat);

    let refused: [Act; 6] = [
        |hold| hold.frame(2, 5, 2),
        |hold| hold.frame(3, 5, 1),
        |hold| hold.frame(2, 6, 1),
        |hold| hold.frame(2, 0, 1),
        |hold| hold.write(frame_offset(PAGE, 1) + 30, &[9]),
        |hold| hold.write(0, &header(2).encode()),
    ];
    for (n, act) in refused.iter().enumerate() {
        let mut hold = Hold::new();
        hold.commit(2, 5);
        let result = act(&mut hold);
        assert!(matches!(result, Err(CaptureError::SecondTransaction { .. })), "{n}: {result:?}");
    }
}

/// The commit frame and what follows it in one write.
#[test]
fn one_write_may_carry_padding_but_no_second_transaction() {
    for (fill, allowed) in [(1, true), (2, false)] {
        let mut hold = Hold::new();
        let mut bytes = Vec::new();
        for body in [[1; PAGE as usize], [fill; PAGE as usize]] {
            let (frame, next) = hold.tip.append(2, 5, &body).unwrap();
            bytes.extend(frame.encode());
            bytes.extend(body);
            hold.tip = next;
        }
        match hold.write(32, &bytes) {
            Ok(WalEvent::CommitPoint(transaction)) => {
                assert!(allowed);
                assert_eq!(transaction.last_frame, 1);
                assert_eq!(hold.capture.tip(), Some(hold.tip));
            }
            Err(CaptureError::SecondTransaction { .. }) => assert!(!allowed),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn committed_frames_are_not_written_over() {
    let mut hold = Hold::new();
    hold.commit(2, 5);
    let mut hold = hold.again();
    assert_eq!(hold.write(60, &[1; 10]).unwrap(), WalEvent::Pass, "the same bytes");
    let error = hold.write(60, &[1, 1, 7]).unwrap_err();
    assert!(matches!(error, CaptureError::Committed { offset: 62 }), "{error}");
}

/// An index that says "empty", above a WAL whose header is written again as it was.
#[test]
fn the_same_header_begins_an_empty_wal() {
    let mut hold = Hold::new();
    hold.frame(4, 0, 7).unwrap();
    hold.capture = WalCapture::begin(None);
    hold.tip = header(1).tip();
    assert_eq!(hold.write(0, &header(1).encode()).unwrap(), WalEvent::Pass);
    assert_eq!(hold.commit(2, 5).latest, [(2, 1)]);
}

/// Nothing of the chain before a new header counts behind it.
#[test]
fn a_new_header_ends_the_chain() {
    let mut hold = Hold::new();
    hold.frame(4, 0, 1).unwrap();
    hold.write(0, &header(2).encode()).unwrap();
    hold.tip.salts = header(2).salts;
    assert_eq!(hold.frame(5, 5, 1).unwrap(), WalEvent::Pass);

    // Also if only its number is another.
    let mut hold = Hold::new();
    let next = WalHeader { sequence: 1, ..header(1) };
    hold.write(0, &next.encode()).unwrap();
    assert_eq!(hold.frame(5, 5, 1).unwrap(), WalEvent::Pass, "chained to the old header");
    hold.tip = next.tip();
    assert_eq!(hold.commit(2, 5).latest, [(2, 1)]);
}

/// A write beyond the end of the file leaves zeros between.
#[test]
fn a_gap_is_zeros() {
    let mut hold = Hold::new();
    hold.frame(4, 0, 9).unwrap();
    let mut body = vec![0; PAGE as usize];
    body[300..].fill(9);
    let (frame, next) = hold.tip.append(5, 5, &body).unwrap();
    let at = frame_offset(PAGE, next.frame);
    assert_eq!(hold.write(at, &frame.encode()).unwrap(), WalEvent::Pass);
    let event = hold.write(at + FRAME_HEADER_SIZE as u64 + 300, &body[300..]).unwrap();
    assert!(matches!(event, WalEvent::CommitPoint(_)), "{event:?}");
}

#[test]
fn what_cannot_be_followed_is_named() {
    let mut hold = Hold::new();
    hold.capture = WalCapture::begin(None);
    assert!(matches!(hold.frame(1, 1, 1), Err(CaptureError::NoHeader)));

    let mut hold = Hold::new();
    let error = hold.write(0, &[0x5a; 32]).unwrap_err();
    assert!(matches!(error, CaptureError::Header(WalError::Magic(_))), "{error}");

    let mut hold = Hold::new();
    hold.commit(2, 5);
    let mut hold = hold.again();
    let other = WalHeader { page_size: 4096, ..header(2) };
    let error = hold.write(0, &other.encode()).unwrap_err();
    assert!(matches!(error, CaptureError::PageSize { from: 512, to: 4096 }), "{error}");

    hold.capture = WalCapture::begin(Some(WalTip { page_size: 513, ..hold.tip }));
    let error = hold.frame(1, 1, 1).unwrap_err();
    assert!(matches!(error, CaptureError::UnknownPageSize(513)), "{error}");
    let error = hold.capture.write(&hold.file, u64::MAX - 3, &[1; 9]).unwrap_err();
    assert!(matches!(error, CaptureError::TooFar { .. }), "{error}");
}

/// What is read back grows with what is written, not with its square.
#[test]
fn a_large_transaction_is_read_once() {
    const FRAMES: u32 = 4000;
    let mut hold = Hold::new();
    let size = |frames: u32| frame_offset(PAGE, frames + 1) as usize;
    // As appended, over an old WAL that is as long.
    hold.file.bytes.resize(size(2 * FRAMES), 7);
    for page in 1..FRAMES {
        hold.frame(page, 0, 1).unwrap();
    }
    // Every page again with the same bytes, and then with others.
    for fill in [1, 2] {
        for page in 1..FRAMES {
            let at = frame_offset(PAGE, page) + FRAME_HEADER_SIZE as u64;
            hold.write(at, &vec![fill; PAGE as usize]).unwrap();
        }
    }
    // Late headers, the last a commit.
    let mut tip = header(1).tip();
    for page in 1..FRAMES {
        let commit = if page + 1 == FRAMES { FRAMES } else { 0 };
        let (frame, next) = tip.append(page, commit, &[2; PAGE as usize]).unwrap();
        let event = hold.write(frame_offset(PAGE, page), &frame.encode()).unwrap();
        assert_eq!(matches!(event, WalEvent::CommitPoint(_)), commit != 0);
        tip = next;
    }
    let read = hold.file.read.get();
    assert!(read < 6 * size(FRAMES), "{read} of {}", size(FRAMES));
}

/// What SQLite does after a cache spill: frames whose salts and checksum are zero.
fn zero_frame(hold: &mut Hold, number: u32, page: u32, commit: u32) -> WalEvent {
    let mut header = [0; FRAME_HEADER_SIZE];
    header[..4].copy_from_slice(&page.to_be_bytes());
    header[4..8].copy_from_slice(&commit.to_be_bytes());
    let at = frame_offset(PAGE, number);
    assert_eq!(hold.write(at, &header).unwrap(), WalEvent::Pass);
    hold.write(at + FRAME_HEADER_SIZE as u64, &[page as u8; PAGE as usize]).unwrap()
}

fn rewritten_header(page: u32, commit: u32, salt: u8) -> [u8; FRAME_HEADER_SIZE] {
    let mut header = [salt; FRAME_HEADER_SIZE];
    header[..4].copy_from_slice(&page.to_be_bytes());
    header[4..8].copy_from_slice(&commit.to_be_bytes());
    header
}

/// no-lost-ack: a savepoint rolled back after a spill lets SQLite before 3.54 leave all headers of the
/// transaction zero. It is committed all the same.
#[test]
fn a_commit_frame_without_salts_is_the_commit_point() {
    let mut hold = Hold::new();
    hold.commit(1, 9);
    let mut hold = hold.again();
    // Frame 2 stays as it was written before the savepoint; 3 to 6 are rolled back to.
    assert_eq!(hold.frame(4, 0, 1).unwrap(), WalEvent::Pass);
    for (number, page) in [(3, 5), (4, 6), (5, 7), (6, 8), (3, 6), (4, 4)] {
        assert_eq!(zero_frame(&mut hold, number, page, 0), WalEvent::Pass);
    }
    let WalEvent::CommitPoint(transaction) = zero_frame(&mut hold, 5, 2, 8) else { panic!() };
    assert_eq!(transaction.latest, [(2, 5), (4, 4), (6, 3)]);
    assert_eq!((transaction.first_frame, transaction.last_frame, transaction.pages), (2, 5, 8));
    assert_eq!(hold.capture.tip().map(|tip| (tip.frame, tip.pages)), Some((5, 8)));

    // The headers that SQLite remembers to rewrite say the same; nothing else may change.
    let header = |hold: &mut Hold, number, page, commit| {
        hold.write(frame_offset(PAGE, number), &rewritten_header(page, commit, 1))
    };
    assert_eq!(header(&mut hold, 4, 4, 0).unwrap(), WalEvent::Repeat);
    assert_eq!(header(&mut hold, 5, 2, 8).unwrap(), WalEvent::Repeat);
    for (number, page, commit) in [(4, 5, 0), (4, 4, 1), (5, 2, 9), (6, 2, 8), (1, 1, 9)] {
        let result = header(&mut hold, number, page, commit);
        let refused = matches!(result, Err(CaptureError::SecondTransaction { .. }));
        // Frame 6 is beyond the commit frame: padding, which is not whole yet. Frame 1 is older.
        assert!(refused || (number, result.is_ok()) == (6, true), "{number} {result:?}");
    }
    let body = frame_offset(PAGE, 5) + FRAME_HEADER_SIZE as u64;
    assert!(hold.write(body, &[9]).is_err());
}

/// What is left of a writer that was killed is none of the next one's.
#[test]
fn frames_that_others_left_are_no_commit() {
    let mut hold = Hold::new();
    hold.commit(1, 9);
    let mut hold = hold.again();
    zero_frame(&mut hold, 2, 5, 0);
    zero_frame(&mut hold, 3, 6, 0);
    let mut hold = hold.again();
    // Only frame 3 is written by this one: SQLite never does that, and there is no knowing frame 2.
    assert_eq!(zero_frame(&mut hold, 3, 2, 8), WalEvent::Pass);
    // A page that is spilled again, into a frame that is no commit.
    assert_eq!(zero_frame(&mut hold, 2, 3, 0), WalEvent::Pass);
    let body = frame_offset(PAGE, 2) + FRAME_HEADER_SIZE as u64;
    assert_eq!(hold.write(body, &[7; PAGE as usize]).unwrap(), WalEvent::Pass);
}

/// Without power-safe overwrite the commit frame comes again, with its salts.
#[test]
fn padding_of_a_spilled_commit_is_told_by_its_content() {
    for (page, commit, fill, good) in [(2, 2, 2, true), (2, 2, 3, false), (3, 2, 2, false)] {
        let mut hold = Hold::new();
        zero_frame(&mut hold, 1, 1, 0);
        assert!(matches!(zero_frame(&mut hold, 2, 2, 2), WalEvent::CommitPoint(_)));
        hold.write(frame_offset(PAGE, 2), &rewritten_header(2, 2, 1)).unwrap();
        let mut frame = rewritten_header(page, commit, 1).to_vec();
        frame.resize(frame.len() + PAGE as usize, fill);
        let result = hold.write(frame_offset(PAGE, 3), &frame);
        if good {
            assert_eq!(result.unwrap(), WalEvent::Repeat);
            assert_eq!(hold.capture.tip().map(|tip| tip.frame), Some(3));
        } else {
            assert!(matches!(result, Err(CaptureError::SecondTransaction { .. })), "{result:?}");
        }
    }
}
