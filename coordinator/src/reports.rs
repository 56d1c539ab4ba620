//! What nodes report: pages of a listing, chunks, ends of attempts. Every report may come twice, late, or from a node that lost
//! its lease long ago: the lease token decides, and the row's revision fences what was read before.

use crate::{
    core::{CONFLICTS_MAX, ChangeError, Core},
    listed, loaded,
    packing::units_of_page,
    state::{command::CommandState, run::RunState, unit::UnitEvent},
    store::{ChunkRow, CommandRow, RunRow, StoreError, Tail, UnitRow, Write},
};
use ferry_common::{
    failure::{Code, Failure},
    id::{AttemptNumber, RunId, UnitNumber},
    staging,
    unit::{AttemptKey, Chunk, Counters, Event, ListPage, Report},
};
use futures::future::join_all;
use std::{borrow::Cow, collections::HashMap};

/// Longest end of a staged blob's name, such as `csv.gz`.
const EXTENSION_BYTES_MAX: usize = 16;

/// Sequence of a report, and whether it was refused: then the lease is not the reporter's any more, and nothing changed.
type Ack = (u64, bool);

impl Core {
    /// Takes up reports, those of different attempts side by side. What has no answer comes again.
    pub(crate) async fn take_reports(&self, reports: Vec<Report>) -> Vec<Ack> {
        let mut runs: HashMap<RunId, Option<RunRow>> = HashMap::new();
        let mut by_attempt: Vec<Vec<Report>> = Vec::new();
        for report in reports {
            if !runs.contains_key(&report.key.run) {
                match self.store.run(&report.key.run).await {
                    Ok(run) => drop(runs.insert(report.key.run.clone(), run)),
                    Err(e) => {
                        tracing::error!("reports wait: {e}");
                        return Vec::new();
                    }
                }
            }
            match by_attempt.iter_mut().find(|of_one| of_one[0].key == report.key) {
                Some(of_one) => of_one.push(report),
                None => by_attempt.push(vec![report]),
            }
        }
        let taken = by_attempt.into_iter().map(|of_one| {
            let run = runs.get(&of_one[0].key.run).and_then(Option::as_ref);
            self.take_in_order(run, of_one)
        });
        join_all(taken).await.into_iter().flatten().collect()
    }

    /// Takes up what was reported of one attempt.
    async fn take_in_order(&self, run: Option<&RunRow>, reports: Vec<Report>) -> Vec<Ack> {
        let Some(run) = run else { return reports.iter().map(|report| (report.sequence, true)).collect() };
        let mut acks = Vec::with_capacity(reports.len());
        let mut rest = reports.as_slice();
        while let Some(first) = rest.first() {
            let is_staged = |r: &&Report| matches!(r.event, Event::ChunkStaged(_) | Event::Completed { .. });
            let staged = rest.iter().take_while(is_staged).count();
            let (now, later) = rest.split_at(staged.max(1));
            let taken = match staged {
                0 => self.report(run, first).await.map(|refused| vec![(first.sequence, refused)]),
                _ => self.staged(run, now).await,
            };
            match taken {
                Ok(taken) => acks.extend(taken),
                Err(e) => {
                    tracing::error!("reports wait: {e}");
                    break;
                }
            }
            rest = later;
        }
        acks
    }

    /// Takes up a page of a listing, or an end that is none of a whole file. Returns whether it was refused.
    async fn report(&self, run: &RunRow, report: &Report) -> Result<bool, ChangeError> {
        let Report { key, event, .. } = report;
        let token = key.token.clone();
        let change = match event {
            Event::Listed(page) => {
                let is_taken = wants_attempts(run) && self.listed(key, page).await?;
                if !is_taken && page.last {
                    self.nobody_works_on(key).await?;
                }
                return Ok(!is_taken);
            }
            Event::Cleared(ends) => {
                let is_taken = self.cleared(key, ends).await?;
                if !is_taken {
                    self.nobody_works_on(key).await?;
                }
                return Ok(!is_taken);
            }
            Event::Failed(failure) => {
                let limit = self.retry_limit(run, key.unit);
                UnitEvent::AttemptFailed { token, failure: failure.clone(), limit }
            }
            Event::GivenBack => UnitEvent::GivenBack { token },
            Event::ChunkStaged(_) | Event::Completed { .. } => {
                return Ok(self.staged(run, std::slice::from_ref(report)).await?.iter().all(|(_, refused)| *refused));
            }
        };
        if may_write_late(event) {
            self.expect_late_writer(&key.run).await?;
        }
        Ok(!self.change_unit(&key.run, key.unit, |_| Some(change.clone())).await?)
    }

