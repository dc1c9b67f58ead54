//! A client of a node's HTTP API: one connection a request, everything bounded.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use hyper::{Method, Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use super::{Exit, Failure};
use crate::api::ShortPath;

/// In which a connection must stand.
const CONNECT_TIME: Duration = Duration::from_secs(3);

/// In which what only looks must be answered: somewhat longer than the node allows itself.
pub(super) const LOOK_TIME: Duration = Duration::from_secs(15);

/// The same for what waits for the cluster.
pub(super) const WAIT_TIME: Duration = Duration::from_secs(80);

/// The largest answer that is read, in bytes: many thousands of databases.
const ANSWER_MAX: usize = 64 << 20;

/// Where a node's API is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Address {
    Socket(PathBuf),
    /// `host:port`.
    Tcp(String),
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Address::Socket(path) => write!(f, "{}", path.display()),
            Address::Tcp(authority) => write!(f, "http://{authority}"),
        }
    }
}

impl Address {
    /// From `http://host:port`.
    pub fn from_url(url: &str) -> Result<Self, Failure> {
        let wrong = |why: &str| Failure::new(Exit::Usage, format!("--api {url}: {why}"));
        let uri: Uri = url.parse().map_err(|_| wrong("this is no URL; write http://host:port"))?;
        if uri.scheme_str() != Some("http") {
            return Err(wrong("only http:// is spoken; write http://host:port"));
        }
        let host = uri.host().ok_or_else(|| wrong("a host is missing"))?;
        if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
            return Err(wrong("write it without a path"));
        }
        Ok(Address::Tcp(format!("{host}:{}", uri.port_u16().unwrap_or(8008))))
    }
}

#[derive(Debug, Clone)]
pub(super) struct Client {
    pub address: Address,
    pub token: Option<String>,
}

/// What a node answered.
pub(super) struct Answer {
    pub code: StatusCode,
    pub body: Bytes,
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

impl Client {
    /// Asks for something that is JSON, and is answered 200.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        self.ask(Method::GET, path, None, LOOK_TIME).await?.read(&self.address)
    }

    /// Asks for something to be done.
    pub async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: Option<&serde_json::Value>,
    ) -> Result<T, Failure> {
        let body = body.map(ToString::to_string);
        self.ask(Method::POST, path, body, WAIT_TIME).await?.read(&self.address)
    }

    /// Asks for a change, by any method.
    pub async fn change<T: DeserializeOwned>(
        &self,
        method: &str,
        path: &str,
        body: Option<&serde_json::Value>,
    ) -> Result<T, Failure> {
        let method = Method::from_bytes(method.as_bytes())
            .map_err(|_| Failure::new(Exit::Software, format!("{method} is no method")))?;
        let body = body.map(ToString::to_string);
        self.ask(method, path, body, WAIT_TIME).await?.read(&self.address)
    }

    /// Sends a request, and reads the answer, whatever its code.
    pub async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<String>,
        time: Duration,
    ) -> Result<Answer, Failure> {
        let exchange = self.exchange(method, path, body);
        tokio::time::timeout(time, exchange).await.unwrap_or_else(|_| {
            let why = format!("the node at {} did not answer within {time:?}", self.address);
            Err(Failure::new(Exit::TryAgain, why))
        })
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Option<String>,
    ) -> Result<Answer, Failure> {
        let broken = |error: &dyn std::fmt::Display| {
            let why = format!("the node at {} broke off: {error}", self.address);
            Failure::new(Exit::Unavailable, why)
        };
        let stream = self.connect().await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| broken(&error))?;
        let host = match &self.address {
            Address::Socket(_) => "localhost",
            Address::Tcp(authority) => authority,
        };
        let mut request = Request::builder().method(method).uri(path).header(HOST, host);
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        if body.is_some() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        let request =
            request.body(Full::new(Bytes::from(body.unwrap_or_default()))).map_err(|_| {
                Failure::new(Exit::Usage, "the token, or a name, holds characters that HTTP cannot")
            })?;
        let answer = async {
            let response = sender.send_request(request).await.map_err(|error| broken(&error))?;
            let code = response.status();
            let body = Limited::new(response.into_body(), ANSWER_MAX).collect().await;
            Ok(Answer { code, body: body.map_err(|error| broken(&error))?.to_bytes() })
        };
        tokio::pin!(connection, answer);
        tokio::select! {
            answer = &mut answer => answer,
            // The connection ends before the answer was taken from it: take it, or learn why not.
            _ = &mut connection => answer.await,
        }
    }

    /// Whether something accepts a connection there.
    pub async fn reachable(&self) -> Result<(), Failure> {
        self.connect().await.map(drop)
    }

    async fn connect(&self) -> Result<Box<dyn Stream>, Failure> {
        let connecting = async {
            let stream: Box<dyn Stream> = match &self.address {
                Address::Socket(path) => {
                    Box::new(UnixStream::connect(ShortPath::of(path)?.as_path()).await?)
                }
                Address::Tcp(authority) => Box::new(TcpStream::connect(authority).await?),
            };
            Ok(stream)
        };
        let late = || io::Error::new(io::ErrorKind::TimedOut, "no answer");
        tokio::time::timeout(CONNECT_TIME, connecting)
            .await
            .unwrap_or_else(|_| Err(late()))
            .map_err(|error: io::Error| self.unreachable(&error))
    }

    fn unreachable(&self, error: &io::Error) -> Failure {
        let (exit, hint) = match error.kind() {
            io::ErrorKind::PermissionDenied => {
                (Exit::NoPermission, "be root, or of the socket's group (api.socket_group)")
            }
            _ => (Exit::Unavailable, "is it running there? (--config, --dir or --api say where)"),
        };
        Failure::new(exit, format!("cannot reach the node at {}: {error}; {hint}", self.address))
    }
}

impl Answer {
    /// The body of a success as JSON; else the node's own words.
    pub fn read<T: DeserializeOwned>(&self, address: &Address) -> Result<T, Failure> {
        if self.code.is_success() {
            return serde_json::from_slice(&self.body).map_err(|error| {
                let why = format!("the answer of {address} is none of a litefs-py node: {error}");
                Failure::new(Exit::Software, why)
            });
        }
        let exit = match self.code {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Exit::NoPermission,
            StatusCode::SERVICE_UNAVAILABLE => Exit::TryAgain,
            StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY => Exit::Usage,
            StatusCode::PRECONDITION_FAILED | StatusCode::NOT_FOUND => Exit::Unavailable,
            StatusCode::CONFLICT => Exit::CannotCreate,
            _ => Exit::Software,
        };
        Err(Failure::new(exit, format!("the node at {address} says: {}", self.words())))
    }

    /// Why it was no success, from `{"error": …}` or a health endpoint's `{"reason": …}`.
    pub fn words(&self) -> String {
        let json: Option<serde_json::Value> = serde_json::from_slice(&self.body).ok();
        let words = json.as_ref().and_then(|json| {
            json.get("error").or_else(|| json.get("reason")).and_then(serde_json::Value::as_str)
        });
        words.map_or_else(|| self.code.to_string(), str::to_owned)
    }
}
