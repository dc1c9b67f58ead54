//! Finds a super-journal record in what is written to a rollback journal, at the write that
//! completes it (file format 3.2).

use crate::sqlite::SuperJournal;
use crate::sqlite::journal::SUPER_TAIL_SIZE;

/// The longest record: page number, name, length, checksum, magic.
const LONGEST: usize = 4 + 4096 + SUPER_TAIL_SIZE;

/// The last bytes written to the journal without a gap.
#[derive(Debug, Default)]
pub(super) struct SuperJournalScan {
    bytes: Vec<u8>,
    /// Where they end in the journal.
    end: u64,
}

impl SuperJournalScan {
    /// Takes a write; whether a record ends where it ends. A record is the last thing in a
    /// journal, so no place within the write needs to be looked at.
    ///
    /// The page number before the name is the lock page's: one that a database can have, so that
    /// a page which holds a copy of such a record is not taken for one.
    pub fn write(&mut self, offset: u64, data: &[u8]) -> Option<SuperJournal> {
        let start = self.end.saturating_sub(self.bytes.len() as u64);
        if (start..=self.end).contains(&offset) {
            self.bytes.truncate((offset - start) as usize);
        } else {
            self.bytes.clear();
        }
        let recent = data.len().saturating_sub(LONGEST);
        self.bytes.extend_from_slice(data.get(recent..).unwrap_or_default());
        self.bytes.drain(..self.bytes.len().saturating_sub(LONGEST));
        self.end = offset.saturating_add(data.len() as u64);

        let record = SuperJournal::parse(&self.bytes)?;
        let number_at = self.bytes.len().checked_sub(SUPER_TAIL_SIZE + record.name.len() + 4)?;
        let number = self.bytes.get(number_at..).and_then(|b| b.first_chunk())?;
        is_lock_page(u32::from_be_bytes(*number)).then_some(record)
    }
}

/// Whether this is the lock page of some page size (512 to 65536).
fn is_lock_page(page: u32) -> bool {
    (9..=16).any(|shift| crate::sqlite::lock_page(1 << shift) == page)
}
