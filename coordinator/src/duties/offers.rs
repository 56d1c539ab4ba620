//! Tells waiting nodes of units that are to be had without anybody here having made them so: their time has come, or another
//! coordinator gave them back. One look for all, instead of one by each waiting call.

use super::LOOK_INTERVAL;
use crate::{core::Core, reports::wants_attempts, store::StoreError};
use ferry_common::id::UnitNumber;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// Units of a run that one look tells of.
const OFFERS_MAX: u32 = 100;

pub(super) async fn offer(core: Arc<Core>, shutdown: CancellationToken) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(LOOK_INTERVAL) => {}
            () = shutdown.cancelled() => return,
        }
        if let Err(e) = offer_once(&core).await {
            tracing::error!("offers: {e}");
        }
    }
}

async fn offer_once(core: &Core) -> Result<(), StoreError> {
    let runs = core.store.live_runs().await?;
    // What is remembered of others, such as those that a page asked for, is of no use any more.
    core.live().retain(|id, _| runs.iter().any(|run| run.id == *id));
    for run in runs.iter().filter(|run| wants_attempts(run)) {
        if core.store.unit(&run.id, UnitNumber::LISTING).await?.is_some_and(|listing| listing.is_due(core.now())) {
            core.offer();
        }
        // While the source is listed, its files wait for the plan.
        if run.plan.is_some() {
            for _ in core.store.pending_units(&run.id, core.now(), OFFERS_MAX).await? {
                core.offer();
            }
        }
    }
    Ok(())
}
