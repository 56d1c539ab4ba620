//! Stage 2: from staged blobs to visible rows. One command names one blob and carries its own tag.
//!
//! What if the process dies right here? Before a command leaves, its sending is stored. Whoever finds a sending without an
//! outcome asks the cluster's journals and the table's tags first, and sends again only what surely had no effect; and a
//! command that was taken after all is skipped by its tag.

pub(crate) mod cluster;
pub(crate) mod extents;
mod lending;
pub(crate) mod preflight;
pub(crate) mod publish;
mod queued;
mod reconcile;
mod watch;

use crate::{
    access,
    core::{ChangeError, Core, Sinks},
    identities::Identities,
    meters::CommandOutcome,
    pace,
    state::{
        command::{CommandEvent, CommandState, Sent, THROTTLED_WAIT},
        unit::{RetryLimit, UnitEvent, UnitState},
    },
    store::{CommandRow, PaceSums, RunRow, StoreError, Write},
};
use async_trait::async_trait;
use ferry_common::{
    activity::{Activity, Ingestion, Publish},
    clock::Millis,
    failure::{Code, Failure, Fault, Retry, redact},
    id::{ChunkNumber, RunId},
    spans::{self, Span, SpanOf},
};
use ferry_kusto::{
    Client, ClientOptions, Engine, KustoError, RequestId,
    commands::{self, Ingest},
    queued::{LentContainer, Queue, Queued},
};
use futures::{StreamExt as _, stream};
use lending::Lending;
use std::{
    hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher},
    sync::Arc,
    time::Duration,
};

/// Commands in flight where the cluster does not tell its capacity.
const CAPACITY_UNKNOWN: u32 = 2;
/// Commands in flight at most, whatever the cluster tells.
const CAPACITY_MAX: u32 = 64;
/// How long a capacity that was told is believed.
const CAPACITY_AGE_MAX: Duration = Duration::from_secs(60);
/// Time that the cluster gets for a request that only looks or only submits.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
/// So long after its making, parts of the cluster may not know a table yet.
const TABLE_SPREADS_MAX: Duration = Duration::from_secs(300);
/// Longest wait that a cluster may ask for; it is stretched by up to a half.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(300);

/// Signs in to the clusters that activities name.
pub(crate) struct Clusters {
    identities: Arc<Identities>,
    lending: Lending,
}

impl Clusters {
    pub(crate) fn new(identities: Arc<Identities>) -> Self {
        Self { identities, lending: Lending::default() }
    }

    fn client_of(&self, activity: &Activity, server_timeout: Duration) -> Result<Client, Failure> {
        let tokens = self.identities.for_cluster(&activity.sink.endpoint, &activity.sink.auth)?;
        Client::new(&activity.sink.endpoint, tokens, ClientOptions { server_timeout }).map_err(|e| judged(&e))
    }
}

#[async_trait]
impl Sinks for Clusters {
    fn open(&self, activity: &Activity, server_timeout: Duration) -> Result<Arc<dyn Engine>, Failure> {
        Ok(Arc::new(self.client_of(activity, server_timeout)?))
    }

    fn open_queue(&self, activity: &Activity, server_timeout: Duration) -> Result<Option<Arc<dyn Queued>>, Failure> {
        if activity.sink.ingestion == Ingestion::Direct {
            return Ok(None);
        }
        Ok(Some(Arc::new(Queue::new(&self.client_of(activity, server_timeout)?))))
    }

    async fn lend(&self, activity: &Activity, address: Option<&str>) -> Result<LentContainer, Failure> {
        self.lending.lend(&activity.sink, address, || self.client_of(activity, REQUEST_TIMEOUT)).await
    }
}

/// Judges an error of the cluster.
pub(crate) fn judged(error: &KustoError) -> Failure {
    let message = redact(&error.to_string());
    let transient = if error.is_permanent() { Retry::Never } else { Retry::Backoff };
    let (code, fault, retry) = match error {
        KustoError::Endpoint { .. } => (Code::SettingsInvalid, Fault::Settings, Retry::Never),
        // Nothing was sent, and the cluster may be as it was: it counts as being busy, not as being away.
        KustoError::Token { error, .. } if error.is_passing => (Code::SinkThrottled, Fault::Sink, Retry::Backoff),
        KustoError::Token { .. } => (Code::SinkForbidden, Fault::Settings, Retry::Never),
        KustoError::Unreachable { .. } => (Code::SinkUnreachable, Fault::Sink, Retry::Backoff),
        KustoError::Lost { .. } => (Code::SinkFailed, Fault::Sink, Retry::Backoff),
        KustoError::Service(e) if e.is_throttled() => (Code::SinkThrottled, Fault::Sink, Retry::Backoff),
        KustoError::Service(e) if e.is_forbidden() => (Code::SinkForbidden, Fault::Sink, Retry::Never),
        KustoError::Service(e) if e.is_database_missing() => (Code::DatabaseNotFound, Fault::Settings, Retry::Never),
        KustoError::Service(e) if e.is_entity_missing() => (Code::TableNotFound, Fault::Settings, Retry::Never),
        KustoError::Service(_) => (Code::SinkFailed, Fault::Sink, transient),
    };
    Failure::new(code, fault, retry, message)
}

