//! Rows of extents: Parquet files, written once and read column by column.

use crate::{
    catalogue::Column,
    error::AdxError,
    frame::{Col, Frame, data_type},
    kql::null_column,
    types::Kind,
};
use arrow::{
    array::{ArrayRef, BooleanBuilder, Float64Builder, Int64Builder, RecordBatch, StringBuilder},
    datatypes::{Field, Schema, SchemaRef},
};
use parquet::{
    arrow::{ArrowWriter, ProjectionMask, arrow_reader::ParquetRecordBatchReaderBuilder},
    basic::Compression,
    file::properties::WriterProperties,
};
use std::{collections::BTreeSet, fs::File, path::Path, sync::Arc};

/// Rows that are gathered before they are written.
const BATCH_ROWS: usize = 64 * 1024;
/// Bytes of text that are gathered before they are written: far from what 32-bit offsets can hold.
const BATCH_BYTES: usize = 64 << 20;
const READ_ROWS: usize = 256 * 1024;
/// Largest string or dynamic, in bytes of UTF-8: a longer string is cut, a longer dynamic is null, without a word.
///
/// Source: Azure Data Explorer, encoding policy: `MaxValueSize` is 1 MiB where a column has no policy of its own.
pub const VALUE_BYTES_MAX: usize = 1 << 20;

fn schema(columns: &[Column]) -> SchemaRef {
    Arc::new(Schema::new(columns.iter().map(|c| Field::new(&c.name, data_type(c.kind), true)).collect::<Vec<_>>()))
}

/// Values of a column while they are gathered.
enum Gather {
    Bool(BooleanBuilder),
    Integral(Int64Builder),
    Real(Float64Builder),
    Text(StringBuilder),
}

/// Writes the rows of one extent.
pub struct ExtentWriter {
    writer: ArrowWriter<File>,
    schema: SchemaRef,
    kinds: Vec<Kind>,
    gathered: Vec<Gather>,
    waiting: usize,
    waiting_bytes: usize,
    /// Rows so far.
    pub rows: i64,
}

impl ExtentWriter {
    /// A new file at `path`.
    pub fn create(path: &Path, columns: &[Column]) -> Result<Self, AdxError> {
        let schema = schema(columns);
        let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
        let writer = ArrowWriter::try_new(File::create(path)?, schema.clone(), Some(properties))?;
        let kinds: Vec<Kind> = columns.iter().map(|c| c.kind).collect();
        let gathered = kinds.iter().map(|kind| Gather::new(*kind)).collect();
        Ok(Self { writer, schema, kinds, gathered, waiting: 0, waiting_bytes: 0, rows: 0 })
    }

    /// Adds a row of texts. A value that does not fit its column becomes null, without a word: as the service has it.
    pub fn push<'a>(&mut self, values: impl Iterator<Item = Option<&'a str>>) -> Result<(), AdxError> {
        for ((gather, kind), value) in self.gathered.iter_mut().zip(&self.kinds).zip(values) {
            gather.push(*kind, value);
            self.waiting_bytes += value.map_or(0, str::len);
        }
        self.rows += 1;
        self.waiting += 1;
        if self.waiting >= BATCH_ROWS || self.waiting_bytes >= BATCH_BYTES { self.write() } else { Ok(()) }
    }

    /// Adds rows as columns, such as [`column`] makes them: one a column of the table.
    pub fn push_columns(&mut self, columns: Vec<ArrayRef>) -> Result<(), AdxError> {
        if self.waiting > 0 {
            self.write()?;
        }
        let batch = RecordBatch::try_new(self.schema.clone(), columns)?;
        self.rows += batch.num_rows() as i64;
        Ok(self.writer.write(&batch)?)
    }

    fn write(&mut self) -> Result<(), AdxError> {
        (self.waiting, self.waiting_bytes) = (0, 0);
        let arrays = self.gathered.iter_mut().map(Gather::finish).collect();
        Ok(self.writer.write(&RecordBatch::try_new(self.schema.clone(), arrays)?)?)
    }

    /// Ends the file.
    pub fn finish(mut self) -> Result<i64, AdxError> {
        if self.waiting > 0 {
            self.write()?;
        }
        self.writer.close()?;
        Ok(self.rows)
    }
}

