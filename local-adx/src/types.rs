//! Scalar types and their values: how they are parsed, printed and held in Arrow arrays.
//!
//! Dates and time spans are 64-bit counts of 100 ns ticks, the service's own resolution; a date counts from 1970-01-01.

use serde_json::{Value as Json, json};

/// Ticks in a second.
pub const TICKS_PER_SECOND: i64 = 10_000_000;

/// A scalar type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the variants are the service's own names")]
pub enum Kind {
    Bool,
    Int,
    Long,
    Real,
    Decimal,
    Datetime,
    Timespan,
    Guid,
    String,
    Dynamic,
}

impl Kind {
    /// The type of this name or alias.
    pub fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "bool" | "boolean" => Self::Bool,
            "int" => Self::Int,
            "long" => Self::Long,
            "real" | "double" => Self::Real,
            "decimal" => Self::Decimal,
            "datetime" | "date" => Self::Datetime,
            "timespan" | "time" => Self::Timespan,
            "guid" | "uuid" | "uniqueid" => Self::Guid,
            "string" => Self::String,
            "dynamic" => Self::Dynamic,
            _ => return None,
        })
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bool => "bool",
            Self::Int => "int",
            Self::Long => "long",
            Self::Real => "real",
            Self::Decimal => "decimal",
            Self::Datetime => "datetime",
            Self::Timespan => "timespan",
            Self::Guid => "guid",
            Self::String => "string",
            Self::Dynamic => "dynamic",
        }
    }

    /// Its .NET name, which v1 replies carry beside it.
    pub fn net_name(self) -> &'static str {
        match self {
            Self::Bool => "SByte",
            Self::Int => "Int32",
            Self::Long => "Int64",
            Self::Real => "Double",
            Self::Decimal => "SqlDecimal",
            Self::Datetime => "DateTime",
            Self::Timespan => "TimeSpan",
            Self::Guid => "Guid",
            Self::String => "String",
            Self::Dynamic => "Object",
        }
    }

    /// Held as a 64-bit number.
    pub fn is_integral(self) -> bool {
        matches!(self, Self::Int | Self::Long | Self::Datetime | Self::Timespan)
    }

    /// Held as text.
    pub fn is_text(self) -> bool {
        matches!(self, Self::String | Self::Guid | Self::Dynamic | Self::Decimal)
    }
}

/// Ticks of a date as text; `None` if it is no date. ISO 8601, date alone, with blank or `T`, with zone or without (UTC).
pub fn parse_datetime(text: &str) -> Option<i64> {
    let text = text.trim();
    let digits = |range: std::ops::Range<usize>| -> Option<i64> {
        let part = text.get(range)?;
        if part.bytes().all(|b| b.is_ascii_digit()) { part.parse().ok() } else { None }
    };
    let bytes = text.as_bytes();
    if bytes.len() < 10 || bytes[4] != b'-' || bytes[7] != b'-' {
        return None;
    }
    let date = jiff::civil::Date::new(digits(0..4)? as i16, digits(5..7)? as i8, digits(8..10)? as i8).ok()?;
    let mut ticks = date.duration_since(jiff::civil::date(1970, 1, 1)).as_secs() * TICKS_PER_SECOND;
    if bytes.len() == 10 {
        return Some(ticks);
    }
    if !matches!(bytes[10], b'T' | b't' | b' ') || bytes.len() < 16 || bytes[13] != b':' {
        return None;
    }
    let (hour, minute) = (digits(11..13)?, digits(14..16)?);
    let mut at = 16;
    let mut second = 0;
    if bytes.get(at) == Some(&b':') {
        second = digits(at + 1..at + 3)?;
        at += 3;
    }
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    ticks += ((hour * 60 + minute) * 60 + second) * TICKS_PER_SECOND;
    if bytes.get(at) == Some(&b'.') {
        let end = at + 1 + bytes[at + 1..].iter().take_while(|b| b.is_ascii_digit()).count();
        let mut scale = TICKS_PER_SECOND;
        for b in &bytes[at + 1..end] {
            scale /= 10;
            ticks += i64::from(b - b'0') * scale;
        }
        at = end;
    }
    match &text[at..] {
        "" | "Z" | "z" => Some(ticks),
        zone => {
            let sign = match zone.as_bytes()[0] {
                b'+' => 1,
                b'-' => -1,
                _ => return None,
            };
            let zone: String = zone[1..].chars().filter(|c| *c != ':').collect();
            let (hours, minutes) =
                (zone.get(0..2)?.parse::<i64>().ok()?, zone.get(2..4).unwrap_or("00").parse::<i64>().ok()?);
            Some(ticks - sign * (hours * 3600 + minutes * 60) * TICKS_PER_SECOND)
        }
    }
}

