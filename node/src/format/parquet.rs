//! Apache Parquet: rows for CSV, and files that are staged as they are.
//!
//! Only wanted columns of wanted row groups are read. A file is never held whole; its footer is.

use super::{
    FormatError, Place,
    columns::{BATCH_ROWS, ColumnReader, ColumnSettings, StoredFile, StoredPart, Wanted},
};
use crate::convert::{
    CellWriter, Check, FileFacts, JsonPath, Out, Projection, Source, Verdict, scalar_of, surely_fits,
};
use ::parquet::{
    arrow::{
        ProjectionMask,
        arrow_reader::{
            ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder,
        },
    },
    basic::{ConvertedType, LogicalType, Repetition, Type as PhysicalType},
    column::writer::ColumnCloseResult,
    errors::ParquetError,
    file::{
        metadata::{ColumnChunkMetaData, ParquetMetaData},
        properties::{EnabledStatistics, WriterProperties},
        reader::{ChunkReader, Length},
        writer::SerializedFileWriter,
    },
    schema::types::{ColumnDescriptor, SchemaDescriptor, Type},
};
use arrow::{
    datatypes::{DataType, Field, FieldRef, Schema, SchemaRef, TimeUnit},
    error::ArrowError,
    record_batch::RecordBatch,
};
use bytes::Bytes;
use ferry_common::{
    failure::{Code, Failure, Fault, Retry},
    plan::{ColumnFrom, CopyColumn, CopyPlan},
    scalar::ScalarType,
    unit::{FileRange, SampleColumn},
};
use std::{
    fs::File,
    io::{self, BufReader, Read, Write},
    ops::Range,
    sync::{Arc, atomic::AtomicU64},
};

/// Bytes of decoded values at once, about.
const DECODED_BYTES: u64 = 8 << 20;
/// Bytes that are copied at once.
const COPY_BYTES: usize = 1 << 20;
/// Bytes of a file before its first page: the magic number.
const MAGIC_BYTES: i64 = 4;
/// Under this key a file holds the Arrow schema that it was written from.
const ARROW_SCHEMA_KEY: &str = "ARROW:schema";

impl Length for StoredFile {
    fn len(&self) -> u64 {
        self.bytes()
    }
}

impl ChunkReader for StoredFile {
    type T = BufReader<StoredPart>;

    fn get_read(&self, start: u64) -> Result<Self::T, ParquetError> {
        Ok(BufReader::new(self.part(start, self.bytes())))
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        Ok(self.exactly(start, length)?)
    }
}

/// Reads a file in large steps.
struct InLargeSteps<'f>(&'f StoredFile);

impl Length for InLargeSteps<'_> {
    fn len(&self) -> u64 {
        self.0.bytes()
    }
}

impl ChunkReader for InLargeSteps<'_> {
    type T = BufReader<StoredPart>;

    fn get_read(&self, start: u64) -> Result<Self::T, ParquetError> {
        Ok(self.0.buffered(start, self.0.bytes(), COPY_BYTES))
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        self.0.get_bytes(start, length)
    }
}

/// A file whose footer was read.
struct Opened {
    file: StoredFile,
    metadata: ArrowReaderMetadata,
    /// By column of the Arrow schema: its place below the Parquet schema's root.
    roots: Vec<usize>,
}

impl Opened {
    fn new(file: &File, path: &str, stored: Arc<AtomicU64>) -> Result<Self, Failure> {
        let file = StoredFile::new(file, path, stored)?;
        let not_read = |e: ParquetError| file.failure(format!("the file cannot be read as Parquet: {e}"));
        let mut metadata = ArrowReaderMetadata::load(&file, ArrowReaderOptions::new()).map_err(not_read)?;
        if let Some(schema) = adjusted(metadata.schema(), metadata.parquet_schema()) {
            let options = ArrowReaderOptions::new().with_schema(Arc::new(schema));
            metadata = ArrowReaderMetadata::try_new(metadata.metadata().clone(), options).map_err(not_read)?;
        }
        // A group without fields is no column for Arrow.
        let root = metadata.parquet_schema().root_schema().get_fields();
        let place = |field: &FieldRef| root.iter().position(|of| of.name() == field.name());
        let roots = metadata.schema().fields().iter().filter_map(place).collect();
        Ok(Self { file, metadata, roots })
    }

