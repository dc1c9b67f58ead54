//! From text to a checked [`Config`], and back.

use std::fmt;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Config;

/// The largest configuration that is looked at, in bytes.
const MAX_LEN: usize = 1 << 20;

/// What is wrong with a configuration; never empty, one clear line each.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
pub struct ConfigError(pub Vec<Problem>);

/// One thing that is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Line and column, from 1, where the text itself is wrong.
    pub at: Option<(u64, u64)>,
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.at {
            Some((line, column)) => write!(f, "line {line}, column {column}: {}", self.message),
            None => f.write_str(&self.message),
        }
    }
}

/// Reads a configuration and checks it.
///
/// # Errors
/// A text that is no YAML, an unknown key (with the nearest known one), a wrong type, or what
/// [`Config::check`] finds.
pub fn parse(text: &str) -> Result<Config, ConfigError> {
    let config = read(text)?;
    config.check()?;
    Ok(config)
}

/// Reads a configuration; whether its settings fit together is not looked at.
pub(super) fn read(text: &str) -> Result<Config, ConfigError> {
    explained(text)
}

/// Reads any YAML, with errors that people can do something with.
pub(super) fn explained<T: DeserializeOwned>(text: &str) -> Result<T, ConfigError> {
    let one = |at, message| ConfigError(vec![Problem { at, message }]);
    if text.len() > MAX_LEN {
        return Err(one(None, format!("the configuration is longer than {MAX_LEN} bytes")));
    }
    let options = serde_saphyr::options! { with_snippet: false };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        let at = error.location().filter(|at| at.line() > 0);
        one(at.map(|at| (at.line(), at.column())), explain(&error))
    })
}

/// Writes a configuration with every key, as [`parse`] reads it.
///
/// # Errors
/// When a path is not UTF-8.
pub fn show(config: &impl Serialize) -> Result<String, serde_saphyr::ser::Error> {
    serde_saphyr::to_string(config)
}

/// Writes what differs from the defaults alone, and what must be there: what a person would write.
///
/// # Errors
/// When a path is not UTF-8.
pub fn show_changed(config: &Config) -> Result<String, String> {
    let value = |config: &Config| serde_json::to_value(config).map_err(|error| error.to_string());
    let plain = Config::new("", 0, Vec::new());
    let mut changed = value(config)?;
    without(&mut changed, &value(&plain)?);
    serde_saphyr::to_string(&changed).map_err(|error| error.to_string())
}

/// Takes away what is the same in both.
fn without(value: &mut serde_json::Value, same: &serde_json::Value) {
    let (Some(keys), Some(others)) = (value.as_object_mut(), same.as_object()) else { return };
    keys.retain(|key, value| {
        let other = others.get(key);
        if let Some(other) = other {
            without(value, other);
        }
        Some(&*value) != other && value.as_object().is_none_or(|left| !left.is_empty())
    });
}

/// The message without the place, which is told apart.
fn explain(error: &serde_saphyr::Error) -> String {
    use serde_saphyr::Error as E;
    match error {
        E::SerdeUnknownField { field, expected, .. } => {
            unknown("key", field, expected, "keys here")
        }
        E::SerdeUnknownVariant { variant, expected, .. } => {
            unknown("value", variant, expected, "values here")
        }
        E::SerdeMissingField { field, .. } => format!("the key {field:?} is missing"),
        E::DuplicateMappingKey { key: Some(key), .. } => {
            format!("the key {key:?} is there twice")
        }
        E::Message { msg, .. } => msg.clone(),
        E::SerdeInvalidType { unexpected, expected, .. }
        | E::SerdeInvalidValue { unexpected, expected, .. } => {
            format!("{unexpected} where {expected} is expected")
        }
        E::InvalidScalar { ty, .. } => format!("this is no {ty}"),
        E::Unexpected { expected, .. } => format!("expected {expected}"),
        E::Eof { .. } => "the configuration is empty, or ends too early".to_owned(),
        E::AliasError { error, .. } | E::WithSnippet { error, .. } => explain(error),
        other => other.to_string().lines().next().unwrap_or("this is no YAML").to_owned(),
    }
}

fn unknown(what: &str, name: &str, known: &[&str], label: &str) -> String {
    match nearest(name, known) {
        Some(near) => format!("unknown {what} {name:?}; did you mean {near:?}?"),
        None => format!("unknown {what} {name:?}; {label}: {}", known.join(", ")),
    }
}

/// The known name that differs least, when it does not differ in more than a third.
pub(super) fn nearest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    // A name far longer than any key is near to none, and not worth the square of its length.
    if name.len() > 64 {
        return None;
    }
    let (distance, near) = known.iter().map(|key| (distance(name, key), *key)).min()?;
    (distance <= 1 + name.chars().count().max(near.len()) / 3).then_some(near)
}

/// Levenshtein's edit distance, a swap of neighbours counting as one.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows: Vec<Vec<usize>> = vec![vec![0; b.len() + 1]; a.len() + 1];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            rows[i][j] = if i == 0 || j == 0 {
                i + j
            } else {
                let replaced = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
                let mut least = replaced.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
                if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                    least = least.min(rows[i - 2][j - 2] + 1);
                }
                least
            };
        }
    }
    rows[a.len()][b.len()]
}
