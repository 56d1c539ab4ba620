//! Replies: v1 tables and v2 frames. Columns are found by name; what is unknown is passed over.

use crate::error::ServiceError;
use serde::Deserialize;
use serde_json::Value;

/// A column of a reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// Its type, such as `long`; `string` where the service names none.
    pub kind: String,
}

/// A table of a reply.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Table {
    /// The columns.
    pub columns: Vec<Column>,
    /// The rows: one value a column.
    pub rows: Vec<Vec<Value>>,
}

impl Table {
    /// Where a column stands.
    pub fn position(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|c| c.name == name)
    }

    /// A value as text: empty where column or value is missing.
    pub fn text<'a>(&self, row: &'a [Value], column: &str) -> &'a str {
        self.position(column).and_then(|at| row.get(at)).and_then(Value::as_str).unwrap_or_default()
    }

    /// A value as a whole number.
    pub fn long(&self, row: &[Value], column: &str) -> Option<i64> {
        let value = row.get(self.position(column)?)?;
        value.as_i64().or_else(|| value.as_str()?.parse().ok())
    }

    /// A value as a truth value: the service writes `true`, `1`, or a signed byte.
    pub fn truth(&self, row: &[Value], column: &str) -> Option<bool> {
        let value = row.get(self.position(column)?)?;
        value.as_bool().or_else(|| value.as_i64().map(|n| n != 0))
    }

    /// The rows as JSON objects.
    pub fn objects(&self) -> Vec<Value> {
        self.rows
            .iter()
            .map(|row| {
                self.columns.iter().map(|c| c.name.clone()).zip(row.iter().cloned()).collect::<serde_json::Map<_, _>>()
            })
            .map(Value::Object)
            .collect()
    }
}

#[derive(Deserialize)]
struct V1Reply {
    #[serde(rename = "Tables")]
    tables: Vec<RawTable>,
    #[serde(rename = "Exceptions", default)]
    exceptions: Vec<Value>,
}

#[derive(Deserialize, Default)]
struct RawTable {
    #[serde(rename = "Columns", default)]
    columns: Vec<RawColumn>,
    #[serde(rename = "Rows", default)]
    rows: Vec<Value>,
}

#[derive(Deserialize)]
struct RawColumn {
    #[serde(rename = "ColumnName", default)]
    name: String,
    #[serde(rename = "ColumnType", default)]
    kind: Option<String>,
    #[serde(rename = "DataType", default)]
    data_type: Option<String>,
}

/// The Kusto type of a .NET type, where a v1 reply leaves out the former.
fn kind_of(data_type: &str) -> &str {
    match data_type.trim_start_matches("System.") {
        "Int32" => "int",
        "Int64" => "long",
        "Double" => "real",
        "DateTime" => "datetime",
        "TimeSpan" => "timespan",
        "SByte" | "Boolean" => "bool",
        "Data.SqlTypes.SqlDecimal" | "SqlDecimal" => "decimal",
        "Guid" => "guid",
        "Object" => "dynamic",
        _ => "string",
    }
}

impl RawTable {
    /// The table, or the error that stands among its rows.
    fn checked(self) -> Result<Table, ServiceError> {
        let columns = self
            .columns
            .into_iter()
            .map(|c| Column {
                kind: c
                    .kind
                    .filter(|k| !k.is_empty())
                    .unwrap_or_else(|| kind_of(c.data_type.as_deref().unwrap_or_default()).to_owned()),
                name: c.name,
            })
            .collect();
        let mut rows = Vec::with_capacity(self.rows.len());
        for row in self.rows {
            match row {
                Value::Array(values) => rows.push(values),
                other => return Err(error_among_rows(&other)),
            }
        }
        Ok(Table { columns, rows })
    }
}

/// The error that stands where a row should.
fn error_among_rows(row: &Value) -> ServiceError {
    match row.pointer("/OneApiErrors/0/error") {
        Some(error) => ServiceError::from_one_api(200, error),
        None => partial_failure(
            row.pointer("/Exceptions/0").and_then(Value::as_str).unwrap_or("the answer breaks off with an error"),
        ),
    }
}

fn partial_failure(message: &str) -> ServiceError {
    ServiceError {
        status: 200,
        code: "PartialFailure".to_owned(),
        exception: String::new(),
        message: message.to_owned(),
        permanent: false,
        activity_id: String::new(),
        retry_after: None,
    }
}

/// A reply that could not be understood as JSON of the right shape: cut off, or not Kusto's at all.
#[derive(Debug)]
pub(crate) enum ReplyError {
    /// Not whole, or not of the right shape.
    Broken(String),
    /// An error inside a good status.
    Service(ServiceError),
}

