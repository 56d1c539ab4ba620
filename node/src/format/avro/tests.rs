use super::{
    super::columns::testing::{plan_of, rows_of, settings_of},
    *,
};
use crate::convert::FileFacts;
use ferry_common::{failure::Code, plan::CopyPlan};
use std::{io::Write as _, os::unix::fs::FileExt as _, sync::atomic::Ordering};

const SYNC: [u8; SYNC_BYTES] = *b"0123456789abcdef";
const SCHEMA_JSON: &str = r#"{"type":"record","name":"r","fields":[
    {"name":"n","type":"long"},
    {"name":"t","type":["null","string"]},
    {"name":"u","type":{"type":"string","logicalType":"uuid"}},
    {"name":"v","type":["long","string","null"]},
    {"name":"e","type":{"type":"enum","name":"e","symbols":["RED","BLUE"]}},
    {"name":"d","type":{"type":"int","logicalType":"date"}},
    {"name":"a","type":{"type":"array","items":"int"}}]}"#;
const UUID: &str = "74be27de-1e4e-49d9-b579-fe0b331d3642";

fn long(value: i64, out: &mut Vec<u8>) {
    let mut bits = ((value << 1) ^ (value >> 63)) as u64;
    while bits >= 0x80 {
        out.push(bits as u8 | 0x80);
        bits >>= 7;
    }
    out.push(bits as u8);
}

fn text(value: &str, out: &mut Vec<u8>) {
    long(value.len() as i64, out);
    out.extend_from_slice(value.as_bytes());
}

fn record(n: i64) -> Vec<u8> {
    let mut out = Vec::new();
    long(n, &mut out);
    if n % 2 == 0 {
        long(1, &mut out);
        text(&format!("row {n}"), &mut out);
    } else {
        long(0, &mut out);
    }
    text(UUID, &mut out);
    long(n % 3, &mut out);
    match n % 3 {
        0 => long(-n, &mut out),
        1 => text("v", &mut out),
        _ => {}
    }
    long(n % 2, &mut out);
    long(n, &mut out);
    // One block of two items, and the end of the array.
    for part in [2, n, 7, 0] {
        long(part, &mut out);
    }
    out
}

fn packed(codec: &str, records: &[u8]) -> Vec<u8> {
    match codec {
        "deflate" => {
            let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(records).unwrap();
            encoder.finish().unwrap()
        }
        "snappy" => {
            let mut out = snap::raw::Encoder::new().compress_vec(records).unwrap();
            out.extend_from_slice(&crc32fast::hash(records).to_be_bytes());
            out
        }
        "zstandard" => zstd::stream::encode_all(records, 1).unwrap(),
        "bzip2" => {
            let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
            encoder.write_all(records).unwrap();
            encoder.finish().unwrap()
        }
        _ => records.to_vec(),
    }
}

fn header(codec: &str) -> Vec<u8> {
    let mut out = b"Obj\x01".to_vec();
    long(2, &mut out);
    text("avro.schema", &mut out);
    text(SCHEMA_JSON, &mut out);
    text("avro.codec", &mut out);
    text(codec, &mut out);
    long(0, &mut out);
    out.extend_from_slice(&SYNC);
    out
}

fn block(codec: &str, count: i64, records: &[u8]) -> Vec<u8> {
    let packed = packed(codec, records);
    let mut out = Vec::new();
    long(count, &mut out);
    long(packed.len() as i64, &mut out);
    out.extend_from_slice(&packed);
    out.extend_from_slice(&SYNC);
    out
}

/// A file of `rows` records in blocks of ten, and where its blocks begin.
fn file_bytes(codec: &str, rows: i64) -> (Vec<u8>, Vec<u64>) {
    let mut out = header(codec);
    let mut starts = Vec::new();
    for first in (0..rows).step_by(10) {
        starts.push(out.len() as u64);
        let count = (rows - first).min(10);
        let records: Vec<u8> = (first..first + count).flat_map(record).collect();
        out.extend(block(codec, count, &records));
    }
    (out, starts)
}

fn file_with(bytes: &[u8]) -> File {
    let file = tempfile::tempfile().unwrap();
    file.write_all_at(bytes, 0).unwrap();
    file
}

