//! The model itself: what is synced stays, what is not may go.

use proptest::prelude::*;

use super::*;

fn make(disk: &mut Disk, folder: Node, name: &str, is_folder: bool) -> Node {
    disk.apply(&Op::Make { folder, name: name.into(), is_folder }).unwrap();
    disk.lookup(folder, name).unwrap()
}

fn put(disk: &mut Disk, file: Node, offset: usize, bytes: &[u8]) {
    disk.apply(&Op::Write { file, offset, bytes: bytes.into() }).unwrap();
}

fn sync(disk: &mut Disk, node: Node) {
    disk.apply(&Op::Sync { node }).unwrap();
}

fn rename(disk: &mut Disk, from: (Node, &str), to: (Node, &str)) {
    let (name, to_name) = (from.1.into(), to.1.into());
    disk.apply(&Op::Rename { folder: from.0, name, to_folder: to.0, to_name }).unwrap();
}

#[test]
fn a_name_and_its_bytes_are_synced_apart() {
    let mut disk = Disk::default();
    let file = make(&mut disk, ROOT, "a", false);
    put(&mut disk, file, 0, b"bytes");
    sync(&mut disk, file);
    assert_eq!(disk.after_power_loss(Tear::Nothing).find("a"), None, "its folder is not synced");
    let named = disk.after_power_loss(Tear::Names);
    assert_eq!(named.bytes(named.find("a").unwrap()), b"bytes");
    sync(&mut disk, ROOT);
    put(&mut disk, file, 5, b" and more");
    let left = disk.after_power_loss(Tear::Nothing);
    assert_eq!(left.bytes(left.find("a").unwrap()), b"bytes");
    let left = disk.after_power_loss(Tear::Everything);
    assert_eq!(left.bytes(left.find("a").unwrap()), b"bytes and more");
}

#[test]
fn an_unsynced_write_is_torn_by_sectors() {
    let mut disk = Disk::default();
    let file = make(&mut disk, ROOT, "a", false);
    sync(&mut disk, ROOT);
    put(&mut disk, file, 100, &[7; 4 * SECTOR]);
    let (mut whole, mut none, mut torn) = (0, 0, 0);
    for seed in 0..200 {
        let left = disk.after_power_loss(Tear::Some(seed));
        let bytes = left.bytes(left.find("a").unwrap());
        // Each sector is the old one or the new one.
        for (number, sector) in bytes.chunks(SECTOR).enumerate() {
            let ours = sector.iter().skip(if number == 0 { 100 } else { 0 });
            assert!(ours.clone().all(|b| *b == 7) || ours.clone().all(|b| *b == 0), "seed {seed}");
        }
        match bytes.iter().map(|byte| usize::from(*byte == 7)).sum::<usize>() {
            0 => none += 1,
            count if count == 4 * SECTOR => whole += 1,
            _ => torn += 1,
        }
    }
    assert!(whole > 20 && none > 20 && torn > 20, "{whole} {none} {torn}");
}

#[test]
fn a_rename_is_in_both_folders_or_in_neither() {
    let mut disk = Disk::default();
    let (from, to) = (make(&mut disk, ROOT, "from", true), make(&mut disk, ROOT, "to", true));
    make(&mut disk, from, "a", false);
    for folder in [ROOT, from, to] {
        sync(&mut disk, folder);
    }
    rename(&mut disk, (from, "a"), (to, "b"));
    for seed in 0..50 {
        let left = disk.after_power_loss(Tear::Some(seed));
        assert!(left.find("from/a").is_some() != left.find("to/b").is_some(), "seed {seed}");
    }
    sync(&mut disk, to);
    let left = disk.after_power_loss(Tear::Nothing);
    assert_eq!((left.find("from/a"), left.find("to/b").is_some()), (None, true));
}

