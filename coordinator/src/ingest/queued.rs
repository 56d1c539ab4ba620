//! Queued ingestion: blobs are handed to the data management service instead of sending commands. Hand-overs are stored,
//! followed and settled as commands are; what differs is whom to ask.
//!
//! The service delivers at least once. Each blob carries its tag with `ingestIfNotExists`, so a second delivery is passed
//! over, unless both run at the same time. Where extents may be looked at, the rows of each tag are counted, and once more at the
//! end; then the run fails instead of staying silent.

use super::{
    Ingester, Step,
    extents::{self, Extent},
    judged,
    reconcile::Verdict,
    watch::Operation,
};
use crate::{
    core::ChangeError,
    state::{
        command::{CommandEvent, CommandState, Sent},
        unit::UnitEvent,
    },
    store::{CommandRow, RunRow, UnitRow},
};
use ferry_common::failure::{Code, Failure, Fault, Retry, redact};
use ferry_kusto::{
    KustoError, RequestId, commands,
    queued::{BlobState, Queued, Ticket},
};
use futures::{StreamExt as _, stream};
use std::{collections::HashMap, time::Duration};

/// Blobs of a run that are with the service at most.
pub(super) const HANDED_MAX: u32 = 200;
/// First wait between looks: each asks for every blob by itself.
pub(super) const LOOK_FIRST: Duration = Duration::from_secs(2);
/// Questions at once.
const ASKED_AT_ONCE: usize = 16;
/// A blob that waits for longer ends the run.
const WAIT_MAX: Duration = Duration::from_secs(24 * 3600);
/// Rows of a blob that was ingested are shown by then, or never.
const UNSEEN_MAX: Duration = Duration::from_secs(120);
/// Blobs that are counted once more at the end.
const RECOUNTED_MAX: u32 = 100_000;
/// A hand-over without an answer is settled after so many times --settle-after: batching alone takes minutes.
const SETTLE_TIMES: u32 = 7;

/// What the service says of each ticket, as the words that operations have. A ticket that cannot be asked for is left out;
/// if none can, that is an error.
pub(super) async fn operations(
    queue: &dyn Queued,
    run: &RunRow,
    tickets: &[String],
) -> Result<HashMap<String, Operation>, KustoError> {
    let sink = &run.activity.sink;
    let ask = |ticket: String| async move {
        let status = queue.status(&sink.database, &sink.table, &Ticket::from_stored(ticket.clone())).await?;
        let (state, should_retry) = match status.state {
            BlobState::Pending => ("InProgress", false),
            BlobState::Succeeded => ("Completed", false),
            BlobState::Skipped => ("Skipped", false),
            BlobState::Partial => ("PartiallySucceeded", false),
            BlobState::Failed { may_pass } => ("Failed", may_pass),
        };
        let operation =
            Operation { state: state.to_owned(), code: status.code, status: redact(&status.details), should_retry };
        Ok::<_, KustoError>((ticket.to_lowercase(), operation))
    };
    let answers: Vec<_> =
        stream::iter(tickets.iter().cloned().map(ask)).buffer_unordered(ASKED_AT_ONCE).collect().await;
    let (mut found, mut failure) = (HashMap::new(), None);
    for answer in answers {
        match answer {
            Ok((ticket, operation)) => drop(found.insert(ticket, operation)),
            Err(error) => failure = Some(error),
        }
    }
    match failure {
        Some(error) if found.is_empty() => Err(error),
        _ => Ok(found),
    }
}

impl Ingester {
    /// Settles a hand-over whose answer was lost.
    pub(super) async fn ask_queue(
        &self,
        queue: &dyn Queued,
        run: &RunRow,
        command: &CommandRow,
        sent: &Sent,
    ) -> Result<Verdict, KustoError> {
        let source_id = RequestId::from_stored(sent.request_id.clone());
        let found = queue.find(source_id.unique_part()).await?;
        match self.tagged(run, &command.tag).await {
            Ok(Some(extents)) => return Ok(Verdict::InTable(extents::counted(&extents, command.rows))),
            Ok(None) => {}
            // Who may not look at extents relies on the tag doing its work at the next hand-over.
            Err(KustoError::Service(e)) if e.is_forbidden() => {}
            Err(e) => return Err(e),
        }
        match found.map(|(ticket, status)| (ticket, status.state)) {
            // The row is made before the message is sent: it says nothing of the message.
            Some((_, BlobState::Pending)) | None => {}
            // A verdict: the blob was handed over, and is followed as any other.
            Some((ticket, _)) => return Ok(Verdict::Operation(ticket.as_str().to_owned())),
        }
        let sent_at = sent.at.max(self.began);
        let may_be_queued = self.core.now().since(sent_at) < self.core.limits.settle_after * SETTLE_TIMES;
        Ok(if may_be_queued { Verdict::Open } else { Verdict::NoEffect })
    }

