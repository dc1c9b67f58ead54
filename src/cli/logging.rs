//! What a node says about itself: to the journal, or as lines on standard error.

use std::os::unix::fs::MetadataExt;
use std::sync::OnceLock;

use tracing_subscriber::Registry;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt;

use super::{Exit, Failure};
use crate::core::config::{LogFormat, LogLevel, LogSettings};

/// What is written, once messages are.
static HEARD: OnceLock<reload::Handle<Targets, Registry>> = OnceLock::new();

/// Begins to write messages.
pub(super) fn init(settings: &LogSettings) -> Result<(), Failure> {
    let (filter, handle) = reload::Layer::new(heard(settings.level));
    let registry = tracing_subscriber::registry().with(filter);
    let _ = HEARD.set(handle);
    let text = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(false);
    let journal = match settings.format {
        LogFormat::Auto if stderr_is_the_journal() => tracing_journald::layer().ok(),
        _ => None,
    };
    let begun = match (journal, settings.format) {
        (Some(journal), _) => registry.with(journal).try_init(),
        (None, LogFormat::Json) => registry.with(text.json()).try_init(),
        (None, _) => registry.with(text).try_init(),
    };
    begun.map_err(|error| Failure::new(Exit::Software, format!("cannot begin the log: {error}")))
}

/// Writes messages of this level and above from now on.
pub(super) fn set_level(level: LogLevel) {
    // It fails when nothing is written at all.
    let _ = HEARD.get().map(|heard_now| heard_now.reload(heard(level)));
}

/// What is written at a level. openraft tells each step of its own at `info`, and warns of each
/// proposal whose answer nobody waits for (here the verdict comes from the applied log, Rule 6), and
/// ten times a second of a node that is away. fuser tells each mount a second time, and calls it an error
/// that nobody waits for an answer any more because its process was killed. What of it matters to whoever
/// runs a node is said by the rooms themselves.
fn heard(level: LogLevel) -> Targets {
    let level = match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    let quiet = level <= LevelFilter::INFO;
    let others = if quiet { LevelFilter::ERROR.min(level) } else { level };
    let replies = if quiet { LevelFilter::OFF } else { level };
    Targets::new()
        .with_default(level)
        .with_target("openraft", others)
        .with_target("fuser", others)
        .with_target("fuser::reply", replies)
}

/// systemd.exec(5): `$JOURNAL_STREAM` holds the device and inode of the journal's end of standard
/// error; it is inherited by processes whose standard error is another, so they are compared.
fn stderr_is_the_journal() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else { return false };
    let Ok(file) = std::fs::metadata("/proc/self/fd/2") else { return false };
    stream == format!("{}:{}", file.dev(), file.ino())
}
