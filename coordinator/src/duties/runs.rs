//! Drives runs: each live run has one driver, which looks at its rows, applies what follows, and then acts.

use super::{
    LOOK_INTERVAL,
    holding::{self, Watch},
    loaded::{self, Finish},
    plans::{self, Made},
    sweep, webhooks,
};
use crate::{
    clearing::{self, Permission},
    core::{ChangeError, Core, Hold},
    ingest::{
        Ingester, judged,
        publish::{self, Published},
    },
    loaded::{keeps_ledger, sink_of_run, waiting},
    state::{
        run::{RunEvent, RunState},
        unit::{UnitEvent, UnitState},
    },
    store::{Clearing, Numbers, PaceKey, PaceRow, RunRow, StoreError, Totals, UnitCounts, UnitRow, Write},
};
use ferry_common::{
    activity::Publish,
    clock::Millis,
    failure::{Code, Failure, Fault, Retry, backoff, plural},
    id::{RunId, UnitNumber},
    staging,
    unit::FileVersion,
};
use std::{
    cmp::Reverse,
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Commands in doubt that are counted.
const DOUBTFUL_MAX: u32 = 500;
/// Tries to count rows once more at the end of a queued run.
const RECOUNTS_MAX: u32 = 10;
/// Least wait between two looks: with many small files the bell never stops.
const LOOK_INTERVAL_MIN: Duration = Duration::from_millis(50);
/// A run whose secrets this program lacks is left to the other coordinators for so long.
const PASSED_WAIT: Duration = Duration::from_secs(30);
/// Others have had their chance after so long: one of them may just be starting again.
const PASSED_MAX: Duration = Duration::from_secs(80);
/// A run that does not come back for so long was taken by another one.
const PASSED_FORGOTTEN: Duration = Duration::from_secs(120);
/// How often the driver sees whether it can still open staging.
const ACCESS_INTERVAL: Duration = Duration::from_secs(30);
/// Nodes that may not delete or move files have had their chance after so long: one may be starting again with that right.
const PERMISSION_PATIENCE: Duration = Duration::from_secs(120);
/// Wait after a look that failed.
const ERROR_WAIT: Duration = Duration::from_secs(1);

/// Gives each live run a driver.
pub(super) async fn drive_all(core: Arc<Core>, shutdown: CancellationToken) {
    let mut drivers = JoinSet::new();
    let driven: Arc<Mutex<HashSet<RunId>>> = Arc::default();
    let passed = Passed::default();
    let mut bell = core.bell();
    let mut watch = Watch::default();
    while !shutdown.is_cancelled() {
        let looked = tokio::time::Instant::now();
        match core.store.live_runs().await {
            Err(e) => tracing::error!("runs: {e}"),
            Ok(mut runs) => {
                // Oldest first among equals.
                runs.sort_by_key(|run| Reverse(run.activity.settings.priority));
                let is_active = |r: &&RunRow| {
                    takes_place(r) && driven.lock().unwrap_or_else(PoisonError::into_inner).contains(&r.id)
                };
                let mut active = runs.iter().filter(is_active).count();
                watch.retain(&runs);
                // Who waits for another one takes nobody's place, either.
                let waits = waiting(&runs);
                core.note_waits(waits.clone());
                passed.lock().retain(|id, _| runs.iter().any(|run| run.id == *id));
                for run in runs {
                    let is_driven = driven.lock().unwrap_or_else(PoisonError::into_inner).contains(&run.id);
                    let has_place = !takes_place(&run) || active < core.limits.runs_active_max;
                    if is_driven
                        || !has_place
                        || waits.contains_key(&run.id)
                        || passed.is_recent(&run.id)
                        || !watch.may_claim(&core, &run, looked)
                    {
                        continue;
                    }
                    let hold = match holding::claim(&core, &run).await {
                        Ok(Some(hold)) => hold,
                        Ok(None) => continue,
                        Err(e) => {
                            tracing::error!(run = %run.id, "{e}");
                            continue;
                        }
                    };
                    active += usize::from(takes_place(&run));
                    let place = Place::take(&core, &driven, &run.id);
                    drivers.spawn(drive(core.clone(), hold, shutdown.clone(), place, passed.clone()));
                }
            }
        }
        tokio::select! {
            _ = bell.changed() => {}
            () = tokio::time::sleep(LOOK_INTERVAL) => {}
            () = shutdown.cancelled() => {}
            Some(ended) = drivers.join_next() => {
                if ended.is_err_and(|e| e.is_panic()) {
                    tracing::error!("the driver of a run panicked, and another one takes its place; this is a bug in ferry");
                    tokio::time::sleep(ERROR_WAIT).await;
                }
            }
        }
    }
    while drivers.join_next().await.is_some() {}
}

/// A run's place among those that are driven. However its driver ends, by a panic, too, the run may have another one.
struct Place {
    core: Arc<Core>,
    driven: Arc<Mutex<HashSet<RunId>>>,
    run: RunId,
}

impl Place {
    fn take(core: &Arc<Core>, driven: &Arc<Mutex<HashSet<RunId>>>, run: &RunId) -> Self {
        driven.lock().unwrap_or_else(PoisonError::into_inner).insert(run.clone());
        Self { core: core.clone(), driven: driven.clone(), run: run.clone() }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.core.live().remove(&self.run);
        self.driven.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.run);
    }
}

