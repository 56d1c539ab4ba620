//! JSON objects: one a line, one after the other, or in one array; and what becomes of an object, wherever it came from.
//!
//! The cluster passes over a bad line in silence, so each object is parsed here.

use super::{
    BadRow, Batch, FormatError, Place, Staged,
    windowed::{Passed, Windowed},
    write_field,
};
use crate::{
    convert::{JsonPath, Out, Projection, Source, Step, VALUE_BYTES_MAX, Verdict},
    read::TextWindow,
};
use bytes::Bytes;
use ferry_common::{failure::Failure, plan::CopyPlan, scalar::ScalarType};
use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, Visitor},
};
use serde_json::{Value, value::RawValue};
use std::{borrow::Cow, collections::HashSet};

/// An object's properties, as they stand in the text.
struct Properties<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

/// A key; borrowed where it holds no escapes.
struct Key<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Key<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl<'de> Visitor<'de> for Text {
            type Value = Key<'de>;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a property name")
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Borrowed(text)))
            }
            fn visit_str<E>(self, text: &str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(Text)
    }
}

impl<'de> Deserialize<'de> for Properties<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Properties<'de>;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Properties<'de>, A::Error> {
                let mut all = Vec::with_capacity(16);
                while let Some((Key(key), value)) = map.next_entry::<Key<'de>, &'de RawValue>()? {
                    all.push((key, value));
                }
                Ok(Properties(all))
            }
        }
        deserializer.deserialize_map(Object)
    }
}

impl<'a> Properties<'a> {
    /// A property; `hint` is where it stood in the record before.
    fn get(&self, name: &str, hint: &mut usize) -> Option<&'a RawValue> {
        if let Some((key, value)) = self.0.get(*hint)
            && key == name
        {
            return Some(value);
        }
        let at = self.0.iter().position(|(key, _)| key == name)?;
        *hint = at;
        Some(self.0[at].1)
    }
}

/// What becomes of one object.
enum Kept {
    /// It is staged as it stands.
    AsItIs,
    /// It was written anew, as so many rows.
    Rewritten(u32),
}

impl Kept {
    /// The record in the batch's own bytes, where it begins at `start`; one that is kept as it is joins them.
    fn written(self, object: &str, start: u32, source_end: u32, own: &mut Vec<u8>) -> Staged {
        let rows = match self {
            Self::AsItIs => {
                own.extend_from_slice(object.as_bytes());
                own.push(b'\n');
                1
            }
            Self::Rewritten(rows) => rows,
        };
        Staged { start, end: own.len() as u32, source_end, rows, is_rewritten: true }
    }
}

/// Stages objects, whichever format they came from.
pub struct Objects {
    projection: Projection,
    rewrites: bool,
    collection: Option<JsonPath>,
    /// Properties that each object gets, as JSON text: `"a":"b","c":"d"`.
    added: String,
    hints: Vec<usize>,
    scratch: Vec<u8>,
    judges: bool,
    /// Properties that have a column or are left out on purpose; `None`: any others are left out, too.
    known: Option<HashSet<String>>,
    /// Bad rows are left out.
    pub skips: bool,
}

impl Objects {
    /// Stages as plan and projection say.
    pub fn new(plan: &CopyPlan, projection: Projection, skips: bool) -> Result<Self, FormatError> {
        let collection = match &plan.collection {
            None => None,
            Some(path) => Some(JsonPath::parse(path).ok_or_else(|| FormatError::Header {
                why: format!("sink.mapping.collectionReference {path:?} is no JSON path such as $.items"),
            })?),
        };
        let mut added = String::new();
        if !plan.rewrites {
            for (out, column) in projection.outs.iter().zip(&plan.columns) {
                if let (Source::Text(text), ferry_common::plan::ColumnFrom::Name(name)) = (&out.source, &column.source)
                {
                    let value = Value::from(String::from_utf8_lossy(text));
                    added.push_str(&format!("{}:{value},", Value::from(name.as_str())));
                }
            }
            added.pop();
        }
        let judges = plan.rewrites || projection.outs.iter().any(|o| o.check.is_some());
        let hints = (0..projection.outs.len()).collect();
        let known = (!plan.ignores_unknown && !plan.columns.is_empty() && collection.is_none()).then(|| {
            let names = plan.columns.iter().filter_map(|c| match &c.source {
                ferry_common::plan::ColumnFrom::Name(name) => Some(name.clone()),
                _ => None,
            });
            names.chain(plan.ignored.iter().cloned()).collect()
        });
        Ok(Self {
            projection,
            rewrites: plan.rewrites,
            collection,
            added,
            hints,
            scratch: Vec::new(),
            judges,
            known,
            skips,
        })
    }

