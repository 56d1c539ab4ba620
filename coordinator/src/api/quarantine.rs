//! The first rows that were left out of a run, as the nodes keep them beside the staging.

use super::{
    Problem,
    runs::{find_run, limit_of},
};
use crate::{
    core::Core,
    report::FailureView,
    store::{RunRow, StoreError},
};
use axum::{
    Json,
    extract::{Path, Query, State},
};
use ferry_common::{
    failure::Failure,
    id::UnitNumber,
    staging,
    storage::{BlobEntry, StagingStorage},
};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::ToSchema;

const ROWS_DEFAULT: u32 = 100;
const ROWS_MAX: u32 = 1_000;
/// Quarantines of a run that are named.
const BLOBS_MAX: usize = 200;
/// Bytes that are read of one quarantine, and of all together.
const BLOB_BYTES_MAX: usize = 1 << 20;
const BYTES_MAX: usize = 8 << 20;
/// Characters of a row that are shown.
const RAW_CHARS_MAX: usize = 8_192;
/// Columns of a quarantine, as nodes write them: `Timestamp,Level,OperationName,OperationItem,Message,File,Line,Byte,Column,Code`.
const RAW_ROW: usize = 3;
const MESSAGE: usize = 4;
const FILE: usize = 5;
const LINE: usize = 6;
const BYTE: usize = 7;
const COLUMN: usize = 8;
const CODE: usize = 9;

/// How many rows.
#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct QuarantineQuery {
    /// So many at most; default 100, and never more than 1000.
    #[param(minimum = 1)]
    limit: Option<u32>,
}

/// Rows that were left out.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct QuarantineView {
    /// The first ones, in the order of files' units.
    rows: Vec<BadRowView>,
    /// Blobs that have all of them, below the staging container.
    blobs: Vec<String>,
    /// There are more rows, or more blobs.
    is_cut: bool,
    /// Why staging could not be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    failure: Option<FailureView>,
}

/// A row that was left out.
#[derive(Debug, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct BadRowView {
    /// Path of the file.
    file: String,
    /// From 1.
    line: u64,
    /// Where it begins in the unpacked file.
    byte_offset: u64,
    /// The column that does not fit; empty: the row as a whole.
    column: String,
    reason: String,
    /// The code of a failure that has a section in the documentation.
    code: String,
    /// Its text, as far as it is shown.
    raw_row: String,
}

/// Shows the first rows that were left out of a run.
#[utoipa::path(
    get,
    path = "/api/v1/runs/{run}/quarantine",
    tag = "files",
    params(("run" = String, Path, description = "Id of the run"), QuarantineQuery),
    responses((status = 200, body = QuarantineView, description = "Rows that were left out"))
)]
pub(super) async fn show_quarantine(
    State(core): State<Arc<Core>>,
    Path(id): Path<String>,
    Query(query): Query<QuarantineQuery>,
) -> Result<Json<QuarantineView>, Problem> {
    let run = find_run(&core, &id).await?;
    let limit = limit_of(query.limit, ROWS_DEFAULT, ROWS_MAX)? as usize;
    let mut view = QuarantineView { rows: Vec::new(), blobs: Vec::new(), is_cut: false, failure: None };
    // Nothing was left out, as far as that is known: staging need not be asked.
    if core.totals_known(&run).is_some_and(|totals| run.totals.is_some() && totals.units.counters.rows_skipped == 0) {
        return Ok(Json(view));
    }
    let opened = match core.access(&run).await {
        Ok(access) => access.reader(core.now(), &core.connections),
        Err(failure) => Err(failure),
    };
    let looked = match opened {
        Ok(storage) => look(&core, &run, &*storage, limit, &mut view).await?,
        Err(failure) => Err(failure),
    };
    view.failure = looked.err().as_ref().map(FailureView::from);
    Ok(Json(view))
}

async fn look(
    core: &Core,
    run: &RunRow,
    storage: &dyn StagingStorage,
    limit: usize,
    view: &mut QuarantineView,
) -> Result<Result<(), Failure>, StoreError> {
    let prefix = staging::quarantine_prefix(&run.id);
    let mut blobs = match storage.list(&prefix, BLOBS_MAX + 1).await {
        Ok(blobs) => blobs,
        Err(e) => return Ok(Err(e.into())),
    };
    view.is_cut = blobs.len() > BLOBS_MAX;
    blobs.truncate(BLOBS_MAX);
    blobs.sort_by_key(|blob| place_of(&prefix, &blob.name));
    let mut bytes_left = BYTES_MAX;
    for BlobEntry { name, bytes } in blobs {
        if !is_accepted(core, run, &prefix, &name).await? {
            continue;
        }
        if view.rows.len() >= limit || bytes_left == 0 {
            view.is_cut = true;
            view.blobs.push(name);
            continue;
        }
        let read = match storage.read_start(&name, BLOB_BYTES_MAX.min(bytes_left)).await {
            Ok(read) => read.unwrap_or_default(),
            Err(e) => return Ok(Err(e.into())),
        };
        bytes_left -= read.len();
        let is_whole = read.len() as u64 >= bytes;
        let (rows, has_more) = rows_of(&read, is_whole, limit - view.rows.len());
        view.is_cut |= has_more;
        view.rows.extend(rows);
        view.blobs.push(name);
    }
    Ok(Ok(()))
}

