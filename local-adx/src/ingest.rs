//! Ingestion: fetch one blob, decode it, write an extent.

use crate::{
    catalogue::{Column, Table},
    error::AdxError,
    extents::ExtentWriter,
    types::Kind,
};
use flate2::read::GzDecoder;
use futures::StreamExt as _;
use serde::Deserialize;
use std::{
    fs::File,
    io::{self, BufRead as _, BufReader, Read, Write as _},
    path::{Path, PathBuf},
};

/// Longest line of JSON.
const LINE_BYTES_MAX: u64 = 64 << 20;

/// Why an ingestion failed, as the journal of failures names it.
#[derive(Debug, Clone)]
pub struct IngestError {
    /// Such as `Stream_WrongNumberOfFields`.
    pub code: &'static str,
    /// For people.
    pub details: String,
    /// A repeat cannot help.
    pub permanent: bool,
}

impl IngestError {
    /// A failure that a fault switch asked for.
    pub fn asked_for() -> Self {
        Self::transient("General_InternalServerError", "a failure that was asked for")
    }

    fn permanent(code: &'static str, details: impl Into<String>) -> Self {
        Self { code, details: details.into(), permanent: true }
    }

    fn transient(code: &'static str, details: impl Into<String>) -> Self {
        Self { code, details: details.into(), permanent: false }
    }
}

impl From<AdxError> for IngestError {
    fn from(error: AdxError) -> Self {
        Self::transient("General_InternalServerError", error.message)
    }
}

/// Properties of an ingestion.
#[derive(Debug, Clone, Default)]
pub struct Properties {
    /// Such as `csv`.
    pub format: String,
    /// The mapping's JSON.
    pub mapping: Option<String>,
    /// The first record is a header.
    pub ignore_first_record: bool,
    /// Tags of the extent.
    pub tags: Vec<String>,
    /// Values of `ingest-by:` tags that must not be there yet.
    pub if_not_exists: Vec<String>,
    /// A record of another width fails the blob.
    pub strict_width: bool,
}

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
    #[serde(alias = "ConstValue", default)]
    const_value: Option<String>,
}

/// Where the values of a table's column come from.
#[derive(Debug, Clone, PartialEq)]
enum Place {
    Nowhere,
    Field(usize),
    Path(Vec<Step>),
    Constant(String),
}

/// A step of a JSON path.
#[derive(Debug, Clone, PartialEq)]
enum Step {
    Key(String),
    Element(usize),
}

/// Checks a mapping's JSON against a table: one place for each of its columns.
fn mapping_of(table: &Table, json: Option<&str>, is_json: bool) -> Result<Vec<Place>, IngestError> {
    let Some(json) = json else {
        return Ok(table
            .columns
            .iter()
            .enumerate()
            .map(|(at, c)| if is_json { Place::Path(vec![Step::Key(c.name.clone())]) } else { Place::Field(at) })
            .collect());
    };
    let bad = |why: String| IngestError::permanent("BadRequest_InvalidMapping", why);
    let mapped: Vec<RawMapping> = serde_json::from_str(json).map_err(|e| bad(format!("ingestion mapping: {e}")))?;
    let mut places = vec![Place::Nowhere; table.columns.len()];
    for raw in mapped {
        let Some(at) = table.columns.iter().position(|c| c.name == raw.column) else {
            return Err(bad(format!("the mapping names column '{}', which table '{}' lacks", raw.column, table.name)));
        };
        let ordinal = raw.properties.ordinal.or(raw.ordinal);
        let path = raw.properties.path.or(raw.path);
        places[at] = match (raw.properties.const_value, ordinal, path) {
            (Some(value), ..) => Place::Constant(value),
            (_, Some(ordinal), _) if !is_json => {
                let number = ordinal.as_u64().or_else(|| ordinal.as_str()?.parse().ok());
                Place::Field(number.ok_or_else(|| bad(format!("ordinal {ordinal} is no number")))? as usize)
            }
            (_, _, Some(path)) if is_json => {
                Place::Path(parse_path(&path).ok_or_else(|| bad(format!("path {path} is not understood")))?)
            }
            _ => return Err(bad(format!("column '{}' has no source of the format's kind", raw.column))),
        };
    }
    Ok(places)
}

/// Takes a JSON path apart: `$.a.b`, `$['odd name'][0]`.
fn parse_path(path: &str) -> Option<Vec<Step>> {
    let mut rest = path.strip_prefix('$')?;
    let mut steps = Vec::new();
    while !rest.is_empty() {
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

fn follow<'a>(mut value: &'a serde_json::Value, steps: &[Step]) -> Option<&'a serde_json::Value> {
    for step in steps {
        value = match step {
            Step::Key(key) => value.get(key)?,
            Step::Element(at) => value.get(at)?,
        };
    }
    Some(value)
}

/// Brings a blob to this machine. Addresses are fetched, paths are read where they are.
pub async fn fetch(http: &reqwest::Client, source: &str, download: PathBuf) -> Result<(PathBuf, bool), IngestError> {
    if !source.starts_with("http://") && !source.starts_with("https://") {
        let path = PathBuf::from(source);
        return if path.is_file() {
            Ok((path, false))
        } else {
            Err(IngestError::permanent("Download_SourceNotFound", format!("there is no file {source}")))
        };
    }
    let place = source.split('?').next().unwrap_or_default().to_owned();
    let lost =
        |e: reqwest::Error| IngestError::transient("Download_UnknownError", format!("{place}: {}", e.without_url()));
    let response = http.get(source).send().await.map_err(lost)?;
    match response.status().as_u16() {
        200 => {}
        404 => return Err(IngestError::permanent("Download_SourceNotFound", format!("{place} does not exist"))),
        status @ (401 | 403) => {
            return Err(IngestError::permanent("Download_Forbidden", format!("{place}: HTTP {status}")));
        }
        status => return Err(IngestError::transient("Download_UnknownError", format!("{place}: HTTP {status}"))),
    }
    let disk = |e: io::Error| IngestError::transient("General_InternalServerError", e.to_string());
    let saved = async {
        let mut file = File::create(&download).map_err(disk)?;
        let mut body = response.bytes_stream();
        while let Some(part) = body.next().await {
            file.write_all(&part.map_err(lost)?).map_err(disk)?;
        }
        Ok(())
    };
    match saved.await {
        Ok(()) => Ok((download, true)),
        Err(error) => {
            let _ = std::fs::remove_file(&download);
            Err(error)
        }
    }
}

