//! The store in an SQL database. All SQL stands here, in words that SQLite and PostgreSQL both know.
//!
//! PostgreSQL is for several coordinators at once. SQLite is embedded: a file, one writer at a time, written through to the
//! disk at each commit. Only one coordinator may have it open; a lock beside the file sees to that.

use super::{
    ChunkRow, CommandCounts, CommandRow, Driver, Leases, NodeRow, RunRow, Store, StoreError, Tail, UnitCounts, UnitRow,
    Write, mounts,
};
use crate::state::{command::CommandState, unit::UnitState};
use async_trait::async_trait;
use ferry_common::{
    clock::Millis,
    id::{AttemptNumber, NodeId, RunId, UnitNumber},
    unit::{Counters, FileVersion},
};
use serde::{Serialize, de::DeserializeOwned};
use sqlx::{
    AnyConnection, AnyPool, AssertSqlSafe, Connection as _, Executor as _, Row as _, SqlSafeStr as _,
    any::{AnyPoolOptions, AnyRow},
    migrate::{Migration, MigrationType, Migrator},
};
use std::{
    fmt, fs,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

const READERS_MAX: u32 = 4;
/// Connections of one coordinator to PostgreSQL.
const CONNECTIONS_MAX: u32 = 8;
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);

const UNIT_COLUMNS: &str = "run_id, number, state_json, revision, path, relative_path, size_bytes, modified_ns, etag, \
     attempts, data_read_bytes, data_written_bytes, staged_bytes, rows_read, rows_skipped, failure_json, node_name, \
     scope_json, file_count, file_bytes, tail_json";
const COMMAND_COLUMNS: &str = "run_id, unit, chunk, state_json, revision, tag, blob, row_count, raw_bytes";

/// Where a store is.
#[derive(Clone, PartialEq, Eq)]
pub enum StorePlace {
    /// A file of SQLite.
    Sqlite(PathBuf),
    /// The address of a PostgreSQL database: `postgres://user@host/database`. It may hold a password.
    Postgres(String),
}

impl FromStr for StorePlace {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("sqlite:").filter(|path| !path.is_empty()) {
            return Ok(Self::Sqlite(PathBuf::from(path)));
        }
        if text.starts_with("postgres://") || text.starts_with("postgresql://") {
            return Ok(Self::Postgres(text.to_owned()));
        }
        Err("is neither sqlite:PATH nor postgres://USER@HOST/DATABASE".to_owned())
    }
}

impl fmt::Display for StorePlace {
    /// Without a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "sqlite:{}", path.display()),
            Self::Postgres(url) => {
                let place = url.split_once("://").map_or("", |(_, rest)| rest);
                let place = place.rsplit_once('@').map_or(place, |(_, place)| place);
                write!(f, "postgres://{}", place.split('?').next().unwrap_or_default())
            }
        }
    }
}

impl fmt::Debug for StorePlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StorePlace({self})")
    }
}

/// A store in an SQL database.
pub struct SqlStore {
    writer: AnyPool,
    readers: AnyPool,
    /// SQLite: held as long as the store is open.
    lock: Option<fs::File>,
}

impl SqlStore {
    /// Opens a store and brings its tables up to date.
    pub async fn open(place: &StorePlace) -> Result<Self, StoreError> {
        match place {
            StorePlace::Sqlite(path) => Self::open_sqlite(path).await,
            StorePlace::Postgres(url) => Self::open_postgres(place, url).await,
        }
    }

    /// Several coordinators may have it open, each with some connections.
    async fn open_postgres(place: &StorePlace, url: &str) -> Result<Self, StoreError> {
        let failed = |why: String| StoreError::Open { place: place.to_string(), why };
        sqlx::any::install_default_drivers();
        // A pool would try again and again, and say only that time is up.
        AnyConnection::connect(url).await.map_err(|e| failed(e.to_string()))?.close().await.ok();
        let options = AnyPoolOptions::new().max_connections(CONNECTIONS_MAX).acquire_timeout(OPEN_TIMEOUT);
        let pool = options.connect(url).await.map_err(|e| failed(e.to_string()))?;
        migrate(&pool).await.map_err(failed)?;
        Ok(Self { writer: pool.clone(), readers: pool, lock: None })
    }

