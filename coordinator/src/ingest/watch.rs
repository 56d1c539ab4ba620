//! Follows issued commands: what the cluster says of their operations.

use super::{Ingester, Step, extents, is_table_new, judged, path_of, queued};
use crate::{
    core::ChangeError,
    state::command::{CommandEvent, CommandState},
    store::{CommandRow, RunRow},
};
use ferry_common::failure::{Code, Failure, Fault, Retry, redact};
use ferry_kusto::{KustoError, RequestId, Table, commands};
use futures::{StreamExt as _, stream};
use std::{collections::HashMap, time::Duration};

/// Operations that one request asks for.
const OPERATIONS_MAX: u32 = 200;
/// Commands that are confirmed at once.
const CONFIRMED_AT_ONCE: usize = 8;
/// An operation that the cluster does not list this long after it was named is lost.
const UNLISTED_MAX: Duration = Duration::from_secs(600);
/// Unlisted operations whose tags one look asks for.
const UNLISTED_ASKED_MAX: u32 = 8;

/// What the cluster says of an operation.
pub(super) struct Operation {
    pub(super) state: String,
    /// Error code, where the cluster tells it with the state.
    pub(super) code: String,
    pub(super) status: String,
    pub(super) should_retry: bool,
}

pub(super) fn operations_of(table: &Table) -> HashMap<String, Operation> {
    let read = |row: &Vec<serde_json::Value>| {
        let operation = Operation {
            state: table.text(row, "State").to_owned(),
            code: String::new(),
            status: redact(table.text(row, "Status")),
            should_retry: table.truth(row, "ShouldRetry").unwrap_or(false),
        };
        (table.text(row, "OperationId").to_lowercase(), operation)
    };
    table.rows.iter().map(read).collect()
}

impl Ingester {
    /// Asks for all operations in flight and takes up what has ended.
    pub(super) async fn watch(&mut self, run: &RunRow, step: &mut Step) -> Result<(), ChangeError> {
        let issued = self.core.store.commands(&run.id, "Issued", OPERATIONS_MAX).await?;
        if issued.is_empty() {
            self.silent_since = None;
            return Ok(());
        }
        let operations = match self.operations(run, &issued).await {
            Ok(operations) => {
                self.silent_since = None;
                operations
            }
            Err(error) => {
                // Looking again harms nothing, whatever the error: the operations go on. But not for ever.
                let failure = judged(&error);
                let now = self.core.now();
                let since = *self.silent_since.get_or_insert(now);
                if now.since(since) > self.core.limits.doubt_max {
                    step.gave_up = true;
                    self.note(Failure { retry: Retry::Never, ..failure }, step);
                } else {
                    self.note(Failure { retry: Retry::Backoff, ..failure }, step);
                }
                return Ok(());
            }
        };
        let mut finished = Vec::new();
        let mut asked = 0;
        for command in issued {
            match operation_id(&command).and_then(|id| operations.get(&id.to_lowercase())) {
                Some(operation) if operation.state == "Completed" => finished.push(command),
                Some(operation) => {
                    if let Some(failure) = self.take_up(run, command, operation, step).await? {
                        self.note(failure, step);
                    }
                }
                // A ticket that could not be asked for: what it stands for goes on.
                None if self.queue.is_some() => {}
                None => {
                    asked += 1;
                    if let Some(failure) = self.unlisted(run, command, asked <= UNLISTED_ASKED_MAX, step).await? {
                        self.note(failure, step);
                    }
                }
            }
        }
        self.finish(run, finished, step).await
    }

    /// What the cluster says of these commands, by the name of their operation in lower case.
    async fn operations(&self, run: &RunRow, issued: &[CommandRow]) -> Result<HashMap<String, Operation>, KustoError> {
        let ids: Vec<String> = issued.iter().filter_map(operation_id).collect();
        if let Some(queue) = &self.queue {
            return queued::operations(&**queue, run, &ids).await;
        }
        let id = RequestId::generate("operations");
        let reply = self.client.command(&run.activity.sink.database, &commands::show_operations(&ids), &id).await?;
        Ok(operations_of(&reply.table))
    }

