//! The configuration file: its types, reading, checking, and its manual.
//!
//! Strict: an unknown key is an error that names the key, the line and the nearest known key. No
//! I/O: whoever has a file passes its text to [`parse`], and nobody gets a [`Config`] from a text
//! that was not checked.
//!
//! Keeps bounded-answer in so far as no time that a node waits can be configured without a bound.

mod accounts;
mod check;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod litefs_yml;
mod manual;
mod overlay;
mod parse;
mod types;
mod units;

pub use accounts::number_of;
pub use check::check_member;
pub use litefs_yml::{Besides, FromLitefs, from_litefs};
pub use manual::{example, manual, schema};
pub use overlay::{ChangeError, ConfigView, LIVE, Overlay, flat};
pub use parse::{ConfigError, Problem, parse, show, show_changed};
pub use types::{
    ApiSettings, Config, EngineKind, Immutable, JournalPolicy, LitefsSettings, LogFormat, LogLevel,
    LogSettings, Member, MeshSettings, MountSettings, NodeSettings, Passthrough, RaftSettings,
    TlsSettings, WriteSettings,
};
pub use units::{Mode, UnitError, parse_duration, parse_size, show_duration, show_size};

#[cfg(test)]
mod tests;
