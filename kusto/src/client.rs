//! The client: one request, one judged answer. It repeats nothing; its caller knows what may be repeated.

use crate::{
    auth::{self, TokenProvider},
    commands::Command,
    error::{KustoError, ServiceError},
    frames::{self, ReplyError, Table},
};
use async_trait::async_trait;
use serde_json::{Value, json};
use std::{fmt, sync::Arc, time::Duration};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// What the client waits beyond the time that it gives the service.
const ANSWER_MARGIN: Duration = Duration::from_secs(30);
/// Balancers drop quiet connections after four minutes.
const TCP_KEEPALIVE: Duration = Duration::from_secs(60);
/// Largest reply that is read.
const REPLY_BYTES_MAX: usize = 256 << 20;
const API_VERSION: &str = "2024-12-12";

/// The caller's own id of one request, by which it can be found in the cluster's journals.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RequestId(String);

impl RequestId {
    /// A new id: `{application}.{operation};{uuid}`, the form that Microsoft's clients use.
    pub fn generate(operation: &str) -> Self {
        Self(format!("ferry.{operation};{}", uuid::Uuid::new_v4()))
    }

    /// An id that was stored.
    pub fn from_stored(text: String) -> Self {
        Self(text)
    }

    /// The part that no other request has: a UUID.
    pub fn unique_part(&self) -> &str {
        self.0.rsplit(';').next().unwrap_or_default()
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How a client works.
#[derive(Debug, Clone)]
pub struct ClientOptions {
    /// Time that the service gets for a request.
    pub server_timeout: Duration,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self { server_timeout: Duration::from_secs(240) }
    }
}

/// A good answer.
#[derive(Debug, Clone)]
pub struct Reply {
    /// The result.
    pub table: Table,
    /// The service's id of the request; empty if it gave none.
    pub activity_id: String,
}

/// Where management commands go: a [`Client`], or what a test puts in its place.
#[async_trait]
pub trait Engine: Send + Sync {
    /// Runs a management command.
    async fn command(&self, database: &str, command: &Command, id: &RequestId) -> Result<Reply, KustoError>;

    /// Runs a query that changes nothing. An engine need not have any.
    async fn query(&self, _database: &str, _kql: &str, _id: &RequestId) -> Result<Reply, KustoError> {
        Err(ServiceError::refused("this engine answers no queries".to_owned()).into())
    }

    /// The cluster's address.
    fn endpoint(&self) -> &str;
}

#[async_trait]
impl Engine for Client {
    async fn command(&self, database: &str, command: &Command, id: &RequestId) -> Result<Reply, KustoError> {
        self.post("/v1/rest/mgmt", database, command.text(), id, frames::parse_v1).await
    }

    async fn query(&self, database: &str, kql: &str, id: &RequestId) -> Result<Reply, KustoError> {
        Self::query(self, database, kql, id).await
    }

    fn endpoint(&self) -> &str {
        &self.endpoint
    }
}

/// A client of one cluster.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    /// Without a slash at its end.
    endpoint: String,
    tokens: Arc<dyn TokenProvider>,
    options: ClientOptions,
}

impl Client {
    /// A client of the cluster at `endpoint`.
    ///
    /// A token is sent only to trusted hosts, and over plain HTTP only to this machine. Redirects are refused.
    pub fn new(endpoint: &str, tokens: Arc<dyn TokenProvider>, options: ClientOptions) -> Result<Self, KustoError> {
        let refused = |why: &str| KustoError::Endpoint { endpoint: endpoint.to_owned(), why: why.to_owned() };
        let url = reqwest::Url::parse(endpoint)
            .map_err(|_| refused("is not an address such as https://name.region.kusto.windows.net"))?;
        let host = url.host_str().ok_or_else(|| refused("names no host"))?;
        match url.scheme() {
            "https" => {}
            "http" if auth::is_loopback(host) => {}
            "http" => return Err(refused("plain http is only for this machine; use https")),
            _ => return Err(refused("must begin with https://")),
        }
        if !auth::is_trusted(host) {
            return Err(refused("is not a host of Azure Data Explorer that may be sent a token"));
        }
        if tokens.is_anonymous() && !auth::is_loopback(host) {
            return Err(refused("needs a sign-in; none is only for this machine"));
        }
        let http = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_keepalive(TCP_KEEPALIVE)
            .build()
            .map_err(|e| refused(&causes(e)))?;
        // A path in the address names a default database; it is no part of the base address.
        let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
        let endpoint = format!("{}://{host}{port}", url.scheme());
        Ok(Self { http, endpoint, tokens, options })
    }

