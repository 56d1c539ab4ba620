//! Leases and what their holders report. Every report may come twice, late, or from a node that lost its lease long ago:
//! the lease token decides, and the row's revision fences what was read before.

use crate::{
    access::Access,
    core::{ChangeError, Core},
    scheduler::{Candidate, next_run},
    state::{
        command::CommandState,
        run::{RunEvent, RunState},
        unit::{Lease, RetryLimit, UnitEvent, UnitState},
    },
    store::{ChunkRow, CommandRow, Leases, NodeRow, RunRow, StoreError, Tail, UnitRow, Write},
};
use ferry_common::{
    activity::{Activity, FormatType},
    clock::Millis,
    failure::{Failure, Retry, with_causes},
    id::{AttemptNumber, LeaseToken, NodeId, RunId, UnitNumber},
    link::PAGE_FILES_MAX,
    staging,
    unit::{
        AttemptKey, Chunk, CopyWork, Counters, Event, FileRange, FileVersion, Grant, ListPage, Report, Resume, Scope,
        Work,
    },
};
use std::time::Duration;

/// Files that a listing samples for columns and types.
const SAMPLE_FILES_MAX: u32 = 20;
/// Conflicts in a row after which a report is left for its repetition.
const CONFLICTS_MAX: u32 = 20;
/// Longest end of a staged blob's name, such as `csv.gz`.
const EXTENSION_BYTES_MAX: usize = 16;
/// Leases that one look takes up.
pub(crate) const LEASES_MAX: u32 = 20_000;
/// A node's last sign of life is stored about this often.
const SEEN_INTERVAL: Duration = Duration::from_secs(5);
/// So long after the start of a run's copying a node takes no second unit while others have none: whoever asks first would
/// else take what several nodes could do side by side.
const SPREAD: Duration = Duration::from_secs(1);
/// A node that was not heard for this long is not waited for.
const SPREAD_SILENCE_MAX: Duration = Duration::from_secs(15);
/// How often a held call looks by itself: units become due without a bell.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// What a node says in one Sync.
#[derive(Debug)]
pub(crate) struct SyncAsk {
    pub(crate) node: NodeId,
    pub(crate) free_slots: u32,
    pub(crate) draining: bool,
    pub(crate) wait: Duration,
    pub(crate) renewals: Vec<(AttemptKey, Counters)>,
    pub(crate) reports: Vec<Report>,
}

/// What the coordinator answers.
#[derive(Debug, Default)]
pub(crate) struct SyncAnswer {
    pub(crate) grants: Vec<Grant>,
    /// Sequence, and whether the report was refused.
    pub(crate) acks: Vec<(u64, bool)>,
    pub(crate) stops: Vec<(AttemptKey, &'static str)>,
    pub(crate) drain: bool,
}

/// Why a Sync has no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SyncError {
    #[error("node {0} is not registered here")]
    UnknownNode(NodeId),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<ChangeError> for SyncError {
    fn from(error: ChangeError) -> Self {
        match error {
            ChangeError::Store(e) => Self::Store(e),
            ChangeError::Refused(_) => Self::Store(StoreError::Conflict),
        }
    }
}

impl Core {
    fn retry_limit(&self, run: &RunRow, unit: UnitNumber) -> RetryLimit {
        let settings = &run.activity.settings;
        // Without a listing there is nothing to leave a file out of.
        let skips_files = settings.skip_error_file && unit != UnitNumber::LISTING;
        RetryLimit { now: self.now(), failures_max: settings.attempts_max, skips_files }
    }

