//! W3C extended log files, as IIS writes them: the meaning of a line, and nothing about files.

use std::borrow::Cow;

/// What a line is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum W3cLine<'a> {
    /// No row: a directive without meaning here, or an empty line.
    Nothing,
    /// The columns of the lines that follow; [`W3cLog::fields`] has them.
    Header {
        /// Earlier lines had other columns.
        is_changed: bool,
    },
    /// One value for each column; `None` where the log has `-`.
    Row(Vec<Option<Cow<'a, str>>>),
}

/// What is wrong with a line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum W3cError {
    /// Data without columns.
    #[error("the log has data before any #Fields line")]
    NoHeader,
    /// A header without columns.
    #[error("the #Fields line names no column")]
    EmptyHeader,
    /// A column twice.
    #[error("the #Fields line names column `{column}` twice")]
    DoubledColumn {
        /// Its name.
        column: String,
    },
    /// Another number of values.
    #[error("line has {found} values where #Fields names {expected} columns")]
    FieldCount {
        /// Values of the line.
        found: usize,
        /// Columns.
        expected: usize,
    },
    /// Not UTF-8.
    #[error("line is not UTF-8 at byte {at}")]
    InvalidUtf8 {
        /// Offset in the line of the first bad byte.
        at: usize,
    },
}

/// Reader of one log file's lines.
#[derive(Debug, Clone, Default)]
pub struct W3cLog {
    /// Columns of the current part of the file; empty before the first `#Fields`.
    fields: Vec<String>,
}

impl W3cLog {
    /// Columns that the last `#Fields` line named; none before the first.
    pub fn fields(&self) -> &[String] {
        &self.fields
    }

    /// Reads one line, with or without its line end.
    ///
    /// Values stand between single spaces. A value in double quotes may hold spaces, and a quote as two; `+` is left as
    /// it is. Quotes bind only where the line has the right number of values because of them: a client can put a lone
    /// quote into a log. A line of zero bytes, as a crash leaves at the end of a file, is nothing.
    ///
    /// Source: W3C, extended log file format (WD-logfile-960323); IIS, `logFile` with `logFormat="W3C"`.
    pub fn line<'a>(&mut self, line: &'a [u8]) -> Result<W3cLine<'a>, W3cError> {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.iter().all(|b| matches!(b, 0 | b' ' | b'\t')) {
            return Ok(W3cLine::Nothing);
        }
        let line = std::str::from_utf8(line).map_err(|e| W3cError::InvalidUtf8 { at: e.valid_up_to() })?;
        let line = line.strip_prefix('\u{feff}').unwrap_or(line);
        if let Some(directive) = line.strip_prefix('#') {
            return self.directive(directive);
        }
        if self.fields.is_empty() {
            return Err(W3cError::NoHeader);
        }
        Ok(W3cLine::Row(self.values(line.trim_end_matches(' '))?))
    }

    /// Reads a line that began with `#`.
    fn directive(&mut self, text: &str) -> Result<W3cLine<'static>, W3cError> {
        let fields: Vec<String> = match text.split_once(':') {
            Some((name, columns)) if name.trim().eq_ignore_ascii_case("fields") => {
                columns.split_whitespace().map(str::to_owned).collect()
            }
            _ => return Ok(W3cLine::Nothing),
        };
        if fields.is_empty() {
            return Err(W3cError::EmptyHeader);
        }
        if let Some((_, column)) = fields.iter().enumerate().find(|(index, column)| fields[..*index].contains(column)) {
            return Err(W3cError::DoubledColumn { column: column.clone() });
        }
        let is_changed = !self.fields.is_empty() && self.fields != fields;
        self.fields = fields;
        Ok(W3cLine::Header { is_changed })
    }

    fn values<'a>(&self, line: &'a str) -> Result<Vec<Option<Cow<'a, str>>>, W3cError> {
        let expected = self.fields.len();
        let mut pieces: Vec<&str> = line.split(' ').collect();
        if pieces.len() != expected {
            let bound = split_quoted(line);
            if bound.len() != expected {
                return Err(W3cError::FieldCount { found: bound.len(), expected });
            }
            pieces = bound;
        }
        Ok(pieces.into_iter().map(|piece| (piece != "-").then(|| unquoted(piece))).collect())
    }
}

/// Splits at spaces outside quotes. A quote that nothing closes before a space is a letter like others.
fn split_quoted(line: &str) -> Vec<&str> {
    let mut pieces = Vec::new();
    let mut rest = line;
    loop {
        let end = quoted_end(rest).or_else(|| rest.find(' ')).unwrap_or(rest.len());
        pieces.push(&rest[..end]);
        match rest[end..].strip_prefix(' ') {
            Some(next) => rest = next,
            None => return pieces,
        }
    }
}

/// Where the quoted value ends with which `text` begins.
fn quoted_end(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    if bytes.first() != Some(&b'"') {
        return None;
    }
    let mut at = 1;
    loop {
        at += text[at..].find('"')?;
        match bytes.get(at + 1) {
            None | Some(b' ') => return Some(at + 1),
            // Two quotes are one; a quote before another letter closes nothing.
            Some(b'"') => at += 2,
            Some(_) => at += 1,
        }
    }
}

