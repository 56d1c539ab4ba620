//! Schedules in the database.

use super::{
    super::{
        Store as _, StoreError,
        schedules::{ScheduleRow, Schedules},
    },
    SqlStore,
};
use async_trait::async_trait;
use ferry_common::clock::{Clock as _, Millis, SystemClock};
use sqlx::{Row as _, any::AnyRow};

fn read_schedule(row: &AnyRow) -> Result<ScheduleRow, StoreError> {
    let unreadable = |e: serde_json::Error| StoreError::Unreadable { table: "schedules", why: e.to_string() };
    let body: ScheduleRow = serde_json::from_str(row.try_get("body")?).map_err(unreadable)?;
    Ok(ScheduleRow { revision: row.try_get("revision")?, ..body })
}

#[async_trait]
impl Schedules for SqlStore {
    async fn schedules(&self) -> Result<Vec<ScheduleRow>, StoreError> {
        let query = sqlx::query("SELECT * FROM schedules ORDER BY name");
        query.fetch_all(&self.readers).await?.iter().map(read_schedule).collect()
    }

    async fn schedule(&self, name: &str) -> Result<Option<ScheduleRow>, StoreError> {
        let query = sqlx::query("SELECT * FROM schedules WHERE name = $1").bind(name);
        query.fetch_optional(&self.readers).await?.as_ref().map(read_schedule).transpose()
    }

    async fn put_schedule(&self, row: &ScheduleRow) -> Result<(), StoreError> {
        let unreadable = |e: serde_json::Error| StoreError::Unreadable { table: "schedules", why: e.to_string() };
        let body = serde_json::to_string(row).map_err(unreadable)?;
        let name = &row.schedule.name;
        let done = if row.revision == 0 {
            let sql = "INSERT INTO schedules (name, revision, body) VALUES ($1, 1, $2) ON CONFLICT DO NOTHING";
            sqlx::query(sql).bind(name).bind(body).execute(&self.writer).await?
        } else {
            let sql = "UPDATE schedules SET revision = revision + 1, body = $1 WHERE name = $2 AND revision = $3";
            sqlx::query(sql).bind(body).bind(name).bind(row.revision).execute(&self.writer).await?
        };
        if done.rows_affected() == 1 { Ok(()) } else { Err(StoreError::Conflict) }
    }

    async fn time(&self) -> Result<Millis, StoreError> {
        if self.is_exclusive() {
            return Ok(SystemClock.now());
        }
        let sql = "SELECT CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT) AS now_ms";
        Ok(Millis(sqlx::query(sql).fetch_one(&self.readers).await?.try_get("now_ms")?))
    }

    async fn delete_schedule(&self, name: &str) -> Result<bool, StoreError> {
        let query = sqlx::query("DELETE FROM schedules WHERE name = $1").bind(name);
        Ok(query.execute(&self.writer).await?.rows_affected() > 0)
    }
}
