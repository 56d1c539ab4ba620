use super::{
    super::columns::testing::{plan_of, rows_of, settings_of},
    *,
};
use crate::convert::VALUE_BYTES_MAX;
use ::parquet::{
    arrow::ArrowWriter,
    data_type::{ByteArray, ByteArrayType, FixedLenByteArray, FixedLenByteArrayType, Int96, Int96Type},
    schema::parser::parse_message_type,
};
use arrow::array::{
    Array, ArrayRef, DurationMicrosecondArray, Int64Array, StringArray, StructArray, TimestampMicrosecondArray,
};
use std::os::unix::fs::FileExt as _;

fn col(array: impl Array + 'static) -> ArrayRef {
    Arc::new(array)
}

/// A file of these columns, with row groups of `group_rows`.
fn file_of(columns: Vec<(&str, ArrayRef)>, group_rows: usize) -> File {
    let batch = RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, a)| (n, a, true))).unwrap();
    let properties = WriterProperties::builder().set_max_row_group_row_count(Some(group_rows)).build();
    let file = tempfile::tempfile().unwrap();
    let mut writer = ArrowWriter::try_new(file.try_clone().unwrap(), batch.schema(), Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    file
}

/// Seven rows in row groups of two.
fn numbers() -> File {
    let texts: Vec<_> = (0..7).map(|n| format!("row {n}")).collect();
    let columns = vec![
        ("n", col(Int64Array::from_iter_values(0..7))),
        ("t", col(StringArray::from(texts))),
        ("at", col(TimestampMicrosecondArray::from_iter_values((0..7).map(|n| n * 1_000_000)))),
    ];
    file_of(columns, 2)
}

fn range(start: u64, end: u64) -> Option<FileRange> {
    Some(FileRange { start, end, number: 0, count: 2 })
}

