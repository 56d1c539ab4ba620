//! The coordinator's HTTP API, as the CLI uses it.

use crate::output::CliError;
use clap::Args;
use reqwest::Method;
use serde_json::Value;
use std::time::Duration;

const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// Which coordinator.
#[derive(Args, Clone, Debug)]
pub(crate) struct CoordinatorArg {
    /// Address of the coordinator's HTTP port.
    #[arg(long, env = "FERRY_COORDINATOR", default_value = "http://127.0.0.1:7480", value_name = "URL")]
    pub(crate) coordinator: String,
}

/// A client of the API.
#[derive(Clone)]
pub(crate) struct Api {
    http: reqwest::Client,
    address: String,
}

impl Api {
    pub(crate) fn new(address: &str) -> Result<Self, CliError> {
        if !address.starts_with("http://") && !address.starts_with("https://") {
            return Err(CliError::Usage(format!(
                "coordinator address {address:?} must begin with http:// or https://"
            )));
        }
        let http = reqwest::Client::builder()
            .timeout(REQUEST_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|e| CliError::Failed(e.to_string()))?;
        Ok(Self { http, address: address.trim_end_matches('/').to_owned() })
    }

    pub(crate) async fn get(&self, path: &str) -> Result<Value, CliError> {
        self.send(Method::GET, path, None).await
    }

    pub(crate) async fn post(&self, path: &str, body: Option<&Value>) -> Result<Value, CliError> {
        self.send(Method::POST, path, body).await
    }

    async fn send(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value, CliError> {
        let mut request = self.http.request(method, format!("{}/api/v1{path}", self.address));
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
        let what = if error.is_connect() { "nobody listens there" } else { "no answer" };
        let why = ferry_common::failure::with_causes(&error.without_url());
        CliError::Failed(format!(
            "coordinator {}: {what} ({why}); start one with `ferry coordinator`, or name it with --coordinator",
            self.address
        ))
    }
}
