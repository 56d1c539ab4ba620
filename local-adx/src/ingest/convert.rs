//! Values of typed columns: what they convert to, and their texts.
//!
//! Dynamic values are JSON texts. Times are UTC, cut to 100 ns.

use crate::{
    extents,
    types::{Kind, TICKS_PER_SECOND, format_datetime},
};
use arrow::{
    array::{Array, ArrayRef, AsArray as _, Int64Array},
    compute,
    datatypes::{
        DataType, Date32Type, Field, Int32Type, Int64Type, TimeUnit, TimestampMicrosecondType,
        TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType,
    },
    error::ArrowError,
    util::display::array_value_to_string,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use parquet::{
    basic::{ConvertedType, LogicalType, Type as PhysicalType},
    schema::types::Type,
};
use std::{borrow::Cow, fmt::Write as _, iter::repeat_n, sync::Arc};

/// Metadata of a field whose 64-bit numbers are ticks since 1970.
pub(super) const TICKS: &str = "local-adx.ticks";
/// What a datetime can be: 0001-01-01 to the last tick of 9999-12-31.
const DATETIMES: std::ops::RangeInclusive<i64> = -621_355_968_000_000_000..=2_534_023_007_999_999_999;

/// What a Parquet column holds, as far as conversions tell it apart.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Origin {
    Number,
    Unsigned64,
    Bool,
    DecimalOfInteger,
    DecimalOfFixed,
    DecimalOfBytes,
    Moment,
    Text,
    Uuid,
    Json,
    Nested,
    Bytes,
    Other,
}

impl Origin {
    fn of(field: &Field, described: Option<&Type>) -> Self {
        use DataType as D;
        match field.data_type() {
            D::Int64 if field.metadata().contains_key(TICKS) => Self::Moment,
            D::Int8 | D::Int16 | D::Int32 | D::Int64 | D::UInt8 | D::UInt16 | D::UInt32 => Self::Number,
            D::Float16 | D::Float32 | D::Float64 => Self::Number,
            D::UInt64 => Self::Unsigned64,
            D::Boolean => Self::Bool,
            data_type if is_decimal(data_type) => match described.filter(|t| t.is_primitive()) {
                Some(t) if matches!(t.get_physical_type(), PhysicalType::INT32 | PhysicalType::INT64) => {
                    Self::DecimalOfInteger
                }
                Some(t) if t.get_physical_type() == PhysicalType::BYTE_ARRAY => Self::DecimalOfBytes,
                _ => Self::DecimalOfFixed,
            },
            D::Timestamp(..) | D::Date32 => Self::Moment,
            D::Utf8 if field.extension_type_name() == Some("arrow.json") => Self::Json,
            D::Utf8 => Self::Text,
            D::Binary if described.is_some_and(is_enum) => Self::Text,
            D::FixedSizeBinary(16) if is_uuid(field) => Self::Uuid,
            D::Binary | D::FixedSizeBinary(_) => Self::Bytes,
            D::Struct(_) | D::List(_) | D::Map(..) => Self::Nested,
            _ => Self::Other,
        }
    }

    /// The engine fills a column of this type from it; else it leaves nulls there.
    ///
    /// Source: Azure Data Explorer, Parquet mapping, table "Parquet type conversions". Bytes without a logical type are
    /// not in it; they become strings.
    fn converts_to(self, kind: Kind) -> bool {
        use Kind as K;
        match self {
            Self::Number | Self::DecimalOfInteger => {
                matches!(kind, K::Bool | K::Int | K::Long | K::Real | K::Decimal | K::String)
            }
            Self::Unsigned64 => matches!(kind, K::Bool | K::Int | K::Long | K::Decimal | K::String),
            Self::Bool => matches!(kind, K::Bool | K::Decimal | K::String),
            Self::DecimalOfFixed => matches!(kind, K::Long | K::Real | K::Decimal | K::String),
            Self::DecimalOfBytes => {
                matches!(kind, K::Bool | K::Long | K::Real | K::Decimal | K::String | K::Dynamic)
            }
            Self::Moment => matches!(kind, K::Datetime | K::String),
            Self::Text => matches!(kind, K::Int | K::Long | K::Real | K::Decimal | K::String | K::Dynamic),
            Self::Uuid => matches!(kind, K::String | K::Guid),
            Self::Json => matches!(kind, K::String | K::Dynamic),
            Self::Nested => kind == K::Dynamic,
            Self::Bytes => kind == K::String,
            Self::Other => false,
        }
    }
}