/// Decodes a file into an extent at `to`. Returns rows and bytes before compression. Runs where it may block.
pub fn decode(
    from: &Path,
    name: &str,
    to: &Path,
    table: &Table,
    properties: &Properties,
) -> Result<(i64, i64), IngestError> {
    let file = File::open(from).map_err(|e| IngestError::transient("Download_UnknownError", e.to_string()))?;
    let name = name.split('?').next().unwrap_or_default();
    let reader: Box<dyn Read> = if name.ends_with(".gz") {
        // A reader of the first member alone: what it would lose with several members shows here.
        Box::new(GzDecoder::new(BufReader::new(file)))
    } else {
        Box::new(file)
    };
    let mut counted = Counted { inner: reader, bytes: 0 };
    let mut writer = ExtentWriter::create(to, &table.columns)?;
    match properties.format.as_str() {
        "json" => decode_json(&mut counted, &mut writer, table, properties)?,
        format => {
            let delimiter = match format {
                "csv" => b',',
                "tsv" => b'\t',
                "psv" => b'|',
                "scsv" => b';',
                "sohsv" => 1,
                other => {
                    return Err(IngestError::permanent(
                        "BadRequest_FormatNotSupported",
                        format!("format '{other}' is not supported by local-adx"),
                    ));
                }
            };
            decode_csv(&mut counted, delimiter, &mut writer, table, properties)?;
        }
    }
    let rows = writer.finish()?;
    if rows == 0 {
        return Err(IngestError::permanent("BadRequest_NoRecordsOrWrongFormat", "the blob has no records"));
    }
    Ok((rows, counted.bytes))
}

struct Counted<R> {
    inner: R,
    bytes: i64,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.bytes += read as i64;
        Ok(read)
    }
}

fn decode_csv(
    reader: &mut impl Read,
    delimiter: u8,
    writer: &mut ExtentWriter,
    table: &Table,
    properties: &Properties,
) -> Result<(), IngestError> {
    let places = mapping_of(table, properties.mapping.as_deref(), false)?;
    let mut records = csv::ReaderBuilder::new()
        .delimiter(delimiter)
        .has_headers(properties.ignore_first_record)
        .flexible(true)
        .from_reader(reader);
    let mut record = csv::ByteRecord::new();
    let mut width = None;
    loop {
        let broken = |e: csv::Error| IngestError::permanent("BadRequest_InvalidBlob", e.to_string());
        if !records.read_byte_record(&mut record).map_err(broken)? {
            return Ok(());
        }
        let expected = *width.get_or_insert(record.len());
        if properties.strict_width && record.len() != expected {
            return Err(IngestError::permanent(
                "Stream_WrongNumberOfFields",
                format!("record {} has {} fields, the first has {expected}", writer.rows + 1, record.len()),
            ));
        }
        let texts: Vec<_> = record.iter().map(String::from_utf8_lossy).collect();
        writer.push(places.iter().map(|place| match place {
            Place::Field(at) => texts.get(*at).map(|t| &**t),
            Place::Constant(value) => Some(value.as_str()),
            Place::Nowhere | Place::Path(_) => None,
        }))?;
    }
}

fn decode_json(
    reader: &mut impl Read,
    writer: &mut ExtentWriter,
    table: &Table,
    properties: &Properties,
) -> Result<(), IngestError> {
    let places = mapping_of(table, properties.mapping.as_deref(), true)?;
    let mut reader = BufReader::new(reader);
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = reader.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line);
        if read.map_err(|e| IngestError::permanent("BadRequest_InvalidBlob", e.to_string()))? == 0 {
            return Ok(());
        }
        // A bad line is passed over in silence, as the service does.
        let Ok(value) = serde_json::from_slice::<serde_json::Value>(&line) else { continue };
        let texts: Vec<Option<String>> = places
            .iter()
            .zip(&table.columns)
            .map(|(place, column)| match place {
                Place::Path(steps) => follow(&value, steps).and_then(|v| text_of(v, column)),
                Place::Constant(value) => Some(value.clone()),
                Place::Nowhere | Place::Field(_) => None,
            })
            .collect();
        writer.push(texts.iter().map(Option::as_deref))?;
    }
}

fn text_of(value: &serde_json::Value, column: &Column) -> Option<String> {
    match value {
        serde_json::Value::Null => None,
        serde_json::Value::String(text) if column.kind == Kind::Dynamic => {
            Some(serde_json::Value::from(text.as_str()).to_string())
        }
        serde_json::Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_taken_apart() {
        let key = |k: &str| Step::Key(k.to_owned());
        for (path, steps) in [
            ("$", Some(vec![])),
            ("$.a.b", Some(vec![key("a"), key("b")])),
            (r"$['it\'s'][2].x", Some(vec![key("it's"), Step::Element(2), key("x")])),
            ("a", None),
            ("$[x]", None),
        ] {
            assert_eq!(parse_path(path), steps, "{path}");
        }
    }
}
