//! Text without structure, and logs that name their fields.

use super::{
    IngestError, RECORD_BYTES_MAX, Target, invalid,
    mapping::{Place, Shape, Step},
    too_long,
};
use std::{
    borrow::Cow,
    io::{BufRead as _, BufReader, Read},
    mem::take,
};

/// Hands on each line with its number, from 1, without its end.
///
/// Fails with `Stream_InputStreamTooLarge` when a line is longer than [`RECORD_BYTES_MAX`].
pub(super) fn each_line(
    reader: &mut impl Read,
    mut hand_on: impl FnMut(u64, &[u8]) -> Result<(), IngestError>,
) -> Result<(), IngestError> {
    let mut reader = BufReader::new(reader);
    let mut line = Vec::new();
    let mut number = 0;
    loop {
        line.clear();
        // Two more for the line's end.
        let read = reader.by_ref().take(RECORD_BYTES_MAX + 2).read_until(b'\n', &mut line).map_err(invalid)?;
        if read == 0 {
            return Ok(());
        }
        number += 1;
        let text = line.strip_suffix(b"\n").unwrap_or(&line);
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        if text.len() as u64 > RECORD_BYTES_MAX {
            return Err(too_long(number));
        }
        hand_on(number, text)?;
    }
}

/// A line is a record of one field; empty lines are none.
pub(super) fn decode_txt(reader: &mut impl Read, mut target: Target<'_>) -> Result<(), IngestError> {
    let places = one_field(&target)?;
    let mut skips = target.properties.ignore_first_record;
    each_line(reader, |number, line| {
        if line.is_empty() || take(&mut skips) {
            return Ok(());
        }
        target.push_fields(&places, number, &[String::from_utf8_lossy(line)])
    })
}

/// The whole file is a record of one field.
pub(super) fn decode_raw(reader: &mut impl Read, mut target: Target<'_>) -> Result<(), IngestError> {
    let places = one_field(&target)?;
    let mut text = Vec::new();
    reader.take(RECORD_BYTES_MAX + 1).read_to_end(&mut text).map_err(invalid)?;
    if text.len() as u64 > RECORD_BYTES_MAX {
        return Err(too_long(1));
    }
    if text.is_empty() { Ok(()) } else { target.push_fields(&places, 1, &[String::from_utf8_lossy(&text)]) }
}

/// Places of a format whose records have one field.
fn one_field(target: &Target<'_>) -> Result<Vec<Place>, IngestError> {
    let mut places = target.places(Shape::Delimited)?;
    for place in &mut places {
        if matches!(place, Place::Ordinal(at) if *at > 0) {
            if target.properties.mapping.is_some() {
                let why = format!("format '{}' has ordinal 0 alone", target.properties.format);
                return Err(IngestError::permanent("BadRequest_InvalidMapping", why));
            }
            *place = Place::Nowhere;
        }
    }
    Ok(places)
}

/// W3C extended logs: `#Fields:` names what the lines behind it hold, a hyphen stands for nothing.
pub(super) fn decode_w3c(reader: &mut impl Read, mut target: Target<'_>) -> Result<(), IngestError> {
    let named = target.places(Shape::Log)?;
    let mut places: Option<Vec<Place>> = None;
    each_line(reader, |number, line| {
        let line = String::from_utf8_lossy(line);
        if let Some(fields) = line.strip_prefix("#Fields:") {
            let fields: Vec<&str> = fields.split_whitespace().collect();
            places = Some(named.iter().map(|place| by_order(place, &fields)).collect());
            return Ok(());
        }
        if line.starts_with('#') || line.is_empty() {
            return Ok(());
        }
        let Some(places) = &places else {
            return Err(invalid(format!("line {number} comes before any #Fields line")));
        };
        let fields: Vec<_> = line.split_whitespace().map(|f| Cow::Borrowed(if f == "-" { "" } else { f })).collect();
        target.push_fields(places, number, &fields)
    })
}

fn by_order(place: &Place, fields: &[&str]) -> Place {
    let Place::Path(steps) = place else { return place.clone() };
    let [Step::Key(name)] = steps.as_slice() else { return Place::Nowhere };
    fields.iter().position(|f| f == name).map_or(Place::Nowhere, Place::Ordinal)
}

#[cfg(test)]
mod tests {
    use crate::ingest::{
        Properties,
        testing::{ingested, of_format},
    };
    use serde_json::json;

    #[test]
    fn a_line_or_a_file_is_a_record() {
        for (case, format, text, rows) in [
            ("empty lines are none", "txt", "a,\"b\r\n\r\n\nc", json!([["a,\"b", null], ["c", null]])),
            ("lines stay together", "raw", "a\nb\n", json!([["a\nb\n", null]])),
        ] {
            assert_eq!(ingested(text.as_bytes(), "a:string,b:int", &of_format(format)), Ok(rows), "{case}");
        }
        assert_eq!(ingested(b"", "a:string", &of_format("raw")), Err("BadRequest_NoRecordsOrWrongFormat"));
        let headed = Properties { ignore_first_record: true, ..of_format("txt") };
        assert_eq!(ingested(b"head\na\n", "a:string", &headed), Ok(json!([["a"]])));
    }

    #[test]
    fn one_field_has_one_ordinal() {
        for (ordinal, expected) in [(0, Ok(json!([["", "x"]]))), (1, Err("BadRequest_InvalidMapping"))] {
            let mapping = format!(r#"[{{"Column":"b","Properties":{{"Ordinal":{ordinal}}}}}]"#);
            let properties = Properties { mapping: Some(mapping), ..of_format("txt") };
            assert_eq!(ingested(b"x", "a:string,b:string", &properties), expected, "{ordinal}");
        }
    }

    #[test]
    fn a_log_names_its_fields() {
        let mapping = r#"[{"Column":"ip","Properties":{"Field":"c-ip"}},{"Column":"code","Properties":{"Field":"sc-status"}},
            {"Column":"line","Properties":{"Transform":"SourceLineNumber"}}]"#;
        let properties = Properties { mapping: Some(mapping.to_owned()), ..of_format("w3clogfile") };
        let log = "#Version: 1.0\n#Fields: date c-ip sc-status\n2026-01-02 10.0.0.1 200\n2026-01-02 - -\n\
                   #Fields: sc-status c-ip\n404 10.0.0.2\n";
        let rows = json!([["10.0.0.1", 200, 3], ["", null, 4], ["10.0.0.2", 404, 6]]);
        assert_eq!(ingested(log.as_bytes(), "ip:string,code:int,line:long", &properties), Ok(rows));
        assert_eq!(ingested(b"a b\n", "ip:string", &of_format("w3clogfile")), Err("BadRequest_InvalidBlob"));
    }
}
