//! Values of Arrow columns as text, in the forms in which the cluster reads each type.
//!
//! A column is taken apart once; what is left for each value is to pick its kind and to write it. Nothing is written
//! that reads back as another value: what has no form is an error.

use arrow::{
    array::{
        Array, ArrayRef, AsArray, BinaryArray, BinaryViewArray, FixedSizeBinaryArray, LargeBinaryArray,
        LargeStringArray, StringArray, StringViewArray,
    },
    buffer::{BooleanBuffer, NullBuffer, OffsetBuffer, ScalarBuffer},
    compute::cast,
    datatypes::{
        ArrowPrimitiveType, DataType, Date32Type, Date64Type, Decimal32Type, Decimal64Type, Decimal128Type,
        Decimal256Type, DurationMicrosecondType, DurationMillisecondType, DurationNanosecondType, DurationSecondType,
        Field, Float32Type, Float64Type, Int64Type, IntervalDayTimeType, IntervalMonthDayNanoType, IntervalUnit,
        IntervalYearMonthType, Time32MillisecondType, Time32SecondType, Time64MicrosecondType, Time64NanosecondType,
        TimeUnit, TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType,
        UInt64Type, i256,
    },
    error::ArrowError,
};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use ferry_common::scalar::ScalarType;
use std::ops::Range;

const SECONDS_A_DAY: i64 = 86_400;
const NANOSECONDS: i64 = 1_000_000_000;
/// 0001-01-01 and 9999-12-31, counted from 1970-01-01: what a datetime can hold.
const DAYS: Range<i64> = -719_162..2_932_897;
/// Below this size a whole number is written out, without an exponent.
const WRITTEN_OUT_MAX: f64 = 9e18;

/// One column, prepared for writing its values as text.
#[derive(Debug)]
pub struct CellWriter {
    nulls: Option<NullBuffer>,
    values: Values,
}

/// Values by how they are written.
#[derive(Debug)]
enum Values {
    Null,
    Bool(BooleanBuffer),
    Whole(ScalarBuffer<i64>),
    Unsigned(ScalarBuffer<u64>),
    Float(ScalarBuffer<f32>),
    Double(ScalarBuffer<f64>),
    /// With the number of digits behind the point.
    Decimal(ScalarBuffer<i128>, i8),
    WideDecimal(ScalarBuffer<i256>, i8),
    /// Days since 1970-01-01.
    Days(ScalarBuffer<i32>),
    /// Time since 1970-01-01 UTC, in so many parts of a second.
    Instant(ScalarBuffer<i64>, i64),
    /// A length of time, in so many parts of a second.
    Span(ScalarBuffer<i64>, i64),
    /// Months, days, nanoseconds: of no fixed length.
    Interval(Vec<(i32, i32, i64)>),
    Text(Texts),
    Base64(Bytes),
    Guid(FixedSizeBinaryArray),
    List(Bounds, Box<CellWriter>),
    /// With each field's name as JSON has it, colon included.
    Struct(Vec<(Vec<u8>, CellWriter)>),
    Map(OffsetBuffer<i32>, Box<(CellWriter, CellWriter)>),
    Union(Box<Union>),
    /// Where each value stands among the distinct ones.
    Dictionary(Vec<usize>, Box<CellWriter>),
}

#[derive(Debug)]
enum Texts {
    Small(StringArray),
    Large(LargeStringArray),
    View(StringViewArray),
}

impl Texts {
    fn value(&self, row: usize) -> &str {
        match self {
            Self::Small(array) => array.value(row),
            Self::Large(array) => array.value(row),
            Self::View(array) => array.value(row),
        }
    }
}

#[derive(Debug)]
enum Bytes {
    Small(BinaryArray),
    Large(LargeBinaryArray),
    View(BinaryViewArray),
    Fixed(FixedSizeBinaryArray),
}

