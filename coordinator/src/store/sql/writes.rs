//! What each [`Write`] does to the database.

use super::{
    super::{ChunkRow, CommandRow, NodeRow, Numbers, RunRow, StoreError, UnitRow, Write},
    listed, loaded,
    paces::{add_pace, forget_paces},
    rows::{json, signed},
};
use crate::state::{command::CommandState, unit::UnitState};
use ferry_common::id::{RunId, UnitNumber};
use sqlx::{AnyConnection, AssertSqlSafe, Connection as _, any::AnyQueryResult};

/// Units that one statement inserts.
const UNITS_AT_ONCE: usize = 100;

/// Two transactions were in each other's way, and the database has undone one of them.
fn is_collision(error: &sqlx::Error) -> bool {
    // PostgreSQL: serialization_failure, deadlock_detected.
    error.as_database_error().and_then(|e| e.code()).is_some_and(|code| matches!(&*code, "40001" | "40P01"))
}

/// A write of exactly one row: none means that the row is another than was read.
pub(super) fn one_row(done: &AnyQueryResult) -> Result<(), StoreError> {
    if done.rows_affected() == 1 { Ok(()) } else { Err(StoreError::Conflict) }
}

pub(super) fn inserted(result: Result<AnyQueryResult, sqlx::Error>, rows: usize) -> Result<(), StoreError> {
    match result {
        Err(e) if e.as_database_error().is_some_and(|d| d.is_unique_violation()) => Err(StoreError::Conflict),
        other => {
            if other?.rows_affected() == rows as u64 {
                Ok(())
            } else {
                Err(StoreError::Conflict)
            }
        }
    }
}

fn is_live(run: &RunRow) -> i64 {
    i64::from(run.is_live())
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
            .execute(&mut *connection)
            .await,
        1,
    )?;
    // An older program that forgot a run of this id knew nothing of them.
    let sql = "DELETE FROM listed_files WHERE run_id = $1";
    sqlx::query(sql).bind(run.id.as_str()).execute(connection).await?;
    Ok(())
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

