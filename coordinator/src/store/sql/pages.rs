//! Pages of long lists. What is wanted is found by an index where there is one; else a bounded number of rows is looked at, and
//! the page ends there.

use super::{
    super::{
        StoreError,
        pages::{
            COMMANDS_OF_FEW, CommandPage, CommandQuery, FilePage, FileQuery, FileSort, RunQuery, RunsIn, UNITS_OF_FEW,
        },
    },
    SqlStore,
    looks::{COMMAND_COLUMNS, UNIT_COLUMNS, quoted},
    rows::{count, read_command, read_run, read_unit, signed},
};
use crate::store::RunRow;
use ferry_common::id::{RunId, UnitNumber};
use sqlx::{AssertSqlSafe, any::AnyRow};

/// What stands before the window's end in the id of a schedule's run, in the words of the index `runs_by_schedule`.
const SCHEDULE_OF_ID: &str = "CASE WHEN LENGTH(id) > 17 THEN SUBSTR(id, 1, LENGTH(id) - 17) END";

/// A list, and the order that it is read in.
#[derive(Clone, Copy)]
struct List {
    table: &'static str,
    columns: &'static str,
    /// Rows of the run, in words that the index of the order has, too.
    of_run: &'static str,
    /// The same in words that it has not: then an index of a state serves.
    of_run_by_state: &'static str,
    keys: [&'static str; 2],
    /// Holds for every row: it leads to the index of the order.
    from_start: &'static str,
    is_descending: bool,
}

/// A value that rows are sorted by first.
enum First<'a> {
    Text(&'a str),
    Number(i64),
}

/// A page of a list.
struct Wanted<'a> {
    list: List,
    run: &'a RunId,
    state: Option<&'static str>,
    has_own_index: bool,
    /// A pattern for `LIKE`.
    path: Option<String>,
    after: Option<(First<'a>, i64)>,
    limit: u32,
    rows_looked_at_max: u32,
}

impl List {
    fn order(&self) -> String {
        let [first, second] = self.keys;
        let way = if self.is_descending { " DESC" } else { "" };
        format!("{first}{way}, {second}{way}")
    }

    /// Rows after a place whose values are parameters 2 and 3.
    fn begin(&self, is_after: bool) -> String {
        let [first, second] = self.keys;
        match (is_after, self.is_descending) {
            (false, _) => self.from_start.to_owned(),
            (true, false) => format!("({first}, {second}) > ($2, $3)"),
            (true, true) => format!("({first}, {second}) < ($2, $3)"),
        }
    }
}

impl Wanted<'_> {
    fn begin(&self) -> String {
        self.list.begin(self.after.is_some())
    }

    fn search(&self) -> String {
        match (&self.path, &self.after) {
            (None, _) => String::new(),
            (Some(_), None) => " AND LOWER(path) LIKE LOWER($2) ESCAPE '\\'".to_owned(),
            (Some(_), Some(_)) => " AND LOWER(path) LIKE LOWER($4) ESCAPE '\\'".to_owned(),
        }
    }

    /// The first rows of the list, whatever they are.
    fn all(&self) -> String {
        let List { table, columns, of_run, .. } = self.list;
        let (begin, order, limit) = (self.begin(), self.list.order(), self.limit + 1);
        format!("SELECT {columns} FROM {table} WHERE {of_run} AND {begin} ORDER BY {order} LIMIT {limit}")
    }

    /// Those wanted among the first rows of the list.
    fn looked_at(&self) -> Result<String, StoreError> {
        let List { table, columns, of_run, .. } = self.list;
        let (begin, order, limit) = (self.begin(), self.list.order(), self.limit + 1);
        let (search, max) = (self.search(), self.rows_looked_at_max);
        let in_state = match self.state {
            Some(state) => format!("state = {}", quoted(state)?),
            None => "1 = 1".to_owned(),
        };
        Ok(format!(
            "SELECT {columns} FROM (SELECT {columns}, state FROM {table} WHERE {of_run} AND {begin} ORDER BY {order} \
             LIMIT {max}) AS looked WHERE {in_state}{search} ORDER BY {order} LIMIT {limit}"
        ))
    }

