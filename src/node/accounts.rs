//! Users and groups by name, from the system's own files.
//!
//! Read here rather than through the C library: a static binary has no NSS modules. Names that only
//! a directory service knows are given by number instead.

use std::fs;

#[derive(Debug, thiserror::Error)]
#[error("there is no {kind} {name:?} in {file}; give its number instead")]
pub struct NoAccount {
    kind: &'static str,
    name: String,
    file: &'static str,
}

/// A user's number, by name or number.
pub fn user(name: &str) -> Result<u32, NoAccount> {
    find("user", name, "/etc/passwd")
}

/// A group's number, by name or number.
pub fn group(name: Option<&str>) -> Result<Option<u32>, NoAccount> {
    name.map(|name| find("group", name, "/etc/group")).transpose()
}

fn find(kind: &'static str, name: &str, file: &'static str) -> Result<u32, NoAccount> {
    if let Ok(number) = name.parse() {
        return Ok(number);
    }
    let lines = fs::read_to_string(file).unwrap_or_default();
    number_of(&lines, name).ok_or_else(|| NoAccount { kind, name: name.to_owned(), file })
}

/// passwd(5), group(5): name, password, number, separated by colons.
fn number_of(lines: &str, name: &str) -> Option<u32> {
    lines.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next()? == name).then(|| fields.nth(1)?.parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_are_found() {
        assert_eq!(number_of("root:x:0:0::/root:/bin/sh\nwww:x:33:33", "www"), Some(33));
        assert_eq!(number_of("root:x:0", "roo"), None);
        assert_eq!(user("1234").unwrap(), 1234);
        assert_eq!(user("root").unwrap(), 0);
        assert!(user("nobody-of-that-name").is_err());
    }
}
