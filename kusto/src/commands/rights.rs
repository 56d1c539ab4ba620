//! Commands that tell what a sign-in may do, and the two that try it with something that is gone again.

use super::{Command, ingest::mapping_json};
use crate::{
    commands::MappedColumn,
    text::{name, string},
};

/// `.show databases` of this name: none where the sign-in may not see it.
pub fn show_database_named(database: &str) -> Command {
    let database = string(database);
    Command(format!(".show databases | where DatabaseName == {database} | project DatabaseName"))
}

/// `.show database D principal roles`: the roles that the sign-in itself has there. Roles that it has through a group may be
/// missing.
pub fn show_database_roles(database: &str) -> Command {
    Command(format!(".show database {} principal roles", name(database)))
}

/// The same of a table.
pub fn show_table_roles(table: &str) -> Command {
    Command(format!(".show table {} principal roles", name(table)))
}

/// `.create table T ingestion csv mapping`.
pub fn create_csv_mapping(table: &str, mapping: &str, columns: &[MappedColumn]) -> Command {
    let (table, mapping, columns) = (name(table), string(mapping), string(&mapping_json(columns)));
    Command(format!(".create table {table} ingestion csv mapping {mapping} {columns}"))
}

/// `.drop table T ingestion csv mapping`.
pub fn drop_csv_mapping(table: &str, mapping: &str) -> Command {
    Command(format!(".drop table {} ingestion csv mapping {}", name(table), string(mapping)))
}
