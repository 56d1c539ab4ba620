//! What runs and nodes look like now, looked at once a second for all who listen, and not at all while nobody does. The store is
//! asked, so that changes by other coordinators are seen, too.

use super::NODES_SEEN_WITHIN;
use crate::{core::Core, report, store::StoreError};
use ferry_common::id::RunId;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

/// Who may listen at once.
const LISTENERS_MAX: usize = 200;
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// Runs that a first message shows: the newest ones.
pub(super) const RUNS_SHOWN: u32 = 50;
/// Other runs that are looked at: those that have not ended, the oldest first. Who follows one beyond asks for it alone.
const RUNS_LIVE_MAX: usize = 200;
/// Nodes that are told of in a second: a thousand of them are looked at every five seconds.
const NODES_PER_SECOND: usize = 200;

/// Something that is told again when it changed.
#[derive(Debug, Clone)]
pub(super) struct Item {
    /// Number of the look that saw it change last.
    pub(super) changed: u64,
    /// As JSON.
    pub(super) json: Arc<str>,
}

impl Item {
    fn new(look: u64, json: String, before: Option<&Item>) -> Self {
        match before {
            Some(before) if *before.json == json => before.clone(),
            _ => Self { changed: look, json: json.into() },
        }
    }
}

/// A run as it is told.
#[derive(Debug, Clone)]
pub(super) struct RunItem {
    pub(super) id: RunId,
    /// One of the newest.
    pub(super) is_recent: bool,
    pub(super) is_final: bool,
    pub(super) item: Item,
}

/// What one look saw.
#[derive(Debug, Default)]
pub(super) struct News {
    /// Its number, from 1.
    pub(super) look: u64,
    /// The newest first.
    pub(super) runs: Vec<RunItem>,
    pub(super) nodes: Option<Item>,
    /// When nodes were looked at, how many there were, and what they looked like but for the time when they were heard.
    pub(super) nodes_seen: Option<NodesSeen>,
}

pub(super) type NodesSeen = (Instant, usize, String);

impl News {
    pub(super) fn run(&self, id: &RunId) -> Option<&RunItem> {
        self.runs.iter().find(|run| run.id == *id)
    }
}

/// Where news are told.
pub(super) struct Newsroom {
    core: Arc<Core>,
    shutdown: CancellationToken,
    /// `None`: nobody has looked since somebody began to listen.
    news: watch::Sender<Option<Arc<News>>>,
    /// Somebody looks.
    is_looking: Mutex<bool>,
    room: Arc<Semaphore>,
}

/// The right to listen, and what is heard.
pub(super) struct Listening {
    pub(super) news: watch::Receiver<Option<Arc<News>>>,
    _place: OwnedSemaphorePermit,
}

impl Newsroom {
    pub(super) fn new(core: Arc<Core>, shutdown: CancellationToken) -> Self {
        let room = Arc::new(Semaphore::new(LISTENERS_MAX));
        Self { core, shutdown, news: watch::Sender::new(None), is_looking: Mutex::new(false), room }
    }

    /// Begins to listen. `None`: too many do.
    pub(super) fn listen(self: &Arc<Self>) -> Option<Listening> {
        let place = self.room.clone().try_acquire_owned().ok()?;
        // Before it is asked whether somebody looks: whoever stops looking counts the listeners.
        let news = self.news.subscribe();
        let mut is_looking = self.is_looking.lock().unwrap_or_else(PoisonError::into_inner);
        if !*is_looking {
            *is_looking = true;
            tokio::spawn(self.clone().look_on());
        }
        Some(Listening { news, _place: place })
    }

    async fn look_on(self: Arc<Self>) {
        let mut last = Arc::new(News::default());
        loop {
            match self.look(&last).await {
                Ok(seen) => {
                    last = Arc::new(seen);
                    self.news.send_replace(Some(last.clone()));
                }
                Err(e) => tracing::warn!("no news of runs: {e}"),
            }
            tokio::select! {
                () = tokio::time::sleep(LOOK_INTERVAL) => {}
                () = self.shutdown.cancelled() => return,
            }
            let mut is_looking = self.is_looking.lock().unwrap_or_else(PoisonError::into_inner);
            if self.news.receiver_count() == 0 {
                *is_looking = false;
                // Old news are no news.
                self.news.send_replace(None);
                return;
            }
        }
    }

    async fn look(&self, last: &News) -> Result<News, StoreError> {
        let look = last.look + 1;
        let mut rows = self.core.store.recent_runs(RUNS_SHOWN).await?;
        let recent = rows.len();
        let mut live = self.core.store.live_runs().await?;
        live.retain(|run| rows.iter().all(|known| known.id != run.id));
        live.truncate(RUNS_LIVE_MAX);
        rows.extend(live);
        let before: HashMap<&RunId, &Item> = last.runs.iter().map(|run| (&run.id, &run.item)).collect();
        let mut runs = Vec::with_capacity(rows.len());
        for (at, row) in rows.into_iter().enumerate() {
            let view = report::run_view(&self.core, &row).await?;
            let item = Item::new(look, json_of(&view)?, before.get(&row.id).copied());
            runs.push(RunItem { is_recent: at < recent, is_final: row.state.is_final(), item, id: row.id });
        }
        let (nodes, nodes_seen) = self.look_at_nodes(look, last).await?;
        Ok(News { look, runs, nodes, nodes_seen })
    }

    async fn look_at_nodes(&self, look: u64, last: &News) -> Result<(Option<Item>, Option<NodesSeen>), StoreError> {
        if let Some((at, count, _)) = &last.nodes_seen
            && at.elapsed() < LOOK_INTERVAL * u32::try_from(count / NODES_PER_SECOND).unwrap_or(u32::MAX)
        {
            return Ok((last.nodes.clone(), last.nodes_seen.clone()));
        }
        let views = report::node_views(&self.core, self.core.nodes_seen(NODES_SEEN_WITHIN).await?).await?;
        let count = views.len();
        let full = format!("{{\"nodes\":{}}}", json_of(&views)?);
        // That a node was heard once more is no news.
        let essence: Vec<_> = views.iter().map(|n| (&n.node_id, n.state, n.slots, n.slots_busy, &n.version)).collect();
        let essence = json_of(&essence)?;
        let is_same = last.nodes_seen.as_ref().is_some_and(|(_, _, before)| *before == essence);
        let nodes = match &last.nodes {
            Some(before) if is_same => Item { changed: before.changed, json: full.into() },
            _ => Item { changed: look, json: full.into() },
        };
        Ok((Some(nodes), Some((Instant::now(), count, essence))))
    }
}

fn json_of<T: serde::Serialize>(value: &T) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|e| StoreError::Unreadable { table: "runs", why: e.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_looks_the_same_has_not_changed() {
        let first = Item::new(1, "a".to_owned(), None);
        let same = Item::new(2, "a".to_owned(), Some(&first));
        assert_eq!((same.changed, &*same.json), (1, "a"));
        let other = Item::new(3, "b".to_owned(), Some(&same));
        assert_eq!((other.changed, &*other.json), (3, "b"));
    }
}
