//! JSON in any window, and bad lines among good ones.

use super::*;
use crate::{convert::FileFacts, read::window_buffers};
use proptest::prelude::*;

/// Staged text of a file, read through windows of `fill` bytes, and how many rows were left out.
fn staged(text: &[u8], fill: usize, skips: bool) -> Result<(String, usize), Failure> {
    let judge = |e: std::io::Error| Failure::internal(e.to_string());
    let window =
        TextWindow::new(Box::new(text), "f".to_owned(), window_buffers(), Place::START, None, &judge).filled_by(fill);
    let plan = CopyPlan::default();
    let projection = Projection::of_objects(&plan, &FileFacts::default(), true).unwrap();
    let is_array = text.trim_ascii_start().first() == Some(&b'[');
    let objects = Objects::new(&plan, projection, skips).unwrap();
    let mut reader = ObjectReader::new(window, objects, is_array, true);
    let (mut out, mut bad, mut batch) = (Vec::new(), 0, Batch::default());
    loop {
        batch.clear();
        if !reader.next(&mut batch)? {
            return Ok((String::from_utf8(out).unwrap(), bad));
        }
        for record in &batch.records {
            out.extend_from_slice(&batch.bytes(record.is_rewritten, record.start, record.end));
        }
        bad += batch.bad.len();
    }
}

#[test]
fn each_object_is_one_line_whatever_the_window() {
    for (case, text, expected) in [
        ("lines", "{\"a\":1}\r\n\n {\"b\":[1,2]}", "{\"a\":1}\n{\"b\":[1,2]}\n"),
        ("one after the other", "{\"a\":1}{\"a\":{\"b\":\"}\"}}", "{\"a\":1}\n{\"a\":{\"b\":\"}\"}}\n"),
        ("an array", "[{\"a\":1}\n,{\"a\":2}]\n", "{\"a\":1}\n{\"a\":2}\n"),
        ("an empty array", " [ ] ", ""),
        ("spread over lines", "{\n\"a\":\n1}", "{ \"a\": 1}\n"),
        ("nothing", "", ""),
    ] {
        for fill in 1..=text.len().max(1) {
            assert_eq!(staged(text.as_bytes(), fill, false).unwrap(), (expected.to_owned(), 0), "{case}, {fill}");
        }
    }
}

#[test]
fn what_is_no_object_is_told() {
    for bad in
        ["[1]\n", "{\"a\":1\n", "{\"a\":1} x\n", "1\n", "{'a':1}\n", "[{\"a\":1}", "[{\"a\":1} {\"a\":2}]", "[{}] {}"]
    {
        for fill in [1, 3, 1000] {
            let failure = staged(bad.as_bytes(), fill, false).unwrap_err();
            assert_eq!(failure.code, ferry_common::failure::Code::InvalidJsonRecord, "{bad}");
        }
    }
}

#[test]
fn a_bad_line_among_lines_is_left_out() {
    for bad in ["{\"a\":", "nonsense", "{\"a\":1}}", "{\"a\":\u{1}\"x\"}"] {
        let text = format!("{{\"n\":1}}\n{bad}\n{{\"n\":2}}\n");
        for fill in [1, 7, 1000] {
            let (out, left_out) = staged(text.as_bytes(), fill, true).unwrap();
            assert!(out.ends_with("{\"n\":2}\n") && left_out == 1, "{bad}, {fill}: {out}");
        }
    }
    let (out, left_out) = staged(b"{\"n\":1}\n{\"n\":\"\xff\"}\n{\"n\":2}\n", 1000, true).unwrap();
    assert_eq!((out.as_str(), left_out), ("{\"n\":1}\n{\"n\":2}\n", 1));
    assert!(staged(b"[{\"n\":1},\nx,\n{\"n\":2}]", 1000, true).is_err(), "inside an array nobody knows where it ends");
}

proptest! {
    #[test]
    fn any_bytes_give_an_answer(bytes in proptest::collection::vec(
        prop_oneof![Just(b'{'), Just(b'}'), Just(b'['), Just(b']'), Just(b'"'), Just(b','), Just(b'\n'), Just(b'1'), any::<u8>()], 0..200),
        fill in 1_usize..50,
    ) {
        let whole = staged(&bytes, 1 << 20, false);
        let parts = staged(&bytes, fill, false);
        prop_assert_eq!(whole.is_ok(), parts.is_ok());
        if let (Ok(whole), Ok(parts)) = (whole, parts) {
            prop_assert_eq!(whole, parts);
        }
    }
}
