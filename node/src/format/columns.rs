//! Formats of typed columns: batches of Arrow become rows of CSV.
//!
//! A reader decodes, and nothing here knows which format it reads. Places count rows; there is no source text.

use super::{BadRow, Batch, FormatError, Place, RECORD_BYTES_MAX, Staged, write_field};
use crate::{
    convert::{
        CellWriter, DateFormat, FileFacts, JsonPath, Out, Projection, Source, Step, day_of, scalar_of, surely_fits,
    },
    read::ReadError,
};
use arrow::{
    datatypes::{DataType, Schema, SchemaRef},
    error::ArrowError,
    record_batch::RecordBatch,
};
use bytes::Bytes;
use ferry_common::{
    failure::Failure,
    plan::{ColumnFrom, CopyPlan},
    scalar::ScalarType,
};
use std::{
    borrow::Cow,
    fs::File,
    io::{self, BufReader, Read},
    os::unix::fs::FileExt as _,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

/// Rows that are decoded at once, at most.
pub const BATCH_ROWS: usize = 4_096;
/// Bytes of staged rows in one batch, about.
const BATCH_BYTES: usize = 1 << 20;

/// Batches as a format decodes them.
pub type Batches<'r> = Box<dyn Iterator<Item = Result<RecordBatch, ArrowError>> + 'r>;

/// What a reader of columns must know beside the file.
#[derive(Debug, Clone)]
pub struct ColumnSettings<'s> {
    /// The file, for messages.
    pub path: String,
    /// Which columns are wanted; it rewrites.
    pub plan: &'s CopyPlan,
    /// What is known of the file beside its bytes.
    pub facts: &'s FileFacts,
    /// Every value is held against its column's type.
    pub check_values: bool,
    /// Bad rows are left out.
    pub skips: bool,
    /// The column with the date of each row's extent.
    pub day_column: Option<&'s str>,
    /// Rows of the file, or of its part, that were staged earlier.
    pub first_row: u64,
}

impl ColumnSettings<'_> {
    /// The failure of the file.
    pub fn failure(&self, error: &FormatError) -> Failure {
        error.judged(&self.path)
    }
}

/// What is wanted of a file. Made before anything is decoded, so that nothing else is.
#[derive(Debug, Clone)]
pub struct Wanted {
    projection: Projection,
    /// The file's columns to decode, ascending.
    pub columns: Vec<usize>,
}

impl Wanted {
    /// What is wanted of a file with columns of these names. Fails when names and plan do not agree.
    pub fn of(names: &[String], settings: &ColumnSettings<'_>) -> Result<Self, FormatError> {
        let ColumnSettings { facts, check_values, day_column, .. } = settings;
        let plan = with_names(settings.plan)?;
        let projection = Projection::of_fields(&plan, Some(names), facts, *check_values, *day_column)?;
        let mut columns = Vec::new();
        for out in &projection.outs {
            let Source::Field(at) = out.source else { continue };
            if at as usize >= names.len() {
                let (column, has) = (&out.column, names.len());
                let why = format!("column {column:?} is to come from column {} of the file, which has {has}", at + 1);
                return Err(FormatError::Header { why });
            }
            columns.push(at as usize);
        }
        columns.extend(projection.day_field.map(|at| at as usize));
        if columns.is_empty() && !names.is_empty() {
            // Rows must be counted even if no value of theirs is wanted.
            columns.push(0);
        }
        columns.sort_unstable();
        columns.dedup();
        Ok(Self { projection, columns })
    }
}

/// The plan with names in place of paths: one that leads to a column is its name.
fn with_names(plan: &CopyPlan) -> Result<Cow<'_, CopyPlan>, FormatError> {
    let mut named = Cow::Borrowed(plan);
    for (at, column) in plan.columns.iter().enumerate() {
        let ColumnFrom::Path(path) = &column.source else { continue };
        let steps = JsonPath::parse(path).map(|path| path.steps).unwrap_or_default();
        let [Step::Key(name)] = steps.as_slice() else {
            let why =
                format!("column {:?}: path {path:?} does not lead to a column of the file, such as $.a", column.name);
            return Err(FormatError::Header { why });
        };
        named.to_mut().columns[at].source = ColumnFrom::Name(name.clone());
    }
    Ok(named)
}

