//! The uncommitted writes of a rollback-journal transaction, beside the database file (Rule 8).

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::checksums::read_or_zeros;

/// Bytes of a block: what is kept, and copied from the file, at once.
const BLOCK: usize = 4096;

/// Above this many bytes the blocks move to a file without a name.
const MEMORY: usize = 8 << 20;

/// Ranges are written and invalidated in pieces of at most this many bytes.
const RUN: usize = 1 << 20;

/// What was written, in blocks, over a file that stays as it is.
pub(super) struct Overlay {
    /// Bytes that the file has with these writes.
    size: u64,
    /// Up to where the file below still shows; what a truncation cut off stays cut off.
    base: u64,
    /// Bytes that the file below has.
    original: u64,
    /// Block number to the place where its bytes are kept.
    blocks: BTreeMap<u64, u32>,
    /// The next free place. Those of blocks that a truncation dropped are not used again.
    next: u32,
    kept: Kept,
}

enum Kept {
    Memory(Vec<u8>),
    Spilled(File),
}

impl Overlay {
    /// Over a file of `base` bytes.
    pub fn new(base: u64) -> Self {
        let (blocks, kept) = (BTreeMap::new(), Kept::Memory(Vec::new()));
        Self { size: base, base, original: base, blocks, next: 0, kept }
    }

    /// Bytes that the file has with these writes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Writes; `folder` is where a file for many blocks is made.
    pub fn write(
        &mut self,
        below: &File,
        folder: &Path,
        offset: u64,
        data: &[u8],
    ) -> io::Result<()> {
        let end = offset
            .checked_add(data.len() as u64)
            .ok_or_else(|| io::Error::from(io::ErrorKind::FileTooLarge))?;
        let (mut at, mut rest) = (offset, data);
        while !rest.is_empty() {
            let within = (at % BLOCK as u64) as usize;
            let (now, later) = rest.split_at(rest.len().min(BLOCK - within));
            let mut block = [0; BLOCK];
            if now.len() < BLOCK {
                self.read_block(below, at / BLOCK as u64, &mut block)?;
            }
            if let Some(part) = block.get_mut(within..within + now.len()) {
                part.copy_from_slice(now);
            }
            self.keep(folder, at / BLOCK as u64, &block)?;
            at += now.len() as u64;
            rest = later;
        }
        if !data.is_empty() {
            self.size = self.size.max(end);
        }
        Ok(())
    }

    /// Cuts off, or extends with zeros.
    pub fn truncate(&mut self, below: &File, folder: &Path, len: u64) -> io::Result<()> {
        if len < self.size {
            let edge = len / BLOCK as u64;
            let within = (len % BLOCK as u64) as usize;
            drop(self.blocks.split_off(&(edge + 1)));
            if within == 0 {
                self.blocks.remove(&edge);
            } else if self.blocks.contains_key(&edge) {
                let mut block = [0; BLOCK];
                self.read_block(below, edge, &mut block)?;
                block.iter_mut().skip(within).for_each(|byte| *byte = 0);
                self.keep(folder, edge, &block)?;
            }
            self.base = self.base.min(len);
        }
        self.size = len;
        Ok(())
    }

    /// Reads; returns how many bytes there were before the end.
    pub fn read(&self, below: &File, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let there = usize::try_from(self.size.saturating_sub(offset)).unwrap_or(usize::MAX);
        let len = buffer.len().min(there);
        let mut done = 0;
        while done < len {
            let at = offset + done as u64;
            let within = (at % BLOCK as u64) as usize;
            let mut block = [0; BLOCK];
            self.read_block(below, at / BLOCK as u64, &mut block)?;
            let part = (len - done).min(BLOCK - within);
            if let (Some(to), Some(from)) =
                (buffer.get_mut(done..done + part), block.get(within..within + part))
            {
                to.copy_from_slice(from);
            }
            done += part;
        }
        Ok(len)
    }

    /// Writes everything into the file below, and gives it its size.
    pub fn write_down(&self, below: &File) -> io::Result<()> {
        if self.base < self.original {
            // What lay beyond a truncation does not come back when the file grows again.
            below.set_len(self.base)?;
        }
        let mut run: Vec<u8> = Vec::new();
        let mut start = 0;
        for &number in self.blocks.keys() {
            let offset = number * BLOCK as u64;
            if start + run.len() as u64 != offset || run.len() >= RUN {
                below.write_all_at(&run, start)?;
                run.clear();
                start = offset;
            }
            let mut block = [0; BLOCK];
            self.read_block(below, number, &mut block)?;
            let len = usize::try_from(self.size.saturating_sub(offset)).unwrap_or(BLOCK);
            run.extend_from_slice(block.get(..len.min(BLOCK)).unwrap_or(&block));
        }
        below.write_all_at(&run, start)?;
        below.set_len(self.size)
    }

    /// What differs from the file below, as (offset, length); length 0: to the end.
    pub fn ranges(&self) -> Vec<(u64, u64)> {
        let mut ranges: Vec<(u64, u64)> = Vec::new();
        for &number in self.blocks.keys() {
            let offset = number * BLOCK as u64;
            match ranges.last_mut() {
                Some((start, len)) if *start + *len == offset => *len += BLOCK as u64,
                _ => ranges.push((offset, BLOCK as u64)),
            }
        }
        if self.base < self.original || self.size != self.original {
            ranges.push((self.base.min(self.size), 0));
        }
        ranges
    }

