//! What stands around a copy: the coordinator's store, the nodes of the integration runtime, the source.

use super::{Answer, Area, Check};
use crate::{core::Core, report, store::StoreError};
use ferry_common::activity::Activity;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::Instant;

/// A store that takes longer to answer holds everything up.
const STORE_SLOW: Duration = Duration::from_millis(500);

/// Checks the store, the integration runtime and the source.
pub(super) async fn look(core: &Core, activity: &Activity) -> Vec<Check> {
    vec![runtime(core, activity).await, source(activity), store(core).await]
}

async fn nodes(core: &Core) -> Result<Vec<Value>, StoreError> {
    let views = report::node_views(core, core.nodes_seen(report::NODES_COUNTED_FOR).await?).await?;
    Ok(views.into_iter().map(|view| json!(view)).collect())
}

async fn runtime(core: &Core, activity: &Activity) -> Check {
    let runtime = activity.source.connect_via.as_str();
    let row = Check::new(Area::Runtime, format!("nodes of {runtime}"), "reading and staging the source");
    let row = row.probed("nodes that were heard lately");
    match nodes(core).await {
        Err(e) => row.found(Answer::Unknown, e.to_string()),
        Ok(nodes) => {
            let (answer, detail) = count(&nodes, runtime);
            row.found(answer, detail)
                .else_do(format!("start one: ferry node --runtime {runtime}; runs wait until then"))
        }
    }
}

/// Ready nodes of an integration runtime, and their slots.
fn count(nodes: &[Value], runtime: &str) -> (Answer, String) {
    let (ours, others): (Vec<_>, Vec<_>) = nodes.iter().partition(|node| node["runtime"] == runtime);
    let ready: Vec<_> = ours.iter().filter(|node| node["state"] == "Ready").collect();
    let slots: u64 = ready.iter().filter_map(|node| node["slots"].as_u64()).sum();
    if !ready.is_empty() {
        return (Answer::Yes, format!("{} ready, {slots} slots", ready.len()));
    }
    let states: Vec<_> = ours.iter().filter_map(|node| node["state"].as_str()).collect();
    let told = match (states.is_empty(), others.len()) {
        (false, _) => format!("none is ready ({})", states.join(", ")),
        (true, 0) => "there is none".to_owned(),
        (true, others) => format!("there is none; {others} belong to other integration runtimes"),
    };
    (Answer::No, told)
}

/// The coordinator may not see the source: only a node can tell, and only a listing asks one.
fn source(activity: &Activity) -> Check {
    let row =
        Check::new(Area::Source, "source can be listed", "copying").probed("none: nodes do nothing without a run");
    let folder = &activity.source.folder_path;
    row.found(Answer::Unknown, format!("{folder}: ferry plan has a node list it and copies nothing"))
}

async fn store(core: &Core) -> Check {
    let row = Check::new(Area::Store, "store answers", "everything").probed("the newest run is read");
    let began = Instant::now();
    let read = core.store.recent_runs(1).await;
    let took = began.elapsed();
    match read {
        Err(e) => row.found(Answer::No, e.to_string()).else_do("the coordinator's log says more"),
        Ok(_) if took > STORE_SLOW => row.found(Answer::Yes, format!("slow: {} ms", took.as_millis())),
        Ok(_) => row.found(Answer::Yes, format!("{} ms", took.as_millis())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_ready_nodes_of_the_runtime_count() {
        let node = |runtime: &str, state: &str| json!({"runtime": runtime, "state": state, "slots": 2});
        for (nodes, answer, told) in [
            (vec![], Answer::No, "there is none"),
            (vec![node("a", "Ready")], Answer::No, "there is none; 1 belong to other integration runtimes"),
            (vec![node("b", "Lost"), node("b", "Draining")], Answer::No, "none is ready (Lost, Draining)"),
            (vec![node("b", "Ready"), node("b", "Ready"), node("a", "Ready")], Answer::Yes, "2 ready, 4 slots"),
        ] {
            assert_eq!(count(&nodes, "b"), (answer, told.to_owned()));
        }
    }
}