impl Bytes {
    fn value(&self, row: usize) -> &[u8] {
        match self {
            Self::Small(array) => array.value(row),
            Self::Large(array) => array.value(row),
            Self::View(array) => array.value(row),
            Self::Fixed(array) => array.value(row),
        }
    }
}

/// Where the elements of a row's list stand.
#[derive(Debug)]
enum Bounds {
    Small(OffsetBuffer<i32>),
    Large(OffsetBuffer<i64>),
    Fixed(usize),
    /// Offsets and sizes.
    View(ScalarBuffer<i32>, ScalarBuffer<i32>),
    LargeView(ScalarBuffer<i64>, ScalarBuffer<i64>),
}

impl Bounds {
    fn of(&self, row: usize) -> Range<usize> {
        match self {
            Self::Small(offsets) => offsets[row] as usize..offsets[row + 1] as usize,
            Self::Large(offsets) => offsets[row] as usize..offsets[row + 1] as usize,
            Self::Fixed(size) => row * size..(row + 1) * size,
            Self::View(offsets, sizes) => offsets[row] as usize..(offsets[row] + sizes[row]) as usize,
            Self::LargeView(offsets, sizes) => offsets[row] as usize..(offsets[row] + sizes[row]) as usize,
        }
    }
}

#[derive(Debug)]
struct Union {
    type_ids: ScalarBuffer<i8>,
    /// Where a row's value stands in its child; `None`: at the row's own number.
    offsets: Option<ScalarBuffer<i32>>,
    children: Vec<(i8, CellWriter)>,
}

impl Union {
    fn value(&self, row: usize) -> Option<(&CellWriter, usize)> {
        let id = self.type_ids[row];
        let (_, child) = self.children.iter().find(|(of, _)| *of == id)?;
        Some((child, self.offsets.as_ref().map_or(row, |o| o[row] as usize)))
    }
}

fn longs<T: ArrowPrimitiveType<Native = i64>>(array: &ArrayRef) -> ScalarBuffer<i64> {
    array.as_primitive::<T>().values().clone()
}

fn widened<T: ArrowPrimitiveType<Native = i32>>(array: &ArrayRef) -> ScalarBuffer<i64> {
    array.as_primitive::<T>().values().iter().map(|v| i64::from(*v)).collect()
}

/// The field holds UUIDs: Arrow's canonical extension type, or what the Avro reader says of one.
fn is_uuid(field: &Field) -> bool {
    field.extension_type_name() == Some("arrow.uuid")
        || field.metadata().get("logicalType").is_some_and(|t| t.as_str() == "uuid")
}

