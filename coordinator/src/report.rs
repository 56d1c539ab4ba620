//! Read models: a run as it goes on, its report at the end, nodes. Names at the top are Data Factory's.

use crate::{
    core::{Core, NODE_LOST_AFTER},
    packing::is_archive,
    remedies::remedy,
    state::{run::RunState, unit::UnitState},
    store::{ChunkRow, Clearing, CommandCounts, NodeRow, RunRow, RunTimes, StoreError, Totals, UnitCounts, UnitRow},
    timeline::Point,
};
use ferry_common::{
    activity::{Ingestion, Publish},
    clock::Millis,
    failure::{Code, Failure, Fault, Retry},
    id::{NodeId, UnitNumber},
    staging,
    unit::{Counters, Scope},
};
use serde::Serialize;
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};
use utoipa::ToSchema;

/// Units that a report lists; what is beyond is counted.
pub(crate) const FILES_MAX: u32 = 10_000;
/// Commands that a report lists.
const COMMANDS_MAX: u32 = 10_000;
/// Failed files that a report tells about.
const ERRORS_MAX: u32 = 100;
/// Data integration units that one slot stands for: Data Factory runs one machine for every four.
const DIU_PER_SLOT: u32 = 4;
/// Nodes that were silent for longer are counted no more, in metrics and checks; the lists of the API show them for a day.
pub(crate) const NODES_COUNTED_FOR: Duration = Duration::from_secs(3600);

/// A failure, and what to do about it.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct FailureView {
    /// Stable name.
    #[schema(value_type = String)]
    pub code: Code,
    /// Who can end it: `Settings`, `Source`, `Sink`, `Runtime`.
    #[schema(value_type = String)]
    pub fault: Fault,
    /// What may be done next: `Never`, `Backoff`, or an object with the time to wait for.
    #[schema(value_type = Value)]
    pub retry: Retry,
    /// What happened.
    pub message: String,
    /// What the code means, and what to do about it.
    pub remedy: &'static str,
}

impl From<&Failure> for FailureView {
    fn from(failure: &Failure) -> Self {
        let Failure { code, fault, retry, message } = failure;
        Self { code: *code, fault: *fault, retry: *retry, message: message.clone(), remedy: remedy(*code) }
    }
}

/// When a run came how far, RFC 3339.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct TimesView {
    /// Submitted.
    pub submitted: String,
    /// Admitted.
    pub started: Option<String>,
    /// Stage 1 began.
    pub copying: Option<String>,
    /// Stage 2 began.
    pub ingesting: Option<String>,
    /// Publishing began.
    pub publishing: Option<String>,
    /// Every row was visible, and source files began to be deleted or moved.
    pub clearing: Option<String>,
    /// The end.
    pub ended: Option<String>,
}

impl From<&RunTimes> for TimesView {
    fn from(times: &RunTimes) -> Self {
        let text = |at: Option<Millis>| at.map(|at| at.to_string());
        Self {
            submitted: times.submitted.to_string(),
            started: text(times.started),
            copying: text(times.copying),
            ingesting: text(times.ingesting),
            publishing: text(times.publishing),
            clearing: text(times.clearing),
            ended: text(times.ended),
        }
    }
}

/// A run as it goes on.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct RunView {
    /// Its id.
    pub run_id: String,
    /// Name of its activity.
    pub activity: String,
    /// Its state.
    pub state: String,
    /// It only plans.
    pub is_dry: bool,
    /// The state is final.
    pub is_final: bool,
    /// Nothing of it is left in staging.
    pub is_swept: bool,
    /// Database and table.
    pub sink: String,
    /// Integration runtime whose nodes copy.
    pub runtime: String,
    /// How rows become visible: `append`, `atomic`, `replace`.
    #[schema(value_type = String)]
    pub publish: Publish,
    /// How the cluster is told to ingest: `direct`, `queued`.
    #[schema(value_type = String)]
    pub ingestion: Ingestion,
    /// When it was submitted, RFC 3339.
    pub submitted: String,
    /// When it came how far.
    pub times: TimesView,
    /// Seconds since it was admitted, to its end or to now.
    pub duration_seconds: f64,
    /// Records left out as the fault settings allow.
    pub rows_skipped: u64,
    /// Files left out as the fault settings allow.
    pub files_skipped: u64,
    /// Units that cannot be copied: mostly one is one file.
    pub files_failed: u64,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<FailureView>,
    /// What the user should know.
    pub warnings: Vec<String>,
    /// While it is queued: the run whose end it waits for. Both load into one table with `source.skipLoadedFiles`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waits_for: Option<String>,
    /// Why a node's last attempt failed, while it is tried again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_failure: Option<FailureView>,
    /// Why staging could not be swept yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sweep_failure: Option<FailureView>,
    /// Stage 1: source to staging.
    pub copy: CopyStage,
    /// Stage 2: staging to table.
    pub ingest: IngestStage,
    /// Source files that are deleted or moved, where that is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clearing: Option<ClearingView>,
}

