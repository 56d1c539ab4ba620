//! Any bytes as delimited text: batches follow each other without gap or overlap, and nothing panics.
#![no_main]

mod common;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    common::read(r#"{"type": "DelimitedText", "strictColumnCount": false}"#, bytes);
    common::read(r##"{"type": "DelimitedText", "columnDelimiter": "||", "escapeChar": "\\", "commentChar": "#"}"##, bytes);
});
