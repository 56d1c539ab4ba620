//! Delimited text. Stages RFC 4180 with commas.
//!
//! Regular text goes through the [`Scan`], and a record that can be staged as it stands is not touched. What RFC 4180
//! does not allow (a quote inside a bare field, text after a closing quote) and dialects beyond it (an escape character,
//! a delimiter of several bytes, comments) go through the [`RecordSplitter`], which looks at each byte.

use super::{
    BadRow, Batch, FormatError, Place, Row, Staged,
    scan::{Dialect, Ended, Found, Scan},
    windowed::{Passed, Windowed},
    write_field,
};
use crate::{
    convert::{Out, Projection, Source, VALUE_BYTES_MAX, Verdict},
    read::TextWindow,
};
use bytes::Bytes;
use ferry_common::{activity, failure::Failure};
use memchr::memchr;

/// What a splitter found at the start of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Split {
    /// A record of this many bytes, its line end included.
    Record(usize),
    /// Bytes that are no record: an empty line, a comment.
    Blank(usize),
    /// The text ends before the record does.
    NeedMore,
}

/// What a splitter cannot take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SplitError {
    /// The quote at this offset is never closed.
    UnclosedQuote(usize),
    /// A carriage return by itself at this offset; the record has so many bytes.
    LoneCarriageReturn(usize, usize),
}

/// Splits records of any dialect, byte by byte.
#[derive(Debug, Clone)]
pub struct RecordSplitter {
    delimiter: Vec<u8>,
    quote: Option<u8>,
    escape: Option<u8>,
    comment: Option<u8>,
    /// A carriage return alone ends a record.
    returns: bool,
    null: Option<Vec<u8>>,
}

impl RecordSplitter {
    /// A splitter for this format's dialect.
    pub fn new(format: &activity::Format) -> Self {
        Self {
            delimiter: format.delimiter(),
            quote: format.quote(),
            escape: format.escape(),
            comment: format.comment(),
            returns: format.ends_with_carriage_return(),
            null: format.null_value.as_ref().map(|n| n.clone().into_bytes()).filter(|n| !n.is_empty()),
        }
    }

    /// The dialect, if the scan knows it.
    pub fn dialect(&self) -> Option<Dialect> {
        match (self.delimiter.as_slice(), self.escape, self.comment, self.returns) {
            ([delimiter], None, None, false) => Some(Dialect { delimiter: *delimiter, quote: self.quote }),
            _ => None,
        }
    }

    /// Splits the record at the start of `text` into `row`. `last`: nothing follows the text.
    pub fn split(&self, text: &[u8], last: bool, row: &mut Row) -> Result<Split, SplitError> {
        row.clear();
        if text.is_empty() {
            return Ok(Split::NeedMore);
        }
        if self.comment == Some(text[0]) {
            let end = memchr(if self.returns { b'\r' } else { b'\n' }, text);
            return Ok(
                end.map_or(if last { Split::Blank(text.len()) } else { Split::NeedMore }, |at| Split::Blank(at + 1))
            );
        }
        let (mut at, mut lone_return) = (0, None);
        // Where the open quote stands; a field was quoted; a field has begun.
        let (mut quoted, mut was_quoted, mut has_begun) = (None, false, false);
        let mut is_empty_line = true;
        while at < text.len() {
            let byte = text[at];
            if let Some(opened) = quoted {
                if self.escape == Some(byte) {
                    let Some(next) = text.get(at + 1) else {
                        return if last { Err(SplitError::UnclosedQuote(opened)) } else { Ok(Split::NeedMore) };
                    };
                    row.push_byte(*next);
                    at += 2;
                } else if self.quote == Some(byte) {
                    match text.get(at + 1) {
                        Some(next) if *next == byte => {
                            row.push_byte(byte);
                            at += 2;
                        }
                        None if !last => return Ok(Split::NeedMore),
                        _ => {
                            quoted = None;
                            at += 1;
                        }
                    }
                } else {
                    let rest = &text[at..];
                    let stop = match (self.quote, self.escape) {
                        (Some(q), Some(e)) => memchr::memchr2(q, e, rest),
                        (Some(q), None) => memchr(q, rest),
                        _ => None,
                    };
                    let end = stop.unwrap_or(rest.len());
                    row.push_part(&rest[..end]);
                    at += end;
                }
                continue;
            }
            let line_end = match byte {
                b'\n' if !self.returns => 1,
                b'\r' if self.returns => 1,
                b'\r' => match text.get(at + 1) {
                    Some(b'\n') => 2,
                    Some(_) => 0,
                    None if last => 1,
                    None => return Ok(Split::NeedMore),
                },
                _ => 0,
            };
            if line_end > 0 {
                at += line_end;
                if is_empty_line {
                    return Ok(Split::Blank(at));
                }
                self.end_field(row, was_quoted);
                return match lone_return {
                    Some(offset) => Err(SplitError::LoneCarriageReturn(offset, at)),
                    None => Ok(Split::Record(at)),
                };
            }
            is_empty_line = false;
            if self.escape == Some(byte) {
                let Some(next) = text.get(at + 1) else {
                    if last {
                        row.push_byte(byte);
                        at += 1;
                        continue;
                    }
                    return Ok(Split::NeedMore);
                };
                row.push_byte(*next);
                has_begun = true;
                at += 2;
            } else if !self.delimiter.is_empty() && text[at..].starts_with(&self.delimiter) {
                self.end_field(row, was_quoted);
                (was_quoted, has_begun) = (false, false);
                at += self.delimiter.len();
            } else if !last && self.delimiter.len() > 1 && self.delimiter.starts_with(&text[at..]) {
                return Ok(Split::NeedMore);
            } else if self.quote == Some(byte) && !has_begun && !was_quoted {
                quoted = Some(at);
                was_quoted = true;
                at += 1;
            } else {
                if byte == b'\r' {
                    lone_return.get_or_insert(at);
                }
                row.push_byte(byte);
                has_begun = true;
                at += 1;
            }
        }
        if !last {
            return Ok(Split::NeedMore);
        }
        if let Some(opened) = quoted {
            return Err(SplitError::UnclosedQuote(opened));
        }
        self.end_field(row, was_quoted);
        match lone_return {
            Some(offset) => Err(SplitError::LoneCarriageReturn(offset, at)),
            None => Ok(Split::Record(at)),
        }
    }

