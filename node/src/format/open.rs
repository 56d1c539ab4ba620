//! Opens one file, or one member of an archive, for reading: its text and encoding, its header, its columns, and the
//! place where an earlier attempt has left off.

use super::{
    Batch, Delimited, FormatError, ObjectReader, Objects, Place, RecordSplitter, Row,
    columns::{ColumnReader, ColumnSettings},
    delimited::{Split, SplitError},
    excel::{CellRange, ExcelOptions, ExcelRows, SheetChoice},
    fixed::{FixedColumn, FixedWidth},
    lines::{LineIs, LineKind, LineReader, names_of, split},
    rows::{SheetReader, XmlReader, read_row},
    w3c::W3cLog,
    windowed::Windowed as _,
    xml::XmlRows,
};
use crate::{
    buffers::Pool,
    convert::{FileFacts, Projection},
    infer::Sample,
    read::{SourceFile, TextWindow, Utf8Reader, encoding_named, window_buffers},
};
use ferry_common::{
    activity::{CreationTime, Format, FormatType, Settings},
    failure::{Code, Failure},
    plan::CopyPlan,
    unit::FileRange,
};
use std::io::{self, BufReader, Read};

/// Where a file's bytes come from.
pub enum Input<'r> {
    /// A plain file: it can be read from any offset.
    File(&'r SourceFile),
    /// Bytes as they come out of a codec or an archive.
    Stream(Box<dyn Read + 'r>),
}

/// Everything that the opening of a file takes.
pub struct Head<'r> {
    /// Its bytes.
    pub input: Input<'r>,
    /// The file, for messages.
    pub label: String,
    /// How it is written.
    pub format: &'r Format,
    /// Which columns are wanted.
    pub plan: &'r CopyPlan,
    /// How to copy.
    pub settings: &'r Settings,
    /// The date that rows' extents get.
    pub creation_time: Option<&'r CreationTime>,
    /// What is known of the file beside its bytes.
    pub facts: FileFacts,
    /// The part to read; `None`: all of it.
    pub range: Option<FileRange>,
    /// Where an earlier attempt has left off.
    pub from: Place,
    /// Buffers of the attempt.
    pub pool: Pool,
    /// Judges an error of the input.
    pub judge: &'r dyn Fn(io::Error) -> Failure,
}

/// Reader of one file's records.
pub enum Reader<'r> {
    /// Delimited text.
    Delimited(Box<Delimited<'r>>),
    /// JSON.
    Objects(Box<ObjectReader<'r>>),
    /// Lines.
    Lines(Box<LineReader<'r>>),
    /// A sheet of a workbook.
    Sheet(Box<SheetReader>),
    /// XML.
    Xml(Box<XmlReader<BufReader<Box<dyn Read + 'r>>>>),
    /// Typed columns.
    Columns(Box<ColumnReader<'r>>),
}

impl Reader<'_> {
    /// Fills an empty batch with the next records; false at the end of the file.
    pub fn next(&mut self, batch: &mut Batch) -> Result<bool, Failure> {
        match self {
            Self::Delimited(reader) => reader.next(batch),
            Self::Objects(reader) => reader.next(batch),
            Self::Lines(reader) => reader.next(batch),
            Self::Sheet(reader) => reader.next(batch),
            Self::Xml(reader) => reader.next(batch),
            Self::Columns(reader) => reader.next(batch),
        }
    }
}

impl<'r> Input<'r> {
    /// The bytes from the first on. A stream gives them once.
    fn bytes(&mut self) -> Result<Box<dyn Read + 'r>, Failure> {
        match self {
            Self::File(file) => Ok(Box::new(file.reader_at(0)?)),
            Self::Stream(stream) => Ok(std::mem::replace(stream, Box::new(io::empty()))),
        }
    }
}

/// UTF-8 text without a byte order mark.
struct Text<'r> {
    reader: Box<dyn Read + 'r>,
    /// Bytes of the mark, where offsets in the text and in the input differ by these alone; `None`: it is decoded.
    mark: Option<u64>,
}

fn text<'r>(
    mut raw: Box<dyn Read + 'r>,
    format: &Format,
    judge: &dyn Fn(io::Error) -> Failure,
) -> Result<Text<'r>, Failure> {
    let mut head = Vec::with_capacity(4);
    raw.by_ref().take(3).read_to_end(&mut head).map_err(judge)?;
    let named = format.encoding_name.as_deref().map(|name| {
        encoding_named(name).ok_or_else(|| {
            let message = format!("source.format.encodingName {name:?} is no encoding of the web's Encoding Standard");
            Failure::settings(Code::SettingsInvalid, message)
        })
    });
    let marked = match head.as_slice() {
        [0xef, 0xbb, 0xbf] => Some(encoding_rs::UTF_8),
        [0xff, 0xfe, ..] => Some(encoding_rs::UTF_16LE),
        [0xfe, 0xff, ..] => Some(encoding_rs::UTF_16BE),
        _ => None,
    };
    let encoding = named.transpose()?.or(marked).unwrap_or(encoding_rs::UTF_8);
    if encoding == encoding_rs::UTF_8 {
        let mark = if marked == Some(encoding_rs::UTF_8) { std::mem::take(&mut head).len() as u64 } else { 0 };
        return Ok(Text { reader: Box::new(io::Cursor::new(head).chain(raw)), mark: Some(mark) });
    }
    Ok(Text { reader: Box::new(Utf8Reader::new(io::Cursor::new(head).chain(raw), encoding)), mark: None })
}

