//! Queued ingestion, the part of the service that is called data management: it lends storage, takes messages, ingests
//! each blob in its own time and tells how it went. It takes work in two ways: from a queue, as every client library of
//! Microsoft sends it, and by REST. Each blob is ingested by itself and at once: there is no batching.
//!
//! Delivery is at least once, as in the service: a blob that was being ingested when the program died is ingested again.

mod account;
mod rest;

pub use account::Account;
pub(crate) use account::Storage;
pub(crate) use rest::routes;

use crate::{
    Adx,
    catalogue::{Extent, Operation, QueuedRow},
    commands::Request,
    error::AdxError,
    frame::Frame,
    ingest::{IngestError, Properties},
    now_ticks,
    types::format_datetime,
};
use azure_storage_queue::models::ReceivedMessage;
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::{sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;

/// What clients must put into their messages.
const IDENTITY_TOKEN: &str = "local-adx";
/// A message that is being worked on is seen by nobody else for this long, in seconds.
const HELD_SECONDS: i32 = 30;
const HOLD_AGAIN: Duration = Duration::from_secs(10);
/// Wait between looks at an empty queue.
const QUEUE_LOOK: Duration = Duration::from_millis(500);
/// Wait before a failure that may pass is tried again.
const RETRY_WAIT: Duration = Duration::from_secs(1);
/// Tries of one blob.
const TRIES_MAX: i64 = 10;

/// A blob that was handed over.
struct Handed {
    db: String,
    table: String,
    source_id: String,
    url: String,
    properties: Vec<(String, String)>,
}

/// How an ingestion ended.
struct Verdict {
    operation: String,
    root: String,
    /// The extent; none if the blob was passed over as known.
    result: Result<Option<Extent>, IngestError>,
}

impl Verdict {
    fn status(&self) -> &'static str {
        match &self.result {
            Ok(Some(_)) => "Succeeded",
            Ok(None) => "Skipped",
            Err(_) => "Failed",
        }
    }

    fn failure_status(&self) -> &'static str {
        match &self.result {
            Err(error) if error.permanent => "Permanent",
            Err(_) => "Exhausted",
            Ok(_) => "Unknown",
        }
    }
}

/// A message in the queue. Source: the messages that Microsoft's client libraries send.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Message {
    id: String,
    blob_path: String,
    database_name: String,
    table_name: String,
    #[serde(default = "yes")]
    retain_blob_on_success: bool,
    #[serde(default)]
    report_level: Value,
    #[serde(default)]
    report_method: Value,
    ingestion_status_in_table: Option<StatusRow>,
    #[serde(default)]
    additional_properties: Map<String, Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct StatusRow {
    table_connection_string: String,
    partition_key: String,
    row_key: String,
}

fn yes() -> bool {
    true
}

/// Numbers come as numbers, as text, and by name.
fn choice(value: &Value, names: &[&str]) -> usize {
    let by_name = |text: &str| names.iter().position(|name| name.eq_ignore_ascii_case(text));
    match value {
        Value::String(text) => by_name(text).or_else(|| text.parse().ok()).unwrap_or(0),
        other => other.as_u64().map_or(0, |n| n as usize),
    }
}

/// Properties as names and text, whatever their JSON type.
fn as_pairs(properties: &Map<String, Value>) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    properties.iter().filter(|(_, value)| !value.is_null()).map(|(name, value)| (name.clone(), text(value))).collect()
}

impl Adx {
    /// `.get ingestion resources`, `.get kusto identity token`.
    pub(crate) fn get(&self, what: &str) -> Result<Frame, AdxError> {
        match what {
            "ingestion resources" => {
                let storage = self.storage.as_ref().ok_or_else(|| {
                    AdxError::not_supported("local-adx lends no storage: start it with --storage CONNECTION_STRING")
                })?;
                let (types, roots): (Vec<&str>, Vec<String>) = storage.account.resources().into_iter().unzip();
                let types = types.into_iter().map(str::to_owned);
                Ok(Frame::of_text(vec![("ResourceTypeName", types.collect()), ("StorageRoot", roots)]))
            }
            "kusto identity token" => {
                Ok(Frame::of_text(vec![("AuthorizationContext", vec![IDENTITY_TOKEN.to_owned()])]))
            }
            other => Err(AdxError::not_supported(format!("command '.get {other}' is not supported by local-adx"))),
        }
    }

