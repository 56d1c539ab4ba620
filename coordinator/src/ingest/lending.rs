//! Containers that clusters lend for staging. What a cluster has told serves all runs for an hour, and longer while it is
//! silent; nodes wait behind it, so nobody waits for long.

use super::judged;
use ferry_common::{
    activity::Sink,
    failure::{Code, Failure, Fault, Retry},
};
use ferry_kusto::{
    Client,
    queued::{Freshness, LentContainer, lent_containers},
};
use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::time::Instant;

/// How long whoever needs a container waits for an answer. The question goes on; the next one who asks finds what it got.
const PATIENCE: Duration = Duration::from_secs(10);
/// Whoever asks within this time of a failure hears of it, and does not ask again.
const FAILURE_AGE_MAX: Duration = Duration::from_secs(5);
/// Clusters that are remembered.
const PLACES_MAX: usize = 1_000;

/// What all clusters have lent.
#[derive(Default)]
pub(super) struct Lending(Mutex<HashMap<(String, String), Arc<Place>>>);

/// One cluster, as one sign-in sees it.
#[derive(Default)]
struct Place {
    known: Mutex<Option<Known>>,
    /// Whoever asks holds it. It keeps why the last question failed, and when that was.
    asking: tokio::sync::Mutex<Option<(Failure, Instant)>>,
    turn: AtomicUsize,
}

#[derive(Clone)]
struct Known {
    containers: Arc<[LentContainer]>,
    age: Freshness,
}

impl Lending {
    /// A container that the cluster of a sink lends: the one at `address`, or any. `client` makes a client of the cluster.
    pub(super) async fn lend(
        &self,
        sink: &Sink,
        address: Option<&str>,
        client: impl Fn() -> Result<Client, Failure>,
    ) -> Result<LentContainer, Failure> {
        let (place, now) = (self.place_of(sink)?, Instant::now());
        if let Some(known) = place.known().filter(|known| known.age.may_serve(now)) {
            if place.is_to_be_asked(now)
                && let Ok(client) = client()
            {
                // What is known serves meanwhile.
                tokio::spawn(place.clone().ask(client));
            }
            if let Some(container) = place.pick(&known, address) {
                return Ok(container);
            }
            if known.age.is_new(now) {
                return Err(not_lent(sink, address));
            }
        }
        let asked = tokio::spawn(place.clone().ask(client()?));
        match tokio::time::timeout(PATIENCE, asked).await {
            Ok(Ok(known)) => place.pick(&known?, address).ok_or_else(|| not_lent(sink, address)),
            Ok(Err(e)) => Err(Failure::internal(e.to_string())),
            Err(_) => {
                let message = format!("{} has not said within {PATIENCE:?} which containers it lends", sink.endpoint);
                Err(Failure::new(Code::SinkFailed, Fault::Sink, Retry::Backoff, message))
            }
        }
    }

    fn place_of(&self, sink: &Sink) -> Result<Arc<Place>, Failure> {
        // Names of secrets, not secrets.
        let who = serde_json::to_string(&sink.auth).map_err(|e| Failure::internal(e.to_string()))?;
        let mut places = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if places.len() >= PLACES_MAX {
            places.clear();
        }
        Ok(places.entry((sink.endpoint.clone(), who)).or_default().clone())
    }
}

impl Place {
    fn known(&self) -> Option<Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What is known is not fresh. True once for a while: one asks for all.
    fn is_to_be_asked(&self, now: Instant) -> bool {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        match known.as_mut().filter(|known| !known.age.is_fresh(now)) {
            Some(known) => {
                known.age.ask_again_soon(now);
                true
            }
            None => false,
        }
    }

    /// The container at an address, or one after the other.
    fn pick(&self, known: &Known, address: Option<&str>) -> Option<LentContainer> {
        let containers = &known.containers;
        match address {
            Some(address) => containers.iter().find(|container| container.address() == address).cloned(),
            None if containers.is_empty() => None,
            None => containers.get(self.turn.fetch_add(1, Ordering::Relaxed) % containers.len()).cloned(),
        }
    }

    /// One asks, the others wait for what it gets.
    async fn ask(self: Arc<Self>, client: Client) -> Result<Known, Failure> {
        let began = Instant::now();
        let mut failed = self.asking.lock().await;
        if let Some(known) = self.known().filter(|known| known.age.is_new(began)) {
            return Ok(known);
        }
        if let Some((failure, at)) = &*failed
            && at.elapsed() < FAILURE_AGE_MAX
        {
            return Err(failure.clone());
        }
        match lent_containers(&client).await {
            Ok(containers) => {
                *failed = None;
                let known = Known { containers: containers.into(), age: Freshness::begin(Instant::now()) };
                *self.known.lock().unwrap_or_else(PoisonError::into_inner) = Some(known.clone());
                Ok(known)
            }
            Err(error) => {
                let failure = judged(&error);
                let hint = match error.service() {
                    Some(e) if e.is_forbidden() => "; that needs the role Table Ingestor on a table of the cluster",
                    _ => "",
                };
                let message = format!("asking for containers to stage in: {}{hint}", failure.message);
                tracing::warn!(code = %failure.code, "{message}");
                let failure = Failure { message, ..failure };
                *failed = Some((failure.clone(), Instant::now()));
                Err(failure)
            }
        }
    }
}

fn not_lent(sink: &Sink, address: Option<&str>) -> Failure {
    let message = match address {
        Some(address) => format!(
            "{} does not lend {address} any more, where the run has staged; submit it again under another id",
            sink.endpoint
        ),
        None => format!(
            "{} lends no containers to stage in; name one of your own: staging of type AzureBlob",
            sink.endpoint
        ),
    };
    Failure::new(Code::StagingMissing, Fault::Sink, Retry::Never, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(names: &[&str], age: Freshness) -> Known {
        let container = |name: &&str| LentContainer::parse(&format!("https://a.example/{name}?sig=s")).unwrap();
        Known { containers: names.iter().map(container).collect(), age }
    }

    #[tokio::test(start_paused = true)]
    async fn a_run_keeps_its_container_and_new_runs_take_turns() {
        let place = Place::default();
        let all = known(&["one", "two"], Freshness::begin(Instant::now()));
        let at = |address| place.pick(&all, address).map(|container| container.address().to_owned());
        assert_eq!(at(Some("https://a.example/two")).as_deref(), Some("https://a.example/two"));
        assert_eq!(at(Some("https://a.example/three")), None);
        assert_ne!(at(None), at(None));
        assert_eq!(place.pick(&known(&[], all.age), None), None);
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_told_an_hour_ago_serves_while_one_asks() {
        let place = Place::default();
        *place.known.lock().unwrap() = Some(known(&["one"], Freshness::begin(Instant::now())));
        assert!(!place.is_to_be_asked(Instant::now()));
        tokio::time::advance(Duration::from_secs(3_601)).await;
        let now = Instant::now();
        assert!(place.is_to_be_asked(now) && !place.is_to_be_asked(now), "one asks");
        assert!(place.known().unwrap().age.may_serve(now));
        tokio::time::advance(Duration::from_secs(2 * 3_600)).await;
        assert!(!place.known().unwrap().age.may_serve(Instant::now()), "its signatures may have ended");
    }
}