fn is_decimal(data_type: &DataType) -> bool {
    matches!(
        data_type,
        DataType::Decimal32(..) | DataType::Decimal64(..) | DataType::Decimal128(..) | DataType::Decimal256(..)
    )
}

fn is_enum(described: &Type) -> bool {
    let info = described.get_basic_info();
    info.converted_type() == ConvertedType::ENUM || matches!(info.logical_type_ref(), Some(LogicalType::Enum))
}

/// Parquet's fields and Avro's say it each in its way.
fn is_uuid(field: &Field) -> bool {
    field.extension_type_name() == Some("arrow.uuid")
        || field.metadata().get("logicalType").is_some_and(|name| name == "uuid")
}

/// A column of nulls.
pub(super) fn nulls(kind: Kind, rows: usize) -> ArrayRef {
    extents::column(kind, repeat_n(None, rows))
}

/// A column of a table out of a Parquet column. `described`: its type in the file, where that can be told.
pub(super) fn from_parquet(
    array: &dyn Array,
    field: &Field,
    described: Option<&Type>,
    kind: Kind,
) -> Result<ArrayRef, ArrowError> {
    let origin = Origin::of(field, described);
    if !origin.converts_to(kind) {
        return Ok(nulls(kind, array.len()));
    }
    match kind {
        Kind::Datetime => {
            let ticks = (0..array.len()).map(|row| array.is_valid(row).then(|| ticks_at(array, field, row)).flatten());
            Ok(Arc::new(Int64Array::from_iter(ticks)))
        }
        Kind::Bool | Kind::Int | Kind::Long | Kind::Real if origin != Origin::Text => numbers(array, kind),
        Kind::Decimal if origin == Origin::Bool => {
            let digits = compute::cast(array, &DataType::Int32)?;
            Ok(from_texts(digits.as_ref(), &Field::new("digits", DataType::Int32, true), kind))
        }
        _ => Ok(from_texts(array, field, kind)),
    }
}

/// A column of a table out of values' texts.
pub(super) fn from_texts(array: &dyn Array, field: &Field, kind: Kind) -> ArrayRef {
    let texts: Vec<_> = (0..array.len()).map(|row| text_at(array, field, row)).collect();
    extents::column(kind, texts.iter().map(Option::as_deref))
}

/// Numbers as numbers. What is out of range is null, a fraction is cut where there is no room for it.
fn numbers(array: &dyn Array, kind: Kind) -> Result<ArrayRef, ArrowError> {
    match kind {
        Kind::Bool if is_decimal(array.data_type()) => {
            compute::cast(&compute::cast(array, &DataType::Float64)?, &DataType::Boolean)
        }
        Kind::Bool => compute::cast(array, &DataType::Boolean),
        Kind::Int => compute::cast(&compute::cast(array, &DataType::Int32)?, &DataType::Int64),
        Kind::Long => compute::cast(array, &DataType::Int64),
        _ => compute::cast(array, &DataType::Float64),
    }
}

/// Ticks of a time that is no null; `None` if it is none or no datetime can hold it.
fn ticks_at(array: &dyn Array, field: &Field, row: usize) -> Option<i64> {
    let ticks = match array.data_type() {
        DataType::Int64 if field.metadata().contains_key(TICKS) => array.as_primitive::<Int64Type>().value(row),
        DataType::Timestamp(TimeUnit::Second, _) => {
            array.as_primitive::<TimestampSecondType>().value(row).checked_mul(TICKS_PER_SECOND)?
        }
        DataType::Timestamp(TimeUnit::Millisecond, _) => {
            array.as_primitive::<TimestampMillisecondType>().value(row).checked_mul(10_000)?
        }
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            array.as_primitive::<TimestampMicrosecondType>().value(row).checked_mul(10)?
        }
        DataType::Timestamp(TimeUnit::Nanosecond, _) => {
            array.as_primitive::<TimestampNanosecondType>().value(row).div_euclid(100)
        }
        DataType::Date32 => {
            i64::from(array.as_primitive::<Date32Type>().value(row)).checked_mul(86_400 * TICKS_PER_SECOND)?
        }
        _ => return None,
    };
    Some(ticks).filter(|t| DATETIMES.contains(t))
}

