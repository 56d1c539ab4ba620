//! Plans: dry runs, and what they show.

use super::{Problem, find_run, not_found, submit};
use crate::{core::Core, state::run::RunState};
use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use std::sync::Arc;

/// Takes in a run that only plans.
pub(super) async fn submit_plan(State(core): State<Arc<Core>>, body: String) -> Result<Response, Problem> {
    submit(&core, &body, true).await
}

/// The plan of a dry run that has made one.
pub(super) async fn show_plan(State(core): State<Arc<Core>>, Path(id): Path<String>) -> Result<Response, Problem> {
    let run = find_run(&core, &id).await?;
    if !run.is_dry {
        return Err(not_found("plan", &id));
    }
    match run.shown {
        Some(shown) if run.state == RunState::Planned => Ok(Json(shown).into_response()),
        _ => Err(Problem {
            status: StatusCode::CONFLICT,
            code: "NotPlanned",
            detail: format!("run {id} is {}: there is no plan of it to show", run.state.name()),
        }),
    }
}
