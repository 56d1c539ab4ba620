//! What exists: tables, extents, mappings, and the journals of what was done. A SQLite file; extents' rows are Parquet
//! files beside it.

use crate::{error::AdxError, now_ticks, types::Kind};
use serde::{Deserialize, Serialize};
use sqlx::{
    Row as _, SqlitePool,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use std::path::{Path, PathBuf};

/// A column of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// Its type.
    pub kind: Kind,
}

/// A table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Its name.
    pub name: String,
    /// Its columns, in order.
    pub columns: Vec<Column>,
}

#[derive(Serialize, Deserialize)]
struct StoredColumn(String, String);

/// A data shard.
#[derive(Debug, Clone)]
pub struct Extent {
    /// Its id.
    pub id: String,
    /// Its table.
    pub table: String,
    /// Its rows.
    pub rows: i64,
    /// Bytes of the data as it came, uncompressed.
    pub original_size: i64,
    /// Bytes of its file.
    pub extent_size: i64,
    /// When it was made.
    pub created_ticks: i64,
    /// Its tags.
    pub tags: Vec<String>,
}

/// An operation, as the journal has it.
#[derive(Debug, Clone)]
#[allow(missing_docs, reason = "the names are the service's columns")]
pub struct Operation {
    pub id: String,
    pub kind: String,
    pub started_ticks: i64,
    pub updated_ticks: i64,
    pub state: String,
    pub status: String,
    pub root: String,
    pub should_retry: bool,
    pub db: String,
}

impl Operation {
    /// An ingestion that begins.
    pub fn ingestion(id: String, root: &str, db: &str, started_ticks: i64) -> Self {
        Self {
            id,
            kind: "DataIngestPull".to_owned(),
            started_ticks,
            updated_ticks: started_ticks,
            state: "InProgress".to_owned(),
            status: String::new(),
            root: root.to_owned(),
            should_retry: false,
            db: db.to_owned(),
        }
    }
}

/// The rows of one finished ingestion.
#[derive(Debug, Clone)]
pub struct Ingested {
    /// The extent; none when the blob had no rows.
    pub extent: Option<Extent>,
    /// The client's id of the request.
    pub request_id: String,
    /// How long it took.
    pub duration_ticks: i64,
    /// Its operation is not listed any more.
    pub is_forgotten: bool,
}

/// A failed ingestion, as the journal has it.
#[derive(Debug, Clone)]
#[allow(missing_docs, reason = "the names are the service's columns")]
pub struct FailureRow {
    pub operation: String,
    pub table: String,
    pub at_ticks: i64,
    pub path: String,
    pub details: String,
    pub permanent: bool,
    pub root: String,
    pub error_code: String,
}

/// A blob of queued ingestion that came by REST.
#[derive(Debug, Clone)]
#[allow(missing_docs, reason = "the names are the service's words")]
pub struct QueuedRow {
    pub operation: String,
    pub source_id: String,
    pub db: String,
    pub table: String,
    pub url: String,
    pub properties_json: String,
    pub status: String,
    pub error_code: String,
    pub failure_status: String,
    pub details: String,
    pub tries: i64,
    pub started_ticks: i64,
    pub updated_ticks: i64,
}

/// The catalogue.
#[derive(Debug, Clone)]
pub struct Catalogue {
    pool: SqlitePool,
    folder: PathBuf,
}

