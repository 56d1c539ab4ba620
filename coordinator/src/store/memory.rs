//! The store in memory, for simulations. It must behave as the durable one does: `conformance` sees to that.

use super::{
    ChunkRow, CommandCounts, CommandPage, CommandQuery, CommandRow, Driver, FilePage, FileQuery, FileSort, HeldSlots,
    LeasedUnit, LoadedFile, NodeRow, Numbers, OpenCommands, PaceKey, PaceRow, RunQuery, RunRow, RunsIn, Store,
    StoreError, ThisRun, UnitCounts, UnitRow, Write,
    pages::{self, COMMANDS_OF_FEW, UNITS_OF_FEW},
};
use crate::{
    schedule::schedule_of,
    state::{command::CommandState, unit::UnitState},
};
use async_trait::async_trait;
use ferry_common::{
    clock::Millis,
    failure::Code,
    id::{AttemptNumber, NodeId, RunId, UnitNumber},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard, PoisonError},
};

#[derive(Debug, Clone, Default)]
struct Tables {
    runs: BTreeMap<RunId, RunRow>,
    units: BTreeMap<(RunId, UnitNumber), UnitRow>,
    chunks: BTreeMap<(RunId, UnitNumber, u32), ChunkRow>,
    commands: BTreeMap<(RunId, UnitNumber, u32), CommandRow>,
    nodes: BTreeMap<NodeId, NodeRow>,
    paces: BTreeMap<PaceKey, PaceRow>,
    /// By table and key.
    loaded: BTreeMap<(String, String), LoadedFile>,
    listed: BTreeSet<(RunId, AttemptNumber, String)>,
    /// By table.
    loading: BTreeMap<String, RunId>,
}

/// A store that ends with the process.
#[derive(Debug, Default)]
pub struct MemoryStore(Mutex<Tables>);

fn insert<K: Ord, V>(map: &mut BTreeMap<K, V>, key: K, value: V) -> Result<(), StoreError> {
    if map.contains_key(&key) {
        return Err(StoreError::Conflict);
    }
    map.insert(key, value);
    Ok(())
}

impl Tables {
    /// This very run. Conflict if there is none.
    fn this(&self, run: &ThisRun) -> Result<&RunRow, StoreError> {
        self.runs.get(&run.id).filter(|row| row.times.submitted == run.submitted).ok_or(StoreError::Conflict)
    }

    /// The same, and it has ended and was swept.
    fn this_past(&self, run: &ThisRun) -> Result<(), StoreError> {
        if self.this(run)?.is_live() { Err(StoreError::Conflict) } else { Ok(()) }
    }

    fn driver(&mut self, run: &RunId, epoch: i64) -> Result<&mut Driver, StoreError> {
        let driver = self.runs.get_mut(run).map(|run| &mut run.driver);
        driver.filter(|driver| driver.epoch == epoch).ok_or(StoreError::Conflict)
    }

    fn drop_units(&mut self, run: &RunId, numbers: Numbers, which: impl Fn(&UnitState) -> bool) {
        for unit in self.units.values_mut().filter(|u| u.run == *run && numbers.have(u.number) && which(&u.state)) {
            unit.state = UnitState::Dropped;
            unit.revision += 1;
        }
    }

    /// Something of the unit is in the table, or may be.
    fn is_begun(&self, run: &RunId, unit: UnitNumber) -> bool {
        self.commands.values().any(|c| {
            c.run == *run
                && c.unit == unit
                && matches!(
                    c.state,
                    CommandState::Issued { .. }
                        | CommandState::Confirmed { .. }
                        | CommandState::Planned { sent: Some(_), .. }
                )
        })
    }