/// The run counts among those that may be driven at once. A dry run does not, nor one that only waits to be swept.
fn takes_place(run: &RunRow) -> bool {
    !run.state.is_final() && !run.is_dry
}

/// When a run was let go.
struct LetGo {
    first: tokio::time::Instant,
    last: tokio::time::Instant,
}

/// Runs that this program let go because it lacks a secret of theirs. When they come back for so long, nobody else has it,
/// either.
#[derive(Clone, Default)]
struct Passed(Arc<Mutex<HashMap<RunId, LetGo>>>);

impl Passed {
    fn lock(&self) -> MutexGuard<'_, HashMap<RunId, LetGo>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_recent(&self, run: &RunId) -> bool {
        self.lock().get(run).is_some_and(|let_go| let_go.last.elapsed() < PASSED_WAIT)
    }

    /// Notes it; false where others have had their chance.
    fn note(&self, run: &RunId) -> bool {
        let now = tokio::time::Instant::now();
        let mut all = self.lock();
        let let_go = all.entry(run.clone()).or_insert(LetGo { first: now, last: now });
        if let_go.last.elapsed() > PASSED_FORGOTTEN {
            // Somebody drove it meanwhile.
            let_go.first = now;
        }
        let_go.last = now;
        let_go.first.elapsed() < PASSED_MAX
    }
}

/// Drives one run for as long as it is this coordinator's.
async fn drive(core: Arc<Core>, hold: Hold, shutdown: CancellationToken, _place: Place, passed: Passed) {
    let driver = Driver::new(Arc::new(core.holding(hold.clone())), hold.run.clone(), passed);
    tokio::select! {
        () = driver.drive(shutdown.clone()) => holding::release(&core, &hold).await,
        () = holding::keep(&core, &hold) => {}
    }
}

/// What a driver does next.
enum Next {
    /// Look again when something changed, or after a while.
    Wait(Duration),
    /// Look again at once.
    Again,
    /// There is nothing left to do.
    Done,
}

/// The failure of a run of which more rows were left out than its settings allow.
fn too_many_skipped(run: &RunRow, counts: &UnitCounts) -> Option<Failure> {
    let settings = &run.activity.settings;
    let (read, skipped) = (counts.counters.rows_read, counts.counters.rows_skipped);
    let percent = if read == 0 { 0.0 } else { skipped as f64 * 100.0 / read as f64 };
    let limit = match (settings.skip_rows_max, settings.skip_rows_percent_max) {
        (Some(max), _) if skipped > max => format!("settings.skipRowsMax {max}"),
        (_, Some(max)) if percent > max => format!("settings.skipRowsPercentMax {max}"),
        _ => return None,
    };
    let message = format!(
        "{skipped} of {read} rows ({percent:.3} %) do not fit, more than {limit} allows; nothing was ingested. The rows are \
         in staging under {}",
        staging::quarantine_prefix(&run.id)
    );
    Some(Failure::new(Code::TooManyRowsSkipped, Fault::Source, Retry::Never, message))
}

struct Driver {
    core: Arc<Core>,
    id: RunId,
    ingester: Option<Ingester>,
    preflight_failures: u32,
    preflight_failing_since: Option<Millis>,
    sink_was_reached: bool,
    recounts_failed: u32,
    publish_looks: u32,
    has_dropped: bool,
    is_listing_forgotten: bool,
    /// Since when no node that is there may delete or move files.
    forbidden_since: Option<tokio::time::Instant>,
    /// Since when nobody takes files again that a silent node had, though nodes are there that may.
    untaken_since: Option<tokio::time::Instant>,
    finish: Finish,
    end_seen: Option<tokio::time::Instant>,
    /// Since when this program drives the run.
    began: Millis,
    passed: Passed,
    access_seen: Option<tokio::time::Instant>,
}

