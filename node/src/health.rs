//! The node's own health port: the one thing it listens for.

use crate::meters::Meters;
use axum::{
    Router,
    http::{StatusCode, header},
    routing::get,
};
use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};
use tokio_util::sync::CancellationToken;

/// A node that has not heard from its coordinator for this long is not ready.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// When the coordinator was last heard.
#[derive(Debug, Default)]
pub(crate) struct Ready(Mutex<Option<Instant>>);

impl Ready {
    pub(crate) fn seen(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    fn is_ready(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_some_and(|at| at.elapsed() < SILENCE_MAX)
    }
}

/// What Prometheus takes for OpenMetrics.
const METRICS_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Serves `/healthz` (the program runs), `/readyz` (it hears its coordinator) and `/metrics` until `shutdown`.
pub(crate) async fn serve(
    address: SocketAddr,
    ready: Arc<Ready>,
    meters: Arc<Meters>,
    shutdown: CancellationToken,
) -> io::Result<()> {
    let listener = tokio::net::TcpListener::bind(address).await?;
    let linked = ready.clone();
    let metrics = move || async move { ([(header::CONTENT_TYPE, METRICS_TYPE)], meters.render(linked.is_ready())) };
    let router = Router::new().route("/healthz", get(|| async { "ok" })).route("/metrics", get(metrics)).route(
        "/readyz",
        get(move || async move {
            if ready.is_ready() {
                (StatusCode::OK, "ready")
            } else {
                (StatusCode::SERVICE_UNAVAILABLE, "no word from the coordinator")
            }
        }),
    );
    tokio::spawn(async move {
        if let Err(e) = axum::serve(listener, router).with_graceful_shutdown(shutdown.cancelled_owned()).await {
            tracing::error!("health port: {e}");
        }
    });
    Ok(())
}
