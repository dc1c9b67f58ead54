//! A file as it will be after a write that is not in it yet.

use std::io;

/// Bytes of a file that were written earlier.
pub trait ReadAt {
    /// Reads at `offset` into `buf`; how many bytes, 0 only at the end of the file.
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize>;
}

impl ReadAt for &[u8] {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let rest = usize::try_from(offset).ok().and_then(|at| self.get(at..)).unwrap_or_default();
        let len = rest.len().min(buf.len());
        if let (Some(to), Some(from)) = (buf.get_mut(..len), rest.get(..len)) {
            to.copy_from_slice(from);
        }
        Ok(len)
    }
}

/// Reads as much of `buf` as the file has.
fn read_full(file: &dyn ReadAt, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
    let mut done = 0;
    while let Some(rest) = buf.get_mut(done..).filter(|rest| !rest.is_empty()) {
        match file.read_at(offset + done as u64, rest) {
            Ok(0) => break,
            Ok(n) => done += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

/// The file and the write. The write's end is known not to overflow.
pub(super) struct View<'a> {
    file: &'a dyn ReadAt,
    offset: u64,
    data: &'a [u8],
}

impl<'a> View<'a> {
    /// `None`: the write ends beyond the largest file there can be.
    pub fn new(file: &'a dyn ReadAt, offset: u64, data: &'a [u8]) -> Option<Self> {
        offset.checked_add(data.len() as u64).filter(|end| i64::try_from(*end).is_ok())?;
        Some(Self { file, offset, data })
    }

    /// Where the write begins.
    pub fn start(&self) -> u64 {
        self.offset
    }

    /// Where the write ends.
    pub fn end(&self) -> u64 {
        self.offset + self.data.len() as u64
    }

    /// Fills `buf` from `at`. False: the file ends before, and `buf` means nothing.
    pub fn fill(&self, at: u64, buf: &mut [u8]) -> io::Result<bool> {
        let end = at.saturating_add(buf.len() as u64);
        if at < self.offset || end > self.end() {
            let have = read_full(self.file, at, buf)?;
            if have < buf.len() && end > self.end() {
                return Ok(false);
            }
            // A write beyond the end of a file leaves zeros between.
            buf.iter_mut().skip(have).for_each(|byte| *byte = 0);
        }
        let from = at.max(self.offset);
        let to = end.min(self.end());
        if from < to {
            let (source, target) = ((from - self.offset) as usize, (from - at) as usize);
            let len = (to - from) as usize;
            if let (Some(target), Some(source)) =
                (buf.get_mut(target..target + len), self.data.get(source..source + len))
            {
                target.copy_from_slice(source);
            }
        }
        Ok(true)
    }

    /// The first byte from `from` on and before `limit` that the write changes.
    pub fn first_change(&self, from: u64, limit: u64) -> io::Result<Option<u64>> {
        let mut buf = [0; 4096];
        let mut at = self.offset.max(from);
        let end = self.end().min(limit).max(at);
        let part = (at - self.offset) as usize..(end - self.offset) as usize;
        for new in self.data.get(part).unwrap_or_default().chunks(buf.len()) {
            let Some(old) = buf.get_mut(..new.len()) else { break };
            let have = read_full(self.file, at, old)?;
            let same = new.iter().zip(old.iter().take(have)).take_while(|(n, o)| n == o).count();
            if same < new.len() {
                return Ok(Some(at + same as u64));
            }
            at += new.len() as u64;
        }
        Ok(None)
    }
}
