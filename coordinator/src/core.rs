//! What every part of the coordinator shares: store, clock, limits, and a bell that rings when something changed.

use crate::{
    access::Access,
    config::Limits,
    desk::Desk,
    identities::Identities,
    meters::Meters,
    state::{Refused, run::RunEvent},
    store::{NodeRow, Numbers, RunRow, Store, StoreError, Telling, ThisRun, Totals, Write},
    timeline::Timelines,
};
use async_trait::async_trait;
use ferry_common::{
    activity::{Activity, StagingType},
    clock::{Clock, Millis},
    failure::{Code, Failure},
    id::{LeaseToken, RunId, RuntimeName, UnitNumber},
    spans::{self, Span, SpanOf},
    storage::{Connections, StagingStorage},
    unit::Counters,
};
use ferry_kusto::{
    Engine,
    queued::{LentContainer, Queued},
};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};

/// Conflicts in a row after which a change is given up: another writer is not the reason any more.
pub(crate) const CONFLICTS_MAX: u32 = 20;

/// Units that one commit goes over. Others wait for it.
pub(crate) const UNITS_WRITTEN_AT_ONCE: u64 = 20_000;
/// A node that was not heard for this long is lost, and not counted on.
pub(crate) const NODE_LOST_AFTER: Duration = Duration::from_secs(30);

/// What units and commands add up to is believed for as long, or for so many times what it costs to find out.
const TOTALS_AGE_MIN: Duration = Duration::from_millis(200);
const TOTALS_AGE_COSTS: u32 = 20;

/// How long a webhook is tried after the end of its run.
const TELL_FOR: Duration = Duration::from_secs(600);

/// In a container that the cluster lends: where probes write, before there is a run.
const FOLDER_BEFORE_RUN: &str = "ferry-probe";

/// Opens the clusters that activities name.
#[async_trait]
pub trait Sinks: Send + Sync {
    /// The cluster of an activity's sink, signed in to. Nothing is sent yet. It gets so much time for a request.
    fn open(&self, activity: &Activity, server_timeout: Duration) -> Result<Arc<dyn Engine>, Failure>;

    /// Where blobs are handed over, if the activity's sink has queued ingestion. Nothing is sent yet.
    fn open_queue(&self, activity: &Activity, server_timeout: Duration) -> Result<Option<Arc<dyn Queued>>, Failure>;

    /// A container that the cluster lends for staging, signed as of late: the one at `address`, or any.
    async fn lend(&self, activity: &Activity, address: Option<&str>) -> Result<LentContainer, Failure> {
        let place = address.unwrap_or(&activity.sink.endpoint);
        Err(Failure::settings(Code::StagingMissing, format!("{place}: no containers are lent here")))
    }

    /// The staging that is swept: as it is, or with what a test puts around it.
    fn staging(&self, storage: Box<dyn StagingStorage>) -> Box<dyn StagingStorage> {
        storage
    }
}

/// A coordinator's right to drive a run.
#[derive(Debug, Clone)]
pub(crate) struct Hold {
    pub(crate) run: RunId,
    pub(crate) epoch: i64,
    /// Until then nobody else takes the run.
    until: Arc<Mutex<Instant>>,
}

impl Hold {
    pub(crate) fn new(run: RunId, epoch: i64, until: Instant) -> Self {
        Self { run, epoch, until: Arc::new(Mutex::new(until)) }
    }

    pub(crate) fn extend(&self, until: Instant) {
        *self.until.lock().unwrap_or_else(PoisonError::into_inner) = until;
    }

