//! Ingestion: fetch one blob, decode it, write an extent.

mod columnar;
mod convert;
mod delimited;
mod json;
mod lines;
mod mapping;
mod properties;
#[cfg(test)]
mod testing;

pub use mapping::mapping_kind;
pub use properties::Properties;

use crate::{catalogue::Table, error::AdxError, extents::ExtentWriter};
use flate2::read::GzDecoder;
use futures::StreamExt as _;
use mapping::{Place, Shape};
use std::{
    borrow::Cow,
    fmt::Display,
    fs::File,
    io::{self, BufReader, Read, Write as _},
    path::{Path, PathBuf},
};

/// Longest record of a text format, in bytes.
///
/// Source: Azure Data Explorer, ingestion errors: a value or a record over 64 MB fails the file.
const RECORD_BYTES_MAX: u64 = 64 << 20;

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

/// The blob is not what its format says.
fn invalid(why: impl Display) -> IngestError {
    IngestError::permanent("BadRequest_InvalidBlob", why.to_string())
}

/// A record is longer than [`RECORD_BYTES_MAX`].
fn too_long(number: u64) -> IngestError {
    IngestError::permanent(
        "Stream_InputStreamTooLarge",
        format!("record {number} is longer than {RECORD_BYTES_MAX} bytes"),
    )
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

/// Where the rows of a blob go, and what they are made by.
struct Target<'a> {
    writer: &'a mut ExtentWriter,
    table: &'a Table,
    properties: &'a Properties,
    /// The blob's address, without its signature.
    location: &'a str,
}

impl Target<'_> {
    fn places(&self, shape: Shape) -> Result<Vec<Place>, IngestError> {
        mapping::places_of(self.table, self.properties.mapping.as_deref(), shape)
    }

    /// Adds a record whose fields are in an order.
    fn push_fields(&mut self, places: &[Place], number: u64, fields: &[Cow<'_, str>]) -> Result<(), IngestError> {
        let (location, number) = (self.location, number.to_string());
        Ok(self.writer.push(places.iter().map(|place| match place {
            Place::Ordinal(at) => fields.get(*at).map(|field| &**field),
            other => other.beside(location, &number),
        }))?)
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
    let location = name.split('?').next().unwrap_or_default();
    let mut writer = ExtentWriter::create(to, &table.columns)?;
    let target = Target { writer: &mut writer, table, properties, location };
    let bytes = match properties.format.as_str() {
        // What is compressed inside is not to be compressed once more: a name with .gz changes nothing here.
        "parquet" => columnar::decode_parquet(from, target)?,
        "avro" | "apacheavro" => columnar::decode_avro(from, target)?,
        _ => decode_text(from, target)?,
    };
    let rows = writer.finish()?;
    if rows == 0 {
        return Err(IngestError::permanent("BadRequest_NoRecordsOrWrongFormat", "the blob has no records"));
    }
    Ok((rows, bytes))
}

fn open(from: &Path) -> Result<File, IngestError> {
    File::open(from).map_err(|e| IngestError::transient("Download_UnknownError", e.to_string()))
}

fn decode_text(from: &Path, target: Target<'_>) -> Result<i64, IngestError> {
    let file = open(from)?;
    let inner: Box<dyn Read> = if target.location.ends_with(".gz") {
        // A reader of the first member alone: what it would lose with several members shows here.
        Box::new(GzDecoder::new(BufReader::new(file)))
    } else {
        Box::new(file)
    };
    let mut reader = Counted { inner, bytes: 0 };
    match target.properties.format.as_str() {
        "csv" => delimited::decode(&mut reader, b',', target)?,
        "tsv" => delimited::decode(&mut reader, b'\t', target)?,
        "psv" => delimited::decode(&mut reader, b'|', target)?,
        "scsv" => delimited::decode(&mut reader, b';', target)?,
        "sohsv" => delimited::decode(&mut reader, 1, target)?,
        "tsve" => delimited::decode_escaped(&mut reader, target)?,
        "txt" => lines::decode_txt(&mut reader, target)?,
        "raw" => lines::decode_raw(&mut reader, target)?,
        "w3clogfile" => lines::decode_w3c(&mut reader, target)?,
        "json" => json::decode_lines(&mut reader, target)?,
        "multijson" => json::decode_documents(&mut reader, target)?,
        other => {
            return Err(IngestError::permanent(
                "BadRequest_FormatNotSupported",
                format!("format '{other}' is not supported by local-adx"),
            ));
        }
    }
    Ok(reader.bytes)
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

#[cfg(test)]
mod tests {
    use super::testing::{ingested, of_format};
    use crate::extents::VALUE_BYTES_MAX;
    use serde_json::json;

    #[test]
    fn a_value_over_the_limit_is_cut_or_lost() {
        let long = |bytes: usize| "x".repeat(bytes);
        let cut = format!("{}é", long(VALUE_BYTES_MAX - 1));
        for (case, kind, value, stored) in [
            ("a string at the limit", "string", long(VALUE_BYTES_MAX), json!(long(VALUE_BYTES_MAX))),
            ("a string over it", "string", long(VALUE_BYTES_MAX + 1), json!(long(VALUE_BYTES_MAX))),
            ("no character is cut in two", "string", cut, json!(long(VALUE_BYTES_MAX - 1))),
            ("a dynamic at the limit", "dynamic", long(VALUE_BYTES_MAX), json!(long(VALUE_BYTES_MAX))),
            ("a dynamic over it", "dynamic", long(VALUE_BYTES_MAX + 1), json!(null)),
        ] {
            let rows = ingested(value.as_bytes(), &format!("v:{kind}"), &of_format("csv")).unwrap();
            assert!(rows == json!([[stored]]), "{case}: {} bytes", rows[0][0].as_str().map_or(0, str::len));
        }
    }

    #[test]
    fn a_value_that_does_not_parse_is_null() {
        for (kind, value, stored) in [
            ("bool", "yes", json!(null)),
            ("int", "2147483648", json!(null)),
            ("int", "-2147483648", json!(i32::MIN)),
            ("long", "1.5", json!(null)),
            ("long", "9223372036854775808", json!(null)),
            ("real", "1e3", json!(1000.0)),
            ("decimal", "12.50", json!("12.50")),
            ("decimal", "nan", json!(null)),
            ("datetime", "02/01/2026", json!(null)),
            ("timespan", "an hour", json!(null)),
            ("guid", "74be27de", json!(null)),
            ("dynamic", "{\"a\"", json!("{\"a\"")),
        ] {
            let text = format!("\"{}\"\n", value.replace('"', "\"\""));
            let rows = ingested(text.as_bytes(), &format!("v:{kind}"), &of_format("csv"));
            assert_eq!(rows, Ok(json!([[stored]])), "{kind} {value}");
        }
    }

    #[test]
    fn a_format_that_is_unknown_is_refused() {
        assert_eq!(ingested(b"x", "a:string", &of_format("orc")), Err("BadRequest_FormatNotSupported"));
    }
}