    fn parquet(&self) -> &ParquetMetaData {
        self.metadata.metadata()
    }

    fn names(&self) -> Vec<String> {
        self.metadata.schema().fields().iter().map(|f| f.name().clone()).collect()
    }

    /// The Parquet type of a column of the Arrow schema.
    fn column(&self, at: usize) -> &Type {
        &self.metadata.parquet_schema().root_schema().get_fields()[self.roots[at]]
    }

    fn group_rows(&self, group: usize) -> u64 {
        u64::try_from(self.parquet().row_group(group).num_rows()).unwrap_or(0)
    }

    /// The row groups that are meant.
    fn groups(&self, range: Option<FileRange>) -> Result<Range<usize>, FormatError> {
        let count = self.parquet().num_row_groups();
        let Some(range) = range else { return Ok(0..count) };
        let groups = range.start as usize..range.end as usize;
        if groups.start > groups.end || groups.end > count {
            let why = format!("row groups {} to {} are wanted, and the file has {count}", range.start, range.end);
            return Err(FormatError::NotTheFormat { why });
        }
        Ok(groups)
    }

    /// What is wrong with wanted columns, before any page is read.
    fn check(&self, columns: &[usize], groups: Range<usize>) -> Result<(), FormatError> {
        let schema = self.metadata.parquet_schema();
        let wanted = self.mask(columns);
        let key_values = self.parquet().file_metadata().key_value_metadata();
        let has_arrow_schema = key_values.is_some_and(|all| all.iter().any(|kv| kv.key == ARROW_SCHEMA_KEY));
        for (leaf, column) in schema.columns().iter().enumerate().filter(|(leaf, _)| wanted.leaf_included(*leaf)) {
            if column.converted_type() == ConvertedType::INTERVAL && !has_arrow_schema {
                let why = format!(
                    "column {:?} is of Parquet's type INTERVAL, which has no form that keeps its months, days and \
                     milliseconds; leave it out of the mapping",
                    column.path().string()
                );
                return Err(FormatError::NotTheFormat { why });
            }
            for group in groups.clone() {
                let (start, length) = place_of(self.parquet().row_group(group).column(leaf));
                let end = start.checked_add(length).and_then(|end| u64::try_from(end).ok());
                if start < MAGIC_BYTES || length < 0 || end.is_none_or(|end| end > self.file.bytes()) {
                    let why = format!(
                        "Parquet row group {group}, column {:?}: its {length} bytes at byte {start} are not in the \
                         file of {} bytes; was it cut off?",
                        column.path().string(),
                        self.file.bytes()
                    );
                    return Err(FormatError::NotTheFormat { why });
                }
            }
        }
        Ok(())
    }

    fn mask(&self, columns: &[usize]) -> ProjectionMask {
        ProjectionMask::roots(self.metadata.parquet_schema(), columns.iter().map(|at| self.roots[*at]))
    }

    /// Rows to decode at once: fewer where they are wide.
    fn rows_at_once(&self, columns: &[usize], groups: Range<usize>) -> usize {
        let wanted = self.mask(columns);
        let (mut rows, mut bytes) = (0, 0);
        for group in groups {
            rows += self.group_rows(group);
            let chunks = self.parquet().row_group(group).columns().iter().enumerate();
            for (_, chunk) in chunks.filter(|(leaf, _)| wanted.leaf_included(*leaf)) {
                // A dictionary may make a column small that is large once it is decoded.
                let decoded = chunk.unencoded_byte_array_data_bytes().unwrap_or(0).max(chunk.uncompressed_size());
                bytes += u64::try_from(decoded).unwrap_or(0);
            }
        }
        let row_bytes = (bytes / rows.max(1)).max(1);
        (DECODED_BYTES / row_bytes).clamp(16, BATCH_ROWS as u64) as usize
    }

