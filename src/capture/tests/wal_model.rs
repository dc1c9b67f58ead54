//! The incremental capture against a model that reads the whole file again after every piece of
//! every write: both have to find the same commit point at the same piece.

use proptest::prelude::*;

use crate::capture::{WalCapture, WalEvent};
use crate::sqlite::Salts;
use crate::sqlite::wal::{FRAME_HEADER_SIZE, FrameHeader, WalHeader, WalTip, frame_offset};

const PAGE: usize = 512;
const FRAME: usize = PAGE + FRAME_HEADER_SIZE;

/// What a writer does; numbers are reduced to what there is.
#[derive(Debug, Clone)]
enum Step {
    /// Frames in one go, as SQLite appends them; the last perhaps a commit.
    Append { pages: Vec<(u32, u8)>, commit: Option<u32> },
    /// Frames with salts and checksum zero.
    Spill(Vec<(u32, u8)>),
    /// Another body for a frame of this transaction.
    Body { frame: usize, fill: u8 },
    /// The headers of the frames from here to the end; the last perhaps a commit.
    Headers { frame: usize, commit: Option<u32> },
    /// A savepoint: the next frame goes here.
    Back { frame: usize },
    /// A new header.
    Restart(u8),
    /// Anything, anywhere behind the committed frames.
    Noise { at: usize, bytes: Vec<u8> },
    /// What is there already.
    Again { at: usize, len: usize },
}

fn step() -> impl Strategy<Value = Step> {
    // Few pages and fills, so that contents return.
    let frames = || proptest::collection::vec((1_u32..6, 0_u8..3), 1..5);
    let commit = || prop_oneof![3 => Just(None), 1 => (1_u32..6).prop_map(Some)];
    prop_oneof![
        4 => (frames(), commit()).prop_map(|(pages, commit)| Step::Append { pages, commit }),
        3 => frames().prop_map(Step::Spill),
        3 => (any::<usize>(), 0_u8..3).prop_map(|(frame, fill)| Step::Body { frame, fill }),
        3 => (any::<usize>(), commit()).prop_map(|(frame, commit)| Step::Headers { frame, commit }),
        2 => any::<usize>().prop_map(|frame| Step::Back { frame }),
        1 => (1_u8..).prop_map(Step::Restart),
        1 => (any::<usize>(), proptest::collection::vec(any::<u8>(), 1..40))
            .prop_map(|(at, bytes)| Step::Noise { at, bytes }),
        1 => (any::<usize>(), 1_usize..2000).prop_map(|(at, len)| Step::Again { at, len }),
    ]
}

/// A WAL file and the writer's own idea of it.
struct Writer {
    file: Vec<u8>,
    base: WalTip,
    /// Page and fill of the frames of this transaction.
    frames: Vec<(u32, u8)>,
    /// Writes to come.
    writes: Vec<(usize, Vec<u8>)>,
}

impl Writer {
    fn offset(&self, frame: usize) -> usize {
        frame_offset(PAGE as u32, self.base.frame + 1) as usize + frame * FRAME
    }

    /// The tip after the first `count` frames of the transaction, were they chained.
    fn tip(&self, count: usize) -> WalTip {
        self.frames[..count]
            .iter()
            .fold(self.base, |tip, (page, fill)| tip.append(*page, 0, &[*fill; PAGE]).unwrap().1)
    }

    fn push(&mut self, at: usize, bytes: &[u8]) {
        self.writes.push((at, bytes.to_vec()));
    }

