//! Pages on their way alone, outside of an LTX file: packed as in one.

/// Several pages, one after the other, as one LZ4 block.
pub fn pack(pages: &[u8]) -> Vec<u8> {
    lz4_flex::block::compress(pages)
}

/// What [`pack`] packed, of which the length is known (bounded-answer: nothing is allocated by what the
/// block says).
///
/// # Errors
/// It is damaged, or of another length.
pub fn unpack(block: &[u8], len: usize) -> Result<Vec<u8>, String> {
    let bytes = lz4_flex::block::decompress(block, len).map_err(|error| error.to_string())?;
    if bytes.len() == len {
        Ok(bytes)
    } else {
        Err(format!("{} bytes instead of {len}", bytes.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed_comes_out_in_its_length_alone() {
        let pages = vec![7; 3 * 4096];
        let block = pack(&pages);
        assert_eq!(unpack(&block, pages.len()), Ok(pages));
        assert!(unpack(&block, 4096).is_err());
        assert!(unpack(&block, 4 * 4096).is_err());
        assert!(unpack(&block[1..], 3 * 4096).is_err());
    }
}