    fn end_field(&self, row: &mut Row, was_quoted: bool) {
        let is_null = !was_quoted && self.null.as_deref().is_some_and(|null| row.part() == null);
        row.end_value();
        if is_null {
            row.null_last();
        }
    }
}

/// Reader of one file of delimited text.
pub struct Delimited<'r> {
    window: TextWindow<'r>,
    splitter: RecordSplitter,
    dialect: Option<Dialect>,
    scan: Scan,
    row: Row,
    projection: Projection,
    /// Records must have as many fields as the first, or as many as expected.
    is_strict: bool,
    expected: Option<u32>,
    /// Bad rows are left out.
    skips: bool,
    scratch: Vec<u8>,
    unquoted: Vec<u8>,
}

impl<'r> Delimited<'r> {
    /// A reader of the records in `window`, which begins at one.
    pub fn new(
        window: TextWindow<'r>,
        format: &activity::Format,
        projection: Projection,
        expected: Option<u32>,
        skips: bool,
    ) -> Self {
        let splitter = RecordSplitter::new(format);
        Self {
            dialect: splitter.dialect(),
            window,
            splitter,
            scan: Scan::default(),
            row: Row::default(),
            projection,
            is_strict: format.is_strict(),
            expected,
            skips,
            scratch: Vec::new(),
            unquoted: Vec::new(),
        }
    }

    /// The ends of fields must be known: values are judged, moved or compared.
    fn needs_marks(&self) -> bool {
        let is_csv = self.splitter.delimiter == b"," && self.splitter.quote == Some(b'"');
        let judges = self.projection.outs.iter().any(|o| o.check.is_some());
        !is_csv
            || !self.projection.keeps_records
            || judges
            || self.splitter.null.is_some()
            || self.projection.day_field.is_some()
    }
}

