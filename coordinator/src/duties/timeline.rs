//! Keeps points of how far each live run has come, for charts. What a run adds up to may be dear to find out: the dearer, the
//! farther apart its points are.

use super::LOOK_INTERVAL;
use crate::{core::Core, report, state::run::RunState, store::StoreError};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// Finding out takes at most one part of so many of the time.
const COST_SHARE: u32 = 100;

pub(super) async fn keep(core: Arc<Core>, shutdown: CancellationToken) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(LOOK_INTERVAL) => {}
            () = shutdown.cancelled() => return,
        }
        if let Err(e) = keep_once(&core).await {
            tracing::debug!("no points of runs: {e}");
        }
    }
}

async fn keep_once(core: &Core) -> Result<(), StoreError> {
    for run in core.store.live_runs().await? {
        // Nothing to see yet.
        if matches!(run.state, RunState::Queued | RunState::Planning) {
            continue;
        }
        let cost = core.totals_cost(&run.id) * COST_SHARE;
        let now = core.now();
        if !core.timelines().wants(&run.id, run.times.submitted, now, cost) {
            continue;
        }
        let point = report::point_of(core, &run).await?;
        core.timelines().push(&run.id, run.times.submitted, point, run.state.is_final());
    }
    Ok(())
}