/// A window on an input's text, and whether an offset in it is one in the file.
fn window_of<'r>(
    input: &mut Input<'r>,
    label: &str,
    format: &Format,
    pool: &Pool,
    judge: &'r dyn Fn(io::Error) -> Failure,
) -> Result<(TextWindow<'r>, bool), Failure> {
    let Text { reader, mark } = text(input.bytes()?, format, judge)?;
    // Offsets count from the input's first byte, the mark included.
    let start = Place { byte: mark.unwrap_or(0), line: 1 };
    let can_seek = mark.is_some() && matches!(input, Input::File(_));
    Ok((TextWindow::new(reader, label.to_owned(), pool.clone(), start, None, judge), can_seek))
}

/// Goes on to where reading is to begin: by seeking where that can be done.
fn go_on<'r>(
    window: (TextWindow<'r>, bool),
    input: &Input<'r>,
    to: Place,
    end: Option<u64>,
    judge: &'r dyn Fn(io::Error) -> Failure,
) -> Result<TextWindow<'r>, Failure> {
    let (mut window, can_seek) = window;
    if to.byte <= window.place().byte && end.is_none() {
        return Ok(window);
    }
    let to = if to.byte <= window.place().byte { window.place() } else { to };
    match input {
        Input::File(file) if can_seek => {
            let reader = file.reader_at(to.byte)?;
            Ok(TextWindow::new(Box::new(reader), window.path().to_owned(), window.pool().clone(), to, end, judge))
        }
        _ => {
            window.read_on_to(to)?;
            Ok(window)
        }
    }
}

/// Leaves out non-empty lines at the start of a file.
fn skip_lines(window: &mut TextWindow<'_>, mut count: u32) -> Result<(), Failure> {
    while count > 0 {
        match memchr::memchr(b'\n', window.text()) {
            Some(at) => {
                let is_blank = window.text()[..at].trim_ascii().is_empty();
                window.skip(at + 1);
                count -= u32::from(!is_blank);
            }
            None if window.is_last() => {
                let rest = window.text().len();
                window.skip(rest);
                return Ok(());
            }
            None => window.more()?,
        }
    }
    Ok(())
}

