//! A LiteFS's own `litefs.yml`, as a configuration of ours with `engine: litefs`.
//!
//! What has no counterpart is told, each with the reason; nothing is passed over in silence. What the file
//! does not say is as ours has it, not as LiteFS would.

mod file;
mod text;

use std::time::Duration;

use self::file::{Exec, File, GoDuration};
use super::check::{LITEFS_TTL_MAX, LITEFS_TTL_MIN};
use super::parse::{ConfigError, Problem, explained};
use super::{Config, EngineKind, LogFormat, LogLevel, Member};

/// The port of the mesh in the address that is made of `lease.advertise-url`.
const MESH_PORT: u16 = 4321;

/// What `litefs.yml` cannot say of a node of ours.
#[derive(Debug, Clone)]
pub struct Besides {
    pub cluster: String,
    pub id: u64,
    /// Of the machine, where the file names none.
    pub hostname: String,
    /// Whether the environment is put in: as LiteFS does, unless it has `-no-expand-env`.
    pub expand: bool,
}

/// What was made of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FromLitefs {
    pub config: Config,
    /// What has no counterpart, or needs a look: a setting, and why.
    pub notes: Vec<(String, String)>,
}

/// Makes it. `env`: the environment.
///
/// # Errors
/// It is none of LiteFS 0.5, or says what ours cannot be.
pub fn from_litefs(
    text: &str,
    besides: &Besides,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<FromLitefs, ConfigError> {
    let mut unset = Vec::new();
    let text = if besides.expand { text::expand(text, env, &mut unset) } else { text.to_owned() };
    let file: File = explained(&text)?;
    let mut making = Making { notes: Vec::new(), problems: Vec::new() };
    for name in unset {
        making.note(
            &format!("${name}"),
            "it is not in this environment, and empty: set it, and try again",
        );
    }
    let mut config = making.node(&file, besides);
    making.data(&file, &mut config);
    making.places(&file, &mut config);
    making.lease(&file, &mut config);
    making.exec(&file, &mut config);
    making.left_out(&file);
    making.sayings(&file, &mut config);
    if !making.problems.is_empty() {
        return Err(ConfigError(making.problems));
    }
    config.check()?;
    Ok(FromLitefs { config, notes: making.notes })
}

struct Making {
    notes: Vec<(String, String)>,
    problems: Vec<Problem>,
}

impl Making {
    fn note(&mut self, key: &str, why: &str) {
        self.notes.push((key.to_owned(), why.to_owned()));
    }

    fn note_if(&mut self, is: bool, key: &str, why: &str) {
        if is {
            self.note(key, why);
        }
    }

    fn wrong(&mut self, key: &str, why: &str) {
        self.problems.push(Problem { at: None, message: format!("{key}: {why}") });
    }

    fn duration(&mut self, key: &str, said: Option<&GoDuration>) -> Option<Duration> {
        let read = match said? {
            GoDuration::Nanoseconds(number) => Some(Duration::from_nanos(*number)),
            GoDuration::Text(text) => text::duration(text),
        };
        if read.is_none() {
            self.wrong(key, "it is no duration such as 10s");
        }
        read
    }

    /// Who the node is, and the list of members with it alone.
    fn node(&mut self, file: &File, besides: &Besides) -> Config {
        let lease = file.lease.as_ref();
        let said = lease.and_then(|lease| lease.hostname.clone()).filter(|name| !name.is_empty());
        let hostname = said.unwrap_or_else(|| besides.hostname.clone());
        let name = label(&hostname);
        self.note_if(
            name != hostname,
            "lease.hostname",
            &format!(
                "{hostname:?} is {name:?} here: names have lower-case letters, digits and hyphens"
            ),
        );
        let url = lease.and_then(|lease| lease.advertise_url.as_deref()).unwrap_or_default();
        let host = host_of(url);
        let address = format!("{}:{MESH_PORT}", host.clone().unwrap_or_else(|| name.clone()));
        self.note(
            "members",
            "only this node is in the list: add the others, the same list on every node, with the \
             certificates that litefs-py init and join make",
        );
        self.note_if(
            host.is_some(),
            "lease.advertise-url",
            &format!("LiteFS's HTTP stays on loopback; the nodes talk at {address} (mesh.listen)"),
        );
        let member = Member { id: besides.id, name, address };
        let mut config = Config::new(&besides.cluster, besides.id, vec![member]);
        config.engine = EngineKind::Litefs;
        config
    }

    fn data(&mut self, file: &File, config: &mut Config) {
        // Where it is when the file says nothing (LiteFS: `DefaultDataDir`).
        let data = file.data.as_ref();
        let dir = data.and_then(|data| data.dir.clone()).filter(|dir| !dir.is_empty());
        config.litefs.data_dir = Some(dir.unwrap_or_else(|| "/var/lib/litefs".to_owned()).into());
        config.litefs.strict_verify = file.strict_verify.unwrap_or_default();
        let Some(data) = data else { return };
        if let Some(compress) = data.compress {
            config.litefs.compress = compress;
        }
        let times = [
            ("data.retention", &data.retention, &mut config.litefs.retention),
            (
                "data.retention-monitor-interval",
                &data.retention_monitor_interval,
                &mut config.litefs.retention_monitor_interval,
            ),
        ];
        for (key, said, ours) in times {
            if let Some(time) = self.duration(key, said.as_ref()) {
                *ours = time;
            }
        }
    }

    /// The mount, and LiteFS's port.
    fn places(&mut self, file: &File, config: &mut Config) {
        let fuse = file.fuse.as_ref();
        let dir = fuse.and_then(|fuse| fuse.dir.clone()).filter(|dir| !dir.is_empty());
        config.mount.path = dir.unwrap_or_else(|| "/litefs".to_owned()).into();
        config.mount.allow_other = fuse.and_then(|fuse| fuse.allow_other).unwrap_or_default();
        let debug = fuse.and_then(|fuse| fuse.debug).unwrap_or_default();
        self.note_if(debug, "fuse.debug", "LiteFS's log of every FUSE call cannot be had here");
        let Some(http) = &file.http else { return };
        if let Some(time) = self.duration("http.snapshot-timeout", http.snapshot_timeout.as_ref()) {
            config.litefs.snapshot_timeout = time;
        }
        let Some(address) = http.addr.as_deref().filter(|address| !address.is_empty()) else {
            return;
        };
        let (host, port) = address.rsplit_once(':').unwrap_or((address, ""));
        match port.parse() {
            Ok(port) => config.litefs.port = port,
            Err(_) => self.wrong("http.addr", &format!("{address:?} has no port")),
        }
        self.note_if(
            !matches!(host, "localhost" | "127.0.0.1" | "[::1]"),
            "http.addr",
            "LiteFS listens on 127.0.0.1 alone: it knows no authentication; what asked it from elsewhere \
             asks the node's own API (api.listen)",
        );
    }

    fn lease(&mut self, file: &File, config: &mut Config) {
        let Some(lease) = &file.lease else { return };
        match lease.kind.as_deref().unwrap_or_default() {
            "consul" => {
                self.note("lease.type", "no Consul is needed: the daemons elect the primary");
            }
            "static" => self.note(
                "lease.type",
                "the daemons elect the primary; there is no fixed one, and a lost one is replaced",
            ),
            other => self.wrong("lease.type", &format!("{other:?} is neither consul nor static")),
        }
        let is_static = lease.kind.as_deref() == Some("static");
        self.note_if(
            lease.candidate == Some(false) && !is_static,
            "lease.candidate",
            "every voter may become primary: once the node has joined, litefs-py member demote makes it \
             one that only replicates",
        );
        self.note_if(
            lease.promote == Some(true),
            "lease.promote",
            "no node takes over by itself: litefs-py switchover --to moves the primary, and loses nothing",
        );
        self.note_if(
            lease.databases.as_ref().is_some_and(|databases| !databases.is_empty()),
            "lease.databases",
            "a node has all databases of its cluster",
        );
        if let Some(time) = self.duration("lease.reconnect-delay", lease.reconnect_delay.as_ref()) {
            config.litefs.reconnect_delay = time;
        }
        self.note_if(
            lease.demote_delay.is_some(),
            "lease.demote-delay",
            "who becomes primary after a switchover is chosen, not waited for",
        );
        let Some(consul) = &lease.consul else { return };
        if let Some(ttl) = self.duration("lease.consul.ttl", consul.ttl.as_ref()) {
            config.litefs.ttl = ttl.clamp(LITEFS_TTL_MIN, LITEFS_TTL_MAX);
            self.note_if(
                ttl != config.litefs.ttl,
                "lease.consul.ttl",
                "litefs.ttl is from 1s to 1m; the nearest is taken",
            );
            self.note_if(
                ttl > Duration::from_secs(3),
                "lease.consul.ttl",
                "Consul wants 10s at least, this does not: with 3s a lost primary is replaced sooner",
            );
        }
        self.note_if(
            consul.lock_delay.is_some(),
            "lease.consul.lock-delay",
            "the lease goes on only when its holder must have given up; nothing has to be added",
        );
        self.note_if(
            consul.url.is_some() || consul.key.is_some(),
            "lease.consul",
            "its url and key are of no use: the key of another cluster on the same Consul is another \
             `cluster` here",
        );
    }

    /// One program, of which LiteFS's list is made by a shell.
    fn exec(&mut self, file: &File, config: &mut Config) {
        let commands: Vec<&str> = match &file.exec {
            None => return,
            Some(Exec::One(command)) => vec![command],
            Some(Exec::Many(commands)) => {
                self.note_if(
                    commands.iter().any(|command| command.if_candidate),
                    "exec.if-candidate",
                    "every node runs it: a command that is for the primary has to ask GET /primary first",
                );
                commands.iter().map(|command| command.cmd.as_str()).collect()
            }
        };
        config.litefs.exec = match commands[..] {
            [] => Vec::new(),
            [command] => match text::words(command) {
                Some(words) => words,
                None => by_shell(&[command]),
            },
            _ => {
                self.note(
                    "exec",
                    "several commands are one of /bin/sh, which ends where one fails",
                );
                by_shell(&commands)
            }
        };
    }

    /// What is left out on purpose.
    fn left_out(&mut self, file: &File) {
        self.note_if(
            file.skip_sync == Some(true),
            "skip-sync",
            "litefs.exec is started when the node is ready, never before",
        );
        self.note_if(
            file.exit_on_error == Some(false),
            "exit-on-error",
            "LiteFS is started again whenever it ends; a database that it cannot open is set aside, where \
             another node has it",
        );
        let proxied = file.proxy.as_ref().is_some_and(|proxy| proxy.addr.is_some());
        self.note_if(
            proxied || file.proxy.as_ref().is_some_and(|proxy| proxy.target.is_some()),
            "proxy",
            "LiteFS's proxy needs Fly.io's edge to repeat a write at the primary; GET /primary of each node \
             tells a load balancer where to send it",
        );
        self.note_if(
            file.backup.as_ref().is_some_and(|backup| backup.kind.is_some()),
            "backup",
            "LiteFS's backup client can make a primary overwrite itself; litefs-py export writes a backup",
        );
    }

    fn sayings(&mut self, file: &File, config: &mut Config) {
        if let Some(log) = &file.log {
            match log.format.as_deref() {
                Some("text") => config.log.format = LogFormat::Text,
                Some("json") => config.log.format = LogFormat::Json,
                None | Some("") => {}
                Some(other) => {
                    self.wrong("log.format", &format!("{other:?} is neither text nor json"));
                }
            }
            if log.debug == Some(true) {
                config.log.level = LogLevel::Debug;
            }
            self.note_if(
                log.timestamp.is_some(),
                "log.timestamp",
                "the daemon's lines have their time",
            );
        }
        let Some(tracing) = &file.tracing else { return };
        let path = tracing.path.clone().filter(|path| !path.is_empty());
        if tracing.enabled != Some(false) {
            config.litefs.trace = path.map(Into::into);
        }
        self.note_if(
            tracing.max_size.is_some() || tracing.max_count.is_some() || tracing.compress.is_some(),
            "tracing",
            "size, number and compression of the trace's files are LiteFS's defaults",
        );
    }
}

/// All of them one after the other; the last one is what the node lives by.
fn by_shell(commands: &[&str]) -> Vec<String> {
    let Some((last, first)) = commands.split_last() else { return Vec::new() };
    let mut script = first.join(" && ");
    if !script.is_empty() {
        script.push_str(" && ");
    }
    // More than one word of a shell cannot be replaced by `exec`.
    let simple = text::words(last).is_some();
    script.push_str(if simple { "exec " } else { "" });
    script.push_str(last);
    vec!["/bin/sh".to_owned(), "-c".to_owned(), script]
}

/// A name as ours are: the first part of a host's name, what is not allowed in it a hyphen.
fn label(hostname: &str) -> String {
    let first = hostname.split('.').next().unwrap_or_default().to_ascii_lowercase();
    let name: String = first
        .chars()
        .map(|c| if c.is_ascii_lowercase() || c.is_ascii_digit() { c } else { '-' })
        .take(63)
        .collect();
    let name = name.trim_matches('-');
    if name.is_empty() { "node".to_owned() } else { name.to_owned() }
}

/// `http://host:port` without its port.
fn host_of(url: &str) -> Option<String> {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next()?;
    let authority = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let host = if authority.starts_with('[') {
        authority.split_inclusive(']').next()?
    } else {
        authority.split(':').next()?
    };
    (!host.is_empty()).then(|| host.to_owned())
}

#[cfg(test)]
mod tests;