/// A date as the service prints it: `2026-01-02T03:04:05.1234567Z`, the fraction only if there is one.
pub fn format_datetime(ticks: i64) -> String {
    let (seconds, rest) = (ticks.div_euclid(TICKS_PER_SECOND), ticks.rem_euclid(TICKS_PER_SECOND));
    // A civil time: a timestamp of the library ends before the last day of the year 9999 does.
    let epoch = jiff::civil::date(1970, 1, 1).at(0, 0, 0, 0);
    let Ok(time) = epoch.checked_add(jiff::SignedDuration::from_secs(seconds)) else { return String::new() };
    if rest == 0 { format!("{time}Z") } else { format!("{time}.{rest:07}Z") }
}

/// Ticks of a time span as text: `[-][d.]hh:mm[:ss[.fffffff]]`.
pub fn parse_timespan(text: &str) -> Option<i64> {
    let text = text.trim();
    let (sign, text) = text.strip_prefix('-').map_or((1, text), |rest| (-1, rest));
    let mut parts = text.split(':');
    let (first, minutes, seconds) = (parts.next()?, parts.next()?, parts.next().unwrap_or("0"));
    if parts.next().is_some() {
        return None;
    }
    let (days, hours) = first.split_once('.').map_or(("0", first), |(d, h)| (d, h));
    let (whole, fraction) = seconds.split_once('.').unwrap_or((seconds, ""));
    // Far beyond what the type holds, and far from an overflow.
    let number = |t: &str| t.parse::<i64>().ok().filter(|n| (0..20_000_000).contains(n));
    let mut ticks =
        (((number(days)? * 24 + number(hours)?) * 60 + number(minutes)?) * 60 + number(whole)?) * TICKS_PER_SECOND;
    let mut scale = TICKS_PER_SECOND;
    for digit in fraction.chars().take(7) {
        scale /= 10;
        ticks += i64::from(digit.to_digit(10)?) * scale;
    }
    Some(sign * ticks)
}

/// A time span as the service prints it: `[-][d.]hh:mm:ss[.fffffff]`.
pub fn format_timespan(ticks: i64) -> String {
    let sign = if ticks < 0 { "-" } else { "" };
    let ticks = ticks.unsigned_abs();
    let per_second = TICKS_PER_SECOND.unsigned_abs();
    let (seconds, rest) = (ticks / per_second, ticks % per_second);
    let (days, hours, minutes, seconds) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    let days = if days > 0 { format!("{days}.") } else { String::new() };
    let rest = if rest > 0 { format!(".{rest:07}") } else { String::new() };
    format!("{sign}{days}{hours:02}:{minutes:02}:{seconds:02}{rest}")
}

/// A guid in its usual form; `None` if it is none.
pub fn parse_guid(text: &str) -> Option<String> {
    uuid::Uuid::try_parse(text.trim()).ok().map(|id| id.to_string())
}

/// A number for JSON; what JSON cannot hold is text.
pub fn real_json(value: f64) -> Json {
    match value {
        v if v.is_nan() => json!("NaN"),
        v if v == f64::INFINITY => json!("Infinity"),
        v if v == f64::NEG_INFINITY => json!("-Infinity"),
        v => json!(v),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_read_and_written() {
        for (text, printed) in [
            ("2013-01-01T10:00:00Z", "2013-01-01T10:00:00Z"),
            ("2026-01-02", "2026-01-02T00:00:00Z"),
            ("2026-01-02 03:04", "2026-01-02T03:04:00Z"),
            ("2026-01-02T03:04:05.1234567Z", "2026-01-02T03:04:05.1234567Z"),
            ("2026-01-02T03:04:05.5+02:00", "2026-01-02T01:04:05.5000000Z"),
            ("1960-12-31T23:59:59.5Z", "1960-12-31T23:59:59.5000000Z"),
            ("0001-01-01", "0001-01-01T00:00:00Z"),
        ] {
            assert_eq!(format_datetime(parse_datetime(text).unwrap()), printed, "{text}");
        }
        for bad in ["", "2026", "2026-13-01", "2026-01-02x", "2026-01-02T25:00:00Z", "yesterday", "2026-01-02T3:04"] {
            assert_eq!(parse_datetime(bad), None, "{bad}");
        }
    }

    #[test]
    fn time_spans_are_read_and_written() {
        for text in ["00:00:01", "1.02:03:04", "-00:30:00", "00:00:00.1234567", "00:01:00.0000001"] {
            assert_eq!(format_timespan(parse_timespan(text).unwrap()), text);
        }
        assert_eq!(parse_timespan("nonsense"), None);
    }
}