    /// Stages one object. On an error nothing was written.
    fn stage(&mut self, text: &str, at: Place, own: &mut Vec<u8>) -> Result<Kept, FormatError> {
        let begin = own.len();
        let result =
            if self.rewrites { self.write_rows(text, at, own).map(Kept::Rewritten) } else { self.keep(text, at, own) };
        if result.is_err() {
            own.truncate(begin);
        }
        result
    }

    /// Stages the object as JSON on one line.
    fn keep(&mut self, text: &str, at: Place, own: &mut Vec<u8>) -> Result<Kept, FormatError> {
        let mut patches: Vec<(usize, usize, Vec<u8>)> = Vec::new();
        if self.judges {
            let properties: Properties<'_> = parse(text, at)?;
            self.check_known(&properties, at)?;
            for (out, hint) in self.projection.outs.iter().zip(&mut self.hints) {
                let Source::Path(path) = &out.source else { continue };
                let Some((key, rest)) = path.head() else {
                    if out.check.is_some() && text.len() > VALUE_BYTES_MAX {
                        return Err(out.bad(text.as_bytes(), at, "is longer than the 1 MB that a value may have"));
                    }
                    continue;
                };
                let Some(raw) = properties.get(key, hint) else { continue };
                if !rest.is_empty() {
                    if let Some(raw) = follow_raw(raw.get(), rest, at)? {
                        judge_raw(out, raw, at, self.projection.complex_to_string, &mut self.scratch)?;
                    }
                    continue;
                }
                if judge_raw(out, raw.get(), at, self.projection.complex_to_string, &mut self.scratch)? {
                    // The raw text borrows from the object's.
                    let start = raw.get().as_ptr() as usize - text.as_ptr() as usize;
                    patches.push((start, start + raw.get().len(), as_json(out, &self.scratch)));
                }
            }
        }
        let bytes = text.as_bytes();
        let has_breaks = memchr::memchr2(b'\n', b'\r', bytes).is_some();
        if patches.is_empty() && !has_breaks && self.added.is_empty() {
            return Ok(Kept::AsItIs);
        }
        patches.sort_unstable_by_key(|p| p.0);
        let begin = own.len();
        let mut from = 0;
        for (start, end, value) in patches {
            own.extend_from_slice(&bytes[from..start]);
            own.extend_from_slice(&value);
            from = end;
        }
        own.extend_from_slice(&bytes[from..]);
        if has_breaks {
            // Between values; inside a string they would be escaped.
            own[begin..].iter_mut().filter(|b| matches!(**b, b'\n' | b'\r')).for_each(|b| *b = b' ');
        }
        if !self.added.is_empty() {
            own.pop();
            let is_empty = own[begin..].trim_ascii() == b"{";
            if !is_empty {
                own.push(b',');
            }
            own.extend_from_slice(self.added.as_bytes());
            own.push(b'}');
        }
        own.push(b'\n');
        Ok(Kept::Rewritten(1))
    }

    /// A property that would go nowhere is lost data, unless the settings say so.
    fn check_known(&self, properties: &Properties<'_>, at: Place) -> Result<(), FormatError> {
        let Some(known) = &self.known else { return Ok(()) };
        let stray = properties.0.iter().map(|(key, _)| key).find(|key| !known.contains(key.as_ref()));
        stray.map_or(Ok(()), |key| {
            let why = format!(
                "property {key:?} has no column, and neither the sample nor the table knows it; set sink.schemaDrift: \
                 ignore to leave such properties out, or list the columns to copy in sink.mapping.columns"
            );
            Err(FormatError::BadRecord { line: at.line, byte: at.byte, why })
        })
    }

