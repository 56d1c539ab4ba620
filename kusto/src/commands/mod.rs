//! Command text, one function a command. Every one has a golden file, and Microsoft's own parser reads them all.

mod extents;
mod ingest;
mod rights;
mod show;
mod table;

pub use extents::{move_extents, replace_extents, show_extents_of, show_extents_total, try_move_extents};
pub(crate) use ingest::mapping_json;
pub use ingest::{Ingest, IngestMapping, IngestSource, MappedColumn, MappedSource, ingest};
pub use rights::{create_csv_mapping, drop_csv_mapping, show_database_named, show_database_roles, show_table_roles};
pub use show::{
    show_capacity_ingestions, show_cluster, show_commands_by_request_id, show_data_operations, show_extents_by_tag,
    show_ingestion_failures, show_operations, show_operations_since, show_table_cslschema, show_tables, show_version,
};
pub use table::{
    TableColumn, alter_merge_table, create_merge_table, create_staging_table, delete_after, drop_table, forbid_merges,
    keep_long,
};

use crate::text;

/// The text of a management command. It may hold secrets in `h'...'`: they are blanked wherever it is shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Command(String);

impl Command {
    /// A command without a name or a value in it.
    pub(crate) fn plain(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// The text, for the service alone.
    pub fn text(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for Command {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&text::without_secrets(&self.0))
    }
}

impl std::fmt::Debug for Command {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Command({self})")
    }
}

#[cfg(test)]
mod tests;