/// What stands in a staged field.
#[derive(Debug)]
enum Origin {
    Nothing,
    /// The same for each row, as CSV has it.
    Text(Vec<u8>),
    /// The decoded column of this number.
    Column(usize),
}

/// Reader of one file's rows.
pub struct ColumnReader<'r> {
    /// The format's name, for messages.
    format: &'static str,
    path: String,
    batches: Batches<'r>,
    judge: Option<&'r dyn Fn(io::Error) -> Failure>,
    schema: SchemaRef,
    outs: Vec<(Out, Origin)>,
    /// The column with the date, and how it is written.
    day: Option<(usize, Option<DateFormat>)>,
    skips: bool,
    /// Rows before the next one.
    row: u64,
    loaded: Option<Loaded>,
    text: Vec<u8>,
    scratch: Vec<u8>,
    /// Bytes that the next batch may take.
    own_bytes: usize,
}

/// A decoded batch, of which some rows are staged.
struct Loaded {
    cells: Vec<CellWriter>,
    /// By staged field: its texts need neither quotes nor a look.
    is_direct: Vec<bool>,
    rows: usize,
    next: usize,
}

impl<'r> ColumnReader<'r> {
    /// A reader of `batches`, whose columns are those wanted, in the file's order; `schema` has their fields. The
    /// batches begin at the first row that is to be staged.
    pub fn new(
        format: &'static str,
        schema: SchemaRef,
        batches: Batches<'r>,
        wanted: Wanted,
        settings: &ColumnSettings<'_>,
    ) -> Result<Self, Failure> {
        let Wanted { projection, columns } = wanted;
        let place = |field: u32| columns.binary_search(&(field as usize)).ok();
        let complex_to_string = projection.complex_to_string;
        let mut outs = Vec::with_capacity(projection.outs.len());
        for mut out in projection.outs {
            let from = match &out.source {
                Source::Field(field) => place(*field).map_or(Origin::Nothing, Origin::Column),
                Source::Text(text) => {
                    let (mut scratch, mut field) = (Vec::new(), Vec::new());
                    let text = out.judged(Some(text), Place::START, &mut scratch).map_err(|e| settings.failure(&e))?;
                    write_field(text.unwrap_or_default(), &mut field);
                    Origin::Text(field)
                }
                Source::Path(_) | Source::Nothing => Origin::Nothing,
            };
            if let Origin::Column(at) = from {
                let kind = settings.plan.columns.iter().find(|c| c.name == out.column).and_then(|c| c.kind);
                prepare(&mut out, kind, &schema, at, complex_to_string).map_err(|e| settings.failure(&e))?;
            }
            outs.push((out, from));
        }
        Ok(Self {
            format,
            path: settings.path.clone(),
            batches,
            judge: None,
            schema,
            outs,
            day: projection.day_field.and_then(place).map(|at| (at, projection.day_format)),
            skips: settings.skips,
            row: settings.first_row,
            loaded: None,
            text: Vec::new(),
            scratch: Vec::new(),
            own_bytes: 0,
        })
    }

    /// Errors of the input are judged by `judge`.
    #[must_use]
    pub fn judging_by(mut self, judge: &'r dyn Fn(io::Error) -> Failure) -> Self {
        self.judge = Some(judge);
        self
    }

    /// Fills an empty batch with the next rows; false at the end of the file.
    pub fn next(&mut self, batch: &mut Batch) -> Result<bool, Failure> {
        let Some(mut loaded) = self.load()? else { return Ok(false) };
        batch.start = place_of(self.row);
        batch.width = self.outs.len() as u32;
        let first = loaded.next;
        let mut own = Vec::with_capacity(self.own_bytes);
        while loaded.next < loaded.rows && own.len() < BATCH_BYTES {
            let (row, at, start) = (loaded.next, place_of(self.row), own.len());
            let result = self.stage(&loaded, at, &mut own);
            loaded.next += 1;
            self.row += 1;
            let source_end = (loaded.next - first) as u32;
            match result {
                Ok(day) => {
                    batch.days.extend(day);
                    batch.records.push(Staged {
                        start: start as u32,
                        end: own.len() as u32,
                        source_end,
                        rows: 1,
                        is_rewritten: true,
                    });
                }
                Err(error) if self.skips && error.spares_the_rest() => {
                    own.truncate(start);
                    let before = batch.records.len() as u32;
                    batch.bad.push(BadRow { before, source_end, error, at, original: self.original(&loaded, row) });
                }
                Err(error) => return Err(error.judged(&self.path)),
            }
        }
        self.own_bytes = own.len() + own.len() / 8;
        batch.own = Bytes::from(own);
        if loaded.next < loaded.rows {
            self.loaded = Some(loaded);
        }
        Ok(true)
    }

