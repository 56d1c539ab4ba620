//! A coordinator and nodes inside this process, for `ferry copy`, `ferry quickstart` and `ferry check --local`. They talk over loopback, by the
//! same protocol as separate programs.

use crate::{
    api::Api,
    output::{CliError, message},
    plan, progress, runs, summary,
};
use ferry_common::{
    activity::Activity,
    id::{RunId, RuntimeName},
    timetable::Timetable,
};
use ferry_coordinator::{Coordinator, CoordinatorConfig, store::StorePlace};
use ferry_node::{NodeConfig, read::Roots};
use serde_json::Value;
use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::Path,
    time::Duration,
};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// How long an interrupted run may take to end in good order.
const CANCEL_WAIT_MAX: Duration = Duration::from_secs(60);
/// How long nodes may take to register.
const NODES_WAIT_MAX: Duration = Duration::from_secs(10);
/// How often they are looked for.
const NODES_LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// Any free port of this machine.
pub(crate) const ANY_PORT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// What to embed.
pub(crate) struct Embedding<'a> {
    /// File of the coordinator's store.
    pub(crate) store: &'a Path,
    /// Folders and files that the nodes may read.
    pub(crate) roots: Roots,
    /// How many nodes.
    pub(crate) nodes: u32,
    /// Slots of each.
    pub(crate) slots: u32,
}

/// Runs one activity to its end with an embedded coordinator and nodes. Returns its report.
pub(crate) async fn copy(
    embedding: Embedding<'_>,
    activity: &Activity,
    run_id: Option<&RunId>,
) -> Result<Value, CliError> {
    let runtime = activity.source.connect_via.clone();
    within(embedding, runtime, async |address: String| submit_and_follow(&address, activity, run_id).await).await
}

/// Plans one activity with an embedded coordinator and nodes. Returns the plan.
pub(crate) async fn plan(embedding: Embedding<'_>, activity: &Activity) -> Result<Value, CliError> {
    let (runtime, nodes) = (activity.source.connect_via.clone(), embedding.nodes as usize);
    let made = async |address: String| {
        let api = Api::embedded(&address)?;
        wait_for_nodes(&api, nodes).await?;
        plan::make(&api, activity).await
    };
    within(embedding, runtime, made).await
}

/// Waits until all nodes are there, or for a while: plans and checks count them, and say so if some are missing.
pub(crate) async fn wait_for_nodes(api: &Api, wanted: usize) -> Result<(), CliError> {
    let registered = async {
        while api.get("/nodes").await?["nodes"].as_array().is_none_or(|nodes| nodes.len() < wanted) {
            tokio::time::sleep(NODES_LOOK_INTERVAL).await;
        }
        Ok::<_, CliError>(())
    };
    tokio::time::timeout(NODES_WAIT_MAX, registered).await.unwrap_or(Ok(()))
}

/// Does some work with the API of an embedded coordinator, whose nodes are of that integration runtime, and ends them all.
pub(crate) async fn within<T>(
    embedding: Embedding<'_>,
    runtime: RuntimeName,
    work: impl AsyncFnOnce(String) -> Result<T, CliError>,
) -> Result<T, CliError> {
    let config = CoordinatorConfig {
        grpc: ANY_PORT,
        http: ANY_PORT,
        store: StorePlace::Sqlite(embedding.store.to_owned()),
        tls: None,
        is_http_plain: false,
        limits: Default::default(),
    };
    let coordinator = Coordinator::open(config).await.map_err(|e| CliError::Failed(e.to_string()))?;
    let (grpc, http) = (coordinator.grpc_address, coordinator.http_address);
    let (stop_nodes, stop_coordinator) = (CancellationToken::new(), CancellationToken::new());
    let mut nodes = JoinSet::new();
    for number in 1..=embedding.nodes {
        let config = NodeConfig {
            coordinator: format!("http://{grpc}"),
            runtime: runtime.clone(),
            name: format!("node-{number}"),
            slots: embedding.slots,
            roots: embedding.roots.clone(),
            may_change_sources: false,
            bandwidth: Timetable::default(),
            health: None,
            membership: None,
        };
        nodes.spawn(ferry_node::run(config, stop_nodes.clone()));
    }
    let serving = tokio::spawn(coordinator.serve(stop_coordinator.clone()));
    let result = work(format!("http://{http}")).await;
    stop_nodes.cancel();
    while nodes.join_next().await.is_some() {}
    stop_coordinator.cancel();
    match serving.await {
        Ok(Ok(())) => {}
        Ok(Err(e)) => message(&format!("ferry: {e}")),
        Err(e) => message(&format!("ferry: the coordinator ended: {e}")),
    }
    result
}

async fn submit_and_follow(address: &str, activity: &Activity, run_id: Option<&RunId>) -> Result<Value, CliError> {
    let api = Api::embedded(address)?;
    let run = runs::submit(&api, activity, run_id).await?;
    let id = run["runId"].as_str().unwrap_or_default().to_owned();
    match progress::follow(&api, &id, &progress::interrupt()).await {
        Err(CliError::Interrupted(_)) => {
            message("ferry: interrupted; what is in flight is followed to its end (a second Ctrl-C does not wait)");
            api.post(&format!("/runs/{id}/cancel"), None).await?;
            let again = progress::interrupt();
            let waiting = progress::follow(&api, &id, &again);
            match tokio::time::timeout(CANCEL_WAIT_MAX, waiting).await {
                Ok(Ok(report)) => {
                    // That it was cancelled is known.
                    let _ = summary::print(&report, crate::output::OutputFormat::Table);
                    Err(CliError::Interrupted(String::new()))
                }
                Ok(Err(e)) => Err(e),
                Err(_) => Err(CliError::Interrupted("; some rows may be in the table".to_owned())),
            }
        }
        other => other,
    }
}
