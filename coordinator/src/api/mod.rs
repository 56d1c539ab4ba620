//! HTTP and JSON for programs, the CLI and the pages. It holds no rule of its own.

mod checks;
mod credentials;
mod events;
mod files;
mod loaded;
mod news;
mod nodes;
mod openapi;
mod plans;
mod problem;
mod quarantine;
mod runs;
mod schedules;
mod serve;
mod session;
mod sign_in;

pub(crate) use serve::serve;

use crate::{
    core::Core,
    door::Door,
    store::{Role, Schedules},
    web,
};
use axum::{
    Router,
    extract::{DefaultBodyLimit, MatchedPath, Request, State},
    http::{HeaderValue, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
};
use credentials::Office;
use events::Streams;
use ferry_common::activity::ACTIVITY_BYTES_MAX;
use news::Newsroom;
use openapi::Document;
use problem::{Problem, bad_request, not_found};
use schedules::Calendar;
use session::Lobby;
use sign_in::{Guard, Needs};
use std::{sync::Arc, time::Duration};
use tokio::{sync::Semaphore, time::Instant};
use tokio_util::sync::CancellationToken;
use utoipa_axum::{router::OpenApiRouter, routes};

/// Nodes that were silent for longer are not listed.
const NODES_SEEN_WITHIN: Duration = Duration::from_secs(24 * 3600);
/// Longest time for a request; the slowest ones ask clusters, which get a minute. A stream has begun by then, and goes on.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(120);
/// Requests at once that read much: of a store's few connections most are for everything else.
const HEAVY_AT_ONCE: usize = 2;
/// How long such a request waits for its turn.
const HEAVY_PATIENCE: Duration = Duration::from_secs(20);
/// Bytes of a body. As a text in JSON an activity may be longer than it is.
const BODY_BYTES_MAX: usize = 2 * ACTIVITY_BYTES_MAX;

/// How the port is reached.
pub(crate) struct Front {
    /// It speaks TLS itself.
    pub(crate) is_tls: bool,
    /// It speaks no TLS, and other machines reach it.
    pub(crate) is_insecure: bool,
    pub(crate) shutdown: CancellationToken,
}

/// Everything that programs may ask for, and the pages. Without a door whoever reaches the port may do it. Each route stands here
/// with its description: what is not in the OpenAPI document is not served.
pub(crate) fn router(core: Arc<Core>, schedules: Arc<dyn Schedules>, door: Option<Arc<Door>>, front: Front) -> Router {
    let signed_in = |role| {
        let needs = Needs { core: core.clone(), door: door.clone(), role };
        middleware::from_fn_with_state(needs, sign_in::check)
    };
    let (is_tls, shutdown) = (front.is_tls, front.shutdown);
    let lobby = Lobby { core: core.clone(), door: door.clone(), is_tls, is_insecure: front.is_insecure };
    let newsroom = Arc::new(Newsroom::new(core.clone(), shutdown.clone()));
    let streams = Streams { core: core.clone(), door: door.clone(), newsroom, shutdown };
    let document = Document::default();
    let open = OpenApiRouter::new().routes(routes!(health)).routes(routes!(ready)).with_state(core.clone()).merge(
        OpenApiRouter::new()
            .routes(routes!(session::whoami))
            .routes(routes!(session::begin_session, session::end_session))
            .with_state(lobby),
    );
    let viewer = OpenApiRouter::new()
        .routes(routes!(runs::list_runs))
        .routes(routes!(runs::show_run))
        .routes(routes!(runs::show_activity))
        .routes(routes!(plans::show_plan))
        .routes(routes!(runs::history_of_run))
        .routes(routes!(files::list_files))
        .routes(routes!(files::show_file))
        .routes(routes!(files::list_commands))
        .routes(routes!(nodes::list_nodes))
        .routes(routes!(nodes::list_runtimes))
        .routes(routes!(nodes::show_metrics))
        .routes(routes!(openapi::show_schema))
        .route_layer(signed_in(Role::Viewer))
        .with_state(core.clone());
    let places = Arc::new(Semaphore::new(HEAVY_AT_ONCE));
    let one_of_few = || middleware::from_fn_with_state(places.clone(), one_of_few);
    let heavy = OpenApiRouter::new()
        .routes(routes!(runs::report_run))
        .routes(routes!(runs::ledger_of_run))
        .routes(routes!(quarantine::show_quarantine))
        .routes(routes!(nodes::list_leaks))
        .route_layer(one_of_few())
        .route_layer(signed_in(Role::Viewer))
        .with_state(core.clone());
    let listener = OpenApiRouter::new()
        .routes(routes!(events::all_events))
        .routes(routes!(events::run_events))
        .route_layer(signed_in(Role::Viewer))
        .with_state(streams);
    let reader = OpenApiRouter::new()
        .routes(routes!(openapi::show_document))
        .route_layer(signed_in(Role::Viewer))
        .with_state(document.clone());
    let calendar = Calendar { core: core.clone(), schedules };
    let calendar_viewer = OpenApiRouter::new()
        .routes(routes!(schedules::list))
        .routes(routes!(schedules::show))
        .route_layer(signed_in(Role::Viewer))
        .with_state(calendar.clone());
    let calendar_operator = OpenApiRouter::new()
        .routes(routes!(schedules::put, schedules::delete))
        .routes(routes!(schedules::pause))
        .routes(routes!(schedules::resume))
        .route_layer(signed_in(Role::Operator))
        .with_state(calendar);
    let operator = OpenApiRouter::new()
        .routes(routes!(runs::submit_run))
        .routes(routes!(runs::cancel_run))
        .routes(routes!(plans::submit_plan))
        .routes(routes!(nodes::drain_node))
        .routes(routes!(loaded::forget))
        .route_layer(signed_in(Role::Operator))
        .with_state(core.clone());
    let checker = OpenApiRouter::new()
        .routes(routes!(checks::check))
        .route_layer(one_of_few())
        .route_layer(signed_in(Role::Operator))
        .with_state(core.clone());
    let admin = OpenApiRouter::new()
        .routes(routes!(credentials::list_tokens, credentials::create_token))
        .routes(routes!(credentials::revoke_token))
        .routes(routes!(credentials::revoke_node))
        .route_layer(signed_in(Role::Admin))
        .with_state(Office { core: core.clone(), door: door.clone() });
    let all = open.merge(viewer).merge(listener).merge(reader).merge(calendar_viewer).merge(calendar_operator);
    let all = all.merge(heavy).merge(operator).merge(checker).merge(admin);
    let (routes, documented) = all.split_for_parts();
    match openapi::completed(&documented) {
        Ok(told) => drop(document.set(told.to_string())),
        Err(e) => tracing::error!("the OpenAPI document cannot be written: {e}"),
    }
    let guard = Guard { is_open: door.is_none(), is_tls };
    routes
        .merge(web::router())
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX + 4096))
        .layer(middleware::from_fn(in_time))
        .layer(middleware::from_fn(problem::in_one_form))
        .layer(middleware::from_fn_with_state(guard, sign_in::guard_browsers))
        .layer(middleware::from_fn_with_state(core, measure))
}