    /// Writes the object as rows of CSV.
    fn write_rows(&mut self, text: &str, at: Place, own: &mut Vec<u8>) -> Result<u32, FormatError> {
        let Some(collection) = self.collection.clone() else {
            let properties: Properties<'_> = parse(text, at)?;
            self.check_known(&properties, at)?;
            let Self { projection, hints, scratch, .. } = self;
            let values = projection.outs.iter().zip(hints).map(|(out, hint)| {
                let Source::Path(path) = &out.source else { return Ok(None) };
                let Some((key, rest)) = path.head() else { return Ok(Some(text)) };
                let Some(raw) = properties.get(key, hint) else { return Ok(None) };
                follow_raw(raw.get(), rest, at)
            });
            write_row(projection, values, at, scratch, own)?;
            return Ok(1);
        };
        let elements: Vec<&RawValue> = match follow_raw(text, &collection.steps, at)? {
            Some(array) if array.starts_with('[') => parse(array, at)?,
            None | Some("null") => Vec::new(),
            Some(_) => {
                let why = "sink.mapping.collectionReference leads to what is no array".to_owned();
                return Err(FormatError::InvalidJson { line: at.line, byte: at.byte, why });
            }
        };
        // Without elements the record still makes a row, of what does not come from an element.
        let elements = if elements.is_empty() { vec!["null"] } else { elements.iter().map(|e| e.get()).collect() };
        for element in &elements {
            let values = self.projection.outs.iter().map(|out| {
                let Source::Path(path) = &out.source else { return Ok(None) };
                follow_raw(if path.is_absolute { text } else { element }, &path.steps, at)
            });
            write_row(&self.projection, values, at, &mut self.scratch, own)?;
        }
        Ok(elements.len() as u32)
    }

    /// Stages an object that is in no source text, such as one made of XML.
    pub fn take_made(
        &mut self,
        text: &str,
        at: Place,
        number: u32,
        batch: &mut Batch,
        own: &mut Vec<u8>,
    ) -> Result<(), FormatError> {
        let start = own.len() as u32;
        match self.stage(text, at, own) {
            Ok(kept) => {
                batch.records.push(kept.written(text, start, number, own));
                Ok(())
            }
            Err(error) if self.skips && error.spares_the_rest() => {
                let before = batch.records.len() as u32;
                let original = Bytes::copy_from_slice(text.as_bytes());
                batch.bad.push(BadRow { before, source_end: number, error, at, original });
                Ok(())
            }
            Err(error) => Err(error),
        }
    }
}

/// What steps lead to, as it stands in the text: numbers keep all their digits.
fn follow_raw<'a>(text: &'a str, steps: &[Step], at: Place) -> Result<Option<&'a str>, FormatError> {
    let mut text = text;
    for step in steps {
        let found = match (step, text.as_bytes().first()) {
            (Step::Key(key), Some(b'{')) => {
                let Properties(all) = parse(text, at)?;
                all.into_iter().find(|(name, _)| name == key).map(|(_, value)| value)
            }
            (Step::Element(index), Some(b'[')) => {
                let elements: Vec<&RawValue> = parse(text, at)?;
                elements.get(*index).copied()
            }
            _ => None,
        };
        match found {
            Some(value) => text = value.get(),
            None => return Ok(None),
        }
    }
    Ok(Some(text))
}

fn parse<'a, T: Deserialize<'a>>(text: &'a str, at: Place) -> Result<T, FormatError> {
    serde_json::from_str(text).map_err(|e| invalid(&e, at))
}

fn invalid(error: &serde_json::Error, at: Place) -> FormatError {
    // The parser counts lines from the record's start, which helps nobody.
    let text = error.to_string();
    let why = text.split(" at line ").next().unwrap_or_default().to_owned();
    FormatError::InvalidJson { line: at.line, byte: at.byte, why }
}

