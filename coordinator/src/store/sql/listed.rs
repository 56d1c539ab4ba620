//! What listings have named, in the database.

use super::{
    super::{StoreError, ThisRun},
    SqlStore,
    loaded::parameters,
    writes::{inserted, one_row},
};
use ferry_common::id::{AttemptNumber, RunId};
use sqlx::{AnyConnection, AssertSqlSafe, Row as _};

/// Keys that one statement puts down or looks for: as many as a page of a listing has files.
const KEYS_AT_ONCE: usize = 1_000;

impl SqlStore {
    pub(super) async fn listed_of(
        &self,
        run: &RunId,
        attempt: AttemptNumber,
        keys: &[String],
    ) -> Result<Vec<String>, StoreError> {
        let mut found = Vec::new();
        for some in keys.chunks(KEYS_AT_ONCE) {
            let sql = format!(
                "SELECT file_key FROM listed_files WHERE run_id = $1 AND attempt = $2 AND file_key IN ({})",
                parameters(3, some.len())
            );
            let mut query = sqlx::query(AssertSqlSafe(sql)).bind(run.as_str()).bind(i64::from(attempt.0));
            for key in some {
                query = query.bind(key);
            }
            for row in query.fetch_all(&self.readers).await? {
                found.push(row.try_get("file_key")?);
            }
        }
        Ok(found)
    }

    pub(super) async fn any_listed(&self, run: &RunId) -> Result<bool, StoreError> {
        let query = sqlx::query("SELECT attempt FROM listed_files WHERE run_id = $1 LIMIT 1").bind(run.as_str());
        Ok(query.fetch_optional(&self.readers).await?.is_some())
    }
}

pub(super) async fn insert(
    connection: &mut AnyConnection,
    run: &RunId,
    attempt: AttemptNumber,
    keys: &[String],
) -> Result<(), StoreError> {
    for some in keys.chunks(KEYS_AT_ONCE) {
        let rows = (0..some.len()).map(|n| format!("($1, $2, ${})", n + 3)).collect::<Vec<_>>().join(", ");
        let sql = format!("INSERT INTO listed_files (run_id, attempt, file_key) VALUES {rows}");
        let mut query = sqlx::query(AssertSqlSafe(sql)).bind(run.as_str()).bind(i64::from(attempt.0));
        for key in some {
            query = query.bind(key);
        }
        inserted(query.execute(&mut *connection).await, some.len())?;
    }
    Ok(())
}

/// Deletes some of what listings of the run have put down.
pub(super) async fn delete(connection: &mut AnyConnection, run: &ThisRun, limit: u32) -> Result<(), StoreError> {
    // An update, so that nobody takes the run's place meanwhile.
    let sql = "UPDATE runs SET is_live = is_live WHERE id = $1 AND submitted_ms = $2";
    let held = sqlx::query(sql).bind(run.id.as_str()).bind(run.submitted.0).execute(&mut *connection).await?;
    one_row(&held)?;
    let sql = "DELETE FROM listed_files WHERE run_id = $1 AND (attempt, file_key) IN \
               (SELECT attempt, file_key FROM listed_files WHERE run_id = $1 LIMIT $2)";
    sqlx::query(sql).bind(run.id.as_str()).bind(i64::from(limit)).execute(&mut *connection).await?;
    Ok(())
}
