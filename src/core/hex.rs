//! Bytes as hexadecimal digits, in lower case.

use std::fmt::Write;

#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        // Into memory: it cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