    /// Where that looking ended, if it did before the end of the list.
    fn looked_up_to(&self) -> String {
        let List { table, of_run, keys: [first, second], .. } = self.list;
        let (begin, order) = (self.begin(), self.list.order());
        let skipped = self.rows_looked_at_max.saturating_sub(1);
        format!(
            "SELECT {first}, {second} FROM {table} WHERE {of_run} AND {begin} ORDER BY {order} LIMIT 1 OFFSET {skipped}"
        )
    }

    /// How many rows are in the state, counted up to one too many.
    fn count_few(&self, state: &str) -> Result<String, StoreError> {
        let List { table, of_run_by_state, keys: [_, second], .. } = self.list;
        let (state, max) = (quoted(state)?, self.rows_looked_at_max + 1);
        Ok(format!(
            "SELECT COUNT(*) AS few FROM (SELECT {second} FROM {table} WHERE {of_run_by_state} AND state = {state} \
             LIMIT {max}) AS counted"
        ))
    }

    /// All rows of the state, put in order.
    fn few(&self, state: &str) -> Result<String, StoreError> {
        let List { table, columns, of_run_by_state, .. } = self.list;
        let (begin, order, limit) = (self.begin(), self.list.order(), self.limit + 1);
        let (search, state, max) = (self.search(), quoted(state)?, self.rows_looked_at_max + 1);
        Ok(format!(
            "SELECT {columns} FROM (SELECT {columns} FROM {table} WHERE {of_run_by_state} AND state = {state} \
             LIMIT {max}) AS few WHERE {begin}{search} ORDER BY {order} LIMIT {limit}"
        ))
    }
}

/// Rows of a page, one too many where more follow; and the last row that was looked at, where that ended before the list.
type Found = (Vec<AnyRow>, Option<AnyRow>);

impl SqlStore {
    async fn rows_of(&self, sql: String, wanted: &Wanted<'_>, with_search: bool) -> Result<Vec<AnyRow>, StoreError> {
        let mut query = sqlx::query(AssertSqlSafe(sql)).bind(wanted.run.as_str());
        if let Some((first, second)) = &wanted.after {
            query = match first {
                First::Text(text) => query.bind(*text),
                First::Number(number) => query.bind(*number),
            };
            query = query.bind(*second);
        }
        if let Some(path) = wanted.path.as_deref().filter(|_| with_search) {
            query = query.bind(path);
        }
        Ok(query.fetch_all(&self.readers).await?)
    }

    async fn page_of(&self, wanted: &Wanted<'_>) -> Result<Found, StoreError> {
        if wanted.state.is_none() && wanted.path.is_none() {
            return Ok((self.rows_of(wanted.all(), wanted, false).await?, None));
        }
        if let Some(state) = wanted.state.filter(|_| wanted.has_own_index) {
            let counted = sqlx::query(AssertSqlSafe(wanted.count_few(state)?)).bind(wanted.run.as_str());
            let counted = count(&counted.fetch_one(&self.readers).await?, "few")?;
            if counted <= u64::from(wanted.rows_looked_at_max) {
                return Ok((self.rows_of(wanted.few(state)?, wanted, true).await?, None));
            }
        }
        let found = self.rows_of(wanted.looked_at()?, wanted, true).await?;
        if found.len() > wanted.limit as usize {
            return Ok((found, None));
        }
        let last = self.rows_of(wanted.looked_up_to(), wanted, false).await?.pop();
        Ok((found, last))
    }

