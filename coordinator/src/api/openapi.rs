//! The OpenAPI document: made of the routes and the types that answer, and completed here with what is the same everywhere.

use super::problem;
use axum::{
    Json,
    extract::State,
    http::header,
    response::{IntoResponse, Response},
};
use ferry_common::activity::Activity;
use serde_json::{Map, Value, json};
use std::sync::{Arc, OnceLock};
use utoipa::{PartialSchema as _, ToSchema, openapi::OpenApi};

/// The document, once all routes are known.
pub(super) type Document = Arc<OnceLock<String>>;

/// What a report has at its top; others may follow. Data Factory's names, then ferry's.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
#[allow(dead_code, reason = "it is written field by field, and described here")]
pub(super) struct ReportView {
    /// `Succeeded`, `Failed`, `Cancelled`, `InProgress`.
    status: String,
    data_read: u64,
    data_written: u64,
    files_read: u64,
    files_written: u64,
    files_skipped: u64,
    source_peak_connections: u32,
    sink_peak_connections: u32,
    rows_read: u64,
    rows_copied: u64,
    rows_skipped: u64,
    /// Seconds.
    copy_duration: f64,
    /// KB/s of data read.
    throughput: f64,
    effective_integration_runtime: String,
    used_data_integration_units: u32,
    used_parallel_copies: u32,
    data_consistency_verification: Value,
    errors: Vec<ReportErrorView>,
    log_files: Vec<String>,
    log_path: String,
    path: Option<String>,
    staged_format: Option<String>,
    run_id: String,
    activity: String,
    state: String,
    is_swept: bool,
    sink: Value,
    warnings: Vec<String>,
    stages: Value,
    nodes: Vec<Value>,
    files: Vec<Value>,
    files_not_listed: u64,
    ingest: Vec<Value>,
}

/// A failure in a report.
#[derive(ToSchema)]
#[allow(dead_code, reason = "as above")]
struct ReportErrorView {
    code: String,
    fault: String,
    message: String,
    remedy: String,
}

/// The JSON Schema of a copy activity, for editors.
#[utoipa::path(
    get,
    path = "/api/v1/schema",
    tag = "about",
    responses((status = 200, body = Value, description = "A JSON Schema"))
)]
pub(super) async fn show_schema() -> Json<Value> {
    Json(Activity::json_schema().to_value())
}

/// This document.
#[utoipa::path(
    get,
    path = "/api/v1/openapi.json",
    tag = "about",
    responses((status = 200, body = Value, description = "An OpenAPI 3.1 document"))
)]
pub(super) async fn show_document(State(document): State<Document>) -> Response {
    let text = document.get().cloned().unwrap_or_default();
    ([(header::CONTENT_TYPE, "application/json")], text).into_response()
}

/// What is true of every operation, or follows from what it takes, is added to the document of the routes.
pub(super) fn completed(routes: &OpenApi) -> Result<Value, serde_json::Error> {
    let mut document = serde_json::to_value(routes)?;
    document["info"] = json!({
        "title": "ferry",
        "version": env!("CARGO_PKG_VERSION"),
        "description": "The API of a ferry coordinator. Errors are application/problem+json; whoever changes something with a \
                        browser's cookie must be one of the coordinator's own pages.",
        "license": {"name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0"},
    });
    document["security"] = json!([{"bearer": []}, {"cookie": []}]);
    if let Some(paths) = document["paths"].as_object_mut() {
        for (path, item) in paths {
            for (method, operation) in item.as_object_mut().into_iter().flatten() {
                complete(path, method, operation);
            }
        }
    }
    let (activity, others) = activity_schemas();
    let schemas = &mut document["components"]["schemas"];
    for (name, schema) in others {
        schemas[name] = schema;
    }
    schemas["Activity"] = activity;
    schemas["ProblemView"] = serde_json::to_value(problem::ProblemView::schema())?;
    if let Some(properties) = schemas["Submission"]["properties"].as_object_mut() {
        let words = properties.get("activity").and_then(|known| known["description"].as_str()).unwrap_or_default();
        let described = json!({"description": words, "$ref": "#/components/schemas/Activity"});
        properties.insert("activity".to_owned(), described);
    }
    document["components"]["securitySchemes"] = json!({
        "bearer": {"type": "http", "scheme": "bearer", "description": "A token of `ferry token create --role ROLE`"},
        "cookie": {"type": "apiKey", "in": "cookie", "name": super::session::COOKIE,
                   "description": "The same token, as `POST /api/v1/session` leaves it in a browser"},
    });
    Ok(document)
}

/// Whoever asks need not be signed in.
const OPEN_PATHS: [&str; 4] = ["/healthz", "/readyz", "/api/v1/whoami", "/api/v1/session"];