    /// One exchange with a node. Held open while there is nothing to say, for as long as the node allows.
    pub(crate) async fn sync(&self, ask: SyncAsk) -> Result<SyncAnswer, SyncError> {
        let mut bell = self.bell();
        let node = self.store.node(&ask.node).await?.ok_or(SyncError::UnknownNode(ask.node.clone()))?;
        self.see(&node, ask.draining).await?;
        let mut answer = SyncAnswer { drain: node.is_draining, ..SyncAnswer::default() };
        for report in ask.reports {
            let sequence = report.sequence;
            match self.report(report).await {
                Ok(refused) => answer.acks.push((sequence, refused)),
                // Not acknowledged: it comes again.
                Err(e) => {
                    tracing::error!("a report waits: {e}");
                    break;
                }
            }
        }
        for (key, progress) in &ask.renewals {
            if !self.renew(key, *progress).await? {
                answer.stops.push((key.clone(), "the run does not want this attempt any more"));
            }
        }
        let deadline = tokio::time::Instant::now() + ask.wait;
        loop {
            if !answer.drain {
                self.grant_again(&node, &ask.renewals, &mut answer).await?;
                let free = ask.free_slots.saturating_sub(answer.grants.len() as u32);
                self.grant(&node, free, &mut answer).await?;
            }
            let says_something = !answer.grants.is_empty() || !answer.acks.is_empty() || !answer.stops.is_empty();
            let look_again = (tokio::time::Instant::now() + LOOK_INTERVAL).min(deadline);
            if says_something || tokio::time::Instant::now() >= deadline {
                return Ok(answer);
            }
            tokio::select! {
                _ = bell.changed() => {}
                () = tokio::time::sleep_until(look_again) => {}
            }
            answer.drain = self.store.node(&node.id).await?.is_some_and(|n| n.is_draining);
            if answer.drain != node.is_draining {
                return Ok(answer);
            }
        }
    }

    async fn see(&self, node: &NodeRow, draining: bool) -> Result<(), StoreError> {
        let now = self.now();
        if now.since(node.last_seen) < SEEN_INTERVAL && !node.has_left && (!draining || node.is_draining) {
            return Ok(());
        }
        let seen = NodeRow { last_seen: now, has_left: false, ..node.clone() };
        self.commit(vec![Write::PutNode(seen)]).await
    }

    /// A node says goodbye: what it holds is pending again at once.
    pub(crate) async fn leave(&self, id: &NodeId) -> Result<(), SyncError> {
        for unit in self.store.leased_units(&Leases::OfNode(id.clone()), LEASES_MAX).await? {
            if let Some(lease) = unit.state.lease() {
                let token = lease.token.clone();
                self.change_unit(&unit.run, unit.number, |_| Some(UnitEvent::GivenBack { token: token.clone() }))
                    .await?;
            }
        }
        if let Some(node) = self.store.node(id).await? {
            let left = NodeRow { has_left: true, last_seen: self.now(), ..node };
            self.commit(vec![Write::PutNode(left)]).await?;
        }
        self.ring();
        Ok(())
    }

    /// Applies an event to a unit, again when another writer was faster. `Ok(false)`: the state refused it.
    pub(crate) async fn change_unit(
        &self,
        run: &RunId,
        number: UnitNumber,
        event: impl Fn(&UnitRow) -> Option<UnitEvent> + Send,
    ) -> Result<bool, StoreError> {
        for _ in 0..CONFLICTS_MAX {
            let Some(mut unit) = self.store.unit(run, number).await? else { return Ok(false) };
            let Some(event) = event(&unit) else { return Ok(false) };
            let from = unit.state.name();
            let failure = match &event {
                UnitEvent::AttemptFailed { failure, .. } => Some(failure.clone()),
                UnitEvent::Expired(_) => Some(Failure::lease_expired()),
                _ => None,
            };
            match unit.state.clone().apply(event) {
                Ok(state) => unit.state = state,
                Err(refused) => {
                    tracing::debug!(%run, unit = %number, "{refused}");
                    return Ok(false);
                }
            }
            unit.last_failure = failure.or(unit.last_failure);
            let to = unit.state.name();
            match self.commit(vec![Write::UpdateUnit(Box::new(unit))]).await {
                Ok(()) => {
                    if from != to {
                        tracing::info!(%run, unit = %number, from, to, "unit changes");
                        self.forget_progress(run, number);
                        self.ring();
                    }
                    return Ok(true);
                }
                Err(StoreError::Conflict) => {}
                Err(e) => return Err(e),
            }
        }
        Err(StoreError::Conflict)
    }

