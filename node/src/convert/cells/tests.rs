use super::*;
use arrow::{
    array::{
        BooleanArray, Date32Array, Date64Array, Decimal128Array, Decimal256Array, DictionaryArray,
        DurationNanosecondArray, Float32Array, Float64Array, Int32Array, Int64Array, IntervalMonthDayNanoArray,
        IntervalYearMonthArray, ListArray, MapBuilder, NullArray, StringBuilder, StructArray, Time32MillisecondArray,
        Time64NanosecondArray, TimestampMicrosecondArray, TimestampMillisecondArray, TimestampNanosecondArray,
        TimestampSecondArray, UInt64Array,
    },
    datatypes::{Int32Type, IntervalMonthDayNano},
};
use std::sync::Arc;

fn texts_of(array: ArrayRef, field: &Field) -> Vec<Option<Result<String, String>>> {
    let cells = CellWriter::new(&array, field).unwrap();
    (0..array.len())
        .map(|row| {
            let mut out = b"before".to_vec();
            let result = match cells.text(row, &mut out) {
                Ok(false) => {
                    assert_eq!(out, b"before");
                    return None;
                }
                Ok(true) => Ok(String::from_utf8(out[6..].to_vec()).unwrap()),
                Err(why) => Err(why),
            };
            Some(result)
        })
        .collect()
}

/// The texts of a column; null as `~`, errors as `!`.
fn texts(array: impl Array + 'static) -> Vec<String> {
    let array: ArrayRef = Arc::new(array);
    let field = Field::new("c", array.data_type().clone(), true);
    let shown = |text: Option<Result<String, String>>| match text {
        None => "~".to_owned(),
        Some(Ok(text)) => text,
        Some(Err(_)) => "!".to_owned(),
    };
    texts_of(array, &field).into_iter().map(shown).collect()
}

#[test]
fn numbers_are_written_exactly() {
    assert_eq!(texts(BooleanArray::from(vec![Some(true), Some(false), None])), ["true", "false", "~"]);
    assert_eq!(texts(Int32Array::from(vec![i32::MIN, 0, 7])), ["-2147483648", "0", "7"]);
    assert_eq!(texts(Int64Array::from(vec![i64::MIN, i64::MAX])), ["-9223372036854775808", "9223372036854775807"]);
    assert_eq!(texts(UInt64Array::from(vec![u64::MAX])), ["18446744073709551615"]);
    assert_eq!(texts(NullArray::new(2)), ["~", "~"]);
    let decimals = Decimal128Array::from(vec![Some(123_456), Some(-5), Some(0), None]);
    let decimals = decimals.with_precision_and_scale(10, 3).unwrap();
    assert_eq!(texts(decimals.clone()), ["123.456", "-0.005", "0.000", "~"]);
    assert_eq!(texts(decimals.with_precision_and_scale(10, 0).unwrap()), ["123456", "-5", "0", "~"]);
    let thousands = Decimal128Array::from(vec![12, 0]).with_precision_and_scale(10, -3).unwrap();
    assert_eq!(texts(thousands), ["12000", "0"]);
    let wide = Decimal256Array::from(vec![i256::from_i128(-1_234_567)]).with_precision_and_scale(60, 2).unwrap();
    assert_eq!(texts(wide), ["-12345.67"]);
}

#[test]
fn reals_read_back_equal() {
    let values = [0.1, -2.5, 1e300, 5e-324, 1e17, 123_456_789.0, -0.0, 9.5e18, f64::MAX, 1.0 / 3.0];
    for (text, value) in texts(Float64Array::from(values.to_vec())).iter().zip(values) {
        assert_eq!(text.parse::<f64>().unwrap().to_bits(), value.to_bits(), "{text}");
    }
    assert_eq!(texts(Float64Array::from(vec![5.0, 1e17, 0.5])), ["5", "100000000000000000", "0.5"]);
    assert_eq!(texts(Float32Array::from(vec![0.1, 16_777_216.0])), ["0.1", "16777216"]);
    let special = Float64Array::from(vec![f64::NAN, f64::INFINITY, f64::NEG_INFINITY]);
    assert_eq!(texts(special), ["NaN", "Infinity", "-Infinity"]);
}