    fn drop_untouched(&mut self, run: &RunId, numbers: Numbers) {
        let is_meant = |number: UnitNumber| numbers.have(number);
        let is_dropped = |unit: &&UnitRow| {
            let is_part =
                |u: &&UnitRow| u.run == *run && u.number != UnitNumber::LISTING && u.file.path == unit.file.path;
            let may_end = |u: &UnitRow| matches!(u.state, UnitState::Staged { .. } | UnitState::Ingested);
            match unit.state {
                UnitState::Pending { .. } => true,
                UnitState::Staged { .. } => {
                    let parts: Vec<&UnitRow> = self.units.values().filter(is_part).collect();
                    !parts.iter().any(|u| self.is_begun(run, u.number)) || !parts.iter().all(|u| may_end(u))
                }
                _ => false,
            }
        };
        let of_run = self.units.values().filter(|u| u.run == *run && is_meant(u.number));
        let dropped: Vec<UnitNumber> = of_run.filter(is_dropped).map(|u| u.number).collect();
        for number in dropped {
            if let Some(unit) = self.units.get_mut(&(run.clone(), number)) {
                unit.state = UnitState::Dropped;
                unit.revision += 1;
            }
        }
        let units = &self.units;
        self.commands.retain(|(of, unit, _), command| {
            let is_unsent = matches!(command.state, CommandState::Planned { sent: None, .. });
            let is_staged =
                units.get(&(of.clone(), *unit)).is_some_and(|unit| matches!(unit.state, UnitState::Staged { .. }));
            of != run || !is_meant(*unit) || !is_unsent || is_staged
        });
    }