impl Values {
    fn of(array: &ArrayRef, field: &Field) -> Result<Self, ArrowError> {
        let cells = CellWriter::new;
        Ok(match array.data_type() {
            DataType::Null => Self::Null,
            DataType::Boolean => Self::Bool(array.as_boolean().values().clone()),
            DataType::Int64 => Self::Whole(longs::<Int64Type>(array)),
            DataType::Int8
            | DataType::Int16
            | DataType::Int32
            | DataType::UInt8
            | DataType::UInt16
            | DataType::UInt32 => Self::Whole(longs::<Int64Type>(&cast(array, &DataType::Int64)?)),
            DataType::UInt64 => Self::Unsigned(array.as_primitive::<UInt64Type>().values().clone()),
            DataType::Float16 => {
                let wide = cast(array, &DataType::Float32)?;
                Self::Float(wide.as_primitive::<Float32Type>().values().clone())
            }
            DataType::Float32 => Self::Float(array.as_primitive::<Float32Type>().values().clone()),
            DataType::Float64 => Self::Double(array.as_primitive::<Float64Type>().values().clone()),
            DataType::Decimal32(_, scale) => {
                let values = array.as_primitive::<Decimal32Type>().values();
                Self::Decimal(values.iter().map(|v| i128::from(*v)).collect(), *scale)
            }
            DataType::Decimal64(_, scale) => {
                let values = array.as_primitive::<Decimal64Type>().values();
                Self::Decimal(values.iter().map(|v| i128::from(*v)).collect(), *scale)
            }
            DataType::Decimal128(_, scale) => {
                Self::Decimal(array.as_primitive::<Decimal128Type>().values().clone(), *scale)
            }
            DataType::Decimal256(_, scale) => {
                Self::WideDecimal(array.as_primitive::<Decimal256Type>().values().clone(), *scale)
            }
            DataType::Date32 => Self::Days(array.as_primitive::<Date32Type>().values().clone()),
            DataType::Date64 => Self::Instant(longs::<Date64Type>(array), 1_000),
            DataType::Timestamp(TimeUnit::Second, _) => Self::Instant(longs::<TimestampSecondType>(array), 1),
            DataType::Timestamp(TimeUnit::Millisecond, _) => {
                Self::Instant(longs::<TimestampMillisecondType>(array), 1_000)
            }
            DataType::Timestamp(TimeUnit::Microsecond, _) => {
                Self::Instant(longs::<TimestampMicrosecondType>(array), 1_000_000)
            }
            DataType::Timestamp(TimeUnit::Nanosecond, _) => {
                Self::Instant(longs::<TimestampNanosecondType>(array), NANOSECONDS)
            }
            DataType::Time32(TimeUnit::Second) => Self::Span(widened::<Time32SecondType>(array), 1),
            DataType::Time32(_) => Self::Span(widened::<Time32MillisecondType>(array), 1_000),
            DataType::Time64(TimeUnit::Microsecond) => Self::Span(longs::<Time64MicrosecondType>(array), 1_000_000),
            DataType::Time64(_) => Self::Span(longs::<Time64NanosecondType>(array), NANOSECONDS),
            DataType::Duration(TimeUnit::Second) => Self::Span(longs::<DurationSecondType>(array), 1),
            DataType::Duration(TimeUnit::Millisecond) => Self::Span(longs::<DurationMillisecondType>(array), 1_000),
            DataType::Duration(TimeUnit::Microsecond) => Self::Span(longs::<DurationMicrosecondType>(array), 1_000_000),
            DataType::Duration(TimeUnit::Nanosecond) => Self::Span(longs::<DurationNanosecondType>(array), NANOSECONDS),
            DataType::Interval(IntervalUnit::DayTime) => {
                let values = array.as_primitive::<IntervalDayTimeType>().values().iter();
                let milliseconds = |days: i32| i64::from(days) * SECONDS_A_DAY * 1_000;
                Self::Span(values.map(|v| milliseconds(v.days) + i64::from(v.milliseconds)).collect(), 1_000)
            }
            DataType::Interval(IntervalUnit::YearMonth) => {
                let values = array.as_primitive::<IntervalYearMonthType>().values().iter();
                Self::Interval(values.map(|months| (*months, 0, 0)).collect())
            }
            DataType::Interval(IntervalUnit::MonthDayNano) => {
                let values = array.as_primitive::<IntervalMonthDayNanoType>().values().iter();
                Self::Interval(values.map(|v| (v.months, v.days, v.nanoseconds)).collect())
            }
            DataType::Utf8 => Self::Text(Texts::Small(array.as_string::<i32>().clone())),
            DataType::LargeUtf8 => Self::Text(Texts::Large(array.as_string::<i64>().clone())),
            DataType::Utf8View => Self::Text(Texts::View(array.as_string_view().clone())),
            DataType::Binary => Self::Base64(Bytes::Small(array.as_binary::<i32>().clone())),
            DataType::LargeBinary => Self::Base64(Bytes::Large(array.as_binary::<i64>().clone())),
            DataType::BinaryView => Self::Base64(Bytes::View(array.as_binary_view().clone())),
            DataType::FixedSizeBinary(16) if is_uuid(field) => Self::Guid(array.as_fixed_size_binary().clone()),
            DataType::FixedSizeBinary(_) => Self::Base64(Bytes::Fixed(array.as_fixed_size_binary().clone())),
            DataType::List(item) => {
                let list = array.as_list::<i32>();
                Self::List(Bounds::Small(list.offsets().clone()), Box::new(cells(list.values(), item)?))
            }
            DataType::LargeList(item) => {
                let list = array.as_list::<i64>();
                Self::List(Bounds::Large(list.offsets().clone()), Box::new(cells(list.values(), item)?))
            }
            DataType::FixedSizeList(item, size) => {
                let list = array.as_fixed_size_list();
                Self::List(Bounds::Fixed(*size as usize), Box::new(cells(list.values(), item)?))
            }
            DataType::ListView(item) => {
                let list = array.as_list_view::<i32>();
                let bounds = Bounds::View(list.offsets().clone(), list.sizes().clone());
                Self::List(bounds, Box::new(cells(list.values(), item)?))
            }
            DataType::LargeListView(item) => {
                let list = array.as_list_view::<i64>();
                let bounds = Bounds::LargeView(list.offsets().clone(), list.sizes().clone());
                Self::List(bounds, Box::new(cells(list.values(), item)?))
            }
            DataType::Struct(fields) => {
                let columns = array.as_struct().columns().iter();
                let named = columns.zip(fields.iter()).map(|(column, field)| {
                    let mut name = Vec::with_capacity(field.name().len() + 3);
                    quote(field.name(), &mut name).map_err(ArrowError::JsonError)?;
                    name.push(b':');
                    Ok((name, cells(column, field)?))
                });
                Self::Struct(named.collect::<Result<_, ArrowError>>()?)
            }
            DataType::Map(_, _) => {
                let map = array.as_map();
                let (key, value) = map.entries_fields();
                let entries = (cells(map.keys(), key)?, cells(map.values(), value)?);
                Self::Map(map.offsets().clone(), Box::new(entries))
            }
            DataType::Union(fields, _) => {
                let union = array.as_union();
                let children = fields.iter().map(|(id, field)| Ok((id, cells(union.child(id), field)?)));
                Self::Union(Box::new(Union {
                    type_ids: union.type_ids().clone(),
                    offsets: union.offsets().cloned(),
                    children: children.collect::<Result<_, ArrowError>>()?,
                }))
            }
            DataType::Dictionary(_, _) => {
                let dictionary = array.as_any_dictionary();
                if dictionary.values().is_empty() {
                    Self::Null
                } else {
                    Self::Dictionary(dictionary.normalized_keys(), Box::new(cells(dictionary.values(), field)?))
                }
            }
            DataType::RunEndEncoded(_, values) => {
                let flat = cast(array, values.data_type())?;
                Self::Dictionary((0..flat.len()).collect(), Box::new(cells(&flat, values)?))
            }
        })
    }
}