fn bytes_of(file: &File) -> Vec<u8> {
    let mut bytes = vec![0; file.metadata().unwrap().len() as usize];
    file.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

fn file_with(bytes: &[u8]) -> File {
    let file = tempfile::tempfile().unwrap();
    file.write_all_at(bytes, 0).unwrap();
    file
}

fn read(file: &File, plan: &CopyPlan, first_row: u64, range: Option<FileRange>) -> Result<Vec<String>, Failure> {
    let facts = FileFacts::default();
    let settings = ColumnSettings { first_row, ..settings_of(plan, &facts) };
    rows_of(reader(file, Arc::default(), &settings, range)?)
}

fn as_is(file: &File, plan: &CopyPlan, check_values: bool, range: Option<FileRange>) -> Result<AsIs, Failure> {
    AsIs::open(file, Arc::default(), "f", plan, &FileFacts::default(), check_values, range)
}

#[test]
fn wanted_columns_of_wanted_rows_are_read() {
    let file = numbers();
    let plan = plan_of(&[("at", ScalarType::DateTime), ("n", ScalarType::Long)]);
    let row = |n: u64| format!("1970-01-01T00:00:0{n}Z,{n}");
    for (case, first_row, range, expected) in [
        ("all", 0, None, 0..7),
        ("from within a row group", 3, None, 3..7),
        ("from a row group's start", 4, None, 4..7),
        ("none", 7, None, 7..7),
        ("some row groups", 0, range(1, 3), 2..6),
        ("the rest of some row groups", 3, range(1, 4), 5..7),
    ] {
        assert_eq!(read(&file, &plan, first_row, range).unwrap(), expected.map(row).collect::<Vec<_>>(), "{case}");
    }
    assert_eq!(read(&file, &plan, 0, range(3, 5)).unwrap_err().code, Code::FormatMismatch);
}

#[test]
fn what_is_read_is_counted() {
    let (file, stored) = (numbers(), Arc::new(AtomicU64::new(0)));
    let plan = plan_of(&[("n", ScalarType::Long)]);
    let facts = FileFacts::default();
    rows_of(reader(&file, stored.clone(), &settings_of(&plan, &facts), None).unwrap()).unwrap();
    assert!(stored.load(std::sync::atomic::Ordering::Relaxed) > 0);
}

#[test]
fn a_sample_has_every_column() {
    let id = col(StringArray::from(vec!["x"]));
    let record = StructArray::from(vec![(Arc::new(Field::new("a", DataType::Utf8, true)), id.clone())]);
    let columns = vec![("s", id), ("r", col(record)), ("d", col(DurationMicrosecondArray::from(vec![1])))];
    let sample = sample(&file_of(columns, 10), "f").unwrap();
    let found: Vec<_> = sample.iter().map(|c| (c.name.as_str(), c.kind.as_str())).collect();
    assert_eq!(found, [("s", "string"), ("r", "dynamic"), ("d", "timespan")]);
    assert_eq!(group_bytes(&numbers(), "f").unwrap().len(), 4);
}

#[test]
fn a_damaged_file_is_told() {
    let whole = bytes_of(&numbers());
    let plan = plan_of(&[("n", ScalarType::Long)]);
    let mut zeroed = whole.clone();
    zeroed[4..60].fill(0);
    for (case, bytes) in [
        ("empty", b"".as_slice()),
        ("no Parquet", b"id,name\n1,2\n".as_slice()),
        ("cut off", &whole[..whole.len() / 2]),
        ("without its first half", &whole[whole.len() / 2..]),
        ("a damaged page", &zeroed[..]),
    ] {
        let failure = read(&file_with(bytes), &plan, 0, None).unwrap_err();
        assert_eq!(failure.code, Code::FormatMismatch, "{case}: {failure}");
        assert!(failure.message.contains("Parquet"), "{case}: {failure}");
    }
}

#[test]
fn types_that_arrow_reads_otherwise_keep_their_values() {
    let schema = "message m { required int96 t; required binary e (ENUM);
                  required fixed_len_byte_array(16) u (UUID); }";
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let file = tempfile::tempfile().unwrap();
    let mut writer = SerializedFileWriter::new(file.try_clone().unwrap(), schema, Arc::default()).unwrap();
    let mut group = writer.next_row_group().unwrap();
    // The last day of 9999, which 64 bits of nanoseconds do not reach.
    let time = Int96::from(vec![1_000, 0, 2_440_588 + 2_932_896]);
    let mut column = group.next_column().unwrap().unwrap();
    column.typed::<Int96Type>().write_batch(&[time], None, None).unwrap();
    column.close().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    column.typed::<ByteArrayType>().write_batch(&[ByteArray::from("RED")], None, None).unwrap();
    column.close().unwrap();
    let id = 0x74be_27de_1e4e_49d9_b579_fe0b_331d_3642_u128.to_be_bytes().to_vec();
    let id = FixedLenByteArray::from(ByteArray::from(id));
    let mut column = group.next_column().unwrap().unwrap();
    column.typed::<FixedLenByteArrayType>().write_batch(&[id], None, None).unwrap();
    column.close().unwrap();
    group.close().unwrap();
    writer.close().unwrap();
    let plan = plan_of(&[("t", ScalarType::DateTime), ("e", ScalarType::String), ("u", ScalarType::Guid)]);
    let rows = read(&file, &plan, 0, None).unwrap();
    assert_eq!(rows, ["9999-12-31T00:00:00.000001Z,RED,74be27de-1e4e-49d9-b579-fe0b331d3642"]);
    let kinds: Vec<_> = sample(&file, "f").unwrap().into_iter().map(|c| c.kind).collect();
    assert_eq!(kinds, ["datetime", "string", "guid"]);
}

#[test]
fn the_cluster_reads_what_its_table_says() {
    use ScalarType as T;
    for (column, kinds) in [
        ("boolean c", vec![T::Bool, T::Decimal]),
        ("int32 c", vec![T::Bool, T::Int, T::Long, T::Real, T::Decimal, T::String]),
        ("int64 c (INTEGER(64,false))", vec![T::Bool, T::Int, T::Long, T::Decimal, T::String]),
        ("int64 c (TIMESTAMP(NANOS,true))", vec![T::DateTime, T::String]),
        ("int32 c (DATE)", vec![T::DateTime, T::String]),
        ("int32 c (TIME(MILLIS,true))", vec![]),
        ("int96 c", vec![]),
        ("binary c", vec![]),
        ("binary c (UTF8)", vec![T::Int, T::Long, T::Real, T::Decimal, T::String, T::Dynamic]),
        ("binary c (JSON)", vec![T::String, T::Dynamic]),
        ("fixed_len_byte_array(16) c (UUID)", vec![T::String, T::Guid]),
        ("fixed_len_byte_array(9) c (DECIMAL(20,2))", vec![T::Long, T::Real, T::Decimal, T::String]),
        ("group c { required int32 x; }", vec![T::Dynamic]),
    ] {
        let end = if column.ends_with('}') { "" } else { ";" };
        let schema = parse_message_type(&format!("message m {{ required {column}{end} }}")).unwrap();
        assert_eq!(reads_as(&schema.get_fields()[0]), kinds, "{column}");
    }
}

