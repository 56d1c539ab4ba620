//! The store in memory, with writes that fail, writes whose answer is lost, and writes that take long.

use crate::chance::Chance;
use async_trait::async_trait;
use ferry_common::{
    clock::Millis,
    id::{AttemptNumber, NodeId, RunId, UnitNumber},
};
use ferry_coordinator::store::{
    ChunkRow, CommandCounts, CommandPage, CommandQuery, CommandRow, FilePage, FileQuery, HeldSlots, LeasedUnit,
    LoadedFile, MemoryStore, NodeRow, OpenCommands, PaceKey, PaceRow, RunQuery, RunRow, Store, StoreError, UnitCounts,
    UnitRow, Write,
};
use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::sync::mpsc;

/// A store that outlives coordinators.
#[derive(Clone)]
pub(crate) struct ShakyStore {
    inner: Arc<MemoryStore>,
    chance: Chance,
    /// Share of writes that fail; of these half have their effect.
    share: f64,
    /// Decides which writes take long, where any do, and their share.
    slow: Option<(Chance, f64)>,
    is_calm: Arc<AtomicBool>,
    /// Chunks that were taken from another attempt than the one that holds the unit.
    pub(crate) trespassers: Arc<Mutex<Vec<String>>>,
    /// Which coordinator's it is.
    owner: u32,
    /// Coordinators that must die: a write of theirs was made or not, and they do not know.
    fatal: mpsc::UnboundedSender<u32>,
}

impl ShakyStore {
    /// The store, and where it tells of coordinators that must die.
    pub(crate) fn new(chance: Chance, share: f64, slow: Option<Chance>) -> (Self, mpsc::UnboundedReceiver<u32>) {
        let (fatal, dying) = mpsc::unbounded_channel();
        let (inner, is_calm, trespassers) = (Arc::default(), Arc::default(), Arc::default());
        let slow = slow.map(|slow| {
            let share = slow.number(0, 200) as f64 / 1_000.0;
            (slow, share)
        });
        (Self { inner, chance, share, slow, is_calm, trespassers, owner: 0, fatal }, dying)
    }

    /// The same store, for one coordinator.
    pub(crate) fn of(&self, owner: u32) -> Self {
        Self { owner, ..self.clone() }
    }

    /// A chunk is stored with its unit, of which only the attempt begun last may report.
    fn watch(&self, writes: &[Write]) {
        for write in writes {
            let Write::InsertChunk(row) = write else { continue };
            let is_holder = |w: &Write| matches!(w, Write::UpdateUnit(unit) if unit.number == row.unit && unit.attempts == row.attempt.0);
            if !writes.iter().any(is_holder) {
                let what = format!("chunk {} of unit {} by attempt {}", row.chunk.number, row.unit, row.attempt);
                self.trespassers.lock().unwrap_or_else(PoisonError::into_inner).push(what);
            }
        }
    }

    /// From now on nothing goes wrong any more.
    pub(crate) fn heal(&self) {
        self.is_calm.store(true, Ordering::Relaxed);
    }

    /// How long a write is on its way there, and its answer on the way back, where it takes long.
    fn takes(&self) -> Option<(Duration, Duration)> {
        let (slow, share) = self.slow.as_ref().filter(|_| !self.is_calm.load(Ordering::Relaxed))?;
        if !slow.strikes(*share) {
            return None;
        }
        let time = slow.wait(2_000, 25_000);
        Some(if slow.strikes(0.5) { (time, Duration::ZERO) } else { (Duration::ZERO, time) })
    }

    async fn write(&self, writes: Vec<Write>) -> Result<(), StoreError> {
        self.watch(&writes);
        tokio::task::yield_now().await;
        let failed = || StoreError::Open { place: "simulated".to_owned(), why: "the write failed".to_owned() };
        if self.is_calm.load(Ordering::Relaxed) || !self.chance.strikes(self.share) {
            return self.inner.commit(writes).await;
        }
        match self.chance.number(0, 3) {
            0 => Err(failed()),
            1 => {
                self.inner.commit(writes).await?;
                Err(failed())
            }
            before_or_after => {
                if before_or_after == 2 {
                    self.inner.commit(writes).await?;
                }
                // It dies right here.
                let _ = self.fatal.send(self.owner);
                std::future::pending().await
            }
        }
    }
}

#[async_trait]
impl Store for ShakyStore {
    fn is_exclusive(&self) -> bool {
        self.inner.is_exclusive()
    }

    async fn commit(&self, writes: Vec<Write>) -> Result<(), StoreError> {
        let Some((there, back)) = self.takes() else { return self.write(writes).await };
        tokio::time::sleep(there).await;
        let outcome = self.write(writes).await;
        tokio::time::sleep(back).await;
        outcome
    }

    async fn run(&self, id: &RunId) -> Result<Option<RunRow>, StoreError> {
        self.inner.run(id).await
    }

    async fn live_runs(&self) -> Result<Vec<RunRow>, StoreError> {
        self.inner.live_runs().await
    }

