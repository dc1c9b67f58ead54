//! Databases in and out.
//!
//! ```text
//! POST /databases/NAME/import               {"bytes": N, "sha256": "…"}: begin, or go on where it was
//! PUT  /databases/NAME/import/UPLOAD?offset=K   the next piece, at most 8 MiB
//! POST /databases/NAME/import/UPLOAD        all is here: 200 imported, 202 still at it, ask again
//! DELETE /databases/NAME/import/UPLOAD      forgets what came so far
//! GET  /databases/NAME/export               the file; its position in a header
//! GET  /diverged                            what was set aside on this node
//! GET  /diverged/ID/export?database=NAME    a database of it
//! DELETE /diverged/ID                       removes it for good
//! ```
//! bounded-answer: each request carries a piece of bounded size. Only an export is as long as the
//! database: it is cut off when nobody takes it for a while.

use std::io::{self, Read};
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Path, Query, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use bytes::Bytes;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::admin::{TimeoutQuery, read_body};
use super::answer::error;
use crate::core::DatabaseName;
use crate::core::engine::Engine;
use crate::core::transfer::{Export, PIECE_MAX, TransferError, Upload, UploadId};

/// The header that says as of which position an export is.
pub const POSITION: &str = "litefs-position";

/// In which a piece must have arrived: 8 MiB over a slow line. Tests have less patience.
const PIECE_TIME: Duration = Duration::from_secs(if cfg!(test) { 2 } else { 60 });

/// How long nobody may take the next bytes of an export: it holds a place in the database's WAL.
const STALLED: Duration = Duration::from_secs(if cfg!(test) { 2 } else { 30 });

/// Some bytes of a file.
type Part = io::Result<Bytes>;

/// Bytes that are read at once, and how many times that ahead.
const RUN: usize = 256 << 10;
const AHEAD: usize = 4;

pub(super) fn routes() -> Router<Arc<dyn Engine>> {
    Router::new()
        .route("/databases/{name}/import", post(begin))
        .route("/databases/{name}/import/{upload}", post(finish).put(piece).delete(forget))
        .route("/databases/{name}/export", get(export))
        .route("/diverged/{id}", axum::routing::delete(drop_diverged))
        .route("/diverged/{id}/export", get(export_diverged))
}

/// What does more than look, although it is asked for by GET.
pub(super) fn is_long(path: &str) -> bool {
    path.ends_with("/export")
}

#[derive(Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct BeginBody {
    bytes: u64,
    sha256: String,
}

