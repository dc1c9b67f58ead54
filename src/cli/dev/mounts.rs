//! Mounts that a node left behind.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use super::say;

/// Ends every mount at or below `path`. Says what it could not.
///
/// Never touches what is mounted: a daemon that does not answer would hold this process up.
pub(super) fn detach(path: &Path) {
    let points = match at_or_below(path) {
        Ok(points) => points,
        Err(error) => return say(&format!("cannot see what is mounted: {error}")),
    };
    // The last mounted lies on top.
    for point in points.into_iter().rev() {
        if let Err(why) = crate::node::end_by_force(&point) {
            say(&format!("cannot unmount {}: {why}", point.display()));
        }
    }
}

/// The mount points at or below `path`, in the order of mounting.
pub(in crate::cli) fn at_or_below(path: &Path) -> io::Result<Vec<PathBuf>> {
    Ok(below(&std::fs::read("/proc/self/mountinfo")?, path))
}

/// Those of a table. proc(5), `mountinfo`: the fifth
/// field; blanks and backslashes in it are written as three octal digits.
fn below(table: &[u8], path: &Path) -> Vec<PathBuf> {
    table
        .split(|byte| *byte == b'\n')
        .filter_map(|line| line.split(|byte| *byte == b' ').nth(4))
        .map(unescape)
        .filter(|point| point.starts_with(path))
        .collect()
}

fn unescape(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, after)) = rest.split_first() {
        let octal = (first == b'\\')
            .then(|| after.get(..3))
            .flatten()
            .and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        let (byte, taken) = octal.map_or((first, 0), |byte| (byte, 3));
        bytes.push(byte);
        rest = after.get(taken..).unwrap_or_default();
    }
    PathBuf::from(OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt;

    use super::*;

    #[test]
    fn mount_points_are_found_by_their_folder() {
        let table = b"36 35 98:0 / / rw - ext4 /dev/a rw\n\
            40 36 0:50 / /tmp/my\\040dev/n1/mount rw - fuse a rw\n\
            41 36 0:51 / /tmp/my\\040dev2/n1/mount rw - fuse a rw\n\
            42 40 0:52 / /tmp/my\\040dev/n1/mount rw - fuse a rw\n\
            43 36 0:53 / /tmp/back\\134slash rw - fuse a rw\n\nshort line\n";
        let point = PathBuf::from("/tmp/my dev/n1/mount");
        assert_eq!(below(table, Path::new("/tmp/my dev")), [point.clone(), point]);
        assert_eq!(below(table, Path::new("/tmp/back\\slash")).len(), 1);
        assert!(below(table, Path::new("/tmp/my")).is_empty());
    }

    #[test]
    fn odd_escapes_stay() {
        for text in ["\\", "\\0", "\\999", "\\zzz", "a\\04"] {
            assert_eq!(unescape(text.as_bytes()).as_os_str().as_bytes(), text.as_bytes());
        }
    }
}
