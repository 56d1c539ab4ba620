//! Apache ORC.
//!
//! The library that decodes it builds on an older release of Arrow, so each of its arrays is copied into one of ours.
//! It takes files at their word and panics where they lie: what it says by a panic is an error here.

use super::{
    FormatError,
    columns::{BATCH_ROWS, ColumnReader, ColumnSettings, StoredFile, StoredPart, Wanted},
};
use crate::convert::scalar_of;
use arrow::{
    array::{
        Array as _, ArrayRef, BinaryArray, BooleanArray, Decimal128Array, ListArray, MapArray, PrimitiveArray,
        StringArray, StructArray, TimestampMicrosecondArray, TimestampNanosecondArray, UnionArray,
    },
    buffer::{Buffer, NullBuffer, OffsetBuffer},
    datatypes::{
        DataType, Date32Type, Field, FieldRef, Fields, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type,
        Int64Type, Schema, TimeUnit, UnionFields, UnionMode,
    },
    error::ArrowError,
    record_batch::RecordBatch,
};
use arrow_59::{
    array::{Array as _, ArrayRef as OldArray, AsArray as _},
    datatypes as old,
};
use bytes::Bytes;
use ferry_common::{failure::Failure, unit::SampleColumn};
use jiff::{SignedDuration, civil};
use orc_rust::{
    arrow_reader::{ArrowReader, ArrowReaderBuilder},
    projection::ProjectionMask,
    reader::ChunkReader,
    schema::{DataType as OrcType, NamedColumn},
};
use std::{
    fs::File,
    io::{self, BufReader},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, atomic::AtomicU64},
};

/// How a file begins.
const MAGIC: &[u8] = b"ORC";
/// Digits of the decimals as which times are read, and how many of them are fractions of a second: the library's only
/// form that holds every time.
const TIME_DIGITS: (u8, i8) = (38, 9);
/// Bytes of decoded values at once, about.
const DECODED_BYTES: u64 = 8 << 20;
/// How much larger values are than their bytes in the file, about.
const EXPANSION: u64 = 4;
const NANOSECONDS: i128 = 1_000_000_000;

impl ChunkReader for StoredFile {
    type T = BufReader<StoredPart>;

    fn len(&self) -> u64 {
        self.bytes()
    }

    fn get_read(&self, offset: u64) -> io::Result<Self::T> {
        Ok(BufReader::new(self.part(offset, self.bytes())))
    }

    fn get_bytes(&self, offset: u64, length: u64) -> io::Result<Bytes> {
        self.exactly(offset, usize::try_from(length).unwrap_or(usize::MAX))
    }
}

/// What the library does, with a panic of its as an error.
fn guarded<T>(work: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| Err("its content contradicts itself".to_owned()))
}

/// A file whose footer was read.
struct Opened {
    file: StoredFile,
    builder: ArrowReaderBuilder<StoredFile>,
}

impl Opened {
    fn new(file: &File, path: &str, stored: Arc<AtomicU64>) -> Result<Self, Failure> {
        let file = StoredFile::new(file, path, stored)?;
        let not_read = |why: String| file.failure(format!("the file cannot be read as ORC: {why}"));
        let magic = file.exactly(0, MAGIC.len()).map_err(|e| not_read(e.to_string()))?;
        if magic != MAGIC {
            return Err(not_read("it does not begin like one".to_owned()));
        }
        let opened = guarded(|| ArrowReaderBuilder::try_new(file.clone()).map_err(|e| e.to_string()));
        let builder = opened.map_err(not_read)?;
        let metadata = builder.file_metadata();
        let rows: u64 = metadata.stripe_metadatas().iter().map(|stripe| stripe.number_of_rows()).sum();
        if rows != metadata.number_of_rows() {
            let why = format!("it says that it has {} rows, and its stripes have {rows}", metadata.number_of_rows());
            return Err(not_read(why));
        }
        Ok(Self { file, builder })
    }

