use std::time::Duration;

use proptest::prelude::*;

use super::*;

const SMALL: &str = "\
cluster: app
node: {id: 1, name: n1}
members:
  - {id: 1, name: n1, address: 'a.example:4321'}
  - {id: 2, name: n2, address: '[::1]:4321'}
";

fn error(text: &str) -> String {
    parse(text).unwrap_err().to_string()
}

/// What is wrong with the example after a change.
fn refused(change: impl FnOnce(&mut Config)) -> String {
    let mut config = example();
    change(&mut config);
    config.check().unwrap_err().to_string()
}

#[test]
fn a_small_file_has_the_defaults() {
    let config = parse(SMALL).unwrap();
    assert_eq!(config.members.len(), 2);
    assert!(!config.bootstrap);
    assert_eq!(config.mount.path, std::path::Path::new("/litefs"));
    assert_eq!(config.mount.mode, Mode(0o660));
    assert_eq!(config.raft.heartbeat, Duration::from_millis(50));
    assert_eq!(config.write.commit_timeout, Duration::from_secs(15));
    assert_eq!(config.api.listen.to_string(), "127.0.0.1:8008");
}

#[test]
fn values_are_typed() {
    let text = format!(
        "{SMALL}mount: {{mode: 0640, passthrough: off}}\nraft:\n  heartbeat: 20ms\n  log_purge_bytes: 1GiB\njournal: any\n"
    );
    let config = parse(&text).unwrap();
    assert_eq!(config.mount.mode, Mode(0o640));
    assert_eq!(config.mount.passthrough, Passthrough::Off);
    assert_eq!(config.raft.heartbeat, Duration::from_millis(20));
    assert_eq!(config.raft.log_purge_bytes, 1 << 30);
    assert_eq!(config.journal, JournalPolicy::Any);
}

#[test]
fn an_unknown_key_is_named_with_its_line_and_the_nearest() {
    let message = error(&format!("{SMALL}raft:\n  hartbeat: 20ms\n"));
    assert_eq!(message, "line 7, column 3: unknown key \"hartbeat\"; did you mean \"heartbeat\"?");
    let message = error(&format!("{SMALL}moutn: {{}}\n"));
    assert_eq!(message, "line 6, column 1: unknown key \"moutn\"; did you mean \"mount\"?");
    let message = error(&format!("{SMALL}log:\n  quite-different: 1\n"));
    assert_eq!(
        message,
        "line 7, column 3: unknown key \"quite-different\"; keys here: level, format"
    );
    let message = error(&format!("{SMALL}? {}\n: 1\n", "x".repeat(1000)));
    assert!(message.contains("keys here"), "{message}");
}

#[test]
fn wrong_values_are_named_with_their_line() {
    let cases = [
        ("bootstrap: maybe", "line 6, column 12"),
        ("members: 3", "line 6"),
        ("raft: {heartbeat: 50}", "line 6, column 19: \"50\" is no duration"),
        ("raft: {heartbeat: 5 lightyears}", "is no duration"),
        ("raft: {staged_above: 1MB}", "line 6, column 22: \"1MB\" is no size"),
        ("mount: {mode: 0999}", "is no file mode"),
        ("journal: wall", "unknown value \"wall\"; did you mean \"wal\"?"),
        ("engine: [embedded]", "line 6"),
        ("api: {listen: here}", "line 6, column 15"),
        ("node: {id: 1, name: n1}", "the key \"node\" is there twice"),
        ("a: [", "line "),
        ("---\ncluster: b", "line "),
    ];
    for (line, expected) in cases {
        let text = if line.starts_with("members") {
            "cluster: app\n\n\n\nnode: {id: 1, name: n1}\nmembers: 3\n".to_owned()
        } else {
            format!("{SMALL}{line}\n")
        };
        let message = error(&text);
        assert!(message.contains(expected), "{line}: {message}");
        assert_eq!(message.lines().count(), 1, "{message}");
    }
}

