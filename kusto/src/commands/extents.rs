//! Commands about the extents of a table: how many there are, and moving them all at once.

use super::Command;
use crate::text::{name, string};

/// `.show table T extents`, as one row with `Extents` and `Rows`; with a part of a tag, only those that carry it.
pub fn show_extents_total(table: &str, tag_part: Option<&str>) -> Command {
    let tagged = tag_part.map(|part| format!(" where tags contains {}", string(part))).unwrap_or_default();
    Command(format!(".show table {} extents{tagged} | summarize Extents=count(), Rows=sum(RowCount)", name(table)))
}

/// `.show table T extents` that carry a part of a tag: their ids, rows, dates and tags.
pub fn show_extents_of(table: &str, tag_part: &str) -> Command {
    Command(format!(
        ".show table {} extents where tags contains {} | project ExtentId, RowCount, MinCreatedOn, MaxCreatedOn, Tags",
        name(table),
        string(tag_part)
    ))
}

/// `.move extents`: all of a table's extents go to another one, or none does. A table without any moves none.
///
/// Rows get the time of the move as their ingestion time: views and exports that read by it would pass them over else.
/// Source: Azure Data Explorer, `.move extents`.
pub fn move_extents(from: &str, to: &str) -> Command {
    Command(format!(
        ".move extents to table {} with (setNewIngestionTime=true) <| .show table {} extents | project ExtentId, TableName",
        name(to),
        name(from)
    ))
}

/// The same as [`move_extents`], of no extent whatever the table has: it asks only whether they may be moved.
///
/// Such a command may arrive late, when the table has extents.
pub fn try_move_extents(from: &str, to: &str) -> Command {
    Command(format!(
        ".move extents to table {} with (setNewIngestionTime=true) \
         <| .show table {} extents | where RowCount < 0 | project ExtentId, TableName",
        name(to),
        name(from)
    ))
}

/// `.replace extents`: in one transaction the extents of `table` are dropped and those of `from` take their place.
///
/// Extents that carry `own_tag_part` are not dropped, so that sending it twice costs the caller no row of its own. What
/// others put into the table before the second time is dropped.
pub fn replace_extents(table: &str, from: &str, own_tag_part: &str) -> Command {
    Command(format!(
        ".replace extents in table {table} with (setNewIngestionTime=true) \
         <| {{.show table {table} extents | where Tags !contains {tag} | project ExtentId, TableName}}, \
         {{.show table {from} extents | project ExtentId, TableName}}",
        table = name(table),
        from = name(from),
        tag = string(own_tag_part)
    ))
}
