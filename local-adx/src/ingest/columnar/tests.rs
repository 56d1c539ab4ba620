use super::*;
use crate::{
    extents::VALUE_BYTES_MAX,
    ingest::{
        Properties,
        testing::{LOCATION, ingested, of_format},
    },
};
use arrow::{
    array::{Float64Array, Int32Builder, Int64Builder, ListBuilder, MapBuilder, StringArray, StringBuilder},
    buffer::NullBuffer,
};
use parquet::{
    arrow::ArrowWriter,
    data_type::{
        BoolType, ByteArray, ByteArrayType, DoubleType, FixedLenByteArray, FixedLenByteArrayType, Int32Type, Int64Type,
        Int96, Int96Type,
    },
    file::writer::{SerializedColumnWriter, SerializedFileWriter},
    schema::parser::parse_message_type,
};
use serde_json::{Value, json};

/// A value as a Parquet file holds it.
enum Stored {
    Bool(bool),
    I32(i32),
    I64(i64),
    /// Days since 1970 and nanoseconds of the day.
    I96(i64, u64),
    F64(f64),
    Bytes(&'static [u8]),
    Fixed(&'static [u8]),
}

impl Stored {
    fn put(&self, column: &mut SerializedColumnWriter<'_>) {
        let put = match self {
            Self::Bool(v) => column.typed::<BoolType>().write_batch(&[*v], None, None),
            Self::I32(v) => column.typed::<Int32Type>().write_batch(&[*v], None, None),
            Self::I64(v) => column.typed::<Int64Type>().write_batch(&[*v], None, None),
            Self::F64(v) => column.typed::<DoubleType>().write_batch(&[*v], None, None),
            Self::I96(days, nanos) => {
                let mut time = Int96::new();
                time.set_data(*nanos as u32, (*nanos >> 32) as u32, (2_440_588 + *days) as u32);
                column.typed::<Int96Type>().write_batch(&[time], None, None)
            }
            Self::Bytes(v) => column.typed::<ByteArrayType>().write_batch(&[ByteArray::from(v.to_vec())], None, None),
            Self::Fixed(v) => {
                let v = FixedLenByteArray::from(v.to_vec());
                column.typed::<FixedLenByteArrayType>().write_batch(&[v], None, None)
            }
        };
        assert_eq!(put.unwrap(), 1);
    }
}

/// A Parquet file of one column `v`, whose type is written as in Parquet's own schema language.
fn parquet_of(physical: &str, logical: &str, values: &[Stored]) -> Vec<u8> {
    let schema = parse_message_type(&format!("message m {{ REQUIRED {physical} v {logical}; }}")).unwrap();
    let mut file = SerializedFileWriter::new(Vec::new(), Arc::new(schema), Arc::default()).unwrap();
    let mut group = file.next_row_group().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    for value in values {
        value.put(&mut column);
    }
    column.close().unwrap();
    group.close().unwrap();
    file.into_inner().unwrap()
}

fn parquet_with(mapping: &Value) -> Properties {
    Properties { mapping: Some(mapping.to_string()), ..of_format("parquet") }
}

#[test]
fn a_column_is_filled_from_what_the_engine_converts_and_else_with_nulls() {
    use Stored::{Bool, Bytes, F64, Fixed, I32, I64, I96};
    let schema = "b:bool,i:int,l:long,r:real,d:decimal,t:datetime,s:timespan,x:string,g:guid,y:dynamic";
    let fields = schema.split(',').map(|c| json!({"Column": c[..1], "Properties": {"Field": "v"}}));
    let properties = parquet_with(&fields.collect());
    let id = b"\x74\xbe\x27\xde\x1e\x4e\x49\xd9\xb5\x79\xfe\x0b\x33\x1d\x36\x42";
    let id_text = "74be27de-1e4e-49d9-b579-fe0b331d3642";
    let time = |text: &str| json!([null, null, null, null, null, text, null, text, null, null]);
    let text = |text: &str| json!([null, null, null, null, null, null, null, text, null, null]);
    for (physical, logical, value, row) in [
        ("INT32", "", I32(7), json!([true, 7, 7, 7.0, "7", null, null, "7", null, null])),
        (
            "INT64",
            "",
            I64(5_000_000_000),
            json!([true, null, 5_000_000_000_i64, 5e9, "5000000000", null, null, "5000000000", null, null]),
        ),
        (
            "INT64",
            "(INTEGER(64,false))",
            I64(-1),
            json!([true, null, null, null, u64::MAX.to_string(), null, null, u64::MAX.to_string(), null, null]),
        ),
        ("DOUBLE", "", F64(1.75), json!([true, 1, 1, 1.75, "1.75", null, null, "1.75", null, null])),
        ("BOOLEAN", "", Bool(true), json!([true, null, null, null, "1", null, null, "true", null, null])),
        ("INT32", "(DECIMAL(5,2))", I32(1250), json!([true, 12, 12, 12.5, "12.50", null, null, "12.50", null, null])),
        (
            "FIXED_LEN_BYTE_ARRAY(3)",
            "(DECIMAL(5,2))",
            Fixed(&[0, 4, 0xe2]),
            json!([null, null, 12, 12.5, "12.50", null, null, "12.50", null, null]),
        ),
        (
            "BYTE_ARRAY",
            "(DECIMAL(5,2))",
            Bytes(&[4, 0xe2]),
            json!([true, null, 12, 12.5, "12.50", null, null, "12.50", null, 12.5]),
        ),
        ("INT64", "(TIMESTAMP(MILLIS,true))", I64(1), time("1970-01-01T00:00:00.0010000Z")),
        ("INT64", "(TIMESTAMP(MICROS,false))", I64(1), time("1970-01-01T00:00:00.0000010Z")),
        ("INT64", "(TIMESTAMP(NANOS,true))", I64(123_456_789), time("1970-01-01T00:00:00.1234567Z")),
        ("INT64", "(TIMESTAMP(NANOS,true))", I64(-1), time("1969-12-31T23:59:59.9999999Z")),
        ("INT32", "(DATE)", I32(-1), time("1969-12-31T00:00:00Z")),
        ("INT96", "", I96(1, 123_456_789), time("1970-01-02T00:00:00.1234567Z")),
        ("INT32", "(TIME(MILLIS,true))", I32(1), text("")),
        ("BYTE_ARRAY", "(STRING)", Bytes(b"12"), json!([null, 12, 12, 12.0, "12", null, null, "12", null, 12])),
        (
            "BYTE_ARRAY",
            "(STRING)",
            Bytes(b"2026-01-02"),
            json!([null, null, null, null, null, null, null, "2026-01-02", null, "2026-01-02"]),
        ),
        (
            "FIXED_LEN_BYTE_ARRAY(16)",
            "(UUID)",
            Fixed(id),
            json!([null, null, null, null, null, null, null, id_text, id_text, null]),
        ),
        (
            "BYTE_ARRAY",
            "(JSON)",
            Bytes(b"{\"a\":[1]}"),
            json!([null, null, null, null, null, null, null, "{\"a\":[1]}", null, {"a": [1]}]),
        ),
        ("BYTE_ARRAY", "(ENUM)", Bytes(b"RED"), json!([null, null, null, null, null, null, null, "RED", null, "RED"])),
        ("BYTE_ARRAY", "", Bytes(b"abc"), text("abc")),
        ("BYTE_ARRAY", "", Bytes(&[0xff, 0]), text("/wA=")),
        ("FIXED_LEN_BYTE_ARRAY(2)", "", Fixed(b"ab"), text("YWI=")),
    ] {
        let rows = ingested(&parquet_of(physical, logical, &[value]), schema, &properties);
        assert_eq!(rows, Ok(json!([row])), "{physical} {logical}");
    }
}

#[test]
fn a_guid_as_text_is_no_guid() {
    let file = parquet_of("BYTE_ARRAY", "(STRING)", &[Stored::Bytes(b"74be27de-1e4e-49d9-b579-fe0b331d3642")]);
    assert_eq!(ingested(&file, "v:guid", &of_format("parquet")), Ok(json!([[null]])));
}

#[test]
fn times_of_96_bits_keep_their_digits_and_their_years() {
    let last = 86_400_000_000_000 - 100;
    // 0001-01-01, and a day after 9999-12-31, which no datetime can hold.
    let values = [(0, 100), (-719_162, 0), (2_932_897, last)].map(|(d, n)| Stored::I96(d, n));
    let times = json!([["1970-01-01T00:00:00.0000001Z"], ["0001-01-01T00:00:00Z"], [null]]);
    assert_eq!(ingested(&parquet_of("INT96", "", &values), "v:datetime", &of_format("parquet")), Ok(times));
}

/// Rows with a struct, a list, a map and an odd name; everything but the number is null in the second row.
fn nested() -> Vec<u8> {
    let texts = StringArray::from(vec![Some("x\""), None]);
    let inner = vec![
        (Arc::new(Field::new("b", DataType::Utf8, true)), Arc::new(texts) as ArrayRef),
        (Arc::new(Field::new("c", DataType::Float64, true)), Arc::new(Float64Array::from(vec![0.5, 1.5])) as ArrayRef),
    ];
    let (fields, arrays): (Vec<FieldRef>, Vec<ArrayRef>) = inner.into_iter().unzip();
    let group = StructArray::new(fields.into(), arrays, Some(NullBuffer::from(vec![true, false])));
    let mut list = ListBuilder::new(Int32Builder::new());
    list.append_value([Some(4), None, Some(6)]);
    list.append_null();
    let mut map = MapBuilder::new(None, StringBuilder::new(), Int64Builder::new());
    map.keys().append_value("k");
    map.values().append_value(7);
    map.append(true).unwrap();
    map.append(false).unwrap();
    let batch = RecordBatch::try_from_iter_with_nullable([
        ("n", Arc::new(Int64Array::from(vec![1, 2])) as ArrayRef, false),
        ("a", Arc::new(group) as ArrayRef, true),
        ("tags", Arc::new(list.finish()) as ArrayRef, true),
        ("m", Arc::new(map.finish()) as ArrayRef, true),
        ("odd name", Arc::new(StringArray::from(vec![Some("o"), None])) as ArrayRef, true),
    ]);
    let batch = batch.unwrap();
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.into_inner().unwrap()
}

#[test]
fn a_mapping_leads_into_what_is_nested() {
    for (properties, kind, first, second) in [
        (json!({"Field": "n"}), "long", json!(1), json!(2)),
        (json!({"Field": "odd name"}), "string", json!("o"), json!("")),
        (json!({"Path": "$['odd name']"}), "string", json!("o"), json!("")),
        (json!({"Path": "$.a"}), "dynamic", json!({"b": "x\"", "c": 0.5}), json!(null)),
        (json!({"Path": "$.a.b"}), "string", json!("x\""), json!("")),
        (json!({"Path": "$.a.c"}), "real", json!(0.5), json!(null)),
        (json!({"Path": "$.a"}), "string", json!(""), json!("")),
        (json!({"Field": "tags"}), "dynamic", json!([4, null, 6]), json!(null)),
        (json!({"Path": "$.tags[2]"}), "int", json!(6), json!(null)),
        (json!({"Path": "$.tags[3]"}), "int", json!(null), json!(null)),
        (json!({"Path": "$.m"}), "dynamic", json!({"k": 7}), json!(null)),
        (json!({"Path": "$.m.k"}), "long", json!(7), json!(null)),
        (json!({"Path": "$.m.j"}), "long", json!(null), json!(null)),
        (json!({"Field": "N"}), "long", json!(null), json!(null)),
        (json!({"Path": "k"}), "string", json!("k"), json!("k")),
        (json!({"ConstValue": "2026-01-02"}), "datetime", json!("2026-01-02T00:00:00Z"), json!("2026-01-02T00:00:00Z")),
        (json!({"Transform": "SourceLocation"}), "string", json!(LOCATION), json!(LOCATION)),
        (json!({"Transform": "SourceLineNumber"}), "long", json!(1), json!(2)),
        (
            json!({"Path": "$"}),
            "dynamic",
            json!({"n": 1, "a": {"b": "x\"", "c": 0.5}, "tags": [4, null, 6], "m": {"k": 7}, "odd name": "o"}),
            json!({"n": 2, "a": null, "tags": null, "m": null, "odd name": null}),
        ),
    ] {
        let mapping = json!([{"Column": "v", "Properties": properties}]);
        let rows = ingested(&nested(), &format!("v:{kind}"), &parquet_with(&mapping));
        assert_eq!(rows, Ok(json!([[first], [second]])), "{properties} to {kind}");
    }
}

#[test]
fn columns_go_by_their_names_without_a_mapping() {
    let rows = json!([[{"k": 7}, 1, null], [null, 2, null]]);
    assert_eq!(ingested(&nested(), "m:dynamic,n:int,Tags:dynamic", &of_format("parquet")), Ok(rows));
}

#[test]
fn a_value_over_the_limit_is_cut_or_lost() {
    let long: &'static [u8] = vec![b'x'; VALUE_BYTES_MAX + 1].leak();
    for (logical, kind, stored) in
        [("(STRING)", "string", json!("x".repeat(VALUE_BYTES_MAX))), ("(JSON)", "dynamic", json!(null))]
    {
        let file = parquet_of("BYTE_ARRAY", logical, &[Stored::Bytes(long)]);
        let rows = ingested(&file, &format!("v:{kind}"), &of_format("parquet")).unwrap();
        assert!(rows == json!([[stored]]), "{kind}");
    }
}

#[test]
fn a_file_that_is_none_or_not_whole_is_refused() {
    let (parquet, avro) = (nested(), avro(&json!([{"name": "v", "type": "long"}]), &[zigzag(1)]));
    for (case, format, blob) in [
        ("text is no parquet", "parquet", &b"a,b\n"[..]),
        ("a parquet file that is cut off", "parquet", &parquet[..parquet.len() - 9]),
        ("text is no avro", "avro", &b"a,b\n"[..]),
        ("an avro file that is cut off", "avro", &avro[..avro.len() - 9]),
    ] {
        assert_eq!(ingested(blob, "v:long", &of_format(format)), Err("BadRequest_InvalidBlob"), "{case}");
    }
}

/// A number as Avro holds it.
fn zigzag(number: i64) -> Vec<u8> {
    let mut rest = ((number << 1) ^ (number >> 63)) as u64;
    let mut bytes = Vec::new();
    while rest > 0x7f {
        bytes.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    bytes.push(rest as u8);
    bytes
}

/// Bytes or a text as Avro holds them.
fn sized(bytes: impl AsRef<[u8]>) -> Vec<u8> {
    [zigzag(bytes.as_ref().len() as i64), bytes.as_ref().to_vec()].concat()
}

/// An object container of one block.
fn avro(fields: &Value, records: &[Vec<u8>]) -> Vec<u8> {
    let schema = json!({"type": "record", "name": "r", "fields": fields}).to_string();
    let (mark, rows) = ([7_u8; 16], records.concat());
    let head = [zigzag(2), sized("avro.schema"), sized(schema), sized("avro.codec"), sized("null"), zigzag(0)].concat();
    let block = [zigzag(records.len() as i64), sized(rows)].concat();
    [&b"Obj\x01"[..], &head, &mark, &block, &mark].concat()
}

#[test]
fn avro_records_become_rows() {
    let fields = json!([
        {"name": "id", "type": "long"},
        {"name": "name", "type": ["null", "string"]},
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-micros"}},
        {"name": "day", "type": {"type": "int", "logicalType": "date"}},
        {"name": "key", "type": {"type": "string", "logicalType": "uuid"}},
        {"name": "price", "type": {"type": "bytes", "logicalType": "decimal", "precision": 5, "scale": 2}},
        {"name": "colour", "type": {"type": "enum", "name": "c", "symbols": ["RED", "GREEN"]}},
        {"name": "tags", "type": {"type": "array", "items": "string"}},
        {"name": "counts", "type": {"type": "map", "values": "long"}},
        {"name": "inner", "type": {"type": "record", "name": "i", "fields": [{"name": "x", "type": "double"}]}},
        {"name": "either", "type": ["long", "string"]},
        {"name": "raw", "type": "bytes"},
        {"name": "when", "type": "string"},
    ]);
    let id = "74be27de-1e4e-49d9-b579-fe0b331d3642";
    let first = [
        zigzag(-1),
        [zigzag(1), sized("n")].concat(),
        zigzag(1_500_000),
        zigzag(1),
        sized(id),
        sized([4_u8, 0xe2]),
        zigzag(1),
        [zigzag(2), sized("a"), sized("b"), zigzag(0)].concat(),
        [zigzag(1), sized("k"), zigzag(7), zigzag(0)].concat(),
        0.5_f64.to_le_bytes().to_vec(),
        [zigzag(1), sized("s")].concat(),
        sized([0xff_u8, 0]),
        sized("2026-01-02 03:04:05"),
    ];
    let second = [
        zigzag(2),
        zigzag(0),
        zigzag(0),
        zigzag(0),
        sized(id),
        sized([0_u8]),
        zigzag(0),
        zigzag(0),
        zigzag(0),
        0_f64.to_le_bytes().to_vec(),
        [zigzag(0), zigzag(5)].concat(),
        sized("r"),
        sized("?"),
    ];
    let file = avro(&fields, &[first.concat(), second.concat()]);
    let schema = "id:long,name:string,at:datetime,day:datetime,key:guid,price:decimal,colour:string,tags:dynamic,\
                  counts:dynamic,inner:dynamic,either:dynamic,raw:string,when:datetime";
    let rows = json!([
        [
            -1,
            "n",
            "1970-01-01T00:00:01.5000000Z",
            "1970-01-02T00:00:00Z",
            id,
            "12.50",
            "GREEN",
            ["a", "b"],
            {"k": 7},
            {"x": 0.5},
            "s",
            "/wA=",
            "2026-01-02T03:04:05Z"
        ],
        [2, "", "1970-01-01T00:00:00Z", "1970-01-01T00:00:00Z", id, "0.00", "RED", [], {}, {"x": 0.0}, 5, "r", null]
    ]);
    for format in ["avro", "apacheavro"] {
        assert_eq!(ingested(&file, schema, &of_format(format)), Ok(rows.clone()), "{format}");
    }
    let mapping = json!([
        {"Column": "x", "Properties": {"Path": "$.inner.x"}},
        {"Column": "k", "Properties": {"Path": "$.counts['k']"}},
        {"Column": "t", "Properties": {"Path": "$.tags[1]"}},
        {"Column": "f", "Properties": {"Field": "colour"}},
        {"Column": "c", "Properties": {"ConstValue": "c"}},
        {"Column": "n", "Properties": {"Transform": "SourceLineNumber"}},
    ]);
    let properties = Properties { mapping: Some(mapping.to_string()), ..of_format("avro") };
    let rows = json!([[0.5, 7, "b", "GREEN", "c", 1], [0.0, null, "", "RED", "c", 2]]);
    assert_eq!(ingested(&file, "x:real,k:long,t:string,f:string,c:string,n:long", &properties), Ok(rows));
}
