//! Staging that takes its time: requests that are under way for longer than a lease lasts, that all stand still for a while and
//! go on, whose answers are lost, and that have their effect when nobody waits for them any more. As in the service, blocks
//! that are not committed are in nobody's way.

use crate::chance::Chance;
use async_trait::async_trait;
use ferry_common::storage::{BlobEntry, BlobWriter, StagingStorage, StorageError};
use std::{
    collections::BTreeMap,
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::time::Instant;
use tonic::codegen::Bytes;

/// Made-up time stands still while a thread waits, as those that cut and compress do for the upload. So whoever waits here
/// moves it on, by so much after each rest.
const STEP: Duration = Duration::from_millis(200);
const REST: Duration = Duration::from_micros(50);
/// Blobs of writers that are late by more than this, after a run was seen to be swept, may stay: the last sweep is made once.
const LATE_MAX: Duration = Duration::from_secs(40);

/// What staging is like in one world.
#[derive(Clone)]
pub(crate) struct SlowStorage(Arc<State>);

struct State {
    /// `None`: everything is done at once.
    chance: Option<Chance>,
    /// Share of requests that take long.
    share: f64,
    is_calm: AtomicBool,
    /// Nothing goes on before.
    stalled_until: Mutex<Option<Instant>>,
    /// When blobs came to be, by name.
    committed: Mutex<BTreeMap<String, Instant>>,
}

/// How a request that takes long goes on.
struct Trouble {
    begins: Instant,
    end: End,
    /// It goes on when whoever asked is gone.
    goes_on_alone: bool,
}

enum End {
    Well,
    /// It is not done, and whoever asked cannot know.
    NotDone,
    /// It is done, and whoever asked hears after so long that it may not be.
    AnswerLost(Duration),
}

fn lock<T>(value: &Mutex<T>) -> MutexGuard<'_, T> {
    value.lock().unwrap_or_else(PoisonError::into_inner)
}

fn lost() -> StorageError {
    StorageError::Unreachable { place: "simulated".to_owned(), why: "no answer in time".to_owned() }
}

async fn wait_until(until: Instant) {
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        tokio::task::spawn_blocking(|| std::thread::sleep(REST)).await.expect("a thread that sleeps");
        tokio::time::advance(left.min(STEP)).await;
    }
}

impl SlowStorage {
    pub(crate) fn new(chance: Option<Chance>) -> Self {
        let share = chance.as_ref().map_or(0.0, |chance| chance.number(0, 120) as f64 / 1_000.0);
        let (is_calm, stalled_until, committed) = Default::default();
        Self(Arc::new(State { chance, share, is_calm, stalled_until, committed }))
    }

    /// From now on nothing takes long any more, but for what is under way.
    pub(crate) fn heal(&self) {
        self.0.is_calm.store(true, Ordering::Relaxed);
    }

    /// Everything stands still for a while.
    pub(crate) fn stall(&self, time: Duration) {
        *lock(&self.0.stalled_until) = Some(Instant::now() + time);
    }

    /// Storage that is like this.
    pub(crate) fn around(&self, storage: Box<dyn StagingStorage>) -> Box<dyn StagingStorage> {
        match self.0.chance {
            Some(_) => Box::new(Slow { world: self.clone(), inner: storage.into() }),
            None => storage,
        }
    }

    /// How long the cluster needs for a blob, where that is long.
    pub(crate) fn read_takes(&self) -> Option<Duration> {
        self.draw().map(|trouble| trouble.begins.saturating_duration_since(Instant::now()))
    }

    /// Of these files below `folder`, those that should have been swept, if the run was seen to be swept at `swept`.
    pub(crate) fn overlooked<P: AsRef<Path>>(&self, files: Vec<P>, folder: &Path, swept: Instant) -> Vec<P> {
        let committed = lock(&self.0.committed);
        let is_due = |file: &P| {
            let name = file.as_ref().strip_prefix(folder).ok().and_then(Path::to_str);
            name.and_then(|name| committed.get(name)).is_none_or(|at| *at < swept + LATE_MAX)
        };
        files.into_iter().filter(is_due).collect()
    }

