//! XML: each row element becomes one JSON object, with names as Data Factory makes them.
//!
//! The document is read as a stream and only one row is held. Document type definitions are passed over and never
//! expanded; an entity that only they could explain is an error.

use quick_xml::{
    Reader, XmlVersion,
    escape::resolve_xml_entity,
    events::{BytesRef, BytesStart, Event},
};
use std::{
    collections::HashMap,
    io::{self, BufRead, Read},
    sync::Arc,
};

/// Deepest nesting of elements; the root is the first.
pub const DEPTH_MAX: usize = 128;

/// Longest row, in bytes of JSON. A single tag, text or comment is held to the same limit, in bytes of XML.
pub const ROW_BYTES_MAX: usize = 64 << 20;

/// From so many names on, an element looks them up in a table.
const NAMES_WITHOUT_TABLE: usize = 16;

/// What is wrong with a document. Positions are offsets in the document; a byte order mark does not count.
#[derive(Debug, thiserror::Error)]
pub enum XmlError {
    /// Not well formed, or with an entity that nothing explains.
    #[error("document is not well-formed XML at byte {byte}: {why}")]
    Syntax {
        /// Where.
        byte: u64,
        /// What the parser said.
        why: String,
    },
    /// Nested too deep.
    #[error("element at byte {byte} is nested more than {DEPTH_MAX} deep")]
    TooDeep {
        /// Where the element begins.
        byte: u64,
    },
    /// Too long.
    #[error("row or markup at byte {byte} exceeds {ROW_BYTES_MAX} bytes; is the right row element set?")]
    RowTooLong {
        /// Where it begins.
        byte: u64,
    },
    /// Cut short.
    #[error("document ends at byte {byte} inside an element; is the file cut short?")]
    Truncated {
        /// Where the document ends.
        byte: u64,
    },
    /// No element at all.
    #[error("document of {byte} bytes has no root element")]
    NoRows {
        /// Where the document ends.
        byte: u64,
    },
    /// The source failed.
    #[error("reading the document failed at byte {byte}")]
    Read {
        /// How far it was read.
        byte: u64,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Reader of the rows of one document.
pub struct XmlRows<R: BufRead> {
    reader: Reader<Metered<R>>,
    row_element: RowElement,
    /// Bytes of the current event.
    buffer: Vec<u8>,
    /// Open elements.
    depth: usize,
    /// How many of the open elements, counted from the root, are the steps of the path to a row.
    on_path: usize,
    has_root: bool,
    /// Open elements of the current row; the row itself is the first.
    open: Vec<Open>,
    /// Where the current row begins.
    row_at: u64,
    /// Bytes that the JSON of the current row has at least.
    row_bytes: usize,
    /// See [`ROW_BYTES_MAX`].
    row_bytes_max: usize,
}

impl<R: BufRead> XmlRows<R> {
    /// A reader of the UTF-8 document in `reader`.
    ///
    /// `row_element` is a path from the root, such as `catalog/book`, or a bare name that is matched at any depth;
    /// names have their prefixes. Without one, each child of the root is a row.
    pub fn new(reader: R, row_element: Option<String>) -> Self {
        Self {
            reader: Reader::from_reader(Metered { inner: reader, left: 0, is_exceeded: false }),
            row_element: RowElement::parse(row_element.as_deref().unwrap_or_default()),
            buffer: Vec::new(),
            depth: 0,
            on_path: 0,
            has_root: false,
            open: Vec::new(),
            row_at: 0,
            row_bytes: 0,
            row_bytes_max: ROW_BYTES_MAX,
        }
    }

    /// Appends the next row to `out`, as one JSON object without a line end. False after the last row.
    ///
    /// Attributes become `@name`, or `prefix:@name`; child elements become properties, and arrays where they repeat.
    /// An element with text alone is a string, one with nothing is null, and text beside attributes or children is
    /// `_value_`, or `prefix:_value_`. Every value is a string. Declarations of namespaces are left out, and so is
    /// white space that stands alone between tags.
    ///
    /// False only comes once the document has proved complete. After an error there is no more to read, and `out` is as
    /// it was.
    ///
    /// Source: Data Factory, XML format, XML connector behavior.
    pub fn next(&mut self, out: &mut Vec<u8>) -> Result<bool, XmlError> {
        let mut buffer = std::mem::take(&mut self.buffer);
        let found = self.read_row(&mut buffer, out);
        self.buffer = buffer;
        found
    }

    /// Offset just after what was read last: after a row, where that row ends.
    pub fn position(&self) -> u64 {
        self.reader.buffer_position()
    }

    fn read_row(&mut self, buffer: &mut Vec<u8>, out: &mut Vec<u8>) -> Result<bool, XmlError> {
        loop {
            buffer.clear();
            let byte = self.position();
            self.reader.get_mut().left = self.row_bytes_max;
            let event = match self.reader.read_event_into(buffer) {
                Ok(event) => event,
                Err(error) => return Err(self.judged(error, byte)),
            };
            let is_row_end = match event {
                Event::Start(start) => {
                    self.open(&start, byte)?;
                    false
                }
                Event::Empty(start) => {
                    self.open(&start, byte)?;
                    self.close(out)?
                }
                Event::End(_) => self.close(out)?,
                Event::Text(text) => {
                    self.text(&text.xml10_content(), false, byte)?;
                    false
                }
                Event::CData(text) => {
                    self.text(&text.xml10_content(), true, byte)?;
                    false
                }
                Event::GeneralRef(reference) => {
                    self.reference(&reference, byte)?;
                    false
                }
                Event::Comment(_) | Event::Decl(_) | Event::PI(_) | Event::DocType(_) => false,
                Event::Eof => return self.end(),
            };
            if is_row_end {
                return Ok(true);
            }
        }
    }

    /// An element begins.
    fn open(&mut self, start: &BytesStart<'_>, byte: u64) -> Result<(), XmlError> {
        let name = start.name().0;
        if name.is_empty() {
            return Err(syntax(byte, "an element has no name"));
        }
        if self.depth == 0 && self.has_root {
            return Err(syntax(byte, "there is a second root element"));
        }
        if self.depth == DEPTH_MAX {
            return Err(XmlError::TooDeep { byte });
        }
        self.has_root = true;
        self.depth += 1;
        if self.open.is_empty() {
            if !self.begins_row(name) {
                return Ok(());
            }
            self.row_at = byte;
            self.row_bytes = 0;
        }
        if let Some(parent) = self.open.last_mut() {
            parent.end_run();
        }
        let mut element = Open::new(name);
        for attribute in start.attributes() {
            let attribute = attribute.map_err(|e| syntax(byte, &e.to_string()))?;
            let value =
                attribute.normalized_value(XmlVersion::Implicit1_0).map_err(|e| syntax(byte, &e.to_string()))?;
            if let Some(name) = attribute_name(attribute.key.0) {
                let value = Value::Text(value.into());
                self.row_bytes += value.bytes_min() + element.add(&name, value);
            }
        }
        self.open.push(element);
        self.check_row_bytes(self.row_bytes)
    }

    /// Whether the element just counted in `depth` is a row.
    fn begins_row(&mut self, name: &str) -> bool {
        match &self.row_element {
            RowElement::ChildOfRoot => self.depth == 2,
            RowElement::Named(wanted) => wanted == name,
            RowElement::Path(steps) => {
                if self.on_path + 1 == self.depth && steps.get(self.on_path).is_some_and(|step| step == name) {
                    self.on_path += 1;
                }
                self.on_path == steps.len() && self.depth == steps.len()
            }
        }
    }

    /// An element ends. True when it was a row, which then is in `out`.
    fn close(&mut self, out: &mut Vec<u8>) -> Result<bool, XmlError> {
        // The parser has matched this end to its start, so one is open.
        self.depth -= 1;
        self.on_path = self.on_path.min(self.depth);
        let Some(element) = self.open.pop() else { return Ok(false) };
        let is_row = self.open.is_empty();
        let (name, value) = element.close(is_row);
        self.row_bytes += value.bytes_min();
        if let Some(parent) = self.open.last_mut() {
            self.row_bytes += parent.add(&name, value);
            return self.check_row_bytes(self.row_bytes).map(|()| false);
        }
        self.check_row_bytes(self.row_bytes)?;
        let begin = out.len();
        value.write(out);
        if let Err(error) = self.check_row_bytes(out.len() - begin) {
            out.truncate(begin);
            return Err(error);
        }
        Ok(true)
    }

    /// A piece of text. `is_literal` says that it counts even if it is white space.
    fn text(&mut self, piece: &str, is_literal: bool, byte: u64) -> Result<(), XmlError> {
        let counts = is_literal || !piece.bytes().all(|b| matches!(b, b' ' | b'\t' | b'\r' | b'\n'));
        if self.depth == 0 && counts {
            return Err(syntax(byte, "there is text outside the root element"));
        }
        let Some(element) = self.open.last_mut() else { return Ok(()) };
        element.text.push_str(piece);
        element.run_counts |= counts;
        let bytes = element.text.len();
        self.check_row_bytes(bytes)
    }

    /// A reference to a character or an entity.
    fn reference(&mut self, reference: &BytesRef<'_>, byte: u64) -> Result<(), XmlError> {
        if let Some(known) = resolve_xml_entity(reference) {
            return self.text(known, true, byte);
        }
        match reference.resolve_char_ref() {
            Ok(Some(character)) => self.text(character.encode_utf8(&mut [0; 4]), true, byte),
            Ok(None) => Err(syntax(byte, &format!("unknown entity &{};", &**reference))),
            Err(error) => Err(syntax(byte, &error.to_string())),
        }
    }

    /// The document ends.
    fn end(&self) -> Result<bool, XmlError> {
        let byte = self.position();
        match (self.depth, self.has_root) {
            (0, true) => Ok(false),
            (0, false) => Err(XmlError::NoRows { byte }),
            _ => Err(XmlError::Truncated { byte }),
        }
    }

    fn check_row_bytes(&self, bytes: usize) -> Result<(), XmlError> {
        if bytes > self.row_bytes_max { Err(XmlError::RowTooLong { byte: self.row_at }) } else { Ok(()) }
    }

    /// The parser's error on the event that begins at `byte`.
    fn judged(&self, error: quick_xml::Error, byte: u64) -> XmlError {
        if self.reader.get_ref().is_exceeded {
            return XmlError::RowTooLong { byte: if self.open.is_empty() { byte } else { self.row_at } };
        }
        match error {
            quick_xml::Error::Io(source) => {
                let source = Arc::try_unwrap(source).unwrap_or_else(|e| io::Error::new(e.kind(), e.to_string()));
                XmlError::Read { byte: self.position(), source }
            }
            // The parser keeps the place of an earlier error if this one has none.
            error => syntax(self.reader.error_position().max(byte), &error.to_string()),
        }
    }
}

fn syntax(byte: u64, why: &str) -> XmlError {
    XmlError::Syntax { byte, why: why.to_owned() }
}

/// Property of the attribute `name`; `None` for the declaration of a namespace.
fn attribute_name(name: &str) -> Option<String> {
    match name.split_once(':') {
        Some(("xmlns", _)) => None,
        Some((prefix, local)) => Some(format!("{prefix}:@{local}")),
        None if name == "xmlns" => None,
        None => Some(format!("@{name}")),
    }
}

/// Which elements are rows.
enum RowElement {
    ChildOfRoot,
    Named(String),
    Path(Vec<String>),
}

impl RowElement {
    fn parse(text: &str) -> Self {
        let steps: Vec<String> = text.split('/').map(str::trim).filter(|s| !s.is_empty()).map(str::to_owned).collect();
        match steps.as_slice() {
            [] => Self::ChildOfRoot,
            [name] if !text.contains('/') => Self::Named(name.clone()),
            _ => Self::Path(steps),
        }
    }
}

/// What an element is in JSON.
enum Value {
    Null,
    Text(Box<str>),
    Array(Vec<Value>),
    Object(Vec<(Box<str>, Value)>),
}

impl Value {
    /// Bytes that this has at least as JSON, apart from names and values within.
    fn bytes_min(&self) -> usize {
        match self {
            Self::Null => 4,
            Self::Text(text) => text.len() + 2,
            Self::Array(_) | Self::Object(_) => 2,
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Null => out.extend_from_slice(b"null"),
            Self::Text(text) => write_string(text, out),
            Self::Array(items) => {
                out.push(b'[');
                for (index, item) in items.iter().enumerate() {
                    if index > 0 {
                        out.push(b',');
                    }
                    item.write(out);
                }
                out.push(b']');
            }
            Self::Object(properties) => {
                out.push(b'{');
                for (index, (name, value)) in properties.iter().enumerate() {
                    if index > 0 {
                        out.push(b',');
                    }
                    write_string(name, out);
                    out.push(b':');
                    value.write(out);
                }
                out.push(b'}');
            }
        }
    }
}

/// Writes a JSON string.
fn write_string(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    for &byte in text.as_bytes() {
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0..=0x1f => out.extend_from_slice(format!("\\u{byte:04x}").as_bytes()),
            _ => out.push(byte),
        }
    }
    out.push(b'"');
}

/// An element of the current row whose end has not come.
struct Open {
    name: Box<str>,
    /// In the order of their first coming.
    properties: Vec<(Box<str>, Value)>,
    /// Where each name stands in `properties`; empty while these are few.
    table: HashMap<Box<str>, usize>,
    /// Text so far.
    text: String,
    /// Where in `text` the piece begins that no tag has ended.
    run_at: usize,
    /// That piece is more than white space.
    run_counts: bool,
}

impl Open {
    fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            properties: Vec::new(),
            table: HashMap::new(),
            text: String::new(),
            run_at: 0,
            run_counts: false,
        }
    }

    /// Adds a property, or one more value to it. Says how many bytes of JSON its name costs.
    fn add(&mut self, name: &str, value: Value) -> usize {
        let known = if self.table.is_empty() {
            self.properties.iter().position(|(known, _)| **known == *name)
        } else {
            self.table.get(name).copied()
        };
        let Some(index) = known else {
            self.properties.push((name.into(), value));
            if !self.table.is_empty() {
                self.table.insert(name.into(), self.properties.len() - 1);
            } else if self.properties.len() > NAMES_WITHOUT_TABLE {
                self.table = self.properties.iter().enumerate().map(|(at, (name, _))| (name.clone(), at)).collect();
            }
            return name.len() + 3;
        };
        match &mut self.properties[index].1 {
            Value::Array(items) => items.push(value),
            single => {
                let first = std::mem::replace(single, Value::Null);
                *single = Value::Array(vec![first, value]);
            }
        }
        0
    }

    /// A tag ends a piece of text: white space alone is forgotten.
    fn end_run(&mut self) {
        if !self.run_counts {
            self.text.truncate(self.run_at);
        }
        self.run_at = self.text.len();
        self.run_counts = false;
    }

    /// The element's name and value; a row is always an object.
    fn close(mut self, is_row: bool) -> (Box<str>, Value) {
        self.end_run();
        let text = (!self.text.is_empty()).then(|| Value::Text(std::mem::take(&mut self.text).into()));
        if self.properties.is_empty() && !is_row {
            return (self.name, text.unwrap_or(Value::Null));
        }
        if let Some(text) = text {
            let name = match self.name.split_once(':') {
                Some((prefix, _)) => format!("{prefix}:_value_"),
                None => "_value_".to_owned(),
            };
            self.add(&name, text);
        }
        self.properties.shrink_to_fit();
        (self.name, Value::Object(self.properties))
    }
}

/// Passes on so many bytes and then fails, because the parser gathers a tag or a text whole, however long it is.
struct Metered<R> {
    inner: R,
    left: usize,
    is_exceeded: bool,
}

impl<R: BufRead> Read for Metered<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let available = self.fill_buf()?;
        let bytes = available.len().min(into.len());
        into[..bytes].copy_from_slice(&available[..bytes]);
        self.consume(bytes);
        Ok(bytes)
    }
}

impl<R: BufRead> BufRead for Metered<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        let available = self.inner.fill_buf()?;
        if self.left == 0 && !available.is_empty() {
            self.is_exceeded = true;
            return Err(io::Error::other("markup is too long"));
        }
        Ok(&available[..available.len().min(self.left)])
    }

    fn consume(&mut self, bytes: usize) {
        self.left = self.left.saturating_sub(bytes);
        self.inner.consume(bytes);
    }
}

#[cfg(test)]
mod tests;
