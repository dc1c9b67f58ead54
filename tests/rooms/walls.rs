//! Crates that stand in one room, `unsafe` in two files, and what pure rooms keep away from.

use std::collections::BTreeSet;

use crate::source::rooms;

/// Who alone may name a crate. A crate that several rooms need is not here.
const CRATES: [(&str, &[&str]); 11] = [
    ("openraft", &["raft"]),
    ("fuser", &["mount"]),
    ("rusqlite", &["store"]),
    ("memmap2", &["store"]),
    ("lz4_flex", &["ltx"]),
    ("rustls", &["mesh"]),
    ("tokio_rustls", &["mesh"]),
    ("rcgen", &["mesh"]),
    ("axum", &["api"]),
    ("clap", &["cli"]),
    ("serde_saphyr", &["core"]),
];

#[test]
fn crates_stay_in_their_rooms() {
    let mut wrong = Vec::new();
    for room in rooms() {
        for named in &room.named {
            let Some((name, may)) = CRATES.iter().find(|(name, _)| named.is_in(name)) else {
                continue;
            };
            // `fuser` alone is a variable, not a crate.
            if named.path.len() > 1 && !may.contains(&room.name.as_str()) {
                wrong.push(format!("{}: only {} may name {name}", named.place(), may.join(", ")));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

/// The mapping that other processes write into, and the functions that SQLite calls.
const UNSAFE: [&str; 2] = ["src/store/shm.rs", "src/store/vfs.rs"];

#[test]
fn unsafe_stands_in_two_files() {
    let found: BTreeSet<String> = rooms()
        .iter()
        .flat_map(|room| &room.named)
        .filter(|named| named.path == ["unsafe"])
        .map(|named| named.file.display().to_string())
        .collect();
    assert_eq!(found, UNSAFE.map(str::to_owned).into());
}

/// "No I/O, no clock, no tokio, so that a test can drive a million steps in a second."
const PURE: [&str; 5] = ["capture", "cluster", "locks", "ltx", "sqlite"];

/// As they are written after `use` and in code.
const IMPURE: [&str; 15] = [
    "tokio",
    "futures",
    "rand",
    "libc",
    "rustix",
    "std::env",
    "std::fs",
    "std::net",
    "std::process",
    "std::thread",
    "std::time::Instant",
    "std::time::SystemTime",
    "Instant",
    "SystemTime",
    "File",
];

#[test]
fn pure_rooms_are_pure() {
    let mut wrong = Vec::new();
    for room in rooms() {
        for named in &room.named {
            let Some(what) = IMPURE.iter().find(|what| named.is_in(what)) else { continue };
            if PURE.contains(&room.name.as_str()) {
                wrong.push(format!("{}: {} is pure: no {what}", named.place(), room.name));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

/// `core` does no I/O either; the system's clock stands in its one file.
#[test]
fn core_does_nothing() {
    let mut wrong = Vec::new();
    for room in rooms().into_iter().filter(|room| room.name == "core") {
        for named in &room.named {
            let clock = named.is_in("Instant") || named.is_in("SystemTime");
            let io = ["tokio", "std::fs", "std::process", "std::thread", "std::net::TcpStream"]
                .iter()
                .any(|what| named.is_in(what));
            if io || (clock && !named.file.ends_with("clock.rs")) {
                wrong.push(named.place());
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}
