//! `POST /checks`: whether a copy would find everything that it needs.

use super::{Problem, bad_request, runs::activity_of};
use crate::{checks, core::Core};
use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use ferry_common::failure::Failure;
use serde::Deserialize;
use serde_json::Value;
use std::sync::Arc;
use utoipa::ToSchema;

/// What to check: `activity` or `activityText`, one of both.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Asked {
    /// The copy activity.
    #[schema(value_type = Option<Value>)]
    activity: Option<Value>,
    /// The copy activity as YAML or JSON text.
    activity_text: Option<String>,
    /// What no probe can tell is tried with things that are removed again.
    #[serde(default, rename = "try")]
    tries: bool,
}

/// Checks every connection and permission that a copy needs.
#[utoipa::path(
    post,
    path = "/api/v1/checks",
    tag = "runs",
    request_body = Asked,
    responses((status = 200, body = Value, description = "Each check with its probe and result, and a verdict"))
)]
pub(super) async fn check(State(core): State<Arc<Core>>, body: String) -> Result<Response, Problem> {
    let asked: Asked = serde_json::from_str(&body).map_err(bad_request)?;
    let activity = activity_of(asked.activity.as_ref(), asked.activity_text.as_deref())?;
    // It goes on when nobody waits for it any more: what it made, it removes.
    let checked = tokio::spawn(async move { Box::pin(checks::run(&core, &activity, asked.tries)).await }).await;
    let checked = checked.map_err(|e| Problem::from(Failure::internal(e.to_string())))?;
    Ok(Json(checked).into_response())
}
