//! Delimited text. Reads any one-byte delimiter and quote; stages RFC 4180 with commas.
//!
//! A record that is RFC 4180 already is staged as it stands. Others are written anew, field by field: with another
//! delimiter or quote, with a quote inside an unquoted field, or with text after a closing quote.

use super::{FormatError, Found, Place, RECORD_BYTES_MAX, check_utf8};
use memchr::{memchr, memchr3};

/// Where the scan stands inside the current record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// At the first byte of a field.
    FieldStart,
    /// In a field without quotes.
    Bare,
    /// Between quotes.
    Quoted,
    /// Just after a quote that closes a field, or is the first of two.
    QuoteInQuoted,
}

/// Reader of delimited text.
#[derive(Debug, Clone)]
pub struct DelimitedText {
    delimiter: u8,
    quote: u8,
    state: State,
    /// Bytes of the current record that are scanned.
    scanned: usize,
    /// Fields that have ended in the current record.
    fields: u32,
    /// The current record can be staged as it stands.
    verbatim: bool,
    /// Where the open quote stands in the current record.
    quote_at: usize,
    /// Fields of the record found last.
    found_fields: u32,
    found_verbatim: bool,
    /// Fields that every record must have; `None` until the first one, or where widths may differ.
    expected: Option<u32>,
    is_strict: bool,
    scratch: Vec<u8>,
}

impl DelimitedText {
    /// A reader that lets widths differ until [`Self::expect_fields`].
    pub fn new(delimiter: u8, quote: u8) -> Self {
        Self {
            delimiter,
            quote,
            state: State::FieldStart,
            scanned: 0,
            fields: 0,
            verbatim: true,
            quote_at: 0,
            found_fields: 0,
            found_verbatim: true,
            expected: None,
            is_strict: false,
            scratch: Vec::new(),
        }
    }

    /// From now on each record must have `fields` fields, or as many as the next one if that is `None`.
    pub fn expect_fields(&mut self, fields: Option<u32>) {
        self.expected = fields;
        self.is_strict = true;
    }

    /// See [`super::Format::find`].
    pub(super) fn find(&mut self, window: &[u8], last: bool, at: Place) -> Result<Found, FormatError> {
        if self.scanned == 0 {
            let blank = match window {
                [b'\n', ..] => 1,
                [b'\r', b'\n', ..] => 2,
                [b'\r'] if last => 1,
                [b'\r'] if !last => return Ok(Found::NeedMore),
                _ => 0,
            };
            if blank > 0 {
                return Ok(Found::Blank(blank));
            }
        }
        while self.scanned < window.len() {
            let here = self.scanned;
            let rest = &window[here..];
            match self.state {
                State::FieldStart if rest[0] == self.quote => {
                    self.state = State::Quoted;
                    self.quote_at = here;
                    self.scanned += 1;
                }
                State::FieldStart => self.state = State::Bare,
                State::Bare => match memchr3(self.delimiter, b'\n', self.quote, rest) {
                    None => self.scanned = window.len(),
                    Some(next) => {
                        self.scanned = here + next + 1;
                        match rest[next] {
                            byte if byte == self.delimiter => {
                                self.fields += 1;
                                self.state = State::FieldStart;
                            }
                            b'\n' => return Ok(self.end(self.scanned)),
                            // A quote inside a field means itself.
                            _ => self.verbatim = false,
                        }
                    }
                },
                State::Quoted => match memchr(self.quote, rest) {
                    None => self.scanned = window.len(),
                    Some(next) => {
                        self.scanned = here + next + 1;
                        self.state = State::QuoteInQuoted;
                    }
                },
                State::QuoteInQuoted => {
                    self.scanned += 1;
                    match rest[0] {
                        byte if byte == self.quote => self.state = State::Quoted,
                        byte if byte == self.delimiter => {
                            self.fields += 1;
                            self.state = State::FieldStart;
                        }
                        b'\n' => return Ok(self.end(self.scanned)),
                        b'\r' if rest.get(1) == Some(&b'\n') => return Ok(self.end(self.scanned + 1)),
                        b'\r' if rest.len() == 1 => {
                            // The line end may be cut by the window; at the end of the file it ends the record.
                            self.scanned -= 1;
                            return if last { Ok(self.end(window.len())) } else { Ok(Found::NeedMore) };
                        }
                        _ => {
                            self.verbatim = false;
                            self.state = State::Bare;
                        }
                    }
                }
            }
            if self.scanned > RECORD_BYTES_MAX {
                return Err(FormatError::RecordTooLong { line: at.line, byte: at.byte });
            }
        }
        if !last || window.is_empty() {
            return Ok(Found::NeedMore);
        }
        if self.state == State::Quoted {
            let lines = window[..self.quote_at].iter().filter(|b| **b == b'\n').count() as u64;
            return Err(FormatError::UnclosedQuote { line: at.line + lines, byte: at.byte + self.quote_at as u64 });
        }
        Ok(self.end(window.len()))
    }