    fn columns(&self) -> &[NamedColumn] {
        self.builder.file_metadata().root_data_type().children()
    }
}

/// A reader of a file's rows. Only wanted columns are decoded.
pub fn reader(
    file: &File,
    stored: Arc<AtomicU64>,
    settings: &ColumnSettings<'_>,
) -> Result<ColumnReader<'static>, Failure> {
    let opened = Opened::new(file, &settings.path, stored)?;
    let names: Vec<String> = opened.columns().iter().map(|c| c.name().to_owned()).collect();
    let wanted = Wanted::of(&names, settings).map_err(|e| settings.failure(&e))?;
    let columns: Vec<NamedColumn> = wanted.columns.iter().map(|at| opened.columns()[*at].clone()).collect();
    let fields: Vec<FieldRef> =
        columns.iter().map(|c| Arc::new(Field::new(c.name(), type_of(c.data_type()), true))).collect();
    let batches = Stripes::new(opened, columns, settings.first_row)
        .map_err(|why| FormatError::NotTheFormat { why }.judged(&settings.path))?;
    ColumnReader::new("ORC", Arc::new(Schema::new(fields)), Box::new(batches), wanted, settings)
}

/// A file's columns, with the types of the table's columns that are made for them.
pub fn sample(file: &File, path: &str) -> Result<Vec<SampleColumn>, Failure> {
    let opened = Opened::new(file, path, Arc::default())?;
    let kind = |column: &NamedColumn| scalar_of(&type_of(column.data_type())).to_string();
    Ok(opened
        .columns()
        .iter()
        .map(|c| SampleColumn { name: c.name().to_owned(), kind: kind(c), is_added: false, reads_as: Vec::new() })
        .collect())
}

/// The rows of a file's stripes.
struct Stripes {
    /// `None` once it has ended.
    reader: Option<ArrowReader<StoredFile>>,
    file: StoredFile,
    columns: Vec<NamedColumn>,
    /// Rows that were decoded, and those there are, both without whole stripes that were passed over.
    row: u64,
    rows: u64,
    /// Rows that are still to be passed over.
    skipped: u64,
}

impl Stripes {
    fn new(opened: Opened, columns: Vec<NamedColumn>, first_row: u64) -> Result<Self, String> {
        let Opened { file, builder } = opened;
        let metadata = builder.file_metadata();
        let (mut skipped, mut rows) = (first_row, 0);
        let mut start = None;
        for stripe in metadata.stripe_metadatas() {
            let of_stripe = stripe.number_of_rows();
            // Whole stripes are passed over unread.
            if start.is_none() && of_stripe <= skipped {
                skipped -= of_stripe;
                continue;
            }
            start.get_or_insert(stripe.offset());
            rows += of_stripe;
        }
        let Some(start) = start else {
            return Ok(Self { reader: None, file, columns, row: 0, rows, skipped });
        };
        let row_bytes = file.bytes().saturating_mul(EXPANSION) / metadata.number_of_rows().max(1);
        let rows_at_once = (DECODED_BYTES / row_bytes.max(1)).clamp(16, BATCH_ROWS as u64) as usize;
        let root = metadata.root_data_type();
        let mask = ProjectionMask::roots(root, columns.iter().map(|c| c.data_type().column_index()));
        let fields = columns
            .iter()
            .map(|column| old::Field::new(column.name(), lossless(&column.data_type().to_arrow_data_type()), true));
        let schema = Arc::new(old::Schema::new(fields.collect::<Vec<_>>()));
        let reader = guarded(|| {
            let builder = builder.with_projection(mask).with_schema(schema).with_batch_size(rows_at_once);
            Ok(builder.with_file_byte_range(start as usize..usize::MAX).build())
        })?;
        Ok(Self { reader: Some(reader), file, columns, row: 0, rows, skipped })
    }