    fn forget_progress(&self, run: &RunId, number: UnitNumber) {
        if let Some(live) = self.live().get_mut(run) {
            live.progress.remove(&number);
        }
    }

    /// Whether the lease still holds. Written only when a third of it has passed: most renewals cost nothing.
    async fn renew(&self, key: &AttemptKey, progress: Counters) -> Result<bool, StoreError> {
        if !self.wants_attempts(&key.run).await? {
            return Ok(false);
        }
        let Some(unit) = self.store.unit(&key.run, key.unit).await? else { return Ok(false) };
        let Some(lease) = unit.state.lease().filter(|l| l.token == key.token) else { return Ok(false) };
        self.live().entry(key.run.clone()).or_default().progress.insert(key.unit, progress);
        let ttl = self.limits.lease_ttl;
        if lease.expires.since(self.now()) > ttl.mul_f64(2.0 / 3.0) {
            return Ok(true);
        }
        let expires = self.now().plus(ttl);
        self.change_unit(&key.run, key.unit, |_| Some(UnitEvent::Renewed { token: key.token.clone(), expires })).await
    }

    /// The run still wants its attempts to go on.
    async fn wants_attempts(&self, run: &RunId) -> Result<bool, StoreError> {
        let run = self.store.run(run).await?;
        Ok(run.is_some_and(|r| matches!(r.state, RunState::Planning | RunState::Copying)))
    }

    /// Takes up a report. `Ok(true)`: the lease is not the reporter's any more, and nothing changed.
    async fn report(&self, report: Report) -> Result<bool, ChangeError> {
        let Report { mut key, event, .. } = report;
        if self.is_unfenced
            && let Some(unit) = self.store.unit(&key.run, key.unit).await?
            && let Some(lease) = unit.state.lease()
        {
            key.token = lease.token.clone();
        }
        let token = key.token.clone();
        let is_farewell = matches!(event, Event::Failed(_) | Event::GivenBack);
        if !is_farewell && !self.wants_attempts(&key.run).await? {
            let has_ended = match &event {
                Event::Completed { .. } => true,
                Event::Listed(page) => page.last,
                _ => false,
            };
            if has_ended {
                // Nothing of it is wanted, and nobody works on it any more.
                let given_back = |_: &_| Some(UnitEvent::GivenBack { token: token.clone() });
                self.change_unit(&key.run, key.unit, given_back).await?;
            }
            return Ok(true);
        }
        let taken = match event {
            Event::Listed(page) => self.listed(&key, page).await?,
            Event::ChunkStaged(chunk) => self.chunk_staged(&key, chunk).await?,
            Event::Completed { counters, chunks, files, quarantine } => {
                self.completed(&key, counters, chunks, Tail { files, quarantine }).await?
            }
            Event::Failed(failure) => {
                let Some(run) = self.store.run(&key.run).await? else { return Ok(true) };
                tracing::warn!(run = %key.run, unit = %key.unit, attempt = %key.attempt, code = %failure.code, "attempt failed: {}", failure.message);
                let limit = self.retry_limit(&run, key.unit);
                let event = UnitEvent::AttemptFailed { token, failure, limit };
                self.change_unit(&key.run, key.unit, |_| Some(event.clone())).await?
            }
            Event::GivenBack => {
                self.change_unit(&key.run, key.unit, |_| Some(UnitEvent::GivenBack { token: token.clone() })).await?
            }
        };
        Ok(!taken)
    }

    /// The unit, if the key's lease on it holds.
    async fn held_unit(&self, key: &AttemptKey) -> Result<Option<UnitRow>, StoreError> {
        let unit = self.store.unit(&key.run, key.unit).await?;
        Ok(unit.filter(|u| u.state.lease().is_some_and(|l| l.token == key.token)))
    }