    /// Decodes columns of row groups, without the first `skipped` rows.
    fn decoded(&self, columns: &[usize], groups: Range<usize>, skipped: u64) -> Result<GroupBatches, Failure> {
        self.check(columns, groups.clone()).map_err(|e| e.judged(self.file.path()))?;
        let rows_at_once = self.rows_at_once(columns, groups.clone());
        let mut skipped = skipped;
        let mut left: Vec<(usize, u64)> = groups.map(|group| (group, self.group_rows(group))).collect();
        // Whole row groups are passed over unread.
        while let Some((_, rows)) = left.first()
            && *rows <= skipped
        {
            skipped -= rows;
            left.remove(0);
        }
        let reader = match left.is_empty() {
            true => None,
            false => {
                let mut builder =
                    ParquetRecordBatchReaderBuilder::new_with_metadata(self.file.clone(), self.metadata.clone())
                        .with_projection(self.mask(columns))
                        .with_row_groups(left.iter().map(|(group, _)| *group).collect())
                        .with_batch_size(rows_at_once);
                if skipped > 0 {
                    builder = builder.with_offset(skipped as usize);
                }
                let not_read = |e: ParquetError| self.file.failure(format!("the file cannot be read as Parquet: {e}"));
                Some(builder.build().map_err(not_read)?)
            }
        };
        Ok(GroupBatches { reader, file: self.file.clone(), groups: left, row: skipped })
    }
}

/// Where a column's pages stand: offset and length.
fn place_of(chunk: &ColumnChunkMetaData) -> (i64, i64) {
    (chunk.dictionary_page_offset().unwrap_or_else(|| chunk.data_page_offset()), chunk.compressed_size())
}

/// Decoded row groups. Tells in which one an error arose, and notices rows that are missing.
struct GroupBatches {
    reader: Option<ParquetRecordBatchReader>,
    file: StoredFile,
    groups: Vec<(usize, u64)>,
    /// Rows of `groups` that have passed.
    row: u64,
}

impl GroupBatches {
    fn error(&self, cause: &str) -> ArrowError {
        if let Some(trouble) = self.file.trouble() {
            return ArrowError::ExternalError(Box::new(trouble));
        }
        let mut before = 0;
        let group = self.groups.iter().find(|(_, rows)| {
            before += rows;
            self.row < before
        });
        let place =
            group.map_or_else(|| "after the last row group".to_owned(), |(group, _)| format!("row group {group}"));
        ArrowError::ParquetError(format!("{place}: {cause}"))
    }
}

impl Iterator for GroupBatches {
    type Item = Result<RecordBatch, ArrowError>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.reader.as_mut()?.next() {
            Some(Ok(batch)) => {
                self.row += batch.num_rows() as u64;
                Some(Ok(batch))
            }
            Some(Err(error)) => {
                self.reader = None;
                Some(Err(self.error(&error.to_string())))
            }
            None => {
                self.reader = None;
                let rows: u64 = self.groups.iter().map(|(_, rows)| rows).sum();
                let why = format!("the file ends after {} of {rows} rows", self.row);
                (self.row != rows).then(|| Err(self.error(&why)))
            }
        }
    }
}

/// The Arrow schema with what Parquet's own types say better than their usual Arrow ones; `None` if that is nothing.
///
/// INT96 holds times that 64 bits of nanoseconds do not: they are read as microseconds. An ENUM is text, a UUID is no
/// string of bytes.
fn adjusted(schema: &Schema, parquet: &SchemaDescriptor) -> Option<Schema> {
    let mut adjusting = Adjusting { parquet, leaf: 0, has_changed: false };
    let fields: Vec<FieldRef> = schema.fields().iter().map(|field| adjusting.field(field)).collect();
    // Should the two schemas not agree, nothing can be said.
    let is_sure = adjusting.leaf == parquet.num_columns();
    (adjusting.has_changed && is_sure).then(|| Schema::new_with_metadata(fields, schema.metadata().clone()))
}

