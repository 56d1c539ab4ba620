//! The cluster's list of extents, by the `ingest-by:` tags that they carry.

use ferry_kusto::Table;
use std::collections::HashMap;

/// How the tags begin that make an ingestion known.
const INGEST_BY: &str = "ingest-by:";

/// An extent, as `.show extents` lists it.
#[derive(Debug, Clone)]
pub(crate) struct Extent {
    pub(crate) id: String,
    /// `None` where the cluster does not tell.
    pub(crate) rows: Option<u64>,
    /// When its oldest rows came.
    pub(crate) created: String,
    /// It may hold rows of several ingestions: merged extents carry the tags of all that went into them, and span their times.
    is_mixed: bool,
}

/// The extents of each tag; a mixed one stands under each of its tags. Tags without their `ingest-by:`.
pub(crate) fn by_tag(table: &Table) -> HashMap<String, Vec<Extent>> {
    let mut found: HashMap<String, Vec<Extent>> = HashMap::new();
    for row in &table.rows {
        let tags: Vec<_> =
            table.text(row, "Tags").split_whitespace().filter_map(|tag| tag.strip_prefix(INGEST_BY)).collect();
        let created = table.text(row, "MinCreatedOn");
        let extent = Extent {
            id: table.text(row, "ExtentId").to_owned(),
            rows: table.long(row, "RowCount").and_then(|n| u64::try_from(n).ok()),
            created: created.to_owned(),
            is_mixed: tags.len() != 1 || created != table.text(row, "MaxCreatedOn"),
        };
        for tag in tags {
            found.entry(tag.to_owned()).or_default().push(extent.clone());
        }
    }
    found
}

/// Rows of a tag that these extents carry and of which `staged` were to come; `None` where that cannot be told.
pub(super) fn counted(extents: &[Extent], staged: u64) -> Option<u64> {
    let rows: u64 = extents.iter().map(|extent| extent.rows).sum::<Option<u64>>()?;
    // Of merged extents only too few rows say something.
    let is_mixed = extents.iter().any(|extent| extent.is_mixed);
    (!is_mixed || rows < staged).then_some(rows)
}