/// Source files that are deleted or moved once they are loaded.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClearingView {
    /// Files deleted or moved.
    pub files_done: u64,
    /// Files that were gone already.
    pub files_gone: u64,
    /// Files left in place: changed since they were loaded, or not to be deleted or moved.
    pub files_left: u64,
}

impl From<&Clearing> for ClearingView {
    fn from(clearing: &Clearing) -> Self {
        Self { files_done: clearing.done, files_gone: clearing.gone, files_left: clearing.left }
    }
}

/// Stage 1: source to staging.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct CopyStage {
    /// Files listed.
    pub files_total: u64,
    /// Files staged.
    pub files_done: u64,
    /// Bytes of all files, as stored.
    pub bytes_total: u64,
    /// Bytes read of them, as stored.
    pub bytes_done: u64,
    /// Records parsed.
    pub rows_read: u64,
    /// Bytes of staged records before compression.
    pub data_written: u64,
    /// Bytes sent to staging.
    pub staged_bytes: u64,
    /// Seconds of this stage, to its end or to now.
    pub duration_seconds: f64,
    /// Files that nodes work on.
    pub files_active: u64,
}

/// Stage 2: staging to table.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct IngestStage {
    /// Ingest commands.
    pub commands_total: u64,
    /// Commands whose rows are in the table.
    pub commands_done: u64,
    /// Commands that the cluster runs.
    pub commands_active: u64,
    /// Rows of all commands.
    pub rows_total: u64,
    /// Rows that are in the table.
    pub rows_visible: u64,
    /// Bytes before compression of rows that are in the table.
    pub bytes_visible: u64,
    /// Seconds of this stage, to its end or to now.
    pub duration_seconds: f64,
}

fn seconds(from: Option<Millis>, to: Option<Millis>, now: Millis) -> f64 {
    from.map_or(0.0, |from| to.unwrap_or(now).since(from).as_secs_f64())
}

fn stages(
    run: &RunRow,
    counts: &UnitCounts,
    commands: &CommandCounts,
    live: Counters,
    now: Millis,
) -> (CopyStage, IngestStage) {
    let times = &run.times;
    let copied = counts.counters;
    let ended = times.ended;
    // Until they are published, rows in a staging table are nobody's.
    let is_done = matches!(run.state, RunState::Clearing | RunState::Succeeded);
    let is_visible = run.activity.sink.publish == Publish::Append || is_done;
    let visible = |count: u64| if is_visible { count } else { 0 };
    let copy = CopyStage {
        files_total: counts.files_total,
        files_done: counts.files_done,
        bytes_total: counts.bytes_total,
        bytes_done: (counts.bytes_done + live.data_read_bytes).min(counts.bytes_total),
        rows_read: copied.rows_read + live.rows_read,
        data_written: copied.data_written_bytes + live.data_written_bytes,
        staged_bytes: copied.staged_bytes + live.staged_bytes,
        duration_seconds: seconds(times.copying, times.ingesting.or(ended), now),
        files_active: counts.leased,
    };
    let ingest = IngestStage {
        commands_total: commands.planned + commands.issued + commands.confirmed + commands.rejected,
        commands_done: commands.confirmed,
        commands_active: commands.issued,
        rows_total: commands.rows_total,
        rows_visible: visible(commands.rows_confirmed),
        bytes_visible: visible(commands.bytes_confirmed),
        duration_seconds: seconds(times.ingesting, times.clearing.or(ended), now),
    };
    (copy, ingest)
}