/// The run has made the table that it ingests into so lately that the cluster may not know it everywhere.
fn is_table_new(run: &RunRow, now: Millis) -> bool {
    let sink = &run.activity.sink;
    let makes_one = sink.create_table || sink.publish != Publish::Append;
    makes_one && run.times.copying.is_some_and(|at| now.since(at) < TABLE_SPREADS_MAX)
}

/// What one look at a run's commands found.
#[derive(Debug, Default)]
pub(crate) struct Step {
    /// Look again after this; `None`: nothing is left to wait for.
    pub(crate) wait: Option<Duration>,
    /// The run cannot succeed.
    pub(crate) failure: Option<Failure>,
    /// A unit must be copied again.
    pub(crate) unit_returned: bool,
    /// Some commands were confirmed.
    pub(crate) has_confirmed: bool,
    /// The cluster has been silent for so long that what is in flight cannot be followed any more.
    pub(crate) gave_up: bool,
}

/// Follows the commands of one run. Everything it remembers may be lost: the store has the rest.
pub(crate) struct Ingester {
    core: Arc<Core>,
    run: RunId,
    client: Arc<dyn Engine>,
    /// Where blobs are handed over instead of sending commands.
    queue: Option<Arc<dyn Queued>>,
    /// What a command ingests is visible at once.
    is_visible_at_once: bool,
    capacity: u32,
    capacity_asked: Option<Millis>,
    looks: u32,
    /// Since when this program looks after the run, by its own clock.
    began: Millis,
    /// Since when the cluster tells nothing of operations in flight.
    silent_since: Option<Millis>,
    /// Since when rows that were ingested from a queue are not shown.
    unseen_since: Option<Millis>,
    /// The failure seen last, for whoever asks why nothing moves.
    last_failure: Option<Failure>,
    /// How the commands went that this program has seen from their sending to their end.
    pace: PaceSums,
}

impl Ingester {
    pub(crate) fn new(core: Arc<Core>, run: &RunRow) -> Result<Self, Failure> {
        Ok(Self {
            silent_since: None,
            unseen_since: None,
            run: run.id.clone(),
            began: core.now(),
            client: core.sinks.open(&run.activity, REQUEST_TIMEOUT)?,
            queue: core.sinks.open_queue(&run.activity, REQUEST_TIMEOUT)?,
            core,
            is_visible_at_once: run.activity.sink.publish == Publish::Append,
            capacity: CAPACITY_UNKNOWN,
            capacity_asked: None,
            looks: 0,
            last_failure: None,
            pace: PaceSums::default(),
        })
    }

    /// Follows what is in flight, settles what is in doubt and, if `may_send`, sends what is due.
    pub(crate) async fn step(&mut self, run: &RunRow, may_send: bool) -> Result<Step, ChangeError> {
        let mut step = Step::default();
        self.watch(run, &mut step).await?;
        self.settle_doubts(run, &mut step).await?;
        if may_send && step.failure.is_none() && !step.unit_returned {
            self.send_due(run, &mut step).await?;
        }
        let open = self.core.store.open_commands(&run.id).await?;
        let is_left = open.issued > 0 || if may_send { open.any_planned } else { open.any_doubtful };
        if is_left && !step.gave_up {
            if step.has_confirmed {
                // While things move, looking often pays.
                self.looks = 0;
            }
            let first = if self.queue.is_some() { queued::LOOK_FIRST } else { pace::LOOK_FIRST };
            step.wait = Some(pace::wait_after(self.looks, first));
            self.looks += 1;
        }
        Ok(step)
    }

    /// What this program has measured of the run's commands.
    pub(crate) fn pace(&self) -> PaceSums {
        self.pace
    }

