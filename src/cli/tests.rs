//! The client subcommands, against the API with a pretended engine behind it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::{CommandFactory, Parser};

use super::client::Address;
use super::output::{size, table, time, utc};
use super::*;
use crate::api::fake::FakeEngine;
use crate::api::{Options, Serving, serve};
use crate::core::DatabaseName;
use crate::core::config::{example, show};
use crate::core::engine::{Switchover, SwitchoverError, Unavailable};

struct Node {
    engine: Arc<FakeEngine>,
    folder: tempfile::TempDir,
    serving: Serving,
}

impl Node {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut config = example();
        config.api.socket = folder.path().join("api.sock");
        config.api.token_file = Some(write_private(&folder.path().join("token"), "secret\n"));
        fs::write(folder.path().join("config.yml"), show(&config).unwrap()).unwrap();
        let engine = Arc::new(FakeEngine::default());
        let mut options = Options::new(&config.api, None);
        options.listen = Some("127.0.0.1:0".parse().unwrap());
        let serving = serve(engine.clone(), options).await.unwrap();
        Self { engine, folder, serving }
    }

    fn config(&self) -> String {
        self.folder.path().join("config.yml").display().to_string()
    }

    fn url(&self) -> String {
        format!("http://{}", self.serving.local_addr().unwrap())
    }
}

fn write_private(path: &Path, text: &str) -> PathBuf {
    use std::os::unix::fs::PermissionsExt;
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    path.to_owned()
}

/// What the command line prints.
async fn says(line: &[&str]) -> Result<String, Failure> {
    let cli = Cli::try_parse_from([&["litefs-py"], line].concat()).expect("command line");
    match &cli.command {
        Command::Status(args) => status::look(args).await,
        Command::Databases(args) => databases::look(args).await,
        Command::History(args) => history::look(args).await,
        Command::Switchover(args) => switchover::ask(args).await,
        Command::Barrier(args) => barrier::ask(args).await,
        _ => unreachable!("not a client"),
    }
}

#[test]
fn the_command_line_is_sound() {
    Cli::command().debug_assert();
}

