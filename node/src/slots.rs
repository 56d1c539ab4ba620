//! What runs at once on a node: attempts in slots, and the reports that wait for an acknowledgement.

use crate::{
    bandwidth::{Bandwidth, Throttle},
    clear,
    copy::{self, Copied},
    list,
    meters::Meters,
    progress::Progress,
    read::Roots,
    signatures::Signatures,
    stage::{Around, Staging},
    trial,
};
use ferry_common::{
    failure::{Code, Failure},
    id::RunId,
    spans::{self, Span, SpanOf},
    storage::{Connections, Signer},
    timetable::Timetable,
    unit::{AttemptKey, BlobAsk, Chunk, Counters, Event, Grant, Report, SignedBlobs, StagingTarget, Work},
};
use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::SystemTime,
};
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

/// Reports that may wait; an attempt with more to say stands still until there is room.
const REPORTS_WAITING_MAX: usize = 64;
/// Reports in one message.
const REPORTS_SENT_MAX: usize = 16;
/// Pages of a listing among them: the largest reports, with a megabyte of paths each.
const PAGES_SENT_MAX: usize = 2;

/// Reports on their way, in order, repeated until acknowledged.
pub(crate) struct Outbox {
    queue: Mutex<(u64, VecDeque<Report>)>,
    room: Semaphore,
    changed: Arc<Notify>,
}

impl Outbox {
    fn new() -> Self {
        Self { queue: Mutex::default(), room: Semaphore::new(REPORTS_WAITING_MAX), changed: Arc::default() }
    }

    fn lock(&self) -> MutexGuard<'_, (u64, VecDeque<Report>)> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn push(&self, key: AttemptKey, event: Event) {
        // The semaphore is never closed.
        if let Ok(permit) = self.room.acquire().await {
            permit.forget();
        }
        let mut queue = self.lock();
        queue.0 += 1;
        let sequence = queue.0;
        queue.1.push_back(Report { sequence, key, event });
        drop(queue);
        self.changed.notify_one();
    }

    /// The first reports.
    pub(crate) fn first(&self) -> Vec<Report> {
        let mut pages = 0;
        let fits = |report: &&Report| {
            pages += usize::from(matches!(report.event, Event::Listed(_)));
            pages <= PAGES_SENT_MAX
        };
        self.lock().1.iter().take(REPORTS_SENT_MAX).take_while(fits).cloned().collect()
    }

    /// Waits until a report is added, or something is to be asked.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.lock().1.is_empty()
    }

    fn acknowledge(&self, sequence: u64) -> Option<Report> {
        let mut queue = self.lock();
        let at = queue.1.iter().position(|r| r.sequence == sequence)?;
        self.room.add_permits(1);
        queue.1.remove(at)
    }

    /// Drops what an attempt had to say, but for what ends its lease.
    fn drop_all_of(&self, key: &AttemptKey) {
        let mut queue = self.lock();
        let before = queue.1.len();
        let ends_lease = |event: &Event| match event {
            Event::Failed(_) | Event::GivenBack | Event::Completed { .. } | Event::Cleared(_) => true,
            Event::Listed(page) => page.last,
            Event::ChunkStaged(_) => false,
        };
        queue.1.retain(|r| r.key != *key || ends_lease(&r.event));
        self.room.add_permits(before - queue.1.len());
    }

    fn holds(&self, key: &AttemptKey) -> bool {
        self.lock().1.iter().any(|r| r.key == *key)
    }
}

struct Running {
    stop: CancellationToken,
    /// On stopping, say that the unit is given back.
    gives_back: Arc<AtomicBool>,
    progress: Arc<Progress>,
    /// Where each blob has its own.
    signatures: Option<Arc<Signatures>>,
}

/// A lease that is worked on.
pub(crate) struct Held {
    pub(crate) key: AttemptKey,
    pub(crate) progress: Counters,
    /// Blobs that it needs signatures for.
    pub(crate) blobs: Option<BlobAsk>,
}

/// What a node may do to its sources.
#[derive(Debug, Clone)]
pub(crate) struct Reach {
    /// What lies below these may be read.
    pub(crate) roots: Roots,
    /// And deleted and moved.
    pub(crate) may_change_sources: bool,
}

