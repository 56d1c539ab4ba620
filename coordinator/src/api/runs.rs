//! Runs: submitted, listed, looked at, cancelled.

use super::{Problem, bad_request, not_found};
use crate::{
    core::{ChangeError, Core},
    fingerprint::Expected,
    ledger::{self, LedgerView},
    report::{self, RunView},
    store::{RunQuery, RunRow, RunsIn, StoreError, Write},
    timeline::Point,
};
use axum::{
    Json,
    extract::{Path, Query, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use ferry_common::{
    activity::Activity,
    id::{RunId, UnitNumber},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::sync::Arc;
use utoipa::ToSchema;

/// Runs that a list shows when not asked for a number.
const RUNS_DEFAULT: u32 = 50;
const RUNS_MAX: u32 = 1_000;

/// A run to begin: `activity` or `activityText`, one of both.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Submission {
    /// Its id; the same one twice is one run. Default: a new one.
    run_id: Option<String>,
    /// The copy activity.
    #[schema(value_type = Option<Value>)]
    activity: Option<Value>,
    /// The copy activity as YAML or JSON text.
    activity_text: Option<String>,
    /// The plan that the run must find; of `POST /plans` never.
    #[schema(value_type = Option<Value>)]
    expect: Option<Expected>,
}

impl Submission {
    /// The activity, read and checked.
    fn activity(&self) -> Result<Activity, Problem> {
        activity_of(self.activity.as_ref(), self.activity_text.as_deref())
    }
}

/// The activity of a body that has it as an object or as a text.
pub(super) fn activity_of(activity: Option<&Value>, text: Option<&str>) -> Result<Activity, Problem> {
    match (activity, text) {
        (Some(activity), None) => Ok(Activity::parse(&activity.to_string(), "activity")?),
        (None, Some(text)) => Ok(Activity::parse(text, "activity")?),
        _ => Err(bad_request("either activity or activityText must be given, one of them")),
    }
}

/// Submits a run. The same id with the same activity again changes nothing.
#[utoipa::path(
    post,
    path = "/api/v1/runs",
    tag = "runs",
    request_body = Submission,
    responses(
        (status = 201, body = RunView, description = "The run is submitted"),
        (status = 200, body = RunView, description = "It was submitted before"),
    )
)]
pub(super) async fn submit_run(State(core): State<Arc<Core>>, body: String) -> Result<Response, Problem> {
    submit(&core, &body, false).await
}

/// Takes a run in; a dry one only plans.
pub(super) async fn submit(core: &Core, body: &str, is_dry: bool) -> Result<Response, Problem> {
    let submission: Submission = serde_json::from_str(body).map_err(bad_request)?;
    if is_dry && submission.expect.is_some() {
        return Err(bad_request("a plan expects no other plan"));
    }
    let activity = submission.activity()?;
    let id = match submission.run_id {
        Some(id) => RunId::try_from(id).map_err(bad_request)?,
        None => RunId::generate(),
    };
    let row = RunRow { is_dry, expected: submission.expect, ..RunRow::new(id.clone(), activity, core.now()) };
    match core.commit(vec![Write::InsertRun(Box::new(row.clone()))]).await {
        Ok(()) => {
            tracing::info!(run = %id, activity = row.activity.name, "run is submitted");
            core.ring();
            Ok((StatusCode::CREATED, Json(report::run_view(core, &row).await?)).into_response())
        }
        // The same id twice is one run, unless it is another activity.
        Err(StoreError::Conflict) => match core.store.run(&id).await? {
            Some(known)
                if known.activity == row.activity && known.is_dry == is_dry && known.expected == row.expected =>
            {
                Ok(Json(report::run_view(core, &known).await?).into_response())
            }
            _ => Err(Problem {
                status: StatusCode::CONFLICT,
                code: "RunExists",
                detail: format!("run {id} was submitted before with another activity, or as a plan or by one"),
            }),
        },
        Err(e) => Err(e.into()),
    }
}

/// Which runs.
#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListQuery {
    /// So many at most; default 50, and never more than 1000.
    #[param(minimum = 1)]
    limit: Option<u32>,
    /// `Active` (not ended), `Succeeded`, `Failed`, `Cancelled` or `Planned`.
    state: Option<String>,
    /// Only runs older than this one: `next` of the page before.
    before: Option<String>,
    /// Only runs of this schedule, which may be gone: those with its name and the end of a window for an id.
    schedule: Option<String>,
}

