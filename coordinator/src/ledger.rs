//! The ledger of a run: each staged chunk from its file to the extents that hold its rows.

use crate::{
    core::Core,
    ingest::extents::{self, Extent},
    report::FILES_MAX,
    state::command::CommandState,
    store::{ChunkRow, CommandRow, RunRow, StoreError, UnitRow},
};
use ferry_common::{failure::redact, id::UnitNumber, unit::FileRows};
use ferry_kusto::{RequestId, commands};
use serde::Serialize;
use std::{collections::HashMap, time::Duration};
use utoipa::ToSchema;

/// Time that the cluster gets for its list of extents.
const EXTENTS_TIMEOUT: Duration = Duration::from_secs(60);

/// A page of the ledger of a run.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct LedgerView {
    run_id: String,
    state: &'static str,
    /// A line for each chunk.
    chunks: Vec<LedgerLine>,
    /// Why the cluster could not be asked for its extents.
    extents_failure: Option<String>,
    /// `after` of the next page; null: this was the last one.
    next: Option<u64>,
}

/// A chunk, from its file to the extents that hold its rows.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct LedgerLine {
    file: String,
    size_bytes: u64,
    etag: String,
    file_rows_read: u64,
    file_rows_skipped: u64,
    /// A unit of several files: which of them are in this chunk.
    files: Vec<FileRowsView>,
    unit: u64,
    chunk: u32,
    attempt: u32,
    blob: String,
    staged_bytes: u64,
    /// CRC-32 of the blob, eight hexadecimal digits.
    crc32: String,
    rows: u64,
    /// State of its ingest command; null: there is none yet.
    state: Option<&'static str>,
    tag: String,
    request_id: Option<String>,
    operation_id: Option<String>,
    /// Rows that the cluster counted.
    rows_counted: Option<u64>,
    /// Null: the cluster could not be asked.
    extents: Option<Vec<ExtentView>>,
}

/// Records of one file in a chunk.
#[derive(Serialize, ToSchema)]
pub(crate) struct FileRowsView {
    relative_path: String,
    rows: u64,
    skipped: u64,
}

impl From<&FileRows> for FileRowsView {
    fn from(file: &FileRows) -> Self {
        Self { relative_path: file.relative_path.clone(), rows: file.rows, skipped: file.skipped }
    }
}

/// An extent.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct ExtentView {
    extent_id: String,
    /// Null: the cluster does not tell.
    rows: Option<u64>,
    created_on: String,
}

/// A page of the ledger, as far as it is written: a line for each chunk of the [`FILES_MAX`] units that follow `after`, which
/// is `next` of the page before. What the cluster holds is asked for now; where it may not be asked, `extentsFailure` says
/// so.
pub(crate) async fn ledger(core: &Core, run: &RunRow, after: UnitNumber) -> Result<LedgerView, StoreError> {
    let (extents, failure) = match extents_of(core, run).await {
        Ok(extents) => (Some(extents), None),
        Err(why) => (None, Some(why)),
    };
    let mut lines = Vec::new();
    let units = core.store.files(&run.id, None, after, FILES_MAX).await?;
    let next = units.last().filter(|_| units.len() == FILES_MAX as usize).map(|unit| unit.number.0);
    for unit in units {
        let commands = core.store.unit_commands(&run.id, unit.number).await?;
        for chunk in core.store.chunks(&run.id, unit.number).await? {
            let command = commands.iter().find(|c| c.chunk == chunk.chunk.number.0);
            lines.push(line(run, &unit, &chunk, command, extents.as_ref()));
        }
    }
    Ok(LedgerView {
        run_id: run.id.to_string(),
        state: run.state.name(),
        chunks: lines,
        extents_failure: failure,
        next,
    })
}

fn line(
    run: &RunRow,
    unit: &UnitRow,
    row: &ChunkRow,
    command: Option<&CommandRow>,
    extents: Option<&HashMap<String, Vec<Extent>>>,
) -> LedgerLine {
    let chunk = &row.chunk;
    let tag = run.tag_of(row.unit, chunk.number);
    let shown = |e: &Extent| ExtentView { extent_id: e.id.clone(), rows: e.rows, created_on: e.created.clone() };
    let extents = extents.map(|all| all.get(&tag).into_iter().flatten().map(shown).collect());
    let (sent, operation) = command.map(|c| c.state.known_by()).unwrap_or_default();
    let counted = match command.map(|c| &c.state) {
        Some(CommandState::Confirmed { rows, .. }) => *rows,
        _ => None,
    };
    LedgerLine {
        file: unit.file.path.clone(),
        size_bytes: unit.file.size_bytes,
        etag: unit.file.etag.clone(),
        file_rows_read: unit.counters.rows_read,
        file_rows_skipped: unit.counters.rows_skipped,
        files: chunk.files.iter().map(FileRowsView::from).collect(),
        unit: row.unit.0,
        chunk: chunk.number.0,
        attempt: row.attempt.0,
        blob: chunk.blob.clone(),
        staged_bytes: chunk.staged_bytes,
        crc32: format!("{:08x}", chunk.crc32),
        rows: chunk.rows,
        state: command.map(|c| c.state.name()),
        tag: format!("ingest-by:{tag}"),
        request_id: sent.map(|sent| sent.request_id.clone()),
        operation_id: operation.map(str::to_owned),
        rows_counted: counted,
        extents,
    }
}

/// The extents of the run's table that carry tags of the run.
async fn extents_of(core: &Core, run: &RunRow) -> Result<HashMap<String, Vec<Extent>>, String> {
    let sink = &run.activity.sink;
    let client = core.sinks.open(&run.activity, EXTENTS_TIMEOUT).map_err(|failure| failure.message)?;
    let command = commands::show_extents_of(&sink.table, &run.tag_prefix());
    let reply = client.command(&sink.database, &command, &RequestId::generate("ledger")).await;
    Ok(extents::by_tag(&reply.map_err(|error| redact(&error.to_string()))?.table))
}
