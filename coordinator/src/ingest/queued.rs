//! Queued ingestion: blobs are handed to the data management service instead of sending commands. Hand-overs are stored,
//! followed and settled as commands are; what differs is whom to ask.
//!
//! The service delivers at least once. Each blob carries its tag with `ingestIfNotExists`, so a second delivery is passed
//! over, unless both run at the same time; then the rows counted by tag show it, and the run fails instead of staying silent.

use super::{Ingester, reconcile::Verdict, watch::Operation};
use crate::{
    core::ChangeError,
    state::command::{CommandEvent, CommandState, Sent},
    store::{CommandRow, RunRow},
};
use ferry_common::failure::{Code, Failure, Fault, Retry, redact};
use ferry_kusto::{
    KustoError, RequestId,
    queued::{BlobState, Queued, Ticket},
};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use std::{collections::HashMap, time::Duration};

/// Blobs of a run that are with the service at most.
pub(super) const HANDED_MAX: u32 = 200;
/// Questions at once.
const ASKED_AT_ONCE: usize = 16;
/// A blob that waits for longer ends the run.
const WAIT_MAX: Duration = Duration::from_secs(24 * 3600);
/// A hand-over without an answer is settled after so many times --settle-after: batching alone takes minutes.
const SETTLE_TIMES: u32 = 7;

/// What the service says of each ticket, as the words that operations have.
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
            // As one that is not listed.
            BlobState::Unknown => return Ok(None),
        };
        let status = redact(format!("{} {}", status.code, status.details).trim());
        Ok(Some((ticket.to_lowercase(), Operation { state: state.to_owned(), status, should_retry })))
    };
    let answers = stream::iter(tickets.iter().cloned().map(ask)).buffer_unordered(ASKED_AT_ONCE);
    answers.try_filter_map(|found| async { Ok(found) }).try_collect().await
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
            Ok(Some(tagged)) => return Ok(tagged.verdict(command)),
            Ok(None) => {}
            // Who may not look at extents relies on the tag doing its work at the next hand-over.
            Err(KustoError::Service(e)) if e.is_forbidden() => {}
            Err(e) => return Err(e),
        }
        match found.map(|(ticket, status)| (ticket, status.state)) {
            // A verdict: the blob was handed over, and is followed as any other.
            Some((ticket, BlobState::Succeeded | BlobState::Skipped | BlobState::Failed { .. })) => {
                return Ok(Verdict::Operation(ticket.as_str().to_owned()));
            }
            // The row is made before the message is sent: it says nothing of the message.
            Some((_, BlobState::Pending | BlobState::Partial | BlobState::Unknown)) | None => {}
        }
        let sent_at = sent.at.max(self.began);
        let may_be_queued = self.core.now().since(sent_at) < self.core.limits.settle_after * SETTLE_TIMES;
        Ok(if may_be_queued { Verdict::Open } else { Verdict::NoEffect })
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