impl Driver {
    fn new(core: Arc<Core>, id: RunId, passed: Passed) -> Self {
        Self {
            began: core.now(),
            passed,
            access_seen: None,
            core,
            id,
            ingester: None,
            preflight_failures: 0,
            preflight_failing_since: None,
            sink_was_reached: false,
            recounts_failed: 0,
            publish_looks: 0,
            has_dropped: false,
            is_listing_forgotten: false,
            forbidden_since: None,
            untaken_since: None,
            finish: Finish::default(),
            end_seen: None,
        }
    }

    async fn drive(mut self, shutdown: CancellationToken) {
        let mut bell = self.core.bell();
        loop {
            bell.mark_unchanged();
            let step = tokio::select! {
                step = self.step() => step,
                () = shutdown.cancelled() => return,
            };
            let wait = match step {
                Ok(Next::Done) => return,
                Ok(Next::Again) => continue,
                Ok(Next::Wait(wait)) => wait,
                Err(ChangeError::Refused(refused)) => {
                    // Another writer changed the run since it was read.
                    tracing::debug!(run = %self.id, "{refused}");
                    LOOK_INTERVAL_MIN
                }
                Err(ChangeError::Store(e)) => {
                    tracing::error!(run = %self.id, "{e}");
                    ERROR_WAIT
                }
            };
            tokio::select! {
                () = tokio::time::sleep(LOOK_INTERVAL_MIN) => {}
                () = shutdown.cancelled() => return,
            }
            tokio::select! {
                _ = bell.changed() => {}
                () = tokio::time::sleep(wait) => {}
                () = shutdown.cancelled() => return,
            }
        }
    }

    async fn step(&mut self) -> Result<Next, ChangeError> {
        let Some(run) = self.core.store.run(&self.id).await? else { return Ok(Next::Done) };
        match run.state.clone() {
            RunState::Queued => self.admit(&run).await,
            RunState::Planning => self.plan().await,
            RunState::Copying => self.watch_copying(&run).await,
            RunState::Ingesting => self.ingest(&run).await,
            RunState::Publishing => self.publish(&run).await,
            RunState::Clearing => self.clear(&run).await,
            RunState::Cancelling | RunState::Failing { .. } => self.drain(&run).await,
            RunState::Planned | RunState::Succeeded | RunState::Cancelled | RunState::Failed { .. } => {
                let seen = *self.end_seen.get_or_insert_with(tokio::time::Instant::now);
                // One must not wait for the other.
                let (swept, told) = tokio::join!(
                    Box::pin(sweep::sweep(&self.core, &run, seen)),
                    Box::pin(webhooks::tell(&self.core, &run))
                );
                swept?;
                let told_in = told?;
                let run = self.core.store.run(&self.id).await?;
                let swept_in = run.as_ref().and_then(|r| r.sweep_at).map(|at| at.since(self.core.now()));
                Ok(match swept_in.into_iter().chain(told_in).min() {
                    None => Next::Done,
                    Some(wait) => Next::Wait(wait.max(ERROR_WAIT)),
                })
            }
        }
    }

    async fn admit(&self, run: &RunRow) -> Result<Next, ChangeError> {
        let folder = FileVersion {
            path: run.activity.source.folder_path.clone(),
            relative_path: String::new(),
            size_bytes: 0,
            modified_ns: 0,
            etag: String::new(),
        };
        let listing = UnitRow::new(run.id.clone(), UnitNumber::LISTING, folder);
        let mut admitted = run.clone();
        admitted.state = admitted.state.apply(RunEvent::Admitted)?;
        admitted.times.started = Some(self.core.now());
        let mut writes = vec![Write::InsertUnits(vec![listing]), Write::UpdateRun(Box::new(admitted))];
        if keeps_ledger(run) {
            writes.insert(0, Write::ClaimSink { sink: sink_of_run(run), run: run.id.clone() });
        }
        match self.core.commit(writes).await {
            // Another coordinator may have begun a run that this one has to wait for: without a driver.
            Err(StoreError::Conflict) if keeps_ledger(run) => return Ok(Next::Done),
            Ok(()) => tracing::info!(run = %self.id, from = "Queued", to = "Planning", "run changes"),
            Err(StoreError::Conflict) => {}
            Err(e) => return Err(e.into()),
        }
        self.core.ring();
        // The listing.
        self.core.offer();
        Ok(Next::Again)
    }