fn read(bytes: &[u8], plan: &CopyPlan, first_row: u64) -> Result<Vec<String>, Failure> {
    let facts = FileFacts::default();
    let settings = ColumnSettings { first_row, ..settings_of(plan, &facts) };
    let judge = |e: io::Error| no_avro(&e.to_string()).judged("f");
    rows_of(reader(Box::new(bytes), &settings, &judge)?)
}

fn read_part(file: &File, plan: &CopyPlan, start: u64, end: u64) -> Result<Vec<String>, Failure> {
    let facts = FileFacts::default();
    let range = FileRange { start, end, number: 0, count: 2 };
    rows_of(part(file, Arc::default(), &settings_of(plan, &facts), range)?)
}

fn numbers() -> CopyPlan {
    plan_of(&[("n", ScalarType::Long)])
}

#[test]
fn every_type_has_its_text() {
    let (bytes, _) = file_bytes("null", 3);
    let plan = plan_of(&[
        ("a", ScalarType::Dynamic),
        ("n", ScalarType::Long),
        ("t", ScalarType::String),
        ("u", ScalarType::Guid),
        ("v", ScalarType::String),
        ("e", ScalarType::String),
        ("d", ScalarType::DateTime),
    ]);
    assert_eq!(
        read(&bytes, &plan, 0).unwrap(),
        [
            format!("\"[0,7]\",0,row 0,{UUID},0,RED,1970-01-01T00:00:00Z"),
            format!("\"[1,7]\",1,,{UUID},v,BLUE,1970-01-02T00:00:00Z"),
            format!("\"[2,7]\",2,row 2,{UUID},,RED,1970-01-03T00:00:00Z"),
        ]
    );
}

#[test]
fn every_codec_is_read() {
    for codec in ["null", "deflate", "snappy", "zstandard", "bzip2"] {
        let (bytes, _) = file_bytes(codec, 25);
        let expected: Vec<_> = (0..25).map(|n| n.to_string()).collect();
        assert_eq!(read(&bytes, &numbers(), 0).unwrap(), expected, "{codec}");
    }
    let failure = read(&file_bytes("lzo", 1).0, &numbers(), 0).unwrap_err();
    assert_eq!(failure.code, Code::FormatMismatch);
    assert!(failure.message.contains("lzo"), "{failure}");
}

#[test]
fn many_rows_make_several_batches() {
    let (bytes, _) = file_bytes("snappy", 10_000);
    let rows = read(&bytes, &numbers(), 0).unwrap();
    assert_eq!((rows.len(), rows[9_999].as_str()), (10_000, "9999"));
    for first in [1, 10, 4_095, 4_101, 9_999, 10_000] {
        let rest = read(&bytes, &numbers(), first).unwrap();
        assert_eq!(rest, rows[first as usize..], "from row {first}");
    }
}

#[test]
fn a_file_that_is_cut_off_is_told() {
    let (bytes, starts) = file_bytes("deflate", 30);
    for end in 0..bytes.len() {
        let result = read(&bytes[..end], &numbers(), 0);
        let is_whole_blocks = starts.contains(&(end as u64));
        assert_eq!(result.is_ok(), is_whole_blocks, "cut at byte {end}");
        if let Err(failure) = result {
            assert_eq!(failure.code, Code::FormatMismatch, "cut at byte {end}: {failure}");
        }
    }
    assert!(read(&bytes[..bytes.len() - 1], &numbers(), 30).is_err(), "passed over, but cut off");
}

#[test]
fn a_damaged_file_is_told() {
    let records: Vec<u8> = (0..3).flat_map(record).collect();
    let file = |block: Vec<u8>| [header("null"), block].concat();
    let mut wrong_sync = block("null", 3, &records);
    let last = wrong_sync.len() - 1;
    wrong_sync[last] ^= 1;
    for (case, bytes) in [
        ("too few records", file(block("null", 4, &records))),
        ("too many records", file(block("null", 2, &records))),
        ("records without a count", file(block("null", 0, &records))),
        ("a wrong sync marker", file(wrong_sync)),
        ("a negative count", file(block("null", -1, &records))),
        ("no Avro", b"id,name\n1,2\n".to_vec()),
        ("nothing", Vec::new()),
    ] {
        let failure = read(&bytes, &numbers(), 0).unwrap_err();
        assert_eq!(failure.code, Code::FormatMismatch, "{case}: {failure}");
        assert!(failure.message.contains("Avro"), "{case}: {failure}");
    }
    let snappy = [header("snappy"), block("null", 1, &[0])].concat();
    assert!(read(&snappy, &numbers(), 0).is_err());
}

