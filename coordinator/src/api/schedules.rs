//! Schedules, for programs.

use super::{Problem, bad_request, not_found};
use crate::{
    core::Core,
    schedule::Schedule,
    store::{ScheduleRow, Schedules, StoreError},
};
use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use ferry_common::activity::Webhook;
use serde_json::{Value, json};
use std::sync::Arc;

/// What these handlers work on.
#[derive(Clone)]
pub(super) struct Calendar {
    pub(super) core: Arc<Core>,
    pub(super) schedules: Arc<dyn Schedules>,
}

fn view(row: &ScheduleRow) -> Value {
    // A schedule that cannot go on has no next window.
    let next = row.schedule.next(row.reached).ok().flatten().filter(|_| !row.is_paused);
    let mut schedule = row.schedule.clone();
    if let Some(url) = schedule.activity.pointer_mut("/settings/webhook/url") {
        // The rest of the address may hold a token.
        *url = json!(Webhook { url: url.as_str().unwrap_or_default().to_owned(), secret: None }.place());
    }
    json!({
        "name": row.schedule.name,
        "schedule": schedule,
        "isPaused": row.is_paused,
        "created": row.created.to_string(),
        "lastRun": row.last.as_ref().map(|last| last.run.as_str()),
        "lastWindow": row.last.as_ref().map(|last| json!({"start": last.window.start.to_string(), "end": last.window.end.to_string()})),
        "nextWindow": next.map(|(window, begins)| json!({
            "start": window.start.to_string(), "end": window.end.to_string(), "begins": begins.to_string(),
        })),
        "failure": row.failure,
    })
}

/// Lists schedules.
#[utoipa::path(
    get,
    path = "/api/v1/schedules",
    tag = "schedules",
    responses((status = 200, body = Value, description = "All schedules"))
)]
pub(super) async fn list(State(calendar): State<Calendar>) -> Result<Response, Problem> {
    let rows = calendar.schedules.schedules().await?;
    Ok(Json(json!({"schedules": rows.iter().map(view).collect::<Vec<_>>()})).into_response())
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
    responses((status = 200, body = Value, description = "The schedule"))
)]
pub(super) async fn show(State(calendar): State<Calendar>, Path(name): Path<String>) -> Result<Response, Problem> {
    Ok(Json(view(&find(&calendar, &name).await?)).into_response())
}

/// Stores a schedule, or changes one: it goes on where it was.
#[utoipa::path(
    put,
    path = "/api/v1/schedules/{schedule}",
    tag = "schedules",
    params(("schedule" = String, Path, description = "Name of the schedule")),
    request_body = Value,
    responses(
        (status = 201, body = Value, description = "The schedule is stored"),
        (status = 200, body = Value, description = "The schedule is changed"),
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
    Ok((status, Json(view(&row))).into_response())
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

async fn set_paused(calendar: &Calendar, name: &str, is_paused: bool) -> Result<Response, Problem> {
    let row = ScheduleRow { is_paused, ..find(calendar, name).await? };
    store(calendar, &row).await?;
    Ok(Json(view(&row)).into_response())
}

/// Begins no new window until it is resumed.
#[utoipa::path(
    post,
    path = "/api/v1/schedules/{schedule}/pause",
    tag = "schedules",
    params(("schedule" = String, Path, description = "Name of the schedule")),
    responses((status = 200, body = Value, description = "The schedule"))
)]
pub(super) async fn pause(State(calendar): State<Calendar>, Path(name): Path<String>) -> Result<Response, Problem> {
    set_paused(&calendar, &name, true).await
}

/// Goes on.
#[utoipa::path(
    post,
    path = "/api/v1/schedules/{schedule}/resume",
    tag = "schedules",
    params(("schedule" = String, Path, description = "Name of the schedule")),
    responses((status = 200, body = Value, description = "The schedule"))
)]
pub(super) async fn resume(State(calendar): State<Calendar>, Path(name): Path<String>) -> Result<Response, Problem> {
    set_paused(&calendar, &name, false).await
}

/// Forgets a schedule. Its runs stay.
#[utoipa::path(
    delete,
    path = "/api/v1/schedules/{schedule}",
    tag = "schedules",
    params(("schedule" = String, Path, description = "Name of the schedule")),
    responses((status = 200, body = Value, description = "The schedule"))
)]
pub(super) async fn delete(State(calendar): State<Calendar>, Path(name): Path<String>) -> Result<Response, Problem> {
    if !calendar.schedules.delete_schedule(&name).await? {
        return Err(not_found("schedule", &name));
    }
    Ok(Json(json!({"name": name})).into_response())
}
