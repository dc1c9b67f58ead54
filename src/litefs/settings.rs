//! LiteFS's configuration, made of ours; and the search for the program.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;

use super::timing::LITEFS_TTL;
use crate::core::config::{Config, LogLevel, show_duration};

/// What this room is told of the configuration.
#[derive(Debug, Clone)]
#[allow(clippy::struct_excessive_bools)] // as LiteFS's own configuration has them
pub struct Settings {
    pub binary: Option<PathBuf>,
    /// LiteFS's data folder.
    pub folder: PathBuf,
    /// Where what has diverged is kept.
    pub aside: PathBuf,
    /// For LiteFS's configuration file and what is remembered of it.
    pub own: PathBuf,
    pub mount: PathBuf,
    pub allow_other: bool,
    /// The node's, which `.primary` shows.
    pub name: String,
    pub port: u16,
    pub ttl: Duration,
    pub reconnect_delay: Duration,
    pub retention: Duration,
    pub retention_monitor_interval: Duration,
    pub compress: bool,
    pub strict_verify: bool,
    pub snapshot_timeout: Duration,
    pub trace: Option<PathBuf>,
    pub debug: bool,
    pub exec: Vec<String>,
}

impl Settings {
    /// `own`, `aside`: folders in the node's data folder.
    #[must_use]
    pub fn new(config: &Config, own: PathBuf, aside: PathBuf) -> Self {
        let litefs = config.litefs.clone();
        Self {
            binary: litefs.binary,
            folder: config.litefs_dir(),
            aside,
            own,
            mount: config.mount.path.clone(),
            allow_other: config.mount.allow_other,
            name: config.node.name.clone(),
            port: litefs.port,
            ttl: litefs.ttl,
            reconnect_delay: litefs.reconnect_delay,
            retention: litefs.retention,
            retention_monitor_interval: litefs.retention_monitor_interval,
            compress: litefs.compress,
            strict_verify: litefs.strict_verify,
            snapshot_timeout: litefs.snapshot_timeout,
            trace: litefs.trace,
            debug: matches!(config.log.level, LogLevel::Debug | LogLevel::Trace),
            exec: litefs.exec,
        }
    }

    /// The configuration file. JSON is YAML, so that nothing has to be quoted by hand.
    ///
    /// What LiteFS can do beside is left out on purpose: its proxy needs Fly.io's edge, its backup client
    /// can overwrite the primary, its command is started by the daemon.
    pub(super) fn render(&self, facade: &str) -> String {
        let duration = |time: Duration| show_duration(time);
        let mut config = json!({
            "strict-verify": self.strict_verify,
            "data": {
                "dir": self.folder,
                "compress": self.compress,
                "retention": duration(self.retention),
                "retention-monitor-interval": duration(self.retention_monitor_interval),
            },
            "fuse": {"dir": self.mount, "allow-other": self.allow_other},
            "http": {"addr": format!("127.0.0.1:{}", self.port)},
            "lease": {
                "type": "consul",
                "hostname": self.name,
                // Where others find it is told to them by their own daemons.
                "advertise-url": format!("http://127.0.0.1:{}", self.port),
                "candidate": true,
                "reconnect-delay": duration(self.reconnect_delay),
                "demote-delay": duration(self.reconnect_delay),
                "consul": {
                    "url": facade,
                    "key": KEY,
                    // The daemon's own, towards the others, is `self.ttl`.
                    "ttl": duration(LITEFS_TTL),
                    "lock-delay": "1ms",
                },
            },
            "log": {"format": "text", "debug": self.debug},
            "tracing": {"enabled": self.trace.is_some()},
        });
        if !self.snapshot_timeout.is_zero() {
            config["http"]["snapshot-timeout"] = duration(self.snapshot_timeout).into();
        }
        if let Some(trace) = &self.trace {
            config["tracing"]["path"] = json!(trace);
        }
        format!("{config:#}\n")
    }
}

/// The key of the lease. Each cluster has a facade of its own.
pub const KEY: &str = "litefs/primary";

/// Why there is no LiteFS to run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoProgram {
    #[error(
        "there is no LiteFS: set litefs.binary, or put `litefs` beside this program or on PATH; {0} is \
         not there"
    )]
    Missing(String),
    #[error("{program} cannot be run: {why}")]
    Broken { program: String, why: String },
    #[error("{program} is {found:?}, and this program knows LiteFS 0.5")]
    Version { program: String, found: String },
}

/// Finds the program: as the configuration says, beside this one, on PATH.
pub(super) fn find(set: Option<&Path>) -> Result<PathBuf, NoProgram> {
    if let Some(path) = set {
        let missing = || NoProgram::Missing(path.display().to_string());
        return path.is_file().then(|| path.to_owned()).ok_or_else(missing);
    }
    let beside = std::env::current_exe().ok().map(|me| me.with_file_name("litefs"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path).map(|folder| folder.join("litefs"));
    let mut places = beside.into_iter().chain(on_path);
    places.find(|place| place.is_file()).ok_or_else(|| NoProgram::Missing("litefs".into()))
}

/// Whether what `litefs version` says is a version that is known here. One that says no number was built by
/// hand, and is taken at its user's word.
pub(super) fn check_version(program: &Path, said: &str) -> Result<String, NoProgram> {
    let line = said.lines().next().unwrap_or_default().trim().to_owned();
    let wrong =
        || NoProgram::Version { program: program.display().to_string(), found: line.clone() };
    let rest = line.strip_prefix("LiteFS ").ok_or_else(wrong)?;
    if rest == "development build" || rest.starts_with("commit=") {
        return Ok(line);
    }
    let number = rest.split(',').next().unwrap_or_default().trim_start_matches('v');
    if number.starts_with("0.5.") { Ok(line) } else { Err(wrong()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::config::example;

    #[test]
    fn the_configuration_says_what_ours_says() {
        let mut config = example();
        config.mount.path = "/a b/\"$HOME\"".into();
        config.litefs.snapshot_timeout = Duration::from_secs(90);
        config.litefs.trace = Some("/var/log/t".into());
        let settings = Settings::new(&config, "/own".into(), "/aside".into());
        let text = settings.render("http://:token@127.0.0.1:1");
        let read: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(read["fuse"]["dir"], "/a b/\"$HOME\"");
        assert_eq!(read["data"]["dir"], "/var/lib/litefs-py/litefs");
        assert_eq!(read["data"]["retention"], "10m");
        assert_eq!(read["http"], json!({"addr": "127.0.0.1:20202", "snapshot-timeout": "90s"}));
        assert_eq!(read["lease"]["hostname"], "n1");
        assert_eq!(read["lease"]["consul"]["ttl"], "1s");
        assert_eq!(read["tracing"], json!({"enabled": true, "path": "/var/log/t"}));
        // no-open-door
        assert!(!text.contains("0.0.0.0") && read.get("proxy").is_none());
    }

    #[test]
    fn versions_are_known_or_refused() {
        let check = |said: &str| check_version(Path::new("/litefs"), said);
        assert!(check("LiteFS v0.5.14, commit=abc\n").is_ok());
        assert!(check("LiteFS 0.5.8, commit=abc").is_ok());
        assert!(check("LiteFS development build\n").is_ok());
        for other in ["LiteFS v0.4.0, commit=a", "LiteFS v0.6.1, commit=a", "something else", ""] {
            assert!(matches!(check(other), Err(NoProgram::Version { .. })), "{other}");
        }
    }
}
