//! Schedules, for programs.

use super::{Problem, bad_request, not_found};
use crate::{
    core::Core,
    report::FailureView,
    schedule::{Schedule, Window},
    store::{LastWindow, ScheduleRow, Schedules, StoreError},
};
use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use ferry_common::{activity::Webhook, clock::Millis};
use serde::Serialize;
use serde_json::json;
use std::sync::Arc;
use utoipa::ToSchema;

/// What these handlers work on.
#[derive(Clone)]
pub(super) struct Calendar {
    pub(super) core: Arc<Core>,
    pub(super) schedules: Arc<dyn Schedules>,
}

/// Windows to come that a schedule's view tells of.
const NEXT_WINDOWS: usize = 5;

/// A schedule, and how far it came. Times are RFC 3339.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct ScheduleView {
    name: String,
    /// As it is kept; of a webhook's address the host only.
    #[schema(value_type = Value)]
    schedule: Schedule,
    /// No new window begins.
    is_paused: bool,
    /// When it was first stored.
    created: String,
    /// The run of the newest window.
    last_run: Option<String>,
    /// State of that run. Not in the list of all schedules, nor before it is submitted or once it is forgotten.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_run_state: Option<String>,
    /// The newest window.
    last_window: Option<WindowView>,
    /// The next one; null: it is paused, or there is none.
    next_window: Option<NextWindowView>,
    /// The next few, that one among them. Not in the list of all schedules.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_windows: Option<Vec<NextWindowView>>,
    /// Why the newest window has no run.
    failure: Option<FailureView>,
}

/// A window of time: from `start` on, before `end`.
#[derive(Serialize, ToSchema)]
struct WindowView {
    start: String,
    end: String,
}

/// A window to come.
#[derive(Serialize, ToSchema)]
struct NextWindowView {
    start: String,
    end: String,
    /// When its run begins.
    begins: String,
}

impl From<&(Window, Millis)> for NextWindowView {
    fn from((window, begins): &(Window, Millis)) -> Self {
        Self { start: window.start.to_string(), end: window.end.to_string(), begins: begins.to_string() }
    }
}

/// All schedules.
#[derive(Serialize, ToSchema)]
pub(super) struct SchedulesView {
    schedules: Vec<ScheduleView>,
}

/// The next windows, so many at most. A schedule that is paused has none, nor has one whose rule cannot be followed.
fn next_windows(row: &ScheduleRow, now: Millis, count_max: usize) -> Vec<NextWindowView> {
    if row.is_paused {
        return Vec::new();
    }
    let windows = row.schedule.next_few(row.reached, now, count_max).unwrap_or_default();
    windows.iter().map(NextWindowView::from).collect()
}

/// What the row tells by itself.
fn view(row: &ScheduleRow, now: Millis) -> ScheduleView {
    let mut schedule = row.schedule.clone();
    if let Some(url) = schedule.activity.pointer_mut("/settings/webhook/url") {
        // The rest of the address may hold a token.
        *url = json!(Webhook { url: url.as_str().unwrap_or_default().to_owned(), secret: None }.place());
    }
    let window =
        |last: &LastWindow| WindowView { start: last.window.start.to_string(), end: last.window.end.to_string() };
    ScheduleView {
        name: row.schedule.name.clone(),
        schedule,
        is_paused: row.is_paused,
        created: row.created.to_string(),
        last_run: row.last.as_ref().map(|last| last.run.to_string()),
        last_run_state: None,
        last_window: row.last.as_ref().map(window),
        next_window: next_windows(row, now, 1).pop(),
        next_windows: None,
        failure: row.failure.as_ref().map(FailureView::from),
    }
}

/// The same, with what costs a look of its own.
async fn full_view(calendar: &Calendar, row: &ScheduleRow) -> Result<Json<ScheduleView>, Problem> {
    let run = match &row.last {
        // Before that, a run of this id may be somebody else's.
        Some(last) if last.is_submitted => calendar.core.store.run(&last.run).await?,
        _ => None,
    };
    let now = calendar.core.now();
    let last_run_state = run.map(|run| run.state.name().to_owned());
    Ok(Json(ScheduleView {
        last_run_state,
        next_windows: Some(next_windows(row, now, NEXT_WINDOWS)),
        ..view(row, now)
    }))
}

/// Lists schedules.
#[utoipa::path(
    get,
    path = "/api/v1/schedules",
    tag = "schedules",
    responses((status = 200, body = SchedulesView, description = "All schedules"))
)]
pub(super) async fn list(State(calendar): State<Calendar>) -> Result<Json<SchedulesView>, Problem> {
    let rows = calendar.schedules.schedules().await?;
    let now = calendar.core.now();
    Ok(Json(SchedulesView { schedules: rows.iter().map(|row| view(row, now)).collect() }))
}

