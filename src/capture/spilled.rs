//! The commit of a transaction that outgrew SQLite's cache.
//!
//! From the first page on that is spilled a second time, SQLite writes frame headers whose salts and
//! checksum are zero, and gives them their values when it commits: it writes the commit frame, zeros
//! as well, and then rewrites the 24-byte headers from the first respilled frame on. Before 3.54 it
//! forgets some of them where a savepoint was rolled back meanwhile (`iReCksum` stays as it was), or
//! all: the commit frame may never get its salts. For SQLite the transaction is committed all the same,
//! by the wal-index.
//!
//! So the commit point is the write that completes the commit frame, zeros or not: everything of the
//! transaction is in the WAL then. What comes after it are headers that say the same.

use super::view::View;
use super::wal::{CaptureError, WalCapture, WalTransaction, end_of};
use crate::sqlite::Salts;
use crate::sqlite::wal::{
    FRAME_HEADER_SIZE, FrameHeader, HEADER_SIZE, WalTip, frame_offset, frame_size,
};

/// The frame that a transaction was committed by.
#[derive(Debug, Clone, Copy)]
pub(super) struct CommitFrame {
    pub header: FrameHeader,
    /// The transaction's first frame, if it spilled: from there on headers may be rewritten.
    pub spilled_from: Option<u32>,
}

impl CommitFrame {
    pub fn of(header: FrameHeader) -> Self {
        Self { header, spilled_from: None }
    }

    /// Whether the write gives a frame of the spilled transaction its salts and checksum, and leaves
    /// page number and commit size as they are.
    pub fn is_rewritten(&self, view: &View, tip: &WalTip) -> Result<bool, CaptureError> {
        let Some(first) = self.spilled_from else { return Ok(false) };
        if view.start() < frame_offset(tip.page_size, first) || view.end() > end_of(tip) {
            return Ok(false);
        }
        let size = frame_size(tip.page_size);
        let header = HEADER_SIZE as u64 + (view.start() - HEADER_SIZE as u64) / size * size;
        if view.end() > header + FRAME_HEADER_SIZE as u64 {
            return Ok(false);
        }
        Ok(view.first_change(header, header + 8)?.is_none())
    }
}

fn has_no_salts(header: &FrameHeader) -> bool {
    header.salts == Salts::default() && header.checksum == (0, 0)
}

impl WalCapture {
    /// Whether the write completes a commit frame whose salts and checksum are zero. SQLite writes a
    /// frame in order, so that the last byte of it is the last to come.
    pub(super) fn spilled_commit(
        &mut self,
        view: &View,
        base: WalTip,
    ) -> Result<Option<WalTransaction>, CaptureError> {
        let page_size = base.page_size;
        while let Some(next) = base.frame.checked_add(self.begun + 1)
            && (view.start()..view.end()).contains(&frame_offset(page_size, next))
        {
            self.begun += 1;
        }
        let behind = |at: u64| at.saturating_sub(HEADER_SIZE as u64) / frame_size(page_size);
        for number in behind(view.start()) + 1..=behind(view.end()) {
            let Ok(number) = u32::try_from(number) else { return Ok(None) };
            if number <= base.frame || number - base.frame > self.begun {
                continue;
            }
            let Some(header) = header_of(view, page_size, number)? else { continue };
            if header.commit == 0 || header.page == 0 || !has_no_salts(&header) {
                continue;
            }
            let mut pages = Vec::with_capacity((number - base.frame) as usize);
            for frame in base.frame + 1..=number {
                let written = header_of(view, page_size, frame)?.filter(|written| {
                    written.page != 0 && (written.salts == base.salts || has_no_salts(written))
                });
                pages.push(written.ok_or(CaptureError::Gap { frame })?.page);
            }
            // The checksum that the next frame continues is SQLite's to say, in the wal-index (Rule 4);
            // should its writer die first, any will do.
            let checksum = self.end_of_chain(base).checksum;
            self.forget_chain();
            let tip = WalTip { frame: number, checksum, pages: header.commit, ..base };
            let frame = CommitFrame { header, spilled_from: Some(base.frame + 1) };
            return Ok(Some(self.commit(base, tip, frame, pages.into_iter())));
        }
        Ok(None)
    }
}

fn header_of(view: &View, page_size: u32, frame: u32) -> Result<Option<FrameHeader>, CaptureError> {
    let mut bytes = [0; FRAME_HEADER_SIZE];
    let whole = view.fill(frame_offset(page_size, frame), &mut bytes)?;
    Ok(whole.then(|| FrameHeader::parse(&bytes)))
}