    /// The next rows, as the library decodes them.
    fn decoded(&mut self) -> Result<Option<RecordBatch>, ArrowError> {
        let Self { reader, columns, .. } = self;
        let Some(reader) = reader else { return Ok(None) };
        let decoded = guarded(|| {
            let Some(batch) = reader.next().transpose().map_err(|e| e.to_string())? else { return Ok(None) };
            if batch.num_columns() != columns.len() {
                return Err(format!("{} columns were decoded instead of {}", batch.num_columns(), columns.len()));
            }
            let arrays = batch.columns().iter().zip(columns.iter()).map(|(array, column)| {
                let array = bridged(array, column.data_type()).map_err(|e| e.to_string())?;
                Ok((column.name(), array, true))
            });
            let arrays = arrays.collect::<Result<Vec<_>, String>>()?;
            RecordBatch::try_from_iter_with_nullable(arrays).map(Some).map_err(|e| e.to_string())
        });
        let why = match decoded {
            Ok(Some(batch)) => {
                self.row += batch.num_rows() as u64;
                return Ok(Some(batch));
            }
            Ok(None) if self.row == self.rows => return Ok(None),
            Ok(None) => format!("the file ends after {} of {} rows", self.row, self.rows),
            Err(why) => why,
        };
        Err(match self.file.trouble() {
            Some(trouble) => ArrowError::ExternalError(Box::new(trouble)),
            None => ArrowError::ParseError(why),
        })
    }
}

impl Iterator for Stripes {
    type Item = Result<RecordBatch, ArrowError>;

    fn next(&mut self) -> Option<Self::Item> {
        let batch = self.decoded();
        if !matches!(batch, Ok(Some(_))) {
            self.reader = None;
        }
        let batch = batch.transpose()?;
        Some(batch.map(|batch| {
            let passed = usize::try_from(self.skipped).unwrap_or(usize::MAX).min(batch.num_rows());
            self.skipped -= passed as u64;
            batch.slice(passed, batch.num_rows() - passed)
        }))
    }
}

/// The Arrow type for values of an ORC type. Times may turn out finer; see [`instants`].
fn type_of(of: &OrcType) -> DataType {
    let field = |name: &str, of: &OrcType| Field::new(name, type_of(of), true);
    match of {
        OrcType::Boolean { .. } => DataType::Boolean,
        OrcType::Byte { .. } => DataType::Int8,
        OrcType::Short { .. } => DataType::Int16,
        OrcType::Int { .. } => DataType::Int32,
        OrcType::Long { .. } => DataType::Int64,
        OrcType::Float { .. } => DataType::Float32,
        OrcType::Double { .. } => DataType::Float64,
        OrcType::String { .. } | OrcType::Varchar { .. } | OrcType::Char { .. } => DataType::Utf8,
        OrcType::Binary { .. } => DataType::Binary,
        OrcType::Decimal { precision, scale, .. } => DataType::Decimal128(*precision as u8, *scale as i8),
        OrcType::Timestamp { .. } => DataType::Timestamp(TimeUnit::Microsecond, None),
        OrcType::TimestampWithLocalTimezone { .. } => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        OrcType::Date { .. } => DataType::Date32,
        OrcType::Struct { children, .. } => {
            DataType::Struct(children.iter().map(|c| field(c.name(), c.data_type())).collect())
        }
        OrcType::List { child, .. } => DataType::List(Arc::new(field("item", child))),
        OrcType::Map { key, value, .. } => {
            let entries = Fields::from(vec![field("keys", key).with_nullable(false), field("values", value)]);
            DataType::Map(Arc::new(Field::new("entries", DataType::Struct(entries), false)), false)
        }
        OrcType::Union { variants, .. } => {
            let fields = variants.iter().zip(0..).map(|(of, id): (_, i8)| (id, Arc::new(field("variant", of))));
            DataType::Union(fields.collect(), UnionMode::Sparse)
        }
    }
}

