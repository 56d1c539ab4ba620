//! Ingestion mappings: where each column of a table takes its values from.

use super::IngestError;
use crate::catalogue::Table;
use serde::Deserialize;

#[derive(Debug, Deserialize)]
struct RawMapping {
    #[serde(alias = "Column", alias = "Name", alias = "name")]
    column: String,
    #[serde(alias = "Properties", default)]
    properties: RawProperties,
    #[serde(alias = "Ordinal", default)]
    ordinal: Option<serde_json::Value>,
    #[serde(alias = "Path", default)]
    path: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
struct RawProperties {
    #[serde(alias = "Ordinal", default)]
    ordinal: Option<serde_json::Value>,
    #[serde(alias = "Path", default)]
    path: Option<String>,
    #[serde(alias = "Field", default)]
    field: Option<String>,
    #[serde(alias = "ConstValue", alias = "constValue", default)]
    const_value: Option<String>,
    #[serde(alias = "Transform", default)]
    transform: Option<String>,
}

/// What a format's records look like to a mapping.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Shape {
    /// Fields in an order: `Ordinal`.
    Delimited,
    /// A document: `Path`.
    Json,
    /// Named, typed columns: `Field` or `Path`.
    Columnar,
    /// Named fields of a line: `Field`.
    Log,
}

/// Where the values of a table's column come from.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Place {
    Nowhere,
    Ordinal(usize),
    Path(Vec<Step>),
    Constant(String),
    /// The blob's address, without its signature.
    SourceLocation,
    /// The record's number in its blob, from 1.
    SourceLineNumber,
}

/// A step of a JSON path.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Step {
    Key(String),
    Element(usize),
}

impl Place {
    /// The value, where it does not come out of the record.
    pub(super) fn beside<'a>(&'a self, location: &'a str, number: &'a str) -> Option<&'a str> {
        match self {
            Self::Constant(value) => Some(value),
            Self::SourceLocation => Some(location),
            Self::SourceLineNumber => Some(number),
            Self::Nowhere | Self::Ordinal(_) | Self::Path(_) => None,
        }
    }
}

/// The kind of mapping that a format goes by, as `.create ... ingestion KIND mapping` names it.
pub fn mapping_kind(format: &str) -> &str {
    match format {
        "json" | "multijson" => "json",
        "avro" | "apacheavro" => "avro",
        "parquet" | "w3clogfile" => format,
        _ => "csv",
    }
}

/// Checks a mapping's JSON against a table: one place for each of its columns.
///
/// Without a mapping, delimited fields go by their order, and named ones by their names, in the very same letters.
pub(super) fn places_of(table: &Table, json: Option<&str>, shape: Shape) -> Result<Vec<Place>, IngestError> {
    let Some(json) = json else {
        let identity = |(at, name): (usize, &String)| match shape {
            Shape::Delimited => Place::Ordinal(at),
            Shape::Json | Shape::Columnar | Shape::Log => Place::Path(vec![Step::Key(name.clone())]),
        };
        return Ok(table.columns.iter().map(|c| &c.name).enumerate().map(identity).collect());
    };
    let bad = |why: String| IngestError::permanent("BadRequest_InvalidMapping", why);
    let mapped: Vec<RawMapping> = serde_json::from_str(json).map_err(|e| bad(format!("ingestion mapping: {e}")))?;
    let mut places = vec![Place::Nowhere; table.columns.len()];
    for raw in mapped {
        let Some(at) = table.columns.iter().position(|c| c.name == raw.column) else {
            return Err(bad(format!("the mapping names column '{}', which table '{}' lacks", raw.column, table.name)));
        };
        let column = raw.column.clone();
        places[at] = place_of(raw, shape).map_err(|why| bad(format!("column '{column}': {why}")))?;
    }
    Ok(places)
}

fn place_of(raw: RawMapping, shape: Shape) -> Result<Place, String> {
    let RawProperties { ordinal, path, field, const_value, transform } = raw.properties;
    let (ordinal, path) = (ordinal.or(raw.ordinal), path.or(raw.path));
    if let Some(transform) = transform.filter(|t| !t.is_empty()) {
        return match transform.as_str() {
            "SourceLocation" | "SourceLineNumber" if ordinal.is_some() => {
                Err(format!("Ordinal and the transform {transform} exclude each other"))
            }
            "SourceLocation" => Ok(Place::SourceLocation),
            "SourceLineNumber" => Ok(Place::SourceLineNumber),
            other => Err(format!("transform '{other}' is not supported by local-adx")),
        };
    }
    if let Some(value) = const_value {
        return Ok(Place::Constant(value));
    }
    match (shape, ordinal, field, path) {
        (Shape::Delimited, Some(ordinal), ..) => {
            let number = ordinal.as_u64().or_else(|| ordinal.as_str()?.parse().ok());
            Ok(Place::Ordinal(number.ok_or_else(|| format!("ordinal {ordinal} is no number"))? as usize))
        }
        (Shape::Columnar, _, Some(_), Some(_)) => Err("Field and Path exclude each other".to_owned()),
        (Shape::Columnar | Shape::Log, _, Some(field), None) => Ok(Place::Path(vec![Step::Key(field)])),
        // What does not begin at the record's root is no path but the value itself.
        (Shape::Json | Shape::Columnar, _, None, Some(path)) if !path.starts_with('$') => Ok(Place::Constant(path)),
        (Shape::Json | Shape::Columnar, _, None, Some(path)) => {
            parse_path(&path).map(Place::Path).ok_or_else(|| format!("path {path} is not understood"))
        }
        _ => Err("there is no source of the format's kind".to_owned()),
    }
}