    pub(super) async fn page_of_files(&self, run: &RunId, query: &FileQuery) -> Result<FilePage, StoreError> {
        let (key, from_start) = match query.sort {
            FileSort::Path => ("path", "path >= ''"),
            FileSort::Size => ("size_bytes", "size_bytes >= 0"),
        };
        let after = query.after.as_ref().map(|place| {
            let first = match query.sort {
                FileSort::Path => First::Text(&place.path),
                FileSort::Size => First::Number(signed(place.size_bytes)),
            };
            (first, signed(place.number.0))
        });
        let wanted = Wanted {
            list: List {
                table: "units",
                columns: UNIT_COLUMNS,
                of_run: "run_id = $1 AND number > 0",
                of_run_by_state: "run_id = $1 AND +number > 0",
                keys: [key, "number"],
                from_start,
                is_descending: query.is_descending,
            },
            run,
            state: query.state,
            has_own_index: query.state.is_some_and(|state| UNITS_OF_FEW.contains(&state)),
            path: query.search.as_deref().map(pattern),
            after,
            limit: query.limit,
            rows_looked_at_max: query.rows_looked_at_max,
        };
        let (rows, last) = self.page_of(&wanted).await?;
        let mut units = rows.iter().map(read_unit).collect::<Result<Vec<_>, _>>()?;
        let mut next = last.map(|row| count(&row, "number")).transpose()?.map(UnitNumber);
        if units.len() > query.limit as usize {
            units.truncate(query.limit as usize);
            next = units.last().map(|unit| unit.number);
        }
        Ok(FilePage { units, next })
    }

    pub(super) async fn page_of_commands(&self, run: &RunId, query: &CommandQuery) -> Result<CommandPage, StoreError> {
        let wanted = Wanted {
            list: List {
                table: "commands",
                columns: COMMAND_COLUMNS,
                of_run: "run_id = $1",
                of_run_by_state: "run_id = $1",
                keys: ["unit", "chunk"],
                from_start: "unit >= 0",
                is_descending: false,
            },
            run,
            state: query.state,
            has_own_index: query.state.is_some_and(|state| COMMANDS_OF_FEW.contains(&state)),
            path: None,
            after: query.after.map(|(unit, chunk)| (First::Number(signed(unit.0)), i64::from(chunk))),
            limit: query.limit,
            rows_looked_at_max: query.rows_looked_at_max,
        };
        let (rows, last) = self.page_of(&wanted).await?;
        let mut commands = rows.iter().map(read_command).collect::<Result<Vec<_>, _>>()?;
        let place = |row: AnyRow| Ok::<_, StoreError>((UnitNumber(count(&row, "unit")?), count(&row, "chunk")? as u32));
        let mut next = last.map(place).transpose()?;
        if commands.len() > query.limit as usize {
            commands.truncate(query.limit as usize);
            next = commands.last().map(|command| (command.unit, command.chunk));
        }
        Ok(CommandPage { commands, next })
    }

    pub(super) async fn page_of_runs(&self, query: &RunQuery) -> Result<Vec<RunRow>, StoreError> {
        let sql = runs(query)?;
        let mut query_of = sqlx::query(AssertSqlSafe(sql));
        if let Some((submitted, id)) = &query.before {
            query_of = query_of.bind(submitted.0).bind(id.as_str());
        }
        if let Some(schedule) = &query.schedule {
            query_of = query_of.bind(schedule.as_str());
        }
        query_of.fetch_all(&self.readers).await?.iter().map(read_run).collect()
    }
}

/// A page of runs. Parameters: the time and id that it begins before, then the schedule; each where it is asked for.
fn runs(query: &RunQuery) -> Result<String, StoreError> {
    let only = match query.only {
        None => "1 = 1".to_owned(),
        Some(RunsIn::Active) => {
            "is_live = 1 AND state NOT IN ('Succeeded', 'Failed', 'Cancelled', 'Planned')".to_owned()
        }
        Some(RunsIn::State(state)) => format!("state = {}", quoted(state)?),
    };
    let begin = if query.before.is_some() { "(submitted_ms, id) < ($1, $2)" } else { "submitted_ms >= 0" };
    let of_schedule = match (&query.schedule, &query.before) {
        (None, _) => String::new(),
        (Some(_), before) => {
            let parameter = if before.is_some() { 3 } else { 1 };
            format!(" AND {SCHEDULE_OF_ID} = ${parameter} AND id LIKE '%-________T______Z'")
        }
    };
    let limit = query.limit;
    Ok(format!(
        "SELECT run_json, revision, driver, driver_epoch, driver_beat FROM runs WHERE {only} AND {begin}{of_schedule} \
         ORDER BY submitted_ms DESC, id DESC LIMIT {limit}"
    ))
}