/// The type that the library is asked for: times as decimals, since as anything else it makes nulls or errors of times
/// that 64 bits do not hold.
fn lossless(of: &old::DataType) -> old::DataType {
    let field = |field: &old::FieldRef| -> old::FieldRef {
        Arc::new(old::Field::clone(field).with_data_type(lossless(field.data_type())))
    };
    match of {
        old::DataType::Timestamp(..) => old::DataType::Decimal128(TIME_DIGITS.0, TIME_DIGITS.1),
        old::DataType::List(item) => old::DataType::List(field(item)),
        old::DataType::Struct(fields) => old::DataType::Struct(fields.iter().map(field).collect()),
        old::DataType::Map(entries, sorted) => old::DataType::Map(field(entries), *sorted),
        old::DataType::Union(fields, mode) => {
            old::DataType::Union(fields.iter().map(|(id, of)| (id, field(of))).collect(), *mode)
        }
        other => other.clone(),
    }
}

/// A copy of an array of the library's Arrow.
fn bridged(array: &OldArray, of: &OrcType) -> Result<ArrayRef, ArrowError> {
    let nulls = array.nulls().map(|nulls| nulls.iter().collect::<NullBuffer>());
    let offsets = |offsets: &[i32]| OffsetBuffer::new(offsets.to_vec().into());
    macro_rules! numbers {
        ($old:ty, $new:ty) => {{
            let values = array.as_primitive::<$old>().values().to_vec();
            Arc::new(PrimitiveArray::<$new>::try_new(values.into(), nulls)?)
        }};
    }
    Ok(match of {
        OrcType::Boolean { .. } => Arc::new(BooleanArray::new(array.as_boolean().values().iter().collect(), nulls)),
        OrcType::Byte { .. } => numbers!(old::Int8Type, Int8Type),
        OrcType::Short { .. } => numbers!(old::Int16Type, Int16Type),
        OrcType::Int { .. } => numbers!(old::Int32Type, Int32Type),
        OrcType::Long { .. } => numbers!(old::Int64Type, Int64Type),
        OrcType::Float { .. } => numbers!(old::Float32Type, Float32Type),
        OrcType::Double { .. } => numbers!(old::Float64Type, Float64Type),
        OrcType::Date { .. } => numbers!(old::Date32Type, Date32Type),
        OrcType::String { .. } | OrcType::Varchar { .. } | OrcType::Char { .. } => {
            let texts = array.as_string::<i32>();
            let values = Buffer::from_vec(texts.value_data().to_vec());
            Arc::new(StringArray::try_new(offsets(texts.value_offsets()), values, nulls)?)
        }
        OrcType::Binary { .. } => {
            let bytes = array.as_binary::<i32>();
            let values = Buffer::from_vec(bytes.value_data().to_vec());
            Arc::new(BinaryArray::try_new(offsets(bytes.value_offsets()), values, nulls)?)
        }
        OrcType::Decimal { precision, scale, .. } => {
            let values = array.as_primitive::<old::Decimal128Type>().values().to_vec();
            let decimals = Decimal128Array::try_new(values.into(), nulls)?;
            Arc::new(decimals.with_precision_and_scale(*precision as u8, *scale as i8)?)
        }
        OrcType::Timestamp { .. } => instants(array.as_primitive::<old::Decimal128Type>().values(), nulls, None),
        OrcType::TimestampWithLocalTimezone { .. } => {
            instants(array.as_primitive::<old::Decimal128Type>().values(), nulls, Some("UTC"))
        }
        OrcType::Struct { children, .. } => {
            let columns = array.as_struct().columns().iter().zip(children);
            let columns = columns.map(|(column, of)| {
                let column = bridged(column, of.data_type())?;
                Ok((Field::new(of.name(), column.data_type().clone(), true), column))
            });
            let (fields, columns): (Vec<_>, Vec<_>) =
                columns.collect::<Result<Vec<_>, ArrowError>>()?.into_iter().unzip();
            Arc::new(StructArray::try_new_with_length(fields.into(), columns, nulls, array.len())?)
        }
        OrcType::List { child, .. } => {
            let list = array.as_list::<i32>();
            let items = bridged(list.values(), child)?;
            let field = Arc::new(Field::new("item", items.data_type().clone(), true));
            Arc::new(ListArray::try_new(field, offsets(list.value_offsets()), items, nulls)?)
        }
        OrcType::Map { key, value, .. } => {
            let map = array.as_map();
            let (keys, values) = (bridged(map.keys(), key)?, bridged(map.values(), value)?);
            let fields = Fields::from(vec![
                Field::new("keys", keys.data_type().clone(), false),
                Field::new("values", values.data_type().clone(), true),
            ]);
            let entries = StructArray::try_new(fields.clone(), vec![keys, values], None)?;
            let field = Arc::new(Field::new("entries", DataType::Struct(fields), false));
            Arc::new(MapArray::try_new(field, offsets(map.value_offsets()), entries, nulls, false)?)
        }
        OrcType::Union { variants, .. } => {
            let union = array.as_union();
            let children = variants.iter().zip(0..).map(|(of, id): (_, i8)| bridged(union.child(id), of));
            let children = children.collect::<Result<Vec<_>, _>>()?;
            let fields = children.iter().map(|child| Field::new("variant", child.data_type().clone(), true));
            let fields = UnionFields::try_new(0..children.len() as i8, fields.collect::<Vec<_>>())?;
            Arc::new(UnionArray::try_new(fields, union.type_ids().to_vec().into(), None, children)?)
        }
    })
}