impl<'r> Windowed<'r> for Delimited<'r> {
    fn window(&mut self) -> &mut TextWindow<'r> {
        &mut self.window
    }

    fn read_text(&mut self, is_last: bool, batch: &mut Batch, own: &mut Vec<u8>) -> Result<Passed, Failure> {
        let needs_marks = self.needs_marks();
        batch.width = self.projection.outs.len() as u32;
        let mut taker = Taker {
            text: self.window.text(),
            start: self.window.place(),
            null: self.splitter.null.as_deref(),
            quote: self.splitter.quote,
            keeps_form: self.splitter.delimiter == b"," && self.splitter.quote == Some(b'"'),
            projection: &self.projection,
            is_strict: self.is_strict,
            expected: &mut self.expected,
            skips: self.skips,
            scratch: &mut self.scratch,
            unquoted: &mut self.unquoted,
            batch,
            own,
        };
        let text = taker.text;
        let (mut at, mut lines) = (0, 0);
        let lines_of = |bytes: &[u8]| memchr::memchr_iter(b'\n', bytes).count() as u64;
        let judge = |e: FormatError| e.judged(self.window.path());
        while at < text.len() {
            if let Some(dialect) = self.dialect {
                let rest = &text[at..];
                let ended = if needs_marks {
                    self.scan.run::<true>(rest, dialect)
                } else {
                    self.scan.run::<false>(rest, dialect)
                };
                taker.take_scanned(&self.scan, at, needs_marks).map_err(judge)?;
                at += self.scan.end();
                lines += self.scan.lines();
                if ended == Ended::Text && (!is_last || at == text.len()) {
                    break;
                }
            }
            match self.splitter.split(&text[at..], is_last, &mut self.row) {
                Ok(Split::Record(bytes)) => {
                    if is_last && at + bytes == text.len() && self.window.is_part() && !text.ends_with(b"\n") {
                        return Err(judge(FormatError::SplitInsideRecord {
                            byte: taker.start.byte + text.len() as u64,
                        }));
                    }
                    taker.take_row(&self.row, at, bytes).map_err(judge)?;
                    lines += lines_of(&text[at..at + bytes]);
                    at += bytes;
                }
                Ok(Split::Blank(bytes)) => {
                    lines += lines_of(&text[at..at + bytes]);
                    at += bytes;
                }
                Ok(Split::NeedMore) => break,
                Err(SplitError::UnclosedQuote(_)) if self.window.is_part() => {
                    return Err(judge(FormatError::SplitInsideRecord { byte: taker.start.byte + text.len() as u64 }));
                }
                Err(SplitError::UnclosedQuote(offset)) => {
                    let place = taker.place(at + offset);
                    return Err(judge(FormatError::UnclosedQuote { line: place.line, byte: place.byte }));
                }
                Err(SplitError::LoneCarriageReturn(offset, bytes)) => {
                    let byte = taker.start.byte + (at + offset) as u64;
                    let error = FormatError::LoneCarriageReturn { line: taker.place(at).line, byte };
                    taker.leave_out(error, at, at + bytes).map_err(judge)?;
                    lines += lines_of(&text[at..at + bytes]);
                    at += bytes;
                }
            }
        }
        Ok(Passed { bytes: at, lines: Some(lines) })
    }

    fn look_through(&mut self, batch: &mut Batch) -> Result<(), Failure> {
        batch.days.truncate(batch.records.len());
        drop_invalid_utf8(batch, self.skips).map_err(|e| e.judged(self.window.path()))
    }
}

/// Takes records up into a batch.
struct Taker<'a> {
    text: &'a [u8],
    /// Where the text begins in the file.
    start: Place,
    null: Option<&'a [u8]>,
    quote: Option<u8>,
    /// The dialect is RFC 4180's: a field may be staged in the form it has.
    keeps_form: bool,
    projection: &'a Projection,
    is_strict: bool,
    expected: &'a mut Option<u32>,
    skips: bool,
    scratch: &'a mut Vec<u8>,
    unquoted: &'a mut Vec<u8>,
    batch: &'a mut Batch,
    own: &'a mut Vec<u8>,
}