    /// Opens the SQLite file at `path`, creating it if need be, and brings its tables up to date.
    pub async fn open_sqlite(path: &Path) -> Result<Self, StoreError> {
        let failed = |why: String| StoreError::Open { place: path.display().to_string(), why };
        if let Some(folder) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
            fs::create_dir_all(folder).map_err(|e| failed(format!("folder {}: {e}", folder.display())))?;
        }
        mounts::refuse_network(path).map_err(failed)?;
        let lock = lock_beside(path).map_err(failed)?;
        let path = std::path::absolute(path).map_err(|e| failed(e.to_string()))?;
        sqlx::any::install_default_drivers();
        let url = format!("sqlite://{}?mode=rwc", percent_encoded(&path));
        let options = |connections| {
            AnyPoolOptions::new()
                .max_connections(connections)
                .acquire_timeout(OPEN_TIMEOUT)
                .idle_timeout(None)
                .max_lifetime(None)
                .after_connect(|connection, _| {
                    Box::pin(async move {
                        connection
                            .execute(
                                "PRAGMA busy_timeout = 10000; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;",
                            )
                            .await
                            .map(drop)
                    })
                })
        };
        let writer = options(1).connect(&url).await.map_err(|e| failed(e.to_string()))?;
        migrate(&writer).await.map_err(failed)?;
        let readers = options(READERS_MAX).connect(&url).await.map_err(|e| failed(e.to_string()))?;
        Ok(Self { writer, readers, lock: Some(lock) })
    }
}

/// Brings the tables up to date. An error says why not.
async fn migrate(pool: &AnyPool) -> Result<(), String> {
    migrator().run(pool).await.map_err(|e| match e {
        sqlx::migrate::MigrateError::VersionMissing(version) => {
            format!("its tables are of a newer ferry (version {version}); use that one")
        }
        other => other.to_string(),
    })
}

/// Two transactions were in each other's way, and the database has undone one of them.
fn is_collision(error: &sqlx::Error) -> bool {
    // PostgreSQL: serialization_failure, deadlock_detected.
    error.as_database_error().and_then(|e| e.code()).is_some_and(|code| matches!(&*code, "40001" | "40P01"))
}

/// Takes the lock that keeps a second coordinator out. It ends with the process, however that ends.
fn lock_beside(path: &Path) -> Result<fs::File, String> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let file = fs::File::create(&name).map_err(|e| e.to_string())?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => Err("another coordinator has it open".to_owned()),
        Err(fs::TryLockError::Error(e)) => Err(format!("cannot be locked: {e}")),
    }
}

fn percent_encoded(path: &Path) -> String {
    let mut out = String::new();
    for byte in path.as_os_str().as_encoded_bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'-' | b'_' | b'.' | b'~' => out.push(char::from(*byte)),
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
    out
}

fn migrator() -> Migrator {
    let first = include_str!("migrations/0001_first.sql").into_sql_str();
    let scopes = include_str!("migrations/0002_scopes.sql").into_sql_str();
    let drivers = include_str!("migrations/0003_drivers.sql").into_sql_str();
    Migrator::with_migrations(vec![
        Migration::new(1, "first".into(), MigrationType::Simple, first, false),
        Migration::new(2, "scopes".into(), MigrationType::Simple, scopes, false),
        Migration::new(3, "drivers".into(), MigrationType::Simple, drivers, false),
    ])
}

fn json<T: Serialize>(table: &'static str, value: &T) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|e| StoreError::Unreadable { table, why: e.to_string() })
}

fn from_json<T: DeserializeOwned>(table: &'static str, text: &str) -> Result<T, StoreError> {
    serde_json::from_str(text).map_err(|e| StoreError::Unreadable { table, why: e.to_string() })
}

/// A count for the database, which knows signed numbers only.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

fn count(row: &AnyRow, column: &str) -> Result<u64, StoreError> {
    // A sum over nothing is null.
    Ok(unsigned(row.try_get::<Option<i64>, _>(column)?.unwrap_or(0)))
}

