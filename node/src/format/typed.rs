//! Formats of typed columns, behind the same doors as the others.

#[cfg(feature = "orc")]
use super::orc;
use super::{
    FormatError, avro,
    columns::{ColumnReader, ColumnSettings},
    needs_a_plain_file,
    open::Input,
    parquet,
};
use crate::read::SourceFile;
use ferry_common::{
    activity::FormatType,
    failure::Failure,
    unit::{FileRange, SampleColumn},
};
use std::io::{self, BufReader};

/// Bytes that are read from a stream at once.
const READ_BYTES: usize = 256 << 10;

/// Opens a file, or a part of it, whose rows are written anew.
pub fn open<'r>(
    input: Input<'r>,
    kind: FormatType,
    settings: &ColumnSettings<'_>,
    range: Option<FileRange>,
    judge: &'r dyn Fn(io::Error) -> Failure,
) -> Result<ColumnReader<'r>, Failure> {
    match (kind, input) {
        (FormatType::Parquet, Input::File(file)) => parquet::reader(file.handle(), file.stored(), settings, range),
        #[cfg(feature = "orc")]
        (FormatType::Orc, Input::File(file)) => orc::reader(file.handle(), file.stored(), settings),
        (FormatType::Avro, Input::File(file)) => match range {
            Some(range) => avro::part(file.handle(), file.stored(), settings, range),
            None => avro::reader(Box::new(BufReader::with_capacity(READ_BYTES, file.reader_at(0)?)), settings, judge),
        },
        (FormatType::Avro, Input::Stream(stream)) => {
            avro::reader(Box::new(BufReader::with_capacity(READ_BYTES, stream)), settings, judge)
        }
        #[cfg(not(feature = "orc"))]
        (FormatType::Orc, _) => Err(lacks_orc(&settings.path)),
        _ => Err(needs_a_plain_file(name_of(kind), &settings.path)),
    }
}

fn name_of(kind: FormatType) -> &'static str {
    match kind {
        FormatType::Parquet => "a Parquet file",
        FormatType::Orc => "an ORC file",
        _ => "such a file",
    }
}

/// The columns that a file's own schema tells.
pub fn sample(input: &mut Input<'_>, kind: FormatType, label: &str) -> Result<Vec<SampleColumn>, Failure> {
    match (kind, input) {
        (FormatType::Parquet, Input::File(file)) => parquet::sample(file.handle(), label),
        #[cfg(feature = "orc")]
        (FormatType::Orc, Input::File(file)) => orc::sample(file.handle(), label),
        (FormatType::Avro, Input::File(file)) => {
            avro::sample(BufReader::with_capacity(READ_BYTES, file.reader_at(0)?), label)
        }
        (FormatType::Avro, Input::Stream(stream)) => avro::sample(BufReader::with_capacity(READ_BYTES, stream), label),
        #[cfg(not(feature = "orc"))]
        (FormatType::Orc, _) => Err(lacks_orc(label)),
        _ => Err(needs_a_plain_file(name_of(kind), label)),
    }
}

#[cfg(not(feature = "orc"))]
fn lacks_orc(label: &str) -> Failure {
    let why = "this ferry was built without the feature orc; use one with it".to_owned();
    FormatError::NotTheFormat { why }.judged(label)
}

/// The parts of a large file: row groups of Parquet, blocks of Avro.
pub fn split_points(
    file: &SourceFile,
    kind: FormatType,
    size: u64,
    part_bytes: u64,
) -> Result<Vec<FileRange>, Failure> {
    let mut ends = match kind {
        FormatType::Avro => avro::split_points(file.handle(), file.path(), part_bytes)?,
        FormatType::Parquet => {
            let groups = parquet::group_bytes(file.handle(), file.path())?;
            let (mut ends, mut bytes) = (Vec::new(), 0);
            for (group, size) in (0..).zip(&groups) {
                if bytes > 0 && bytes + size > part_bytes {
                    ends.push(group);
                    bytes = 0;
                }
                bytes += size;
            }
            ends.push(groups.len() as u64);
            ends
        }
        _ => return Err(FormatError::NotTheFormat { why: "it cannot be split".to_owned() }.judged(file.path())),
    };
    if kind == FormatType::Avro {
        ends.push(size);
    }
    if ends.len() < 2 {
        return Ok(Vec::new());
    }
    let count = ends.len() as u32;
    let starts = std::iter::once(0).chain(ends.iter().copied());
    let ranges = starts.zip(ends.iter().copied()).zip(0..);
    Ok(ranges.map(|((start, end), number)| FileRange { start, end, number, count }).collect())
}
