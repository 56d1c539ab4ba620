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

/// Records that follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// They were written anew, into the batch's own bytes.
    pub is_rewritten: bool,
    /// The first byte of the first, in the batch's source or its own bytes.
    pub start: u32,
    /// Behind the last byte of the last.
    pub end: u32,
    /// Rows in them.
    pub rows: u64,
}

impl Run {
    /// A record by itself.
    pub fn of(record: &Staged) -> Self {
        let Staged { start, end, rows, is_rewritten, .. } = *record;
        Self { is_rewritten, start, end, rows: u64::from(rows) }
    }

    /// The same and the record after it, if its bytes follow.
    pub fn and(self, next: &Staged) -> Option<Self> {
        let follows = self.is_rewritten == next.is_rewritten && self.end == next.start;
        follows.then_some(Self { end: next.end, rows: self.rows + u64::from(next.rows), ..self })
    }

    /// How many bytes they have.
    pub fn bytes(self) -> u64 {
        u64::from(self.end - self.start)
    }
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

    /// The records, those together that follow each other.
    pub fn runs(&self) -> impl Iterator<Item = Run> {
        let mut left = self.records.iter().peekable();
        std::iter::from_fn(move || {
            let mut run = Run::of(left.next()?);
            while let Some(longer) = left.peek().and_then(|record| run.and(record)) {
                run = longer;
                left.next();
            }
            Some(run)
        })
    }

    /// All records as one run, where none of them is special: they follow each other, none was left out between them, and none
    /// has a day.
    pub fn as_one(&self) -> Option<Run> {
        if !self.bad.is_empty() || !self.days.is_empty() {
            return None;
        }
        let mut runs = self.runs();
        let one = runs.next()?;
        runs.next().is_none().then_some(one)
    }

    /// The bytes of one record or of several that follow each other.
    pub fn bytes(&self, is_rewritten: bool, start: u32, end: u32) -> Bytes {
        let from = if is_rewritten { &self.own } else { &self.source };
        from.slice(start as usize..end as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(start: u32, end: u32, is_rewritten: bool) -> Staged {
        Staged { start, end, source_end: end, rows: 2, is_rewritten }
    }

    #[test]
    fn records_are_one_run_where_nothing_stands_between_them() {
        let one = |records: &[Staged]| Batch { records: records.to_vec(), ..Batch::default() }.as_one();
        let (first, second) = (record(3, 10, false), record(10, 12, false));
        assert_eq!(one(&[first, second]), Some(Run { is_rewritten: false, start: 3, end: 12, rows: 4 }));
        assert_eq!(one(&[]), None);
        assert_eq!(one(&[first, record(11, 12, false)]), None);
        assert_eq!(one(&[first, record(10, 12, true)]), None);
        assert_eq!(one(&[record(10, 12, true), first]), None);
        let special = |batch: Batch| Batch { records: vec![first, second], ..batch }.as_one();
        assert_eq!(special(Batch { days: vec![1, 1], ..Batch::default() }), None);
        let left_out = BadRow {
            before: 1,
            source_end: 10,
            error: FormatError::NotTheFormat { why: String::new() },
            at: Place::START,
            original: Bytes::new(),
        };
        assert_eq!(special(Batch { bad: vec![left_out], ..Batch::default() }), None);
    }
}