    /// The batch with the next row.
    fn load(&mut self) -> Result<Option<Loaded>, Failure> {
        if let Some(loaded) = self.loaded.take() {
            return Ok(Some(loaded));
        }
        loop {
            let batch = match self.batches.next() {
                None => return Ok(None),
                Some(Ok(batch)) if batch.num_rows() == 0 => continue,
                Some(batch) => batch,
            };
            return batch.and_then(|batch| self.prepared(&batch)).map(Some).map_err(|e| self.failure(e));
        }
    }

    fn prepared(&self, batch: &RecordBatch) -> Result<Loaded, ArrowError> {
        let fields = self.schema.fields();
        if batch.num_columns() != fields.len() {
            let message = format!("{} columns were decoded instead of {}", batch.num_columns(), fields.len());
            return Err(ArrowError::SchemaError(message));
        }
        let columns = batch.columns().iter().zip(fields.iter());
        let cells = columns.map(|(array, field)| CellWriter::new(array, field)).collect::<Result<Vec<_>, _>>()?;
        let is_direct = |(out, from): &(Out, Origin)| match from {
            Origin::Column(at) => {
                let fits = |kind| surely_fits(batch.column(*at).data_type(), kind);
                cells[*at].is_plain() && out.check.as_ref().is_none_or(|check| fits(check.kind))
            }
            Origin::Nothing | Origin::Text(_) => true,
        };
        let is_direct = self.outs.iter().map(is_direct).collect();
        Ok(Loaded { cells, is_direct, rows: batch.num_rows(), next: 0 })
    }

    /// Writes the next row. On an error the caller takes back what was written.
    fn stage(&mut self, loaded: &Loaded, at: Place, own: &mut Vec<u8>) -> Result<Option<i32>, FormatError> {
        let Self { outs, day, text, scratch, .. } = self;
        let row = loaded.next;
        let begin = own.len();
        let day = match day {
            None => None,
            Some((column, format)) => Some(day_of_cell(&loaded.cells[*column], row, format.as_ref(), at, text)?),
        };
        for (number, ((out, from), is_direct)) in outs.iter().zip(&loaded.is_direct).enumerate() {
            if number > 0 {
                own.push(b',');
            }
            match from {
                Origin::Nothing => {}
                Origin::Text(field) => own.extend_from_slice(field),
                Origin::Column(column) if *is_direct => {
                    let start = own.len();
                    if let Err(why) = loaded.cells[*column].text(row, own) {
                        return Err(out.bad(&own[start..], at, &why));
                    }
                }
                Origin::Column(column) => {
                    let value = match value_of(&loaded.cells[*column], row, text) {
                        Ok(value) if value.is_written => Some(text.as_slice()),
                        Ok(value) => value.borrowed,
                        Err(why) => return Err(out.bad(text, at, &why)),
                    };
                    if let Some(value) = out.judged(value, at, scratch)? {
                        write_field(value, own);
                    }
                }
            }
        }
        if own.len() == begin {
            // One empty value alone would be an empty line, which is no record.
            own.extend_from_slice(b"\"\"");
        }
        own.push(b'\n');
        if own.len() - begin > RECORD_BYTES_MAX {
            return Err(FormatError::RecordTooLong { line: at.line, byte: at.byte });
        }
        Ok(day)
    }

    /// The wanted columns of a row as CSV, as they are in the file.
    fn original(&self, loaded: &Loaded, row: usize) -> Bytes {
        let (mut line, mut text) = (Vec::new(), Vec::new());
        for (number, cells) in loaded.cells.iter().enumerate() {
            if number > 0 {
                line.push(b',');
            }
            text.clear();
            // An error leaves the raw value.
            let _ = cells.text(row, &mut text);
            write_field(&text, &mut line);
        }
        line.push(b'\n');
        Bytes::from(line)
    }

