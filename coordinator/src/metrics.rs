//! What Prometheus is told: the state of the whole store, which each coordinator tells alike, and what this one has counted.
//! Nothing here counts by run: runs come and go. `docs/metrics.md` lists everything.

use crate::{core::Core, report, state::run::RunState, store::StoreError};
use ferry_common::spans;
use prometheus_client::{
    encoding::{
        EncodeLabelSet,
        text::{encode_eof, encode_registry},
    },
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};
use std::{sync::atomic::AtomicU64, time::Duration};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Runtime {
    runtime: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct State {
    state: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RuntimeState {
    runtime: String,
    state: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Version {
    version: String,
}

/// Everything, in the text form of OpenMetrics.
pub(crate) async fn render(core: &Core) -> Result<String, StoreError> {
    let mut registry = Registry::default();
    let info = Family::<Version, Gauge>::default();
    info.get_or_create(&Version { version: env!("CARGO_PKG_VERSION").to_owned() }).set(1);
    registry.register("ferry_build_info", "The program's version; always 1", info);

    let runs = Family::<State, Gauge>::default();
    let (pending, leased) = (Family::<Runtime, Gauge>::default(), Family::<Runtime, Gauge>::default());
    let commands = Family::<State, Gauge>::default();
    // What is watched is there from the start, and zero.
    for state in ["Queued", "Planning", "Copying", "Ingesting", "Publishing", "Clearing"] {
        runs.get_or_create(&State { state: state.to_owned() }).set(0);
    }
    for state in ["Planned", "Issued"] {
        commands.get_or_create(&State { state: state.to_owned() }).set(0);
    }
    let mut oldest_queued = Duration::ZERO;
    for run in core.store.live_runs().await? {
        if run.state == RunState::Queued {
            oldest_queued = oldest_queued.max(core.now().since(run.times.submitted));
        }
        runs.get_or_create(&State { state: run.state.name().to_owned() }).inc();
        let runtime = Runtime { runtime: run.activity.source.connect_via.to_string() };
        // Before its listing is done, the listing is what waits for a node.
        if matches!(run.state, RunState::Queued | RunState::Planning) {
            pending.get_or_create(&runtime).inc();
            continue;
        }
        let totals = core.totals_lately(&run).await?;
        let signed = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        pending.get_or_create(&runtime).inc_by(signed(totals.units.pending));
        leased.get_or_create(&runtime).inc_by(signed(totals.units.leased));
        for (state, count) in [("Planned", totals.commands.planned), ("Issued", totals.commands.issued)] {
            commands.get_or_create(&State { state: state.to_owned() }).inc_by(signed(count));
        }
    }
    registry.register("ferry_runs", "Runs that have not ended, or are not swept yet, by state", runs);
    registry.register("ferry_ingest_commands", "Ingest commands that are not at their end, by state", commands);

    let nodes = Family::<RuntimeState, Gauge>::default();
    let (slots, busy) = (Family::<Runtime, Gauge>::default(), Family::<Runtime, Gauge>::default());
    for node in report::node_views(core, core.nodes_seen(report::NODES_COUNTED_FOR).await?).await? {
        let (name, state) = (node.runtime.clone(), node.state.to_owned());
        nodes.get_or_create(&RuntimeState { runtime: name, state }).inc();
        if node.state == "Ready" {
            let runtime = Runtime { runtime: node.runtime };
            pending.get_or_create(&runtime).inc_by(0);
            leased.get_or_create(&runtime).inc_by(0);
            slots.get_or_create(&runtime).inc_by(i64::from(node.slots));
            busy.get_or_create(&runtime).inc_by(i64::from(node.slots_busy));
        }
    }
    registry.register("ferry_units_pending", "Work units that wait for a slot, by integration runtime", pending);
    registry.register("ferry_units_leased", "Work units that nodes work on, by integration runtime", leased);
    registry.register("ferry_nodes", "Nodes that were heard within an hour, by integration runtime and state", nodes);
    registry.register("ferry_slots", "Slots of ready nodes, by integration runtime", slots);
    registry.register("ferry_slots_busy", "Slots of ready nodes that are taken, by integration runtime", busy);
    let oldest = Gauge::<f64, AtomicU64>::default();
    oldest.set(oldest_queued.as_secs_f64());
    let age = "Time since the oldest run was submitted that is not admitted yet; 0 without one";
    registry.register("ferry_queued_run_age_seconds", age, oldest);
    let dropped = Counter::<u64>::default();
    dropped.inc_by(spans::dropped());
    registry.register("ferry_trace_spans_dropped", "Spans that no collector has taken", dropped);
    let mut text = String::new();
    core.meters.encode(&mut text);
    // Writing to memory does not fail.
    let _ = encode_registry(&mut text, &registry).and_then(|()| encode_eof(&mut text));
    Ok(text)
}
