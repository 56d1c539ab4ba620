//! What the data management service lends: queues and tables, each by a signed address.

use super::{field, text_of};
use crate::KustoError;
use serde_json::Value;
use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::time::Instant;

/// How long what was lent counts as fresh. Source: Microsoft's client libraries.
const FRESH: Duration = Duration::from_secs(3600);
/// How long it may serve when the service does not answer.
const SERVES: Duration = Duration::from_secs(3 * 3600);
const ASK_AGAIN: Duration = Duration::from_secs(60);
/// An account that failed comes last for so long.
const AVOIDED: Duration = Duration::from_secs(60);

/// How old what the service lends is: whether it serves as it is, and when to ask for it again.
#[derive(Debug, Clone, Copy)]
pub struct Freshness {
    asked: Instant,
    ask_at: Instant,
}

impl Freshness {
    /// Of what was asked for just now.
    pub fn begin(now: Instant) -> Self {
        Self { asked: now, ask_at: now + FRESH }
    }

    /// There is no need to ask.
    pub fn is_fresh(&self, now: Instant) -> bool {
        now < self.ask_at
    }

    /// It may be used while the service does not answer.
    pub fn may_serve(&self, now: Instant) -> bool {
        now.duration_since(self.asked) < SERVES
    }

    /// It counts as fresh for a short while more.
    pub fn ask_again_soon(&mut self, now: Instant) {
        self.ask_at = now + ASK_AGAIN;
    }

    /// It was asked for so lately that asking again would show the same.
    pub fn is_new(&self, now: Instant) -> bool {
        now.duration_since(self.asked) < ASK_AGAIN
    }
}

/// A queue, a table or a container.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// Its address, without the signature.
    pub(super) name: String,
    signature: String,
}

impl Place {
    pub(super) fn parse(root: &str) -> Option<Self> {
        let (name, signature) = root.split_once('?')?;
        Some(Self { name: name.trim_end_matches('/').to_owned(), signature: signature.to_owned() })
    }

    pub(super) fn signed_url(&self) -> String {
        format!("{}?{}", self.name, self.signature)
    }

    pub(super) fn signature(&self) -> &str {
        &self.signature
    }

    /// The address of something below it, signed.
    pub(super) fn signed_below(&self, suffix: &str) -> String {
        format!("{}{suffix}?{}", self.name, self.signature)
    }

    /// Its account: what fails together.
    fn account(&self) -> &str {
        self.name.rsplit_once('/').map_or(&self.name, |(account, _)| account)
    }
}

/// The cluster's configuration asks for the REST form rather than for messages in queues.
pub(super) fn prefers_rest(configuration: &Value) -> bool {
    let preferred = field(configuration, "ingestionSettings").map(|s| text_of(s, "preferredIngestionMethod"));
    preferred.is_some_and(|way| matches!(way.to_ascii_lowercase().as_str(), "rest" | "v2"))
}

#[derive(Clone)]
enum Way {
    Rest,
    Messages { queues: Vec<Place>, tables: Vec<Place>, token: String },
}

/// Everything that is lent, and how it has served.
#[derive(Clone)]
pub(super) struct Resources {
    way: Way,
    age: Freshness,
    turn: Arc<AtomicUsize>,
    failed: Arc<Mutex<HashMap<String, Instant>>>,
}

impl Resources {
    pub(super) fn rest(now: Instant) -> Self {
        Self::new(Way::Rest, now)
    }

    pub(super) fn queues(queues: Vec<Place>, tables: Vec<Place>, token: String, now: Instant) -> Self {
        Self::new(Way::Messages { queues, tables, token }, now)
    }

    fn new(way: Way, now: Instant) -> Self {
        // Coordinators that start together do not all begin with the same queue.
        let turn = uuid::Uuid::new_v4().as_fields().0 as usize;
        Self { way, age: Freshness::begin(now), turn: Arc::new(turn.into()), failed: Arc::default() }
    }

    pub(super) fn is_fresh(&self, now: Instant) -> bool {
        self.age.is_fresh(now)
    }

    pub(super) fn may_serve(&self, now: Instant) -> bool {
        self.age.may_serve(now)
    }

    pub(super) fn ask_again_soon(&mut self, now: Instant) {
        self.age.ask_again_soon(now);
    }

    /// What messages must carry; `None` where there are no queues.
    pub(super) fn identity_token(&self) -> Option<&str> {
        match &self.way {
            Way::Rest => None,
            Way::Messages { token, .. } => Some(token),
        }
    }

    pub(super) fn queues_to_try(&self, max: usize) -> Vec<Place> {
        match &self.way {
            Way::Rest => Vec::new(),
            Way::Messages { queues, .. } => self.in_turn(queues, max),
        }
    }

    pub(super) fn tables(&self, max: usize) -> Vec<Place> {
        self.in_turn(self.all_tables(), max)
    }

    pub(super) fn all_tables(&self) -> &[Place] {
        match &self.way {
            Way::Rest => &[],
            Way::Messages { tables, .. } => tables,
        }
    }

    pub(super) fn table_named(&self, name: &str) -> Option<Place> {
        self.all_tables().iter().find(|table| table.name == name).cloned()
    }

    /// One after the other, those of accounts that failed of late last.
    fn in_turn(&self, places: &[Place], max: usize) -> Vec<Place> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let mut order: Vec<Place> = places.to_vec();
        if !order.is_empty() {
            order.rotate_left(turn % places.len());
        }
        let failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        order.sort_by_key(|place| failed.get(place.account()).is_some_and(|at| at.elapsed() < AVOIDED));
        order.truncate(max);
        order
    }

    pub(super) fn note_failure(&self, place: &Place, error: &KustoError) {
        tracing::warn!("queued ingestion: {error}");
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        failed.insert(place.account().to_owned(), Instant::now());
    }

    pub(super) fn none_left(&self, endpoint: &str) -> KustoError {
        KustoError::Unreachable { endpoint: endpoint.to_owned(), why: "it lends nothing to write to".to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[tokio::test]
    async fn places_take_turns_and_a_failed_account_comes_last() {
        let place = |account: &str, name: &str| Place::parse(&format!("https://{account}/{name}?sig=s")).unwrap();
        let all = vec![place("a", "1"), place("a", "2"), place("b", "1")];
        let resources = Resources::queues(all.clone(), all.clone(), "t".to_owned(), Instant::now());
        let firsts: std::collections::HashSet<_> = (0..3).map(|_| resources.queues_to_try(3)[0].name.clone()).collect();
        assert_eq!(firsts.len(), 3, "{firsts:?}");
        resources.note_failure(&all[0], &resources.none_left("x"));
        for _ in 0..3 {
            let order = resources.queues_to_try(3);
            assert_eq!(order[0].name, "https://b/1");
            assert_eq!(order.len(), 3, "what failed is still better than nothing");
        }
    }

    #[test]
    fn the_rest_form_is_used_where_the_cluster_prefers_it() {
        for (preferred, is_used) in [("REST", true), ("Rest", true), ("V2", true), ("V1", false), ("", false)] {
            let configuration = json!({"IngestionSettings": {"preferredIngestionMethod": preferred}});
            assert_eq!(prefers_rest(&configuration), is_used, "{preferred}");
        }
        assert!(!prefers_rest(&json!({})));
    }
}