/// Reads the next record off the window.
fn read_record(window: &mut TextWindow<'_>, splitter: &RecordSplitter, row: &mut Row) -> Result<bool, Failure> {
    loop {
        let place = window.place();
        let judged = |e: FormatError| e.judged(window.path());
        match splitter.split(window.text(), window.is_last(), row) {
            Ok(Split::Record(bytes)) => {
                if let Err(e) = std::str::from_utf8(&window.text()[..bytes]) {
                    let byte = place.byte + e.valid_up_to() as u64;
                    return Err(judged(FormatError::InvalidUtf8 { line: place.line, byte }));
                }
                window.skip(bytes);
                return Ok(true);
            }
            Ok(Split::Blank(bytes)) => window.skip(bytes),
            Ok(Split::NeedMore) if window.is_last() => return Ok(false),
            Ok(Split::NeedMore) => window.more()?,
            Err(SplitError::UnclosedQuote(offset)) => {
                let line = place.line + memchr::memchr_iter(b'\n', &window.text()[..offset]).count() as u64;
                return Err(judged(FormatError::UnclosedQuote { line, byte: place.byte + offset as u64 }));
            }
            Err(SplitError::LoneCarriageReturn(offset, _)) => {
                let byte = place.byte + offset as u64;
                return Err(judged(FormatError::LoneCarriageReturn { line: place.line, byte }));
            }
        }
    }
}

/// The first character of the text that is no blank.
fn first_character(window: &mut TextWindow<'_>) -> Result<Option<u8>, Failure> {
    loop {
        let first = window.text().iter().find(|b| !b.is_ascii_whitespace()).copied();
        if first.is_some() || window.is_last() {
            return Ok(first);
        }
        window.more()?;
    }
}

fn line_kind(format: &Format) -> Result<LineKind, Failure> {
    Ok(match format.kind {
        FormatType::FixedWidthText => {
            let column = |c: &ferry_common::activity::FixedColumn| FixedColumn {
                name: c.name.clone(),
                width: c.width as usize,
                start: c.start.map(|s| s as usize),
            };
            let fixed = FixedWidth::new(format.columns.iter().map(column).collect());
            LineKind::Fixed(fixed.map_err(|e| Failure::settings(Code::SettingsInvalid, e.to_string()))?)
        }
        FormatType::W3CLog => LineKind::W3c(W3cLog::default()),
        _ => LineKind::Whole,
    })
}

/// Opens a workbook's sheet.
fn sheet(input: &Input<'_>, format: &Format, label: &str) -> Result<ExcelRows, Failure> {
    let Input::File(file) = input else { return Err(needs_a_plain_file("a workbook", label)) };
    let range = format.range.as_deref().map(CellRange::parse).transpose();
    let options = ExcelOptions {
        sheet: match (&format.sheet_name, format.sheet_index) {
            (Some(name), _) => SheetChoice::Name(name.clone()),
            (None, index) => SheetChoice::Index(index.unwrap_or(0) as usize),
        },
        range: range
            .map_err(|why| Failure::settings(Code::SettingsInvalid, format!("source.format.{why}")))?
            .unwrap_or_default(),
    };
    let handle = file.handle().try_clone().map_err(|e| file.failure(e))?;
    let rows = ExcelRows::open(handle, &options)
        .map_err(|e| FormatError::NotTheFormat { why: e.to_string() }.judged(label))?;
    let bytes = file.handle().metadata().map_or(0, |m| m.len());
    file.stored().fetch_add(bytes, std::sync::atomic::Ordering::Relaxed);
    Ok(rows)
}

/// The failure of a format that must find its way in a file by itself.
pub fn needs_a_plain_file(what: &str, label: &str) -> Failure {
    let why = format!("{what} inside an archive or another compression cannot be read; unpack it first");
    FormatError::NotTheFormat { why }.judged(label)
}

