//! Which node gets which unit, and what goes with a lease.
//!
//! Many nodes ask at once. Pending units are read some at a time and handed out from a line, so that no two calls go for
//! the same one; what the store says is what counts, and another coordinator may have been faster.

use crate::{
    core::{ChangeError, Core, UNITS_WRITTEN_AT_ONCE},
    desk::{Desk, Going, Slots},
    scheduler::{Candidate, next_run},
    state::{
        run::{RunEvent, RunState},
        unit::{Lease, UnitEvent},
    },
    store::{ChunkRow, NodeRow, RunRow, StoreError, UnitRow, Write},
};
use ferry_common::{
    activity::{Activity, Settings, Source},
    failure::{Code, Failure, Retry, with_causes},
    id::{AttemptNumber, LeaseToken, NodeId, UnitNumber},
    link::PAGE_FILES_MAX,
    unit::{AttemptKey, CopyWork, Counters, Grant, Resume, Work},
};
use futures::future::join_all;
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;

/// Files that a listing samples for columns and types.
const SAMPLE_FILES_MAX: u32 = 20;
/// Times that one call goes for units while others are faster.
const ROUNDS_MAX: u32 = 20;
/// Pending units that are read at once.
const LINE_UNITS_MAX: u32 = 500;
/// So long after the start of a run's copying a node takes no second unit while others have none: whoever asks first would
/// else take what several nodes could do side by side.
const SPREAD: Duration = Duration::from_secs(1);
/// Where nothing is decided by it, who holds what is asked about this often.
const HELD_AGE_MAX: Duration = Duration::from_secs(1);
/// A node that was not heard for this long is not waited for.
const SPREAD_SILENCE_MAX: Duration = Duration::from_secs(15);
/// Parts of a large file are not smaller than this.
const SPLIT_BYTES_MIN: u64 = 64 << 20;

/// A unit for a node.
struct Picked {
    run: Arc<RunRow>,
    unit: UnitRow,
    /// Slots that the run holds with it, if that is known by now.
    held: Option<u32>,
    /// Keeps others off.
    _going: Going,
}

impl Core {
    /// Leases pending units to the node, run by run in turn. `by_blob`: it takes signatures for single blobs.
    pub(crate) async fn grant(&self, node: &NodeRow, free: u32, by_blob: bool) -> Result<Vec<Grant>, StoreError> {
        let mut grants = Vec::new();
        let began = Instant::now();
        for _ in 0..ROUNDS_MAX {
            // Other leases of the node are renewed with its next call: what is slow here must not cost them.
            if began.elapsed() > self.limits.lease_ttl / 4 {
                break;
            }
            let picked = self.pick(node, free - grants.len() as u32).await?;
            if picked.is_empty() {
                break;
            }
            for granted in join_all(picked.into_iter().map(|picked| self.grant_one(node, picked, by_blob))).await {
                grants.extend(granted?);
            }
            if grants.len() >= free as usize {
                break;
            }
        }
        Ok(grants)
    }

