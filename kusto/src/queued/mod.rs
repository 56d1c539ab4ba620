//! Queued ingestion: blobs are handed to the cluster's data management service, which ingests them in its own time.
//!
//! Two ways to hand a blob over, and the cluster's word which one: a message in a storage queue that the service lends, with
//! a row of a status table to follow it by; or, where the cluster prefers it, a REST request with an operation to ask for.
//!
//! Delivery is at least once. Sources: what Microsoft's client libraries send, and the service's public documentation.

mod containers;
mod message;
mod resources;
mod status;

pub use containers::{LentContainer, lent_containers};
pub use resources::Freshness;
pub use status::{BlobState, BlobStatus};

use crate::{
    Client, Engine as _, KustoError, RequestId,
    commands::{Command, Ingest, IngestSource},
    error::ServiceError,
};
use async_trait::async_trait;
use azure_core::{
    error::ErrorKind,
    http::{ClientOptions, RequestContent, RetryOptions, Transport, Url},
};
use azure_storage_queue::{QueueClient, QueueClientOptions, models::QueueMessage};
use resources::{Place, Resources};
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};
use tokio::{sync::Mutex, time::Instant};

/// Queues or tables that one hand-over tries. Source: Microsoft's client libraries.
const PLACES_MAX: usize = 3;
/// Largest message of a storage queue, after base64.
const MESSAGE_BYTES_MAX: usize = 64 << 10;
/// Time that the storage service gets for a request.
const STORAGE_TIMEOUT: Duration = Duration::from_secs(60);
/// The database of commands that belong to none.
const NO_DATABASE: &str = "NetDefaultDB";

/// Follows one blob that was handed over. Its text may be stored: it holds no secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ticket(String);

impl Ticket {
    /// A ticket that was stored.
    pub fn from_stored(text: String) -> Self {
        Self(text)
    }

    /// The ticket as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn of_row(place: &str, source_id: &str) -> Self {
        Self(format!("row {source_id} {place}"))
    }

    fn of_operation(operation: &str, source_id: &str) -> Self {
        Self(format!("operation {source_id} {operation}"))
    }
}

/// Where blobs are handed over: a [`Queue`], or what a test puts in its place.
#[async_trait]
pub trait Queued: Send + Sync {
    /// Finds out whether blobs may be handed over, and hands over none.
    async fn look(&self) -> Result<(), KustoError>;

    /// Hands over one blob under an id that is used for nothing else. An error whose outcome is unknown may mean that it
    /// was handed over.
    async fn hand_over(
        &self,
        database: &str,
        source_id: &str,
        raw_bytes: u64,
        ingest: &Ingest,
    ) -> Result<Ticket, KustoError>;

    /// How it stands.
    async fn status(&self, database: &str, table: &str, ticket: &Ticket) -> Result<BlobStatus, KustoError>;

    /// Looks for a blob whose hand-over was not answered; `None` if nothing is known of it.
    async fn find(&self, source_id: &str) -> Result<Option<(Ticket, BlobStatus)>, KustoError>;
}

/// The data management service of one cluster.
pub struct Queue {
    client: Client,
    http: reqwest::Client,
    resources: Mutex<Option<Resources>>,
}

impl Queue {
    /// The service beside the cluster of `client`.
    pub fn new(client: &Client) -> Self {
        Self { client: client.data_management(), http: client.http(), resources: Mutex::new(None) }
    }

    /// What the service lends now. Asked for again each hour; what it lent before serves for a while if it is silent.
    async fn resources(&self) -> Result<Resources, KustoError> {
        let mut kept = self.resources.lock().await;
        let now = Instant::now();
        if let Some(resources) = kept.as_ref().filter(|r| r.is_fresh(now)) {
            return Ok(resources.clone());
        }
        match self.ask_for_resources(now).await {
            Ok(fresh) => Ok(kept.insert(fresh).clone()),
            Err(error) => match kept.as_mut().filter(|r| r.may_serve(now)) {
                Some(resources) => {
                    resources.ask_again_soon(now);
                    tracing::warn!("what the cluster lends for queued ingestion could not be asked for again: {error}");
                    Ok(resources.clone())
                }
                None => Err(error),
            },
        }
    }

