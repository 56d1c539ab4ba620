//! Fields in an order, with a sign between them.

use super::{IngestError, RECORD_BYTES_MAX, Target, invalid, lines::each_line, mapping::Shape, too_long};
use std::{borrow::Cow, io::Read, mem::take};

/// Records that quotes may wrap, as RFC 4180 has them.
pub(super) fn decode(reader: &mut impl Read, delimiter: u8, mut target: Target<'_>) -> Result<(), IngestError> {
    let places = target.places(Shape::Delimited)?;
    let mut records = csv::ReaderBuilder::new()
        .delimiter(delimiter)
        .has_headers(target.properties.ignore_first_record)
        .flexible(true)
        .from_reader(reader);
    let mut record = csv::ByteRecord::new();
    let mut width = None;
    let mut number = u64::from(target.properties.ignore_first_record);
    while records.read_byte_record(&mut record).map_err(invalid)? {
        number += 1;
        if record.as_slice().len() as u64 > RECORD_BYTES_MAX {
            return Err(too_long(number));
        }
        check_width(&target, &mut width, record.len())?;
        let fields: Vec<_> = record.iter().map(String::from_utf8_lossy).collect();
        target.push_fields(&places, number, &fields)?;
    }
    Ok(())
}

/// Lines with tabs between their fields, and backslashes before what would be a tab or the line's end.
pub(super) fn decode_escaped(reader: &mut impl Read, mut target: Target<'_>) -> Result<(), IngestError> {
    let places = target.places(Shape::Delimited)?;
    let mut width = None;
    let mut skips = target.properties.ignore_first_record;
    each_line(reader, |number, line| {
        if line.is_empty() || take(&mut skips) {
            return Ok(());
        }
        let line = String::from_utf8_lossy(line);
        let fields: Vec<_> = line.split('\t').map(unescaped).collect();
        check_width(&target, &mut width, fields.len())?;
        target.push_fields(&places, number, &fields)
    })
}

fn check_width(target: &Target<'_>, width: &mut Option<usize>, fields: usize) -> Result<(), IngestError> {
    let expected = *width.get_or_insert(fields);
    if target.properties.strict_width && fields != expected {
        let record = target.writer.rows + 1;
        return Err(IngestError::permanent(
            "Stream_WrongNumberOfFields",
            format!("record {record} has {fields} fields, the first has {expected}"),
        ));
    }
    Ok(())
}

fn unescaped(field: &str) -> Cow<'_, str> {
    if !field.contains('\\') {
        return Cow::Borrowed(field);
    }
    let mut plain = String::with_capacity(field.len());
    let mut chars = field.chars();
    while let Some(c) = chars.next() {
        plain.push(match c {
            '\\' => match chars.next() {
                Some('t') => '\t',
                Some('n') => '\n',
                Some('r') => '\r',
                Some(other) => other,
                None => '\\',
            },
            c => c,
        });
    }
    Cow::Owned(plain)
}

#[cfg(test)]
mod tests {
    use crate::ingest::{
        Properties,
        testing::{LOCATION, ingested, of_format},
    };
    use serde_json::json;

    #[test]
    fn fields_go_by_their_order() {
        for (case, format, text, rows) in [
            ("commas", "csv", "1,a\n2,\"b,\"\"c\"\n", json!([[1, "a"], [2, "b,\"c"]])),
            ("a value that does not parse is null", "csv", "x,a\n,b\n", json!([[null, "a"], [null, "b"]])),
            ("what is missing is null or empty", "csv", "1\n", json!([[1, ""]])),
            ("tabs", "tsv", "1\ta\n", json!([[1, "a"]])),
            ("escapes", "tsve", "1\ta\\tb\\\\c\n\n2\tx\\ny", json!([[1, "a\tb\\c"], [2, "x\ny"]])),
        ] {
            assert_eq!(ingested(text.as_bytes(), "a:int,b:string", &of_format(format)), Ok(rows), "{case}");
        }
    }

    #[test]
    fn values_come_from_beside_the_record_too() {
        let mapping = r#"[{"Column":"a","Properties":{"Ordinal":0}},
            {"Column":"c","Properties":{"ConstValue":"k"}},
            {"Column":"l","Properties":{"Transform":"SourceLocation"}},
            {"Column":"n","Properties":{"Transform":"SourceLineNumber"}}]"#;
        let properties = Properties { mapping: Some(mapping.to_owned()), ..of_format("csv") };
        let headed = Properties { ignore_first_record: true, ..properties.clone() };
        let schema = "a:string,c:string,l:string,n:long";
        let (text, first, second) =
            ("x\n\"y\nz\"\n", json!(["x", "k", LOCATION, 1]), json!(["y\nz", "k", LOCATION, 2]));
        assert_eq!(ingested(text.as_bytes(), schema, &properties), Ok(json!([first, second])));
        assert_eq!(ingested(text.as_bytes(), schema, &headed), Ok(json!([second])), "the header counts, too");
    }

    #[test]
    fn a_record_of_another_width_fails_a_strict_blob() {
        for format in ["tsv", "tsve"] {
            let strict = Properties { strict_width: true, ..of_format(format) };
            let failed = ingested(b"1\ta\n2\n", "a:int,b:string", &strict);
            assert_eq!(failed, Err("Stream_WrongNumberOfFields"), "{format}");
        }
    }

    #[test]
    fn a_record_has_its_limit() {
        let text = vec![b'x'; (64 << 20) + 1];
        for format in ["csv", "tsve", "txt", "raw", "json"] {
            assert_eq!(ingested(&text, "a:string", &of_format(format)), Err("Stream_InputStreamTooLarge"), "{format}");
        }
    }
}
