//! A client of the first release. `fixtures/api-v1.jsonl` has what it sends and what it reads of the answers: taken from the CLI as it was
//! when each part of the API was new. Today's coordinator must serve it: programs rely on these names.
//!
//! A line is a request: `name`, `method`, `path`, `body` (or `raw`, which is no JSON), and what comes of it: `status`; `text`, the whole
//! answer; `reads`, fields by JSON pointer, each with its type (a `?` behind it: or null, but there); `equals`, fields by their values;
//! `until`, as `equals`, asked for again and again before the others; `keep`, fields that later lines name in braces. A field may come to
//! these lists. It may leave them only with a new version of the API.

use ferry_tests::{Secured, wait_for};
use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};
use std::{collections::BTreeMap, fs};

const RECORDED: &str = include_str!("../fixtures/api-v1.jsonl");
/// Files that are copied; `equals` knows of their rows.
const FILES: usize = 3;

/// Who asks.
struct OldClient {
    http: Client,
    address: String,
    token: String,
}

impl OldClient {
    /// Status and body of the answer to a recorded request.
    async fn ask(&self, line: &Value) -> (StatusCode, String) {
        let method: Method = line["method"].as_str().unwrap().parse().unwrap();
        let url = format!("{}{}", self.address, line["path"].as_str().unwrap());
        let mut request = self.http.request(method, url).bearer_auth(&self.token);
        if let Some(raw) = line["raw"].as_str() {
            request = request.body(raw.to_owned());
        } else if line["body"].is_object() {
            request = request.json(&line["body"]);
        }
        let answer = request.send().await.unwrap();
        (answer.status(), answer.text().await.unwrap())
    }
}

/// Names in braces become what they stand for.
fn filled(line: &str, places: &BTreeMap<String, String>) -> Value {
    let mut text = line.to_owned();
    for (name, place) in places {
        text = text.replace(&format!("{{{name}}}"), place);
    }
    serde_json::from_str(&text).unwrap()
}

fn entries<'a>(line: &'a Value, key: &str) -> impl Iterator<Item = (&'a str, &'a Value)> {
    line[key].as_object().into_iter().flatten().map(|(name, value)| (name.as_str(), value))
}

fn is_of(value: &Value, kind: &str) -> bool {
    match kind.strip_suffix('?') {
        Some(kind) => value.is_null() || is_of(value, kind),
        None => match kind {
            "string" => value.is_string(),
            "integer" => value.is_u64() || value.is_i64(),
            "number" => value.is_number(),
            "boolean" => value.is_boolean(),
            "array" => value.is_array(),
            "object" => value.is_object(),
            other => panic!("the fixture has a type {other:?}"),
        },
    }
}

/// What an old client would miss in an answer: a line each.
fn missed(line: &Value, status: StatusCode, text: &str) -> Vec<String> {
    let asked = |key: &str| line[key].as_str().unwrap_or_default();
    let of = format!("{} ({} {})", asked("name"), asked("method"), asked("path"));
    if line["status"] != status.as_u16() {
        return vec![format!("{of}: status {} was promised, and it is {status}: {text}", line["status"])];
    }
    if let Some(expected) = line["text"].as_str() {
        return if text == expected {
            Vec::new()
        } else {
            vec![format!("{of}: {expected:?} was promised, not {text:?}")]
        };
    }
    let Ok(answer) = serde_json::from_str::<Value>(text) else { return vec![format!("{of}: no JSON: {text}")] };
    let mut missed = Vec::new();
    for (place, kind) in entries(line, "reads") {
        let kind = kind.as_str().unwrap();
        match answer.pointer(place) {
            None => missed.push(format!("{of}: there is no {place} any more, which was of type {kind}")),
            Some(value) if !is_of(value, kind) => {
                missed.push(format!("{of}: {place} was of type {kind}, and is now {value}"));
            }
            Some(_) => {}
        }
    }
    for (place, expected) in entries(line, "equals") {
        if answer.pointer(place) != Some(expected) {
            let found = answer.pointer(place);
            missed.push(format!("{of}: {place} was {expected}, and is now {}", found.unwrap_or(&Value::Null)));
        }
    }
    missed
}

