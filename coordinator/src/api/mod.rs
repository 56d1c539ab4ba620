//! HTTP and JSON for programs and the CLI. It holds no rule of its own.

mod checks;
mod credentials;
mod schedules;
mod plans;
mod serve;
mod sign_in;

pub(crate) use serve::serve;

use crate::{
    core::{ChangeError, Core},
    door::Door,
    fingerprint::Expected,
    leaks, ledger, metrics, report,
    store::{Role, RunRow, Schedules, StoreError, Write},
};
use axum::{
    Json, Router,
    extract::{DefaultBodyLimit, MatchedPath, Path, Query, Request, State},
    http::{StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{delete, get, post, put},
};
use credentials::Office;
use ferry_common::{
    activity::{ACTIVITY_BYTES_MAX, Activity},
    clock::Millis,
    failure::Failure,
    id::{RunId, UnitNumber},
};
use schedules::Calendar;
use serde::Deserialize;
use serde_json::json;
use sign_in::Needs;
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;

/// Runs that a list shows when not asked for a number.
const RUNS_DEFAULT: u32 = 50;
const RUNS_MAX: u32 = 1_000;
/// Nodes that were silent for longer are not listed.
const NODES_SEEN_WITHIN: Duration = Duration::from_secs(24 * 3600);
/// Longest time for a request; the slowest ones ask clusters, which get a minute.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(120);

/// Everything that programs may ask for. Without a door whoever reaches the port may do it.
pub(crate) fn router(core: Arc<Core>, schedules: Arc<dyn Schedules>, door: Option<Arc<Door>>) -> Router {
    let signed_in = |role| {
        let needs = Needs { core: core.clone(), door: door.clone(), role };
        middleware::from_fn_with_state(needs, sign_in::check)
    };
    let viewer = Router::new()
        .route("/api/v1/runs", get(list_runs))
        .route("/api/v1/runs/{run}", get(show_run))
        .route("/api/v1/runs/{run}/plan", get(plans::show_plan))
        .route("/api/v1/runs/{run}/report", get(report_run))
        .route("/api/v1/runs/{run}/ledger", get(ledger_of_run))
        .route("/api/v1/leaks", get(list_leaks))
        .route("/api/v1/nodes", get(list_nodes))
        .route("/metrics", get(show_metrics))
        .route_layer(signed_in(Role::Viewer))
        .with_state(core.clone());
    let calendar = Calendar { core: core.clone(), schedules };
    let calendar_viewer = Router::new()
        .route("/api/v1/schedules", get(schedules::list))
        .route("/api/v1/schedules/{schedule}", get(schedules::show))
        .route_layer(signed_in(Role::Viewer))
        .with_state(calendar.clone());
    let calendar_operator = Router::new()
        .route("/api/v1/schedules/{schedule}", put(schedules::put).delete(schedules::delete))
        .route("/api/v1/schedules/{schedule}/pause", post(schedules::pause))
        .route("/api/v1/schedules/{schedule}/resume", post(schedules::resume))
        .route_layer(signed_in(Role::Operator))
        .with_state(calendar);
    let operator = Router::new()
        .route("/api/v1/runs", post(submit_run))
        .route("/api/v1/plans", post(plans::submit_plan))
        .route("/api/v1/runs/{run}/cancel", post(cancel_run))
        .route("/api/v1/nodes/{node}/drain", post(drain_node))
        .route("/api/v1/checks", post(checks::check))
        .route_layer(signed_in(Role::Operator))
        .with_state(core.clone());
    let admin = Router::new()
        .route("/api/v1/tokens", get(credentials::list_tokens).post(credentials::create_token))
        .route("/api/v1/tokens/{token}", delete(credentials::revoke_token))
        .route("/api/v1/nodes/{node}/revoke", post(credentials::revoke_node))
        .route_layer(signed_in(Role::Admin))
        .with_state(Office { core: core.clone(), door: door.clone() });
    Router::new()
        .route("/healthz", get(|| async { "ok" }))
        .route("/readyz", get(ready))
        .with_state(core.clone())
        .merge(viewer)
        .merge(calendar_viewer)
        .merge(calendar_operator)
        .merge(operator)
        .merge(admin)
        .layer(DefaultBodyLimit::max(ACTIVITY_BYTES_MAX + 4096))
        .layer(middleware::from_fn(in_time))
        .layer(middleware::from_fn_with_state(door.is_none(), sign_in::guard_browsers))
        .layer(middleware::from_fn_with_state(core, measure))
}

/// Counts requests by the template of their path.
async fn measure(State(core): State<Arc<Core>>, request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().map_or("other", MatchedPath::as_str).to_owned();
    let (method, began) = (request.method().clone(), Instant::now());
    let response = next.run(request).await;
    core.meters.request(method.as_str(), route, began.elapsed(), response.status().as_u16());
    response
}

/// A request that takes longer, or whose body trickles in, is given up.
async fn in_time(request: Request, next: Next) -> Response {
    tokio::time::timeout(REQUEST_TIMEOUT, next.run(request)).await.unwrap_or_else(|_| {
        let detail = format!("the request took longer than {REQUEST_TIMEOUT:?}");
        Problem { status: StatusCode::REQUEST_TIMEOUT, code: "TooSlow", detail }.into_response()
    })
}

/// An answer that is not what was asked for, as RFC 9457 has it.
struct Problem {
    status: StatusCode,
    code: &'static str,
    detail: String,
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = json!({"status": self.status.as_u16(), "title": self.code, "detail": self.detail});
        let mut response = (self.status, Json(body)).into_response();
        let kind = axum::http::HeaderValue::from_static("application/problem+json");
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
        response
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        tracing::error!("{error}");
        Self { status: StatusCode::SERVICE_UNAVAILABLE, code: "StoreFailed", detail: error.to_string() }
    }
}