    pub(crate) fn is_held(&self) -> bool {
        Instant::now() < *self.until.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Shared parts. What stands in memory alone may be lost at any time: progress bars and peaks.
#[derive(Clone)]
pub(crate) struct Core {
    /// This life of the coordinator.
    pub(crate) id: String,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) sinks: Arc<dyn Sinks>,
    pub(crate) identities: Arc<Identities>,
    /// To staging storage.
    pub(crate) connections: Connections,
    pub(crate) limits: Limits,
    pub(crate) meters: Arc<Meters>,
    pub(crate) started: Millis,
    /// Sabotage, for tests alone: whoever reports is taken for the holder of the lease.
    pub(crate) is_unfenced: bool,
    bell: watch::Sender<u64>,
    news: watch::Sender<u64>,
    offers: Arc<Mutex<HashMap<RuntimeName, Arc<Notify>>>>,
    /// Where units are handed out.
    pub(crate) desk: Arc<tokio::sync::Mutex<Desk>>,
    live: Arc<Mutex<HashMap<RunId, LiveRun>>>,
    /// Runs that wait for the end of another one, and of which: as the last look found it.
    waits: Arc<Mutex<HashMap<RunId, RunId>>>,
    /// How far runs had come, and when.
    timelines: Arc<Mutex<Timelines>>,
    /// What goes with every write of a run's driver.
    hold: Option<Hold>,
}

/// What is known of a run only while its attempts go on.
#[derive(Debug, Default, Clone)]
pub(crate) struct LiveRun {
    pub(crate) progress: HashMap<UnitNumber, Counters>,
    pub(crate) peak_slots: u32,
    /// The lease of the page of source files that is being cleared, and since when it is known.
    pub(crate) page: Option<(LeaseToken, Instant)>,
    /// What units and commands added up to, when that was, and how long it took to find out.
    pub(crate) totals: Option<(Totals, Instant, Duration)>,
    /// Why staging could not be swept.
    pub(crate) sweep_failure: Option<Failure>,
    /// How often in a row it could not.
    pub(crate) sweep_failures: u32,
}

/// A change to a row that was not made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ChangeError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Refused(#[from] Refused),
}

impl Core {
    pub(crate) fn new(
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        sinks: Arc<dyn Sinks>,
        identities: Arc<Identities>,
        limits: Limits,
    ) -> Self {
        let started = clock.now();
        Self {
            is_unfenced: false,
            store,
            clock,
            sinks,
            identities,
            connections: Connections::default(),
            limits,
            meters: Arc::default(),
            started,
            hold: None,
            id: uuid::Uuid::new_v4().to_string(),
            bell: watch::Sender::new(0),
            news: watch::Sender::new(0),
            offers: Arc::default(),
            desk: Arc::default(),
            live: Arc::default(),
            waits: Arc::default(),
            timelines: Arc::default(),
        }
    }

    /// What opens the staging of a run. Of containers that the cluster lends it is the one that the run began with.
    pub(crate) async fn access(&self, run: &RunRow) -> Result<Access, Failure> {
        let address = run.lent_container.as_deref();
        if run.activity.staging.kind == StagingType::FromCluster && address.is_none() {
            return Err(Failure::internal("the run has no container of the cluster's yet"));
        }
        self.opened(&run.activity, address, run.lent_folder()).await
    }

    /// What opens the staging of an activity that is no run yet.
    pub(crate) async fn access_before_run(&self, activity: &Activity) -> Result<Access, Failure> {
        self.opened(activity, None, FOLDER_BEFORE_RUN.to_owned()).await
    }

    /// Of containers that the cluster lends: the one at `address`, or any, and there a folder of the caller's own.
    async fn opened(&self, activity: &Activity, address: Option<&str>, lent_folder: String) -> Result<Access, Failure> {
        let staging = &activity.staging;
        if staging.kind == StagingType::FromCluster {
            let lent = self.sinks.lend(activity, address).await?;
            return Ok(Access::lent(staging, lent, lent_folder));
        }
        Access::open(staging, &self.identities, self.now()).await
    }

    /// The same, for the driver of a run: nothing is written unless it still is.
    pub(crate) fn holding(&self, hold: Hold) -> Self {
        Self { hold: Some(hold), ..self.clone() }
    }

    /// This driver may act on its run's behalf. Asked just before what cannot be taken back.
    pub(crate) fn may_act(&self) -> bool {
        self.store.is_exclusive() || self.hold.as_ref().is_none_or(Hold::is_held)
    }

