//! Listening, the routes, and their bounds.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::Request;
use axum::http::{Method, StatusCode};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::Response;
use axum::routing::{MethodRouter, delete, get, patch, post};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use super::access::{Door, Guard, Wish, guard};
use super::socket::bind_socket;
use super::{admin, answer, data, health, members, metrics, openapi, settings, transfer};
use crate::core::config::ApiSettings;
use crate::core::engine::Engine;

/// The largest body of a request, in bytes.
pub(super) const BODY_MAX: usize = 64 << 10;

/// In which a request's body must have arrived. Tests have less patience.
pub(super) const BODY_TIME: Duration = Duration::from_secs(if cfg!(test) { 2 } else { 10 });

/// In which a request's head must have arrived; also how long a connection may idle.
const HEAD_TIME: Duration = Duration::from_secs(if cfg!(test) { 3 } else { 30 });

/// In which what only looks is answered.
const LOOK_TIME: Duration = Duration::from_secs(10);

/// In which anything is answered: the longest wish, its body, and some room.
const ANSWER_TIME: Duration = Duration::from_secs(75);

/// The largest head of a request, in bytes, and its header lines.
const HEAD_MAX: usize = 16 << 10;
const HEADERS_MAX: usize = 64;

/// Connections at once; each listener has its own, so that the network cannot shut out the socket.
const CONNECTIONS_MAX: usize = 256;

/// Before accepting is tried again when the process is out of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Before the log is told of it again.
const TOLD_AGAIN: Duration = Duration::from_secs(10);

/// Where to listen, and who is let in.
#[derive(Debug, Clone)]
pub struct Options {
    pub listen: Option<SocketAddr>,
    pub socket: Option<PathBuf>,
    /// The group of the socket; without it the process's own.
    pub socket_group: Option<u32>,
    pub token_file: Option<PathBuf>,
    /// May change while it serves.
    pub expose_metrics: Arc<AtomicBool>,
}

impl Options {
    /// As the configuration says; the group's number is looked up by the caller
    /// ([`number_of`](crate::core::config::number_of)).
    #[must_use]
    pub fn new(settings: &ApiSettings, socket_group: Option<u32>) -> Self {
        Self {
            listen: Some(settings.listen),
            socket: Some(settings.socket.clone()),
            socket_group,
            token_file: settings.token_file.clone(),
            expose_metrics: Arc::new(AtomicBool::new(settings.expose_metrics)),
        }
    }
}

/// Why the API could not begin.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    #[error("the API cannot listen on {address}: {source}; see api.listen")]
    Listen { address: SocketAddr, source: io::Error },
    #[error("the API cannot listen on the socket {}: {source}; see api.socket", .path.display())]
    Socket { path: PathBuf, source: io::Error },
}

/// The running API. It ends when this is dropped, or in order by [`Serving::stop`].
pub struct Serving {
    local_addr: Option<SocketAddr>,
    socket: Option<PathBuf>,
    stop: watch::Sender<bool>,
    listeners: JoinSet<()>,
}

impl Serving {
    /// Where it listens, the port chosen by the system if the options said 0.
    #[must_use]
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.local_addr
    }

    /// Accepts nothing more, lets what is being answered be answered for at most `grace`, and
    /// removes the socket.
    pub async fn stop(mut self, grace: Duration) {
        // Nobody listens any more if this fails: then there is nothing to stop.
        let _ = self.stop.send(true);
        let drained = async { while self.listeners.join_next().await.is_some() {} };
        if tokio::time::timeout(grace, drained).await.is_err() {
            tracing::warn!("the API's last requests were cut off after {grace:?}");
        }
        if let Some(path) = &self.socket
            && let Err(error) = std::fs::remove_file(path)
        {
            tracing::warn!(path = %path.display(), "cannot remove the socket: {error}");
        }
    }
}

/// Begins to serve.
///
/// # Errors
/// When a listener cannot be had; then none is.
pub async fn serve(engine: Arc<dyn Engine>, options: Options) -> Result<Serving, ApiError> {
    let tcp = match options.listen {
        Some(address) => Some(
            TcpListener::bind(address)
                .await
                .map_err(|source| ApiError::Listen { address, source })?,
        ),
        None => None,
    };
    let unix = match &options.socket {
        Some(path) => Some(
            bind_socket(path, options.socket_group)
                .and_then(UnixListener::from_std)
                .map_err(|source| ApiError::Socket { path: path.clone(), source })?,
        ),
        None => None,
    };
    let (stop, stopped) = watch::channel(false);
    let mut listeners = JoinSet::new();
    let mut guard = Guard {
        door: Door::Socket,
        expose_metrics: options.expose_metrics,
        token_file: options.token_file.map(Arc::new),
    };
    let mut local_addr = None;
    if let Some(listener) = unix {
        let router = router(&engine, &guard);
        listeners.spawn(accept_loop(Listener::Unix(listener), router, stopped.clone()));
    }
    if let Some(listener) = tcp {
        local_addr = listener.local_addr().ok();
        // An address that is not known is not trusted.
        let loopback = local_addr.is_some_and(|address| address.ip().is_loopback());
        guard.door = if loopback { Door::Loopback } else { Door::Network };
        let router = router(&engine, &guard);
        listeners.spawn(accept_loop(Listener::Tcp(listener), router, stopped));
    }
    Ok(Serving { local_addr, socket: options.socket, stop, listeners })
}

