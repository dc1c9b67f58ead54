//! The table of rooms in DESIGN, as code: arrows point down.

use crate::source::rooms;

/// What a room may know of, besides itself and `core`, which everyone may know.
const ROOMS: [(&str, &[&str]); 15] = [
    ("core", &[]),
    ("ltx", &[]),
    ("sqlite", &[]),
    ("locks", &[]),
    ("capture", &["sqlite", "ltx"]),
    ("cluster", &[]),
    ("mesh", &[]),
    ("store", &["sqlite", "ltx"]),
    ("raft", &["store", "mesh", "cluster"]),
    ("commit", &["raft", "store", "cluster", "capture", "locks"]),
    ("litefs", &["raft", "mesh", "cluster"]),
    ("mount", &["commit", "store", "capture", "locks"]),
    ("api", &["cluster"]),
    (
        "node",
        &[
            "api", "mount", "litefs", "commit", "raft", "store", "mesh", "cluster", "capture",
            "locks", "sqlite", "ltx",
        ],
    ),
    ("cli", &["node", "api"]),
];

/// Arrows beside the table, each with its reason. One that nobody uses any more is an error.
const BESIDES: [(&str, &str, &str); 6] = [
    ("commit", "sqlite", "lock bytes and frame offsets go by the names of the format"),
    ("raft", "ltx", "a database goes page by page, each with its checksum, packed as in LTX"),
    ("commit", "ltx", "it encodes the transaction that it proposes"),
    (
        "cli",
        "mesh",
        "`dev` makes the cluster's CA and the nodes' certificates; `doctor` reads when they end",
    ),
    ("cli", "store", "`import` reads a database and its WAL as SQLite would"),
    ("litefs", "store", "it reads LiteFS's data folder, and sets aside what has diverged"),
];

#[test]
fn a_room_knows_only_what_it_may() {
    let mut wrong = Vec::new();
    let mut used = Vec::new();
    let rooms = rooms();
    for room in &rooms {
        let Some((_, may)) = ROOMS.iter().find(|(name, _)| *name == room.name) else {
            wrong.push(format!("src/{}: a room that the table does not have", room.name));
            continue;
        };
        for named in &room.named {
            let Some(other) = named.room() else { continue };
            // Not a room: a macro or a test's helper at the root.
            if !rooms.iter().any(|room| room.name == other) {
                continue;
            }
            let listed = BESIDES.iter().any(|(from, to, _)| *from == room.name && *to == other);
            if listed {
                used.push((room.name.clone(), other.to_owned()));
            }
            if !(other == room.name || other == "core" || may.contains(&other) || listed) {
                wrong.push(format!("{}: {} may not know {other}", named.place(), room.name));
            }
        }
    }
    for (from, to, _) in BESIDES {
        let there = rooms.iter().any(|room| room.name == from);
        if there && !used.iter().any(|(a, b)| a == from && b == to) {
            wrong.push(format!("{from} no longer knows {to}: take it off the list"));
        }
    }
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

/// The table itself has no circle: a room stands after all that it knows.
#[test]
fn arrows_point_down() {
    let order: Vec<&str> = ROOMS.iter().map(|(name, _)| *name).collect();
    let place = |name: &str| order.iter().position(|other| *other == name).unwrap();
    for (name, may) in ROOMS {
        for other in may {
            assert!(place(other) < place(name), "{name} stands before {other}");
        }
    }
}
