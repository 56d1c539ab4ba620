//! Text of other encodings becomes UTF-8 on its way in. Bytes that the encoding does not have are an error and never a
//! replacement character.

use encoding_rs::{Decoder, DecoderResult, Encoding};
use std::io::{self, Read};

/// Bytes that are decoded at once.
const STEP: usize = 64 << 10;

/// A byte sequence that the encoding does not have.
#[derive(Debug, thiserror::Error)]
#[error("byte {byte} is not {encoding} text")]
pub struct BadEncoding {
    /// Its offset in the file.
    pub byte: u64,
    /// The encoding's name.
    pub encoding: &'static str,
}

/// The encoding of this name on the web (Encoding Standard), such as `windows-1252` or `UTF-16LE`.
pub fn encoding_named(name: &str) -> Option<&'static Encoding> {
    Encoding::for_label(name.trim().as_bytes())
}

/// A reader of UTF-8 over text of another encoding.
pub struct Utf8Reader<R> {
    inner: R,
    decoder: Decoder,
    encoding: &'static Encoding,
    raw: Vec<u8>,
    start: usize,
    /// Bytes decoded so far.
    passed: u64,
    at_end: bool,
    /// Decoded bytes that did not fit the caller's buffer.
    ready: Vec<u8>,
    ready_start: usize,
}

impl<R: Read> Utf8Reader<R> {
    /// Reads `inner` as text of `encoding`. A byte order mark is left out.
    pub fn new(inner: R, encoding: &'static Encoding) -> Self {
        Self {
            inner,
            decoder: encoding.new_decoder_with_bom_removal(),
            encoding,
            raw: Vec::with_capacity(STEP),
            start: 0,
            passed: 0,
            at_end: false,
            ready: Vec::new(),
            ready_start: 0,
        }
    }

    fn decode_some(&mut self) -> io::Result<bool> {
        if self.start == self.raw.len() && !self.at_end {
            self.raw.resize(STEP, 0);
            let read = self.inner.read(&mut self.raw)?;
            self.raw.truncate(read);
            self.start = 0;
            self.at_end = read == 0;
        }
        self.ready.resize(3 * STEP + 16, 0);
        let (result, read, written) =
            self.decoder.decode_to_utf8_without_replacement(&self.raw[self.start..], &mut self.ready, self.at_end);
        self.ready.truncate(written);
        self.ready_start = 0;
        self.start += read;
        self.passed += read as u64;
        match result {
            DecoderResult::InputEmpty => Ok(!self.at_end || written > 0),
            DecoderResult::OutputFull => Ok(true),
            DecoderResult::Malformed(length, after) => {
                let byte = self.passed.saturating_sub(u64::from(length) + u64::from(after));
                let error = BadEncoding { byte, encoding: self.encoding.name() };
                Err(io::Error::new(io::ErrorKind::InvalidData, error))
            }
        }
    }
}

impl<R: Read> Read for Utf8Reader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.ready_start == self.ready.len() {
            if !self.decode_some()? {
                return Ok(0);
            }
            if self.at_end && self.ready.is_empty() {
                return Ok(0);
            }
        }
        let taken = buffer.len().min(self.ready.len() - self.ready_start);
        buffer[..taken].copy_from_slice(&self.ready[self.ready_start..self.ready_start + taken]);
        self.ready_start += taken;
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_becomes_utf8() {
        for (name, bytes, expected) in [
            ("windows-1252", b"caf\xe9 \x80".to_vec(), "café €"),
            ("UTF-16LE", b"\xff\xfea\0\xe9\0".to_vec(), "aé"),
            ("utf-16be", b"\0a\0\xe9".to_vec(), "aé"),
            ("shift_jis", b"\x82\xa0".to_vec(), "あ"),
            ("latin1", vec![], ""),
        ] {
            let mut text = String::new();
            Utf8Reader::new(bytes.as_slice(), encoding_named(name).unwrap()).read_to_string(&mut text).unwrap();
            assert_eq!(text, expected, "{name}");
        }
        let long = b"\xe9".repeat(500_000);
        let mut text = String::new();
        Utf8Reader::new(long.as_slice(), encoding_named("latin1").unwrap()).read_to_string(&mut text).unwrap();
        assert_eq!(text, "é".repeat(500_000));
    }

    #[test]
    fn what_the_encoding_does_not_have_is_told() {
        let mut reader = Utf8Reader::new(&b"ab\xff\xff"[..], encoding_named("shift_jis").unwrap());
        let error = reader.read_to_string(&mut String::new()).unwrap_err();
        assert!(error.to_string().contains("byte 2"), "{error}");
        assert!(encoding_named("klingon").is_none());
    }
}
