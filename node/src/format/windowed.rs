//! What formats share whose records are cut off a window on text.

use super::Batch;
use crate::read::TextWindow;
use bytes::Bytes;
use ferry_common::failure::Failure;

/// How far the complete records of a window reach.
pub struct Passed {
    /// Bytes, blank lines and comments included.
    pub bytes: usize,
    /// Line ends in them, where they were counted on the way.
    pub lines: Option<u64>,
}

/// Reader of records off a window.
pub trait Windowed<'r> {
    /// The window, whose front is where the next record begins.
    fn window(&mut self) -> &mut TextWindow<'r>;

    /// Takes up the complete records of the window, and all that is left of it where `is_last`. What it writes anew goes
    /// into `own`.
    fn read_text(&mut self, is_last: bool, batch: &mut Batch, own: &mut Vec<u8>) -> Result<Passed, Failure>;

    /// Looks at a batch that is filled but for this.
    fn look_through(&mut self, _batch: &mut Batch) -> Result<(), Failure> {
        Ok(())
    }

    /// Fills an empty batch with the next records; false at the end of the file.
    fn next(&mut self, batch: &mut Batch) -> Result<bool, Failure> {
        loop {
            let is_last = self.window().is_last();
            let mut own = Vec::new();
            let passed = self.read_text(is_last, batch, &mut own)?;
            if passed.bytes > 0 {
                let window = self.window();
                batch.start = window.place();
                batch.source = match passed.lines {
                    Some(lines) => window.take_lines(passed.bytes, lines),
                    None => window.take(passed.bytes),
                };
                batch.lines = window.place().line - batch.start.line;
                batch.own = Bytes::from(own);
                self.look_through(batch)?;
                if !batch.records.is_empty() || !batch.bad.is_empty() {
                    return Ok(true);
                }
            } else if is_last {
                return Ok(false);
            } else {
                self.window().more()?;
            }
        }
    }
}