    /// When a command was sent and what it has, if this program has seen all of it.
    fn sending(&self, command: &CommandRow) -> Option<(Millis, u64)> {
        let (sent, _) = command.state.known_by();
        sent.filter(|sent| sent.at >= self.began).map(|sent| (sent.at, command.raw_bytes))
    }

    /// A command has ended well, and its place is free.
    fn time(&mut self, sending: Option<(Millis, u64)>) {
        if let Some((sent, bytes)) = sending {
            self.pace.note_command(bytes, self.core.now().since(sent));
        }
    }

    /// Commands in flight at once: the cluster's own figure, asked now and then.
    async fn refresh_capacity(&mut self, database: &str) {
        let now = self.core.now();
        if self.capacity_asked.is_some_and(|at| now.since(at) < CAPACITY_AGE_MAX) {
            return;
        }
        self.capacity_asked = Some(now);
        let (ingestion, told) = match self.queue {
            Some(_) => (Ingestion::Queued, None),
            None => (Ingestion::Direct, capacity_of(&*self.client, database).await),
        };
        self.capacity = at_once(ingestion, told);
    }

    async fn send_due(&mut self, run: &RunRow, step: &mut Step) -> Result<(), ChangeError> {
        let due = self.core.store.due_commands(&run.id, self.core.now(), 1).await?;
        if due.is_empty() {
            return Ok(());
        }
        self.refresh_capacity(&run.activity.sink.database).await;
        let issued = self.core.store.open_commands(&run.id).await?.issued;
        let room = self.capacity.saturating_sub(u32::try_from(issued).unwrap_or(u32::MAX));
        let due = self.core.store.due_commands(&run.id, self.core.now(), room).await?;
        let sendings: Vec<_> = due.into_iter().map(|command| self.send(run, command)).collect();
        let sent: Vec<_> = stream::iter(sendings).buffer_unordered(CAPACITY_MAX as usize).collect().await;
        for result in sent {
            if let Some(failure) = result? {
                self.note(failure, step);
            }
        }
        Ok(())
    }

    /// Keeps a failure: one that cannot pass ends the run.
    fn note(&mut self, failure: Failure, step: &mut Step) {
        if failure.retry == Retry::Never {
            step.failure.get_or_insert(failure);
        } else if self.last_failure.as_ref().is_none_or(|last| last.code != failure.code) {
            tracing::warn!(run = %self.run, code = %failure.code, "ingestion goes on after: {}", failure.message);
            self.last_failure = Some(failure);
        }
    }

    /// Sends one command. The sending is stored before a byte leaves.
    async fn send(&self, run: &RunRow, command: CommandRow) -> Result<Option<Failure>, ChangeError> {
        let ingest = match self.render(run, &command).await? {
            Ok(ingest) => ingest,
            Err(failure) => return Ok(Some(failure)),
        };
        let request_id = RequestId::generate("ingest");
        let sent = Sent { request_id: request_id.as_str().to_owned(), at: self.core.now() };
        let Some(command) = self.change(command, CommandEvent::Sending(sent)).await? else { return Ok(None) };
        if !self.core.may_act() {
            // It was stored as sent, and is not: whoever drives the run now finds that out.
            return Ok(None);
        }
        let database = &run.activity.sink.database;
        let taken = match &self.queue {
            Some(queue) => {
                let ticket = queue.hand_over(database, request_id.unique_part(), command.raw_bytes, &ingest).await;
                ticket.map(|ticket| ticket.as_str().to_owned())
            }
            None => {
                let reply = self.client.command(database, &commands::ingest(&ingest), &request_id).await;
                reply.map(|reply| {
                    let row = reply.table.rows.first();
                    row.map(|row| reply.table.text(row, "OperationId").to_owned()).unwrap_or_default()
                })
            }
        };
        match taken {
            Ok(operation) => {
                if operation.is_empty() {
                    // Taken, it seems, but without a name to ask for: the journals know.
                    return Ok(None);
                }
                self.change(command, CommandEvent::Accepted { operation }).await?;
                Ok(None)
            }
            Err(error) => self.send_failed(run, command, &error).await,
        }
    }