/// Renames of different files may be kept in any order, unless a sync stands between them.
#[test]
fn names_of_different_files_have_no_order() {
    let mut disk = Disk::default();
    for name in ["a", "b"] {
        make(&mut disk, ROOT, name, false);
    }
    sync(&mut disk, ROOT);
    rename(&mut disk, (ROOT, "a"), (ROOT, "a2"));
    rename(&mut disk, (ROOT, "b"), (ROOT, "b2"));
    let second_alone = |disk: &Disk, seed| {
        let left = disk.after_power_loss(Tear::Some(seed));
        left.find("a").is_some() && left.find("b2").is_some()
    };
    assert!((0..50).any(|seed| second_alone(&disk, seed)));
    // Of the same file they have one.
    rename(&mut disk, (ROOT, "a2"), (ROOT, "a3"));
    for seed in 0..50 {
        let left = disk.after_power_loss(Tear::Some(seed));
        let there = ["a", "a2", "a3"].iter().filter(|name| left.find(name).is_some()).count();
        assert_eq!(there, 1, "seed {seed}");
    }
}

/// As Linux does: the pages are clean after a failed sync, and no later sync writes them.
#[test]
fn what_a_failed_sync_lost_is_read_but_stays_lost() {
    let wanted = vec![1; 16 * SECTOR];
    let there = |disk: &Disk, tear| {
        let left = disk.after_power_loss(tear);
        left.bytes(left.find("a").unwrap()) == wanted
    };
    let mut lost = 0;
    for seed in 0..30 {
        let mut disk = Disk::default();
        let file = make(&mut disk, ROOT, "a", false);
        sync(&mut disk, ROOT);
        put(&mut disk, file, 0, &wanted);
        disk.apply(&Op::FailedSync { file, seed }).unwrap();
        assert!(disk.bytes(file) == wanted);
        sync(&mut disk, file);
        lost += usize::from(!there(&disk, Tear::Everything));
        put(&mut disk, file, 0, &wanted);
        sync(&mut disk, file);
        assert!(there(&disk, Tear::Nothing));
    }
    assert!(lost > 10, "{lost}");
}

/// An operation, by small numbers: which file, where, how much.
fn ops() -> impl Strategy<Value = Vec<(u8, usize, usize, u8)>> {
    prop::collection::vec((0..8_u8, 0..3_usize, 0..2000_usize, any::<u8>()), 1..40)
}

proptest! {
    /// After syncs of everything nothing is lost, whatever happens; and a power loss leaves of each
    /// file nothing that was never written there.
    #[test]
    fn what_is_synced_stays(ops in ops(), seed: u64) {
        let mut disk = Disk::default();
        let mut known: Vec<Node> =
            ["a", "b", "c"].iter().map(|name| make(&mut disk, ROOT, name, false)).collect();
        for (what, which, at, byte) in ops {
            let file = known[which];
            let name = ["a", "b", "c"][which];
            match what {
                0..4 => put(&mut disk, file, at, &vec![byte; at / 2 + 1]),
                4 => disk.apply(&Op::Length { file, len: at }).unwrap(),
                5 => sync(&mut disk, file),
                6 => {
                    // Replaced, as small files are.
                    make(&mut disk, ROOT, "new", false);
                    rename(&mut disk, (ROOT, "new"), (ROOT, name));
                    known[which] = disk.lookup(ROOT, name).unwrap();
                }
                _ => sync(&mut disk, ROOT),
            }
        }
        let left = disk.after_power_loss(Tear::Some(seed));
        prop_assert!(left.renames.is_empty());
        let again = left.after_power_loss(Tear::Nothing);
        for name in ["a", "b", "c"] {
            prop_assert_eq!(
                left.find(name).map(|file| left.bytes(file)),
                again.find(name).map(|file| again.bytes(file))
            );
        }
        for node in known.iter().chain([&ROOT]) {
            sync(&mut disk, *node);
        }
        for tear in Tear::several(seed, 2) {
            let left = disk.after_power_loss(tear);
            for name in ["a", "b", "c"] {
                let (now, then) = (disk.find(name).unwrap(), left.find(name).unwrap());
                prop_assert_eq!(disk.bytes(now), left.bytes(then));
            }
        }
    }
}
