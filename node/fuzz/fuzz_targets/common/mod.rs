//! Reads bytes as a file of some format.

use ferry_common::{activity::Settings, failure::Failure, plan::CopyPlan};
use ferry_node::{
    convert::FileFacts,
    format::{Head, Input, open},
    read::window_buffers,
    record::{Batch, Place},
};

pub fn read(format: &str, bytes: &[u8]) {
    let format = serde_json::from_str(format).unwrap();
    let (plan, settings) = (CopyPlan::default(), Settings { enable_skip_incompatible_row: true, ..Settings::default() });
    let judge = |e: std::io::Error| Failure::internal(e.to_string());
    let head = Head {
        input: Input::Stream(Box::new(bytes)),
        label: "fuzz".to_owned(),
        format: &format,
        plan: &plan,
        settings: &settings,
        creation_time: None,
        facts: FileFacts::default(),
        range: None,
        from: Place::START,
        pool: window_buffers(),
        judge: &judge,
    };
    let Ok(mut reader) = open(head) else { return };
    let (mut batch, mut end) = (Batch::default(), Place::START);
    while let Ok(true) = reader.next(&mut batch) {
        assert!(batch.start.byte >= end.byte && batch.start.line >= end.line);
        for record in &batch.records {
            let staged = batch.bytes(record.is_rewritten, record.start, record.end);
            assert_eq!(staged.last(), Some(&b'\n'));
        }
        end = batch.end();
        batch.clear();
    }
}
