//! What a node and the coordinator say to each other in one Sync: leases are renewed, taken back and given out.

use crate::{
    core::{CONFLICTS_MAX, ChangeError, Core},
    reports::wants_attempts,
    state::{
        run::RunState,
        unit::{RetryLimit, UnitEvent},
    },
    store::{NodeRow, RunRow, StoreError, UnitRow, Write},
};
use ferry_common::{
    failure::Failure,
    id::{IdentityId, NodeId, RunId, UnitNumber},
    unit::{AttemptKey, BlobAsk, Counters, Grant, Report, SignedBlobs},
};
use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

/// Leases that one look takes up.
pub(crate) const LEASES_MAX: u32 = 20_000;
/// A node's last sign of life is stored about this often.
const SEEN_INTERVAL: Duration = Duration::from_secs(5);

/// What a node says in one Sync.
#[derive(Debug)]
pub(crate) struct SyncAsk {
    pub(crate) node: NodeId,
    /// Who asks by its certificate; `None` where none is asked for.
    pub(crate) identity: Option<IdentityId>,
    pub(crate) free_slots: u32,
    pub(crate) draining: bool,
    pub(crate) wait: Duration,
    pub(crate) renewals: Vec<(AttemptKey, Counters)>,
    pub(crate) reports: Vec<Report>,
    /// The node takes signatures for single blobs.
    pub(crate) by_blob: bool,
    /// Blobs that attempts among the renewals need signatures for.
    pub(crate) blob_asks: Vec<(AttemptKey, BlobAsk)>,
}

/// What the coordinator answers.
#[derive(Debug, Default)]
pub(crate) struct SyncAnswer {
    pub(crate) grants: Vec<Grant>,
    /// Sequence, and whether the report was refused.
    pub(crate) acks: Vec<(u64, bool)>,
    pub(crate) stops: Vec<(AttemptKey, &'static str)>,
    pub(crate) drain: bool,
    /// Of runs that the node holds slots of, and whose bandwidth is limited: slots that they hold on all nodes.
    pub(crate) run_slots: Vec<(RunId, u32)>,
    /// What attempts asked for.
    pub(crate) signed: Vec<SignedBlobs>,
}

/// Why a Sync has no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SyncError {
    #[error("node {0} is not registered here")]
    UnknownNode(NodeId),
    #[error("node {0} is another's")]
    OtherNode(NodeId),
    #[error(
        "node {0} is of an older release and would need a signature for the whole staging container, which this coordinator \
         does not give (--blob-signatures-only); upgrade the node"
    )]
    OlderNode(NodeId),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<ChangeError> for SyncError {
    fn from(error: ChangeError) -> Self {
        match error {
            ChangeError::Store(e) => Self::Store(e),
            ChangeError::Refused(_) => Self::Store(StoreError::Conflict),
        }
    }
}

impl Core {
    pub(crate) fn retry_limit(&self, run: &RunRow, unit: UnitNumber) -> RetryLimit {
        let settings = &run.activity.settings;
        // Without a listing there is nothing to leave a file out of.
        let skips_files = settings.skip_error_file && unit != UnitNumber::LISTING;
        RetryLimit { now: self.now(), failures_max: settings.attempts_max, skips_files }
    }

