use super::{
    testing::{batches_of, plan_of, rows_of, settings_of},
    *,
};
use arrow::array::{Array, ArrayRef, Date32Array, Float64Array, Int32Array, Int64Array, ListArray, StringArray};
use arrow::datatypes::Int32Type;
use ferry_common::failure::Code;

fn col(array: impl Array + 'static) -> ArrayRef {
    Arc::new(array)
}

fn batch_of(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true))).unwrap()
}

/// A reader of batches that a format has decoded, all columns of them.
fn reader_of(batches: Vec<RecordBatch>, settings: &ColumnSettings<'_>) -> Result<ColumnReader<'static>, Failure> {
    let schema = batches[0].schema();
    let names: Vec<_> = schema.fields().iter().map(|f| f.name().clone()).collect();
    let wanted = Wanted::of(&names, settings).map_err(|e| settings.failure(&e))?;
    let schema = Arc::new(schema.project(&wanted.columns).unwrap());
    let columns = wanted.columns.clone();
    let batches = batches.into_iter().map(move |batch| batch.project(&columns));
    ColumnReader::new("Test", schema, Box::new(batches), wanted, settings)
}

fn people() -> RecordBatch {
    batch_of(vec![
        ("id", col(Int64Array::from(vec![Some(1), None, Some(3)]))),
        ("name", col(StringArray::from(vec![Some("a,b"), Some("say \"x\""), None]))),
        ("day", col(Date32Array::from(vec![0, 1, 1]))),
        ("size", col(Float64Array::from(vec![1.5, 2.0, -0.5]))),
    ])
}

#[test]
fn columns_are_staged_in_the_plans_order_and_quoted() {
    let plan = plan_of(&[("name", ScalarType::String), ("id", ScalarType::Long), ("gone", ScalarType::Int)]);
    let facts = FileFacts::default();
    let rows = rows_of(reader_of(vec![people(), people()], &settings_of(&plan, &facts)).unwrap()).unwrap();
    assert_eq!(rows[..3], ["\"a,b\",1,", "\"say \"\"x\"\"\",,", ",3,"]);
    assert_eq!(rows.len(), 6);
}

#[test]
fn a_path_to_a_column_is_its_name() {
    let mut plan = plan_of(&[("x", ScalarType::Long)]);
    let facts = FileFacts::default();
    plan.columns[0].source = ColumnFrom::Path("$['id']".to_owned());
    assert_eq!(rows_of(reader_of(vec![people()], &settings_of(&plan, &facts)).unwrap()).unwrap()[0], "1");
    plan.columns[0].source = ColumnFrom::Path("$.id.part".to_owned());
    let failure = reader_of(vec![people()], &settings_of(&plan, &facts)).err().unwrap();
    assert_eq!(failure.code, Code::MappingColumnMissing);
}

#[test]
fn a_lone_null_is_a_row_all_the_same() {
    let (plan, facts) = (plan_of(&[("id", ScalarType::Long)]), FileFacts::default());
    let rows = rows_of(reader_of(vec![people()], &settings_of(&plan, &facts)).unwrap()).unwrap();
    assert_eq!(rows, ["1", "\"\"", "3"]);
}

#[test]
fn places_count_rows() {
    let (plan, facts) = (plan_of(&[("id", ScalarType::Long)]), FileFacts::default());
    let settings = ColumnSettings { first_row: 10, ..settings_of(&plan, &facts) };
    let batches = batches_of(reader_of(vec![people(), people()], &settings).unwrap()).unwrap();
    let starts: Vec<_> = batches.iter().map(|b| b.start).collect();
    assert_eq!(starts, [Place { byte: 10, line: 11 }, Place { byte: 13, line: 14 }]);
    let ends: Vec<_> = batches[1].records.iter().map(|r| r.source_end).collect();
    assert_eq!(ends, [1, 2, 3]);
    assert_eq!(batches[1].place_at(3), Place { byte: 16, line: 17 });
}

#[test]
fn much_text_is_cut_into_batches() {
    let text = "x".repeat(300_000);
    let texts = col(StringArray::from(vec![text.as_str(); 10]));
    let (plan, facts) = (plan_of(&[("t", ScalarType::String)]), FileFacts::default());
    let reader = reader_of(vec![batch_of(vec![("t", texts)])], &settings_of(&plan, &facts)).unwrap();
    let batches = batches_of(reader).unwrap();
    assert_eq!(batches.iter().map(|b| b.records.len()).collect::<Vec<_>>(), [4, 4, 2]);
    assert_eq!(batches[2].start, Place { byte: 8, line: 9 });
}

#[test]
fn a_bad_value_fails_the_file_or_is_left_out() {
    let numbers = col(Int64Array::from(vec![1, 1 << 40, 3]));
    let batch = batch_of(vec![("n", numbers), ("s", col(StringArray::from(vec!["a", "b,c", "d"])))]);
    let plan = plan_of(&[("n", ScalarType::Int), ("s", ScalarType::String)]);
    let facts = FileFacts::default();
    let settings = settings_of(&plan, &facts);
    let failure = rows_of(reader_of(vec![batch.clone()], &settings).unwrap()).unwrap_err();
    assert_eq!(failure.code, Code::ValueIncompatible);
    assert!(failure.message.contains("line 2") && failure.message.contains("does not fit 32 bits"), "{failure}");
    let skipping = ColumnSettings { skips: true, ..settings.clone() };
    let batches = batches_of(reader_of(vec![batch.clone()], &skipping).unwrap()).unwrap();
    assert_eq!(batches[0].own, b"1,a\n3,d\n".as_slice());
    let bad = &batches[0].bad[0];
    assert_eq!((bad.before, bad.source_end, bad.at), (1, 2, Place { byte: 1, line: 2 }));
    assert_eq!(bad.original, b"1099511627776,\"b,c\"\n".as_slice());
    let trusting = ColumnSettings { check_values: false, ..settings };
    assert_eq!(rows_of(reader_of(vec![batch], &trusting).unwrap()).unwrap().len(), 3);
}

#[test]
fn lists_are_no_strings_unless_asked_for() {
    let lists = col(ListArray::from_iter_primitive::<Int32Type, _, _>([Some(vec![Some(1), None])]));
    let batch = batch_of(vec![("l", lists)]);
    let facts = FileFacts::default();
    let mut plan = plan_of(&[("l", ScalarType::String)]);
    let failure = reader_of(vec![batch.clone()], &settings_of(&plan, &facts)).err().unwrap();
    assert_eq!(failure.code, Code::MappingColumnMissing);
    plan.complex_to_string = true;
    let rows = rows_of(reader_of(vec![batch.clone()], &settings_of(&plan, &facts)).unwrap()).unwrap();
    assert_eq!(rows, ["\"[1,null]\""]);
    let plan = plan_of(&[("l", ScalarType::Dynamic)]);
    assert_eq!(rows_of(reader_of(vec![batch], &settings_of(&plan, &facts)).unwrap()).unwrap(), ["\"[1,null]\""]);
}

#[test]
fn rows_tell_their_days() {
    let plan = plan_of(&[("id", ScalarType::Long)]);
    let facts = FileFacts::default();
    let settings = ColumnSettings { day_column: Some("day"), ..settings_of(&plan, &facts) };
    let batches = batches_of(reader_of(vec![people()], &settings).unwrap()).unwrap();
    assert_eq!(batches[0].days, [0, 1, 1]);
    let texts = batch_of(vec![
        ("id", col(Int32Array::from(vec![1, 2]))),
        ("day", col(StringArray::from(vec!["1970-01-03", "never"]))),
    ]);
    let settings = ColumnSettings { skips: true, ..settings };
    let batches = batches_of(reader_of(vec![texts], &settings).unwrap()).unwrap();
    assert_eq!((batches[0].days.as_slice(), batches[0].bad.len()), ([2].as_slice(), 1));
}

#[test]
fn an_error_tells_what_could_not_be_read() {
    let (plan, facts) = (plan_of(&[("id", ScalarType::Long)]), FileFacts::default());
    let settings = settings_of(&plan, &facts);
    for (error, code, said) in [
        (ArrowError::ParquetError("bad page".to_owned()), Code::FormatMismatch, "rows from number 1 on"),
        (ArrowError::IoError(String::new(), io::Error::from_raw_os_error(5)), Code::SourceReadFailed, "reading f"),
        (
            ArrowError::ExternalError(Box::new(FormatError::SplitInsideRecord { byte: 7 })),
            Code::SplitInsideRecord,
            "byte 7",
        ),
    ] {
        let wanted = Wanted::of(&["id".to_owned()], &settings).unwrap();
        let schema = Arc::new(people().schema().project(&[0]).unwrap());
        let batches = Box::new(std::iter::once(Err::<RecordBatch, _>(error)));
        let failure = rows_of(ColumnReader::new("Test", schema, batches, wanted, &settings).unwrap()).unwrap_err();
        assert_eq!(failure.code, code);
        assert!(failure.message.contains(said), "{failure}");
    }
}

#[test]
fn a_stored_file_is_read_in_parts_and_counted() {
    let mut file = tempfile::tempfile().unwrap();
    io::Write::write_all(&mut file, b"0123456789").unwrap();
    let count = Arc::new(AtomicU64::new(0));
    let file = StoredFile::new(&file, "f", count.clone()).unwrap();
    assert_eq!(file.exactly(2, 3).unwrap(), b"234".as_slice());
    assert!(file.exactly(8, 3).is_err());
    let mut text = String::new();
    file.part(7, 9).read_to_string(&mut text).unwrap();
    assert_eq!((text.as_str(), count.load(Ordering::Relaxed)), ("78", 5));
}
