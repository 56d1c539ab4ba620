//! The coordinator's HTTP API, as the CLI uses it.

use crate::output::CliError;
use clap::Args;
use ferry_common::{address::leads_here, failure::with_causes};
use reqwest::{
    Certificate, Method,
    header::{AUTHORIZATION, HeaderValue},
};
use serde_json::Value;
use std::{path::PathBuf, time::Duration};

const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// The same of what asks others first: a coordinator gives up after two minutes.
const SLOW_TIMEOUT: Duration = Duration::from_secs(130);
/// Largest answer that is taken as it is.
const TEXT_BYTES_MAX: usize = 64 << 20;

/// Where a coordinator listens that was told nothing else.
const DEFAULT_COORDINATOR: &str = "http://127.0.0.1:7480";

/// Which coordinator, and how it is talked to.
#[derive(Args, Clone, Debug)]
pub(crate) struct CoordinatorArg {
    /// Address of the coordinator's HTTP port.
    #[arg(long, env = "FERRY_COORDINATOR", default_value = DEFAULT_COORDINATOR, value_name = "URL")]
    pub(crate) coordinator: String,
    /// File with a token for it. Without one, FERRY_TOKEN may hold the token itself.
    #[arg(long, env = "FERRY_TOKEN_FILE", value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// File with the authority that its certificate is by, such as the coordinator's ca.crt. Default: those that this
    /// machine believes.
    #[arg(long, env = "FERRY_CA", value_name = "FILE")]
    ca: Option<PathBuf>,
}

impl CoordinatorArg {
    /// The authorities that its certificate may be by. `None`: those that this machine believes.
    pub(crate) fn authorities(&self) -> Result<Option<Vec<Certificate>>, CliError> {
        let Some(file) = &self.ca else { return Ok(None) };
        let failed = |why: String| CliError::Usage(format!("--ca {}: {why}", file.display()));
        let pem = std::fs::read(file).map_err(|e| failed(e.to_string()))?;
        let authorities = Certificate::from_pem_bundle(&pem).map_err(|e| failed(with_causes(&e)))?;
        Ok(Some(authorities))
    }
}

/// The same for commands that also work without a coordinator: it is asked only if it is named.
#[derive(Args, Clone, Debug)]
pub(crate) struct NamedCoordinatorArg {
    /// Address of a coordinator's HTTP port, to look at it, too.
    #[arg(long, env = "FERRY_COORDINATOR", value_name = "URL")]
    coordinator: Option<String>,
    /// File with a token for it. Without one, FERRY_TOKEN may hold the token itself.
    #[arg(long, env = "FERRY_TOKEN_FILE", value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// File with the authority that its certificate is by, such as the coordinator's ca.crt. Default: those that this
    /// machine believes.
    #[arg(long, env = "FERRY_CA", value_name = "FILE")]
    ca: Option<PathBuf>,
}

impl NamedCoordinatorArg {
    /// The coordinator, if one is named.
    pub(crate) fn named(&self) -> Option<CoordinatorArg> {
        self.coordinator.clone().map(|coordinator| self.at(coordinator))
    }

    /// The coordinator that is named, or the one that is there by default.
    pub(crate) fn or_default(&self) -> CoordinatorArg {
        self.named().unwrap_or_else(|| self.at(DEFAULT_COORDINATOR.to_owned()))
    }

    /// File with the token.
    pub(crate) fn token_file(&self) -> Option<&PathBuf> {
        self.token_file.as_ref()
    }

    fn at(&self, coordinator: String) -> CoordinatorArg {
        CoordinatorArg { coordinator, token_file: self.token_file.clone(), ca: self.ca.clone() }
    }
}

/// A client of the API.
#[derive(Clone)]
pub(crate) struct Api {
    http: reqwest::Client,
    address: String,
    token: Option<HeaderValue>,
}

impl Api {
    /// The coordinator that the command line names.
    pub(crate) fn new(to: &CoordinatorArg) -> Result<Self, CliError> {
        let token = match &to.token_file {
            Some(file) => {
                let text = std::fs::read_to_string(file);
                Some(text.map_err(|e| CliError::Usage(format!("--token-file {}: {e}", file.display())))?)
            }
            None => std::env::var("FERRY_TOKEN").ok(),
        };
        let token = token.map(|token| {
            let mut value = HeaderValue::from_str(&format!("Bearer {}", token.trim()))
                .map_err(|_| CliError::Usage("the token has characters that no token has".to_owned()))?;
            value.set_sensitive(true);
            Ok::<_, CliError>(value)
        });
        Self::open(&to.coordinator, token.transpose()?, to.authorities()?)
    }

    /// A coordinator of this process.
    pub(crate) fn embedded(address: &str) -> Result<Self, CliError> {
        Self::open(address, None, None)
    }

