//! The storage account that clients of queued ingestion write to: a container, queues, a table.

use crate::error::AdxError;
use azure_core::http::{ClientOptions, RequestContent, Transport, Url, headers::HeaderName};
use azure_storage_queue::{
    QueueClient, QueueClientOptions,
    models::{QueueClientReceiveMessagesOptions, QueueMessage, ReceivedMessage},
};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use ring::hmac;
use serde_json::{Value, json};
use std::{str::FromStr, sync::Arc};

/// Version of the signature's form.
const SAS_VERSION: &str = "2023-11-03";
/// Lifetime of a signature, in seconds: clients ask for new ones each hour.
const SAS_SECONDS: i64 = 24 * 3600;
/// Messages that one request takes.
const MESSAGES_MAX: i32 = 32;

const CONTAINER: &str = "ingest-temp";
/// What clients may do in the container, unless something else is asked for.
const LENT_RIGHTS: &str = "rwac";
/// All that may be asked for, in the order that signatures have it.
const ALL_RIGHTS: &str = "rwdlac";
const READY: &str = "ready-for-aggregation";
const FAILED: &str = "failed-ingestions";
const SUCCEEDED: &str = "successful-ingestions";
const STATUS: &str = "ingestionsstatus";

/// A storage account, from a connection string as Azure writes it.
#[derive(Clone)]
pub struct Account {
    name: String,
    key: hmac::Key,
    blob: Url,
    queue: Url,
    table: Url,
    lent_rights: String,
}

impl std::fmt::Debug for Account {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Account({})", self.name)
    }
}

impl FromStr for Account {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let field = |name: &str| {
            let mut fields = text.split(';').filter_map(|part| part.split_once('='));
            fields.find(|(key, _)| key.trim().eq_ignore_ascii_case(name)).map(|(_, value)| value.trim().to_owned())
        };
        let needed = |name: &str| {
            field(name).ok_or_else(|| {
                format!(
                    "the connection string has no {name}; it needs AccountName, AccountKey, BlobEndpoint, QueueEndpoint \
                     and TableEndpoint"
                )
            })
        };
        let endpoint = |name: &str| {
            let url = Url::parse(&needed(name)?).map_err(|e| format!("{name}: {e}"))?;
            if url.cannot_be_a_base() { Err(format!("{name} is no address")) } else { Ok(url) }
        };
        let key = BASE64.decode(needed("AccountKey")?).map_err(|_| "AccountKey is no account's key".to_owned())?;
        Ok(Self {
            name: needed("AccountName")?,
            key: hmac::Key::new(hmac::HMAC_SHA256, &key),
            blob: endpoint("BlobEndpoint")?,
            queue: endpoint("QueueEndpoint")?,
            table: endpoint("TableEndpoint")?,
            lent_rights: LENT_RIGHTS.to_owned(),
        })
    }
}

impl Account {
    /// The same account, which lends its container with these rights: letters of a shared access signature.
    pub fn lending(self, rights: &str) -> Result<Self, String> {
        if rights.is_empty() || rights.chars().any(|right| !ALL_RIGHTS.contains(right)) {
            return Err(format!("{rights:?} is not made of letters of {ALL_RIGHTS}"));
        }
        let lent_rights = ALL_RIGHTS.chars().filter(|right| rights.contains(*right)).collect();
        Ok(Self { lent_rights, ..self })
    }

    /// The address of a part of a service (`b`, `q` or `t`), signed for all that the service holds.
    fn signed(&self, service: &str, part: &str, permissions: &str) -> Url {
        let mut url = match service {
            "b" => self.blob.clone(),
            "q" => self.queue.clone(),
            _ => self.table.clone(),
        };
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().push(part);
        }
        let now = jiff::Timestamp::now().as_second();
        let expires = jiff::Timestamp::from_second(now + SAS_SECONDS).unwrap_or(jiff::Timestamp::MAX).to_string();
        // Azure Storage, "Create an account SAS", versions from 2020-12-06: the fields in this order.
        let fields = [&self.name, permissions, service, "sco", "", &expires, "", "https,http", SAS_VERSION, "", ""];
        let signature = BASE64.encode(hmac::sign(&self.key, fields.join("\n").as_bytes()));
        url.query_pairs_mut().extend_pairs([
            ("sv", SAS_VERSION),
            ("ss", service),
            ("srt", "sco"),
            ("sp", permissions),
            ("se", &expires),
            ("spr", "https,http"),
            ("sig", &signature),
        ]);
        url
    }

    /// Types and signed addresses of what clients may use, as `.get ingestion resources` lists them.
    pub fn resources(&self) -> Vec<(&'static str, String)> {
        vec![
            ("SecuredReadyForAggregationQueue", self.signed("q", READY, "a").to_string()),
            ("FailedIngestionsQueue", self.signed("q", FAILED, "rap").to_string()),
            ("SuccessfulIngestionsQueue", self.signed("q", SUCCEEDED, "rap").to_string()),
            ("TempStorage", self.container().to_string()),
            ("IngestionsStatusTable", self.signed("t", STATUS, "rau").to_string()),
        ]
    }

    /// The address of the container for blobs, signed as clients get it.
    pub fn container(&self) -> Url {
        self.signed("b", CONTAINER, &self.lent_rights)
    }
}

