//! Ends leases whose nodes went silent. Nobody else notices a dead node, and nobody needs to.
//!
//! A lease that lives changes its row again and again. One whose row stood still for a whole term, by this program's own count of
//! time, has ended: what clocks of other coordinators say does not matter, and neither does a clock that jumps.

use super::LOOK_INTERVAL;
use crate::{
    core::{ChangeError, Core},
    state::unit::{RetryLimit, UnitEvent},
};
use ferry_common::id::{RunId, UnitNumber};
use std::{collections::HashMap, sync::Arc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Revision of a leased unit, and since when it is that.
type Seen = HashMap<(RunId, UnitNumber), (i64, Instant)>;

pub(super) async fn expire(core: Arc<Core>, shutdown: CancellationToken) {
    let mut seen = Seen::new();
    loop {
        tokio::select! {
            () = tokio::time::sleep(LOOK_INTERVAL) => {}
            () = shutdown.cancelled() => return,
        }
        if let Err(e) = expire_once(&core, &mut seen).await {
            tracing::error!("leases: {e}");
        }
    }
}

async fn expire_once(core: &Core, seen: &mut Seen) -> Result<(), ChangeError> {
    // What was written while it is being read counts from here on.
    let now = Instant::now();
    let mut still = Seen::new();
    for lease in core.store.leases().await? {
        let key = (lease.run, lease.number);
        let since = match seen.get(&key) {
            Some((revision, since)) if *revision == lease.revision => *since,
            _ => now,
        };
        still.insert(key, (lease.revision, since));
    }
    *seen = still;
    for ((run, number), (revision, since)) in seen.iter() {
        if now.duration_since(*since) >= core.limits.lease_ttl {
            end(core, run, *number, *revision).await?;
        }
    }
    Ok(())
}

/// Ends the lease of a unit whose row is still this one.
async fn end(core: &Core, run: &RunId, number: UnitNumber, revision: i64) -> Result<(), ChangeError> {
    let Some(row) = core.store.run(run).await? else { return Ok(()) };
    let limit = RetryLimit { now: core.now(), failures_max: row.activity.settings.attempts_max, skips_files: false };
    let expired = |unit: &crate::store::UnitRow| (unit.revision == revision).then_some(UnitEvent::Expired(limit));
    // It may still write blobs.
    core.expect_late_writer(run).await?;
    if core.change_unit(run, number, expired).await? {
        tracing::warn!(%run, unit = %number, "lease expired: the node went silent");
    }
    Ok(())
}