/// Adds the problems that an operation may answer with.
fn complete(path: &str, method: &str, operation: &mut Value) {
    let (takes_parameters, takes_body) =
        (operation.get("parameters").is_some(), operation.get("requestBody").is_some());
    let is_open = OPEN_PATHS.contains(&path);
    if is_open {
        operation["security"] = json!([]);
    }
    let mut problems = vec![(403, "Another site, or a role that is missing"), (408, "It took too long")];
    if path != "/healthz" {
        problems.push((503, "The store cannot be used, or there is no room"));
    }
    if path != "/healthz" && path != "/readyz" {
        problems.extend([(401, "No token, or one that is not good"), (429, "Too many failed sign-ins")]);
    }
    if takes_parameters || takes_body {
        problems.push((400, "A parameter or the body cannot be read"));
    }
    if takes_body {
        problems.push((413, "The body is too large"));
    }
    if path.contains('{') {
        problems.push((404, "There is none of that name"));
    }
    match (method, path) {
        ("post", "/api/v1/runs" | "/api/v1/plans") => {
            problems.extend([(409, "The id is another activity's"), (422, "The activity is not valid")]);
        }
        ("post", "/api/v1/checks") => problems.push((422, "The activity is not valid")),
        ("get", "/api/v1/runs/{run}/plan") => problems.push((409, "There is no plan yet, or there will be none")),
        ("put", "/api/v1/schedules/{schedule}") => {
            problems.extend([(409, "It was changed meanwhile"), (422, "The schedule is not valid")]);
        }
        ("post", "/api/v1/schedules/{schedule}/pause" | "/api/v1/schedules/{schedule}/resume") => {
            problems.push((409, "It was changed meanwhile"));
        }
        (_, "/api/v1/tokens" | "/api/v1/tokens/{token}" | "/api/v1/nodes/{node}/revoke")
        | ("post", "/api/v1/session") => problems.push((409, "This coordinator asks nobody for a token")),
        _ => {}
    }
    for (status, words) in problems {
        let schema = json!({"$ref": "#/components/schemas/ProblemView"});
        let mut content = Map::new();
        content.insert(problem::KIND.to_owned(), json!({"schema": schema}));
        let responses = &mut operation["responses"];
        if responses.get(status.to_string()).is_none() {
            responses[status.to_string()] = json!({"description": words, "content": content});
        }
    }
}

/// The schema of an activity and those that it refers to, as parts of this document.
fn activity_schemas() -> (Value, Map<String, Value>) {
    let mut activity = Activity::json_schema().to_value();
    let mut others = Map::new();
    if let Some(schema) = activity.as_object_mut() {
        schema.remove("$schema");
        if let Some(Value::Object(defined)) = schema.remove("$defs") {
            others = defined;
        }
    }
    moved(&mut activity);
    others.values_mut().for_each(moved);
    (activity, others)
}

/// Lets references lead to where the document keeps its schemas.
fn moved(value: &mut Value) {
    match value {
        Value::Object(members) => {
            for (key, member) in members {
                match member {
                    Value::String(place) if key == "$ref" => {
                        *place = place.replace("#/$defs/", "#/components/schemas/");
                    }
                    other => moved(other),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(moved),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn references(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(members) => {
                found.extend(members.get("$ref").and_then(Value::as_str).map(str::to_owned));
                members.values().for_each(|member| references(member, found));
            }
            Value::Array(items) => items.iter().for_each(|item| references(item, found)),
            _ => {}
        }
    }

    #[test]
    fn the_schemas_of_an_activity_refer_to_each_other_in_the_document() {
        let (activity, others) = activity_schemas();
        assert!(activity["properties"]["source"].is_object(), "{activity}");
        let mut found = Vec::new();
        references(&activity, &mut found);
        others.values().for_each(|schema| references(schema, &mut found));
        assert!(found.len() > 10);
        for place in found {
            let name = place.strip_prefix("#/components/schemas/").unwrap_or_else(|| panic!("{place}"));
            assert!(others.contains_key(name), "{place}");
        }
    }

    #[test]
    fn an_operation_tells_of_the_problems_that_it_may_answer_with() {
        for (method, path, operation, told, untold) in [
            (
                "get",
                "/api/v1/runs/{run}",
                json!({"parameters": []}),
                vec!["400", "401", "404", "503"],
                vec!["409", "422"],
            ),
            ("post", "/api/v1/runs", json!({"requestBody": {}}), vec!["400", "409", "413", "422"], vec!["404"]),
            ("get", "/healthz", json!({}), vec!["403"], vec!["401", "503"]),
            ("get", "/api/v1/whoami", json!({}), vec!["401", "429"], vec!["400"]),
        ] {
            let mut operation = operation;
            complete(path, method, &mut operation);
            for status in told {
                assert!(operation["responses"][status].is_object(), "{path}: {status}");
            }
            for status in untold {
                assert!(operation["responses"][status].is_null(), "{path}: {status}");
            }
        }
    }
}
