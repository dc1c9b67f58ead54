//! What the daemon asks of its own LiteFS over HTTP. No connection outlives its question, everything is bounded.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited, StreamBody};
use hyper::body::{Body, Frame, Incoming};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{HOST, HeaderValue};
use hyper::{HeaderMap, Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::positions::{Positions, Seen, position};
use crate::core::Position;

/// The largest answer that is read: many thousands of databases.
const ANSWER_MAX: usize = 64 << 20;

/// LiteFS's header that says who asks, and who answers: 16 hexadecimal digits.
const ID: &str = "Litefs-Id";

/// A body, piece by piece; an error breaks it off.
pub type Pieces = mpsc::Receiver<std::io::Result<Bytes>>;

/// Why LiteFS did not do it.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ClientError {
    #[error("LiteFS does not answer on port {port}: {why}")]
    Unreachable { port: u16, why: String },
    #[error("LiteFS did not answer {what} within {within:?}")]
    Late { what: String, within: Duration },
    #[error("LiteFS refused {what}: {code}, {said}")]
    Refused { what: String, code: u16, said: String },
    #[error("LiteFS answered {what} with something that is not known here: {why}")]
    Odd { what: String, why: String },
}

/// A LiteFS on this machine.
#[derive(Debug, Clone, Copy)]
pub struct Client {
    port: u16,
}

impl Client {
    pub fn new(port: u16) -> Self {
        Self { port }
    }