    /// An attempt has ended of which nothing is wanted.
    async fn nobody_works_on(&self, key: &AttemptKey) -> Result<(), StoreError> {
        let given_back = |_: &_| Some(UnitEvent::GivenBack { token: key.token.clone() });
        self.change_unit(&key.run, key.unit, given_back).await.map(drop)
    }

    /// Takes up chunks of one attempt, and its end if that is among them, in one commit.
    async fn staged(&self, run: &RunRow, reports: &[Report]) -> Result<Vec<Ack>, ChangeError> {
        let key = &reports[0].key;
        // Unit 0 stages nothing, whatever its holder says.
        if !wants_attempts(run) || key.unit == UnitNumber::LISTING {
            if reports.iter().any(|r| matches!(r.event, Event::Completed { .. })) {
                self.nobody_works_on(key).await?;
            }
            return Ok(reports.iter().map(|r| (r.sequence, true)).collect());
        }
        for _ in 0..CONFLICTS_MAX {
            match self.staged_once(run, reports).await {
                Err(ChangeError::Store(StoreError::Conflict)) => {}
                other => return other,
            }
        }
        Err(StoreError::Conflict.into())
    }

    async fn staged_once(&self, run: &RunRow, reports: &[Report]) -> Result<Vec<Ack>, ChangeError> {
        let key = &reports[0].key;
        let Some(unit) = self.held_unit(key).await? else {
            return Ok(reports.iter().map(|r| (r.sequence, true)).collect());
        };
        let chunks = self.store.chunks(&key.run, key.unit).await?;
        let mut taking = Taking {
            core: self,
            run,
            key,
            unit,
            chunks,
            writes: Vec::new(),
            staged_bytes: 0,
            completed: None,
            is_broken: false,
        };
        let mut acks = Vec::with_capacity(reports.len());
        for report in reports {
            let is_taken = match &report.event {
                Event::ChunkStaged(chunk) => taking.chunk(chunk)?,
                Event::Completed { counters, chunks, files, quarantine } => {
                    let tail = Tail { files: files.clone(), quarantine: quarantine.clone(), ..Tail::default() };
                    taking.completed(*counters, *chunks, tail).await?
                }
                _ => false,
            };
            acks.push((report.sequence, !is_taken));
        }
        let Taking { unit, mut writes, staged_bytes, completed, is_broken, .. } = taking;
        let (to, node) = (unit.state.name(), unit.node_name.clone());
        let has_ended = unit.state.lease().is_none();
        if !writes.is_empty() || has_ended {
            // The unit's revision fences: whoever takes the lease away meanwhile wins, and this is read again.
            writes.insert(0, Write::UpdateUnit(Box::new(unit)));
            self.commit(writes).await?;
            self.meters.chunk_staged(staged_bytes);
        }
        if has_ended {
            tracing::info!(run = %key.run, unit = %key.unit, attempt = %key.attempt, node, to, "attempt has ended");
            let known = self.forget_progress(&key.run, key.unit);
            if let Some(counters) = completed {
                self.meters.unit_staged(known, counters);
            }
            if is_broken {
                self.meters.attempt_failed(Code::Internal);
            }
            self.ring();
            if run.activity.settings.parallel_copies.is_some() || to == "Pending" {
                // Others may have waited for its slot, or can have the unit.
                self.offer();
            }
        }
        Ok(acks)
    }

    /// The unit, if the key's lease on it holds.
    async fn held_unit(&self, key: &AttemptKey) -> Result<Option<UnitRow>, StoreError> {
        let unit = self.store.unit(&key.run, key.unit).await?;
        Ok(unit.filter(|u| u.state.lease().is_some_and(|l| self.is_unfenced || l.token == key.token)))
    }

