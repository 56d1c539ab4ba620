//! The store in an SQL database. All SQL stands here, in words that SQLite and PostgreSQL both know.
//!
//! PostgreSQL is for several coordinators at once. SQLite is embedded: a file, one writer at a time, written through to the
//! disk at each commit. Only one coordinator may have it open; a lock beside the file sees to that.

mod batches;
mod credentials;
mod listed;
mod loaded;
mod looks;
mod paces;
mod pages;
mod rows;
mod schedules;
mod writes;

use super::{
    ChunkRow, CommandCounts, CommandPage, CommandQuery, CommandRow, FilePage, FileQuery, HeldSlots, LeasedUnit,
    LoadedFile, NodeRow, OpenCommands, PaceKey, PaceRow, RunQuery, RunRow, Store, StoreError, UnitCounts, UnitRow,
    Write, mounts,
};
use async_trait::async_trait;
use batches::Batches;
use ferry_common::{
    clock::Millis,
    id::{AttemptNumber, NodeId, RunId, UnitNumber},
};
use rows::{count, id_of, read_chunk, read_command, read_counters, read_node, read_run, read_unit, signed};
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
    /// SQLite: where commits gather. PostgreSQL gathers them by itself.
    batches: Option<Batches>,
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
        Ok(Self { writer: pool.clone(), readers: pool, batches: None, lock: None })
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
                // A file does not go away as a server does: asking each time is half the cost of small looks.
                .test_before_acquire(false)
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
        Ok(Self { batches: Some(Batches::start(writer.clone())), writer, readers, lock: Some(lock) })
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
    let looks = include_str!("migrations/0004_looks.sql").into_sql_str();
    let credentials = include_str!("migrations/0005_credentials.sql").into_sql_str();
    let pages = include_str!("migrations/0006_pages.sql").into_sql_str();
    let schedules = include_str!("migrations/0007_schedules.sql").into_sql_str();
    let loaded = include_str!("migrations/0008_loaded.sql").into_sql_str();
    // No store has ever had a migration 9. Numbers are stored, so those that followed keep theirs.
    let paces = include_str!("migrations/0010_paces.sql").into_sql_str();
    let schedule_runs = include_str!("migrations/0011_schedule_runs.sql").into_sql_str();
    let listed = include_str!("migrations/0012_listed.sql").into_sql_str();
    Migrator::with_migrations(vec![
        Migration::new(1, "first".into(), MigrationType::Simple, first, false),
        Migration::new(2, "scopes".into(), MigrationType::Simple, scopes, false),
        Migration::new(3, "drivers".into(), MigrationType::Simple, drivers, false),
        Migration::new(4, "looks".into(), MigrationType::Simple, looks, false),
        Migration::new(5, "credentials".into(), MigrationType::Simple, credentials, false),
        Migration::new(6, "pages".into(), MigrationType::Simple, pages, false),
        Migration::new(7, "schedules".into(), MigrationType::Simple, schedules, false),
        Migration::new(8, "loaded".into(), MigrationType::Simple, loaded, false),
        Migration::new(10, "paces".into(), MigrationType::Simple, paces, false),
        Migration::new(11, "schedule runs".into(), MigrationType::Simple, schedule_runs, false),
        Migration::new(12, "listed".into(), MigrationType::Simple, listed, false),
    ])
}

#[async_trait]
impl Store for SqlStore {
    fn is_exclusive(&self) -> bool {
        self.lock.is_some()
    }