    /// Stores a page of the listing, and with the last one the end of the listing.
    async fn listed(&self, key: &AttemptKey, page: ListPage) -> Result<bool, ChangeError> {
        for _ in 0..CONFLICTS_MAX {
            let Some(mut listing) = self.held_unit(key).await? else { return Ok(false) };
            let Some(mut run) = self.store.run(&key.run).await? else { return Ok(false) };
            if run.state != RunState::Planning {
                return Ok(false);
            }
            if page.number < run.listing_page {
                return Ok(true);
            }
            if page.number > run.listing_page {
                // Pages come in order; a gap means another attempt's page.
                return Ok(false);
            }
            let units = units_of_page(&run, &page);
            run.listing_page += 1;
            run.files += page.files.len() as u64;
            run.units += units.len() as u64;
            let mut writes = vec![Write::InsertUnits(units)];
            listing.state = if page.last {
                run.sample = page.sample.clone();
                run.warnings.extend(page.warnings.clone());
                let done = UnitEvent::Completed { token: key.token.clone(), chunks: 0 };
                // Nothing of a listing goes into the table.
                listing.state.apply(done)?.apply(UnitEvent::Confirmed)?
            } else {
                let expires = self.now().plus(self.limits.lease_ttl);
                listing.state.apply(UnitEvent::Renewed { token: key.token.clone(), expires })?
            };
            writes.push(Write::UpdateUnit(Box::new(listing)));
            writes.push(Write::UpdateRun(Box::new(run)));
            match self.commit(writes).await {
                Ok(()) => {
                    if page.last {
                        self.ring();
                    }
                    return Ok(true);
                }
                Err(StoreError::Conflict) => {}
                Err(e) => return Err(e.into()),
            }
        }
        Err(StoreError::Conflict.into())
    }

    /// Accepts a chunk. From here on this blob, and no other attempt's, is the chunk.
    async fn chunk_staged(&self, key: &AttemptKey, chunk: Chunk) -> Result<bool, ChangeError> {
        for _ in 0..CONFLICTS_MAX {
            let Some(mut unit) = self.held_unit(key).await? else { return Ok(false) };
            // The cluster will be let read this blob: only one of this attempt may be named.
            let expected = staging::blob_name(&key.run, key.unit, key.attempt, chunk.number, "");
            if !chunk.blob.starts_with(&expected) || chunk.blob.len() > expected.len() + EXTENSION_BYTES_MAX {
                tracing::error!(run = %key.run, unit = %key.unit, "a chunk names a blob that is not its attempt's");
                return Ok(false);
            }
            let known = self.store.chunks(&key.run, key.unit).await?;
            if let Some(row) = known.iter().find(|row| row.chunk.number == chunk.number) {
                return Ok(row.chunk.blob == chunk.blob);
            }
            let expires = self.now().plus(self.limits.lease_ttl);
            unit.state = unit.state.apply(UnitEvent::Renewed { token: key.token.clone(), expires })?;
            let row = ChunkRow { run: key.run.clone(), unit: key.unit, attempt: key.attempt, chunk: chunk.clone() };
            // The unit's revision fences: whoever takes the lease away meanwhile wins, and this is read again.
            match self.commit(vec![Write::UpdateUnit(Box::new(unit)), Write::InsertChunk(row)]).await {
                Ok(()) => return Ok(true),
                Err(StoreError::Conflict) => {}
                Err(e) => return Err(e.into()),
            }
        }
        Err(StoreError::Conflict.into())
    }

