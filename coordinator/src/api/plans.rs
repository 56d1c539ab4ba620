//! Plans: dry runs, and what they show.

use super::{
    Problem, not_found,
    runs::{Submission, find_run, submit},
};
use crate::{core::Core, report::RunView, state::run::RunState};
use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use std::sync::Arc;

/// Submits a dry run: it lists the source, looks at the sink, changes nothing, and ends with its plan.
#[utoipa::path(
    post,
    path = "/api/v1/plans",
    tag = "runs",
    request_body = Submission,
    responses(
        (status = 201, body = RunView, description = "The dry run is submitted"),
        (status = 200, body = RunView, description = "It was submitted before"),
    )
)]
pub(super) async fn submit_plan(State(core): State<Arc<Core>>, body: String) -> Result<Response, Problem> {
    submit(&core, &body, true).await
}

/// Shows the plan of a dry run that has made one.
#[utoipa::path(
    get,
    path = "/api/v1/runs/{run}/plan",
    tag = "runs",
    params(("run" = String, Path, description = "Id of the dry run")),
    responses((status = 200, body = Value, description = "The plan"))
)]
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