    /// Runs a query that changes nothing.
    pub async fn query(&self, database: &str, kql: &str, id: &RequestId) -> Result<Reply, KustoError> {
        self.post("/v2/rest/query", database, kql, id, frames::parse_v2).await
    }

    /// Runs what a person typed: a management command if it begins with a dot, else a query.
    pub async fn run(&self, database: &str, text: &str, id: &RequestId) -> Result<Reply, KustoError> {
        if text.trim_start().starts_with('.') {
            self.post("/v1/rest/mgmt", database, text, id, frames::parse_v1).await
        } else {
            self.query(database, text, id).await
        }
    }

    async fn post(
        &self,
        path: &str,
        database: &str,
        text: &str,
        id: &RequestId,
        parse: fn(&[u8]) -> Result<Table, ReplyError>,
    ) -> Result<Reply, KustoError> {
        let seconds = self.options.server_timeout.as_secs();
        // A time span as text: a number would be passed over.
        let timeout = format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
        let body = json!({
            "db": database,
            "csl": text,
            "properties": {"Options": {"servertimeout": timeout}, "ClientRequestId": id.as_str()},
        });
        let request = self.http.post(format!("{}{path}", self.endpoint)).json(&body);
        let (body, activity_id) = self.answer(request, id).await?;
        match parse(&body) {
            Ok(table) => Ok(Reply { table, activity_id }),
            Err(ReplyError::Service(error)) => Err(error.into()),
            Err(ReplyError::Broken(why)) => Err(KustoError::Lost { endpoint: self.endpoint.clone(), why }),
        }
    }

    /// Sends a request as this client. Returns the body of a good answer, and the service's id of the request.
    async fn answer(&self, request: reqwest::RequestBuilder, id: &RequestId) -> Result<(Vec<u8>, String), KustoError> {
        let token =
            self.tokens.token().await.map_err(|error| KustoError::Token { endpoint: self.endpoint.clone(), error })?;
        let mut request = request
            .timeout(self.options.server_timeout + ANSWER_MARGIN)
            .header("Accept", "application/json")
            .header("x-ms-client-request-id", id.as_str())
            .header("x-ms-app", "ferry")
            .header("x-ms-client-version", concat!("ferry:{", env!("CARGO_PKG_VERSION"), "}"))
            .header("x-ms-version", API_VERSION);
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        let response = request.send().await.map_err(|e| self.failed(e))?;
        let status = response.status().as_u16();
        let header = |name: &str| response.headers().get(name).and_then(|v| v.to_str().ok()).unwrap_or_default();
        let activity_id = header("x-ms-activity-id").to_owned();
        let retry_after = header("retry-after").parse().ok().map(Duration::from_secs);
        let body = self.body(response).await?;
        if !matches!(status, 200 | 202) {
            let error = ServiceError::from_body(status, &body, &activity_id);
            return Err(ServiceError { retry_after, ..error }.into());
        }
        Ok((body, activity_id))
    }

    /// The data management service of this cluster: the same client at the address `ingest-...`. An endpoint on this
    /// machine is both.
    pub(crate) fn data_management(&self) -> Self {
        let (scheme, place) = self.endpoint.split_once("://").unwrap_or(("https", &self.endpoint));
        let host = match place.rsplit_once(':') {
            // The colons of an address in brackets are not a port's.
            Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => host,
            _ => place,
        };
        let is_known = place.starts_with("ingest-") || auth::is_loopback(host);
        let endpoint = if is_known { self.endpoint.clone() } else { format!("{scheme}://ingest-{place}") };
        Self { endpoint, ..self.clone() }
    }

