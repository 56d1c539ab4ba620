//! gzip by Intel ISA-L. One encoder makes one gzip member; the same bytes written the same way give the same member.
//!
//! The only unsafe code of ferry stands here: three calls into C.

#![cfg(feature = "link")]

use std::{
    io::{self, Write},
    ptr::NonNull,
};

/// The highest level that ISA-L has.
pub const LEVEL_MAX: u32 = 3;

/// Bytes of compressed data that are gathered before they go on.
const OUT_BYTES: usize = 64 << 10;

#[repr(C)]
struct Stream {
    _private: [u8; 0],
}

unsafe extern "C" {
    fn ferry_isal_new(level: u32) -> *mut Stream;
    fn ferry_isal_deflate(
        stream: *mut Stream,
        input: *const u8,
        input_len: *mut u32,
        output: *mut u8,
        output_len: *mut u32,
        end: i32,
        done: *mut i32,
    ) -> i32;
    fn ferry_isal_free(stream: *mut Stream);
}

/// Makes one gzip member of what is written.
pub struct GzipEncoder<W> {
    stream: NonNull<Stream>,
    /// There until it is handed back.
    inner: Option<W>,
    out: Vec<u8>,
}

// SAFETY: the C stream is plain memory that nothing else points to; it may be used from any one thread at a time.
unsafe impl<W: Send> Send for GzipEncoder<W> {}

impl<W: Write> GzipEncoder<W> {
    /// An encoder at this level, at most [`LEVEL_MAX`], that writes to `inner`.
    ///
    /// # Panics
    /// Where there is no memory for the stream.
    pub fn new(inner: W, level: u32) -> Self {
        // SAFETY: the function takes any number and returns null or a stream of our own.
        let stream = unsafe { ferry_isal_new(level.min(LEVEL_MAX)) };
        let Some(stream) = NonNull::new(stream) else { panic!("no memory for an ISA-L stream") };
        Self { stream, inner: Some(inner), out: vec![0; OUT_BYTES] }
    }

    /// Gives input on; with `end` the member is ended. Returns whether it is complete.
    fn deflate(&mut self, mut input: &[u8], end: bool) -> io::Result<bool> {
        loop {
            let step = input.len().min(u32::MAX as usize);
            let is_end = end && step == input.len();
            let (mut used, mut made, mut done) = (step as u32, self.out.len() as u32, 0);
            // SAFETY: the stream lives; both buffers are as long as is said, and the calls keep no pointer to them: all
            // input that was taken is copied or compressed when the call returns.
            let result = unsafe {
                ferry_isal_deflate(
                    self.stream.as_ptr(),
                    input.as_ptr(),
                    &raw mut used,
                    self.out.as_mut_ptr(),
                    &raw mut made,
                    i32::from(is_end),
                    &raw mut done,
                )
            };
            if result != 0 {
                return Err(io::Error::other(format!("ISA-L failed with {result}")));
            }
            input = &input[used as usize..];
            if let Some(inner) = &mut self.inner {
                inner.write_all(&self.out[..made as usize])?;
            }
            if done != 0 {
                return Ok(true);
            }
            if input.is_empty() && (made as usize) < self.out.len() && !is_end {
                return Ok(false);
            }
            if input.is_empty() && used == 0 && made == 0 {
                return Err(io::Error::other("ISA-L makes no progress"));
            }
        }
    }

    /// Ends the member and returns what it was written to.
    pub fn finish(mut self) -> io::Result<W> {
        self.deflate(&[], true)?;
        self.inner.take().ok_or_else(|| io::Error::other("the encoder was finished before"))
    }
}

impl<W: Write> Write for GzipEncoder<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !bytes.is_empty() {
            self.deflate(bytes, false)?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.as_mut().map_or(Ok(()), Write::flush)
    }
}

impl<W> Drop for GzipEncoder<W> {
    fn drop(&mut self) {
        // SAFETY: the stream came from `ferry_isal_new` and is freed here alone.
        unsafe { ferry_isal_free(self.stream.as_ptr()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;

    #[test]
    fn one_member_reads_back() {
        let text: Vec<u8> = (0..400_000_u32).flat_map(|n| format!("{n},{}\n", n * 7919 % 1000).into_bytes()).collect();
        for level in 0..=LEVEL_MAX {
            for piece in [1, 1000, 65_537, text.len()] {
                let text = &text[..text.len().min(piece * 5_000)];
                let mut encoder = GzipEncoder::new(Vec::new(), level);
                for part in text.chunks(piece) {
                    encoder.write_all(part).unwrap();
                }
                let member = encoder.finish().unwrap();
                let mut back = Vec::new();
                flate2::read::GzDecoder::new(member.as_slice()).read_to_end(&mut back).unwrap();
                assert!(back == text, "level {level}, pieces of {piece}");
            }
        }
        let empty = GzipEncoder::new(Vec::new(), 1).finish().unwrap();
        let mut back = Vec::new();
        flate2::read::GzDecoder::new(empty.as_slice()).read_to_end(&mut back).unwrap();
        assert!(back.is_empty());
    }
}
