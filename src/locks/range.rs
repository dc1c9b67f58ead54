//! Arithmetic of byte ranges whose both ends are included, up to the last byte of 2^64.

use crate::core::ports::ByteRange;

/// Whether there is a byte in both; never, if one of them holds none.
pub(super) fn overlap(a: ByteRange, b: ByteRange) -> bool {
    a.start.max(b.start) <= a.end.min(b.end)
}

/// Overlapping, or end to end.
pub(super) fn touch(a: ByteRange, b: ByteRange) -> bool {
    a.start <= b.end.saturating_add(1) && b.start <= a.end.saturating_add(1)
}

/// The smallest range that holds both.
pub(super) fn hull(a: ByteRange, b: ByteRange) -> ByteRange {
    ByteRange { start: a.start.min(b.start), end: a.end.max(b.end) }
}

/// What of `a` lies in `b`.
pub(super) fn common(a: ByteRange, b: ByteRange) -> Option<ByteRange> {
    overlap(a, b).then(|| ByteRange { start: a.start.max(b.start), end: a.end.min(b.end) })
}

/// What of `a` lies before and after `b`, which overlaps it.
pub(super) fn without(a: ByteRange, b: ByteRange) -> impl Iterator<Item = ByteRange> {
    let before = b.start.checked_sub(1).map(|end| ByteRange { start: a.start, end });
    let after = b.end.checked_add(1).map(|start| ByteRange { start, end: a.end });
    [before, after].into_iter().flatten().filter(|rest| rest.start <= rest.end)
}