    async fn commit(&self, writes: Vec<Write>) -> Result<(), StoreError> {
        match &self.batches {
            Some(batches) => batches.commit(writes).await,
            None => batches::alone(&self.writer, &writes).await,
        }
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

    async fn run_page(&self, query: &RunQuery) -> Result<Vec<RunRow>, StoreError> {
        self.page_of_runs(query).await
    }

    async fn file_page(&self, run: &RunId, query: &FileQuery) -> Result<FilePage, StoreError> {
        self.page_of_files(run, query).await
    }

    async fn command_page(&self, run: &RunId, query: &CommandQuery) -> Result<CommandPage, StoreError> {
        self.page_of_commands(run, query).await
    }

    async fn unit(&self, run: &RunId, number: UnitNumber) -> Result<Option<UnitRow>, StoreError> {
        let sql = looks::unit();
        let row = sqlx::query(AssertSqlSafe(sql))
            .bind(run.as_str())
            .bind(signed(number.0))
            .fetch_optional(&self.readers)
            .await?;
        row.as_ref().map(read_unit).transpose()
    }

    async fn pending_units(&self, run: &RunId, now: Millis, limit: u32) -> Result<Vec<UnitRow>, StoreError> {
        let query =
            sqlx::query(AssertSqlSafe(looks::pending_units())).bind(run.as_str()).bind(now.0).bind(i64::from(limit));
        query.fetch_all(&self.readers).await?.iter().map(read_unit).collect()
    }

    async fn leased_units(&self, node: &NodeId, limit: u32) -> Result<Vec<UnitRow>, StoreError> {
        let query = sqlx::query(AssertSqlSafe(looks::leases_of_node())).bind(node.as_str()).bind(i64::from(limit));
        query.fetch_all(&self.readers).await?.iter().map(read_unit).collect()
    }

    async fn leases(&self) -> Result<Vec<LeasedUnit>, StoreError> {
        let read = |row: &AnyRow| {
            Ok(LeasedUnit {
                run: id_of("units", row.try_get("run_id")?)?,
                number: UnitNumber(count(row, "number")?),
                revision: row.try_get("revision")?,
            })
        };
        sqlx::query(looks::LEASES).fetch_all(&self.readers).await?.iter().map(read).collect()
    }

    async fn files(
        &self,
        run: &RunId,
        state: Option<&str>,
        after: UnitNumber,
        limit: u32,
    ) -> Result<Vec<UnitRow>, StoreError> {
        let query = sqlx::query(AssertSqlSafe(looks::files(state)?))
            .bind(run.as_str())
            .bind(signed(after.0))
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

    async fn retried_units(&self, run: &RunId, limit: u32) -> Result<Vec<UnitRow>, StoreError> {
        let query = sqlx::query(AssertSqlSafe(looks::retried_units())).bind(run.as_str()).bind(i64::from(limit));
        query.fetch_all(&self.readers).await?.iter().map(read_unit).collect()
    }

    async fn has_open_units(&self, run: &RunId) -> Result<bool, StoreError> {
        Ok(sqlx::query(looks::OPEN_UNITS).bind(run.as_str()).fetch_optional(&self.readers).await?.is_some())
    }

    async fn held_slots(&self) -> Result<Vec<HeldSlots>, StoreError> {
        let read = |row: &AnyRow| {
            Ok(HeldSlots {
                run: id_of("units", row.try_get("run_id")?)?,
                node: id_of("units", row.try_get("lease_node")?)?,
                slots: count(row, "slots")? as u32,
            })
        };
        sqlx::query(looks::HELD_SLOTS).fetch_all(&self.readers).await?.iter().map(read).collect()
    }

    async fn open_commands(&self, run: &RunId) -> Result<OpenCommands, StoreError> {
        let any = async |sql: &'static str| -> Result<bool, StoreError> {
            Ok(sqlx::query(sql).bind(run.as_str()).fetch_optional(&self.readers).await?.is_some())
        };
        let issued = sqlx::query(looks::ISSUED).bind(run.as_str()).fetch_one(&self.readers).await?;
        Ok(OpenCommands {
            issued: count(&issued, "issued")?,
            any_planned: any(looks::ANY_PLANNED).await?,
            any_doubtful: any(looks::ANY_DOUBTFUL).await?,
        })
    }

    async fn chunks(&self, run: &RunId, unit: UnitNumber) -> Result<Vec<ChunkRow>, StoreError> {
        let sql =
            "SELECT run_id, unit, attempt, chunk_json FROM chunks WHERE run_id = $1 AND unit = $2 ORDER BY number";
        let query = sqlx::query(sql).bind(run.as_str()).bind(signed(unit.0));
        query.fetch_all(&self.readers).await?.iter().map(read_chunk).collect()
    }

    async fn commands(&self, run: &RunId, state: &str, limit: u32) -> Result<Vec<CommandRow>, StoreError> {
        let query = sqlx::query(AssertSqlSafe(looks::commands(state)?)).bind(run.as_str()).bind(i64::from(limit));
        query.fetch_all(&self.readers).await?.iter().map(read_command).collect()
    }

    async fn due_commands(&self, run: &RunId, now: Millis, limit: u32) -> Result<Vec<CommandRow>, StoreError> {
        let query =
            sqlx::query(AssertSqlSafe(looks::due_commands())).bind(run.as_str()).bind(now.0).bind(i64::from(limit));
        query.fetch_all(&self.readers).await?.iter().map(read_command).collect()
    }

    async fn doubtful_commands(&self, run: &RunId, limit: u32) -> Result<Vec<CommandRow>, StoreError> {
        let query = sqlx::query(AssertSqlSafe(looks::doubtful_commands())).bind(run.as_str()).bind(i64::from(limit));
        query.fetch_all(&self.readers).await?.iter().map(read_command).collect()
    }

    async fn unit_commands(&self, run: &RunId, unit: UnitNumber) -> Result<Vec<CommandRow>, StoreError> {
        let sql = looks::unit_commands();
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

    async fn listed_files(
        &self,
        run: &RunId,
        attempt: AttemptNumber,
        keys: &[String],
    ) -> Result<Vec<String>, StoreError> {
        self.listed_of(run, attempt, keys).await
    }

    async fn has_listed_files(&self, run: &RunId) -> Result<bool, StoreError> {
        self.any_listed(run).await
    }

    async fn loaded_files(&self, sink: &str, keys: &[String]) -> Result<Vec<LoadedFile>, StoreError> {
        self.loaded_of(sink, keys).await
    }

    async fn loaded_page(&self, sink: &str, after: &str, limit: u32) -> Result<Vec<LoadedFile>, StoreError> {
        self.page_of_loaded(sink, after, limit).await
    }

    async fn half_ingested(&self, run: &RunId, limit: u32) -> Result<Vec<String>, StoreError> {
        self.paths_half_ingested(run, limit).await
    }

    async fn node(&self, id: &NodeId) -> Result<Option<NodeRow>, StoreError> {
        let sql = "SELECT node_json FROM nodes WHERE id = $1";
        sqlx::query(sql).bind(id.as_str()).fetch_optional(&self.readers).await?.as_ref().map(read_node).transpose()
    }

    async fn nodes(&self, since: Millis) -> Result<Vec<NodeRow>, StoreError> {
        let sql = "SELECT node_json FROM nodes WHERE last_seen_ms >= $1 ORDER BY last_seen_ms DESC, id";
        sqlx::query(sql).bind(since.0).fetch_all(&self.readers).await?.iter().map(read_node).collect()
    }

    async fn pace(&self, key: &PaceKey) -> Result<Option<PaceRow>, StoreError> {
        paces::pace(&self.readers, key).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::{command::CommandState, run::RunState, unit::UnitState};

    #[tokio::test]
    async fn sqlite_conforms_and_keeps_everything_over_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a b%.db");
        let store = SqlStore::open_sqlite(&path).await.unwrap();
        let left = super::super::conformance::run(&store).await;
        super::super::conformance::credentials(&store).await;
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

    /// They share a write to the disk, and each is still by itself.
    #[tokio::test]
    async fn of_many_commits_at_once_only_those_that_conflict_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let store = SqlStore::open_sqlite(&folder.path().join("ferry.db")).await.unwrap();
        let insert = |id: String| Write::InsertRun(Box::new(super::super::conformance::new_run(&id, 1)));
        // Each name twice; what goes before it in the same commit must go with it.
        let commits = (0..200).map(|n| {
            let (own, shared) = (insert(format!("own-{n}")), insert(format!("shared-{}", n % 100)));
            async { store.commit(vec![own, shared]).await }
        });
        let outcomes = futures::future::join_all(commits).await;
        assert_eq!(outcomes.iter().filter(|o| o.is_ok()).count(), 100);
        assert_eq!(outcomes.iter().filter(|o| matches!(o, Err(StoreError::Conflict))).count(), 100);
        for (n, outcome) in outcomes.iter().enumerate() {
            let own = store.run(&format!("own-{n}").parse().unwrap()).await.unwrap();
            assert_eq!(own.is_some(), outcome.is_ok(), "run own-{n}");
        }
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