    /// Ends an attempt: the unit is staged, and its ingest commands are stored with it.
    async fn completed(
        &self,
        key: &AttemptKey,
        counters: Counters,
        chunks: u32,
        tail: Tail,
    ) -> Result<bool, ChangeError> {
        for _ in 0..CONFLICTS_MAX {
            let Some(mut unit) = self.held_unit(key).await? else { return Ok(false) };
            let Some(run) = self.store.run(&key.run).await? else { return Ok(false) };
            let accepted = self.store.chunks(&key.run, key.unit).await?;
            let rows: u64 = accepted.iter().map(|c| c.chunk.rows).sum();
            let is_whole =
                accepted.len() == chunks as usize && accepted.iter().zip(0..).all(|(c, n)| c.chunk.number.0 == n);
            if !is_whole || rows + counters.rows_skipped != counters.rows_read {
                // Never ingest what does not add up.
                let failure = Failure::internal(format!(
                    "{}: {} chunks with {rows} rows were accepted, {chunks} chunks with {} rows reported",
                    unit.file.path,
                    accepted.len(),
                    counters.rows_read
                ));
                let limit = self.retry_limit(&run, key.unit);
                let event = UnitEvent::AttemptFailed { token: key.token.clone(), failure, limit };
                return Ok(self.change_unit(&key.run, key.unit, |_| Some(event.clone())).await?);
            }
            unit.state = unit.state.apply(UnitEvent::Completed { token: key.token.clone(), chunks })?;
            if chunks == 0 {
                unit.state = unit.state.apply(UnitEvent::Confirmed)?;
            }
            unit.counters = Counters {
                // The attempts together have read the file once; a repeated part is not counted twice.
                data_read_bytes: unit.size_bytes,
                data_written_bytes: accepted.iter().map(|c| c.chunk.raw_bytes).sum(),
                staged_bytes: accepted.iter().map(|c| c.chunk.staged_bytes).sum(),
                rows_read: counters.rows_read,
                rows_skipped: counters.rows_skipped,
            };
            unit.tail = tail.clone();
            let known = self.store.unit_commands(&key.run, key.unit).await?;
            let commands = accepted.into_iter().filter(|c| known.iter().all(|k| k.chunk != c.chunk.number.0));
            let commands = commands.map(|c| CommandRow {
                tag: run.tag_of(c.unit, c.chunk.number),
                run: c.run,
                unit: c.unit,
                chunk: c.chunk.number.0,
                state: CommandState::NEW,
                revision: 1,
                blob: c.chunk.blob,
                rows: c.chunk.rows,
                raw_bytes: c.chunk.raw_bytes,
            });
            let writes = vec![Write::InsertCommands(commands.collect()), Write::UpdateUnit(Box::new(unit))];
            match self.commit(writes).await {
                Ok(()) => {
                    tracing::info!(run = %key.run, unit = %key.unit, attempt = %key.attempt, chunks, rows, "unit is staged");
                    self.forget_progress(&key.run, key.unit);
                    self.ring();
                    return Ok(true);
                }
                Err(StoreError::Conflict) => {}
                Err(e) => return Err(e.into()),
            }
        }
        Err(StoreError::Conflict.into())
    }

    /// Grants that were lost on their way: leased to this node, and the node does not know.
    async fn grant_again(
        &self,
        node: &NodeRow,
        known: &[(AttemptKey, Counters)],
        answer: &mut SyncAnswer,
    ) -> Result<(), StoreError> {
        for unit in self.store.leased_units(&Leases::OfNode(node.id.clone()), LEASES_MAX).await? {
            let Some(lease) = unit.state.lease() else { continue };
            let is_known = known.iter().any(|(key, _)| key.token == lease.token)
                || answer.grants.iter().any(|grant| grant.key.token == lease.token);
            if is_known {
                continue;
            }
            let run = self.store.run(&unit.run).await?;
            if let Some(run) = run.filter(|r| matches!(r.state, RunState::Planning | RunState::Copying)) {
                match self.grant_of(&run, &unit, lease).await {
                    Ok(grant) => answer.grants.push(grant),
                    Err(e) => self.cannot_grant(&run, e).await?,
                }
            }
        }
        Ok(())
    }