/// The account, opened: what the service itself does with it.
pub struct Storage {
    pub account: Account,
    http: reqwest::Client,
}

fn failed(what: &str, why: impl std::fmt::Display) -> AdxError {
    AdxError::internal(format!("storage account: {what}: {why}"))
}

impl Storage {
    /// Makes what is not there yet.
    pub async fn open(account: Account, http: reqwest::Client) -> Result<Self, AdxError> {
        let storage = Self { account, http };
        let account = &storage.account;
        let mut url = account.signed("b", CONTAINER, ALL_RIGHTS);
        url.query_pairs_mut().append_pair("restype", "container");
        storage.made("container", storage.http.put(url).header("content-length", "0")).await?;
        for name in [READY, FAILED, SUCCEEDED] {
            let created = storage.queue(name)?.create(None).await;
            created.map(drop).or_else(|e| match e.http_status().map(u16::from) {
                Some(204 | 409) => Ok(()),
                _ => Err(failed("queue", e.kind())),
            })?;
        }
        let url = account.signed("t", "Tables", "rwacu");
        storage.made("table", as_json(storage.http.post(url)).json(&json!({"TableName": STATUS}))).await?;
        Ok(storage)
    }

    async fn made(&self, what: &str, request: reqwest::RequestBuilder) -> Result<(), AdxError> {
        let response = request.send().await.map_err(|e| failed(what, e.without_url()))?;
        match response.status().as_u16() {
            200..=299 | 409 => Ok(()),
            status => Err(failed(what, format!("HTTP {status}"))),
        }
    }

    fn queue(&self, name: &str) -> Result<QueueClient, AdxError> {
        let url = self.account.signed("q", name, "rwdlacup");
        let client_options =
            ClientOptions { transport: Some(Transport::new(Arc::new(self.http.clone()))), ..Default::default() };
        let options = QueueClientOptions { client_options, ..Default::default() };
        QueueClient::new(url, None, Some(options)).map_err(|e| failed("queue", e.kind()))
    }

    /// Takes messages from the queue; others see them again after `seconds`.
    pub async fn receive(&self, seconds: i32) -> Result<Vec<ReceivedMessage>, AdxError> {
        let options = QueueClientReceiveMessagesOptions {
            number_of_messages: Some(MESSAGES_MAX),
            visibility_timeout: Some(seconds),
            ..Default::default()
        };
        let response =
            self.queue(READY)?.receive_messages(Some(options)).await.map_err(|e| failed("queue", e.kind()))?;
        Ok(response.into_model().map_err(|e| failed("queue", e.kind()))?.items.unwrap_or_default())
    }

    /// Keeps a message from others for `seconds` more. Returns its new receipt.
    pub async fn hold(&self, id: &str, receipt: &str, seconds: i32) -> Result<String, AdxError> {
        let updated = self.queue(READY)?.update_message(id, receipt, seconds, None).await;
        let updated = updated.map_err(|e| failed("queue", e.kind()))?;
        let renewed = updated.headers().get_optional_string(&HeaderName::from_static("x-ms-popreceipt"));
        renewed.ok_or_else(|| failed("queue", "no receipt"))
    }

    /// Removes a message for good.
    pub async fn delete(&self, id: &str, receipt: &str) -> Result<(), AdxError> {
        let deleted = self.queue(READY)?.delete_message(id, receipt, None).await;
        deleted.map(drop).map_err(|e| failed("queue", e.kind()))
    }

    /// Tells of an ingestion in the queue of successes or of failures.
    pub async fn tell(&self, is_success: bool, report: &Value) -> Result<(), AdxError> {
        let text = BASE64.encode(report.to_string());
        let message: RequestContent<_, _> = QueueMessage { message_text: Some(text) }
            .try_into()
            .map_err(|e: azure_core::Error| failed("queue", e.kind()))?;
        let queue = self.queue(if is_success { SUCCEEDED } else { FAILED })?;
        queue.send_message(message, None).await.map(drop).map_err(|e| failed("queue", e.kind()))
    }

    /// Writes an ingestion's status into the row that its client made.
    pub async fn mark(&self, table: &str, keys: (&str, &str), status: &Value) -> Result<(), AdxError> {
        let (place, sas) = table.split_once('?').unwrap_or((table, ""));
        let quoted = |key: &str| key.replace('\'', "''");
        let (partition, row) = (quoted(keys.0), quoted(keys.1));
        let url = format!("{place}(PartitionKey='{partition}',RowKey='{row}')?{sas}");
        let request = as_json(self.http.patch(url)).json(status);
        let response = request.send().await.map_err(|e| failed("status table", e.without_url()))?;
        match response.status().as_u16() {
            200..=299 => Ok(()),
            status => Err(failed("status table", format!("HTTP {status}"))),
        }
    }

    /// Deletes a blob by its signed address; who may not, leaves it.
    pub async fn remove(&self, url: &str) {
        if let Err(error) = self.http.delete(url).send().await {
            tracing::warn!("a blob is left behind: {}", error.without_url());
        }
    }
}

/// A request of the table service. Source: Azure Storage, table service REST API.
fn as_json(request: reqwest::RequestBuilder) -> reqwest::RequestBuilder {
    request
        .header("x-ms-version", "2019-02-02")
        .header("dataserviceversion", "3.0;")
        .header("accept", "application/json;odata=nometadata")
}