/// Times as the coarsest type that loses nothing of them: microseconds, else nanoseconds, else texts.
fn instants(values: &[i128], nulls: Option<NullBuffer>, zone: Option<&str>) -> ArrayRef {
    let is_null = |row: usize| nulls.as_ref().is_some_and(|nulls| nulls.is_null(row));
    // What stands in the place of a null is anything.
    let values: Vec<i128> = values.iter().enumerate().map(|(row, v)| if is_null(row) { 0 } else { *v }).collect();
    let in_units_of = |nanoseconds: i128| -> Option<Vec<i64>> {
        let value = |v: &i128| if v % nanoseconds == 0 { i64::try_from(v / nanoseconds).ok() } else { None };
        values.iter().map(value).collect()
    };
    if let Some(microseconds) = in_units_of(1_000) {
        return Arc::new(TimestampMicrosecondArray::new(microseconds.into(), nulls).with_timezone_opt(zone));
    }
    if let Some(nanoseconds) = in_units_of(1) {
        return Arc::new(TimestampNanosecondArray::new(nanoseconds.into(), nulls).with_timezone_opt(zone));
    }
    let texts = values.iter().enumerate().map(|(row, v)| (!is_null(row)).then(|| written(*v)));
    Arc::new(texts.collect::<StringArray>())
}

/// A time as text, from its distance to 1970-01-01 UTC.
fn written(nanoseconds: i128) -> String {
    let (seconds, rest) = (nanoseconds.div_euclid(NANOSECONDS), nanoseconds.rem_euclid(NANOSECONDS));
    let time = i64::try_from(seconds).ok().and_then(|seconds| {
        let epoch = civil::date(1970, 1, 1).at(0, 0, 0, 0);
        epoch.checked_add(SignedDuration::new(seconds, rest as i32)).ok()
    });
    time.map_or_else(|| format!("{seconds} s from 1970-01-01"), |time| format!("{time}Z"))
}

#[cfg(test)]
mod tests {
    use super::{
        super::columns::testing::{plan_of, rows_of, settings_of},
        *,
    };
    use crate::convert::{CellWriter, FileFacts};
    use arrow_59::{array as old_array, buffer as old_buffer, record_batch::RecordBatch as OldBatch};
    use ferry_common::{failure::Code, plan::CopyPlan, scalar::ScalarType};
    use orc_rust::{arrow_writer::ArrowWriterBuilder, compression::CompressionType};
    use std::os::unix::fs::FileExt as _;