#[test]
fn dates_are_written_in_full() {
    assert_eq!(
        texts(Date32Array::from(vec![0, -1, 20_455])),
        ["1970-01-01T00:00:00Z", "1969-12-31T00:00:00Z", "2026-01-02T00:00:00Z"]
    );
    assert_eq!(
        texts(Date32Array::from(vec![-719_162, 2_932_896, -719_163, 2_932_897])),
        ["0001-01-01T00:00:00Z", "9999-12-31T00:00:00Z", "!", "!"]
    );
    assert_eq!(
        texts(Date32Array::from(vec![11_016, 19_782, 19_783])),
        ["2000-02-29T00:00:00Z", "2024-02-29T00:00:00Z", "2024-03-01T00:00:00Z"]
    );
    assert_eq!(texts(Date64Array::from(vec![86_400_000])), ["1970-01-02T00:00:00Z"]);
    assert_eq!(texts(TimestampSecondArray::from(vec![1_767_323_045, i64::MAX])), ["2026-01-02T03:04:05Z", "!"]);
    assert_eq!(
        texts(TimestampMillisecondArray::from(vec![-1, 1])),
        ["1969-12-31T23:59:59.999Z", "1970-01-01T00:00:00.001Z"]
    );
    let berlin = TimestampMicrosecondArray::from(vec![1_767_323_045_123_456]).with_timezone("Europe/Berlin");
    assert_eq!(texts(berlin), ["2026-01-02T03:04:05.123456Z"]);
    let finest = TimestampNanosecondArray::from(vec![1_767_323_045_123_456_700, 1_767_323_045_000_000_001]);
    assert_eq!(texts(finest), ["2026-01-02T03:04:05.1234567Z", "2026-01-02T03:04:05.000000001Z"]);
}

#[test]
fn days_of_every_month_agree_with_the_calendar() {
    let mut date = jiff::civil::date(1, 1, 1);
    let cells: Vec<i32> = (-719_162..2_932_897).step_by(17).collect();
    let mut last = -719_162;
    for (text, day) in texts(Date32Array::from(cells.clone())).iter().zip(cells) {
        date = date.checked_add(jiff::Span::new().days(day - last)).unwrap();
        last = day;
        assert_eq!(*text, format!("{date}T00:00:00Z"), "day {day}");
    }
}

#[test]
fn lengths_of_time_are_timespans() {
    assert_eq!(texts(Time32MillisecondArray::from(vec![3_723_004])), ["01:02:03.004"]);
    assert_eq!(texts(Time64NanosecondArray::from(vec![100, 1])), ["00:00:00.0000001", "00:00:00.000000001"]);
    let durations = DurationNanosecondArray::from(vec![-1_500_000_000, 90_061_000_000_000, 0]);
    assert_eq!(texts(durations), ["-00:00:01.500", "1.01:01:01", "00:00:00"]);
    assert_eq!(texts(IntervalYearMonthArray::from(vec![14, 0])), ["P14M", "PT0S"]);
    let interval = IntervalMonthDayNano { months: 1, days: -2, nanoseconds: -3_500_000_000 };
    assert_eq!(texts(IntervalMonthDayNanoArray::from(vec![interval])), ["P1M-2DT-3.500S"]);
}

#[test]
fn bytes_are_base64_or_guids() {
    let bytes: ArrayRef = Arc::new(BinaryArray::from(vec![b"a,b".as_slice(), &[0xff]]));
    let field = Field::new("c", DataType::Binary, true);
    let ok = |text: &str| Some(Ok(text.to_owned()));
    assert_eq!(texts_of(bytes, &field), [ok("YSxi"), ok("/w==")]);
    let id = 0x74be_27de_1e4e_49d9_b579_fe0b_331d_3642_u128.to_be_bytes();
    let ids: ArrayRef = Arc::new(FixedSizeBinaryArray::try_from_iter([id].iter()).unwrap());
    let plain = Field::new("c", DataType::FixedSizeBinary(16), true);
    assert_eq!(texts_of(ids.clone(), &plain), [ok("dL4n3h5OSdm1ef4LMx02Qg==")]);
    let uuid = plain.with_metadata([("ARROW:extension:name", "arrow.uuid")]);
    assert_eq!(texts_of(ids, &uuid), [ok("74be27de-1e4e-49d9-b579-fe0b331d3642")]);
}

