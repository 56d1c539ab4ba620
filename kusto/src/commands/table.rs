//! Commands about a table: its schema, its policies, its end.

use super::Command;
use crate::text::{name, string};

/// A column of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableColumn {
    /// Its name.
    pub name: String,
    /// Its scalar type, such as `long`.
    pub kind: String,
}

fn column_list(columns: &[TableColumn]) -> String {
    columns.iter().map(|c| format!("{}:{}", name(&c.name), c.kind)).collect::<Vec<_>>().join(", ")
}

/// `.create table` for rows on their way: hidden where tables are listed. A table that is there stays as it is.
pub fn create_staging_table(table: &str, columns: &[TableColumn], docstring: &str) -> Command {
    let (table, columns, docstring) = (name(table), column_list(columns), string(docstring));
    Command(format!(".create table {table} ({columns}) with (hidden=true, docstring={docstring})"))
}

/// `.alter table T policy merge`: extents stay as they were ingested, so that none vanishes under a command that names it.
pub fn forbid_merges(table: &str) -> Command {
    let policy = string(r#"{"AllowMerge":false,"AllowRebuild":false}"#);
    Command(format!(".alter table {} policy merge {policy}", name(table)))
}

/// `.alter table T policy auto_delete`: the cluster drops the table after this day (`2026-01-31`), rows and all.
pub fn delete_after(table: &str, day: &str) -> Command {
    let policy = string(&serde_json::json!({"ExpiryDate": day, "DeleteIfNotEmpty": true}).to_string());
    Command(format!(".alter table {} policy auto_delete {policy}", name(table)))
}

/// `.alter table T policy retention`: extents stay for a hundred years, however old their rows are dated. A table without
/// a policy of its own has the database's.
pub fn keep_long(table: &str) -> Command {
    let policy = string(r#"{"SoftDeletePeriod":"36500.00:00:00","Recoverability":"Disabled"}"#);
    Command(format!(".alter table {} policy retention {policy}", name(table)))
}

/// `.drop table T ifexists`, rows and all.
pub fn drop_table(table: &str) -> Command {
    Command(format!(".drop table {} ifexists", name(table)))
}

/// `.alter-merge table`: adds columns to a table that is there.
pub fn alter_merge_table(table: &str, columns: &[TableColumn]) -> Command {
    Command(format!(".alter-merge table {} ({})", name(table), column_list(columns)))
}

/// `.create-merge table`: creates the table or adds missing columns; a column of another type makes it fail.
pub fn create_merge_table(table: &str, columns: &[TableColumn]) -> Command {
    Command(format!(".create-merge table {} ({})", name(table), column_list(columns)))
}