    /// One exchange with a node. Held open while there is nothing to say, for as long as the node allows.
    pub(crate) async fn sync(&self, ask: SyncAsk) -> Result<SyncAnswer, SyncError> {
        let mut news = self.news();
        let node = self.store.node(&ask.node).await?.ok_or(SyncError::UnknownNode(ask.node.clone()))?;
        if node.identity != ask.identity {
            return Err(SyncError::OtherNode(node.id));
        }
        if self.limits.blob_signatures_only && !ask.by_blob {
            return Err(SyncError::OlderNode(node.id));
        }
        self.see(&node, ask.draining).await?;
        let mut answer = SyncAnswer { drain: node.is_draining, ..SyncAnswer::default() };
        answer.acks = self.take_reports(ask.reports).await;
        let mut leased = self.store.leased_units(&node.id, LEASES_MAX).await?;
        for key in self.renew(&leased, &ask.renewals).await? {
            answer.stops.push((key, "the run does not want this attempt any more"));
        }
        answer.signed = self.sign_blobs(&leased, &ask.blob_asks).await?;
        let deadline = tokio::time::Instant::now() + ask.wait;
        loop {
            // What is offered while nobody waits is kept for who waits next.
            let offered = self.offers(&node.runtime);
            let offered = offered.notified();
            if !answer.drain {
                answer.grants = self.grant_again(&leased, &ask.renewals, ask.by_blob).await?;
                let free = ask.free_slots.saturating_sub(answer.grants.len() as u32);
                answer.grants.extend(self.grant(&node, free, ask.by_blob).await?);
            }
            let has_words = !answer.acks.is_empty() || !answer.stops.is_empty() || !answer.signed.is_empty();
            let says_something = has_words || !answer.grants.is_empty();
            if says_something || tokio::time::Instant::now() >= deadline {
                answer.run_slots = self.run_slots(&leased, &answer.grants).await?;
                return Ok(answer);
            }
            tokio::select! {
                _ = news.changed() => {}
                () = offered, if ask.free_slots > 0 && !answer.drain => {}
                () = tokio::time::sleep_until(deadline) => {}
            }
            leased = self.store.leased_units(&node.id, LEASES_MAX).await?;
            answer.drain = self.store.node(&node.id).await?.is_some_and(|n| n.is_draining);
            if answer.drain != node.is_draining {
                return Ok(answer);
            }
        }
    }

    /// Slots of runs whose bandwidth is limited, of those that the node has something of.
    async fn run_slots(&self, leased: &[UnitRow], grants: &[Grant]) -> Result<Vec<(RunId, u32)>, StoreError> {
        let own: HashSet<&RunId> = leased.iter().map(|u| &u.run).chain(grants.iter().map(|g| &g.key.run)).collect();
        let mut limited = Vec::new();
        for run in own {
            if self.store.run(run).await?.is_some_and(|run| run.activity.settings.bandwidth.is_some()) {
                limited.push(run.clone());
            }
        }
        if limited.is_empty() {
            return Ok(Vec::new());
        }
        let held = self.store.held_slots().await?;
        let slots_of = |run: &RunId| held.iter().filter(|h| h.run == *run).map(|h| h.slots).sum();
        Ok(limited.into_iter().map(|run| (run.clone(), slots_of(&run))).collect())
    }

    async fn see(&self, node: &NodeRow, draining: bool) -> Result<(), StoreError> {
        let now = self.now();
        if now.since(node.last_seen) < SEEN_INTERVAL && !node.has_left && (!draining || node.is_draining) {
            return Ok(());
        }
        let seen = NodeRow { last_seen: now, has_left: false, ..node.clone() };
        self.commit(vec![Write::PutNode(seen)]).await
    }

    /// A node says goodbye: what it holds is pending again at once.
    pub(crate) async fn leave(&self, id: &NodeId, identity: Option<&IdentityId>) -> Result<(), SyncError> {
        let node = self.store.node(id).await?;
        if node.as_ref().is_some_and(|node| node.identity.as_ref() != identity) {
            return Err(SyncError::OtherNode(id.clone()));
        }
        for unit in self.store.leased_units(id, LEASES_MAX).await? {
            if let Some(lease) = unit.state.lease() {
                let token = lease.token.clone();
                self.change_unit(&unit.run, unit.number, |_| Some(UnitEvent::GivenBack { token: token.clone() }))
                    .await?;
            }
        }
        if let Some(node) = node {
            let left = NodeRow { has_left: true, last_seen: self.now(), ..node };
            self.commit(vec![Write::PutNode(left)]).await?;
        }
        self.ring();
        self.tell_nodes();
        Ok(())
    }

