//! The window through which a format sees a file: filled from the front of the file, emptied record by record.
//!
//! What is taken leaves with its buffer and is not copied; buffers come back when the last user has let go of them.

use crate::{
    buffers::Pool,
    record::{FormatError, Place, RECORD_BYTES_MAX},
};
use bytes::Bytes;
use ferry_common::failure::Failure;
use std::io::Read;

/// Bytes by which the window is filled at first. What is read, scanned and compressed is in the processor's own cache then.
const FILL_BYTES: usize = 256 << 10;
/// Buffers that wait for their next use.
const BUFFERS_KEPT_MAX: usize = 8;

/// Buffers for the windows of one attempt.
pub fn window_buffers() -> Pool {
    Pool::keeping(BUFFERS_KEPT_MAX, 4 * FILL_BYTES)
}

fn buffer_of(pool: &Pool) -> Vec<u8> {
    pool.take().unwrap_or_else(|| vec![0; 2 * FILL_BYTES])
}

/// Decoded text of one file, seen from where the next record begins.
pub struct TextWindow<'r> {
    reader: Box<dyn Read + 'r>,
    /// The file, for messages.
    path: String,
    pool: Pool,
    /// What was passed, then the text, and after it what is not filled yet.
    buffer: Vec<u8>,
    /// Where the text begins in the buffer, and where it ends.
    front: usize,
    filled: usize,
    /// Everything has been read.
    at_end: bool,
    place: Place,
    /// Judges an error of the reader.
    judge: &'r dyn Fn(std::io::Error) -> Failure,
    /// The part of the file ends at this offset.
    end: Option<u64>,
    /// The first fill and the next one, in bytes.
    fill_first: usize,
    fill: usize,
}

/// Files of a pack share few buffers: a new one for each would cost more to clear than the file to read.
impl Drop for TextWindow<'_> {
    fn drop(&mut self) {
        self.pool.give_back(std::mem::take(&mut self.buffer));
    }
}

impl<'r> TextWindow<'r> {
    /// A window at `place` of the text.
    pub fn new(
        reader: Box<dyn Read + 'r>,
        path: String,
        pool: Pool,
        place: Place,
        end: Option<u64>,
        judge: &'r dyn Fn(std::io::Error) -> Failure,
    ) -> Self {
        let buffer = buffer_of(&pool);
        Self {
            reader,
            path,
            pool,
            buffer,
            front: 0,
            filled: 0,
            at_end: false,
            place,
            judge,
            end,
            fill_first: FILL_BYTES,
            fill: FILL_BYTES,
        }
    }

    /// The same, filled by other steps.
    #[must_use]
    pub fn filled_by(mut self, bytes: usize) -> Self {
        (self.fill_first, self.fill) = (bytes, bytes);
        self
    }

    /// The file, for messages.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Buffers of the attempt.
    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    /// The text from here on, as far as it was read.
    pub fn text(&self) -> &[u8] {
        &self.buffer[self.front..self.filled]
    }

    /// Nothing follows the text.
    pub fn is_last(&self) -> bool {
        self.at_end
    }

    /// The text ends because the part of the file does, and the file goes on.
    pub fn is_part(&self) -> bool {
        self.end.is_some()
    }

    /// Where the text begins.
    pub fn place(&self) -> Place {
        self.place
    }

    /// Reads on. Fails when one record has become too long.
    pub fn more(&mut self) -> Result<(), Failure> {
        if self.front > 0 {
            self.buffer.copy_within(self.front..self.filled, 0);
            (self.front, self.filled) = (0, self.filled - self.front);
        }
        if self.filled > RECORD_BYTES_MAX {
            let error = FormatError::RecordTooLong { line: self.place.line, byte: self.place.byte };
            return Err(error.judged(&self.path));
        }
        // A long record is read in growing steps, so that looking at it again stays cheap.
        self.fill = if self.filled < self.fill_first {
            self.fill_first
        } else {
            self.fill.saturating_mul(2).min(RECORD_BYTES_MAX)
        };
        let mut wanted = self.fill;
        if let Some(end) = self.end {
            let left = end.saturating_sub(self.place.byte + self.filled as u64);
            wanted = wanted.min(usize::try_from(left).unwrap_or(usize::MAX));
        }
        if self.buffer.len() < self.filled + wanted {
            self.buffer.resize(self.filled + wanted, 0);
        }
        let until = self.filled + wanted;
        // Readers give little at a time; scanning pays by the megabyte.
        while self.filled < until {
            match self.reader.read(&mut self.buffer[self.filled..until]) {
                Ok(0) => break,
                Ok(bytes) => self.filled += bytes,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => return Err((self.judge)(e)),
            }
        }
        self.at_end = self.filled < until || wanted == 0;
        Ok(())
    }

    /// Takes the first `bytes` of the text.
    pub fn take(&mut self, bytes: usize) -> Bytes {
        let lines = memchr::memchr_iter(b'\n', &self.text()[..bytes]).count() as u64;
        self.take_lines(bytes, lines)
    }

    /// The same, by a caller who knows how many line ends there are.
    pub fn take_lines(&mut self, bytes: usize, lines: u64) -> Bytes {
        let (begin, end) = (self.front, self.front + bytes);
        let rest = &self.buffer[end..self.filled];
        let mut next = buffer_of(&self.pool);
        if next.len() < rest.len() {
            next.resize(rest.len(), 0);
        }
        next[..rest.len()].copy_from_slice(rest);
        (self.front, self.filled) = (0, rest.len());
        self.place.line += lines;
        self.place.byte += bytes as u64;
        let taken = std::mem::replace(&mut self.buffer, next);
        self.pool.lend(taken).slice(begin..end)
    }

    /// Leaves out the first `bytes` of the text.
    pub fn skip(&mut self, bytes: usize) {
        self.place.line += memchr::memchr_iter(b'\n', &self.text()[..bytes]).count() as u64;
        self.drop_front(bytes);
    }

    fn drop_front(&mut self, bytes: usize) {
        self.place.byte += bytes as u64;
        self.front += bytes;
    }

    /// Goes on to a place ahead where a record begins, by reading.
    pub fn read_on_to(&mut self, to: Place) -> Result<(), Failure> {
        while self.place.byte < to.byte {
            if self.text().is_empty() {
                if self.at_end {
                    let what = format!("it ends before byte {} that was read earlier", to.byte);
                    return Err(super::ReadError::Changed { path: self.path.clone(), what }.into());
                }
                self.more()?;
                continue;
            }
            let ahead = usize::try_from(to.byte - self.place.byte).unwrap_or(usize::MAX);
            self.drop_front(ahead.min(self.text().len()));
        }
        self.place = to;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_a_pack_share_their_buffers() {
        let pool = window_buffers();
        let judge = |e: std::io::Error| Failure::internal(e.to_string());
        for _ in 0..50 {
            let reader = Box::new(&b"a,b\n"[..]);
            let mut window = TextWindow::new(reader, "f".to_owned(), pool.clone(), Place::START, None, &judge);
            window.more().unwrap();
            assert_eq!(&window.take(4)[..], b"a,b\n");
        }
        // One that is read into, and one for what was left over.
        assert_eq!(pool.waiting(), 2);
    }
}
