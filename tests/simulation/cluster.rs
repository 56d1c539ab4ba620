//! A cluster as far as ferry can see it: tables, extents, operations and journals, and all that can go wrong between a
//! command and its answer. It reads the real staged blobs.

use crate::{chance::Chance, storage::SlowStorage};
use async_trait::async_trait;
use ferry_common::{
    activity::{Activity, Ingestion},
    clock::Clock,
    failure::Failure,
    storage::StagingStorage,
};
use ferry_coordinator::rehearsal::Sinks;
use ferry_kusto::{
    Column, Engine, KustoError, Reply, RequestId, ServiceError, Table,
    commands::{Command, Ingest, IngestSource},
    queued::{BlobState, BlobStatus, Queued, Ticket},
};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    io::Read as _,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

/// Shares of requests that go wrong.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Faults {
    /// The request never arrives, and the client sees so.
    pub(crate) unreachable: f64,
    /// The request does not arrive, and the client cannot know.
    pub(crate) lost_before: f64,
    /// The request is carried out, at once or late, and its answer is lost.
    pub(crate) lost_after: f64,
    /// The same, of ingest commands.
    pub(crate) lost_ingest: f64,
    /// The service is busy.
    pub(crate) throttled: f64,
    /// The service fails without an effect.
    pub(crate) failed: f64,
    /// An operation ends in another way than well.
    pub(crate) operation: f64,
}

impl Faults {
    pub(crate) const NONE: Self = Self {
        unreachable: 0.0,
        lost_before: 0.0,
        lost_after: 0.0,
        lost_ingest: 0.0,
        throttled: 0.0,
        failed: 0.0,
        operation: 0.0,
    };
}

/// Share of finished operations that the cluster does not list any more.
const FORGOTTEN: f64 = 0.05;
/// How long a request may be on its way after its client has given up. Below the coordinator's `settle_after`.
const LATE_MAX_MS: u64 = 60_000;

#[derive(Debug, Clone)]
struct Extent {
    id: String,
    tags: Vec<String>,
    rows: Vec<String>,
}

#[derive(Debug, Clone)]
struct Operation {
    id: String,
    root: String,
    state: &'static str,
    started: String,
    should_retry: bool,
    code: &'static str,
}

#[derive(Debug, Default)]
struct State {
    tables: BTreeMap<String, (String, Vec<Extent>)>,
    operations: Vec<Operation>,
    /// Request id and root of commands that were taken.
    commands: Vec<(String, String)>,
    /// Request id and rows of what was written.
    written: Vec<(String, u64)>,
    count: u64,
    /// Blobs that were handed over, by source id.
    queued: BTreeMap<String, BlobStatus>,
    /// Staging cannot be reached.
    is_storage_away: bool,
    /// What happened, for whoever looks at a failing seed.
    log: Vec<String>,
}

/// The cluster.
#[derive(Clone)]
pub(crate) struct Cluster {
    state: Arc<Mutex<State>>,
    faults: Arc<Mutex<Faults>>,
    chance: Chance,
    clock: Arc<dyn Clock>,
    /// Decides what only a whole world has.
    more: Option<Chance>,
    storage: SlowStorage,
    /// Sabotage: no tag is ever found.
    is_blind_to_tags: bool,
    /// Sabotage: whoever sends the next command panics. And: somebody did.
    panics_next: Arc<AtomicBool>,
    has_panicked: Arc<AtomicBool>,
}

/// The text between two others, after the first of which nothing counts that came before.
fn between<'a>(text: &'a str, begin: &str, end: &str) -> Option<&'a str> {
    let from = text.find(begin)? + begin.len();
    let rest = &text[from..];
    Some(&rest[..rest.find(end)?])
}

fn reply(columns: &[&str], rows: Vec<Vec<Value>>) -> Reply {
    let column = |name: &&str| Column { name: (*name).to_owned(), kind: "string".to_owned() };
    let columns = columns.iter().map(column).collect();
    Reply { table: Table { columns, rows }, activity_id: String::new() }
}