/// Judges a value as it stands in JSON. True: it must be replaced by the scratch buffer's text.
fn judge_raw(
    out: &Out,
    raw: &str,
    at: Place,
    complex_to_string: bool,
    scratch: &mut Vec<u8>,
) -> Result<bool, FormatError> {
    let Some(check) = &out.check else { return Ok(false) };
    let first = raw.as_bytes().first().copied().unwrap_or_default();
    let verdict = match (first, check.kind) {
        (b'n', _) => Verdict::Fits,
        (_, ScalarType::Dynamic) if raw.len() <= VALUE_BYTES_MAX => Verdict::Fits,
        (_, ScalarType::Dynamic) => Verdict::Bad("is longer than the 1 MB that a dynamic value may have"),
        (b'{' | b'[', ScalarType::String) if complex_to_string => check.judge(raw.as_bytes(), scratch),
        (b'{' | b'[', ScalarType::String) => {
            Verdict::Bad("is an array or an object; set sink.mapping.mapComplexValuesToString to copy it as text")
        }
        (b'{' | b'[', _) => Verdict::Bad("is an array or an object"),
        (b'"', _) => {
            let text: Cow<'_, str> = unescaped(raw, at)?;
            check.judge(text.as_bytes(), scratch)
        }
        _ => check.judge(raw.as_bytes(), scratch),
    };
    match verdict {
        Verdict::Fits => Ok(false),
        Verdict::Becomes => Ok(true),
        Verdict::Bad(why) => Err(out.bad(raw.as_bytes(), at, why)),
    }
}

/// A JSON string without its quotes and escapes.
fn unescaped(raw: &str, at: Place) -> Result<Cow<'_, str>, FormatError> {
    let inner = raw.get(1..raw.len() - 1).unwrap_or_default();
    if inner.contains('\\') { parse::<String>(raw, at).map(Cow::Owned) } else { Ok(Cow::Borrowed(inner)) }
}

/// The JSON form of a value that was brought to a column's type.
fn as_json(out: &Out, text: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(text);
    let is_bare = out.check.as_ref().is_some_and(|c| {
        matches!(c.kind, ScalarType::Bool | ScalarType::Int | ScalarType::Long | ScalarType::Real | ScalarType::Decimal)
    }) && serde_json::from_str::<IgnoredAny>(&text).is_ok();
    match () {
        () if text.is_empty() => b"null".to_vec(),
        () if is_bare => text.into_owned().into_bytes(),
        () => Value::from(text).to_string().into_bytes(),
    }
}

/// Writes one row of CSV from values as they stand in JSON.
fn write_row<'v>(
    projection: &Projection,
    values: impl Iterator<Item = Result<Option<&'v str>, FormatError>>,
    at: Place,
    scratch: &mut Vec<u8>,
    own: &mut Vec<u8>,
) -> Result<(), FormatError> {
    let begin = own.len();
    for (number, (out, raw)) in projection.outs.iter().zip(values).enumerate() {
        if number > 0 {
            own.push(b',');
        }
        if let Source::Text(text) = &out.source {
            if let Some(text) = out.judged(Some(text), at, scratch)? {
                write_field(text, own);
            }
            continue;
        }
        let Some(raw) = raw? else { continue };
        if raw.starts_with('n') {
            continue;
        }
        if judge_raw(out, raw, at, projection.complex_to_string, scratch)? {
            write_field(scratch, own);
        } else if raw.starts_with('"') && out.check.as_ref().is_none_or(|c| c.kind != ScalarType::Dynamic) {
            write_field(unescaped(raw, at)?.as_bytes(), own);
        } else {
            write_field(raw.as_bytes(), own);
        }
    }
    if own.len() == begin {
        own.extend_from_slice(b"\"\"");
    }
    own.push(b'\n');
    Ok(())
}

/// Reader of one file of JSON.
pub struct ObjectReader<'r> {
    window: TextWindow<'r>,
    objects: Objects,
    /// The file is one array; the first of its elements is yet to come; its end was seen.
    is_array: bool,
    is_first: bool,
    has_ended: bool,
    /// Every object so far had a line for itself.
    is_lines: bool,
}

/// What a look at the text gave.
enum Next {
    Object { start: usize, end: usize },
    NeedMore,
    End,
}

impl<'r> ObjectReader<'r> {
    /// A reader of the objects in `window`. In an array, `is_first` says that the window begins at its bracket.
    pub fn new(window: TextWindow<'r>, objects: Objects, is_array: bool, is_first: bool) -> Self {
        Self { window, objects, is_array, is_first, has_ended: false, is_lines: true }
    }

