//! Where one large file may be cut, so that several nodes copy it: only where a record begins.
//!
//! A look at a window of text around the wanted place tells whether it lies between quotes: only one of the two readings
//! gives records of the right width. Should that be wrong all the same, the part before notices, because its last record
//! does not end where the part does, and nothing of the run is ingested.

use super::{
    RecordSplitter, Row,
    delimited::Split,
    scan::{Dialect, Ended, Scan},
};
use crate::read::SourceFile;
use ferry_common::{
    activity::{Format, FormatType},
    failure::Failure,
    unit::FileRange,
};
use std::io::Read;

/// Bytes that are looked at around a place.
const LOOK_BYTES: u64 = 2 << 20;
/// Records that must have the right width on one reading, and on that alone.
const RECORDS_SURE: usize = 8;

/// The parts of a file, of about `part_bytes` each; none if it stays whole.
pub fn split_points(file: &SourceFile, format: &Format, size: u64, part_bytes: u64) -> Result<Vec<FileRange>, Failure> {
    let starts = match format.kind {
        FormatType::DelimitedText => text_starts(file, format, size, part_bytes)?,
        FormatType::TextLines | FormatType::FixedWidthText => line_starts(file, format, size, part_bytes)?,
        FormatType::Parquet | FormatType::Avro => {
            return super::typed::split_points(file, format.kind, size, part_bytes);
        }
        // Objects may stretch over lines; the others have no place to begin in the middle.
        _ => return Ok(Vec::new()),
    };
    if starts.is_empty() {
        return Ok(Vec::new());
    }
    let count = starts.len() as u32 + 1;
    let begins = std::iter::once(0).chain(starts.iter().copied());
    let ends = starts.iter().copied().chain(std::iter::once(size));
    Ok(begins.zip(ends).zip(0..).map(|((start, end), number)| FileRange { start, end, number, count }).collect())
}

/// Where parts of the same size would begin: nodes that share them end together.
fn wanted_starts(size: u64, part_bytes: u64) -> impl Iterator<Item = u64> {
    let parts = size.div_ceil(part_bytes.max(1)).max(1);
    let part = size.div_ceil(parts);
    (1..parts).map(move |number| number * part)
}

fn is_utf8(format: &Format) -> bool {
    format.encoding_name.as_deref().is_none_or(|name| crate::read::encoding_named(name) == Some(encoding_rs::UTF_8))
}

fn look(file: &SourceFile, at: u64) -> Result<Vec<u8>, Failure> {
    let mut text = Vec::new();
    file.reader_at(at)?.take(LOOK_BYTES).read_to_end(&mut text).map_err(|e| file.failure(e))?;
    Ok(text)
}

fn line_starts(file: &SourceFile, format: &Format, size: u64, part_bytes: u64) -> Result<Vec<u64>, Failure> {
    if !is_utf8(format) {
        return Ok(Vec::new());
    }
    let mut starts = Vec::new();
    for wanted in wanted_starts(size, part_bytes) {
        if let Some(end) = memchr::memchr(b'\n', &look(file, wanted)?) {
            starts.push(wanted + end as u64 + 1);
        }
    }
    Ok(starts)
}

fn text_starts(file: &SourceFile, format: &Format, size: u64, part_bytes: u64) -> Result<Vec<u64>, Failure> {
    let splitter = RecordSplitter::new(format);
    let Some(dialect) = splitter.dialect().filter(|_| is_utf8(format)) else { return Ok(Vec::new()) };
    let mut row = Row::default();
    let head = look(file, 0)?;
    let width = match splitter.split(&head, head.len() as u64 == size, &mut row) {
        Ok(Split::Record(_)) => row.len() as u32,
        _ => return Ok(Vec::new()),
    };
    let mut starts = Vec::new();
    for wanted in wanted_starts(size, part_bytes) {
        if let Some(at) = record_start(&look(file, wanted)?, dialect, width) {
            starts.push(wanted + at as u64);
        }
    }
    Ok(starts)
}

/// Where a record surely begins in a text that begins anywhere.
fn record_start(text: &[u8], dialect: Dialect, width: u32) -> Option<usize> {
    let Some(quote) = dialect.quote else { return memchr::memchr(b'\n', text).map(|at| at + 1) };
    // Two readings: the text begins outside quotes, or between two. Each has its first line end outside quotes.
    let mut ends: [Option<usize>; 2] = [None, None];
    let mut between = 0;
    for at in memchr::memchr2_iter(quote, b'\n', text) {
        if text[at] == quote {
            between ^= 1;
        } else {
            ends[between].get_or_insert(at + 1);
        }
        if ends.iter().all(Option::is_some) {
            break;
        }
    }
    let mut scan = Scan::default();
    let mut reads_well = |from: &usize| {
        let ended = scan.run::<false>(&text[*from..], dialect);
        ended == Ended::Text && scan.records.len() >= RECORDS_SURE && scan.records.iter().all(|r| r.fields == width)
    };
    match ends.map(|end| end.filter(&mut reads_well)) {
        [Some(start), None] | [None, Some(start)] => Some(start),
        // Neither, or both: nobody can tell.
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CSV: Dialect = Dialect { delimiter: b',', quote: Some(b'"') };

    #[test]
    fn a_record_start_is_found_outside_and_inside_quotes() {
        let records = "1,\"a\nb,c\",x\n".repeat(100);
        for from in 0..records.len() / 2 {
            let at = from + record_start(&records.as_bytes()[from..], CSV, 3).unwrap();
            assert_eq!(at % 12, 0, "from {from} found {at}");
        }
    }

    #[test]
    fn in_doubt_there_is_none() {
        assert_eq!(record_start(b"a,b\nc,d\n", CSV, 2), None, "too few to be sure");
        assert_eq!(record_start("x,y\n".repeat(100).as_bytes(), CSV, 3), None, "another width");
        assert_eq!(record_start(b"no line end", CSV, 1), None);
    }
}
