//! News as streams of server-sent events.

use super::{
    Problem, bad_request,
    news::{Listening, News, Newsroom},
    not_found,
    sign_in::Caller,
};
use crate::{
    core::Core,
    door::{Door, Refusal},
    report,
};
use axum::{
    Extension,
    extract::{Path, State},
    http::StatusCode,
    response::sse::{Event, KeepAlive, Sse},
};
use ferry_common::id::RunId;
use futures::{Stream, stream};
use std::{collections::VecDeque, convert::Infallible, sync::Arc, time::Duration};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// A comment tells that the stream lives.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// How often it is asked again whether the listener's token is good still.
const TOKEN_INTERVAL: Duration = Duration::from_secs(30);
/// How soon a browser comes again when a stream ends.
const COME_AGAIN: Duration = Duration::from_secs(2);

/// What these handlers work on.
#[derive(Clone)]
pub(super) struct Streams {
    pub(super) core: Arc<Core>,
    pub(super) door: Option<Arc<Door>>,
    pub(super) newsroom: Arc<Newsroom>,
    pub(super) shutdown: CancellationToken,
}

/// What a stream tells of.
enum Subject {
    /// All runs and nodes.
    Everything,
    /// One run, to its end.
    Run(RunId),
}

/// Somebody who listens.
struct Listener {
    streams: Streams,
    listening: Listening,
    subject: Subject,
    caller: Caller,
    token_checked: Instant,
    /// The last look that was told.
    told: u64,
    /// Told next.
    waiting: VecDeque<Event>,
    is_over: bool,
}

impl Streams {
    fn open(
        self,
        subject: Subject,
        caller: Caller,
    ) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Problem> {
        let listening = self.newsroom.listen().ok_or_else(|| Problem {
            status: StatusCode::SERVICE_UNAVAILABLE,
            code: "TooManyListeners",
            detail: "too many streams are open; ask /api/v1/runs every few seconds instead, or try again later"
                .to_owned(),
        })?;
        let listener = Listener {
            streams: self,
            listening,
            subject,
            caller,
            token_checked: Instant::now(),
            told: 0,
            waiting: VecDeque::new(),
            is_over: false,
        };
        let events = stream::unfold(listener, |mut listener| async move {
            listener.next().await.map(|event| (Ok::<_, Infallible>(event), listener))
        });
        Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(HEARTBEAT)))
    }
}

impl Listener {
    /// The next event; `None`: there will be no more.
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.waiting.pop_front() {
                return Some(event);
            }
            if self.is_over {
                return None;
            }
            let news = self.listening.news.borrow_and_update().clone();
            if let Some(news) = news.filter(|news| news.look > self.told) {
                self.hear(&news).await;
                self.told = news.look;
                continue;
            }
            tokio::select! {
                changed = self.listening.news.changed() => changed.ok()?,
                () = self.streams.shutdown.cancelled() => return None,
                () = tokio::time::sleep_until(self.token_checked + TOKEN_INTERVAL) => {
                    if !self.may_listen().await {
                        return None;
                    }
                    self.token_checked = Instant::now();
                }
            }
        }
    }

    /// The token may have ended or been revoked. A store that fails for a moment ends no stream.
    async fn may_listen(&self) -> bool {
        let (Some(door), Some(token)) = (&self.streams.door, &self.caller.token) else { return true };
        let known = door.bearer(token.expose(), self.streams.core.now()).await;
        !matches!(known, Ok(Err(Refusal::Token(_) | Refusal::NoRole(_))))
    }

    async fn hear(&mut self, news: &News) {
        match &self.subject {
            Subject::Everything => self.waiting.extend(of_everything(news, self.told)),
            Subject::Run(id) => {
                let (event, is_final) = match news.run(id) {
                    Some(run) if run.item.changed > self.told => (Some(event("run", &run.item.json)), run.is_final),
                    Some(_) => (None, false),
                    None => self.of_one(id).await,
                };
                self.waiting.extend(event);
                self.is_over = is_final;
            }
        }
    }

    /// A run that the looks of all do not take up: one that ended long ago, or one of very many that wait.
    async fn of_one(&self, id: &RunId) -> (Option<Event>, bool) {
        let core = &self.streams.core;
        match core.store.run(id).await {
            Ok(Some(row)) => match report::run_view(core, &row).await {
                Ok(view) => (Event::default().event("run").json_data(&view).ok(), view.is_final),
                Err(_) => (None, false),
            },
            // Forgotten meanwhile.
            Ok(None) => (None, true),
            // The next look tries again.
            Err(_) => (None, false),
        }
    }
}

