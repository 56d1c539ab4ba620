//! Rows of the database as values, and back.

use super::super::{ChunkRow, CommandRow, Driver, NodeRow, RunRow, StoreError, Tail, UnitRow};
use ferry_common::{
    id::{AttemptNumber, UnitNumber},
    unit::{Counters, FileVersion},
};
use serde::{Serialize, de::DeserializeOwned};
use sqlx::{Row as _, any::AnyRow};
use std::fmt;

/// A value as text.
pub(super) fn json<T: Serialize>(table: &'static str, value: &T) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|e| StoreError::Unreadable { table, why: e.to_string() })
}

fn from_json<T: DeserializeOwned>(table: &'static str, text: &str) -> Result<T, StoreError> {
    serde_json::from_str(text).map_err(|e| StoreError::Unreadable { table, why: e.to_string() })
}

/// A count for the database, which knows signed numbers only.
pub(super) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

pub(super) fn count(row: &AnyRow, column: &str) -> Result<u64, StoreError> {
    // A sum over nothing is null.
    Ok(unsigned(row.try_get::<Option<i64>, _>(column)?.unwrap_or(0)))
}

pub(super) fn id_of<T: TryFrom<String>>(table: &'static str, text: String) -> Result<T, StoreError>
where
    T::Error: fmt::Display,
{
    T::try_from(text).map_err(|e| StoreError::Unreadable { table, why: e.to_string() })
}

pub(super) fn read_run(row: &AnyRow) -> Result<RunRow, StoreError> {
    let mut run: RunRow = from_json("runs", row.try_get("run_json")?)?;
    run.revision = row.try_get("revision")?;
    run.driver = Driver {
        coordinator: row.try_get("driver")?,
        epoch: row.try_get("driver_epoch")?,
        beat: row.try_get("driver_beat")?,
    };
    Ok(run)
}

pub(super) fn read_unit(row: &AnyRow) -> Result<UnitRow, StoreError> {
    let size_bytes = count(row, "size_bytes")?;
    // Rows of the first version have no size of the file beside the unit's: they are the same.
    let file_bytes = row.try_get::<i64, _>("file_bytes")?;
    Ok(UnitRow {
        size_bytes,
        scope: from_json("units", row.try_get("scope_json")?)?,
        file_count: count(row, "file_count")? as u32,
        run: id_of("units", row.try_get("run_id")?)?,
        number: UnitNumber(count(row, "number")?),
        state: from_json("units", row.try_get("state_json")?)?,
        revision: row.try_get("revision")?,
        file: FileVersion {
            path: row.try_get("path")?,
            relative_path: row.try_get("relative_path")?,
            size_bytes: u64::try_from(file_bytes).unwrap_or(size_bytes),
            modified_ns: row.try_get("modified_ns")?,
            etag: row.try_get("etag")?,
        },
        attempts: count(row, "attempts")? as u32,
        counters: read_counters(row)?,
        tail: from_json::<Option<Tail>>("units", row.try_get("tail_json")?)?.unwrap_or_default(),
        last_failure: from_json("units", row.try_get("failure_json")?)?,
        node_name: row.try_get("node_name")?,
    })
}

pub(super) fn read_counters(row: &AnyRow) -> Result<Counters, StoreError> {
    Ok(Counters {
        data_read_bytes: count(row, "data_read_bytes")?,
        data_written_bytes: count(row, "data_written_bytes")?,
        staged_bytes: count(row, "staged_bytes")?,
        rows_read: count(row, "rows_read")?,
        rows_skipped: count(row, "rows_skipped")?,
    })
}

pub(super) fn read_command(row: &AnyRow) -> Result<CommandRow, StoreError> {
    Ok(CommandRow {
        run: id_of("commands", row.try_get("run_id")?)?,
        unit: UnitNumber(count(row, "unit")?),
        chunk: count(row, "chunk")? as u32,
        state: from_json("commands", row.try_get("state_json")?)?,
        revision: row.try_get("revision")?,
        tag: row.try_get("tag")?,
        blob: row.try_get("blob")?,
        rows: count(row, "row_count")?,
        raw_bytes: count(row, "raw_bytes")?,
    })
}

pub(super) fn read_node(row: &AnyRow) -> Result<NodeRow, StoreError> {
    from_json("nodes", row.try_get("node_json")?)
}

pub(super) fn read_chunk(row: &AnyRow) -> Result<ChunkRow, StoreError> {
    Ok(ChunkRow {
        run: id_of("chunks", row.try_get("run_id")?)?,
        unit: UnitNumber(count(row, "unit")?),
        attempt: AttemptNumber(count(row, "attempt")? as u32),
        chunk: from_json("chunks", row.try_get("chunk_json")?)?,
    })
}