impl Catalogue {
    /// Opens the catalogue in `folder`, creating it if need be. Operations that were running are abandoned.
    pub async fn open(folder: &Path) -> Result<Self, AdxError> {
        std::fs::create_dir_all(folder.join("extents"))?;
        std::fs::create_dir_all(folder.join("downloads"))?;
        let options = SqliteConnectOptions::new()
            .filename(folder.join("catalogue.db"))
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Normal);
        let pool = SqlitePoolOptions::new()
            .max_connections(1)
            .idle_timeout(None)
            .max_lifetime(None)
            .connect_with(options)
            .await?;
        sqlx::raw_sql(include_str!("catalogue.sql")).execute(&pool).await?;
        let catalogue = Self { pool, folder: folder.to_owned() };
        sqlx::query("UPDATE operations SET state = 'Abandoned', updated_ticks = $1 WHERE state = 'InProgress'")
            .bind(now_ticks())
            .execute(&catalogue.pool)
            .await?;
        Ok(catalogue)
    }

    /// Where an extent's rows are.
    pub fn extent_path(&self, id: &str) -> PathBuf {
        self.folder.join("extents").join(format!("{id}.parquet"))
    }

    /// Where a blob is kept while it is read.
    pub fn download_path(&self) -> PathBuf {
        self.folder.join("downloads").join(uuid::Uuid::new_v4().to_string())
    }

    /// A table.
    pub async fn table(&self, db: &str, name: &str) -> Result<Option<Table>, AdxError> {
        let row = sqlx::query("SELECT columns_json FROM tables WHERE db = $1 AND name = $2")
            .bind(db)
            .bind(name)
            .fetch_optional(&self.pool)
            .await?;
        row.map(|row| {
            let stored: Vec<StoredColumn> = serde_json::from_str(&row.get::<String, _>(0))
                .map_err(|e| AdxError::internal(format!("catalogue: {e}")))?;
            let columns = stored
                .into_iter()
                .map(|StoredColumn(name, kind)| Column { kind: Kind::parse(&kind).unwrap_or(Kind::String), name });
            Ok(Table { name: name.to_owned(), columns: columns.collect() })
        })
        .transpose()
    }

    /// Names of all tables.
    pub async fn tables(&self, db: &str) -> Result<Vec<String>, AdxError> {
        let rows =
            sqlx::query("SELECT name FROM tables WHERE db = $1 ORDER BY name").bind(db).fetch_all(&self.pool).await?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }

    /// Databases that have something in them.
    pub async fn databases(&self) -> Result<Vec<String>, AdxError> {
        let rows = sqlx::query("SELECT DISTINCT db FROM tables ORDER BY db").fetch_all(&self.pool).await?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }

    /// Makes a table what it shall be.
    pub async fn put_table(&self, db: &str, table: &Table) -> Result<(), AdxError> {
        let columns: Vec<_> =
            table.columns.iter().map(|c| StoredColumn(c.name.clone(), c.kind.name().to_owned())).collect();
        let json = serde_json::to_string(&columns).map_err(|e| AdxError::internal(e.to_string()))?;
        sqlx::query("INSERT INTO tables VALUES ($1, $2, $3) ON CONFLICT (db, name) DO UPDATE SET columns_json = excluded.columns_json")
            .bind(db)
            .bind(&table.name)
            .bind(json)
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// Drops a table and its extents.
    pub async fn drop_table(&self, db: &str, name: &str) -> Result<(), AdxError> {
        let extents = self.extents(db, name).await?;
        let mut transaction = self.pool.begin().await?;
        for sql in [
            "DELETE FROM extents WHERE db = $1 AND table_name = $2",
            "DELETE FROM mappings WHERE db = $1 AND table_name = $2",
            "DELETE FROM tables WHERE db = $1 AND name = $2",
        ] {
            sqlx::query(sql).bind(db).bind(name).execute(&mut *transaction).await?;
        }
        transaction.commit().await?;
        for extent in extents {
            // A file that stays is litter, not data.
            let _ = std::fs::remove_file(self.extent_path(&extent.id));
        }
        Ok(())
    }

    /// Extents of a table, oldest first.
    pub async fn extents(&self, db: &str, table: &str) -> Result<Vec<Extent>, AdxError> {
        let sql = "SELECT id, table_name, row_count, original_size, extent_size, created_ticks, tags_json FROM extents \
                   WHERE db = $1 AND table_name = $2 ORDER BY created_ticks, id";
        let rows = sqlx::query(sql).bind(db).bind(table).fetch_all(&self.pool).await?;
        let read = |row: &sqlx::sqlite::SqliteRow| Extent {
            id: row.get(0),
            table: row.get(1),
            rows: row.get(2),
            original_size: row.get(3),
            extent_size: row.get(4),
            created_ticks: row.get(5),
            tags: serde_json::from_str(&row.get::<String, _>(6)).unwrap_or_default(),
        };
        Ok(rows.iter().map(read).collect())
    }

    /// Takes extents out of a table.
    pub async fn drop_extents(&self, ids: &[String]) -> Result<(), AdxError> {
        let mut transaction = self.pool.begin().await?;
        for id in ids {
            sqlx::query("DELETE FROM extents WHERE id = $1").bind(id).execute(&mut *transaction).await?;
        }
        transaction.commit().await?;
        for id in ids {
            let _ = std::fs::remove_file(self.extent_path(id));
        }
        Ok(())
    }

    /// Drops extents and moves others to a table, in one transaction. Fails where one of them is gone.
    pub async fn replace_extents(&self, dropped: &[String], moved: &[String], to: &str) -> Result<(), AdxError> {
        let gone = |id: &str| AdxError::bad_request(format!("BadRequest_ExtentNotFound: extent {id} is gone."));
        let mut transaction = self.pool.begin().await?;
        for id in dropped {
            let done = sqlx::query("DELETE FROM extents WHERE id = $1").bind(id).execute(&mut *transaction).await?;
            if done.rows_affected() == 0 {
                return Err(gone(id));
            }
        }
        for id in moved {
            let update = sqlx::query("UPDATE extents SET table_name = $1 WHERE id = $2").bind(to).bind(id);
            if update.execute(&mut *transaction).await?.rows_affected() == 0 {
                return Err(gone(id));
            }
        }
        transaction.commit().await?;
        for id in dropped {
            // A file that stays is litter, not data.
            let _ = std::fs::remove_file(self.extent_path(id));
        }
        Ok(())
    }

    /// A mapping's JSON.
    pub async fn mapping(&self, db: &str, table: &str, kind: &str, name: &str) -> Result<Option<String>, AdxError> {
        let sql = "SELECT mapping FROM mappings WHERE db = $1 AND table_name = $2 AND kind = $3 AND name = $4";
        let row = sqlx::query(sql).bind(db).bind(table).bind(kind).bind(name).fetch_optional(&self.pool).await?;
        Ok(row.map(|row| row.get(0)))
    }

    /// Makes a mapping what it shall be, or drops it.
    pub async fn put_mapping(
        &self,
        db: &str,
        table: &str,
        kind: &str,
        name: &str,
        mapping: Option<&str>,
    ) -> Result<(), AdxError> {
        let sql = "DELETE FROM mappings WHERE db = $1 AND table_name = $2 AND kind = $3 AND name = $4";
        sqlx::query(sql).bind(db).bind(table).bind(kind).bind(name).execute(&self.pool).await?;
        if let Some(mapping) = mapping {
            let sql = "INSERT INTO mappings VALUES ($1, $2, $3, $4, $5)";
            sqlx::query(sql).bind(db).bind(table).bind(kind).bind(name).bind(mapping).execute(&self.pool).await?;
        }
        Ok(())
    }

    /// Notes an operation, new or changed.
    pub async fn put_operation(&self, operation: &Operation) -> Result<(), AdxError> {
        let mut connection = self.pool.acquire().await?;
        put_operation(&mut connection, operation).await
    }

    /// All operations, newest first.
    pub async fn operations(&self) -> Result<Vec<Operation>, AdxError> {
        let sql = "SELECT id, operation, started_ticks, updated_ticks, state, status, root, should_retry, db FROM operations \
                   ORDER BY started_ticks DESC";
        let rows = sqlx::query(sql).fetch_all(&self.pool).await?;
        let read = |row: &sqlx::sqlite::SqliteRow| Operation {
            id: row.get(0),
            kind: row.get(1),
            started_ticks: row.get(2),
            updated_ticks: row.get(3),
            state: row.get(4),
            status: row.get(5),
            root: row.get(6),
            should_retry: row.get::<i64, _>(7) != 0,
            db: row.get(8),
        };
        Ok(rows.iter().map(read).collect())
    }

    /// Ends an ingestion: extent, operation and journal in one transaction. This is the commit point.
    pub async fn commit_ingestion(
        &self,
        db: &str,
        table: &str,
        done: &Ingested,
        operation: &Operation,
    ) -> Result<(), AdxError> {
        let mut transaction = self.pool.begin().await?;
        let (mut rows, mut original, mut size) = (0, 0, 0);
        if let Some(extent) = &done.extent {
            (rows, original, size) = (extent.rows, extent.original_size, extent.extent_size);
            sqlx::query("INSERT INTO extents VALUES ($1, $2, $3, $4, $5, $6, $7, $8)")
                .bind(&extent.id)
                .bind(db)
                .bind(table)
                .bind(rows)
                .bind(original)
                .bind(size)
                .bind(extent.created_ticks)
                .bind(serde_json::to_string(&extent.tags).unwrap_or_default())
                .execute(&mut *transaction)
                .await?;
        }
        sqlx::query("INSERT INTO data_operations VALUES ($1, $2, $3, $4, $5, $6, $7, $8)")
            .bind(now_ticks())
            .bind(db)
            .bind(table)
            .bind(&done.request_id)
            .bind(rows)
            .bind(original)
            .bind(size)
            .bind(done.duration_ticks)
            .execute(&mut *transaction)
            .await?;
        if done.is_forgotten {
            sqlx::query("DELETE FROM operations WHERE id = $1").bind(&operation.id).execute(&mut *transaction).await?;
        } else {
            put_operation(&mut transaction, operation).await?;
        }
        Ok(transaction.commit().await?)
    }

    /// Ends an operation that runs, and whose end could not be noted: it may be tried again.
    pub async fn end_open_operation(&self, id: &str) -> Result<(), AdxError> {
        let sql = "UPDATE operations SET state = 'Failed', should_retry = 1, updated_ticks = $1, \
                   status = 'its end could not be noted' WHERE id = $2 AND state = 'InProgress'";
        sqlx::query(sql).bind(now_ticks()).bind(id).execute(&self.pool).await?;
        Ok(())
    }

    /// Rows of a journal: `commands` or `data_operations`, values in the order of its columns.
    pub async fn journal<T: for<'r> sqlx::FromRow<'r, sqlx::sqlite::SqliteRow> + Send + Unpin>(
        &self,
        sql: &'static str,
    ) -> Result<Vec<T>, AdxError> {
        Ok(sqlx::query_as(sql).fetch_all(&self.pool).await?)
    }

    /// Notes a command.
    #[allow(clippy::too_many_arguments, reason = "one a column")]
    pub async fn note_command(
        &self,
        request_id: &str,
        kind: &str,
        text: &str,
        db: &str,
        started: i64,
        state: &str,
        root: &str,
        failure: &str,
    ) -> Result<(), AdxError> {
        sqlx::query("INSERT INTO commands VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)")
            .bind(request_id)
            .bind(kind)
            .bind(text)
            .bind(db)
            .bind(started)
            .bind(now_ticks())
            .bind(state)
            .bind(root)
            .bind(failure)
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// Notes a failed ingestion.
    pub async fn note_failure(&self, db: &str, f: &FailureRow) -> Result<(), AdxError> {
        sqlx::query("INSERT INTO failures VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)")
            .bind(&f.operation)
            .bind(db)
            .bind(&f.table)
            .bind(f.at_ticks)
            .bind(&f.path)
            .bind(&f.details)
            .bind(i64::from(f.permanent))
            .bind(&f.root)
            .bind(&f.error_code)
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// Takes blobs of queued ingestion, all or none.
    pub async fn take_queued(&self, rows: &[QueuedRow]) -> Result<(), AdxError> {
        let mut transaction = self.pool.begin().await?;
        for row in rows {
            put_queued(&mut transaction, row).await?;
        }
        Ok(transaction.commit().await?)
    }

    /// Notes how a blob of queued ingestion stands.
    pub async fn put_queued(&self, row: &QueuedRow) -> Result<(), AdxError> {
        let mut connection = self.pool.acquire().await?;
        put_queued(&mut connection, row).await
    }

    /// Blobs of queued ingestion that wait, oldest first.
    pub async fn queued_due(&self, max: i64) -> Result<Vec<QueuedRow>, AdxError> {
        let sql = "SELECT * FROM queued WHERE status = 'Queued' ORDER BY updated_ticks LIMIT $1";
        let rows = sqlx::query(sql).bind(max).fetch_all(&self.pool).await?;
        Ok(rows.iter().map(queued_row).collect())
    }

    /// The blobs of one operation of queued ingestion.
    pub async fn queued(&self, db: &str, table: &str, operation: &str) -> Result<Vec<QueuedRow>, AdxError> {
        let sql = "SELECT * FROM queued WHERE operation = $1 AND db = $2 AND table_name = $3";
        let rows = sqlx::query(sql).bind(operation).bind(db).bind(table).fetch_all(&self.pool).await?;
        Ok(rows.iter().map(queued_row).collect())
    }
}

fn queued_row(row: &sqlx::sqlite::SqliteRow) -> QueuedRow {
    QueuedRow {
        operation: row.get(0),
        source_id: row.get(1),
        db: row.get(2),
        table: row.get(3),
        url: row.get(4),
        properties_json: row.get(5),
        status: row.get(6),
        error_code: row.get(7),
        failure_status: row.get(8),
        details: row.get(9),
        tries: row.get(10),
        started_ticks: row.get(11),
        updated_ticks: row.get(12),
    }
}

async fn put_queued(connection: &mut sqlx::SqliteConnection, row: &QueuedRow) -> Result<(), AdxError> {
    sqlx::query("INSERT OR REPLACE INTO queued VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)")
        .bind(&row.operation)
        .bind(&row.source_id)
        .bind(&row.db)
        .bind(&row.table)
        .bind(&row.url)
        .bind(&row.properties_json)
        .bind(&row.status)
        .bind(&row.error_code)
        .bind(&row.failure_status)
        .bind(&row.details)
        .bind(row.tries)
        .bind(row.started_ticks)
        .bind(row.updated_ticks)
        .execute(connection)
        .await?;
    Ok(())
}

async fn put_operation(connection: &mut sqlx::SqliteConnection, operation: &Operation) -> Result<(), AdxError> {
    let sql = "INSERT INTO operations VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (id) DO UPDATE SET \
               updated_ticks = excluded.updated_ticks, state = excluded.state, status = excluded.status, \
               should_retry = excluded.should_retry";
    sqlx::query(sql)
        .bind(&operation.id)
        .bind(&operation.kind)
        .bind(operation.started_ticks)
        .bind(operation.updated_ticks)
        .bind(&operation.state)
        .bind(&operation.status)
        .bind(&operation.root)
        .bind(i64::from(operation.should_retry))
        .bind(&operation.db)
        .execute(connection)
        .await?;
    Ok(())
}