    /// Works on what is handed over until `shutdown`.
    pub(crate) async fn work_on_queues(self: Arc<Self>, shutdown: CancellationToken) {
        let by_rest = self.clone().work_on_rows(shutdown.clone());
        let by_queue = self.clone().work_on_messages(shutdown);
        tokio::join!(by_rest, by_queue);
    }

    async fn work_on_messages(self: Arc<Self>, shutdown: CancellationToken) {
        let Some(storage) = self.storage.clone() else { return };
        while !shutdown.is_cancelled() {
            let received = storage.receive(HELD_SECONDS).await.unwrap_or_else(|error| {
                tracing::warn!("the queue cannot be read: {}", error.message);
                Vec::new()
            });
            let is_idle = received.is_empty();
            let works = received.into_iter().map(|message| self.clone().work_on_message(storage.clone(), message));
            futures::future::join_all(works).await;
            if is_idle {
                tokio::select! {
                    () = shutdown.cancelled() => {}
                    () = tokio::time::sleep(QUEUE_LOOK) => {}
                }
            }
        }
    }

    /// Works on one message, and keeps it from others meanwhile.
    async fn work_on_message(self: Arc<Self>, storage: Arc<Storage>, received: ReceivedMessage) {
        let (Some(id), Some(mut receipt)) = (received.message_id, received.pop_receipt) else { return };
        let text = BASE64.decode(received.message_text.unwrap_or_default()).unwrap_or_default();
        let message: Message = match serde_json::from_slice(&text) {
            Ok(message) => message,
            Err(error) => {
                tracing::warn!("a message of the queue makes no sense and is dropped: {error}");
                drop(storage.delete(&id, &receipt).await);
                return;
            }
        };
        let mut properties = message.additional_properties.clone();
        let token = properties.remove("authorizationContext");
        let handed = Handed {
            db: message.database_name.clone(),
            table: message.table_name.clone(),
            source_id: message.id.clone(),
            url: message.blob_path.clone(),
            properties: as_pairs(&properties),
        };
        let is_known = token.as_ref().and_then(Value::as_str) == Some(IDENTITY_TOKEN);
        let work = self.ingest_handed(&handed, is_known);
        tokio::pin!(work);
        let verdict = loop {
            tokio::select! {
                verdict = &mut work => break verdict,
                () = tokio::time::sleep(HOLD_AGAIN) => match storage.hold(&id, &receipt, HELD_SECONDS).await {
                    Ok(renewed) => receipt = renewed,
                    Err(error) => tracing::warn!("a message could not be held: {}", error.message),
                },
            }
        };
        let may_pass = matches!(&verdict.result, Err(error) if !error.permanent);
        if may_pass && received.dequeue_count.unwrap_or(0) < TRIES_MAX {
            drop(storage.hold(&id, &receipt, RETRY_WAIT.as_secs() as i32).await);
            return;
        }
        if let Err(error) = report(&storage, &message, &verdict).await {
            // It is seen again, and reported again.
            tracing::warn!("an ingestion could not be reported: {}", error.message);
            return;
        }
        if verdict.result.is_ok() && !message.retain_blob_on_success {
            storage.remove(&message.blob_path).await;
        }
        drop(storage.delete(&id, &receipt).await);
    }

    /// Ingests a blob that was handed over.
    async fn ingest_handed(self: &Arc<Self>, handed: &Handed, is_known: bool) -> Verdict {
        let (operation, root) = (uuid::Uuid::new_v4().to_string(), uuid::Uuid::new_v4().to_string());
        let result = match is_known {
            true => self.ingest_one(handed, &operation, &root).await,
            false => Err(IngestError {
                code: "Forbidden",
                details: "the message's authorizationContext is not the identity token".to_owned(),
                permanent: true,
            }),
        };
        let verdict = Verdict { operation, root, result };
        tracing::info!(source = handed.source_id, table = handed.table, status = verdict.status(), "queued ingestion");
        verdict
    }

