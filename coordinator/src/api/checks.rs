//! `POST /checks`: whether a copy would find everything that it needs.

use super::{Problem, bad_request};
use crate::{checks, core::Core};
use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use ferry_common::activity::Activity;
use serde::Deserialize;
use std::sync::Arc;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    activity: serde_json::Value,
    /// What no probe can tell is tried with things that are removed again.
    #[serde(default, rename = "try")]
    tries: bool,
}

pub(super) async fn check(State(core): State<Arc<Core>>, body: String) -> Result<Response, Problem> {
    let asked: Asked = serde_json::from_str(&body).map_err(bad_request)?;
    let activity = Activity::parse(&asked.activity.to_string(), "activity")?;
    Ok(Json(Box::pin(checks::run(&core, &activity, asked.tries)).await).into_response())
}