/// The view of a run now.
pub(crate) async fn run_view(core: &Core, run: &RunRow) -> Result<RunView, StoreError> {
    let Totals { units: counts, commands } = core.totals_lately(run).await?;
    let now = core.now();
    let live = core.live_counters(&run.id);
    let (copy, ingest) = stages(run, &counts, &commands, live, now);
    let mut last_failure = None;
    if matches!(run.state, RunState::Planning | RunState::Clearing)
        && let Some(listing) = core.store.unit(&run.id, UnitNumber::LISTING).await?
    {
        last_failure = listing.last_failure;
    } else if run.state == RunState::Copying {
        last_failure = core.store.retried_units(&run.id, 1).await?.pop().and_then(|unit| unit.last_failure);
    }
    Ok(RunView {
        run_id: run.id.to_string(),
        activity: run.activity.name.clone(),
        state: run.state.name().to_owned(),
        is_dry: run.is_dry,
        is_final: run.state.is_final(),
        is_swept: run.is_swept,
        sink: format!("{}/{}", run.activity.sink.database, run.activity.sink.table),
        runtime: run.activity.source.connect_via.to_string(),
        publish: run.activity.sink.publish,
        ingestion: run.activity.sink.ingestion,
        submitted: run.times.submitted.to_string(),
        times: TimesView::from(&run.times),
        duration_seconds: seconds(run.times.started, run.times.ended, now),
        rows_skipped: counts.counters.rows_skipped + live.rows_skipped,
        files_skipped: counts.files_skipped,
        files_failed: counts.failed,
        failure: run.state.failure().map(FailureView::from),
        warnings: run.warnings.clone(),
        waits_for: core.waits_for(&run.id).filter(|_| run.state == RunState::Queued).map(|other| other.to_string()),
        last_failure: last_failure.as_ref().map(FailureView::from),
        sweep_failure: core.live().get(&run.id).and_then(|l| l.sweep_failure.as_ref().map(FailureView::from)),
        copy,
        ingest,
        clearing: run.clearing.as_ref().map(ClearingView::from),
    })
}

/// How far a run has come, for a chart.
pub(crate) async fn point_of(core: &Core, run: &RunRow) -> Result<Point, StoreError> {
    let Totals { units, commands } = core.totals_lately(run).await?;
    let at = core.now();
    let (copy, ingest) = stages(run, &units, &commands, core.live_counters(&run.id), at);
    Ok(Point {
        at,
        bytes_read: copy.bytes_done,
        rows_read: copy.rows_read,
        staged_bytes: copy.staged_bytes,
        rows_visible: ingest.rows_visible,
        slots_busy: copy.files_active,
    })
}

fn per_second(bytes: u64, seconds: f64) -> f64 {
    if seconds > 0.0 { bytes as f64 / seconds } else { 0.0 }
}