struct Adjusting<'p> {
    parquet: &'p SchemaDescriptor,
    /// The Parquet column that comes next.
    leaf: usize,
    has_changed: bool,
}

impl Adjusting<'_> {
    fn field(&mut self, field: &FieldRef) -> FieldRef {
        let data_type = match field.data_type() {
            DataType::List(item) => DataType::List(self.field(item)),
            DataType::LargeList(item) => DataType::LargeList(self.field(item)),
            DataType::FixedSizeList(item, size) => DataType::FixedSizeList(self.field(item), *size),
            DataType::ListView(item) => DataType::ListView(self.field(item)),
            DataType::LargeListView(item) => DataType::LargeListView(self.field(item)),
            DataType::Map(entries, sorted) => DataType::Map(self.field(entries), *sorted),
            DataType::Struct(fields) => DataType::Struct(fields.iter().map(|f| self.field(f)).collect()),
            _ => return self.leaf(field),
        };
        if data_type == *field.data_type() {
            field.clone()
        } else {
            Arc::new(Field::clone(field).with_data_type(data_type))
        }
    }

    fn leaf(&mut self, field: &FieldRef) -> FieldRef {
        let at = self.leaf;
        self.leaf += 1;
        if at >= self.parquet.num_columns() {
            return field.clone();
        }
        let column: &ColumnDescriptor = &self.parquet.columns()[at];
        let is_enum = matches!(column.logical_type_ref(), Some(LogicalType::Enum))
            || column.converted_type() == ConvertedType::ENUM;
        let field = match field.data_type() {
            DataType::Timestamp(TimeUnit::Nanosecond, zone) if column.physical_type() == PhysicalType::INT96 => {
                let data_type = DataType::Timestamp(TimeUnit::Microsecond, zone.clone());
                Field::clone(field).with_data_type(data_type)
            }
            DataType::Binary if is_enum => Field::clone(field).with_data_type(DataType::Utf8),
            DataType::FixedSizeBinary(16) if matches!(column.logical_type_ref(), Some(LogicalType::Uuid)) => {
                let mut field = Field::clone(field);
                field.metadata_mut().insert("ARROW:extension:name", "arrow.uuid");
                field
            }
            _ => return field.clone(),
        };
        self.has_changed = true;
        Arc::new(field)
    }
}

/// A reader of a file's rows, or of those of some row groups. Only wanted columns are decoded.
pub fn reader(
    file: &File,
    stored: Arc<AtomicU64>,
    settings: &ColumnSettings<'_>,
    range: Option<FileRange>,
) -> Result<ColumnReader<'static>, Failure> {
    let opened = Opened::new(file, &settings.path, stored)?;
    let wanted = Wanted::of(&opened.names(), settings).map_err(|e| settings.failure(&e))?;
    let groups = opened.groups(range).map_err(|e| settings.failure(&e))?;
    let batches = opened.decoded(&wanted.columns, groups, settings.first_row)?;
    let schema = projected(opened.metadata.schema(), &wanted.columns);
    ColumnReader::new("Parquet", schema, Box::new(batches), wanted, settings)
}

fn projected(schema: &Schema, columns: &[usize]) -> SchemaRef {
    Arc::new(Schema::new(columns.iter().map(|at| schema.fields()[*at].clone()).collect::<Vec<FieldRef>>()))
}

/// A file's columns, with the types of the table's columns that are made for them.
pub fn sample(file: &File, path: &str) -> Result<Vec<SampleColumn>, Failure> {
    let opened = Opened::new(file, path, Arc::default())?;
    let fields = opened.metadata.schema().fields().iter().enumerate();
    Ok(fields
        .map(|(at, field)| {
            let kind = match logical_type(opened.column(at)) {
                Some(LogicalType::Json) => ScalarType::Dynamic,
                Some(LogicalType::Uuid) => ScalarType::Guid,
                _ => scalar_of(field.data_type()),
            };
            SampleColumn {
                name: field.name().clone(),
                kind: kind.to_string(),
                is_added: false,
                reads_as: reads_as(opened.column(at)),
            }
        })
        .collect())
}

