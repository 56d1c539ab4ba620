//! Nodes and the integration runtimes that they belong to; what runs have left behind; metrics.

use super::{NODES_SEEN_WITHIN, Problem, not_found};
use crate::{
    core::Core,
    leaks::{self, LeaksView},
    metrics,
    report::{self, NodeView},
    state::run::RunState,
    store::Write,
};
use axum::{
    Json,
    extract::{Path, State},
    http::header,
    response::{IntoResponse, Response},
};
use serde::Serialize;
use std::{collections::BTreeMap, sync::Arc};
use utoipa::ToSchema;

/// Nodes that were heard within a day.
#[derive(Serialize, ToSchema)]
pub(super) struct NodesView {
    nodes: Vec<NodeView>,
}

async fn nodes_of(core: &Core) -> Result<Vec<NodeView>, Problem> {
    Ok(report::node_views(core, core.nodes_seen(NODES_SEEN_WITHIN).await?).await?)
}

/// Lists the nodes that were heard within a day.
#[utoipa::path(
    get,
    path = "/api/v1/nodes",
    tag = "nodes",
    responses((status = 200, body = NodesView, description = "Nodes"))
)]
pub(super) async fn list_nodes(State(core): State<Arc<Core>>) -> Result<Json<NodesView>, Problem> {
    Ok(Json(NodesView { nodes: nodes_of(&core).await? }))
}

/// Drains the nodes of this name or id: they finish what they hold and take no more.
#[utoipa::path(
    post,
    path = "/api/v1/nodes/{node}/drain",
    tag = "nodes",
    params(("node" = String, Path, description = "Name or id of the node")),
    responses((status = 200, body = NodesView, description = "The nodes now"))
)]
pub(super) async fn drain_node(
    State(core): State<Arc<Core>>,
    Path(name): Path<String>,
) -> Result<Json<NodesView>, Problem> {
    let mut nodes = core.nodes_seen(NODES_SEEN_WITHIN).await?;
    nodes.retain(|n| !n.has_left && (n.name == name || n.id.as_str() == name));
    if nodes.is_empty() {
        return Err(not_found("node", &name));
    }
    for node in &mut nodes {
        node.is_draining = true;
        core.commit(vec![Write::PutNode(node.clone())]).await?;
    }
    core.tell_nodes();
    Ok(Json(NodesView { nodes: report::node_views(&core, nodes).await? }))
}

/// Integration runtimes.
#[derive(Serialize, ToSchema)]
pub(super) struct RuntimesView {
    /// By name.
    runtimes: Vec<RuntimeView>,
}

/// An integration runtime, with what waits for it.
#[derive(Default, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct RuntimeView {
    name: String,
    /// Nodes that have not left.
    nodes: u32,
    nodes_ready: u32,
    /// Slots of ready nodes.
    slots: u32,
    /// Of these, taken.
    slots_busy: u32,
    /// Work units that wait for a slot.
    units_pending: u64,
    /// Work units that nodes work on.
    units_leased: u64,
}

/// Lists the integration runtimes that have nodes, or runs that need some.
#[utoipa::path(
    get,
    path = "/api/v1/runtimes",
    tag = "nodes",
    responses((status = 200, body = RuntimesView, description = "Integration runtimes"))
)]
pub(super) async fn list_runtimes(State(core): State<Arc<Core>>) -> Result<Json<RuntimesView>, Problem> {
    let mut runtimes: BTreeMap<String, RuntimeView> = BTreeMap::new();
    for node in nodes_of(&core).await?.into_iter().filter(|node| node.state != "Left") {
        let of = runtimes.entry(node.runtime).or_default();
        of.nodes += 1;
        if node.state == "Ready" {
            of.nodes_ready += 1;
            of.slots += node.slots;
            of.slots_busy += node.slots_busy;
        }
    }
    for run in core.store.live_runs().await?.iter().filter(|run| !run.state.is_final()) {
        let (pending, leased) = match run.state {
            // Before its listing is done, the listing is what waits for a node.
            RunState::Queued | RunState::Planning => (1, 0),
            _ => {
                let units = core.totals_lately(run).await?.units;
                (units.pending, units.leased)
            }
        };
        let of = runtimes.entry(run.activity.source.connect_via.to_string()).or_default();
        of.units_pending += pending;
        of.units_leased += leased;
    }
    let named = runtimes.into_iter().map(|(name, of)| RuntimeView { name, ..of });
    Ok(Json(RuntimesView { runtimes: named.collect() }))
}

/// Looks for what runs have left behind in staging and clusters.
#[utoipa::path(
    get,
    path = "/api/v1/leaks",
    tag = "nodes",
    responses((status = 200, body = LeaksView, description = "What nobody owns"))
)]
pub(super) async fn list_leaks(State(core): State<Arc<Core>>) -> Result<Json<LeaksView>, Problem> {
    Ok(Json(leaks::leaks(&core).await?))
}

/// Metrics for Prometheus, in the text form of OpenMetrics.
#[utoipa::path(
    get,
    path = "/metrics",
    tag = "nodes",
    responses((status = 200, body = String, content_type = "application/openmetrics-text", description = "Metrics"))
)]
pub(super) async fn show_metrics(State(core): State<Arc<Core>>) -> Result<Response, Problem> {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    Ok(([(header::CONTENT_TYPE, kind)], metrics::render(&core).await?).into_response())
}
