//! The part of Consul's HTTP API that LiteFS uses, as data: which request means what, and how its answers
//! are written. Pure; LITEFS's own calls, recorded, are in `testdata`.
//!
//! A request is known by its path's shape, not by our key: LiteFS composes the key of its configuration.

use serde_json::json;

/// What LiteFS asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ask {
    /// That its node be known; nothing here needs that.
    Register,
    ClusterId,
    SetClusterId(String),
    /// Who is primary?
    Primary,
    CreateSession,
    Acquire {
        session: String,
    },
    Renew {
        session: String,
    },
    Release {
        session: String,
    },
    Destroy {
        session: String,
    },
    /// Nothing that LiteFS is known to ask.
    Unknown,
}

/// What it is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// Done.
    Done,
    /// `true`, `false`: whether the lease was given, or given back.
    Granted(bool),
    /// A value of the store, or that there is none.
    Value(Option<String>),
    Session(String),
    /// The session lives; or it does not, and LiteFS steps down at once.
    Renewed(bool),
    /// The token is not this node's.
    Forbidden,
    /// There is nothing of that kind here.
    NotFound,
    /// Not now. LiteFS asks again, and gives up by itself when the lease's time is over.
    Unavailable(String),
}

/// The longest name of a session or id of a cluster that is taken.
const TEXT_MAX: usize = 64;

/// Reads a request. `query`: without the question mark.
pub fn read(method: &str, path: &str, query: &str, body: &[u8]) -> Ask {
    let Some(path) = path.strip_prefix("/v1/") else { return Ask::Unknown };
    let parameter = |name: &str| {
        let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        pairs.find(|(key, _)| *key == name).and_then(|(_, value)| text(value))
    };
    match (method, path) {
        ("PUT", "catalog/register") => Ask::Register,
        ("PUT", "session/create") => Ask::CreateSession,
        ("PUT", _) if path.starts_with("session/") => {
            let mut parts = path.split('/').skip(1);
            match (parts.next(), parts.next().and_then(text), parts.next()) {
                (Some("renew"), Some(session), None) => Ask::Renew { session },
                (Some("destroy"), Some(session), None) => Ask::Destroy { session },
                _ => Ask::Unknown,
            }
        }
        ("GET", _) if is_cluster_id(path) => Ask::ClusterId,
        ("PUT", _) if is_cluster_id(path) => {
            let id = std::str::from_utf8(body).ok().and_then(text);
            id.map_or(Ask::Unknown, Ask::SetClusterId)
        }
        ("GET", _) if path.starts_with("kv/") => Ask::Primary,
        ("PUT", _) if path.starts_with("kv/") => {
            match (parameter("acquire"), parameter("release")) {
                (Some(session), None) => Ask::Acquire { session },
                (None, Some(session)) => Ask::Release { session },
                _ => Ask::Unknown,
            }
        }
        _ => Ask::Unknown,
    }
}

fn is_cluster_id(path: &str) -> bool {
    path.starts_with("kv/") && path.ends_with("/clusterid")
}

/// What may stand in our log: not empty, short, and printable.
fn text(text: &str) -> Option<String> {
    let fits = !text.is_empty()
        && text.len() <= TEXT_MAX
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    fits.then(|| text.to_owned())
}

impl Reply {
    /// Status and body. Consul's client looks at nothing else.
    pub fn write(&self) -> (u16, String) {
        match self {
            Reply::Done => (200, "true".into()),
            Reply::Granted(yes) => (200, yes.to_string()),
            Reply::Value(Some(value)) => {
                (200, json!([{"Value": base64(value.as_bytes())}]).to_string())
            }
            Reply::Value(None) => (404, String::new()),
            Reply::Session(id) => (200, json!({"ID": id}).to_string()),
            Reply::Renewed(true) => (200, "[{}]".into()),
            Reply::Renewed(false) => (404, "the session is over".into()),
            Reply::Forbidden => (403, "the token is not this node's".into()),
            Reply::NotFound => (404, "litefs-py answers only what LiteFS asks of Consul".into()),
            Reply::Unavailable(why) => (500, why.clone()),
        }
    }
}