    /// Closes the record and makes ready for the next.
    fn end(&mut self, bytes: usize) -> Found {
        self.found_fields = self.fields + 1;
        self.found_verbatim = self.verbatim && self.delimiter == b',' && self.quote == b'"';
        self.state = State::FieldStart;
        self.scanned = 0;
        self.fields = 0;
        self.verbatim = true;
        Found::Record(bytes)
    }

    /// See [`super::Format::stage`].
    pub(super) fn stage(&mut self, record: &[u8], at: Place, out: &mut Vec<u8>) -> Result<(), FormatError> {
        if self.is_strict {
            let expected = *self.expected.get_or_insert(self.found_fields);
            if self.found_fields != expected {
                return Err(FormatError::RaggedRow {
                    line: at.line,
                    byte: at.byte,
                    found: self.found_fields,
                    expected,
                });
            }
        }
        check_utf8(record, at)?;
        let inner = record.strip_suffix(b"\n").unwrap_or(record);
        let inner = inner.strip_suffix(b"\r").unwrap_or(inner);
        if memchr(b'\r', inner).is_some() {
            self.check_carriage_returns(inner, at)?;
        }
        if self.found_verbatim {
            out.extend_from_slice(record);
        } else {
            self.rewrite(record, out);
        }
        // The last record of a file may lack its line end; in a chunk another may follow.
        if out.last() != Some(&b'\n') {
            out.push(b'\n');
        }
        Ok(())
    }

    /// A carriage return without quotes and without a line feed ends a record for some readers and not for others, so
    /// it is refused.
    fn check_carriage_returns(&self, record: &[u8], at: Place) -> Result<(), FormatError> {
        let mut state = State::FieldStart;
        for (offset, &byte) in record.iter().enumerate() {
            state = match state {
                State::FieldStart if byte == self.quote => State::Quoted,
                State::Quoted if byte == self.quote => State::QuoteInQuoted,
                State::Quoted => State::Quoted,
                State::QuoteInQuoted if byte == self.quote => State::Quoted,
                _ if byte == self.delimiter => State::FieldStart,
                _ if byte == b'\r' => {
                    return Err(FormatError::LoneCarriageReturn { line: at.line, byte: at.byte + offset as u64 });
                }
                _ => State::Bare,
            };
        }
        Ok(())
    }

    /// The values of a record, such as a header row. Fails as staging it would.
    pub fn header(&self, record: &[u8], at: Place) -> Result<Vec<String>, FormatError> {
        check_utf8(record, at)?;
        let inner = record.strip_suffix(b"\n").unwrap_or(record);
        self.check_carriage_returns(inner.strip_suffix(b"\r").unwrap_or(inner), at)?;
        Ok(self.values(record))
    }

    /// The values of a record.
    pub fn values(&self, record: &[u8]) -> Vec<String> {
        let mut values = Vec::new();
        self.each_value(record, &mut Vec::new(), |value| values.push(String::from_utf8_lossy(value).into_owned()));
        values
    }

    fn rewrite(&mut self, record: &[u8], out: &mut Vec<u8>) {
        let mut scratch = std::mem::take(&mut self.scratch);
        let mut first = true;
        let begin = out.len();
        self.each_value(record, &mut scratch, |value| {
            if !first {
                out.push(b',');
            }
            first = false;
            write_field(value, out);
        });
        if out.len() == begin {
            // One empty value alone would be an empty line, which is no record.
            out.extend_from_slice(b"\"\"");
        }
        out.push(b'\n');
        self.scratch = scratch;
    }

    /// Calls `each` with every value of one record, quotes taken away.
    fn each_value(&self, record: &[u8], scratch: &mut Vec<u8>, mut each: impl FnMut(&[u8])) {
        let record = record.strip_suffix(b"\n").unwrap_or(record);
        let record = record.strip_suffix(b"\r").unwrap_or(record);
        scratch.clear();
        let mut state = State::FieldStart;
        for &byte in record {
            match state {
                State::FieldStart if byte == self.quote => state = State::Quoted,
                State::Quoted if byte == self.quote => state = State::QuoteInQuoted,
                State::Quoted => scratch.push(byte),
                State::QuoteInQuoted if byte == self.quote => {
                    scratch.push(byte);
                    state = State::Quoted;
                }
                _ if byte == self.delimiter => {
                    each(scratch);
                    scratch.clear();
                    state = State::FieldStart;
                }
                _ => {
                    scratch.push(byte);
                    state = State::Bare;
                }
            }
        }
        each(scratch);
    }
}