/// Inserts units, many with one statement: a listing brings them by the thousand.
async fn insert_units(connection: &mut AnyConnection, units: &[UnitRow]) -> Result<(), StoreError> {
    const BOUND: usize = 16;
    for some in units.chunks(UNITS_AT_ONCE) {
        let mut sql = "INSERT INTO units (revision, attempts, lease_node, lease_expires_ms, data_read_bytes, \
             data_written_bytes, staged_bytes, rows_read, rows_skipped, run_id, number, state, state_json, not_before_ms, \
             path, relative_path, size_bytes, modified_ns, etag, failure_json, node_name, scope_json, file_count, \
             file_bytes, tail_json) VALUES "
            .to_owned();
        for row in 0..some.len() {
            sql += if row == 0 { "(1, 0, '', 0, 0, 0, 0, 0, 0" } else { ", (1, 0, '', 0, 0, 0, 0, 0, 0" };
            (1..=BOUND).for_each(|n| sql += &format!(", ${}", row * BOUND + n));
            sql.push(')');
        }
        let mut query = sqlx::query(AssertSqlSafe(sql));
        for unit in some {
            query = query
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
                .bind(json("units", &unit.tail)?);
        }
        inserted(query.execute(&mut *connection).await, some.len())?;
    }
    Ok(())
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
        1,
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
        1,
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

async fn drop_units(
    connection: &mut AnyConnection,
    run: &RunId,
    numbers: Numbers,
    which: &str,
) -> Result<(), StoreError> {
    // Without numbers the index of what is asked for is the only way to it.
    let among = if numbers == Numbers::ALL { "" } else { "AND number > $4 AND number <= $5" };
    let sql = format!(
        "UPDATE units SET state = $1, state_json = $2, revision = revision + 1 WHERE run_id = $3 AND {which} {among}"
    );
    let mut query = sqlx::query(AssertSqlSafe(sql))
        .bind(UnitState::Dropped.name())
        .bind(json("units", &UnitState::Dropped)?)
        .bind(run.as_str());
    if numbers != Numbers::ALL {
        query = query.bind(signed(numbers.after.0)).bind(signed(numbers.up_to.0));
    }
    query.execute(connection).await?;
    Ok(())
}

/// Applies all writes, or none.
pub(super) async fn commit_all(connection: &mut AnyConnection, writes: &[Write]) -> Result<(), StoreError> {
    let mut transaction = connection.begin().await?;
    for write in writes {
        // Dropped on error: the database rolls back.
        apply(&mut transaction, write).await?;
    }
    Ok(transaction.commit().await?)
}

/// Applies one write, inside a transaction.
pub(super) async fn apply(connection: &mut AnyConnection, write: &Write) -> Result<(), StoreError> {
    apply_now(connection, write).await.map_err(|e| match e {
        StoreError::Database(e) if is_collision(&e) => StoreError::Conflict,
        other => other,
    })
}

async fn apply_now(connection: &mut AnyConnection, write: &Write) -> Result<(), StoreError> {
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
        Write::InsertUnits(units) => insert_units(connection, units).await,
        Write::UpdateUnit(unit) => update_unit(connection, unit).await,
        Write::DeleteFiles(run, after) => {
            let sql = "DELETE FROM units WHERE run_id = $1 AND number > $2";
            sqlx::query(sql).bind(run.as_str()).bind(signed(after.0)).execute(connection).await?;
            Ok(())
        }
        Write::InsertListed { run, attempt, keys } => listed::insert(connection, run, *attempt, keys).await,
        Write::DeleteListed(run, limit) => listed::delete(connection, run, *limit).await,
        Write::DeleteUnits(run, after) => {
            // An update, so that nobody takes the run's place before its units are gone.
            let sql = "UPDATE runs SET is_live = 0 WHERE id = $1 AND submitted_ms = $2 AND is_live = 0";
            let held = sqlx::query(sql).bind(run.id.as_str()).bind(run.submitted.0).execute(&mut *connection).await?;
            one_row(&held)?;
            for (table, number) in [("units", "number"), ("chunks", "unit"), ("commands", "unit")] {
                let sql = format!("DELETE FROM {table} WHERE run_id = $1 AND {number} > $2");
                let query = sqlx::query(AssertSqlSafe(sql)).bind(run.id.as_str()).bind(signed(after.0));
                query.execute(&mut *connection).await?;
            }
            Ok(())
        }
        Write::DeleteRun(run) => {
            let sql = "DELETE FROM runs WHERE id = $1 AND submitted_ms = $2 AND is_live = 0";
            let query = sqlx::query(sql).bind(run.id.as_str()).bind(run.submitted.0);
            one_row(&query.execute(&mut *connection).await?)?;
            for sql in [
                "DELETE FROM units WHERE run_id = $1",
                "DELETE FROM chunks WHERE run_id = $1",
                "DELETE FROM commands WHERE run_id = $1",
                "DELETE FROM listed_files WHERE run_id = $1",
                "DELETE FROM loading_runs WHERE run_id = $1",
            ] {
                sqlx::query(sql).bind(run.id.as_str()).execute(&mut *connection).await?;
            }
            Ok(())
        }
        Write::DropUnits(run, numbers) => drop_units(connection, run, *numbers, "state IN ('Pending', 'Staged')").await,
        Write::DropPending(run, numbers) => drop_units(connection, run, *numbers, "state = 'Pending'").await,
        Write::DropUntouched(run, numbers) => loaded::drop_untouched(connection, run, *numbers).await,
        Write::PutLoaded(files) => loaded::put(connection, files).await,
        Write::ForgetLoaded { sink, keys } => loaded::forget(connection, sink, keys).await,
        Write::ClaimSink { sink, run } => loaded::claim(connection, sink, run).await,
        Write::ConfirmUnits(run, numbers) => {
            let sql = "UPDATE units SET state = $1, state_json = $2, revision = revision + 1 \
                       WHERE run_id = $3 AND number > $4 AND number <= $5 AND state = 'Staged'";
            sqlx::query(sql)
                .bind(UnitState::Ingested.name())
                .bind(json("units", &UnitState::Ingested)?)
                .bind(run.as_str())
                .bind(signed(numbers.after.0))
                .bind(signed(numbers.up_to.0))
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
        Write::AddPace(row) => add_pace(connection, row).await,
        Write::ForgetPaces(last_before) => forget_paces(connection, *last_before).await,
    }
}