/// Unit, attempt and chunk in the name of a quarantine; `None`: nodes name none like this.
fn place_of(prefix: &str, name: &str) -> Option<(u64, u32, u32)> {
    let mut parts = name.strip_prefix(prefix)?.strip_suffix(".csv")?.split('-');
    let place = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    parts.next().is_none().then_some(place)
}

/// The quarantine is of an attempt whose chunks count: others may have left some as well.
async fn is_accepted(core: &Core, run: &RunRow, prefix: &str, name: &str) -> Result<bool, StoreError> {
    let Some((unit, ..)) = place_of(prefix, name) else { return Ok(false) };
    let Some(row) = core.store.unit(&run.id, UnitNumber(unit)).await? else { return Ok(false) };
    if row.tail.quarantine.as_deref() == Some(name) {
        return Ok(true);
    }
    let chunks = core.store.chunks(&run.id, row.number).await?;
    Ok(chunks.iter().any(|chunk| chunk.chunk.quarantine.as_deref() == Some(name)))
}

/// The first rows of a quarantine, and whether it has more.
fn rows_of(bytes: &[u8], is_whole: bool, limit: usize) -> (Vec<BadRowView>, bool) {
    let mut rows = Vec::new();
    let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(bytes);
    let mut records = reader.byte_records();
    while let Some(Ok(record)) = records.next() {
        if rows.len() == limit {
            return (rows, true);
        }
        let text = |at: usize| String::from_utf8_lossy(record.get(at).unwrap_or_default()).into_owned();
        rows.push(BadRowView {
            file: text(FILE),
            line: text(LINE).parse().unwrap_or(0),
            byte_offset: text(BYTE).parse().unwrap_or(0),
            column: text(COLUMN),
            reason: text(MESSAGE),
            code: text(CODE),
            raw_row: shortened(text(RAW_ROW)),
        });
    }
    if !is_whole {
        // It ends wherever reading did.
        rows.pop();
    }
    (rows, !is_whole)
}

fn shortened(text: String) -> String {
    match text.char_indices().nth(RAW_CHARS_MAX) {
        Some((at, _)) => format!("{}...", &text[..at]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = "Timestamp,Level,OperationName,OperationItem,Message,File,Line,Byte,Column,Code\n";

    fn line(raw: &str, number: u64) -> String {
        format!(
            "2026-01-01T00:00:00Z,Warning,TabularRowSkip,{raw},no number,/d/a.csv,{number},17,price,ValueIncompatible\n"
        )
    }

    #[test]
    fn rows_are_shown_as_they_were_read() {
        let text = format!("{HEADER}{}{}", line("\"1,\"\"a\nb\"\"\"", 2), line("x", 3));
        let (rows, has_more) = rows_of(text.as_bytes(), true, 10);
        assert_eq!((rows.len(), has_more), (2, false));
        assert_eq!(
            rows[0],
            BadRowView {
                file: "/d/a.csv".into(),
                line: 2,
                byte_offset: 17,
                column: "price".into(),
                reason: "no number".into(),
                code: "ValueIncompatible".into(),
                raw_row: "1,\"a\nb\"".into(),
            }
        );
    }

    #[test]
    fn what_is_cut_off_is_not_shown_and_is_said() {
        let text = format!("{HEADER}{}{}", line("x", 2), line("\"an open quote", 3));
        let cut = text.len() - 40;
        let (rows, has_more) = rows_of(&text.as_bytes()[..cut], false, 10);
        assert_eq!((rows.len(), has_more), (1, true));
        let (rows, has_more) = rows_of(format!("{HEADER}{}{}", line("x", 2), line("y", 3)).as_bytes(), true, 1);
        assert_eq!((rows.len(), has_more), (1, true));
        assert_eq!(shortened("é".repeat(RAW_CHARS_MAX + 1)).chars().count(), RAW_CHARS_MAX + 3);
    }

    #[test]
    fn only_names_that_nodes_give_are_read() {
        let prefix = "quarantine/r/";
        for (name, place) in [
            ("quarantine/r/4-2-0.csv", Some((4, 2, 0))),
            ("quarantine/r/4-2.csv", None),
            ("quarantine/r/4-2-0-1.csv", None),
            ("quarantine/r/../../etc/passwd", None),
            ("quarantine/r/a-b-c.csv", None),
            ("quarantine/other/4-2-0.csv", None),
        ] {
            assert_eq!(place_of(prefix, name), place, "{name}");
        }
    }
}