impl From<ServiceError> for ReplyError {
    fn from(error: ServiceError) -> Self {
        Self::Service(error)
    }
}

/// The result of a v1 reply: the table that its table of contents calls the result, else the first.
pub(crate) fn parse_v1(body: &[u8]) -> Result<Table, ReplyError> {
    let reply: V1Reply = serde_json::from_slice(body).map_err(|e| ReplyError::Broken(e.to_string()))?;
    if let Some(first) = reply.exceptions.first() {
        return Err(partial_failure(first.as_str().unwrap_or("the answer holds an error")).into());
    }
    let mut tables = reply.tables.into_iter().map(RawTable::checked).collect::<Result<Vec<_>, _>>()?;
    let mut result = 0;
    if tables.len() >= 3
        && let Some(contents) = tables.pop()
    {
        for row in &contents.rows {
            let at = contents.long(row, "Ordinal").and_then(|n| usize::try_from(n).ok()).filter(|n| *n < tables.len());
            match (contents.text(row, "Kind"), at) {
                ("QueryResult" | "PrimaryResult", Some(at)) if contents.text(row, "Name") != "@ExtendedProperties" => {
                    result = at
                }
                ("QueryStatus", Some(at)) => check_status(&tables[at])?,
                _ => {}
            }
        }
    }
    if result < tables.len() { Ok(tables.swap_remove(result)) } else { Ok(Table::default()) }
}

/// A `QueryStatus` table of a v1 reply: severity 2 and less is a failure.
fn check_status(status: &Table) -> Result<(), ServiceError> {
    for row in &status.rows {
        if status.long(row, "Severity").is_some_and(|s| s <= 2) {
            let text = status.position("StatusDescription").and_then(|at| row.get(at)).map(ToString::to_string);
            return Err(partial_failure(&text.unwrap_or_default()));
        }
    }
    Ok(())
}

/// The first primary result of a v2 reply.
///
/// The reply is good only if it is whole, reports no error, holds no error among its rows, and its completion table
/// names none: an error may be told in any of these places alone.
pub(crate) fn parse_v2(body: &[u8]) -> Result<Table, ReplyError> {
    let frames: Vec<Value> = serde_json::from_slice(body).map_err(|e| ReplyError::Broken(e.to_string()))?;
    let mut primary: Option<Table> = None;
    let mut open: Vec<(Value, String, RawTable)> = Vec::new();
    let mut whole = false;
    for frame in frames {
        let kind = frame.get("TableKind").and_then(Value::as_str).unwrap_or_default().to_owned();
        match frame.get("FrameType").and_then(Value::as_str).unwrap_or_default() {
            "DataTable" => finish(read(frame)?, &kind, &mut primary)?,
            "TableHeader" => {
                let id = frame.get("TableId").cloned().unwrap_or_default();
                open.push((id, kind, read(frame)?));
            }
            "TableFragment" => {
                let id = frame.get("TableId").cloned().unwrap_or_default();
                let replace = frame.get("TableFragmentType").and_then(Value::as_str) == Some("DataReplace");
                let part: RawTable = read(frame)?;
                if let Some((_, _, table)) = open.iter_mut().find(|(open_id, ..)| *open_id == id) {
                    if replace {
                        table.rows.clear();
                    }
                    table.rows.extend(part.rows);
                }
            }
            "TableCompletion" => {
                check_errors(&frame)?;
                if let Some(at) = open.iter().position(|(id, ..)| Some(id) == frame.get("TableId")) {
                    let (_, kind, table) = open.swap_remove(at);
                    finish(table, &kind, &mut primary)?;
                }
            }
            "DataSetCompletion" => {
                whole = true;
                check_errors(&frame)?;
                let is_true = |key: &str| frame.get(key).and_then(Value::as_bool).unwrap_or(false);
                if is_true("HasErrors") || is_true("Cancelled") {
                    return Err(partial_failure("the query ended with an error").into());
                }
            }
            _ => {}
        }
    }
    if !whole {
        return Err(ReplyError::Broken("the answer has no end".to_owned()));
    }
    Ok(primary.unwrap_or_default())
}

fn read(frame: Value) -> Result<RawTable, ReplyError> {
    serde_json::from_value(frame).map_err(|e| ReplyError::Broken(e.to_string()))
}

fn check_errors(frame: &Value) -> Result<(), ServiceError> {
    match frame.pointer("/OneApiErrors/0/error") {
        Some(error) => Err(ServiceError::from_one_api(200, error)),
        None => Ok(()),
    }
}