    /// Confirms blobs that the service says it has ingested, and holds the rows that carry their tags against those staged.
    pub(super) async fn finish_queued(
        &mut self,
        run: &RunRow,
        finished: Vec<CommandRow>,
        step: &mut Step,
    ) -> Result<(), ChangeError> {
        let now = self.core.now();
        let in_table = match self.tagged_of_run(run).await {
            Ok(in_table) => in_table,
            Err(error) => {
                // They stay as they are, and are looked at again.
                self.note(Failure { retry: Retry::Backoff, ..judged(&error) }, step);
                return Ok(());
            }
        };
        for command in finished {
            let rows = match in_table.as_ref().map(|all| all.get(&command.tag)) {
                Some(Some(extents)) => extents::counted(extents, command.rows),
                Some(None) if command.rows > 0 && now.since(*self.unseen_since.get_or_insert(now)) < UNSEEN_MAX => {
                    continue;
                }
                // Extents that nobody may look at, or that are gone at once: a table that only feeds others.
                Some(None) | None => None,
            };
            step.has_confirmed = true;
            let sending = self.sending(&command);
            match self.confirm(command, rows).await? {
                Some(failure) => self.note(failure, step),
                None => self.time(sending),
            }
        }
        Ok(())
    }

    /// Counts all rows of the run once more, when the last blob is ingested: a second delivery may have come after the first
    /// was counted. Where extents may not be looked at, nothing is counted.
    pub(crate) async fn recount(&self, run: &RunRow) -> Result<Result<Option<Failure>, KustoError>, ChangeError> {
        if self.queue.is_none() {
            return Ok(Ok(None));
        }
        let in_table = match self.tagged_of_run(run).await {
            Ok(Some(in_table)) => in_table,
            Ok(None) => return Ok(Ok(None)),
            Err(error) => return Ok(Err(error)),
        };
        let mut first = None;
        for command in self.core.store.commands(&run.id, "Confirmed", RECOUNTED_MAX).await? {
            if let Some(rows) = in_table.get(&command.tag).and_then(|extents| extents::counted(extents, command.rows))
                && rows != command.rows
            {
                let failure = self.wrong_count(&command, rows).await?;
                // The unit fails with it, so that no driver puts its file down as loaded.
                let miscounted = |_: &UnitRow| Some(UnitEvent::Miscounted { failure: failure.clone() });
                self.core.change_unit(&run.id, command.unit, miscounted).await?;
                first.get_or_insert(failure);
            }
        }
        Ok(Ok(first))
    }

    /// What the table holds of each tag of the run; `None` where this sign-in may not look.
    async fn tagged_of_run(&self, run: &RunRow) -> Result<Option<HashMap<String, Vec<Extent>>>, KustoError> {
        let command = commands::show_extents_of(&run.ingest_table(), &run.tag_prefix());
        let reply = self.client.command(&run.activity.sink.database, &command, &RequestId::generate("rows")).await;
        match reply {
            Ok(reply) => Ok(Some(extents::by_tag(&reply.table))),
            Err(KustoError::Service(e)) if e.is_forbidden() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The service has ingested a part of a blob, or does not know better. The rows say which.
    pub(super) async fn take_up_partial(
        &self,
        run: &RunRow,
        command: CommandRow,
    ) -> Result<Option<Failure>, ChangeError> {
        match self.tagged(run, &command.tag).await {
            Ok(Some(extents)) if extents::counted(&extents, command.rows) == Some(command.rows) => {
                let rows = Some(command.rows);
                self.confirm(command, rows).await
            }
            Err(error) if !error.service().is_some_and(|e| e.is_forbidden()) => {
                Ok(Some(Failure { retry: Retry::Backoff, ..judged(&error) }))
            }
            // Handed over again, it would be passed over as known, and the rest of its rows be lost.
            Ok(_) | Err(_) => {
                let message = format!(
                    "the cluster has ingested only a part of a blob of {} rows; look for the tag ingest-by:{} in the table's \
                     extents",
                    command.rows, command.tag
                );
                let failure = Failure::new(Code::RowCountMismatch, Fault::Sink, Retry::Never, message);
                self.change(command, CommandEvent::Refused(failure.clone())).await?;
                Ok(Some(failure))
            }
        }
    }

    /// Refuses a blob that the service has had for too long.
    pub(super) async fn waits_too_long(&self, command: CommandRow) -> Result<Option<Failure>, ChangeError> {
        let CommandState::Issued { sent, .. } = &command.state else { return Ok(None) };
        if self.core.now().since(sent.at) < WAIT_MAX {
            return Ok(None);
        }
        let message = format!(
            "a blob was handed over {} hours ago and is still not ingested; it may be yet: look for the tag ingest-by:{} in \
             the table's extents",
            WAIT_MAX.as_secs() / 3600,
            command.tag
        );
        let failure = Failure::new(Code::SinkFailed, Fault::Sink, Retry::Never, message);
        self.change(command, CommandEvent::Refused(failure.clone())).await?;
        Ok(Some(failure))
    }
}
