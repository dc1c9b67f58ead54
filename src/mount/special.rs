//! Files that are made at each read: `<db>-pos`, `.primary` and `.lag`, as LiteFS has them.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use fuser::FileHandle;

use super::names::Special;
use super::tree::Known;
use crate::commit::door::Databases;

/// `<db>-pos`: TXID and checksum, 16 hexadecimal digits each, a slash between.
pub(super) fn position(known: &Known) -> String {
    format!("{}\n", known.files.position())
}

/// None: the file is not there. `.primary` exists only while another node is the primary.
pub(super) fn content(which: Special, databases: &dyn Databases) -> Option<String> {
    match which {
        Special::Primary => databases.primary().map(|name| format!("{name}\n")),
        Special::Lag => Some(format!("{}\n", databases.lag_ms())),
    }
}

/// What each open file read last: the text may change between two reads of one file, and half of
/// an old one before half of a new one would be neither.
#[derive(Default)]
pub(super) struct Texts(Mutex<HashMap<u64, String>>);

impl Texts {
    /// A read from the beginning makes the text anew, by `make`; the others go on in that one.
    pub(super) fn read(
        &self,
        handle: FileHandle,
        offset: u64,
        len: u32,
        make: impl FnOnce() -> String,
    ) -> Vec<u8> {
        let mut texts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if offset == 0 {
            texts.insert(handle.0, make());
        }
        let text = texts.entry(handle.0).or_default().as_bytes();
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(text.len());
        let end = start.saturating_add(len as usize).min(text.len());
        text.get(start..end).unwrap_or_default().to_vec()
    }

    pub(super) fn close(&self, handle: FileHandle) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&handle.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_changes_between_two_reads_stays_whole() {
        let texts = Texts::default();
        let file = FileHandle(1);
        assert_eq!(texts.read(file, 0, 100, || "9\n".into()), b"9\n");
        assert_eq!(texts.read(file, 2, 100, || "10\n".into()), b"", "the end of the first");
        assert_eq!(texts.read(file, 0, 2, || "10\n".into()), b"10", "fresh from the beginning");
        assert_eq!(texts.read(file, 2, 100, || "7\n".into()), b"\n");
        assert_eq!(texts.read(file, u64::MAX, u32::MAX, || unreachable!()), b"");
        texts.close(file);
        assert!(texts.0.lock().unwrap().is_empty());
    }
}