    async fn send_failed(
        &self,
        run: &RunRow,
        command: CommandRow,
        error: &KustoError,
    ) -> Result<Option<Failure>, ChangeError> {
        let failure = judged(error);
        if error.outcome_is_unknown() {
            // It stays in doubt, and is settled by asking.
            return Ok(Some(Failure { retry: Retry::Backoff, ..failure }));
        }
        let throttled = failure.code == Code::SinkThrottled;
        let may_pass = failure.code == Code::TableNotFound && is_table_new(run, self.core.now());
        if (failure.retry == Retry::Never && !may_pass)
            || (!throttled && command.state.failures() >= self.core.limits.command_failures_max)
        {
            let code = if failure.code == Code::SinkFailed { Code::IngestRejected } else { failure.code };
            let failure = Failure { code, retry: Retry::Never, ..failure };
            self.change(command, CommandEvent::Refused(failure.clone())).await?;
            return Ok(Some(failure));
        }
        let asked = error.service().and_then(|e| e.retry_after);
        let event = self.postponed(&command, throttled, asked);
        self.change(command, event).await?;
        Ok(Some(Failure { retry: Retry::Backoff, ..failure }))
    }

    /// The command surely had no effect, and may be sent again: those that were turned away together come back one by one.
    fn postponed(&self, command: &CommandRow, throttled: bool, asked: Option<Duration>) -> CommandEvent {
        let least = asked.unwrap_or(if throttled { THROTTLED_WAIT } else { Duration::ZERO }).min(RETRY_AFTER_MAX);
        let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one((&command.tag, command.state.failures()));
        let spread = (hash % 1_000) as f64 / 1_000.0;
        CommandEvent::Postponed { now: self.core.now(), throttled, least: least.mul_f64(1.0 + spread / 2.0) }
    }

    async fn render(&self, run: &RunRow, command: &CommandRow) -> Result<Result<Ingest, Failure>, StoreError> {
        let chunks = self.core.store.chunks(&run.id, command.unit).await?;
        let Some(row) = chunks.into_iter().find(|row| row.chunk.number.0 == command.chunk) else {
            return Ok(Err(Failure::internal(format!("unit {}: the chunk of a command is gone", command.unit))));
        };
        let Some(plan) = &run.plan else { return Ok(Err(Failure::internal("the run has no plan"))) };
        let format = &run.activity.source.format;
        let ttl = if self.queue.is_some() { access::QUEUED_READ_TTL } else { access::READ_TTL };
        let access = match self.core.access(run).await {
            Ok(access) => access,
            Err(failure) => return Ok(Err(failure)),
        };
        Ok(access.for_cluster(&command.blob, self.core.now().plus(ttl)).map(|source| Ingest {
            table: run.ingest_table(),
            source,
            format: plan.copy.staged_format(format.kind).as_str(),
            mapping: plan.ingest_mapping(),
            ingest_by: command.tag.clone(),
            strict_width: format.is_strict(),
            creation_time: row.chunk.created,
        }))
    }

    /// Applies an event to a command and stores it. `None`: another writer was there, or the state refused it.
    async fn change(&self, mut command: CommandRow, event: CommandEvent) -> Result<Option<CommandRow>, ChangeError> {
        let (from, outcome) = (command.state.name(), outcome_of(&event));
        let sent = command.state.known_by().0.map(|sent| sent.at);
        command.state = match command.state.clone().apply(event) {
            Ok(state) => state,
            Err(refused) => {
                tracing::warn!(run = %command.run, unit = %command.unit, chunk = command.chunk, tag = command.tag, "{refused}");
                return Ok(None);
            }
        };
        let mut writes = vec![Write::UpdateCommand(Box::new(command.clone()))];
        if let CommandState::Rejected { failure } = &command.state
            && let Some(mut unit) = self.core.store.unit(&command.run, command.unit).await?
            && let Ok(state) = unit.state.clone().apply(UnitEvent::Rejected { failure: failure.clone() })
        {
            // With its command the unit fails, so that nothing has to remember it.
            unit.state = state;
            writes.push(Write::UpdateUnit(Box::new(unit)));
        }
        match self.core.commit(writes).await {
            Ok(()) => {}
            Err(StoreError::Conflict) => return Ok(None),
            Err(e) => return Err(e.into()),
        }
        command.revision += 1;
        if let Some(outcome) = outcome {
            self.core.meters.command(outcome);
        }
        let to = command.state.name();
        if from != to {
            tracing::info!(run = %command.run, unit = %command.unit, chunk = command.chunk, from, to, "ingest command changes");
        }
        if let Some(at) = sent
            && matches!(command.state, CommandState::Confirmed { .. } | CommandState::Rejected { .. })
        {
            spans::send(|| span_of(&command, at, self.core.now()));
        }
        if matches!(command.state, CommandState::Confirmed { .. }) {
            self.core.meters.written(command.raw_bytes);
            self.core.meters.visible(if self.is_visible_at_once { command.rows } else { 0 });
            self.confirm_unit(&command).await?;
        }
        Ok(Some(command))
    }