async fn find(calendar: &Calendar, name: &str) -> Result<ScheduleRow, Problem> {
    calendar.schedules.schedule(name).await?.ok_or_else(|| not_found("schedule", name))
}

/// Shows a schedule, and how far it came.
#[utoipa::path(
    get,
    path = "/api/v1/schedules/{schedule}",
    tag = "schedules",
    params(("schedule" = String, Path, description = "Name of the schedule")),
    responses((status = 200, body = ScheduleView, description = "The schedule"))
)]
pub(super) async fn show(
    State(calendar): State<Calendar>,
    Path(name): Path<String>,
) -> Result<Json<ScheduleView>, Problem> {
    full_view(&calendar, &find(&calendar, &name).await?).await
}

/// Stores a schedule, or changes one: it goes on where it was.
#[utoipa::path(
    put,
    path = "/api/v1/schedules/{schedule}",
    tag = "schedules",
    params(("schedule" = String, Path, description = "Name of the schedule")),
    request_body = Value,
    responses(
        (status = 201, body = ScheduleView, description = "The schedule is stored"),
        (status = 200, body = ScheduleView, description = "The schedule is changed"),
    )
)]
pub(super) async fn put(
    State(calendar): State<Calendar>,
    Path(name): Path<String>,
    body: String,
) -> Result<Response, Problem> {
    let schedule = Schedule::parse(&body, "schedule")?;
    if schedule.name != name {
        return Err(bad_request(format!("the schedule's name is {:?}, not {name:?}", schedule.name)));
    }
    let known = calendar.schedules.schedule(&name).await?;
    let is_new = known.is_none();
    let now = calendar.core.now();
    let row = match known {
        Some(row) => ScheduleRow { schedule, failure: None, ..row },
        None => ScheduleRow {
            reached: schedule.first_start(now),
            schedule,
            revision: 0,
            is_paused: false,
            created: now,
            last: None,
            failure: None,
        },
    };
    store(&calendar, &row).await?;
    tracing::info!(schedule = name, "schedule is stored");
    let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, full_view(&calendar, &row).await?).into_response())
}

async fn store(calendar: &Calendar, row: &ScheduleRow) -> Result<(), Problem> {
    match calendar.schedules.put_schedule(row).await {
        Err(StoreError::Conflict) => Err(Problem {
            status: StatusCode::CONFLICT,
            code: "Changed",
            detail: format!("schedule {} was changed meanwhile; try again", row.schedule.name),
        }),
        other => Ok(other?),
    }
}

async fn set_paused(calendar: &Calendar, name: &str, is_paused: bool) -> Result<Json<ScheduleView>, Problem> {
    let row = ScheduleRow { is_paused, ..find(calendar, name).await? };
    store(calendar, &row).await?;
    full_view(calendar, &row).await
}

/// Begins no new window until it is resumed.
#[utoipa::path(
    post,
    path = "/api/v1/schedules/{schedule}/pause",
    tag = "schedules",
    params(("schedule" = String, Path, description = "Name of the schedule")),
    responses((status = 200, body = ScheduleView, description = "The schedule"))
)]
pub(super) async fn pause(
    State(calendar): State<Calendar>,
    Path(name): Path<String>,
) -> Result<Json<ScheduleView>, Problem> {
    set_paused(&calendar, &name, true).await
}

/// Goes on.
#[utoipa::path(
    post,
    path = "/api/v1/schedules/{schedule}/resume",
    tag = "schedules",
    params(("schedule" = String, Path, description = "Name of the schedule")),
    responses((status = 200, body = ScheduleView, description = "The schedule"))
)]
pub(super) async fn resume(
    State(calendar): State<Calendar>,
    Path(name): Path<String>,
) -> Result<Json<ScheduleView>, Problem> {
    set_paused(&calendar, &name, false).await
}

/// Forgets a schedule. Its runs stay.
#[utoipa::path(
    delete,
    path = "/api/v1/schedules/{schedule}",
    tag = "schedules",
    params(("schedule" = String, Path, description = "Name of the schedule")),
    responses((status = 200, body = Value, description = "The schedule that is gone"))
)]
pub(super) async fn delete(State(calendar): State<Calendar>, Path(name): Path<String>) -> Result<Response, Problem> {
    if !calendar.schedules.delete_schedule(&name).await? {
        return Err(not_found("schedule", &name));
    }
    Ok(Json(json!({"name": name})).into_response())
}
