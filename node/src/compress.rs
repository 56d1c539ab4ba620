//! Records to blocks of a staging blob, on a thread of its own: one gzip member a blob, or the bytes as they are.

use crate::{
    buffers::Pool,
    stage::{BLOCK_BYTES, BLOCKS_IN_FLIGHT_MAX, PIECES_WAITING_MAX, Piece, Target},
};
use bytes::Bytes;
use ferry_common::{activity::StagedCompression, unit::Chunk};
use flate2::{Compression, write::GzEncoder};
use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc as blocking,
    },
    time::{Duration, Instant},
};
use tokio::sync::mpsc;

/// Records that the speed is measured with.
const SAMPLE_BYTES: usize = 4 << 20;
/// Messages that wait for the compressor; each is about a window of text.
const MESSAGES_WAITING_MAX: usize = 4;
/// Blocks that wait for their next use: as many as an attempt has at once.
const BLOCKS_KEPT_MAX: usize = BLOCKS_IN_FLIGHT_MAX + PIECES_WAITING_MAX + 1;

/// What the cutter hands over.
#[derive(Debug)]
pub(crate) enum Message {
    /// A blob of this name begins.
    ChunkBegin(String),
    /// Records of the current blob.
    Data(Bytes),
    /// The current blob is complete; its size and checksum are yet to be filled in.
    ChunkEnd(Box<Chunk>),
    /// The quarantine of the current chunk begins, under this name.
    QuarantineBegin(String),
    /// Lines of the quarantine.
    Quarantine(Bytes),
    /// The quarantine of the current chunk is complete.
    QuarantineEnd,
}

/// The other half is gone: it failed, or the attempt was stopped.
#[derive(Debug, thiserror::Error)]
#[error("the upload has ended")]
pub(crate) struct Ended;

/// The way to the compressor.
#[derive(Debug, Clone)]
pub(crate) struct Messages(blocking::SyncSender<Message>);

impl Messages {
    /// Hands a message over; waits while the compressor is behind.
    pub(crate) fn send(&self, message: Message) -> Result<(), Ended> {
        self.0.send(message).map_err(|_| Ended)
    }
}

/// A way to a compressor, and where it takes its messages from.
pub(crate) fn channel() -> (Messages, blocking::Receiver<Message>) {
    let (sender, receiver) = blocking::sync_channel(MESSAGES_WAITING_MAX);
    (Messages(sender), receiver)
}

/// Buffers for the blocks of one attempt.
fn block_buffers() -> Pool {
    Pool::keeping(BLOCKS_KEPT_MAX, BLOCK_BYTES)
}

/// Cuts what is written into blocks.
struct BlockSink {
    pieces: mpsc::Sender<Piece>,
    target: Target,
    buffers: Pool,
    block: Vec<u8>,
    crc32: crc32fast::Hasher,
    bytes: u64,
}

impl BlockSink {
    fn new(pieces: mpsc::Sender<Piece>, target: Target, buffers: Pool) -> Self {
        Self { pieces, target, buffers, block: Vec::new(), crc32: crc32fast::Hasher::new(), bytes: 0 }
    }

    fn send(&mut self) -> Result<(), Ended> {
        let block = self.buffers.lend(std::mem::take(&mut self.block));
        self.pieces.blocking_send(Piece::Block(self.target, block)).map_err(|_| Ended)
    }

    /// Sends the last block. Returns size and CRC-32 of the blob.
    fn finish(mut self) -> Result<(u64, u32), Ended> {
        if !self.block.is_empty() {
            self.send()?;
        }
        Ok((self.bytes, self.crc32.finalize()))
    }
}