#[tokio::test]
async fn status_by_the_socket_of_the_configuration() {
    let node = Node::new().await;
    let text = says(&["status", "--config", &node.config()]).await.unwrap();
    assert_eq!(
        text,
        "cluster app, node n1: primary, term 7, quorum ok (12 ms ago), applied 120 of 120, \
         lag 0 ms, up 1h 2m\n\n\
         NAME  ROLE    STATE      ADDRESS        MATCHED  LAG\n\
         n1    leader  reachable  10.0.0.1:4321      120    0\n\
         n2    voter   reachable  10.0.0.2:4321      120    0\n"
    );
    node.engine.change(|s| {
        s.quorum.ok = false;
        s.quorum.age_ms = Some(90_000);
        s.lag_ms = None;
        s.serving = false;
        s.not_ready = vec!["no majority".into()];
        s.members[1].matched = None;
    });
    let text = says(&["status", "--config", &node.config()]).await.unwrap();
    for part in ["no quorum for 1m 30s", "lag unknown", "not serving", "not ready: no majority"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let json = says(&["status", "--json", "--config", &node.config()]).await.unwrap();
    assert_eq!(serde_json::from_str::<serde_json::Value>(&json).unwrap()["term"], 7);
}

#[tokio::test]
async fn databases_by_a_url() {
    let node = Node::new().await;
    let text = says(&["databases", "--api", &node.url()]).await.unwrap();
    assert_eq!(
        text,
        "NAME    POSITION                               SIZE  JOURNAL      WAL  WRITER  WAITING\n\
         app.db  000000000000001f/8000000000000000  48.0 KiB  wal      8.0 KiB  n2            1\n"
    );
}

#[tokio::test]
async fn history_with_the_reasons() {
    let node = Node::new().await;
    let text = says(&["history", "--api", &node.url()]).await.unwrap();
    assert_eq!(
        text,
        "TERM  LEADER  SINCE                     NO LEADER  WHY\n\
         \u{20}  7  n1      2023-11-14 22:13:20.123Z      31 ms  the process of n2 died\n"
    );
    let json = says(&["history", "--json", "--api", &node.url()]).await.unwrap();
    assert_eq!(serde_json::from_str::<serde_json::Value>(&json).unwrap()[0]["cause"], "died");
}

#[tokio::test]
async fn settings_of_a_running_node() {
    let node = Node::new().await;
    let target =
        |line: &[&str]| match Cli::try_parse_from([&["litefs-py", "config"], line].concat()) {
            Ok(Cli { command: Command::Config(args) }) => args,
            other => panic!("{other:?}"),
        };
    let url = node.url();
    let token = node.folder.path().join("token").display().to_string();
    let by = ["--api", &url, "--token-file", &token];
    let set = async |key: &str, value: &str| {
        config::ask(&target(&[&["set", key, value], &by[..]].concat())).await
    };
    let diff = async || config::ask(&target(&[&["diff"], &by[..]].concat())).await.unwrap();
    assert_eq!(diff().await, "the node runs by its file\n");
    let text = set("write.lock_wait", "20ms").await.unwrap();
    assert_eq!(
        text,
        "KEY              FILE  RUNNING  WHY\n\
         write.lock_wait  50ms  20ms     changed while it runs\n"
    );
    assert!(
        set("api.expose_metrics", "true")
            .await
            .unwrap()
            .contains("api.expose_metrics  false  true")
    );
    let failure = set("write.lock_wiat", "1s").await.unwrap_err();
    assert_eq!(failure.exit, Exit::Data);
    assert!(failure.message.contains("did you mean \"write.lock_wait\"?"), "{failure}");
    let failure = set("mount.path", "/elsewhere").await.unwrap_err();
    assert_eq!(failure.exit, Exit::Unavailable);
    assert!(failure.message.contains("restart the node"), "{failure}");
    set("api.expose_metrics", "null").await.unwrap();
    assert_eq!(set("write", "null").await.unwrap(), "the node runs by its file\n");
}

#[tokio::test]
async fn switchover_and_barrier() {
    let node = Node::new().await;
    let config = node.config();
    let text = says(&["switchover", "--to", "n2", "--config", &config]).await.unwrap();
    assert_eq!(text, "n2 leads now\n");
    assert_eq!(node.engine.asked.lock().unwrap()[0].0.as_deref(), Some("n2"));
    assert_eq!(*node.engine.asked_by.lock().unwrap(), Some("the Unix socket"));
    *node.engine.switchover.lock().unwrap() = Ok(Switchover::Accepted { to: "n3".into() });
    let text = says(&["switchover", "--config", &config]).await.unwrap();
    assert!(text.starts_with("n3 was asked to lead"), "{text}");
    *node.engine.switchover.lock().unwrap() =
        Err(SwitchoverError::Refused("n2 is behind".to_owned()));
    let failure = says(&["switchover", "--config", &config]).await.unwrap_err();
    assert_eq!(failure.exit, Exit::Unavailable);
    assert!(failure.message.ends_with("says: n2 is behind"), "{failure}");

    let text = says(&["barrier", "--config", &config]).await.unwrap();
    assert_eq!(text, "all up to entry 42 is visible here\n");
    *node.engine.barrier.lock().unwrap() = Err(Unavailable("no leader".into()));
    let failure = says(&["barrier", "--timeout", "1s", "--config", &config]).await.unwrap_err();
    assert_eq!(failure.exit, Exit::TryAgain);
    assert_eq!(failure.to_string().lines().count(), 1);
}

#[tokio::test]
async fn the_token_opens_what_the_url_does_not() {
    let node = Node::new().await;
    let token = node.folder.path().join("token").display().to_string();
    let failure = says(&["switchover", "--api", &node.url()]).await.unwrap_err();
    assert_eq!(failure.exit, Exit::NoPermission);
    says(&["switchover", "--api", &node.url(), "--token-file", &token]).await.unwrap();
    write_private(Path::new(&token), "a\nb");
    let failure =
        says(&["switchover", "--api", &node.url(), "--token-file", &token]).await.unwrap_err();
    assert_eq!(failure.exit, Exit::Usage, "{failure}");
}

#[tokio::test]
async fn what_cannot_be_reached_is_told() {
    let node = Node::new().await;
    let (config, url) = (node.config(), node.url());
    node.serving.stop(Duration::from_secs(5)).await;
    for line in [["status", "--config", &config], ["status", "--api", &url]] {
        let failure = says(&line).await.unwrap_err();
        assert_eq!(failure.exit, Exit::Unavailable);
        assert!(failure.message.contains("cannot reach the node at"), "{failure}");
    }
    let failure = says(&["status", "--config", "/nowhere/config.yml"]).await.unwrap_err();
    assert_eq!(failure.exit, Exit::Config);
    fs::write(&config, "cluster: app\nclutser: b\n").unwrap();
    let failure = says(&["status", "--config", &config]).await.unwrap_err();
    assert_eq!(failure.exit, Exit::Config);
    assert!(failure.message.contains("did you mean \"cluster\"?"), "{failure}");
    let failure = says(&["status", "--dir", "/nowhere"]).await.unwrap_err();
    assert_eq!(failure.exit, Exit::Io);
    let empty = node.folder.path().display().to_string();
    let failure = says(&["status", "--dir", &empty]).await.unwrap_err();
    assert!(failure.message.contains("there is no cluster"), "{failure}");
}

#[tokio::test]
async fn another_server_is_not_believed() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    for answer in ["HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}", "nonsense\r\n\r\n", ""] {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let server = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 1000];
            let _ = stream.read(&mut request).await.unwrap();
            stream.write_all(answer.as_bytes()).await.unwrap();
        };
        let line = ["status", "--api", &url];
        let (said, ()) = tokio::join!(says(&line), server);
        let failure = said.unwrap_err();
        assert!(matches!(failure.exit, Exit::Software | Exit::Unavailable), "{failure}");
    }
}

