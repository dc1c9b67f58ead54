//! LTX files of ours read by the Go module `github.com/superfly/ltx`, and files of the Go module
//! read by us: the same content, and a page index that finds each page.
//!
//! Wants Go, and its module proxy or cache; prints `SKIPPED ltx_go: …` without.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

use litefs_py::core::{Checksum, Txid};
use litefs_py::ltx::{Decoder, Encoder, Header, WalSpan, page_checksum};

const PAGE_SIZES: [u32; 8] = [512, 1024, 2048, 4096, 8192, 16384, 32768, 65536];

/// One file: its header, its pages' numbers, and the checksum after it.
struct File {
    name: String,
    header: Header,
    pages: Vec<u32>,
    post_apply: Checksum,
}

#[test]
fn go_reads_ours_and_we_read_gos() {
    let Some(go) = find_go() else { return skip("no Go on this machine") };
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/ltx_go");
    let dir = tempfile::tempdir().unwrap();
    let (ours, theirs) = (dir.path().join("ours"), dir.path().join("theirs"));
    fs::create_dir(&ours).unwrap();
    fs::create_dir(&theirs).unwrap();
    let mut download = command(&go, &source);
    let got = download.args(["mod", "download"]).output().unwrap();
    if !got.status.success() {
        let why = String::from_utf8_lossy(&got.stderr);
        return skip(&format!("the Go module cannot be had: {}", why.trim().replace('\n', "; ")));
    }

    let files = files();
    let mut expected = String::new();
    for file in &files {
        fs::write(ours.join(&file.name), encode(file)).unwrap();
        expected += &describe(file);
    }
    let mut run = command(&go, &source);
    let ran = run.args(["run", "."]).arg(&ours).arg(&theirs).output().unwrap();
    assert!(ran.status.success(), "Go: {}", String::from_utf8_lossy(&ran.stderr));
    // Go's names come sorted; ours are made so.
    assert_eq!(String::from_utf8(ran.stdout).unwrap(), expected);

    for file in &files {
        let bytes = fs::read(theirs.join(&file.name)).unwrap();
        assert_eq!(decode(&file.name, &bytes), describe(file));
    }
    eprintln!("ltx_go: {} files, both ways", files.len());
}

fn skip(reason: &str) {
    eprintln!("SKIPPED ltx_go: {reason}");
    println!("skipped: {reason}");
}

/// In the path, or where Go's own installer puts it.
fn find_go() -> Option<String> {
    ["go", "/usr/local/go/bin/go"]
        .into_iter()
        .find(|go| Command::new(go).arg("version").output().is_ok_and(|o| o.status.success()))
        .map(String::from)
}

/// Never fetches another Go, nor changes the module's files.
fn command(go: &str, source: &Path) -> Command {
    let mut command = Command::new(go);
    command.current_dir(source).env("GOTOOLCHAIN", "local").env("GOFLAGS", "-mod=readonly");
    command
}

/// For each page size a snapshot, a change, a deletion, and a database created again after it;
/// the change has pages at both sides of the lock page where the page size lets it.
fn files() -> Vec<File> {
    let mut files = Vec::new();
    for (i, page_size) in PAGE_SIZES.into_iter().enumerate() {
        let mut push = |kind: &str, commit, txids: (u64, u64), pages: Vec<u32>, last: Checksum| {
            let base = Header {
                page_size,
                commit,
                min_txid: Txid(txids.0),
                max_txid: Txid(txids.1),
                timestamp_ms: 1_700_000_000_123 + i64::from(page_size),
                pre_apply: last,
                node_id: u64::MAX - u64::from(page_size),
                wal: WalSpan::default(),
            };
            let wal = WalSpan { offset: 32, size: 4120, salt1: 0xdead_beef, salt2: page_size };
            let header = if kind == "2-change" { Header { wal, ..base } } else { base };
            let post_apply = match (commit, base.min_txid) {
                (0, _) => Checksum(0),
                (_, Txid(1)) => whole(page_size, &pages),
                _ => Checksum(Checksum::FLAG | 0x1234 | u64::from(page_size) << 20),
            };
            files.push(File { name: format!("{i}-{kind}.ltx"), header, pages, post_apply });
            post_apply
        };
        let lock = 0x4000_0000 / page_size + 1;
        let after = push("1-snapshot", 9, (1, 4), (1..=9).collect(), Checksum(0));
        let pages = vec![1, 3, 300, lock - 1, lock + 1, lock + 70_000];
        let after = push("2-change", lock + 70_001, (5, 5), pages, after);
        let after = push("3-deletion", 0, (6, 6), vec![], after);
        push("4-again", 2, (7, 9), vec![1, 2], after);
    }
    files
}

fn whole(page_size: u32, pages: &[u32]) -> Checksum {
    pages
        .iter()
        .fold(Checksum(0), |sum, &pgno| sum.toggle(page_checksum(pgno, &page(pgno, page_size))))
}

/// Zeros, something like text, or noise that does not compress.
fn page(pgno: u32, page_size: u32) -> Vec<u8> {
    let mut x = u64::from(pgno) << 32 | u64::from(page_size);
    let mut noise = || {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        x as u8
    };
    (0..page_size)
        .map(|i| match pgno % 4 {
            0 => 0,
            1 => noise(),
            2 => b"CREATE TABLE t(a, b); "[i as usize % 22],
            _ => noise() & 3,
        })
        .collect()
}

fn encode(file: &File) -> Vec<u8> {
    let mut encoder = Encoder::new(Vec::new(), file.header).unwrap();
    for &pgno in &file.pages {
        encoder.page(pgno, &page(pgno, file.header.page_size)).unwrap();
    }
    encoder.finish(file.post_apply).unwrap().0
}

/// What the Go program says of a file, from what we put into it.
fn describe(file: &File) -> String {
    let sums = |&pgno: &u32| (pgno, page_checksum(pgno, &page(pgno, file.header.page_size)));
    text(&file.name, &file.header, file.pages.iter().map(sums), file.post_apply)
}

/// The same, from the file.
fn decode(name: &str, bytes: &[u8]) -> String {
    let mut decoder = Decoder::new(bytes).unwrap();
    let (header, mut pages, mut page) = (*decoder.header(), Vec::new(), Vec::new());
    while let Some(pgno) = decoder.next_page(&mut page).unwrap() {
        pages.push((pgno, page_checksum(pgno, &page)));
    }
    let trailer = decoder.finish().unwrap();
    text(name, &header, pages.into_iter(), trailer.post_apply)
}

fn text(
    name: &str,
    h: &Header,
    pages: impl Iterator<Item = (u32, Checksum)>,
    post_apply: Checksum,
) -> String {
    // As it is on the wire: the flag alone for an empty database, but 0 before a snapshot.
    let wire = |sum: Checksum| if sum.0 == 0 { Checksum::FLAG } else { sum.0 };
    let pre_apply = if h.is_snapshot() { 0 } else { wire(h.pre_apply) };
    let mut out = format!(
        "{name} {} {} {}-{} {} {pre_apply:016x} {} {}+{} {:08x} {:08x}\n",
        h.page_size,
        h.commit,
        h.min_txid.0,
        h.max_txid.0,
        h.timestamp_ms,
        h.node_id,
        h.wal.offset,
        h.wal.size,
        h.wal.salt1,
        h.wal.salt2,
    );
    for (pgno, sum) in pages {
        writeln!(out, "{pgno} {:016x}", sum.0).unwrap();
    }
    writeln!(out, "post {:016x}", wire(post_apply)).unwrap();
    out
}
