//! Errors as the service reports them.

use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde_json::json;

/// An error in the service's own words: status, code, exception, text, and whether a repeat can help.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct AdxError {
    /// HTTP status.
    pub status: u16,
    /// Such as `BadRequest_SyntaxError`.
    pub code: &'static str,
    /// Such as `Kusto.Data.Exceptions.SyntaxException`.
    pub exception: &'static str,
    /// For people.
    pub message: String,
    /// A repeat cannot help.
    pub permanent: bool,
}

macro_rules! errors {
    ($($(#[$doc:meta])* $name:ident($status:literal, $code:literal, $exception:literal, $permanent:literal);)*) => {
        impl AdxError {
            $($(#[$doc])*
            pub fn $name(message: impl Into<String>) -> Self {
                Self { status: $status, code: $code, exception: $exception, message: message.into(), permanent: $permanent }
            })*
        }
    };
}

errors! {
    /// The text cannot be parsed.
    syntax(400, "BadRequest_SyntaxError", "Kusto.Data.Exceptions.SyntaxException", true);
    /// A name or a type is wrong.
    semantic(400, "General_BadRequest", "Kusto.Data.Exceptions.SemanticException", true);
    /// The command or its properties make no sense.
    bad_request(400, "General_BadRequest", "Kusto.Data.Exceptions.KustoBadRequestException", true);
    /// Something that the service has and this endpoint lacks.
    not_supported(400, "BadRequest_NotSupported", "Kusto.Data.Exceptions.KustoBadRequestException", true);
    /// No such database.
    no_database(400, "BadRequest_DatabaseNotExist", "Kusto.Data.Exceptions.DatabaseNotFoundException", true);
    /// No such table.
    no_table(400, "BadRequest_TableNotExist", "Kusto.Data.Exceptions.TableNotFoundException", true);
    /// No such mapping.
    no_mapping(400, "BadRequest_MappingReferenceWasNotFound", "Kusto.Data.Exceptions.MappingNotFoundException", true);
    /// The role for it is missing.
    forbidden(403, "Forbidden", "Kusto.Data.Exceptions.KustoRequestDeniedException", true);
    /// Too much at once.
    throttled(429, "TooManyRequests", "Kusto.DataNode.Exceptions.ControlCommandThrottledException", false);
    /// The service failed.
    internal(500, "General_InternalServerError", "Kusto.Data.Exceptions.KustoServiceException", false);
}

impl From<sqlx::Error> for AdxError {
    fn from(error: sqlx::Error) -> Self {
        Self::internal(format!("catalogue: {error}"))
    }
}

impl From<arrow::error::ArrowError> for AdxError {
    fn from(error: arrow::error::ArrowError) -> Self {
        Self::semantic(error.to_string())
    }
}

impl From<parquet::errors::ParquetError> for AdxError {
    fn from(error: parquet::errors::ParquetError) -> Self {
        Self::internal(format!("extent: {error}"))
    }
}

impl From<std::io::Error> for AdxError {
    fn from(error: std::io::Error) -> Self {
        Self::internal(format!("extent: {error}"))
    }
}

impl IntoResponse for AdxError {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = json!({"error": {
            "code": self.code,
            "message": "Request is invalid and cannot be executed.",
            "@type": self.exception,
            "@message": self.message,
            "@permanent": self.permanent,
            "@failureCode": self.status.to_string(),
            "@context": {"serviceAlias": "LOCAL-ADX", "activityId": uuid::Uuid::new_v4().to_string()},
        }});
        (status, Json(body)).into_response()
    }
}