/// Runs, the newest first.
#[derive(Serialize, ToSchema)]
pub(super) struct RunsView {
    runs: Vec<RunView>,
    /// `before` of the next page; null: this was the last one.
    next: Option<String>,
}

/// Lists runs, the newest first.
#[utoipa::path(
    get,
    path = "/api/v1/runs",
    tag = "runs",
    params(ListQuery),
    responses((status = 200, body = RunsView, description = "A page of runs"))
)]
pub(super) async fn list_runs(
    State(core): State<Arc<Core>>,
    Query(query): Query<ListQuery>,
) -> Result<Json<RunsView>, Problem> {
    let limit = limit_of(query.limit, RUNS_DEFAULT, RUNS_MAX)?;
    let only = match given(&query.state) {
        None => None,
        Some("Active") => Some(RunsIn::Active),
        Some("Succeeded") => Some(RunsIn::State("Succeeded")),
        Some("Failed") => Some(RunsIn::State("Failed")),
        Some("Cancelled") => Some(RunsIn::State("Cancelled")),
        Some("Planned") => Some(RunsIn::State("Planned")),
        Some(other) => {
            return Err(bad_request(format!(
                "state {other:?} is none of Active, Succeeded, Failed, Cancelled, Planned"
            )));
        }
    };
    let before = match given(&query.before) {
        None => None,
        Some(id) => {
            let id: RunId = id.parse().map_err(bad_request)?;
            let known = core.store.run(&id).await?;
            let known = known.ok_or_else(|| bad_request(format!("before: there is no run {:?}", id.as_str())))?;
            Some((known.times.submitted, id))
        }
    };
    let schedule = given(&query.schedule);
    if let Some(name) = schedule {
        // A schedule may be called what a run may be called.
        name.parse::<RunId>().map_err(|_| bad_request(format!("schedule {name:?} is no name of a schedule")))?;
    }
    let schedule = schedule.map(str::to_owned);
    let rows = core.store.run_page(&RunQuery { only, schedule, before, limit }).await?;
    let next = rows.last().filter(|_| rows.len() == limit as usize).map(|row| row.id.to_string());
    let mut runs = Vec::with_capacity(rows.len());
    for run in &rows {
        runs.push(report::run_view(&core, run).await?);
    }
    Ok(Json(RunsView { runs, next }))
}

/// The number of rows on a page.
pub(super) fn limit_of(asked: Option<u32>, default: u32, max: u32) -> Result<u32, Problem> {
    match asked {
        Some(0) => Err(bad_request("limit must be at least 1")),
        asked => Ok(asked.unwrap_or(default).min(max)),
    }
}

/// A parameter that may be there and empty: then it is not given.
pub(super) fn given(parameter: &Option<String>) -> Option<&str> {
    parameter.as_deref().filter(|text| !text.is_empty())
}

pub(super) async fn find_run(core: &Core, id: &str) -> Result<RunRow, Problem> {
    let id: RunId = id.parse().map_err(bad_request)?;
    core.store.run(&id).await?.ok_or_else(|| not_found("run", id.as_str()))
}

/// Shows a run as it goes on.
#[utoipa::path(
    get,
    path = "/api/v1/runs/{run}",
    tag = "runs",
    params(("run" = String, Path, description = "Id of the run")),
    responses((status = 200, body = RunView, description = "The run"))
)]
pub(super) async fn show_run(State(core): State<Arc<Core>>, Path(id): Path<String>) -> Result<Json<RunView>, Problem> {
    let run = find_run(&core, &id).await?;
    Ok(Json(report::run_view(&core, &run).await?))
}

/// Shows the activity of a run as it was submitted, defaults filled in. It names secrets and holds none.
#[utoipa::path(
    get,
    path = "/api/v1/runs/{run}/activity",
    tag = "runs",
    params(("run" = String, Path, description = "Id of the run")),
    responses((status = 200, body = Value, description = "The copy activity"))
)]
pub(super) async fn show_activity(
    State(core): State<Arc<Core>>,
    Path(id): Path<String>,
) -> Result<Json<Activity>, Problem> {
    let mut activity = find_run(&core, &id).await?.activity;
    if let Some(webhook) = &mut activity.settings.webhook {
        // The rest of the address may hold a token.
        webhook.url = webhook.place();
    }
    Ok(Json(activity))
}

