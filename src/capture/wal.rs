//! Transactions out of the writes to a WAL.
//!
//! The commit point is the write after which the salt-and-checksum chain from the last committed
//! frame reaches a frame with a commit size: what SQLite's recovery would take for committed
//! (file format 4.1 and 4.4). Usually that is the last page's body. After a cache spill SQLite writes
//! frames with salts and checksum zero; what is done then, [`super::spilled`] says.
//!
//! The chain is followed once: what was followed is kept as 12 bytes a frame, and a write into it
//! only cuts it where the first byte changes. Page bodies are not kept.

use std::io;

use super::spilled::CommitFrame;
use super::view::{ReadAt, View};
use crate::sqlite::wal::{
    Checksum, FRAME_HEADER_SIZE, FrameHeader, HEADER_SIZE, WalError, WalHeader, WalTip,
    frame_offset, frame_size,
};
use crate::sqlite::{is_page_size, lock_page};

/// Why a write cannot be passed on.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    #[error("reading back from the WAL: {0}")]
    Read(#[from] io::Error),
    #[error("the write at {offset} of the WAL ends beyond the largest WAL there can be")]
    TooFar { offset: u64 },
    #[error("the header written to the WAL cannot be used: {0}")]
    Header(#[from] WalError),
    #[error(
        "a frame was written to a WAL that has no valid header: its wal-index is not the daemon's"
    )]
    NoHeader,
    #[error("the WAL's page size changes from {from} to {to}; a WAL cannot do that")]
    PageSize { from: u32, to: u32 },
    #[error("page size {0} of the wal-index is not one that SQLite knows")]
    UnknownPageSize(u32),
    #[error("the write changes byte {offset} of the WAL, which belongs to a committed frame")]
    Committed { offset: u64 },
    #[error("frame {frame} of a transaction that spilled was not written by it")]
    Gap { frame: u32 },
    #[error(
        "a second transaction begins at byte {offset} of the WAL within one hold of the write lock"
    )]
    SecondTransaction { offset: u64 },
}

/// What a write to the WAL means.
#[derive(Debug, PartialEq, Eq)]
pub enum WalEvent {
    /// Nobody will see it yet: do it, answer it.
    Pass,
    /// Withhold it: it makes this transaction visible to a recovery.
    CommitPoint(WalTransaction),
    /// It repeats what was committed in this hold: padding to a sector (without power-safe
    /// overwrite), or the same bytes again. Do it, answer it.
    Repeat,
}

/// A committed transaction, as frames of the WAL. The last of them is not in the file yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WalTransaction {
    /// Bytes.
    pub page_size: u32,
    /// The size of the database after it, in pages.
    pub pages: u32,
    pub first_frame: u32,
    pub last_frame: u32,
    /// Its pages in ascending order, each with the last frame that holds it. Pages beyond the
    /// new size and the lock page are left out.
    pub latest: Vec<(u32, u32)>,
    /// Where the WAL ends after it.
    pub tip: WalTip,
}

/// A frame that continues the chain, and is no commit.
#[derive(Debug, Clone, Copy)]
struct Link {
    page: u32,
    checksum: Checksum,
}

/// Follows the writes to the WAL during one hold of the write lock.
#[derive(Debug)]
pub struct WalCapture {
    /// The last committed frame; or frame 0 of a WAL begun in this hold. `None`: there is no
    /// valid header yet.
    base: Option<WalTip>,
    /// The frames that follow it.
    chain: Vec<Link>,
    /// The commit frame of this hold's transaction.
    pub(super) committed: Option<CommitFrame>,
    /// How many frames after `base` were begun in this hold, without a gap.
    pub(super) begun: u32,
    /// Of the WAL as it was at the beginning.
    page_size: Option<u32>,
    /// For one page.
    body: Vec<u8>,
}

impl WalCapture {
    /// At the moment when byte 120 was taken. `tip`: where the live wal-index says that the WAL
    /// ends (Rule 4); `None`, or frame 0: whoever writes begins with a new header.
    pub fn begin(tip: Option<WalTip>) -> Self {
        Self {
            page_size: tip.map(|tip| tip.page_size).filter(|size| *size != 0),
            base: tip.filter(|tip| tip.frame != 0),
            chain: Vec::new(),
            committed: None,
            begun: 0,
            body: Vec::new(),
        }
    }

    /// Where the WAL ends, committed frames and their padding only. `None`: nowhere yet.
    pub fn tip(&self) -> Option<WalTip> {
        self.base
    }

