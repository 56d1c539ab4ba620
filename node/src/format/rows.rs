//! Formats whose records are made, not cut from a text: workbooks and XML. Their places count records.

use super::{BadRow, Batch, FormatError, Objects, Place, Staged, excel::ExcelRows, xml::XmlRows};
use crate::convert::Projection;
use bytes::Bytes;
use ferry_common::failure::Failure;
use std::io::BufRead;

/// Bytes of staged records in one batch, about.
const BATCH_BYTES: usize = 1 << 20;

fn place_of(row: u64) -> Place {
    Place { byte: row, line: row + 1 }
}

/// Reader of one sheet of a workbook.
pub struct SheetReader {
    rows: ExcelRows,
    path: String,
    projection: Projection,
    skips: bool,
    /// Rows of the sheet above the records: 1 with a header.
    head: usize,
    next: usize,
}

impl SheetReader {
    /// A reader of the sheet's records from number `from` on.
    pub fn new(rows: ExcelRows, path: String, projection: Projection, skips: bool, head: usize, from: u64) -> Self {
        Self { rows, path, projection, skips, head, next: head + from as usize }
    }

    /// Fills an empty batch with the next records; false at the end of the sheet.
    pub fn next(&mut self, batch: &mut Batch) -> Result<bool, Failure> {
        batch.start = place_of((self.next - self.head) as u64);
        batch.width = self.projection.outs.len() as u32;
        let first = self.next;
        let (mut own, mut scratch) = (Vec::new(), Vec::new());
        while self.next < self.rows.rows() && own.len() < BATCH_BYTES {
            let place = place_of((self.next - self.head) as u64);
            let number = (self.next + 1 - first) as u32;
            let row = self.rows.row(self.next);
            self.next += 1;
            let own_start = own.len();
            let mut original = Bytes::new();
            let result =
                row.map_err(|e| FormatError::BadRecord { line: place.line, byte: place.byte, why: e.to_string() });
            let result = result.and_then(|values| {
                let value = |index: u32| values.get(index as usize).and_then(Option::as_deref).map(str::as_bytes);
                let written = self.projection.write(value, place, &mut scratch, &mut own);
                if written.is_err() {
                    let texts: Vec<_> = values.iter().map(|v| v.as_deref().unwrap_or_default()).collect();
                    original = Bytes::from(texts.join("\t"));
                }
                written
            });
            match result {
                Ok(()) => batch.records.push(Staged {
                    start: own_start as u32,
                    end: own.len() as u32,
                    source_end: number,
                    rows: 1,
                    is_rewritten: true,
                }),
                Err(error) if self.skips && error.spares_the_rest() => {
                    let before = batch.records.len() as u32;
                    batch.bad.push(BadRow { before, source_end: number, error, at: place, original });
                }
                Err(error) => return Err(error.judged(&self.path)),
            }
        }
        batch.own = Bytes::from(own);
        Ok(self.next > first)
    }
}

/// Reader of one XML document.
pub struct XmlReader<R: BufRead> {
    rows: XmlRows<R>,
    path: String,
    objects: Objects,
    row: Vec<u8>,
    count: u64,
    from: u64,
}

impl<R: BufRead> XmlReader<R> {
    /// A reader of the document's records from number `from` on.
    pub fn new(rows: XmlRows<R>, path: String, objects: Objects, from: u64) -> Self {
        Self { rows, path, objects, row: Vec::new(), count: 0, from }
    }

    /// Fills an empty batch with the next records; false at the end of the document.
    pub fn next(&mut self, batch: &mut Batch) -> Result<bool, Failure> {
        while self.count < self.from {
            if !self.read()? {
                return Ok(false);
            }
        }
        batch.start = place_of(self.count);
        let first = self.count;
        let mut own = Vec::new();
        while own.len() < BATCH_BYTES {
            let place = place_of(self.count);
            if !self.read()? {
                break;
            }
            let text = String::from_utf8_lossy(&self.row);
            let number = (self.count - first) as u32;
            self.objects.take_made(&text, place, number, batch, &mut own).map_err(|e| e.judged(&self.path))?;
        }
        batch.own = Bytes::from(own);
        Ok(self.count > first)
    }

    /// Reads the next row; false at the end of the document.
    fn read(&mut self) -> Result<bool, Failure> {
        self.row.clear();
        let has_row = read_row(&mut self.rows, &mut self.row).map_err(|e| e.judged(&self.path))?;
        self.count += u64::from(has_row);
        Ok(has_row)
    }
}

/// Reads the next row of a document.
pub fn read_row<R: BufRead>(rows: &mut XmlRows<R>, out: &mut Vec<u8>) -> Result<bool, FormatError> {
    use super::xml::XmlError as E;
    rows.next(out).map_err(|e| match e {
        // Not the document's fault; the message of the reader says what it was.
        E::Read { byte, source } => {
            FormatError::NotTheFormat { why: format!("reading failed at byte {byte}: {source}") }
        }
        other => FormatError::NotTheFormat { why: other.to_string() },
    })
}