    fn old_col(array: impl old_array::Array + 'static) -> OldArray {
        Arc::new(array)
    }

    /// A file of seven rows, in stripes of a few rows each.
    fn numbers(compression: Option<CompressionType>) -> File {
        let columns = |rows: std::ops::Range<i64>| -> Vec<(&'static str, OldArray, bool)> {
            let texts = rows.clone().map(|n| (n % 2 == 0).then(|| format!("row {n}")));
            let whole = rows.clone().map(|n| n as f64 / 2.0);
            vec![
                ("n", old_col(old_array::Int64Array::from_iter_values(rows.clone())), true),
                ("t", old_col(texts.collect::<old_array::StringArray>()), true),
                ("f", old_col(old_array::Float64Array::from_iter_values(whole)), true),
                ("b", old_col(old_array::BooleanArray::from_iter(rows.clone().map(|n| Some(n > 3)))), true),
                ("d", old_col(old_array::Date32Array::from_iter_values(rows.clone().map(|n| n as i32))), true),
                ("at", old_col(old_array::TimestampNanosecondArray::from_iter_values(rows)), true),
            ]
        };
        let file = tempfile::tempfile().unwrap();
        let batches = [0..3, 3..5, 5..7].map(|rows| OldBatch::try_from_iter_with_nullable(columns(rows)).unwrap());
        let mut builder = ArrowWriterBuilder::new(file.try_clone().unwrap(), batches[0].schema());
        if let Some(compression) = compression {
            builder = builder.with_compression(compression);
        }
        let mut writer = builder.try_build().unwrap();
        for batch in &batches {
            writer.write(batch).unwrap();
            writer.flush_stripe().unwrap();
        }
        writer.close().unwrap();
        file
    }

    fn read(file: &File, plan: &CopyPlan, first_row: u64) -> Result<Vec<String>, Failure> {
        let facts = FileFacts::default();
        let settings = ColumnSettings { first_row, ..settings_of(plan, &facts) };
        rows_of(reader(file, Arc::default(), &settings)?)
    }

    fn texts(array: ArrayRef) -> Vec<String> {
        let cells = CellWriter::new(&array, &Field::new("c", array.data_type().clone(), true)).unwrap();
        let text = |row| {
            let mut out = Vec::new();
            let has_text = cells.text(row, &mut out).unwrap();
            if has_text { String::from_utf8(out).unwrap() } else { "~".to_owned() }
        };
        (0..array.len()).map(text).collect()
    }

    #[test]
    fn wanted_columns_are_read_from_any_row_on() {
        let plan = plan_of(&[
            ("t", ScalarType::String),
            ("n", ScalarType::Long),
            ("f", ScalarType::Real),
            ("b", ScalarType::Bool),
            ("d", ScalarType::DateTime),
        ]);
        for compression in [None, Some(CompressionType::Zlib), Some(CompressionType::Zstd)] {
            let file = numbers(compression);
            let rows = read(&file, &plan, 0).unwrap();
            assert_eq!(rows[3], ",3,1.5,false,1970-01-04T00:00:00Z");
            assert_eq!(rows[4], "row 4,4,2,true,1970-01-05T00:00:00Z");
            assert_eq!(rows.len(), 7);
            for first in 0..=7 {
                assert_eq!(read(&file, &plan, first).unwrap(), rows[first as usize..], "from row {first}");
            }
        }
    }

    #[test]
    fn times_lose_nothing() {
        let plan = plan_of(&[("at", ScalarType::String)]);
        let rows = read(&numbers(None), &plan, 0).unwrap();
        assert_eq!(rows[..2], ["1970-01-01T00:00:00Z", "1970-01-01T00:00:00.000000001Z"]);
        let last = 253_402_300_799 * NANOSECONDS;
        assert_eq!(texts(instants(&[last, 0], None, None)), ["9999-12-31T23:59:59Z", "1970-01-01T00:00:00Z"]);
        let nulls = Some(NullBuffer::from(vec![true, false]));
        assert_eq!(texts(instants(&[last + 999_999_999, 1], nulls, None)), ["9999-12-31T23:59:59.999999999Z", "~"]);
    }

