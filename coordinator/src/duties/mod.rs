//! What the coordinator does by itself, again and again. There is no recovery mode: after a restart the same duties look
//! at the same rows.

mod history;
mod holding;
mod leases;
mod loaded;
mod offers;
mod plans;
mod runs;
pub(crate) mod schedules;
mod sweep;
mod timeline;
mod webhooks;

use crate::core::Core;
use std::{sync::Arc, time::Duration};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// How often duties look without a bell.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Starts all duties. The future ends when they have ended, after `shutdown`.
pub(crate) fn start(core: Arc<Core>, shutdown: CancellationToken) -> impl Future<Output = ()> {
    let mut duties = JoinSet::new();
    duties.spawn(leases::expire(core.clone(), shutdown.clone()));
    duties.spawn(offers::offer(core.clone(), shutdown.clone()));
    duties.spawn(history::forget(core.clone(), shutdown.clone()));
    duties.spawn(timeline::keep(core.clone(), shutdown.clone()));
    duties.spawn(runs::drive_all(core, shutdown));
    async move { while duties.join_next().await.is_some() {} }
}

#[cfg(test)]
mod tests;
