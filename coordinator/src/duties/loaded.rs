//! Puts down which files a run has loaded, before the run ends: whoever lists next must know. And brings to its end, in a run that is
//! to end, what is begun: of a file that is in the table in part, the next run would load all rows again.
//!
//! What if the process dies in the middle? Nothing of this is remembered in memory alone: the run has not ended, so its next driver
//! goes through its units again, and to put a file down twice is as once.

use crate::{
    core::{ChangeError, Core},
    loaded::{WholeFiles, keeps_ledger, loaded_by, sink_of_run},
    state::{command::CommandState, unit::UnitEvent},
    store::{LoadedFile, RunRow, StoreError, UnitRow, Write},
};
use ferry_common::{
    activity::Publish,
    failure::Code,
    id::{RunId, UnitNumber},
};
use std::time::Duration;
use tokio::time::Instant;

/// Units that are read at once; each may be a pack of many files.
const UNITS_AT_ONCE: u32 = 200;
/// Files that one commit puts down. Others wait for it.
const FILES_AT_ONCE: usize = 2_000;
/// How long a run that is to end goes on with files that are in the table in part.
const FINISH_MAX: Duration = Duration::from_secs(600);
/// Paths that a warning names.
const PATHS_MAX: usize = 5;

/// Puts down the files of a run all of whose rows are visible. Returns a warning about files that are in the table in part.
pub(super) async fn put_down(core: &Core, run: &RunRow) -> Result<Option<String>, StoreError> {
    if !keeps_ledger(run) {
        return Ok(None);
    }
    let mut paths = put_down_whole(core, run).await?;
    if run.activity.settings.skip_error_file {
        // A file may have been left out after some of its rows were ingested.
        paths.extend(core.store.half_ingested(&run.id, PATHS_MAX as u32 + 1).await?);
    }
    Ok(warning(run, paths))
}

/// Puts down files of which all units are ingested. Returns paths of files of which some are.
async fn put_down_whole(core: &Core, run: &RunRow) -> Result<Vec<String>, StoreError> {
    let sink = sink_of_run(run);
    let (now, mut whole) = (core.now(), WholeFiles::default());
    let mut after = UnitNumber::LISTING;
    loop {
        let units = core.store.files(&run.id, Some("Ingested"), after, UNITS_AT_ONCE).await?;
        let mut files: Vec<LoadedFile> = Vec::new();
        for unit in &units {
            files.extend(whole.with(unit).iter().map(|file| loaded_by(run, &sink, file, now)));
        }
        for some in files.chunks(FILES_AT_ONCE) {
            core.commit(vec![Write::PutLoaded(some.to_vec())]).await?;
        }
        match units.last() {
            Some(last) if units.len() == UNITS_AT_ONCE as usize => after = last.number,
            _ => break,
        }
    }
    whole.end();
    Ok(whole.broken)
}

/// The same for a run whose rows were just published. That they were is stored first: what others do to the table meanwhile must
/// not raise the question again.
pub(super) async fn put_down_published(core: &Core, run: &RunRow) -> Result<Option<String>, ChangeError> {
    if keeps_ledger(run) && !run.is_published {
        core.change_run(&run.id, |mut row| {
            row.is_published = true;
            Ok(Some(row))
        })
        .await?;
    }
    Ok(put_down(core, run).await?)
}

/// How far the end of a run is that was cancelled, or fails, and keeps the ledger.
#[derive(Debug, Default)]
pub(super) struct Finish {
    began: Option<Instant>,
    has_dropped: bool,
    has_given_up: bool,
}

impl Finish {
    /// The run has begun to ingest into its table, and what it has begun is to be whole.
    pub(super) fn is_due(run: &RunRow) -> bool {
        keeps_ledger(run) && run.activity.sink.publish == Publish::Append && run.times.ingesting.is_some()
    }

    /// Drops what is not begun, once and after each loss. No unit of the run is pending or leased any more.
    pub(super) async fn drop_untouched(&mut self, core: &Core, run: &RunRow) -> Result<(), StoreError> {
        self.began.get_or_insert_with(Instant::now);
        if self.has_dropped {
            return Ok(());
        }
        core.commit_in_pages(run.units, |numbers| Write::DropUntouched(run.id.clone(), numbers)).await?;
        self.has_dropped = true;
        Ok(())
    }

    /// Commands of files that are begun may still be sent.
    pub(super) fn may_send(&self) -> bool {
        !self.has_given_up && self.began.is_none_or(|began| began.elapsed() < FINISH_MAX)
    }

    /// A file was lost: its other commands must not be sent. Where it was not the file's own fault, no more is sent at all.
    pub(super) fn lost(&mut self, code: Option<Code>) {
        self.has_dropped = false;
        self.has_given_up |= code.is_some_and(|code| !matches!(code, Code::IngestRejected | Code::RowCountMismatch));
    }
}

/// Units all of whose commands are confirmed are in the table. Their driver may have died before it could say so.
async fn settle(core: &Core, run: &RunId) -> Result<(), StoreError> {
    let mut after = UnitNumber::LISTING;
    loop {
        let units = core.store.files(run, Some("Staged"), after, UNITS_AT_ONCE).await?;
        for UnitRow { number, .. } in &units {
            let commands = core.store.unit_commands(run, *number).await?;
            if !commands.is_empty() && commands.iter().all(|c| matches!(c.state, CommandState::Confirmed { .. })) {
                core.change_unit(run, *number, |_| Some(UnitEvent::Confirmed)).await?;
            }
        }
        match units.last() {
            Some(last) if units.len() == UNITS_AT_ONCE as usize => after = last.number,
            _ => return Ok(()),
        }
    }
}

/// Puts down what a run has loaded that did not succeed. Returns a warning about files that are in the table in part.
pub(super) async fn put_down_rest(core: &Core, run: &RunRow) -> Result<Option<String>, StoreError> {
    // Before they are published, rows are nobody's; before stage 2, files are done only that have no row to ingest, and a run that
    // fails for rows that were left out has not loaded them.
    if !Finish::is_due(run) {
        return Ok(None);
    }
    settle(core, &run.id).await?;
    let mut paths = put_down_whole(core, run).await?;
    paths.extend(core.store.half_ingested(&run.id, PATHS_MAX as u32 + 1).await?);
    Ok(warning(run, paths))
}

fn warning(run: &RunRow, mut paths: Vec<String>) -> Option<String> {
    paths.sort();
    paths.dedup();
    if paths.is_empty() {
        return None;
    }
    let more = if paths.len() > PATHS_MAX { " and others" } else { "" };
    paths.truncate(PATHS_MAX);
    Some(format!(
        "{}{more} are in table {} in part, or may be, and the next run loads them whole; before it, drop the extents of these files \
         whose tags begin with ingest-by:{}",
        paths.join(", "),
        run.activity.sink.table,
        run.tag_prefix()
    ))
}