fn router(engine: &Arc<dyn Engine>, guards: &Guard) -> Router {
    let group = |wish, routes: Router<Arc<dyn Engine>>| {
        routes.route_layer(from_fn_with_state((guards.clone(), wish), guard))
    };
    let health = Router::new()
        .route("/primary", probe(get(health::primary).options(health::primary)))
        .route("/replica", probe(get(health::replica).options(health::replica)))
        .route("/read-only", probe(get(health::read_only).options(health::read_only)))
        .route("/health", probe(get(health::health).options(health::health)))
        .route("/liveness", probe(get(health::liveness).options(health::liveness)))
        .route("/readiness", probe(get(health::readiness).options(health::readiness)));
    let metrics = Router::new().route("/metrics", get(metrics::metrics));
    let read = Router::new()
        .route("/cluster", get(data::cluster))
        .route("/databases", get(data::databases))
        .route("/members", get(members::list))
        .route("/history", get(data::history))
        .route("/config", get(settings::config))
        .route("/openapi.json", get(openapi::serve))
        .route("/diverged", get(transfer::diverged))
        .route("/barrier", post(admin::barrier));
    let change = Router::new()
        .route("/config", patch(settings::change))
        .route("/switchover", post(admin::switchover))
        .route("/check", post(admin::check))
        .route("/members", post(members::add))
        .route("/members/{name}", delete(members::remove))
        .route("/members/{name}/promote", post(members::promote))
        .route("/members/{name}/demote", post(members::demote))
        .route("/tokens", get(members::tokens).post(members::create_token))
        .route("/tokens/{id}", delete(members::revoke_token))
        .route("/ca/rotate", post(members::rotate_ca));
    group(Wish::Health, health)
        .merge(group(Wish::Metrics, metrics))
        .merge(group(Wish::Read, read))
        .merge(group(Wish::Change, change))
        .merge(group(Wish::Change, transfer::routes()))
        .fallback(answer::not_found)
        .method_not_allowed_fallback(answer::wrong_method)
        .layer(from_fn(bound))
        .with_state(engine.clone())
}

/// `OPTIONS` answers as `GET` does, without the body.
fn probe(route: MethodRouter<Arc<dyn Engine>>) -> MethodRouter<Arc<dyn Engine>> {
    route.layer(from_fn(async |request: Request, next: Next| {
        let bare = request.method() == Method::OPTIONS;
        let mut response = next.run(request).await;
        if bare {
            *response.body_mut() = axum::body::Body::empty();
        }
        response
    }))
}

/// bounded-answer: whatever happens behind, there is one.
async fn bound(request: Request, next: Next) -> Response {
    let looks = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    let time =
        if looks && !transfer::is_long(request.uri().path()) { LOOK_TIME } else { ANSWER_TIME };
    tokio::time::timeout(time, next.run(request)).await.unwrap_or_else(|_| {
        answer::error(StatusCode::SERVICE_UNAVAILABLE, "the node did not answer in time")
    })
}

enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// Either kind of connection.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

impl Listener {
    async fn accept(&self) -> io::Result<Box<dyn Stream>> {
        match self {
            Listener::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Ok(Box::new(stream))
            }
            Listener::Unix(listener) => Ok(Box::new(listener.accept().await?.0)),
        }
    }
}

async fn accept_loop(listener: Listener, router: Router, mut stopped: watch::Receiver<bool>) {
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    let mut told: Option<Instant> = None;
    loop {
        let stream = tokio::select! {
            stream = listener.accept() => stream,
            () = ended(&mut stopped) => break,
            Some(_) = connections.join_next() => continue,
        };
        match stream {
            // Without room the connection is closed at once: a client sees that, and may come again.
            Ok(stream) => {
                if let Ok(place) = room.clone().try_acquire_owned() {
                    let (router, stopped) = (router.clone(), stopped.clone());
                    connections.spawn(async move {
                        connection(stream, router, stopped).await;
                        drop(place);
                    });
                }
            }
            Err(error) => {
                if told.is_none_or(|told| told.elapsed() > TOLD_AGAIN) {
                    tracing::warn!("the API cannot accept a connection: {error}");
                    told = Some(Instant::now());
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

/// Until the API shall stop; its owner being gone is as good as being told so.
async fn ended(stopped: &mut watch::Receiver<bool>) {
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

async fn connection(stream: Box<dyn Stream>, router: Router, mut stopped: watch::Receiver<bool>) {
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .max_headers(HEADERS_MAX)
        .max_buf_size(HEAD_MAX);
    let connection = http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut connection = std::pin::pin!(connection);
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = ended(&mut stopped) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        tracing::debug!("a connection of the API ended early: {error}");
    }
}
