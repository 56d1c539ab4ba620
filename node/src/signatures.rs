//! What an attempt writes its blobs with: signatures for its next blobs, used by the upload, and asked for anew by the link
//! before they are used up or end.

use async_trait::async_trait;
use ferry_common::{
    staging::{self, BlobOf},
    storage::{Signer, StorageError},
    unit::{BlobAsk, BlobSignatures},
};
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{sync::Notify, time::Instant};

/// Chunks that are signed beyond the one that is written, or more are asked for. Chunks that take no longer than a word with
/// the coordinator are too small to be worth more.
const AHEAD_MIN: u32 = 4;
/// Chunks that are asked for at once.
const ASKED_AT_ONCE: u32 = 32;
/// Signatures are not used for so long before they end: requests are under way for a while.
const MARGIN: Duration = Duration::from_secs(60);
/// How long an upload waits for a signature: longer than a coordinator needs to be started again.
const WAIT_MAX: Duration = Duration::from_secs(600);

/// The signatures of one attempt.
pub(crate) struct Signatures {
    /// The container, for messages.
    place: String,
    state: Mutex<State>,
    arrived: Notify,
    /// Told when the link has something to ask.
    wanted: Arc<Notify>,
}

struct State {
    known: BlobSignatures,
    got: Instant,
    /// The chunk that is written.
    current: u32,
    /// The link was told that more are wanted.
    is_told: bool,
}

impl State {
    fn needs_more(&self, now: Instant) -> bool {
        let BlobSignatures { first_chunk, chunks, ttl, .. } = &self.known;
        let end = first_chunk.saturating_add(u32::try_from(chunks.len()).unwrap_or(u32::MAX));
        let is_short = self.current < *first_chunk || self.current.saturating_add(AHEAD_MIN) > end;
        is_short || now >= self.got + *ttl / 2
    }

    /// The query for a blob, if it is signed and holds for a while.
    fn query_of(&self, blob: BlobOf, now: Instant) -> Option<String> {
        let (of_kind, number) = match blob {
            BlobOf::Chunk(number) => (&self.known.chunks, number),
            BlobOf::Quarantine(number) => (&self.known.quarantines, number),
        };
        let at = usize::try_from(number.0.checked_sub(self.known.first_chunk)?).ok()?;
        let sig = of_kind.get(at)?;
        let holds = now < self.got + self.known.ttl.saturating_sub(MARGIN);
        holds.then(|| format!("{}&sig={sig}", self.known.common))
    }
}