    pub fn address(self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))
    }

    /// Everything that the daemon wants to know, now.
    ///
    /// # Errors
    /// It does not answer, or answers what no LiteFS does that is known here.
    pub async fn look(self, within: Duration) -> Result<Seen, ClientError> {
        let asked = async {
            // Asked some times a second: on one connection.
            let mut requests = self.connect().await?;
            let info = self.ask(&mut requests, self.request(Method::GET, "/info")?).await?;
            let (head, info) = info.into_parts();
            let info = self.body(info).await?;
            let variables = self.request(Method::GET, "/debug/vars")?;
            let variables = self.ask(&mut requests, variables).await?;
            let variables = self.body(variables.into_body()).await?;
            read(&head.headers, &info, &variables)
        };
        self.within("how it is", within, asked).await
    }

    /// How far it lags behind its primary, by what it last heard of it.
    ///
    /// # Errors
    /// As for [`Self::look`].
    pub async fn lag(self, within: Duration) -> Result<Duration, ClientError> {
        let asked = async {
            let metrics = self.whole(self.request(Method::GET, "/metrics")?).await?;
            let odd = || ClientError::Odd { what: "/metrics".into(), why: "no lag in it".into() };
            lag(&String::from_utf8_lossy(&metrics)).ok_or_else(odd)
        };
        self.within("its lag", within, asked).await
    }

    /// Takes a HALT lock: nobody writes to the database on its primary until it is let go. Returns the
    /// position that it has then.
    ///
    /// # Errors
    /// It is not primary, or somebody writes for longer than the time that is given.
    pub async fn halt(
        self,
        database: &str,
        lock: i64,
        within: Duration,
    ) -> Result<Position, ClientError> {
        #[derive(Deserialize)]
        struct Halted {
            pos: HaltedAt,
        }
        #[derive(Deserialize)]
        struct HaltedAt {
            #[serde(rename = "TXID")]
            txid: String,
            #[serde(rename = "PostApplyChecksum")]
            checksum: String,
        }
        let path = format!("/halt?name={}&id={lock}", escape(database));
        let what = format!("HALT of {database}");
        let asked = async {
            let body = self.whole(self.foreign(Method::POST, &path)?).await?;
            let odd = |why: String| ClientError::Odd { what: what.clone(), why };
            let halted: Halted =
                serde_json::from_slice(&body).map_err(|error| odd(error.to_string()))?;
            position(&halted.pos.txid, &halted.pos.checksum)
                .ok_or_else(|| odd("no position".into()))
        };
        self.within(&what, within, asked).await
    }

    /// Lets a HALT lock go.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn unhalt(
        self,
        database: &str,
        lock: i64,
        within: Duration,
    ) -> Result<(), ClientError> {
        let path = format!("/halt?name={}&id={lock}", escape(database));
        let asked = async { self.whole(self.foreign(Method::DELETE, &path)?).await };
        self.within("the end of a HALT", within, asked).await.map(|_| ())
    }

    /// Gives its lease to a LiteFS that is attached to it.
    ///
    /// # Errors
    /// It is not primary, or the other is not attached.
    pub async fn hand_over(self, litefs_id: &str, within: Duration) -> Result<(), ClientError> {
        let path = format!("/handoff?nodeID={litefs_id}");
        let asked = async { self.whole(self.request(Method::POST, &path)?).await };
        self.within("the handoff", within, asked).await.map(|_| ())
    }

    /// Begins to read a database as it is now.
    ///
    /// # Errors
    /// There is none of that name, or it does not answer.
    pub async fn export(self, database: &str, within: Duration) -> Result<Incoming, ClientError> {
        let path = format!("/export?name={}", escape(database));
        let asked = async {
            let response = self.send(self.request(Method::GET, &path)?).await?;
            Ok(response.into_body())
        };
        self.within("an export", within, asked).await
    }

    /// Brings a database in, whatever has its name; the primary alone can. Ends when it is applied there.
    ///
    /// # Errors
    /// It is not primary, does not take it, or does not come to the end in time.
    pub async fn import(
        self,
        database: &str,
        pieces: Pieces,
        within: Duration,
    ) -> Result<(), ClientError> {
        let path = format!("/import?name={}", escape(database));
        let next = |mut pieces: Pieces| async move {
            pieces.recv().await.map(|piece| (piece.map(Frame::data), pieces))
        };
        let body = StreamBody::new(futures::stream::unfold(pieces, next));
        let asked = async {
            let request = self.request_with(Method::POST, &path, Box::pin(body))?;
            self.whole(request).await
        };
        self.within("an import", within, asked).await.map(|_| ())
    }

    async fn within<T>(
        self,
        what: &str,
        within: Duration,
        asked: impl Future<Output = Result<T, ClientError>>,
    ) -> Result<T, ClientError> {
        let late = |_| ClientError::Late { what: what.to_owned(), within };
        timeout(within, asked).await.map_err(late)?
    }

    fn request(self, method: Method, path: &str) -> Result<Request<Full<Bytes>>, ClientError> {
        self.request_with(method, path, Full::default())
    }

    /// As if another LiteFS asked.
    fn foreign(self, method: Method, path: &str) -> Result<Request<Full<Bytes>>, ClientError> {
        let mut request = self.request(method, path)?;
        request.headers_mut().insert(ID, HeaderValue::from_static(FOREIGN));
        Ok(request)
    }

    fn request_with<B>(
        self,
        method: Method,
        path: &str,
        body: B,
    ) -> Result<Request<B>, ClientError> {
        let request = Request::builder().method(method).uri(path).header(HOST, "localhost");
        request.body(body).map_err(|error| self.unreachable(&error))
    }

    /// The body of a success.
    async fn whole<B: Sent>(self, request: Request<B>) -> Result<Bytes, ClientError> {
        self.body(self.send(request).await?.into_body()).await
    }

    async fn body(self, body: Incoming) -> Result<Bytes, ClientError> {
        let collected = Limited::new(body, ANSWER_MAX).collect().await;
        collected.map(http_body_util::Collected::to_bytes).map_err(|why| self.unreachable(&why))
    }

    fn unreachable(self, why: &impl ToString) -> ClientError {
        ClientError::Unreachable { port: self.port, why: why.to_string() }
    }

    /// The head of a success.
    async fn send<B: Sent>(self, request: Request<B>) -> Result<Response<Incoming>, ClientError> {
        self.ask(&mut self.connect().await?, request).await
    }

    async fn connect<B: Sent>(self) -> Result<SendRequest<B>, ClientError> {
        let stream =
            TcpStream::connect(self.address()).await.map_err(|error| self.unreachable(&error))?;
        let (requests, connection) =
            handshake(TokioIo::new(stream)).await.map_err(|error| self.unreachable(&error))?;
        tokio::spawn(connection);
        Ok(requests)
    }

    async fn ask<B: Sent>(
        self,
        requests: &mut SendRequest<B>,
        request: Request<B>,
    ) -> Result<Response<Incoming>, ClientError> {
        let what = format!("{} {}", request.method(), request.uri());
        requests.ready().await.map_err(|error| self.unreachable(&error))?;
        let response =
            requests.send_request(request).await.map_err(|error| self.unreachable(&error))?;
        if response.status() == StatusCode::OK {
            return Ok(response);
        }
        let code = response.status().as_u16();
        let said = self.body(response.into_body()).await?;
        let said = String::from_utf8_lossy(&said).trim().to_owned();
        Err(ClientError::Refused { what, code, said })
    }
}

/// A body that can be sent.
trait Sent:
    Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send + Unpin + 'static
{
}

impl<B> Sent for B where
    B: Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>>
        + Send
        + Unpin
        + 'static
{
}

