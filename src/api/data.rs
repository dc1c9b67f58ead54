//! What the cluster and its databases look like from here.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;

use crate::core::engine::{DatabaseStatus, Engine, Status};
use crate::core::history::LeaderChange;

pub(super) async fn cluster(State(engine): State<Arc<dyn Engine>>) -> Json<Status> {
    Json(engine.status())
}

pub(super) async fn databases(State(engine): State<Arc<dyn Engine>>) -> Json<Vec<DatabaseStatus>> {
    Json(engine.databases())
}

pub(super) async fn history(State(engine): State<Arc<dyn Engine>>) -> Json<Vec<LeaderChange>> {
    Json(engine.history())
}