    /// Units for the node, as many as may be decided on at once.
    async fn pick(&self, node: &NodeRow, free: u32) -> Result<Vec<Picked>, StoreError> {
        let may_give = |r: &RunRow| {
            let is_wanted = match r.state {
                RunState::Planning | RunState::Copying => true,
                // Older nodes do not know that work, others may not do it.
                RunState::Clearing => node.may_change_sources && r.clearing.as_ref().is_some_and(|c| !c.is_stopped),
                _ => false,
            };
            is_wanted && r.activity.source.connect_via == node.runtime
        };
        let live = self.store.live_runs().await?;
        let mut desk = self.desk.lock().await;
        desk.keep_lines(&live);
        let mut runs: Vec<_> = live.into_iter().filter(may_give).map(Arc::new).collect();
        if runs.is_empty() || free == 0 {
            return Ok(Vec::new());
        }
        let now = self.now();
        let is_young = |run: &RunRow| run.times.copying.is_some_and(|began| now.since(began) < SPREAD);
        let is_capped = |run: &RunRow| run.activity.settings.parallel_copies.is_some();
        // A run that has all slots for itself takes what there is.
        let any_young = runs.iter().any(|run| is_young(run));
        let matters = runs.len() > 1 || any_young || runs.iter().any(|run| is_capped(run));
        // Before the store is asked: a lease that is stored meanwhile counts twice, and not never.
        let going = desk.going_by_run();
        let known = desk.held_lately(now, HELD_AGE_MAX).filter(|_| !matters);
        let is_fresh = known.is_none();
        let held = match known {
            Some(held) => held,
            None => {
                let held: Arc<Slots> = Arc::new(self.store.held_slots().await?.into_iter().collect());
                desk.note_held(now, held.clone());
                held
            }
        };
        // With each unit of a young run others may have become idler.
        let picked_max = if any_young { 1 } else { free };
        if any_young && self.others_are_idler(node, &desk, &held).await? {
            runs.retain(|run| !is_young(run));
        }
        let held_by = |run: &RunRow| held.of_run(&run.id) + going.get(&run.id).copied().unwrap_or(0);
        let parallel_max = |run: &RunRow| run.activity.settings.parallel_copies.unwrap_or(u32::MAX);
        let mut candidates: Vec<_> = runs
            .iter()
            .map(|r| Candidate { held: held_by(r), held_max: parallel_max(r), priority: r.activity.settings.priority })
            .collect();
        let mut picked = Vec::new();
        while picked.len() < picked_max as usize {
            let Some(at) = next_run(&candidates) else { break };
            let unit = self.next_unit(&mut desk, &runs[at]).await?;
            let Some((unit, going)) = unit.and_then(|unit| desk.let_go(&unit, &node.id).map(|going| (unit, going)))
            else {
                candidates[at].held_max = 0;
                continue;
            };
            candidates[at].held += 1;
            picked.push(Picked {
                run: runs[at].clone(),
                unit,
                held: is_fresh.then_some(candidates[at].held),
                _going: going,
            });
        }
        Ok(picked)
    }

    /// The unit of the run that is granted next.
    async fn next_unit(&self, desk: &mut Desk, run: &RunRow) -> Result<Option<UnitRow>, StoreError> {
        // While the source is listed, its files wait for the plan. When they are in the table, the source is cleared.
        if matches!(run.state, RunState::Planning | RunState::Clearing) {
            let listing = self.store.unit(&run.id, UnitNumber::LISTING).await?;
            return Ok(listing.filter(|unit| unit.is_due(self.now())));
        }
        if let Some(unit) = desk.next(run) {
            return Ok(Some(unit));
        }
        // Those on their way are pending still.
        let limit = LINE_UNITS_MAX.saturating_add(desk.going());
        desk.line_up(run, self.store.pending_units(&run.id, self.now(), limit).await?);
        Ok(desk.next(run))
    }

    /// Other nodes of the runtime have room and hold less than this one.
    async fn others_are_idler(&self, node: &NodeRow, desk: &Desk, held: &Slots) -> Result<bool, StoreError> {
        let held = |id: &NodeId| held.of_node(id) + desk.going_to(id);
        let own = held(&node.id);
        if own == 0 {
            return Ok(false);
        }
        let nodes = self.nodes_seen(SPREAD_SILENCE_MAX).await?;
        Ok(nodes.iter().any(|other| {
            let takes_work = !other.has_left && !other.is_draining && other.runtime == node.runtime;
            other.id != node.id && takes_work && held(&other.id) < own.min(other.slots)
        }))
    }

