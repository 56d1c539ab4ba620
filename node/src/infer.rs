//! Columns and types from a sample of values, for tables that are yet to be created.
//!
//! A type is chosen only if every sampled value fits it; in doubt it is `string`, which loses nothing.

use ferry_common::unit::SampleColumn;
use std::collections::HashMap;

/// Columns that a sample holds at most: as many as a table of the cluster may sensibly have.
const COLUMNS_MAX: usize = 2_000;

/// Types that a column's values can still have.
#[derive(Debug, Clone, Copy)]
struct Candidates {
    any_value: bool,
    bool: bool,
    long: bool,
    real: bool,
    datetime: bool,
    guid: bool,
    dynamic: bool,
}

impl Default for Candidates {
    fn default() -> Self {
        Self { any_value: false, bool: true, long: true, real: true, datetime: true, guid: true, dynamic: true }
    }
}

impl Candidates {
    /// A value as delimited text has it; empty ones tell nothing.
    fn see_text(&mut self, value: &str) {
        if value.is_empty() {
            return;
        }
        self.any_value = true;
        self.bool &= matches!(value, "true" | "false" | "True" | "False" | "TRUE" | "FALSE");
        self.long &= is_long(value);
        self.real &= is_real(value);
        self.datetime &= is_datetime(value);
        self.guid &= is_guid(value);
        self.dynamic &= value.starts_with(['{', '[']) && serde_json::from_str::<serde::de::IgnoredAny>(value).is_ok();
    }

    /// A value of a JSON record.
    fn see_json(&mut self, value: &serde_json::Value) {
        use serde_json::Value as V;
        let is = |bool, long, real, dynamic| Self {
            any_value: true,
            bool,
            long,
            real,
            datetime: false,
            guid: false,
            dynamic,
        };
        let seen = match value {
            V::Null => return,
            V::Bool(_) => is(true, false, false, false),
            V::Number(n) => is(false, n.is_i64(), true, false),
            V::Object(_) | V::Array(_) => is(false, false, false, true),
            V::String(s) => Self { datetime: is_datetime(s), guid: is_guid(s), ..is(false, false, false, false) },
        };
        self.any_value = true;
        self.bool &= seen.bool;
        self.long &= seen.long;
        self.real &= seen.real;
        self.datetime &= seen.datetime;
        self.guid &= seen.guid;
        self.dynamic &= seen.dynamic;
    }

    fn kind(self) -> &'static str {
        match self {
            Self { any_value: false, .. } => "string",
            Self { bool: true, .. } => "bool",
            Self { long: true, .. } => "long",
            Self { real: true, .. } => "real",
            Self { datetime: true, .. } => "datetime",
            Self { guid: true, .. } => "guid",
            Self { dynamic: true, .. } => "dynamic",
            _ => "string",
        }
    }
}

/// A 64-bit number that reads back as the same text: leading zeros and a plus sign are part of a code, not a number.
fn is_long(value: &str) -> bool {
    value.parse::<i64>().is_ok_and(|n| n.to_string() == value)
}

fn is_real(value: &str) -> bool {
    let digits = value.strip_prefix('-').unwrap_or(value);
    let leading_zero = digits.len() > 1 && digits.starts_with('0') && !digits.starts_with("0.");
    let only = value.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'-' | b'+' | b'.' | b'e' | b'E'));
    only && !leading_zero
        && digits.starts_with(|c: char| c.is_ascii_digit() || c == '.')
        && value.parse::<f64>().is_ok_and(f64::is_finite)
}

/// ISO 8601 dates and times: `2026-01-02`, `2026-01-02 03:04:05.6`, `2026-01-02T03:04:05Z`, with an offset.
fn is_datetime(value: &str) -> bool {
    let bytes = value.as_bytes();
    let is_date =
        bytes.len() >= 10 && bytes[4] == b'-' && bytes[7] == b'-' && bytes[..4].iter().all(u8::is_ascii_digit);
    is_date
        && match bytes.len() {
            10 => value.parse::<jiff::civil::Date>().is_ok(),
            _ => value.parse::<jiff::Timestamp>().is_ok() || value.parse::<jiff::civil::DateTime>().is_ok(),
        }
}

fn is_guid(value: &str) -> bool {
    let bytes = value.as_bytes();
    bytes.len() == 36
        && bytes.iter().enumerate().all(|(at, b)| match at {
            8 | 13 | 18 | 23 => *b == b'-',
            _ => b.is_ascii_hexdigit(),
        })
}

/// A sample that grows record by record.
#[derive(Debug, Default)]
pub struct Sample {
    columns: Vec<(String, Candidates)>,
    places: HashMap<String, usize>,
    /// Columns whose types the files themselves tell.
    typed: Vec<SampleColumn>,
    /// Columns that the settings or the folders add.
    added: Vec<(String, Candidates)>,
}

