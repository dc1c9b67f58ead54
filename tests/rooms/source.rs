//! The rooms as they stand in `src`: their files, and the paths and comments in them.

use std::fs;
use std::path::{Path, PathBuf};

use crate::tokens::{Placed, Token, tokens, without_tests};

/// A path in code, such as `std::fs::File`, from the root as far as it can be told.
#[derive(Debug, Clone)]
pub struct Named {
    pub file: PathBuf,
    pub line: usize,
    pub path: Vec<String>,
}

impl Named {
    /// `crate::store::…`: `store`.
    pub fn room(&self) -> Option<&str> {
        match self.path.as_slice() {
            [root, room, ..] if root == "crate" => Some(room),
            _ => None,
        }
    }

    /// Whether it is this path, or something in it; `Instant::now` also by `std::time::Instant`.
    pub fn is_in(&self, path: &str) -> bool {
        let wanted: Vec<&str> = path.split("::").collect();
        self.path.windows(wanted.len()).next().is_some_and(|start| start == wanted)
    }

    pub fn place(&self) -> String {
        format!("{}:{}: {}", self.file.display(), self.line, self.path.join("::"))
    }
}

#[derive(Debug, Clone)]
pub struct Comment {
    pub text: String,
    pub doc: bool,
}

/// What one room is made of, tests left out, and the comments of its tests.
#[derive(Debug, Default)]
pub struct Room {
    pub name: String,
    pub named: Vec<Named>,
    pub comments: Vec<Comment>,
    /// Everything that stands in tests, as text.
    pub tests: String,
}

pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every room of `src`, read from its `mod.rs` on.
pub fn rooms() -> Vec<Room> {
    let src = root().join("src");
    let mut rooms: Vec<Room> = fs::read_dir(&src)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir())
        .map(|path| {
            let mut room = Room {
                name: path.file_name().unwrap().to_string_lossy().into_owned(),
                ..Room::default()
            };
            read_module(&path.join("mod.rs"), &path, 1, &mut room);
            room
        })
        .collect();
    assert!(!rooms.is_empty(), "no room in {}", src.display());
    rooms.sort_by(|a, b| a.name.cmp(&b.name));
    rooms
}

/// One file and the modules that it declares. `depth`: how many `super` lead to the crate's root.
fn read_module(file: &Path, folder: &Path, depth: usize, room: &mut Room) {
    let text =
        fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let (code, tests) = without_tests(tokens(&text));
    let shown = file.strip_prefix(root()).unwrap_or(file);
    let all = paths(&code);
    room.named.extend(all.into_iter().map(|(line, path)| Named {
        file: shown.to_owned(),
        line,
        path: from_root(path, depth, &room.name),
    }));
    room.comments.extend(code.iter().filter_map(|placed| match &placed.token {
        Token::Comment { text, doc } => Some(Comment { text: text.clone(), doc: *doc }),
        _ => None,
    }));
    if let Some(first) = tests.first() {
        // From the first line of tests on: they stand at the end of files.
        room.tests.extend(text.lines().skip(first.line - 1).flat_map(|line| [line, "\n"]));
    }
    for module in declared(&tests) {
        for file in module_files(folder, &module) {
            read_tests(&file, room);
        }
    }
    for module in declared(&code) {
        if let Some(file) = module_files(folder, &module).first() {
            read_module(file, &folder.join(&module), depth + 1, room);
        }
    }
}

fn read_tests(file: &Path, room: &mut Room) {
    room.tests += &fs::read_to_string(file).unwrap_or_default();
    let inside = match file.file_name() {
        Some(name) if name == "mod.rs" => file.parent().map(Path::to_owned),
        _ => Some(file.with_extension("")),
    };
    for file in inside.into_iter().flat_map(|folder| files_below(&folder, "rs")) {
        if !file.ends_with("mod.rs") {
            room.tests += &fs::read_to_string(file).unwrap_or_default();
        }
    }
}

/// `X.rs` or `X/mod.rs`.
fn module_files(folder: &Path, module: &str) -> Vec<PathBuf> {
    [folder.join(format!("{module}.rs")), folder.join(module).join("mod.rs")]
        .into_iter()
        .filter(|file| file.is_file())
        .collect()
}