/// Takes a JSON path apart: `$.a.b`, `$['odd name'][0]`, `$.['odd name']`.
fn parse_path(path: &str) -> Option<Vec<Step>> {
    let mut rest = path.strip_prefix('$')?;
    let mut steps = Vec::new();
    while !rest.is_empty() {
        if rest.starts_with(".[") {
            rest = &rest[1..];
        }
        if let Some(after) = rest.strip_prefix("['") {
            let mut key = String::new();
            let mut chars = after.char_indices();
            let end = loop {
                match chars.next()? {
                    (_, '\\') => key.push(chars.next()?.1),
                    (at, '\'') => break at,
                    (_, c) => key.push(c),
                }
            };
            steps.push(Step::Key(key));
            rest = after[end + 1..].strip_prefix(']')?;
        } else if let Some(after) = rest.strip_prefix('[') {
            let (number, after) = after.split_once(']')?;
            steps.push(Step::Element(number.parse().ok()?));
            rest = after;
        } else {
            let after = rest.strip_prefix('.')?;
            let end = after.find(['.', '[']).unwrap_or(after.len());
            steps.push(Step::Key(after[..end].to_owned()));
            rest = &after[end..];
        }
    }
    Some(steps)
}

/// What a path leads to in a document.
pub(super) fn follow<'a>(mut value: &'a serde_json::Value, steps: &[Step]) -> Option<&'a serde_json::Value> {
    for step in steps {
        value = match step {
            Step::Key(key) => value.get(key)?,
            Step::Element(at) => value.get(at)?,
        };
    }
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingest::testing::table;

    fn key(name: &str) -> Step {
        Step::Key(name.to_owned())
    }

    #[test]
    fn paths_are_taken_apart() {
        for (path, steps) in [
            ("$", Some(vec![])),
            ("$.a.b", Some(vec![key("a"), key("b")])),
            (r"$['it\'s'][2].x", Some(vec![key("it's"), Step::Element(2), key("x")])),
            ("$.['odd name'].x", Some(vec![key("odd name"), key("x")])),
            ("a", None),
            ("$[x]", None),
        ] {
            assert_eq!(parse_path(path), steps, "{path}");
        }
    }

    #[test]
    fn an_entry_of_a_mapping_says_where_values_come_from() {
        let constant = |text: &str| Some(Place::Constant(text.to_owned()));
        for (case, shape, properties, place) in [
            ("an ordinal", Shape::Delimited, r#"{"Ordinal":"2"}"#, Some(Place::Ordinal(2))),
            ("a constant", Shape::Delimited, r#"{"ConstValue":"x"}"#, constant("x")),
            ("a path is nothing to fields in an order", Shape::Delimited, r#"{"Path":"$.a"}"#, None),
            ("a path", Shape::Json, r#"{"Path":"$.b"}"#, Some(Place::Path(vec![key("b")]))),
            ("the whole record", Shape::Json, r#"{"Path":"$"}"#, Some(Place::Path(vec![]))),
            ("a path that begins nowhere is the value", Shape::Columnar, r#"{"Path":"x"}"#, constant("x")),
            ("a field is nothing to a document", Shape::Json, r#"{"Field":"b"}"#, None),
            (
                "a field's name is taken as it is",
                Shape::Columnar,
                r#"{"Field":"$.b"}"#,
                Some(Place::Path(vec![key("$.b")])),
            ),
            ("a field or a path", Shape::Columnar, r#"{"Field":"b","Path":"$.b"}"#, None),
            ("a field of a log", Shape::Log, r#"{"Field":"c-ip"}"#, Some(Place::Path(vec![key("c-ip")]))),
            ("a path is nothing to a log", Shape::Log, r#"{"Path":"$.b"}"#, None),
            ("the blob's address", Shape::Json, r#"{"Transform":"SourceLocation"}"#, Some(Place::SourceLocation)),
            (
                "the record's number",
                Shape::Delimited,
                r#"{"Transform":"SourceLineNumber"}"#,
                Some(Place::SourceLineNumber),
            ),
            (
                "a transform leaves the ordinal out",
                Shape::Delimited,
                r#"{"Ordinal":1,"Transform":"SourceLocation"}"#,
                None,
            ),
            ("an unknown transform", Shape::Json, r#"{"Path":"$.b","Transform":"Reverse"}"#, None),
        ] {
            let json = format!(r#"[{{"Column":"b","Properties":{properties}}}]"#);
            let places = places_of(&table("a:int,b:string"), Some(&json), shape);
            match place {
                Some(place) => assert_eq!(places.unwrap(), [Place::Nowhere, place], "{case}"),
                None => assert_eq!(places.unwrap_err().code, "BadRequest_InvalidMapping", "{case}"),
            }
        }
    }
}