impl From<ChangeError> for Problem {
    fn from(error: ChangeError) -> Self {
        match error {
            ChangeError::Store(e) => e.into(),
            ChangeError::Refused(e) => Self { status: StatusCode::CONFLICT, code: "Refused", detail: e.to_string() },
        }
    }
}

impl From<Failure> for Problem {
    fn from(failure: Failure) -> Self {
        Self { status: StatusCode::UNPROCESSABLE_ENTITY, code: failure.code.as_str(), detail: failure.message }
    }
}

fn bad_request(detail: impl ToString) -> Problem {
    Problem { status: StatusCode::BAD_REQUEST, code: "BadRequest", detail: detail.to_string() }
}

fn not_found(what: &str, name: &str) -> Problem {
    Problem { status: StatusCode::NOT_FOUND, code: "NotFound", detail: format!("there is no {what} {name:?}") }
}

async fn ready(State(core): State<Arc<Core>>) -> Result<&'static str, Problem> {
    core.store.recent_runs(1).await?;
    Ok("ready")
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Submission {
    /// Default: a new one.
    run_id: Option<String>,
    activity: serde_json::Value,
    /// The plan that the run must find.
    expect: Option<Expected>,
}

async fn submit_run(State(core): State<Arc<Core>>, body: String) -> Result<Response, Problem> {
    submit(&core, &body, false).await
}

/// Takes a run in; a dry one only plans.
async fn submit(core: &Core, body: &str, is_dry: bool) -> Result<Response, Problem> {
    let submission: Submission = serde_json::from_str(body).map_err(bad_request)?;
    if is_dry && submission.expect.is_some() {
        return Err(bad_request("a plan expects no other plan"));
    }
    let activity = Activity::parse(&submission.activity.to_string(), "activity")?;
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

#[derive(Deserialize)]
struct ListQuery {
    limit: Option<u32>,
}

async fn list_runs(State(core): State<Arc<Core>>, Query(query): Query<ListQuery>) -> Result<Response, Problem> {
    let mut views = Vec::new();
    for run in core.store.recent_runs(query.limit.unwrap_or(RUNS_DEFAULT).min(RUNS_MAX)).await? {
        views.push(report::run_view(&core, &run).await?);
    }
    Ok(Json(json!({"runs": views})).into_response())
}

async fn find_run(core: &Core, id: &str) -> Result<RunRow, Problem> {
    let id: RunId = id.parse().map_err(bad_request)?;
    core.store.run(&id).await?.ok_or_else(|| not_found("run", id.as_str()))
}

async fn show_run(State(core): State<Arc<Core>>, Path(id): Path<String>) -> Result<Response, Problem> {
    let run = find_run(&core, &id).await?;
    Ok(Json(report::run_view(&core, &run).await?).into_response())
}

async fn report_run(State(core): State<Arc<Core>>, Path(id): Path<String>) -> Result<Response, Problem> {
    let run = find_run(&core, &id).await?;
    Ok(Json(report::run_report(&core, &run).await?).into_response())
}

#[derive(Deserialize)]
struct LedgerQuery {
    /// `next` of the page before.
    after: Option<u64>,
}

async fn ledger_of_run(
    State(core): State<Arc<Core>>,
    Path(id): Path<String>,
    Query(query): Query<LedgerQuery>,
) -> Result<Response, Problem> {
    let run = find_run(&core, &id).await?;
    let after = query.after.map_or(UnitNumber::LISTING, UnitNumber);
    Ok(Json(ledger::ledger(&core, &run, after).await?).into_response())
}

async fn list_leaks(State(core): State<Arc<Core>>) -> Result<Response, Problem> {
    Ok(Json(leaks::leaks(&core).await?).into_response())
}

async fn show_metrics(State(core): State<Arc<Core>>) -> Result<Response, Problem> {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    Ok(([(header::CONTENT_TYPE, kind)], metrics::render(&core).await?).into_response())
}

async fn cancel_run(State(core): State<Arc<Core>>, Path(id): Path<String>) -> Result<Response, Problem> {
    let run = find_run(&core, &id).await?;
    match core.cancel(&run.id).await {
        // Asking again, or after the end, changes nothing.
        Ok(()) | Err(ChangeError::Refused(_)) => {}
        Err(e) => return Err(e.into()),
    }
    let run = find_run(&core, &id).await?;
    Ok(Json(report::run_view(&core, &run).await?).into_response())
}

async fn list_nodes(State(core): State<Arc<Core>>) -> Result<Response, Problem> {
    let since = Millis(core.now().0 - NODES_SEEN_WITHIN.as_millis() as i64);
    let nodes = core.store.nodes(since).await?;
    Ok(Json(json!({"nodes": report::node_views(&core, nodes).await?})).into_response())
}

/// Drains the nodes of this name or id.
async fn drain_node(State(core): State<Arc<Core>>, Path(name): Path<String>) -> Result<Response, Problem> {
    let since = Millis(core.now().0 - NODES_SEEN_WITHIN.as_millis() as i64);
    let mut nodes = core.store.nodes(since).await?;
    nodes.retain(|n| !n.has_left && (n.name == name || n.id.as_str() == name));
    if nodes.is_empty() {
        return Err(not_found("node", &name));
    }
    for node in &mut nodes {
        node.is_draining = true;
        core.commit(vec![Write::PutNode(node.clone())]).await?;
    }
    core.tell_nodes();
    Ok(Json(json!({"nodes": report::node_views(&core, nodes).await?})).into_response())
}
