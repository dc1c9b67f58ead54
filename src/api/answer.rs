//! Answers in JSON, errors too: one line, what failed and what to do.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

/// An error as the API tells it: `{"error": "…"}`.
#[derive(Serialize)]
struct ErrorBody<'a> {
    error: &'a str,
}

pub(super) fn error(status: StatusCode, message: &str) -> Response {
    (status, Json(ErrorBody { error: message })).into_response()
}

pub(super) async fn not_found() -> Response {
    error(StatusCode::NOT_FOUND, "there is nothing at this path")
}

pub(super) async fn wrong_method() -> Response {
    error(StatusCode::METHOD_NOT_ALLOWED, "this path does not answer this method")
}