/// Sizes of a file's row groups in bytes as stored, in order.
pub fn group_bytes(file: &File, path: &str) -> Result<Vec<u64>, Failure> {
    let opened = Opened::new(file, path, Arc::default())?;
    let groups = opened.parquet().row_groups().iter();
    Ok(groups.map(|group| u64::try_from(group.compressed_size()).unwrap_or(0)).collect())
}

fn logical_type(column: &Type) -> Option<LogicalType> {
    let info = column.get_basic_info();
    if info.repetition() == Repetition::REPEATED {
        return Some(LogicalType::List);
    }
    info.logical_type_ref().cloned().or(match info.converted_type() {
        ConvertedType::UTF8 => Some(LogicalType::String),
        ConvertedType::JSON => Some(LogicalType::Json),
        ConvertedType::BSON => Some(LogicalType::Bson),
        ConvertedType::ENUM => Some(LogicalType::Enum),
        ConvertedType::LIST => Some(LogicalType::List),
        ConvertedType::MAP | ConvertedType::MAP_KEY_VALUE => Some(LogicalType::Map),
        ConvertedType::DATE => Some(LogicalType::Date),
        ConvertedType::TIME_MILLIS => Some(LogicalType::time(true, ::parquet::basic::TimeUnit::MILLIS)),
        ConvertedType::TIME_MICROS => Some(LogicalType::time(true, ::parquet::basic::TimeUnit::MICROS)),
        ConvertedType::TIMESTAMP_MILLIS => Some(LogicalType::timestamp(true, ::parquet::basic::TimeUnit::MILLIS)),
        ConvertedType::TIMESTAMP_MICROS => Some(LogicalType::timestamp(true, ::parquet::basic::TimeUnit::MICROS)),
        ConvertedType::DECIMAL => Some(LogicalType::decimal(column.get_scale(), column.get_precision())),
        ConvertedType::UINT_64 => Some(LogicalType::integer(64, false)),
        _ => None,
    })
}

/// The types of table columns that the cluster fills by itself from a column of a Parquet file; of any other it makes
/// nulls, without a word.
///
/// Source: Azure Data Explorer, "Parquet type mapping". What its table does not name is taken for not read.
pub fn reads_as(column: &Type) -> Vec<ScalarType> {
    use ScalarType::{Bool, DateTime, Decimal, Dynamic, Guid, Int, Long, Real, String};
    const NUMBERS: [ScalarType; 6] = [Bool, Int, Long, Real, Decimal, String];
    let logical = logical_type(column);
    if column.is_group() || matches!(logical, Some(LogicalType::List | LogicalType::Map)) {
        return vec![Dynamic];
    }
    match (column.get_physical_type(), logical) {
        (PhysicalType::BOOLEAN, None) => vec![Bool, Decimal],
        (PhysicalType::INT32 | PhysicalType::INT64, Some(LogicalType::Date | LogicalType::Timestamp(_))) => {
            vec![DateTime, String]
        }
        (PhysicalType::INT64, Some(LogicalType::Integer(int))) if !int.is_signed && int.bit_width == 64 => {
            vec![Bool, Int, Long, Decimal, String]
        }
        (PhysicalType::INT32 | PhysicalType::INT64, None | Some(LogicalType::Integer(_) | LogicalType::Decimal(_)))
        | (PhysicalType::FLOAT | PhysicalType::DOUBLE, None) => NUMBERS.to_vec(),
        (PhysicalType::FIXED_LEN_BYTE_ARRAY, Some(LogicalType::Decimal(_))) => vec![Long, Real, Decimal, String],
        (PhysicalType::FIXED_LEN_BYTE_ARRAY, Some(LogicalType::Uuid)) => vec![String, Guid],
        (PhysicalType::BYTE_ARRAY, Some(LogicalType::Decimal(_))) => vec![Bool, Long, Real, Decimal, String, Dynamic],
        (PhysicalType::BYTE_ARRAY, Some(LogicalType::String)) => vec![Int, Long, Real, Decimal, String, Dynamic],
        (PhysicalType::BYTE_ARRAY, Some(LogicalType::Json)) => vec![String, Dynamic],
        _ => Vec::new(),
    }
}