    async fn ingest_one(
        self: &Arc<Self>,
        handed: &Handed,
        operation: &str,
        root: &str,
    ) -> Result<Option<Extent>, IngestError> {
        let refused = |e: AdxError| IngestError { code: "BadRequest", details: e.message, permanent: e.permanent };
        let table = self.existing_table(&handed.db, &handed.table).await.map_err(refused)?;
        let mut properties = Properties::of(handed.properties.iter().cloned()).map_err(refused)?;
        self.resolve_mapping(&handed.db, &table, &mut properties).await.map_err(refused)?;
        let request = Request {
            db: handed.db.clone(),
            request_id: format!("DM.IngestionExecutor;{}", handed.source_id),
            root: root.to_owned(),
        };
        let operation = Operation::ingestion(operation.to_owned(), root, &handed.db, now_ticks());
        self.catalogue.put_operation(&operation).await?;
        let faults = self.faults.strike_queued();
        let task = self.clone().run_ingestion(request, table, handed.url.clone(), properties, operation, faults);
        task.await
    }

    async fn work_on_rows(self: Arc<Self>, shutdown: CancellationToken) {
        while !shutdown.is_cancelled() {
            let due = self.catalogue.queued_due(self.capacity).await.unwrap_or_else(|error| {
                tracing::warn!("queued ingestions cannot be read: {}", error.message);
                Vec::new()
            });
            let works = due.into_iter().map(|row| self.clone().work_on_row(row));
            let worked = futures::future::join_all(works).await;
            if worked.iter().any(|is_done| *is_done) {
                continue;
            }
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = self.handed.notified() => {}
                () = tokio::time::sleep(RETRY_WAIT) => {}
            }
        }
    }

    /// Works on one blob that came by REST. Returns whether it is done with.
    async fn work_on_row(self: Arc<Self>, mut row: QueuedRow) -> bool {
        let handed = Handed {
            db: row.db.clone(),
            table: row.table.clone(),
            source_id: row.source_id.clone(),
            url: row.url.clone(),
            properties: serde_json::from_str(&row.properties_json).unwrap_or_default(),
        };
        let verdict = self.ingest_handed(&handed, true).await;
        row.tries += 1;
        row.updated_ticks = now_ticks();
        match &verdict.result {
            // The REST form has no word for a blob that was passed over as known.
            Ok(_) => row.status = "Succeeded".to_owned(),
            Err(error) if !error.permanent && row.tries < TRIES_MAX => {}
            Err(error) => {
                row.status = "Failed".to_owned();
                row.error_code = error.code.to_owned();
                row.failure_status = verdict.failure_status().to_owned();
                row.details = error.details.clone();
            }
        }
        if let Err(error) = self.catalogue.put_queued(&row).await {
            tracing::warn!("a queued ingestion could not be noted: {}", error.message);
            return false;
        }
        row.status != "Queued"
    }
}

/// Tells how it went, where the message asks for it.
async fn report(storage: &Storage, message: &Message, verdict: &Verdict) -> Result<(), AdxError> {
    let level = choice(&message.report_level, &["FailuresOnly", "DoNotReport", "FailuresAndSuccesses"]);
    let method = choice(&message.report_method, &["Queue", "Table", "QueueAndTable"]);
    let is_success = verdict.result.is_ok();
    if level == 1 || (is_success && level != 2) {
        return Ok(());
    }
    let now = format_datetime(now_ticks());
    let mut told = json!({
        "OperationId": verdict.operation,
        "Database": message.database_name,
        "Table": message.table_name,
        "IngestionSourceId": message.id,
        "IngestionSourcePath": message.blob_path.split('?').next(),
        "RootActivityId": verdict.root,
    });
    if let Err(error) = &verdict.result {
        told["FailedOn"] = json!(now);
        told["Details"] = json!(error.details);
        told["ErrorCode"] = json!(error.code);
        told["FailureStatus"] = json!(verdict.failure_status());
        told["OriginatesFromUpdatePolicy"] = json!(false);
        told["ShouldRetry"] = json!(!error.permanent);
    } else {
        told["SucceededOn"] = json!(now);
    }
    if method != 1 {
        storage.tell(is_success, &told).await?;
    }
    if method != 0
        && let Some(row) = &message.ingestion_status_in_table
    {
        let error = verdict.result.as_ref().err();
        let status = json!({
            "Status": verdict.status(),
            "FailureStatus": verdict.failure_status(),
            "ErrorCode": error.map_or("Unknown", |e| e.code),
            "Details": error.map_or("", |e| e.details.as_str()),
            "OperationId": verdict.operation,
            "ActivityId": verdict.root,
            "OriginatesFromUpdatePolicy": false,
            "UpdatedOn": now,
        });
        storage.mark(&row.table_connection_string, (&row.partition_key, &row.row_key), &status).await?;
    }
    Ok(())
}