    /// Waits for the listing, then looks at the sink and stores the plan; a dry run shows it, and has ended.
    async fn plan(&mut self) -> Result<Next, ChangeError> {
        let listing = self.core.store.unit(&self.id, UnitNumber::LISTING).await?;
        match listing.map(|l| l.state) {
            Some(UnitState::Ingested) => {}
            Some(UnitState::Failed { failure }) => return self.fail(failure).await,
            _ => return Ok(Next::Wait(LOOK_INTERVAL)),
        }
        // The last page may have come after the run was read: its sample came with it.
        let Some(run) = self.core.store.run(&self.id).await? else { return Ok(Next::Done) };
        if run.state != RunState::Planning {
            return Ok(Next::Again);
        }
        match Box::pin(plans::make(&self.core, &run)).await {
            Ok(Made::Shown { plan, warnings, shown }) => {
                while self.core.forget_listed(&run).await? {}
                let now = self.core.now();
                let totals = self.core.totals(&self.id).await?;
                self.core
                    .apply_to_run(&self.id, RunEvent::PlanShown, |row| {
                        row.plan.clone_from(&plan);
                        row.warnings.extend(warnings.clone());
                        row.shown = Some(shown.clone());
                        row.totals = Some(totals);
                        row.times.ended = Some(now);
                        // Nothing was staged.
                        row.is_swept = true;
                    })
                    .await?;
                Ok(Next::Again)
            }
            Ok(Made::Empty) => {
                let now = self.core.now();
                self.core.apply_to_run(&self.id, RunEvent::PlanStored, |row| row.times.copying = Some(now)).await?;
                Ok(Next::Again)
            }
            Ok(Made::Stored { plan, warnings, lent_container }) => {
                let now = self.core.now();
                self.core
                    .apply_to_run(&self.id, RunEvent::PlanStored, |row| {
                        row.plan = Some(plan.clone());
                        row.lent_container.clone_from(&lent_container);
                        row.warnings.extend(warnings.clone());
                        row.times.copying = Some(now);
                    })
                    .await?;
                Ok(Next::Again)
            }
            Err(failure) => {
                self.preflight_failures += 1;
                if failure.code == Code::SinkThrottled {
                    self.core.meters.throttled();
                }
                // An address where nobody ever answered is likely wrong; a cluster that is there may be restarting.
                self.sink_was_reached |= failure.code != Code::SinkUnreachable;
                let now = self.core.now();
                let since = *self.preflight_failing_since.get_or_insert(now);
                let is_over = match self.sink_was_reached {
                    true => now.since(since) >= self.core.limits.preflight_patience,
                    false => self.preflight_failures >= self.core.limits.preflight_tries_max,
                };
                if failure.retry == Retry::Never || is_over {
                    return self.fail(failure).await;
                }
                tracing::warn!(run = %self.id, code = %failure.code, "looking at the sink failed, trying again: {}", failure.message);
                Ok(Next::Wait(backoff(self.preflight_failures, 0.5)))
            }
        }
    }

    /// Another coordinator may have the secret that this one lacks.
    fn passes_on(&self, failure: &Failure) -> bool {
        let passes =
            failure.code == Code::SecretMissing && !self.core.store.is_exclusive() && self.passed.note(&self.id);
        if passes {
            tracing::warn!(run = %self.id, "left to the other coordinators: {}", failure.message);
        }
        passes
    }

    async fn fail(&self, failure: Failure) -> Result<Next, ChangeError> {
        if self.passes_on(&failure) {
            return Ok(Next::Done);
        }
        tracing::error!(run = %self.id, code = %failure.code, "run fails: {}", failure.message);
        self.core.apply_to_run(&self.id, RunEvent::FailureFound(failure), |_| {}).await?;
        Ok(Next::Again)
    }

    /// The failure of a failed file, if there is one.
    async fn failed_file(&self) -> Result<Option<Failure>, ChangeError> {
        let failed = self.core.store.files(&self.id, Some("Failed"), UnitNumber::LISTING, 1).await?;
        Ok(failed.into_iter().find_map(|u| match u.state {
            UnitState::Failed { failure } => Some(failure),
            _ => None,
        }))
    }

