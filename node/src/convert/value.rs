//! Whether a text fits the type of a table's column, and what it becomes where its form must change.
//!
//! The cluster makes a value that does not parse null, and says nothing. So a value passes here only in a form that the
//! cluster is known to read (Kusto documentation, "Data formats" and the pages of the scalar types); a form that means
//! the same is rewritten; anything else is bad.

use super::dates::DateFormat;
use ferry_common::{activity::TypeConversionSettings, scalar::ScalarType};

/// Longest string or dynamic value in bytes. A longer string would be cut, a longer dynamic become null.
pub const VALUE_BYTES_MAX: usize = 1 << 20;
/// Digits that a decimal holds.
const DECIMAL_DIGITS_MAX: usize = 34;
/// Digits of a second's fraction that the cluster keeps: 100 ns.
const FRACTION_DIGITS: usize = 7;

/// What is to be done with a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It fits as it is.
    Fits,
    /// It fits in another form, which was written to the scratch buffer.
    Becomes,
    /// It does not fit.
    Bad(&'static str),
}

/// How the values of one column are judged.
#[derive(Debug, Clone, PartialEq)]
pub struct Check {
    /// The column's type.
    pub kind: ScalarType,
    /// How its dates are written; `None`: as the cluster reads them.
    pub format: Option<DateFormat>,
    may_truncate: bool,
    bool_as_number: bool,
}

impl Check {
    /// A check for a column of this type.
    pub fn new(kind: ScalarType, format: Option<DateFormat>, conversion: &TypeConversionSettings) -> Self {
        Self {
            kind,
            format: format.filter(|_| kind == ScalarType::DateTime),
            may_truncate: conversion.allow_data_truncation,
            bool_as_number: conversion.treat_boolean_as_number,
        }
    }

    /// Short texts of this type fit, whatever they are.
    pub fn takes_any_text(&self) -> bool {
        matches!(self.kind, ScalarType::String | ScalarType::Dynamic)
    }

    /// Judges a text that has no quotes around it. An empty one is null, or the empty string.
    #[inline]
    pub fn judge(&self, text: &[u8], scratch: &mut Vec<u8>) -> Verdict {
        let fits = match self.kind {
            ScalarType::String | ScalarType::Dynamic => text.len() <= VALUE_BYTES_MAX,
            _ if text.is_empty() => true,
            ScalarType::Long => is_whole(text, 18),
            ScalarType::Int => is_whole(text, 9),
            ScalarType::Real => is_plain_real(text),
            ScalarType::DateTime => self.format.is_none() && is_iso_datetime(text),
            ScalarType::Bool => matches!(text, b"true" | b"false" | b"1" | b"0"),
            ScalarType::Guid => is_guid(text),
            ScalarType::Decimal => text.len() <= 20 && is_plain_real(text),
            ScalarType::Timespan => false,
        };
        if fits { Verdict::Fits } else { self.judge_slowly(text, scratch) }
    }

    #[cold]
    fn judge_slowly(&self, text: &[u8], scratch: &mut Vec<u8>) -> Verdict {
        let trimmed = text.trim_ascii();
        if trimmed.is_empty() && !self.takes_any_text() {
            return becomes(b"", scratch);
        }
        let verdict = match self.kind {
            ScalarType::String => self.cut(text, scratch),
            ScalarType::Dynamic => Verdict::Bad("is longer than the 1 MB that a dynamic value may have"),
            ScalarType::Long | ScalarType::Int => self.whole(trimmed, scratch),
            ScalarType::Real => self.real(trimmed, scratch),
            ScalarType::Decimal => decimal(trimmed),
            ScalarType::DateTime => self.datetime(trimmed, scratch),
            ScalarType::Bool if trimmed.eq_ignore_ascii_case(b"true") => becomes(b"true", scratch),
            ScalarType::Bool if trimmed.eq_ignore_ascii_case(b"false") => becomes(b"false", scratch),
            ScalarType::Bool if matches!(trimmed, b"1" | b"0") => Verdict::Fits,
            ScalarType::Bool => Verdict::Bad("is not true, false, 1 or 0"),
            ScalarType::Guid => guid(trimmed, scratch),
            ScalarType::Timespan => self.timespan(trimmed, scratch),
        };
        match verdict {
            // Whether the cluster takes blanks around a value is not said anywhere.
            Verdict::Fits if trimmed.len() < text.len() && !self.takes_any_text() => becomes(trimmed, scratch),
            other => other,
        }
    }

