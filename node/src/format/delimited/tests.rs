//! Delimited text of any kind, held against the crate `csv` and against itself in other windows.

use super::*;
use crate::{
    convert::FileFacts,
    read::{TextWindow, window_buffers},
};
use ferry_common::{activity::Format, failure::Failure, plan::CopyPlan};
use proptest::prelude::*;

/// Staged text of a whole file, read through windows of `fill` bytes, and how many rows were left out.
fn staged(text: &[u8], format: &Format, fill: usize, skips: bool) -> Result<(Vec<u8>, usize), Failure> {
    let judge = |e: std::io::Error| Failure::internal(e.to_string());
    let window =
        TextWindow::new(Box::new(text), "f".to_owned(), window_buffers(), Place::START, None, &judge).filled_by(fill);
    let facts = FileFacts::default();
    let plan = CopyPlan::default();
    let names: Option<Vec<String>> = None;
    let width = {
        let mut row = Row::default();
        let splitter = RecordSplitter::new(format);
        let mut at = 0;
        loop {
            match splitter.split(&text[at..], true, &mut row) {
                Ok(Split::Blank(bytes)) => at += bytes,
                Ok(Split::Record(_)) | Err(SplitError::LoneCarriageReturn(..)) => break row.len() as u32,
                _ => break 1,
            }
        }
    };
    let plan = CopyPlan { fields_expected: width, ..plan };
    let projection = Projection::of_fields(&plan, names.as_deref(), &facts, false, None).unwrap();
    let mut reader = Delimited::new(window, format, projection, None, skips);
    let (mut out, mut bad, mut batch) = (Vec::new(), 0, Batch::default());
    let mut end = Place::START;
    loop {
        batch.clear();
        if !reader.next(&mut batch)? {
            return Ok((out, bad));
        }
        assert!(batch.start.byte >= end.byte, "batches do not overlap");
        end = batch.end();
        for record in &batch.records {
            out.extend_from_slice(&batch.bytes(record.is_rewritten, record.start, record.end));
        }
        bad += batch.bad.len();
    }
}

fn loose() -> Format {
    serde_json::from_str(r#"{"type": "DelimitedText", "strictColumnCount": false}"#).unwrap()
}

fn rows_by_csv(text: &[u8]) -> Vec<Vec<Vec<u8>>> {
    let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(text);
    reader.byte_records().map(|r| r.unwrap().iter().map(<[u8]>::to_vec).collect()).collect()
}

/// Text of the pieces that matter to a CSV reader, often near the ends of blocks of 64 bytes.
fn pieces() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        4 => Just("a".to_owned()),
        2 => Just(",".to_owned()),
        2 => Just("\"".to_owned()),
        2 => Just("\n".to_owned()),
        1 => Just("\r\n".to_owned()),
        1 => Just("\"\"".to_owned()),
        1 => Just("\",\"".to_owned()),
        1 => Just("é".to_owned()),
        1 => (1_usize..80).prop_map(|n| "x".repeat(n)),
    ];
    proptest::collection::vec(piece, 0..120).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn staged_rows_are_those_that_the_crate_csv_reads(text in pieces(), fill in 1_usize..200) {
        // A width that varies is cut or filled where the layout is fixed, so records of the first one's width count.
        if let Ok((out, 0)) = staged(text.as_bytes(), &loose(), fill, false) {
            let read = rows_by_csv(text.as_bytes());
            let width = read.first().map_or(0, Vec::len);
            if read.iter().all(|r| r.len() == width) {
                prop_assert_eq!(rows_by_csv(&out), read);
            }
        }
    }

    #[test]
    fn any_bytes_give_the_same_in_any_window(
        bytes in proptest::collection::vec(prop_oneof![Just(b'"'), Just(b','), Just(b'\n'), Just(b'\r'), Just(b'a'), any::<u8>()], 0..400),
        fill in 1_usize..100,
    ) {
        let whole = staged(&bytes, &loose(), 1 << 20, true);
        let parts = staged(&bytes, &loose(), fill, true);
        match (whole, parts) {
            (Ok(whole), Ok(parts)) => prop_assert_eq!(whole, parts),
            (whole, parts) => prop_assert_eq!(whole.unwrap_err().code, parts.unwrap_err().code),
        }
    }

    #[test]
    fn a_slow_dialect_stages_what_the_fast_one_does(text in pieces(), fill in 1_usize..100) {
        // An escape character that never occurs takes the splitter alone.
        let slow: Format =
            serde_json::from_str(r#"{"type": "DelimitedText", "strictColumnCount": false, "escapeChar": "~"}"#).unwrap();
        let (fast, slow) = (staged(text.as_bytes(), &loose(), fill, true), staged(text.as_bytes(), &slow, fill, true));
        match (fast, slow) {
            (Ok((fast, _)), Ok((slow, _))) => {
                let (fast, slow) = (rows_by_csv(&fast), rows_by_csv(&slow));
                let width = fast.first().map_or(0, Vec::len);
                if fast.iter().all(|r| r.len() == width) {
                    prop_assert_eq!(fast, slow);
                }
            }
            (fast, slow) => prop_assert_eq!(fast.unwrap_err().code, slow.unwrap_err().code),
        }
    }
}

#[test]
fn clean_records_are_not_touched() {
    let text = "1,\"a\nb\"\r\n2,c\r\n";
    assert_eq!(staged(text.as_bytes(), &loose(), 7, false).unwrap().0, text.as_bytes());
}

#[test]
fn what_is_wrong_is_told_with_its_place() {
    for (text, words) in [
        ("1,a\n2,\"x\ny\n", "line 2 (byte 6)"),
        ("a\rb,c\n", "byte 1"),
        ("1,a\n\"a\"\rb,c\n", "line 2 has a carriage return"),
    ] {
        for fill in [1, 5, 1000] {
            let failure = staged(text.as_bytes(), &loose(), fill, false).unwrap_err();
            assert!(failure.message.contains(words), "{text:?}: {}", failure.message);
        }
    }
}