    #[test]
    fn a_sample_has_every_column() {
        let found: Vec<_> = sample(&numbers(None), "f").unwrap().into_iter().map(|c| (c.name, c.kind)).collect();
        let expected =
            [("n", "long"), ("t", "string"), ("f", "real"), ("b", "bool"), ("d", "datetime"), ("at", "datetime")];
        assert_eq!(found, expected.map(|(name, kind)| (name.to_owned(), kind.to_owned())));
    }

    #[test]
    fn nested_values_cross_over() {
        let int = || Box::new(OrcType::Int { column_index: 1 });
        let text = || Box::new(OrcType::String { column_index: 2 });
        let lists = old_array::ListArray::from_iter_primitive::<old::Int32Type, _, _>([
            Some(vec![Some(1), None]),
            None,
            Some(vec![]),
        ]);
        let of = OrcType::List { column_index: 0, child: int() };
        assert_eq!(texts(bridged(&old_col(lists), &of).unwrap()), ["[1,null]", "~", "[]"]);
        let mut maps =
            old_array::MapBuilder::new(None, old_array::StringBuilder::new(), old_array::Int32Builder::new());
        maps.keys().append_value("a");
        maps.values().append_value(1);
        maps.append(true).unwrap();
        maps.append(false).unwrap();
        let of = OrcType::Map { column_index: 0, key: text(), value: int() };
        assert_eq!(texts(bridged(&old_col(maps.finish()), &of).unwrap()), [r#"{"a":1}"#, "~"]);
        let numbers = old_col(old_array::Int32Array::from(vec![Some(5), None]));
        let names = old_col(old_array::StringArray::from(vec![None, Some("x")]));
        let fields = [(0_i8, numbers.data_type().clone()), (1, names.data_type().clone())];
        let fields = fields.into_iter().map(|(id, of)| (id, Arc::new(old::Field::new("v", of, true))));
        let ids = old_buffer::ScalarBuffer::from(vec![0_i8, 1]);
        let union = old_array::UnionArray::try_new(fields.collect(), ids, None, vec![numbers, names]).unwrap();
        let of = OrcType::Union { column_index: 0, variants: vec![*int(), *text()] };
        assert_eq!(texts(bridged(&old_col(union), &of).unwrap()), ["5", "x"]);
        let decimals = old_array::Decimal128Array::from(vec![123]).with_precision_and_scale(5, 2).unwrap();
        let of = OrcType::Decimal { column_index: 0, precision: 5, scale: 2 };
        assert_eq!(texts(bridged(&old_col(decimals), &of).unwrap()), ["1.23"]);
    }

    #[test]
    fn a_damaged_file_is_told() {
        let file = numbers(Some(CompressionType::Zlib));
        let mut whole = vec![0; file.metadata().unwrap().len() as usize];
        file.read_exact_at(&mut whole, 0).unwrap();
        let mut zeroed = whole.clone();
        zeroed[3..200].fill(0);
        let plan = plan_of(&[("n", ScalarType::Long), ("t", ScalarType::String)]);
        for (case, bytes) in [
            ("empty", b"".as_slice()),
            ("no ORC", b"id,name\n1,2\n".as_slice()),
            ("cut off", &whole[..whole.len() / 2]),
            ("without its first half", &whole[whole.len() / 2..]),
            ("only its beginning", b"ORC".as_slice()),
            ("damaged stripes", &zeroed[..]),
        ] {
            let damaged = tempfile::tempfile().unwrap();
            damaged.write_all_at(bytes, 0).unwrap();
            let failure = read(&damaged, &plan, 0).unwrap_err();
            assert_eq!(failure.code, Code::FormatMismatch, "{case}: {failure}");
            assert!(failure.message.contains("ORC"), "{case}: {failure}");
        }
    }
}