    fn apply(&mut self, write: Write) -> Result<(), StoreError> {
        match write {
            Write::InsertRun(run) => {
                self.listed.retain(|(of, ..)| *of != run.id);
                insert(&mut self.runs, run.id.clone(), RunRow { revision: 1, ..*run })
            }
            Write::UpdateRun(run) => {
                let old = self.runs.get_mut(&run.id).filter(|old| old.revision == run.revision);
                let old = old.ok_or(StoreError::Conflict)?;
                *old = RunRow { revision: run.revision + 1, driver: old.driver.clone(), ..*run };
                Ok(())
            }
            Write::ClaimRun { run, coordinator, epoch, beat } => {
                let driver = self.driver(&run, epoch)?;
                if beat.is_some_and(|beat| beat != driver.beat) {
                    return Err(StoreError::Conflict);
                }
                *driver = Driver { coordinator, epoch: epoch + 1, beat: 0 };
                Ok(())
            }
            Write::BeatRun { run, epoch } => {
                self.driver(&run, epoch)?.beat += 1;
                Ok(())
            }
            Write::HoldRun { run, epoch } => self.driver(&run, epoch).map(drop),
            Write::InsertUnits(units) => units
                .into_iter()
                .try_for_each(|u| insert(&mut self.units, (u.run.clone(), u.number), UnitRow { revision: 1, ..u })),
            Write::UpdateUnit(unit) => {
                let key = (unit.run.clone(), unit.number);
                let old = self.units.get_mut(&key).filter(|old| old.revision == unit.revision);
                let old = old.ok_or(StoreError::Conflict)?;
                *old = UnitRow { revision: unit.revision + 1, ..*unit };
                Ok(())
            }
            Write::DeleteFiles(run, after) => {
                self.units.retain(|(of, number), _| *of != run || *number <= after);
                Ok(())
            }
            Write::InsertListed { run, attempt, keys } => {
                let is_new = keys.into_iter().all(|key| self.listed.insert((run.clone(), attempt, key)));
                if is_new { Ok(()) } else { Err(StoreError::Conflict) }
            }
            Write::DeleteListed(run, limit) => {
                self.this(&run)?;
                let of_run = self.listed.iter().filter(|(of, ..)| *of == run.id);
                let some: BTreeSet<_> = of_run.take(limit as usize).cloned().collect();
                self.listed.retain(|listed| !some.contains(listed));
                Ok(())
            }
            Write::DeleteUnits(run, after) => {
                self.this_past(&run)?;
                let run = run.id;
                self.units.retain(|(of, number), _| *of != run || *number <= after);
                self.chunks.retain(|(of, number, _), _| *of != run || *number <= after);
                self.commands.retain(|(of, number, _), _| *of != run || *number <= after);
                Ok(())
            }
            Write::DeleteRun(run) => {
                self.this_past(&run)?;
                let run = run.id;
                self.runs.remove(&run);
                self.units.retain(|(of, _), _| *of != run);
                self.chunks.retain(|(of, ..), _| *of != run);
                self.commands.retain(|(of, ..), _| *of != run);
                self.listed.retain(|(of, ..)| *of != run);
                self.loading.retain(|_, holder| *holder != run);
                Ok(())
            }
            Write::DropUnits(run, numbers) => {
                let ends = |state: &UnitState| matches!(state, UnitState::Pending { .. } | UnitState::Staged { .. });
                self.drop_units(&run, numbers, ends);
                Ok(())
            }
            Write::DropPending(run, numbers) => {
                self.drop_units(&run, numbers, |state| matches!(state, UnitState::Pending { .. }));
                Ok(())
            }
            Write::DropUntouched(run, numbers) => {
                self.drop_untouched(&run, numbers);
                Ok(())
            }
            Write::PutLoaded(files) => {
                self.loaded.extend(files.into_iter().map(|file| ((file.sink.clone(), file.key.clone()), file)));
                Ok(())
            }
            Write::ForgetLoaded { sink, keys } => {
                self.loaded.retain(|(of, key), _| *of != sink || !keys.contains(key));
                Ok(())
            }
            Write::ClaimSink { sink, run } => {
                let holder = self.loading.get(&sink).filter(|holder| **holder != run);
                if holder.and_then(|holder| self.runs.get(holder)).is_some_and(|holder| !holder.state.is_final()) {
                    return Err(StoreError::Conflict);
                }
                self.loading.insert(sink, run);
                Ok(())
            }
            Write::ConfirmUnits(run, numbers) => {
                for unit in self.units.values_mut().filter(|u| u.run == run && numbers.have(u.number)) {
                    if matches!(unit.state, UnitState::Staged { .. }) {
                        unit.state = UnitState::Ingested;
                        unit.revision += 1;
                    }
                }
                Ok(())
            }
            Write::InsertChunk(row) => insert(&mut self.chunks, (row.run.clone(), row.unit, row.chunk.number.0), row),
            Write::DeleteChunk(run, unit, number) => {
                self.chunks.remove(&(run, unit, number));
                Ok(())
            }
            Write::InsertCommands(commands) => commands.into_iter().try_for_each(|c| {
                insert(&mut self.commands, (c.run.clone(), c.unit, c.chunk), CommandRow { revision: 1, ..c })
            }),
            Write::UpdateCommand(command) => {
                let key = (command.run.clone(), command.unit, command.chunk);
                let old = self.commands.get_mut(&key).filter(|old| old.revision == command.revision);
                let old = old.ok_or(StoreError::Conflict)?;
                *old = CommandRow { revision: command.revision + 1, ..*command };
                Ok(())
            }
            Write::DeleteCommand(run, unit, chunk) => {
                self.commands.remove(&(run, unit, chunk));
                Ok(())
            }
            Write::PutNode(node) => {
                self.nodes.insert(node.id.clone(), node);
                Ok(())
            }
            Write::AddPace(row) => {
                let sums = match self.paces.get(&row.key) {
                    Some(known) => known.sums.and(&row.sums, row.sums.keeps()),
                    None => row.sums,
                };
                self.paces.insert(row.key.clone(), PaceRow { sums, ..*row });
                Ok(())
            }
            Write::ForgetPaces(last_before) => {
                self.paces.retain(|_, row| row.last >= last_before);
                Ok(())
            }
        }
    }
}

