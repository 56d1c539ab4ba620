//! Formats whose records are lines: plain lines, fixed widths, logs of web servers.

use super::{
    BadRow, Batch, FormatError, Place, Row, Staged,
    fixed::FixedWidth,
    w3c::{W3cError, W3cLine, W3cLog},
    windowed::{Passed, Windowed},
};
use crate::{convert::Projection, read::TextWindow};
use bytes::Bytes;
use ferry_common::failure::Failure;
use memchr::memchr;

/// Makes the projection for a file whose columns have these names.
pub type Project<'r> = Box<dyn Fn(&[String]) -> Result<Projection, FormatError> + 'r>;

/// How a line becomes values.
pub enum LineKind {
    /// It is one value.
    Whole,
    /// At fixed widths.
    Fixed(FixedWidth),
    /// As its `#Fields` line says.
    W3c(W3cLog),
}

/// Reader of one file of lines.
pub struct LineReader<'r> {
    window: TextWindow<'r>,
    kind: LineKind,
    project: Project<'r>,
    projection: Option<Projection>,
    skips: bool,
    /// Records before this offset were staged earlier.
    from: u64,
    row: Row,
    scratch: Vec<u8>,
}

impl<'r> LineReader<'r> {
    /// A reader of the lines in `window`. Rows before the offset `from` are passed over.
    pub fn new(window: TextWindow<'r>, kind: LineKind, project: Project<'r>, skips: bool, from: u64) -> Self {
        Self { window, kind, project, projection: None, skips, from, row: Row::default(), scratch: Vec::new() }
    }

    fn read_lines(&mut self, is_last: bool, batch: &mut Batch, own: &mut Vec<u8>) -> Result<usize, FormatError> {
        let Self { window, kind, project, projection, skips, from, row, scratch } = self;
        let text = window.text();
        let start = window.place();
        let mut at = 0;
        while at < text.len() {
            let end = match memchr(b'\n', &text[at..]) {
                Some(next) => at + next + 1,
                None if is_last => text.len(),
                None => break,
            };
            let line = &text[at..end];
            let place = Place { byte: start.byte + at as u64, line: 0 };
            let own_start = own.len();
            let result = match split(kind, line, place, row) {
                Ok(LineIs::Row) if place.byte < *from => Ok(false),
                Ok(LineIs::Row) => match projection {
                    Some(projection) => write(projection, row, place, scratch, own).map(|()| true),
                    None => {
                        let made = project(&names_of(kind))?;
                        let written = write(&made, row, place, scratch, own).map(|()| true);
                        *projection = Some(made);
                        written
                    }
                },
                // What follows may be of another width: it makes a batch of its own, and this line is read again.
                Ok(LineIs::Header) if !batch.records.is_empty() || !batch.bad.is_empty() => return Ok(at),
                Ok(LineIs::Header) => {
                    *projection = None;
                    Ok(false)
                }
                Ok(LineIs::Nothing) => Ok(false),
                Err(_) if place.byte < *from => Ok(false),
                Err(error) => Err(error),
            };
            batch.width = projection.as_ref().map_or(0, |p| p.outs.len() as u32);
            match result {
                Ok(false) => {}
                Ok(true) => batch.records.push(Staged {
                    start: own_start as u32,
                    end: own.len() as u32,
                    source_end: end as u32,
                    rows: 1,
                    is_rewritten: true,
                }),
                Err(error) => {
                    own.truncate(own_start);
                    let line_number = start.line + memchr::memchr_iter(b'\n', &text[..at]).count() as u64;
                    let error = error.on_line(line_number);
                    if !*skips || !error.spares_the_rest() {
                        return Err(error);
                    }
                    batch.bad.push(BadRow {
                        before: batch.records.len() as u32,
                        source_end: end as u32,
                        error,
                        at: Place { line: line_number, ..place },
                        original: Bytes::copy_from_slice(line),
                    });
                }
            }
            at = end;
        }
        Ok(at)
    }
}

impl<'r> Windowed<'r> for LineReader<'r> {
    fn window(&mut self) -> &mut TextWindow<'r> {
        &mut self.window
    }

    fn read_text(&mut self, is_last: bool, batch: &mut Batch, own: &mut Vec<u8>) -> Result<Passed, Failure> {
        let bytes = self.read_lines(is_last, batch, own).map_err(|e| e.judged(self.window.path()))?;
        Ok(Passed { bytes, lines: None })
    }
}

/// What a line is.
pub enum LineIs {
    /// A record; its values are in the row.
    Row,
    /// The names of the columns from here on.
    Header,
    /// Nothing.
    Nothing,
}

/// Names of the columns, as far as they are known.
pub fn names_of(kind: &LineKind) -> Vec<String> {
    match kind {
        LineKind::Whole => Vec::new(),
        LineKind::Fixed(fixed) => fixed.names().map(str::to_owned).collect(),
        LineKind::W3c(log) => log.fields().to_vec(),
    }
}

/// Splits a line into values.
pub fn split(kind: &mut LineKind, line: &[u8], at: Place, row: &mut Row) -> Result<LineIs, FormatError> {
    row.clear();
    let bare = line.strip_suffix(b"\n").unwrap_or(line);
    let bare = bare.strip_suffix(b"\r").unwrap_or(bare);
    if bare.is_empty() {
        return Ok(LineIs::Nothing);
    }
    let utf8 = |e: usize| FormatError::InvalidUtf8 { line: at.line, byte: at.byte + e as u64 };
    let bad = |why: String| FormatError::BadRecord { line: at.line, byte: at.byte, why };
    match kind {
        LineKind::Whole => {
            simdutf8::compat::from_utf8(bare).map_err(|e| utf8(e.valid_up_to()))?;
            row.push(bare);
        }
        LineKind::Fixed(fixed) => {
            let text = simdutf8::compat::from_utf8(bare).map_err(|e| utf8(e.valid_up_to()))?;
            for value in fixed.split(text).map_err(|e| bad(e.to_string()))? {
                row.push(value.as_bytes());
            }
        }
        LineKind::W3c(log) => match log.line(bare) {
            Ok(W3cLine::Row(values)) => {
                for value in values {
                    match value {
                        Some(text) => row.push(text.as_bytes()),
                        None => row.push_null(),
                    }
                }
            }
            Ok(W3cLine::Header { .. }) => return Ok(LineIs::Header),
            Ok(W3cLine::Nothing) => return Ok(LineIs::Nothing),
            Err(W3cError::InvalidUtf8 { at: offset }) => return Err(utf8(offset)),
            Err(e @ W3cError::FieldCount { .. }) => return Err(bad(e.to_string())),
            Err(e) => return Err(FormatError::NotTheFormat { why: e.to_string() }),
        },
    }
    Ok(LineIs::Row)
}

fn write(
    projection: &Projection,
    row: &Row,
    at: Place,
    scratch: &mut Vec<u8>,
    own: &mut Vec<u8>,
) -> Result<(), FormatError> {
    projection.write(|index| row.get(index as usize), at, scratch, own)
}
