//! Who belongs to the cluster: members, tokens, the CA.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::admin::{TimeoutQuery, read};
use super::answer::error;
use crate::core::config::parse_duration;
use crate::core::engine::Engine;
use crate::core::members::{NotDone, Told, Wish};

type Shared = State<Arc<dyn Engine>>;

/// A token holds for a day when nothing else is said.
const TTL_DEFAULT: u64 = 24 * 3600;

/// `GET /members`: as the node that is asked sees them.
pub(super) async fn list(State(engine): Shared) -> Response {
    Json(engine.status().members).into_response()
}

#[derive(Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AddBody {
    name: String,
    address: String,
    #[serde(default)]
    learner: bool,
}

/// `POST /members` with `{"name": "n4", "address": "10.0.0.4:4321"}`: a node that has a certificate.
pub(super) async fn add(engine: Shared, Query(query): Query<TimeoutQuery>, body: Body) -> Response {
    match read::<AddBody>(&query, body).await {
        Ok((_, AddBody { name, address, learner })) => {
            ask(engine, &query, Wish::Add { name, address, learner }).await
        }
        Err((code, why)) => error(code, &why),
    }
}

/// `DELETE /members/n4`.
pub(super) async fn remove(
    engine: Shared,
    Path(name): Path<String>,
    Query(query): Query<TimeoutQuery>,
) -> Response {
    ask(engine, &query, Wish::Remove { name }).await
}

/// `POST /members/n4/promote`: it is to vote.
pub(super) async fn promote(
    engine: Shared,
    Path(name): Path<String>,
    Query(query): Query<TimeoutQuery>,
) -> Response {
    ask(engine, &query, Wish::Promote { name }).await
}

/// `POST /members/n4/demote`: it is to replicate only.
pub(super) async fn demote(
    engine: Shared,
    Path(name): Path<String>,
    Query(query): Query<TimeoutQuery>,
) -> Response {
    ask(engine, &query, Wish::Demote { name }).await
}

/// `GET /tokens`: without their secrets.
pub(super) async fn tokens(engine: Shared, Query(query): Query<TimeoutQuery>) -> Response {
    ask(engine, &query, Wish::ListTokens).await
}

#[derive(Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct TokenBody {
    #[serde(default)]
    learner: bool,
    /// A duration such as `2h`.
    ttl: Option<String>,
}

/// `POST /tokens` with `{"ttl": "2h", "learner": false}` or nothing.
pub(super) async fn create_token(
    engine: Shared,
    Query(query): Query<TimeoutQuery>,
    body: Body,
) -> Response {
    let body = match read::<TokenBody>(&query, body).await {
        Ok((_, body)) => body,
        Err((code, why)) => return error(code, &why),
    };
    let ttl_seconds = match body.ttl.as_deref().map(parse_duration) {
        None => TTL_DEFAULT,
        Some(Ok(ttl)) => ttl.as_secs(),
        Some(Err(why)) => return error(StatusCode::BAD_REQUEST, &format!("ttl: {why}")),
    };
    ask(engine, &query, Wish::CreateToken { learner: body.learner, ttl_seconds }).await
}

/// `DELETE /tokens/0123456789abcdef`.
pub(super) async fn revoke_token(
    engine: Shared,
    Path(id): Path<String>,
    Query(query): Query<TimeoutQuery>,
) -> Response {
    ask(engine, &query, Wish::RevokeToken { id }).await
}

/// `POST /ca/rotate`: a new CA in place of the present one, while the cluster runs.
pub(super) async fn rotate_ca(engine: Shared, Query(query): Query<TimeoutQuery>) -> Response {
    ask(engine, &query, Wish::RotateCa).await
}

/// 200 done, 202 goes on by itself, 404 nothing of that name, 409 there already, 412 would do harm,
/// 503 nobody can.
async fn ask(State(engine): Shared, query: &TimeoutQuery, wish: Wish) -> Response {
    let timeout = match query.read() {
        Ok(timeout) => timeout,
        Err((code, why)) => return error(code, &why),
    };
    match engine.administer(wish, timeout).await {
        Ok(accepted @ Told::Accepted { .. }) => {
            (StatusCode::ACCEPTED, Json(accepted)).into_response()
        }
        Ok(told) => Json(told).into_response(),
        Err(why) => {
            let code = match why {
                NotDone::Unknown(_) => StatusCode::NOT_FOUND,
                NotDone::Conflict(_) => StatusCode::CONFLICT,
                NotDone::Refused(_) => StatusCode::PRECONDITION_FAILED,
                NotDone::NoLeader(_) | NotDone::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
            };
            error(code, &why.to_string())
        }
    }
}
