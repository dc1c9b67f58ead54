//! The configuration that runs, and changes of it.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use super::admin::read_body;
use super::answer::error;
use crate::core::config::{ChangeError, ConfigView};
use crate::core::engine::Engine;

/// `GET /config`: what the file said, what was changed since, and what runs.
pub(super) async fn config(State(engine): State<Arc<dyn Engine>>) -> Json<ConfigView> {
    Json(engine.config())
}

/// `PATCH /config` with `{"log": {"level": "debug"}}`: 200 with what runs now, 412 when it takes a
/// restart, 422 when a key or a value is wrong; then nothing was changed.
pub(super) async fn change(State(engine): State<Arc<dyn Engine>>, body: Body) -> Response {
    let patch = match read_body::<serde_json::Value>(body).await {
        Ok(patch) => patch,
        Err((code, why)) => return error(code, &why),
    };
    match engine.change_config(patch).await {
        Ok(view) => Json(view).into_response(),
        Err(why) => {
            let code = match &why {
                ChangeError::Invalid(_) => StatusCode::UNPROCESSABLE_ENTITY,
                ChangeError::NeedsRestart(_) => StatusCode::PRECONDITION_FAILED,
                ChangeError::Failed(_) => StatusCode::INTERNAL_SERVER_ERROR,
            };
            error(code, &why.to_string())
        }
    }
}
