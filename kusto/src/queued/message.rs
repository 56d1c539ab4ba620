//! What is said of a blob: a queue's message, or the properties of a REST request.

use super::{blob_url, resources::Place};
use crate::{
    KustoError,
    commands::{Ingest, IngestMapping, mapping_json},
};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use serde_json::{Map, Value, json};

/// Successes and failures alike are reported.
const REPORT_ALL: u8 = 2;
/// They are reported in the status table.
const REPORT_TO_TABLE: u8 = 1;

/// The text of a message: JSON in base64.
pub(super) fn of(
    database: &str,
    source_id: &str,
    raw_bytes: u64,
    ingest: &Ingest,
    token: &str,
    table: &Place,
) -> Result<String, KustoError> {
    let mut properties = properties(ingest);
    // In a message lists are text.
    for list in ["tags", "ingestIfNotExists"] {
        if let Some(value) = properties.get_mut(list) {
            *value = json!(value.to_string());
        }
    }
    if matches!(ingest.mapping, IngestMapping::Inline(_) | IngestMapping::Reference(_)) {
        properties.insert("ingestionMappingType".to_owned(), json!(mapping_type(ingest.format)));
    }
    properties.insert("authorizationContext".to_owned(), json!(token));
    let message = json!({
        "Id": source_id,
        "BlobPath": blob_url(ingest)?,
        "RawDataSize": raw_bytes,
        "DatabaseName": database,
        "TableName": ingest.table,
        // Whoever staged it deletes it.
        "RetainBlobOnSuccess": true,
        "FlushImmediately": false,
        "IgnoreSizeLimit": false,
        "ReportLevel": REPORT_ALL,
        "ReportMethod": REPORT_TO_TABLE,
        "SourceMessageCreationTime": jiff::Timestamp::now().to_string(),
        "ApplicationForTracing": "ferry",
        "ClientVersionForTracing": concat!("ferry:{", env!("CARGO_PKG_VERSION"), "}"),
        "IngestionStatusInTable": {
            "TableConnectionString": table.signed_url(),
            "PartitionKey": source_id,
            "RowKey": source_id,
        },
        "AdditionalProperties": properties,
    });
    Ok(BASE64.encode(message.to_string()))
}

/// The properties of a REST request.
pub(super) fn rest_properties(ingest: &Ingest) -> Value {
    let mut properties = properties(ingest);
    properties.insert("enableTracking".to_owned(), json!(true));
    properties.insert("deleteAfterDownload".to_owned(), json!(false));
    Value::Object(properties)
}

fn properties(ingest: &Ingest) -> Map<String, Value> {
    let mut properties = Map::new();
    let mut set = |name: &str, value: Value| drop(properties.insert(name.to_owned(), value));
    set("format", json!(ingest.format));
    match &ingest.mapping {
        IngestMapping::None => {}
        IngestMapping::Inline(columns) => set("ingestionMapping", json!(mapping_json(columns))),
        IngestMapping::Reference(reference) => set("ingestionMappingReference", json!(reference)),
    }
    set("tags", json!([format!("ingest-by:{}", ingest.ingest_by)]));
    set("ingestIfNotExists", json!([ingest.ingest_by]));
    if let Some(time) = &ingest.creation_time {
        set("creationTime", json!(time));
    }
    if let Some(policy) = ingest.validation_policy() {
        set("validationPolicy", json!(policy));
    }
    properties
}

/// The kind of a mapping, in the very letters that the service wants.
fn mapping_type(format: &str) -> &'static str {
    match format {
        "json" | "multijson" => "Json",
        "parquet" => "Parquet",
        _ => "Csv",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::{IngestSource, MappedColumn, MappedSource};

    fn ingest() -> Ingest {
        Ingest {
            table: "T".to_owned(),
            source: IngestSource::Url("https://a/c/b.csv.gz?sig=s".to_owned()),
            format: "csv",
            mapping: IngestMapping::Inline(vec![MappedColumn {
                column: "a".to_owned(),
                kind: None,
                source: MappedSource::Ordinal(0),
            }]),
            ingest_by: "r/1/2".to_owned(),
            strict_width: true,
            creation_time: None,
        }
    }

    #[test]
    fn a_message_says_what_microsofts_clients_say() {
        let table = Place::parse("https://a/t?sig=t").unwrap();
        let text = of("D", "id", 7, &ingest(), "token", &table).unwrap();
        let message: Value = serde_json::from_slice(&BASE64.decode(text).unwrap()).unwrap();
        for (pointer, expected) in [
            ("/BlobPath", json!("https://a/c/b.csv.gz?sig=s")),
            ("/RawDataSize", json!(7)),
            ("/ReportMethod", json!(1)),
            ("/IngestionStatusInTable/RowKey", json!("id")),
            ("/AdditionalProperties/tags", json!("[\"ingest-by:r/1/2\"]")),
            ("/AdditionalProperties/ingestIfNotExists", json!("[\"r/1/2\"]")),
            ("/AdditionalProperties/ingestionMappingType", json!("Csv")),
            ("/AdditionalProperties/authorizationContext", json!("token")),
        ] {
            assert_eq!(message.pointer(pointer), Some(&expected), "{pointer} in {message:#}");
        }
        assert_eq!(rest_properties(&ingest())["tags"], json!(["ingest-by:r/1/2"]));
    }
}