impl Taker<'_> {
    /// The place of an offset in the text. Counts lines: for errors alone.
    fn place(&self, at: usize) -> Place {
        Place {
            byte: self.start.byte + at as u64,
            line: self.start.line + memchr::memchr_iter(b'\n', &self.text[..at]).count() as u64,
        }
    }

    /// Leaves a record out, or fails the file.
    fn leave_out(&mut self, error: FormatError, start: usize, end: usize) -> Result<(), FormatError> {
        let at = self.place(start);
        let error = error.on_line(at.line);
        if !self.skips || !error.spares_the_rest() {
            return Err(error);
        }
        self.batch.bad.push(BadRow {
            before: self.batch.records.len() as u32,
            source_end: end as u32,
            error,
            at,
            original: Bytes::copy_from_slice(&self.text[start..end]),
        });
        Ok(())
    }

    fn ragged(&mut self, fields: u32, start: usize) -> Option<FormatError> {
        if !self.is_strict {
            return None;
        }
        let expected = *self.expected.get_or_insert(fields);
        let byte = self.start.byte + start as u64;
        (fields != expected).then_some(FormatError::RaggedRow { line: 0, byte, found: fields, expected })
    }

    fn take_scanned(&mut self, scan: &Scan, base: usize, has_marks: bool) -> Result<(), FormatError> {
        let text = &self.text[base..];
        self.batch.records.reserve(scan.records.len());
        for record in &scan.records {
            let (start, end) = (base + record.start as usize, base + record.end as usize);
            if self.is_strict
                && *self.expected != Some(record.fields)
                && let Some(error) = self.ragged(record.fields, start)
            {
                self.leave_out(error, start, end)?;
                continue;
            }
            let kept =
                Staged { start: start as u32, end: end as u32, source_end: end as u32, rows: 1, is_rewritten: false };
            if !has_marks && self.projection.suffix.is_empty() {
                self.batch.records.push(kept);
                continue;
            }
            let result = if has_marks { self.stage(scan, text, record, start) } else { Ok(true) };
            match result {
                Err(error) => self.leave_out(error, start, end)?,
                Ok(true) if self.projection.suffix.is_empty() => self.batch.records.push(kept),
                Ok(true) => {
                    let own_start = self.own.len();
                    let line = &text[record.start as usize..record.end as usize - 1];
                    self.own.extend_from_slice(line.strip_suffix(b"\r").unwrap_or(line));
                    self.own.extend_from_slice(&self.projection.suffix);
                    self.own.push(b'\n');
                    self.push_own(own_start, end);
                }
                Ok(false) => {
                    let own_start = self.own.len();
                    match self.rewrite(scan, text, record, start) {
                        Ok(()) => self.push_own(own_start, end),
                        Err(error) => {
                            self.own.truncate(own_start);
                            self.leave_out(error, start, end)?;
                            continue;
                        }
                    }
                }
            }
        }
        Ok(())
    }

    fn push_own(&mut self, own_start: usize, source_end: usize) {
        self.batch.records.push(Staged {
            start: own_start as u32,
            end: self.own.len() as u32,
            source_end: source_end as u32,
            rows: 1,
            is_rewritten: true,
        });
    }

    /// Judges a record. True: it can be staged as it stands.
    #[inline]
    fn stage(&mut self, scan: &Scan, text: &[u8], record: &Found, start: usize) -> Result<bool, FormatError> {
        if let Some(field) = self.projection.day_field {
            let value = if field < record.fields { scan.field(text, record, field) } else { b"" };
            let value = value.strip_prefix(b"\"").and_then(|v| v.strip_suffix(b"\"")).unwrap_or(value);
            let day = day_of(self.projection, value, self.start.byte + start as u64)?;
            // A record that proves bad later takes its day back.
            self.batch.days.truncate(self.batch.records.len());
            self.batch.days.push(day);
        }
        if !self.keeps_form || !self.projection.keeps_records {
            return Ok(false);
        }
        let at = Place { byte: self.start.byte + start as u64, line: 0 };
        if record.end - record.start > VALUE_BYTES_MAX as u32 {
            // Some value may be too long: look at each.
            for (out, index) in self.projection.outs.iter().zip(0..record.fields) {
                let field = scan.field(text, record, index);
                let value = unquoted(field, self.quote, self.unquoted);
                if out.check.is_some() && out.judged(Some(value), at, self.scratch)? != Some(value) {
                    return Ok(false);
                }
            }
        }
        if self.null.is_some() {
            return Ok(false);
        }
        for (index, place) in &self.projection.judged {
            if *index >= record.fields {
                continue;
            }
            let field = scan.field(text, record, *index);
            let out = &self.projection.outs[*place];
            let Some(check) = &out.check else { continue };
            let value = match field.first() {
                Some(b'"') => unquoted(field, self.quote, self.unquoted),
                _ => field,
            };
            match check.judge(value, self.scratch) {
                Verdict::Fits => {}
                Verdict::Becomes => return Ok(false),
                Verdict::Bad(why) => return Err(out.bad(value, at, why)),
            }
        }
        Ok(true)
    }

    /// Writes a scanned record anew.
    fn rewrite(&mut self, scan: &Scan, text: &[u8], record: &Found, start: usize) -> Result<(), FormatError> {
        let at = Place { byte: self.start.byte + start as u64, line: 0 };
        let begin = self.own.len();
        for (number, out) in self.projection.outs.iter().enumerate() {
            if number > 0 {
                self.own.push(b',');
            }
            match &out.source {
                Source::Field(index) if *index < record.fields => {
                    let field = scan.field(text, record, *index);
                    self.write_value(field, out, at)?;
                }
                Source::Text(text) => {
                    if let Some(text) = out.judged(Some(text), at, self.scratch)? {
                        write_field(text, self.own);
                    }
                }
                _ => {}
            }
        }
        if self.own.len() == begin {
            self.own.extend_from_slice(b"\"\"");
        }
        self.own.push(b'\n');
        Ok(())
    }

    #[inline]
    fn write_value(&mut self, field: &[u8], out: &Out, at: Place) -> Result<(), FormatError> {
        let is_quoted = !field.is_empty() && self.quote == Some(field[0]);
        if !is_quoted && self.null == Some(field) {
            return Ok(());
        }
        let value = if is_quoted { unquoted(field, self.quote, self.unquoted) } else { field };
        let verdict = match &out.check {
            Some(check) => check.judge(value, self.scratch),
            None if value.len() > VALUE_BYTES_MAX => Verdict::Bad("is longer than the 1 MB that a value may have"),
            None => Verdict::Fits,
        };
        match verdict {
            // A field without quotes holds nothing that would need them; one with quotes has the right ones.
            Verdict::Fits if self.keeps_form => self.own.extend_from_slice(field),
            Verdict::Fits => write_field(value, self.own),
            Verdict::Becomes => write_field(self.scratch, self.own),
            Verdict::Bad(why) => return Err(out.bad(value, at, why)),
        }
        Ok(())
    }

    /// Takes up a record that the splitter split.
    fn take_row(&mut self, row: &Row, at: usize, bytes: usize) -> Result<(), FormatError> {
        let end = at + bytes;
        if let Some(error) = self.ragged(row.len() as u32, at) {
            return self.leave_out(error, at, end);
        }
        let place = Place { byte: self.start.byte + at as u64, line: 0 };
        if let Some(field) = self.projection.day_field {
            match day_of(self.projection, row.get(field as usize).unwrap_or_default(), place.byte) {
                Ok(day) => {
                    self.batch.days.truncate(self.batch.records.len());
                    self.batch.days.push(day);
                }
                Err(error) => return self.leave_out(error, at, end),
            }
        }
        let own_start = self.own.len();
        match self.projection.write(|index| row.get(index as usize), place, self.scratch, self.own) {
            Ok(()) => {
                self.push_own(own_start, end);
                Ok(())
            }
            Err(error) => self.leave_out(error, at, end),
        }
    }
}

