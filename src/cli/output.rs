//! What is printed: short tables, JSON, units that people read.

use std::io::{ErrorKind, Write};

use serde::Serialize;

use super::{Exit, Failure};

/// Writes to standard output. A reader that has gone (`| head`) is no failure.
pub(super) fn print(text: &str) -> Result<(), Failure> {
    write_out(text).map(drop)
}

/// As [`print`]; whether there is still a reader.
pub(super) fn write_out(text: &str) -> Result<bool, Failure> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(error) => {
            Err(Failure::new(Exit::Io, format!("cannot write to standard output: {error}")))
        }
    }
}

/// Writes a line to standard error.
pub(super) fn tell(line: &str) {
    // Where nobody reads it, nobody is told.
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// As JSON, for programs.
pub(super) fn json(value: &impl Serialize) -> Result<String, Failure> {
    serde_json::to_string_pretty(value)
        .map(|text| text + "\n")
        .map_err(|error| Failure::new(Exit::Software, format!("cannot write JSON: {error}")))
}

/// As JSON, in one line.
pub(super) fn json_line(value: &impl Serialize) -> Result<String, Failure> {
    serde_json::to_string(value)
        .map(|text| text + "\n")
        .map_err(|error| Failure::new(Exit::Software, format!("cannot write JSON: {error}")))
}

/// Columns as wide as they must be, two spaces between. A title that begins with `>` is that of a
/// column of numbers, which go to the right.
pub(super) fn table<const N: usize>(head: [&str; N], rows: &[[String; N]]) -> String {
    let right = head.map(|title| title.starts_with('>'));
    let head = head.map(|title| title.trim_start_matches('>').to_owned());
    let lines: Vec<&[String; N]> = std::iter::once(&head).chain(rows).collect();
    let mut widths = [0; N];
    for line in &lines {
        for (width, cell) in widths.iter_mut().zip(*line) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for line in lines {
        let cells: Vec<String> = line
            .iter()
            .zip(widths)
            .zip(right)
            .map(
                |((cell, width), right)| {
                    if right { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
                },
            )
            .collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// A size with at most three digits before its unit.
pub(super) fn size(bytes: u64) -> String {
    let mut unit = "B";
    let mut shown = bytes;
    let mut rest = 0;
    for next in ["KiB", "MiB", "GiB", "TiB"] {
        if shown < 1024 {
            break;
        }
        rest = shown % 1024;
        shown /= 1024;
        unit = next;
    }
    match unit {
        "B" => format!("{shown} B"),
        _ => format!("{shown}.{} {unit}", rest * 10 / 1024),
    }
}

/// A time in its two largest units.
pub(super) fn time(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m {}s", seconds / 60, seconds % 60),
        3600..86400 => format!("{}h {}m", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{}d {}h", seconds / 86400, seconds % 86400 / 3600),
    }
}

/// A moment, from milliseconds since 1970: `2026-11-28 22:43:37.123Z`.
pub(super) fn utc(ms: i64) -> String {
    const DAY: i64 = 86_400_000;
    let (days, rest) = (ms.div_euclid(DAY), ms.rem_euclid(DAY));
    // Years that begin in March, so that the day of a leap year comes last; 400 of them at a time
    // (Gregorian calendar: 146,097 days).
    let since = days + 719_468;
    let (era, day) = (since.div_euclid(146_097), since.rem_euclid(146_097));
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = era * 400 + year + i64::from(month <= 2);
    let (seconds, ms) = (rest / 1000, rest % 1000);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}.{ms:03}Z")
}

/// A value, or a dash.
pub(super) fn or_dash(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}