    async fn ask_for_resources(&self, now: Instant) -> Result<Resources, KustoError> {
        if self.prefers_rest().await? {
            return Ok(Resources::rest(now));
        }
        let ask = |text: &str| {
            let (command, id) = (Command::plain(text), RequestId::generate("resources"));
            async move { self.client.command(NO_DATABASE, &command, &id).await }
        };
        let lent = ask(".get ingestion resources").await?.table;
        let token = ask(".get kusto identity token").await?.table;
        let token =
            token.rows.first().map(|row| token.text(row, "AuthorizationContext").to_owned()).unwrap_or_default();
        let of = |kind: &str| {
            let rows = lent.rows.iter().filter(|row| lent.text(row, "ResourceTypeName") == kind);
            rows.filter_map(|row| Place::parse(lent.text(row, "StorageRoot"))).collect::<Vec<_>>()
        };
        let (queues, tables) = (of("SecuredReadyForAggregationQueue"), of("IngestionsStatusTable"));
        if queues.is_empty() || tables.is_empty() || token.is_empty() {
            let why = "it lends no queue, no status table or no identity token".to_owned();
            return Err(KustoError::Lost { endpoint: self.client.endpoint().to_owned(), why });
        }
        Ok(Resources::queues(queues, tables, token, now))
    }

