//! The window through which a format sees a file: filled from the front of the file, emptied record by record.
//!
//! What is taken leaves with its buffer and is not copied; buffers come back when the last user has let go of them.

use crate::record::{FormatError, Place, RECORD_BYTES_MAX};
use bytes::Bytes;
use ferry_common::failure::Failure;
use std::{
    io::Read,
    sync::{Arc, Mutex, PoisonError},
};

/// Bytes by which the window is filled at first.
const FILL_BYTES: usize = 1 << 20;
/// Buffers that wait for their next use.
const BUFFERS_KEPT_MAX: usize = 6;

/// Buffers that go round within one attempt.
#[derive(Debug, Clone, Default)]
pub struct Pool(Arc<Mutex<Vec<Vec<u8>>>>);

/// A buffer that goes back to its pool.
struct Lent {
    buffer: Vec<u8>,
    pool: Pool,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.buffer
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let buffer = std::mem::take(&mut self.buffer);
        // A buffer that one huge record made large is let go.
        if buffer.capacity() <= 4 * FILL_BYTES {
            let mut kept = self.pool.0.lock().unwrap_or_else(PoisonError::into_inner);
            if kept.len() < BUFFERS_KEPT_MAX {
                kept.push(buffer);
            }
        }
    }
}

impl Pool {
    /// An empty buffer.
    pub fn take(&self) -> Vec<u8> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        kept.map_or_else(
            || Vec::with_capacity(2 * FILL_BYTES),
            |mut buffer| {
                buffer.clear();
                buffer
            },
        )
    }

    /// Lends a filled buffer out; it comes back by itself.
    pub fn lend(&self, buffer: Vec<u8>) -> Bytes {
        Bytes::from_owner(Lent { buffer, pool: self.clone() })
    }
}

/// Decoded text of one file, seen from where the next record begins.
pub struct TextWindow<'r> {
    reader: Box<dyn Read + 'r>,
    /// The file, for messages.
    path: String,
    pool: Pool,
    buffer: Vec<u8>,
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
        let buffer = pool.take();
        Self { reader, path, pool, buffer, at_end: false, place, judge, end, fill_first: FILL_BYTES, fill: FILL_BYTES }
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
        &self.buffer
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
        if self.buffer.len() > RECORD_BYTES_MAX {
            let error = FormatError::RecordTooLong { line: self.place.line, byte: self.place.byte };
            return Err(error.judged(&self.path));
        }
        let filled = self.buffer.len();
        // A long record is read in growing steps, so that looking at it again stays cheap.
        self.fill =
            if filled < self.fill_first { self.fill_first } else { self.fill.saturating_mul(2).min(RECORD_BYTES_MAX) };
        let mut wanted = self.fill;
        if let Some(end) = self.end {
            let left = end.saturating_sub(self.place.byte + filled as u64);
            wanted = wanted.min(usize::try_from(left).unwrap_or(usize::MAX));
        }
        self.buffer.resize(filled + wanted, 0);
        let mut read = 0;
        // Readers give little at a time; scanning pays by the megabyte.
        while read < wanted {
            match self.reader.read(&mut self.buffer[filled + read..]) {
                Ok(0) => break,
                Ok(bytes) => read += bytes,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => return Err((self.judge)(e)),
            }
        }
        self.buffer.truncate(filled + read);
        self.at_end = read < wanted || wanted == 0;
        Ok(())
    }

    /// Takes the first `bytes` of the text.
    pub fn take(&mut self, bytes: usize) -> Bytes {
        let mut rest = self.pool.take();
        rest.extend_from_slice(&self.buffer[bytes..]);
        self.pass(bytes);
        let taken = std::mem::replace(&mut self.buffer, rest);
        self.pool.lend(taken).slice(..bytes)
    }

    /// Leaves out the first `bytes` of the text.
    pub fn skip(&mut self, bytes: usize) {
        self.pass(bytes);
        self.buffer.drain(..bytes);
    }

    fn pass(&mut self, bytes: usize) {
        self.place.line += memchr::memchr_iter(b'\n', &self.buffer[..bytes]).count() as u64;
        self.place.byte += bytes as u64;
    }

    /// Goes on to a place ahead where a record begins, by reading.
    pub fn read_on_to(&mut self, to: Place) -> Result<(), Failure> {
        while self.place.byte < to.byte {
            if self.buffer.is_empty() {
                if self.at_end {
                    let what = format!("it ends before byte {} that was read earlier", to.byte);
                    return Err(super::ReadError::Changed { path: self.path.clone(), what }.into());
                }
                self.more()?;
                continue;
            }
            let ahead = usize::try_from(to.byte - self.place.byte).unwrap_or(usize::MAX);
            let step = ahead.min(self.buffer.len());
            self.place.byte += step as u64;
            self.buffer.drain(..step);
        }
        self.place = to;
        Ok(())
    }
}
