//! "A stranger asked 'where is rule 6 kept, and what breaks if I remove it?' finds both by
//! searching for 'Rule 6'": each rule and each promise is named by the code that keeps it and by a
//! test.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;

use crate::source::{files_below, rooms, root};

const RULES: std::ops::RangeInclusive<u32> = 1..=20;

const PROMISES: [&str; 10] = [
    "no-lost-ack",
    "one-history",
    "invisible-until-committed",
    "one-primary",
    "caught-up",
    "nothing-discarded",
    "bounded-answer",
    "readers-go-on",
    "converges",
    "no-open-door",
];

#[test]
fn rules_and_promises_are_named_in_code_and_in_tests() {
    let (mut code, mut docs, mut tests) = (String::new(), String::new(), String::new());
    for room in rooms() {
        for comment in &room.comments {
            // A sentence may be broken over lines.
            let _ = write!(code, "{} ", comment.text.trim());
            if comment.doc {
                let _ = write!(docs, "{} ", comment.text.trim());
            }
        }
        tests += &room.tests;
    }
    tests += &test_files();
    let in_code = rules(&code);
    let in_tests = rules(&tests);
    let mut missing = Vec::new();
    for rule in RULES {
        if !in_code.contains(&rule) {
            missing.push(format!("Rule {rule}: no comment in src says where it is kept"));
        }
        if !in_tests.contains(&rule) {
            missing.push(format!("Rule {rule}: no test names it"));
        }
    }
    for promise in PROMISES {
        if !docs.contains(promise) {
            missing.push(format!("{promise}: no doc comment in src says where it is kept"));
        }
        let test_name = promise.replace('-', "_");
        if !tests.contains(promise) && !tests.contains(&test_name) {
            missing.push(format!("{promise}: no test names it"));
        }
    }
    assert!(missing.is_empty(), "\n{}\n", missing.join("\n"));
}

/// What stands in `tests`, but for this one, which names them all.
fn test_files() -> String {
    let folder = root().join("tests");
    let files = files_below(&folder, "rs").into_iter().chain(files_below(&folder, "py"));
    files
        .filter(|file| !file.starts_with(folder.join("rooms")))
        .map(|file| fs::read_to_string(file).unwrap())
        .collect()
}

/// The numbers in "Rule 6", "Rules 8, 9 and 20", "Rules 10 to 12", `rule_6`.
fn rules(text: &str) -> BTreeSet<u32> {
    let text = text.to_ascii_lowercase().replace('_', " ");
    let mut found = BTreeSet::new();
    for rest in text.split("rule").skip(1) {
        let mut words = rest
            .trim_start_matches('s')
            .split(|c: char| c.is_whitespace() || c == ',')
            .filter(|word| !word.is_empty() && !word.chars().all(|c| "/*#!".contains(c)));
        let (mut last, mut range) = (None, false);
        for word in words.by_ref() {
            let digits: String = word.chars().take_while(char::is_ascii_digit).collect();
            match (word, digits.parse::<u32>()) {
                (_, Ok(number)) => {
                    let from = if range { last.unwrap_or(number) } else { number };
                    found.extend(from..=number);
                    (last, range) = (Some(number), false);
                    // The sentence ends, or goes on about something else.
                    if digits.len() != word.len() {
                        break;
                    }
                }
                ("to", _) => range = true,
                ("and", _) => {}
                _ => break,
            }
        }
    }
    found
}

#[test]
fn numbers_are_read() {
    let read = |text: &str| rules(text).into_iter().collect::<Vec<_>>();
    assert_eq!(read("Rule 6: the verdict. Rules 8, 9 and 20. and 3"), [6, 8, 9, 20]);
    assert_eq!(read("(Rules 10 to 12)"), [10, 11, 12]);
    assert_eq!(read("fn rule_14_waits() and Rule 1 of 7"), [1, 14]);
    assert_eq!(read("the rules of the house, rule"), [0_u32; 0]);
}
