//! What a plan wants to know of a cluster and of staging. Nothing of it is needed: what cannot be found out in time stays
//! unknown.

use super::{REQUEST_TIMEOUT, capacity_of};
use crate::{core::Core, estimate::Cluster};
use ferry_common::activity::{Activity, StagingType};
use ferry_kusto::{RequestId, commands};
use std::time::Duration;
use tokio::time::Instant;

/// Time for all questions together.
const LOOK_TIME_MAX: Duration = Duration::from_secs(10);
/// Round trips that are timed. The first one opens the connection; the shortest counts.
const ROUND_TRIPS: u32 = 3;
/// Where nothing lies.
const NOWHERE: &str = "ferry-nothing-here/";

/// Looks at the sink's cluster and at the staging storage of an activity.
pub(crate) async fn look(core: &Core, activity: &Activity) -> Cluster {
    let mut cluster = Cluster::default();
    let asking = async {
        ask_cluster(core, activity, &mut cluster).await;
        ask_staging(core, activity, &mut cluster).await;
    };
    // What is known by then counts.
    let _ = tokio::time::timeout(LOOK_TIME_MAX, asking).await;
    cluster
}

fn note(shortest: &mut Option<Duration>, asked: Instant) {
    let took = asked.elapsed();
    *shortest = Some(shortest.map_or(took, |known| known.min(took)));
}

async fn ask_cluster(core: &Core, activity: &Activity, cluster: &mut Cluster) {
    let Ok(client) = core.sinks.open(activity, REQUEST_TIMEOUT) else { return };
    let database = &activity.sink.database;
    for _ in 0..ROUND_TRIPS {
        let asked = Instant::now();
        if client.command(database, &commands::show_version(), &RequestId::generate("latency")).await.is_ok() {
            note(&mut cluster.latency, asked);
        }
    }
    cluster.capacity = capacity_of(&*client, database).await;
    if let Ok(reply) = client.command(database, &commands::show_cluster(), &RequestId::generate("cluster")).await {
        cluster.nodes = u32::try_from(reply.table.rows.len()).ok().filter(|nodes| *nodes > 0);
    }
}

async fn ask_staging(core: &Core, activity: &Activity, cluster: &mut Cluster) {
    // A folder is at hand.
    if activity.staging.kind != StagingType::AzureBlob {
        return;
    }
    let Ok(access) = core.access_before_run(activity).await else { return };
    let Ok(storage) = access.storage(core.now(), &core.connections) else { return };
    for _ in 0..ROUND_TRIPS {
        let asked = Instant::now();
        if storage.list(NOWHERE, 1).await.is_ok() {
            note(&mut cluster.staging_latency, asked);
        }
    }
}