    fn read_block(&self, below: &File, number: u64, block: &mut [u8; BLOCK]) -> io::Result<()> {
        if let Some(&place) = self.blocks.get(&number) {
            let at = place as usize * BLOCK;
            return match &self.kept {
                Kept::Memory(bytes) => {
                    if let Some(from) = bytes.get(at..at + BLOCK) {
                        block.copy_from_slice(from);
                    }
                    Ok(())
                }
                Kept::Spilled(file) => file.read_exact_at(block, at as u64),
            };
        }
        let offset = number * BLOCK as u64;
        let shown = usize::try_from(self.base.saturating_sub(offset)).unwrap_or(BLOCK).min(BLOCK);
        block.fill(0);
        read_or_zeros(below, block.get_mut(..shown).unwrap_or_default(), offset)
    }

    fn keep(&mut self, folder: &Path, number: u64, block: &[u8; BLOCK]) -> io::Result<()> {
        let place = self.blocks.get(&number).copied().unwrap_or(self.next);
        let at = place as usize * BLOCK;
        match &mut self.kept {
            Kept::Spilled(file) => file.write_all_at(block, at as u64)?,
            Kept::Memory(bytes) => {
                if bytes.len() < at + BLOCK {
                    bytes.resize(at + BLOCK, 0);
                }
                if let Some(to) = bytes.get_mut(at..at + BLOCK) {
                    to.copy_from_slice(block);
                }
            }
        }
        if place == self.next {
            self.blocks.insert(number, place);
            self.next += 1;
        }
        if let Kept::Memory(bytes) = &self.kept
            && bytes.len() > MEMORY
        {
            let file = nameless_file(folder)?;
            file.write_all_at(bytes, 0)?;
            self.kept = Kept::Spilled(file);
        }
        Ok(())
    }
}

fn nameless_file(folder: &Path) -> io::Result<File> {
    let path = folder.join("overlay");
    let file = File::options().read(true).write(true).create(true).truncate(true).open(&path)?;
    fs::remove_file(&path)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone)]
    enum Step {
        Write(u64, usize, u8),
        Truncate(u64),
        Read(u64, usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0_u64..60_000, 0_usize..9000, any::<u8>()).prop_map(|(a, b, c)| Step::Write(a, b, c)),
            1 => (0_u64..70_000).prop_map(Step::Truncate),
            2 => (0_u64..70_000, 0_usize..9000).prop_map(|(a, b)| Step::Read(a, b)),
        ]
    }

    fn file_of(bytes: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file
    }

    fn content(file: &File) -> Vec<u8> {
        let mut bytes = vec![0; file.metadata().unwrap().len() as usize];
        file.read_exact_at(&mut bytes, 0).unwrap();
        bytes
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        /// Rule 8: reads see what a plain file would hold; the file below does not change before
        /// it is written down, and then is that plain file.
        #[test]
        fn an_overlay_is_like_a_file(
            len in 0_usize..50_000,
            steps in prop::collection::vec(step(), 0..40),
        ) {
            let dir = tempfile::tempdir().unwrap();
            let before: Vec<u8> = (0..len).map(|at| (at % 251) as u8).collect();
            let below = file_of(&before);
            let model = file_of(&before);
            let mut overlay = Overlay::new(len as u64);
            for step in steps {
                match step {
                    Step::Write(offset, len, fill) => {
                        let data = vec![fill; len];
                        overlay.write(&below, dir.path(), offset, &data).unwrap();
                        model.write_all_at(&data, offset).unwrap();
                    }
                    Step::Truncate(len) => {
                        overlay.truncate(&below, dir.path(), len).unwrap();
                        model.set_len(len).unwrap();
                    }
                    Step::Read(offset, len) => {
                        let (mut ours, mut theirs) = (vec![0; len], vec![0; len]);
                        let n = overlay.read(&below, offset, &mut ours).unwrap();
                        let mut m = 0;
                        while m < len {
                            match model.read_at(&mut theirs[m..], offset + m as u64).unwrap() {
                                0 => break,
                                more => m += more,
                            }
                        }
                        prop_assert_eq!(&ours[..n], &theirs[..m]);
                    }
                }
                prop_assert_eq!(overlay.size(), model.metadata().unwrap().len());
            }
            prop_assert_eq!(content(&below), before);
            overlay.write_down(&below).unwrap();
            prop_assert_eq!(content(&below), content(&model));
        }
    }

    #[test]
    fn many_blocks_move_to_a_file_without_a_name() {
        let dir = tempfile::tempdir().unwrap();
        let below = file_of(&[]);
        let mut overlay = Overlay::new(0);
        let data: Vec<u8> = (0..MEMORY + 3 * BLOCK + 100).map(|at| (at / 777) as u8).collect();
        for (at, part) in data.chunks(100_000).enumerate() {
            overlay.write(&below, dir.path(), at as u64 * 100_000, part).unwrap();
        }
        assert!(matches!(overlay.kept, Kept::Spilled(_)));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        let mut read = vec![0; data.len()];
        assert_eq!(overlay.read(&below, 0, &mut read).unwrap(), data.len());
        assert!(read == data);
        overlay.write_down(&below).unwrap();
        assert!(content(&below) == data);
    }
}