fn finish(table: RawTable, kind: &str, primary: &mut Option<Table>) -> Result<(), ReplyError> {
    match kind {
        "PrimaryResult" if primary.is_none() => *primary = Some(table.checked()?),
        "PrimaryResult" => drop(table.checked()?),
        "QueryCompletionInformation" => {
            let info = table.checked()?;
            for row in &info.rows {
                let failed = info.long(row, "Level").is_some_and(|l| l <= 2)
                    && info.long(row, "StatusCode").is_some_and(|s| s != 0);
                if failed {
                    return Err(partial_failure(info.text(row, "Payload")).into());
                }
            }
        }
        _ => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn v2(frames: &Value) -> Result<Table, ReplyError> {
        parse_v2(frames.to_string().as_bytes())
    }

    fn primary(rows: Value) -> Value {
        json!({"FrameType": "DataTable", "TableKind": "PrimaryResult", "Rows": rows,
            "Columns": [{"ColumnName": "n", "ColumnType": "long"}], "Extra": 1})
    }

    fn end(more: Value) -> Value {
        let mut frame = json!({"FrameType": "DataSetCompletion", "HasErrors": false, "Cancelled": false});
        frame.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        frame
    }

    #[test]
    fn a_good_answer_is_read_exactly() {
        let big = i64::MAX;
        let table = v2(
            &json!([{"FrameType": "DataSetHeader"}, {"FrameType": "Novelty"}, primary(json!([[big]])), end(json!({}))]),
        )
        .unwrap();
        assert_eq!(table.long(&table.rows[0], "n"), Some(big));
        assert_eq!(table.columns[0].kind, "long");
    }

    #[test]
    fn a_good_status_is_not_believed_when_the_answer_holds_an_error() {
        let error = json!({"error": {"code": "LimitsExceeded", "@message": "too large", "@permanent": true}});
        let qci = json!({"FrameType": "DataTable", "TableKind": "QueryCompletionInformation",
            "Columns": [{"ColumnName": "Level"}, {"ColumnName": "StatusCode"}, {"ColumnName": "Payload"}],
            "Rows": [[2, -5, "runaway"]]});
        for (case, frames) in [
            ("cut off", json!([primary(json!([[1]]))])),
            ("has errors", json!([primary(json!([[1]])), end(json!({"HasErrors": true}))])),
            ("cancelled", json!([primary(json!([[1]])), end(json!({"Cancelled": true}))])),
            ("errors at the end", json!([primary(json!([[1]])), end(json!({"OneApiErrors": [error]}))])),
            ("an error among the rows", json!([primary(json!([[1], {"OneApiErrors": [error]}])), end(json!({}))])),
            ("told only in the completion table", json!([primary(json!([[1]])), qci, end(json!({}))])),
        ] {
            assert!(v2(&frames).is_err(), "{case}");
        }
    }

    #[test]
    fn fragments_make_one_table() {
        let table = v2(&json!([
            {"FrameType": "TableHeader", "TableId": 1, "TableKind": "PrimaryResult", "Columns": [{"ColumnName": "n"}]},
            {"FrameType": "TableFragment", "TableId": 1, "TableFragmentType": "DataAppend", "Rows": [[1]]},
            {"FrameType": "TableFragment", "TableId": 1, "TableFragmentType": "DataReplace", "Rows": [[2]]},
            {"FrameType": "TableFragment", "TableId": 1, "TableFragmentType": "DataAppend", "Rows": [[3]]},
            {"FrameType": "TableCompletion", "TableId": 1},
            end(json!({})),
        ]))
        .unwrap();
        assert_eq!(table.rows, [[json!(2)], [json!(3)]]);
    }

    #[test]
    fn a_v1_answer_finds_its_result_by_the_table_of_contents() {
        let body = json!({"Tables": [
            {"Columns": [{"ColumnName": "x", "DataType": "System.Int64"}], "Rows": [[7]]},
            {"Columns": [{"ColumnName": "Severity"}, {"ColumnName": "StatusDescription"}], "Rows": [[4, "ok"]]},
            {"Columns": [{"ColumnName": "Ordinal"}, {"ColumnName": "Kind"}, {"ColumnName": "Name"}],
             "Rows": [[0, "QueryResult", "PrimaryResult"], [1, "QueryStatus", "QueryStatus"]]},
        ]});
        let table = parse_v1(body.to_string().as_bytes()).unwrap();
        assert_eq!(table.columns, [Column { name: "x".into(), kind: "long".into() }]);

        let failed = json!({"Tables": [{"Columns": [], "Rows": [{"Exceptions": ["broke"]}]}], "Exceptions": ["broke"]});
        assert!(parse_v1(failed.to_string().as_bytes()).is_err());
    }
}
