//! How a blob that was handed over stands: a row of the status table, or the answer to a REST request.

use super::{field, resources::Place, text_of};
use crate::{KustoError, commands::Ingest, error::ServiceError};
use serde_json::{Value, json};

/// Where a blob stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlobState {
    /// It waits, or is being ingested, or the service does not tell at the moment.
    Pending,
    /// Its rows are in the table.
    Succeeded,
    /// It was passed over: its tag is in the table already.
    Skipped,
    /// Some of it may be in the table.
    Partial,
    /// It is not in the table.
    Failed {
        /// A new hand-over may succeed.
        may_pass: bool,
    },
}

/// What the service says of a blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlobStatus {
    /// Where it stands.
    pub state: BlobState,
    /// Such as `Stream_WrongNumberOfFields`, or empty.
    pub code: String,
    /// For people; may be empty.
    pub details: String,
}

impl BlobStatus {
    pub(super) fn pending() -> Self {
        Self { state: BlobState::Pending, code: String::new(), details: String::new() }
    }

    /// Out of a row, or out of the details of an operation.
    fn of(object: &Value) -> Self {
        let may_pass = !text_of(object, "failureStatus").eq_ignore_ascii_case("permanent");
        let state = match text_of(object, "status").to_ascii_lowercase().as_str() {
            "succeeded" => BlobState::Succeeded,
            "skipped" => BlobState::Skipped,
            "partiallysucceeded" => BlobState::Partial,
            "failed" => BlobState::Failed { may_pass },
            "canceled" | "cancelled" => BlobState::Failed { may_pass: true },
            // Pending, Queued, InProgress, and whatever a newer service calls a state on the way.
            _ => BlobState::Pending,
        };
        Self { state, code: text_of(object, "errorCode").to_owned(), details: text_of(object, "details").to_owned() }
    }

    /// The blob `source_id` of an operation.
    pub(super) fn of_operation(answer: &Value, source_id: &str) -> Self {
        let details = field(answer, "details").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let own = details.iter().find(|blob| text_of(blob, "sourceId").eq_ignore_ascii_case(source_id));
        own.map_or_else(Self::pending, Self::of)
    }
}

/// A request of the table service. Source: Azure Storage, table service REST API.
fn as_json(request: reqwest::RequestBuilder) -> reqwest::RequestBuilder {
    request
        .header("x-ms-version", "2019-02-02")
        .header("dataserviceversion", "3.0;")
        .header("accept", "application/json;odata=nometadata")
        .timeout(super::STORAGE_TIMEOUT)
}

fn failed(table: &Place, error: reqwest::Error) -> KustoError {
    let (endpoint, is_connect) = (table.name.clone(), error.is_connect());
    let why = error.without_url().to_string();
    if is_connect { KustoError::Unreachable { endpoint, why } } else { KustoError::Lost { endpoint, why } }
}

/// Makes the row that the service writes its verdict into.
pub(super) async fn insert_row(
    http: &reqwest::Client,
    table: &Place,
    database: &str,
    source_id: &str,
    ingest: &Ingest,
) -> Result<(), KustoError> {
    let path = super::blob_url(ingest)?.split('?').next().unwrap_or_default();
    let row = json!({
        "PartitionKey": source_id,
        "RowKey": source_id,
        "Status": "Pending",
        "IngestionSourceId@odata.type": "Edm.Guid",
        "IngestionSourceId": source_id,
        "IngestionSourcePath": path,
        "Database": database,
        "Table": ingest.table,
        "UpdatedOn@odata.type": "Edm.DateTime",
        "UpdatedOn": jiff::Timestamp::now().to_string(),
    });
    let request = as_json(http.post(table.signed_url())).header("prefer", "return-no-content").json(&row);
    let response = request.send().await.map_err(|e| failed(table, e))?;
    match response.status().as_u16() {
        // A row that was made by a request whose answer was lost serves as well.
        200..=299 | 409 => Ok(()),
        status => Err(ServiceError::of_storage(status, &table.name).into()),
    }
}

/// Reads a row; `None` if there is none.
pub(super) async fn read_row(
    http: &reqwest::Client,
    table: &Place,
    source_id: &str,
) -> Result<Option<BlobStatus>, KustoError> {
    let url = table.signed_below(&format!("(PartitionKey='{source_id}',RowKey='{source_id}')"));
    let response = as_json(http.get(url)).send().await.map_err(|e| failed(table, e))?;
    match response.status().as_u16() {
        200 => {
            let row: Value = response.json().await.map_err(|e| failed(table, e))?;
            Ok(Some(BlobStatus::of(&row)))
        }
        404 => Ok(None),
        status => Err(ServiceError::of_storage(status, &table.name).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_a_status_is_read() {
        for (status, failure, expected) in [
            ("Pending", "", BlobState::Pending),
            ("Queued", "", BlobState::Pending),
            ("InProgress", "", BlobState::Pending),
            ("Succeeded", "", BlobState::Succeeded),
            ("succeeded", "", BlobState::Succeeded),
            ("Skipped", "", BlobState::Skipped),
            ("PartiallySucceeded", "", BlobState::Partial),
            ("Failed", "Permanent", BlobState::Failed { may_pass: false }),
            ("Failed", "Exhausted", BlobState::Failed { may_pass: true }),
            ("Failed", "Transient", BlobState::Failed { may_pass: true }),
            ("Canceled", "", BlobState::Failed { may_pass: true }),
        ] {
            let blob = json!({"sourceId": "ID", "Status": status, "FailureStatus": failure});
            assert_eq!(BlobStatus::of(&blob).state, expected, "{status}");
            let answer = json!({"Details": [{"sourceId": "other"}, blob]});
            assert_eq!(BlobStatus::of_operation(&answer, "id").state, expected, "{status}");
        }
        let empty = BlobStatus::of_operation(&json!({"details": []}), "id");
        assert_eq!(empty.state, BlobState::Pending, "not listed yet");
    }
}