impl MemoryStore {
    fn lock(&self) -> MutexGuard<'_, Tables> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn commands_where(&self, limit: u32, wanted: impl Fn(&CommandRow) -> bool) -> Vec<CommandRow> {
        self.lock().commands.values().filter(|c| wanted(c)).take(limit as usize).cloned().collect()
    }
}

#[async_trait]
impl Store for MemoryStore {
    /// Several coordinators of a simulation share it.
    fn is_exclusive(&self) -> bool {
        false
    }

    async fn commit(&self, writes: Vec<Write>) -> Result<(), StoreError> {
        let mut tables = self.lock();
        let mut changed = tables.clone();
        writes.into_iter().try_for_each(|write| changed.apply(write))?;
        *tables = changed;
        Ok(())
    }

    async fn run(&self, id: &RunId) -> Result<Option<RunRow>, StoreError> {
        Ok(self.lock().runs.get(id).cloned())
    }

    async fn live_runs(&self) -> Result<Vec<RunRow>, StoreError> {
        let mut runs: Vec<_> = self.lock().runs.values().filter(|r| r.is_live()).cloned().collect();
        runs.sort_by(|a, b| (a.times.submitted, &a.id).cmp(&(b.times.submitted, &b.id)));
        Ok(runs)
    }

    async fn past_runs(&self, submitted_before: Millis, limit: u32) -> Result<Vec<RunId>, StoreError> {
        let past = |r: &&RunRow| !r.is_live() && r.times.submitted < submitted_before;
        let mut runs: Vec<_> =
            self.lock().runs.values().filter(past).map(|r| (r.times.submitted, r.id.clone())).collect();
        runs.sort();
        runs.truncate(limit as usize);
        Ok(runs.into_iter().map(|(_, id)| id).collect())
    }

    async fn recent_runs(&self, limit: u32) -> Result<Vec<RunRow>, StoreError> {
        let mut runs: Vec<_> = self.lock().runs.values().cloned().collect();
        runs.sort_by(|a, b| (b.times.submitted, &b.id).cmp(&(a.times.submitted, &a.id)));
        runs.truncate(limit as usize);
        Ok(runs)
    }

    async fn run_page(&self, query: &RunQuery) -> Result<Vec<RunRow>, StoreError> {
        let is_wanted = |r: &&RunRow| match query.only {
            None => true,
            Some(RunsIn::Active) => !r.state.is_final(),
            Some(RunsIn::State(state)) => r.state.name() == state,
        };
        let is_of = |r: &&RunRow| query.schedule.is_none() || schedule_of(&r.id) == query.schedule.as_deref();
        let mut runs: Vec<_> = self.lock().runs.values().filter(is_wanted).filter(is_of).cloned().collect();
        if let Some((submitted, id)) = &query.before {
            runs.retain(|r| (r.times.submitted, &r.id) < (*submitted, id));
        }
        runs.sort_by(|a, b| (b.times.submitted, &b.id).cmp(&(a.times.submitted, &a.id)));
        runs.truncate(query.limit as usize);
        Ok(runs)
    }

    async fn file_page(&self, run: &RunId, query: &FileQuery) -> Result<FilePage, StoreError> {
        let is_file = |u: &&UnitRow| u.run == *run && u.number != UnitNumber::LISTING;
        let mut units: Vec<_> = self.lock().units.values().filter(is_file).cloned().collect();
        units.sort_by(|a, b| {
            let first = match query.sort {
                FileSort::Path => a.file.path.cmp(&b.file.path),
                FileSort::Size => a.size_bytes.cmp(&b.size_bytes),
            };
            let order = first.then(a.number.cmp(&b.number));
            if query.is_descending { order.reverse() } else { order }
        });
        let in_state = query.state.map(|state| units.iter().filter(|u| u.state.name() == state).count());
        let is_few = query.state.is_some_and(|state| UNITS_OF_FEW.contains(&state))
            && in_state.is_some_and(|count| count <= query.rows_looked_at_max as usize);
        if let Some(after) = &query.after {
            let at = units.iter().position(|u| u.number == after.number).map_or(units.len(), |at| at + 1);
            units.drain(..at);
        }
        let search = query.search.as_ref().map(|text| text.to_lowercase());
        let is_wanted = |u: &UnitRow| {
            query.state.is_none_or(|state| u.state.name() == state)
                && search.as_ref().is_none_or(|text| u.file.path.to_lowercase().contains(text))
        };
        let wanted: Option<&dyn Fn(&UnitRow) -> bool> =
            if query.state.is_some() || search.is_some() { Some(&is_wanted) } else { None };
        let (units, next) = pages::cut(units, wanted, is_few, query.limit, query.rows_looked_at_max, |u| u.number);
        Ok(FilePage { units, next })
    }

