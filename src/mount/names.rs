//! What a name in the folder stands for.

use std::ffi::OsStr;

use crate::commit::door::FileKind;
use crate::core::{DatabaseName, NameError};

/// The files that the folder shows of each database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Database,
    Journal,
    Wal,
    Shm,
    /// `<db>-pos`: read-only text, as LiteFS has it.
    Position,
}

impl Part {
    pub(super) const ALL: [Part; 5] =
        [Part::Database, Part::Journal, Part::Wal, Part::Shm, Part::Position];

    /// SQLite's name for it, after the database's own name.
    pub(super) fn suffix(self) -> &'static str {
        match self {
            Part::Database => "",
            Part::Journal => "-journal",
            Part::Wal => "-wal",
            Part::Shm => "-shm",
            Part::Position => "-pos",
        }
    }

    /// The file it is, as the write path calls it; none for `-pos`, which is made here.
    pub(super) fn file(self) -> Option<FileKind> {
        match self {
            Part::Database => Some(FileKind::Database),
            Part::Journal => Some(FileKind::Journal),
            Part::Wal => Some(FileKind::Wal),
            Part::Shm => Some(FileKind::Shm),
            Part::Position => None,
        }
    }
}

/// The files that belong to no database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Special {
    /// `.primary`: the primary's name; exists only when another node is it.
    Primary,
    /// `.lag`: milliseconds behind the primary.
    Lag,
}

impl Special {
    pub(super) const ALL: [Special; 2] = [Special::Primary, Special::Lag];

    pub(super) fn name(self) -> &'static str {
        match self {
            Special::Primary => ".primary",
            Special::Lag => ".lag",
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Name {
    Special(Special),
    File(DatabaseName, Part),
}

/// Why a name names nothing here.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadName {
    #[error("the name is not UTF-8")]
    Encoding,
    #[error(
        "a transaction over several attached databases cannot be atomic here: its super-journal \
         is refused; use WAL mode, or one transaction for each database"
    )]
    SuperJournal,
    #[error(transparent)]
    Name(#[from] NameError),
}

/// Reads a name of the folder.
pub(super) fn parse(name: &OsStr) -> Result<Name, BadName> {
    let name = name.to_str().ok_or(BadName::Encoding)?;
    if let Some(special) = Special::ALL.into_iter().find(|s| s.name() == name) {
        return Ok(Name::Special(special));
    }
    if is_super_journal(name) {
        return Err(BadName::SuperJournal);
    }
    for part in Part::ALL {
        if part != Part::Database
            && let Some(base) = name.strip_suffix(part.suffix())
        {
            return Ok(Name::File(DatabaseName::new(base)?, part));
        }
    }
    Ok(Name::File(DatabaseName::new(name)?, Part::Database))
}

/// SQLite, `vdbeCommit` in vdbeaux.c: `"%s-mj%06X9%02X"`; nine hexadecimal digits, the seventh
/// a 9.
fn is_super_journal(name: &str) -> bool {
    let Some(at) = name.len().checked_sub(9) else { return false };
    let (Some(head), Some(digits)) = (name.get(..at), name.get(at..)) else { return false };
    head.ends_with("-mj") && digits.bytes().all(|b| b.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Result<Name, BadName> {
        parse(OsStr::new(text))
    }

    fn file(base: &str, part: Part) -> Name {
        Name::File(DatabaseName::new(base).unwrap(), part)
    }

    #[test]
    fn files_of_a_database_are_told_apart() {
        assert_eq!(name("app.db"), Ok(file("app.db", Part::Database)));
        assert_eq!(name("app.db-journal"), Ok(file("app.db", Part::Journal)));
        assert_eq!(name("app.db-wal"), Ok(file("app.db", Part::Wal)));
        assert_eq!(name("app.db-shm"), Ok(file("app.db", Part::Shm)));
        assert_eq!(name("app.db-pos"), Ok(file("app.db", Part::Position)));
        assert_eq!(name(".primary"), Ok(Name::Special(Special::Primary)));
        assert_eq!(name(".lag"), Ok(Name::Special(Special::Lag)));
    }

    #[test]
    fn names_that_name_nothing_are_refused() {
        assert_eq!(name("app.db-mj0A1B2C9FF"), Err(BadName::SuperJournal));
        assert!(matches!(name("app.db-mj0A1B2C9F"), Ok(Name::File(..))), "eight digits");
        assert!(matches!(name(".hidden"), Err(BadName::Name(NameError::Dot(_)))));
        assert!(matches!(name("-wal"), Err(BadName::Name(NameError::Empty))));
        assert!(matches!(name("app.db-wal-wal"), Err(BadName::Name(NameError::Suffix(..)))));
        assert!(matches!(name(&"x".repeat(248)), Err(BadName::Name(NameError::TooLong(248)))));
        let journal = format!("{}-journal", "x".repeat(247));
        assert!(matches!(name(&journal), Ok(Name::File(_, Part::Journal))));
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(
            bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..40)
        ) {
            use std::os::unix::ffi::OsStrExt;
            let _ = parse(OsStr::from_bytes(&bytes));
        }
    }
}
