//! What makes the cluster do something.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::{Body, to_bytes};
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::answer::error;
use super::server::{BODY_MAX, BODY_TIME};
use crate::core::DatabaseName;
use crate::core::config::parse_duration;
use crate::core::engine::{Engine, Switchover, SwitchoverError};

/// How long it may take when the request does not say.
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(10);

/// The longest that a request may ask for.
pub(super) const TIMEOUT_MAX: Duration = Duration::from_mins(1);

/// A request that is not passed on, and why.
pub(super) type Refusal = (StatusCode, String);

fn bad(why: String) -> Refusal {
    (StatusCode::BAD_REQUEST, why)
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TimeoutQuery {
    /// A duration such as `5s`, at most a minute.
    timeout: Option<String>,
}

impl TimeoutQuery {
    pub fn read(&self) -> Result<Duration, Refusal> {
        match self.timeout.as_deref().map(parse_duration) {
            None => Ok(TIMEOUT_DEFAULT),
            Some(Ok(timeout)) if timeout <= TIMEOUT_MAX => Ok(timeout),
            Some(Ok(_)) => Err(bad("timeout: at most 60s".to_owned())),
            Some(Err(why)) => Err(bad(format!("timeout: {why}"))),
        }
    }
}

/// `POST /barrier?timeout=5s`: 200 when all that was committed before is visible here.
pub(super) async fn barrier(
    State(engine): State<Arc<dyn Engine>>,
    Query(query): Query<TimeoutQuery>,
) -> Response {
    let timeout = match query.read() {
        Ok(timeout) => timeout,
        Err((code, why)) => return error(code, &why),
    };
    match engine.barrier(timeout).await {
        Ok(passed) => Json(passed).into_response(),
        Err(why) => error(StatusCode::SERVICE_UNAVAILABLE, &why.to_string()),
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct SwitchoverBody {
    /// The node that shall lead; without it, the one that is furthest.
    to: Option<String>,
}

/// `POST /switchover` with `{"to": "n2"}` or nothing: 200 done, 202 asked for, 412 refused, 503
/// nobody can.
pub(super) async fn switchover(
    State(engine): State<Arc<dyn Engine>>,
    Query(query): Query<TimeoutQuery>,
    body: Body,
) -> Response {
    let (timeout, body) = match read::<SwitchoverBody>(&query, body).await {
        Ok(asked) => asked,
        Err((code, why)) => return error(code, &why),
    };
    match engine.switchover(body.to, timeout).await {
        Ok(done @ Switchover::Done { .. }) => Json(done).into_response(),
        Ok(accepted @ Switchover::Accepted { .. }) => {
            (StatusCode::ACCEPTED, Json(accepted)).into_response()
        }
        Err(SwitchoverError::Refused(why)) => error(StatusCode::PRECONDITION_FAILED, &why),
        Err(SwitchoverError::Unavailable(why)) => error(StatusCode::SERVICE_UNAVAILABLE, &why),
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CheckBody {
    database: DatabaseName,
}

/// `POST /check` with `{"database": "app.db"}`: what every node has of it, read byte by byte.
pub(super) async fn check(
    State(engine): State<Arc<dyn Engine>>,
    Query(query): Query<TimeoutQuery>,
    body: Body,
) -> Response {
    match read::<Option<CheckBody>>(&query, body).await {
        Ok((timeout, Some(body))) => {
            Json(engine.check(body.database, timeout).await).into_response()
        }
        Ok((_, None)) => {
            error(StatusCode::BAD_REQUEST, "the body: which database is to be checked?")
        }
        Err((code, why)) => error(code, &why),
    }
}

/// The time and the body of a request.
async fn read<T: Default + DeserializeOwned>(
    query: &TimeoutQuery,
    body: Body,
) -> Result<(Duration, T), Refusal> {
    Ok((query.read()?, read_body(body).await?))
}

/// No body, or JSON; bounded in size and time.
pub(super) async fn read_body<T: Default + DeserializeOwned>(body: Body) -> Result<T, Refusal> {
    let bytes = match tokio::time::timeout(BODY_TIME, to_bytes(body, BODY_MAX)).await {
        Ok(Ok(bytes)) => bytes,
        Ok(Err(_)) => {
            let why = format!("the body is longer than {BODY_MAX} bytes, or broke off");
            return Err((StatusCode::PAYLOAD_TOO_LARGE, why));
        }
        Err(_) => {
            let why = "the body did not arrive in time".to_owned();
            return Err((StatusCode::REQUEST_TIMEOUT, why));
        }
    };
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Ok(T::default());
    }
    serde_json::from_slice(&bytes).map_err(|why| bad(format!("the body: {why}")))
}