/// A Parquet type as people name it.
fn described(column: &Type) -> String {
    let logical = logical_type(column).map(|logical| {
        let text = format!("{logical:?}");
        text.split(['(', ' ', '{']).next().unwrap_or_default().to_uppercase()
    });
    match (column.is_group(), logical) {
        (true, logical) => logical.unwrap_or_else(|| "STRUCT".to_owned()),
        (false, None) => format!("{:?}", column.get_physical_type()),
        (false, Some(logical)) => format!("{:?} ({logical})", column.get_physical_type()),
    }
}

/// A file that is staged as it is, or in pieces of whole row groups.
pub struct AsIs {
    opened: Opened,
    groups: Range<usize>,
}

impl AsIs {
    /// Opens a file, or some of its row groups, and looks whether the cluster reads every wanted column as the plan has
    /// it. With `check_values` wanted values are looked at, too; then nothing is staged of a file that has a bad one.
    pub fn open(
        file: &File,
        stored: Arc<AtomicU64>,
        path: &str,
        plan: &CopyPlan,
        facts: &FileFacts,
        check_values: bool,
        range: Option<FileRange>,
    ) -> Result<Self, Failure> {
        let judged = |e: FormatError| e.judged(path);
        let opened = Opened::new(file, path, stored)?;
        let groups = opened.groups(range).map_err(judged)?;
        let names = opened.names();
        // Holds the names against the plan.
        Projection::of_fields(plan, Some(&names), facts, check_values, None).map_err(judged)?;
        let mut columns = Vec::new();
        for column in &plan.columns {
            let Some(at) = source_of(column, &names, facts).map_err(judged)? else { continue };
            let is_whole = !matches!(&column.source, ColumnFrom::Path(path) if is_deep(path));
            if let Some(kind) = column.kind.filter(|_| is_whole)
                && !reads_as(opened.column(at)).contains(&kind)
            {
                let why = format!(
                    "column {:?} of the table is of type {kind}, and the cluster makes no such values of {}, which \
                     column {:?} of the file is",
                    column.name,
                    described(opened.column(at)),
                    names[at]
                );
                return Err(judged(FormatError::Header { why }));
            }
            columns.push((at, column, is_whole));
        }
        let this = Self { opened, groups };
        let mut all: Vec<usize> = (0..names.len()).collect();
        all.retain(|at| columns.iter().any(|(of, ..)| of == at));
        this.opened.check(&all, this.groups.clone()).map_err(judged)?;
        if check_values && !all.is_empty() {
            this.check_values(plan, &columns, &all)?;
        }
        Ok(this)
    }

    /// Rows of what is staged.
    pub fn rows(&self) -> u64 {
        self.groups.clone().map(|group| self.opened.group_rows(group)).sum()
    }

