//! Files that the Go module wrote: `change` and `snapshot-false` are those whose checksums its own
//! test `TestEncoder_PageIndexGolden` pins; `frames` is `change` by Go's version 0.5.1.

use super::*;

const CHANGE: &[u8] = include_bytes!("../testdata/change.ltx");
const SNAPSHOT: &[u8] = include_bytes!("../testdata/snapshot.ltx");
const SNAPSHOT_FALSE: &[u8] = include_bytes!("../testdata/snapshot-false.ltx");
const DELETION: &[u8] = include_bytes!("../testdata/deletion.ltx");
const FRAMES: &[u8] = include_bytes!("../testdata/frames.ltx");

#[test]
fn page_checksums_are_gos() {
    let (pgno, page) = go_page(7);
    assert_eq!(page_checksum(pgno, &page), Checksum(0xba2b_95f2_0eff_e803));
}

#[test]
fn a_change() {
    let content = Content {
        header: change(),
        pages: [2, 5, 9, 16].map(go_page).to_vec(),
        trailer: Trailer { post_apply: flagged(2), file: Checksum(0xe27f_4c18_f0da_2c10) },
    };
    assert_eq!(decode(CHANGE).unwrap(), content);
}

#[test]
fn a_snapshot() {
    let pages: Vec<_> = (1..=6).map(go_page).collect();
    let trailer = Trailer { post_apply: sum(&pages), file: Checksum(0x8433_a627_b12d_0fd4) };
    assert_eq!(trailer.post_apply, Checksum(0x8588_a7d9_e2e3_c1f5));
    assert_eq!(decode(SNAPSHOT).unwrap(), Content { header: snapshot(6), pages, trailer });
}

/// one-history: whole by the file's own checksum, but not what it says it is.
#[test]
fn a_snapshot_with_the_checksum_of_another() {
    let refused = decode(SNAPSHOT_FALSE).unwrap_err();
    assert!(
        matches!(refused, LtxError::SnapshotChecksum { said, computed }
            if said == flagged(3) && computed == Checksum(0x8588_a7d9_e2e3_c1f5)),
        "{refused}"
    );
}

/// Without pages no compressor has a say: the bytes are the same.
#[test]
fn a_deletion() {
    let header = Header { commit: 0, min_txid: Txid(5), max_txid: Txid(5), ..change() };
    let trailer = Trailer { post_apply: Checksum(0), file: Checksum(0x9684_67ac_259c_afb0) };
    assert!(header.is_deletion());
    assert_eq!(decode(DELETION).unwrap(), Content { header, pages: vec![], trailer });
    for empty in [Checksum(0), flagged(0)] {
        assert_eq!(encode(header, &[], empty).unwrap(), (DELETION.to_vec(), trailer));
    }
}

#[test]
fn frames_of_older_go_are_named() {
    let refused = decode(FRAMES).unwrap_err();
    assert!(matches!(refused, LtxError::PageFrame { pgno: 2, offset: 100 }), "{refused}");
}