    fn cut(&self, text: &[u8], scratch: &mut Vec<u8>) -> Verdict {
        if !self.may_truncate {
            return Verdict::Bad("is longer than the 1 MB that a string may have");
        }
        let mut end = VALUE_BYTES_MAX;
        // Not inside a character.
        while end > 0 && text[end] & 0xc0 == 0x80 {
            end -= 1;
        }
        becomes(&text[..end], scratch)
    }

    fn whole(&self, text: &[u8], scratch: &mut Vec<u8>) -> Verdict {
        let fits_kind = |digits: &str| match self.kind {
            ScalarType::Int => digits.parse::<i32>().is_ok(),
            _ => digits.parse::<i64>().is_ok(),
        };
        let Ok(text) = std::str::from_utf8(text) else { return Verdict::Bad("is not a whole number") };
        let digits = text.strip_prefix('+').unwrap_or(text);
        if fits_kind(digits) && !digits.starts_with('+') {
            return if digits.len() < text.len() { becomes(digits.as_bytes(), scratch) } else { Verdict::Fits };
        }
        if self.bool_as_number {
            if digits.eq_ignore_ascii_case("true") {
                return becomes(b"1", scratch);
            }
            if digits.eq_ignore_ascii_case("false") {
                return becomes(b"0", scratch);
            }
        }
        if let Some((whole, fraction)) = digits.split_once('.')
            && !fraction.is_empty()
            && fraction.bytes().all(|b| b.is_ascii_digit())
            && fits_kind(whole)
        {
            if fraction.bytes().all(|b| b == b'0') || self.may_truncate {
                return becomes(if whole == "-0" { b"0" } else { whole.as_bytes() }, scratch);
            }
            return Verdict::Bad("has a fraction, and the column holds whole numbers");
        }
        let all_digits = digits.strip_prefix('-').unwrap_or(digits).bytes().all(|b| b.is_ascii_digit());
        match (all_digits, self.kind) {
            (true, ScalarType::Int) => Verdict::Bad("does not fit 32 bits"),
            (true, _) => Verdict::Bad("does not fit 64 bits"),
            _ => Verdict::Bad("is not a whole number"),
        }
    }

    fn real(&self, text: &[u8], scratch: &mut Vec<u8>) -> Verdict {
        let Ok(text) = std::str::from_utf8(text) else { return Verdict::Bad("is not a number") };
        if self.bool_as_number && text.eq_ignore_ascii_case("true") {
            return becomes(b"1", scratch);
        }
        if self.bool_as_number && text.eq_ignore_ascii_case("false") {
            return becomes(b"0", scratch);
        }
        let Ok(number) = text.parse::<f64>() else { return Verdict::Bad("is not a number") };
        if number.is_nan() {
            return becomes(b"NaN", scratch);
        }
        let is_spelled = text.bytes().any(|b| matches!(b, b'i' | b'I'));
        match (number.is_infinite(), is_spelled) {
            (true, true) => becomes(if number > 0.0 { b"Infinity" } else { b"-Infinity" }, scratch),
            (true, false) => Verdict::Bad("is too large for a real"),
            // Rust reads a leading plus and forms such as `.5` and `5.`; so that nobody has to wonder, they are written out.
            _ if text.starts_with(['+', '.']) || text.starts_with("-.") || text.ends_with('.') => {
                becomes(number.to_string().as_bytes(), scratch)
            }
            _ => Verdict::Fits,
        }
    }

    fn datetime(&self, text: &[u8], scratch: &mut Vec<u8>) -> Verdict {
        let Ok(text) = std::str::from_utf8(text) else { return Verdict::Bad("is not a date") };
        if let Some(format) = &self.format {
            return match format.read(text) {
                Some(time) => becomes(time.as_bytes(), scratch),
                None => Verdict::Bad("is not a date of the format given"),
            };
        }
        if is_iso_datetime(text.as_bytes()) {
            return Verdict::Fits;
        }
        if let Some((end, digits)) = long_fraction(text.as_bytes()) {
            let (keep, cut) = digits.split_at(FRACTION_DIGITS);
            if cut.iter().any(|b| *b != b'0') && !self.may_truncate {
                return Verdict::Bad("has digits below the 100 ns that the cluster keeps");
            }
            let start = end - digits.len();
            let mut shorter = text.as_bytes()[..start].to_vec();
            shorter.extend_from_slice(keep);
            shorter.extend_from_slice(&text.as_bytes()[end..]);
            return if is_iso_datetime(&shorter) { becomes(&shorter, scratch) } else { Verdict::Bad("is not a date") };
        }
        match super::dates::read_other_form(text) {
            Some(time) => becomes(time.as_bytes(), scratch),
            None => Verdict::Bad("is not a date that the cluster reads; give its format in the mapping"),
        }
    }