    /// Decodes all wanted pages, and judges what may not fit.
    fn check_values(
        &self,
        plan: &CopyPlan,
        columns: &[(usize, &CopyColumn, bool)],
        decoded: &[usize],
    ) -> Result<(), Failure> {
        let outs: Vec<(usize, Out)> = columns
            .iter()
            .filter_map(|(at, column, is_whole)| {
                let place = decoded.binary_search(at).ok()?;
                // What lies deep in a record has the length of the record at most.
                let kind = column.kind.filter(|_| *is_whole).unwrap_or(ScalarType::Dynamic);
                let check = Some(Check::new(kind, None, &plan.conversion));
                Some((place, Out { column: column.name.clone(), source: Source::Field(*at as u32), check }))
            })
            .collect();
        let schema = self.opened.metadata.schema();
        let (mut row, mut text, mut scratch) = (0, Vec::new(), Vec::new());
        for batch in self.opened.decoded(decoded, self.groups.clone(), 0)? {
            let batch = batch.map_err(|e| self.failure(e))?;
            for (place, out) in &outs {
                let array = batch.column(*place);
                let cells = CellWriter::new(array, schema.field(decoded[*place])).map_err(|e| self.failure(e))?;
                let Some(check) = &out.check else { continue };
                let fits = surely_fits(array.data_type(), check.kind) || *array.data_type() == DataType::Boolean;
                if fits && cells.is_plain() {
                    continue;
                }
                let is_text = scalar_of(array.data_type()) == ScalarType::String;
                for number in 0..batch.num_rows() {
                    let at = Place { byte: row + number as u64, line: row + number as u64 + 1 };
                    judge(&cells, number, out, check, is_text, at, &mut text, &mut scratch)
                        .map_err(|e| e.judged(self.opened.file.path()))?;
                }
            }
            row += batch.num_rows() as u64;
        }
        Ok(())
    }

    fn failure(&self, error: ArrowError) -> Failure {
        match error {
            ArrowError::ExternalError(error) => match error.downcast::<crate::read::ReadError>() {
                Ok(error) => (*error).into(),
                Err(error) => self.opened.file.failure(error.to_string()),
            },
            other => self.opened.file.failure(format!("the file cannot be read as Parquet: {other}")),
        }
    }

    /// Row groups that are staged together, in pieces of at most `chunk_bytes_max`. The same file and the same limit
    /// give the same pieces. None if there are no rows.
    pub fn pieces(&self, chunk_bytes_max: u64) -> Vec<Range<usize>> {
        if self.rows() == 0 {
            return Vec::new();
        }
        if self.is_whole(&self.groups) && self.opened.file.bytes() <= chunk_bytes_max {
            return vec![self.groups.clone()];
        }
        let mut pieces: Vec<Range<usize>> = Vec::new();
        let mut bytes = 0;
        for group in self.groups.clone() {
            let of_group = u64::try_from(self.opened.parquet().row_group(group).compressed_size()).unwrap_or(0);
            bytes += of_group;
            match pieces.last_mut() {
                Some(piece) if bytes <= chunk_bytes_max => piece.end = group + 1,
                _ => {
                    pieces.push(group..group + 1);
                    bytes = of_group;
                }
            }
        }
        pieces
    }

    fn is_whole(&self, piece: &Range<usize>) -> bool {
        *piece == (0..self.opened.parquet().num_row_groups())
    }

    /// Writes a piece as a Parquet file: the whole file byte by byte, or some of its row groups, whose pages are copied
    /// as they are. Returns its rows.
    ///
    /// A new file has neither page indexes nor Bloom filters: nobody asks for them in ingestion.
    pub fn write_piece(&self, piece: &Range<usize>, out: &mut (dyn Write + Send)) -> Result<u64, Failure> {
        if self.is_whole(piece) {
            self.copy(out)?;
        } else {
            self.splice(piece, out).map_err(|error| match error {
                ParquetError::External(cause) => match cause.downcast::<io::Error>() {
                    Ok(cause) if !matches!(cause.kind(), io::ErrorKind::UnexpectedEof) => self.not_written(&cause),
                    Ok(cause) => self.opened.file.failure(cause.to_string()),
                    Err(cause) => self.opened.file.failure(cause.to_string()),
                },
                other => self.opened.file.failure(format!("row groups cannot be copied: {other}")),
            })?;
        }
        Ok(piece.clone().map(|group| self.opened.group_rows(group)).sum())
    }

    fn not_written(&self, error: &io::Error) -> Failure {
        if let Some(trouble) = self.opened.file.trouble() {
            return trouble.into();
        }
        let message = format!("{}: writing the staged Parquet file failed: {error}", self.opened.file.path());
        Failure::new(Code::StagingFailed, Fault::Sink, Retry::Backoff, message)
    }