/// The attempts of a node.
#[derive(Clone)]
pub(crate) struct Slots {
    /// Name of the node, for logs and spans.
    node: Arc<str>,
    running: Arc<Mutex<HashMap<AttemptKey, Running>>>,
    outbox: Arc<Outbox>,
    reach: Reach,
    bandwidth: Arc<Bandwidth>,
    /// Of runs whose bandwidth is limited, as long as they have attempts here.
    run_bandwidths: Arc<Mutex<HashMap<RunId, Weak<Bandwidth>>>>,
    count: u32,
    ended: Arc<Notify>,
    meters: Arc<Meters>,
    /// To staging storage, for all attempts.
    connections: Connections,
    /// Around the staging storage of each attempt.
    around: Option<Around>,
}

impl Slots {
    pub(crate) fn new(node: &str, count: u32, reach: Reach, bandwidth: Bandwidth, meters: Arc<Meters>) -> Self {
        meters.slots(count);
        meters.busy(0);
        Self {
            node: node.into(),
            running: Arc::default(),
            outbox: Arc::new(Outbox::new()),
            reach,
            bandwidth: Arc::new(bandwidth),
            run_bandwidths: Arc::default(),
            count,
            ended: Arc::default(),
            meters,
            connections: Connections::default(),
            around: None,
        }
    }

    /// The same, with something around the staging storage of each attempt.
    pub(crate) fn staging_around(self, around: Option<Around>) -> Self {
        Self { around, ..self }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<AttemptKey, Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn outbox(&self) -> &Outbox {
        &self.outbox
    }

    /// Attempts that could be started now.
    pub(crate) fn free(&self) -> u32 {
        self.count.saturating_sub(self.lock().len() as u32)
    }

    /// Nothing runs.
    pub(crate) fn is_idle(&self) -> bool {
        self.lock().is_empty()
    }

    /// Leases that are worked on, how far they are, and what they need.
    pub(crate) fn held(&self) -> Vec<Held> {
        // A stopped attempt is renewed no more: it gives back when it has ended.
        let goes_on = |(_, running): &(&AttemptKey, &Running)| !running.stop.is_cancelled();
        let held = |(key, running): (&AttemptKey, &Running)| Held {
            key: key.clone(),
            progress: running.progress.counters(),
            blobs: running.signatures.as_ref().and_then(|signatures| signatures.ask()),
        };
        self.lock().iter().filter(goes_on).map(held).collect()
    }

    /// Hands signatures to their attempt, if it still goes on.
    pub(crate) fn take_signatures(&self, signed: SignedBlobs) {
        if let Some(signatures) = self.lock().get(&signed.key).and_then(|running| running.signatures.as_ref()) {
            signatures.take(signed.signatures);
        }
    }

    /// What attempts of the run keep to here, all together.
    fn bandwidth_of(&self, run: &RunId, timetable: &Timetable) -> Arc<Bandwidth> {
        let mut all = self.run_bandwidths.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, bandwidth| bandwidth.strong_count() > 0);
        if let Some(known) = all.get(run).and_then(Weak::upgrade) {
            return known;
        }
        let new = Arc::new(Bandwidth::new(timetable.clone()));
        all.insert(run.clone(), Arc::downgrade(&new));
        new
    }

