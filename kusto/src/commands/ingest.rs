//! `.ingest into`: direct ingestion of one staged blob.

use super::Command;
use crate::text::{name, secret_string, string};
use serde_json::json;

/// What the cluster reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IngestSource {
    /// An address with its signature: kept out of the cluster's logs.
    Url(String),
    /// A file that the cluster itself can open.
    Path(String),
}

/// Where a column's values come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MappedSource {
    /// Position in a delimited record, from 0.
    Ordinal(u32),
    /// Path in a JSON record, or in the columns of Parquet.
    Path(String),
}

/// One column of an inline mapping.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MappedColumn {
    /// Column of the table.
    pub column: String,
    /// Its type, if known.
    pub kind: Option<String>,
    /// Where its values come from.
    pub source: MappedSource,
}

/// How records become columns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IngestMapping {
    /// By order or by name, as the format has it.
    None,
    /// Spelled out.
    Inline(Vec<MappedColumn>),
    /// A mapping that the table has.
    Reference(String),
}

/// Everything about one `.ingest into`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ingest {
    /// The table.
    pub table: String,
    /// The one blob.
    pub source: IngestSource,
    /// `csv`, `json` or `parquet`.
    pub format: &'static str,
    /// How records become columns.
    pub mapping: IngestMapping,
    /// Value of the `ingest-by:` tag; the command has no effect on a table that has it.
    pub ingest_by: String,
    /// A record of another width fails the blob.
    pub strict_width: bool,
    /// Date that the extent gets (RFC 3339), for retention and caching.
    pub creation_time: Option<String>,
}

impl Ingest {
    /// What the service does with records of another width, as JSON; nothing for formats that have no width.
    pub(crate) fn validation_policy(&self) -> Option<String> {
        // 1/0: same width, or fail; 1/1: best effort.
        let implications = i32::from(!self.strict_width);
        let policy = json!({"ValidationOptions": 1, "ValidationImplications": implications});
        (self.format == "csv").then(|| policy.to_string())
    }
}

/// `.ingest async into table T (blob) with (...)`.
///
/// The tag and `ingestIfNotExists` go together: whoever sends the command again, it has its effect once.
pub fn ingest(ingest: &Ingest) -> Command {
    let source = match &ingest.source {
        IngestSource::Url(url) => secret_string(url),
        IngestSource::Path(path) => string(path),
    };
    let mut with = vec![format!("format={}", string(ingest.format))];
    match &ingest.mapping {
        IngestMapping::None => {}
        IngestMapping::Inline(columns) => with.push(format!("ingestionMapping={}", string(&mapping_json(columns)))),
        IngestMapping::Reference(reference) => with.push(format!("ingestionMappingReference={}", string(reference))),
    }
    with.push(format!("tags={}", string(&json!([format!("ingest-by:{}", ingest.ingest_by)]).to_string())));
    with.push(format!("ingestIfNotExists={}", string(&json!([ingest.ingest_by]).to_string())));
    if let Some(time) = &ingest.creation_time {
        with.push(format!("creationTime={}", string(time)));
    }
    if let Some(policy) = ingest.validation_policy() {
        with.push(format!("validationPolicy={}", string(&policy)));
    }
    Command(format!(".ingest async into table {} ({source}) with ({})", name(&ingest.table), with.join(", ")))
}

/// A mapping's JSON.
pub(crate) fn mapping_json(columns: &[MappedColumn]) -> String {
    let columns: Vec<_> = columns
        .iter()
        .map(|c| {
            let properties = match &c.source {
                MappedSource::Ordinal(at) => json!({"Ordinal": at.to_string()}),
                MappedSource::Path(path) => json!({"Path": path}),
            };
            match &c.kind {
                Some(kind) => json!({"Column": c.column, "DataType": kind, "Properties": properties}),
                None => json!({"Column": c.column, "Properties": properties}),
            }
        })
        .collect();
    serde_json::Value::Array(columns).to_string()
}