    fn open(
        address: &str,
        token: Option<HeaderValue>,
        authorities: Option<Vec<Certificate>>,
    ) -> Result<Self, CliError> {
        let url = reqwest::Url::parse(address).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
        let url = url.ok_or_else(|| {
            CliError::Usage(format!("coordinator address {address:?} must begin with http:// or https://"))
        })?;
        let is_here = leads_here(&url);
        if token.is_some() && url.scheme() == "http" && !is_here {
            return Err(CliError::Usage(format!("{address}: a token is sent over https:// only, not in clear")));
        }
        let mut builder =
            reqwest::Client::builder().timeout(REQUEST_TIMEOUT).redirect(reqwest::redirect::Policy::none());
        if is_here {
            builder = builder.no_proxy();
        }
        if let Some(authorities) = authorities {
            builder = builder.tls_certs_only(authorities);
        }
        let http = builder.build().map_err(|e| CliError::Failed(with_causes(&e)))?;
        Ok(Self { http, address: address.trim_end_matches('/').to_owned(), token })
    }

    pub(crate) async fn get(&self, path: &str) -> Result<Value, CliError> {
        self.send(Method::GET, path, None).await
    }

    pub(crate) async fn post(&self, path: &str, body: Option<&Value>) -> Result<Value, CliError> {
        self.send(Method::POST, path, body).await
    }

    pub(crate) async fn put(&self, path: &str, body: &Value) -> Result<Value, CliError> {
        self.send(Method::PUT, path, Some(body)).await
    }

    /// The same, for what takes its time.
    pub(crate) async fn post_slow(&self, path: &str, body: &Value) -> Result<Value, CliError> {
        self.send_within(Method::POST, path, Some(body), SLOW_TIMEOUT).await
    }

    /// What a path of the port answers, as it is: `/metrics`, `/healthz`, `/api/v1/nodes`.
    pub(crate) async fn text(&self, path: &str) -> Result<String, CliError> {
        let mut request = self.http.get(format!("{}{path}", self.address)).timeout(SLOW_TIMEOUT);
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, token.clone());
        }
        let mut response = request.send().await.map_err(|e| self.unreachable(e))?;
        let status = response.status();
        let mut body = Vec::new();
        while let Some(piece) = response.chunk().await.map_err(|e| self.unreachable(e))? {
            body.extend_from_slice(&piece);
            if body.len() > TEXT_BYTES_MAX {
                return Err(CliError::Failed(format!("{path}: more than {TEXT_BYTES_MAX} bytes")));
            }
        }
        let text = String::from_utf8_lossy(&body).into_owned();
        if status.is_success() { Ok(text) } else { Err(CliError::Failed(format!("{path}: HTTP {status}: {text}"))) }
    }

    pub(crate) async fn delete(&self, path: &str) -> Result<Value, CliError> {
        self.send(Method::DELETE, path, None).await
    }

    /// The same, for what takes its time.
    pub(crate) async fn delete_slow(&self, path: &str) -> Result<Value, CliError> {
        self.send_within(Method::DELETE, path, None, SLOW_TIMEOUT).await
    }

    async fn send(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value, CliError> {
        self.send_within(method, path, body, REQUEST_TIMEOUT).await
    }

    async fn send_within(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        timeout: Duration,
    ) -> Result<Value, CliError> {
        let mut request = self.http.request(method, format!("{}/api/v1{path}", self.address)).timeout(timeout);
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, token.clone());
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send().await.map_err(|e| self.unreachable(e))?;
        let status = response.status();
        let body = response.bytes().await.map_err(|e| self.unreachable(e))?;
        let value: Value = serde_json::from_slice(&body).map_err(|_| {
            CliError::Failed(format!(
                "{} answers HTTP {status} without JSON; is it a ferry coordinator's HTTP port?",
                self.address
            ))
        })?;
        if status.is_success() {
            return Ok(value);
        }
        let text = |key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default();
        if text("title").is_empty() {
            let words = format!("{} answers HTTP {status}; is it a ferry coordinator's HTTP port?", self.address);
            return Err(CliError::Failed(words));
        }
        let words = format!("{}: {}", text("title"), text("detail"));
        // What the settings or the call got wrong is a matter of usage.
        Err(if status.as_u16() == 422 || status.as_u16() == 400 {
            CliError::Usage(words)
        } else {
            CliError::Failed(words)
        })
    }

    fn unreachable(&self, error: reqwest::Error) -> CliError {
        let is_connect = error.is_connect();
        let why = with_causes(&error.without_url());
        if why.contains("certificate") {
            return CliError::Failed(format!(
                "coordinator {}: its certificate is not believed ({why}); name its authority with --ca",
                self.address
            ));
        }
        let what = if is_connect { "nobody listens there" } else { "no answer" };
        CliError::Failed(format!(
            "coordinator {}: {what} ({why}); start one with `ferry coordinator`, or name it with --coordinator",
            self.address
        ))
    }
}
