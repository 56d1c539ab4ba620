//! Commands about a table's schema.

use super::Command;
use crate::text::name;

/// A column of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableColumn {
    /// Its name.
    pub name: String,
    /// Its scalar type, such as `long`.
    pub kind: String,
}

/// `.alter-merge table`: adds columns to a table that is there.
pub fn alter_merge_table(table: &str, columns: &[TableColumn]) -> Command {
    let columns: Vec<_> = columns.iter().map(|c| format!("{}:{}", name(&c.name), c.kind)).collect();
    Command(format!(".alter-merge table {} ({})", name(table), columns.join(", ")))
}

/// `.create-merge table`: creates the table or adds missing columns; a column of another type makes it fail.
pub fn create_merge_table(table: &str, columns: &[TableColumn]) -> Command {
    let columns: Vec<_> = columns.iter().map(|c| format!("{}:{}", name(&c.name), c.kind)).collect();
    Command(format!(".create-merge table {} ({})", name(table), columns.join(", ")))
}