    /// Whoever drives the run must be able to open its staging: without, nobody says why its units are not granted.
    async fn see_access(&mut self, run: &RunRow) -> Result<Next, ChangeError> {
        let is_recent = self.access_seen.is_some_and(|at| at.elapsed() < ACCESS_INTERVAL);
        if !is_recent {
            self.access_seen = Some(tokio::time::Instant::now());
            if let Err(failure) = self.core.access(run).await
                && failure.code == Code::SecretMissing
                && failure.retry == Retry::Never
            {
                return self.fail(failure).await;
            }
        }
        Ok(Next::Wait(LOOK_INTERVAL))
    }

    async fn watch_copying(&mut self, run: &RunRow) -> Result<Next, ChangeError> {
        if let Some(failure) = self.failed_file().await? {
            return self.fail(failure).await;
        }
        if !self.is_listing_forgotten {
            // Some at each look: copying does not wait for it.
            self.is_listing_forgotten = !self.core.forget_listed(run).await?;
        }
        if self.core.store.has_open_units(&self.id).await? {
            return self.see_access(run).await;
        }
        let counts = self.core.store.unit_counts(&self.id).await?;
        if counts.failed + counts.pending + counts.leased > 0 {
            // Something changed between the two looks.
            return Ok(Next::Again);
        }
        debug_assert_eq!(counts.total(), run.units);
        while self.core.forget_listed(run).await? {}
        if let Some(failure) = too_many_skipped(run, &counts) {
            return self.fail(failure).await;
        }
        let now = self.core.now();
        let peak = self.core.live().get(&self.id).map_or(0, |l| l.peak_slots);
        self.core
            .apply_to_run(&self.id, RunEvent::LastUnitStaged, |row| {
                row.times.ingesting.get_or_insert(now);
                row.peak_slots = row.peak_slots.max(peak);
            })
            .await?;
        Ok(Next::Again)
    }

    /// Follows ingest commands; when all are confirmed, so are all units, and the run.
    async fn ingest(&mut self, run: &RunRow) -> Result<Next, ChangeError> {
        // A unit that went back to the nodes, perhaps just before a restart, is copied again first.
        if self.core.store.has_open_units(&self.id).await? {
            self.core.apply_to_run(&self.id, RunEvent::UnitReturned, |_| {}).await?;
            return Ok(Next::Again);
        }
        let step = match self.ingester(run) {
            Ok(ingester) => ingester.step(run, true).await?,
            Err(failure) => return self.fail(failure).await,
        };
        if let Some(failure) = step.failure {
            return self.fail(failure).await;
        }
        if step.unit_returned {
            return Ok(Next::Again);
        }
        if let Some(wait) = step.wait {
            return Ok(Next::Wait(wait));
        }
        if let Some(failure) = self.failed_file().await? {
            return self.fail(failure).await;
        }
        match self.recount(run).await? {
            Ok(None) => {}
            Ok(Some(failure)) => return self.fail(failure).await,
            Err(next) => return Ok(next),
        }
        let commands = self.core.store.command_counts(&self.id).await?;
        if commands.planned + commands.issued + commands.rejected > 0 {
            let message = format!(
                "{} ingest commands were not confirmed: {} planned, {} issued, {} rejected",
                commands.planned + commands.issued + commands.rejected,
                commands.planned,
                commands.issued,
                commands.rejected
            );
            return self.fail(Failure::new(Code::Internal, Fault::Runtime, Retry::Never, message)).await;
        }
        self.confirm_units(run).await?;
        let counts = self.core.store.unit_counts(&self.id).await?;
        let (rows, staged) = (commands.rows_confirmed, counts.counters.rows_read - counts.counters.rows_skipped);
        if counts.ingested + counts.skipped != run.units || rows != staged {
            // Never call a run succeeded whose files and rows do not add up.
            let message = format!(
                "{} units were planned and {} are in the table; {staged} rows were read and {rows} are in the table",
                run.units, counts.ingested
            );
            return self.fail(Failure::new(Code::Internal, Fault::Runtime, Retry::Never, message)).await;
        }
        // Without a file nothing is published: what the table holds stays.
        if run.activity.sink.publish == Publish::Append || run.units == 0 {
            let warning = loaded::put_down(&self.core, run).await?;
            return self.succeed(run, RunEvent::LastUnitIngested, warning).await;
        }
        let now = self.core.now();
        let event = RunEvent::LastUnitGathered;
        self.core.apply_to_run(&self.id, event, |row| row.times.publishing = Some(now)).await?;
        Ok(Next::Again)
    }

