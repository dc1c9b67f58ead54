//! Who may ask what: the promise no-open-door.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use sha2::{Digest, Sha256};
use tokio::io::AsyncReadExt;

use super::answer::error;

/// No token is longer, in bytes.
const TOKEN_MAX: u64 = 4096;

/// The way a request came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Door {
    /// The Unix socket: only root and the service's group open it.
    Socket,
    /// A listener on a loopback address.
    Loopback,
    /// A listener on any other.
    Network,
}

impl Door {
    /// By which way somebody asked for a change, in words.
    pub fn words(self) -> &'static str {
        match self {
            Door::Socket => "the Unix socket",
            Door::Loopback | Door::Network => "the HTTP API",
        }
    }
}

/// What a request wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wish {
    /// Whether this node is healthy: tells no data.
    Health,
    Metrics,
    /// To look, or to wait.
    Read,
    /// To change something, or to have what is in a database.
    Change,
}

/// What decides: the door, the setting for metrics, and the token's file.
#[derive(Debug, Clone)]
pub(super) struct Guard {
    pub door: Door,
    pub expose_metrics: Arc<AtomicBool>,
    pub token_file: Option<Arc<PathBuf>>,
}

impl Guard {
    /// Whether it is granted without a token.
    fn open(&self, wish: Wish) -> bool {
        match (self.door, wish) {
            (Door::Socket, _) | (_, Wish::Health) => true,
            (Door::Loopback, wish) => wish != Wish::Change,
            (Door::Network, wish) => {
                wish == Wish::Metrics && self.expose_metrics.load(Ordering::Relaxed)
            }
        }
    }

    async fn refuse(&self, wish: Wish, headers: &HeaderMap) -> Option<Response> {
        if self.open(wish) {
            return None;
        }
        let Some(file) = &self.token_file else {
            let why = "api.token_file is not set: ask through the Unix socket, or set it";
            return Some(error(StatusCode::FORBIDDEN, why));
        };
        let Some(given) = bearer(headers) else {
            return Some(unauthorized("this needs the header \"Authorization: Bearer <token>\""));
        };
        // Read at each question, so that a token can be changed without a restart.
        match read_token(file).await {
            Ok(token) if same(given.as_bytes(), token.as_bytes()) => None,
            Ok(_) => Some(unauthorized("this is not the token")),
            Err(why) => {
                tracing::error!(file = %file.display(), "cannot use the token file: {why}");
                let why = "the node cannot use its token file; its log says why";
                Some(error(StatusCode::INTERNAL_SERVER_ERROR, why))
            }
        }
    }
}

/// The middleware before each group of routes.
pub(super) async fn guard(
    State((guard, wish)): State<(Guard, Wish)>,
    mut request: Request,
    next: Next,
) -> Response {
    if let Some(refusal) = guard.refuse(wish, request.headers()).await {
        return refusal;
    }
    request.extensions_mut().insert(guard.door);
    next.run(request).await
}

fn unauthorized(why: &str) -> Response {
    let mut response = error(StatusCode::UNAUTHORIZED, why);
    response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    response
}

/// RFC 6750, 2.1; the scheme's case does not matter (RFC 9110, 11.1).
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// The token in a file.
///
/// # Errors
/// It cannot be read, is empty or too long, or others than its owner and group may read it.
pub(super) async fn read_token(file: &Path) -> Result<String, String> {
    use std::os::unix::fs::MetadataExt;

    let failed = |error: std::io::Error| error.to_string();
    let file = tokio::fs::File::open(file).await.map_err(failed)?;
    if file.metadata().await.map_err(failed)?.mode() & 0o007 != 0 {
        return Err("any user can open it; take that away with chmod o-rwx".to_owned());
    }
    let mut text = String::new();
    file.take(TOKEN_MAX + 1).read_to_string(&mut text).await.map_err(failed)?;
    if text.len() as u64 > TOKEN_MAX {
        return Err(format!("it is longer than {TOKEN_MAX} bytes"));
    }
    let token = text.trim();
    if token.is_empty() { Err("it is empty".to_owned()) } else { Ok(token.to_owned()) }
}

/// Whether both are the same, in a time that tells nothing of where or how they differ: compared
/// are digests, of one length, and all of their bytes.
fn same(a: &[u8], b: &[u8]) -> bool {
    let (a, b) = (Sha256::digest(a), Sha256::digest(b));
    std::hint::black_box(a.iter().zip(b.iter()).fold(0, |all, (a, b)| all | (a ^ b))) == 0
}
