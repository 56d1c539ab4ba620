//! Blocks to staging blobs. Blocks go up while the chunk is still being cut; a chunk is never in memory as a whole.

use crate::{bandwidth::Throttle, meters::Meters};
use bytes::Bytes;
use ferry_common::{
    failure::Failure,
    storage::{self, BlobWriter, Connections, Signer, StagingStorage, StorageError},
    unit::{Chunk, StagingTarget},
};
use std::sync::Arc;
use tokio::{sync::mpsc, task::JoinSet, time::Instant};

/// Size of a block, but for the last of a blob.
pub(crate) const BLOCK_BYTES: usize = 4 << 20;
/// Blocks of one attempt that are on their way at once.
pub(crate) const BLOCKS_IN_FLIGHT_MAX: usize = 3;
/// Blocks that wait to be sent.
pub(crate) const PIECES_WAITING_MAX: usize = 1;

/// Which of an attempt's open blobs a piece is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    /// The chunk.
    Chunk,
    /// The rows left out of it.
    Quarantine,
}

/// What the compressor hands to the uploader.
#[derive(Debug)]
pub(crate) enum Piece {
    /// A blob of this name begins.
    Begin(Target, String),
    /// The next block of a blob.
    Block(Target, Bytes),
    /// The chunk's blob is complete.
    ChunkEnd(Box<Chunk>),
    /// The quarantine's blob is complete.
    QuarantineEnd,
}

/// Puts something around staging storage: for tests that play storage which is slow, or fails.
pub type Around = Arc<dyn Fn(Box<dyn StagingStorage>) -> Box<dyn StagingStorage> + Send + Sync>;

/// Where an attempt's blobs go, and how fast.
pub(crate) struct Staging {
    storage: Box<dyn StagingStorage>,
    throttle: Throttle,
}

impl Staging {
    /// The storage that a grant names; `signer` has the signatures, where each blob has its own.
    pub(crate) fn open(
        target: &StagingTarget,
        signer: Option<Arc<dyn Signer>>,
        throttle: Throttle,
        connections: &Connections,
    ) -> Result<Self, StorageError> {
        let storage = match signer {
            Some(signer) => storage::open_signed(target, signer, connections)?,
            None => storage::open(target, connections)?,
        };
        Ok(Self { storage, throttle })
    }

    /// The same with something around it.
    pub(crate) fn with(self, around: &Around) -> Self {
        Self { storage: around(self.storage), throttle: self.throttle }
    }
}

/// Uploads pieces until there are no more. `staged` hears of each chunk once its blob is committed.
pub(crate) async fn upload<F>(
    staging: &Staging,
    meters: &Arc<Meters>,
    mut pieces: mpsc::Receiver<Piece>,
    mut staged: impl FnMut(Chunk) -> F,
) -> Result<(), Failure>
where
    F: Future<Output = ()>,
{
    let (mut chunk_blob, mut quarantine): (Option<OpenBlob>, Option<OpenBlob>) = (None, None);
    let early = || Failure::internal("a block came before its blob");
    while let Some(piece) = pieces.recv().await {
        match piece {
            Piece::Begin(target, name) => {
                let writer = staging.storage.create(&name).await?;
                let open = Some(OpenBlob::new(writer.into(), staging.throttle.clone(), meters.clone()));
                match target {
                    Target::Chunk => chunk_blob = open,
                    Target::Quarantine => quarantine = open,
                }
            }
            Piece::Block(target, bytes) => {
                let open = match target {
                    Target::Chunk => chunk_blob.as_mut(),
                    Target::Quarantine => quarantine.as_mut(),
                };
                open.ok_or_else(early)?.add(bytes).await?;
            }
            Piece::ChunkEnd(chunk) => {
                chunk_blob.take().ok_or_else(early)?.commit().await?;
                staged(*chunk).await;
            }
            // Before its chunk's: whoever hears of the chunk may read which rows it lacks.
            Piece::QuarantineEnd => quarantine.take().ok_or_else(early)?.commit().await?,
        }
    }
    Ok(())
}

struct OpenBlob {
    writer: Arc<dyn BlobWriter>,
    throttle: Throttle,
    meters: Arc<Meters>,
    in_flight: JoinSet<Result<(), Failure>>,
    blocks: u32,
    bytes: u64,
}

impl OpenBlob {
    fn new(writer: Arc<dyn BlobWriter>, throttle: Throttle, meters: Arc<Meters>) -> Self {
        Self { writer, throttle, meters, in_flight: JoinSet::new(), blocks: 0, bytes: 0 }
    }

    async fn add(&mut self, block: Bytes) -> Result<(), Failure> {
        while self.in_flight.len() >= BLOCKS_IN_FLIGHT_MAX {
            self.join_one().await?;
        }
        let (writer, throttle, meters) = (self.writer.clone(), self.throttle.clone(), self.meters.clone());
        let (index, offset) = (self.blocks, self.bytes);
        self.blocks += 1;
        self.bytes += block.len() as u64;
        self.in_flight.spawn(async move {
            let bytes = block.len();
            throttle.pass(bytes).await;
            let began = Instant::now();
            let result = writer.stage_block(index, offset, block).await.map_err(Failure::from);
            meters.block(bytes as u64, began.elapsed(), result.as_ref().err().map(|failure| failure.code));
            result
        });
        Ok(())
    }

    async fn join_one(&mut self) -> Result<(), Failure> {
        match self.in_flight.join_next().await {
            Some(Ok(result)) => result,
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