    /// Applies an event to a unit, again when another writer was faster. `Ok(false)`: the state refused it.
    pub(crate) async fn change_unit(
        &self,
        run: &RunId,
        number: UnitNumber,
        event: impl Fn(&UnitRow) -> Option<UnitEvent> + Send,
    ) -> Result<bool, StoreError> {
        for _ in 0..CONFLICTS_MAX {
            let Some(mut unit) = self.store.unit(run, number).await? else { return Ok(false) };
            let Some(event) = event(&unit) else { return Ok(false) };
            let from = unit.state.name();
            let failure = match &event {
                UnitEvent::AttemptFailed { failure, .. } => Some(failure.clone()),
                UnitEvent::Expired(_) => Some(Failure::lease_expired()),
                _ => None,
            };
            match unit.state.clone().apply(event) {
                Ok(state) => unit.state = state,
                Err(refused) => {
                    tracing::debug!(%run, unit = %number, "{refused}");
                    return Ok(false);
                }
            }
            unit.last_failure = failure.clone().or(unit.last_failure);
            let (to, attempt, node) = (unit.state.name(), unit.attempts, unit.node_name.clone());
            match self.commit(vec![Write::UpdateUnit(Box::new(unit))]).await {
                Ok(()) => {
                    if let Some(Failure { code, message, .. }) = &failure {
                        self.meters.attempt_failed(*code);
                        tracing::warn!(%run, unit = %number, attempt, node, %code, "attempt failed: {message}");
                    }
                    if from != to {
                        tracing::info!(%run, unit = %number, attempt, node, from, to, "unit changes");
                        self.forget_progress(run, number);
                        self.ring();
                        if from == "Leased" || to == "Pending" {
                            // To be had again, or its slot is.
                            self.offer();
                        }
                    }
                    return Ok(true);
                }
                Err(StoreError::Conflict) => {}
                Err(e) => return Err(e),
            }
        }
        Err(StoreError::Conflict)
    }

    /// How far the attempt at a unit was known to be, which is of no use any more.
    pub(crate) fn forget_progress(&self, run: &RunId, number: UnitNumber) -> Option<Counters> {
        self.live().get_mut(run).and_then(|live| live.progress.remove(&number))
    }

    /// Renews what a node holds; `leased` is what it has leases of. Returns what it holds no more. Written only when a third
    /// of a lease has passed: most renewals cost nothing. A page of source files is renewed for a limited time.
    async fn renew(
        &self,
        leased: &[UnitRow],
        renewals: &[(AttemptKey, Counters)],
    ) -> Result<Vec<AttemptKey>, StoreError> {
        let (mut stops, mut runs) = (Vec::new(), HashMap::new());
        for (key, progress) in renewals {
            if !runs.contains_key(&key.run) {
                runs.insert(&key.run, self.store.run(&key.run).await?.filter(wants_attempts));
            }
            let unit = leased.iter().find(|u| u.state.lease().is_some_and(|l| l.token == key.token));
            let Some((run, lease)) = runs[&key.run].as_ref().zip(unit.and_then(|u| u.state.lease())) else {
                stops.push(key.clone());
                continue;
            };
            let known = self.live().entry(key.run.clone()).or_default().progress.insert(key.unit, *progress);
            self.meters.progress(known, *progress);
            if run.state == RunState::Clearing && !self.may_go_on(run, &key.token) {
                // Not stopped, either: until its lease ends it may still say what it did.
                continue;
            }
            // A lease that ends later than it can was renewed by another coordinator, whose clock is ahead of this one.
            let (ttl, left) = (self.limits.lease_ttl, lease.expires.since(self.now()));
            if left > ttl.mul_f64(2.0 / 3.0) && left <= ttl {
                continue;
            }
            let expires = self.now().plus(ttl);
            let renewed = |_: &_| Some(UnitEvent::Renewed { token: key.token.clone(), expires });
            if !self.change_unit(&key.run, key.unit, renewed).await? {
                stops.push(key.clone());
            }
        }
        Ok(stops)
    }
}
