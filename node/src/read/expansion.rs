//! Bounds on what a decoder may make of its input.

use std::{
    io::{self, Read},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

/// Decompressed bytes allowed for each compressed byte. Deflate reaches 1,032; rows of data stay far below it.
pub const RATIO_MAX: u64 = 2_000;
/// Decompressed bytes that are allowed whatever the ratio: long runs of one byte are not a bomb yet.
const RATIO_FREE_BYTES: u64 = 64 << 20;

/// A file whose few bytes become so many that it must be a decompression bomb.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{read} compressed bytes became {written} bytes, more than ferry unpacks of them")]
pub struct BombError {
    /// Compressed bytes read.
    pub read: u64,
    /// Decompressed bytes that came of them.
    pub written: u64,
}

impl BombError {
    /// The bomb that an error of [`Expansion`] tells of.
    pub fn of(error: &io::Error) -> Option<&Self> {
        error.get_ref()?.downcast_ref()
    }
}

/// Reads from a decoder until its output is out of proportion to its input; then it fails with [`BombError`].
///
/// Allowed are the compressed bytes read so far times the ratio, plus 64 MiB.
pub struct Expansion<R> {
    inner: R,
    /// Compressed bytes read, counted where they are read.
    compressed: Arc<AtomicU64>,
    written: u64,
    ratio_max: u64,
}

impl<R> Expansion<R> {
    /// Watches `inner`, whose input is counted by `compressed`. The ratio is [`RATIO_MAX`].
    pub fn new(inner: R, compressed: Arc<AtomicU64>) -> Self {
        Self { inner, compressed, written: 0, ratio_max: RATIO_MAX }
    }
}

impl<R: Read> Read for Expansion<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.written += count as u64;
        let read = self.compressed.load(Ordering::Relaxed);
        if self.written > read.saturating_mul(self.ratio_max).saturating_add(RATIO_FREE_BYTES) {
            let bomb = BombError { read, written: self.written };
            return Err(io::Error::new(io::ErrorKind::InvalidData, bomb));
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gzip(data: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::read::GzEncoder::new(data, flate2::Compression::fast());
        let mut packed = Vec::new();
        encoder.read_to_end(&mut packed).unwrap();
        packed
    }

    #[test]
    fn a_bomb_is_told_before_it_is_unpacked() {
        let zeros = gzip(&vec![0; 70 << 20]);
        let compressed = Arc::new(AtomicU64::new(zeros.len() as u64));
        let open = || Expansion::new(flate2::read::MultiGzDecoder::new(&zeros[..]), compressed.clone());
        assert_eq!(io::copy(&mut open(), &mut io::sink()).unwrap(), 70 << 20);

        let error = io::copy(&mut Expansion { ratio_max: 1, ..open() }, &mut io::sink()).unwrap_err();
        let bomb = BombError::of(&error).unwrap();
        assert_eq!(bomb.read, zeros.len() as u64);
        assert!(bomb.written > 64 << 20 && bomb.written < 66 << 20, "{bomb}");
    }

    #[test]
    fn the_allowance_grows_with_what_was_read() {
        let compressed = Arc::new(AtomicU64::new(1_000));
        let mut endless = Expansion::new(io::repeat(b'x'), compressed);
        let mut buffer = vec![0; 1 << 16];
        let mut total = 0;
        let error = loop {
            match endless.read(&mut buffer) {
                Ok(count) => total += count as u64,
                Err(e) => break e,
            }
        };
        let allowed = (64 << 20) + 1_000 * RATIO_MAX;
        assert!(total <= allowed && total + (1 << 16) > allowed);
        assert_eq!(BombError::of(&error).unwrap().read, 1_000);
    }
}