/// Opens a file for reading.
pub fn open(head: Head<'_>) -> Result<Reader<'_>, Failure> {
    let Head { mut input, label, format, plan, settings, creation_time, facts, range, from, pool, judge } = head;
    let skips = settings.enable_skip_incompatible_row;
    let checks = settings.check_values;
    let day_column = creation_time.and_then(|t| t.column.as_deref());
    let judged = |e: FormatError| e.judged(&label);
    let begin = range.map_or(from, |r| if from.byte > r.start { from } else { Place { byte: r.start, line: 1 } });
    let end = range.filter(|r| !r.is_last()).map(|r| r.end);
    match format.kind {
        FormatType::DelimitedText => {
            let (mut window, can_seek) = window_of(&mut input, &label, format, &pool, judge)?;
            skip_lines(&mut window, format.skip_line_count.unwrap_or(0))?;
            let splitter = RecordSplitter::new(format);
            let mut row = Row::default();
            let names = match format.has_header() && read_record(&mut window, &splitter, &mut row)? {
                true => Some(row.texts()),
                false => None,
            };
            let projection = if format.has_header() && names.is_none() {
                // An empty file has neither names nor rows.
                Projection::of_fields(&CopyPlan::default(), None, &facts, false, None)
            } else {
                Projection::of_fields(plan, names.as_deref(), &facts, checks, day_column)
            };
            let expected = names.as_ref().map(|n| n.len() as u32).or(Some(plan.fields_expected).filter(|n| *n > 0));
            let window = go_on((window, can_seek), &input, begin, end, judge)?;
            let reader = Delimited::new(window, format, projection.map_err(judged)?, expected, skips);
            Ok(Reader::Delimited(Box::new(reader)))
        }
        FormatType::Json => {
            let (mut window, can_seek) = window_of(&mut input, &label, format, &pool, judge)?;
            let is_array = first_character(&mut window)? == Some(b'[');
            let projection = Projection::of_objects(plan, &facts, checks).map_err(judged)?;
            let objects = Objects::new(plan, projection, skips).map_err(judged)?;
            let is_first = begin.byte <= window.place().byte;
            let window = go_on((window, can_seek), &input, begin, end, judge)?;
            Ok(Reader::Objects(Box::new(ObjectReader::new(window, objects, is_array, is_first))))
        }
        FormatType::TextLines | FormatType::FixedWidthText | FormatType::W3CLog => {
            let kind = line_kind(format)?;
            let (mut window, can_seek) = window_of(&mut input, &label, format, &pool, judge)?;
            skip_lines(&mut window, format.skip_line_count.unwrap_or(0))?;
            if !matches!(kind, LineKind::W3c(_)) {
                window = go_on((window, can_seek), &input, begin, end, judge)?;
            }
            let project = move |names: &[String]| {
                let names = Some(names).filter(|n| !n.is_empty());
                Projection::of_fields(plan, names, &facts, checks, None)
            };
            Ok(Reader::Lines(Box::new(LineReader::new(window, kind, Box::new(project), skips, begin.byte))))
        }
        FormatType::Excel => {
            let rows = sheet(&input, format, &label)?;
            let has_names = format.has_header() && rows.rows() > 0;
            let names = match has_names {
                true => {
                    let first = rows.row(0).map_err(|e| judged(FormatError::NotTheFormat { why: e.to_string() }))?;
                    Some(first.into_iter().map(Option::unwrap_or_default).collect::<Vec<_>>())
                }
                false => None,
            };
            let projection = Projection::of_fields(plan, names.as_deref(), &facts, checks, None).map_err(judged)?;
            let reader = SheetReader::new(rows, label.clone(), projection, skips, usize::from(has_names), from.byte);
            Ok(Reader::Sheet(Box::new(reader)))
        }
        FormatType::Xml => {
            let projection = Projection::of_objects(plan, &facts, checks).map_err(judged)?;
            let objects = Objects::new(plan, projection, skips).map_err(judged)?;
            let rows = xml_rows(&mut input, format, judge)?;
            Ok(Reader::Xml(Box::new(XmlReader::new(rows, label.clone(), objects, from.byte))))
        }
        FormatType::Parquet | FormatType::Avro | FormatType::Orc => {
            let settings = ColumnSettings {
                path: label.clone(),
                plan,
                facts: &facts,
                check_values: checks,
                skips,
                day_column,
                first_row: from.byte,
            };
            super::typed::open(input, format.kind, &settings, range, judge)
                .map(|reader| Reader::Columns(Box::new(reader)))
        }
    }
}

fn xml_rows<'r>(
    input: &mut Input<'r>,
    format: &Format,
    judge: &'r dyn Fn(io::Error) -> Failure,
) -> Result<XmlRows<BufReader<Box<dyn Read + 'r>>>, Failure> {
    let text = text(input.bytes()?, format, judge)?;
    Ok(XmlRows::new(BufReader::with_capacity(256 << 10, text.reader), format.row_element.clone()))
}