    /// The run holds so many slots on all nodes.
    pub(crate) fn share_bandwidth(&self, run: &RunId, everywhere: u32) {
        let all = self.run_bandwidths.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bandwidth) = all.get(run).and_then(Weak::upgrade) {
            let here = self.lock().keys().filter(|key| key.run == *run).count();
            bandwidth.share(u32::try_from(here).unwrap_or(u32::MAX), everywhere);
        }
    }

    /// Waits until an attempt has ended.
    pub(crate) async fn ended(&self) {
        self.ended.notified().await;
    }

    /// Begins what was granted. A grant that comes again changes nothing.
    pub(crate) fn start(&self, grant: Grant) {
        let key = grant.key.clone();
        if self.outbox.holds(&key) {
            return;
        }
        let signatures = self.signatures_of(&grant);
        let running = Running {
            stop: CancellationToken::new(),
            gives_back: Arc::default(),
            progress: Arc::new(Progress::metered(self.meters.clone())),
            signatures: signatures.clone(),
        };
        let (stop, gives_back, progress) = (running.stop.clone(), running.gives_back.clone(), running.progress.clone());
        {
            let mut all = self.lock();
            if all.contains_key(&key) {
                return;
            }
            all.insert(key.clone(), running);
            self.meters.busy(all.len());
        }
        tracing::info!(run = %key.run, unit = %key.unit, attempt = %key.attempt, node = &*self.node, "attempt begins");
        // Made before the share is told that comes with the grant.
        let of_run = match &grant.work {
            Work::Copy(copy) => copy.settings.bandwidth.as_ref().map(|table| self.bandwidth_of(&key.run, table)),
            Work::List { .. } | Work::Clear(_) => None,
        };
        let throttle = Throttle::new(self.bandwidth.clone(), of_run);
        let slots = self.clone();
        let (began, seen) = (SystemTime::now(), progress.clone());
        tokio::spawn(async move {
            let path = match &grant.work {
                Work::List { source, .. } => source.folder_path.clone(),
                Work::Copy(copy) => copy.file.path.clone(),
                Work::Clear(clear) => clear.folder_path.clone(),
            };
            // In a task of its own, so that a panic ends the attempt and not the node.
            let attempt = tokio::spawn(slots.clone().attempt(grant, throttle, signatures, progress, stop));
            let event = match attempt.await {
                Ok(Ok(event)) => event,
                Ok(Err(failure)) => Some(Event::Failed(failure)),
                Err(_) => Some(Event::Failed(copy::panicked(&path))),
            };
            let event = event.or_else(|| gives_back.load(Ordering::SeqCst).then_some(Event::GivenBack));
            spans::send(|| slots.span_of(&key, began, seen.counters(), event.as_ref()));
            if let Some(event) = event {
                match &event {
                    Event::Failed(failure) => {
                        slots.meters.attempt_failed(failure.code);
                        tracing::warn!(run = %key.run, unit = %key.unit, attempt = %key.attempt, node = &*slots.node, code = %failure.code, "attempt failed: {}", failure.message);
                    }
                    _ => {
                        tracing::info!(run = %key.run, unit = %key.unit, attempt = %key.attempt, node = &*slots.node, "attempt ends")
                    }
                }
                slots.outbox.push(key.clone(), event).await;
            }
            slots.meters.take_readings();
            {
                let mut all = slots.lock();
                all.remove(&key);
                slots.meters.busy(all.len());
            }
            slots.ended.notify_one();
            slots.outbox.changed.notify_one();
        });
    }

    /// What came with a grant, where each blob has a signature of its own.
    fn signatures_of(&self, grant: &Grant) -> Option<Arc<Signatures>> {
        let Work::Copy(work) = &grant.work else { return None };
        let StagingTarget::SignedBlobs { container_url, signatures, .. } = &work.staging else { return None };
        let (first, wanted) = (work.resume.next_chunk, self.outbox.changed.clone());
        Some(Arc::new(Signatures::new(container_url.clone(), signatures.clone(), first, wanted)))
    }

    /// Runs one attempt to its last event; `None` if it was stopped.
    async fn attempt(
        self,
        grant: Grant,
        throttle: Throttle,
        signatures: Option<Arc<Signatures>>,
        progress: Arc<Progress>,
        stop: CancellationToken,
    ) -> Result<Option<Event>, Failure> {
        let key = grant.key;
        match grant.work {
            Work::Copy(work) => {
                let (outbox, of, node) = (self.outbox.clone(), key.clone(), self.node.clone());
                let mut since = SystemTime::now();
                let staged = move |chunk: Chunk| {
                    // A chunk begins where the one before it ends.
                    let began = std::mem::replace(&mut since, SystemTime::now());
                    spans::send(|| chunk_span(&of, &node, &chunk, began, since));
                    let (outbox, key) = (outbox.clone(), of.clone());
                    async move { outbox.push(key, Event::ChunkStaged(chunk)).await }
                };
                let signer = signatures.map(|signatures| signatures as Arc<dyn Signer>);
                let staging = Staging::open(&work.staging, signer, throttle, &self.connections)?;
                let staging = match &self.around {
                    Some(around) => staging.with(around),
                    None => staging,
                };
                let copied =
                    copy::copy(&key, *work, self.reach.roots.clone(), &staging, progress, &stop, staged).await?;
                let completed = |Copied { counters, chunks, files, quarantine }| Event::Completed {
                    counters,
                    chunks,
                    files,
                    quarantine,
                };
                Ok(copied.map(completed))
            }
            Work::List { source, page_files_max, sample_files_max, split_bytes, trial } => {
                let (sender, mut pages) = mpsc::channel(1);
                let (roots, token) = (self.reach.roots.clone(), stop.clone());
                let mut trying = trial.map(|settings| trial::Trying::new(&source, &settings, self.reach.roots.clone()));
                let lister = tokio::task::spawn_blocking(move || {
                    list::list(&source, &roots, page_files_max, sample_files_max, split_bytes, &token, sender)
                });
                let mut last = None;
                while let Some(mut page) = pages.recv().await {
                    if let Some(trying) = &mut trying {
                        trying.see(&page.files);
                    }
                    if page.last {
                        if let Some(trying) = trying.take() {
                            page.trial = Some(trying.run(page.sample.clone(), stop.clone()).await);
                        }
                        // It ends the attempt, so it goes out as the attempt's outcome.
                        last = Some(Event::Listed(page));
                    } else {
                        self.outbox.push(key.clone(), Event::Listed(page)).await;
                    }
                }
                match lister.await {
                    Ok(_) if stop.is_cancelled() => Ok(None),
                    Ok(result) => result.map(|()| last),
                    Err(e) if e.is_panic() => std::panic::resume_unwind(e.into_panic()),
                    Err(e) => Err(Failure::internal(e.to_string())),
                }
            }
            Work::Clear(_) if !self.reach.may_change_sources => Err(Failure::settings(
                Code::SourceChangesForbidden,
                "this node may not delete or move files; start it with --allow-source-changes",
            )),
            Work::Clear(work) => {
                let roots = self.reach.roots.clone();
                let cleared = tokio::task::spawn_blocking(move || clear::clear(&work, &roots, &stop)).await;
                match cleared {
                    Ok(result) => Ok(result?.map(Event::Cleared)),
                    Err(e) if e.is_panic() => std::panic::resume_unwind(e.into_panic()),
                    Err(e) => Err(Failure::internal(e.to_string())),
                }
            }
        }
    }

    /// The span of an attempt that has ended, well or not.
    fn span_of(&self, key: &AttemptKey, began: SystemTime, counters: Counters, event: Option<&Event>) -> Span {
        let (state, failure) = match event {
            Some(Event::Failed(failure)) => ("failed", Some(failure.code)),
            Some(Event::Completed { .. } | Event::Listed(_) | Event::Cleared(_)) => ("completed", None),
            Some(Event::GivenBack | Event::ChunkStaged(_)) | None => ("stopped", None),
        };
        Span::new(&key.run, SpanOf::Attempt(key.unit, key.attempt), began, SystemTime::now())
            .word("node", &*self.node)
            .word("state", state)
            .count("bytes", counters.data_read_bytes)
            .count("rows", counters.rows_read)
            .failure(failure)
    }

    /// Ends an attempt that is not wanted any more. When it has ended, and writes nothing more, the unit is given back.
    pub(crate) fn stop(&self, key: &AttemptKey, reason: &str) {
        if let Some(running) = self.lock().get(key)
            && !running.stop.is_cancelled()
        {
            running.gives_back.store(true, Ordering::SeqCst);
            tracing::info!(run = %key.run, unit = %key.unit, attempt = %key.attempt, node = &*self.node, reason, "attempt is stopped");
            running.stop.cancel();
        }
        self.outbox.drop_all_of(key);
    }

    /// Ends all attempts; their units are given back.
    pub(crate) fn give_all_back(&self) {
        for running in self.lock().values() {
            running.gives_back.store(true, Ordering::SeqCst);
            running.stop.cancel();
        }
    }

    /// The coordinator has dealt with a report. A refused one ends its attempt.
    pub(crate) fn acknowledge(&self, sequence: u64, refused: bool) {
        if let Some(report) = self.outbox.acknowledge(sequence)
            && refused
        {
            self.stop(&report.key, "the lease is another node's by now");
        }
    }
}

/// The span of a chunk whose blob is committed.
fn chunk_span(key: &AttemptKey, node: &str, chunk: &Chunk, began: SystemTime, ended: SystemTime) -> Span {
    Span::new(&key.run, SpanOf::Chunk(key.unit, key.attempt, chunk.number), began, ended)
        .word("node", node)
        .count("bytes", chunk.raw_bytes)
        .count("stagedBytes", chunk.staged_bytes)
        .count("rows", chunk.rows)
}
