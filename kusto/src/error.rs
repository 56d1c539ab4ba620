//! What can go wrong with a request, judged: did it reach the service, may it have had an effect, can a repeat help.

use crate::auth::TokenError;
use serde_json::Value;
use std::time::Duration;

/// A request that did not end well.
#[derive(Debug, thiserror::Error)]
pub enum KustoError {
    /// The address is not one that may be talked to.
    #[error("endpoint {endpoint}: {why}")]
    Endpoint {
        /// The address.
        endpoint: String,
        /// What is wrong with it.
        why: String,
    },
    /// No token.
    #[error("no sign-in token for {endpoint}: {error}")]
    Token {
        /// The address.
        endpoint: String,
        /// Why not.
        error: TokenError,
    },
    /// Nothing was sent: no connection.
    #[error("cannot connect to {endpoint}: {why}")]
    Unreachable {
        /// The address.
        endpoint: String,
        /// What the client saw.
        why: String,
    },
    /// Something was sent, and no whole answer came back: the request may have had its effect.
    #[error("the answer of {endpoint} was lost: {why}")]
    Lost {
        /// The address.
        endpoint: String,
        /// What the client saw.
        why: String,
    },
    /// The service answered with an error.
    #[error(transparent)]
    Service(#[from] ServiceError),
}

/// An error that the service reported, in any of its shapes.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}{}", self.suffix())]
pub struct ServiceError {
    /// HTTP status; 200 when the error came inside a good answer.
    pub status: u16,
    /// Such as `General_BadRequest`, or empty.
    pub code: String,
    /// Last part of `@type`, such as `SemanticException`, or empty.
    pub exception: String,
    /// The text for people.
    pub message: String,
    /// The service says that a repeat cannot help.
    pub permanent: bool,
    /// The service's own id of the request, for its support.
    pub activity_id: String,
    /// How long the service asks to wait before another try (`Retry-After`, in seconds).
    pub retry_after: Option<Duration>,
}

impl ServiceError {
    fn suffix(&self) -> String {
        let code = if self.exception.is_empty() { &self.code } else { &self.exception };
        let activity =
            if self.activity_id.is_empty() { String::new() } else { format!(", activity {}", self.activity_id) };
        format!(" (HTTP {} {code}{activity})", self.status)
    }

    /// Reads the error out of an answer with a bad status. Never fails: a body that cannot be read becomes its text.
    pub(crate) fn from_body(status: u16, body: &[u8], activity_id: &str) -> Self {
        let text = String::from_utf8_lossy(body);
        let parsed: Option<Value> = serde_json::from_str(&text).ok();
        let mut error = match parsed.as_ref() {
            Some(Value::Object(map)) if map.get("error").is_some_and(Value::is_object) => {
                Self::from_one_api(status, &map["error"])
            }
            Some(Value::Object(map)) => {
                let message = map.get("message").or(map.get("error")).and_then(Value::as_str).unwrap_or_default();
                Self::plain(status, message)
            }
            _ => Self::plain(status, plain_text(&text)),
        };
        if error.activity_id.is_empty() {
            error.activity_id = activity_id.to_owned();
        }
        error
    }

    /// Reads a OneAPI error object.
    pub(crate) fn from_one_api(status: u16, error: &Value) -> Self {
        let text = |key: &str| error.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let mut message = text("@message");
        if message.is_empty() {
            message = text("message");
        }
        let mut inner = error.get("innererror");
        while let Some(next) = inner {
            // The deepest one is the most precise.
            if let Some(deep) = next.get("message").or(next.get("@message")).and_then(Value::as_str)
                && !message.contains(deep)
            {
                message = format!("{message}: {deep}");
            }
            inner = next.get("innererror");
        }
        let exception = text("@type").rsplit('.').next().unwrap_or_default().to_owned();
        let permanent = match error.get("@permanent").and_then(Value::as_bool) {
            // The flag says "not permanent", yet the same query fails again.
            Some(false) if exception == "KustoServicePartialQueryFailureLimitsExceededException" => true,
            Some(flag) => flag,
            None => is_permanent_status(status),
        };
        let activity_id = error.pointer("/@context/activityId").and_then(Value::as_str).unwrap_or_default().to_owned();
        Self {
            status,
            code: text("code"),
            exception,
            message: clipped(&message),
            permanent,
            activity_id,
            retry_after: None,
        }
    }

    fn plain(status: u16, message: &str) -> Self {
        let message = if message.trim().is_empty() { "the service gave no reason" } else { message.trim() };
        Self {
            status,
            code: String::new(),
            exception: String::new(),
            message: clipped(message),
            permanent: is_permanent_status(status),
            activity_id: String::new(),
            retry_after: None,
        }
    }

    /// A refusal of ours: nothing was sent.
    pub(crate) fn refused(message: String) -> Self {
        Self::plain(400, &message)
    }