/// The report of a run: Data Factory's names at the top, ferry's own beside them.
pub(crate) async fn run_report(core: &Core, run: &RunRow) -> Result<Value, StoreError> {
    let Totals { units: counts, commands } = core.totals_lately(run).await?;
    let now = core.now();
    let (copy, ingest) = stages(run, &counts, &commands, core.live_counters(&run.id), now);
    let files = core.store.files(&run.id, None, UnitNumber::LISTING, FILES_MAX).await?;
    let mut failed = core.store.files(&run.id, Some("Failed"), UnitNumber::LISTING, ERRORS_MAX).await?;
    failed.extend(core.store.files(&run.id, Some("Skipped"), UnitNumber::LISTING, ERRORS_MAX).await?);
    let duration = seconds(run.times.started, run.times.ended, now);
    let peak = run.peak_slots.max(core.live().get(&run.id).map_or(0, |l| l.peak_slots));

    let mut errors: Vec<Value> = run.state.failure().into_iter().map(error_of).collect();
    for file in &failed {
        if let UnitState::Failed { failure } | UnitState::Skipped { failure } = &file.state
            && run.state.failure() != Some(failure)
        {
            errors.push(error_of(failure));
        }
    }
    let mut nodes: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    for file in files.iter().filter(|f| !f.node_name.is_empty()) {
        let node = nodes.entry(&file.node_name).or_default();
        node.0 += 1;
        node.1 += file.counters.data_read_bytes;
    }
    let mut file_values = Vec::new();
    let mut quarantine = Vec::new();
    for unit in &files {
        let has_more = unit.counters.rows_skipped > 0 || is_several(unit);
        let chunks = if has_more { core.store.chunks(&run.id, unit.number).await? } else { Vec::new() };
        quarantine.extend(chunks.iter().filter_map(|c| c.chunk.quarantine.clone()));
        quarantine.extend(unit.tail.quarantine.clone());
        file_values.extend(values_of(unit, &chunks));
    }
    let mut ingest_values = Vec::new();
    for state in ["Confirmed", "Issued", "Planned", "Rejected"] {
        for c in core.store.commands(&run.id, state, COMMANDS_MAX).await? {
            let counted = match &c.state {
                crate::state::command::CommandState::Confirmed { rows, .. } => *rows,
                _ => None,
            };
            ingest_values.push(json!({
                "unit": c.unit.0, "chunk": c.chunk, "state": state, "tag": format!("ingest-by:{}", c.tag),
                "rows": c.rows, "rowsCounted": counted, "rawBytes": c.raw_bytes,
            }));
        }
    }
    let rows_add_up = counts.counters.rows_read == commands.rows_confirmed + counts.counters.rows_skipped;
    let status = match run.state {
        RunState::Planned => "Planned",
        RunState::Succeeded => "Succeeded",
        RunState::Cancelled => "Cancelled",
        RunState::Failed { .. } => "Failed",
        _ => "InProgress",
    };
    Ok(json!({
        "status": status,
        "dataRead": copy.bytes_done,
        "dataWritten": ingest.bytes_visible,
        "filesRead": copy.files_done,
        "filesWritten": ingest.commands_done,
        "filesSkipped": counts.files_skipped,
        "sourcePeakConnections": peak,
        "sinkPeakConnections": peak,
        "rowsRead": copy.rows_read,
        "rowsCopied": ingest.rows_visible,
        "rowsSkipped": counts.counters.rows_skipped,
        "copyDuration": duration,
        // KB/s of data read, as Data Factory counts.
        "throughput": per_second(copy.bytes_done, duration) / 1000.0,
        "effectiveIntegrationRuntime": format!("{} (self-hosted)", run.activity.source.connect_via),
        "usedDataIntegrationUnits": peak * DIU_PER_SLOT,
        "usedParallelCopies": peak,
        "dataConsistencyVerification": {
            "VerificationResult": if run.state == RunState::Succeeded && rows_add_up { "Verified" } else { "NotVerified" },
        },
        "errors": errors,
        // Staging blobs with the rows that were left out.
        "logFiles": quarantine,
        "logPath": if quarantine.is_empty() { String::new() } else { staging::quarantine_prefix(&run.id) },
        "path": run.plan.as_ref().map(|p| if p.copy.rewrites { "convert" } else { "passThrough" }),
        "stagedFormat": run.plan.as_ref().map(|p| p.copy.staged_format(run.activity.source.format.kind).as_str()),
        "runId": run.id.as_str(),
        "activity": run.activity.name,
        "state": run.state.name(),
        "isSwept": run.is_swept,
        "sink": {"endpoint": run.activity.sink.endpoint, "database": run.activity.sink.database, "table": run.activity.sink.table},
        "warnings": run.warnings,
        // Deleted or moved, where that is asked for. Files that were left in place say why.
        "clearing": run.clearing.as_ref().map(ClearingView::from),
        "stages": {
            "copy": with_rate(json!(copy), copy.bytes_done, copy.duration_seconds),
            "ingest": with_rate(json!(ingest), ingest.bytes_visible, ingest.duration_seconds),
        },
        "nodes": nodes.into_iter().map(|(name, (files, bytes))| json!({"name": name, "files": files, "dataRead": bytes})).collect::<Vec<_>>(),
        "files": file_values,
        "filesNotListed": counts.files_total.saturating_sub(u64::from(FILES_MAX)),
        "ingest": ingest_values,
    }))
}

/// The unit covers files beside the one it is named by, or members of an archive.
fn is_several(unit: &UnitRow) -> bool {
    matches!(unit.scope, Scope::Pack(_)) || !unit.tail.files.is_empty() || is_archive(&unit.file.path)
}