impl CellWriter {
    /// Prepares a column. Bytes that no type calls text become base64.
    pub fn new(array: &ArrayRef, field: &Field) -> Result<Self, ArrowError> {
        Ok(Self { nulls: array.nulls().cloned(), values: Values::of(array, field)? })
    }

    /// The value of this row is null.
    pub fn is_null(&self, row: usize) -> bool {
        self.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row))
            || match &self.values {
                Values::Null => true,
                Values::Dictionary(keys, values) => values.is_null(keys[row]),
                Values::Union(union) => union.value(row).is_none_or(|(child, at)| child.is_null(at)),
                _ => false,
            }
    }

    /// No text of the column holds a comma, a quote, a line end, or blanks at its ends; none is long.
    pub fn is_plain(&self) -> bool {
        match &self.values {
            Values::Null
            | Values::Bool(_)
            | Values::Whole(_)
            | Values::Unsigned(_)
            | Values::Float(_)
            | Values::Double(_)
            | Values::Decimal(..)
            | Values::WideDecimal(..)
            | Values::Days(_)
            | Values::Instant(..)
            | Values::Span(..)
            | Values::Interval(_)
            | Values::Guid(_) => true,
            Values::Dictionary(_, values) => values.is_plain(),
            Values::Text(_)
            | Values::Base64(_)
            | Values::List(..)
            | Values::Struct(_)
            | Values::Map(..)
            | Values::Union(_) => false,
        }
    }

    /// The text of a value that need not be written first; `None` if it must be, or is null.
    pub fn borrowed(&self, row: usize) -> Option<&[u8]> {
        if self.is_null(row) {
            return None;
        }
        match &self.values {
            Values::Text(texts) => Some(texts.value(row).as_bytes()),
            Values::Dictionary(keys, values) => values.borrowed(keys[row]),
            _ => None,
        }
    }

    /// The day of a date or timestamp, counted from 1970-01-01; `None` for null, and for other types.
    pub fn day(&self, row: usize) -> Option<i32> {
        if self.is_null(row) {
            return None;
        }
        let day = match &self.values {
            Values::Days(days) => i64::from(days[row]),
            Values::Instant(values, parts) => values[row].div_euclid(*parts).div_euclid(SECONDS_A_DAY),
            Values::Dictionary(keys, values) => return values.day(keys[row]),
            _ => return None,
        };
        if DAYS.contains(&day) { i32::try_from(day).ok() } else { None }
    }

    /// Appends a value's text, without the quotes of CSV. False: it is null, and nothing was appended.
    ///
    /// An error says what is wrong with the value; the raw value was appended, for the message.
    #[inline]
    pub fn text(&self, row: usize, out: &mut Vec<u8>) -> Result<bool, String> {
        if self.is_null(row) {
            return Ok(false);
        }
        match &self.values {
            Values::Null => return Ok(false),
            Values::Bool(values) => out.extend_from_slice(if values.value(row) { b"true" } else { b"false" }),
            Values::Whole(values) => push_whole(values[row], out),
            Values::Unsigned(values) => push_whole(values[row], out),
            Values::Float(values) => push_real(f64::from(values[row]), values[row], out),
            Values::Double(values) => push_real(values[row], values[row], out),
            Values::Decimal(values, scale) => {
                push_decimal(itoa::Buffer::new().format(values[row]), *scale, out);
            }
            Values::WideDecimal(values, scale) => push_decimal(&values[row].to_string(), *scale, out),
            Values::Days(days) => push_datetime(i64::from(days[row]), 0, 0, out)?,
            Values::Instant(values, parts) => {
                let seconds = values[row].div_euclid(*parts);
                let nanoseconds = values[row].rem_euclid(*parts) * (NANOSECONDS / parts);
                let (day, second) = (seconds.div_euclid(SECONDS_A_DAY), seconds.rem_euclid(SECONDS_A_DAY));
                push_datetime(day, second as u32, nanoseconds as u32, out)?;
            }
            Values::Span(values, parts) => push_span(values[row], *parts, out),
            Values::Interval(values) => push_interval(values[row], out),
            Values::Text(texts) => out.extend_from_slice(texts.value(row).as_bytes()),
            Values::Base64(bytes) => push_base64(bytes.value(row), out)?,
            Values::Guid(bytes) => push_guid(bytes.value(row), out),
            Values::Dictionary(keys, values) => return values.text(keys[row], out),
            Values::Union(union) => {
                return union.value(row).map_or(Ok(false), |(child, at)| child.text(at, out));
            }
            Values::List(..) | Values::Struct(_) | Values::Map(..) => self.json(row, out)?,
        }
        Ok(true)
    }

    /// Appends a value as JSON. Fields that are null are left out of objects.
    fn json(&self, row: usize, out: &mut Vec<u8>) -> Result<(), String> {
        if self.is_null(row) {
            out.extend_from_slice(b"null");
            return Ok(());
        }
        match &self.values {
            Values::Null
            | Values::Bool(_)
            | Values::Whole(_)
            | Values::Unsigned(_)
            | Values::Decimal(..)
            | Values::WideDecimal(..) => self.text(row, out).map(drop),
            Values::Float(values) if values[row].is_finite() => self.text(row, out).map(drop),
            Values::Double(values) if values[row].is_finite() => self.text(row, out).map(drop),
            Values::Text(texts) => quote(texts.value(row), out),
            Values::List(bounds, items) => {
                out.push(b'[');
                let range = bounds.of(row);
                for at in range.clone() {
                    if at > range.start {
                        out.push(b',');
                    }
                    items.json(at, out)?;
                }
                out.push(b']');
                Ok(())
            }
            Values::Struct(fields) => {
                out.push(b'{');
                let mut is_first = true;
                for (name, cells) in fields.iter().filter(|(_, cells)| !cells.is_null(row)) {
                    if !std::mem::take(&mut is_first) {
                        out.push(b',');
                    }
                    out.extend_from_slice(name);
                    cells.json(row, out)?;
                }
                out.push(b'}');
                Ok(())
            }
            Values::Map(offsets, entries) => {
                let (keys, values) = &**entries;
                out.push(b'{');
                let range = offsets[row] as usize..offsets[row + 1] as usize;
                let mut key = Vec::new();
                for at in range.clone() {
                    if at > range.start {
                        out.push(b',');
                    }
                    key.clear();
                    keys.text(at, &mut key)?;
                    quote(&String::from_utf8_lossy(&key), out)?;
                    out.push(b':');
                    values.json(at, out)?;
                }
                out.push(b'}');
                Ok(())
            }
            Values::Union(union) => union.value(row).map_or(Ok(()), |(child, at)| child.json(at, out)),
            Values::Dictionary(keys, values) => values.json(keys[row], out),
            // JSON has no such numbers and no such types; their texts need no escapes.
            Values::Float(_)
            | Values::Double(_)
            | Values::Days(_)
            | Values::Instant(..)
            | Values::Span(..)
            | Values::Interval(_)
            | Values::Base64(_)
            | Values::Guid(_) => {
                out.push(b'"');
                self.text(row, out)?;
                out.push(b'"');
                Ok(())
            }
        }
    }
}