/// Adds the first records of one file to a sample. Records that do not parse are left to the copy, which tells them with
/// their place.
pub fn sample<'r>(
    mut input: Input<'r>,
    label: &str,
    format: &'r Format,
    records_max: usize,
    judge: &'r dyn Fn(io::Error) -> Failure,
    sample: &mut Sample,
) -> Result<(), Failure> {
    let pool = window_buffers();
    match format.kind {
        FormatType::DelimitedText => {
            let (mut window, _) = window_of(&mut input, label, format, &pool, judge)?;
            skip_lines(&mut window, format.skip_line_count.unwrap_or(0))?;
            let splitter = RecordSplitter::new(format);
            let (mut row, mut names) = (Row::default(), Vec::new());
            if format.has_header() && read_record(&mut window, &splitter, &mut row)? {
                names = row.texts();
                names.iter().for_each(|name| sample.name_column(name));
            }
            for _ in 0..records_max {
                match read_record(&mut window, &splitter, &mut row) {
                    Ok(true) => sample.see_record(&names, &row.texts()),
                    Ok(false) | Err(_) => break,
                }
            }
        }
        FormatType::Json => {
            let (mut window, _) = window_of(&mut input, label, format, &pool, judge)?;
            window.more()?;
            let text = String::from_utf8_lossy(window.text()).into_owned();
            let mut rest = text.trim_start().trim_start_matches('[');
            for _ in 0..records_max {
                rest = rest.trim_start().trim_start_matches(',');
                let mut values = serde_json::Deserializer::from_str(rest).into_iter::<serde_json::Map<_, _>>();
                let Some(Ok(object)) = values.next() else { break };
                sample.see_object(&object);
                rest = &rest[values.byte_offset()..];
            }
        }
        FormatType::TextLines | FormatType::FixedWidthText | FormatType::W3CLog => {
            let mut kind = line_kind(format)?;
            let (mut window, _) = window_of(&mut input, label, format, &pool, judge)?;
            skip_lines(&mut window, format.skip_line_count.unwrap_or(0))?;
            window.more()?;
            let mut row = Row::default();
            names_of(&kind).iter().for_each(|name| sample.name_column(name));
            let text = window.text();
            let whole = if window.is_last() { text.len() } else { memchr::memrchr(b'\n', text).map_or(0, |at| at + 1) };
            for line in text[..whole].split_inclusive(|b| *b == b'\n').take(records_max) {
                match split(&mut kind, line, Place::START, &mut row) {
                    Ok(LineIs::Row) => sample.see_record(&names_of(&kind), &row.texts()),
                    Ok(LineIs::Header) => names_of(&kind).iter().for_each(|name| sample.name_column(name)),
                    Ok(LineIs::Nothing) | Err(_) => {}
                }
            }
        }
        FormatType::Excel => {
            let rows = sheet(&input, format, label)?;
            let mut names = Vec::new();
            for number in 0..rows.rows().min(records_max) {
                let Ok(values) = rows.row(number) else { continue };
                let texts: Vec<_> = values.into_iter().map(Option::unwrap_or_default).collect();
                if number == 0 && format.has_header() {
                    texts.iter().for_each(|name| sample.name_column(name));
                    names = texts;
                } else {
                    sample.see_record(&names, &texts);
                }
            }
        }
        FormatType::Xml => {
            let mut rows = xml_rows(&mut input, format, judge)?;
            let mut row = Vec::new();
            for _ in 0..records_max {
                row.clear();
                match read_row(&mut rows, &mut row) {
                    Ok(true) => {}
                    Ok(false) | Err(_) => break,
                }
                if let Ok(object) = serde_json::from_slice(&row) {
                    sample.see_object(&object);
                }
            }
        }
        FormatType::Parquet | FormatType::Avro | FormatType::Orc => {
            for column in super::typed::sample(&mut input, format.kind, label)? {
                sample.see_column(column);
            }
        }
    }
    Ok(())
}
