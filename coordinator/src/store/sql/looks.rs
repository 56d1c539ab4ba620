//! The words of what is looked for again and again. Each finds what it wants by an index, however many units a run has: a test
//! asks the planner. States stand in the words themselves: an index of one state serves only those who name it.

use super::super::StoreError;

pub(super) const UNIT_COLUMNS: &str = "run_id, number, state_json, revision, path, relative_path, size_bytes, modified_ns, etag, \
     attempts, data_read_bytes, data_written_bytes, staged_bytes, rows_read, rows_skipped, failure_json, node_name, \
     scope_json, file_count, file_bytes, tail_json";
pub(super) const COMMAND_COLUMNS: &str = "run_id, unit, chunk, state_json, revision, tag, blob, row_count, raw_bytes";

/// One look: a unit that goes from one of the states to the other meanwhile is seen in one of them. The plus keeps the planner
/// from going through the numbers.
pub(super) const OPEN_UNITS: &str = "SELECT number FROM units WHERE run_id = $1 AND +number > 0 AND state = 'Pending' \
     UNION ALL SELECT number FROM units WHERE run_id = $1 AND number > 0 AND state = 'Leased' LIMIT 1";
pub(super) const HELD_SLOTS: &str =
    "SELECT run_id, lease_node, COUNT(*) AS slots FROM units WHERE state = 'Leased' GROUP BY lease_node, run_id";
pub(super) const LEASES: &str = "SELECT run_id, number, revision FROM units WHERE state = 'Leased'";
pub(super) const ISSUED: &str = "SELECT COUNT(*) AS issued FROM commands WHERE run_id = $1 AND state = 'Issued'";
pub(super) const ANY_PLANNED: &str = "SELECT unit FROM commands WHERE run_id = $1 AND state = 'Planned' LIMIT 1";
pub(super) const ANY_DOUBTFUL: &str =
    "SELECT unit FROM commands WHERE run_id = $1 AND state = 'Planned' AND is_doubtful = 1 LIMIT 1";

/// The name of a state as a word of a statement.
pub(super) fn quoted(state: &str) -> Result<String, StoreError> {
    match state.chars().all(|c| c.is_ascii_alphabetic()) {
        true => Ok(format!("'{state}'")),
        false => Err(StoreError::Unreadable { table: "units", why: format!("no state is named {state:?}") }),
    }
}

pub(super) fn unit() -> String {
    format!("SELECT {UNIT_COLUMNS} FROM units WHERE run_id = $1 AND number = $2")
}

pub(super) fn pending_units() -> String {
    format!(
        "SELECT {UNIT_COLUMNS} FROM units WHERE run_id = $1 AND state = 'Pending' AND not_before_ms <= $2 \
         ORDER BY size_bytes DESC, number LIMIT $3"
    )
}

pub(super) fn retried_units() -> String {
    format!(
        "SELECT {UNIT_COLUMNS} FROM units WHERE run_id = $1 AND number > 0 AND state = 'Pending' \
         AND failure_json <> 'null' ORDER BY number LIMIT $2"
    )
}

pub(super) fn leases_of_node() -> String {
    format!("SELECT {UNIT_COLUMNS} FROM units WHERE state = 'Leased' AND lease_node = $1 LIMIT $2")
}

pub(super) fn files(state: Option<&str>) -> Result<String, StoreError> {
    let in_state = match state {
        Some(state) => format!("AND state = {}", quoted(state)?),
        None => String::new(),
    };
    Ok(format!(
        "SELECT {UNIT_COLUMNS} FROM units WHERE run_id = $1 AND number > $2 {in_state} ORDER BY number LIMIT $3"
    ))
}

pub(super) fn unit_commands() -> String {
    format!("SELECT {COMMAND_COLUMNS} FROM commands WHERE run_id = $1 AND unit = $2 ORDER BY chunk")
}

pub(super) fn commands(state: &str) -> Result<String, StoreError> {
    let state = quoted(state)?;
    Ok(format!(
        "SELECT {COMMAND_COLUMNS} FROM commands WHERE run_id = $1 AND state = {state} ORDER BY unit, chunk LIMIT $2"
    ))
}

pub(super) fn due_commands() -> String {
    format!(
        "SELECT {COMMAND_COLUMNS} FROM commands WHERE run_id = $1 AND state = 'Planned' AND is_doubtful = 0 \
         AND not_before_ms <= $2 ORDER BY not_before_ms, unit, chunk LIMIT $3"
    )
}

pub(super) fn doubtful_commands() -> String {
    // The sum keeps the planner from going through all commands in their order.
    format!(
        "SELECT {COMMAND_COLUMNS} FROM commands WHERE run_id = $1 AND state = 'Planned' AND is_doubtful = 1 \
         ORDER BY unit + 0, chunk LIMIT $2"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{SqlStore, StorePlace};
    use sqlx::{AssertSqlSafe, Row as _};

    #[tokio::test]
    async fn what_is_looked_for_again_and_again_is_found_by_its_index() {
        let folder = tempfile::tempdir().unwrap();
        let store = SqlStore::open(&StorePlace::Sqlite(folder.path().join("ferry.db"))).await.unwrap();
        for (sql, index) in [
            (OPEN_UNITS.to_owned(), "units_pending (run_id=?)"),
            (OPEN_UNITS.to_owned(), "units_leased_of_run (run_id=? AND number>?)"),
            (HELD_SLOTS.to_owned(), "units_leased"),
            (pending_units(), "units_pending (run_id=?)"),
            (retried_units(), "units_retried (run_id=? AND number>?)"),
            (leases_of_node(), "units_leased (lease_node=?)"),
            (LEASES.to_owned(), "units_leased_of_run"),
            (files(Some("Failed")).unwrap(), "units_failed (run_id=? AND number>?)"),
            (files(Some("Skipped")).unwrap(), "units_skipped (run_id=? AND number>?)"),
            (ISSUED.to_owned(), "commands_issued (run_id=?)"),
            (commands("Issued").unwrap(), "commands_issued (run_id=?)"),
            (ANY_PLANNED.to_owned(), "commands_planned (run_id=?)"),
            (ANY_DOUBTFUL.to_owned(), "commands_planned (run_id=? AND is_doubtful=?)"),
            (due_commands(), "commands_planned (run_id=? AND is_doubtful=? AND not_before_ms<?)"),
            (doubtful_commands(), "commands_planned (run_id=? AND is_doubtful=?)"),
        ] {
            let explain = sqlx::query(AssertSqlSafe(format!("EXPLAIN QUERY PLAN {sql}")));
            let steps = explain.fetch_all(&store.readers).await.unwrap();
            let steps: Vec<String> = steps.iter().map(|row| row.try_get("detail").unwrap()).collect();
            assert!(steps.iter().any(|step| step.ends_with(&format!("INDEX {index}"))), "{sql}: {steps:?}");
            assert!(steps.iter().all(|step| !step.contains("autoindex")), "{sql}: {steps:?}");
        }
    }
}