    /// The cluster does not list the operation yet, or any more. Rows that carry its tag say that it is done; that there are none
    /// says nothing for a long while.
    async fn unlisted(
        &self,
        run: &RunRow,
        command: CommandRow,
        may_ask: bool,
        step: &mut Step,
    ) -> Result<Option<Failure>, ChangeError> {
        let CommandState::Issued { sent, .. } = &command.state else { return Ok(None) };
        let since = self.core.now().since(sent.at);
        if since > UNLISTED_MAX {
            self.change(command, CommandEvent::OutcomeUnknown).await?;
        } else if may_ask
            && since > self.core.limits.settle_after
            && let Ok(Some(extents)) = self.tagged(run, &command.tag).await
        {
            tracing::info!(run = %command.run, tag = command.tag, "the cluster does not list the operation, and has its rows");
            step.has_confirmed = true;
            let rows = extents::counted(&extents, command.rows);
            return self.confirm(command, rows).await;
        }
        Ok(None)
    }

    async fn take_up(
        &self,
        run: &RunRow,
        command: CommandRow,
        operation: &Operation,
        step: &mut Step,
    ) -> Result<Option<Failure>, ChangeError> {
        let now = self.core.now();
        match operation.state.as_str() {
            // Its tag is in the table already, or so the cluster says: looked at before it is believed.
            "Skipped" => match self.tagged(run, &command.tag).await {
                Ok(None) if command.state.failures() >= self.core.limits.command_failures_max => {
                    let message = format!("ingest-by:{} is skipped as known, and no extent carries it", command.tag);
                    let failure = Failure::new(Code::IngestRejected, Fault::Sink, Retry::Never, message);
                    self.change(command, CommandEvent::Refused(failure.clone())).await?;
                    Ok(Some(failure))
                }
                Ok(None) => {
                    let event = self.postponed(&command, false, None);
                    self.change(command, event).await?;
                    Ok(None)
                }
                Ok(Some(extents)) => {
                    let rows = extents::counted(&extents, command.rows);
                    self.confirm(command, rows).await
                }
                // Who may not look believes it: nobody else makes this tag.
                Err(KustoError::Service(e)) if e.is_forbidden() => {
                    self.change(command, CommandEvent::Finished { rows: None, now }).await?;
                    Ok(None)
                }
                Err(error) => {
                    // Doubts have an end, should the cluster never tell.
                    self.change(command, CommandEvent::OutcomeUnknown).await?;
                    Ok(Some(Failure { retry: Retry::Backoff, ..judged(&error) }))
                }
            },
            "PartiallySucceeded" if self.queue.is_some() => self.take_up_partial(run, command).await,
            "Abandoned" | "Canceled" | "Cancelled" | "PartiallySucceeded" => {
                self.change(command, CommandEvent::OutcomeUnknown).await?;
                Ok(None)
            }
            "Throttled" => {
                let event = self.postponed(&command, true, None);
                self.change(command, event).await?;
                Ok(None)
            }
            "Failed" | "BadInput" => self.operation_failed(run, command, operation, step).await,
            "InProgress" if self.queue.is_some() => self.waits_too_long(command).await,
            // `Scheduled`, and whatever a newer cluster calls a state on the way.
            _ => Ok(None),
        }
    }

    async fn operation_failed(
        &self,
        run: &RunRow,
        command: CommandRow,
        operation: &Operation,
        step: &mut Step,
    ) -> Result<Option<Failure>, ChangeError> {
        let (code, details) = match self.queue {
            // The verdict has it all.
            Some(_) => (operation.code.clone(), operation.status.clone()),
            None => self.failure_details(run, &command).await,
        };
        let details = if details.is_empty() { operation.status.clone() } else { details };
        let path = path_of(&self.core, &command).await?;
        let words = format!("chunk {} of {path}: {code} {details}", command.chunk);
        if code == "Download_SourceNotFound" || details.contains("Download_SourceNotFound") {
            let failure = Failure::new(Code::StagingMissing, Fault::Runtime, Retry::Backoff, words);
            step.unit_returned = true;
            return self.staging_lost(run, &command, failure).await;
        }
        let is_unknown = matches!(code.as_str(), "BadRequest_TableNotExist" | "BadRequest_EntityNotFound");
        let may_pass = operation.should_retry || (is_unknown && is_table_new(run, self.core.now()));
        let is_transient = may_pass && operation.state == "Failed";
        if is_transient && command.state.failures() < self.core.limits.command_failures_max {
            let event = self.postponed(&command, false, None);
            self.change(command, event).await?;
            return Ok(Some(Failure::new(Code::SinkFailed, Fault::Sink, Retry::Backoff, words)));
        }
        let failure = Failure::new(Code::IngestRejected, Fault::Sink, Retry::Never, words);
        self.change(command, CommandEvent::Refused(failure.clone())).await?;
        Ok(Some(failure))
    }