    /// The page without the files that earlier runs have loaded, where the run leaves them out, and how many these are.
    async fn not_loaded<'a>(&self, run: &RunRow, page: &'a ListPage) -> Result<(Cow<'a, ListPage>, u64), StoreError> {
        let source = &run.activity.source;
        if !source.keeps_ledger() || page.files.is_empty() {
            return Ok((Cow::Borrowed(page), 0));
        }
        let keys: Vec<_> = page.files.iter().map(|file| loaded::key_of(&source.connect_via, &file.path)).collect();
        let known = self.store.loaded_files(&loaded::sink_of_run(run), &keys).await?;
        let (left, left_out) = loaded::without(page, &source.connect_via, &known);
        Ok((Cow::Owned(left), left_out))
    }

    /// Stores a page of the listing, and with the last one the end of the listing.
    async fn listed(&self, key: &AttemptKey, page: &ListPage) -> Result<bool, ChangeError> {
        for tries in 0..CONFLICTS_MAX {
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
            let attempt = AttemptNumber(listing.attempts);
            // Files that were named before are rare: the store refuses a page that brings one, and only then is it asked which.
            let known = match tries {
                0 => Vec::new(),
                _ => {
                    let keys: Vec<_> = page.files.iter().map(|file| listed::key_of(&file.path)).collect();
                    self.store.listed_files(&key.run, attempt, &keys).await?
                }
            };
            let (once, keys) = listed::each_once(page, known);
            let named_again = page.files.len() - once.files.len();
            let (page, left_out) = self.not_loaded(&run, &once).await?;
            let units = units_of_page(&run, &page);
            run.listing_page += 1;
            run.files_loaded_before += left_out;
            run.files_named_again += named_again as u64;
            run.files += page.files.len() as u64;
            run.units += units.len() as u64;
            let listed = Write::InsertListed { run: key.run.clone(), attempt, keys };
            let mut writes = vec![Write::InsertUnits(units), listed];
            listing.state = if page.last {
                run.sample = page.sample.clone();
                run.trial = page.trial.clone();
                run.warnings.extend(page.warnings.clone());
                run.warnings.extend(loaded::told(&run));
                run.warnings.extend(listed::told(&run));
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
                    if named_again > 0 {
                        tracing::warn!(run = %key.run, attempt = %attempt, "{named_again} files of a page were named before, and are left out");
                    }
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
}

/// The run still wants its attempts to go on.
pub(crate) fn wants_attempts(run: &RunRow) -> bool {
    matches!(run.state, RunState::Planning | RunState::Copying | RunState::Clearing)
}

/// The attempt has let go of a write to staging whose outcome it does not know: it may yet have its effect.
fn may_write_late(end: &Event) -> bool {
    match end {
        Event::GivenBack => true,
        Event::Failed(failure) => matches!(failure.code, Code::StagingUnreachable | Code::StagingFailed),
        Event::ChunkStaged(_) | Event::Completed { .. } | Event::Listed(_) | Event::Cleared(_) => false,
    }
}

/// What reports of one attempt make of its unit. Nothing is stored yet.
struct Taking<'a> {
    core: &'a Core,
    run: &'a RunRow,
    key: &'a AttemptKey,
    unit: UnitRow,
    /// Those accepted, by number.
    chunks: Vec<ChunkRow>,
    writes: Vec<Write>,
    /// Of chunks that are accepted now.
    staged_bytes: u64,
    /// What the attempt did, if it has ended well.
    completed: Option<Counters>,
    /// It reported what does not add up.
    is_broken: bool,
}

impl Taking<'_> {
    /// Accepts a chunk. From here on this blob, and no other attempt's, is the chunk. Returns whether it is accepted.
    fn chunk(&mut self, chunk: &Chunk) -> Result<bool, ChangeError> {
        let key = self.key;
        let Some(lease) = self.unit.state.lease() else { return Ok(false) };
        // The cluster will be let read this blob: only one of this attempt may be named.
        let expected = staging::blob_name(&key.run, key.unit, key.attempt, chunk.number, "");
        if !chunk.blob.starts_with(&expected) || chunk.blob.len() > expected.len() + EXTENSION_BYTES_MAX {
            tracing::error!(run = %key.run, unit = %key.unit, attempt = %key.attempt, node = self.unit.node_name, "a chunk names a blob that is not its attempt's");
            return Ok(false);
        }
        let at = match self.chunks.binary_search_by_key(&chunk.number, |row| row.chunk.number) {
            Ok(known) => return Ok(self.chunks[known].chunk.blob == chunk.blob),
            Err(at) => at,
        };
        let expires = self.core.now().plus(self.core.limits.lease_ttl);
        let renewed = UnitEvent::Renewed { token: lease.token.clone(), expires };
        self.unit.state = self.unit.state.clone().apply(renewed)?;
        let row = ChunkRow { run: key.run.clone(), unit: key.unit, attempt: key.attempt, chunk: chunk.clone() };
        self.writes.push(Write::InsertChunk(row.clone()));
        self.staged_bytes += chunk.staged_bytes;
        self.chunks.insert(at, row);
        Ok(true)
    }

    /// Ends the attempt: the unit is staged, and its ingest commands are stored with it. Returns whether the end was taken.
    async fn completed(&mut self, counters: Counters, chunks: u32, tail: Tail) -> Result<bool, ChangeError> {
        let (run, key, unit) = (self.run, self.key, &mut self.unit);
        let Some(lease) = unit.state.lease() else { return Ok(false) };
        let token = lease.token.clone();
        let rows: u64 = self.chunks.iter().map(|c| c.chunk.rows).sum();
        let is_whole =
            self.chunks.len() == chunks as usize && self.chunks.iter().zip(0..).all(|(c, n)| c.chunk.number.0 == n);
        if !is_whole || rows + counters.rows_skipped != counters.rows_read {
            // Never ingest what does not add up.
            let failure = Failure::internal(format!(
                "{}: {} chunks with {rows} rows were accepted, {chunks} chunks with {} rows reported",
                unit.file.path,
                self.chunks.len(),
                counters.rows_read
            ));
            tracing::error!(run = %key.run, unit = %key.unit, attempt = %key.attempt, node = unit.node_name, "{}", failure.message);
            let limit = self.core.retry_limit(run, key.unit);
            let failed = UnitEvent::AttemptFailed { token, failure: failure.clone(), limit };
            unit.state = unit.state.clone().apply(failed)?;
            unit.last_failure = Some(failure);
            self.is_broken = true;
            return Ok(true);
        }
        self.completed = Some(counters);
        unit.state = unit.state.clone().apply(UnitEvent::Completed { token, chunks })?;
        if chunks == 0 {
            unit.state = unit.state.clone().apply(UnitEvent::Confirmed)?;
        }
        unit.counters = Counters {
            // The attempts together have read the file once; a repeated part is not counted twice.
            data_read_bytes: unit.size_bytes,
            data_written_bytes: self.chunks.iter().map(|c| c.chunk.raw_bytes).sum(),
            staged_bytes: self.chunks.iter().map(|c| c.chunk.staged_bytes).sum(),
            rows_read: counters.rows_read,
            rows_skipped: counters.rows_skipped,
        };
        unit.tail = tail;
        // A unit that is copied for the first time has none.
        let known = match unit.attempts {
            0 | 1 => Vec::new(),
            _ => self.core.store.unit_commands(&key.run, key.unit).await?,
        };
        let new = self.chunks.iter().filter(|c| known.iter().all(|k| k.chunk != c.chunk.number.0));
        let commands = new.map(|c| CommandRow {
            tag: run.tag_of(c.unit, c.chunk.number),
            run: c.run.clone(),
            unit: c.unit,
            chunk: c.chunk.number.0,
            state: CommandState::NEW,
            revision: 1,
            blob: c.chunk.blob.clone(),
            rows: c.chunk.rows,
            raw_bytes: c.chunk.raw_bytes,
        });
        self.writes.push(Write::InsertCommands(commands.collect()));
        Ok(true)
    }
}

#[cfg(test)]
mod tests;