    /// Every row is visible: the run has succeeded, once its files are deleted or moved where that is asked for.
    async fn succeed(&self, run: &RunRow, event: RunEvent, warning: Option<String>) -> Result<Next, ChangeError> {
        let now = self.core.now();
        let totals = self.core.totals(&self.id).await?;
        // Of publishing that an earlier program began, nobody knows how much was waiting.
        let published = run.times.publishing.filter(|at| event == RunEvent::Published && *at >= self.began);
        let learned: Vec<_> = self.learned(run, published.map(|at| now.since(at))).into_iter().collect();
        if self.core.has_files_to_clear(run).await? {
            return self.begin_clearing(totals, warning, learned).await;
        }
        self.core
            .apply_to_run_and(&self.id, &learned, event, |row| {
                row.times.ended = Some(now);
                row.totals = Some(totals);
                row.sweep_at = Some(now);
                row.warnings.extend(warning.clone());
            })
            .await?;
        Ok(Next::Again)
    }

    /// Unit 0, whose listing is long done, is there for nodes once more.
    async fn begin_clearing(
        &self,
        totals: Totals,
        warning: Option<String>,
        mut others: Vec<Write>,
    ) -> Result<Next, ChangeError> {
        let Some(mut source) = self.core.store.unit(&self.id, UnitNumber::LISTING).await? else {
            return Ok(Next::Done);
        };
        source.state = source.state.apply(UnitEvent::Reopened)?;
        source.last_failure = None;
        let now = self.core.now();
        others.push(Write::UpdateUnit(Box::new(source)));
        self.core
            .apply_to_run_and(&self.id, &others, RunEvent::FilesRemain, |row| {
                row.times.clearing = Some(now);
                row.totals = Some(totals);
                row.clearing = Some(Clearing::NEW);
                row.warnings.extend(warning.clone());
            })
            .await?;
        self.core.offer();
        Ok(Next::Again)
    }

    /// Waits until nodes have deleted or moved the files, or nobody can; then the run has succeeded.
    async fn clear(&mut self, run: &RunRow) -> Result<Next, ChangeError> {
        let Some(mut source) = self.core.store.unit(&self.id, UnitNumber::LISTING).await? else {
            return Ok(Next::Done);
        };
        let is_stopped = run.clearing.as_ref().is_some_and(|clearing| clearing.is_stopped);
        let why_rest = match &source.state {
            UnitState::Ingested | UnitState::Dropped => None,
            UnitState::Failed { failure } if failure.code == Code::LeaseExpired => Some(clearing::SILENCE.to_owned()),
            UnitState::Failed { failure } | UnitState::Skipped { failure } => Some(failure.message.clone()),
            UnitState::Leased { .. } | UnitState::Staged { .. } => {
                self.untaken_since = None;
                return Ok(Next::Wait(LOOK_INTERVAL));
            }
            UnitState::Pending { .. } if is_stopped => Some("the run was asked to end".to_owned()),
            UnitState::Pending { .. } => {
                let was_silent = source.last_failure.as_ref().is_some_and(|failure| failure.code == Code::LeaseExpired);
                let Some(why) = self.untaken_for_long(run, was_silent).await? else {
                    return Ok(Next::Wait(LOOK_INTERVAL));
                };
                Some(why)
            }
        };
        let is_broken_off = source.last_failure.as_ref().is_some_and(|failure| failure.fault == Fault::Runtime);
        let mut others = Vec::new();
        if matches!(source.state, UnitState::Pending { .. }) {
            // Whoever is being granted a page just now is refused, or was first.
            source.state = source.state.apply(UnitEvent::RunStopped)?;
            others.push(Write::UpdateUnit(Box::new(source)));
        }
        let now = self.core.now();
        self.core
            .apply_to_run_and(&self.id, &others, RunEvent::FilesCleared, |row| {
                let is_in_doubt = is_broken_off || row.lost_attempts > 0;
                let told = clearing::warnings_of(row, why_rest.as_deref(), is_in_doubt);
                row.warnings.extend(told);
                row.times.ended = Some(now);
                row.sweep_at = Some(now);
            })
            .await?;
        Ok(Next::Again)
    }