    /// What requests are made with.
    pub(crate) fn http(&self) -> reqwest::Client {
        self.http.clone()
    }

    /// Reads a JSON document.
    pub(crate) async fn get(&self, url: reqwest::Url) -> Result<Value, KustoError> {
        let (body, _) = self.answer(self.http.get(url), &RequestId::generate("get")).await?;
        self.parsed(&body)
    }

    /// Sends a JSON document, and reads another.
    pub(crate) async fn post_json(&self, url: reqwest::Url, body: &Value, id: &RequestId) -> Result<Value, KustoError> {
        let (body, _) = self.answer(self.http.post(url).json(body), id).await?;
        self.parsed(&body)
    }

    /// An address of this cluster, of path segments as they are meant: they are encoded here.
    pub(crate) fn url_of(&self, segments: &[&str]) -> Result<reqwest::Url, KustoError> {
        let wrong = || KustoError::Endpoint { endpoint: self.endpoint.clone(), why: "is no base address".to_owned() };
        let mut url = reqwest::Url::parse(&self.endpoint).map_err(|_| wrong())?;
        url.path_segments_mut().map_err(|()| wrong())?.pop_if_empty().extend(segments);
        Ok(url)
    }

    fn parsed(&self, body: &[u8]) -> Result<Value, KustoError> {
        serde_json::from_slice(body)
            .map_err(|e| KustoError::Lost { endpoint: self.endpoint.clone(), why: format!("it is no JSON: {e}") })
    }

    async fn body(&self, mut response: reqwest::Response) -> Result<Vec<u8>, KustoError> {
        let mut body = Vec::new();
        while let Some(part) = response.chunk().await.map_err(|e| self.failed(e))? {
            if body.len() + part.len() > REPLY_BYTES_MAX {
                let why = format!("it has more than {REPLY_BYTES_MAX} bytes; ask for less");
                return Err(KustoError::Lost { endpoint: self.endpoint.clone(), why });
            }
            body.extend_from_slice(&part);
        }
        Ok(body)
    }

    /// Judges a transport error. Only a failed connection is sure to have had no effect.
    fn failed(&self, error: reqwest::Error) -> KustoError {
        let endpoint = self.endpoint.clone();
        if error.is_connect() || error.is_builder() {
            KustoError::Unreachable { endpoint, why: causes(error) }
        } else {
            KustoError::Lost { endpoint, why: causes(error) }
        }
    }
}

/// An error and its causes in one line, without the address.
fn causes(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut next = std::error::Error::source(&error);
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::NoAuth;

    #[tokio::test]
    async fn data_management_is_beside_the_cluster() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        for (endpoint, beside) in [
            ("https://adx.westeurope.kusto.windows.net", "https://ingest-adx.westeurope.kusto.windows.net"),
            ("https://ingest-adx.westeurope.kusto.windows.net/", "https://ingest-adx.westeurope.kusto.windows.net"),
            ("http://127.0.0.1:7490", "http://127.0.0.1:7490"),
            ("http://localhost:7490", "http://localhost:7490"),
            ("http://[::1]", "http://[::1]"),
        ] {
            let token = Arc::new(auth::StaticBearer::new("t".to_owned()));
            let client = Client::new(endpoint, token, ClientOptions::default()).unwrap();
            assert_eq!(client.data_management().endpoint, beside, "{endpoint}");
        }
    }

    #[test]
    fn an_address_that_must_not_see_a_token_is_refused() {
        // The client builder wants a TLS provider only for addresses that pass.
        for endpoint in ["http://adx.westeurope.kusto.windows.net", "https://evil.example", "ftp://x", "nonsense"] {
            let client = Client::new(endpoint, Arc::new(NoAuth), ClientOptions::default());
            assert!(matches!(client, Err(KustoError::Endpoint { .. })), "{endpoint}");
        }
    }
}