/// What reads much takes turns: nodes and everybody else share the store with it.
async fn one_of_few(State(places): State<Arc<Semaphore>>, request: Request, next: Next) -> Response {
    match tokio::time::timeout(HEAVY_PATIENCE, places.acquire()).await {
        Ok(Ok(_place)) => next.run(request).await,
        _ => {
            let detail = "too many reports, ledgers, quarantines or checks are being made; ask again later".to_owned();
            let problem = Problem { status: StatusCode::SERVICE_UNAVAILABLE, code: "Busy", detail };
            let mut response = problem.into_response();
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(HEAVY_PATIENCE.as_secs()));
            response
        }
    }
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

/// The program lives.
#[utoipa::path(
    get,
    path = "/healthz",
    tag = "about",
    responses((status = 200, body = String, content_type = "text/plain", description = "It does"))
)]
async fn health() -> &'static str {
    "ok"
}

/// The program can work: its store answers.
#[utoipa::path(
    get,
    path = "/readyz",
    tag = "about",
    responses((status = 200, body = String, content_type = "text/plain", description = "It can"))
)]
async fn ready(State(core): State<Arc<Core>>) -> Result<&'static str, Problem> {
    // Nobody was heard yet after now: it costs the store nothing, and must be answered.
    core.store.nodes(core.now().plus(REQUEST_TIMEOUT)).await?;
    Ok("ready")
}
