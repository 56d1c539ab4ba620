//! Commands that look and change nothing.

use super::Command;
use crate::text::{name, string};

/// `.show version`.
pub fn show_version() -> Command {
    Command(".show version".to_owned())
}

/// `.show cluster`: a row for each of its nodes.
pub fn show_cluster() -> Command {
    Command(".show cluster".to_owned())
}

/// `.show table T cslschema`: the column `Schema` has `name:type` pairs.
pub fn show_table_cslschema(table: &str) -> Command {
    Command(format!(".show table {} cslschema", name(table)))
}

/// `.show operations` of these ids: the latest record of each. Ids that are no guids are left out.
pub fn show_operations(ids: &[String]) -> Command {
    let ids: Vec<_> = ids.iter().filter_map(|id| uuid::Uuid::parse_str(id).ok()).map(|id| id.to_string()).collect();
    Command(format!(".show operations ({})", ids.join(", ")))
}

/// `.show operations` of ingestions that began at `start` (RFC 3339) or later.
pub fn show_operations_since(start: &str) -> Command {
    Command(format!(
        ".show operations | where Operation == 'DataIngestPull' and StartedOn >= datetime({start}) \
         | summarize arg_max(LastUpdatedOn, State, RootActivityId, StartedOn) by OperationId"
    ))
}

/// `.show commands` that were sent under a request id; only finished ones are listed.
pub fn show_commands_by_request_id(request_id: &str) -> Command {
    Command(format!(
        ".show commands | where ClientActivityId == {} | project State, RootActivityId, FailureReason",
        string(request_id)
    ))
}

/// `.show data operations` of these request ids: the rows that each really wrote.
pub fn show_data_operations(request_ids: &[String]) -> Command {
    let ids: Vec<_> = request_ids.iter().map(|id| string(id)).collect();
    Command(format!(
        ".show data operations | where ClientActivityId in ({}) | summarize Rows=sum(RowCount) by ClientActivityId",
        ids.join(", ")
    ))
}

/// `.show table T extents` that carry a tag.
pub fn show_extents_by_tag(table: &str, tag: &str) -> Command {
    Command(format!(".show table {} extents where tags has {}", name(table), string(tag)))
}

/// `.show ingestion failures` of one operation.
pub fn show_ingestion_failures(operation: &str) -> Command {
    Command(format!(".show ingestion failures with (OperationId={})", string(operation)))
}

/// `.show capacity ingestions`.
pub fn show_capacity_ingestions() -> Command {
    Command(".show capacity ingestions".to_owned())
}

/// `.show tables`.
pub fn show_tables() -> Command {
    Command(".show tables".to_owned())
}