impl io::Write for BlockSink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.block.capacity() == 0 {
            self.block = self.buffers.take().unwrap_or_else(|| Vec::with_capacity(BLOCK_BYTES));
            self.block.clear();
        }
        let taken = bytes.len().min(BLOCK_BYTES - self.block.len());
        self.block.extend_from_slice(&bytes[..taken]);
        self.crc32.update(&bytes[..taken]);
        self.bytes += taken as u64;
        if self.block.len() == BLOCK_BYTES {
            self.send().map_err(io::Error::other)?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// One blob being made. The same bytes give the same blob.
pub(crate) enum Encoder<W: io::Write> {
    Gzip(Box<GzEncoder<W>>),
    /// Levels that ISA-L has.
    #[cfg(feature = "isal")]
    Isal(ferry_isal::GzipEncoder<W>),
    Plain(W),
}

impl<W: io::Write> Encoder<W> {
    pub(crate) fn new(sink: W, compression: StagedCompression, level: u32) -> Self {
        match compression {
            StagedCompression::None => Self::Plain(sink),
            #[cfg(feature = "isal")]
            StagedCompression::Gzip if level <= ferry_isal::LEVEL_MAX => {
                Self::Isal(ferry_isal::GzipEncoder::new(sink, level))
            }
            StagedCompression::Gzip => Self::Gzip(Box::new(GzEncoder::new(sink, Compression::new(level)))),
        }
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), Ended> {
        use io::Write as _;
        match self {
            Self::Gzip(gzip) => gzip.write_all(bytes),
            #[cfg(feature = "isal")]
            Self::Isal(gzip) => gzip.write_all(bytes),
            Self::Plain(sink) => sink.write_all(bytes),
        }
        .map_err(|_| Ended)
    }

    /// Ends the blob, and gives back what it was written to.
    pub(crate) fn finish(self) -> Result<W, Ended> {
        match self {
            Self::Gzip(gzip) => gzip.finish().map_err(|_| Ended),
            #[cfg(feature = "isal")]
            Self::Isal(gzip) => gzip.finish().map_err(|_| Ended),
            Self::Plain(sink) => Ok(sink),
        }
    }
}

/// Records that look like many people's: numbers that count up, dates, a few words again and again.
fn sample_records() -> Vec<u8> {
    let mut text = Vec::with_capacity(SAMPLE_BYTES + 128);
    let mut number: u64 = 0x9E37_79B9_7F4A_7C15;
    while text.len() < SAMPLE_BYTES {
        number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let (id, at) = (text.len(), number >> 33);
        let word = ["cash", "credit card", "no charge", "disputed"][(at % 4) as usize];
        let (minute, second, fare) = (at / 7 % 60, at / 11 % 60, at % 9_000);
        let line = format!(
            "{id},2025-06-{:02}T08:{minute:02}:{second:02}Z,{word},{fare},{:.2},N\n",
            1 + at % 28,
            fare as f64 / 7.0
        );
        text.extend_from_slice(line.as_bytes());
    }
    text
}

/// How many bytes of records a second one core turns into staged blobs, gzip level `level`. It takes about `time`, on the
/// calling thread, which must be one that may block.
pub fn gzip_bytes_per_second(level: u32, time: Duration) -> f64 {
    let (pieces, mut taken) = mpsc::channel(1);
    let drain = std::thread::spawn(move || while taken.blocking_recv().is_some() {});
    let records = sample_records();
    let mut encoder =
        Encoder::new(BlockSink::new(pieces, Target::Chunk, block_buffers()), StagedCompression::Gzip, level);
    let began = Instant::now();
    let mut bytes = 0_u64;
    while began.elapsed() < time && encoder.write(&records).is_ok() {
        bytes += records.len() as u64;
    }
    // With it the way to the drain ends, too.
    let _ = encoder.finish();
    let rate = bytes as f64 / began.elapsed().as_secs_f64().max(f64::EPSILON);
    let _ = drain.join();
    rate
}

/// Compresses until there are no more messages. Runs on the calling thread.
pub(crate) fn compress(
    messages: &blocking::Receiver<Message>,
    pieces: &mpsc::Sender<Piece>,
    compression: StagedCompression,
    level: u32,
    staged: &Arc<AtomicU64>,
) -> Result<(), Ended> {
    let send = |piece: Piece| pieces.blocking_send(piece).map_err(|_| Ended);
    let buffers = block_buffers();
    let sink = |target| BlockSink::new(pieces.clone(), target, buffers.clone());
    let (mut chunk_encoder, mut quarantine): (Option<Encoder<BlockSink>>, Option<BlockSink>) = (None, None);
    while let Ok(message) = messages.recv() {
        match message {
            Message::ChunkBegin(name) => {
                send(Piece::Begin(Target::Chunk, name))?;
                chunk_encoder = Some(Encoder::new(sink(Target::Chunk), compression, level));
            }
            Message::Data(bytes) => {
                if let Some(encoder) = &mut chunk_encoder {
                    encoder.write(&bytes)?;
                }
            }
            Message::ChunkEnd(mut chunk) => {
                if let Some(encoder) = chunk_encoder.take() {
                    (chunk.staged_bytes, chunk.crc32) = encoder.finish()?.finish()?;
                    staged.fetch_add(chunk.staged_bytes, Ordering::Relaxed);
                    send(Piece::ChunkEnd(chunk))?;
                }
            }
            Message::QuarantineBegin(name) => {
                send(Piece::Begin(Target::Quarantine, name))?;
                quarantine = Some(sink(Target::Quarantine));
            }
            Message::Quarantine(bytes) => {
                if let Some(sink) = &mut quarantine {
                    io::Write::write_all(sink, &bytes).map_err(|_| Ended)?;
                }
            }
            Message::QuarantineEnd => {
                if let Some(sink) = quarantine.take() {
                    sink.finish()?;
                    send(Piece::QuarantineEnd)?;
                }
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sample_packs_as_records_do_and_its_speed_is_measured() {
        use io::Write as _;
        let records = sample_records();
        let mut gzip = GzEncoder::new(Vec::new(), Compression::new(1));
        gzip.write_all(&records).unwrap();
        let ratio = records.len() as f64 / gzip.finish().unwrap().len() as f64;
        assert!((1.5..6.0).contains(&ratio), "{ratio}");
        assert!(gzip_bytes_per_second(1, Duration::from_millis(50)) > 100_000.0);
    }
}
