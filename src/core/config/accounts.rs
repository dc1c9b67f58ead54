//! Users and groups by name, from the text of `/etc/passwd` and `/etc/group` (passwd(5),
//! group(5)): a static binary cannot ask the C library's name services.

/// The number of `account` in the text of `/etc/passwd` or `/etc/group`: both have it in their third
/// field. A number stands for itself.
#[must_use]
pub fn number_of(account: &str, table: &str) -> Option<u32> {
    if let Ok(number) = account.parse() {
        return Some(number);
    }
    table.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(account)).then(|| fields.nth(1)?.parse().ok()).flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::number_of;

    #[test]
    fn names_and_numbers() {
        let table = "root:x:0:0::/root:/bin/sh\nwww-data:x:33:33:www\nbroken:x\n";
        assert_eq!(number_of("www-data", table), Some(33));
        assert_eq!(number_of("root", table), Some(0));
        assert_eq!(number_of("1000", table), Some(1000));
        assert_eq!(number_of("broken", table), None);
        assert_eq!(number_of("nobody", table), None);
        assert_eq!(number_of("", table), None);
    }
}
