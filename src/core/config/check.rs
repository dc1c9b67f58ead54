//! What a configuration must fulfil beyond its types.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use super::parse::{ConfigError, Problem};
use super::{Config, EngineKind};

/// What fits into one message of the mesh with room to spare.
const STAGED_ABOVE_MAX: u64 = 8 << 20;

/// Fewer bytes of log than this would be purged all the time.
const LOG_PURGE_MIN: u64 = 1 << 20;

/// The write lock's request holds up other threads: not longer than this.
const LOCK_WAIT_MAX: Duration = Duration::from_secs(1);

/// Waiting for longer than this is hanging (bounded-answer).
const COMMIT_TIMEOUT_MAX: Duration = Duration::from_mins(5);

/// A lease that lives shorter is lost by any pause; LiteFS's own steps are of a second.
pub(super) const LITEFS_TTL_MIN: Duration = Duration::from_secs(1);

/// So long nobody can write after a primary is lost.
pub(super) const LITEFS_TTL_MAX: Duration = Duration::from_mins(1);

impl Config {
    /// Checks that the settings fit together.
    ///
    /// # Errors
    /// Every problem found, one line each, with the key's name.
    pub fn check(&self) -> Result<(), ConfigError> {
        let mut problems = Problems(Vec::new());
        check_names(self, &mut problems);
        check_members(self, &mut problems);
        check_paths(self, &mut problems);
        check_times(self, &mut problems);
        check_litefs(self, &mut problems);
        problems.unless(
            self.mesh.listen.port() != 0 && self.api.listen.port() != 0,
            "mesh.listen and api.listen need a port other than 0",
        );
        problems.unless(
            self.mesh.listen.port() != self.api.listen.port()
                || (self.mesh.listen.ip() != self.api.listen.ip()
                    && !self.mesh.listen.ip().is_unspecified()
                    && !self.api.listen.ip().is_unspecified()),
            "mesh.listen and api.listen are on the same port",
        );
        let problems = problems.0;
        if problems.is_empty() { Ok(()) } else { Err(ConfigError(problems)) }
    }
}

struct Problems(Vec<Problem>);

impl Problems {
    fn unless(&mut self, fulfilled: bool, message: impl Into<String>) {
        if !fulfilled {
            self.0.push(Problem { at: None, message: message.into() });
        }
    }
}

/// Names are labels of a DNS name in the certificates (RFC 1123, 2.1).
fn is_label(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 63
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !name.starts_with('-')
        && !name.ends_with('-')
}

fn check_names(config: &Config, problems: &mut Problems) {
    const RULE: &str = "use lower-case letters, digits and hyphens, at most 63";
    problems.unless(
        is_label(&config.cluster),
        format!("cluster: {:?} is no name: {RULE}", config.cluster),
    );
    problems.unless(
        is_label(&config.node.name),
        format!("node.name: {:?} is no name: {RULE}", config.node.name),
    );
    for member in &config.members {
        problems.unless(
            is_label(&member.name),
            format!("members: {:?} is no name: {RULE}", member.name),
        );
    }
}

fn check_members(config: &Config, problems: &mut Problems) {
    let me = &config.node;
    problems.unless(
        config.members.iter().any(|member| member.id == me.id && member.name == me.name),
        format!("members: no member has this node's id {} and name {:?}; add it", me.id, me.name),
    );
    let (mut ids, mut names, mut addresses) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for member in &config.members {
        problems.unless(member.id > 0, "members: an id is 0; they begin at 1");
        problems
            .unless(ids.insert(member.id), format!("members: the id {} is there twice", member.id));
        problems.unless(
            names.insert(&member.name),
            format!("members: the name {:?} is there twice", member.name),
        );
        problems.unless(
            addresses.insert(&member.address),
            format!("members: the address {:?} is there twice", member.address),
        );
        problems.unless(
            is_address(&member.address),
            format!("members: {:?} is no address: write host:port or [IPv6]:port", member.address),
        );
    }
}

/// Whether a node may go by this name, at this address.
///
/// # Errors
/// Why not.
pub fn check_member(name: &str, address: &str) -> Result<(), String> {
    if !is_label(name) {
        return Err(format!(
            "{name:?} is no name: use lower-case letters, digits and hyphens, at most 63"
        ));
    }
    if !is_address(address) {
        return Err(format!("{address:?} is no address: write host:port or [IPv6]:port"));
    }
    Ok(())
}

fn is_address(address: &str) -> bool {
    let Some((host, port)) = address.rsplit_once(':') else { return false };
    let host_fits = match host.strip_prefix('[') {
        Some(rest) => {
            rest.strip_suffix(']').is_some_and(|ip| ip.parse::<std::net::Ipv6Addr>().is_ok())
        }
        None => {
            !host.is_empty()
                && host.len() <= 253
                && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b))
        }
    };
    host_fits
        && port.bytes().all(|b| b.is_ascii_digit())
        && port.parse::<u16>().is_ok_and(|p| p > 0)
}