/// A unit's lines of a report: one a file, with the members of archives under their own names.
fn values_of(unit: &UnitRow, chunks: &[ChunkRow]) -> Vec<Value> {
    let of_unit = |path: &str, relative: &str, size: u64, etag: &str| {
        let mut value = json!({
            "path": path, "relativePath": relative, "sizeBytes": size, "etag": etag, "state": unit.state.name(),
            "attempts": unit.attempts, "node": unit.node_name, "lastFailure": unit.last_failure.as_ref().map(error_of),
        });
        if let Some(left) = unit.tail.left.iter().find(|left| left.relative_path == relative) {
            value["leftInPlace"] = json!(left.why);
        }
        value
    };
    let counted = |mut value: Value| {
        value["rowsRead"] = json!(unit.counters.rows_read);
        value["rowsSkipped"] = json!(unit.counters.rows_skipped);
        value["dataWritten"] = json!(unit.counters.data_written_bytes);
        value["stagedBytes"] = json!(unit.counters.staged_bytes);
        value
    };
    let mut rows: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    for file in chunks.iter().flat_map(|c| &c.chunk.files).chain(&unit.tail.files) {
        let sums = rows.entry(&file.relative_path).or_default();
        sums.0 += file.rows;
        sums.1 += file.skipped;
    }
    match &unit.scope {
        Scope::Pack(files) => files
            .iter()
            .map(|f| {
                let (read, skipped) = rows.get(f.relative_path.as_str()).copied().unwrap_or_default();
                let mut value = of_unit(&f.path, &f.relative_path, f.size_bytes, &f.etag);
                value["rowsRead"] = json!(read);
                value["rowsSkipped"] = json!(skipped);
                value["unit"] = json!(unit.number.0);
                value
            })
            .collect(),
        Scope::Range(range) => {
            let mut value =
                counted(of_unit(&unit.file.path, &unit.file.relative_path, unit.file.size_bytes, &unit.file.etag));
            value["part"] =
                json!({"start": range.start, "end": range.end, "number": range.number, "count": range.count});
            vec![value]
        }
        Scope::File => {
            let mut value =
                counted(of_unit(&unit.file.path, &unit.file.relative_path, unit.file.size_bytes, &unit.file.etag));
            if !rows.is_empty() {
                let members = rows.iter().map(
                    |(path, (read, skipped))| json!({"relativePath": path, "rowsRead": read, "rowsSkipped": skipped}),
                );
                value["members"] = members.collect();
            }
            vec![value]
        }
    }
}

fn with_rate(mut stage: Value, bytes: u64, seconds: f64) -> Value {
    stage["megabytesPerSecond"] = json!(per_second(bytes, seconds) / 1_000_000.0);
    stage
}

fn error_of(failure: &Failure) -> Value {
    let remedy = remedy(failure.code);
    json!({"code": failure.code.as_str(), "fault": failure.fault, "message": failure.message, "remedy": remedy})
}

/// A node as it is shown.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeView {
    /// One life of a node.
    pub node_id: String,
    /// Its name.
    pub name: String,
    /// Its integration runtime.
    pub runtime: String,
    /// `Ready`, `Draining`, `Drained`, `Lost`, `Left`.
    pub state: &'static str,
    /// Files that it copies at once.
    pub slots: u32,
    /// Of these, taken.
    pub slots_busy: u32,
    /// Version of its program.
    pub version: String,
    /// It may delete and move files of its sources.
    pub may_change_sources: bool,
    /// Who it is by its certificate; null where none is asked for.
    pub identity: Option<String>,
    /// When it registered, RFC 3339.
    pub registered: String,
    /// When it was last heard, to a few seconds, RFC 3339.
    pub last_seen: String,
}

/// Nodes as they are shown.
pub(crate) async fn node_views(core: &Core, nodes: Vec<NodeRow>) -> Result<Vec<NodeView>, StoreError> {
    let mut held: HashMap<NodeId, u32> = HashMap::new();
    for slots in core.store.held_slots().await? {
        *held.entry(slots.node).or_default() += slots.slots;
    }
    let now = core.now();
    let view = |node: NodeRow| {
        let busy = held.get(&node.id).copied().unwrap_or(0);
        let state = match () {
            () if node.has_left => "Left",
            () if now.since(node.last_seen) > NODE_LOST_AFTER => "Lost",
            () if node.is_draining && busy > 0 => "Draining",
            () if node.is_draining => "Drained",
            () => "Ready",
        };
        NodeView {
            node_id: node.id.to_string(),
            name: node.name,
            runtime: node.runtime.to_string(),
            state,
            slots: node.slots,
            slots_busy: busy,
            version: node.program_version,
            may_change_sources: node.may_change_sources,
            identity: node.identity.map(|identity| identity.to_string()),
            registered: node.registered.to_string(),
            last_seen: node.last_seen.to_string(),
        }
    };
    Ok(nodes.into_iter().map(view).collect())
}