#[tokio::test]
async fn a_client_of_the_first_release_finds_all_that_it_reads() {
    let secured = Secured::start(&[]).await;
    let join = secured.token("join", &["--runtime", "default"]);
    let _node = secured.node("node-a", Some(&join));
    assert_eq!(secured.write_source(FILES), 12_000, "the fixture knows of so many rows");
    let authority = reqwest::Certificate::from_pem(&fs::read(&secured.authority).unwrap()).unwrap();
    let client = OldClient {
        http: Client::builder().tls_certs_only([authority]).no_proxy().build().unwrap(),
        address: format!("https://localhost:{}", secured.http_port),
        token: fs::read_to_string(secured.path("tls/admin-token")).unwrap().trim().to_owned(),
    };
    let folder = |name: &str| secured.path(name).display().to_string();
    let endpoint = secured.activity()["sink"]["endpoint"].as_str().unwrap().to_owned();
    let places = [("source", folder("source")), ("staging", folder("staging")), ("endpoint", endpoint)];
    let mut places: BTreeMap<String, String> = places.map(|(name, place)| (name.to_owned(), place)).into();

    let mut all_missed = Vec::new();
    for line in RECORDED.lines() {
        let line = filled(line, &places);
        let (status, text) = wait_for(line["name"].as_str().unwrap(), || async {
            let (status, text) = client.ask(&line).await;
            let answer: Value = serde_json::from_str(&text).unwrap_or_default();
            // What is not as it was promised is told below; it will not become so.
            let is_promised = line["status"] == status.as_u16();
            let has_come = entries(&line, "until").all(|(place, expected)| answer.pointer(place) == Some(expected));
            (has_come || !is_promised).then_some((status, text))
        })
        .await;
        all_missed.extend(missed(&line, status, &text));
        let answer: Value = serde_json::from_str(&text).unwrap_or_default();
        for (name, place) in entries(&line, "keep") {
            let value = answer.pointer(place.as_str().unwrap()).and_then(Value::as_str).unwrap_or_default();
            places.insert(name.to_owned(), value.to_owned());
        }
    }
    assert!(
        all_missed.is_empty(),
        "programs of the first release would break. Give back what is missing:\n{}",
        all_missed.join("\n")
    );
    assert_eq!(secured.rows(), (12_000, 12_000));
}

#[test]
fn what_an_old_client_misses_is_told() {
    let line = json!({"name": "n", "method": "GET", "path": "/p", "status": 200,
                      "reads": {"/a": "string", "/b": "integer?", "/c/0/d": "number"}, "equals": {"/a": "x"}});
    let whole = r#"{"a": "x", "b": null, "c": [{"d": 1.5}], "new": 1}"#;
    assert_eq!(missed(&line, StatusCode::OK, whole), Vec::<String>::new());
    for (case, status, text, words) in [
        ("another status", StatusCode::CREATED, whole, "status 200 was promised"),
        ("a name is gone", StatusCode::OK, r#"{"a": "x", "b": 1, "c": [{"e": 1}]}"#, "no /c/0/d any more"),
        ("null is not gone", StatusCode::OK, r#"{"a": "x", "c": [{"d": 1}]}"#, "no /b any more"),
        ("another type", StatusCode::OK, r#"{"a": "x", "b": "1", "c": [{"d": 1}]}"#, "/b was of type integer?"),
        ("another value", StatusCode::OK, r#"{"a": "y", "b": 1, "c": [{"d": 1}]}"#, "/a was \"x\""),
        ("no JSON", StatusCode::OK, "oops", "no JSON"),
    ] {
        let missed = missed(&line, status, text);
        assert!(missed.len() == 1 && missed[0].contains(words), "{case}: {missed:?}");
    }
}

#[test]
fn each_route_of_the_first_release_is_asked() {
    let lines: Vec<Value> = RECORDED.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for (method, path) in [
        ("POST", "/api/v1/runs"),
        ("GET", "/api/v1/runs"),
        ("GET", "/api/v1/runs/old-1"),
        ("GET", "/api/v1/runs/old-1/report"),
        ("GET", "/api/v1/runs/old-1/ledger"),
        ("POST", "/api/v1/runs/{unnamed}/cancel"),
        ("GET", "/api/v1/nodes"),
        ("POST", "/api/v1/nodes/node-a/drain"),
        ("POST", "/api/v1/tokens"),
        ("GET", "/api/v1/tokens"),
        ("DELETE", "/api/v1/tokens/{viewer}"),
        ("GET", "/api/v1/leaks"),
        ("GET", "/healthz"),
        ("GET", "/readyz"),
    ] {
        let is_asked =
            lines.iter().any(|line| line["method"] == method && line["path"] == path && line["status"] != 404);
        assert!(is_asked, "{method} {path}");
    }
}