    async fn command_page(&self, run: &RunId, query: &CommandQuery) -> Result<CommandPage, StoreError> {
        let commands: Vec<_> = self.lock().commands.values().filter(|c| c.run == *run).cloned().collect();
        let in_state = query.state.map(|state| commands.iter().filter(|c| c.state.name() == state).count());
        let is_few = query.state.is_some_and(|state| COMMANDS_OF_FEW.contains(&state))
            && in_state.is_some_and(|count| count <= query.rows_looked_at_max as usize);
        let place = |c: &CommandRow| (c.unit, c.chunk);
        let is_after = |c: &CommandRow| query.after.is_none_or(|after| place(c) > after);
        let rest: Vec<CommandRow> = commands.into_iter().filter(is_after).collect();
        let is_wanted = |c: &CommandRow| query.state.is_none_or(|state| c.state.name() == state);
        let wanted: Option<&dyn Fn(&CommandRow) -> bool> = if query.state.is_some() { Some(&is_wanted) } else { None };
        let (commands, next) = pages::cut(rest, wanted, is_few, query.limit, query.rows_looked_at_max, place);
        Ok(CommandPage { commands, next })
    }

    async fn unit(&self, run: &RunId, number: UnitNumber) -> Result<Option<UnitRow>, StoreError> {
        Ok(self.lock().units.get(&(run.clone(), number)).cloned())
    }

    async fn pending_units(&self, run: &RunId, now: Millis, limit: u32) -> Result<Vec<UnitRow>, StoreError> {
        let may_go = |u: &&UnitRow| {
            u.run == *run && matches!(u.state, UnitState::Pending { not_before, .. } if not_before <= now)
        };
        let mut units: Vec<_> = self.lock().units.values().filter(may_go).cloned().collect();
        units.sort_by_key(|u| (std::cmp::Reverse(u.size_bytes), u.number));
        units.truncate(limit as usize);
        Ok(units)
    }

    async fn leased_units(&self, node: &NodeId, limit: u32) -> Result<Vec<UnitRow>, StoreError> {
        let wanted = |u: &&UnitRow| u.state.lease().is_some_and(|lease| lease.node == *node);
        Ok(self.lock().units.values().filter(wanted).take(limit as usize).cloned().collect())
    }

    async fn leases(&self) -> Result<Vec<LeasedUnit>, StoreError> {
        let tables = self.lock();
        let leased = tables.units.values().filter(|u| u.state.lease().is_some());
        Ok(leased.map(|u| LeasedUnit { run: u.run.clone(), number: u.number, revision: u.revision }).collect())
    }

    async fn files(
        &self,
        run: &RunId,
        state: Option<&str>,
        after: UnitNumber,
        limit: u32,
    ) -> Result<Vec<UnitRow>, StoreError> {
        let wanted = |u: &&UnitRow| u.run == *run && u.number > after && state.is_none_or(|s| s == u.state.name());
        Ok(self.lock().units.values().filter(wanted).take(limit as usize).cloned().collect())
    }

