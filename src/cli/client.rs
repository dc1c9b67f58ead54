//! A client of a node's HTTP API: one connection a request, everything bounded.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderMap};
use hyper::{Method, Request, Response, StatusCode, Uri};
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
        self.change(Method::POST, path, body).await
    }

    /// Asks for a change, by any method.
    pub async fn change<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&serde_json::Value>,
    ) -> Result<T, Failure> {
        let body = body.map(ToString::to_string);
        self.ask(method, path, body, WAIT_TIME).await?.read(&self.address)
    }

    /// Asks for something to be removed.
    pub async fn delete<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        self.change(Method::DELETE, path, None).await
    }

    /// Sends bytes.
    pub async fn put<T: DeserializeOwned>(&self, path: &str, bytes: Bytes) -> Result<T, Failure> {
        let exchange = self.exchange(Method::PUT, path, Some((bytes, "application/octet-stream")));
        self.within(WAIT_TIME, exchange).await?.read(&self.address)
    }

    /// Asks for something that is long: each piece of it goes to `take` as it comes. The answer is
    /// its head, of a success.
    pub async fn download(
        &self,
        path: &str,
        mut take: impl FnMut(&[u8]) -> Result<(), Failure>,
    ) -> Result<HeaderMap, Failure> {
        let response = self.within(WAIT_TIME, self.send(Method::GET, path, None)).await?;
        if !response.status().is_success() {
            let answer = self.within(LOOK_TIME, self.whole(response)).await?;
            return Err(answer.refusal(&self.address));
        }
        let (head, mut body) = response.into_parts();
        while let Some(frame) = self.within(WAIT_TIME, async { Ok(body.frame().await) }).await? {
            if let Ok(bytes) = frame.map_err(|error| self.broken(&error))?.into_data() {
                take(&bytes)?;
            }
        }
        Ok(head.headers)
    }

    /// Sends a request, and reads the answer, whatever its code.
    pub async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<String>,
        time: Duration,
    ) -> Result<Answer, Failure> {
        let body = body.map(|body| (Bytes::from(body), "application/json"));
        self.within(time, self.exchange(method, path, body)).await
    }

    async fn within<T>(
        &self,
        time: Duration,
        exchange: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        tokio::time::timeout(time, exchange).await.unwrap_or_else(|_| {
            let why = format!("the node at {} did not answer within {time:?}", self.address);
            Err(Failure::new(Exit::TryAgain, why))
        })
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Option<(Bytes, &'static str)>,
    ) -> Result<Answer, Failure> {
        let response = self.send(method, path, body).await?;
        self.whole(response).await
    }

    async fn whole(&self, response: Response<Incoming>) -> Result<Answer, Failure> {
        let code = response.status();
        let body = Limited::new(response.into_body(), ANSWER_MAX).collect().await;
        Ok(Answer { code, body: body.map_err(|error| self.broken(&error))?.to_bytes() })
    }

    /// One connection a request; it lives as long as its answer is read.
    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<(Bytes, &'static str)>,
    ) -> Result<Response<Incoming>, Failure> {
        let stream = self.connect().await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| self.broken(&error))?;
        // How it ends shows in the answer.
        tokio::spawn(connection);
        let host = match &self.address {
            Address::Socket(_) => "localhost",
            Address::Tcp(authority) => authority,
        };
        let mut request = Request::builder().method(method).uri(path).header(HOST, host);
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        if let Some((_, kind)) = &body {
            request = request.header(CONTENT_TYPE, *kind);
        }
        let body = Full::new(body.map(|(bytes, _)| bytes).unwrap_or_default());
        let request = request.body(body).map_err(|_| {
            Failure::new(Exit::Usage, "the token, or a name, holds characters that HTTP cannot")
        })?;
        sender.send_request(request).await.map_err(|error| self.broken(&error))
    }

    fn broken(&self, error: &dyn std::fmt::Display) -> Failure {
        let why = format!("the node at {} broke off: {error}", self.address);
        Failure::new(Exit::Unavailable, why)
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
        Err(self.refusal(address))
    }

    /// Why it was no success.
    fn refusal(&self, address: &Address) -> Failure {
        let exit = match self.code {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Exit::NoPermission,
            StatusCode::SERVICE_UNAVAILABLE => Exit::TryAgain,
            StatusCode::BAD_REQUEST => Exit::Usage,
            StatusCode::PRECONDITION_FAILED => Exit::Unavailable,
            StatusCode::NOT_FOUND => Exit::NoInput,
            StatusCode::CONFLICT => Exit::CannotCreate,
            StatusCode::UNPROCESSABLE_ENTITY => Exit::Data,
            StatusCode::INSUFFICIENT_STORAGE => Exit::Io,
            _ => Exit::Software,
        };
        Failure::new(exit, format!("the node at {address} says: {}", self.words()))
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

/// A name as one part of a path.
pub(super) fn in_path(name: &str) -> String {
    use std::fmt::Write as _;
    name.bytes().fold(String::new(), |mut text, byte| {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            text.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(text, "%{byte:02X}");
        }
        text
    })
}