    /// Writes everything or nothing.
    pub(crate) async fn commit(&self, mut writes: Vec<Write>) -> Result<(), StoreError> {
        if let Some(hold) = &self.hold {
            writes.insert(0, Write::HoldRun { run: hold.run.clone(), epoch: hold.epoch });
        }
        let began = Instant::now();
        let result = self.store.commit(writes).await;
        let is_conflict = matches!(result, Err(StoreError::Conflict));
        self.meters.commit(began.elapsed(), is_conflict, result.is_err() && !is_conflict);
        result
    }

    /// Commits a write over all units of a run page by page: one over a million of them would hold the run, whose driver must be
    /// heard from, and everybody else's writes.
    pub(crate) async fn commit_in_pages(&self, units: u64, write: impl Fn(Numbers) -> Write) -> Result<(), StoreError> {
        let mut after = UnitNumber::LISTING;
        while after.0 < units {
            let up_to = UnitNumber(after.0 + UNITS_WRITTEN_AT_ONCE);
            self.commit(vec![write(Numbers { after, up_to })]).await?;
            after = up_to;
        }
        Ok(())
    }

    /// Deletes some of what the listing of a run has named, which is of no use once it has ended. Returns whether there was any.
    pub(crate) async fn forget_listed(&self, run: &RunRow) -> Result<bool, StoreError> {
        let has_any = self.store.has_listed_files(&run.id).await?;
        if has_any {
            self.commit(vec![Write::DeleteListed(ThisRun::from(run), UNITS_WRITTEN_AT_ONCE as u32)]).await?;
        }
        Ok(has_any)
    }

    pub(crate) fn now(&self) -> Millis {
        self.clock.now()
    }

    /// Nodes that were heard within that time, lost ones included.
    pub(crate) async fn nodes_seen(&self, within: Duration) -> Result<Vec<NodeRow>, StoreError> {
        let within_ms = i64::try_from(within.as_millis()).unwrap_or(i64::MAX);
        self.store.nodes(Millis(self.now().0.saturating_sub(within_ms))).await
    }

    /// Rings the bell: duties look again.
    pub(crate) fn ring(&self) {
        self.bell.send_modify(|n| *n += 1);
    }

    /// Hears the bell from now on.
    pub(crate) fn bell(&self) -> watch::Receiver<u64> {
        self.bell.subscribe()
    }

    /// All held calls of nodes look again.
    pub(crate) fn tell_nodes(&self) {
        self.news.send_modify(|n| *n += 1);
    }

    /// Hears what all nodes are told from now on.
    pub(crate) fn news(&self) -> watch::Receiver<u64> {
        self.news.subscribe()
    }

    /// A unit or a slot is to be had: one held call looks again, of each integration runtime. All of them would be in each
    /// other's way.
    pub(crate) fn offer(&self) {
        self.lock_offers().values().for_each(|offers| offers.notify_one());
    }

    /// Hears what is offered to the nodes of an integration runtime.
    pub(crate) fn offers(&self, runtime: &RuntimeName) -> Arc<Notify> {
        self.lock_offers().entry(runtime.clone()).or_default().clone()
    }

    fn lock_offers(&self) -> MutexGuard<'_, HashMap<RuntimeName, Arc<Notify>>> {
        self.offers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn live(&self) -> MutexGuard<'_, HashMap<RunId, LiveRun>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes which runs wait for which.
    pub(crate) fn note_waits(&self, waits: HashMap<RunId, RunId>) {
        *self.waits.lock().unwrap_or_else(PoisonError::into_inner) = waits;
    }

    /// The run whose end this one waits for before it begins.
    pub(crate) fn waits_for(&self, run: &RunId) -> Option<RunId> {
        self.waits.lock().unwrap_or_else(PoisonError::into_inner).get(run).cloned()
    }

    pub(crate) fn timelines(&self) -> MutexGuard<'_, Timelines> {
        self.timelines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the units and commands of a run added up to when that was asked last; nothing is asked now.
    pub(crate) fn totals_known(&self, run: &RunRow) -> Option<Totals> {
        run.totals.or_else(|| self.live().get(&run.id).and_then(|live| live.totals).map(|(totals, ..)| totals))
    }

