//! Files and ingest commands of a run, page by page.

use super::{
    Problem, bad_request, not_found,
    runs::{find_run, given, limit_of},
};
use crate::{
    core::Core,
    ledger::FileRowsView,
    report::FailureView,
    state::{command::CommandState, unit::UnitState},
    store::{ChunkRow, CommandQuery, CommandRow, FilePlace, FileQuery, FileSort, RunRow, StoreError, UnitRow},
};
use axum::{
    Json,
    extract::{Path, Query, State},
};
use ferry_common::{
    id::UnitNumber,
    unit::{Counters, Scope},
};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::ToSchema;

const ROWS_DEFAULT: u32 = 100;
const ROWS_MAX: u32 = 1_000;
/// Characters of a search.
const SEARCH_CHARS_MAX: usize = 256;
/// States of a unit, in the order in which they are sorted: what needs a look comes first.
const UNIT_STATES: [&str; 7] = ["Failed", "Skipped", "Leased", "Pending", "Staged", "Ingested", "Dropped"];
const COMMAND_STATES: [&str; 4] = ["Planned", "Issued", "Confirmed", "Rejected"];

/// A file of a run, or what stands for several: many small files are one unit, a large one may be several.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct FileView {
    /// Number of the unit in the run.
    unit: u64,
    /// Of several files, the first one.
    path: String,
    /// Below the source folder.
    relative_path: String,
    /// Bytes of the unit's files, as stored.
    size_bytes: u64,
    etag: String,
    /// `Pending`, `Leased`, `Staged`, `Ingested`, `Failed`, `Skipped`, `Dropped`.
    state: &'static str,
    attempts: u32,
    /// Name of the node that had it last; empty: none has.
    node: String,
    rows_read: u64,
    rows_skipped: u64,
    /// Bytes of staged records before compression.
    data_written: u64,
    /// Bytes sent to staging.
    staged_bytes: u64,
    /// Files that it stands for.
    files_in_unit: u64,
    /// It is a part of a large file.
    #[serde(skip_serializing_if = "Option::is_none")]
    part: Option<PartView>,
    /// Why an attempt failed last.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_failure: Option<FailureView>,
}

/// Part of a large file.
#[derive(Serialize, ToSchema)]
struct PartView {
    /// From 1.
    number: u32,
    /// Parts of the file.
    count: u32,
}

fn file_view(unit: &UnitRow, live: Counters) -> FileView {
    let failure = match &unit.state {
        UnitState::Failed { failure } | UnitState::Skipped { failure } => Some(failure),
        _ => unit.last_failure.as_ref(),
    };
    // What a node does now is added to what was done.
    let mut counters = unit.counters;
    counters += live;
    FileView {
        unit: unit.number.0,
        path: unit.file.path.clone(),
        relative_path: unit.file.relative_path.clone(),
        size_bytes: unit.size_bytes,
        etag: unit.file.etag.clone(),
        state: unit.state.name(),
        attempts: unit.attempts,
        node: unit.node_name.clone(),
        rows_read: counters.rows_read,
        rows_skipped: counters.rows_skipped,
        data_written: counters.data_written_bytes,
        staged_bytes: counters.staged_bytes,
        files_in_unit: match &unit.scope {
            Scope::Pack(files) => files.len() as u64,
            Scope::File | Scope::Range(_) => 1,
        },
        part: match &unit.scope {
            Scope::Range(range) => Some(PartView { number: range.number + 1, count: range.count }),
            Scope::File | Scope::Pack(_) => None,
        },
        last_failure: failure.map(FailureView::from),
    }
}

/// What the attempt that goes on has done.
fn live_of(core: &Core, unit: &UnitRow) -> Counters {
    if unit.state.lease().is_none() {
        return Counters::default();
    }
    let live = core.live();
    live.get(&unit.run).and_then(|run| run.progress.get(&unit.number)).copied().unwrap_or_default()
}

/// Which files.
#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct FilesQuery {
    /// Only those in this state.
    state: Option<String>,
    /// Only those whose path holds this text, whatever the case of its letters.
    #[param(max_length = 256)]
    search: Option<String>,
    /// `path` (the default), `size` or `state`.
    sort: Option<String>,
    /// `asc` (the default) or `desc`.
    order: Option<String>,
    /// Where the page begins: `next` of the page before, asked in the same way.
    after: Option<String>,
    /// So many at most; default 100, and never more than 1000.
    #[param(minimum = 1)]
    limit: Option<u32>,
}