    fn read_objects(&mut self, is_last: bool, batch: &mut Batch, own: &mut Vec<u8>) -> Result<usize, FormatError> {
        let bytes = self.window.text();
        let (text, broken) = match simdutf8::compat::from_utf8(bytes) {
            Ok(text) => (text, false),
            Err(e) => {
                let is_cut = e.error_len().is_none() && !is_last;
                (std::str::from_utf8(&bytes[..e.valid_up_to()]).unwrap_or_default(), !is_cut)
            }
        };
        let start = self.window.place();
        let place = |at: usize| Place {
            byte: start.byte + at as u64,
            line: start.line + memchr::memchr_iter(b'\n', &bytes[..at]).count() as u64,
        };
        let mut at = 0;
        let mut has_seen = start.byte > 0;
        loop {
            let is_end_of_text = is_last && !broken;
            // Where every object has a line for itself, a line that breaks off must not swallow the next one.
            let by_lines = self.objects.skips && self.is_lines && !self.is_array && has_seen;
            let was_first = self.is_first;
            let next = find(text, at, is_end_of_text, by_lines, self.is_array, &mut self.is_first, &mut self.has_ended);
            let (begin, error) = match next {
                Ok(Next::End) => return Ok(if is_last { bytes.len() } else { text.len() }),
                Ok(Next::NeedMore) if broken => {
                    let begin = at + text[at..].len() - text[at..].trim_start().len();
                    let byte = start.byte + text.len() as u64;
                    (begin, FormatError::InvalidUtf8 { line: place(begin).line, byte })
                }
                Ok(Next::NeedMore) => return Ok(at),
                // Whether a line end follows is yet to be seen.
                Ok(Next::Object { end, .. }) if end == bytes.len() && !is_last => {
                    self.is_first = was_first;
                    return Ok(at);
                }
                Ok(Next::Object { start: begin, end }) => {
                    let object = &text[begin..end];
                    let own_start = own.len() as u32;
                    let at_record = Place { byte: start.byte + begin as u64, line: 0 };
                    match self.objects.stage(object, at_record, own) {
                        Ok(kept) => {
                            // A line feed that stands there already need not be written.
                            let has_line_end = bytes.get(end) == Some(&b'\n');
                            self.is_lines &= has_line_end || (is_last && end == bytes.len());
                            at = if has_line_end { end + 1 } else { end };
                            let source_end = at as u32;
                            batch.records.push(match kept {
                                Kept::AsItIs if has_line_end => Staged {
                                    start: begin as u32,
                                    end: source_end,
                                    source_end,
                                    rows: 1,
                                    is_rewritten: false,
                                },
                                kept => kept.written(object, own_start, source_end, own),
                            });
                            has_seen = true;
                            continue;
                        }
                        Err(error) if self.objects.skips && error.spares_the_rest() => {
                            let whole = place(begin);
                            batch.bad.push(BadRow {
                                before: batch.records.len() as u32,
                                source_end: end as u32,
                                error: error.on_line(whole.line),
                                at: whole,
                                original: Bytes::copy_from_slice(object.as_bytes()),
                            });
                            at = end;
                            continue;
                        }
                        Err(error) => return Err(error.on_line(place(begin).line)),
                    }
                }
                Err((begin, why)) => {
                    let place = place(begin);
                    (begin, FormatError::InvalidJson { line: place.line, byte: place.byte, why })
                }
            };
            // The text is no object. A line by itself can be left out; inside an array nobody knows where it ends.
            let Some(end) = self.end_of_bad_line(bytes, begin, is_last) else {
                let could_tell = is_last || bytes.len() - begin > VALUE_BYTES_MAX || !self.objects.skips;
                return if could_tell { Err(error) } else { Ok(at) };
            };
            batch.bad.push(BadRow {
                before: batch.records.len() as u32,
                source_end: end as u32,
                error,
                at: place(begin),
                original: Bytes::copy_from_slice(&bytes[begin..end]),
            });
            if broken && end > text.len() {
                // What follows is looked at again, as text of its own.
                return Ok(end);
            }
            at = end;
        }
    }