fn service(status: u16, code: &str, permanent: bool) -> KustoError {
    KustoError::Service(ServiceError {
        status,
        code: code.to_owned(),
        exception: String::new(),
        message: format!("simulated {code}"),
        permanent,
        activity_id: String::new(),
        retry_after: None,
    })
}

fn lost() -> KustoError {
    KustoError::Lost { endpoint: "simulated".to_owned(), why: "the answer was lost".to_owned() }
}

impl Cluster {
    pub(crate) fn new(
        chance: Chance,
        more: Option<Chance>,
        storage: SlowStorage,
        clock: Arc<dyn Clock>,
        faults: Faults,
        is_blind_to_tags: bool,
    ) -> Self {
        let (state, faults) = (Arc::default(), Arc::new(Mutex::new(faults)));
        let (panics_next, has_panicked) = (Arc::default(), Arc::default());
        Self { state, faults, chance, clock, more, storage, is_blind_to_tags, panics_next, has_panicked }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn faults(&self) -> Faults {
        *self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on nothing goes wrong any more.
    pub(crate) fn heal(&self) {
        *self.faults.lock().unwrap_or_else(PoisonError::into_inner) = Faults::NONE;
    }

    /// Whoever sends the next command panics.
    pub(crate) fn panic_next(&self) {
        self.panics_next.store(true, Ordering::Relaxed);
    }

    /// Somebody has.
    pub(crate) fn has_panicked(&self) -> bool {
        self.has_panicked.load(Ordering::Relaxed)
    }

    /// Staging can be reached no more, or again.
    pub(crate) fn lose_storage(&self, is_away: bool) {
        self.lock().is_storage_away = is_away;
    }

    /// Makes a table that has rows already.
    pub(crate) fn create(&self, table: &str, schema: &str, rows: Vec<String>) {
        let mut state = self.lock();
        let extents =
            if rows.is_empty() { Vec::new() } else { vec![Extent { id: "first".into(), tags: vec![], rows }] };
        state.tables.insert(table.to_owned(), (schema.to_owned(), extents));
    }

    /// All rows of a table, sorted.
    pub(crate) fn rows(&self, table: &str) -> Vec<String> {
        let state = self.lock();
        let extents = state.tables.get(table).map(|t| t.1.as_slice()).unwrap_or_default();
        let mut rows: Vec<String> = extents.iter().flat_map(|e| e.rows.iter().cloned()).collect();
        rows.sort();
        rows
    }

    /// Names of all tables.
    pub(crate) fn tables(&self) -> Vec<String> {
        self.lock().tables.keys().cloned().collect()
    }

    /// Tags that more than one extent carries.
    pub(crate) fn doubled_tags(&self) -> Vec<String> {
        let state = self.lock();
        let mut seen = BTreeMap::<&String, u32>::new();
        for extent in state.tables.values().flat_map(|t| &t.1) {
            extent.tags.iter().for_each(|tag| *seen.entry(tag).or_default() += 1);
        }
        seen.into_iter().filter(|(_, count)| *count > 1).map(|(tag, _)| tag.clone()).collect()
    }

    /// What happened.
    pub(crate) fn log(&self) -> Vec<String> {
        self.lock().log.clone()
    }

    fn note(&self, what: String) {
        let at = self.clock.now();
        self.lock().log.push(format!("{at} {what}"));
    }

    fn carry_out(&self, text: &str, request: &str) -> Result<Reply, KustoError> {
        if text.starts_with(".ingest async into table") {
            return self.ingest(text, request);
        }
        let mut state = self.lock();
        let missing = || service(400, "BadRequest_TableNotExist", true);
        let named = |after: &str| between(text, &format!("{after} ['"), "']").unwrap_or_default().to_owned();
        if let Some(ids) = text.strip_prefix(".show operations (") {
            let known = state.operations.iter().filter(|o| ids.contains(&o.id));
            return Ok(operations(known));
        }
        if text.starts_with(".show operations |") {
            return Ok(operations(state.operations.iter()));
        }
        if text.starts_with(".show commands") {
            let id = between(text, "== '", "'").unwrap_or_default();
            let rows = state.commands.iter().filter(|(request, _)| request == id);
            let rows = rows.map(|(_, root)| vec![json!("Completed"), json!(root), json!("")]).collect();
            return Ok(reply(&["State", "RootActivityId", "FailureReason"], rows));
        }
        if text.starts_with(".show data operations") {
            let rows = state.written.iter().filter(|(request, _)| text.contains(request.as_str()));
            let rows = rows.map(|(request, rows)| vec![json!(request), json!(rows)]).collect();
            return Ok(reply(&["ClientActivityId", "Rows"], rows));
        }
        if text.starts_with(".show ingestion failures") {
            let id = between(text, "OperationId='", "'").unwrap_or_default();
            let known = state.operations.iter().filter(|o| o.id == id && !o.code.is_empty());
            let rows = known.map(|o| vec![json!(o.code), json!("simulated")]).collect();
            return Ok(reply(&["ErrorCode", "Details"], rows));
        }
        if text.starts_with(".show capacity") {
            return Ok(reply(&["Total"], vec![vec![json!(4)]]));
        }
        if text.starts_with(".show table") && text.ends_with("cslschema") {
            let (schema, _) = state.tables.get(&named(".show table")).ok_or_else(missing)?;
            return Ok(reply(&["Schema"], vec![vec![json!(schema)]]));
        }
        if text.starts_with(".show table") {
            let (_, extents) = state.tables.get(&named(".show table")).ok_or_else(missing)?;
            let is_part = between(text, "tags contains '", "'");
            let is_whole = between(text, "tags has '", "'");
            let is_blind = self.is_blind_to_tags && is_whole.is_some();
            let shown = extents.iter().filter(|e| {
                !is_blind
                    && is_part.is_none_or(|part| e.tags.iter().any(|t| t.contains(part)))
                    && is_whole.is_none_or(|whole| e.tags.iter().any(|t| t == whole))
            });
            if text.contains("summarize") {
                let (mut count, mut rows) = (0_u64, 0_u64);
                shown.for_each(|e| (count, rows) = (count + 1, rows + e.rows.len() as u64));
                return Ok(reply(&["Extents", "Rows"], vec![vec![json!(count), json!(rows)]]));
            }
            let rows = shown.map(|e| vec![json!(e.id), json!(e.rows.len()), json!(e.tags.join("\r\n"))]).collect();
            return Ok(reply(&["ExtentId", "RowCount", "Tags"], rows));
        }
        if text.starts_with(".create table") {
            let schema = between(text, "(", ")").unwrap_or_default().replace(['[', ']', '\'', ' '], "");
            state.tables.entry(named(".create table")).or_insert((schema, Vec::new()));
            return Ok(reply(&[], vec![]));
        }
        if text.starts_with(".alter table") {
            state.tables.get(&named(".alter table")).ok_or_else(missing)?;
            return Ok(reply(&[], vec![]));
        }
        if text.starts_with(".drop table") {
            state.tables.remove(&named(".drop table"));
            return Ok(reply(&[], vec![]));
        }
        let is_replace = text.starts_with(".replace extents in table");
        if is_replace || text.starts_with(".move extents to table") {
            let to = named(if is_replace { "in table" } else { "to table" });
            let from = text.rsplit(".show table ['").next().and_then(|t| t.split("']").next()).unwrap_or_default();
            let moved = state.tables.get(from).ok_or_else(missing)?.1.clone();
            if text.contains("where RowCount < 0") {
                return Ok(reply(&["OriginalExtentId"], vec![]));
            }
            let own = between(text, "!contains '", "'").unwrap_or_default().to_owned();
            let (_, extents) = state.tables.get_mut(&to).ok_or_else(missing)?;
            if is_replace {
                extents.retain(|e| e.tags.iter().any(|t| t.contains(&own)));
            }
            extents.extend(moved);
            if let Some((_, extents)) = state.tables.get_mut(from) {
                extents.clear();
            }
            return Ok(reply(&["OriginalExtentId"], vec![]));
        }
        panic!("the simulated cluster does not know this command: {text}");
    }

    fn has_tag(&self, table: &str, tag: &str) -> bool {
        let state = self.lock();
        let extents = state.tables.get(table).map(|t| t.1.as_slice()).unwrap_or_default();
        extents.iter().any(|e| e.tags.iter().any(|t| t == tag))
    }

    fn ingest(&self, text: &str, request: &str) -> Result<Reply, KustoError> {
        let table = between(text, "into table ['", "']").unwrap_or_default().to_owned();
        let path = between(text, "] ('", "')").unwrap_or_default().to_owned();
        let tag = between(text, "tags='[\"", "\"]'").unwrap_or_default().to_owned();
        // The tag is looked for when the operation begins: whether the service looks again at its end is not documented, so
        // two operations of one tag at one time must never be.
        let is_known = text.contains("ingestIfNotExists=") && !self.is_blind_to_tags && self.has_tag(&table, &tag);
        let started = self.clock.now().to_string();
        let operation = {
            let mut state = self.lock();
            if !state.tables.contains_key(&table) {
                return Err(service(400, "BadRequest_TableNotExist", true));
            }
            state.count += 1;
            let id = format!("00000000-0000-0000-0000-{:012}", state.count);
            let root = format!("10000000-0000-0000-0000-{:012}", state.count);
            state.commands.push((request.to_owned(), root.clone()));
            let operation =
                Operation { id: id.clone(), root, state: "InProgress", started, should_retry: false, code: "" };
            state.operations.push(operation);
            id
        };
        self.note(format!("operation {operation} begins: {tag} of {request} into {table}"));
        let (cluster, id, request) = (self.clone(), operation.clone(), request.to_owned());
        tokio::spawn(async move {
            tokio::time::sleep(cluster.chance.wait(3_000, 200_000)).await;
            if let Some(takes) = cluster.storage.read_takes() {
                tokio::time::sleep(takes).await;
            }
            cluster.end(&id, &request, &table, &path, &tag, is_known);
        });
        Ok(reply(&["OperationId"], vec![vec![json!(operation)]]))
    }

    /// Ends an operation: with its rows, or without.
    fn end(&self, id: &str, request: &str, table: &str, path: &str, tag: &str, is_known: bool) {
        let goes_wrong = self.chance.strikes(self.faults().operation);
        // With rows and a bad word for them, or without rows.
        let (state, has_rows, should_retry) = match (goes_wrong, self.chance.number(0, 3)) {
            (false, _) => ("Completed", true, false),
            (true, 0) => ("Abandoned", true, false),
            (true, 1) => ("Abandoned", false, false),
            (true, 2) => ("Throttled", false, true),
            (true, _) => ("Failed", false, true),
        };
        let rows = std::fs::File::open(path).ok().map(rows_of);
        let mut all = self.lock();
        let is_away = all.is_storage_away;
        let should_retry = should_retry || is_away;
        let (state, code) = match (&rows, all.tables.get_mut(table)) {
            (_, None) => ("Failed", "BadRequest_TableNotExist"),
            (None, _) if is_away => ("Failed", "Download_UnknownError"),
            (None, _) => ("Failed", "Download_SourceNotFound"),
            (Some(_), Some(_)) if !has_rows => {
                (state, if state == "Failed" { "General_InternalServerError" } else { "" })
            }
            (Some(_), Some(_)) if is_known => ("Skipped", ""),
            (Some(rows), Some((_, extents))) => {
                let id = format!("extent of {id}");
                extents.push(Extent { id, tags: vec![tag.to_owned()], rows: rows.clone() });
                all.written.push((request.to_owned(), rows.len() as u64));
                (state, "")
            }
        };
        if let Some(operation) = all.operations.iter_mut().find(|o| o.id == id) {
            (operation.state, operation.code, operation.should_retry) = (state, code, should_retry);
        }
        if state == "Completed" && self.more.as_ref().is_some_and(|more| more.strikes(FORGOTTEN)) {
            // The cluster keeps its list of operations for a while only.
            all.operations.retain(|o| o.id != id);
        }
        drop(all);
        self.note(format!("operation {id} ends: {state} {code}"));
    }
}

fn operations<'a>(shown: impl Iterator<Item = &'a Operation>) -> Reply {
    let row = |o: &Operation| {
        vec![json!(o.id), json!(o.state), json!(""), json!(o.should_retry), json!(o.root), json!(o.started)]
    };
    reply(&["OperationId", "State", "Status", "ShouldRetry", "RootActivityId", "StartedOn"], shown.map(row).collect())
}

impl Cluster {
    /// The data management service takes a blob and ingests it when it likes.
    fn take_blob(&self, source_id: &str, ingest: &Ingest) {
        let IngestSource::Path(path) = &ingest.source else { panic!("a simulated blob is a file") };
        self.note(format!("blob {source_id} is handed over: {}", ingest.ingest_by));
        let (cluster, path, source_id) = (self.clone(), path.clone(), source_id.to_owned());
        let (table, tag) = (ingest.table.clone(), format!("ingest-by:{}", ingest.ingest_by));
        tokio::spawn(async move {
            // At least once: a message may be seen again, after it was worked on. What nobody can prevent is not played: two
            // deliveries at one time, which a run ends over when it counts its rows.
            for _ in 0..if cluster.chance.strikes(0.1) { 2 } else { 1 } {
                tokio::time::sleep(cluster.chance.wait(30_000, 250_000)).await;
                let is_known = cluster.has_tag(&table, &tag);
                tokio::time::sleep(cluster.chance.wait(3_000, 60_000)).await;
                let status = cluster.ingest_blob(&table, &path, &tag, is_known);
                cluster.note(format!("blob {source_id}: {:?}", status.state));
                let has_failed = matches!(status.state, BlobState::Failed { .. });
                cluster.lock().queued.insert(source_id.clone(), status);
                if has_failed {
                    return;
                }
            }
        });
    }