/// A value without the quotes around it.
fn unquoted(piece: &str) -> Cow<'_, str> {
    match piece.strip_prefix('"').and_then(|inner| inner.strip_suffix('"')) {
        Some(inner) if inner.contains("\"\"") => Cow::Owned(inner.replace("\"\"", "\"")),
        Some(inner) => Cow::Borrowed(inner),
        None => Cow::Borrowed(piece),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The values of `line` under `columns` columns; `NULL` stands for null.
    fn row(columns: usize, line: &str) -> Result<Vec<String>, W3cError> {
        let names: Vec<String> = (0..columns).map(|i| format!("c{i}")).collect();
        let mut log = W3cLog::default();
        let header = format!("#Fields: {}\r\n", names.join(" "));
        assert_eq!(log.line(header.as_bytes()), Ok(W3cLine::Header { is_changed: false }));
        match log.line(line.as_bytes())? {
            W3cLine::Row(values) => {
                Ok(values.into_iter().map(|v| v.map_or("NULL".to_owned(), Cow::into_owned)).collect())
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn values_stand_between_spaces() {
        for (case, columns, line, expected) in [
            ("plain", 3, "2026-01-02 03:04:05 GET\r\n", vec!["2026-01-02", "03:04:05", "GET"]),
            ("no line end", 2, "a b", vec!["a", "b"]),
            ("a dash is null", 3, "- a -\n", vec!["NULL", "a", "NULL"]),
            ("a dash within", 2, "-1 a-b", vec!["-1", "a-b"]),
            ("plus stays", 1, "Mozilla/5.0+(X11)", vec!["Mozilla/5.0+(X11)"]),
            ("two spaces hold an empty value", 3, "a  b", vec!["a", "", "b"]),
            ("a space at the end", 2, "a b \r\n", vec!["a", "b"]),
            ("quotes hold spaces", 3, "a \"b c d\" e", vec!["a", "b c d", "e"]),
            ("quotes at the end", 2, "a \"b c\"\r\n", vec!["a", "b c"]),
            ("quotes without spaces", 2, "\"a\" b", vec!["a", "b"]),
            ("two quotes are one", 2, "\"a \"\"b\"\" c\" d", vec!["a \"b\" c", "d"]),
            ("empty quotes", 2, "\"\" b", vec!["", "b"]),
            ("a quoted dash is a dash", 2, "\"-\" b", vec!["-", "b"]),
            ("a lone quote", 3, "a \"b c", vec!["a", "\"b", "c"]),
            ("quotes of two values", 3, "\"a b c\"", vec!["\"a", "b", "c\""]),
            ("a quote within", 2, "a\"b c\"d", vec!["a\"b", "c\"d"]),
            ("letters beyond ASCII", 2, "/süß \"ä ö\"", vec!["/süß", "ä ö"]),
        ] {
            assert_eq!(row(columns, line).unwrap(), expected, "{case}");
        }
    }

    #[test]
    fn a_line_of_another_width_is_told() {
        for (columns, line, found) in [(3, "a b", 2), (2, "a b c", 3), (3, "\"a b\"", 1), (3, "\"x \"a b\" c", 2)] {
            assert_eq!(row(columns, line), Err(W3cError::FieldCount { found, expected: columns }), "{line}");
        }
    }

    #[test]
    fn directives_set_columns_or_mean_nothing() {
        let mut log = W3cLog::default();
        for (line, expected, fields) in [
            ("#Software: Microsoft Internet Information Services 10.0\r\n", W3cLine::Nothing, ""),
            ("#Version: 1.0", W3cLine::Nothing, ""),
            ("# Fields are named below", W3cLine::Nothing, ""),
            ("", W3cLine::Nothing, ""),
            ("\r\n", W3cLine::Nothing, ""),
            ("\0\0\0\0", W3cLine::Nothing, ""),
            (
                "#Fields: date s-ip cs(User-Agent)\r\n",
                W3cLine::Header { is_changed: false },
                "date s-ip cs(User-Agent)",
            ),
            ("#Date: 2026-01-02 03:04:05", W3cLine::Nothing, "date s-ip cs(User-Agent)"),
            ("#Fields: date s-ip cs(User-Agent) ", W3cLine::Header { is_changed: false }, "date s-ip cs(User-Agent)"),
            ("#fields:date s-ip", W3cLine::Header { is_changed: true }, "date s-ip"),
            ("#Fields: s-ip date", W3cLine::Header { is_changed: true }, "s-ip date"),
        ] {
            assert_eq!(log.line(line.as_bytes()), Ok(expected), "{line}");
            assert_eq!(log.fields().join(" "), fields, "{line}");
        }
    }

    #[test]
    fn a_byte_order_mark_is_no_letter() {
        let mut log = W3cLog::default();
        assert_eq!(log.line("\u{feff}#Fields: a".as_bytes()), Ok(W3cLine::Header { is_changed: false }));
    }

    #[test]
    fn bad_headers_and_lines_are_told() {
        let mut log = W3cLog::default();
        assert_eq!(log.line(b"a b"), Err(W3cError::NoHeader));
        assert_eq!(log.line(b"#Fields: "), Err(W3cError::EmptyHeader));
        assert_eq!(log.line(b"#Fields: a b a"), Err(W3cError::DoubledColumn { column: "a".to_owned() }));
        assert_eq!(log.line(b"a b"), Err(W3cError::NoHeader));
        assert_eq!(log.line(b"#Fields: a"), Ok(W3cLine::Header { is_changed: false }));
        assert_eq!(log.line(b"ab\xff"), Err(W3cError::InvalidUtf8 { at: 2 }));
    }
}