    /// A bad answer of the storage that the service lends.
    pub(crate) fn of_storage(status: u16, place: &str) -> Self {
        Self::plain(status, &format!("{place} answered HTTP {status}"))
    }

    /// Too much at once: worth a wait, and no fault of the request.
    pub fn is_throttled(&self) -> bool {
        self.status == 429
            || self.code == "TooManyRequests"
            || self.exception.ends_with("ThrottledException")
            || self.message.contains("CapacityPolicy/Ingestion")
    }

    /// The principal lacks a right.
    pub fn is_forbidden(&self) -> bool {
        matches!(self.status, 401 | 403) || self.code == "Forbidden" || self.exception == "KustoRequestDeniedException"
    }

    /// The database does not exist, or is hidden.
    pub fn is_database_missing(&self) -> bool {
        self.exception == "DatabaseNotFoundException" || self.has_code("BadRequest_DatabaseNotExist")
    }

    /// A table or another entity does not exist, or is hidden.
    pub fn is_entity_missing(&self) -> bool {
        matches!(
            self.exception.as_str(),
            "TableNotFoundException" | "EntityNotFoundInContainerException" | "EntityNotFoundException"
        ) || self.has_code("BadRequest_TableNotExist")
            || self.has_code("BadRequest_EntityNotFound")
    }

    fn has_code(&self, code: &str) -> bool {
        self.code == code || self.message.contains(code)
    }
}

/// Longest message that is kept, in characters.
const MESSAGE_CHARS_MAX: usize = 2_000;

fn clipped(message: &str) -> String {
    match message.char_indices().nth(MESSAGE_CHARS_MAX) {
        Some((at, _)) => format!("{}...", &message[..at]),
        None => message.to_owned(),
    }
}

/// The words of a body that is not JSON: a proxy's page keeps only its first line.
fn plain_text(body: &str) -> &str {
    let body = body.trim();
    if body.starts_with('<') { "an HTML page, as a proxy sends it" } else { body }
}

/// Where `@permanent` is absent, the status decides: 4xx cannot pass, but for time-outs and throttling.
fn is_permanent_status(status: u16) -> bool {
    matches!(status, 300..=499) && !matches!(status, 408 | 429)
}

impl KustoError {
    /// A repeat cannot help.
    pub fn is_permanent(&self) -> bool {
        match self {
            Self::Endpoint { .. } => true,
            Self::Token { error, .. } => !error.is_passing,
            Self::Unreachable { .. } | Self::Lost { .. } => false,
            Self::Service(error) => error.permanent && !error.is_throttled(),
        }
    }

    /// A write may have had its effect in spite of the error.
    pub fn outcome_is_unknown(&self) -> bool {
        match self {
            Self::Endpoint { .. } | Self::Token { .. } | Self::Unreachable { .. } => false,
            Self::Lost { .. } => true,
            // A refusal for good, or for being too much, had no effect; of the rest nobody can be sure.
            Self::Service(error) => !error.is_throttled() && (!error.permanent || error.status >= 500),
        }
    }

    /// The service's error, if it is one.
    pub fn service(&self) -> Option<&ServiceError> {
        match self {
            Self::Service(error) => Some(error),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shape_of_error_is_read_and_judged() {
        let one_api = |exception: &str, permanent: &str| {
            format!(
                r#"{{"error":{{"code":"General_BadRequest","message":"m","@type":"Kusto.Data.Exceptions.{exception}","@message":"the useful text"{permanent}}}}}"#
            )
        };
        for (case, status, body, message, permanent) in [
            ("permanent", 400, one_api("SemanticException", r#","@permanent":true"#), "the useful text", true),
            ("transient though 400", 400, one_api("X", r#","@permanent":false"#), "the useful text", false),
            ("flag absent, 400", 400, one_api("X", ""), "the useful text", true),
            ("flag absent, 500", 500, one_api("X", ""), "the useful text", false),
            ("plain text", 400, "General_BadRequest: no".to_owned(), "General_BadRequest: no", true),
            ("page of a proxy", 502, "<html>".to_owned(), "HTML page", false),
            ("nothing", 401, String::new(), "no reason", true),
            ("empty object", 503, "{}".to_owned(), "no reason", false),
            ("short form", 404, r#"{"message":"gone"}"#.to_owned(), "gone", true),
            ("throttled", 429, r#"{"error":{"code":"TooManyRequests","@message":"busy"}}"#.to_owned(), "busy", false),
            (
                "limits exceeded claims to be transient",
                400,
                one_api("KustoServicePartialQueryFailureLimitsExceededException", r#","@permanent":false"#),
                "the useful text",
                true,
            ),
        ] {
            let error = ServiceError::from_body(status, body.as_bytes(), "act");
            assert!(error.message.contains(message), "{case}: {}", error.message);
            assert_eq!(error.permanent, permanent, "{case}");
            assert_eq!(error.is_throttled(), case == "throttled", "{case}");
        }
    }
}
