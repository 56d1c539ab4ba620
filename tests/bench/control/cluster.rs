//! A cluster that takes every ingest command and has done it at once. It keeps nothing.

use axum::{Json, Router, http::StatusCode, routing::post};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

static OPERATIONS: AtomicU64 = AtomicU64::new(0);

/// Starts it; returns its address.
pub(crate) async fn start() -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = Router::new().route("/v1/rest/mgmt", post(command));
    tokio::spawn(async move { axum::serve(listener, router).await });
    format!("http://{address}")
}

async fn command(Json(request): Json<Value>) -> (StatusCode, Json<Value>) {
    let text = request["csl"].as_str().unwrap_or_default();
    let (columns, rows) = if text.starts_with(".ingest async") {
        let id = format!("00000000-0000-0000-0000-{:012}", OPERATIONS.fetch_add(1, Relaxed));
        (vec!["OperationId"], vec![json!([id])])
    } else if let Some(ids) = text.strip_prefix(".show operations (") {
        let ids = ids.split(')').next().unwrap_or_default().split(',');
        let row = |id: &str| json!([id.trim(), "Completed", "", false, "", ""]);
        (vec!["OperationId", "State", "Status", "ShouldRetry", "RootActivityId", "StartedOn"], ids.map(row).collect())
    } else if text.starts_with(".show capacity") {
        (vec!["Total"], vec![json!([64])])
    } else if text.contains("cslschema") {
        (vec!["Schema"], vec![json!(["a:long,b:string"])])
    } else {
        (vec!["Nothing"], Vec::new())
    };
    let column = |name: &str| json!({"ColumnName": name, "DataType": "String", "ColumnType": "string"});
    let columns: Vec<_> = columns.into_iter().map(column).collect();
    (StatusCode::OK, Json(json!({"Tables": [{"TableName": "Table_0", "Columns": columns, "Rows": rows}]})))
}