    fn ingest_blob(&self, table: &str, path: &str, tag: &str, is_known: bool) -> BlobStatus {
        let status = |state, code: &str| BlobStatus { state, code: code.to_owned(), details: "simulated".to_owned() };
        let goes_wrong = self.chance.strikes(self.faults().operation);
        let rows = std::fs::File::open(path).ok().map(rows_of);
        let mut all = self.lock();
        match rows {
            _ if is_known => status(BlobState::Skipped, ""),
            None if all.is_storage_away => status(BlobState::Failed { may_pass: true }, "Download_UnknownError"),
            None => status(BlobState::Failed { may_pass: false }, "Download_SourceNotFound"),
            Some(_) if goes_wrong => status(BlobState::Failed { may_pass: true }, "General_InternalServerError"),
            Some(rows) => {
                all.count += 1;
                let id = format!("extent {}", all.count);
                if let Some((_, extents)) = all.tables.get_mut(table) {
                    extents.push(Extent { id, tags: vec![tag.to_owned()], rows });
                }
                status(BlobState::Succeeded, "")
            }
        }
    }

    /// What may happen to any request of the data management service.
    async fn asked(&self) -> Result<(), KustoError> {
        let faults = self.faults();
        tokio::time::sleep(self.chance.wait(30, 5_000)).await;
        match () {
            () if self.chance.strikes(faults.unreachable) => {
                Err(KustoError::Unreachable { endpoint: "simulated".to_owned(), why: "no route".to_owned() })
            }
            () if self.chance.strikes(faults.throttled) => Err(service(429, "TooManyRequests", false)),
            () if self.chance.strikes(faults.lost_before) => Err(lost()),
            () => Ok(()),
        }
    }
}

/// Rows of a staged blob.
fn rows_of(file: std::fs::File) -> Vec<String> {
    let mut text = String::new();
    flate2::read::GzDecoder::new(file).read_to_string(&mut text).expect("a staged blob is whole");
    text.lines().map(str::to_owned).collect()
}

#[async_trait]
impl Queued for Cluster {
    async fn look(&self) -> Result<(), KustoError> {
        self.asked().await
    }

