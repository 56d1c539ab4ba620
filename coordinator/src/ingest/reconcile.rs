//! Settles sendings whose outcome is in doubt: an answer that was lost, a coordinator that died, an operation that ended
//! without a verdict. A timeout is not an outcome.
//!
//! The order matters. First, whether something of that time is still running: while it is, its rows may yet appear. Then
//! the tag: rows that are there carry it. Only when neither is found, and long enough after the sending, is it known to
//! have had no effect.

use super::{
    Ingester, Step,
    extents::{self, Extent},
    judged,
};
use crate::{
    core::ChangeError,
    state::command::{CommandEvent, CommandState, Sent},
    store::{CommandRow, RunRow},
};
use ferry_common::{
    clock::Millis,
    failure::{Code, Failure, Fault, Retry},
};
use ferry_kusto::{KustoError, RequestId, commands};
use std::{collections::HashSet, time::Duration};

/// Doubts that one look takes up.
const DOUBTS_MAX: u32 = 50;
/// By how much the clocks of cluster and coordinator may differ.
const CLOCK_SKEW_MAX: Duration = Duration::from_secs(300);
/// Operations that this run may know, for telling strangers.
const KNOWN_MAX: u32 = 10_000;

/// What the cluster's journal of commands knows of a request.
#[derive(Default)]
struct Journal {
    /// Root activities under which it ran, in lower case.
    roots: HashSet<String>,
    /// The command was taken.
    was_taken: bool,
}

/// What asking has shown.
pub(super) enum Verdict {
    /// Its rows are in the table: so many, where they could be counted.
    InTable(Option<u64>),
    /// It runs, or may yet begin to.
    Open,
    /// It had no effect and will have none.
    NoEffect,
    /// The cluster named its operation.
    Operation(String),
}

impl Ingester {
    /// Settles what can be settled.
    pub(super) async fn settle_doubts(&mut self, run: &RunRow, step: &mut Step) -> Result<(), ChangeError> {
        for command in self.core.store.doubtful_commands(&run.id, DOUBTS_MAX).await? {
            let CommandState::Planned { sent: Some(sent), .. } = &command.state else { continue };
            let sent = sent.clone();
            let event = match self.ask(run, &command, &sent).await? {
                Ok(Verdict::InTable(rows)) => {
                    if let Some(failure) = self.confirm(command, rows).await? {
                        self.note(failure, step);
                    }
                    continue;
                }
                Ok(Verdict::NoEffect) if command.state.failures() >= self.core.limits.command_failures_max => {
                    let message = format!(
                        "the command with tag ingest-by:{} was sent {} times and never had an effect",
                        command.tag,
                        command.state.failures() + 1
                    );
                    CommandEvent::Refused(Failure::new(Code::SinkFailed, Fault::Sink, Retry::Never, message))
                }
                Ok(Verdict::NoEffect) => self.postponed(&command, false, None),
                Ok(Verdict::Operation(operation)) => CommandEvent::Accepted { operation },
                Ok(Verdict::Open) => match self.gives_up(&command, &sent, None) {
                    Some(failure) => CommandEvent::Refused(failure),
                    None => continue,
                },
                Err(error) => match self.gives_up(&command, &sent, Some(&error)) {
                    Some(failure) => CommandEvent::Refused(failure),
                    None => {
                        self.note(Failure { retry: Retry::Backoff, ..judged(&error) }, step);
                        // One silent cluster is enough to know it.
                        return Ok(());
                    }
                },
            };
            if let CommandEvent::Refused(failure) = &event {
                self.note(failure.clone(), step);
            }
            self.change(command, event).await?;
        }
        Ok(())
    }

    /// A doubt that nobody could settle for hours ends the run, naming the tag to look for.
    fn gives_up(&self, command: &CommandRow, sent: &Sent, error: Option<&KustoError>) -> Option<Failure> {
        // While no coordinator was there, nobody could ask.
        let since = sent.at.max(self.core.started);
        (self.core.now().since(since) > self.core.limits.doubt_max).then(|| {
            let why = error.map(|e| format!(": {}", judged(e).message)).unwrap_or_default();
            let message = format!(
                "whether the command with tag ingest-by:{} had its effect could not be found out{why}; look for the tag in the \
                 table's extents",
                command.tag
            );
            Failure::new(Code::SinkFailed, Fault::Sink, Retry::Never, message)
        })
    }

