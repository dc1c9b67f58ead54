//! The page index: where each page's frame lies, so that a reader can seek.

/// Appends one record of the index (LTX spec: three unsigned LEB128 varints).
pub(super) fn push_record(out: &mut Vec<u8>, pgno: u32, offset: u64, length: u64) {
    push_varint(out, u64::from(pgno));
    push_varint(out, offset);
    push_varint(out, length);
}

/// What follows the records, of which there are `records` bytes: a zero where a page number would
/// be, and the length of the index so far.
pub(super) fn end(records: u64) -> [u8; 9] {
    let mut end = [0; 9];
    let (_, length) = end.split_at_mut(1);
    length.copy_from_slice(&(records + 1).to_be_bytes());
    end
}

fn push_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_as_go_writes_them() {
        let written = |value| {
            let mut out = Vec::new();
            push_varint(&mut out, value);
            out
        };
        assert_eq!(written(0), [0]);
        assert_eq!(written(127), [0x7f]);
        assert_eq!(written(128), [0x80, 1]);
        assert_eq!(written(300), [0xac, 2]);
        assert_eq!(written(u64::MAX), [255, 255, 255, 255, 255, 255, 255, 255, 255, 1]);
    }

    #[test]
    fn the_end_counts_its_zero() {
        assert_eq!(end(0x1ff), [0, 0, 0, 0, 0, 0, 0, 2, 0]);
    }
}