/// All files below a folder with this extension.
pub fn files_below(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files_below(&path, extension));
        } else if path.extension().is_some_and(|is| is == extension) {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// `mod X;`
fn declared(code: &[Placed]) -> Vec<String> {
    let code: Vec<&Token> = code.iter().map(|placed| &placed.token).collect();
    code.windows(3)
        .filter_map(|three| match three {
            [Token::Word(word), Token::Word(name), Token::Sign(';')] if word == "mod" => {
                Some(name.clone())
            }
            _ => None,
        })
        .collect()
}

/// Every path in code, with its line; groups (`a::{b, c::d}`) taken apart.
fn paths(code: &[Placed]) -> Vec<(usize, Vec<String>)> {
    let code: Vec<&Placed> =
        code.iter().filter(|placed| !matches!(placed.token, Token::Comment { .. })).collect();
    let mut found = Vec::new();
    let mut at = 0;
    while at < code.len() {
        at = match code[at].token {
            Token::Word(_) => tree(&code, at, &[], &mut found),
            _ => at + 1,
        };
    }
    found
}

/// A path from the word at `at` on. Returns where the next token is.
fn tree(
    code: &[&Placed],
    mut at: usize,
    before: &[String],
    found: &mut Vec<(usize, Vec<String>)>,
) -> usize {
    let mut path = before.to_vec();
    let line = code[at].line;
    while let Some(Token::Word(word)) = code.get(at).map(|placed| &placed.token) {
        path.push(word.clone());
        at += 1;
        if code.get(at).map(|placed| &placed.token) != Some(&Token::Colons) {
            break;
        }
        at += 1;
    }
    let after_colons = at > 0 && code[at - 1].token == Token::Colons;
    let group = code.get(at).map(|placed| &placed.token) == Some(&Token::Sign('{'));
    if !(after_colons && group) {
        found.push((line, path));
        return at;
    }
    at += 1;
    while let Some(placed) = code.get(at) {
        match &placed.token {
            Token::Sign('}') => return at + 1,
            Token::Word(_) => at = tree(code, at, &path, found),
            _ => at += 1,
        }
    }
    at
}

/// Replaces what leads to the crate's root by `crate`, and `self` and `super` inside the room by
/// `crate::ROOM`.
fn from_root(path: Vec<String>, depth: usize, room: &str) -> Vec<String> {
    let up = path.iter().take_while(|word| *word == "super").count();
    if up == 0 {
        return path;
    }
    let mut whole = vec!["crate".to_owned()];
    if up < depth {
        whole.push(room.to_owned());
    }
    whole.extend(path.into_iter().skip(up));
    whole
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<String> {
        let (code, _) = without_tests(tokens(text));
        paths(&code).into_iter().map(|(_, path)| path.join("::")).collect()
    }

    #[test]
    fn groups_are_taken_apart() {
        let paths = found("use crate::{core::{Txid, ids}, store}; use std::{fs, io::Read as _};");
        for wanted in
            ["crate::core::Txid", "crate::core::ids", "crate::store", "std::fs", "std::io::Read"]
        {
            assert!(paths.iter().any(|path| path == wanted), "{wanted} in {paths:?}");
        }
    }

    #[test]
    fn paths_in_code_are_seen() {
        let paths =
            found("let a: crate::raft::Log = Instant::now(); /* crate::no */ \"crate::no\"");
        assert!(paths.contains(&"crate::raft::Log".to_owned()), "{paths:?}");
        assert!(paths.contains(&"Instant::now".to_owned()), "{paths:?}");
        assert!(!paths.iter().any(|path| path.contains("no") && path.starts_with("crate")));
    }

    #[test]
    fn super_leads_out_of_a_room() {
        let path = |text: &str| text.split("::").map(str::to_owned).collect::<Vec<_>>();
        let root = |text: &str, depth| from_root(path(text), depth, "ltx").join("::");
        assert_eq!(root("super::core::Txid", 1), "crate::core::Txid");
        assert_eq!(root("super::header", 2), "crate::ltx::header");
        assert_eq!(root("super::super::core", 2), "crate::core");
        assert_eq!(root("core::fmt", 2), "core::fmt");
    }
}