    fn copy(&self, out: &mut (dyn Write + Send)) -> Result<(), Failure> {
        let file = &self.opened.file;
        let mut from = file.part(0, file.bytes());
        let mut buffer = vec![0; COPY_BYTES];
        let mut copied = 0;
        loop {
            let read = from.read(&mut buffer).map_err(|e| file.failure(e.to_string()))?;
            if read == 0 {
                break;
            }
            out.write_all(&buffer[..read]).map_err(|e| self.not_written(&e))?;
            copied += read as u64;
        }
        if copied < file.bytes() {
            return Err(file.failure(format!("the file ends after {copied} of its {} bytes", file.bytes())));
        }
        Ok(())
    }

    fn splice(&self, piece: &Range<usize>, out: &mut (dyn Write + Send)) -> Result<(), ParquetError> {
        let metadata = self.opened.parquet();
        let about = metadata.file_metadata();
        let properties = WriterProperties::builder()
            .set_key_value_metadata(about.key_value_metadata().cloned())
            .set_statistics_enabled(EnabledStatistics::Chunk)
            .set_offset_index_disabled(true)
            .build();
        let schema = about.schema_descr().root_schema_ptr();
        let mut writer = SerializedFileWriter::new(out, schema, Arc::new(properties))?;
        for group in piece.clone() {
            let mut copy = writer.next_row_group()?;
            for chunk in metadata.row_group(group).columns() {
                copy.append_column(
                    &InLargeSteps(&self.opened.file),
                    ColumnCloseResult {
                        bytes_written: u64::try_from(chunk.compressed_size())?,
                        rows_written: self.opened.group_rows(group),
                        metadata: chunk.clone(),
                        bloom_filter: None,
                        column_index: None,
                        offset_index: None,
                    },
                )?;
            }
            copy.close()?;
        }
        writer.close()?;
        Ok(())
    }
}

/// Steps lead from the path's first property into a record.
fn is_deep(path: &str) -> bool {
    JsonPath::parse(path).is_some_and(|path| path.steps.len() > 1)
}

/// The file's column that a column of the plan comes from.
fn source_of(column: &CopyColumn, names: &[String], facts: &FileFacts) -> Result<Option<usize>, FormatError> {
    let named = |name: &str| names.iter().position(|n| n == name);
    match &column.source {
        ColumnFrom::Name(name) if facts.added.iter().any(|(added, _)| added == name) => {
            let why = format!("column {name:?} is no column of the file, which is staged as it is");
            Err(FormatError::Header { why })
        }
        ColumnFrom::Name(name) => Ok(named(name)),
        ColumnFrom::Ordinal(at) => Ok(Some(*at as usize).filter(|at| *at < names.len())),
        ColumnFrom::Path(path) => {
            Ok(JsonPath::parse(path).as_ref().and_then(JsonPath::head).and_then(|(name, _)| named(name)))
        }
    }
}

/// Judges a value that the cluster is to convert. A form that must be changed first will do only if the cluster is
/// known to change it: a longer text is cut, digits below 100 ns are dropped.
#[expect(clippy::too_many_arguments, reason = "buffers are handed in, so that they are kept from value to value")]
fn judge(
    cells: &CellWriter,
    row: usize,
    out: &Out,
    check: &Check,
    is_text: bool,
    at: Place,
    text: &mut Vec<u8>,
    scratch: &mut Vec<u8>,
) -> Result<(), FormatError> {
    text.clear();
    let value = match cells.borrowed(row) {
        Some(value) => value,
        None => match cells.text(row, text) {
            Ok(true) => text.as_slice(),
            Ok(false) => return Ok(()),
            Err(why) => return Err(out.bad(text, at, &why)),
        },
    };
    match check.judge(value, scratch) {
        Verdict::Fits => Ok(()),
        Verdict::Becomes if !is_text || check.takes_any_text() => Ok(()),
        Verdict::Becomes => Err(out.bad(value, at, "has a form that the cluster may not read in Parquet")),
        Verdict::Bad(why) => Err(out.bad(value, at, why)),
    }
}

#[cfg(test)]
mod tests;
