//! What is fuzzed: every parser of bytes that come from a disk or from the network, by the name of
//! its target in `fuzz/`. Each room brings its own checks, beside its parsers: bytes are refused or
//! understood, never a panic, and what was understood comes back when it is encoded and read again.
//! Memory is bounded by the fuzzer's own limits.
//!
//! `scripts/fuzz.py` runs them; the corpus, the files that a run once failed with among it, is
//! checked by every `cargo test`.

#![allow(clippy::missing_panics_doc)] // a panic is what is looked for

use crate::{capture, cluster, commit, core, ltx, mesh, raft, sqlite, store};

/// One target.
pub struct Target {
    pub name: &'static str,
    pub check: fn(&[u8]),
    /// What the fuzzer begins with: made by the encoders.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

const fn target(name: &'static str, check: fn(&[u8]), seeds: fn() -> Vec<Vec<u8>>) -> Target {
    Target { name, check, seeds }
}

pub const TARGETS: [Target; 19] = [
    target("ltx", ltx::fuzzing::file, ltx::fuzzing::files),
    target("sqlite_wal", sqlite::fuzzing::wal, sqlite::fuzzing::wals),
    target("sqlite_journal", sqlite::fuzzing::journal, sqlite::fuzzing::journals),
    target("sqlite_header", sqlite::fuzzing::header, sqlite::fuzzing::headers),
    target("sqlite_index", sqlite::fuzzing::index, sqlite::fuzzing::indexes),
    target("capture_wal", capture::fuzzing::wal, capture::fuzzing::wals),
    target("capture_journal", capture::fuzzing::journal, capture::fuzzing::journals),
    target("mesh_frame", mesh::fuzzing::frame, mesh::fuzzing::frames),
    target("mesh_message", mesh::fuzzing::message, mesh::fuzzing::messages),
    target("mesh_join", mesh::fuzzing::joining, mesh::fuzzing::joinings),
    target("commit_rpc", commit::fuzzing::rpc, commit::fuzzing::rpcs),
    target("raft_wire", raft::fuzzing::wire, raft::fuzzing::wires),
    target("raft_snapshot", raft::fuzzing::snapshot, raft::fuzzing::snapshots),
    target("raft_record", raft::fuzzing::record, raft::fuzzing::records),
    target("raft_log", raft::fuzzing::log, raft::fuzzing::logs),
    target("raft_state", raft::fuzzing::state, raft::fuzzing::states),
    target("cluster_state", cluster::fuzzing::state, cluster::fuzzing::states),
    target("store_record", store::fuzzing::record, store::fuzzing::records),
    target("config", core::config::fuzzing::text, core::config::fuzzing::texts),
];

/// Checks these bytes by the target of that name.
pub fn run(name: &str, bytes: &[u8]) {
    let target = TARGETS.iter().find(|target| target.name == name);
    assert!(target.is_some(), "no such target: {name}");
    if let Some(target) = target {
        (target.check)(bytes);
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::{Path, PathBuf};

    use super::*;

    fn corpus(target: &Target) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target.name)
    }

    /// Every file of the corpus: the seeds, and what a fuzzer once found.
    #[test]
    fn the_corpus_is_survived() {
        for target in &TARGETS {
            let mut files: Vec<_> =
                fs::read_dir(corpus(target)).unwrap().map(|entry| entry.unwrap().path()).collect();
            files.sort();
            assert!(!files.is_empty(), "{}: no corpus", target.name);
            for file in files {
                let bytes = fs::read(&file).unwrap();
                let survived = std::panic::catch_unwind(|| (target.check)(&bytes));
                assert!(survived.is_ok(), "{}: {}", target.name, file.display());
            }
        }
    }

    /// The seeds are what today's encoders make. `LITEFS_PY_WRITE_SEEDS=1` writes them anew.
    #[test]
    fn the_seeds_are_in_the_corpus() {
        let write = std::env::var_os("LITEFS_PY_WRITE_SEEDS").is_some();
        for target in &TARGETS {
            for (number, seed) in (target.seeds)().into_iter().enumerate() {
                let file = corpus(target).join(format!("seed-{number}"));
                if write {
                    fs::create_dir_all(corpus(target)).unwrap();
                    fs::write(&file, &seed).unwrap();
                }
                assert!(fs::read(&file).is_ok_and(|kept| kept == seed), "{}", file.display());
            }
        }
    }

    /// Each target is one of `fuzz/Cargo.toml`, and the other way round.
    #[test]
    fn the_targets_are_those_of_the_fuzz_package() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/fuzz_targets");
        let mut there: Vec<String> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path().file_stem().unwrap().to_string_lossy().into())
            .collect();
        let mut here: Vec<String> = TARGETS.iter().map(|target| target.name.into()).collect();
        there.sort();
        here.sort();
        assert_eq!(here, there);
    }
}
