//! What is kept of rows that were left out: Data Factory's five columns of its session log, and ferry's after them.

use crate::record::{BadRow, write_field};

/// The header row.
pub(crate) const HEADER: &[u8] = b"Timestamp,Level,OperationName,OperationItem,Message,File,Line,Byte,Column,Code\n";

/// One line. `OperationItem` holds the row's bytes as they were read.
pub(crate) fn line(path: &str, row: &BadRow) -> Vec<u8> {
    let mut line = Vec::with_capacity(row.original.len() + 256);
    let original = row.original.strip_suffix(b"\n").unwrap_or(&row.original);
    let original = original.strip_suffix(b"\r").unwrap_or(original);
    let now = jiff::Timestamp::now().to_string();
    let (at_line, at_byte) = (row.at.line.to_string(), row.at.byte.to_string());
    let message = row.error.to_string();
    let fields: [&[u8]; 10] = [
        now.as_bytes(),
        b"Warning",
        b"TabularRowSkip",
        original,
        message.as_bytes(),
        path.as_bytes(),
        at_line.as_bytes(),
        at_byte.as_bytes(),
        row.error.column().as_bytes(),
        row.error.code().as_str().as_bytes(),
    ];
    for (number, field) in fields.into_iter().enumerate() {
        if number > 0 {
            line.push(b',');
        }
        write_field(field, &mut line);
    }
    line.push(b'\n');
    line
}
