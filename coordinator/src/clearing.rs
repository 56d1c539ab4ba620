//! What becomes of source files once their rows are visible: page by page, nodes that may do so delete or move them.
//!
//! The coordinator touches no file. A page goes out under a lease of the run's unit 0; what the node answers is stored together with
//! the place where the next page begins, so that no crash repeats more than the page that was in hand. Nothing here can fail a run:
//! its rows are in the table.

use crate::{
    core::{CONFLICTS_MAX, ChangeError, Core, NODE_LOST_AFTER},
    loaded::{key_of, sink_of_run},
    state::{
        run::RunState,
        unit::{UnitEvent, UnitState},
    },
    store::{Clearing, LeftFile, RunRow, StoreError, UnitRow, Write},
};
use ferry_common::{
    activity::AfterCompletion,
    failure::{Code, Failure, plural},
    id::{LeaseToken, RuntimeName, UnitNumber},
    unit::{AttemptKey, ClearWork, FileEnd, FileVersion, Scope},
};
use std::{collections::BTreeMap, time::Duration};
use tokio::time::Instant;

/// Files on one page.
const PAGE_FILES_MAX: usize = 1_000;
/// Bytes of their paths, so that a page stays well below the largest message.
const PAGE_PATH_BYTES_MAX: usize = 1 << 20;
/// Units that are read at once; each may be a pack of many files.
const UNITS_AT_ONCE: u32 = 50;
/// Files whose reasons a warning tells.
const REASONS_MAX: usize = 5;
/// How long nodes renew the lease of one page. A second is usual; where a file system hangs, its node lives, and would for ever.
pub(crate) const PAGE_TIME_MAX: Duration = Duration::from_secs(1_200);
/// Why files are left that nodes had in hand.
pub(crate) const SILENCE: &str = "nodes that took them went silent, or their file system did not answer";
/// Longest reason of a node that is kept.
const REASON_CHARS_MAX: usize = 300;

/// Files that are next, and where the page after them begins.
struct Page {
    files: Vec<(UnitNumber, FileVersion)>,
    up_to: UnitNumber,
}

/// Whether nodes of an integration runtime may change their sources.
#[derive(PartialEq)]
pub(crate) enum Permission {
    /// One may.
    Given,
    /// There is no node that could be asked.
    NobodyThere,
    /// These may not.
    Refused(Vec<String>),
}

impl Core {
    /// The next files to delete or move. Empty: there are none any more.
    async fn next_page(&self, run: &RunRow, after: UnitNumber) -> Result<Page, StoreError> {
        let mut page = Page { files: Vec::new(), up_to: after };
        let mut path_bytes = 0;
        loop {
            let units = self.store.files(&run.id, None, page.up_to, UNITS_AT_ONCE).await?;
            let is_end = units.len() < UNITS_AT_ONCE as usize;
            for unit in units {
                let files = if self.is_loaded(&unit).await? { unit.files() } else { &[] };
                let bytes: usize = files.iter().map(|f| f.path.len() + f.relative_path.len()).sum();
                let is_full =
                    page.files.len() + files.len() > PAGE_FILES_MAX || path_bytes + bytes > PAGE_PATH_BYTES_MAX;
                if is_full && !page.files.is_empty() {
                    return Ok(page);
                }
                path_bytes += bytes;
                page.files.extend(files.iter().map(|file| (unit.number, file.clone())));
                page.up_to = unit.number;
            }
            if is_end {
                return Ok(page);
            }
        }
    }

    /// All rows of the unit's files are in the table, those of the other parts of a large one as well.
    async fn is_loaded(&self, unit: &UnitRow) -> Result<bool, StoreError> {
        let Scope::Range(range) = &unit.scope else { return Ok(unit.state == UnitState::Ingested) };
        if unit.state != UnitState::Ingested || range.number > 0 {
            return Ok(false);
        }
        // Its parts follow each other.
        let skipped = self.store.files(&unit.run, Some("Skipped"), unit.number, 1).await?;
        Ok(skipped.first().is_none_or(|next| next.number.0 >= unit.number.0 + u64::from(range.count)))
    }

    /// The run has files that are to be deleted or moved.
    pub(crate) async fn has_files_to_clear(&self, run: &RunRow) -> Result<bool, StoreError> {
        if run.activity.source.after_completion().is_none() {
            return Ok(false);
        }
        Ok(!self.next_page(run, UnitNumber::LISTING).await?.files.is_empty())
    }

