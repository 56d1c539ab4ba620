//! JSON: a document a line, or documents however they are laid out.

use super::{
    IngestError, Target, invalid,
    lines::each_line,
    mapping::{Place, Shape, follow},
};
use crate::types::Kind;
use serde::de::{Deserialize as _, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor, value};
use serde_json::Value;
use std::{
    borrow::Cow,
    fmt,
    io::{BufReader, Read},
};

/// One document a line. A line that is no JSON is passed over in silence, as the service does.
pub(super) fn decode_lines(reader: &mut impl Read, mut target: Target<'_>) -> Result<(), IngestError> {
    let places = target.places(Shape::Json)?;
    each_line(reader, |number, line| match serde_json::from_slice::<Value>(line) {
        Ok(record) => push(&mut target, &places, number, &record),
        Err(_) => Ok(()),
    })
}

/// Objects one after the other, or arrays of them. What is no JSON fails the blob, whatever came before it.
pub(super) fn decode_documents(reader: &mut impl Read, mut target: Target<'_>) -> Result<(), IngestError> {
    let places = target.places(Shape::Json)?;
    let mut documents = serde_json::Deserializer::from_reader(BufReader::new(reader));
    let mut number = 0;
    let mut failed = None;
    while documents.end().is_err() {
        let hand_on = |record: &Value| {
            number += 1;
            push(&mut target, &places, number, record)
        };
        let records = Records { hand_on, failed: &mut failed };
        if let Err(error) = records.deserialize(&mut documents) {
            return Err(failed.unwrap_or_else(|| invalid(error)));
        }
    }
    Ok(())
}

fn push(target: &mut Target<'_>, places: &[Place], number: u64, record: &Value) -> Result<(), IngestError> {
    let (location, number) = (target.location, number.to_string());
    let texts: Vec<Option<Cow<'_, str>>> = places
        .iter()
        .zip(&target.table.columns)
        .map(|(place, column)| match place {
            Place::Path(steps) => follow(record, steps).and_then(|v| text_of(v, column.kind)),
            other => other.beside(location, &number).map(Cow::Borrowed),
        })
        .collect();
    Ok(target.writer.push(texts.iter().map(Option::as_deref))?)
}

fn text_of(value: &Value, kind: Kind) -> Option<Cow<'_, str>> {
    match value {
        Value::Null => None,
        Value::String(text) if kind != Kind::Dynamic => Some(Cow::Borrowed(text)),
        other => Some(Cow::Owned(other.to_string())),
    }
}

/// Takes the records of a document as they are read: an array need not fit into memory.
struct Records<'f, F> {
    hand_on: F,
    /// Why a record was not taken, when that is what ended the reading.
    failed: &'f mut Option<IngestError>,
}

impl<F: FnMut(&Value) -> Result<(), IngestError>> Records<'_, F> {
    fn hand_on<E: serde::de::Error>(&mut self, record: &Value) -> Result<(), E> {
        if !record.is_object() {
            return Err(E::custom("an element of the array is no object"));
        }
        (self.hand_on)(record).map_err(|error| {
            *self.failed = Some(error);
            E::custom("a record was not taken")
        })
    }
}

impl<'de, F: FnMut(&Value) -> Result<(), IngestError>> DeserializeSeed<'de> for Records<'_, F> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de, F: FnMut(&Value) -> Result<(), IngestError>> Visitor<'de> for Records<'_, F> {
    type Value = ();
    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object or an array of objects")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, map: A) -> Result<(), A::Error> {
        let record = Value::deserialize(value::MapAccessDeserializer::new(map))?;
        self.hand_on(&record)
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut elements: A) -> Result<(), A::Error> {
        while let Some(record) = elements.next_element::<Value>()? {
            self.hand_on::<A::Error>(&record)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::ingest::{
        Properties,
        testing::{LOCATION, ingested, of_format},
    };
    use serde_json::json;

    #[test]
    fn documents_become_rows() {
        let two = json!([[1, "x"], [2, ""]]);
        for (case, format, text, expected) in [
            ("a document a line", "json", "{\"a\":1,\"b\":\"x\"}\n{\"a\":2}\n", Ok(two.clone())),
            ("a bad line is passed over", "json", "{\"a\":1,\"b\":\"x\"}\n{\"a\":\n\n{\"a\":2}", Ok(two.clone())),
            ("an array", "multijson", " [{\"a\":1,\n\"b\":\"x\"},\n{\"a\":2}]\n", Ok(two.clone())),
            ("one after the other", "multijson", "{\"a\":1,\"b\":\"x\"} {\n\"a\":2}", Ok(two.clone())),
            ("arrays one after the other", "multijson", "[{\"a\":1,\"b\":\"x\"}]\n[{\"a\":2}]", Ok(two)),
            ("one fault rejects the file", "multijson", "{\"a\":1}\n{\"a\":\n{\"a\":2}", Err("BadRequest_InvalidBlob")),
            ("an array that stays open", "multijson", "[{\"a\":1},{\"a\":2}", Err("BadRequest_InvalidBlob")),
            ("an element that is no object", "multijson", "[{\"a\":1},2]", Err("BadRequest_InvalidBlob")),
            ("a text alone", "multijson", "\"x\"", Err("BadRequest_InvalidBlob")),
            ("nothing", "multijson", " \n", Err("BadRequest_NoRecordsOrWrongFormat")),
            ("an empty array", "multijson", "[]", Err("BadRequest_NoRecordsOrWrongFormat")),
        ] {
            assert_eq!(ingested(text.as_bytes(), "a:int,b:string", &of_format(format)), expected, "{case}");
        }
    }

    #[test]
    fn values_come_from_paths_and_from_beside_the_record() {
        let mapping = r#"[{"Column":"x","Properties":{"Path":"$.o['odd name'][1]"}},{"Column":"o","Properties":{"Path":"$.o"}},
            {"Column":"c","Properties":{"Path":"k"}},{"Column":"l","Properties":{"Transform":"SourceLocation"}},
            {"Column":"n","Properties":{"Transform":"SourceLineNumber"}}]"#;
        let text = "{\"o\":{\"odd name\":[1,2]}}\nbad\n{\"o\":\"s\"}\n";
        let schema = "x:int,o:dynamic,c:string,l:string,n:int";
        let rows = json!([[2, {"odd name": [1, 2]}, "k", LOCATION, 1], [null, "s", "k", LOCATION, 3]]);
        let properties = Properties { mapping: Some(mapping.to_owned()), ..of_format("json") };
        assert_eq!(ingested(text.as_bytes(), schema, &properties), Ok(rows));
    }
}