impl Sample {
    /// The column of this name; `None` when there are too many.
    fn column(&mut self, name: &str) -> Option<&mut Candidates> {
        if let Some(at) = self.places.get(name) {
            return Some(&mut self.columns[*at].1);
        }
        if self.columns.len() >= COLUMNS_MAX {
            return None;
        }
        self.places.insert(name.to_owned(), self.columns.len());
        self.columns.push((name.to_owned(), Candidates::default()));
        self.columns.last_mut().map(|(_, seen)| seen)
    }

    /// A column that a header row names, perhaps without values.
    pub fn name_column(&mut self, name: &str) {
        let _ = self.column(name);
    }

    /// A delimited record; columns without a name are `Column1`, `Column2` and so on.
    pub fn see_record(&mut self, names: &[String], values: &[String]) {
        for (at, value) in values.iter().enumerate() {
            let seen = match names.get(at) {
                Some(name) => self.column(name),
                None => self.column(&format!("Column{}", at + 1)),
            };
            if let Some(seen) = seen {
                seen.see_text(value);
            }
        }
    }

    /// A JSON record.
    pub fn see_object(&mut self, object: &serde_json::Map<String, serde_json::Value>) {
        for (name, value) in object {
            if let Some(seen) = self.column(name) {
                seen.see_json(value);
            }
        }
    }

    /// A column whose type the file itself tells. Files that do not agree make it a string.
    pub fn see_column(&mut self, column: SampleColumn) {
        let Some(known) = self.typed.iter_mut().find(|c| c.name == column.name) else {
            if self.typed.len() < COLUMNS_MAX {
                self.typed.push(column);
            }
            return;
        };
        if known.kind != column.kind {
            known.kind = wider(&known.kind, &column.kind).to_owned();
        }
        known.reads_as.retain(|kind| column.reads_as.contains(kind));
    }

    /// A column that the settings or the folders add, with its value in one file.
    pub fn see_added(&mut self, name: &str, value: &str) {
        let at = self.added.iter().position(|(n, _)| n == name).unwrap_or_else(|| {
            self.added.push((name.to_owned(), Candidates::default()));
            self.added.len() - 1
        });
        self.added[at].1.see_text(value);
    }

    /// What was seen: the files' columns, then the added ones.
    pub fn columns(self) -> Vec<SampleColumn> {
        let of = |(name, seen): (String, Candidates), is_added| SampleColumn {
            name,
            kind: seen.kind().to_owned(),
            is_added,
            reads_as: Vec::new(),
        };
        let mut columns: Vec<_> = self.columns.into_iter().map(|c| of(c, false)).collect();
        columns.extend(self.typed);
        columns.extend(self.added.into_iter().map(|c| of(c, true)));
        columns
    }
}

/// A type that holds the values of both.
fn wider<'t>(one: &'t str, other: &'t str) -> &'t str {
    match (one, other) {
        ("int", "long") | ("long", "int") => "long",
        ("int" | "long" | "real", "real") | ("real", "int" | "long") => "real",
        ("int" | "long" | "decimal", "decimal") | ("decimal", "int" | "long") => "decimal",
        _ => "string",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_is_chosen_only_if_every_value_fits() {
        for (values, kind) in [
            (&["1", "", "-9223372036854775808"][..], "long"),
            (&["1", "9223372036854775808"], "real"),
            (&["1", "2.5", "1e3", "-.5"], "real"),
            (&["007", "8"], "string"),
            (&["+1"], "string"),
            (&["1", "NA"], "string"),
            (&["nan", "1.0"], "string"),
            (&["true", "FALSE"], "bool"),
            (&["2026-01-02", "2026-01-02T03:04:05Z", "2026-01-02 03:04:05.123"], "datetime"),
            (&["2026-13-02"], "string"),
            (&["20260102"], "long"),
            (&["74be27de-1e4e-49d9-b579-fe0b331d3642"], "guid"),
            (&["{\"a\":1}", "[1]"], "dynamic"),
            (&["{a", "[1]"], "string"),
            (&["", ""], "string"),
        ] {
            let mut seen = Candidates::default();
            values.iter().for_each(|v| seen.see_text(v));
            assert_eq!(seen.kind(), kind, "{values:?}");
        }
    }

    #[test]
    fn json_values_keep_their_types() {
        let mut sample = Sample::default();
        for line in [
            r#"{"a":1,"b":1,"c":"2026-01-02T00:00:00Z","d":{"x":1},"e":true,"f":null,"g":"1"}"#,
            r#"{"a":2,"b":1.5,"c":"2026-01-03T00:00:00Z","d":[],"e":false,"f":null,"g":"2"}"#,
        ] {
            let serde_json::Value::Object(object) = serde_json::from_str(line).unwrap() else { unreachable!() };
            sample.see_object(&object);
        }
        let kinds: Vec<_> = sample.columns().into_iter().map(|c| c.kind).collect();
        assert_eq!(kinds, ["long", "real", "datetime", "dynamic", "bool", "string", "string"]);
    }
}