    /// Where a line that is no object ends, if objects have lines for themselves and the next line looks like one.
    fn end_of_bad_line(&self, bytes: &[u8], begin: usize, is_last: bool) -> Option<usize> {
        if self.is_array || !self.is_lines || !self.objects.skips {
            return None;
        }
        match memchr::memchr(b'\n', &bytes[begin..]) {
            None => is_last.then_some(bytes.len()),
            Some(at) => {
                let end = begin + at + 1;
                match bytes[end..].trim_ascii_start().first() {
                    Some(b'{') => Some(end),
                    None if is_last => Some(end),
                    _ => None,
                }
            }
        }
    }
}

impl<'r> Windowed<'r> for ObjectReader<'r> {
    fn window(&mut self) -> &mut TextWindow<'r> {
        &mut self.window
    }

    fn read_text(&mut self, is_last: bool, batch: &mut Batch, own: &mut Vec<u8>) -> Result<Passed, Failure> {
        let bytes = self.read_objects(is_last, batch, own).map_err(|e| e.judged(self.window.path()))?;
        Ok(Passed { bytes, lines: None })
    }
}

/// Finds the next object at or after `at`. An error tells where what is no object begins.
fn find(
    text: &str,
    mut at: usize,
    is_last: bool,
    by_lines: bool,
    is_array: bool,
    is_first: &mut bool,
    has_ended: &mut bool,
) -> Result<Next, (usize, String)> {
    let blank = |from: usize| from + text[from..].len() - text[from..].trim_start().len();
    at = blank(at);
    if *has_ended {
        return if at < text.len() { Err((at, "text follows the array".to_owned())) } else { Ok(Next::End) };
    }
    let mut is_first_now = *is_first;
    if is_array {
        let wanted = if is_first_now { '[' } else { ',' };
        match text[at..].chars().next() {
            None if is_last => return Err((at, "the file ends inside the array".to_owned())),
            None => return Ok(Next::NeedMore),
            Some(']') if !is_first_now => {
                *has_ended = true;
                return find(text, at + 1, is_last, by_lines, is_array, is_first, has_ended);
            }
            Some(c) if c == wanted => at = blank(at + 1),
            Some(c) => return Err((at, format!("{c:?} stands where {wanted:?} is expected"))),
        }
        if is_first_now && text[at..].starts_with(']') {
            (*is_first, *has_ended) = (false, true);
            return find(text, at + 1, is_last, by_lines, is_array, is_first, has_ended);
        }
        is_first_now = false;
    }
    if at == text.len() {
        return match (is_last, is_array) {
            (true, true) => Err((at, "the file ends inside the array".to_owned())),
            (true, false) => Ok(Next::End),
            (false, _) => Ok(Next::NeedMore),
        };
    }
    if !text[at..].starts_with('{') {
        return Err((at, "it does not begin with {".to_owned()));
    }
    let line_end = if by_lines { memchr::memchr(b'\n', &text.as_bytes()[at..]) } else { None };
    let end = line_end.map_or(text.len(), |length| at + length);
    let mut objects = serde_json::Deserializer::from_str(&text[at..end]).into_iter::<IgnoredAny>();
    match objects.next() {
        Some(Ok(_)) => {
            let object_end = at + objects.byte_offset();
            let rest_of_line = text[object_end..end].trim_start();
            if by_lines && line_end.is_some() && !rest_of_line.is_empty() && !rest_of_line.starts_with('{') {
                return Err((at, "text that is no object follows it on its line".to_owned()));
            }
            *is_first = is_first_now;
            Ok(Next::Object { start: at, end: object_end })
        }
        Some(Err(e)) if e.is_eof() && line_end.is_some() => Err((at, "the line ends inside it".to_owned())),
        Some(Err(e)) if e.is_eof() && !is_last => Ok(Next::NeedMore),
        Some(Err(e)) if e.is_eof() => Err((at, "the file ends inside it".to_owned())),
        Some(Err(e)) => {
            let text = e.to_string();
            Err((at, text.split(" at line ").next().unwrap_or_default().to_owned()))
        }
        None => Ok(Next::NeedMore),
    }
}

#[cfg(test)]
mod tests;