/// The text of a value, JSON for what has parts; `None` for a null.
pub(super) fn text_at<'a>(array: &'a dyn Array, field: &Field, row: usize) -> Option<Cow<'a, str>> {
    if array.is_null(row) {
        return None;
    }
    if let Some(ticks) = ticks_at(array, field, row) {
        return Some(Cow::Owned(format_datetime(ticks)));
    }
    match array.data_type() {
        DataType::Null | DataType::Timestamp(..) | DataType::Date32 => None,
        DataType::Int64 if field.metadata().contains_key(TICKS) => None,
        DataType::Utf8 => Some(Cow::Borrowed(array.as_string::<i32>().value(row))),
        DataType::Binary => {
            let bytes = array.as_binary::<i32>().value(row);
            Some(std::str::from_utf8(bytes).map_or_else(|_| Cow::Owned(STANDARD.encode(bytes)), Cow::Borrowed))
        }
        DataType::FixedSizeBinary(_) => {
            let bytes = array.as_fixed_size_binary().value(row);
            let id = uuid::Uuid::from_slice(bytes).ok().filter(|_| is_uuid(field));
            Some(Cow::Owned(id.map_or_else(|| STANDARD.encode(bytes), |id| id.to_string())))
        }
        DataType::Dictionary(..) => {
            let words = array.as_dictionary_opt::<Int32Type>()?;
            text_at(words.values().as_ref(), field, words.key(row)?)
        }
        DataType::Union(fields, _) => {
            let union = array.as_union();
            let (_, field) = fields.iter().find(|(id, _)| *id == union.type_id(row))?;
            text_at(union.value(row).as_ref(), field, 0).map(|text| Cow::Owned(text.into_owned()))
        }
        DataType::Struct(_) | DataType::Map(..) | DataType::List(_) => {
            let mut json = String::new();
            write_json(&mut json, array, field, row);
            Some(Cow::Owned(json))
        }
        _ => array_value_to_string(array, row).ok().map(Cow::Owned),
    }
}

/// Appends a value as JSON. Numbers keep all their digits; keys of maps become texts.
fn write_json(json: &mut String, array: &dyn Array, field: &Field, row: usize) {
    if array.is_null(row) {
        json.push_str("null");
        return;
    }
    match array.data_type() {
        DataType::Struct(fields) => {
            let members = fields.iter().zip(array.as_struct().columns());
            write_parts(json, "{}", members, |json, (field, member)| {
                write_text(json, field.name());
                json.push(':');
                write_json(json, member.as_ref(), field, row);
            });
        }
        DataType::Map(..) => {
            let map = array.as_map();
            let entries = map.value(row);
            let (key, value) = map.entries_fields();
            write_parts(json, "{}", 0..entries.len(), |json, at| {
                write_text(json, &text_at(entries.column(0).as_ref(), key, at).unwrap_or_default());
                json.push(':');
                write_json(json, entries.column(1).as_ref(), value, at);
            });
        }
        DataType::List(element) => {
            let elements = array.as_list::<i32>().value(row);
            write_parts(json, "[]", 0..elements.len(), |json, at| write_json(json, elements.as_ref(), element, at));
        }
        DataType::Union(fields, _) => {
            let union = array.as_union();
            match fields.iter().find(|(id, _)| *id == union.type_id(row)) {
                Some((_, field)) => write_json(json, union.value(row).as_ref(), field, 0),
                None => json.push_str("null"),
            }
        }
        data_type => match text_at(array, field, row) {
            None => json.push_str("null"),
            Some(text) if is_json_word(data_type, field, &text) => json.push_str(&text),
            Some(text) => write_text(json, &text),
        },
    }
}

/// The text is a number or a truth value that JSON can say: no time, no text, no infinity.
fn is_json_word(data_type: &DataType, field: &Field, text: &str) -> bool {
    let is_word = data_type.is_numeric() || *data_type == DataType::Boolean;
    is_word && !field.metadata().contains_key(TICKS) && !text.contains(['N', 'i'])
}

fn write_parts<T>(
    json: &mut String,
    brackets: &str,
    parts: impl IntoIterator<Item = T>,
    write: impl Fn(&mut String, T),
) {
    json.push_str(&brackets[..1]);
    for (at, part) in parts.into_iter().enumerate() {
        if at > 0 {
            json.push(',');
        }
        write(json, part);
    }
    json.push_str(&brackets[1..]);
}

fn write_text(json: &mut String, text: &str) {
    // Writing to a string does not fail.
    let _ = write!(json, "{}", serde_json::Value::from(text));
}