/// Writes one value as RFC 4180 has it.
fn write_field(value: &[u8], out: &mut Vec<u8>) {
    let is_plain = !value.iter().any(|b| matches!(b, b',' | b'"' | b'\r' | b'\n'))
        && value.first().is_none_or(|b| *b != b' ')
        && value.last().is_none_or(|b| *b != b' ');
    if is_plain {
        out.extend_from_slice(value);
        return;
    }
    out.push(b'"');
    for &byte in value {
        if byte == b'"' {
            out.push(b'"');
        }
        out.push(byte);
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ends of all records, read through windows that grow by `step` bytes.
    fn ends(text: &[u8], step: usize) -> Result<Vec<usize>, FormatError> {
        let mut reader = DelimitedText::new(b',', b'"');
        let (mut start, mut end, mut found) = (0, 0, Vec::new());
        loop {
            let last = end == text.len();
            let at = Place { byte: start as u64, line: 1 };
            match reader.find(&text[start..end], last, at)? {
                Found::Record(bytes) => {
                    start += bytes;
                    found.push(start);
                }
                Found::Blank(bytes) => start += bytes,
                Found::NeedMore if last => return Ok(found),
                Found::NeedMore => end = (end + step).min(text.len()),
            }
        }
    }

    #[test]
    fn records_end_where_rfc_4180_says_whatever_the_window() {
        for (case, text, expected) in [
            ("a carriage return belongs to its record", "1,a\r\n2,b\r\n", vec![5, 10]),
            ("a newline inside quotes ends nothing", "1,\"a\nb\"\n2,c\n", vec![8, 12]),
            ("a doubled quote is a quote", "1,\"a\"\"\nb\"\n2\n", vec![10, 12]),
            ("no line end at the end of the file", "1,a\n2,b", vec![4, 7]),
            ("empty lines are no records", "1\n\n\r\n2\n", vec![2, 7]),
            ("a quote inside a bare field opens nothing", "5\" disk,x\ny\n", vec![10, 12]),
            ("quoted field before CRLF", "\"a\"\r\n\"b\"\r\n", vec![5, 10]),
            ("text after a closing quote", "\"a\"b\nc\n", vec![5, 7]),
            ("an empty quoted field", "\"\"\n\"\"", vec![3, 5]),
            ("nothing", "", vec![]),
            ("a last empty field", "a,\nb,", vec![3, 5]),
        ] {
            for step in 1..=text.len().max(1) {
                assert_eq!(ends(text.as_bytes(), step).unwrap(), expected, "{case}, windows of {step}");
            }
        }
    }

    #[test]
    fn a_quote_left_open_is_told_with_its_place() {
        let text = b"1,a\n2,\"x\ny\n";
        let error = ends(&text[4..], 3).unwrap_err();
        assert!(matches!(error, FormatError::UnclosedQuote { line: 1, byte: 2 }), "{error}");
    }

    fn staged(text: &str, delimiter: u8, quote: u8) -> Result<String, FormatError> {
        let mut reader = DelimitedText::new(delimiter, quote);
        reader.expect_fields(None);
        let (mut rest, mut out) = (text.as_bytes(), Vec::new());
        while let Found::Record(bytes) = reader.find(rest, true, Place { byte: 0, line: 1 })? {
            reader.stage(&rest[..bytes], Place { byte: 0, line: 1 }, &mut out)?;
            rest = &rest[bytes..];
        }
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn staged_text_is_rfc_4180() {
        for (case, text, delimiter, quote, expected) in [
            ("clean text is not touched", "1,\"a\nb\"\r\n2,c\r\n", b',', b'"', "1,\"a\nb\"\r\n2,c\r\n"),
            ("a last line end is added", "1,a", b',', b'"', "1,a\n"),
            ("another delimiter", "1;a,b;\"c;\"\"d\"\n", b';', b'"', "1,\"a,b\",\"c;\"\"d\"\n"),
            ("tabs", "a\t b\n", b'\t', b'"', "a,\" b\"\n"),
            ("another quote", "'a,''b',\"c\n", b',', b'\'', "\"a,'b\",\"\"\"c\"\n"),
            ("a quote in a bare field", "5\" disk,x\r\n", b',', b'"', "\"5\"\" disk\",x\n"),
            ("text after a closing quote", "\"a\"b,c\n", b',', b'"', "ab,c\n"),
            ("a quoted carriage return", "\"a\rb\",c\n", b',', b'"', "\"a\rb\",c\n"),
            ("one empty value", "''\n", b';', b'\'', "\"\"\n"),
        ] {
            assert_eq!(staged(text, delimiter, quote).unwrap(), expected, "{case}");
        }
    }

    #[test]
    fn a_lone_carriage_return_is_told() {
        for text in ["a\rb,c\n", "a,b\r1,2\r", "\"a\"\rb\n"] {
            let error = staged(text, b',', b'"').unwrap_err();
            assert!(matches!(error, FormatError::LoneCarriageReturn { .. }), "{text:?}: {error}");
        }
    }

    #[test]
    fn a_ragged_row_is_told() {
        let error = staged("1,2\n3\n", b',', b'"').unwrap_err();
        assert!(matches!(error, FormatError::RaggedRow { found: 1, expected: 2, .. }), "{error}");
    }

    #[test]
    fn bytes_that_are_not_utf8_are_told() {
        let mut reader = DelimitedText::new(b',', b'"');
        let record = b"ab\xff\n";
        assert_eq!(reader.find(record, true, Place { byte: 10, line: 3 }).unwrap(), Found::Record(4));
        let error = reader.stage(record, Place { byte: 10, line: 3 }, &mut Vec::new()).unwrap_err();
        assert!(matches!(error, FormatError::InvalidUtf8 { line: 3, byte: 12 }), "{error}");
    }
}