    /// Whether a wal-index that says that the WAL ends at `live` has more than was seen committed: a
    /// transaction got by, and its writer believes it committed.
    pub fn missed(&self, live: Option<WalTip>) -> bool {
        let Some(live) = live else { return false };
        let known = self.base.filter(|base| base.salts == live.salts);
        live.frame > known.map_or(0, |base| base.frame)
    }

    /// Whether this hold has had its transaction (Rule 20).
    pub fn has_committed(&self) -> bool {
        self.committed.is_some()
    }

    /// Takes a write that is about to be done. `wal` holds what was written before it.
    pub fn write(
        &mut self,
        wal: &dyn ReadAt,
        offset: u64,
        data: &[u8],
    ) -> Result<WalEvent, CaptureError> {
        if data.is_empty() {
            return Ok(WalEvent::Pass);
        }
        let view = View::new(wal, offset, data).ok_or(CaptureError::TooFar { offset })?;
        if offset < HEADER_SIZE as u64 {
            self.write_header(&view)?;
        }
        if view.end() <= HEADER_SIZE as u64 {
            let repeats = self.committed.is_some();
            return Ok(if repeats { WalEvent::Repeat } else { WalEvent::Pass });
        }
        let base = self.base.ok_or(CaptureError::NoHeader)?;
        if !is_page_size(base.page_size) {
            return Err(CaptureError::UnknownPageSize(base.page_size));
        }
        if view.start() >= frame_offset(base.page_size, u32::MAX) {
            return Err(CaptureError::TooFar { offset });
        }
        if let Some(committed) = self.committed {
            if committed.is_rewritten(&view, &base)? {
                return Ok(WalEvent::Repeat);
            }
            if let Some(offset) = first_frame_change(&view, end_of(&base))? {
                return Err(CaptureError::SecondTransaction { offset });
            }
            return self.write_padding(&view, base, committed);
        }
        let transaction = match self.write_frames(&view, base)? {
            None => self.spilled_commit(&view, base)?,
            found => found,
        };
        let Some(transaction) = transaction else { return Ok(WalEvent::Pass) };
        // The same write may carry padding; or a second transaction, which is refused with it.
        if let Some(committed) = self.committed {
            self.write_padding(&view, transaction.tip, committed)?;
        }
        Ok(WalEvent::CommitPoint(transaction))
    }

