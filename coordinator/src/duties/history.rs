//! Forgets runs that ended long ago, with all that is stored of them, and what they told of clusters that nobody uses any more.

use crate::{
    core::{Core, UNITS_WRITTEN_AT_ONCE},
    store::{RunRow, StoreError, ThisRun, Write},
};
use ferry_common::{clock::Millis, id::UnitNumber};
use std::{sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;

const LOOK_EVERY: Duration = Duration::from_secs(600);
/// Runs that one look takes up.
const RUNS_MAX: u32 = 100;

pub(super) async fn forget(core: Arc<Core>, shutdown: CancellationToken) {
    loop {
        if let Err(error) = forget_once(&core).await {
            tracing::error!("old runs are kept: {error}");
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK_EVERY) => {}
            () = shutdown.cancelled() => return,
        }
    }
}

async fn forget_once(core: &Core) -> Result<(), StoreError> {
    let before = Millis(core.now().0.saturating_sub(core.limits.keep_runs.as_millis() as i64));
    for run in core.store.past_runs(before, RUNS_MAX).await? {
        // What was submitted long ago may have ended just now.
        let Some(row) = core.store.run(&run).await? else { continue };
        if row.times.ended.is_none_or(|at| at >= before) {
            continue;
        }
        match forget_run(core, &row, before).await {
            Ok(()) => tracing::info!(run = %run, "an old run is forgotten"),
            // Another coordinator was there. Its id may be a new run's already.
            Err(StoreError::Conflict) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Conflict if the run is not there any more, whatever has its id now.
async fn forget_run(core: &Core, row: &RunRow, before: Millis) -> Result<(), StoreError> {
    let run = ThisRun::from(row);
    // From its last units on; what one commit can take goes with the run itself.
    let mut left = row.units;
    while left > UNITS_WRITTEN_AT_ONCE {
        left -= UNITS_WRITTEN_AT_ONCE;
        core.commit(vec![Write::DeleteUnits(run.clone(), UnitNumber(left))]).await?;
    }
    core.commit(vec![Write::DeleteRun(run), Write::ForgetPaces(before)]).await
}