/// A column of texts. A text that does not fit the type becomes null, as with [`ExtentWriter::push`].
pub fn column<'a>(kind: Kind, texts: impl IntoIterator<Item = Option<&'a str>>) -> ArrayRef {
    let mut gather = Gather::new(kind);
    for text in texts {
        gather.push(kind, text);
    }
    gather.finish()
}

impl Gather {
    fn new(kind: Kind) -> Self {
        match kind {
            Kind::Bool => Self::Bool(BooleanBuilder::new()),
            Kind::Real => Self::Real(Float64Builder::new()),
            kind if kind.is_integral() => Self::Integral(Int64Builder::new()),
            _ => Self::Text(StringBuilder::new()),
        }
    }

    fn finish(&mut self) -> ArrayRef {
        match self {
            Self::Bool(b) => Arc::new(b.finish()),
            Self::Integral(b) => Arc::new(b.finish()),
            Self::Real(b) => Arc::new(b.finish()),
            Self::Text(b) => Arc::new(b.finish()),
        }
    }

    fn push(&mut self, kind: Kind, value: Option<&str>) {
        use crate::types::{parse_datetime, parse_guid, parse_timespan};
        let value = value.unwrap_or_default();
        let trimmed = value.trim();
        match self {
            Self::Bool(b) => b.append_option(match trimmed.to_ascii_lowercase().as_str() {
                "true" | "1" => Some(true),
                "false" | "0" => Some(false),
                _ => None,
            }),
            Self::Real(b) => b.append_option(trimmed.parse().ok()),
            Self::Integral(b) => b.append_option(match kind {
                Kind::Int => trimmed.parse::<i32>().ok().map(i64::from),
                Kind::Datetime => parse_datetime(trimmed),
                Kind::Timespan => parse_timespan(trimmed),
                _ => trimmed.parse().ok(),
            }),
            Self::Text(b) => match kind {
                Kind::String => b.append_value(&value[..value.floor_char_boundary(VALUE_BYTES_MAX)]),
                Kind::Guid => b.append_option(parse_guid(trimmed)),
                Kind::Decimal => b.append_option(Some(trimmed).filter(|t| t.parse().is_ok_and(f64::is_finite))),
                // Text that is no JSON is kept as a dynamic string.
                _ => b.append_option(Some(value).filter(|v| !v.is_empty() && v.len() <= VALUE_BYTES_MAX)),
            },
        }
    }
}

/// Reads an extent in parts. `wanted`: the columns that are needed; columns that the table got later are null.
pub fn read(
    path: &Path,
    columns: &[Column],
    wanted: Option<&BTreeSet<String>>,
    rows: i64,
) -> Result<Vec<Result<Frame, AdxError>>, AdxError> {
    let columns: Vec<&Column> = columns.iter().filter(|c| wanted.is_none_or(|w| w.contains(&c.name))).collect();
    if columns.is_empty() {
        return Ok(vec![Ok(Frame { rows: usize::try_from(rows).unwrap_or(0), ..Frame::default() })]);
    }
    let builder = ParquetRecordBatchReaderBuilder::try_new(File::open(path)?)?;
    let stored = builder.schema().clone();
    let roots: Vec<usize> = columns.iter().filter_map(|c| stored.index_of(&c.name).ok()).collect();
    let mask = ProjectionMask::roots(builder.parquet_schema(), roots);
    let reader = builder.with_projection(mask).with_batch_size(READ_ROWS).build()?;
    let frame = |batch: RecordBatch| {
        let cols = columns.iter().map(|c| {
            let col = match batch.column_by_name(&c.name) {
                Some(data) => Col { kind: c.kind, data: data.clone() },
                None => null_column(c.kind, batch.num_rows()),
            };
            (c.name.clone(), col)
        });
        Frame { rows: batch.num_rows(), ..Frame::new(cols.collect()) }
    };
    Ok(reader.map(|batch| Ok(frame(batch?))).collect())
}