#[test]
fn dictionaries_and_runs_give_their_values() {
    let dictionary: DictionaryArray<Int32Type> = vec![Some("a"), None, Some("b"), Some("a")].into_iter().collect();
    assert_eq!(texts(dictionary.clone()), ["a", "~", "b", "a"]);
    let nothing: DictionaryArray<Int32Type> = vec![None::<&str>, None].into_iter().collect();
    assert_eq!(texts(nothing), ["~", "~"]);
    let array: ArrayRef = Arc::new(dictionary);
    let cells = CellWriter::new(&array, &Field::new("c", array.data_type().clone(), true)).unwrap();
    assert_eq!(cells.borrowed(2), Some(b"b".as_slice()));
    assert_eq!(cells.borrowed(1), None);
}

#[test]
fn nested_values_become_json() {
    let lists =
        ListArray::from_iter_primitive::<Int32Type, _, _>([Some(vec![Some(1), None, Some(3)]), None, Some(vec![])]);
    assert_eq!(texts(lists.clone()), ["[1,null,3]", "~", "[]"]);
    assert_eq!(texts(lists.slice(1, 2)), ["~", "[]"]);
    let when: ArrayRef = Arc::new(TimestampSecondArray::from(vec![Some(0), None]));
    let name: ArrayRef = Arc::new(StringArray::from(vec!["a \"b\"\n", "c"]));
    let size: ArrayRef = Arc::new(Float64Array::from(vec![1.5, f64::NAN]));
    let records = StructArray::from(vec![
        (Arc::new(Field::new("when", when.data_type().clone(), true)), when),
        (Arc::new(Field::new("the name", DataType::Utf8, true)), name),
        (Arc::new(Field::new("size", DataType::Float64, true)), size),
    ]);
    assert_eq!(
        texts(records),
        [r#"{"when":"1970-01-01T00:00:00Z","the name":"a \"b\"\n","size":1.5}"#, r#"{"the name":"c","size":"NaN"}"#]
    );
    let mut maps = MapBuilder::new(None, StringBuilder::new(), arrow::array::Int64Builder::new());
    maps.keys().append_value("x");
    maps.values().append_value(1);
    maps.keys().append_value("y");
    maps.values().append_null();
    maps.append(true).unwrap();
    maps.append(false).unwrap();
    assert_eq!(texts(maps.finish()), [r#"{"x":1,"y":null}"#, "~"]);
}

#[test]
fn columns_get_the_type_of_their_values() {
    use ScalarType as T;
    for (data_type, kind) in [
        (DataType::Int16, T::Int),
        (DataType::UInt32, T::Long),
        (DataType::UInt64, T::Decimal),
        (DataType::Float16, T::Real),
        (DataType::Decimal128(38, 18), T::Decimal),
        (DataType::Decimal256(76, 0), T::String),
        (DataType::Date32, T::DateTime),
        (DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into())), T::DateTime),
        (DataType::Duration(TimeUnit::Second), T::Timespan),
        (DataType::Binary, T::String),
        (DataType::new_list(DataType::Int8, true), T::Dynamic),
        (DataType::Dictionary(Box::new(DataType::Int8), Box::new(DataType::Utf8)), T::String),
    ] {
        assert_eq!(scalar_of(&data_type), kind, "{data_type}");
    }
}

#[test]
fn what_surely_fits_need_not_be_judged() {
    use ScalarType as T;
    for (data_type, kind, fits) in [
        (DataType::Int32, T::Int, true),
        (DataType::Int64, T::Int, false),
        (DataType::UInt64, T::Long, false),
        (DataType::UInt64, T::Decimal, true),
        (DataType::Float64, T::Real, true),
        (DataType::Float64, T::Long, false),
        (DataType::Decimal128(38, 2), T::Decimal, false),
        (DataType::Timestamp(TimeUnit::Microsecond, None), T::DateTime, true),
        (DataType::Timestamp(TimeUnit::Nanosecond, None), T::DateTime, false),
        (DataType::Utf8, T::String, true),
        (DataType::Utf8, T::DateTime, false),
        (DataType::new_list(DataType::Int8, true), T::Dynamic, true),
        (DataType::FixedSizeBinary(16), T::Guid, false),
    ] {
        assert_eq!(surely_fits(&data_type, kind), fits, "{data_type} into {kind}");
    }
}

#[test]
fn the_day_of_a_date_is_known() {
    let array: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![Some(-1), Some(86_400_000_000), None]));
    let cells = CellWriter::new(&array, &Field::new("c", array.data_type().clone(), true)).unwrap();
    assert_eq!((cells.day(0), cells.day(1), cells.day(2)), (Some(-1), Some(1), None));
}
