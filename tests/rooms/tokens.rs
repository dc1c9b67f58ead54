//! Rust source as tokens: enough of the language to tell code from comments and strings, and what
//! is there for tests from what is not.

use std::iter::Peekable;
use std::str::Chars;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Token {
    Word(String),
    /// `::`
    Colons,
    /// Any other character that is not white space.
    Sign(char),
    /// A string, character or number: nothing in it is code.
    Literal,
    /// `doc`: `///` or `//!`.
    Comment {
        text: String,
        doc: bool,
    },
}

#[derive(Debug, Clone)]
pub struct Placed {
    pub token: Token,
    pub line: usize,
}

/// The tokens of a file in their order.
pub fn tokens(text: &str) -> Vec<Placed> {
    let mut lexer = Lexer { chars: text.chars().peekable(), line: 1, found: Vec::new() };
    while let Some(next) = lexer.chars.peek().copied() {
        let line = lexer.line;
        if let Some(token) = lexer.token(next) {
            lexer.found.push(Placed { token, line });
        }
    }
    lexer.found
}

struct Lexer<'a> {
    chars: Peekable<Chars<'a>>,
    line: usize,
    found: Vec<Placed>,
}

impl Lexer<'_> {
    fn bump(&mut self) -> Option<char> {
        let next = self.chars.next();
        self.line += usize::from(next == Some('\n'));
        next
    }

    fn eat(&mut self, wanted: char) -> bool {
        let is = self.chars.peek() == Some(&wanted);
        if is {
            self.bump();
        }
        is
    }

    fn token(&mut self, next: char) -> Option<Token> {
        if next.is_alphanumeric() || next == '_' {
            return Some(self.word());
        }
        self.bump();
        match next {
            _ if next.is_whitespace() => None,
            '/' if self.eat('/') => Some(self.line_comment()),
            '/' if self.eat('*') => Some(self.block_comment()),
            ':' if self.eat(':') => Some(Token::Colons),
            '"' => Some(self.string()),
            '\'' => self.quote(),
            _ => Some(Token::Sign(next)),
        }
    }

    /// A word, a number, or what a prefix (`r`, `b`, `c` and both) makes of a string.
    fn word(&mut self) -> Token {
        let mut word = String::new();
        while let Some(next) = self.chars.peek()
            && (next.is_alphanumeric() || *next == '_')
        {
            word.push(*next);
            self.bump();
        }
        let raw = matches!(word.as_str(), "r" | "br" | "cr");
        match self.chars.peek() {
            Some('"' | '#') if raw => self.raw_string(),
            Some('"') if matches!(word.as_str(), "b" | "c") => {
                self.bump();
                self.string()
            }
            Some('\'') if word == "b" => {
                self.bump();
                self.quote().unwrap_or(Token::Literal)
            }
            _ if word.starts_with(|first: char| first.is_ascii_digit()) => Token::Literal,
            _ => Token::Word(word),
        }
    }

    fn line_comment(&mut self) -> Token {
        let mut text = String::new();
        while let Some(next) = self.chars.peek()
            && *next != '\n'
        {
            text.push(*next);
            self.bump();
        }
        let doc = text.starts_with('!') || (text.starts_with('/') && !text.starts_with("//"));
        Token::Comment { text: text.trim_start_matches(['/', '!']).to_owned(), doc }
    }

    fn block_comment(&mut self) -> Token {
        let (mut text, mut depth) = (String::new(), 1);
        while let Some(next) = self.bump() {
            match next {
                '*' if self.eat('/') => depth -= 1,
                '/' if self.eat('*') => depth += 1,
                _ => text.push(next),
            }
            if depth == 0 {
                break;
            }
        }
        Token::Comment { text, doc: false }
    }

    fn string(&mut self) -> Token {
        while let Some(next) = self.bump() {
            match next {
                '\\' => drop(self.bump()),
                '"' => break,
                _ => {}
            }
        }
        Token::Literal
    }

    /// From the signs after the `r` on; `r#word` is a word.
    fn raw_string(&mut self) -> Token {
        let mut hashes = 0;
        while self.eat('#') {
            hashes += 1;
        }
        if !self.eat('"') {
            return self.word();
        }
        while let Some(next) = self.bump() {
            if next == '"' && (0..hashes).all(|_| self.eat('#')) {
                break;
            }
        }
        Token::Literal
    }

    /// A character, or a lifetime, which is nothing here.
    fn quote(&mut self) -> Option<Token> {
        let first = self.bump();
        if first == Some('\\') {
            self.bump();
            while self.bump().is_some_and(|next| next != '\'') {}
            return Some(Token::Literal);
        }
        if self.eat('\'') {
            return Some(Token::Literal);
        }
        while let Some(next) = self.chars.peek()
            && (next.is_alphanumeric() || *next == '_')
        {
            self.bump();
        }
        None
    }
}