    async fn retried_units(&self, run: &RunId, limit: u32) -> Result<Vec<UnitRow>, StoreError> {
        let is_retried = |u: &&UnitRow| {
            let is_pending = matches!(u.state, UnitState::Pending { .. });
            u.run == *run && u.number != UnitNumber::LISTING && is_pending && u.last_failure.is_some()
        };
        Ok(self.lock().units.values().filter(is_retried).take(limit as usize).cloned().collect())
    }

    async fn has_open_units(&self, run: &RunId) -> Result<bool, StoreError> {
        let is_open = |u: &UnitRow| matches!(u.state, UnitState::Pending { .. } | UnitState::Leased { .. });
        Ok(self.lock().units.values().any(|u| u.run == *run && u.number != UnitNumber::LISTING && is_open(u)))
    }

    async fn held_slots(&self) -> Result<Vec<HeldSlots>, StoreError> {
        let mut held = BTreeMap::<_, u32>::new();
        for unit in self.lock().units.values() {
            if let Some(lease) = unit.state.lease() {
                *held.entry((unit.run.clone(), lease.node.clone())).or_default() += 1;
            }
        }
        Ok(held.into_iter().map(|((run, node), slots)| HeldSlots { run, node, slots }).collect())
    }

    async fn unit_counts(&self, run: &RunId) -> Result<UnitCounts, StoreError> {
        let mut counts = UnitCounts::default();
        for unit in self.lock().units.values().filter(|u| u.run == *run && u.number != UnitNumber::LISTING) {
            let files = u64::from(unit.file_count);
            counts.bytes_total += unit.size_bytes;
            counts.files_total += files;
            counts.counters += unit.counters;
            match unit.state {
                UnitState::Pending { .. } => counts.pending += 1,
                UnitState::Leased { .. } => counts.leased += 1,
                UnitState::Staged { .. } => {
                    counts.staged += 1;
                    counts.files_done += files;
                    counts.bytes_done += unit.size_bytes;
                }
                UnitState::Ingested => {
                    counts.ingested += 1;
                    counts.files_done += files;
                    counts.bytes_done += unit.size_bytes;
                }
                UnitState::Failed { .. } => counts.failed += 1,
                UnitState::Skipped { .. } => {
                    counts.skipped += 1;
                    counts.files_skipped += files;
                }
                UnitState::Dropped => counts.dropped += 1,
            }
        }
        Ok(counts)
    }

    async fn chunks(&self, run: &RunId, unit: UnitNumber) -> Result<Vec<ChunkRow>, StoreError> {
        Ok(self.lock().chunks.values().filter(|c| c.run == *run && c.unit == unit).cloned().collect())
    }

    async fn commands(&self, run: &RunId, state: &str, limit: u32) -> Result<Vec<CommandRow>, StoreError> {
        Ok(self.commands_where(limit, |c| c.run == *run && c.state.name() == state))
    }

    async fn due_commands(&self, run: &RunId, now: Millis, limit: u32) -> Result<Vec<CommandRow>, StoreError> {
        let is_due = |c: &CommandRow| {
            c.run == *run
                && matches!(c.state, CommandState::Planned { not_before, sent: None, .. } if not_before <= now)
        };
        Ok(self.commands_where(limit, is_due))
    }

    async fn doubtful_commands(&self, run: &RunId, limit: u32) -> Result<Vec<CommandRow>, StoreError> {
        let in_doubt = |c: &CommandRow| c.run == *run && matches!(c.state, CommandState::Planned { sent: Some(_), .. });
        Ok(self.commands_where(limit, in_doubt))
    }

    async fn unit_commands(&self, run: &RunId, unit: UnitNumber) -> Result<Vec<CommandRow>, StoreError> {
        Ok(self.commands_where(u32::MAX, |c| c.run == *run && c.unit == unit))
    }