    fn draw(&self) -> Option<Trouble> {
        let chance = self.0.chance.as_ref().filter(|_| !self.0.is_calm.load(Ordering::Relaxed))?;
        let now = Instant::now();
        let stalled = lock(&self.0.stalled_until).filter(|until| *until > now);
        let begins = match stalled {
            Some(until) => until,
            None if chance.strikes(self.0.share) => now + chance.wait(10_000, 45_000),
            None => return None,
        };
        let end = match chance.number(0, 9) {
            0 => End::NotDone,
            1 => End::AnswerLost(chance.wait(1_000, 20_000)),
            _ => End::Well,
        };
        Some(Trouble { begins, end, goes_on_alone: chance.strikes(0.5) })
    }

    /// Does what was asked for, sooner or later, or not at all.
    async fn carry_out<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, StorageError>> + Send + 'static,
    ) -> Result<T, StorageError> {
        let Some(Trouble { begins, end, goes_on_alone }) = self.draw() else { return work.await };
        let done = async move {
            wait_until(begins).await;
            match end {
                End::Well => work.await,
                End::NotDone => Err(lost()),
                End::AnswerLost(after) => {
                    work.await?;
                    wait_until(Instant::now() + after).await;
                    Err(lost())
                }
            }
        };
        if goes_on_alone { tokio::spawn(done).await.expect("simulated storage does not panic") } else { done.await }
    }
}

/// Storage as a program sees it.
struct Slow {
    world: SlowStorage,
    inner: Arc<dyn StagingStorage>,
}

#[async_trait]
impl StagingStorage for Slow {
    async fn create(&self, name: &str) -> Result<Box<dyn BlobWriter>, StorageError> {
        let (world, inner) = (self.world.clone(), self.inner.clone());
        Ok(Box::new(SlowWriter { world, inner, name: name.to_owned(), blocks: Arc::default() }))
    }

    async fn list(&self, prefix: &str, max: usize) -> Result<Vec<BlobEntry>, StorageError> {
        let (inner, prefix) = (self.inner.clone(), prefix.to_owned());
        self.world.carry_out(async move { inner.list(&prefix, max).await }).await
    }

    async fn read_start(&self, name: &str, bytes_max: usize) -> Result<Option<Bytes>, StorageError> {
        let (inner, name) = (self.inner.clone(), name.to_owned());
        self.world.carry_out(async move { inner.read_start(&name, bytes_max).await }).await
    }

    async fn delete(&self, name: &str) -> Result<(), StorageError> {
        let (inner, name) = (self.inner.clone(), name.to_owned());
        self.world.carry_out(async move { inner.delete(&name).await }).await
    }

    async fn sweep_remains(&self, prefix: &str) -> Result<(), StorageError> {
        self.inner.sweep_remains(prefix).await
    }
}

/// Blocks by number: where each begins, and what it holds.
type Blocks = BTreeMap<u32, (u64, Bytes)>;

struct SlowWriter {
    world: SlowStorage,
    inner: Arc<dyn StagingStorage>,
    name: String,
    /// Those that are not committed.
    blocks: Arc<Mutex<Blocks>>,
}

#[async_trait]
impl BlobWriter for SlowWriter {
    async fn stage_block(&self, index: u32, offset_bytes: u64, bytes: Bytes) -> Result<(), StorageError> {
        let blocks = self.blocks.clone();
        let staged = async move {
            lock(&blocks).insert(index, (offset_bytes, bytes));
            Ok(())
        };
        self.world.carry_out(staged).await
    }

    async fn commit(&self, count: u32) -> Result<(), StorageError> {
        let (world, inner, name, blocks) =
            (self.world.clone(), self.inner.clone(), self.name.clone(), self.blocks.clone());
        let committed = async move {
            let writer = inner.create(&name).await?;
            let staged: Blocks = lock(&blocks).clone();
            for (index, (offset, bytes)) in staged.into_iter().filter(|(index, _)| *index < count) {
                writer.stage_block(index, offset, bytes).await?;
            }
            writer.commit(count).await?;
            lock(&world.0.committed).insert(name, Instant::now());
            Ok::<(), StorageError>(())
        };
        self.world.carry_out(committed).await
    }
}
