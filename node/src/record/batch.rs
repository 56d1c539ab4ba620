//! Consecutive records in their staged form, on their way from a format to the chunks.

use super::{FormatError, Place};
use bytes::Bytes;

/// One record in its staged form. A chunk never ends inside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Staged {
    /// Its first byte, in the batch's source or its own bytes.
    pub start: u32,
    /// Behind its last byte, which is a line feed.
    pub end: u32,
    /// Where the source's next record begins, counted from the start of the batch.
    pub source_end: u32,
    /// Rows in it: more than one where an array of the record makes rows.
    pub rows: u32,
    /// It was written anew, into the batch's own bytes.
    pub is_rewritten: bool,
}

/// A record that was left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadRow {
    /// Staged records of the batch before it.
    pub before: u32,
    /// Where the source's next record begins, counted from the start of the batch.
    pub source_end: u32,
    /// What is wrong with it.
    pub error: FormatError,
    /// Where it begins.
    pub at: Place,
    /// Its bytes as read.
    pub original: Bytes,
}

/// Consecutive records of one file.
#[derive(Debug, Default)]
pub struct Batch {
    /// Where the batch begins in the file.
    pub start: Place,
    /// The decoded text of the batch; empty for formats without lines, whose places count records.
    pub source: Bytes,
    /// What was written anew.
    pub own: Bytes,
    /// The records.
    pub records: Vec<Staged>,
    /// Records that were left out, in order.
    pub bad: Vec<BadRow>,
    /// Days of the records, since 1970, where chunks must not mix days; empty otherwise.
    pub days: Vec<i32>,
    /// Line ends in all of the source text.
    pub lines: u64,
    /// Fields of each staged record, which a chunk must not mix; 0 where records have no fields by number.
    pub width: u32,
}

impl Batch {
    /// Forgets everything but the memory of its lists.
    pub fn clear(&mut self) {
        (self.start, self.source, self.own) = (Place::START, Bytes::new(), Bytes::new());
        self.records.clear();
        self.bad.clear();
        self.days.clear();
        (self.lines, self.width) = (0, 0);
    }

    /// Behind its last record.
    pub fn end(&self) -> Place {
        let staged = self.records.last().map_or(0, |r| r.source_end);
        let left_out = self.bad.last().map_or(0, |r| r.source_end);
        self.place_at(staged.max(left_out))
    }

    /// The place in the file at `source_end` of the batch.
    pub fn place_at(&self, source_end: u32) -> Place {
        let passed = u64::from(source_end);
        let lines = match self.source.get(..source_end as usize) {
            Some(text) if !text.is_empty() && text.len() == self.source.len() => self.lines,
            Some(text) if !self.source.is_empty() => memchr::memchr_iter(b'\n', text).count() as u64,
            _ => passed,
        };
        Place { byte: self.start.byte + passed, line: self.start.line + lines }
    }

    /// The bytes of one record or of several that follow each other.
    pub fn bytes(&self, is_rewritten: bool, start: u32, end: u32) -> Bytes {
        let from = if is_rewritten { &self.own } else { &self.source };
        from.slice(start as usize..end as usize)
    }
}