    fn timespan(&self, text: &[u8], scratch: &mut Vec<u8>) -> Verdict {
        match read_timespan(text) {
            Some(0) => Verdict::Fits,
            Some(cut) if self.may_truncate => becomes(&text[..text.len() - cut], scratch),
            Some(cut) if text[text.len() - cut..].iter().all(|b| *b == b'0') => {
                becomes(&text[..text.len() - cut], scratch)
            }
            Some(_) => Verdict::Bad("has digits below the 100 ns that the cluster keeps"),
            None => Verdict::Bad("is not a length of time such as 1.02:03:04.5"),
        }
    }
}

fn becomes(text: &[u8], scratch: &mut Vec<u8>) -> Verdict {
    scratch.clear();
    scratch.extend_from_slice(text);
    Verdict::Becomes
}

/// The bytes of a text of one to eight, the first one lowest, and digits above them.
///
/// Most numbers are that short. A loop over so few bytes ends where the processor does not expect it.
#[inline]
fn word_of(text: &[u8]) -> Option<u64> {
    let bytes = text.len();
    // Loads overlap: the same byte comes to the same place.
    let word = match (text.first_chunk::<4>(), text.last_chunk::<4>()) {
        (Some(first), Some(last)) if bytes <= 8 => {
            u64::from(u32::from_le_bytes(*first)) | (u64::from(u32::from_le_bytes(*last)) << (8 * (bytes - 4)))
        }
        (None, _) if bytes > 0 => {
            let at = |index: usize| u64::from(text[index]) << (8 * index);
            at(0) | at(bytes / 2) | at(bytes - 1)
        }
        _ => return None,
    };
    Some(word | DIGITS.checked_shl(8 * bytes as u32).unwrap_or(0))
}

/// Eight times `0`.
const DIGITS: u64 = 0x3030_3030_3030_3030;

/// The highest bit of each byte of a word that is no digit.
#[inline]
fn non_digits(word: u64) -> u64 {
    const LOW: u64 = 0x7f7f_7f7f_7f7f_7f7f;
    // A digit becomes 0 to 9, and with 0x76 more it still lacks the highest bit.
    let from_zero = word ^ DIGITS;
    (((from_zero & LOW) + 0x7676_7676_7676_7676) | from_zero) & !LOW
}

/// A whole number of at most `digits_sure` digits, which surely fits.
#[inline]
fn is_whole(text: &[u8], digits_sure: usize) -> bool {
    let digits = if text[0] == b'-' { &text[1..] } else { text };
    match word_of(digits) {
        Some(word) => non_digits(word) == 0 && digits.len() <= digits_sure,
        None => !digits.is_empty() && digits.len() <= digits_sure && digits.iter().all(u8::is_ascii_digit),
    }
}

/// `-12.5`: digits on both sides of at most one point, and few enough that a double surely holds the size.
#[inline]
fn is_plain_real(text: &[u8]) -> bool {
    let digits = if text[0] == b'-' { &text[1..] } else { text };
    if let Some(word) = word_of(digits) {
        let others = non_digits(word);
        let at = others.trailing_zeros() / 8;
        let is_point = || word >> (8 * at) & 0xff == u64::from(b'.') && others & (others - 1) == 0;
        return others == 0 || (is_point() && at > 0 && at as usize + 1 < digits.len());
    }
    if digits.len() > 300 || !digits.first().is_some_and(u8::is_ascii_digit) {
        return false;
    }
    let mut points = 0;
    for &byte in digits {
        match byte {
            b'0'..=b'9' => {}
            b'.' => points += 1,
            _ => return false,
        }
    }
    points <= 1 && digits.last() != Some(&b'.')
}