    fn step(&mut self, step: &Step) {
        let count = self.frames.len();
        match step {
            Step::Append { pages, commit } => {
                for (n, (page, fill)) in pages.iter().enumerate() {
                    let commit = commit.filter(|_| n + 1 == pages.len()).unwrap_or(0);
                    let tip = self.tip(self.frames.len());
                    let (header, _) = tip.append(*page, commit, &[*fill; PAGE]).unwrap();
                    let at = self.offset(self.frames.len());
                    self.push(at, &header.encode());
                    self.push(at + FRAME_HEADER_SIZE, &[*fill; PAGE]);
                    self.frames.push((*page, *fill));
                }
            }
            Step::Spill(pages) => {
                for (page, fill) in pages {
                    let mut header = [0; FRAME_HEADER_SIZE];
                    header[..4].copy_from_slice(&page.to_be_bytes());
                    let at = self.offset(self.frames.len());
                    self.push(at, &header);
                    self.push(at + FRAME_HEADER_SIZE, &[*fill; PAGE]);
                    self.frames.push((*page, *fill));
                }
            }
            Step::Body { frame, fill } if count > 0 => {
                let frame = frame % count;
                self.frames[frame].1 = *fill;
                self.push(self.offset(frame) + FRAME_HEADER_SIZE, &[*fill; PAGE]);
            }
            Step::Headers { frame, commit } if count > 0 => {
                for frame in frame % count..count {
                    let (page, fill) = self.frames[frame];
                    let commit = commit.filter(|_| frame + 1 == count).unwrap_or(0);
                    let (header, _) = self.tip(frame).append(page, commit, &[fill; PAGE]).unwrap();
                    self.push(self.offset(frame), &header.encode());
                }
            }
            Step::Back { frame } => self.frames.truncate(frame % (count + 1)),
            Step::Restart(salt) => {
                let header = WalHeader {
                    big_endian: salt % 2 == 0,
                    page_size: PAGE as u32,
                    sequence: 1,
                    // Fresh: not those of before.
                    salts: Salts([salt ^ self.base.salts.0[0]; 8]),
                };
                self.base = header.tip();
                self.frames.clear();
                self.push(0, &header.encode());
            }
            Step::Noise { at, bytes } => {
                let start = self.offset(0);
                let at = start + at % (self.file.len().saturating_sub(start) + 100);
                self.push(at, bytes);
            }
            Step::Again { at, len } => {
                let start = self.offset(0);
                let at = start + at % (self.file.len().saturating_sub(start) + 1);
                let bytes = self.file[at.min(self.file.len())..].to_vec();
                self.push(at, &bytes[..bytes.len().min(*len)]);
            }
            Step::Body { .. } | Step::Headers { .. } => {}
        }
    }
}

/// A commit whose last frame has neither salts nor checksum.
fn is_spilled_commit(event: &WalEvent, file: &[u8]) -> bool {
    let WalEvent::CommitPoint(found) = event else { return false };
    let at = frame_offset(PAGE as u32, found.last_frame) as usize;
    let header = FrameHeader::parse(file[at..].first_chunk().unwrap());
    header.salts == Salts::default() && header.commit != 0
}

