//! Which coordinator drives a run. Where several share a store, each run has one driver: the one that its row names. The
//! driver beats; who takes over raises the epoch, and every write of a driver holds only while its epoch does.
//!
//! No clock is compared with another one: a coordinator takes a run over when it has itself seen no beat for [`TERM`], and a
//! driver stops acting a good while before, counted from before its last beat was sent.

use crate::{
    core::{Core, Hold},
    store::{Driver, RunRow, StoreError, Write},
};
use ferry_common::id::RunId;
use std::{collections::HashMap, time::Duration};
use tokio::time::Instant;

/// A run without a beat for so long may be taken over.
const TERM: Duration = Duration::from_secs(10);
/// A driver whose last good beat is older acts no more.
const TERM_OWN: Duration = Duration::from_secs(7);
const BEAT_INTERVAL: Duration = Duration::from_secs(2);

/// Drivers as this coordinator saw them last.
#[derive(Debug, Default)]
pub(super) struct Watch(HashMap<RunId, (Driver, Instant)>);

impl Watch {
    /// The run, as it was read after `now`, has no driver, or one that is silent.
    pub(super) fn may_claim(&mut self, core: &Core, run: &RunRow, now: Instant) -> bool {
        if run.driver.coordinator.is_empty() || core.store.is_exclusive() {
            self.0.remove(&run.id);
            return true;
        }
        match self.0.get(&run.id) {
            Some((seen, since)) if *seen == run.driver => now.duration_since(*since) >= TERM,
            _ => {
                self.0.insert(run.id.clone(), (run.driver.clone(), now));
                false
            }
        }
    }

    /// Forgets runs that are over.
    pub(super) fn retain(&mut self, runs: &[RunRow]) {
        self.0.retain(|id, _| runs.iter().any(|run| run.id == *id));
    }
}

/// Takes the run. `None`: another coordinator was faster.
pub(super) async fn claim(core: &Core, run: &RunRow) -> Result<Option<Hold>, StoreError> {
    let now = Instant::now();
    let (coordinator, epoch, beat) = (core.id.clone(), run.driver.epoch, run.driver.beat);
    if !run.driver.coordinator.is_empty() && run.driver.coordinator != core.id {
        tracing::info!(run = %run.id, from = run.driver.coordinator, to = core.id, "run is taken over");
    }
    match core.store.commit(vec![Write::ClaimRun { run: run.id.clone(), coordinator, epoch, beat: Some(beat) }]).await {
        Ok(()) => Ok(Some(Hold::new(run.id.clone(), epoch + 1, now + TERM_OWN))),
        Err(StoreError::Conflict) => Ok(None),
        Err(e) => Err(e),
    }
}

/// Beats until the run is lost to another coordinator, or no beat has reached the store for too long.
pub(super) async fn keep(core: &Core, hold: &Hold) {
    if core.store.is_exclusive() {
        return std::future::pending().await;
    }
    while hold.is_held() {
        let now = Instant::now();
        let beat = core.store.commit(vec![Write::BeatRun { run: hold.run.clone(), epoch: hold.epoch }]);
        match tokio::time::timeout(TERM_OWN, beat).await {
            Err(_) => break,
            Ok(Ok(())) => hold.extend(now + TERM_OWN),
            Ok(Err(StoreError::Conflict)) => break,
            Ok(Err(e)) => tracing::warn!(run = %hold.run, "the beat of its driver: {e}"),
        }
        tokio::time::sleep(BEAT_INTERVAL).await;
    }
    tracing::warn!(run = %hold.run, "this coordinator drives the run no more");
}

/// Lets the run go, so that another coordinator need not wait.
pub(super) async fn release(core: &Core, hold: &Hold) {
    let write = Write::ClaimRun { run: hold.run.clone(), coordinator: String::new(), epoch: hold.epoch, beat: None };
    if let Err(e) = core.store.commit(vec![write]).await {
        tracing::debug!(run = %hold.run, "not let go: {e}");
    }
}