    /// Why no node will take the files, if that has been so for long. Without any node the run waits, as for everything.
    async fn untaken_for_long(&mut self, run: &RunRow, was_silent: bool) -> Result<Option<String>, ChangeError> {
        let runtime = &run.activity.source.connect_via;
        let permission = self.core.may_change_sources(runtime).await?;
        let now = tokio::time::Instant::now();
        let Permission::Refused(nodes) = permission else {
            self.forbidden_since = None;
            // What hangs keeps its slot: the nodes that are there may have none left.
            if !was_silent || permission != Permission::Given {
                self.untaken_since = None;
                return Ok(None);
            }
            let since = *self.untaken_since.get_or_insert(now);
            return Ok((since.elapsed() >= clearing::PAGE_TIME_MAX).then(|| clearing::SILENCE.to_owned()));
        };
        let since = *self.forbidden_since.get_or_insert(now);
        Ok((since.elapsed() >= PERMISSION_PATIENCE).then(|| clearing::refusal(runtime, &nodes)))
    }

    /// Makes all rows visible at once. Asked again after any doubt: what is published already is found so.
    async fn publish(&mut self, run: &RunRow) -> Result<Next, ChangeError> {
        let rows = self.core.store.command_counts(&self.id).await?.rows_confirmed;
        let published = match run.is_published {
            true => Published::Yes,
            false => publish::publish(&self.core, run, rows, self.began).await?,
        };
        let failure = match published {
            Published::Yes => {
                let warning = loaded::put_down_published(&self.core, run).await?;
                let next = self.succeed(run, RunEvent::Published, warning).await?;
                self.core.meters.visible(rows);
                return Ok(next);
            }
            Published::Never(failure) => return self.fail(failure).await,
            Published::NotYet(failure) => failure,
        };
        if self.passes_on(&failure) {
            return Ok(Next::Done);
        }
        self.publish_looks += 1;
        if failure.code == Code::SinkThrottled {
            self.core.meters.throttled();
        }
        // While no coordinator was there, nobody could ask.
        let since = run.times.publishing.unwrap_or(self.began).max(self.began);
        if self.core.now().since(since) > self.core.limits.doubt_max {
            let known = match keeps_ledger(run) {
                true => ". The next run loads the same files again: before it, drop them if they are there",
                false => "",
            };
            let message = format!(
                "{}; whether its rows were published is not known: look into table {} for extents whose tags begin with \
                 ingest-by:{}{known}",
                failure.message,
                run.activity.sink.table,
                run.tag_prefix()
            );
            return self.fail(Failure { retry: Retry::Never, message, ..failure }).await;
        }
        tracing::warn!(run = %self.id, code = %failure.code, "not published yet: {}", failure.message);
        Ok(Next::Wait(backoff(self.publish_looks, 0.5)))
    }

    /// What the run has measured of its cluster. Stored with its end, so that it counts once.
    fn learned(&self, run: &RunRow, published: Option<Duration>) -> Option<Write> {
        let mut sums = self.ingester.as_ref().map(Ingester::pace).unwrap_or_default();
        if let Some(took) = published {
            sums.note_publishing(took);
        }
        let row = || PaceRow { key: PaceKey::of(&run.activity), last: self.core.now(), sums };
        (!sums.is_empty()).then(|| Write::AddPace(Box::new(row())))
    }

    fn ingester(&mut self, run: &RunRow) -> Result<&mut Ingester, Failure> {
        match &mut self.ingester {
            Some(ingester) => Ok(ingester),
            none => Ok(none.insert(Ingester::new(self.core.clone(), run)?)),
        }
    }

    /// Counts the rows of a queued run once more. `Err`: they cannot be counted now, and it is tried again.
    async fn recount(&mut self, run: &RunRow) -> Result<Result<Option<Failure>, Next>, ChangeError> {
        let Some(ingester) = &self.ingester else { return Ok(Ok(None)) };
        let error = match ingester.recount(run).await? {
            Ok(found) => return Ok(Ok(found)),
            Err(error) => error,
        };
        self.recounts_failed += 1;
        tracing::warn!(run = %self.id, "rows could not be counted once more: {}", judged(&error).message);
        Ok(match self.recounts_failed < RECOUNTS_MAX {
            true => Err(Next::Wait(backoff(self.recounts_failed, 0.5))),
            false => Ok(None),
        })
    }

