//! Deletes what nobody needs any more once a run has ended: its staging blobs, and its staging table.

use crate::{
    core::{ChangeError, Core},
    ingest::publish,
    state::run::RunState,
    store::RunRow,
};
use ferry_common::{
    activity::{Publish, StagingType},
    failure::{Code, Failure, backoff},
    id::RunId,
    staging,
    storage::{StagingStorage, StorageError},
};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use std::time::Duration;
use tokio::time::Instant;

/// Blobs that one look takes up.
const BLOBS_MAX: usize = 5_000;
/// Deletions at once.
const DELETES_MAX: usize = 16;
/// Failed sweeps in a row after which the wait grows no more.
const RETRIES_COUNTED_MAX: u32 = 20;

/// Sweeps a run that has ended, if it is time. `seen`: since when this program knows of the end.
pub(super) async fn sweep(core: &Core, run: &RunRow, seen: Instant) -> Result<(), ChangeError> {
    if run.sweep_at.is_none_or(|at| at > core.now()) {
        return Ok(());
    }
    let late_max = (core.limits.lease_ttl * 3).max(core.limits.settle_after);
    // The last sweep: when it is due was said by a clock that may be another one's.
    if run.is_swept && seen.elapsed() < late_max {
        return Ok(());
    }
    // One must not wait for the other: a cluster that is gone keeps no blob from being deleted.
    let dropped = drop_staging_table(core, run).await;
    let swept = sweep_blobs(core, run).await;
    let is_left = matches!(swept, Ok(Swept::LeftToCluster));
    let result = swept.and(dropped);
    if let Err(failure) = &result {
        tracing::warn!(run = %run.id, code = %failure.code, "staging is not swept yet: {}", failure.message);
    }
    let was_clean = result.is_ok();
    let failures = note(core, run, result.err());
    // A silent node may wake up once more and stage a blob under its old lease; a commit may still be on its way.
    // So may the making of a staging table whose answer was lost: it would make it again.
    let makes_table = run.activity.sink.publish != Publish::Append;
    let may_have_late_writers = run.lost_attempts > 0 || run.state != RunState::Succeeded || makes_table;
    let late_writer = may_have_late_writers && !run.is_swept;
    let next = match (was_clean, late_writer) {
        (true, false) => None,
        (true, true) => Some(core.now().plus(late_max)),
        (false, _) => Some(core.now().plus(retry_wait(failures))),
    };
    core.change_run(&run.id, |mut row| {
        row.sweep_at = next;
        row.is_swept |= was_clean;
        if is_left && !row.is_left_to_cluster {
            row.is_left_to_cluster = true;
            let container = row.lent_container.as_deref().unwrap_or_default();
            row.warnings.push(format!(
                "staged blobs stay in {container}, below {}: the cluster does not let what it lends be swept, and deletes it in \
                 its own time",
                row.lent_folder()
            ));
        }
        Ok(Some(row))
    })
    .await?;
    Ok(())
}

/// Keeps why a sweep failed. Returns how many have in a row.
fn note(core: &Core, run: &RunRow, failure: Option<Failure>) -> u32 {
    let mut live = core.live();
    let known = live.entry(run.id.clone()).or_default();
    known.sweep_failures = if failure.is_some() { (known.sweep_failures + 1).min(RETRIES_COUNTED_MAX) } else { 0 };
    known.sweep_failure = failure;
    known.sweep_failures
}

/// Wait after so many failed sweeps: whoever waits for the end of the run waits for this, too, and most failures pass at once.
fn retry_wait(failures: u32) -> Duration {
    backoff(failures, 0.5)
}

/// A run that was never admitted has made none.
async fn drop_staging_table(core: &Core, run: &RunRow) -> Result<(), Failure> {
    if run.activity.sink.publish == Publish::Append || run.times.started.is_none() {
        return Ok(());
    }
    // By then the cluster has dropped it by itself.
    if run.times.ended.is_some_and(|at| core.now().since(at) > publish::STAGING_TABLE_AGE_MAX) {
        return Ok(());
    }
    publish::drop_staging(core, run).await
}

/// What became of a run's blobs.
enum Swept {
    /// There are none any more.
    Clean,
    /// They are in a container that the cluster lends, and may not be listed or deleted, or not be reached any more.
    LeftToCluster,
}

async fn sweep_blobs(core: &Core, run: &RunRow) -> Result<Swept, Failure> {
    let is_lent = run.activity.staging.kind == StagingType::FromCluster;
    if is_lent && run.lent_container.is_none() {
        // It ended before it had a container.
        return Ok(Swept::Clean);
    }
    let access = match core.access(run).await {
        // The container is not lent any more.
        Err(failure) if is_lent && failure.code == Code::StagingMissing => return Ok(Swept::LeftToCluster),
        access => access?,
    };
    let storage = core.sinks.staging(access.storage(core.now(), &core.connections)?);
    match delete_all(&*storage, &run.id).await {
        Ok(()) => Ok(Swept::Clean),
        Err(StorageError::Forbidden { .. }) if is_lent => Ok(Swept::LeftToCluster),
        Err(error) => Err(error.into()),
    }
}

/// Deletes what is named as the run's chunks are, and nothing else: what a run is called says nothing about what lies there.
async fn delete_all(storage: &dyn StagingStorage, run: &RunId) -> Result<(), StorageError> {
    let prefix = staging::run_prefix(run);
    loop {
        let blobs = storage.list(&prefix, BLOBS_MAX).await?;
        let is_full = blobs.len() >= BLOBS_MAX;
        let ours: Vec<_> = blobs.iter().filter(|blob| staging::is_chunk_of(&blob.name, run)).collect();
        let deletions: Vec<_> = ours.iter().map(|blob| storage.delete(&blob.name)).collect();
        stream::iter(deletions).buffer_unordered(DELETES_MAX).try_collect::<Vec<()>>().await?;
        if ours.is_empty() || !is_full {
            break;
        }
    }
    storage.sweep_remains(&prefix).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_at_once_holds_up_no_sweep_for_long() {
        let three: Duration = (1..=3).map(retry_wait).sum();
        assert!(three < Duration::from_secs(5), "{three:?}");
        assert!(retry_wait(RETRIES_COUNTED_MAX) >= Duration::from_secs(30), "nobody is asked all the time");
    }
}