/// A page of files.
#[derive(Serialize, ToSchema)]
pub(super) struct FilesView {
    /// With a search or a state these may be few, or none, and more follow all the same: a call looks at so many files only.
    files: Vec<FileView>,
    /// `after` of the next page; null: this was the last one.
    next: Option<String>,
    /// How many there are in all pages, as far as that is known without counting.
    total: Option<u64>,
}

/// What a page of files is asked by, checked.
struct Asked {
    state: Option<&'static str>,
    search: Option<String>,
    /// `None`: by state.
    sort: Option<FileSort>,
    is_descending: bool,
    limit: u32,
}

impl Asked {
    fn read(query: &FilesQuery) -> Result<Self, Problem> {
        let search = given(&query.search);
        if search.is_some_and(|text| text.chars().count() > SEARCH_CHARS_MAX || text.contains('\0')) {
            return Err(bad_request(format!("search has more than {SEARCH_CHARS_MAX} characters, or a zero")));
        }
        let sort = match given(&query.sort) {
            None | Some("path") => Some(FileSort::Path),
            Some("size") => Some(FileSort::Size),
            Some("state") => None,
            Some(other) => return Err(bad_request(format!("sort {other:?} is none of path, size, state"))),
        };
        let is_descending = match given(&query.order) {
            None | Some("asc") => false,
            Some("desc") => true,
            Some(other) => return Err(bad_request(format!("order {other:?} is neither asc nor desc"))),
        };
        Ok(Self {
            state: state_in(&UNIT_STATES, &query.state)?,
            search: search.map(str::to_owned),
            sort,
            is_descending,
            limit: limit_of(query.limit, ROWS_DEFAULT, ROWS_MAX)?,
        })
    }

    fn query(&self, sort: FileSort) -> FileQuery {
        FileQuery {
            state: self.state,
            search: self.search.clone(),
            sort,
            is_descending: self.is_descending,
            limit: self.limit,
            ..FileQuery::default()
        }
    }
}

fn state_in(states: &[&'static str], asked: &Option<String>) -> Result<Option<&'static str>, Problem> {
    let Some(asked) = given(asked) else { return Ok(None) };
    let known = states.iter().copied().find(|state| *state == asked);
    known.map(Some).ok_or_else(|| bad_request(format!("state {asked:?} is none of {}", states.join(", "))))
}

/// Lists the files of a run, a page at a time.
#[utoipa::path(
    get,
    path = "/api/v1/runs/{run}/files",
    tag = "files",
    params(("run" = String, Path, description = "Id of the run"), FilesQuery),
    responses((status = 200, body = FilesView, description = "A page of files"))
)]
pub(super) async fn list_files(
    State(core): State<Arc<Core>>,
    Path(id): Path<String>,
    Query(query): Query<FilesQuery>,
) -> Result<Json<FilesView>, Problem> {
    let run = find_run(&core, &id).await?;
    let asked = Asked::read(&query)?;
    let (units, next) = match asked.sort {
        Some(sort) => {
            let mut wanted = asked.query(sort);
            if let Some(after) = given(&query.after) {
                wanted.after = Some(place_of(&core, &run, after).await?);
            }
            let page = core.store.file_page(&run.id, &wanted).await?;
            (page.units, page.next.map(|next| next.to_string()))
        }
        None => by_state(&core, &run, &asked, given(&query.after)).await?,
    };
    let files = units.iter().map(|unit| file_view(unit, live_of(&core, unit))).collect();
    Ok(Json(FilesView { files, next, total: total_of(&core, &run, &asked) }))
}

/// The place of a unit that a cursor names.
async fn place_of(core: &Core, run: &RunRow, cursor: &str) -> Result<FilePlace, Problem> {
    let wrong = || bad_request(format!("after {cursor:?} is no page's next of this list"));
    let number: u64 = cursor.parse().map_err(|_| wrong())?;
    let unit = core.store.unit(&run.id, UnitNumber(number)).await?.ok_or_else(wrong)?;
    Ok(FilePlace::from(&unit))
}