/// Tells all about a run: Data Factory's names at the top, ferry's own beside them.
#[utoipa::path(
    get,
    path = "/api/v1/runs/{run}/report",
    tag = "runs",
    params(("run" = String, Path, description = "Id of the run")),
    responses((status = 200, body = super::openapi::ReportView, description = "The report"))
)]
pub(super) async fn report_run(State(core): State<Arc<Core>>, Path(id): Path<String>) -> Result<Json<Value>, Problem> {
    let run = find_run(&core, &id).await?;
    Ok(Json(report::run_report(&core, &run).await?))
}

/// Where a page of the ledger begins.
#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct LedgerQuery {
    /// `next` of the page before.
    after: Option<u64>,
}

/// Shows the ledger of a run: each staged chunk from its file to the extents that hold its rows.
#[utoipa::path(
    get,
    path = "/api/v1/runs/{run}/ledger",
    tag = "runs",
    params(("run" = String, Path, description = "Id of the run"), LedgerQuery),
    responses((status = 200, body = LedgerView, description = "A page of the ledger"))
)]
pub(super) async fn ledger_of_run(
    State(core): State<Arc<Core>>,
    Path(id): Path<String>,
    Query(query): Query<LedgerQuery>,
) -> Result<Json<LedgerView>, Problem> {
    let run = find_run(&core, &id).await?;
    let after = query.after.map_or(UnitNumber::LISTING, UnitNumber);
    Ok(Json(ledger::ledger(&core, &run, after).await?))
}

/// How far a run had come, and when.
#[derive(Serialize, ToSchema)]
pub(super) struct HistoryView {
    /// The oldest first, at most 300.
    points: Vec<PointView>,
}

/// How far a run had come.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct PointView {
    /// RFC 3339.
    at: String,
    /// Bytes of the source, as stored.
    bytes_read: u64,
    rows_read: u64,
    /// Bytes sent to staging.
    staged_bytes: u64,
    /// Rows that are in the table.
    rows_visible: u64,
    /// Units that nodes work on.
    slots_busy: u64,
}

impl From<Point> for PointView {
    fn from(point: Point) -> Self {
        Self {
            at: point.at.to_string(),
            bytes_read: point.bytes_read,
            rows_read: point.rows_read,
            staged_bytes: point.staged_bytes,
            rows_visible: point.rows_visible,
            slots_busy: point.slots_busy,
        }
    }
}

/// Shows how far a run had come, and when, for a chart. It is kept in memory, as far as this coordinator has seen it.
#[utoipa::path(
    get,
    path = "/api/v1/runs/{run}/history",
    tag = "runs",
    params(("run" = String, Path, description = "Id of the run")),
    responses((status = 200, body = HistoryView, description = "Points in time"))
)]
pub(super) async fn history_of_run(
    State(core): State<Arc<Core>>,
    Path(id): Path<String>,
) -> Result<Json<HistoryView>, Problem> {
    let run = find_run(&core, &id).await?;
    let points = core.timelines().points(&run.id, run.times.submitted);
    Ok(Json(HistoryView { points: points.into_iter().map(PointView::from).collect() }))
}

/// Asks a run to end. Asking again, or after the end, changes nothing.
#[utoipa::path(
    post,
    path = "/api/v1/runs/{run}/cancel",
    tag = "runs",
    params(("run" = String, Path, description = "Id of the run")),
    responses((status = 200, body = RunView, description = "The run now"))
)]
pub(super) async fn cancel_run(
    State(core): State<Arc<Core>>,
    Path(id): Path<String>,
) -> Result<Json<RunView>, Problem> {
    let run = find_run(&core, &id).await?;
    match core.cancel(&run.id).await {
        Ok(()) | Err(ChangeError::Refused(_)) => {}
        Err(e) => return Err(e.into()),
    }
    let run = find_run(&core, &id).await?;
    Ok(Json(report::run_view(&core, &run).await?))
}
