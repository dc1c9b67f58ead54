//! Durations, sizes and file modes as the configuration writes them: `50ms`, `64MiB`, `0660`.
//!
//! A number without a unit is refused for a duration: nobody should have to guess.

use std::fmt::Write as _;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

const DURATION_UNITS: [(&str, u64); 5] =
    [("h", 3_600_000_000), ("m", 60_000_000), ("s", 1_000_000), ("ms", 1_000), ("us", 1)];

const SIZE_UNITS: [(&str, u64); 5] =
    [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

/// Why a text is no duration, size or mode.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnitError {
    #[error("{0:?} is no duration: write a whole number and one of us, ms, s, m, h, such as 50ms")]
    Duration(String),
    #[error(
        "{0:?} is no size: write a whole number and one of B, KiB, MiB, GiB, TiB, such as 64MiB"
    )]
    Size(String),
    #[error("{0:?} is no file mode: write three or four octal digits, such as 0660")]
    Mode(String),
    #[error("{0:?} is too large")]
    TooLarge(String),
}

/// A whole number and a unit, apart.
fn split(text: &str) -> Option<(u64, &str)> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(digits)?;
    Some((number.parse().ok()?, unit.trim_start()))
}

/// Reads a duration such as `50ms`.
///
/// # Errors
/// When the text is not a whole number with a unit.
pub fn parse_duration(text: &str) -> Result<Duration, UnitError> {
    let wrong = || UnitError::Duration(text.to_owned());
    let (number, unit) = split(text).ok_or_else(wrong)?;
    let (_, micros) = DURATION_UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?;
    let micros = number.checked_mul(*micros).ok_or_else(|| UnitError::TooLarge(text.to_owned()))?;
    Ok(Duration::from_micros(micros))
}

/// Writes a duration in the largest unit that divides it; parts below a microsecond are dropped.
#[must_use]
pub fn show_duration(duration: Duration) -> String {
    let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
    if micros == 0 {
        return "0s".to_owned();
    }
    show(micros, &DURATION_UNITS)
}

/// Reads a size such as `64MiB`; a number alone is bytes.
///
/// # Errors
/// When the text is not a whole number with a unit of 1024.
pub fn parse_size(text: &str) -> Result<u64, UnitError> {
    let wrong = || UnitError::Size(text.to_owned());
    let (number, unit) = split(text).ok_or_else(wrong)?;
    let unit = if unit.is_empty() { "B" } else { unit };
    let (_, bytes) = SIZE_UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?;
    number.checked_mul(*bytes).ok_or_else(|| UnitError::TooLarge(text.to_owned()))
}

/// Writes a size in the largest unit that divides it.
#[must_use]
pub fn show_size(bytes: u64) -> String {
    if bytes == 0 { "0B".to_owned() } else { show(bytes, &SIZE_UNITS) }
}

fn show(number: u64, units: &[(&str, u64)]) -> String {
    let mut text = String::new();
    if let Some((name, factor)) = units.iter().find(|(_, factor)| number.is_multiple_of(*factor)) {
        let _ = write!(text, "{}{name}", number / factor);
    }
    text
}

/// The permission bits of a file, written in octal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Mode(pub u16);

impl TryFrom<String> for Mode {
    type Error = UnitError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let wrong = || UnitError::Mode(text.clone());
        let digits = text.strip_prefix("0o").unwrap_or(&text);
        if !(3..=4).contains(&digits.len()) || !digits.bytes().all(|b| (b'0'..=b'7').contains(&b)) {
            return Err(wrong());
        }
        match u16::from_str_radix(digits, 8) {
            Ok(mode) if mode <= 0o777 => Ok(Self(mode)),
            _ => Err(wrong()),
        }
    }
}

impl From<Mode> for String {
    fn from(mode: Mode) -> Self {
        format!("{:04o}", mode.0)
    }
}

impl JsonSchema for Mode {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Mode".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({"type": "string", "format": "file mode", "pattern": "^(0o)?0?[0-7]{3}$"})
    }
}

/// For `#[serde(with)]`: a [`Duration`] as text.
pub(super) mod duration {
    use super::{Duration, parse_duration, show_duration};
    use serde::{Deserialize, Deserializer, Serializer, de};

    pub fn serialize<S: Serializer>(value: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&show_duration(*value))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        parse_duration(&String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

/// For `#[serde(with)]`: a number of bytes as text.
pub(super) mod size {
    use super::{parse_size, show_size};
    use serde::{Deserialize, Deserializer, Serializer, de};

    // The signature is serde's.
    #[allow(clippy::trivially_copy_pass_by_ref)]
    pub fn serialize<S: Serializer>(value: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&show_size(*value))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        parse_size(&String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

/// What the schema says of a duration.
pub(super) struct DurationText;

impl JsonSchema for DurationText {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Duration".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({"type": "string", "format": "duration", "pattern": "^[0-9]+ ?(us|ms|s|m|h)$"})
    }
}

/// What the schema says of a size.
pub(super) struct SizeText;

impl JsonSchema for SizeText {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Size".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({"type": "string", "format": "size", "pattern": "^[0-9]+ ?([KMGT]i)?B?$"})
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations() {
        assert_eq!(parse_duration("50ms"), Ok(Duration::from_millis(50)));
        assert_eq!(parse_duration("15 s"), Ok(Duration::from_secs(15)));
        assert_eq!(parse_duration("2m"), Ok(Duration::from_mins(2)));
        assert_eq!(show_duration(Duration::from_millis(1500)), "1500ms");
        assert_eq!(show_duration(Duration::ZERO), "0s");
        for bad in ["", "50", "ms", "1.5s", "-1s", "5 sec", "5S", "１s", "1s 2ms"] {
            assert_eq!(parse_duration(bad), Err(UnitError::Duration(bad.to_owned())), "{bad}");
        }
        let large = format!("{}h", u64::MAX);
        assert_eq!(parse_duration(&large), Err(UnitError::TooLarge(large)));
    }

    #[test]
    fn sizes() {
        assert_eq!(parse_size("64MiB"), Ok(64 << 20));
        assert_eq!(parse_size("4096"), Ok(4096));
        assert_eq!(show_size(1 << 20), "1MiB");
        assert_eq!(show_size(1500), "1500B");
        for bad in ["", "MiB", "64MB", "64M", "1.5GiB", "-1B", "64mib"] {
            assert_eq!(parse_size(bad), Err(UnitError::Size(bad.to_owned())), "{bad}");
        }
        assert!(matches!(parse_size("99999999999TiB"), Err(UnitError::TooLarge(_))));
    }

    #[test]
    fn modes() {
        assert_eq!(Mode::try_from("0660".to_owned()), Ok(Mode(0o660)));
        assert_eq!(Mode::try_from("640".to_owned()), Ok(Mode(0o640)));
        assert_eq!(String::from(Mode(0o60)), "0060");
        for bad in ["", "66", "0680", "1777", "06600", "rw-"] {
            assert!(Mode::try_from(bad.to_owned()).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_is_read_back(micros in any::<u64>(), bytes in any::<u64>()) {
            let duration = Duration::from_micros(micros);
            prop_assert_eq!(parse_duration(&show_duration(duration)), Ok(duration));
            prop_assert_eq!(parse_size(&show_size(bytes)), Ok(bytes));
        }

        #[test]
        fn nothing_panics(text in ".{0,20}") {
            let _ = parse_duration(&text);
            let _ = parse_size(&text);
            let _ = Mode::try_from(text);
        }
    }
}