    /// Leases pending units to the node, run by run in turn.
    async fn grant(&self, node: &NodeRow, free: u32, answer: &mut SyncAnswer) -> Result<(), StoreError> {
        if free == 0 {
            return Ok(());
        }
        let may_give = |r: &RunRow| {
            matches!(r.state, RunState::Planning | RunState::Copying) && r.activity.source.connect_via == node.runtime
        };
        let mut runs: Vec<_> = self.store.live_runs().await?.into_iter().filter(may_give).collect();
        let mut free = free;
        while free > 0 && !runs.is_empty() {
            let leased = self.store.leased_units(&Leases::ExpiredAt(Millis(i64::MAX)), LEASES_MAX).await?;
            let now = self.now();
            let is_young = |run: &RunRow| run.times.copying.is_some_and(|began| now.since(began) < SPREAD);
            if runs.iter().any(is_young) && self.others_are_idler(node, &leased).await? {
                runs.retain(|run| !is_young(run));
            }
            let held_by = |run: &RunRow| leased.iter().filter(|u| u.run == run.id).count() as u32;
            let candidates: Vec<_> = runs
                .iter()
                .map(|r| Candidate {
                    held: held_by(r),
                    held_max: r.activity.settings.parallel_copies.unwrap_or(u32::MAX),
                })
                .collect();
            let Some(at) = next_run(&candidates) else { break };
            match self.grant_one(node, &runs[at]).await? {
                Some(grant) => {
                    let mut live = self.live();
                    let live = live.entry(runs[at].id.clone()).or_default();
                    live.peak_slots = live.peak_slots.max(candidates[at].held + 1);
                    answer.grants.push(grant);
                    free -= 1;
                }
                None => drop(runs.swap_remove(at)),
            }
        }
        Ok(())
    }

    /// Other nodes of the runtime have room and hold less than this one.
    async fn others_are_idler(&self, node: &NodeRow, leased: &[UnitRow]) -> Result<bool, StoreError> {
        let held = |id: &NodeId| leased.iter().filter(|u| u.state.lease().is_some_and(|l| l.node == *id)).count();
        let own = held(&node.id);
        if own == 0 {
            return Ok(false);
        }
        let since = Millis(self.now().0 - i64::try_from(SPREAD_SILENCE_MAX.as_millis()).unwrap_or(0));
        let nodes = self.store.nodes(since).await?;
        Ok(nodes.iter().any(|other| {
            let takes_work = !other.has_left && !other.is_draining && other.runtime == node.runtime;
            other.id != node.id && takes_work && held(&other.id) < own.min(other.slots as usize)
        }))
    }

    /// Leases one unit of the run, if one is pending.
    async fn grant_one(&self, node: &NodeRow, run: &RunRow) -> Result<Option<Grant>, StoreError> {
        loop {
            // While the source is listed, its files wait for the plan.
            let pending = if run.state == RunState::Planning {
                let is_due =
                    |u: &UnitRow| matches!(u.state, UnitState::Pending { not_before, .. } if not_before <= self.now());
                self.store.unit(&run.id, UnitNumber::LISTING).await?.filter(is_due)
            } else {
                self.store.pending_units(&run.id, self.now(), 1).await?.pop()
            };
            let Some(mut unit) = pending else { return Ok(None) };
            unit.attempts += 1;
            let lease = Lease {
                node: node.id.clone(),
                attempt: AttemptNumber(unit.attempts),
                token: LeaseToken::generate(),
                expires: self.now().plus(self.limits.lease_ttl),
            };
            let Ok(state) = unit.state.clone().apply(UnitEvent::Granted(lease.clone())) else { return Ok(None) };
            unit.state = state;
            unit.node_name.clone_from(&node.name);
            let grant = match self.grant_of(run, &unit, &lease).await {
                Ok(grant) => grant,
                Err(failure) => {
                    self.cannot_grant(run, failure).await?;
                    return Ok(None);
                }
            };
            let mut writes = vec![Write::UpdateUnit(Box::new(unit.clone()))];
            if unit.number == UnitNumber::LISTING {
                // A new listing begins from nothing: what an earlier one found may have changed.
                let Some(current) = self.store.run(&run.id).await? else { return Ok(None) };
                writes.push(Write::DeleteFiles(run.id.clone()));
                writes.push(Write::UpdateRun(Box::new(RunRow { listing_page: 0, files: 0, units: 0, ..current })));
            }
            match self.commit(writes).await {
                Ok(()) => {
                    tracing::info!(run = %run.id, unit = %unit.number, attempt = unit.attempts, node = node.name, "unit is leased");
                    return Ok(Some(grant));
                }
                Err(StoreError::Conflict) => {}
                Err(e) => return Err(e),
            }
        }
    }