/// What LiteFS keeps of a primary: its name, and where its HTTP is reached from the node that asks.
pub fn primary(hostname: &str, port: u16) -> String {
    let url = format!("http://127.0.0.1:{port}");
    json!({"hostname": hostname, "advertise-url": url}).to_string()
}

/// RFC 4648, 4.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for piece in bytes.chunks(3) {
        let byte = |at: usize| u32::from(piece.get(at).copied().unwrap_or_default());
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for digit in 0..4 {
            let index = (bits >> (18 - 6 * digit) & 63) as usize;
            let letter = ALPHABET.get(index).copied().unwrap_or(b'=');
            text.push(if digit > piece.len() { '=' } else { char::from(letter) });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A run of LiteFS 0.5.14 over a lease's life, as it came to the facade: method, path, query, body, and
    /// what it is taken for.
    const RECORDED: &str = include_str!("testdata/exchanges.txt");

    #[test]
    fn what_litefs_was_recorded_to_ask_is_understood() {
        let mut asked = 0;
        for line in RECORDED.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
            let (request, meant) = line.split_once(" => ").unwrap();
            let mut parts = request.splitn(3, ' ');
            let (method, url) = (parts.next().unwrap(), parts.next().unwrap());
            let body = parts.next().unwrap_or_default();
            let (path, query) = url.split_once('?').unwrap_or((url, ""));
            assert_eq!(
                format!("{:?}", read(method, path, query, body.as_bytes())),
                meant,
                "{line}"
            );
            asked += 1;
        }
        assert!(asked >= 10, "{asked}");
    }

    #[test]
    fn answers_are_written_as_consul_writes_them() {
        let value = primary("n1", 7);
        assert_eq!(value, r#"{"advertise-url":"http://127.0.0.1:7","hostname":"n1"}"#);
        let kept = Reply::Value(Some("LFSC".into()));
        assert_eq!(kept.write(), (200, r#"[{"Value":"TEZTQw=="}]"#.into()));
        assert_eq!(Reply::Session("x".into()).write(), (200, r#"{"ID":"x"}"#.into()));
        assert_eq!(Reply::Granted(false).write(), (200, "false".into()));
        assert_eq!(Reply::Renewed(true).write(), (200, "[{}]".into()));
        assert_eq!(Reply::Renewed(false).write().0, 404);
        assert_eq!(Reply::Value(None).write().0, 404);
        assert_eq!(Reply::Unavailable(String::new()).write().0, 500);
    }

    #[test]
    fn base64_is_rfc_4648s() {
        for (plain, text) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")]
        {
            assert_eq!(base64(plain.as_bytes()), text);
        }
    }

    #[test]
    fn what_makes_no_sense_is_unknown() {
        for (method, path, query, body) in [
            ("GET", "/", "", ""),
            ("PUT", "/v1/kv/a/primary", "", ""),
            ("PUT", "/v1/kv/a/primary", "acquire=a&release=b", ""),
            ("PUT", "/v1/kv/a/primary", "acquire=%0a", ""),
            ("PUT", "/v1/kv/a/clusterid", "", ""),
            ("PUT", "/v1/session/renew/", "", ""),
            ("PUT", "/v1/session/renew/a/b", "", ""),
            ("DELETE", "/v1/kv/a/primary", "", ""),
        ] {
            assert_eq!(read(method, path, query, body.as_bytes()), Ask::Unknown, "{path} {query}");
        }
    }

    proptest! {
        /// Whatever is asked, nothing long or strange gets into the log.
        #[test]
        fn any_request_is_read(
            method in "[A-Z]{0,7}", path in "(/v1/(kv|session/(renew|destroy))/)?.{0,90}",
            query in "(acquire=|release=)?.{0,90}",
            body in prop::collection::vec(any::<u8>(), 0..90),
        ) {
            match read(&method, &path, &query, &body) {
                Ask::SetClusterId(text)
                | Ask::Acquire { session: text }
                | Ask::Renew { session: text }
                | Ask::Release { session: text }
                | Ask::Destroy { session: text } => prop_assert!(text.len() <= TEXT_MAX),
                _ => {}
            }
        }
    }
}