/// A page sorted by state: within one, by path. A cursor is `STATE` or `STATE:UNIT`.
async fn by_state(
    core: &Core,
    run: &RunRow,
    asked: &Asked,
    after: Option<&str>,
) -> Result<(Vec<UnitRow>, Option<String>), Problem> {
    let mut states: Vec<&'static str> =
        UNIT_STATES.into_iter().filter(|state| asked.state.is_none_or(|wanted| wanted == *state)).collect();
    if asked.is_descending {
        states.reverse();
    }
    let mut place = None;
    if let Some(cursor) = after {
        let (state, unit) = cursor.split_once(':').map_or((cursor, None), |(state, unit)| (state, Some(unit)));
        let at = states.iter().position(|known| *known == state);
        let at = at.ok_or_else(|| bad_request(format!("after {cursor:?} is no page's next of this list")))?;
        states.drain(..at);
        if let Some(unit) = unit {
            place = Some(place_of(core, run, unit).await?);
        }
    }
    let counts = core.totals_known(run).map(|totals| totals.units);
    let mut found: Vec<UnitRow> = Vec::new();
    for (at, &state) in states.iter().enumerate() {
        // Where there is no index of the state, and nothing in it either, nothing need be looked at.
        let is_empty = counts.is_some_and(|counts| match state {
            "Staged" => counts.staged == 0,
            "Ingested" => counts.ingested == 0,
            "Dropped" => counts.dropped == 0,
            _ => false,
        });
        if is_empty {
            continue;
        }
        let wanted = FileQuery {
            state: Some(state),
            limit: asked.limit - found.len() as u32,
            after: place.take(),
            ..asked.query(FileSort::Path)
        };
        let page = core.store.file_page(&run.id, &wanted).await?;
        found.extend(page.units);
        // The state has more, or would have to be looked through further.
        if let Some(next) = page.next {
            return Ok((found, Some(format!("{state}:{next}"))));
        }
        if found.len() >= asked.limit as usize {
            return Ok((found, states.get(at + 1).map(|next| (*next).to_owned())));
        }
    }
    Ok((found, None))
}

/// How many files there are on all pages, if that is known by now.
fn total_of(core: &Core, run: &RunRow, asked: &Asked) -> Option<u64> {
    let counts = core.totals_known(run).filter(|_| asked.search.is_none())?.units;
    Some(match asked.state {
        None => counts.total(),
        Some("Pending") => counts.pending,
        Some("Leased") => counts.leased,
        Some("Staged") => counts.staged,
        Some("Ingested") => counts.ingested,
        Some("Failed") => counts.failed,
        Some("Skipped") => counts.skipped,
        Some(_) => counts.dropped,
    })
}

/// A file with its chunks and their ingest commands.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct FileDetailView {
    #[serde(flatten)]
    file: FileView,
    chunks: Vec<ChunkView>,
    commands: Vec<CommandDetailView>,
}

/// A chunk that is staged.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct ChunkView {
    /// Number in the file, from 0.
    chunk: u32,
    attempt: u32,
    /// Name below the staging container.
    blob: String,
    rows: u64,
    /// Bytes of its records before compression.
    raw_bytes: u64,
    /// Bytes of the blob.
    staged_bytes: u64,
    /// CRC-32 of the blob, eight hexadecimal digits.
    crc32: String,
    /// Of a unit of several files: which of them are in it.
    files: Vec<FileRowsView>,
    /// Blob with the rows that were left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    quarantine: Option<String>,
}

fn chunk_view(row: &ChunkRow) -> ChunkView {
    let chunk = &row.chunk;
    ChunkView {
        chunk: chunk.number.0,
        attempt: row.attempt.0,
        blob: chunk.blob.clone(),
        rows: chunk.rows,
        raw_bytes: chunk.raw_bytes,
        staged_bytes: chunk.staged_bytes,
        crc32: format!("{:08x}", chunk.crc32),
        files: chunk.files.iter().map(FileRowsView::from).collect(),
        quarantine: chunk.quarantine.clone(),
    }
}

/// An ingest command, and how the cluster knows it.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct CommandDetailView {
    #[serde(flatten)]
    command: CommandView,
    /// Our id of the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<String>,
    /// Why the cluster refused it.
    #[serde(skip_serializing_if = "Option::is_none")]
    failure: Option<FailureView>,
}

/// An ingest command.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct CommandView {
    unit: u64,
    chunk: u32,
    /// `Planned`, `Issued`, `Confirmed`, `Rejected`.
    state: &'static str,
    /// The tag that its extents carry.
    tag: String,
    rows: u64,
    /// Bytes of its records before compression.
    raw_bytes: u64,
    /// Rows that the cluster counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    rows_counted: Option<u64>,
    /// The cluster's id of the operation.
    #[serde(skip_serializing_if = "Option::is_none")]
    operation_id: Option<String>,
}

