use super::*;
use crate::core::config::{parse, show_changed};

fn besides() -> Besides {
    let (cluster, hostname) = ("app".to_owned(), "Host_1.example".to_owned());
    Besides { cluster, id: 1, hostname, expand: true }
}

fn read(text: &str) -> FromLitefs {
    let env = |name: &str| (name == "REGION").then(|| "fra".to_owned());
    from_litefs(text, &besides(), &env).unwrap()
}

fn refused(text: &str) -> String {
    from_litefs(text, &besides(), &|_| None).unwrap_err().to_string()
}

fn keys(made: &FromLitefs) -> Vec<&str> {
    made.notes.iter().map(|(key, _)| key.as_str()).collect()
}

const FULL: &str = r#"
fuse: {dir: /data, allow-other: true, debug: true}
data: {dir: /var/lib/l, compress: false, retention: 1h30m, retention-monitor-interval: 30s}
exec: "myapp -addr ':80 81'"
exit-on-error: false
skip-sync: true
strict-verify: true
http: {addr: ":20303", snapshot-timeout: 90s}
proxy: {addr: ":8080", target: "localhost:8081", db: my.db, passthrough: ["*.png"]}
lease:
  type: "consul"
  advertise-url: "http://${REGION}.example:20303"
  hostname: ${REGION}
  candidate: ${REGION == 'ams'}
  promote: true
  reconnect-delay: 250ms
  demote-delay: 5s
  consul: {url: "http://c:8500", key: k/primary, ttl: 10s, lock-delay: 1s}
backup: {type: file, path: /backup}
log: {format: json, debug: true}
tracing: {path: /var/log/trace.log, max-size: 1}
"#;

#[test]
fn everything_is_taken_over_or_told() {
    let made = read(FULL);
    let config = &made.config;
    assert_eq!(config.engine, EngineKind::Litefs);
    assert_eq!(config.mount.path.to_str(), Some("/data"));
    assert!(config.mount.allow_other);
    let litefs = &config.litefs;
    assert_eq!(litefs.data_dir.as_deref().and_then(|dir| dir.to_str()), Some("/var/lib/l"));
    assert_eq!((litefs.compress, litefs.strict_verify, litefs.port), (false, true, 20303));
    assert_eq!(litefs.retention, Duration::from_mins(90));
    assert_eq!(litefs.retention_monitor_interval, Duration::from_secs(30));
    assert_eq!(litefs.snapshot_timeout, Duration::from_secs(90));
    assert_eq!(litefs.reconnect_delay, Duration::from_millis(250));
    assert_eq!(litefs.ttl, Duration::from_secs(10));
    assert_eq!(litefs.exec, ["myapp", "-addr", ":80 81"]);
    assert_eq!(litefs.trace.as_deref().and_then(|path| path.to_str()), Some("/var/log/trace.log"));
    assert_eq!((config.log.format, config.log.level), (LogFormat::Json, LogLevel::Debug));
    assert_eq!(
        config.members,
        [Member { id: 1, name: "fra".to_owned(), address: "fra.example:4321".to_owned() }]
    );
    for key in [
        "fuse.debug",
        "exit-on-error",
        "skip-sync",
        "http.addr",
        "proxy",
        "lease.type",
        "lease.advertise-url",
        "lease.candidate",
        "lease.promote",
        "lease.demote-delay",
        "lease.consul",
        "lease.consul.ttl",
        "lease.consul.lock-delay",
        "backup",
        "tracing",
        "members",
    ] {
        assert!(keys(&made).contains(&key), "{key} is not told: {:?}", keys(&made));
    }
    // What is printed is a configuration, and the same one.
    assert_eq!(parse(&show_changed(config).unwrap()).unwrap(), *config);
}

#[test]
fn what_is_not_said_is_litefs_place_and_our_pace() {
    let made = read("");
    let config = made.config;
    assert_eq!(config.mount.path.to_str(), Some("/litefs"));
    assert!(!config.mount.allow_other, "LiteFS lets nobody else in unless it is told to");
    assert_eq!(config.litefs.data_dir.as_deref().and_then(|d| d.to_str()), Some("/var/lib/litefs"));
    assert_eq!(config.litefs.ttl, Duration::from_secs(3));
    assert_eq!(config.node.name, "host-1");
    assert!(config.litefs.exec.is_empty());
}

#[test]
fn commands_that_need_a_shell_get_one() {
    let exec = |text: &str| read(text).config.litefs.exec;
    assert_eq!(exec("exec: a && b"), ["/bin/sh", "-c", "a && b"]);
    let many = "exec:\n- {cmd: migrate, if-candidate: true}\n- cmd: serve -p 80";
    assert_eq!(exec(many), ["/bin/sh", "-c", "migrate && exec serve -p 80"]);
    let made = read(many);
    assert!(keys(&made).contains(&"exec.if-candidate"));
}

#[test]
fn what_is_none_of_litefs_is_refused() {
    let unknown = refused("fuse: {dirr: /x}");
    assert!(unknown.contains("did you mean \"dir\"?") && unknown.contains("line 1"), "{unknown}");
    for (text, word) in [
        ("data: {retention: 10}\nlease: {type: etcd}", "neither consul nor static"),
        ("data: {retention: soon}", "data.retention"),
        ("http: {addr: localhost}", "http.addr"),
        ("fuse: {dir: relative}", "mount.path"),
        ("log: {format: xml}", "log.format"),
        ("- a list", ""),
    ] {
        assert!(refused(text).contains(word), "{text}: {}", refused(text));
    }
}

#[test]
fn the_environment_is_told_where_it_lacks_something() {
    let made = read("lease: {type: static, hostname: a$NOWHERE}");
    assert_eq!(made.config.node.name, "a");
    assert!(keys(&made).contains(&"$NOWHERE"));
    let plain = Besides { expand: false, ..besides() };
    let made = from_litefs("lease: {type: static, hostname: $X}", &plain, &|_| None).unwrap();
    assert_eq!(made.config.node.name, "x");
}

#[test]
fn hosts_are_found_in_urls() {
    for (url, host) in [
        ("http://a.b:20202", Some("a.b")),
        ("http://[::1]:20202/x", Some("[::1]")),
        ("a", Some("a")),
        ("http://u:p@h:1", Some("h")),
        ("http://", None),
        ("", None),
    ] {
        assert_eq!(host_of(url).as_deref(), host, "{url}");
    }
}