    /// What goes with a lease. The same until its outcome is stored.
    pub(crate) async fn clear_work(&self, run: &RunRow) -> Result<ClearWork, Failure> {
        let source = &run.activity.source;
        let move_to = match source.after_completion() {
            Some(AfterCompletion::Delete) => None,
            Some(AfterCompletion::Move(folder)) => Some(folder.to_owned()),
            // Never delete what nobody asked to be deleted.
            None => return Err(Failure::internal("nothing is said of what becomes of the source's files")),
        };
        let page = self.next_page(run, place(run)).await?;
        let files = page.files.into_iter().map(|(_, file)| file).collect();
        Ok(ClearWork { folder_path: source.folder_path.clone(), files, move_to })
    }

    /// Whether the lease of a page is renewed once more: not for long, and not when the run was asked to end. What a node may
    /// have done until then nobody knows, so it gets the rest of its lease to say it.
    pub(crate) fn may_go_on(&self, run: &RunRow, token: &LeaseToken) -> bool {
        let is_stopped = run.clearing.as_ref().is_some_and(|clearing| clearing.is_stopped);
        let mut live = self.live();
        let live = live.entry(run.id.clone()).or_default();
        let known = live.page.as_ref().filter(|(held, _)| held == token);
        let since = known.map_or_else(Instant::now, |(_, since)| *since);
        live.page = Some((token.clone(), since));
        !is_stopped && since.elapsed() < PAGE_TIME_MAX
    }

    /// Stores what became of a page's files, and where the next one begins. Returns whether it was taken.
    pub(crate) async fn cleared(&self, key: &AttemptKey, ends: &[FileEnd]) -> Result<bool, ChangeError> {
        for _ in 0..CONFLICTS_MAX {
            let Some(source) = self.store.unit(&key.run, key.unit).await? else { return Ok(false) };
            let Some(run) = self.store.run(&key.run).await? else { return Ok(false) };
            let is_held = source.state.lease().is_some_and(|lease| lease.token == key.token);
            if !is_held || key.unit != UnitNumber::LISTING || run.state != RunState::Clearing {
                return Ok(false);
            }
            let page = self.next_page(&run, place(&run)).await?;
            if page.files.len() != ends.len() {
                let why = format!("{} files were to be cleared, and {} are told of", page.files.len(), ends.len());
                let (failure, limit) = (Failure::internal(why), self.retry_limit(&run, key.unit));
                let failed = |_: &UnitRow| {
                    Some(UnitEvent::AttemptFailed { token: key.token.clone(), failure: failure.clone(), limit })
                };
                return Ok(self.change_unit(&key.run, key.unit, failed).await?);
            }
            let writes = self.outcome_of(run, source, key, page, ends).await?;
            match self.commit(writes).await {
                Ok(()) => {
                    tracing::info!(run = %key.run, attempt = %key.attempt, files = ends.len(), "a page of source files is cleared");
                    self.forget_progress(&key.run, key.unit);
                    self.ring();
                    self.offer();
                    return Ok(true);
                }
                Err(StoreError::Conflict) => {}
                Err(e) => return Err(e.into()),
            }
        }
        Err(StoreError::Conflict.into())
    }

    /// The writes that go with a page.
    async fn outcome_of(
        &self,
        mut run: RunRow,
        mut source: UnitRow,
        key: &AttemptKey,
        page: Page,
        ends: &[FileEnd],
    ) -> Result<Vec<Write>, ChangeError> {
        let mut clearing = run.clearing.take().unwrap_or(Clearing::NEW);
        let mut left: BTreeMap<UnitNumber, Vec<LeftFile>> = BTreeMap::new();
        let source_of = &run.activity.source;
        let mut forgotten = Vec::new();
        for ((number, file), end) in page.files.into_iter().zip(ends) {
            match end {
                FileEnd::Done => {
                    clearing.done += 1;
                    // Whoever puts it back wants it loaded again. What is left, or was not seen, must not be.
                    if !source_of.skip_loaded_files {
                        forgotten.push(key_of(&source_of.connect_via, &file.path));
                    }
                }
                FileEnd::Gone => clearing.gone += 1,
                FileEnd::Changed(why) | FileEnd::Failed(why) => {
                    let why: String = why.chars().filter(|c| !c.is_control()).take(REASON_CHARS_MAX).collect();
                    clearing.left += 1;
                    if clearing.reasons.len() < REASONS_MAX {
                        clearing.reasons.push(format!("{}: {why}", file.relative_path));
                    }
                    left.entry(number).or_default().push(LeftFile { relative_path: file.relative_path, why });
                }
            }
        }
        clearing.after = page.up_to;
        let is_last = self.next_page(&run, page.up_to).await?.files.is_empty();
        let done = UnitEvent::Completed { token: key.token.clone(), chunks: 0 };
        source.state = source.state.apply(done)?.apply(UnitEvent::Confirmed)?;
        source.last_failure = None;
        if !is_last {
            source.state = source.state.apply(UnitEvent::Reopened)?;
        }
        run.clearing = Some(clearing);
        let mut writes = vec![Write::UpdateUnit(Box::new(source))];
        if !forgotten.is_empty() {
            writes.push(Write::ForgetLoaded { sink: sink_of_run(&run), keys: forgotten });
        }
        for (number, files) in left {
            if let Some(mut unit) = self.store.unit(&run.id, number).await? {
                unit.tail.left.extend(files);
                writes.push(Write::UpdateUnit(Box::new(unit)));
            }
        }
        writes.push(Write::UpdateRun(Box::new(run)));
        Ok(writes)
    }