    /// What goes with a lease. Made anew each time: it holds a signature that is never stored.
    async fn grant_of(&self, run: &RunRow, unit: &UnitRow, lease: &Lease) -> Result<Grant, Failure> {
        let key =
            AttemptKey { run: run.id.clone(), unit: unit.number, attempt: lease.attempt, token: lease.token.clone() };
        let activity = &run.activity;
        if unit.number == UnitNumber::LISTING {
            let source = Box::new(activity.source.clone());
            let split_bytes = if activity.settings.split_large_files { split_bytes(activity) } else { 0 };
            let (page_files_max, sample_files_max) = (PAGE_FILES_MAX, SAMPLE_FILES_MAX);
            let work = Work::List { source, page_files_max, sample_files_max, split_bytes };
            return Ok(Grant { key, work });
        }
        let plan = run.plan.as_ref().ok_or_else(|| Failure::internal("the run has no plan yet"))?;
        let chunks = self.store.chunks(&run.id, unit.number).await?;
        let work = Work::Copy(Box::new(CopyWork {
            file: unit.file.clone(),
            scope: unit.scope.clone(),
            source: activity.source.clone(),
            settings: activity.settings.clone(),
            creation_time: activity.sink.creation_time.clone(),
            plan: plan.copy.clone(),
            staging: Access::open(&activity.staging)?.for_node(self.now())?,
            resume: resume_after(&chunks),
        }));
        Ok(Grant { key, work })
    }