/// The day of a record, for the date of its extent.
fn day_of(projection: &Projection, value: &[u8], byte: u64) -> Result<i32, FormatError> {
    crate::convert::day_of(value, projection.day_format.as_ref()).ok_or_else(|| FormatError::BadRecord {
        line: 0,
        byte,
        why: format!("the column of sink.creationTime holds no date: {:?}", String::from_utf8_lossy(value)),
    })
}

/// A field without its quotes.
fn unquoted<'v>(field: &'v [u8], quote: Option<u8>, scratch: &'v mut Vec<u8>) -> &'v [u8] {
    let Some(quote) = quote.filter(|q| field.first() == Some(q)) else { return field };
    let inner = &field[1..field.len().max(2) - 1];
    if memchr(quote, inner).is_none() {
        return inner;
    }
    scratch.clear();
    let mut rest = inner;
    while let Some(at) = memchr(quote, rest) {
        scratch.extend_from_slice(&rest[..=at]);
        rest = rest.get(at + 2..).unwrap_or_default();
    }
    scratch.extend_from_slice(rest);
    scratch
}

/// Takes records that are not UTF-8 out of a batch.
fn drop_invalid_utf8(batch: &mut Batch, skips: bool) -> Result<(), FormatError> {
    if simdutf8::basic::from_utf8(&batch.source).is_ok() {
        return Ok(());
    }
    let records = std::mem::take(&mut batch.records);
    let days = std::mem::take(&mut batch.days);
    let mut bad = std::mem::take(&mut batch.bad).into_iter().peekable();
    let mut source_start = 0;
    for (number, record) in records.iter().enumerate() {
        while let Some(mut row) = bad.next_if(|b| b.before as usize <= number) {
            source_start = row.source_end;
            row.before = batch.records.len() as u32;
            batch.bad.push(row);
        }
        let original = batch.source.slice(source_start as usize..record.source_end as usize);
        match std::str::from_utf8(&original) {
            Ok(_) => {
                batch.records.push(*record);
                batch.days.extend(days.get(number));
            }
            Err(e) => {
                let at = batch.place_at(source_start);
                let error = FormatError::InvalidUtf8 { line: at.line, byte: at.byte + e.valid_up_to() as u64 };
                if !skips {
                    return Err(error);
                }
                let before = batch.records.len() as u32;
                batch.bad.push(BadRow { before, source_end: record.source_end, error, at, original });
            }
        }
        source_start = record.source_end;
    }
    let staged = batch.records.len() as u32;
    batch.bad.extend(bad.map(|row| BadRow { before: staged, ..row }));
    Ok(())
}

#[cfg(test)]
mod tests;
