//! The ledger of loaded files in the database, and what a run that keeps it drops at its end.

use super::{
    super::{LoadedFile, Numbers, StoreError},
    SqlStore,
    rows::{count, id_of, json, signed},
};
use crate::state::unit::UnitState;
use ferry_common::{clock::Millis, id::RunId};
use sqlx::{AnyConnection, AssertSqlSafe, Row as _, any::AnyRow};
use std::collections::BTreeMap;

/// Files that one statement puts down.
const FILES_AT_ONCE: usize = 100;
/// Keys that one statement looks for: as many as a page of a listing has files.
const KEYS_AT_ONCE: usize = 1_000;

const COLUMNS: &str = "sink, file_key, runtime, path, size_bytes, modified_ns, etag, run_id, loaded_ms";

/// A command of the unit that stands beside it has had an effect, or may have.
const IS_BEGUN: &str = "(commands.state IN ('Issued', 'Confirmed') OR commands.is_doubtful = 1)";

fn read_loaded(row: &AnyRow) -> Result<LoadedFile, StoreError> {
    Ok(LoadedFile {
        sink: row.try_get("sink")?,
        key: row.try_get("file_key")?,
        runtime: row.try_get("runtime")?,
        path: row.try_get("path")?,
        size_bytes: count(row, "size_bytes")?,
        modified_ns: row.try_get("modified_ns")?,
        etag: row.try_get("etag")?,
        run: id_of("loaded_files", row.try_get("run_id")?)?,
        loaded: Millis(row.try_get("loaded_ms")?),
    })
}

/// `$2, $3, ...`: so many parameters from that one on.
pub(super) fn parameters(first: usize, how_many: usize) -> String {
    (first..first + how_many).map(|n| format!("${n}")).collect::<Vec<_>>().join(", ")
}

impl SqlStore {
    pub(super) async fn loaded_of(&self, sink: &str, keys: &[String]) -> Result<Vec<LoadedFile>, StoreError> {
        let mut found = Vec::new();
        for some in keys.chunks(KEYS_AT_ONCE) {
            let sql = format!(
                "SELECT {COLUMNS} FROM loaded_files WHERE sink = $1 AND file_key IN ({})",
                parameters(2, some.len())
            );
            let mut query = sqlx::query(AssertSqlSafe(sql)).bind(sink);
            for key in some {
                query = query.bind(key);
            }
            for row in query.fetch_all(&self.readers).await? {
                found.push(read_loaded(&row)?);
            }
        }
        Ok(found)
    }

    pub(super) async fn page_of_loaded(
        &self,
        sink: &str,
        after: &str,
        limit: u32,
    ) -> Result<Vec<LoadedFile>, StoreError> {
        let sql =
            format!("SELECT {COLUMNS} FROM loaded_files WHERE sink = $1 AND file_key > $2 ORDER BY file_key LIMIT $3");
        let query = sqlx::query(AssertSqlSafe(sql)).bind(sink).bind(after).bind(i64::from(limit));
        query.fetch_all(&self.readers).await?.iter().map(read_loaded).collect()
    }

    pub(super) async fn paths_half_ingested(&self, run: &RunId, limit: u32) -> Result<Vec<String>, StoreError> {
        let sql = format!(
            "SELECT path FROM units WHERE run_id = $1 AND number > 0 AND state <> 'Ingested' AND EXISTS \
             (SELECT 1 FROM commands WHERE commands.run_id = units.run_id AND commands.unit = units.number \
             AND ({IS_BEGUN} OR (commands.state = 'Rejected' AND commands.state_json NOT LIKE '%\"IngestRejected\"%'))) \
             ORDER BY number LIMIT $2"
        );
        let query = sqlx::query(AssertSqlSafe(sql)).bind(run.as_str()).bind(i64::from(limit));
        let rows = query.fetch_all(&self.readers).await?;
        rows.iter().map(|row| row.try_get("path").map_err(StoreError::from)).collect()
    }
}