fn quote(text: &str, out: &mut Vec<u8>) -> Result<(), String> {
    serde_json::to_writer(out, text).map_err(|e| e.to_string())
}

fn push_whole(value: impl itoa::Integer, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// The shortest text that reads back as `value` at its own width; `wide` is the same number.
fn push_real(wide: f64, value: impl zmij::Float, out: &mut Vec<u8>) {
    if wide.is_nan() {
        out.extend_from_slice(b"NaN");
    } else if wide.is_infinite() {
        out.extend_from_slice(if wide > 0.0 { b"Infinity" } else { b"-Infinity" });
    } else if wide.abs() < WRITTEN_OUT_MAX && wide.fract() == 0.0 && !(wide == 0.0 && wide.is_sign_negative()) {
        push_whole(wide as i64, out);
    } else {
        out.extend_from_slice(zmij::Buffer::new().format_finite(value).as_bytes());
    }
}

fn push_decimal(digits: &str, scale: i8, out: &mut Vec<u8>) {
    let (sign, digits) = match digits.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", digits),
    };
    out.extend_from_slice(sign.as_bytes());
    let Ok(scale) = usize::try_from(scale) else {
        out.extend_from_slice(digits.as_bytes());
        if digits != "0" {
            out.resize(out.len() + usize::from(scale.unsigned_abs()), b'0');
        }
        return;
    };
    let whole = digits.len().saturating_sub(scale);
    out.extend_from_slice(if whole == 0 { b"0" } else { &digits.as_bytes()[..whole] });
    if scale > 0 {
        out.push(b'.');
        out.resize(out.len() + scale.saturating_sub(digits.len()), b'0');
        out.extend_from_slice(&digits.as_bytes()[whole..]);
    }
}

