//! Any text as a configuration.

#![allow(clippy::missing_panics_doc)] // a panic is what is looked for

use super::{example, parse, parse_duration, parse_size, show, show_duration, show_size};

pub fn text(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(config) = parse(text)
        && let Ok(shown) = show(&config)
    {
        assert_eq!(parse(&shown), Ok(config), "{shown}");
    }
    if let Ok(duration) = parse_duration(text) {
        assert_eq!(parse_duration(&show_duration(duration)), Ok(duration));
    }
    if let Ok(size) = parse_size(text) {
        assert_eq!(parse_size(&show_size(size)), Ok(size));
    }
}

pub fn texts() -> Vec<Vec<u8>> {
    let shown = show(&example()).unwrap_or_default().into_bytes();
    vec![shown, b"15s".to_vec(), b"256 MiB".to_vec()]
}