#[test]
fn urls() {
    let read = |url| Address::from_url(url).map(|address| address.to_string());
    assert_eq!(read("http://10.0.0.1:80").unwrap(), "http://10.0.0.1:80");
    assert_eq!(read("http://n1/").unwrap(), "http://n1:8008");
    assert_eq!(read("http://[::1]:1").unwrap(), "http://[::1]:1");
    for bad in ["", "n1:80", "https://n1", "http://", "http://n1/primary", "http://n1/?a", "/sock"]
    {
        assert_eq!(read(bad).unwrap_err().exit, Exit::Usage, "{bad}");
    }
}

#[test]
fn names_in_paths() {
    assert_eq!(super::client::in_path("app-1_b~.db"), "app-1_b~.db");
    assert_eq!(super::client::in_path("a b/ü%?#.db"), "a%20b%2F%C3%BC%25%3F%23.db");
}

#[test]
fn units_that_people_read() {
    let sizes = [0, 1023, 1024, 1536, 1 << 20, u64::MAX].map(size);
    assert_eq!(sizes[..5], ["0 B", "1023 B", "1.0 KiB", "1.5 KiB", "1.0 MiB"]);
    let times = [59, 60, 3600, 90_000].map(time);
    assert_eq!(times, ["59s", "1m 0s", "1h 0m", "1d 1h"]);
    let days = [0, 951_782_399_999, 951_782_400_000, 4_107_542_400_000, -1].map(utc);
    assert_eq!(days[0], "1970-01-01 00:00:00.000Z");
    assert_eq!(days[1], "2000-02-28 23:59:59.999Z");
    assert_eq!(days[2], "2000-02-29 00:00:00.000Z");
    assert_eq!(days[3], "2100-03-01 00:00:00.000Z");
    assert_eq!(days[4], "1969-12-31 23:59:59.999Z");
    assert_eq!(table(["A", "B"], &[]), "A  B\n");
    let rows = [["x".to_owned(), "-".to_owned()], ["yy".to_owned(), "10".to_owned()]];
    assert_eq!(table(["A", ">B"], &rows), "A    B\nx    -\nyy  10\n");
}

#[derive(Debug, Parser)]
struct NodeLine {
    #[command(flatten)]
    args: node::Args,
}

#[test]
fn a_node_gets_a_checked_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.yml");
    fs::write(&path, "cluster: A\n").unwrap();
    let line = ["x", "--config", path.to_str().unwrap()];
    let args = NodeLine::try_parse_from(line).unwrap().args;
    let failure = node::run(&args, |_| async { Ok::<(), String>(()) }).unwrap_err();
    assert_eq!(failure.exit, Exit::Config);
    fs::write(&path, show(&example()).unwrap()).unwrap();
    // It does not wait for what blocks (Rule 7): the supervisor is to start it again.
    let begun = std::time::Instant::now();
    let failure = node::run(&args, |config| async move {
        tokio::task::spawn_blocking(std::thread::park);
        tokio::task::yield_now().await;
        Err(config.cluster)
    });
    assert_eq!(failure.unwrap_err().to_string(), "litefs-py: the node ended: app");
    assert!(begun.elapsed() < std::time::Duration::from_mins(1));
}

/// Every command that people are shown has a page, and is completed.
#[test]
fn the_manual_and_the_completions_know_every_command() {
    use clap::CommandFactory;
    let folder = tempfile::tempdir().unwrap();
    let pages = folder.path().join("man1");
    let asked = ["litefs-py", "man", pages.to_str().unwrap()];
    Cli::try_parse_from(asked).unwrap().run().unwrap();
    let mut completed = Vec::new();
    let bash = clap_complete::Shell::Bash;
    clap_complete::generate(bash, &mut Cli::command(), "litefs-py", &mut completed);
    let completed = String::from_utf8(completed).unwrap();
    for command in Cli::command().get_subcommands().filter(|command| !command.is_hide_set()) {
        let name = command.get_name();
        let page = fs::read_to_string(pages.join(format!("litefs-py-{name}.1"))).unwrap();
        assert!(page.contains(".SH SYNOPSIS"), "{name}");
        assert!(completed.contains(name), "{name}");
    }
    assert!(!pages.join("litefs-py-dev-child.1").exists());
}

#[test]
fn a_check_fails_by_what_it_finds() {
    use crate::core::engine::{CheckedDatabase, Copy};
    let checked = |copy: Copy| {
        let copies = [("n1".to_owned(), Copy::Missing), ("n2".to_owned(), copy)].into();
        vec![CheckedDatabase { name: DatabaseName::new("app.db").unwrap(), copies }]
    };
    let damaged = checked(Copy::Damaged { why: "page 7".into() });
    assert_eq!(check::told(&damaged).unwrap_err().exit, Exit::Software);
    assert!(check::shown(&damaged).contains("DAMAGED: page 7"));
    let unread = checked(Copy::Unread { why: "not there".into() });
    assert_eq!(check::told(&unread).unwrap_err().exit, Exit::TryAgain);
    assert!(check::told(&checked(Copy::Missing)).is_ok());
}
