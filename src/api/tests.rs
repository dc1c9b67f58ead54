//! Through real sockets: what a client sends, byte for byte, and what it gets.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

use super::fake::FakeEngine;
use super::*;
use crate::core::engine::{Copy, Role, Switchover, SwitchoverError, Unavailable};

mod transfer;

const TOKEN: &str = "correct-horse";

struct Answer {
    code: u16,
    head: String,
    body: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.body))
    }

    fn reason(&self) -> String {
        self.json()["reason"].as_str().unwrap_or_default().to_owned()
    }
}

/// Sends `bytes`, reads until the server closes.
async fn exchange(
    stream: &mut (impl AsyncReadExt + AsyncWriteExt + Unpin),
    bytes: &[u8],
) -> Answer {
    let _ = stream.write_all(bytes).await;
    let mut text = Vec::new();
    let read = stream.read_to_end(&mut text);
    let _ = tokio::time::timeout(Duration::from_secs(20), read).await.expect("no end of answer");
    let text = String::from_utf8(text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let code = head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
    Answer { code, head: head.to_lowercase(), body: body.to_owned() }
}

struct Api {
    engine: Arc<FakeEngine>,
    folder: tempfile::TempDir,
    serving: Serving,
}

impl Api {
    async fn new(listen: &str, token: bool, expose_metrics: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let engine = Arc::new(FakeEngine::default());
        let token_file = folder.path().join("token");
        write_private(&token_file, &format!("{TOKEN}\n"));
        let options = Options {
            listen: Some(listen.parse().unwrap()),
            socket: Some(folder.path().join("api.sock")),
            socket_group: None,
            token_file: token.then_some(token_file),
            expose_metrics: Arc::new(expose_metrics.into()),
        };
        let serving = serve(engine.clone(), options).await.unwrap();
        Self { engine, folder, serving }
    }

    async fn loopback() -> Self {
        Self::new("127.0.0.1:0", true, false).await
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("api.sock")
    }

    async fn tcp(&self) -> TcpStream {
        let port = self.serving.local_addr().unwrap().port();
        TcpStream::connect(("127.0.0.1", port)).await.unwrap()
    }

    async fn send(&self, method: &str, path: &str, more: &str) -> Answer {
        let request = format!("{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{more}");
        exchange(&mut self.tcp().await, request.as_bytes()).await
    }

    async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, "\r\n").await
    }

    async fn post(&self, path: &str, token: Option<&str>, body: &str) -> Answer {
        let token = token.map(|t| format!("authorization: {t}\r\n")).unwrap_or_default();
        let more = format!("{token}content-length: {}\r\n\r\n{body}", body.len());
        self.send("POST", path, &more).await
    }

    async fn by_socket(&self, method: &str, path: &str) -> Answer {
        let mut stream = UnixStream::connect(self.socket()).await.unwrap();
        let request = format!("{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        exchange(&mut stream, request.as_bytes()).await
    }
}