    fn failure(&self, error: ArrowError) -> Failure {
        let why = |cause: String| FormatError::NotTheFormat {
            why: format!("rows from number {} on cannot be read as {}: {cause}", self.row + 1, self.format),
        };
        match error {
            ArrowError::IoError(_, source) => match self.judge {
                Some(judge) => judge(source),
                None if source.raw_os_error().is_some() => {
                    ReadError::Io { path: self.path.clone(), byte: 0, source }.into()
                }
                None => why(source.to_string()).judged(&self.path),
            },
            ArrowError::ExternalError(error) => match error.downcast::<ReadError>() {
                Ok(error) => (*error).into(),
                Err(error) => match error.downcast::<FormatError>() {
                    Ok(error) => error.judged(&self.path),
                    Err(error) => why(ferry_common::failure::with_causes(&*error)).judged(&self.path),
                },
            },
            other => why(other.to_string()).judged(&self.path),
        }
    }
}

fn place_of(row: u64) -> Place {
    Place { byte: row, line: row + 1 }
}

/// Brings the check of a column's values to their Arrow type.
fn prepare(
    out: &mut Out,
    kind: Option<ScalarType>,
    schema: &Schema,
    at: usize,
    complex_to_string: bool,
) -> Result<(), FormatError> {
    let data_type = schema.field(at).data_type();
    if is_complex(data_type) && kind == Some(ScalarType::String) && !complex_to_string {
        let why = format!(
            "column {:?} is a string in the table, and the file has {} there; set \
             sink.mapping.mapComplexValuesToString to copy them as text",
            out.column,
            plural_of(data_type)
        );
        return Err(FormatError::Header { why });
    }
    if scalar_of(data_type) == ScalarType::DateTime
        && let Some(check) = &mut out.check
    {
        // How dates are written is the matter of texts.
        check.format = None;
    }
    Ok(())
}

/// Values may be records, lists or maps.
fn is_complex(data_type: &DataType) -> bool {
    match data_type {
        DataType::Union(fields, _) => fields.iter().any(|(_, field)| is_complex(field.data_type())),
        other => scalar_of(other) == ScalarType::Dynamic,
    }
}

fn plural_of(data_type: &DataType) -> &'static str {
    match data_type {
        DataType::Struct(_) => "records",
        DataType::Map(..) => "maps",
        DataType::Union(..) => "values of several types",
        _ => "lists",
    }
}

/// A value's text: borrowed from the column, written to the buffer, or null.
struct Value<'c> {
    borrowed: Option<&'c [u8]>,
    is_written: bool,
}

fn value_of<'c>(cells: &'c CellWriter, row: usize, text: &mut Vec<u8>) -> Result<Value<'c>, String> {
    text.clear();
    let borrowed = cells.borrowed(row);
    let is_written = borrowed.is_none() && cells.text(row, text)?;
    Ok(Value { borrowed, is_written })
}

/// The day of a row, for the date of its extent.
fn day_of_cell(
    cells: &CellWriter,
    row: usize,
    format: Option<&DateFormat>,
    at: Place,
    text: &mut Vec<u8>,
) -> Result<i32, FormatError> {
    if let Some(day) = cells.day(row) {
        return Ok(day);
    }
    text.clear();
    let has_text = cells.text(row, text).unwrap_or(false);
    let day = if has_text { day_of(text, format) } else { None };
    day.ok_or_else(|| FormatError::BadRecord {
        line: at.line,
        byte: at.byte,
        why: format!("the column of sink.creationTime holds no date: {:?}", String::from_utf8_lossy(text)),
    })
}

/// A file that is read wherever its format wants. What is read is counted.
#[derive(Debug, Clone)]
pub struct StoredFile {
    file: Arc<File>,
    path: Arc<str>,
    bytes: u64,
    stored: Arc<AtomicU64>,
    /// The last error of the system: the libraries of the formats make a text of it.
    trouble: Arc<Mutex<Option<ReadError>>>,
}

impl StoredFile {
    /// The open file at `path`. `stored` counts the bytes read of it.
    pub fn new(file: &File, path: &str, stored: Arc<AtomicU64>) -> Result<Self, ReadError> {
        let failed = |source| ReadError::Io { path: path.to_owned(), byte: 0, source };
        let file = file.try_clone().map_err(failed)?;
        let bytes = file.metadata().map_err(failed)?.len();
        Ok(Self { file: Arc::new(file), path: path.into(), bytes, stored, trouble: Arc::default() })
    }