/// Writes `digits` digits of a number at the front of `at`.
#[inline]
fn put(mut number: u32, digits: usize, at: &mut [u8]) {
    for byte in at[..digits].iter_mut().rev() {
        *byte = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

/// A fraction of a second, point included: nothing, three, six, seven or nine digits.
#[inline]
fn push_fraction(nanoseconds: u32, out: &mut Vec<u8>) {
    let (number, digits) = match nanoseconds {
        0 => return,
        n if n % 1_000_000 == 0 => (n / 1_000_000, 3),
        n if n % 1_000 == 0 => (n / 1_000, 6),
        n if n % 100 == 0 => (n / 100, 7),
        n => (n, 9),
    };
    let mut text = *b".000000000";
    put(number, digits, &mut text[1..]);
    out.extend_from_slice(&text[..=digits]);
}

/// `2026-01-02T03:04:05.1234567Z`, from the day since 1970 and the second of that day.
#[inline]
fn push_datetime(day: i64, second: u32, nanoseconds: u32, out: &mut Vec<u8>) -> Result<(), String> {
    if !DAYS.contains(&day) {
        push_whole(day, out);
        return Err("days from 1970-01-01 is outside the years 1 to 9999 that a datetime holds".to_owned());
    }
    // Howard Hinnant, "chrono-compatible low-level date algorithms": years begin in March, eras have 400 of them.
    let days = (day + 719_468) as u32;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * of_year + 2) / 153;
    let day_of_month = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + u32::from(month <= 2);
    let mut text = *b"0000-00-00T00:00:00";
    put(year, 4, &mut text);
    put(month, 2, &mut text[5..]);
    put(day_of_month, 2, &mut text[8..]);
    put(second / 3_600, 2, &mut text[11..]);
    put(second / 60 % 60, 2, &mut text[14..]);
    put(second % 60, 2, &mut text[17..]);
    out.extend_from_slice(&text);
    push_fraction(nanoseconds, out);
    out.push(b'Z');
    Ok(())
}

/// `[-][d.]hh:mm:ss[.fffffff]`.
fn push_span(value: i64, parts: i64, out: &mut Vec<u8>) {
    let (size, parts) = (value.unsigned_abs(), parts.unsigned_abs());
    let (seconds, rest) = (size / parts, size % parts);
    let (days, second) = (seconds / SECONDS_A_DAY as u64, (seconds % SECONDS_A_DAY as u64) as u32);
    if value < 0 {
        out.push(b'-');
    }
    if days > 0 {
        push_whole(days, out);
        out.push(b'.');
    }
    let mut text = *b"00:00:00";
    put(second / 3_600, 2, &mut text);
    put(second / 60 % 60, 2, &mut text[3..]);
    put(second % 60, 2, &mut text[6..]);
    out.extend_from_slice(&text);
    push_fraction((rest * (NANOSECONDS as u64 / parts)) as u32, out);
}

/// ISO 8601: `P14M2DT3.5S`.
fn push_interval((months, days, nanoseconds): (i32, i32, i64), out: &mut Vec<u8>) {
    out.push(b'P');
    if months != 0 {
        push_whole(months, out);
        out.push(b'M');
    }
    if days != 0 {
        push_whole(days, out);
        out.push(b'D');
    }
    if nanoseconds != 0 || (months, days) == (0, 0) {
        out.push(b'T');
        if nanoseconds < 0 {
            out.push(b'-');
        }
        let size = nanoseconds.unsigned_abs();
        push_whole(size / NANOSECONDS as u64, out);
        push_fraction((size % NANOSECONDS as u64) as u32, out);
        out.push(b'S');
    }
}

fn push_base64(bytes: &[u8], out: &mut Vec<u8>) -> Result<(), String> {
    let start = out.len();
    out.resize(start + bytes.len().div_ceil(3) * 4, 0);
    BASE64.encode_slice(bytes, &mut out[start..]).map(drop).map_err(|e| e.to_string())
}

fn push_guid(bytes: &[u8], out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for (at, byte) in bytes.iter().enumerate() {
        if matches!(at, 4 | 6 | 8 | 10) {
            out.push(b'-');
        }
        out.extend_from_slice(&[DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
    }
}

/// The type of a column that is made for values of an Arrow type.
///
/// Source: Azure Data Explorer's Arrow and Parquet type mappings; unsigned 64-bit numbers need a decimal, decimals of
/// more than 38 digits and intervals that count months a string.
pub fn scalar_of(data_type: &DataType) -> ScalarType {
    match data_type {
        DataType::Boolean => ScalarType::Bool,
        DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::UInt8 | DataType::UInt16 => ScalarType::Int,
        DataType::UInt32 | DataType::Int64 => ScalarType::Long,
        DataType::UInt64 | DataType::Decimal32(..) | DataType::Decimal64(..) | DataType::Decimal128(..) => {
            ScalarType::Decimal
        }
        DataType::Float16 | DataType::Float32 | DataType::Float64 => ScalarType::Real,
        DataType::Date32 | DataType::Date64 | DataType::Timestamp(..) => ScalarType::DateTime,
        DataType::Time32(_)
        | DataType::Time64(_)
        | DataType::Duration(_)
        | DataType::Interval(IntervalUnit::DayTime) => ScalarType::Timespan,
        DataType::Null
        | DataType::Decimal256(..)
        | DataType::Interval(_)
        | DataType::Utf8
        | DataType::LargeUtf8
        | DataType::Utf8View
        | DataType::Binary
        | DataType::LargeBinary
        | DataType::BinaryView
        | DataType::FixedSizeBinary(_) => ScalarType::String,
        DataType::List(_)
        | DataType::LargeList(_)
        | DataType::FixedSizeList(..)
        | DataType::ListView(_)
        | DataType::LargeListView(_)
        | DataType::Struct(_)
        | DataType::Map(..)
        | DataType::Union(..) => ScalarType::Dynamic,
        DataType::Dictionary(_, values) => scalar_of(values),
        DataType::RunEndEncoded(_, values) => scalar_of(values.data_type()),
    }
}

/// Every value of the Arrow type fits a column of this type in the form that [`CellWriter::text`] gives it, but for
/// its length.
pub fn surely_fits(data_type: &DataType, kind: ScalarType) -> bool {
    use DataType as D;
    use ScalarType as T;
    match data_type {
        D::Dictionary(_, values) => return surely_fits(values, kind),
        D::RunEndEncoded(_, values) => return surely_fits(values.data_type(), kind),
        D::Null => return true,
        _ => {}
    }
    match kind {
        T::String | T::Dynamic => true,
        T::Bool => matches!(data_type, D::Boolean),
        T::Int => matches!(data_type, D::Int8 | D::Int16 | D::Int32 | D::UInt8 | D::UInt16),
        T::Long => {
            matches!(data_type, D::Int8 | D::Int16 | D::Int32 | D::Int64 | D::UInt8 | D::UInt16 | D::UInt32)
        }
        T::Real => {
            data_type.is_integer()
                || data_type.is_floating()
                || matches!(data_type, D::Decimal32(..) | D::Decimal64(..) | D::Decimal128(..))
        }
        // A decimal of the cluster has 34 digits.
        T::Decimal => match data_type {
            D::Decimal32(digits, scale) | D::Decimal64(digits, scale) | D::Decimal128(digits, scale) => {
                *digits <= 34 && (0..=34).contains(scale)
            }
            other => other.is_integer(),
        },
        // Years beyond 9999 are an error of their own; digits below 100 ns must be looked at.
        T::DateTime => match data_type {
            D::Date32 | D::Date64 => true,
            D::Timestamp(unit, _) => *unit != TimeUnit::Nanosecond,
            _ => false,
        },
        // Durations may be longer than a timespan.
        T::Timespan => matches!(data_type, D::Time32(_)),
        T::Guid => false,
    }
}

#[cfg(test)]
mod tests;
