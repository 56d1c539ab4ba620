//! The ledger of a run: each staged chunk from its file to the extents that hold its rows.

use crate::{
    core::Core,
    ingest::extents::{self, Extent},
    report::FILES_MAX,
    state::command::CommandState,
    store::{ChunkRow, CommandRow, RunRow, StoreError, UnitRow},
};
use ferry_common::{failure::redact, id::UnitNumber};
use ferry_kusto::{RequestId, commands};
use serde_json::{Value, json};
use std::{collections::HashMap, time::Duration};

/// Time that the cluster gets for its list of extents.
const EXTENTS_TIMEOUT: Duration = Duration::from_secs(60);

/// A page of the ledger, as far as it is written: a line for each chunk of the [`FILES_MAX`] units that follow `after`, which
/// is `next` of the page before. What the cluster holds is asked for now; where it may not be asked, `extentsFailure` says
/// so.
pub(crate) async fn ledger(core: &Core, run: &RunRow, after: UnitNumber) -> Result<Value, StoreError> {
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
    Ok(json!({
        "runId": run.id.as_str(),
        "state": run.state.name(),
        "chunks": lines,
        "extentsFailure": failure,
        "next": next,
    }))
}

fn line(
    run: &RunRow,
    unit: &UnitRow,
    row: &ChunkRow,
    command: Option<&CommandRow>,
    extents: Option<&HashMap<String, Vec<Extent>>>,
) -> Value {
    let chunk = &row.chunk;
    let tag = run.tag_of(row.unit, chunk.number);
    let shown = |e: &Extent| json!({"extentId": e.id, "rows": e.rows, "createdOn": e.created});
    let extents = extents.map(|all| all.get(&tag).into_iter().flatten().map(shown).collect::<Vec<_>>());
    let (sent, operation) = command.map(|c| c.state.known_by()).unwrap_or_default();
    let counted = match command.map(|c| &c.state) {
        Some(CommandState::Confirmed { rows, .. }) => *rows,
        _ => None,
    };
    json!({
        "file": unit.file.path,
        "sizeBytes": unit.file.size_bytes,
        "etag": unit.file.etag,
        "fileRowsRead": unit.counters.rows_read,
        "fileRowsSkipped": unit.counters.rows_skipped,
        // A unit of several files: which of them are in this chunk.
        "files": chunk.files,
        "unit": row.unit.0,
        "chunk": chunk.number.0,
        "attempt": row.attempt.0,
        "blob": chunk.blob,
        "stagedBytes": chunk.staged_bytes,
        "crc32": format!("{:08x}", chunk.crc32),
        "rows": chunk.rows,
        "state": command.map(|c| c.state.name()),
        "tag": format!("ingest-by:{tag}"),
        "requestId": sent.map(|sent| &sent.request_id),
        "operationId": operation,
        "rowsCounted": counted,
        "extents": extents,
    })
}

/// The extents of the run's table that carry tags of the run.
async fn extents_of(core: &Core, run: &RunRow) -> Result<HashMap<String, Vec<Extent>>, String> {
    let sink = &run.activity.sink;
    let client = core.sinks.open(&run.activity, EXTENTS_TIMEOUT).map_err(|failure| failure.message)?;
    let command = commands::show_extents_of(&sink.table, &run.tag_prefix());
    let reply = client.command(&sink.database, &command, &RequestId::generate("ledger")).await;
    Ok(extents::by_tag(&reply.map_err(|error| redact(&error.to_string()))?.table))
}