    /// A write into the header begins the WAL anew, unless it is the header that is there.
    fn write_header(&mut self, view: &View) -> Result<(), CaptureError> {
        let change = view.first_change(0, HEADER_SIZE as u64)?;
        let mut bytes = [0; HEADER_SIZE];
        let whole = view.fill(0, &mut bytes)?;
        let header = WalHeader::parse(if whole { &bytes } else { &[] });
        let known = self.base.map(|base| base.salts);
        if change.is_none() && header.is_ok_and(|header| Some(header.salts) == known) {
            return Ok(());
        }
        if self.committed.is_some() {
            return Err(CaptureError::SecondTransaction { offset: change.unwrap_or_default() });
        }
        self.base = None;
        self.begun = 0;
        self.chain.clear();
        match header {
            Ok(header) => {
                if let Some(from) = self.page_size.filter(|size| *size != header.page_size) {
                    return Err(CaptureError::PageSize { from, to: header.page_size });
                }
                self.base = Some(header.tip());
                Ok(())
            }
            // Written in pieces: the next will tell.
            Err(_) if view.end() < HEADER_SIZE as u64 => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// The end of the chain.
    pub(super) fn end_of_chain(&self, base: WalTip) -> WalTip {
        match self.chain.last() {
            Some(link) => WalTip {
                frame: base.frame.saturating_add(self.chain.len() as u32),
                checksum: link.checksum,
                ..base
            },
            None => base,
        }
    }

    pub(super) fn forget_chain(&mut self) {
        self.chain = Vec::new();
    }

    fn write_frames(
        &mut self,
        view: &View,
        base: WalTip,
    ) -> Result<Option<WalTransaction>, CaptureError> {
        if let Some(offset) = first_frame_change(view, end_of(&base))? {
            return Err(CaptureError::Committed { offset });
        }
        let mut tip = self.end_of_chain(base);
        if let Some(changed) = first_frame_change(view, end_of(&tip))? {
            let keep = (changed - end_of(&base)) / frame_size(base.page_size);
            self.chain.truncate(keep as usize);
            tip = self.end_of_chain(base);
        }
        if !touches_next(view, &tip) {
            return Ok(None);
        }
        while let Some((header, next)) = self.follow(view, &tip)? {
            tip = next;
            if header.commit != 0 {
                let chain = std::mem::take(&mut self.chain);
                let pages = chain.iter().map(|link| link.page).chain([header.page]);
                return Ok(Some(self.commit(base, tip, CommitFrame::of(header), pages)));
            }
            self.chain.push(Link { page: header.page, checksum: header.checksum });
        }
        Ok(None)
    }

    /// The frame after `tip`, if it is whole and continues the chain. Its page stays in `body`.
    fn follow(
        &mut self,
        view: &View,
        tip: &WalTip,
    ) -> Result<Option<(FrameHeader, WalTip)>, CaptureError> {
        let whole = self.whole_frame(view, tip)?;
        Ok(whole.and_then(|(header, _)| Some((header, tip.follow(&header, &self.body)?))))
    }

    /// The frame after `tip`, if it is whole and of the same life of the WAL.
    fn whole_frame(
        &mut self,
        view: &View,
        tip: &WalTip,
    ) -> Result<Option<(FrameHeader, WalTip)>, CaptureError> {
        let Some(number) = tip.frame.checked_add(1) else { return Ok(None) };
        let at = frame_offset(tip.page_size, number);
        let mut bytes = [0; FRAME_HEADER_SIZE];
        if !view.fill(at, &mut bytes)? {
            return Ok(None);
        }
        let header = FrameHeader::parse(&bytes);
        // Spilled frames have no salts yet, old ones others: their bodies need not be read.
        if header.salts != tip.salts || header.page == 0 {
            return Ok(None);
        }
        self.body.resize(tip.page_size as usize, 0);
        if !view.fill(at + FRAME_HEADER_SIZE as u64, &mut self.body)? {
            return Ok(None);
        }
        Ok(Some((header, WalTip { frame: number, checksum: header.checksum, ..*tip })))
    }

    /// `pages`: those of the frames from `base` to `tip`.
    pub(super) fn commit(
        &mut self,
        base: WalTip,
        tip: WalTip,
        frame: CommitFrame,
        pages: impl Iterator<Item = u32>,
    ) -> WalTransaction {
        let header = frame.header;
        let mut latest: Vec<(u32, u32)> = pages
            .zip(base.frame.saturating_add(1)..=tip.frame)
            .filter(|(page, _)| *page <= header.commit && *page != lock_page(tip.page_size))
            .collect();
        // The last frame of each page comes first and stays.
        latest.sort_unstable_by_key(|(page, frame)| (*page, std::cmp::Reverse(*frame)));
        latest.dedup_by_key(|(page, _)| *page);
        self.base = Some(tip);
        self.committed = Some(frame);
        WalTransaction {
            page_size: tip.page_size,
            pages: header.commit,
            first_frame: base.frame.saturating_add(1),
            last_frame: tip.frame,
            latest,
            tip,
        }
    }

    /// Rule 20: beyond the commit frame, only that frame may come again.
    fn write_padding(
        &mut self,
        view: &View,
        mut tip: WalTip,
        committed: CommitFrame,
    ) -> Result<WalEvent, CaptureError> {
        while touches_next(view, &tip) {
            let offset = end_of(&tip);
            let followed = if committed.spilled_from.is_some() {
                self.whole_frame(view, &tip)?
            } else {
                self.follow(view, &tip)?
            };
            let Some((header, next)) = followed else { return Ok(WalEvent::Pass) };
            let mut last = vec![0; self.body.len()];
            let last_body = frame_offset(tip.page_size, tip.frame) + FRAME_HEADER_SIZE as u64;
            view.fill(last_body, &mut last)?;
            let same =
                (header.page, header.commit) == (committed.header.page, committed.header.commit);
            if !same || last != self.body {
                return Err(CaptureError::SecondTransaction { offset });
            }
            tip = next;
            self.base = Some(tip);
        }
        Ok(WalEvent::Repeat)
    }
}

/// Where the next frame begins, in bytes.
pub(super) fn end_of(tip: &WalTip) -> u64 {
    frame_offset(tip.page_size, tip.frame.saturating_add(1))
}

/// Whether the write touches the frame after `tip`.
fn touches_next(view: &View, tip: &WalTip) -> bool {
    let next = end_of(tip);
    view.start() < next + frame_size(tip.page_size) && next < view.end()
}

/// The first byte before `limit` that the write changes, the WAL's header left out.
fn first_frame_change(view: &View, limit: u64) -> io::Result<Option<u64>> {
    view.first_change(HEADER_SIZE as u64, limit)
}
