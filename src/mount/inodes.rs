//! Inode numbers.
//!
//! Rule 17: they live as long as the database's incarnation and are never used again: a number is
//! made of the incarnation's slot, which the write path gives once in the daemon's life, and of
//! the file's kind. A journal that is deleted and made again keeps its number.

use fuser::{Generation, INodeNo};

use super::names::{Part, Special};

/// Numbers are not used again, so that no second generation of one exists.
pub(super) const GENERATION: Generation = Generation(1);

/// Below it: the folder, and files that belong to no database.
const FIRST: u64 = 16;
/// Numbers kept for each database; a power of two above the number of [`Part`]s.
const PER_DATABASE: u64 = 8;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Inode {
    Folder,
    Special(Special),
    Part { slot: u64, part: Part },
}

impl Inode {
    /// None for a slot so high that its numbers do not fit: none is ever given.
    pub(super) fn number(self) -> Option<INodeNo> {
        match self {
            Inode::Folder => Some(INodeNo::ROOT),
            Inode::Special(Special::Primary) => Some(INodeNo(2)),
            Inode::Special(Special::Lag) => Some(INodeNo(3)),
            Inode::Part { slot, part } => {
                slot.checked_mul(PER_DATABASE)?.checked_add(FIRST + part_number(part)).map(INodeNo)
            }
        }
    }

    pub(super) fn of(number: INodeNo) -> Option<Inode> {
        match number.0 {
            1 => Some(Inode::Folder),
            2 => Some(Inode::Special(Special::Primary)),
            3 => Some(Inode::Special(Special::Lag)),
            n => {
                let n = n.checked_sub(FIRST)?;
                let part = Part::ALL.into_iter().find(|p| part_number(*p) == n % PER_DATABASE)?;
                Some(Inode::Part { slot: n / PER_DATABASE, part })
            }
        }
    }
}

fn part_number(part: Part) -> u64 {
    match part {
        Part::Database => 0,
        Part::Journal => 1,
        Part::Wal => 2,
        Part::Shm => 3,
        Part::Position => 4,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn rule_17_a_number_names_one_file(slot in any::<u64>(), which in 0..Part::ALL.len()) {
            let inode = Inode::Part { slot, part: Part::ALL[which] };
            match inode.number() {
                Some(number) => prop_assert_eq!(Inode::of(number), Some(inode)),
                None => prop_assert!(slot >= u64::MAX / PER_DATABASE - FIRST),
            }
        }

        #[test]
        fn a_number_nobody_gave_is_read_without_panic(number in any::<u64>()) {
            if let Some(inode) = Inode::of(INodeNo(number)) {
                prop_assert_eq!(inode.number(), Some(INodeNo(number)));
            }
        }
    }

    #[test]
    fn files_of_no_database_have_their_own() {
        for special in Special::ALL {
            let inode = Inode::Special(special);
            assert_eq!(inode.number().and_then(Inode::of), Some(inode));
        }
        assert_eq!(Inode::of(INodeNo::ROOT), Some(Inode::Folder));
    }
}