    async fn hand_over(
        &self,
        _database: &str,
        source_id: &str,
        _raw_bytes: u64,
        ingest: &Ingest,
    ) -> Result<Ticket, KustoError> {
        let pending = BlobStatus { state: BlobState::Pending, code: String::new(), details: String::new() };
        let asked = self.asked().await;
        if asked.is_err() && self.chance.strikes(0.5) {
            return asked.map(|()| unreachable!());
        }
        // The row is made before the message is sent.
        self.lock().queued.insert(source_id.to_owned(), pending);
        asked?;
        if self.chance.strikes(self.faults().lost_ingest) {
            let (cluster, source_id, ingest) = (self.clone(), source_id.to_owned(), ingest.clone());
            let late = self.chance.wait(5_000, LATE_MAX_MS);
            tokio::spawn(async move {
                tokio::time::sleep(late).await;
                cluster.take_blob(&source_id, &ingest);
            });
            return Err(lost());
        }
        self.take_blob(source_id, ingest);
        Ok(Ticket::from_stored(format!("row {source_id}")))
    }

    async fn status(&self, _database: &str, _table: &str, ticket: &Ticket) -> Result<BlobStatus, KustoError> {
        self.asked().await?;
        let source_id = ticket.as_str().trim_start_matches("row ");
        Ok(self.lock().queued.get(source_id).cloned().expect("a ticket is of a blob"))
    }