    /// Every command is confirmed, so every staged unit is in the table.
    async fn confirm_units(&self, run: &RunRow) -> Result<(), ChangeError> {
        Ok(self.core.commit_in_pages(run.units, |numbers| Write::ConfirmUnits(self.id.clone(), numbers)).await?)
    }

    /// Drops what is not begun, follows what is in flight to its end, and ends the run.
    async fn drain(&mut self, run: &RunRow) -> Result<Next, ChangeError> {
        // What is in the table in part is brought to its end where the next run goes by what this one has loaded.
        let finishes = Finish::is_due(run);
        // All of them once; from then on only what comes back.
        if self.has_dropped {
            self.core.commit(vec![Write::DropPending(self.id.clone(), Numbers::ALL)]).await?;
        } else {
            let drop = if finishes { Write::DropPending } else { Write::DropUnits };
            self.core.commit_in_pages(run.units, |numbers| drop(self.id.clone(), numbers)).await?;
            self.has_dropped = true;
        }
        // Nodes are told to stop with their next word, and give back when they write nothing more; a silent one's lease
        // ends.
        let listing = self.core.store.unit(&self.id, UnitNumber::LISTING).await?;
        if self.core.store.has_open_units(&self.id).await? || listing.is_some_and(|l| l.state.lease().is_some()) {
            return Ok(Next::Wait(LOOK_INTERVAL));
        }
        while self.core.forget_listed(run).await? {}
        if finishes {
            self.finish.drop_untouched(&self.core, run).await?;
        }
        // Without access to the sink nothing can be in flight that was sent by this program since its start; what an
        // earlier one left in doubt stays in doubt, and is said so.
        let opened = self.ingester(run).map(|_| ());
        match opened {
            // It has sent nothing.
            _ if run.is_dry => {}
            Ok(()) => {
                if let Some(ingester) = &mut self.ingester {
                    let step = ingester.step(run, finishes && self.finish.may_send()).await?;
                    if step.failure.is_some() || step.unit_returned {
                        self.finish.lost(step.failure.as_ref().map(|failure| failure.code));
                    }
                    if let Some(wait) = step.wait {
                        return Ok(Next::Wait(wait));
                    }
                }
            }
            Err(failure) if self.passes_on(&failure) => return Ok(Next::Done),
            Err(failure) => {
                tracing::warn!(run = %self.id, code = %failure.code, "draining without the sink: {}", failure.message)
            }
        }
        if finishes && let Err(next) = self.recount(run).await? {
            return Ok(next);
        }
        let in_part = loaded::put_down_rest(&self.core, run).await?;
        let now = self.core.now();
        let totals = self.core.totals(&self.id).await?;
        let kept = totals.commands;
        let doubtful = self.core.store.doubtful_commands(&self.id, DOUBTFUL_MAX).await?.len() as u64;
        let in_flight = kept.issued + doubtful;
        // What came back since the last look goes with it.
        let others: Vec<_> =
            [Write::DropUnits(self.id.clone(), Numbers::ALL)].into_iter().chain(self.learned(run, None)).collect();
        self.core
            .apply_to_run_and(&self.id, &others, RunEvent::Drained, |row| {
                row.times.ended = Some(now);
                row.totals = Some(totals);
                // A dry run has staged nothing and made no table.
                row.sweep_at = (!row.is_dry).then_some(now);
                row.is_swept |= row.is_dry;
                let tags = format!("their tags begin with ingest-by:{}", row.tag_prefix());
                let table = &row.activity.sink.table;
                if row.activity.sink.publish != Publish::Append {
                    // They are in the staging table, which is dropped.
                    return;
                }
                row.warnings.extend(in_part.clone());
                if kept.confirmed > 0 {
                    let (rows, commands) = (kept.rows_confirmed, kept.confirmed);
                    let known = match keeps_ledger(row) {
                        true => "; files that are whole count as loaded: who drops their rows must `ferry loaded forget` them",
                        false => "",
                    };
                    row.warnings.push(format!(
                        "table {table} keeps {rows} {} of {commands} ingest {}: {tags}{known}",
                        plural(rows, "row"),
                        plural(commands, "command")
                    ));
                }
                if in_flight > 0 {
                    row.warnings.push(format!(
                        "{in_flight} ingest {} still in flight when the cluster could not be asked any more, with rows that may \
                         be in table {table}: {tags}",
                        plural(in_flight, "command")
                    ));
                }
            })
            .await?;
        Ok(Next::Again)
    }
}