    /// Deletes what an earlier listing has found, but for what one commit can take. Whoever leases the listing meanwhile was first.
    async fn forget_listing(&self, listing: &mut UnitRow) -> Result<(), StoreError> {
        // Read after the unit: once the run has gone on, the unit has another revision than the one in hand.
        let run = self.store.run(&listing.run).await?.filter(|run| run.state == RunState::Planning);
        let mut left = run.map_or(0, |run| run.units);
        let began = Instant::now();
        while left > UNITS_WRITTEN_AT_ONCE {
            if began.elapsed() > self.limits.lease_ttl / 4 {
                // Other leases of the node wait for this call. What is deleted stays so; the next call goes on.
                return Err(StoreError::Conflict);
            }
            left -= UNITS_WRITTEN_AT_ONCE;
            let delete = Write::DeleteFiles(listing.run.clone(), UnitNumber(left));
            self.commit(vec![Write::UpdateUnit(Box::new(listing.clone())), delete]).await?;
            listing.revision += 1;
        }
        Ok(())
    }

    /// Leases a unit. `None`: it is not to be had any more.
    async fn grant_one(&self, node: &NodeRow, mut picked: Picked, by_blob: bool) -> Result<Option<Grant>, StoreError> {
        if picked.unit.number == UnitNumber::LISTING && picked.run.state == RunState::Clearing {
            // The page follows from the run, which changes with the unit in one commit: read after it, the run is no older, and
            // the unit's revision stands for both.
            let run = self.store.run(&picked.run.id).await?.filter(|run| run.state == RunState::Clearing);
            let Some(run) = run else { return Ok(None) };
            picked.run = Arc::new(run);
        }
        let run = &picked.run;
        let mut unit = picked.unit.clone();
        if unit.number == UnitNumber::LISTING && run.state == RunState::Planning {
            match self.forget_listing(&mut unit).await {
                Ok(()) => {}
                Err(StoreError::Conflict) => {
                    self.desk.lock().await.forget_line(run);
                    return Ok(None);
                }
                Err(e) => return Err(e),
            }
        }
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
        // The first attempt finds none.
        let accepted = match unit.attempts {
            0 | 1 => Vec::new(),
            _ => self.store.chunks(&run.id, unit.number).await?,
        };
        let grant = match self.grant_of(run, &unit, &lease, &accepted, by_blob).await {
            Ok(grant) => grant,
            Err(failure) => {
                self.cannot_grant(run, failure).await?;
                return Ok(None);
            }
        };
        let number = unit.number;
        let mut writes = vec![Write::UpdateUnit(Box::new(unit))];
        if number == UnitNumber::LISTING && run.state != RunState::Clearing {
            // A new listing begins from nothing: what an earlier one found may have changed.
            let current = self.store.run(&run.id).await?.filter(|current| current.state == RunState::Planning);
            let Some(current) = current else { return Ok(None) };
            writes.push(Write::DeleteFiles(run.id.clone(), UnitNumber::LISTING));
            writes.push(Write::UpdateRun(Box::new(RunRow {
                listing_page: 0,
                files: 0,
                files_loaded_before: 0,
                files_named_again: 0,
                units: 0,
                ..current
            })));
        }
        match self.commit(writes).await {
            Ok(()) => {
                tracing::info!(run = %run.id, unit = %number, attempt = %lease.attempt, node = node.name, "unit is leased");
                let mut live = self.live();
                let live = live.entry(run.id.clone()).or_default();
                live.peak_slots = live.peak_slots.max(picked.held.unwrap_or(0));
                Ok(Some(grant))
            }
            Err(StoreError::Conflict) => {
                // So will more of the line be.
                self.desk.lock().await.forget_line(run);
                Ok(None)
            }
            Err(e) => Err(e),
        }
    }

