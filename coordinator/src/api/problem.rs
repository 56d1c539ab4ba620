//! Answers that are not what was asked for, all of them in the form of RFC 9457.

use crate::{core::ChangeError, store::StoreError};
use axum::{
    Json,
    body::to_bytes,
    extract::Request,
    http::{HeaderValue, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use ferry_common::failure::Failure;
use serde::Serialize;
use utoipa::ToSchema;

/// The type of such an answer.
pub(super) const KIND: &str = "application/problem+json";
/// Bytes of a library's own words that are passed on.
const WORDS_BYTES_MAX: usize = 4_096;

/// An answer that is not what was asked for.
pub(super) struct Problem {
    pub(super) status: StatusCode,
    pub(super) code: &'static str,
    pub(super) detail: String,
}

/// A problem as it is sent (RFC 9457).
#[derive(Serialize, ToSchema)]
pub(super) struct ProblemView {
    /// The HTTP status.
    #[schema(minimum = 400, maximum = 599)]
    status: u16,
    /// Stable name: of the problem, or the failure's code.
    title: &'static str,
    /// What happened, and what to do next.
    detail: String,
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = ProblemView { status: self.status.as_u16(), title: self.code, detail: self.detail };
        let mut response = (self.status, Json(body)).into_response();
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(KIND));
        response
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        tracing::error!("{error}");
        Self { status: StatusCode::SERVICE_UNAVAILABLE, code: "StoreFailed", detail: error.to_string() }
    }
}

impl From<ChangeError> for Problem {
    fn from(error: ChangeError) -> Self {
        match error {
            ChangeError::Store(e) => e.into(),
            ChangeError::Refused(e) => Self { status: StatusCode::CONFLICT, code: "Refused", detail: e.to_string() },
        }
    }
}

impl From<Failure> for Problem {
    fn from(failure: Failure) -> Self {
        Self { status: StatusCode::UNPROCESSABLE_ENTITY, code: failure.code.as_str(), detail: failure.message }
    }
}

pub(super) fn bad_request(detail: impl ToString) -> Problem {
    Problem { status: StatusCode::BAD_REQUEST, code: "BadRequest", detail: detail.to_string() }
}

pub(super) fn not_found(what: &str, name: &str) -> Problem {
    Problem { status: StatusCode::NOT_FOUND, code: "NotFound", detail: format!("there is no {what} {name:?}") }
}

/// Puts what the library itself refuses, such as a wrong parameter or a path that is none, into the same form.
pub(super) async fn in_one_form(request: Request, next: Next) -> Response {
    let is_api = request.uri().path().starts_with("/api/");
    let response = next.run(request).await;
    let status = response.status();
    let is_error = status.is_client_error() || status.is_server_error();
    let is_told = response.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind == KIND);
    if !is_api || !is_error || is_told {
        return response;
    }
    let words = to_bytes(response.into_body(), WORDS_BYTES_MAX).await.unwrap_or_default();
    let words = String::from_utf8_lossy(&words).into_owned();
    let (code, silent) = match status {
        StatusCode::BAD_REQUEST => ("BadRequest", "the request cannot be read"),
        StatusCode::NOT_FOUND => ("NotFound", "there is no such path; /api/v1/openapi.json has all of them"),
        StatusCode::METHOD_NOT_ALLOWED => ("MethodNotAllowed", "this path does not take that method"),
        StatusCode::PAYLOAD_TOO_LARGE => ("TooLarge", "the body is too large"),
        StatusCode::UNSUPPORTED_MEDIA_TYPE => ("UnsupportedMediaType", "the body must be JSON"),
        _ => ("Refused", "the request is refused"),
    };
    let detail = if words.is_empty() { silent.to_owned() } else { words };
    Problem { status, code, detail }.into_response()
}
