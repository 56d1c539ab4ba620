//! Parquet and Avro: named, typed columns, taken batch by batch.

use super::{
    IngestError, Target,
    convert::{TICKS, from_parquet, from_texts, nulls, text_at},
    invalid,
    mapping::{Place, Shape, Step},
    open,
};
use crate::{catalogue::Column, extents, types::Kind};
use arrow::{
    array::{Array, ArrayRef, AsArray as _, Int64Array, RecordBatch, StructArray, UInt32Array},
    compute,
    datatypes::{
        DataType, Field, FieldRef, Metadata, Schema, TimeUnit, TimestampMicrosecondType, TimestampNanosecondType,
    },
    error::ArrowError,
};
use arrow_avro::reader::ReaderBuilder;
use parquet::{
    arrow::{
        ProjectionMask,
        arrow_reader::{
            ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder,
        },
    },
    basic::Type as PhysicalType,
    errors::ParquetError,
    schema::types::Type,
};
use std::{
    fs::File,
    io::{BufReader, Read as _, Seek as _, SeekFrom},
    path::Path,
    sync::Arc,
};

#[cfg(test)]
mod tests;

/// Rows of a batch: Arrow's 32-bit offsets hold so many values of 1 MiB.
const BATCH_ROWS: usize = 1024;
/// The mark that ends each block of an Avro file.
const AVRO_MARK_BYTES: u64 = 16;

/// Decodes a Parquet file. Returns the bytes of its columns before compression.
pub(super) fn decode_parquet(from: &Path, mut target: Target<'_>) -> Result<i64, IngestError> {
    let places = target.places(Shape::Columnar)?;
    // What a writer noted of Arrow's types is nothing to the service.
    let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
    let metadata = ArrowReaderMetadata::load(&open(from)?, options).map_err(invalid)?;
    let bytes: i64 = metadata.metadata().row_groups().iter().map(|group| group.total_byte_size()).sum();
    let mut wide = Int96Columns::open(from, &metadata)?;
    let described = metadata.parquet_schema().root_schema_ptr();
    for batch in batches(open(from)?, &metadata, None).map_err(invalid)? {
        let mut batch = batch.map_err(invalid)?;
        if let Some(wide) = &mut wide {
            batch = wide.put_into(&batch).map_err(invalid)?;
        }
        push_batch(&mut target, &places, batch, |array, field, steps, kind| {
            from_parquet(array, field, described_at(&described, steps), kind)
        })?;
    }
    Ok(bytes)
}

/// Decodes an Avro object container. Returns the bytes of the file.
///
/// Values go by their texts, as with JSON: a string becomes a datetime if it reads like one.
pub(super) fn decode_avro(from: &Path, mut target: Target<'_>) -> Result<i64, IngestError> {
    let places = target.places(Shape::Columnar)?;
    let reader =
        ReaderBuilder::new().with_batch_size(BATCH_ROWS).build(BufReader::new(open(from)?)).map_err(invalid)?;
    let bytes = ends_with(from, reader.avro_header().sync()).map_err(invalid)?;
    for batch in reader {
        let batch = batch.map_err(invalid)?;
        push_batch(&mut target, &places, batch, |array, field, _, kind| Ok(from_texts(array, field, kind)))?;
    }
    Ok(bytes)
}

/// Checks that a file's last bytes are a block's mark, and returns its length: the reader stops without a word inside
/// a block that is cut off.
fn ends_with(from: &Path, mark: [u8; AVRO_MARK_BYTES as usize]) -> Result<i64, std::io::Error> {
    let mut file = File::open(from)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(AVRO_MARK_BYTES)))?;
    let mut end = [0; AVRO_MARK_BYTES as usize];
    file.read_exact(&mut end)?;
    if end == mark { Ok(length as i64) } else { Err(std::io::Error::other("the file ends inside a block")) }
}

/// Adds the rows of a batch. `convert` makes a column of the table out of an array, its field and its path.
fn push_batch(
    target: &mut Target<'_>,
    places: &[Place],
    batch: RecordBatch,
    convert: impl Fn(&dyn Array, &Field, &[Step], Kind) -> Result<ArrayRef, ArrowError>,
) -> Result<(), IngestError> {
    let (rows, before, location) = (batch.num_rows(), target.writer.rows, target.location);
    let root: ArrayRef = Arc::new(StructArray::from(batch));
    let field = Arc::new(Field::new("$", root.data_type().clone(), false));
    let beside = |place: &Place, column: &Column| {
        let numbers = (before + 1..).take(rows).map(|n| n.to_string());
        let numbers: Vec<String> = if *place == Place::SourceLineNumber { numbers.collect() } else { Vec::new() };
        let text_of = |row: usize| place.beside(location, numbers.get(row).map_or("", String::as_str));
        extents::column(column.kind, (0..rows).map(text_of))
    };
    let columns = places.iter().zip(&target.table.columns).map(|(place, column)| match place {
        Place::Path(steps) => match follow(&root, &field, steps)? {
            Some((array, field)) => convert(array.as_ref(), &field, steps, column.kind),
            None => Ok(nulls(column.kind, rows)),
        },
        place => Ok(beside(place, column)),
    });
    let columns = columns.collect::<Result<Vec<_>, ArrowError>>().map_err(invalid)?;
    Ok(target.writer.push_columns(columns)?)
}