    /// What goes with a lease. Made anew each time: it holds a signature that is never stored.
    async fn grant_of(
        &self,
        run: &RunRow,
        unit: &UnitRow,
        lease: &Lease,
        accepted: &[ChunkRow],
        by_blob: bool,
    ) -> Result<Grant, Failure> {
        let key =
            AttemptKey { run: run.id.clone(), unit: unit.number, attempt: lease.attempt, token: lease.token.clone() };
        let activity = &run.activity;
        if unit.number == UnitNumber::LISTING && run.state == RunState::Clearing {
            return Ok(Grant { key, work: Work::Clear(self.clear_work(run).await?) });
        }
        if unit.number == UnitNumber::LISTING {
            let source = Box::new(source_for_nodes(activity));
            // A part may be in the table when another one shows that the file is to be left out.
            let splits = activity.settings.split_large_files && !activity.settings.skip_error_file;
            let split_bytes = if splits { split_bytes(activity) } else { 0 };
            let (page_files_max, sample_files_max) = (PAGE_FILES_MAX, SAMPLE_FILES_MAX);
            let trial = run.is_dry.then(|| Box::new(settings_for_nodes(activity)));
            let work = Work::List { source, page_files_max, sample_files_max, split_bytes, trial };
            return Ok(Grant { key, work });
        }
        let plan = run.plan.as_ref().ok_or_else(|| Failure::internal("the run has no plan yet"))?;
        let resume = resume_after(accepted);
        let work = Work::Copy(Box::new(CopyWork {
            file: unit.file.clone(),
            scope: unit.scope.clone(),
            source: source_for_nodes(activity),
            settings: settings_for_nodes(activity),
            creation_time: activity.sink.creation_time.clone(),
            plan: plan.copy.clone(),
            staging: self.staging_of(run, unit.number, lease.attempt, resume.next_chunk, by_blob).await?,
            resume,
        }));
        Ok(Grant { key, work })
    }

    /// Grants that were lost on their way: of what is leased to the node, what it does not know. `leased` was read before
    /// anything was granted in this call.
    pub(crate) async fn grant_again(
        &self,
        leased: &[UnitRow],
        known: &[(AttemptKey, Counters)],
        by_blob: bool,
    ) -> Result<Vec<Grant>, StoreError> {
        let mut grants = Vec::new();
        for unit in leased {
            let Some(lease) = unit.state.lease() else { continue };
            if known.iter().any(|(key, _)| key.token == lease.token) {
                continue;
            }
            let run = self.store.run(&unit.run).await?;
            let goes_on = |r: &RunRow| matches!(r.state, RunState::Planning | RunState::Copying | RunState::Clearing);
            if let Some(run) = run.filter(goes_on) {
                let accepted = self.store.chunks(&run.id, unit.number).await?;
                match self.grant_of(&run, unit, lease, &accepted, by_blob).await {
                    Ok(grant) => grants.push(grant),
                    Err(e) => self.cannot_grant(&run, e).await?,
                }
            }
        }
        Ok(grants)
    }

    /// The coordinator itself lacks what a grant needs, such as a secret. Where there may be others it is left to them, and to
    /// the run's driver to judge; else nobody can end that.
    async fn cannot_grant(&self, run: &RunRow, failure: Failure) -> Result<(), StoreError> {
        let is_others = !self.store.is_exclusive() && run.driver.coordinator != self.id;
        let is_passed_on = !self.store.is_exclusive() && failure.code == Code::SecretMissing;
        if is_others || is_passed_on || failure.retry != Retry::Never {
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

/// Without what is not for nodes to know: those of an older version take no setting that is new to them.
fn settings_for_nodes(activity: &Activity) -> Settings {
    Settings { priority: 0, webhook: None, ..activity.settings.clone() }
}

/// The same of the source.
fn source_for_nodes(activity: &Activity) -> Source {
    Source { skip_loaded_files: false, ..activity.source.without_after_completion() }
}

/// About how large the parts of a large file are: large enough to be worth a lease, small enough for many nodes.
fn split_bytes(activity: &Activity) -> u64 {
    (activity.settings.chunk_bytes_max() / 8).max(SPLIT_BYTES_MIN)
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
    use ferry_common::{id::ChunkNumber, unit::Chunk};

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