    async fn find(&self, source_id: &str) -> Result<Option<(Ticket, BlobStatus)>, KustoError> {
        self.asked().await?;
        let status = self.lock().queued.get(source_id).cloned();
        Ok(status.map(|status| (Ticket::from_stored(format!("row {source_id}")), status)))
    }
}

#[async_trait]
impl Engine for Cluster {
    async fn command(&self, _database: &str, command: &Command, id: &RequestId) -> Result<Reply, KustoError> {
        let (text, request) = (command.text().to_owned(), id.as_str().to_owned());
        if self.panics_next.swap(false, Ordering::Relaxed) {
            self.has_panicked.store(true, Ordering::Relaxed);
            panic!("a panic that was asked for");
        }
        let faults = self.faults();
        if self.chance.strikes(faults.unreachable) {
            tokio::time::sleep(self.chance.wait(100, 10_000)).await;
            return Err(KustoError::Unreachable { endpoint: "simulated".to_owned(), why: "no route".to_owned() });
        }
        if self.chance.strikes(faults.lost_before) {
            tokio::time::sleep(self.chance.wait(100, 90_000)).await;
            return Err(lost());
        }
        let is_ingest = text.starts_with(".ingest");
        if self.chance.strikes(if is_ingest { faults.lost_ingest } else { faults.lost_after }) {
            let (cluster, late) = (self.clone(), self.chance.wait(5_000, LATE_MAX_MS));
            // In a task of its own: a client that is gone does not call it back.
            let carried_out = tokio::spawn(async move {
                tokio::time::sleep(late).await;
                cluster.note(format!("late, or without an answer: {}", text.get(..60).unwrap_or(&text)));
                let _ = cluster.carry_out(&text, &request);
            });
            if self.chance.strikes(0.5) {
                let _ = carried_out.await;
            }
            return Err(lost());
        }
        tokio::time::sleep(self.chance.wait(30, 5_000)).await;
        if self.chance.strikes(faults.throttled) {
            return Err(service(429, "TooManyRequests", false));
        }
        if self.chance.strikes(faults.failed) {
            return Err(service(500, "General_InternalServerError", false));
        }
        // What was asked for is done even if the asker is gone before it hears so.
        let cluster = self.clone();
        let carried_out = tokio::spawn(async move { cluster.carry_out(&text, &request) }).await;
        tokio::time::sleep(Duration::from_millis(self.chance.number(1, 20))).await;
        carried_out.expect("the simulated cluster does not panic")
    }

    fn endpoint(&self) -> &str {
        "simulated"
    }
}

impl Sinks for Cluster {
    fn open(&self, _activity: &Activity, _timeout: Duration) -> Result<Arc<dyn Engine>, Failure> {
        Ok(Arc::new(self.clone()))
    }

    fn open_queue(&self, activity: &Activity, _timeout: Duration) -> Result<Option<Arc<dyn Queued>>, Failure> {
        Ok((activity.sink.ingestion == Ingestion::Queued).then(|| Arc::new(self.clone()) as _))
    }

    fn staging(&self, storage: Box<dyn StagingStorage>) -> Box<dyn StagingStorage> {
        self.storage.around(storage)
    }
}
