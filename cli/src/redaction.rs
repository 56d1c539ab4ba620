//! Takes secrets out of texts that leave the house. Nothing of ferry should hold any in the first place: this is the second
//! lock, and it rather takes too much.

use crate::output::CliError;
use ferry_common::failure::redact;
use regex::{Captures, Regex};
use serde_json::Value;

/// What stands in the place of a secret.
const GONE: &str = "(removed)";
/// Shorter values are words that stand elsewhere, too.
const SECRET_CHARS_MIN: usize = 6;
/// Ends of names of environment variables whose values are secrets. A password inside an address is found by itself.
const SECRET_VARIABLES: [&str; 7] = ["TOKEN", "SECRET", "PASSWORD", "KEY", "SAS", "SIGNATURE", "STORAGE"];
/// Parts of names of JSON values that are secrets.
const SECRET_KEYS: [&str; 8] =
    ["token", "password", "secret", "accountkey", "credential", "authorization", "privatekey", "principalkey"];

/// Patterns, and what stands in the place of what they find.
const PATTERNS: [(&str, &str); 8] = [
    (r"-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?-----END [A-Z ]*PRIVATE KEY-----", GONE),
    // User and password in an address.
    (r#"://[^\s"'/@]+@"#, "://(removed)@"),
    (r#"://[^\s"'@/:]+:[^\s"'@]+@"#, "://(removed)@"),
    (r"(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{8,}", "$1 (removed)"),
    // JSON web tokens, and ferry's own.
    (r"\beyJ[A-Za-z0-9_-]{5,}\.[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]*)?", GONE),
    (r"\b(fapi|fjoin)_([A-Za-z0-9]+)_[A-Za-z0-9_-]+", "${1}_${2}_(removed)"),
    // Keys: long, and nothing that a person would write. A path has more after its equals sign.
    (r"[A-Za-z0-9+/]{40,}={1,2}([^A-Za-z0-9=]|$)", "(removed)$1"),
    (r"\b[A-Za-z0-9]{48,}\b", GONE),
];

/// `name=value` and `name: value`, where the name says that the value is a secret.
const NAMED: &str = r#"(?i)\b([a-z_-]*(?:sig|signature|accountkey|accesskey|password|passwd|pwd|secret|token|apikey|api_key))(\\?"?\s*[=:]\s*\\?"?)([^\s"',;&)}\\{\[][^\s"',;&)}\\]*)"#;

/// Finds secrets by their form, by their name, and those that this process knows by their value.
pub(crate) struct Redactor {
    patterns: Vec<(Regex, &'static str)>,
    named: Regex,
    /// Longest first: one may hold another.
    known: Vec<String>,
}

/// It tells where a secret is, and is none.
fn is_reference(value: &str) -> bool {
    ["env:", "file:", "keyvault:", "https://"].iter().any(|start| value.starts_with(start))
}

impl Redactor {
    /// One that also finds these values.
    pub(crate) fn new(known: impl IntoIterator<Item = String>) -> Result<Self, CliError> {
        let regex = |text: &str| Regex::new(text).map_err(|e| CliError::Failed(e.to_string()));
        let mut known: Vec<String> = known.into_iter().map(|value| value.trim().to_owned()).collect();
        known.retain(|value| value.chars().count() >= SECRET_CHARS_MIN);
        known.sort_by_key(|value| std::cmp::Reverse(value.len()));
        let patterns = PATTERNS.iter().map(|(pattern, instead)| Ok::<_, CliError>((regex(pattern)?, *instead)));
        Ok(Self { patterns: patterns.collect::<Result<_, CliError>>()?, named: regex(NAMED)?, known })
    }

    /// A text without secrets.
    pub(crate) fn text(&self, text: &str) -> String {
        let mut text = self.known.iter().fold(text.to_owned(), |text, secret| text.replace(secret, GONE));
        text = redact(&text);
        for (pattern, instead) in &self.patterns {
            text = pattern.replace_all(&text, *instead).into_owned();
        }
        let named = |found: &Captures<'_>| {
            let value = &found[3];
            let value = if is_reference(value) || value == GONE.trim_end_matches(')') { value } else { GONE };
            format!("{}{}{value}", &found[1], &found[2])
        };
        self.named.replace_all(&text, named).into_owned()
    }

    /// JSON without secrets: texts and names of values are looked at.
    pub(crate) fn json(&self, value: &Value) -> Value {
        match value {
            Value::String(text) => Value::String(self.text(text)),
            Value::Array(items) => items.iter().map(|item| self.json(item)).collect(),
            Value::Object(fields) => {
                let clean = |(name, value): (&String, &Value)| (self.text(name), self.field(name, value));
                Value::Object(fields.iter().map(clean).collect())
            }
            other => other.clone(),
        }
    }

    fn field(&self, name: &str, value: &Value) -> Value {
        let name = name.to_lowercase();
        let is_secret = name == "sas" || SECRET_KEYS.iter().any(|key| name.contains(key));
        match value {
            Value::String(text) if is_secret && !is_reference(text) => GONE.into(),
            other => self.json(other),
        }
    }
}

/// The values of this process's environment that are secrets by their names, and passwords in addresses of it.
pub(crate) fn secrets_of_environment() -> Vec<String> {
    let mut secrets = Vec::new();
    for (name, value) in std::env::vars_os() {
        let (name, value) = (name.to_string_lossy().to_uppercase(), value.to_string_lossy().into_owned());
        secrets.extend(password_in(&value));
        if SECRET_VARIABLES.iter().any(|end| name.ends_with(end)) {
            secrets.push(value);
        }
    }
    secrets
}

/// The password in `scheme://user:password@host`.
fn password_in(address: &str) -> Option<String> {
    let (_, rest) = address.split_once("://")?;
    let (login, _) = rest.rsplit_once('@')?;
    Some(login.split_once(':')?.1.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn no_kind_of_secret_survives() {
        let redactor = Redactor::new(["PLANTED by value".to_owned()]).unwrap();
        let (key, hex) = (format!("{}PLANTED+/{}==", "a".repeat(40), "b1".repeat(20)), "0123456789abcdef".repeat(4));
        for (case, text) in [
            ("by its value", "x PLANTED by value y".to_owned()),
            ("signature", "put https://a.blob.core.windows.net/c/b?sv=1&sig=PLANTED failed".to_owned()),
            ("signature alone", "sv=2023&se=x&sig=PLANTED%3D&sp=rw".to_owned()),
            ("connection string", "AccountName=a;AccountKey=PLANTED;EndpointSuffix=x".to_owned()),
            ("password in an address", "postgres://ferry:PLANTED@db/ferry".to_owned()),
            ("password with a slash", "postgres://ferry:a/PLANTED@db/ferry".to_owned()),
            ("user alone", "http://PLANTED@proxy:3128".to_owned()),
            ("bearer", "Authorization: Bearer PLANTEDPLANTED".to_owned()),
            ("JSON web token", "token eyJhbGciOi.PLANTED.PLANTED end".to_owned()),
            ("API token", "fapi_1a2b_PLANTED".to_owned()),
            ("join token", "fjoin_1a2b_PLANTED_-".to_owned()),
            ("key of an account", key),
            ("JSON in a text", r#"{"password": "PLANTED", "x": 1}"#.to_owned()),
            ("JSON in JSON", r#"{\"client_secret\":\"PLANTED\"}"#.to_owned()),
            ("private key", "-----BEGIN PRIVATE KEY-----\nPLANTED\n-----END PRIVATE KEY-----".to_owned()),
        ] {
            let safe = redactor.text(&text);
            assert!(!safe.contains("PLANTED"), "{case}: {safe}");
        }
        assert!(!redactor.text(&format!("x {hex} y")).contains(&hex));
    }

    #[test]
    fn what_helps_stays() {
        let redactor = Redactor::new(["short".to_owned()]).unwrap();
        for text in [
            "record at byte 7340032 of /exports/taxi/2025/06/very/long/path/that/goes/on/and/on/green.csv.gz",
            "/exports/taxi/some/more/folders/of/a/long/path/year=2025/month=06/green.csv",
            "run 0197d0c4-6b1e-7c33-9d0c-2f8f7f8c1d11 of adx.westeurope.kusto.windows.net",
            "secret env:FERRY_KEY: environment variable FERRY_KEY is not set",
            "staging.accountKey: {secret: env:FERRY_KEY}",
            "short words stay",
        ] {
            assert_eq!(redactor.text(text), text);
        }
    }

    #[test]
    fn references_to_secrets_stay_in_an_activity_and_secrets_do_not() {
        let redactor = Redactor::new([]).unwrap();
        let activity = json!({
            "staging": {"accountKey": {"secret": "env:KEY"}, "container": "https://a.blob.core.windows.net/c"},
            "sink": {"auth": {"token": "PLANTED"}}, "notes": ["sig=PLANTED", 7, null], "sas": "PLANTED",
        });
        let expected = json!({
            "staging": {"accountKey": {"secret": "env:KEY"}, "container": "https://a.blob.core.windows.net/c"},
            "sink": {"auth": {"token": GONE}}, "notes": ["sig=(removed)", 7, null], "sas": GONE,
        });
        assert_eq!(redactor.json(&activity), expected);
    }

    #[test]
    fn a_password_is_found_in_an_address() {
        assert_eq!(password_in("http://user:a:b@proxy:3128").as_deref(), Some("a:b"));
        assert_eq!(password_in("http://proxy:3128"), None);
    }
}