/// The tokens without, and those of, the items under `#[cfg(test)]`.
pub fn without_tests(tokens: Vec<Placed>) -> (Vec<Placed>, Vec<Placed>) {
    let (mut code, mut tests) = (Vec::new(), Vec::new());
    let mut rest = tokens.into_iter().peekable();
    while let Some(placed) = rest.next() {
        code.push(placed);
        if !ends_with_cfg_test(&code) {
            continue;
        }
        // The item: up to its semicolon, or the brace that closes its body.
        let (mut braces, mut others) = (0_i32, 0_i32);
        for placed in rest.by_ref() {
            let sign = match placed.token {
                Token::Sign(sign) => sign,
                _ => ' ',
            };
            tests.push(placed);
            match sign {
                '{' => braces += 1,
                '}' => braces -= 1,
                '(' | '[' => others += 1,
                ')' | ']' => others -= 1,
                _ => {}
            }
            if braces == 0 && others == 0 && matches!(sign, ';' | '}') {
                break;
            }
        }
    }
    (code, tests)
}

fn ends_with_cfg_test(tokens: &[Placed]) -> bool {
    let code: Vec<&Token> = tokens
        .iter()
        .rev()
        .map(|placed| &placed.token)
        .filter(|token| !matches!(token, Token::Comment { .. }))
        .take(6)
        .collect();
    let is =
        |at: usize, wanted: &str| matches!(code.get(at), Some(Token::Word(word)) if word == wanted);
    code.first() == Some(&&Token::Sign(']')) && is(2, "test") && is(4, "cfg")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        tokens(text)
            .into_iter()
            .filter_map(|placed| match placed.token {
                Token::Word(word) => Some(word),
                _ => None,
            })
            .collect()
    }

    #[test]
    fn strings_characters_lifetimes_and_numbers_are_no_words() {
        let text =
            r##"let a = "crate::no"; r#"crate::"no"# b"no" 'n' '\'' b'\\' 'a: &'static yes 1u8"##;
        assert_eq!(words(text), ["let", "a", "yes"]);
    }

    #[test]
    fn comments_are_kept_apart() {
        let found = tokens("a // Rule 1\n/// Rule 2\n//! Rule 3\n//// no doc\n/* b /* c */ d */ e");
        let comments: Vec<_> = found
            .iter()
            .filter_map(|placed| match &placed.token {
                Token::Comment { text, doc } => Some((placed.line, text.trim(), *doc)),
                _ => None,
            })
            .collect();
        assert_eq!(comments[..3], [(1, "Rule 1", false), (2, "Rule 2", true), (3, "Rule 3", true)]);
        assert!(!comments[3].2);
        assert_eq!(words("/* b /* c */ d */ e"), ["e"]);
    }

    #[test]
    fn items_of_tests_are_cut_out() {
        let text = "a #[cfg(test)] mod tests { b { c } } d #[cfg(test)] #[allow(x)] fn e() -> [u8; 3] { f } g
            #[cfg(test)] pub(crate) mod h; i";
        let (code, tests) = without_tests(tokens(text));
        let words = |placed: Vec<Placed>| -> Vec<String> {
            placed
                .into_iter()
                .filter_map(|placed| match placed.token {
                    Token::Word(word) if word.len() == 1 => Some(word),
                    _ => None,
                })
                .collect()
        };
        assert_eq!(words(code), ["a", "d", "g", "i"]);
        assert_eq!(words(tests), ["b", "c", "x", "e", "f", "h"]);
    }
}