    /// Whether nodes that could do it may delete and move files.
    pub(crate) async fn may_change_sources(&self, runtime: &RuntimeName) -> Result<Permission, StoreError> {
        let mut nodes = self.nodes_seen(NODE_LOST_AFTER).await?;
        nodes.retain(|node| !node.has_left && node.runtime == *runtime);
        Ok(match () {
            () if nodes.iter().any(|node| node.may_change_sources) => Permission::Given,
            () if nodes.is_empty() => Permission::NobodyThere,
            () => Permission::Refused(nodes.into_iter().map(|node| node.name).collect()),
        })
    }

    /// Fails where files are to be deleted or moved, and no node that is there may do that. Nodes that come later may.
    pub(crate) async fn check_source_changes(&self, run: &RunRow) -> Result<(), Failure> {
        let source = &run.activity.source;
        let Some(after) = source.after_completion() else { return Ok(()) };
        match self.may_change_sources(&source.connect_via).await? {
            Permission::Given | Permission::NobodyThere => Ok(()),
            Permission::Refused(nodes) => {
                let message = format!("{} is set, and {}", after.setting(), refusal(&source.connect_via, &nodes));
                Err(Failure::settings(Code::SourceChangesForbidden, message))
            }
        }
    }
}

/// Nobody may change sources.
pub(crate) fn refusal(runtime: &RuntimeName, nodes: &[String]) -> String {
    format!(
        "no node of integration runtime {runtime} ({}) may delete or move files; start one with --allow-source-changes",
        nodes.join(", ")
    )
}

/// Where the next page begins.
fn place(run: &RunRow) -> UnitNumber {
    run.clearing.as_ref().map_or(UnitNumber::LISTING, |clearing| clearing.after)
}

/// What people should know of files that are where they were. `why_rest`: why no more pages were done, if there are more.
/// `is_in_doubt`: some of the next page may be done, as a node that had it in hand may have been lost.
pub(crate) fn warnings_of(run: &RunRow, why_rest: Option<&str>, is_in_doubt: bool) -> Vec<String> {
    let Some(clearing) = &run.clearing else { return Vec::new() };
    let what = match run.activity.source.after_completion() {
        Some(AfterCompletion::Move(_)) => "moved",
        _ => "deleted",
    };
    let in_place =
        |files: u64| format!("{files} loaded source {} left in place instead of being {what}", plural(files, "file"));
    let mut warnings = Vec::new();
    if clearing.left > 0 {
        let more =
            if clearing.left > clearing.reasons.len() as u64 { "; and others, which the report names" } else { "" };
        let reasons = clearing.reasons.join("; ");
        warnings.push(format!("{}: {reasons}{more}", in_place(clearing.left)));
    }
    if clearing.gone > 0 {
        warnings.push(format!(
            "{} source {} gone before being {what}: taken by somebody else, {what} by a node that was lost, or in a folder that a \
             node does not see",
            clearing.gone,
            plural(clearing.gone, "file")
        ));
    }
    let loaded = run.totals.map_or(0, |totals| totals.units.files_done);
    let rest = loaded.saturating_sub(clearing.done + clearing.gone + clearing.left);
    if let Some(why) = why_rest.filter(|_| rest > 0) {
        let doubt = match is_in_doubt {
            true => format!("; some may be {what} all the same: a node that had begun did not say how far it came"),
            false => String::new(),
        };
        warnings.push(format!("{}: {why}{doubt}", in_place(rest)));
    }
    warnings
}

#[cfg(test)]
pub(crate) mod tests;