/// Puts files down. Twice is as once.
pub(super) async fn put(connection: &mut AnyConnection, files: &[LoadedFile]) -> Result<(), StoreError> {
    const BOUND: usize = 9;
    // PostgreSQL changes no row twice in one statement.
    let files: BTreeMap<_, _> = files.iter().map(|file| ((&file.sink, &file.key), file)).collect();
    let files: Vec<&LoadedFile> = files.into_values().collect();
    for some in files.chunks(FILES_AT_ONCE) {
        let mut sql = format!("INSERT INTO loaded_files ({COLUMNS}) VALUES ");
        for row in 0..some.len() {
            let values = parameters(row * BOUND + 1, BOUND);
            sql += &format!("{}({values})", if row == 0 { "" } else { ", " });
        }
        sql += " ON CONFLICT (sink, file_key) DO UPDATE SET runtime = excluded.runtime, path = excluded.path, \
                size_bytes = excluded.size_bytes, modified_ns = excluded.modified_ns, etag = excluded.etag, \
                run_id = excluded.run_id, loaded_ms = excluded.loaded_ms";
        let mut query = sqlx::query(AssertSqlSafe(sql));
        for file in some {
            query = query
                .bind(&file.sink)
                .bind(&file.key)
                .bind(&file.runtime)
                .bind(&file.path)
                .bind(signed(file.size_bytes))
                .bind(file.modified_ns)
                .bind(&file.etag)
                .bind(file.run.as_str())
                .bind(file.loaded.0);
        }
        query.execute(&mut *connection).await?;
    }
    Ok(())
}

pub(super) async fn forget(connection: &mut AnyConnection, sink: &str, keys: &[String]) -> Result<(), StoreError> {
    for some in keys.chunks(KEYS_AT_ONCE) {
        let sql = format!("DELETE FROM loaded_files WHERE sink = $1 AND file_key IN ({})", parameters(2, some.len()));
        let mut query = sqlx::query(AssertSqlSafe(sql)).bind(sink);
        for key in some {
            query = query.bind(key);
        }
        query.execute(&mut *connection).await?;
    }
    Ok(())
}

/// The run loads into the table from now on, if no other one does. A run that has ended, or is forgotten, holds nothing.
pub(super) async fn claim(connection: &mut AnyConnection, sink: &str, run: &RunId) -> Result<(), StoreError> {
    let sql = "INSERT INTO loading_runs (sink, run_id) VALUES ($1, $2) \
               ON CONFLICT (sink) DO UPDATE SET run_id = excluded.run_id \
               WHERE loading_runs.run_id = excluded.run_id OR NOT EXISTS \
               (SELECT 1 FROM runs WHERE runs.id = loading_runs.run_id \
               AND runs.state NOT IN ('Planned', 'Succeeded', 'Cancelled', 'Failed'))";
    let done = sqlx::query(sql).bind(sink).bind(run.as_str()).execute(connection).await?;
    if done.rows_affected() == 1 { Ok(()) } else { Err(StoreError::Conflict) }
}

/// Drops what is not begun, and what cannot come to its end any more; then commands that were never sent and have no unit that
/// is staged.
pub(super) async fn drop_untouched(
    connection: &mut AnyConnection,
    run: &RunId,
    Numbers { after, up_to }: Numbers,
) -> Result<(), StoreError> {
    // Parts of one file have its path in common. The condition on the number leads to the index of paths.
    let sql = format!(
        "UPDATE units SET state = $1, state_json = $2, revision = revision + 1 \
         WHERE run_id = $3 AND number > $4 AND number <= $5 AND (state = 'Pending' OR (state = 'Staged' AND \
         (NOT EXISTS (SELECT 1 FROM units AS part JOIN commands ON commands.run_id = part.run_id \
         AND commands.unit = part.number WHERE part.run_id = units.run_id AND part.path = units.path \
         AND part.number > 0 AND {IS_BEGUN}) \
         OR EXISTS (SELECT 1 FROM units AS part WHERE part.run_id = units.run_id AND part.path = units.path \
         AND part.number > 0 AND part.state NOT IN ('Staged', 'Ingested')))))"
    );
    sqlx::query(AssertSqlSafe(sql))
        .bind(UnitState::Dropped.name())
        .bind(json("units", &UnitState::Dropped)?)
        .bind(run.as_str())
        .bind(signed(after.0))
        .bind(signed(up_to.0))
        .execute(&mut *connection)
        .await?;
    let sql = "DELETE FROM commands WHERE run_id = $1 AND unit > $2 AND unit <= $3 AND state = 'Planned' \
               AND is_doubtful = 0 AND NOT EXISTS (SELECT 1 FROM units WHERE units.run_id = commands.run_id \
               AND units.number = commands.unit AND units.state = 'Staged')";
    sqlx::query(sql).bind(run.as_str()).bind(signed(after.0)).bind(signed(up_to.0)).execute(&mut *connection).await?;
    Ok(())
}