async fn begin(
    State(engine): State<Arc<dyn Engine>>,
    Path(name): Path<String>,
    body: Body,
) -> Response {
    let asked = read_body::<BeginBody>(body).await;
    let upload = asked.and_then(|BeginBody { bytes, sha256 }| {
        let database = database(name)?;
        Ok(Upload { database, bytes, sha256 })
    });
    match upload {
        Ok(upload) => answer(engine.begin_upload(upload).await),
        Err((code, why)) => error(code, &why),
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PieceQuery {
    /// Where it begins.
    offset: u64,
}

async fn piece(
    State(engine): State<Arc<dyn Engine>>,
    Path((_, upload)): Path<(String, UploadId)>,
    Query(query): Query<PieceQuery>,
    body: Body,
) -> Response {
    match tokio::time::timeout(PIECE_TIME, to_bytes(body, PIECE_MAX)).await {
        Ok(Ok(piece)) => answer(engine.upload_piece(upload, query.offset, piece).await),
        Ok(Err(_)) => {
            let why = format!("the piece is longer than {PIECE_MAX} bytes, or broke off");
            error(StatusCode::PAYLOAD_TOO_LARGE, &why)
        }
        Err(_) => error(StatusCode::REQUEST_TIMEOUT, "the piece did not arrive in time"),
    }
}

/// An import that is not over.
#[derive(Serialize, JsonSchema)]
pub(super) struct AtWork {
    state: &'static str,
}

async fn finish(
    State(engine): State<Arc<dyn Engine>>,
    Path((_, upload)): Path<(String, UploadId)>,
    Query(query): Query<TimeoutQuery>,
) -> Response {
    let timeout = match query.read() {
        Ok(timeout) => timeout,
        Err((code, why)) => return error(code, &why),
    };
    match engine.finish_upload(upload, timeout).await {
        Ok(Some(imported)) => Json(imported).into_response(),
        Ok(None) => (StatusCode::ACCEPTED, Json(AtWork { state: "importing" })).into_response(),
        Err(why) => refused(&why),
    }
}

async fn forget(
    State(engine): State<Arc<dyn Engine>>,
    Path((_, upload)): Path<(String, UploadId)>,
) -> Response {
    answer(engine.drop_upload(upload).await)
}

async fn export(
    State(engine): State<Arc<dyn Engine>>,
    Path(name): Path<String>,
    Query(query): Query<TimeoutQuery>,
) -> Response {
    let asked = database(name).and_then(|name| Ok((name, query.read()?)));
    match asked {
        Ok((name, timeout)) => match engine.export(name, timeout).await {
            Ok(export) => streamed(export),
            Err(why) => refused(&why),
        },
        Err((code, why)) => error(code, &why),
    }
}

pub(super) async fn diverged(State(engine): State<Arc<dyn Engine>>) -> Response {
    answer(engine.diverged().await)
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct DivergedQuery {
    /// Which of its databases, if there are several.
    database: Option<DatabaseName>,
}

async fn export_diverged(
    State(engine): State<Arc<dyn Engine>>,
    Path(id): Path<String>,
    Query(query): Query<DivergedQuery>,
) -> Response {
    match engine.export_diverged(id, query.database).await {
        Ok(export) => streamed(export),
        Err(why) => refused(&why),
    }
}

async fn drop_diverged(State(engine): State<Arc<dyn Engine>>, Path(id): Path<String>) -> Response {
    answer(engine.drop_diverged(id).await)
}

/// The file, as fast as it is taken. If it cannot be read to its end the connection breaks before the
/// announced length: nobody takes half of it for the whole.
fn streamed(export: Export) -> Response {
    let Export { position, bytes, file } = export;
    let (read, ready) = mpsc::channel(AHEAD);
    tokio::task::spawn_blocking(move || read_all(file, &read));
    let (give, parts) = mpsc::channel(1);
    tokio::spawn(give_away(ready, give));
    let parts = futures::stream::unfold(parts, async |mut parts| {
        parts.recv().await.map(|part| (part, parts))
    });
    let mut response = Response::new(Body::from_stream(parts));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/vnd.sqlite3"));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(bytes));
    let position = position.map(|position| HeaderValue::from_str(&position.to_string()));
    if let Some(Ok(position)) = position {
        headers.insert(POSITION, position);
    }
    response
}

/// Reads on a thread of its own, until nobody wants the rest.
fn read_all(mut file: Box<dyn Read + Send>, read: &mpsc::Sender<Part>) {
    loop {
        let mut run = Vec::with_capacity(RUN);
        let part = match Read::take(&mut *file, RUN as u64).read_to_end(&mut run) {
            Ok(0) => return,
            Ok(_) => Ok(Bytes::from(run)),
            Err(error) => {
                tracing::error!(%error, "an export cannot be read to its end");
                Err(error)
            }
        };
        let failed = part.is_err();
        if read.blocking_send(part).is_err() || failed {
            return;
        }
    }
}

/// Hands on what was read; no longer when nobody takes it for a while.
async fn give_away(mut ready: mpsc::Receiver<Part>, give: mpsc::Sender<Part>) {
    while let Some(part) = ready.recv().await {
        if !matches!(tokio::time::timeout(STALLED, give.send(part)).await, Ok(Ok(()))) {
            return;
        }
    }
}

fn database(name: String) -> Result<DatabaseName, super::admin::Refusal> {
    DatabaseName::new(name).map_err(|why| (StatusCode::BAD_REQUEST, why.to_string()))
}

fn answer<T: Serialize>(result: Result<T, TransferError>) -> Response {
    match result {
        Ok(value) => Json(value).into_response(),
        Err(why) => refused(&why),
    }
}

fn refused(why: &TransferError) -> Response {
    let code = match why {
        TransferError::Missing(_) => StatusCode::NOT_FOUND,
        TransferError::Exists(_) => StatusCode::CONFLICT,
        TransferError::OutOfStep(_) => StatusCode::PRECONDITION_FAILED,
        TransferError::Unfit(_) => StatusCode::UNPROCESSABLE_ENTITY,
        TransferError::NoSpace(_) => StatusCode::INSUFFICIENT_STORAGE,
        TransferError::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
    };
    error(code, &why.to_string())
}
