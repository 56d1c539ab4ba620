//! Ends leases whose nodes went silent. Nobody else notices a dead node, and nobody needs to.

use super::LOOK_INTERVAL;
use crate::{
    attempts::LEASES_MAX,
    core::{ChangeError, Core},
    state::unit::{RetryLimit, UnitEvent},
    store::Leases,
};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

pub(super) async fn expire(core: Arc<Core>, shutdown: CancellationToken) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(LOOK_INTERVAL) => {}
            () = shutdown.cancelled() => return,
        }
        // While this coordinator was away nobody could renew: every lease gets one term.
        if core.now().since(core.started) < core.limits.lease_ttl {
            continue;
        }
        if let Err(e) = expire_once(&core).await {
            tracing::error!("leases: {e}");
        }
    }
}

async fn expire_once(core: &Core) -> Result<(), ChangeError> {
    let now = core.now();
    for unit in core.store.leased_units(&Leases::ExpiredAt(now), LEASES_MAX).await? {
        let Some(run) = core.store.run(&unit.run).await? else { continue };
        let limit = RetryLimit { now, failures_max: run.activity.settings.attempts_max, skips_files: false };
        if core.change_unit(&unit.run, unit.number, |_| Some(UnitEvent::Expired(limit))).await? {
            tracing::warn!(run = %unit.run, unit = %unit.number, node = unit.node_name, "lease expired: the node went silent");
            // It may still write blobs: staging is swept once more when it cannot any longer.
            core.change_run(&run.id, |mut row| {
                row.lost_attempts += 1;
                Ok(Some(row))
            })
            .await?;
        }
    }
    Ok(())
}