fn check_paths(config: &Config, problems: &mut Problems) {
    let tls = &config.mesh.tls;
    let mut paths: Vec<(&str, &Path)> = vec![
        ("data_dir", &config.data_dir),
        ("mesh.tls.ca", &tls.ca),
        ("mesh.tls.cert", &tls.cert),
        ("mesh.tls.key", &tls.key),
        ("api.socket", &config.api.socket),
    ];
    if let Some(token) = &config.api.token_file {
        paths.push(("api.token_file", token));
    }
    if let Some(key) = &tls.ca_key {
        paths.push(("mesh.tls.ca_key", key));
    }
    let mount = config.mount.path.as_path();
    problems
        .unless(mount.is_absolute(), format!("mount.path: {} is not absolute", mount.display()));
    problems.unless(mount.parent().is_some(), "mount.path: the root folder cannot be the mount");
    problems.unless(
        !mount.starts_with(&config.data_dir),
        "mount.path: the mount cannot be inside data_dir",
    );
    for (key, path) in paths {
        let shown = path.display();
        problems.unless(path.is_absolute(), format!("{key}: {shown} is not absolute"));
        problems.unless(!path.starts_with(mount), format!("{key}: {shown} is inside the mount"));
        problems.unless(
            !path.components().any(|part| part == std::path::Component::ParentDir),
            format!("{key}: {shown} has a \"..\" in it; write it out"),
        );
    }
}

/// Only where it is the engine: a configuration goes from one engine to the other by one line.
fn check_litefs(config: &Config, problems: &mut Problems) {
    if config.engine != EngineKind::Litefs {
        return;
    }
    let litefs = &config.litefs;
    problems.unless(
        (LITEFS_TTL_MIN..=LITEFS_TTL_MAX).contains(&litefs.ttl),
        "litefs.ttl must be from 1s to 1m",
    );
    problems.unless(
        !litefs.reconnect_delay.is_zero() && litefs.reconnect_delay <= litefs.ttl,
        "litefs.reconnect_delay must be more than 0 and at most litefs.ttl",
    );
    problems.unless(
        !litefs.retention.is_zero() && !litefs.retention_monitor_interval.is_zero(),
        "litefs.retention and litefs.retention_monitor_interval must be more than 0",
    );
    problems.unless(
        litefs.port != 0
            && litefs.port != config.mesh.listen.port()
            && litefs.port != config.api.listen.port(),
        "litefs.port must be a port other than 0 and those of mesh.listen and api.listen",
    );
    problems.unless(
        litefs.exec.first().is_none_or(|program| !program.is_empty()),
        "litefs.exec: its first word is the program",
    );
    let folder = config.litefs_dir();
    let parts = [("litefs.data_dir", Some(&folder)), ("litefs.binary", litefs.binary.as_ref())];
    for (key, path) in parts {
        let Some(path) = path else { continue };
        let shown = path.display();
        problems.unless(path.is_absolute(), format!("{key}: {shown} is not absolute"));
        problems.unless(
            !path.starts_with(&config.mount.path),
            format!("{key}: {shown} is inside the mount"),
        );
    }
}

fn check_times(config: &Config, problems: &mut Problems) {
    let (raft, write) = (&config.raft, &config.write);
    problems
        .unless(raft.heartbeat >= Duration::from_millis(1), "raft.heartbeat must be at least 1ms");
    problems.unless(
        raft.election_timeout_min >= raft.heartbeat.saturating_mul(2),
        "raft.election_timeout_min must be at least twice raft.heartbeat, or nodes campaign against a living leader",
    );
    problems.unless(
        raft.election_timeout_max > raft.election_timeout_min,
        "raft.election_timeout_max must be more than raft.election_timeout_min, or all nodes campaign at once",
    );
    problems.unless(
        raft.election_timeout_max <= Duration::from_mins(1),
        "raft.election_timeout_max must be at most 60s",
    );
    problems.unless(
        raft.log_purge_bytes >= LOG_PURGE_MIN && raft.log_purge_bytes >= raft.staged_above,
        "raft.log_purge_bytes must be at least 1MiB and at least raft.staged_above",
    );
    problems
        .unless(raft.staged_above <= STAGED_ABOVE_MAX, "raft.staged_above must be at most 8MiB");
    problems.unless(write.lock_wait <= LOCK_WAIT_MAX, "write.lock_wait must be at most 1s");
    problems.unless(
        write.commit_timeout >= raft.election_timeout_max.saturating_mul(2),
        "write.commit_timeout must be at least twice raft.election_timeout_max, or no commit outlives a failover",
    );
    problems.unless(
        write.commit_timeout <= COMMIT_TIMEOUT_MAX,
        "write.commit_timeout must be at most 5m",
    );
    problems.unless(
        write.unlink_timeout > Duration::ZERO && write.unlink_timeout <= write.commit_timeout,
        "write.unlink_timeout must be more than 0 and at most write.commit_timeout",
    );
}