    /// The cluster has the REST form and prefers it.
    async fn prefers_rest(&self) -> Result<bool, KustoError> {
        match self.client.get(self.client.url_of(&["v1", "rest", "ingestion", "configuration"])?).await {
            Ok(configuration) => Ok(resources::prefers_rest(&configuration)),
            // An older cluster has no such address.
            Err(KustoError::Service(e)) if matches!(e.status, 400 | 404 | 405 | 501) => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn put_message(&self, place: &Place, text: &str) -> Result<(), KustoError> {
        let lost = |why: String| KustoError::Lost { endpoint: place.name.clone(), why };
        let url = Url::parse(&place.signed_url()).map_err(|_| lost("no address of a queue".to_owned()))?;
        let client_options = ClientOptions {
            transport: Some(Transport::new(Arc::new(self.http.clone()))),
            // Whether a message may be sent again is not for a client to say.
            retry: RetryOptions::none(),
            ..Default::default()
        };
        let options = QueueClientOptions { client_options, ..Default::default() };
        let queue = QueueClient::new(url, None, Some(options)).map_err(|e| lost(e.kind().to_string()))?;
        let message: RequestContent<_, _> = QueueMessage { message_text: Some(text.to_owned()) }
            .try_into()
            .map_err(|e: azure_core::Error| lost(e.kind().to_string()))?;
        match queue.send_message(message, None).await {
            Ok(_) => Ok(()),
            Err(error) => Err(match error.kind() {
                ErrorKind::HttpResponse { status, .. } => {
                    ServiceError::of_storage(u16::from(*status), &place.name).into()
                }
                ErrorKind::Connection => {
                    KustoError::Unreachable { endpoint: place.name.clone(), why: "no connection".to_owned() }
                }
                other => lost(other.to_string()),
            }),
        }
    }

    /// Nothing was handed over, and a later try may succeed.
    fn not_now(&self, why: &str) -> KustoError {
        KustoError::Unreachable { endpoint: self.client.endpoint().to_owned(), why: why.to_owned() }
    }

    /// A signature that is refused, or a place that is gone, may have been lent anew.
    async fn lent_anew(&self, error: KustoError) -> KustoError {
        match error {
            KustoError::Service(e) if matches!(e.status, 403 | 404) => {
                *self.resources.lock().await = None;
                self.not_now(&e.to_string())
            }
            other => other,
        }
    }

    async fn by_message(
        &self,
        resources: &Resources,
        token: &str,
        database: &str,
        source_id: &str,
        raw_bytes: u64,
        ingest: &Ingest,
    ) -> Result<Ticket, KustoError> {
        let mut row = Err(resources.none_left(self.client.endpoint()));
        for table in resources.tables(PLACES_MAX) {
            let inserted = status::insert_row(&self.http, &table, database, source_id, ingest).await;
            row = inserted.map(|()| table.clone()).map_err(without_effect);
            match &row {
                Ok(_) => break,
                Err(error) => resources.note_failure(&table, error),
            }
        }
        let table = match row {
            Ok(table) => table,
            Err(error) => return Err(self.lent_anew(error).await),
        };
        let text = message::of(database, source_id, raw_bytes, ingest, token, &table)?;
        if text.len() > MESSAGE_BYTES_MAX {
            let message = format!(
                "the message of a blob has {} bytes, and a queue takes {MESSAGE_BYTES_MAX}: name a mapping of the table in \
                 sink.mapping.reference instead of listing its columns",
                text.len()
            );
            return Err(ServiceError::refused(message).into());
        }
        let mut sent = Err(resources.none_left(self.client.endpoint()));
        for queue in resources.queues_to_try(PLACES_MAX) {
            sent = self.put_message(&queue, &text).await;
            match &sent {
                Ok(()) => return Ok(Ticket::of_row(&table.name, source_id)),
                Err(error) => {
                    resources.note_failure(&queue, error);
                    // It may be in this queue: a second one would double it.
                    if error.outcome_is_unknown() {
                        break;
                    }
                }
            }
        }
        match sent {
            Ok(()) => Ok(Ticket::of_row(&table.name, source_id)),
            Err(error) => Err(self.lent_anew(error).await),
        }
    }

    async fn by_rest(
        &self,
        database: &str,
        source_id: &str,
        raw_bytes: u64,
        ingest: &Ingest,
    ) -> Result<Ticket, KustoError> {
        let url = blob_url(ingest)?;
        let body = json!({
            "timestamp": jiff::Timestamp::now().to_string(),
            "blobs": [{"url": url, "sourceId": source_id, "rawSize": raw_bytes}],
            "properties": message::rest_properties(ingest),
        });
        let url = self.client.url_of(&["v1", "rest", "ingestion", "queued", database, &ingest.table])?;
        let answer = self.client.post_json(url, &body, &RequestId::generate("queue")).await.map_err(|e| match e {
            // So it answers while it is being updated: nothing was taken.
            KustoError::Service(e) if e.status == 404 => self.not_now(&e.to_string()),
            other => other,
        })?;
        match answer["ingestionOperationId"].as_str().filter(|id| !id.is_empty()) {
            Some(operation) => Ok(Ticket::of_operation(operation, source_id)),
            None => Err(KustoError::Lost {
                endpoint: self.client.endpoint().to_owned(),
                why: "it names no operation".to_owned(),
            }),
        }
    }
}

#[async_trait]
impl Queued for Queue {
    async fn look(&self) -> Result<(), KustoError> {
        self.resources().await.map(drop)
    }

    async fn hand_over(
        &self,
        database: &str,
        source_id: &str,
        raw_bytes: u64,
        ingest: &Ingest,
    ) -> Result<Ticket, KustoError> {
        let resources = self.resources().await.map_err(without_effect)?;
        match resources.identity_token() {
            Some(token) => self.by_message(&resources, token, database, source_id, raw_bytes, ingest).await,
            None => self.by_rest(database, source_id, raw_bytes, ingest).await,
        }
    }

    async fn status(&self, database: &str, table: &str, ticket: &Ticket) -> Result<BlobStatus, KustoError> {
        let mut words = ticket.0.splitn(3, ' ');
        match (words.next(), words.next(), words.next()) {
            (Some("row"), Some(source_id), Some(place)) => {
                let resources = self.resources().await?;
                // A table that is not lent at the moment may be again.
                let Some(table) = resources.table_named(place) else { return Ok(BlobStatus::pending()) };
                let row = status::read_row(&self.http, &table, source_id).await?;
                Ok(row.unwrap_or_else(BlobStatus::pending))
            }
            (Some("operation"), Some(source_id), Some(operation)) => {
                let path = ["v1", "rest", "ingestion", "queued", database, table, operation];
                let mut url = self.client.url_of(&path)?;
                url.query_pairs_mut().append_pair("details", "true");
                match self.client.get(url).await {
                    Ok(answer) => Ok(BlobStatus::of_operation(&answer, source_id)),
                    // So it answers while it is being updated.
                    Err(KustoError::Service(e)) if e.status == 404 => Ok(BlobStatus::pending()),
                    Err(error) => Err(error),
                }
            }
            _ => Ok(BlobStatus::pending()),
        }
    }

    async fn find(&self, source_id: &str) -> Result<Option<(Ticket, BlobStatus)>, KustoError> {
        let mut found = None;
        for table in self.resources().await?.all_tables() {
            if let Some(status) = status::read_row(&self.http, table, source_id).await? {
                let is_verdict = status.state != BlobState::Pending;
                found = Some((Ticket::of_row(&table.name, source_id), status));
                // A row may have been made in one table, and told to the service in another.
                if is_verdict {
                    break;
                }
            }
        }
        Ok(found)
    }
}

/// An error before anything was handed over: whatever it was, it had no effect.
fn without_effect(error: KustoError) -> KustoError {
    match error {
        KustoError::Lost { endpoint, why } => KustoError::Unreachable { endpoint, why },
        error if error.outcome_is_unknown() => {
            KustoError::Unreachable { endpoint: "data management".to_owned(), why: error.to_string() }
        }
        other => other,
    }
}

fn blob_url(ingest: &Ingest) -> Result<&str, KustoError> {
    match &ingest.source {
        IngestSource::Url(url) => Ok(url),
        IngestSource::Path(path) => {
            Err(ServiceError::refused(format!("{path} is no address: queued ingestion needs blobs")).into())
        }
    }
}

/// The value of a field, whatever the case of its name.
fn field<'a>(object: &'a Value, name: &str) -> Option<&'a Value> {
    object.as_object()?.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

fn text_of<'a>(object: &'a Value, name: &str) -> &'a str {
    field(object, name).and_then(Value::as_str).unwrap_or_default()
}