fn decimal(text: &[u8]) -> Verdict {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    let (mantissa, exponent) = match digits.iter().position(|b| matches!(b, b'e' | b'E')) {
        Some(at) => (&digits[..at], Some(&digits[at + 1..])),
        None => (digits, None),
    };
    let exponent_fits = exponent.is_none_or(|e| {
        let e = e.strip_prefix(b"-").or(e.strip_prefix(b"+")).unwrap_or(e);
        !e.is_empty() && e.len() <= 4 && e.iter().all(u8::is_ascii_digit)
    });
    if !exponent_fits || mantissa.is_empty() || !is_plain_real(mantissa) || mantissa[0] == b'-' {
        return Verdict::Bad("is not a decimal number");
    }
    let significant = mantissa.iter().filter(|b| **b != b'.').skip_while(|b| **b == b'0').count();
    if significant > DECIMAL_DIGITS_MAX {
        return Verdict::Bad("has more than the 34 digits that a decimal holds");
    }
    Verdict::Fits
}

#[inline]
fn two(text: &[u8], at: usize) -> Option<u8> {
    let (high, low) = (text.get(at)?.wrapping_sub(b'0'), text.get(at + 1)?.wrapping_sub(b'0'));
    (high < 10 && low < 10).then(|| high * 10 + low)
}

fn days_in(year: u16, month: u8) -> u8 {
    match month {
        2 if year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400)) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// `2026-01-02`, or that with `T03:04`, `03:04:05`, up to seven digits of a fraction, `Z` or an offset.
#[inline]
fn is_iso_datetime(text: &[u8]) -> bool {
    match text.first_chunk::<19>() {
        // To the second, as most are: with a length that the compiler knows, nothing in it is checked twice.
        Some(usual) if text.len() == usual.len() => iso_datetime(usual).is_some(),
        _ => iso_datetime(text).is_some(),
    }
}

#[inline(always)]
fn iso_datetime(text: &[u8]) -> Option<()> {
    let (century, year, month, day) = (two(text, 0)?, two(text, 2)?, two(text, 5)?, two(text, 8)?);
    let year = u16::from(century) * 100 + u16::from(year);
    let is_date = text[4] == b'-'
        && text[7] == b'-'
        && year > 0
        && (1..=12).contains(&month)
        && day >= 1
        && day <= days_in(year, month);
    if !is_date {
        return None;
    }
    if text.len() == 10 {
        return Some(());
    }
    let time = &text[11..];
    if !matches!(text[10], b'T' | b' ' | b't') || two(time, 0)? > 23 || time.get(2) != Some(&b':') || two(time, 3)? > 59
    {
        return None;
    }
    let mut rest = &time[5..];
    if rest.first() == Some(&b':') {
        if two(rest, 1)? > 59 {
            return None;
        }
        rest = &rest[3..];
        if rest.first() == Some(&b'.') {
            let digits = rest[1..].iter().take_while(|b| b.is_ascii_digit()).count();
            if digits == 0 || digits > FRACTION_DIGITS {
                return None;
            }
            rest = &rest[1 + digits..];
        }
    }
    match rest {
        [] | [b'Z' | b'z'] => Some(()),
        [b'+' | b'-', offset @ ..] => {
            let fits = two(offset, 0)? <= 14
                && match offset.len() {
                    5 => offset[2] == b':' && two(offset, 3)? <= 59,
                    _ => false,
                };
            fits.then_some(())
        }
        _ => None,
    }
}

/// A fraction of more digits than the cluster keeps: where it ends, and its digits.
fn long_fraction(text: &[u8]) -> Option<(usize, &[u8])> {
    let point = text.iter().position(|b| *b == b'.')?;
    let digits = text[point + 1..].iter().take_while(|b| b.is_ascii_digit()).count();
    (digits > FRACTION_DIGITS).then(|| (point + 1 + digits, &text[point + 1..point + 1 + digits]))
}

fn is_guid(text: &[u8]) -> bool {
    text.len() == 36
        && text.iter().enumerate().all(|(at, b)| match at {
            8 | 13 | 18 | 23 => *b == b'-',
            _ => b.is_ascii_hexdigit(),
        })
}

fn guid(text: &[u8], scratch: &mut Vec<u8>) -> Verdict {
    if is_guid(text) {
        return Verdict::Fits;
    }
    let inner = text
        .strip_prefix(b"{")
        .and_then(|t| t.strip_suffix(b"}"))
        .or_else(|| text.strip_prefix(b"(").and_then(|t| t.strip_suffix(b")")))
        .unwrap_or(text);
    if is_guid(inner) {
        return becomes(inner, scratch);
    }
    if inner.len() == 32 && inner.iter().all(u8::is_ascii_hexdigit) {
        scratch.clear();
        for (at, byte) in inner.iter().enumerate() {
            if matches!(at, 8 | 12 | 16 | 20) {
                scratch.push(b'-');
            }
            scratch.push(*byte);
        }
        return Verdict::Becomes;
    }
    Verdict::Bad("is not a GUID")
}