    /// A unit whose commands are all confirmed is in the table. While others of the run are not, it is only shown so.
    async fn confirm_unit(&self, command: &CommandRow) -> Result<(), ChangeError> {
        let siblings = self.core.store.unit_commands(&command.run, command.unit).await?;
        if siblings.iter().all(|c| matches!(c.state, CommandState::Confirmed { .. })) {
            let confirmed = |_: &_| Some(UnitEvent::Confirmed);
            self.core.change_unit(&command.run, command.unit, confirmed).await?;
        }
        Ok(())
    }

    /// The staging blob is gone: the unit goes back to the nodes, for that chunk alone.
    async fn staging_lost(
        &self,
        run: &RunRow,
        command: &CommandRow,
        failure: Failure,
    ) -> Result<Option<Failure>, ChangeError> {
        let Some(mut unit) = self.core.store.unit(&run.id, command.unit).await? else { return Ok(None) };
        let limit =
            RetryLimit { now: self.core.now(), failures_max: run.activity.settings.attempts_max, skips_files: false };
        let mut writes = vec![
            Write::DeleteChunk(run.id.clone(), command.unit, command.chunk),
            Write::DeleteCommand(run.id.clone(), command.unit, command.chunk),
        ];
        let mut is_over = false;
        // Another lost chunk may have sent the unit back already.
        if let Ok(state) = unit.state.clone().apply(UnitEvent::StagingLost { failure: failure.clone(), limit }) {
            is_over = matches!(state, UnitState::Failed { .. });
            unit.state = state;
            unit.last_failure = Some(failure.clone());
            writes.push(Write::UpdateUnit(Box::new(unit)));
        }
        self.core.commit(writes).await?;
        Ok(is_over.then_some(failure))
    }
}

/// The span of a command that has come to its end.
fn span_of(command: &CommandRow, sent: Millis, now: Millis) -> Span {
    let failure = match &command.state {
        CommandState::Rejected { failure } => Some(failure.code),
        _ => None,
    };
    let of = SpanOf::Command(command.unit, ChunkNumber(command.chunk));
    Span::new(&command.run, of, spans::time_of(sent), spans::time_of(now))
        .word("state", command.state.name())
        .count("rows", command.rows)
        .count("bytes", command.raw_bytes)
        .failure(failure)
}

/// How a sending went on, where the event tells.
fn outcome_of(event: &CommandEvent) -> Option<CommandOutcome> {
    match event {
        CommandEvent::Sending(_) => Some(CommandOutcome::Sent),
        CommandEvent::Accepted { .. } => None,
        CommandEvent::Postponed { throttled: true, .. } => Some(CommandOutcome::Throttled),
        CommandEvent::Postponed { .. } => Some(CommandOutcome::Postponed),
        CommandEvent::OutcomeUnknown => Some(CommandOutcome::Unknown),
        CommandEvent::Finished { .. } => Some(CommandOutcome::Confirmed),
        CommandEvent::Refused(_) => Some(CommandOutcome::Rejected),
    }
}

/// Ingestions that the cluster runs at once, as far as ferry makes use of it; `None` where it may not be asked.
async fn capacity_of(client: &dyn Engine, database: &str) -> Option<u32> {
    let id = RequestId::generate("capacity");
    let table = client.command(database, &commands::show_capacity_ingestions(), &id).await.ok()?.table;
    let total = table.long(table.rows.first()?, "Total")?;
    u32::try_from(total).ok().map(|total| total.clamp(1, CAPACITY_MAX))
}

/// Commands of a run that are in flight at once at most. `told`: what the cluster says of its capacity.
pub(crate) fn at_once(ingestion: Ingestion, told: Option<u32>) -> u32 {
    match ingestion {
        Ingestion::Queued => queued::HANDED_MAX,
        // Who may not look sends little at once.
        Ingestion::Direct => told.unwrap_or(CAPACITY_UNKNOWN),
    }
}

/// The file that a command's rows come from, for messages.
async fn path_of(core: &Core, command: &CommandRow) -> Result<String, StoreError> {
    let unit = core.store.unit(&command.run, command.unit).await?;
    Ok(unit.map(|u| u.file.path).unwrap_or_default())
}