fn write_private(path: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

const HEALTH: [&str; 6] =
    ["/primary", "/replica", "/read-only", "/health", "/liveness", "/readiness"];

async fn codes(api: &Api) -> [u16; 6] {
    let mut codes = [0; 6];
    for (code, path) in codes.iter_mut().zip(HEALTH) {
        *code = api.get(path).await.code;
    }
    codes
}

#[tokio::test]
async fn health_follows_the_role() {
    let api = Api::loopback().await;
    assert_eq!(codes(&api).await, [200, 503, 200, 200, 200, 200]);
    let body = api.get("/primary").await.json();
    assert_eq!(body["role"], "primary");
    assert_eq!(body["state"], "running");

    api.engine.change(|s| s.role = Role::Replica);
    assert_eq!(codes(&api).await, [503, 200, 200, 200, 200, 200]);
    assert_eq!(api.get("/primary").await.reason(), "this node is a replica");

    // one-primary, seen from outside: a leader that lost its majority is none.
    api.engine.change(|s| {
        s.role = Role::Primary;
        s.quorum.ok = false;
        s.not_ready = vec!["no majority".into(), "catching up".into()];
    });
    assert_eq!(codes(&api).await, [503, 503, 200, 200, 200, 503]);
    assert_eq!(api.get("/readiness").await.reason(), "no majority; catching up");

    api.engine.change(|s| s.serving = false);
    assert_eq!(codes(&api).await, [503, 503, 503, 503, 200, 503]);
    assert_eq!(api.get("/health").await.json()["state"], "starting");

    api.engine.change(|s| {
        s.serving = true;
        s.stuck = Some("the Raft core stands still".into());
    });
    assert_eq!(api.get("/liveness").await.code, 503);
    assert_eq!(api.get("/health").await.reason(), "the Raft core stands still");
}

#[tokio::test]
async fn replicas_are_asked_for_their_lag() {
    let api = Api::loopback().await;
    api.engine.change(|s| {
        s.role = Role::Replica;
        s.lag_ms = Some(1500);
    });
    for (lag, code) in [
        ("1500", 200),
        ("1499", 503),
        ("1500ms", 200),
        ("1s", 503),
        ("2s", 200),
        ("x", 400),
        ("-1", 400),
        ("", 400),
        ("99999999999999999999s", 400),
    ] {
        assert_eq!(api.get(&format!("/replica?lag={lag}")).await.code, code, "{lag}");
    }
    assert_eq!(api.get("/replica").await.code, 200);
    api.engine.change(|s| s.lag_ms = None);
    assert_eq!(api.get("/replica?lag=1h").await.code, 503);
    assert_eq!(api.get("/replica").await.code, 200, "readers-go-on");
}

#[tokio::test]
async fn head_and_options_give_the_same_code_without_a_body() {
    let api = Api::loopback().await;
    for method in ["HEAD", "OPTIONS"] {
        for (path, code) in [("/primary", 200), ("/replica", 503)] {
            let answer = api.send(method, path, "\r\n").await;
            assert_eq!((answer.code, answer.body.as_str()), (code, ""), "{method} {path}");
        }
    }
}

#[tokio::test]
async fn unknown_paths_and_methods() {
    let api = Api::loopback().await;
    let answer = api.get("/nothing").await;
    assert_eq!(answer.code, 404);
    assert!(answer.json()["error"].is_string());
    for (method, path) in [("POST", "/primary"), ("GET", "/switchover"), ("DELETE", "/databases")] {
        let answer = api.send(method, path, "content-length: 0\r\n\r\n").await;
        assert_eq!(answer.code, 405, "{method} {path}");
        assert!(answer.json()["error"].is_string());
    }
}

#[tokio::test]
async fn data_and_metrics() {
    let api = Api::loopback().await;
    let cluster = api.get("/cluster").await.json();
    assert_eq!(cluster["leader"], "n1");
    assert_eq!(cluster["members"][1]["role"], "voter");
    let databases = api.get("/databases").await.json();
    assert_eq!(databases[0]["position"], "000000000000001f/8000000000000000");
    assert_eq!(databases[0]["write_lock"], "n2");
    let history = api.get("/history").await.json();
    assert_eq!(history[0]["cause"], "died");
    let accept = "accept: application/openmetrics-text;version=1.0.0,text/plain;q=0.5\r\n\r\n";
    let metrics = api.send("GET", "/metrics", accept).await;
    assert!(metrics.head.contains("application/openmetrics-text"), "{}", metrics.head);
    for line in [
        "# TYPE litefs_py_transactions counter",
        "litefs_py_transactions_total{outcome=\"committed\"} 9",
        "litefs_py_transactions_total{outcome=\"indeterminate\"} 1",
        "litefs_py_commit_seconds_bucket{le=\"0.001\"} 4",
        "litefs_py_commit_seconds_bucket{le=\"0.01\"} 9",
        "litefs_py_commit_seconds_bucket{le=\"+Inf\"} 10",
        "litefs_py_commit_seconds_count 10",
        "litefs_py_primary 1",
        "litefs_py_member_lag_entries{member=\"n2\"} 0",
        "litefs_py_database_txid{database=\"app.db\"} 31",
        "litefs_py_database_bytes{database=\"app.db\"} 49152",
        "litefs_py_raft_role{role=\"leader\"} 1",
        "litefs_py_raft_role{role=\"learner\"} 0",
        "litefs_py_quorum_age_seconds 0.012",
        "litefs_py_members_up 2",
        "litefs_py_disk_free_bytes 1073741824",
        "litefs_py_certificate_expiry_timestamp_seconds{certificate=\"node\"} 1800000000",
        "litefs_py_build_info{version=\"0.1.0\"} 1",
        "# TYPE process_cpu_seconds counter",
        "# EOF",
    ] {
        assert!(metrics.body.lines().any(|l| l == line), "{line} is not in\n{}", metrics.body);
    }
    let text = api.get("/metrics").await;
    assert!(text.head.contains("text/plain; version=0.0.4"), "{}", text.head);
    assert!(text.body.contains("\n# TYPE litefs_py_transactions_total counter\n"), "{}", text.body);
    assert!(text.body.contains("\nlitefs_py_transactions_total{outcome=\"committed\"} 9\n"));
    assert!(text.body.contains("\n# TYPE process_cpu_seconds_total counter\n"));
    assert!(!text.body.contains("EOF"));
    api.engine.change(|s| s.quorum.ok = false);
    assert!(api.get("/metrics").await.body.contains("litefs_py_primary 0\n"));
}

#[tokio::test]
async fn no_open_door_on_the_network() {
    let api = Api::new("0.0.0.0:0", true, false).await;
    for path in HEALTH {
        assert_ne!(api.get(path).await.code, 401, "{path}");
        let text = api.get(path).await.body;
        for data in ["n1", "app", "10.0.0", "term", "120"] {
            assert!(!text.contains(data), "{path} tells {data}: {text}");
        }
    }
    for path in ["/cluster", "/databases", "/history", "/metrics"] {
        let answer = api.get(path).await;
        assert_eq!(answer.code, 401, "{path}");
        assert!(answer.head.contains("www-authenticate: bearer"));
        let answer = api.send("HEAD", path, "\r\n").await;
        assert_eq!(answer.code, 401, "HEAD {path}");
        let with = format!("authorization: Bearer {TOKEN}\r\n\r\n");
        assert_eq!(api.send("GET", path, &with).await.code, 200, "{path}");
    }
    assert_eq!(api.post("/barrier", None, "").await.code, 401);
    assert_eq!(api.post("/switchover", None, "").await.code, 401);
    assert!(api.engine.asked.lock().unwrap().is_empty());

    let api = Api::new("0.0.0.0:0", false, true).await;
    assert_eq!(api.get("/metrics").await.code, 200, "by setting");
    assert_eq!(api.get("/cluster").await.code, 403, "there is no token to show");
    let with = "authorization: Bearer \r\n\r\n";
    assert_eq!(api.send("GET", "/cluster", with).await.code, 403);
}

#[tokio::test]
async fn only_the_token_or_the_socket_change_anything() {
    let api = Api::loopback().await;
    assert_eq!(api.post("/barrier", None, "").await.code, 200);
    for wrong in [
        None,
        Some("Bearer correct-horsf"),
        Some("Bearer correct-hors"),
        Some("Bearer correct-horse-battery"),
        Some("Bearer "),
        Some("Bearer"),
        Some("Basic correct-horse"),
        Some("correct-horse"),
    ] {
        let answer = api.post("/switchover", wrong, "").await;
        assert_eq!(answer.code, 401, "{wrong:?}");
    }
    assert!(api.engine.asked.lock().unwrap().is_empty());
    assert_eq!(api.post("/switchover", Some("Bearer correct-horse"), "").await.code, 200);
    assert_eq!(api.post("/switchover", Some("bearer  correct-horse"), "").await.code, 200);
    assert_eq!(api.by_socket("POST", "/switchover").await.code, 200);
    assert_eq!(api.by_socket("GET", "/cluster").await.code, 200);
    assert_eq!(api.engine.asked.lock().unwrap().len(), 3);

    let api = Api::new("127.0.0.1:0", false, false).await;
    assert_eq!(api.post("/switchover", Some("Bearer correct-horse"), "").await.code, 403);
    assert_eq!(api.by_socket("POST", "/switchover").await.code, 200);
}

#[tokio::test]
async fn the_token_file_is_read_anew_and_must_be_private() {
    use std::os::unix::fs::PermissionsExt;
    let api = Api::loopback().await;
    let file = api.folder.path().join("token");
    write_private(&file, "another");
    assert_eq!(api.post("/switchover", Some("Bearer correct-horse"), "").await.code, 401);
    assert_eq!(api.post("/switchover", Some("Bearer another"), "").await.code, 200);
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o604)).unwrap();
    assert_eq!(api.post("/switchover", Some("Bearer another"), "").await.code, 500);
    for text in ["", "\n \n", &"x".repeat(5000)] {
        write_private(&file, text);
        let given = format!("Bearer {}", if text.len() < 9 { "x" } else { text });
        assert_eq!(api.post("/switchover", Some(&given), "").await.code, 500);
    }
    std::fs::remove_file(&file).unwrap();
    assert_eq!(api.post("/switchover", Some("Bearer another"), "").await.code, 500);
}

