//! Where a record ends, and its staged form. One reader a format; each gives batches of records and remembers where it
//! stands, so that a file is never held whole and never scanned twice.

mod avro;
mod columns;
mod delimited;
mod excel;
mod fixed;
mod json;
mod lines;
mod open;
#[cfg(feature = "orc")]
mod orc;
mod parquet;
mod rows;
mod scan;
mod split;
mod typed;
mod w3c;
mod windowed;
mod xml;

use crate::record::{BadRow, Batch, FormatError, Place, RECORD_BYTES_MAX, Row, Staged, write_field};
pub use delimited::{Delimited, RecordSplitter};
pub use json::{ObjectReader, Objects};
pub use open::{Head, Input, Reader, needs_a_plain_file, open, sample};
pub use parquet::AsIs as ParquetAsIs;
pub use split::split_points;
