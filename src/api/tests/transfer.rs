//! Databases in and out: who may, and what is bounded.

use std::sync::atomic::Ordering;

use super::*;

const UPLOAD: &str = "/databases/app.db/import/0123456789abcdef0123456789abcdef";

fn with_token(more: &str) -> String {
    format!("authorization: Bearer {TOKEN}\r\n{more}")
}

/// no-open-door: what is in a database is for who has the token, on loopback, too.
#[tokio::test]
async fn no_open_door_to_what_is_in_a_database() {
    let api = Api::loopback().await;
    let piece = format!("{UPLOAD}?offset=0");
    for (method, path) in [
        ("POST", "/databases/app.db/import"),
        ("PUT", &piece),
        ("POST", UPLOAD),
        ("DELETE", UPLOAD),
        ("GET", "/databases/app.db/export"),
        ("GET", "/diverged/x/export"),
        ("DELETE", "/diverged/x"),
    ] {
        let answer = api.send(method, path, "content-length: 0\r\n\r\n").await;
        assert_eq!(answer.code, 401, "{method} {path}");
    }
    assert_eq!(api.get("/diverged").await.code, 200, "as /databases");
    let network = Api::new("0.0.0.0:0", true, false).await;
    assert_eq!(network.get("/diverged").await.code, 401);

    let answer = api.send("PUT", &piece, &with_token("content-length: 3\r\n\r\nabc")).await;
    assert_eq!((answer.code, answer.json()["received"].as_u64()), (200, Some(3)));
    let answer = api.send("POST", UPLOAD, &with_token("content-length: 0\r\n\r\n")).await;
    assert_eq!((answer.code, answer.json()["state"].as_str()), (202, Some("importing")));
}

#[tokio::test]
async fn what_cannot_be_asked_is_told() {
    let api = Api::loopback().await;
    let nothing = with_token("content-length: 0\r\n\r\n");
    for (method, path, code) in [
        ("POST", "/databases/app.db-wal/import", 400),
        ("POST", "/databases/a%2Fb/import", 400),
        ("POST", "/databases/app.db/import/..%2F..%2Fetc", 400),
        ("PUT", UPLOAD, 400),
        ("GET", "/databases/.primary/export", 400),
        ("DELETE", "/diverged/..%2F", 404),
        ("GET", UPLOAD, 405),
    ] {
        assert_eq!(api.send(method, path, &nothing).await.code, code, "{method} {path}");
    }
}

/// bounded-answer: a piece has a size, and a time.
#[tokio::test]
async fn a_piece_without_end_is_not_taken() {
    let api = Api::loopback().await;
    let piece = format!("{UPLOAD}?offset=0");
    let chunk = format!("100000\r\n{}\r\n", " ".repeat(1 << 20));
    let endless = with_token("transfer-encoding: chunked\r\n\r\n") + &chunk.repeat(9);
    assert_eq!(api.send("PUT", &piece, &endless).await.code, 413);
    let slow = with_token("content-length: 100\r\n\r\nx");
    assert_eq!(api.send("PUT", &piece, &slow).await.code, 408);
}

/// bounded-answer: an export holds a place in the database's WAL.
#[tokio::test]
async fn an_export_that_nobody_takes_is_cut_off() {
    let api = Api::loopback().await;
    let mut stream = api.tcp().await;
    let head = with_token("host: x\r\n\r\n");
    let request = format!("GET /databases/app.db/export HTTP/1.1\r\n{head}");
    stream.write_all(request.as_bytes()).await.unwrap();
    let let_go = async {
        while !api.engine.export_over.load(Ordering::Acquire) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), let_go).await.expect("it is held for ever");
    // What came before is there, and then the end: never as much as was announced.
    let mut got = Vec::new();
    let _ = stream.read_to_end(&mut got).await;
    let text = String::from_utf8_lossy(&got[..500]).to_lowercase();
    assert!(text.starts_with("http/1.1 200"), "{text}");
    assert!(text.contains("\r\nlitefs-position: 000000000000001f/8000000000000000\r\n"), "{text}");
    assert!(text.contains(&format!("\r\ncontent-length: {}\r\n", u64::MAX)), "{text}");
}