    async fn open_commands(&self, run: &RunId) -> Result<OpenCommands, StoreError> {
        let mut open = OpenCommands::default();
        for command in self.lock().commands.values().filter(|c| c.run == *run) {
            match &command.state {
                CommandState::Planned { sent, .. } => {
                    open.any_planned = true;
                    open.any_doubtful |= sent.is_some();
                }
                CommandState::Issued { .. } => open.issued += 1,
                CommandState::Confirmed { .. } | CommandState::Rejected { .. } => {}
            }
        }
        Ok(open)
    }

    async fn command_counts(&self, run: &RunId) -> Result<CommandCounts, StoreError> {
        let mut counts = CommandCounts::default();
        for command in self.lock().commands.values().filter(|c| c.run == *run) {
            counts.rows_total += command.rows;
            match command.state {
                CommandState::Planned { .. } => counts.planned += 1,
                CommandState::Issued { .. } => counts.issued += 1,
                CommandState::Confirmed { .. } => {
                    counts.confirmed += 1;
                    counts.rows_confirmed += command.rows;
                    counts.bytes_confirmed += command.raw_bytes;
                }
                CommandState::Rejected { .. } => counts.rejected += 1,
            }
        }
        Ok(counts)
    }

    async fn listed_files(
        &self,
        run: &RunId,
        attempt: AttemptNumber,
        keys: &[String],
    ) -> Result<Vec<String>, StoreError> {
        let tables = self.lock();
        let is_listed = |key: &&String| tables.listed.contains(&(run.clone(), attempt, (*key).clone()));
        Ok(keys.iter().filter(is_listed).cloned().collect())
    }

    async fn has_listed_files(&self, run: &RunId) -> Result<bool, StoreError> {
        Ok(self.lock().listed.iter().any(|(of, ..)| of == run))
    }

    async fn loaded_files(&self, sink: &str, keys: &[String]) -> Result<Vec<LoadedFile>, StoreError> {
        let tables = self.lock();
        let found = keys.iter().filter_map(|key| tables.loaded.get(&(sink.to_owned(), key.clone())));
        Ok(found.cloned().collect())
    }

    async fn loaded_page(&self, sink: &str, after: &str, limit: u32) -> Result<Vec<LoadedFile>, StoreError> {
        let wanted = |file: &&LoadedFile| file.sink == sink && file.key.as_str() > after;
        Ok(self.lock().loaded.values().filter(wanted).take(limit as usize).cloned().collect())
    }

    async fn half_ingested(&self, run: &RunId, limit: u32) -> Result<Vec<String>, StoreError> {
        let tables = self.lock();
        // Other refusals than the cluster's own are ferry's: the rows may be there.
        let has_doubtful_refusal = |unit: UnitNumber| {
            let is_doubtful = |c: &CommandRow| matches!(&c.state, CommandState::Rejected { failure } if failure.code != Code::IngestRejected);
            tables.commands.values().any(|c| c.run == *run && c.unit == unit && is_doubtful(c))
        };
        let is_half = |u: &&UnitRow| {
            u.run == *run
                && u.number != UnitNumber::LISTING
                && u.state != UnitState::Ingested
                && (tables.is_begun(run, u.number) || has_doubtful_refusal(u.number))
        };
        Ok(tables.units.values().filter(is_half).take(limit as usize).map(|u| u.file.path.clone()).collect())
    }

    async fn node(&self, id: &NodeId) -> Result<Option<NodeRow>, StoreError> {
        Ok(self.lock().nodes.get(id).cloned())
    }

    async fn nodes(&self, since: Millis) -> Result<Vec<NodeRow>, StoreError> {
        let mut nodes: Vec<_> = self.lock().nodes.values().filter(|n| n.last_seen >= since).cloned().collect();
        nodes.sort_by(|a, b| (b.last_seen, &a.id).cmp(&(a.last_seen, &b.id)));
        Ok(nodes)
    }

    async fn pace(&self, key: &PaceKey) -> Result<Option<PaceRow>, StoreError> {
        Ok(self.lock().paces.get(key).cloned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn memory_conforms() {
        super::super::conformance::run(&MemoryStore::default()).await;
    }
}