impl Signatures {
    /// Those that came with a lease, for an attempt that begins with chunk `first`. `wanted` is told when there is something
    /// to ask.
    pub(crate) fn new(place: String, known: BlobSignatures, first: u32, wanted: Arc<Notify>) -> Self {
        let state = State { known, got: Instant::now(), current: first, is_told: false };
        Self { place, state: Mutex::new(state), arrived: Notify::new(), wanted }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What to ask the coordinator for; `None`: there is enough for a while.
    pub(crate) fn ask(&self) -> Option<BlobAsk> {
        let state = self.lock();
        let ask = BlobAsk { first_chunk: state.current, chunks: ASKED_AT_ONCE };
        state.needs_more(Instant::now()).then_some(ask)
    }

    /// Takes what the coordinator gave.
    pub(crate) fn take(&self, signatures: BlobSignatures) {
        let mut state = self.lock();
        (state.known, state.got, state.is_told) = (signatures, Instant::now(), false);
        drop(state);
        self.arrived.notify_waiters();
    }

    /// The query for a blob, if there is one now. Whoever asks writes that blob: what is needed next follows from it.
    fn look(&self, blob: BlobOf) -> Option<String> {
        let (BlobOf::Chunk(number) | BlobOf::Quarantine(number)) = blob;
        let now = Instant::now();
        let mut state = self.lock();
        state.current = state.current.max(number.0);
        if state.needs_more(now) && !state.is_told {
            state.is_told = true;
            self.wanted.notify_one();
        }
        state.query_of(blob, now)
    }
}

#[async_trait]
impl Signer for Signatures {
    async fn query_of(&self, name: &str) -> Result<String, StorageError> {
        let unsigned = || StorageError::Unsigned { place: self.place.clone() };
        let blob = staging::blob_of(name).ok_or_else(unsigned)?;
        let deadline = Instant::now() + WAIT_MAX;
        loop {
            // Made before the look, so that nothing is missed that comes between.
            let arrived = self.arrived.notified();
            if let Some(query) = self.look(blob) {
                return Ok(query);
            }
            tokio::time::timeout_at(deadline, arrived).await.map_err(|_| unsigned())?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ferry_common::id::ChunkNumber;

    const TTL: Duration = Duration::from_secs(7_200);

    fn signed(first_chunk: u32, chunks: u32) -> BlobSignatures {
        BlobSignatures {
            common: "sv=1".to_owned(),
            first_chunk,
            chunks: (first_chunk..first_chunk + chunks).map(|n| format!("c{n}")).collect(),
            quarantines: (first_chunk..first_chunk + chunks).map(|n| format!("q{n}")).collect(),
            ttl: TTL,
        }
    }

    fn signatures(first_chunk: u32, chunks: u32) -> Arc<Signatures> {
        Arc::new(Signatures::new("c".to_owned(), signed(first_chunk, chunks), first_chunk, Arc::default()))
    }

    fn chunk(number: u32) -> BlobOf {
        BlobOf::Chunk(ChunkNumber(number))
    }

    #[tokio::test(start_paused = true)]
    async fn more_is_asked_for_before_the_last_is_used() {
        let signatures = signatures(3, 8);
        assert_eq!(signatures.ask(), None);
        for (name, query) in [("r/1/2/3.csv.gz", "sv=1&sig=c3"), ("quarantine/r/1-2-4.csv", "sv=1&sig=q4")] {
            assert_eq!(signatures.query_of(name).await.unwrap(), query);
        }
        // 3 to 10 are signed: while 7 is written there are as many left as there should be.
        assert!(signatures.look(chunk(7)).is_some());
        assert_eq!(signatures.ask(), None);
        assert!(signatures.look(chunk(8)).is_some());
        tokio::time::timeout(Duration::ZERO, signatures.wanted.notified()).await.expect("the link is told");
        assert_eq!(signatures.ask(), Some(BlobAsk { first_chunk: 8, chunks: ASKED_AT_ONCE }));
        signatures.take(signed(8, 32));
        assert_eq!(signatures.ask(), None);
        assert!(signatures.look(chunk(39)).is_some() && signatures.look(chunk(40)).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_blob_that_takes_long_is_written_by_a_newer_signature() {
        let signatures = signatures(0, 8);
        assert!(signatures.look(chunk(0)).is_some());
        tokio::time::advance(TTL / 2).await;
        assert_eq!(
            signatures.ask(),
            Some(BlobAsk { first_chunk: 0, chunks: ASKED_AT_ONCE }),
            "half of the time is over"
        );
        assert!(signatures.look(chunk(0)).is_some(), "it still holds");
        tokio::time::advance(TTL / 2 - MARGIN).await;
        assert!(signatures.look(chunk(0)).is_none(), "it would end on its way");
        signatures.take(signed(0, 32));
        assert!(signatures.look(chunk(0)).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn an_upload_waits_for_a_signature_but_not_for_ever() {
        let signatures = signatures(0, 1);
        let waiting = tokio::spawn({
            let signatures = signatures.clone();
            async move { signatures.query_of("r/1/1/5.csv").await }
        });
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert_eq!(signatures.ask().map(|ask| ask.first_chunk), Some(5), "what is needed, not what comes next");
        signatures.take(signed(5, 1));
        assert_eq!(waiting.await.unwrap().unwrap(), "sv=1&sig=c5");
        let error = signatures.query_of("r/1/1/9.csv").await.unwrap_err();
        assert!(matches!(error, StorageError::Unsigned { .. }), "{error}");
        assert!(signatures.query_of("elsewhere").await.is_err());
    }
}
