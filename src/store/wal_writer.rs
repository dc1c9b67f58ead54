//! Frames of the daemon's own, appended to the live WAL beyond what any reader looks at.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use crate::sqlite::{WalHeader, WalTip, wal};

/// Frames are written together up to about this many bytes.
const BUFFER: usize = 1 << 20;

/// Appends frames after a tip. Nothing is visible: that is the wal-index's part.
pub(super) struct WalWriter<'a> {
    file: &'a File,
    tip: WalTip,
    /// Page number of each frame written.
    pages: Vec<u32>,
    first: u32,
    buffer: Vec<u8>,
    offset: u64,
}

impl<'a> WalWriter<'a> {
    /// Goes on after the last committed frame (Rule 4).
    pub fn after(file: &'a File, tip: WalTip) -> Self {
        let offset = wal::frame_offset(tip.page_size, tip.frame.saturating_add(1));
        let first = tip.frame.saturating_add(1);
        Self { file, tip, pages: Vec::new(), first, buffer: Vec::new(), offset }
    }

    /// Begins the WAL anew, with this header.
    pub fn begin(file: &'a File, header: &WalHeader) -> Self {
        let mut writer = Self::after(file, header.tip());
        writer.offset = 0;
        writer.buffer.extend_from_slice(&header.encode());
        writer
    }

    /// Appends a frame. `commit`: in the last one the size of the database, in pages; else 0.
    pub fn frame(&mut self, pgno: u32, page: &[u8], commit: u32) -> io::Result<()> {
        let (header, tip) = self
            .tip
            .append(pgno, commit, page)
            .ok_or_else(|| io::Error::other("the WAL has as many frames as it can have"))?;
        self.buffer.extend_from_slice(&header.encode());
        self.buffer.extend_from_slice(page);
        self.tip = tip;
        self.pages.push(pgno);
        if self.buffer.len() >= BUFFER { self.flush() } else { Ok(()) }
    }

    /// Writes what is left. Gives the tip, the first frame, and the page of each.
    pub fn finish(mut self) -> io::Result<(WalTip, u32, Vec<u32>)> {
        self.flush()?;
        Ok((self.tip, self.first, self.pages))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.write_all_at(&self.buffer, self.offset)?;
        self.offset += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }
}