#[test]
fn parts_hold_every_row_once() {
    let (bytes, starts) = file_bytes("snappy", 1_000);
    let file = file_with(&bytes);
    for part_bytes in [200, 1_000, 3_333, 20_000, 1 << 30] {
        let points = split_points(&file, "f", part_bytes).unwrap();
        assert!(points.iter().all(|p| starts[1..].contains(p)), "{part_bytes}: {points:?}");
        assert!(points.is_sorted_by(|a, b| a < b), "{part_bytes}: {points:?}");
        let begins = std::iter::once(0).chain(points.iter().copied());
        let ends = points.iter().copied().chain(std::iter::once(bytes.len() as u64));
        let rows: Vec<String> =
            begins.zip(ends).flat_map(|(start, end)| read_part(&file, &numbers(), start, end).unwrap()).collect();
        assert_eq!(rows, (0..1_000).map(|n| n.to_string()).collect::<Vec<_>>(), "{part_bytes}");
    }
    assert!(split_points(&file, "f", 1 << 30).unwrap().is_empty());
    assert!(split_points(&file, "f", 3_333).unwrap().len() > 3);
}

#[test]
fn a_part_that_ends_inside_a_block_is_told() {
    let (bytes, starts) = file_bytes("null", 100);
    let file = file_with(&bytes);
    let failure = read_part(&file, &numbers(), 0, starts[2] + 5).unwrap_err();
    assert_eq!(failure.code, Code::SplitInsideRecord);
    assert!(read_part(&file, &numbers(), starts[2] + 5, bytes.len() as u64).is_err());
}

#[test]
fn a_sync_marker_inside_a_record_ends_nothing() {
    // Row 1 has no text; this one has.
    let mut trap = vec![2, 2];
    text("0123456789abcdef", &mut trap);
    trap.extend_from_slice(&record(1)[2..]);
    let mut bytes = header("null");
    let mut starts = Vec::new();
    for _ in 0..50 {
        starts.push(bytes.len() as u64);
        bytes.extend(block("null", 2, &[trap.clone(), trap.clone()].concat()));
    }
    let file = file_with(&bytes);
    let points = split_points(&file, "f", 500).unwrap();
    assert!(!points.is_empty() && points.iter().all(|p| starts.contains(p)));
    assert_eq!(read_part(&file, &numbers(), 0, bytes.len() as u64).unwrap().len(), 100);
}

#[test]
fn a_sample_has_every_column() {
    let (bytes, _) = file_bytes("null", 1);
    let found: Vec<_> = sample(bytes.as_slice(), "f").unwrap().into_iter().map(|c| (c.name, c.kind)).collect();
    let expected = [
        ("n", "long"),
        ("t", "string"),
        ("u", "guid"),
        ("v", "dynamic"),
        ("e", "string"),
        ("d", "datetime"),
        ("a", "dynamic"),
    ];
    assert_eq!(found, expected.map(|(name, kind)| (name.to_owned(), kind.to_owned())));
}

#[test]
fn what_is_read_of_a_part_is_counted() {
    let (bytes, starts) = file_bytes("null", 100);
    let (file, stored) = (file_with(&bytes), Arc::new(AtomicU64::new(0)));
    let (plan, facts) = (numbers(), FileFacts::default());
    let range = FileRange { start: starts[5], end: bytes.len() as u64, number: 1, count: 2 };
    rows_of(part(&file, stored.clone(), &settings_of(&plan, &facts), range).unwrap()).unwrap();
    assert!(stored.load(Ordering::Relaxed) >= bytes.len() as u64 - starts[5]);
}