    async fn ask(
        &self,
        run: &RunRow,
        command: &CommandRow,
        sent: &Sent,
    ) -> Result<Result<Verdict, KustoError>, ChangeError> {
        if let Some(queue) = &self.queue {
            return Ok(self.ask_queue(&**queue, run, command, sent).await);
        }
        let known: HashSet<String> = self
            .core
            .store
            .commands(&run.id, "Issued", KNOWN_MAX)
            .await?
            .iter()
            .filter_map(|c| match &c.state {
                CommandState::Issued { operation, .. } => Some(operation.to_lowercase()),
                _ => None,
            })
            .collect();
        Ok(self.ask_cluster(run, command, sent, &known).await)
    }

    async fn ask_cluster(
        &self,
        run: &RunRow,
        command: &CommandRow,
        sent: &Sent,
        known: &HashSet<String>,
    ) -> Result<Verdict, KustoError> {
        let database = &run.activity.sink.database;
        let journal = self.journal_of(database, &sent.request_id).await?;
        let roots = &journal.roots;
        let mut is_listed = false;
        // Whatever began about then and still runs may be it.
        let since = Millis(sent.at.0 - CLOCK_SKEW_MAX.as_millis() as i64).to_string();
        let id = RequestId::generate("settle");
        let reply = self.client.command(database, &commands::show_operations_since(&since), &id).await?;
        let table = &reply.table;
        let until = sent.at.plus(CLOCK_SKEW_MAX + self.core.limits.settle_after);
        for row in &table.rows {
            let operation = table.text(row, "OperationId").to_lowercase();
            if known.contains(&operation) {
                continue;
            }
            let is_ours = roots.contains(&table.text(row, "RootActivityId").to_lowercase());
            is_listed |= is_ours;
            let state = table.text(row, "State");
            let is_open = matches!(state, "InProgress" | "Scheduled");
            if is_ours && state == "Completed" {
                return Ok(Verdict::InTable(None));
            }
            if is_ours && is_open {
                return Ok(Verdict::Operation(operation));
            }
            // A stranger's, or ours under a name that is not known: it began when ours may have begun.
            if roots.is_empty() && is_open && began_by(table.text(row, "StartedOn"), until) {
                return Ok(Verdict::Open);
            }
        }
        match self.tagged(run, &command.tag).await {
            Ok(Some(extents)) => return Ok(Verdict::InTable(extents::counted(&extents, command.rows))),
            Ok(None) => {}
            // Who may not look at extents relies on the tag doing its work at the next sending.
            Err(KustoError::Service(e)) if e.is_forbidden() => {}
            Err(e) => return Err(e),
        }
        // Taken by the cluster and not listed: the operation's record is late, and so may its rows be.
        let is_late = journal.was_taken && !is_listed;
        // Another coordinator may have sent it, by another clock.
        let sent_at = sent.at.max(self.began);
        let may_be_on_its_way = self.core.now().since(sent_at) < self.core.limits.settle_after && !is_listed;
        Ok(if is_late || may_be_on_its_way { Verdict::Open } else { Verdict::NoEffect })
    }

    /// What the cluster's journal of commands says of a request of ours; nothing where it may not be asked.
    async fn journal_of(&self, database: &str, request_id: &str) -> Result<Journal, KustoError> {
        let id = RequestId::generate("settle");
        match self.client.command(database, &commands::show_commands_by_request_id(request_id), &id).await {
            Ok(reply) => {
                let table = &reply.table;
                let roots = table.rows.iter().map(|row| table.text(row, "RootActivityId").to_lowercase());
                Ok(Journal {
                    roots: roots.filter(|root| !root.is_empty()).collect(),
                    was_taken: table.rows.iter().any(|row| table.text(row, "State") == "Completed"),
                })
            }
            Err(KustoError::Service(e)) if e.is_forbidden() => Ok(Journal::default()),
            Err(e) => Err(e),
        }
    }

    /// What of the table carries the tag; `None` if nothing does. The filter of the service matches words; the whole tag is
    /// compared here.
    pub(super) async fn tagged(&self, run: &RunRow, tag: &str) -> Result<Option<Vec<Extent>>, KustoError> {
        let id = RequestId::generate("settle");
        let text = commands::show_extents_by_tag(&run.ingest_table(), &format!("ingest-by:{tag}"));
        let reply = self.client.command(&run.activity.sink.database, &text, &id).await?;
        Ok(extents::by_tag(&reply.table).remove(tag))
    }
}

/// The time (RFC 3339) is not after `until`; a time that cannot be read counts as before.
fn began_by(started_on: &str, until: Millis) -> bool {
    started_on.parse::<jiff::Timestamp>().map_or(true, |t| t.as_millisecond() <= until.0)
}