#[test]
fn what_is_missing_is_named() {
    assert!(error("cluster: app\nnode: {id: 1, name: n1}\n").contains("\"members\" is missing"));
    assert!(error("cluster: app\nnode: {id: 1}\nmembers: []\n").contains("\"name\" is missing"));
    assert!(!error("").is_empty());
    assert!(error(&"#".repeat(2 << 20)).contains("longer than"));
}

#[test]
fn settings_must_fit_together() {
    example().check().unwrap();
    let litefs = |change: fn(&mut LitefsSettings)| {
        refused(|c| {
            c.engine = EngineKind::Litefs;
            change(&mut c.litefs);
        })
    };
    assert!(litefs(|l| l.ttl = Duration::from_millis(900)).contains("litefs.ttl"));
    assert!(litefs(|l| l.ttl = Duration::from_secs(61)).contains("litefs.ttl"));
    assert!(litefs(|l| l.reconnect_delay = Duration::ZERO).contains("litefs.reconnect_delay"));
    assert!(litefs(|l| l.retention = Duration::ZERO).contains("litefs.retention"));
    assert!(litefs(|l| l.port = 8008).contains("litefs.port"));
    assert!(litefs(|l| l.exec = vec![String::new()]).contains("litefs.exec"));
    assert!(litefs(|l| l.data_dir = Some("/litefs/data".into())).contains("inside the mount"));
    assert!(litefs(|l| l.binary = Some("litefs".into())).contains("not absolute"));
    assert!(refused(|c| c.cluster = "My App".into()).contains("cluster: \"My App\""));
    assert!(refused(|c| c.cluster = "-a".into()).contains("cluster:"));
    assert!(refused(|c| c.node.name = "n9".into()).contains("no member has this node's id 1"));
    assert!(refused(|c| c.node.id = 2).contains("no member has this node's id 2"));
    assert!(refused(|c| c.members[1].id = 1).contains("the id 1 is there twice"));
    assert!(refused(|c| c.members[2].id = 0).contains("an id is 0"));
    assert!(refused(|c| c.members[1].name = "n3".into()).contains("\"n3\" is there twice"));
    for bad in ["nowhere", ":1", "a:0", "a:65536", "a:+1", "[::1:1", "a b:1", "::1:4321"] {
        assert!(refused(|c| c.members[1].address = bad.into()).contains("is no address"), "{bad}");
    }
    let shared = example().members[2].address.clone();
    assert!(refused(|c| c.members[1].address = shared).contains("is there twice"));
    assert!(refused(|c| c.data_dir = "data".into()).contains("data_dir: data is not absolute"));
    assert!(refused(|c| c.data_dir = "/litefs/data".into()).contains("inside the mount"));
    assert!(refused(|c| c.data_dir = "/a/../litefs".into()).contains("write it out"));
    assert!(refused(|c| c.mount.path = "/var/lib/litefs-py/m".into()).contains("inside data_dir"));
    assert!(refused(|c| c.mount.path = "/".into()).contains("root folder"));
    assert!(refused(|c| c.api.token_file = Some("/litefs/t".into())).contains("api.token_file"));
    assert!(refused(|c| c.api.listen = "0.0.0.0:4321".parse().unwrap()).contains("same port"));
    assert!(refused(|c| c.api.listen.set_port(0)).contains("port other than 0"));
    let ms = Duration::from_millis;
    assert!(refused(|c| c.raft.heartbeat = ms(80)).contains("twice raft.heartbeat"));
    assert!(refused(|c| c.raft.heartbeat = ms(0)).contains("at least 1ms"));
    assert!(refused(|c| c.raft.election_timeout_max = ms(150)).contains("all nodes campaign"));
    assert!(refused(|c| c.raft.staged_above = 9 << 20).contains("at most 8MiB"));
    assert!(refused(|c| c.raft.log_purge_bytes = 1000).contains("log_purge_bytes"));
    assert!(refused(|c| c.write.lock_wait = ms(1001)).contains("lock_wait"));
    assert!(refused(|c| c.write.commit_timeout = ms(500)).contains("outlives a failover"));
    assert!(refused(|c| c.write.commit_timeout = ms(300_001)).contains("at most 5m"));
    assert!(refused(|c| c.write.unlink_timeout = ms(15_001)).contains("unlink_timeout"));
    let two = refused(|c| {
        c.cluster = "A".into();
        c.raft.heartbeat = ms(80);
    });
    assert_eq!(two.lines().count(), 2, "every problem has its line: {two}");
}

