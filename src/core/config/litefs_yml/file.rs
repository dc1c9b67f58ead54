//! `litefs.yml`, as LiteFS 0.5 has it (`cmd/litefs/config.go`). Strict, as there.

use serde::Deserialize;

/// A duration in Go's spelling, or nanoseconds.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub enum GoDuration {
    Nanoseconds(u64),
    Text(String),
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct File {
    pub exit_on_error: Option<bool>,
    pub skip_sync: Option<bool>,
    pub strict_verify: Option<bool>,
    pub exec: Option<Exec>,
    pub data: Option<Data>,
    pub fuse: Option<Fuse>,
    pub http: Option<Http>,
    pub proxy: Option<Proxy>,
    pub lease: Option<Lease>,
    pub backup: Option<Backup>,
    pub log: Option<Log>,
    pub tracing: Option<Tracing>,
}

/// One command, or several that run one after the other.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub enum Exec {
    One(String),
    Many(Vec<Command>),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Command {
    pub cmd: String,
    #[serde(default)]
    pub if_candidate: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Data {
    pub dir: Option<String>,
    pub compress: Option<bool>,
    pub retention: Option<GoDuration>,
    pub retention_monitor_interval: Option<GoDuration>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Fuse {
    pub dir: Option<String>,
    pub allow_other: Option<bool>,
    pub debug: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Http {
    pub addr: Option<String>,
    pub snapshot_timeout: Option<GoDuration>,
}

/// None of it has a counterpart: only whether it is used is told.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Proxy {
    pub addr: Option<String>,
    pub target: Option<serde_json::Value>,
    pub db: Option<serde_json::Value>,
    pub max_lag: Option<serde_json::Value>,
    pub debug: Option<serde_json::Value>,
    pub passthrough: Option<serde_json::Value>,
    pub always_forward: Option<serde_json::Value>,
    pub primary_redirect_timeout: Option<serde_json::Value>,
    pub read_timeout: Option<serde_json::Value>,
    pub read_header_timeout: Option<serde_json::Value>,
    pub write_timeout: Option<serde_json::Value>,
    pub idle_timeout: Option<serde_json::Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Lease {
    #[serde(rename = "type")]
    pub kind: Option<String>,
    pub hostname: Option<String>,
    #[serde(rename = "advertise-url")]
    pub advertise_url: Option<String>,
    pub candidate: Option<bool>,
    pub promote: Option<bool>,
    pub reconnect_delay: Option<GoDuration>,
    pub demote_delay: Option<GoDuration>,
    pub databases: Option<Vec<String>>,
    pub consul: Option<Consul>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Consul {
    pub url: Option<String>,
    pub key: Option<String>,
    pub ttl: Option<GoDuration>,
    pub lock_delay: Option<GoDuration>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Backup {
    #[serde(rename = "type")]
    pub kind: Option<String>,
    pub path: Option<serde_json::Value>,
    pub url: Option<serde_json::Value>,
    pub cluster: Option<serde_json::Value>,
    pub auth_token: Option<serde_json::Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Log {
    pub format: Option<String>,
    pub timestamp: Option<bool>,
    pub debug: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Tracing {
    pub enabled: Option<bool>,
    pub path: Option<String>,
    pub max_size: Option<serde_json::Value>,
    pub max_count: Option<serde_json::Value>,
    pub compress: Option<serde_json::Value>,
}