    /// How long it took to find out what a run adds up to.
    pub(crate) fn totals_cost(&self, run: &RunId) -> Duration {
        self.live().get(run).and_then(|live| live.totals).map_or(Duration::ZERO, |(_, _, cost)| cost)
    }

    /// What the units and commands of a run add up to now.
    pub(crate) async fn totals(&self, run: &RunId) -> Result<Totals, StoreError> {
        let (units, commands) = (self.store.unit_counts(run).await?, self.store.command_counts(run).await?);
        Ok(Totals { units, commands })
    }

    /// What they added up to a short while ago: the longer it takes to find out, the longer it is believed.
    pub(crate) async fn totals_lately(&self, run: &RunRow) -> Result<Totals, StoreError> {
        if let Some(totals) = run.totals {
            return Ok(totals);
        }
        let known = self.live().get(&run.id).and_then(|live| live.totals);
        if let Some((totals, at, cost)) = known
            && at.elapsed() < TOTALS_AGE_MIN.max(cost * TOTALS_AGE_COSTS)
        {
            return Ok(totals);
        }
        let asked = Instant::now();
        let totals = self.totals(&run.id).await?;
        self.live().entry(run.id.clone()).or_default().totals = Some((totals, Instant::now(), asked.elapsed()));
        Ok(totals)
    }

    /// Counters of attempts that go on, summed.
    pub(crate) fn live_counters(&self, run: &RunId) -> Counters {
        let mut sum = Counters::default();
        if let Some(live) = self.live().get(run) {
            live.progress.values().for_each(|c| sum += *c);
        }
        sum
    }

    /// Changes a run: read, change, store, and again when another writer was faster. `None` from `change` changes
    /// nothing.
    pub(crate) async fn change_run(
        &self,
        id: &RunId,
        change: impl FnMut(RunRow) -> Result<Option<RunRow>, Refused> + Send,
    ) -> Result<Option<RunRow>, ChangeError> {
        self.change_run_and(id, &[], change).await
    }

    /// The same, with other writes in the same commit.
    async fn change_run_and(
        &self,
        id: &RunId,
        others: &[Write],
        mut change: impl FnMut(RunRow) -> Result<Option<RunRow>, Refused> + Send,
    ) -> Result<Option<RunRow>, ChangeError> {
        for _ in 0..CONFLICTS_MAX {
            let Some(old) = self.store.run(id).await? else { return Ok(None) };
            let (from, revision) = (old.state.name(), old.revision);
            let had_ended = old.state.is_final();
            let Some(mut new) = change(old)? else { return Ok(None) };
            debug_assert_eq!(new.revision, revision);
            if new.state.is_final() && !had_ended && !new.is_dry && new.activity.settings.webhook.is_some() {
                // Stored with the end itself, so that no restart forgets it.
                let now = self.now();
                new.telling = Some(Telling { failures: 0, not_before: now, until: now.plus(TELL_FOR) });
            }
            let mut writes = others.to_vec();
            writes.push(Write::UpdateRun(Box::new(new.clone())));
            match self.commit(writes).await {
                Ok(()) => {
                    if new.state.name() != from {
                        tracing::info!(run = %id, from, to = new.state.name(), "run changes");
                        self.tell_nodes();
                        if new.state.is_final() {
                            self.meters.run_ended(new.state.name(), new.state.failure().map(|failure| failure.code));
                            spans::send(|| span_of(&new, self.now()));
                        }
                    }
                    self.ring();
                    return Ok(Some(RunRow { revision: revision + 1, ..new }));
                }
                Err(StoreError::Conflict) => {}
                Err(e) => return Err(e.into()),
            }
        }
        Err(StoreError::Conflict.into())
    }