    /// The path, for messages.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Size of the file.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The error of the system that made the format fail, if there was one.
    pub fn trouble(&self) -> Option<ReadError> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// The failure of the file: an error of the system if there was one, else what `why` says.
    pub fn failure(&self, why: impl Into<String>) -> Failure {
        match self.trouble() {
            Some(error) => error.into(),
            None => FormatError::NotTheFormat { why: why.into() }.judged(&self.path),
        }
    }

    /// Reads at an offset; 0 at the end of the file.
    pub fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        loop {
            match self.file.read_at(buffer, offset) {
                Ok(read) => {
                    self.stored.fetch_add(read as u64, Ordering::Relaxed);
                    return Ok(read);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    let source = match error.raw_os_error() {
                        Some(code) => io::Error::from_raw_os_error(code),
                        None => io::Error::new(error.kind(), error.to_string()),
                    };
                    let trouble = ReadError::Io { path: self.path.to_string(), byte: offset, source };
                    *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = Some(trouble);
                    return Err(error);
                }
            }
        }
    }

    /// Exactly so many bytes.
    pub fn exactly(&self, start: u64, length: usize) -> io::Result<Bytes> {
        if start.checked_add(length as u64).is_none_or(|end| end > self.bytes) {
            let what = format!("{length} bytes at byte {start} are wanted, and the file has {}", self.bytes);
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, what));
        }
        let mut bytes = vec![0; length];
        self.part(start, self.bytes).read_exact(&mut bytes)?;
        Ok(Bytes::from(bytes))
    }

    /// The bytes from `start` to before `end`, as a stream.
    pub fn part(&self, start: u64, end: u64) -> StoredPart {
        StoredPart { file: self.clone(), at: start, end }
    }

    /// As [`StoredFile::part`], with a buffer of `capacity` bytes.
    pub fn buffered(&self, start: u64, end: u64, capacity: usize) -> BufReader<StoredPart> {
        BufReader::with_capacity(capacity, self.part(start, end))
    }
}

/// Part of a [`StoredFile`].
#[derive(Debug)]
pub struct StoredPart {
    file: StoredFile,
    at: u64,
    end: u64,
}

impl Read for StoredPart {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.end.saturating_sub(self.at)).unwrap_or(usize::MAX);
        let wanted = buffer.len().min(left);
        if wanted == 0 {
            return Ok(0);
        }
        let read = self.file.read_at(&mut buffer[..wanted], self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}

/// What the tests of the formats share.
#[cfg(test)]
pub mod testing {
    use super::*;
    use ferry_common::plan::CopyColumn;

    /// A plan for columns that come from those of the same names.
    pub fn plan_of(columns: &[(&str, ScalarType)]) -> CopyPlan {
        let columns = columns.iter().map(|(name, kind)| CopyColumn {
            name: (*name).to_owned(),
            kind: Some(*kind),
            source: ColumnFrom::Name((*name).to_owned()),
            format: None,
        });
        CopyPlan { columns: columns.collect(), rewrites: true, ignores_unknown: true, ..CopyPlan::default() }
    }

    /// Settings that check values and fail at the first bad row.
    pub fn settings_of<'s>(plan: &'s CopyPlan, facts: &'s FileFacts) -> ColumnSettings<'s> {
        ColumnSettings {
            path: "f".to_owned(),
            plan,
            facts,
            check_values: true,
            skips: false,
            day_column: None,
            first_row: 0,
        }
    }

    /// The batches of a file.
    pub fn batches_of(mut reader: ColumnReader<'_>) -> Result<Vec<Batch>, Failure> {
        let mut batches = Vec::new();
        loop {
            let mut batch = Batch::default();
            if !reader.next(&mut batch)? {
                return Ok(batches);
            }
            assert!(batch.source.is_empty());
            batches.push(batch);
        }
    }

    /// The staged rows of a file, without their line ends.
    pub fn rows_of(reader: ColumnReader<'_>) -> Result<Vec<String>, Failure> {
        let row = |batch: &Batch, record: &Staged| {
            assert!(record.is_rewritten && record.rows == 1);
            let line = String::from_utf8(batch.bytes(true, record.start, record.end).to_vec()).unwrap();
            line.strip_suffix('\n').unwrap().to_owned()
        };
        let batches = batches_of(reader)?;
        Ok(batches.iter().flat_map(|b| b.records.iter().map(move |r| row(b, r))).collect())
    }
}

#[cfg(test)]
mod tests;