    /// Error code and text that the cluster keeps of a failed ingestion; empty where it may not be asked.
    async fn failure_details(&self, run: &RunRow, command: &CommandRow) -> (String, String) {
        let Some(operation) = operation_id(command) else { return Default::default() };
        let id = RequestId::generate("failures");
        let text = commands::show_ingestion_failures(&operation);
        match self.client.command(&run.activity.sink.database, &text, &id).await {
            Ok(reply) => match reply.table.rows.first() {
                Some(row) => (reply.table.text(row, "ErrorCode").to_owned(), redact(reply.table.text(row, "Details"))),
                None => Default::default(),
            },
            Err(_) => Default::default(),
        }
    }

    /// Confirms finished commands, and holds the rows that the cluster counted against those that were staged.
    async fn finish(&mut self, run: &RunRow, finished: Vec<CommandRow>, step: &mut Step) -> Result<(), ChangeError> {
        if finished.is_empty() {
            return Ok(());
        }
        if self.queue.is_some() {
            return self.finish_queued(run, finished, step).await;
        }
        let counted = self.rows_counted(run, &finished).await;
        step.has_confirmed = true;
        // Some side by side: each is a commit, and all of a run wait for one row of PostgreSQL.
        let ingester = &*self;
        let confirmations: Vec<_> = finished
            .into_iter()
            .map(|command| {
                let rows = request_id(&command).and_then(|id| counted.get(&id).copied());
                let sending = ingester.sending(&command);
                async move { (sending, ingester.confirm(command, rows).await) }
            })
            .collect();
        let confirmed: Vec<_> = stream::iter(confirmations).buffer_unordered(CONFIRMED_AT_ONCE).collect().await;
        for (sending, failure) in confirmed {
            match failure? {
                Some(failure) => self.note(failure, step),
                None => self.time(sending),
            }
        }
        Ok(())
    }

    /// The command has had its effect. Its rows, where they could be counted, are what was staged, or it has failed.
    pub(super) async fn confirm(&self, command: CommandRow, rows: Option<u64>) -> Result<Option<Failure>, ChangeError> {
        match rows {
            Some(rows) if rows != command.rows => {
                // Stored as refused, so that no restart forgets it.
                let failure = self.wrong_count(&command, rows).await?;
                self.change(command, CommandEvent::Refused(failure.clone())).await?;
                Ok(Some(failure))
            }
            rows => {
                self.change(command, CommandEvent::Finished { rows, now: self.core.now() }).await?;
                Ok(None)
            }
        }
    }

    /// The cluster has another number of rows than were staged.
    pub(super) async fn wrong_count(&self, command: &CommandRow, rows: u64) -> Result<Failure, ChangeError> {
        let path = path_of(&self.core, command).await?;
        let message = format!(
            "chunk {} of {path}: {} rows were staged, the cluster counted {rows}; tag ingest-by:{}",
            command.chunk, command.rows, command.tag
        );
        Ok(Failure::new(Code::RowCountMismatch, Fault::Sink, Retry::Never, message))
    }

    /// Rows that each sending really wrote, by request id; empty where the cluster may not be asked.
    async fn rows_counted(&self, run: &RunRow, finished: &[CommandRow]) -> HashMap<String, u64> {
        let ids: Vec<String> = finished.iter().filter_map(request_id).collect();
        let id = RequestId::generate("rows");
        let text = commands::show_data_operations(&ids);
        match self.client.command(&run.activity.sink.database, &text, &id).await {
            Ok(reply) => {
                let table = &reply.table;
                let read = |row: &Vec<serde_json::Value>| {
                    let rows = table.long(row, "Rows").and_then(|n| u64::try_from(n).ok())?;
                    Some((table.text(row, "ClientActivityId").to_owned(), rows))
                };
                table.rows.iter().filter_map(read).collect()
            }
            Err(_) => HashMap::new(),
        }
    }
}

fn operation_id(command: &CommandRow) -> Option<String> {
    match &command.state {
        CommandState::Issued { operation, .. } => Some(operation.clone()),
        _ => None,
    }
}

fn request_id(command: &CommandRow) -> Option<String> {
    match &command.state {
        CommandState::Issued { sent, .. } => Some(sent.request_id.clone()),
        _ => None,
    }
}