#[test]
fn the_manual_is_fresh() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/configuration.md");
    let kept = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        kept == manual(),
        "docs/configuration.md is stale: litefs-py config docs > docs/configuration.md"
    );
}

#[test]
fn the_manual_explains_every_key() {
    let page = manual();
    let shown = show(&example()).unwrap();
    for line in shown.lines() {
        let Some((key, _)) = line.trim_start_matches([' ', '-']).split_once(':') else { continue };
        assert!(page.contains(&format!("| `{key}` | ")), "{key} is not in a table");
    }
    for row in page.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<_> = row.split(" | ").collect();
        assert!(cells.len() == 4 && cells[3].len() > 10, "no meaning in: {row}");
    }
}

prop_compose! {
    fn configs()(
        id in 1..4usize,
        cluster in "[a-z][a-z0-9]{0,20}",
        bootstrap: bool, allow_other: bool, expose_metrics: bool, any: bool, off: bool,
        heartbeat in 1..1_000_000u64, spread in 1..1_000_000u64,
        staged in 1..8_388_608u64, purge in 8_388_608..1u64 << 40, warn: u64,
        wait in 0..1_000_000u64, unlink in 1..5_000_000u64,
        mode in 0..0o1000u16,
        owner in "[ -~]{1,12}",
        path in "/[a-zA-Z0-9 :#'\"{}\\[\\]&*!|>%@é-]{1,20}x",
        token in proptest::option::of("/etc/[a-z.]{1,10}x"),
        level in 0..5usize,
    ) -> Config {
        let mut config = example();
        let me = config.members[id - 1].clone();
        config.node = NodeSettings { id: me.id, name: me.name };
        config.cluster = cluster;
        config.bootstrap = bootstrap;
        config.journal = if any { JournalPolicy::Any } else { JournalPolicy::Wal };
        config.data_dir = format!("/data{path}").into();
        config.wal_warn_bytes = warn;
        config.mount = MountSettings {
            path: path.into(),
            group: owner.clone(),
            owner,
            mode: Mode(mode),
            allow_other,
            passthrough: if off { Passthrough::Off } else { Passthrough::Auto },
            immutable: if off { Immutable::Off } else { Immutable::Auto },
        };
        config.api.token_file = token.map(Into::into);
        config.api.expose_metrics = expose_metrics;
        let micros = Duration::from_micros;
        config.raft = RaftSettings {
            heartbeat: micros(heartbeat + 1000),
            election_timeout_min: micros(2 * heartbeat + 2000),
            election_timeout_max: micros(2 * heartbeat + 2000 + spread),
            log_purge_bytes: purge,
            staged_above: staged,
        };
        config.write = WriteSettings {
            lock_wait: micros(wait),
            commit_timeout: Duration::from_secs(15),
            unlink_timeout: micros(unlink),
        };
        config.log.level = [LogLevel::Error, LogLevel::Warn, LogLevel::Info, LogLevel::Debug, LogLevel::Trace][level];
        config
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn what_is_shown_is_read_back(config in configs()) {
        let text = show(&config).unwrap();
        prop_assert_eq!(parse(&text), Ok(config), "{}", text);
    }

    #[test]
    fn nothing_panics(text in "[a-z:\\- \\n{}\\[\\],'\"0-9&*!|>]{0,200}") {
        let _ = parse(&text);
    }

    #[test]
    fn a_damaged_file_does_not_panic(at in 0..400usize, byte in any::<char>()) {
        let mut text: Vec<char> = show(&example()).unwrap().chars().collect();
        let at = at.min(text.len() - 1);
        text[at] = byte;
        let _ = parse(&text.into_iter().collect::<String>());
    }
}
