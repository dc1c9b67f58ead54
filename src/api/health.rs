//! The health endpoints: a load balancer asks them. They tell no data, so that anyone may ask.
//!
//! `GET`, `HEAD` and `OPTIONS` give the same code, 200 or 503.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::answer::{Asked, error};
use crate::core::config::parse_duration;
use crate::core::engine::{Engine, Role, Status};

type Shared = State<Arc<dyn Engine>>;

/// What a health endpoint says.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Health<'a> {
    /// `running`, `starting` or `stuck`.
    state: &'static str,
    role: Role,
    #[serde(skip_serializing_if = "Option::is_none")]
    lag_ms: Option<u64>,
    /// Why the code is 503.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
}

/// 200 when there is no reason against it, else 503.
fn answer(status: &Status, reason: Option<&str>) -> Response {
    let code = if reason.is_none() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let state = match status {
        Status { stuck: Some(_), .. } => "stuck",
        Status { serving: false, .. } => "starting",
        _ => "running",
    };
    let health = Health { state, role: status.role, lag_ms: status.lag_ms, reason };
    (code, Json(health)).into_response()
}

fn not_serving(status: &Status) -> Option<&'static str> {
    (!status.serving).then_some("the databases are not being served")
}

/// The node that leads, and has a majority behind it.
pub(super) async fn primary(State(engine): Shared) -> Response {
    let status = engine.status();
    let reason = not_serving(&status)
        .or((status.role != Role::Primary).then_some("this node is a replica"))
        .or((!status.quorum.ok).then_some("no majority of the nodes answers"));
    answer(&status, reason)
}

#[derive(Debug, Deserialize)]
pub(super) struct ReplicaQuery {
    /// How far behind it may be: milliseconds, or a duration such as `2s`.
    lag: Option<String>,
}

/// A node that serves reads and does not lead; with `lag`, that is at most so far behind.
pub(super) async fn replica(State(engine): Shared, Asked(query): Asked<ReplicaQuery>) -> Response {
    let allowed = match query.lag.as_deref().map(parse_lag) {
        None => None,
        Some(Some(lag)) => Some(lag),
        Some(None) => {
            let why = "lag: write milliseconds, or a duration such as 2s";
            return error(StatusCode::BAD_REQUEST, why);
        }
    };
    let status = engine.status();
    let behind = allowed.and_then(|allowed| match status.lag_ms {
        Some(lag) if u128::from(lag) <= allowed.as_millis() => None,
        Some(_) => Some("this node is further behind than asked for"),
        None => Some("how far behind this node is cannot be known: it knows of no leader"),
    });
    let reason = not_serving(&status)
        .or((status.role != Role::Replica).then_some("this node is the primary"))
        .or(behind);
    answer(&status, reason)
}

fn parse_lag(text: &str) -> Option<Duration> {
    text.parse().map(Duration::from_millis).or_else(|_| parse_duration(text)).ok()
}

/// Any node that serves reads.
pub(super) async fn read_only(State(engine): Shared) -> Response {
    let status = engine.status();
    answer(&status, not_serving(&status))
}

/// A node whose mount is up, in any role.
pub(super) async fn health(State(engine): Shared) -> Response {
    let status = engine.status();
    let reason = status.stuck.as_deref().or(not_serving(&status));
    answer(&status, reason)
}

/// 503 when the process should be started again.
pub(super) async fn liveness(State(engine): Shared) -> Response {
    let status = engine.status();
    answer(&status, status.stuck.as_deref())
}

/// 200 when the node should get work.
pub(super) async fn readiness(State(engine): Shared) -> Response {
    let status = engine.status();
    let reasons = status.not_ready.join("; ");
    let reason = not_serving(&status).or((!reasons.is_empty()).then_some(&*reasons));
    answer(&status, reason)
}