#[test]
fn a_small_file_is_copied_byte_by_byte() {
    let file = numbers();
    let plan = plan_of(&[("n", ScalarType::Long), ("t", ScalarType::String)]);
    let as_is = as_is(&file, &plan, true, None).unwrap();
    let pieces = as_is.pieces(1 << 20);
    assert_eq!((as_is.rows(), pieces.len(), pieces[0].clone()), (7, 1, 0..4));
    let mut copy = Vec::new();
    assert_eq!(as_is.write_piece(&pieces[0], &mut copy).unwrap(), 7);
    assert_eq!(copy, bytes_of(&file));
}

#[test]
fn row_groups_are_copied_without_decoding() {
    let file = numbers();
    let plan = plan_of(&[("t", ScalarType::String), ("n", ScalarType::Long)]);
    for (range, expected) in [(None, 0..7), (range(1, 4), 2..7)] {
        let as_is = as_is(&file, &plan, false, range).unwrap();
        let pieces = as_is.pieces(1);
        assert_eq!(pieces, as_is.pieces(1), "the same again");
        let mut rows = Vec::new();
        for piece in &pieces {
            assert_eq!(piece.len(), 1);
            let mut copy = Vec::new();
            let counted = as_is.write_piece(piece, &mut copy).unwrap();
            let of_piece = read(&file_with(&copy), &plan, 0, None).unwrap();
            assert_eq!(of_piece.len() as u64, counted);
            rows.extend(of_piece);
        }
        assert_eq!(rows, expected.map(|n| format!("row {n},{n}")).collect::<Vec<_>>());
    }
}

#[test]
fn what_the_cluster_would_make_null_is_refused() {
    let file = numbers();
    let refused = |plan: &CopyPlan| as_is(&file, plan, true, None).err().map(|f| f.code);
    assert_eq!(refused(&plan_of(&[("t", ScalarType::DateTime)])), Some(Code::MappingColumnMissing));
    assert_eq!(refused(&plan_of(&[("at", ScalarType::Long)])), Some(Code::MappingColumnMissing));
    assert_eq!(refused(&plan_of(&[("t", ScalarType::Int)])), Some(Code::ValueIncompatible));
    assert_eq!(refused(&plan_of(&[("n", ScalarType::Int)])), None);
    let required = CopyPlan { required: vec!["gone".to_owned()], ..plan_of(&[("gone", ScalarType::Int)]) };
    assert_eq!(refused(&required), Some(Code::MappingColumnMissing));
    let long = "x".repeat(VALUE_BYTES_MAX + 1);
    let long = file_of(vec![("t", col(StringArray::from(vec!["short", &long])))], 10);
    let failure = as_is(&long, &plan_of(&[("t", ScalarType::String)]), true, None).err().unwrap();
    assert_eq!(failure.code, Code::ValueIncompatible);
    assert!(failure.message.contains("line 2"), "{failure}");
    let wide = file_of(vec![("n", col(Int64Array::from(vec![1 << 40])))], 10);
    assert!(as_is(&wide, &plan_of(&[("n", ScalarType::Int)]), true, None).is_err());
}

#[test]
fn a_deep_path_leads_to_the_column() {
    let column = |path: &str| CopyColumn {
        name: "c".to_owned(),
        kind: Some(ScalarType::Dynamic),
        source: ColumnFrom::Path(path.to_owned()),
        format: None,
    };
    let names = ["a".to_owned(), "b".to_owned()];
    let facts = FileFacts::default();
    assert_eq!(source_of(&column("$.b.x"), &names, &facts), Ok(Some(1)));
    assert_eq!(source_of(&column("$['a']"), &names, &facts), Ok(Some(0)));
    assert!(is_deep("$.b.x") && !is_deep("$['a']"));
}
