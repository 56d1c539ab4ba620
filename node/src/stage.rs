//! Chunk to staging blob. Blocks go up while the chunk is still being cut; a chunk is never in memory as a whole.
//!
//! Two halves: [`ChunkEncoder`] compresses on the attempt's own thread and hands blocks over a bounded channel;
//! [`upload`] sends them and reports each chunk when its blob is committed.

use bytes::Bytes;
use ferry_common::{
    failure::Failure,
    storage::{BlobWriter, StagingStorage, StorageError},
    unit::Chunk,
};
use flate2::{Compression, write::GzEncoder};
use std::{io, sync::Arc};
use tokio::{sync::mpsc, task::JoinSet};

/// Size of a block, but for the last of a blob.
const BLOCK_BYTES: usize = 4 << 20;
/// Blocks of one attempt that are on their way at once.
const BLOCKS_IN_FLIGHT_MAX: usize = 3;
/// Blocks that wait between the two halves.
pub(crate) const PIECES_WAITING_MAX: usize = 1;

/// What the encoder hands to the uploader.
#[derive(Debug)]
pub(crate) enum Piece {
    /// A blob of this name begins.
    ChunkBegin(String),
    /// The next block of the current blob.
    Block(Bytes),
    /// The current blob is complete.
    ChunkEnd(Chunk),
}

/// The other half is gone: it failed, or the attempt was stopped.
#[derive(Debug, thiserror::Error)]
#[error("the upload has ended")]
pub(crate) struct UploadEnded;

/// Cuts what is written into blocks.
struct BlockSink {
    pieces: mpsc::Sender<Piece>,
    block: Vec<u8>,
    crc32: crc32fast::Hasher,
    bytes: u64,
}

impl BlockSink {
    fn send(&mut self) -> io::Result<()> {
        let block = std::mem::replace(&mut self.block, Vec::with_capacity(BLOCK_BYTES));
        self.pieces.blocking_send(Piece::Block(block.into())).map_err(|_| io::Error::other(UploadEnded))
    }
}

impl io::Write for BlockSink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(BLOCK_BYTES - self.block.len());
        self.block.extend_from_slice(&bytes[..taken]);
        self.crc32.update(&bytes[..taken]);
        self.bytes += taken as u64;
        if self.block.len() == BLOCK_BYTES {
            self.send()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// One blob being made: a single gzip member.
pub(crate) struct ChunkEncoder(GzEncoder<BlockSink>);

impl ChunkEncoder {
    /// An encoder at this gzip level. The same bytes give the same blob.
    pub(crate) fn new(pieces: mpsc::Sender<Piece>, level: u32) -> Self {
        let sink =
            BlockSink { pieces, block: Vec::with_capacity(BLOCK_BYTES), crc32: crc32fast::Hasher::new(), bytes: 0 };
        Self(GzEncoder::new(sink, Compression::new(level)))
    }

    /// Adds records.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), UploadEnded> {
        io::Write::write_all(&mut self.0, bytes).map_err(|_| UploadEnded)
    }

    /// Hands over the last block. Returns the size of the blob and its CRC-32.
    pub(crate) fn finish(self) -> Result<(u64, u32), UploadEnded> {
        let mut sink = self.0.finish().map_err(|_| UploadEnded)?;
        if !sink.block.is_empty() {
            sink.send().map_err(|_| UploadEnded)?;
        }
        Ok((sink.bytes, sink.crc32.finalize()))
    }
}

/// Uploads pieces until there are no more. `staged` hears of each chunk once its blob is committed.
pub(crate) async fn upload<F>(
    storage: &dyn StagingStorage,
    mut pieces: mpsc::Receiver<Piece>,
    mut staged: impl FnMut(Chunk) -> F,
) -> Result<(), Failure>
where
    F: Future<Output = ()>,
{
    let mut blob: Option<OpenBlob> = None;
    while let Some(piece) = pieces.recv().await {
        match piece {
            Piece::ChunkBegin(name) => blob = Some(OpenBlob::new(storage.create(&name).await?.into())),
            Piece::Block(bytes) => {
                blob.as_mut().ok_or_else(|| Failure::internal("a block came before its blob"))?.add(bytes).await?;
            }
            Piece::ChunkEnd(chunk) => {
                let open = blob.take().ok_or_else(|| Failure::internal("a chunk ended before it began"))?;
                open.commit().await?;
                staged(chunk).await;
            }
        }
    }
    Ok(())
}

struct OpenBlob {
    writer: Arc<dyn BlobWriter>,
    in_flight: JoinSet<Result<(), StorageError>>,
    blocks: u32,
    bytes: u64,
}

impl OpenBlob {
    fn new(writer: Arc<dyn BlobWriter>) -> Self {
        Self { writer, in_flight: JoinSet::new(), blocks: 0, bytes: 0 }
    }

    async fn add(&mut self, block: Bytes) -> Result<(), Failure> {
        while self.in_flight.len() >= BLOCKS_IN_FLIGHT_MAX {
            self.join_one().await?;
        }
        let (writer, index, offset) = (self.writer.clone(), self.blocks, self.bytes);
        self.blocks += 1;
        self.bytes += block.len() as u64;
        self.in_flight.spawn(async move { writer.stage_block(index, offset, block).await });
        Ok(())
    }

    async fn join_one(&mut self) -> Result<(), Failure> {
        match self.in_flight.join_next().await {
            Some(Ok(result)) => Ok(result?),
            Some(Err(e)) => Err(Failure::internal(format!("sending a block: {e}"))),
            None => Ok(()),
        }
    }

    async fn commit(mut self) -> Result<(), Failure> {
        while !self.in_flight.is_empty() {
            self.join_one().await?;
        }
        Ok(self.writer.commit(self.blocks).await?)
    }
}
