//! JSON lines: one object a line. The cluster would pass over a bad line in silence, so each is checked here.

use super::{FormatError, Found, Place, RECORD_BYTES_MAX, check_utf8};
use memchr::memchr;
use serde::de::IgnoredAny;

/// Reader of JSON lines.
#[derive(Debug, Clone, Default)]
pub struct JsonLines {
    /// Bytes of the current line that are scanned.
    scanned: usize,
}

impl JsonLines {
    /// See [`super::Format::find`].
    pub(super) fn find(&mut self, window: &[u8], last: bool) -> Result<Found, FormatError> {
        let end = match memchr(b'\n', &window[self.scanned..]) {
            Some(next) => self.scanned + next + 1,
            None if last && !window.is_empty() => window.len(),
            None => {
                self.scanned = window.len();
                return Ok(Found::NeedMore);
            }
        };
        self.scanned = 0;
        let is_blank = window[..end].iter().all(u8::is_ascii_whitespace);
        Ok(if is_blank { Found::Blank(end) } else { Found::Record(end) })
    }

    /// See [`super::Format::stage`].
    pub(super) fn stage(&mut self, record: &[u8], at: Place, out: &mut Vec<u8>) -> Result<(), FormatError> {
        if record.len() > RECORD_BYTES_MAX {
            return Err(FormatError::RecordTooLong { line: at.line, byte: at.byte });
        }
        check_utf8(record, at)?;
        let invalid = |why: String| FormatError::InvalidJson { line: at.line, byte: at.byte, why };
        let text = record.trim_ascii();
        if !text.starts_with(b"{") {
            return Err(invalid("it does not begin with {".to_owned()));
        }
        serde_json::from_slice::<IgnoredAny>(text).map_err(|e| invalid(e.to_string()))?;
        out.extend_from_slice(text);
        out.push(b'\n');
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn staged(text: &str) -> Result<String, FormatError> {
        let (mut reader, mut rest, mut out) = (JsonLines::default(), text.as_bytes(), Vec::new());
        loop {
            match reader.find(rest, true)? {
                Found::Record(bytes) => {
                    reader.stage(&rest[..bytes], Place { byte: 0, line: 1 }, &mut out)?;
                    rest = &rest[bytes..];
                }
                Found::Blank(bytes) => rest = &rest[bytes..],
                Found::NeedMore => return Ok(String::from_utf8(out).unwrap()),
            }
        }
    }

    #[test]
    fn each_line_is_one_object() {
        assert_eq!(staged("{\"a\":1}\r\n\n {\"b\":[1,2]}").unwrap(), "{\"a\":1}\n{\"b\":[1,2]}\n");
    }

    #[test]
    fn a_line_that_is_no_object_is_told() {
        for bad in ["[1]\n", "{\"a\":1\n", "{\"a\":1} x\n", "1\n", "{'a':1}\n"] {
            assert!(matches!(staged(bad), Err(FormatError::InvalidJson { .. })), "{bad}");
        }
    }
}