    /// The coordinator itself lacks what a grant needs, such as a secret: nobody else can end that.
    async fn cannot_grant(&self, run: &RunRow, failure: Failure) -> Result<(), StoreError> {
        if failure.retry != Retry::Never {
            tracing::warn!(run = %run.id, code = %failure.code, "a unit is not granted now: {}", failure.message);
            return Ok(());
        }
        let event = RunEvent::FailureFound(failure);
        match self.apply_to_run(&run.id, event, |_| {}).await {
            Ok(_) | Err(ChangeError::Refused(_)) => Ok(()),
            Err(ChangeError::Store(e)) => {
                tracing::error!(run = %run.id, "{}", with_causes(&e));
                Err(e)
            }
        }
    }
}

/// Files smaller than this are packed.
const PACK_FILE_BYTES_MAX: u64 = 1 << 20;
/// Files on a page from which on packing pays: fewer are better spread over the nodes.
const PACK_FILES_MIN: usize = 64;
/// Bytes of a pack, as stored, about.
const PACK_BYTES: u64 = 32 << 20;
/// Parts of a large file are not smaller than this.
const SPLIT_BYTES_MIN: u64 = 64 << 20;

/// About how large the parts of a large file are: large enough to be worth a lease, small enough for many nodes.
fn split_bytes(activity: &Activity) -> u64 {
    (activity.settings.chunk_bytes_max() / 8).max(SPLIT_BYTES_MIN)
}

/// The units of a page's files: one a file, but for large files that are split and small ones that are packed.
fn units_of_page(run: &RunRow, page: &ListPage) -> Vec<UnitRow> {
    let settings = &run.activity.settings;
    let format = run.activity.source.format.kind;
    let is_small = |file: &FileVersion| file.size_bytes <= PACK_FILE_BYTES_MAX && !is_archive(&file.path);
    let small = page.files.iter().filter(|f| is_small(f)).count();
    // A file of a pack cannot be left out alone.
    let packs = settings.pack_small_files && !settings.skip_error_file && format.is_text() && small >= PACK_FILES_MIN;
    let mut units = Vec::new();
    let mut number = run.units;
    let mut new = |file: &FileVersion| {
        number += 1;
        UnitRow::new(run.id.clone(), UnitNumber(number), file.clone())
    };
    let mut pack: Vec<FileVersion> = Vec::new();
    let mut pack_bytes = 0;
    for (index, file) in page.files.iter().enumerate() {
        if let Some((_, ranges)) = page.splits.iter().find(|(at, _)| *at as usize == index) {
            let bytes = |r: &FileRange| match format {
                // Parts are counted in row groups.
                FormatType::Parquet => file.size_bytes / u64::from(r.count.max(1)),
                _ => r.end.saturating_sub(r.start),
            };
            for range in ranges {
                let mut unit = new(file);
                (unit.size_bytes, unit.scope) = (bytes(range), Scope::Range(*range));
                unit.file_count = u32::from(range.number == 0);
                units.push(unit);
            }
        } else if packs && is_small(file) {
            pack_bytes += file.size_bytes;
            pack.push(file.clone());
            if pack_bytes >= PACK_BYTES {
                units.push(packed(new(&pack[0]), std::mem::take(&mut pack), pack_bytes));
                pack_bytes = 0;
            }
        } else {
            units.push(new(file));
        }
    }
    if !pack.is_empty() {
        units.push(packed(new(&pack[0]), pack, pack_bytes));
    }
    units
}

fn packed(mut unit: UnitRow, files: Vec<FileVersion>, bytes: u64) -> UnitRow {
    (unit.size_bytes, unit.file_count) = (bytes, files.len() as u32);
    unit.scope = Scope::Pack(files);
    unit
}

/// The name is one of an archive: it is many files by itself.
pub(crate) fn is_archive(path: &str) -> bool {
    let name = path.to_ascii_lowercase();
    [".zip", ".tar", ".tgz", ".tbz2", ".txz"].iter().any(|end| name.ends_with(end)) || name.contains(".tar.")
}

/// Where the next attempt goes on. `accepted` is in order of numbers.
fn resume_after(accepted: &[ChunkRow]) -> Resume {
    let in_order = accepted.iter().zip(0..).take_while(|(row, n)| row.chunk.number.0 == *n).count();
    let (before, after) = accepted.split_at(in_order);
    let accepted_chunks = after.iter().map(|row| row.chunk.number).collect();
    match before.last() {
        None => Resume { accepted_chunks, ..Resume::default() },
        Some(ChunkRow { chunk, .. }) => Resume {
            next_chunk: chunk.number.0 + 1,
            source_offset_bytes: chunk.source_end_bytes,
            source_lines: chunk.source_lines_end,
            rows: chunk.rows_end,
            rows_skipped: chunk.skipped_end,
            file: chunk.file_end,
            accepted_chunks,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ferry_common::id::ChunkNumber;

    fn accepted(numbers: &[u32]) -> Vec<ChunkRow> {
        let row = |n: &u32| ChunkRow {
            run: "r".parse().unwrap(),
            unit: UnitNumber(1),
            attempt: AttemptNumber(1),
            chunk: Chunk {
                number: ChunkNumber(*n),
                blob: String::new(),
                raw_bytes: 10,
                staged_bytes: 1,
                rows: 5,
                source_end_bytes: u64::from(n + 1) * 10,
                rows_end: u64::from(n + 1) * 5,
                source_lines_end: u64::from(n + 1) * 6,
                crc32: 0,
                file_end: 0,
                skipped_end: 0,
                quarantine: None,
                created: None,
                files: Vec::new(),
            },
        };
        numbers.iter().map(row).collect()
    }

    #[test]
    fn an_attempt_goes_on_after_the_last_chunk_in_order() {
        assert_eq!(resume_after(&[]), Resume::default());
        let resume = resume_after(&accepted(&[0, 1, 3, 5]));
        assert_eq!((resume.next_chunk, resume.source_offset_bytes, resume.rows, resume.source_lines), (2, 20, 10, 12));
        assert_eq!(resume.accepted_chunks, [ChunkNumber(3), ChunkNumber(5)]);
        let resume = resume_after(&accepted(&[1]));
        assert_eq!((resume.next_chunk, resume.accepted_chunks), (0, vec![ChunkNumber(1)]));
    }
}