/// What the file holds behind `base`: the first commit that the chain reaches.
fn scan(file: &[u8], base: WalTip) -> Option<(WalTip, Vec<(u32, u32)>)> {
    let (mut tip, mut pages) = (base, Vec::new());
    loop {
        let at = frame_offset(PAGE as u32, tip.frame + 1) as usize;
        let frame = file.get(at..at + FRAME)?;
        let header = FrameHeader::parse(frame.first_chunk().unwrap());
        tip = tip.follow(&header, &frame[FRAME_HEADER_SIZE..])?;
        pages.push((header.page, tip.frame));
        if header.commit != 0 {
            let mut latest = std::collections::BTreeMap::new();
            latest.extend(pages.into_iter().filter(|(page, _)| *page <= header.commit));
            return Some((tip, latest.into_iter().collect()));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn finds_what_a_scan_of_the_file_finds(
        committed in proptest::collection::vec((1_u32..6, 0_u8..3), 0..4),
        left in proptest::collection::vec((1_u32..6, 0_u8..3), 0..4),
        steps in proptest::collection::vec(step(), 1..14),
        cuts in proptest::collection::vec(1_usize..700, 1..40),
    ) {
        let header = WalHeader {
            big_endian: false, page_size: PAGE as u32, sequence: 0, salts: Salts([5; 8]),
        };
        let mut writer = Writer {
            file: Vec::new(), base: header.tip(), frames: Vec::new(), writes: Vec::new(),
        };
        // A WAL with committed frames, and some that a killed writer left.
        writer.push(0, &header.encode());
        if !committed.is_empty() {
            writer.step(&Step::Append { pages: committed.clone(), commit: Some(9) });
        }
        if !left.is_empty() {
            writer.step(&Step::Append { pages: left, commit: None });
        }
        for (at, bytes) in std::mem::take(&mut writer.writes) {
            writer.file.resize(writer.file.len().max(at + bytes.len()), 0);
            writer.file[at..at + bytes.len()].copy_from_slice(&bytes);
        }
        let mut capture = if committed.is_empty() {
            // The index says that the WAL is empty; whoever writes begins it.
            writer.frames.clear();
            writer.step(&Step::Restart(1));
            WalCapture::begin(None)
        } else {
            let (tip, _) = scan(&writer.file, writer.base).unwrap();
            writer.base = tip;
            writer.frames.clear();
            WalCapture::begin(Some(tip))
        };

        let mut base = Some(writer.base).filter(|base| base.frame != 0);
        let mut cuts = cuts.iter().cycle();
        for step in &steps {
            writer.step(step);
            for (mut at, mut bytes) in std::mem::take(&mut writer.writes) {
                while !bytes.is_empty() {
                    let cut = bytes.len().min(*cuts.next().unwrap());
                    let rest = bytes.split_off(cut);
                    let event = capture.write(&writer.file.as_slice(), at as u64, &bytes).unwrap();
                    let before: Vec<u8> = writer.file.iter().take(32).copied().collect();
                    writer.file.resize(writer.file.len().max(at + cut), 0);
                    writer.file[at..at + cut].copy_from_slice(&bytes);
                    if writer.file[..before.len()] != before {
                        base = WalHeader::parse(&writer.file).ok().map(|header| header.tip());
                    }
                    match base.and_then(|base| scan(&writer.file, base)) {
                        // Noise made a commit of a spilled frame: no chain reaches it, and it is one (`spilled`).
                        None if is_spilled_commit(&event, &writer.file) => return Ok(()),
                        None => prop_assert_eq!(event, WalEvent::Pass),
                        Some((tip, latest)) => {
                            let WalEvent::CommitPoint(found) = event else {
                                return Err(TestCaseError::fail(format!("{event:?}, not {tip:?}")));
                            };
                            prop_assert_eq!((found.tip, found.latest), (tip, latest));
                            prop_assert_eq!(found.first_frame, base.unwrap().frame + 1);
                            prop_assert_eq!(capture.tip(), Some(tip));
                            return Ok(());
                        }
                    }
                    at += cut;
                    bytes = rest;
                }
            }
        }
    }

    #[test]
    fn no_write_makes_a_panic(
        writes in proptest::collection::vec(
            (prop_oneof![0_u64..2000, any::<u64>()], proptest::collection::vec(any::<u8>(), 0..80)),
            0..20,
        ),
        size in prop_oneof![Just(512_u32), any::<u32>()],
        frame in prop_oneof![0_u32..4, any::<u32>()],
    ) {
        let header = WalHeader {
            big_endian: true, page_size: 512, sequence: 0, salts: Salts([5; 8]),
        };
        let tip = WalTip { page_size: size, frame, ..header.tip() };
        let mut capture = WalCapture::begin(Some(tip));
        let mut file = header.encode().to_vec();
        for (at, data) in writes {
            let _ = capture.write(&file.as_slice(), at, &data);
            if at < 4000 {
                let end = at as usize + data.len();
                file.resize(file.len().max(end), 0);
                file[at as usize..end].copy_from_slice(&data);
            }
        }
    }
}