fn command_view(command: &CommandRow) -> CommandView {
    let (_, operation) = command.state.known_by();
    CommandView {
        unit: command.unit.0,
        chunk: command.chunk,
        state: command.state.name(),
        tag: format!("ingest-by:{}", command.tag),
        rows: command.rows,
        raw_bytes: command.raw_bytes,
        rows_counted: match command.state {
            CommandState::Confirmed { rows, .. } => rows,
            _ => None,
        },
        operation_id: operation.map(str::to_owned),
    }
}

fn command_detail(command: &CommandRow) -> CommandDetailView {
    let (sent, _) = command.state.known_by();
    CommandDetailView {
        command: command_view(command),
        request_id: sent.map(|sent| sent.request_id.clone()),
        failure: match &command.state {
            CommandState::Rejected { failure } => Some(FailureView::from(failure)),
            _ => None,
        },
    }
}

/// Shows a file of a run with its chunks and ingest commands.
#[utoipa::path(
    get,
    path = "/api/v1/runs/{run}/files/{unit}",
    tag = "files",
    params(("run" = String, Path, description = "Id of the run"), ("unit" = u64, Path, description = "Number of the unit")),
    responses((status = 200, body = FileDetailView, description = "The file"))
)]
pub(super) async fn show_file(
    State(core): State<Arc<Core>>,
    Path((id, unit)): Path<(String, u64)>,
) -> Result<Json<FileDetailView>, Problem> {
    let run = find_run(&core, &id).await?;
    let number = UnitNumber(unit);
    let unit = core.store.unit(&run.id, number).await?.filter(|unit| unit.number != UnitNumber::LISTING);
    let unit = unit.ok_or_else(|| not_found("file", &number.to_string()))?;
    let (chunks, commands) = details(&core, &run, number).await?;
    Ok(Json(FileDetailView {
        file: file_view(&unit, live_of(&core, &unit)),
        chunks: chunks.iter().map(chunk_view).collect(),
        commands: commands.iter().map(command_detail).collect(),
    }))
}

async fn details(core: &Core, run: &RunRow, unit: UnitNumber) -> Result<(Vec<ChunkRow>, Vec<CommandRow>), StoreError> {
    Ok((core.store.chunks(&run.id, unit).await?, core.store.unit_commands(&run.id, unit).await?))
}

/// Which commands.
#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct CommandsQuery {
    /// Only those in this state.
    state: Option<String>,
    /// Where the page begins: `next` of the page before.
    after: Option<String>,
    /// So many at most; default 100, and never more than 1000.
    #[param(minimum = 1)]
    limit: Option<u32>,
}

/// A page of ingest commands, in the order of units and chunks.
#[derive(Serialize, ToSchema)]
pub(super) struct CommandsView {
    /// With a state these may be few, or none, and more follow all the same.
    commands: Vec<CommandView>,
    /// `after` of the next page; null: this was the last one.
    next: Option<String>,
}

/// Lists the ingest commands of a run, a page at a time.
#[utoipa::path(
    get,
    path = "/api/v1/runs/{run}/commands",
    tag = "files",
    params(("run" = String, Path, description = "Id of the run"), CommandsQuery),
    responses((status = 200, body = CommandsView, description = "A page of ingest commands"))
)]
pub(super) async fn list_commands(
    State(core): State<Arc<Core>>,
    Path(id): Path<String>,
    Query(query): Query<CommandsQuery>,
) -> Result<Json<CommandsView>, Problem> {
    let run = find_run(&core, &id).await?;
    let after = match given(&query.after) {
        None => None,
        Some(cursor) => {
            let place =
                cursor.split_once(':').and_then(|(unit, chunk)| Some((unit.parse().ok()?, chunk.parse().ok()?)));
            let place = place.ok_or_else(|| bad_request(format!("after {cursor:?} is no page's next of this list")))?;
            Some((UnitNumber(place.0), place.1))
        }
    };
    let wanted = CommandQuery {
        state: state_in(&COMMAND_STATES, &query.state)?,
        after,
        limit: limit_of(query.limit, ROWS_DEFAULT, ROWS_MAX)?,
        ..CommandQuery::default()
    };
    let page = core.store.command_page(&run.id, &wanted).await?;
    Ok(Json(CommandsView {
        commands: page.commands.iter().map(command_view).collect(),
        next: page.next.map(|(unit, chunk)| format!("{unit}:{chunk}")),
    }))
}
