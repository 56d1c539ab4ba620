//! Paces in the database. Adding is one statement, so that writers need not know what others have added.

use super::{
    super::{
        StoreError,
        paces::{PaceKey, PaceRow, PaceSums},
    },
    rows::{count, signed},
};
use ferry_common::clock::Millis;
use sqlx::{AnyConnection, AnyPool, Row as _, any::AnyRow};

fn read_pace(row: &AnyRow) -> Result<PaceRow, StoreError> {
    Ok(PaceRow {
        key: PaceKey {
            endpoint: row.try_get("endpoint")?,
            database: row.try_get("db")?,
            ingestion: row.try_get("ingestion")?,
        },
        last: Millis(row.try_get("last_ms")?),
        sums: PaceSums {
            commands: count(row, "commands")?,
            weight: row.try_get("weight")?,
            bytes: row.try_get("bytes")?,
            seconds: row.try_get("seconds")?,
            bytes_squared: row.try_get("bytes_squared")?,
            bytes_seconds: row.try_get("bytes_seconds")?,
            publish_weight: row.try_get("publish_weight")?,
            publish_seconds: row.try_get("publish_seconds")?,
        },
    })
}

pub(super) async fn pace(readers: &AnyPool, key: &PaceKey) -> Result<Option<PaceRow>, StoreError> {
    let sql = "SELECT endpoint, db, ingestion, last_ms, commands, weight, bytes, seconds, bytes_squared, bytes_seconds, \
               publish_weight, publish_seconds FROM paces WHERE endpoint = $1 AND db = $2 AND ingestion = $3";
    let query = sqlx::query(sql).bind(key.endpoint.as_str()).bind(key.database.as_str()).bind(key.ingestion.as_str());
    query.fetch_optional(readers).await?.as_ref().map(read_pace).transpose()
}

pub(super) async fn add_pace(connection: &mut AnyConnection, row: &PaceRow) -> Result<(), StoreError> {
    // As `PaceSums::and`.
    let sql = "INSERT INTO paces (endpoint, db, ingestion, last_ms, commands, weight, bytes, seconds, bytes_squared, \
               bytes_seconds, publish_weight, publish_seconds) \
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) \
               ON CONFLICT (endpoint, db, ingestion) DO UPDATE SET \
               last_ms = excluded.last_ms, \
               commands = paces.commands + excluded.commands, \
               weight = paces.weight * $13 + excluded.weight, \
               bytes = paces.bytes * $13 + excluded.bytes, \
               seconds = paces.seconds * $13 + excluded.seconds, \
               bytes_squared = paces.bytes_squared * $13 + excluded.bytes_squared, \
               bytes_seconds = paces.bytes_seconds * $13 + excluded.bytes_seconds, \
               publish_weight = paces.publish_weight * $14 + excluded.publish_weight, \
               publish_seconds = paces.publish_seconds * $14 + excluded.publish_seconds";
    let (key, sums) = (&row.key, &row.sums);
    let (commands_keep, publishing_keeps) = sums.keeps();
    sqlx::query(sql)
        .bind(key.endpoint.as_str())
        .bind(key.database.as_str())
        .bind(key.ingestion.as_str())
        .bind(row.last.0)
        .bind(signed(sums.commands))
        .bind(sums.weight)
        .bind(sums.bytes)
        .bind(sums.seconds)
        .bind(sums.bytes_squared)
        .bind(sums.bytes_seconds)
        .bind(sums.publish_weight)
        .bind(sums.publish_seconds)
        .bind(commands_keep)
        .bind(publishing_keeps)
        .execute(connection)
        .await?;
    Ok(())
}

pub(super) async fn forget_paces(connection: &mut AnyConnection, last_before: Millis) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM paces WHERE last_ms < $1").bind(last_before.0).execute(connection).await?;
    Ok(())
}