/// What a path leads to, one value a row; `None` where the schema has no such place.
fn follow(array: &ArrayRef, field: &FieldRef, steps: &[Step]) -> Result<Option<(ArrayRef, FieldRef)>, ArrowError> {
    let Some((step, rest)) = steps.split_first() else { return Ok(Some((array.clone(), field.clone()))) };
    let (array, field) = match (array.data_type(), step) {
        (DataType::Struct(fields), Step::Key(name)) => {
            let Some((at, field)) = fields.find(name) else { return Ok(None) };
            let member = array.as_struct().column(at);
            // What is inside a null is null, whatever its own mask says. A union has no mask.
            let member = if array.null_count() == 0 || matches!(field.data_type(), DataType::Union(..)) {
                member.clone()
            } else {
                compute::nullif(member.as_ref(), &compute::is_null(array.as_ref())?)?
            };
            (member, field.clone())
        }
        (DataType::Map(..), Step::Key(name)) => {
            let map = array.as_map();
            let (key, value) = map.entries_fields();
            let is_named = |at: &usize| text_at(map.keys().as_ref(), key, *at).is_some_and(|k| k == name.as_str());
            let place = |row: usize| elements(map.value_offsets(), row).find(is_named);
            (
                taken(map.values(), map.len(), |row| map.is_valid(row).then(|| place(row)).flatten())?,
                Arc::new(value.clone()),
            )
        }
        (DataType::List(element), Step::Element(wanted)) => {
            let list = array.as_list::<i32>();
            let place = |row: usize| elements(list.value_offsets(), row).nth(*wanted);
            (taken(list.values(), list.len(), |row| list.is_valid(row).then(|| place(row)).flatten())?, element.clone())
        }
        _ => return Ok(None),
    };
    follow(&array, &field, rest)
}

/// Where a row's elements are among all rows' elements.
fn elements(offsets: &[i32], row: usize) -> std::ops::Range<usize> {
    offsets[row] as usize..offsets[row + 1] as usize
}

fn taken(values: &ArrayRef, rows: usize, place: impl Fn(usize) -> Option<usize>) -> Result<ArrayRef, ArrowError> {
    let places = UInt32Array::from_iter((0..rows).map(|row| place(row).map(|at| at as u32)));
    compute::take(values.as_ref(), &places, None)
}

/// The file's own type at a path, as far as the path goes through structs.
fn described_at<'t>(root: &'t Type, steps: &[Step]) -> Option<&'t Type> {
    steps.iter().try_fold(root, |described, step| match step {
        Step::Key(name) if described.is_group() => {
            described.get_fields().iter().find(|f| f.name() == name).map(|f| f.as_ref())
        }
        _ => None,
    })
}

fn batches(
    file: File,
    metadata: &ArrowReaderMetadata,
    roots: Option<&[usize]>,
) -> Result<ParquetRecordBatchReader, ParquetError> {
    let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(file, metadata.clone());
    let mask = match roots {
        Some(roots) => ProjectionMask::roots(metadata.parquet_schema(), roots.iter().copied()),
        None => ProjectionMask::all(),
    };
    builder.with_projection(mask).with_batch_size(BATCH_ROWS).build()
}

/// Columns of 96-bit times, read once more: as nanoseconds they wrap around outside 1677 to 2262, as microseconds they
/// lose their last digits. Such times inside lists and structs are left as nanoseconds.
struct Int96Columns {
    /// The columns as microseconds, in step with the batches of the file.
    reader: ParquetRecordBatchReader,
}

impl Int96Columns {
    /// `None` if the file has no such columns.
    fn open(from: &Path, metadata: &ArrowReaderMetadata) -> Result<Option<Self>, IngestError> {
        let described = metadata.parquet_schema().root_schema().get_fields();
        let is_int96 = |f: &Type| f.is_primitive() && f.get_physical_type() == PhysicalType::INT96;
        let nanoseconds = DataType::Timestamp(TimeUnit::Nanosecond, None);
        let mut roots = Vec::new();
        let mut fields = Vec::new();
        for (at, (field, described)) in metadata.schema().fields().iter().zip(described).enumerate() {
            if is_int96(described) && *field.data_type() == nanoseconds {
                roots.push(at);
                fields.push(field.as_ref().clone().with_data_type(DataType::Timestamp(TimeUnit::Microsecond, None)));
            } else {
                fields.push(field.as_ref().clone());
            }
        }
        if roots.is_empty() {
            return Ok(None);
        }
        let options = ArrowReaderOptions::new().with_schema(Arc::new(Schema::new(fields)));
        let metadata = ArrowReaderMetadata::try_new(metadata.metadata().clone(), options).map_err(invalid)?;
        let reader = batches(open(from)?, &metadata, Some(&roots)).map_err(invalid)?;
        Ok(Some(Self { reader }))
    }

    /// The next batch of the file with its 96-bit times as ticks.
    fn put_into(&mut self, batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
        let rough = self.reader.next().transpose()?;
        let rough = rough.ok_or_else(|| ArrowError::ParquetError("columns of different lengths".to_owned()))?;
        let mut fields = batch.schema().fields().to_vec();
        let mut columns = batch.columns().to_vec();
        for (field, rough) in rough.schema().fields().iter().zip(rough.columns()) {
            let at = batch.schema().index_of(field.name())?;
            let exact = columns[at].as_primitive::<TimestampNanosecondType>();
            let ticks = rough.as_primitive::<TimestampMicrosecondType>().iter().zip(exact).map(|(rough, exact)| {
                let (rough, exact) = (rough?, exact?);
                // The nanoseconds are right where they and the microseconds are the same time.
                if exact.div_euclid(1000) == rough { Some(exact.div_euclid(100)) } else { rough.checked_mul(10) }
            });
            columns[at] = Arc::new(Int64Array::from_iter(ticks));
            let marked = Metadata::from([(TICKS, "")]);
            fields[at] = Arc::new(Field::new(field.name(), DataType::Int64, true).with_metadata(marked));
        }
        RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)
    }
}
