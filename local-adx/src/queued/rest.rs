//! The REST form of queued ingestion.

use crate::{Adx, catalogue::QueuedRow, error::AdxError, now_ticks, types::format_datetime};
use axum::{
    Json, Router,
    extract::{Path, Query, State},
    response::{IntoResponse as _, Response},
    routing::{get, post},
};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::{collections::HashMap, sync::Arc};

/// Blobs in one request. Source: the service's own configuration.
const BLOBS_MAX: usize = 20;

/// What stands beside the ingestion properties in a request, and is not one.
const NOT_PROPERTIES: [&str; 4] = ["enableTracking", "skipBatching", "deleteAfterDownload", "ignoreSizeLimit"];

/// Routes of the REST form.
pub(crate) fn routes() -> Router<Arc<Adx>> {
    Router::new()
        .route("/v1/rest/ingestion/configuration", get(configuration))
        .route("/v1/rest/ingestion/queued/{db}/{table}", post(submit))
        .route("/v1/rest/ingestion/queued/{db}/{table}/{operation}", get(status))
}

async fn configuration(State(adx): State<Arc<Adx>>) -> Json<Value> {
    let containers: Vec<Value> =
        adx.storage.iter().map(|storage| json!({"path": storage.account.container().as_str()})).collect();
    // Where there are queues, clients are to use them.
    let preferred = if adx.storage.is_some() { "V1" } else { "REST" };
    Json(json!({
        "containerSettings": {
            "containers": containers, "lakeFolders": [], "refreshInterval": "01:00:00", "preferredUploadMethod": "Storage",
        },
        "ingestionSettings": {
            "maxBlobsPerBatch": BLOBS_MAX, "maxDataSize": 6_442_450_944_u64, "preferredIngestionMethod": preferred,
        },
    }))
}

#[derive(Deserialize)]
struct Submitted {
    blobs: Vec<Blob>,
    #[serde(default)]
    properties: Map<String, Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Blob {
    url: String,
    source_id: Option<String>,
}

async fn submit(
    State(adx): State<Arc<Adx>>,
    Path((db, table)): Path<(String, String)>,
    body: axum::body::Bytes,
) -> Response {
    match take(&adx, db, table, &body).await {
        Ok(operation) => Json(json!({"ingestionOperationId": operation})).into_response(),
        Err(error) => error.into_response(),
    }
}

async fn take(adx: &Adx, db: String, table: String, body: &[u8]) -> Result<String, AdxError> {
    let submitted: Submitted =
        serde_json::from_slice(body).map_err(|e| AdxError::bad_request(format!("request body: {e}")))?;
    if submitted.blobs.is_empty() || submitted.blobs.len() > BLOBS_MAX {
        return Err(AdxError::bad_request(format!("a request names 1 to {BLOBS_MAX} blobs")));
    }
    adx.roles.check_ingestion(&db)?;
    adx.existing_table(&db, &table).await?;
    let is_tracked = submitted.properties.get("enableTracking").and_then(Value::as_bool).unwrap_or(false);
    let mut properties = submitted.properties;
    properties.retain(|name, _| !NOT_PROPERTIES.contains(&name.as_str()));
    let pairs = super::as_pairs(&properties);
    let properties_json = json!(pairs).to_string();
    let (operation, now) = (uuid::Uuid::new_v4().to_string(), now_ticks());
    let rows = submitted.blobs.into_iter().map(|blob| QueuedRow {
        operation: operation.clone(),
        source_id: blob.source_id.unwrap_or_else(|| uuid::Uuid::new_v4().to_string()),
        db: db.clone(),
        table: table.clone(),
        url: blob.url,
        properties_json: properties_json.clone(),
        status: "Queued".to_owned(),
        error_code: String::new(),
        failure_status: String::new(),
        details: String::new(),
        tries: 0,
        started_ticks: now,
        updated_ticks: now,
    });
    adx.catalogue.take_queued(&rows.collect::<Vec<_>>()).await?;
    adx.handed.notify_one();
    Ok(if is_tracked { operation } else { String::new() })
}

async fn status(
    State(adx): State<Arc<Adx>>,
    Path((db, table, operation)): Path<(String, String, String)>,
    Query(query): Query<HashMap<String, String>>,
) -> Response {
    let rows = match adx.catalogue.queued(&db, &table, &operation).await {
        Ok(rows) if rows.is_empty() => {
            let missing = AdxError::bad_request(format!("there is no ingestion operation {operation}"));
            return AdxError { status: 404, ..missing }.into_response();
        }
        Ok(rows) => rows,
        Err(error) => return error.into_response(),
    };
    let count = |status: &str| rows.iter().filter(|row| row.status == status).count();
    let first = rows.iter().map(|row| row.started_ticks).min().unwrap_or_default();
    let last = rows.iter().map(|row| row.updated_ticks).max().unwrap_or_default();
    let mut answer = json!({
        "startTime": format_datetime(first),
        "lastUpdated": format_datetime(last),
        "status": {"succeeded": count("Succeeded"), "failed": count("Failed"), "inProgress": count("Queued"), "canceled": 0},
    });
    if query.get("details").is_some_and(|wanted| wanted.eq_ignore_ascii_case("true")) {
        let details = rows.iter().map(|row| {
            json!({
                "sourceId": row.source_id,
                "url": row.url.split('?').next(),
                "status": row.status,
                "startedAt": format_datetime(row.started_ticks),
                "lastUpdateTime": format_datetime(row.updated_ticks),
                "errorCode": row.error_code,
                "failureStatus": row.failure_status,
                "details": row.details,
            })
        });
        answer["details"] = details.collect();
    }
    Json(answer).into_response()
}
