//! Who is told of the end of a run.

use super::SecretRef;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Longest address of a webhook.
const URL_CHARS_MAX: usize = 2_048;

/// Who is told of the end of a run: `{event: "run.ended", run: ...}` is sent there as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Webhook {
    /// Address, `https://` or `http://`. The coordinator must reach it; redirects are not followed.
    pub url: String,
    /// Key of the header `X-Ferry-Signature`: `sha256=` and the HMAC-SHA256 of the body in hexadecimal digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<SecretRef>,
}

/// How names of variables begin that may sign: else whoever submits could have any secret of the coordinator tried out.
const VARIABLE_PREFIX: &str = "FERRY_WEBHOOK_";

/// What is wrong with the reference to a webhook's key.
pub(super) fn check_secret(reference: &SecretRef) -> Result<(), String> {
    match reference.secret.split_once(':') {
        Some(("env", name)) if name.starts_with(VARIABLE_PREFIX) => Ok(()),
        Some(("file", _)) => Ok(()),
        _ => Err(format!(
            "settings.webhook.secret must be named as env:{VARIABLE_PREFIX}NAME or file:PATH, for the coordinator's process"
        )),
    }
}

impl Webhook {
    /// What is wrong with it.
    pub(super) fn check(&self) -> Result<(), String> {
        if self.url.len() > URL_CHARS_MAX {
            return Err(format!("settings.webhook.url is longer than {URL_CHARS_MAX} characters"));
        }
        // Perhaps there is a token in it: it is not repeated.
        let url = reqwest::Url::parse(&self.url)
            .map_err(|e| format!("settings.webhook.url is no address: {e}; write https://host/path"))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err("settings.webhook.url must begin with https:// or http://".to_owned());
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err("settings.webhook.url must not hold a name and a password; sign with settings.webhook.secret"
                .to_owned());
        }
        Ok(())
    }

    /// Where it leads, for messages: without path and query, which may hold a token.
    pub fn place(&self) -> String {
        match reqwest::Url::parse(&self.url) {
            Ok(url) => format!("{}://{}", url.scheme(), url.host_str().unwrap_or_default()),
            Err(_) => String::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_addresses_of_the_web_are_taken_and_tokens_are_not_repeated() {
        for (url, is_good) in [
            ("https://hooks.example/T/SECRET", true),
            ("http://10.0.0.7:8080/ferry?key=SECRET", true),
            ("ftp://hooks.example/SECRET", false),
            ("file:///etc/SECRET", false),
            ("https://me:SECRET@hooks.example/", false),
            ("SECRET", false),
        ] {
            let hook = Webhook { url: url.to_owned(), secret: None };
            let checked = hook.check();
            assert_eq!(checked.is_ok(), is_good, "{url}: {checked:?}");
            assert!(!checked.err().unwrap_or_default().contains("SECRET"), "{url}");
        }
        let hook = Webhook { url: "https://hooks.example/T/SECRET?x=SECRET".to_owned(), secret: None };
        assert_eq!(hook.place(), "https://hooks.example");
    }
}
