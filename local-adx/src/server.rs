//! HTTP: the routes and reply shapes that the service's clients know.

use crate::{
    Adx,
    commands::{Outcome, Request},
    error::AdxError,
    frame::Frame,
    sign_in,
};
use axum::{
    Json, Router,
    body::{Body, Bytes},
    extract::{DefaultBodyLimit, State},
    http::HeaderMap,
    middleware,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use futures::stream;
use serde::Deserialize;
use serde_json::{Value, json};
use std::{future::ready, io, sync::Arc};

/// Largest request.
const REQUEST_BYTES_MAX: usize = 4 << 20;

pub(crate) fn router(adx: Arc<Adx>) -> Router {
    Router::new()
        .route("/v1/rest/mgmt", post(mgmt))
        .route("/v1/rest/query", post(query_v1))
        .route("/v2/rest/query", post(query_v2))
        .route("/v1/rest/auth/metadata", get(sign_in::metadata))
        .merge(crate::queued::routes())
        .route_layer(middleware::from_fn_with_state(adx.clone(), sign_in::check))
        .route("/healthz", get(|| async { "ok" }))
        .fallback(|| async { AdxError { status: 404, ..AdxError::bad_request("no such path") } })
        .layer(DefaultBodyLimit::max(REQUEST_BYTES_MAX))
        .with_state(adx)
}

#[derive(Deserialize)]
struct Ask {
    #[serde(default)]
    db: Option<String>,
    csl: String,
}

/// What came in: the request, and the text to run.
fn ask(adx: &Adx, headers: &HeaderMap, body: &Bytes) -> Result<(Request, String), AdxError> {
    let ask: Ask = serde_json::from_slice(body).map_err(|e| AdxError::bad_request(format!("request body: {e}")))?;
    let request_id = headers.get("x-ms-client-request-id").and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned();
    let db = ask.db.unwrap_or_default();
    let is_neutral = db.is_empty() || db == "NetDefaultDB";
    if !is_neutral && !adx.databases.is_empty() && !adx.databases.contains(&db) {
        return Err(AdxError::no_database(format!("BadRequest_DatabaseNotExist: Database '{db}' was not found.")));
    }
    Ok((Request { db, request_id, root: uuid::Uuid::new_v4().to_string() }, ask.csl))
}

async fn mgmt(State(adx): State<Arc<Adx>>, headers: HeaderMap, body: Bytes) -> Response {
    let (request, text) = match ask(&adx, &headers, &body) {
        Ok(asked) => asked,
        Err(e) => return e.into_response(),
    };
    match adx.command(&request, &text).await {
        Ok(Outcome::Result(frame)) => reply(&request, v1(&frame)),
        // An error as the first part of the body makes the server break the connection before it sends a byte.
        Ok(Outcome::Broken) => {
            let broken = stream::once(ready(Err::<Bytes, _>(io::Error::other("an answer that was to be lost"))));
            Response::new(Body::from_stream(broken))
        }
        Err(e) => e.into_response(),
    }
}

fn reply(request: &Request, body: Value) -> Response {
    let id = |text: &str| text.chars().filter(char::is_ascii_graphic).collect::<String>();
    let headers = [("x-ms-client-request-id", id(&request.request_id)), ("x-ms-activity-id", request.root.clone())];
    (headers, Json(body)).into_response()
}

async fn query_v1(State(adx): State<Arc<Adx>>, headers: HeaderMap, body: Bytes) -> Response {
    match run_query(&adx, &headers, &body).await {
        Ok((request, frame)) => reply(&request, v1(&frame)),
        Err(e) => e.into_response(),
    }
}

async fn query_v2(State(adx): State<Arc<Adx>>, headers: HeaderMap, body: Bytes) -> Response {
    match run_query(&adx, &headers, &body).await {
        Ok((request, frame)) => reply(&request, v2(&request, &frame)),
        Err(e) => e.into_response(),
    }
}

async fn run_query(adx: &Arc<Adx>, headers: &HeaderMap, body: &Bytes) -> Result<(Request, Frame), AdxError> {
    let (request, text) = ask(adx, headers, body)?;
    if text.trim_start().starts_with('.') {
        return Err(AdxError::bad_request("a management command belongs to /v1/rest/mgmt"));
    }
    let frame = adx.query(&request.db, &text).await?;
    Ok((request, frame))
}

fn v1(frame: &Frame) -> Value {
    let columns: Vec<Value> = frame
        .names
        .iter()
        .zip(&frame.cols)
        .map(|(name, col)| json!({"ColumnName": name, "DataType": col.kind.net_name(), "ColumnType": col.kind.name()}))
        .collect();
    json!({"Tables": [{"TableName": "Table_0", "Columns": columns, "Rows": frame.json_rows()}]})
}

fn v2(request: &Request, frame: &Frame) -> Value {
    let columns: Vec<Value> = frame
        .names
        .iter()
        .zip(&frame.cols)
        .map(|(name, col)| json!({"ColumnName": name, "ColumnType": col.kind.name()}))
        .collect();
    json!([
        {"FrameType": "DataSetHeader", "IsProgressive": false, "Version": "v2.0", "IsFragmented": false, "ErrorReportingPlacement": "InData"},
        {"FrameType": "DataTable", "TableId": 0, "TableKind": "QueryProperties", "TableName": "@ExtendedProperties",
         "Columns": [{"ColumnName": "TableId", "ColumnType": "int"}, {"ColumnName": "Key", "ColumnType": "string"},
                     {"ColumnName": "Value", "ColumnType": "dynamic"}],
         "Rows": []},
        {"FrameType": "DataTable", "TableId": 1, "TableKind": "PrimaryResult", "TableName": "PrimaryResult",
         "Columns": columns, "Rows": frame.json_rows()},
        {"FrameType": "DataTable", "TableId": 2, "TableKind": "QueryCompletionInformation", "TableName": "QueryCompletionInformation",
         "Columns": [{"ColumnName": "Timestamp", "ColumnType": "datetime"}, {"ColumnName": "ClientRequestId", "ColumnType": "string"},
                     {"ColumnName": "ActivityId", "ColumnType": "guid"}, {"ColumnName": "Level", "ColumnType": "int"},
                     {"ColumnName": "LevelName", "ColumnType": "string"}, {"ColumnName": "StatusCode", "ColumnType": "int"},
                     {"ColumnName": "StatusCodeName", "ColumnType": "string"}, {"ColumnName": "EventTypeName", "ColumnType": "string"},
                     {"ColumnName": "Payload", "ColumnType": "string"}],
         "Rows": [[crate::types::format_datetime(crate::now_ticks()), request.request_id, request.root, 4, "Info", 0, "S_OK (0)",
                   "QueryInfo", "{\"Count\":1,\"Text\":\"Query completed successfully\"}"]]},
        {"FrameType": "DataSetCompletion", "HasErrors": false, "Cancelled": false},
    ])
}