    async fn past_runs(&self, submitted_before: Millis, limit: u32) -> Result<Vec<RunId>, StoreError> {
        self.inner.past_runs(submitted_before, limit).await
    }

    async fn recent_runs(&self, limit: u32) -> Result<Vec<RunRow>, StoreError> {
        self.inner.recent_runs(limit).await
    }

    async fn run_page(&self, query: &RunQuery) -> Result<Vec<RunRow>, StoreError> {
        self.inner.run_page(query).await
    }

    async fn file_page(&self, run: &RunId, query: &FileQuery) -> Result<FilePage, StoreError> {
        self.inner.file_page(run, query).await
    }

    async fn command_page(&self, run: &RunId, query: &CommandQuery) -> Result<CommandPage, StoreError> {
        self.inner.command_page(run, query).await
    }

    async fn unit(&self, run: &RunId, number: UnitNumber) -> Result<Option<UnitRow>, StoreError> {
        self.inner.unit(run, number).await
    }

    async fn pending_units(&self, run: &RunId, now: Millis, limit: u32) -> Result<Vec<UnitRow>, StoreError> {
        self.inner.pending_units(run, now, limit).await
    }

    async fn leased_units(&self, node: &NodeId, limit: u32) -> Result<Vec<UnitRow>, StoreError> {
        self.inner.leased_units(node, limit).await
    }

    async fn leases(&self) -> Result<Vec<LeasedUnit>, StoreError> {
        self.inner.leases().await
    }

    async fn files(
        &self,
        run: &RunId,
        state: Option<&str>,
        after: UnitNumber,
        limit: u32,
    ) -> Result<Vec<UnitRow>, StoreError> {
        self.inner.files(run, state, after, limit).await
    }

    async fn retried_units(&self, run: &RunId, limit: u32) -> Result<Vec<UnitRow>, StoreError> {
        self.inner.retried_units(run, limit).await
    }

    async fn has_open_units(&self, run: &RunId) -> Result<bool, StoreError> {
        self.inner.has_open_units(run).await
    }

    async fn held_slots(&self) -> Result<Vec<HeldSlots>, StoreError> {
        self.inner.held_slots().await
    }

    async fn unit_counts(&self, run: &RunId) -> Result<UnitCounts, StoreError> {
        self.inner.unit_counts(run).await
    }

    async fn chunks(&self, run: &RunId, unit: UnitNumber) -> Result<Vec<ChunkRow>, StoreError> {
        self.inner.chunks(run, unit).await
    }

    async fn commands(&self, run: &RunId, state: &str, limit: u32) -> Result<Vec<CommandRow>, StoreError> {
        self.inner.commands(run, state, limit).await
    }

    async fn due_commands(&self, run: &RunId, now: Millis, limit: u32) -> Result<Vec<CommandRow>, StoreError> {
        self.inner.due_commands(run, now, limit).await
    }

    async fn doubtful_commands(&self, run: &RunId, limit: u32) -> Result<Vec<CommandRow>, StoreError> {
        self.inner.doubtful_commands(run, limit).await
    }

    async fn unit_commands(&self, run: &RunId, unit: UnitNumber) -> Result<Vec<CommandRow>, StoreError> {
        self.inner.unit_commands(run, unit).await
    }

    async fn open_commands(&self, run: &RunId) -> Result<OpenCommands, StoreError> {
        self.inner.open_commands(run).await
    }

    async fn command_counts(&self, run: &RunId) -> Result<CommandCounts, StoreError> {
        self.inner.command_counts(run).await
    }

    async fn listed_files(
        &self,
        run: &RunId,
        attempt: AttemptNumber,
        keys: &[String],
    ) -> Result<Vec<String>, StoreError> {
        self.inner.listed_files(run, attempt, keys).await
    }

    async fn has_listed_files(&self, run: &RunId) -> Result<bool, StoreError> {
        self.inner.has_listed_files(run).await
    }

    async fn loaded_files(&self, sink: &str, keys: &[String]) -> Result<Vec<LoadedFile>, StoreError> {
        self.inner.loaded_files(sink, keys).await
    }

    async fn loaded_page(&self, sink: &str, after: &str, limit: u32) -> Result<Vec<LoadedFile>, StoreError> {
        self.inner.loaded_page(sink, after, limit).await
    }

    async fn half_ingested(&self, run: &RunId, limit: u32) -> Result<Vec<String>, StoreError> {
        self.inner.half_ingested(run, limit).await
    }

    async fn node(&self, id: &NodeId) -> Result<Option<NodeRow>, StoreError> {
        self.inner.node(id).await
    }

    async fn nodes(&self, since: Millis) -> Result<Vec<NodeRow>, StoreError> {
        self.inner.nodes(since).await
    }

    async fn pace(&self, key: &PaceKey) -> Result<Option<PaceRow>, StoreError> {
        self.inner.pace(key).await
    }
}
