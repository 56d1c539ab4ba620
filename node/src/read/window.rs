//! The window through which a format sees a file: filled from the front of the file, emptied record by record.

use super::{ReadError, SourceFile, file::byte_order_mark};
use crate::format::{Format, FormatError, Found, Place, RECORD_BYTES_MAX};
use ferry_common::failure::Failure;

/// Bytes by which the window is filled.
const FILL_BYTES: usize = 1 << 20;

/// A file, seen record by record.
pub struct Window {
    file: SourceFile,
    buffer: Vec<u8>,
    /// Where the next record begins in `buffer`.
    start: usize,
    /// The file has been read to its end.
    at_end: bool,
    place: Place,
    /// A byte order mark has been looked for.
    is_begun: bool,
}

impl Window {
    /// A window at the start of the file.
    pub fn new(file: SourceFile) -> Self {
        let place = Place { byte: 0, line: 1 };
        Self { file, buffer: Vec::with_capacity(2 * FILL_BYTES), start: 0, at_end: false, place, is_begun: false }
    }

    /// The file.
    pub fn file(&self) -> &SourceFile {
        &self.file
    }

    /// Where the next record begins.
    pub fn place(&self) -> Place {
        self.place
    }

    /// The next record and where it begins; `None` at the end of the file.
    pub fn next(&mut self, format: &mut Format) -> Result<Option<(&[u8], Place)>, Failure> {
        loop {
            if !self.is_begun {
                self.fill()?;
                if self.buffer.len() < 3 && !self.at_end {
                    continue;
                }
                self.advance(byte_order_mark(&self.buffer));
                self.is_begun = true;
            }
            let window = &self.buffer[self.start..];
            match format.find(window, self.at_end, self.place).map_err(|e| e.judged(self.file.path()))? {
                Found::Record(bytes) => {
                    let (at, start) = (self.place, self.start);
                    self.advance(bytes);
                    return Ok(Some((&self.buffer[start..start + bytes], at)));
                }
                Found::Blank(bytes) => self.advance(bytes),
                Found::NeedMore if self.at_end => return Ok(None),
                Found::NeedMore if window.len() > RECORD_BYTES_MAX => {
                    let error = FormatError::RecordTooLong { line: self.place.line, byte: self.place.byte };
                    return Err(error.judged(self.file.path()));
                }
                Found::NeedMore => self.fill()?,
            }
        }
    }

    /// Goes on to a place where a record begins, which an earlier attempt has reached.
    pub fn jump(&mut self, to: Place) -> Result<(), Failure> {
        if self.file.jump(to.byte)? {
            self.buffer.clear();
            self.start = 0;
            self.at_end = false;
        } else {
            while self.place.byte < to.byte {
                let ahead = usize::try_from(to.byte - self.place.byte).unwrap_or(usize::MAX);
                let step = ahead.min(self.buffer.len() - self.start);
                self.start += step;
                self.place.byte += step as u64;
                if step == 0 {
                    if self.at_end {
                        let what = format!("it ends before byte {} that was read earlier", to.byte);
                        return Err(ReadError::Changed { path: self.file.path().to_owned(), what }.into());
                    }
                    self.fill()?;
                }
            }
        }
        self.is_begun = true;
        self.place = to;
        Ok(())
    }

    fn advance(&mut self, bytes: usize) {
        let passed = &self.buffer[self.start..self.start + bytes];
        self.place.line += memchr::memchr_iter(b'\n', passed).count() as u64;
        self.place.byte += bytes as u64;
        self.start += bytes;
    }

    fn fill(&mut self) -> Result<(), Failure> {
        self.buffer.drain(..self.start);
        self.start = 0;
        let filled = self.buffer.len();
        self.buffer.resize(filled + FILL_BYTES, 0);
        let read = self.file.read(&mut self.buffer[filled..])?;
        self.buffer.truncate(filled + read);
        self.at_end = read == 0;
        Ok(())
    }
}