fn event(name: &str, json: &str) -> Event {
    Event::default().event(name).data(json)
}

/// What changed since the look `told`; with 0 the present state.
fn of_everything(news: &News, told: u64) -> Vec<Event> {
    let mut events = Vec::new();
    let is_new = |changed: u64, is_recent: bool| changed > told && (told > 0 || is_recent);
    let runs: Vec<&str> =
        news.runs.iter().filter(|run| is_new(run.item.changed, run.is_recent)).map(|run| &*run.item.json).collect();
    if !runs.is_empty() || told == 0 {
        let runs = event("runs", &format!("{{\"runs\":[{}]}}", runs.join(",")));
        events.push(if told == 0 { runs.retry(COME_AGAIN) } else { runs });
    }
    if let Some(nodes) = news.nodes.as_ref().filter(|nodes| nodes.changed > told) {
        events.push(event("nodes", &nodes.json));
    }
    events
}

/// Changes of runs and nodes, as they come: events `runs` (`{runs: [...]}`, those that changed) and `nodes`
/// (`{nodes: [...]}`, all of them), each at most once a second. The first ones tell the present state: the newest 50 runs, all
/// nodes. A comment every 15 seconds tells that the stream lives.
#[utoipa::path(
    get,
    path = "/api/v1/events",
    tag = "events",
    responses((status = 200, body = String, content_type = "text/event-stream", description = "A stream without end"))
)]
pub(super) async fn all_events(
    State(streams): State<Streams>,
    Extension(caller): Extension<Caller>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Problem> {
    streams.open(Subject::Everything, caller)
}

/// Changes of one run, as they come: events `run`, each a `RunView`. The first one tells its present state; after the one that
/// tells of its end the stream ends.
#[utoipa::path(
    get,
    path = "/api/v1/runs/{run}/events",
    tag = "events",
    params(("run" = String, Path, description = "Id of the run")),
    responses((status = 200, body = String, content_type = "text/event-stream", description = "A stream to the run's end"))
)]
pub(super) async fn run_events(
    State(streams): State<Streams>,
    Path(run): Path<String>,
    Extension(caller): Extension<Caller>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Problem> {
    let id: RunId = run.parse().map_err(bad_request)?;
    if streams.core.store.run(&id).await?.is_none() {
        return Err(not_found("run", id.as_str()));
    }
    streams.open(Subject::Run(id), caller)
}

#[cfg(test)]
mod tests {
    use super::{
        super::news::{Item, RunItem},
        *,
    };

    fn news(look: u64, runs: &[(&str, bool, u64)]) -> News {
        let mut news = News { look, ..News::default() };
        for (id, is_recent, changed) in runs {
            let item = Item { changed: *changed, json: format!("\"{id}\"").into() };
            news.runs.push(RunItem { id: id.parse().unwrap(), is_recent: *is_recent, is_final: false, item });
        }
        news
    }

    #[test]
    fn the_first_message_has_the_newest_and_later_ones_what_changed() {
        let told = |news: &News, told| of_everything(news, told).iter().map(|e| format!("{e:?}")).collect::<String>();
        let first = news(3, &[("a", true, 1), ("b", true, 3), ("old", false, 2)]);
        let text = told(&first, 0);
        assert!(text.contains("a") && text.contains("b") && !text.contains("old"), "{text}");
        let text = told(&first, 2);
        assert!(text.contains("\\\"b\\\"") && !text.contains("\\\"a\\\""), "{text}");
        assert!(told(&first, 3).is_empty(), "nothing changed");
        assert!(told(&news(4, &[("old", false, 4)]), 3).contains("old"), "a run that is not new has ended, perhaps");
        assert_eq!(of_everything(&news(1, &[]), 0).len(), 1, "an empty list is a state, too");
    }
}