    /// An attempt may still write to staging when nobody waits for it any more: once the run has ended, staging is swept a second
    /// time. Stored before what makes it so, or a restart would forget it.
    pub(crate) async fn expect_late_writer(&self, id: &RunId) -> Result<(), ChangeError> {
        let noted = self.change_run(id, |mut row| {
            row.lost_attempts += 1;
            // One is as good as many.
            Ok((row.lost_attempts == 1).then_some(row))
        });
        noted.await.map(drop)
    }

    /// Asks a run to end. One that was never admitted has ended with that, and has left nothing behind.
    pub(crate) async fn cancel(&self, id: &RunId) -> Result<(), ChangeError> {
        let now = self.now();
        self.apply_to_run(id, RunEvent::CancelAsked, |row| {
            if row.state.is_final() {
                row.times.ended = Some(now);
                row.is_swept = true;
            }
            if let Some(clearing) = &mut row.clearing {
                // Its rows are in the table: it ends well, with the page that a node has in hand.
                clearing.is_stopped = true;
            }
        })
        .await
        .map(drop)
    }

    /// Applies an event to a run; `then` sets what goes with it.
    pub(crate) async fn apply_to_run(
        &self,
        id: &RunId,
        event: RunEvent,
        then: impl FnMut(&mut RunRow) + Send,
    ) -> Result<Option<RunRow>, ChangeError> {
        self.apply_to_run_and(id, &[], event, then).await
    }

    /// The same, with other writes in the same commit.
    pub(crate) async fn apply_to_run_and(
        &self,
        id: &RunId,
        others: &[Write],
        event: RunEvent,
        mut then: impl FnMut(&mut RunRow) + Send,
    ) -> Result<Option<RunRow>, ChangeError> {
        self.change_run_and(id, others, |mut row| {
            row.state = row.state.apply(event.clone())?;
            then(&mut row);
            Ok(Some(row))
        })
        .await
    }
}

/// The span of a run that has ended.
fn span_of(run: &RunRow, now: Millis) -> Span {
    let ended = run.times.ended.unwrap_or(now);
    let totals = run.totals.unwrap_or_default();
    Span::new(&run.id, SpanOf::Run, spans::time_of(run.times.submitted), spans::time_of(ended))
        .word("activity", run.activity.name.clone())
        .word("state", run.state.name())
        .count("files", run.files)
        .count("bytes", totals.units.counters.data_read_bytes)
        .count("rows", totals.commands.rows_confirmed)
        .failure(run.state.failure().map(|failure| failure.code))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::{
        state::unit::{Lease, UnitEvent},
        store::MemoryStore,
    };
    use ferry_common::{
        id::{AttemptNumber, LeaseToken},
        unit::AttemptKey,
    };

    /// No cluster is asked for anything.
    struct NoSinks;

    impl Sinks for NoSinks {
        fn open(&self, _: &Activity, _: Duration) -> Result<Arc<dyn Engine>, Failure> {
            Err(Failure::internal("no cluster"))
        }

        fn open_queue(&self, _: &Activity, _: Duration) -> Result<Option<Arc<dyn Queued>>, Failure> {
            Ok(None)
        }
    }

    /// Over a store in memory, with nothing in it, and without a cluster.
    pub(crate) fn core_at(clock: Arc<dyn Clock>) -> Core {
        let store = Arc::new(MemoryStore::default());
        Core::new(store, clock, Arc::new(NoSinks), Arc::default(), Limits::default())
    }

    /// Leases unit 0 of run `r` to a node.
    pub(crate) async fn lease(core: &Core) -> AttemptKey {
        let run = "r".parse().unwrap();
        let mut unit = core.store.unit(&run, UnitNumber::LISTING).await.unwrap().unwrap();
        unit.attempts += 1;
        let (attempt, token) = (AttemptNumber(unit.attempts), LeaseToken::generate());
        let lease = Lease { node: "n".parse().unwrap(), attempt, token: token.clone(), expires: Millis(9) };
        unit.state = unit.state.apply(UnitEvent::Granted(lease)).unwrap();
        core.store.commit(vec![Write::UpdateUnit(Box::new(unit))]).await.unwrap();
        AttemptKey { run, unit: UnitNumber::LISTING, attempt, token }
    }
}