/// A number that no LiteFS has drawn for itself: by it the daemon asks its own LiteFS for what only
/// others may ask.
const FOREIGN: &str = "00000000006C6670";

/// `name=`: what is not plain is written by its bytes (RFC 3986, 2.1).
fn escape(name: &str) -> String {
    name.bytes().fold(String::with_capacity(name.len()), |mut text, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            text.push(char::from(byte));
        } else {
            use std::fmt::Write;
            // Into memory: it cannot fail.
            let _ = write!(text, "%{byte:02X}");
        }
        text
    })
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Info {
    #[serde(default)]
    #[serde(rename = "clusterID")]
    cluster_id: String,
    #[serde(default)]
    is_primary: bool,
    #[serde(default)]
    primary: Named,
}

#[derive(Default, Deserialize)]
struct Named {
    #[serde(default)]
    hostname: String,
}

#[derive(Deserialize)]
struct Variables {
    store: Store,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Store {
    #[serde(default)]
    dbs: std::collections::BTreeMap<String, Database>,
}

#[derive(Deserialize)]
struct Database {
    txid: String,
    checksum: String,
}

/// Both answers are of the same LiteFS: it is the only one on this port.
fn read(headers: &HeaderMap, info: &[u8], variables: &[u8]) -> Result<Seen, ClientError> {
    let odd = |what: &str, why: String| ClientError::Odd { what: what.into(), why };
    let info: Info =
        serde_json::from_slice(info).map_err(|error| odd("/info", error.to_string()))?;
    let store: Variables =
        serde_json::from_slice(variables).map_err(|error| odd("/debug/vars", error.to_string()))?;
    let litefs_id = headers.get(ID).and_then(|id| id.to_str().ok());
    let litefs_id = litefs_id.ok_or_else(|| odd("/info", format!("there is no {ID}")))?.to_owned();
    let mut positions = Positions::new();
    for (name, database) in store.store.dbs {
        let at = position(&database.txid, &database.checksum)
            .ok_or_else(|| odd("/debug/vars", format!("the position of {name} is none")))?;
        if at.txid.0 > 0 {
            positions.insert(name, at);
        }
    }
    let attached_to =
        (!info.is_primary && !info.primary.hostname.is_empty()).then_some(info.primary.hostname);
    Ok(Seen {
        running: true,
        primary: info.is_primary,
        attached_to,
        litefs_id,
        cluster_id: info.cluster_id,
        positions,
        tenure: None,
    })
}

/// The gauge `litefs_lag_seconds`.
fn lag(metrics: &str) -> Option<Duration> {
    let line = metrics.lines().find_map(|line| line.strip_prefix("litefs_lag_seconds "))?;
    Duration::try_from_secs_f64(line.trim().parse::<f64>().ok()?.max(0.0)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_litefs_says_is_read() {
        let mut headers = HeaderMap::new();
        headers.insert(ID, "0123456789ABCDEF".parse().unwrap());
        let info = br#"{"clusterID": "LFSC1", "isPrimary": false, "candidate": true,
            "path": "/d", "primary": {"hostname": "n2"}}"#;
        let variables = br#"{"cmdline": [], "store": {"isPrimary": false, "dbs": {
            "a.db": {"name": "a.db", "txid": "000000000000001f", "checksum": "8000000000000007"},
            "new": {"name": "new", "txid": "0000000000000000", "checksum": "0000000000000000"}}}}"#;
        let seen = read(&headers, info, variables).unwrap();
        assert_eq!(seen.attached_to.as_deref(), Some("n2"));
        assert_eq!(
            (seen.litefs_id.as_str(), seen.cluster_id.as_str()),
            ("0123456789ABCDEF", "LFSC1")
        );
        assert_eq!(seen.positions.len(), 1);
        assert_eq!(seen.positions["a.db"].to_string(), "000000000000001f/8000000000000007");
        assert!(read(&HeaderMap::new(), info, variables).is_err());
        assert!(read(&headers, b"<html>", variables).is_err());
        assert!(read(&headers, info, b"{}").is_err());
    }

    #[test]
    fn the_lag_is_found_among_the_metrics() {
        let metrics = "# HELP litefs_lag_seconds Lag\nlitefs_lag_seconds 1.25\nlitefs_db_count 1\n";
        assert_eq!(lag(metrics), Some(Duration::from_millis(1250)));
        assert_eq!(lag("litefs_lag_seconds -0.001\n"), Some(Duration::ZERO));
        assert_eq!(lag(""), None);
    }

    #[test]
    fn names_are_written_so_that_they_arrive() {
        assert_eq!(escape("a b&c=d.db"), "a%20b%26c%3Dd.db");
    }
}