/// The pattern of paths that hold a text.
fn pattern(text: &str) -> String {
    let mut pattern = String::from("%");
    for c in text.chars() {
        if matches!(c, '%' | '_' | '\\') {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern.push('%');
    pattern
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::StorePlace;
    use ferry_common::clock::Millis;
    use sqlx::Row as _;

    fn files<'a>(run: &'a RunId, sort: &'static str, state: Option<&'static str>, is_first: bool) -> Wanted<'a> {
        Wanted {
            list: List {
                table: "units",
                columns: UNIT_COLUMNS,
                of_run: "run_id = $1 AND number > 0",
                of_run_by_state: "run_id = $1 AND +number > 0",
                keys: [sort, "number"],
                from_start: if sort == "path" { "path >= ''" } else { "size_bytes >= 0" },
                is_descending: false,
            },
            run,
            state,
            has_own_index: true,
            path: None,
            after: (!is_first).then_some((First::Number(0), 0)),
            limit: 100,
            rows_looked_at_max: 1_000,
        }
    }

    #[tokio::test]
    async fn pages_are_found_by_an_index() {
        let folder = tempfile::tempdir().unwrap();
        let store = SqlStore::open(&StorePlace::Sqlite(folder.path().join("ferry.db"))).await.unwrap();
        let run: RunId = "r".parse().unwrap();
        let backwards = |sort| {
            let mut wanted = files(&run, sort, None, false);
            wanted.list.is_descending = true;
            wanted
        };
        let of = |sort, state, is_first| files(&run, sort, state, is_first);
        let of_schedule =
            |before, only| runs(&RunQuery { only, schedule: Some("taxi".to_owned()), before, limit: 20 }).unwrap();
        for (sql, index) in [
            (of("path", None, true).all(), "units_by_path (run_id=? AND path>?)"),
            (of("path", None, false).all(), "units_by_path (run_id=? AND (path,number)>(?,?))"),
            (of("size_bytes", None, true).all(), "units_by_size (run_id=? AND size_bytes>?)"),
            (of("size_bytes", None, false).all(), "units_by_size (run_id=? AND (size_bytes,number)>(?,?))"),
            (backwards("path").all(), "units_by_path (run_id=? AND (path,number)<(?,?))"),
            (
                of("path", Some("Staged"), false).looked_at().unwrap(),
                "units_by_path (run_id=? AND (path,number)>(?,?))",
            ),
            (of("path", None, false).looked_up_to(), "units_by_path (run_id=? AND (path,number)>(?,?))"),
            (of("path", None, false).count_few("Pending").unwrap(), "units_pending (run_id=?)"),
            (of("path", None, false).few("Failed").unwrap(), "units_failed (run_id=?)"),
            (of("size_bytes", None, false).few("Leased").unwrap(), "units_leased_of_run (run_id=?)"),
            (of_schedule(None, None), "runs_by_schedule (<expr>=? AND submitted_ms>?)"),
            (
                of_schedule(Some((Millis(1), run.clone())), Some(RunsIn::Active)),
                "runs_by_schedule (<expr>=? AND (submitted_ms,id)<(?,?))",
            ),
        ] {
            let explain = sqlx::query(AssertSqlSafe(format!("EXPLAIN QUERY PLAN {sql}")));
            let steps = explain.fetch_all(&store.readers).await.unwrap();
            let steps: Vec<String> = steps.iter().map(|row| row.try_get("detail").unwrap()).collect();
            assert!(steps.iter().any(|step| step.ends_with(&format!("INDEX {index}"))), "{sql}: {steps:?}");
            assert!(steps.iter().all(|step| !step.contains("autoindex")), "{sql}: {steps:?}");
        }
    }

    #[test]
    fn a_search_means_its_own_signs() {
        assert_eq!(pattern("50%_a\\b"), "%50\\%\\_a\\\\b%");
    }
}