/// `[-][d.]hh:mm[:ss[.fffffff]]`. Returns how many digits of the fraction are too many.
fn read_timespan(text: &[u8]) -> Option<usize> {
    let text = text.strip_prefix(b"-").unwrap_or(text);
    let colon = text.iter().position(|b| *b == b':')?;
    let (days, hours) = match text[..colon].iter().position(|b| *b == b'.') {
        Some(point) => (&text[..point], &text[point + 1..colon]),
        None => (&text[..0], &text[..colon]),
    };
    let number = |digits: &[u8]| std::str::from_utf8(digits).ok()?.parse::<u32>().ok();
    let is_digits = |digits: &[u8]| digits.iter().all(u8::is_ascii_digit);
    // The range of .NET's TimeSpan.
    if !is_digits(days) || (!days.is_empty() && number(days)? > 10_675_199) || !matches!(hours.len(), 1 | 2) {
        return None;
    }
    if number(hours)? > 23 || !is_digits(hours) || two(text, colon + 1)? > 59 {
        return None;
    }
    let rest = &text[colon + 3..];
    match rest {
        [] => Some(0),
        [b':', ..] => {
            if two(rest, 1)? > 59 {
                return None;
            }
            match &rest[3..] {
                [] => Some(0),
                [b'.', fraction @ ..] if !fraction.is_empty() && is_digits(fraction) => {
                    Some(fraction.len().saturating_sub(FRACTION_DIGITS))
                }
                _ => None,
            }
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ScalarType as T;

    fn judged(kind: T, text: &str, conversion: &TypeConversionSettings) -> Result<String, &'static str> {
        let mut scratch = Vec::new();
        match Check::new(kind, None, conversion).judge(text.as_bytes(), &mut scratch) {
            Verdict::Fits => Ok(text.to_owned()),
            Verdict::Becomes => Ok(String::from_utf8(scratch).unwrap()),
            Verdict::Bad(why) => Err(why),
        }
    }

    /// Every text of up to five characters that matter, and longer ones with each of them at each place.
    fn texts() -> Vec<String> {
        let mut texts = vec![String::new()];
        let mut from = 0;
        for _ in 0..5 {
            let longer = texts[from..]
                .iter()
                .flat_map(|t| "09.-:/\u{b0}".chars().map(move |c| format!("{t}{c}")))
                .collect::<Vec<_>>();
            from = texts.len();
            texts.extend(longer);
        }
        for length in 6..=20 {
            for at in 0..length {
                for other in [".", "-", ":", "/", "\u{0}", "\u{b0}"] {
                    texts.push(format!("{}{other}{}", "1".repeat(at), "9".repeat(length - at - 1)));
                    texts.push(format!("-{}{other}{}.{}", "1".repeat(at), "9".repeat(length - at - 1), "0"));
                }
            }
            texts.push("8".repeat(length));
            texts.push(format!("-{}", "8".repeat(length)));
        }
        texts.retain(|t| !t.is_empty());
        texts
    }

    #[test]
    fn numbers_are_told_from_others_whatever_their_length() {
        for text in texts() {
            let digits = text.strip_prefix('-').unwrap_or(&text);
            let are_digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
            let is_real = match digits.split_once('.') {
                Some((whole, fraction)) => are_digits(whole) && are_digits(fraction),
                None => are_digits(digits),
            };
            for sure in [9, 18] {
                let expected = are_digits(digits) && digits.len() <= sure;
                assert_eq!(is_whole(text.as_bytes(), sure), expected, "{text:?} {sure}");
            }
            assert_eq!(is_plain_real(text.as_bytes()), is_real, "{text:?}");
        }
    }

    #[test]
    fn values_that_fit_stay_as_they_are() {
        for (kind, texts) in [
            (T::Int, vec!["", "0", "-1", "2147483647", "-2147483648", "007"]),
            (T::Long, vec!["9223372036854775807", "-9223372036854775808"]),
            (T::Real, vec!["1", "-1.5", "1e300", "1E-5", "0.1"]),
            (T::Decimal, vec!["1.5", "-0.000000000000000001", "1234567890123456789012345678901234", "1e10"]),
            (
                T::DateTime,
                vec![
                    "2026-01-02",
                    "2026-01-02T03:04",
                    "2026-01-02 03:04:05",
                    "2024-02-29T23:59:59.1234567Z",
                    "2026-01-02T03:04:05+02:00",
                ],
            ),
            (T::Bool, vec!["true", "false", "1", "0"]),
            (T::Guid, vec!["74be27de-1e4e-49d9-b579-fe0b331d3642"]),
            (T::Timespan, vec!["01:02:03", "1.02:03:04.1234567", "-00:00:01", "1:02"]),
            (T::String, vec!["", " x ", "5\" disk"]),
            (T::Dynamic, vec!["{}", "no json"]),
        ] {
            for text in texts {
                assert_eq!(
                    judged(kind, text, &TypeConversionSettings::default()).as_deref(),
                    Ok(text),
                    "{kind} {text:?}"
                );
            }
        }
    }

    #[test]
    fn values_of_another_form_are_rewritten() {
        for (kind, text, expected) in [
            (T::Int, " 5 ", "5"),
            (T::Int, "+5", "5"),
            (T::Long, "5.0", "5"),
            (T::Real, ".5", "0.5"),
            (T::Real, "inf", "Infinity"),
            (T::Bool, "True", "true"),
            (T::Bool, "FALSE", "false"),
            (T::Guid, "{74be27de-1e4e-49d9-b579-fe0b331d3642}", "74be27de-1e4e-49d9-b579-fe0b331d3642"),
            (T::Guid, "74be27de1e4e49d9b579fe0b331d3642", "74be27de-1e4e-49d9-b579-fe0b331d3642"),
            (T::DateTime, "2026-01-02T03:04:05.123456700", "2026-01-02T03:04:05.1234567"),
            (T::DateTime, "Sat, 08 Nov 2014 15:05:02 GMT", "2014-11-08T15:05:02Z"),
            (T::Timespan, "00:00:00.123456700", "00:00:00.1234567"),
            (T::Long, "  ", ""),
        ] {
            assert_eq!(
                judged(kind, text, &TypeConversionSettings::default()).as_deref(),
                Ok(expected),
                "{kind} {text:?}"
            );
        }
    }

    #[test]
    fn values_that_do_not_fit_are_told() {
        for (kind, texts) in [
            (T::Int, vec!["2147483648", "x", "1.5", "1e3", "--1", "-", "1,000"]),
            (T::Long, vec!["9223372036854775808", "0x10", "true"]),
            (T::Real, vec!["1,5", "one", "1e400", "1.2.3", "-"]),
            (T::Decimal, vec!["12345678901234567890123456789012345", "x", "1e", ".", "--1"]),
            (
                T::DateTime,
                vec![
                    "2026-02-29",
                    "2026-13-01",
                    "24:00",
                    "02/01/2026",
                    "2026-01-02T25:00",
                    "2026-01-02T03:04:05.123456789",
                    "0000-01-01",
                ],
            ),
            (T::Bool, vec!["yes", "2", "t"]),
            (T::Guid, vec!["74be27de", "74be27de-1e4e-49d9-b579-fe0b331d364g"]),
            (T::Timespan, vec!["25:00:00", "1", "00:60:00", "00:00:00.123456789", "1 day"]),
        ] {
            for text in texts {
                assert!(judged(kind, text, &TypeConversionSettings::default()).is_err(), "{kind} {text:?}");
            }
        }
        let long = "x".repeat(VALUE_BYTES_MAX + 1);
        assert!(judged(T::String, &long, &TypeConversionSettings::default()).is_err());
        assert!(judged(T::Dynamic, &long, &TypeConversionSettings::default()).is_err());
    }

    #[test]
    fn what_may_be_lost_is_cut_when_the_settings_say_so() {
        let conversion = TypeConversionSettings {
            allow_data_truncation: true,
            treat_boolean_as_number: true,
            ..TypeConversionSettings::default()
        };
        for (kind, text, expected) in [
            (T::Int, "1.9", "1"),
            (T::Int, "true", "1"),
            (T::Real, "False", "0"),
            (T::DateTime, "2026-01-02T03:04:05.123456789Z", "2026-01-02T03:04:05.1234567Z"),
            (T::Timespan, "00:00:00.123456789", "00:00:00.1234567"),
        ] {
            assert_eq!(judged(kind, text, &conversion).as_deref(), Ok(expected), "{kind} {text:?}");
        }
        let long = format!("x{}", "é".repeat(VALUE_BYTES_MAX / 2));
        assert_eq!(judged(T::String, &long, &conversion).unwrap().len(), VALUE_BYTES_MAX - 1);
    }
}