#[tokio::test]
async fn the_socket_is_for_its_group() {
    use std::os::unix::fs::PermissionsExt;
    let api = Api::loopback().await;
    let mode = std::fs::metadata(api.socket()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
    let names: Vec<_> =
        std::fs::read_dir(api.folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names.len(), 2, "nothing is left beside it: {names:?}");
    let socket = api.socket();
    api.serving.stop(Duration::from_secs(5)).await;
    assert!(!socket.exists());
}

#[tokio::test]
async fn a_long_path_and_a_stale_socket() {
    let folder = tempfile::tempdir().unwrap();
    let deep = folder.path().join("x".repeat(120));
    std::fs::create_dir(&deep).unwrap();
    let path = deep.join("api.sock");
    drop(bind_socket(&path, None).unwrap());
    assert!(path.exists(), "stale");
    let listener = bind_socket(&path, None).unwrap();
    listener.set_nonblocking(false).unwrap();
    let short = ShortPath::of(&path).unwrap();
    let _client = std::os::unix::net::UnixStream::connect(short.as_path()).unwrap();
    listener.accept().unwrap();
    drop(
        bind_socket(&folder.path().join("run/litefs-py/api.sock"), None)
            .expect("its folder is made"),
    );
    std::fs::write(folder.path().join("file"), "").unwrap();
    assert!(bind_socket(&folder.path().join("file/api.sock"), None).is_err());
}

#[tokio::test]
async fn a_taken_port_is_told() {
    let api = Api::loopback().await;
    let options = Options {
        listen: api.serving.local_addr(),
        socket: None,
        socket_group: None,
        token_file: None,
        expose_metrics: Arc::default(),
    };
    let error = serve(api.engine.clone(), options).await.err().unwrap().to_string();
    assert!(
        error.contains("cannot listen on 127.0.0.1:") && error.contains("api.listen"),
        "{error}"
    );
}

#[tokio::test]
async fn a_switchover_and_its_refusals() {
    let api = Api::loopback().await;
    let ask =
        async |path: &str, body: &str| api.post(path, Some("Bearer correct-horse"), body).await;
    let answer = ask("/switchover?timeout=3s", "{\"to\": \"n2\"}").await;
    assert_eq!(answer.code, 200);
    assert_eq!(answer.json(), serde_json::json!({"state": "done", "leader": "n2"}));
    let asked = api.engine.asked.lock().unwrap().pop();
    assert_eq!(asked, Some((Some("n2".to_owned()), Duration::from_secs(3))));

    *api.engine.switchover.lock().unwrap() = Ok(Switchover::Accepted { to: "n2".into() });
    assert_eq!(ask("/switchover", "{}").await.code, 202);
    *api.engine.switchover.lock().unwrap() = Err(SwitchoverError::Refused("n9 is unknown".into()));
    let answer = ask("/switchover", "").await;
    assert_eq!((answer.code, answer.json()["error"].as_str()), (412, Some("n9 is unknown")));
    *api.engine.switchover.lock().unwrap() = Err(SwitchoverError::Unavailable("no leader".into()));
    assert_eq!(ask("/switchover", "").await.code, 503);

    let asked = api.engine.asked.lock().unwrap().len();
    for body in ["{", "[]1", "{\"to\": 3}", "{\"too\": \"n2\"}", "\u{0}"] {
        assert_eq!(ask("/switchover", body).await.code, 400, "{body}");
    }
    for query in ["timeout=2", "timeout=61s", "time=1s"] {
        assert_eq!(ask(&format!("/switchover?{query}"), "").await.code, 400, "{query}");
    }
    assert_eq!(api.engine.asked.lock().unwrap().len(), asked);
}

#[tokio::test]
async fn barriers() {
    let api = Api::loopback().await;
    assert_eq!(api.post("/barrier", None, "").await.json()["index"], 42);
    *api.engine.takes.lock().unwrap() = Duration::from_hours(1);
    let answer = api.post("/barrier?timeout=20ms", None, "").await;
    assert_eq!(answer.code, 503);
    assert!(answer.body.contains("not caught up"));
    *api.engine.takes.lock().unwrap() = Duration::ZERO;
    *api.engine.barrier.lock().unwrap() = Err(Unavailable("no leader".into()));
    assert_eq!(api.post("/barrier", None, "").await.code, 503);
}

#[tokio::test]
async fn requests_are_bounded() {
    let api = Api::loopback().await;
    let token = Some("Bearer correct-horse");
    assert_eq!(api.post("/switchover", token, &" ".repeat(64 << 10)).await.code, 200);
    assert_eq!(api.post("/switchover", token, &" ".repeat((64 << 10) + 1)).await.code, 413);
    let long = format!("/{}", "x".repeat(64 << 10));
    assert!(matches!(api.get(&long).await.code, 0 | 404 | 414 | 431), "a giant path");
    let many = "a: b\r\n".repeat(100) + "\r\n";
    assert_eq!(api.send("GET", "/health", &many).await.code, 431);
    let garbage = exchange(&mut api.tcp().await, b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n").await;
    assert!(matches!(garbage.code, 0 | 400), "{}", garbage.code);
}

#[tokio::test]
async fn a_slow_sender_is_left() {
    let api = Api::loopback().await;
    let mut stream = api.tcp().await;
    let answer = exchange(&mut stream, b"GET /health HTTP/1.1\r\nhost").await;
    assert!(matches!(answer.code, 0 | 408), "{}", answer.code);
    let head = "POST /switchover HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\
                authorization: Bearer correct-horse\r\ncontent-length: 10\r\n\r\n{";
    let mut stream = UnixStream::connect(api.socket()).await.unwrap();
    assert_eq!(exchange(&mut stream, head.as_bytes()).await.code, 408);
}

#[tokio::test]
async fn stopping_lets_the_last_request_be_answered() {
    let api = Api::loopback().await;
    *api.engine.takes.lock().unwrap() = Duration::from_millis(200);
    let mut idle = api.tcp().await;
    let mut last = api.tcp().await;
    let request = b"POST /barrier HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n";
    last.write_all(request).await.unwrap();
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while api.engine.begun.load(std::sync::atomic::Ordering::Relaxed) == 0 {
        assert!(tokio::time::Instant::now() < deadline, "the request did not arrive");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let address = api.serving.local_addr().unwrap();
    let (answer, ()) =
        tokio::join!(exchange(&mut last, b""), api.serving.stop(Duration::from_secs(5)));
    assert_eq!(answer.code, 200);
    assert_eq!(exchange(&mut idle, b"").await.code, 0, "idle connections are closed");
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn a_check_says_what_each_node_has_to_who_may_ask() {
    let api = Api::loopback().await;
    let copies =
        [("n1".to_owned(), Copy::Missing), ("n2".to_owned(), Copy::Damaged { why: "x".into() })];
    *api.engine.copies.lock().unwrap() = copies.into();
    let body = "{\"database\": \"app.db\"}";
    assert_eq!(api.post("/check", None, body).await.code, 401);
    let ask = async |body: &str| api.post("/check", Some("Bearer correct-horse"), body).await;
    let answer = ask(body).await;
    assert_eq!(answer.code, 200);
    assert_eq!(answer.json()["copies"]["n2"], serde_json::json!({"state": "damaged", "why": "x"}));
    for body in ["", "{}", "{\"database\": \"../x\"}", "[]"] {
        assert_eq!(ask(body).await.code, 400, "{body}");
    }
}

#[tokio::test]
async fn members_are_changed_by_who_may() {
    const BEARER: &str = "Bearer correct-horse";
    let api = Api::loopback().await;
    assert_eq!(api.get("/members").await.json()[1]["name"], "n2");
    let done = api.post("/members/n4/promote", Some(BEARER), "").await;
    assert_eq!((done.code, done.json()["name"].as_str()), (200, Some("n4")));
    let token = api.post("/tokens", Some(BEARER), r#"{"ttl": "2h"}"#).await;
    assert_eq!((token.code, token.json()["expires_seconds"].as_u64()), (200, Some(7200)));
    for (path, body, code) in [
        ("/tokens", r#"{"ttl": "soon"}"#, 400),
        ("/tokens", r#"{"time": 1}"#, 400),
        ("/members", r#"{"name": "n4", "address": "h:1"}"#, 409),
        ("/members", "{}", 400),
        ("/members/n4/demote", "", 503),
        ("/ca/rotate", "", 202),
    ] {
        assert_eq!(api.post(path, Some(BEARER), body).await.code, code, "{path} {body}");
        assert_eq!(api.post(path, None, body).await.code, 401, "{path}: no-open-door");
    }
    let delete = |path| api.by_socket("DELETE", path);
    assert_eq!(delete("/members/n1").await.code, 412);
    assert_eq!(delete("/tokens/ab").await.code, 404);
    assert_eq!(api.get("/tokens").await.code, 401, "not even who has tokens");
}

#[tokio::test]
async fn the_configuration_is_shown_and_changed() {
    let api = Api::loopback().await;
    assert_eq!(api.get("/config").await.json()["running"]["write"]["lock_wait"], "50ms");
    let change = "{\"write\": {\"lock_wait\": \"20ms\"}}";
    let send = async |token: Option<&str>, body: &str| {
        let token = token.map(|t| format!("authorization: Bearer {t}\r\n")).unwrap_or_default();
        let more = format!("{token}content-length: {}\r\n\r\n{body}", body.len());
        api.send("PATCH", "/config", &more).await
    };
    assert_eq!(send(None, change).await.code, 401);
    let answer = send(Some(TOKEN), change).await;
    assert_eq!((answer.code, &answer.json()["changed"]["write.lock_wait"]), (200, &"20ms".into()));
    assert_eq!(api.get("/config").await.json()["running"]["write"]["lock_wait"], "20ms");
    for (body, code, word) in [
        ("{", 400, "the body"),
        ("", 422, "an object"),
        ("{\"log\": {\"lvel\": \"info\"}}", 422, "did you mean \"log.level\"?"),
        ("{\"write\": {\"lock_wait\": \"1h\"}}", 422, "at most 1s"),
        ("{\"mount\": {\"path\": \"/x\"}}", 412, "mount.path cannot be changed while"),
    ] {
        let answer = send(Some(TOKEN), body).await;
        assert_eq!(answer.code, code, "{body}");
        let said = answer.json()["error"].as_str().unwrap().to_owned();
        assert!(said.contains(word), "{body}: {said}");
    }
    assert_eq!(api.get("/config").await.json()["changed"].as_object().unwrap().len(), 1);
}

/// bounded-answer: before a byte of it has come.
#[tokio::test]
async fn a_body_that_will_be_too_long_is_refused_at_once() {
    let api = Api::loopback().await;
    let head = format!(
        "PATCH /config HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\
         authorization: Bearer {TOKEN}\r\ncontent-length: 1000000000\r\n\r\n"
    );
    let began = std::time::Instant::now();
    assert_eq!(exchange(&mut api.tcp().await, head.as_bytes()).await.code, 413);
    assert!(began.elapsed() < server::BODY_TIME);
}