fn id_of<T: TryFrom<String>>(table: &'static str, text: String) -> Result<T, StoreError>
where
    T::Error: fmt::Display,
{
    T::try_from(text).map_err(|e| StoreError::Unreadable { table, why: e.to_string() })
}

fn read_run(row: &AnyRow) -> Result<RunRow, StoreError> {
    let mut run: RunRow = from_json("runs", row.try_get("run_json")?)?;
    run.revision = row.try_get("revision")?;
    run.driver = Driver {
        coordinator: row.try_get("driver")?,
        epoch: row.try_get("driver_epoch")?,
        beat: row.try_get("driver_beat")?,
    };
    Ok(run)
}

fn read_unit(row: &AnyRow) -> Result<UnitRow, StoreError> {
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

fn read_counters(row: &AnyRow) -> Result<Counters, StoreError> {
    Ok(Counters {
        data_read_bytes: count(row, "data_read_bytes")?,
        data_written_bytes: count(row, "data_written_bytes")?,
        staged_bytes: count(row, "staged_bytes")?,
        rows_read: count(row, "rows_read")?,
        rows_skipped: count(row, "rows_skipped")?,
    })
}

fn read_command(row: &AnyRow) -> Result<CommandRow, StoreError> {
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

fn read_node(row: &AnyRow) -> Result<NodeRow, StoreError> {
    from_json("nodes", row.try_get("node_json")?)
}

fn read_chunk(row: &AnyRow) -> Result<ChunkRow, StoreError> {
    Ok(ChunkRow {
        run: id_of("chunks", row.try_get("run_id")?)?,
        unit: UnitNumber(count(row, "unit")?),
        attempt: AttemptNumber(count(row, "attempt")? as u32),
        chunk: from_json("chunks", row.try_get("chunk_json")?)?,
    })
}

/// A write of exactly one row: none means that the row is another than was read.
fn one_row(done: &sqlx::any::AnyQueryResult) -> Result<(), StoreError> {
    if done.rows_affected() == 1 { Ok(()) } else { Err(StoreError::Conflict) }
}

fn inserted(result: Result<sqlx::any::AnyQueryResult, sqlx::Error>) -> Result<(), StoreError> {
    match result {
        Err(e) if e.as_database_error().is_some_and(|d| d.is_unique_violation()) => Err(StoreError::Conflict),
        other => one_row(&other?),
    }
}

fn is_live(run: &RunRow) -> i64 {
    i64::from(!run.state.is_final() || run.sweep_at.is_some())
}

async fn insert_run(connection: &mut AnyConnection, run: &RunRow) -> Result<(), StoreError> {
    let sql = "INSERT INTO runs (id, state, is_live, submitted_ms, revision, run_json) VALUES ($1, $2, $3, $4, 1, $5)";
    inserted(
        sqlx::query(sql)
            .bind(run.id.as_str())
            .bind(run.state.name())
            .bind(is_live(run))
            .bind(run.times.submitted.0)
            .bind(json("runs", run)?)
            .execute(connection)
            .await,
    )
}

async fn update_run(connection: &mut AnyConnection, run: &RunRow) -> Result<(), StoreError> {
    let sql = "UPDATE runs SET state = $1, is_live = $2, run_json = $3, revision = revision + 1 \
               WHERE id = $4 AND revision = $5";
    let done = sqlx::query(sql)
        .bind(run.state.name())
        .bind(is_live(run))
        .bind(json("runs", run)?)
        .bind(run.id.as_str())
        .bind(run.revision)
        .execute(connection)
        .await?;
    one_row(&done)
}

fn not_before(state: &UnitState) -> i64 {
    match state {
        UnitState::Pending { not_before, .. } => not_before.0,
        _ => 0,
    }
}

async fn insert_unit(connection: &mut AnyConnection, unit: &UnitRow) -> Result<(), StoreError> {
    let sql = "INSERT INTO units (run_id, number, state, state_json, revision, not_before_ms, lease_node, \
         lease_expires_ms, path, relative_path, size_bytes, modified_ns, etag, attempts, data_read_bytes, \
         data_written_bytes, staged_bytes, rows_read, rows_skipped, failure_json, node_name, scope_json, file_count, \
         file_bytes, tail_json) \
         VALUES ($1, $2, $3, $4, 1, $5, '', 0, $6, $7, $8, $9, $10, 0, 0, 0, 0, 0, 0, $11, $12, $13, $14, $15, $16)";
    inserted(
        sqlx::query(sql)
            .bind(unit.run.as_str())
            .bind(signed(unit.number.0))
            .bind(unit.state.name())
            .bind(json("units", &unit.state)?)
            .bind(not_before(&unit.state))
            .bind(&unit.file.path)
            .bind(&unit.file.relative_path)
            .bind(signed(unit.size_bytes))
            .bind(unit.file.modified_ns)
            .bind(&unit.file.etag)
            .bind(json("units", &unit.last_failure)?)
            .bind(&unit.node_name)
            .bind(json("units", &unit.scope)?)
            .bind(i64::from(unit.file_count))
            .bind(signed(unit.file.size_bytes))
            .bind(json("units", &unit.tail)?)
            .execute(connection)
            .await,
    )
}

async fn update_unit(connection: &mut AnyConnection, unit: &UnitRow) -> Result<(), StoreError> {
    let sql = "UPDATE units SET state = $1, state_json = $2, not_before_ms = $3, lease_node = $4, \
         lease_expires_ms = $5, attempts = $6, data_read_bytes = $7, data_written_bytes = $8, staged_bytes = $9, \
         rows_read = $10, rows_skipped = $11, tail_json = $12, failure_json = $13, node_name = $14, \
         revision = revision + 1 WHERE run_id = $15 AND number = $16 AND revision = $17";
    let lease = unit.state.lease();
    let done = sqlx::query(sql)
        .bind(unit.state.name())
        .bind(json("units", &unit.state)?)
        .bind(not_before(&unit.state))
        .bind(lease.map_or("", |l| l.node.as_str()))
        .bind(lease.map_or(0, |l| l.expires.0))
        .bind(i64::from(unit.attempts))
        .bind(signed(unit.counters.data_read_bytes))
        .bind(signed(unit.counters.data_written_bytes))
        .bind(signed(unit.counters.staged_bytes))
        .bind(signed(unit.counters.rows_read))
        .bind(signed(unit.counters.rows_skipped))
        .bind(json("units", &unit.tail)?)
        .bind(json("units", &unit.last_failure)?)
        .bind(&unit.node_name)
        .bind(unit.run.as_str())
        .bind(signed(unit.number.0))
        .bind(unit.revision)
        .execute(connection)
        .await?;
    one_row(&done)
}

async fn insert_chunk(connection: &mut AnyConnection, row: &ChunkRow) -> Result<(), StoreError> {
    let sql = "INSERT INTO chunks (run_id, unit, number, attempt, chunk_json) VALUES ($1, $2, $3, $4, $5)";
    inserted(
        sqlx::query(sql)
            .bind(row.run.as_str())
            .bind(signed(row.unit.0))
            .bind(i64::from(row.chunk.number.0))
            .bind(i64::from(row.attempt.0))
            .bind(json("chunks", &row.chunk)?)
            .execute(connection)
            .await,
    )
}

/// When a command may be sent, and whether a sending is in doubt.
fn sending(state: &CommandState) -> (i64, i64) {
    match state {
        CommandState::Planned { not_before, sent, .. } => (not_before.0, i64::from(sent.is_some())),
        _ => (0, 0),
    }
}

async fn insert_command(connection: &mut AnyConnection, command: &CommandRow) -> Result<(), StoreError> {
    let sql = "INSERT INTO commands (run_id, unit, chunk, state, state_json, revision, not_before_ms, is_doubtful, \
         tag, blob, row_count, raw_bytes) VALUES ($1, $2, $3, $4, $5, 1, $6, $7, $8, $9, $10, $11)";
    let (not_before, is_doubtful) = sending(&command.state);
    inserted(
        sqlx::query(sql)
            .bind(command.run.as_str())
            .bind(signed(command.unit.0))
            .bind(i64::from(command.chunk))
            .bind(command.state.name())
            .bind(json("commands", &command.state)?)
            .bind(not_before)
            .bind(is_doubtful)
            .bind(&command.tag)
            .bind(&command.blob)
            .bind(signed(command.rows))
            .bind(signed(command.raw_bytes))
            .execute(connection)
            .await,
    )
}

async fn update_command(connection: &mut AnyConnection, command: &CommandRow) -> Result<(), StoreError> {
    let sql = "UPDATE commands SET state = $1, state_json = $2, not_before_ms = $3, is_doubtful = $4, \
         revision = revision + 1 WHERE run_id = $5 AND unit = $6 AND chunk = $7 AND revision = $8";
    let (not_before, is_doubtful) = sending(&command.state);
    let done = sqlx::query(sql)
        .bind(command.state.name())
        .bind(json("commands", &command.state)?)
        .bind(not_before)
        .bind(is_doubtful)
        .bind(command.run.as_str())
        .bind(signed(command.unit.0))
        .bind(i64::from(command.chunk))
        .bind(command.revision)
        .execute(connection)
        .await?;
    one_row(&done)
}

async fn put_node(connection: &mut AnyConnection, node: &NodeRow) -> Result<(), StoreError> {
    let sql = "INSERT INTO nodes (id, last_seen_ms, node_json) VALUES ($1, $2, $3) \
         ON CONFLICT (id) DO UPDATE SET last_seen_ms = excluded.last_seen_ms, node_json = excluded.node_json";
    sqlx::query(sql)
        .bind(node.id.as_str())
        .bind(node.last_seen.0)
        .bind(json("nodes", node)?)
        .execute(connection)
        .await?;
    Ok(())
}

async fn delete(
    connection: &mut AnyConnection,
    table: &str,
    run: &RunId,
    unit: UnitNumber,
    of: &str,
    number: u32,
) -> Result<(), StoreError> {
    let sql = format!("DELETE FROM {table} WHERE run_id = $1 AND unit = $2 AND {of} = $3");
    sqlx::query(AssertSqlSafe(sql))
        .bind(run.as_str())
        .bind(signed(unit.0))
        .bind(i64::from(number))
        .execute(connection)
        .await?;
    Ok(())
}

async fn commit_all(connection: &mut AnyConnection, writes: &[Write]) -> Result<(), StoreError> {
    let mut transaction = connection.begin().await?;
    for write in writes {
        // Dropped on error: the database rolls back.
        apply(&mut transaction, write).await.map_err(|e| match e {
            StoreError::Database(e) if is_collision(&e) => StoreError::Conflict,
            other => other,
        })?;
    }
    Ok(transaction.commit().await?)
}

async fn apply(connection: &mut AnyConnection, write: &Write) -> Result<(), StoreError> {
    match write {
        Write::InsertRun(run) => insert_run(connection, run).await,
        Write::UpdateRun(run) => update_run(connection, run).await,
        Write::ClaimRun { run, coordinator, epoch, beat } => {
            let sql = "UPDATE runs SET driver = $1, driver_epoch = driver_epoch + 1, driver_beat = 0 \
                       WHERE id = $2 AND driver_epoch = $3 AND ($4 < 0 OR driver_beat = $4)";
            let query = sqlx::query(sql).bind(coordinator).bind(run.as_str()).bind(*epoch).bind(beat.unwrap_or(-1));
            one_row(&query.execute(connection).await?)
        }
        Write::BeatRun { run, epoch } => {
            let sql = "UPDATE runs SET driver_beat = driver_beat + 1 WHERE id = $1 AND driver_epoch = $2";
            one_row(&sqlx::query(sql).bind(run.as_str()).bind(*epoch).execute(connection).await?)
        }
        // An update, so that it waits for whoever is changing the row, and is waited for.
        Write::HoldRun { run, epoch } => {
            let sql = "UPDATE runs SET driver_epoch = driver_epoch WHERE id = $1 AND driver_epoch = $2";
            one_row(&sqlx::query(sql).bind(run.as_str()).bind(*epoch).execute(connection).await?)
        }
        Write::InsertUnits(units) => {
            for unit in units {
                insert_unit(connection, unit).await?;
            }
            Ok(())
        }
        Write::UpdateUnit(unit) => update_unit(connection, unit).await,
        Write::DeleteFiles(run) => {
            let sql = "DELETE FROM units WHERE run_id = $1 AND number > 0";
            sqlx::query(sql).bind(run.as_str()).execute(connection).await?;
            Ok(())
        }
        Write::DeleteRun(run) => {
            let sql = "DELETE FROM runs WHERE id = $1 AND is_live = 0";
            one_row(&sqlx::query(sql).bind(run.as_str()).execute(&mut *connection).await?)?;
            for sql in [
                "DELETE FROM units WHERE run_id = $1",
                "DELETE FROM chunks WHERE run_id = $1",
                "DELETE FROM commands WHERE run_id = $1",
            ] {
                sqlx::query(sql).bind(run.as_str()).execute(&mut *connection).await?;
            }
            Ok(())
        }
        Write::DropUnits(run) => {
            let sql = "UPDATE units SET state = $1, state_json = $2, revision = revision + 1 WHERE run_id = $3 AND state IN ('Pending', 'Staged')";
            sqlx::query(sql)
                .bind(UnitState::Dropped.name())
                .bind(json("units", &UnitState::Dropped)?)
                .bind(run.as_str())
                .execute(connection)
                .await?;
            Ok(())
        }
        Write::InsertChunk(row) => insert_chunk(connection, row).await,
        Write::DeleteChunk(run, unit, number) => delete(connection, "chunks", run, *unit, "number", *number).await,
        Write::InsertCommands(commands) => {
            for command in commands {
                insert_command(connection, command).await?;
            }
            Ok(())
        }
        Write::UpdateCommand(command) => update_command(connection, command).await,
        Write::DeleteCommand(run, unit, chunk) => delete(connection, "commands", run, *unit, "chunk", *chunk).await,
        Write::PutNode(node) => put_node(connection, node).await,
    }
}

#[async_trait]
impl Store for SqlStore {
    fn is_exclusive(&self) -> bool {
        self.lock.is_some()
    }

    async fn commit(&self, writes: Vec<Write>) -> Result<(), StoreError> {
        let mut connection = self.writer.acquire().await?;
        let result = commit_all(&mut connection, &writes).await;
        if matches!(result, Err(StoreError::Database(_))) {
            // SQLite may have undone the whole transaction by itself, and the driver not know it: what it would send as
            // a transaction next would be a part of one that never ends. A new connection has no such past.
            connection.close_on_drop();
        }
        result
    }

    async fn run(&self, id: &RunId) -> Result<Option<RunRow>, StoreError> {
        let sql = "SELECT run_json, revision, driver, driver_epoch, driver_beat FROM runs WHERE id = $1";
        sqlx::query(sql).bind(id.as_str()).fetch_optional(&self.readers).await?.as_ref().map(read_run).transpose()
    }

    async fn live_runs(&self) -> Result<Vec<RunRow>, StoreError> {
        let sql = "SELECT run_json, revision, driver, driver_epoch, driver_beat FROM runs WHERE is_live = 1 ORDER BY submitted_ms, id";
        sqlx::query(sql).fetch_all(&self.readers).await?.iter().map(read_run).collect()
    }

    async fn past_runs(&self, submitted_before: Millis, limit: u32) -> Result<Vec<RunId>, StoreError> {
        let sql = "SELECT id FROM runs WHERE is_live = 0 AND submitted_ms < $1 ORDER BY submitted_ms LIMIT $2";
        let rows = sqlx::query(sql).bind(submitted_before.0).bind(i64::from(limit)).fetch_all(&self.readers).await?;
        rows.iter().map(|row| id_of("runs", row.try_get("id")?)).collect()
    }

    async fn recent_runs(&self, limit: u32) -> Result<Vec<RunRow>, StoreError> {
        let sql = "SELECT run_json, revision, driver, driver_epoch, driver_beat FROM runs ORDER BY submitted_ms DESC, id DESC LIMIT $1";
        sqlx::query(sql).bind(i64::from(limit)).fetch_all(&self.readers).await?.iter().map(read_run).collect()
    }

    async fn unit(&self, run: &RunId, number: UnitNumber) -> Result<Option<UnitRow>, StoreError> {
        let sql = format!("SELECT {UNIT_COLUMNS} FROM units WHERE run_id = $1 AND number = $2");
        let row = sqlx::query(AssertSqlSafe(sql))
            .bind(run.as_str())
            .bind(signed(number.0))
            .fetch_optional(&self.readers)
            .await?;
        row.as_ref().map(read_unit).transpose()
    }

    async fn pending_units(&self, run: &RunId, now: Millis, limit: u32) -> Result<Vec<UnitRow>, StoreError> {
        let sql = format!(
            "SELECT {UNIT_COLUMNS} FROM units WHERE run_id = $1 AND state = 'Pending' AND not_before_ms <= $2 \
             ORDER BY size_bytes DESC, number LIMIT $3"
        );
        let query = sqlx::query(AssertSqlSafe(sql)).bind(run.as_str()).bind(now.0).bind(i64::from(limit));
        query.fetch_all(&self.readers).await?.iter().map(read_unit).collect()
    }

    async fn leased_units(&self, which: &Leases, limit: u32) -> Result<Vec<UnitRow>, StoreError> {
        let select = format!("SELECT {UNIT_COLUMNS} FROM units WHERE state = 'Leased' AND");
        let rows = match which {
            Leases::OfNode(node) => {
                let sql = format!("{select} lease_node = $1 LIMIT $2");
                sqlx::query(AssertSqlSafe(sql))
                    .bind(node.as_str())
                    .bind(i64::from(limit))
                    .fetch_all(&self.readers)
                    .await?
            }
            Leases::ExpiredAt(now) => {
                let sql = format!("{select} lease_expires_ms <= $1 LIMIT $2");
                sqlx::query(AssertSqlSafe(sql)).bind(now.0).bind(i64::from(limit)).fetch_all(&self.readers).await?
            }
        };
        rows.iter().map(read_unit).collect()
    }

    async fn files(
        &self,
        run: &RunId,
        state: Option<&str>,
        after: UnitNumber,
        limit: u32,
    ) -> Result<Vec<UnitRow>, StoreError> {
        let sql = format!(
            "SELECT {UNIT_COLUMNS} FROM units WHERE run_id = $1 AND number > $2 AND (state = $3 OR $3 = '') \
             ORDER BY number LIMIT $4"
        );
        let query = sqlx::query(AssertSqlSafe(sql))
            .bind(run.as_str())
            .bind(signed(after.0))
            .bind(state.unwrap_or_default())
            .bind(i64::from(limit));
        query.fetch_all(&self.readers).await?.iter().map(read_unit).collect()
    }

    async fn unit_counts(&self, run: &RunId) -> Result<UnitCounts, StoreError> {
        let sql = "SELECT state, COUNT(*) AS units, CAST(SUM(file_count) AS BIGINT) AS files, CAST(SUM(size_bytes) AS BIGINT) AS size_bytes, \
             CAST(SUM(data_read_bytes) AS BIGINT) AS data_read_bytes, \
             CAST(SUM(data_written_bytes) AS BIGINT) AS data_written_bytes, \
             CAST(SUM(staged_bytes) AS BIGINT) AS staged_bytes, CAST(SUM(rows_read) AS BIGINT) AS rows_read, \
             CAST(SUM(rows_skipped) AS BIGINT) AS rows_skipped \
             FROM units WHERE run_id = $1 AND number > 0 GROUP BY state";
        let mut counts = UnitCounts::default();
        for row in sqlx::query(sql).bind(run.as_str()).fetch_all(&self.readers).await? {
            let (units, bytes) = (count(&row, "units")?, count(&row, "size_bytes")?);
            let files = count(&row, "files")?;
            counts.bytes_total += bytes;
            counts.files_total += files;
            counts.counters += read_counters(&row)?;
            match row.try_get::<String, _>("state")?.as_str() {
                "Pending" => counts.pending = units,
                "Leased" => counts.leased = units,
                "Staged" => {
                    counts.staged = units;
                    counts.files_done += files;
                    counts.bytes_done += bytes;
                }
                "Ingested" => {
                    counts.ingested = units;
                    counts.files_done += files;
                    counts.bytes_done += bytes;
                }
                "Failed" => counts.failed = units,
                "Skipped" => {
                    counts.skipped = units;
                    counts.files_skipped = files;
                }
                "Dropped" => counts.dropped = units,
                other => return Err(StoreError::Unreadable { table: "units", why: format!("state {other:?}") }),
            }
        }
        Ok(counts)
    }

    async fn chunks(&self, run: &RunId, unit: UnitNumber) -> Result<Vec<ChunkRow>, StoreError> {
        let sql =
            "SELECT run_id, unit, attempt, chunk_json FROM chunks WHERE run_id = $1 AND unit = $2 ORDER BY number";
        let query = sqlx::query(sql).bind(run.as_str()).bind(signed(unit.0));
        query.fetch_all(&self.readers).await?.iter().map(read_chunk).collect()
    }

    async fn commands(&self, run: &RunId, state: &str, limit: u32) -> Result<Vec<CommandRow>, StoreError> {
        let sql = format!(
            "SELECT {COMMAND_COLUMNS} FROM commands WHERE run_id = $1 AND state = $2 ORDER BY unit, chunk LIMIT $3"
        );
        let query = sqlx::query(AssertSqlSafe(sql)).bind(run.as_str()).bind(state.to_owned()).bind(i64::from(limit));
        query.fetch_all(&self.readers).await?.iter().map(read_command).collect()
    }

    async fn due_commands(&self, run: &RunId, now: Millis, limit: u32) -> Result<Vec<CommandRow>, StoreError> {
        let sql = format!(
            "SELECT {COMMAND_COLUMNS} FROM commands WHERE run_id = $1 AND state = 'Planned' AND is_doubtful = 0 \
             AND not_before_ms <= $2 ORDER BY not_before_ms, unit, chunk LIMIT $3"
        );
        let query = sqlx::query(AssertSqlSafe(sql)).bind(run.as_str()).bind(now.0).bind(i64::from(limit));
        query.fetch_all(&self.readers).await?.iter().map(read_command).collect()
    }

    async fn doubtful_commands(&self, run: &RunId, limit: u32) -> Result<Vec<CommandRow>, StoreError> {
        let sql = format!(
            "SELECT {COMMAND_COLUMNS} FROM commands WHERE run_id = $1 AND state = 'Planned' AND is_doubtful = 1 \
             ORDER BY unit, chunk LIMIT $2"
        );
        let query = sqlx::query(AssertSqlSafe(sql)).bind(run.as_str()).bind(i64::from(limit));
        query.fetch_all(&self.readers).await?.iter().map(read_command).collect()
    }

    async fn unit_commands(&self, run: &RunId, unit: UnitNumber) -> Result<Vec<CommandRow>, StoreError> {
        let sql = format!("SELECT {COMMAND_COLUMNS} FROM commands WHERE run_id = $1 AND unit = $2 ORDER BY chunk");
        let query = sqlx::query(AssertSqlSafe(sql)).bind(run.as_str()).bind(signed(unit.0));
        query.fetch_all(&self.readers).await?.iter().map(read_command).collect()
    }

    async fn command_counts(&self, run: &RunId) -> Result<CommandCounts, StoreError> {
        let sql = "SELECT state, COUNT(*) AS commands, CAST(SUM(row_count) AS BIGINT) AS row_count, \
             CAST(SUM(raw_bytes) AS BIGINT) AS raw_bytes FROM commands WHERE run_id = $1 GROUP BY state";
        let mut counts = CommandCounts::default();
        for row in sqlx::query(sql).bind(run.as_str()).fetch_all(&self.readers).await? {
            let (commands, rows) = (count(&row, "commands")?, count(&row, "row_count")?);
            counts.rows_total += rows;
            match row.try_get::<String, _>("state")?.as_str() {
                "Planned" => counts.planned = commands,
                "Issued" => counts.issued = commands,
                "Confirmed" => {
                    counts.confirmed = commands;
                    counts.rows_confirmed = rows;
                    counts.bytes_confirmed = count(&row, "raw_bytes")?;
                }
                "Rejected" => counts.rejected = commands,
                other => return Err(StoreError::Unreadable { table: "commands", why: format!("state {other:?}") }),
            }
        }
        Ok(counts)
    }

    async fn node(&self, id: &NodeId) -> Result<Option<NodeRow>, StoreError> {
        let sql = "SELECT node_json FROM nodes WHERE id = $1";
        sqlx::query(sql).bind(id.as_str()).fetch_optional(&self.readers).await?.as_ref().map(read_node).transpose()
    }

    async fn nodes(&self, since: Millis) -> Result<Vec<NodeRow>, StoreError> {
        let sql = "SELECT node_json FROM nodes WHERE last_seen_ms >= $1 ORDER BY last_seen_ms DESC, id";
        sqlx::query(sql).bind(since.0).fetch_all(&self.readers).await?.iter().map(read_node).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::run::RunState;

    #[tokio::test]
    async fn sqlite_conforms_and_keeps_everything_over_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a b%.db");
        let store = SqlStore::open_sqlite(&path).await.unwrap();
        let left = super::super::conformance::run(&store).await;
        drop(store);
        let again = SqlStore::open_sqlite(&path).await.unwrap();
        assert_eq!(again.run(&left.id).await.unwrap().unwrap(), left);
    }

    #[tokio::test]
    async fn a_second_coordinator_is_kept_out() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ferry.db");
        let first = SqlStore::open_sqlite(&path).await.unwrap();
        let error = SqlStore::open_sqlite(&path).await.err().unwrap().to_string();
        assert!(error.contains("another coordinator"), "{error}");
        drop(first);
        SqlStore::open_sqlite(&path).await.unwrap();
    }

    /// SQLite undoes a whole transaction when there is no room, and the driver takes it for open still.
    #[tokio::test]
    async fn what_is_committed_after_a_full_disk_is_committed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ferry.db");
        let store = SqlStore::open_sqlite(&path).await.unwrap();
        let insert = |id: &str| vec![Write::InsertRun(Box::new(super::super::conformance::new_run(id, 1)))];
        store.commit(insert("before")).await.unwrap();
        // No page more than there is.
        sqlx::query("PRAGMA max_page_count = 1").execute(&store.writer).await.unwrap();
        let mut is_full = false;
        for number in 0..200 {
            is_full |= matches!(store.commit(insert(&format!("full-{number}"))).await, Err(StoreError::Database(_)));
        }
        assert!(is_full, "the disk must have been full");
        sqlx::query("PRAGMA max_page_count = 100000").execute(&store.writer).await.unwrap();
        assert!(matches!(store.commit(insert("before")).await, Err(StoreError::Conflict)));
        store.commit(insert("after")).await.unwrap();
        assert!(store.run(&"after".parse().unwrap()).await.unwrap().is_some(), "other connections must see it");
        drop(store);
        let again = SqlStore::open_sqlite(&path).await.unwrap();
        assert!(again.run(&"after".parse().unwrap()).await.unwrap().is_some());
    }

    #[test]
    fn rows_of_the_first_version_are_still_read() {
        for (golden, state) in [
            (r#"{"Pending":{"failures":1,"not_before":5}}"#, "Pending"),
            (r#"{"Leased":{"failures":0,"lease":{"node":"n1","attempt":2,"token":"t","expires":9}}}"#, "Leased"),
            (r#"{"Staged":{"failures":0,"chunks":3}}"#, "Staged"),
            (r#""Ingested""#, "Ingested"),
            (
                r#"{"Failed":{"failure":{"code":"SourceChanged","fault":"Source","retry":"Never","message":"m"}}}"#,
                "Failed",
            ),
            (r#""Dropped""#, "Dropped"),
        ] {
            let read: UnitState = serde_json::from_str(golden).unwrap();
            assert_eq!((read.name(), serde_json::to_string(&read).unwrap().as_str()), (state, golden));
        }
        for (golden, state) in [
            (r#"{"Planned":{"failures":0,"not_before":0,"sent":{"request_id":"r","at":1}}}"#, "Planned"),
            (r#"{"Issued":{"failures":0,"sent":{"request_id":"r","at":1},"operation":"o"}}"#, "Issued"),
            (r#"{"Confirmed":{"rows":5,"at":1}}"#, "Confirmed"),
        ] {
            let read: CommandState = serde_json::from_str(golden).unwrap();
            assert_eq!((read.name(), serde_json::to_string(&read).unwrap().as_str()), (state, golden));
        }
        let read: RunState = serde_json::from_str(r#""Ingesting""#).unwrap();
        assert_eq!(read, RunState::Ingesting);
    }
}
